"""Histograms: bounds of equal buckets, and counting into them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from math import isinf, isnan
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from asparkle.core.arguments import whole_number
from asparkle.core.errors import ArgumentError, ArgumentTypeError, EmptyRDDError
from asparkle.core.shown import shown
from asparkle.core.transforms import CallToEnd

if TYPE_CHECKING:
    from asparkle.core.rdd import RDD


async def histogram(rdd: RDD[Any], buckets: int | Sequence[Any]) -> tuple[Sequence[Any], list[int]]:
    """(the bounds, how many elements lie in each bucket)."""
    bounds, even = await bounds_of(rdd, buckets)
    if isinstance(bounds, Trivial):
        return bounds.buckets, [await rdd.filter(Within(bounds)).count()]
    parts = await rdd._run(CallToEnd(Counts(bounds, even)))
    return bounds, [sum(column) for column in zip([0] * (len(bounds) - 1), *parts, strict=True)]


class Trivial(NamedTuple):
    """One bucket: all that lies within is counted."""

    buckets: list[Any]


class Within:
    def __init__(self, bounds: Trivial) -> None:
        self.low, self.high = bounds.buckets[0], bounds.buckets[-1]

    def __call__(self, x: Any) -> bool:
        return bool(self.low <= x <= self.high)


def extremes(elements: Iterable[Any]) -> list[tuple[Any, Any]]:
    """[(minimum, maximum)] of what is a number; nothing for nothing."""
    found: list[Any] = [x for x in elements if x is not None and not (isinstance(x, float) and isnan(x))]
    return [(min(found), max(found))] if found else []


async def bounds_of(rdd: RDD[Any], buckets: int | Sequence[Any]) -> tuple[Any, bool]:
    """(bounds, whether they are evenly spaced)."""
    if not isinstance(buckets, (list, tuple)):
        return await _equal_bounds(rdd, whole_number(buckets, "histogram without a list of bounds", "buckets", 1))
    bounds = list(buckets)
    if len(bounds) < 2:
        raise ArgumentError(f"buckets = {shown(buckets)}: expected at least two bounds")
    if any(b is None or (isinstance(b, float) and isnan(b)) for b in bounds):
        raise ArgumentError(f"buckets = {shown(buckets)}: expected no None and no NaN")
    try:
        ordered = sorted(bounds)
    except TypeError:
        raise ArgumentTypeError(f"buckets = {shown(buckets)}: expected bounds that can be compared") from None
    if ordered != bounds:
        raise ArgumentError(f"buckets = {shown(buckets)}: expected sorted bounds")
    if len(set(bounds)) != len(bounds):
        raise ArgumentError(f"buckets = {shown(buckets)}: expected no bound twice")
    return buckets, False


async def _equal_bounds(rdd: RDD[Any], n: int) -> tuple[Any, bool]:
    found = [pair for part in await rdd._run(CallToEnd(extremes)) for pair in part]
    if not found:
        raise EmptyRDDError("can not generate buckets from an empty RDD")
    return cast("tuple[Any, bool]", await rdd._in_driver(_divided, found, n))


def _divided(found: Sequence[tuple[Any, Any]], n: int) -> tuple[Any, bool]:
    low, high = min(a for a, _ in found), max(b for _, b in found)
    if low == high or n == 1:
        return Trivial([low, high]), False
    try:
        step = (high - low) / n
        endless = isinf(step)
    except TypeError:
        raise ArgumentTypeError(
            f"the elements, such as {shown(low)}, can't be divided into equal buckets; give the bounds instead"
        ) from None
    if endless:
        raise ArgumentError("can not generate buckets with infinite value")
    if step == int(step) and isinstance(low, int):
        step = int(step)
    return [*(low + i * step for i in range(n)), high], True


class Counts:
    """Counts of a partition's elements by bucket; the last bucket holds its upper bound too."""

    def __init__(self, bounds: Sequence[Any], even: bool) -> None:
        self.bounds = bounds
        self.even = even

    def __call__(self, elements: Iterable[Any]) -> list[int]:
        bounds = self.bounds
        low, high, last = bounds[0], bounds[-1], len(bounds) - 2
        counts = [0] * (last + 1)
        for x in elements:
            if x is None or (isinstance(x, float) and isnan(x)) or x > high or x < low:
                continue
            if self.even:
                counts[min(int((x - low) / (bounds[1] - low)), last)] += 1
            else:
                counts[min(bisect_right(bounds, x) - 1, last)] += 1
        return counts
