"""Range bounds for a sort, from a sample of the keys that a job takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from asparkle.core.lineage import Node, PartitionerPlan, default_partitions
from asparkle.core.partitioner import Partitioner, RangePartitioner, bounds_from_samples
from asparkle.core.transforms import CallToEnd, pairs

if TYPE_CHECKING:
    from asparkle.core.plan import Planner

__all__ = ["SampledRange"]

_PER_PARTITION = 20  # sampled keys for each partition of the result, as in PySpark
_CHUNK = 4096


class SampledRange(PartitionerPlan):
    """Range partitioning into ``n`` partitions of nearly equal length.

    One pass over the parent counts its elements and keeps a systematic sample of each partition (every
    k-th key, k doubling as the partition turns out longer); partitions weigh in the bounds by their
    length.
    """

    def __init__(self, n: int | None, ascending: bool, key_func: Callable[[Any], Any] | None) -> None:
        self.n = n
        self.ascending = ascending
        self.key_func = key_func

    async def choose(self, planner: Planner, parents: Sequence[Node]) -> Partitioner:
        n = self.n or default_partitions(planner, parents)
        if n == 1:
            return RangePartitioner([], self.ascending, self.key_func, 1)
        (parent,) = parents
        wanted = max(_PER_PARTITION * n // max(parent.num_partitions, 1), 4) * 3
        sampled = await planner.collect(parent, CallToEnd(SampleKeys(wanted)))
        keys: list[Any] = []
        finest = min((stride for _, stride in sampled if stride), default=1)
        for sample, stride in sampled:
            for _ in range(max(stride // finest, 1)):
                keys += sample
        bounds = bounds_from_samples(keys, n, self.key_func)
        return RangePartitioner(bounds, self.ascending, self.key_func, n)


class SampleKeys:
    """(keys, stride): every ``stride``-th key of a partition, between ``least`` and twice as many of them."""

    def __init__(self, least: int) -> None:
        self.least = least

    def __call__(self, elements: Iterator[Any]) -> tuple[list[Any], int]:
        sample: list[Any] = []
        stride, skip = 1, 0
        while chunk := list(islice(elements, _CHUNK)):
            sample += map(_key, chunk[skip::stride])
            skip = (skip - len(chunk)) % stride
            while len(sample) > 2 * self.least:
                sample = sample[::2]
                # Keep in step with the positions that the thinned sample stands for.
                if len(sample) and (skip // stride) % 2:
                    skip += stride
                stride *= 2
        return sample, stride


def _key(element: Any) -> Any:
    return next(iter(_keys((element,))))


def _keys(elements: Iterable[Any]) -> Iterator[Any]:
    return (k for k, _ in pairs(elements, "sortByKey"))
