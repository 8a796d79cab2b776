"""The map side of a sort: records are sorted before they are cut at the bounds of the partitions.

A sort needs about as many comparisons on the map side as on the reduce side, and a search for the partition of
each record needs none any more: there is one search for each bound.  What the reducers get is a few sorted
runs, which ``list.sort`` merges in nearly linear time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from operator import itemgetter
from typing import Any

from asparkle.core.partitioner import RangePartitioner
from asparkle.core.shuffle.batch import Batch, check_pair
from asparkle.core.shuffle.weighing import POINTER, SAMPLE, average_size

__all__ = ["RangeBuckets"]

KEY_BYTES = 40  # what the list of keys takes for a record while sorting


class RangeBuckets:
    """Records by reducer, sorted; the interface is that of `writer.Buckets`."""

    def __init__(self, partitioner: RangePartitioner) -> None:
        self._partitioner = partitioner
        self._records: list[Any] = []

    def fill(self, records: Iterator[Any], count: int) -> int:
        """Take the next ``count`` records; how many there were."""
        before = len(self._records)
        self._records += islice(records, count)
        return len(self._records) - before

    def take(self) -> list[Batch]:
        """What was taken, stably sorted, in one batch for each reducer; nothing is left."""
        records, self._records = self._records, []
        partitioner = self._partitioner
        try:
            records.sort(key=self._key(), reverse=not partitioner.ascending)
            keys, values = [k for k, _ in records], [v for _, v in records]
        except (TypeError, ValueError, IndexError):
            for record in records:
                check_pair(record)
            raise
        cuts = [0, *self._cuts(keys), len(keys)]
        return [Batch(keys[start:end], values[start:end]) for start, end in pairwise(cuts)]

    def _key(self) -> Callable[[Any], Any]:
        function = self._partitioner.key_func
        if function is None:
            return itemgetter(0)
        return lambda record: function(record[0])

    def _cuts(self, keys: list[Any]) -> Iterator[int]:
        """Where each partition but the last ends: a key up to and including a bound is below it."""
        partitioner = self._partitioner
        function, ascending = partitioner.key_func, partitioner.ascending
        bounds = partitioner.bounds if ascending else partitioner.bounds[::-1]
        empty = partitioner.numPartitions - 1 - len(bounds)
        yield from [0] * (0 if ascending else empty)
        low = 0
        for bound in bounds:
            high = len(keys)
            while low < high:
                middle = (low + high) // 2
                place = keys[middle] if function is None else function(keys[middle])
                above = bound < place
                if above != ascending:
                    low = middle + 1
                else:
                    high = middle
            yield low
        yield from [len(keys)] * (empty if ascending else 0)

    def sample_record_size(self) -> int:
        """About how many bytes one of the latest records takes here."""
        return average_size(self._records[-SAMPLE:]) + POINTER + KEY_BYTES if self._records else 1
