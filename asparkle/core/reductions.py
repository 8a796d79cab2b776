"""What actions and key operations compute in tasks: picklable functions of a partition's iterator.

Each is a class or a module's function, so that a stage's binary refers to it by name.
"""

from __future__ import annotations

import copy
import functools
import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, cycle, islice, product, repeat, starmap
from typing import Any

from asparkle.core.hashing import portable_hash
from asparkle.core.pairs import first_item, item_of_each, pairs
from asparkle.core.program import Transform
from asparkle.core.resultiterable import ResultIterable
from asparkle.core.shown import name_of
from asparkle.core.transforms import refuse_coroutine


class _Of:
    """A callable made of a few arguments, and pickled as these."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self.arguments)


def folded(function: Callable[[Any, Any], Any], parts: Iterable[Any], zero: Any) -> Any:
    """``parts`` folded from a copy of ``zero``, which the function may change."""
    return functools.reduce(function, parts, copy.deepcopy(zero))


def smallest(n: int, parts: Iterable[Iterable[Any]], key: Callable[[Any], Any] | None) -> list[Any]:
    return heapq.nsmallest(n, chain.from_iterable(parts), key)


def largest(n: int, parts: Iterable[Iterable[Any]], key: Callable[[Any], Any] | None) -> list[Any]:
    return heapq.nlargest(n, chain.from_iterable(parts), key)


def as_dict(parts: Iterable[Iterable[Any]]) -> dict[Any, Any]:
    """The pairs of all parts; of several with one key, the last."""
    return dict(pairs(chain.from_iterable(parts), "collectAsMap"))


def concatenated(parts: Iterable[Iterable[Any]]) -> list[Any]:
    """One list of all parts."""
    return list(chain.from_iterable(parts))


# ------------------------------------------------------------------------------ reductions of elements


class Reduce(_Of):
    """The elements reduced with a function, as a list of one; an empty list for none."""

    def __call__(self, elements: Iterable[Any]) -> list[Any]:
        (function,) = self.arguments
        elements = iter(elements)
        for first in elements:
            return [functools.reduce(function, elements, first)]
        return []


class Fold(_Of):
    """The elements folded from a zero value, of which each partition has its own copy."""

    def __call__(self, elements: Iterable[Any]) -> Any:
        zero, function = self.arguments
        return functools.reduce(function, elements, zero)


class FoldOne(Fold):
    def __call__(self, elements: Iterable[Any]) -> Any:
        return [super().__call__(elements)]


class FoldFirst(_Of):
    """``createCombiner`` of a fold by key: a copy of the zero, with the first value folded in."""

    def __call__(self, value: Any) -> Any:
        zero, function = self.arguments
        return function(copy.deepcopy(zero), value)


class Extreme(_Of):
    """max or min of two by a key."""

    def __call__(self, a: Any, b: Any) -> Any:
        which, key = self.arguments
        return which(a, b, key=key)


class Smallest(_Of):
    def __call__(self, elements: Iterable[Any]) -> list[Any]:
        n, key = self.arguments
        return heapq.nsmallest(n, elements, key)


class Largest(_Of):
    def __call__(self, elements: Iterable[Any]) -> list[Any]:
        n, key = self.arguments
        return heapq.nlargest(n, elements, key)


class ForEach(_Of):
    def __call__(self, elements: Iterable[Any]) -> None:
        (function,) = self.arguments
        elements = iter(elements)
        for element in elements:
            refuse_coroutine(function(element), f"foreach: {name_of(function)} returned")
            break
        for element in elements:
            function(element)


class ForPartition(_Of):
    """Calls a function with the iterator; what it returns is not looked at, but run if it is a generator."""

    def __call__(self, elements: Iterator[Any]) -> None:
        (function,) = self.arguments
        result = function(elements)
        refuse_coroutine(result, f"foreachPartition: {name_of(function)} returned")
        if hasattr(result, "__next__"):
            for _ in result:
                pass


class ToGroup(_Of):
    """Numbers a partition's elements with the group that its results are merged in."""

    def __call__(self, partition: int, elements: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        (groups,) = self.arguments
        return ((partition % groups, x) for x in elements)


def counted(elements: Iterable[Any]) -> list[float]:
    """The number of elements, as one element."""
    return [float(sum(1 for _ in elements))]


def summed(elements: Iterable[Any]) -> list[float]:
    """The sum of the elements, as one element."""
    return [float(sum(elements))]


class Registers(_Of):
    """Those of a `HyperLogLog` of the elements."""

    def __call__(self, elements: Iterable[Any]) -> bytes:
        from asparkle.core.hyperloglog import HyperLogLog

        (precision,) = self.arguments
        sketch = HyperLogLog(precision)
        sketch.add(elements)
        return bytes(sketch.registers)


# ------------------------------------------------------------------------------ reductions of pairs


def count_values(elements: Iterable[Any]) -> dict[Any, int]:
    elements, counts = iter(elements), Counter[Any]()
    while chunk := list(islice(elements, 4096)):
        try:
            counts.update(chunk)
        except TypeError:
            for element in chunk:
                portable_hash(element)  # says which one can't be a key, and what to do
            raise
    return dict(counts)


def count_keys(elements: Iterable[Any]) -> dict[Any, int]:
    return count_values(item_of_each(0, elements, "countByKey"))


def added_up(parts: Iterable[dict[Any, int]]) -> dict[Any, int]:
    """The counts of all parts, as PySpark gives them: a defaultdict."""
    total: defaultdict[Any, int] = defaultdict(int)
    for part in parts:
        for key, n in part.items():
            total[key] += n
    return total


class ReduceKeys(_Of):
    def __call__(self, elements: Iterable[Any]) -> dict[Any, Any]:
        (function,) = self.arguments
        reduced: dict[Any, Any] = {}
        for k, v in pairs(elements, "reduceByKeyLocally"):
            reduced[k] = function(reduced[k], v) if k in reduced else v
        return reduced


def merged_dicts(function: Callable[[Any, Any], Any], parts: Sequence[dict[Any, Any]]) -> dict[Any, Any]:
    merged: dict[Any, Any] = {}
    for part in parts:
        for k, v in part.items():
            merged[k] = function(merged[k], v) if k in merged else v
    return merged


class ValuesOf(_Of):
    """The values of one key."""

    def __call__(self, elements: Iterable[Any]) -> list[Any]:
        (key,) = self.arguments
        found = (x for x in elements if first_item(x, "lookup") == key)
        return list(item_of_each(1, found, "lookup"))


# ------------------------------------------------------------------------------ several partitions at once


def zip_partitions(partition: int, inputs: Sequence[Iterator[Any]]) -> Iterator[Any]:
    try:
        yield from zip(*inputs, strict=True)
    except ValueError as error:
        if "zip() argument" not in str(error):
            raise
        raise ValueError(
            f"Can only zip RDDs with same number of elements in each partition; partition {partition} differs"
        ) from error


class ZipFunction(_Of):
    def __call__(self, partition: int, inputs: Sequence[Iterator[Any]]) -> Iterable[Any]:
        result: Iterable[Any] = self.arguments[0](*inputs)
        return result


def with_none(x: Any) -> tuple[Any, None]:
    return (x, None)


Groups = Iterable[tuple[Any, Sequence[Any]]]
_NOTHING = (None,)


def cogroup(groups: Groups) -> Iterator[Any]:
    return ((k, tuple(map(ResultIterable, lists))) for k, lists in groups)


def _fully_paired(key: Any, lists: Sequence[Any]) -> Iterator[Any]:
    vs, ws = lists
    return zip(repeat(key), product(vs or _NOTHING, ws or _NOTHING))


def full_join(groups: Groups) -> Iterator[Any]:
    return chain.from_iterable(starmap(_fully_paired, groups))


def only_left(groups: Groups) -> Iterator[Any]:
    return ((k, v) for k, (vs, ws) in groups if not ws for v in vs)


def only_left_keys(groups: Groups) -> Iterator[Any]:
    return (k for k, (vs, ws) in groups if not ws for _ in vs)


def in_both(groups: Groups) -> Iterator[Any]:
    return (k for k, (vs, ws) in groups if vs and ws)


# ------------------------------------------------------------------------------ moving elements evenly


class Deal(Transform):
    """Numbers elements so that they are dealt to ``n`` partitions in turn, from another one by each."""

    __slots__ = ("n",)

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        return zip(_cycle(partition, self.n), elements, strict=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Deal, (self.n,))


def _cycle(start: int, n: int) -> Iterator[int]:
    return islice(cycle(range(n)), start % n, None)


def dealt_to(key: int) -> int:
    """The partition function of elements that are numbered with their partition."""
    return key


# ------------------------------------------------------------------------------ sampling for a sort


class SampleKeys:
    """(keys, stride): every ``stride``-th key of a partition, between ``least`` and twice as many of them."""

    def __init__(self, least: int) -> None:
        self.least = least

    def __call__(self, elements: Iterator[Any]) -> tuple[list[Any], int]:
        sample: list[Any] = []
        stride, skip = 1, 0
        while chunk := list(islice(elements, 4096)):
            sample += (k for k, _ in pairs(chunk[skip::stride], "sortByKey"))
            skip = (skip - len(chunk)) % stride
            while len(sample) > 2 * self.least:
                skip += stride * (len(sample) % 2)
                sample = sample[::2]
                stride *= 2
        return sample, stride
