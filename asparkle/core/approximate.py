"""Sums and means from those partitions that are done in time, with bounds.

What is not known yet is taken to be like what is.  With complete results the bounds are the value itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import expm1, inf, isnan, pi, sqrt, tan
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final

from asparkle.core import arguments
from asparkle.core.statcounter import StatCounter
from asparkle.core.transforms import CallToEnd

if TYPE_CHECKING:
    from asparkle.core.rdd import RDD

_MANY: Final = 100  # values from which on Student's distribution is as good as the normal one


class BoundedFloat(float):
    """An estimate, the ``confidence`` in its bounds, and the bounds, ``low`` and ``high``."""

    confidence: float
    low: float
    high: float

    def __new__(cls, mean: float, confidence: float, low: float, high: float) -> BoundedFloat:
        made = super().__new__(cls, mean)
        made.confidence = confidence
        made.low = low
        made.high = high
        return made

    def __getnewargs__(self) -> tuple[float, float, float, float]:  # type: ignore[override]
        return float(self), self.confidence, self.low, self.high


async def sum_approx(rdd: RDD[Any], operation: str, timeout: int, confidence: float) -> BoundedFloat:
    """The sum of what is done within ``timeout`` milliseconds, scaled up to all partitions."""
    confidence = arguments.confidence(confidence, operation)
    stats, done, total = await _stats(rdd, operation, timeout)
    if done == total:
        return BoundedFloat(stats.sum(), 1.0, stats.sum(), stats.sum())
    if not stats.count():
        return BoundedFloat(0.0, 0.0, -inf, inf)
    # How many values are missing: a negative binomial variable, each partition being there with chance p.
    p = done / total
    missing = stats.count() * (1 - p) / p
    missing_variance = stats.count() * (1 - p) / p**2
    estimate = stats.sum() + stats.mean() * missing
    mean_variance = stats.sampleVariance() / stats.count() if stats.count() > 1 else float("nan")
    # The variance of a product of two independent variables, the mean and the number of missing values.
    variance = mean_variance * missing**2 + missing_variance * stats.mean() ** 2 + mean_variance * missing_variance
    return _bounded(estimate, variance, stats.count(), confidence)


async def mean_approx(rdd: RDD[Any], operation: str, timeout: int, confidence: float) -> BoundedFloat:
    """The mean of what is done within ``timeout`` milliseconds."""
    confidence = arguments.confidence(confidence, operation)
    stats, done, total = await _stats(rdd, operation, timeout)
    if done == total:
        return BoundedFloat(stats.mean(), 1.0, stats.mean(), stats.mean())
    if not stats.count():
        return BoundedFloat(0.0, 0.0, -inf, inf)
    variance = stats.sampleVariance() / stats.count() if stats.count() > 1 else float("nan")
    return _bounded(stats.mean(), variance, stats.count(), confidence)


async def _stats(rdd: RDD[Any], operation: str, timeout: int) -> tuple[StatCounter, int, int]:
    """The statistics of the partitions that are done, how many these are, and of how many."""
    seconds = arguments.whole_number(timeout, operation, "timeout", 0) / 1000
    parts, total = await rdd._context._run_for(seconds, rdd._node, CallToEnd(_count))
    merged = StatCounter()
    for part in parts:
        merged = merged.mergeStats(part)
    return merged, len(parts), total


def _count(elements: Iterable[float]) -> StatCounter:
    return StatCounter(map(float, elements))


def _bounded(estimate: float, variance: float, count: int, confidence: float) -> BoundedFloat:
    if isnan(variance):  # of a single value
        return BoundedFloat(estimate, confidence, -inf, inf)
    quantile = 1 - (1 - confidence) / 2
    if confidence == 1:
        margin = inf if variance else 0.0
    else:
        factor = NormalDist().inv_cdf(quantile) if count > _MANY else student_quantile(quantile, count - 1)
        margin = factor * sqrt(variance)
    return BoundedFloat(estimate, confidence, estimate - margin, estimate + margin)


def student_quantile(p: float, n: int) -> float:
    """The quantile of Student's t distribution with ``n`` degrees of freedom, for ``p`` from 0.5 to 1.

    Hill, *Algorithm 396: Student's t-quantiles* (Communications of the ACM, 1970): six digits and more.
    """
    two_tails = 2 * (1 - p)
    if two_tails >= 1:
        return 0.0
    if n == 1:
        return 1 / tan(two_tails * pi / 2)
    if n == 2:
        return sqrt(2 / (two_tails * (2 - two_tails)) - 2)
    a = 1 / (n - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * sqrt(a * pi / 2) * n
    x = d * two_tails
    y = x ** (2 / n)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(two_tails / 2)
        y = x**2
        if n < 5:
            c += 0.3 * (n - 4.5) * (x + 0.6)
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = a * y**2
        y = y + y**2 / 2 if y <= 0.002 else expm1(y)
    else:
        y = ((1 / (((n + 6) / (n * y) - 0.089 * d - 0.822) * (n + 2) * 3) + 0.5 / (n + 4)) * y - 1) * (n + 1) / (
            n + 2
        ) + 1 / y
    return sqrt(n * y)
