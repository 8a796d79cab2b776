"""Which partition a key belongs to."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from operator import index
from typing import Any

from asparkle.core.errors import ArgumentError, UserFunctionError
from asparkle.core.hashing import partitions_of, portable_hash
from asparkle.core.shown import name_of, shown


class Partitioner:
    """Sends key ``k`` to partition ``partitionFunc(k) % numPartitions``; any int will do, negative ones too.

    Two partitioners are equal when both parts are, as in PySpark: RDDs with equal partitioners are joined
    without a shuffle.  Raises `ArgumentError` if ``num_partitions`` is less than 1.

    >>> Partitioner(4)(7)
    3
    """

    __slots__ = ("numPartitions", "partitionFunc")

    def __init__(self, num_partitions: int, func: Callable[[Any], int] = portable_hash) -> None:
        if num_partitions < 1:
            raise ArgumentError(f"the number of partitions must be at least 1, not {num_partitions}")
        self.numPartitions = num_partitions
        self.partitionFunc = func

    def __call__(self, key: Any) -> int:
        return self.partitions([key])[0]

    def partitions(self, keys: Sequence[Any]) -> list[int]:
        """The partition of each of ``keys``.

        Raises `KeyHashError` for a key without a portable hash, `UserFunctionError` if the user's
        function returns something else than an int; the function's own exceptions pass through."""
        n = self.numPartitions
        func = self.partitionFunc
        if func is portable_hash:
            return partitions_of(keys, n)
        found = [func(k) for k in keys]  # not map: a StopIteration would be its end
        if set(map(type, found)) <= {int, bool}:
            return [p % n for p in found]
        return [self._index(k, p) % n for k, p in zip(keys, found, strict=True)]

    def _index(self, key: Any, result: Any) -> int:
        try:
            return index(result)  # an int of numpy, for one
        except TypeError:
            name = name_of(self.partitionFunc)
            raise UserFunctionError(
                f"the partition function {name} returned {shown(result)} of type {type(result).__name__} "
                f"for the key {shown(key)}; it must return an int"
            ) from None

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Partitioner)
            and self.numPartitions == other.numPartitions
            and self.partitionFunc == other.partitionFunc
        )

    def __hash__(self) -> int:
        return hash((self.numPartitions, self.partitionFunc))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.numPartitions}, {name_of(self.partitionFunc)})"


class RangePartitioner(Partitioner):
    """Sends keys to partitions by order: partition i holds what lies above ``bounds[i - 1]``, up to and
    including ``bounds[i]``; counted from the last partition if not ``ascending``.

    ``bounds``: sorted, in terms of ``key_func(key)``, at most ``num_partitions - 1`` of them (the default
    is one partition more than bounds).  The rule is that of PySpark's ``sortByKey``.
    """

    __slots__ = ("ascending", "bounds", "key_func")

    def __init__(
        self,
        bounds: Sequence[Any],
        ascending: bool = True,
        key_func: Callable[[Any], Any] | None = None,
        num_partitions: int | None = None,
    ) -> None:
        needed = len(bounds) + 1
        super().__init__(needed if num_partitions is None else num_partitions, self._range)
        if self.numPartitions < needed:
            raise ArgumentError(f"{len(bounds)} bounds need {needed} partitions, not {self.numPartitions}")
        self.bounds = list(bounds)
        self.ascending = ascending
        self.key_func = key_func

    def _range(self, key: Any) -> int:
        return self.partitions([key])[0]

    def partitions(self, keys: Sequence[Any]) -> list[int]:
        bounds = self.bounds
        places = keys if self.key_func is None else [self.key_func(k) for k in keys]
        if self.ascending:
            return [bisect_left(bounds, k) for k in places]
        last = self.numPartitions - 1
        return [last - bisect_left(bounds, k) for k in places]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangePartitioner) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash((self.numPartitions, len(self.bounds), self.ascending, self.key_func))

    def _parts(self) -> tuple[object, ...]:
        return self.numPartitions, self.bounds, self.ascending, self.key_func


def bounds_from_samples(
    samples: Iterable[Any], num_partitions: int, key_func: Callable[[Any], Any] | None = None
) -> list[Any]:
    """Bounds for a `RangePartitioner` that split ``samples`` (keys) evenly, as in PySpark's ``sortByKey``.

    ``num_partitions - 1`` bounds, each ``key_func(sample)``; none without samples."""
    ordered = sorted(samples, key=key_func)
    n = len(ordered)
    if not n:
        return []
    chosen = [ordered[n * (i + 1) // num_partitions] for i in range(num_partitions - 1)]
    return chosen if key_func is None else list(map(key_func, chosen))
