"""Iterating over an RDD in the driver, one partition in memory at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from asparkle.core.transforms import CollectList

if TYPE_CHECKING:
    from asparkle.core.background import Background
    from asparkle.core.rdd import RDD


async def local_iterator(rdd: RDD[Any], prefetch: bool) -> AsyncIterator[Any]:
    """Elements of one partition after another; with ``prefetch``, the next one is computed meanwhile.

    Leaving the loop early cancels what is being computed.
    """
    driver = rdd.context._driver

    def compute(partition: int) -> Background[list[Any]]:
        return driver.in_background(lambda: rdd._run(CollectList(), [partition]))

    total = await rdd.getNumPartitions()
    coming: Background[list[Any]] | None = None
    try:
        for partition in range(total):
            current, coming = coming or compute(partition), None
            try:
                (elements,) = await current.result()
            except BaseException:
                current.cancel()
                raise
            if prefetch and partition + 1 < total:
                coming = compute(partition + 1)
            for element in elements:
                yield element
    finally:
        if coming is not None:
            coming.cancel()
