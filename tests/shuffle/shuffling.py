"""A whole shuffle in one call, for the tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Any

from asparkle.core.hashing import portable_hash
from asparkle.core.partitioner import Partitioner
from asparkle.core.shuffle import (
    Aggregator,
    Batch,
    MapOutputInfo,
    SpillSpace,
    read_reduce_partition,
    write_map_output,
)

ROOMY = 1 << 30
TIGHT = 1 << 12
_numbers = count()


def write(
    records: Iterable[Any],
    directory: Any,
    reducers: int = 1,
    aggregator: Aggregator | None = None,
    limit: int = ROOMY,
    func: Callable[[Any], int] = portable_hash,
    inline_limit: int = 0,
) -> MapOutputInfo:
    path = os.path.join(directory, f"map-{next(_numbers)}")
    with SpillSpace([str(directory)], limit) as space:
        return write_map_output(
            records,
            partitioner=Partitioner(reducers, func),
            path=path,
            space=space,
            aggregator=aggregator,
            inline_limit=inline_limit,
        )


def read(infos: Sequence[MapOutputInfo], reducer: int = 0) -> Iterator[Batch]:
    return chain.from_iterable(read_reduce_partition(info, reducer) for info in infos)


def grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """The model: what plain Python makes of pairs."""
    groups: dict[Any, list[Any]] = {}
    for k, v in pairs:
        groups.setdefault(k, []).append(v)
    return groups
