"""Count, mean, variance, least and greatest of numbers, in one pass and mergeable: what ``RDD.stats`` gives.

Single values are taken in by Welford's update and two counters are joined by the formulas of Chan, Golub
and LeVeque, *Updating Formulae and a Pairwise Algorithm for Computing Sample Variances* (Stanford
STAN-CS-79-773, 1979).  A whole iterable is taken in blocks, each by their corrected two-pass algorithm over
exactly rounded sums (`math.fsum`): several times faster in Python than a value at a time, and more accurate.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from itertools import islice
from numbers import Real
from operator import mul

_BLOCK = 8192
_WORTH_IT = 64
"""Fewer values are taken one by one: so small data prints the digits that it prints in PySpark."""


class StatCounter:
    """Statistics of the values that were merged so far; of ``values`` to begin with.

    Values are real numbers, Python's or numpy's, and all results but the count are floats; or numpy arrays
    of one shape, and all results but the count are arrays, element by element.  Numpy is used only where
    such values come in.  As with numpy, one NaN makes everything NaN.

    Of no values, the mean is 0.0, the variance NaN, the maximum ``-inf`` and the minimum ``inf``.

    >>> StatCounter([1, 2, 3, 4])
    (count: 4, mean: 2.5, stdev: 1.118033988749895, max: 4.0, min: 1.0)
    """

    __slots__ = ("m2", "maxValue", "minValue", "mu", "n")

    n: int
    mu: float
    m2: float
    """The sum of the squared distances from the mean."""
    maxValue: float
    minValue: float

    def __init__(self, values: Iterable[float] | None = None) -> None:
        self.n = 0
        self.mu = 0.0
        self.m2 = 0.0
        self.maxValue = -math.inf
        self.minValue = math.inf
        if values is not None:
            rest = iter(values)
            while block := list(islice(rest, _BLOCK)):
                self._merge_block(block)

    def merge(self, value: float) -> StatCounter:
        """Take in one value (Welford); returns this counter."""
        if _is_real(type(value)):
            value = float(value)
        delta = value - self.mu
        self.n += 1
        self.mu = self.mu + delta / self.n
        self.m2 = self.m2 + delta * (value - self.mu)
        self.maxValue = _extreme("maximum", self.maxValue, value)
        self.minValue = _extreme("minimum", self.minValue, value)
        return self

    def mergeStats(self, other: StatCounter) -> StatCounter:
        """Take in all that ``other`` has seen; returns this counter and leaves ``other`` as it is."""
        if not isinstance(other, StatCounter):
            raise TypeError(f"only a StatCounter can be merged, not {type(other).__name__}")
        self._join(other.n, other.mu, other.m2, other.maxValue, other.minValue)
        return self

    def copy(self) -> StatCounter:
        """A counter of its own with the same contents."""
        return StatCounter().mergeStats(self)

    def _merge_block(self, block: list[float]) -> None:
        types = set(map(type, block))
        if len(block) < _WORTH_IT or not all(map(_is_real, types)):
            for value in block:
                self.merge(value)
            return
        if types != {float}:
            block = list(map(float, block))
        n = len(block)
        try:
            mean = math.fsum(block) / n
            distances = list(map((-mean).__add__, block))
            off = math.fsum(distances) / n
            m2 = math.fsum(map(mul, distances, distances)) - off * off * n
        except (OverflowError, ValueError):  # infinities of both signs, or sums beyond the largest float
            mean = math.nan
        if math.isfinite(mean) and math.isfinite(m2):
            self._join(n, mean, max(m2, 0.0), max(block), min(block))
        else:
            for value in block:
                self.merge(value)

    def _join(self, n: int, mu: float, m2: float, greatest: float, least: float) -> None:
        if not n:
            return
        if not self.n:
            self.n, self.mu, self.m2, self.maxValue, self.minValue = n, mu, m2, greatest, least
            return
        total = self.n + n
        delta = mu - self.mu
        self.m2 = self.m2 + (m2 + delta * delta * self.n * n / total)
        # Of counts of like size the weighted mean is the more exact; else the small one corrects the large.
        if n * 10 < self.n:
            self.mu = self.mu + delta * n / total
        elif self.n * 10 < n:
            self.mu = mu - delta * self.n / total
        else:
            self.mu = (self.mu * self.n + mu * n) / total
        self.n = total
        self.maxValue = _extreme("maximum", self.maxValue, greatest)
        self.minValue = _extreme("minimum", self.minValue, least)

    def count(self) -> int:
        """How many values there were."""
        return self.n

    def mean(self) -> float:
        """Their mean."""
        return self.mu

    def sum(self) -> float:
        """Their sum: the mean times the count."""
        return self.n * self.mu

    def min(self) -> float:
        """The least."""
        return self.minValue

    def max(self) -> float:
        """The greatest."""
        return self.maxValue

    def variance(self) -> float:
        """The variance of the values as a whole population; NaN if there are none."""
        return self.m2 / self.n if self.n else math.nan

    def sampleVariance(self) -> float:
        """The unbiased estimate, for values that are a sample (divided by n - 1); NaN of fewer than two."""
        return self.m2 / (self.n - 1) if self.n > 1 else math.nan

    def stdev(self) -> float:
        """The square root of `variance`."""
        return _root(self.variance())

    def sampleStdev(self) -> float:
        """The square root of `sampleVariance`."""
        return _root(self.sampleVariance())

    def asDict(self, sample: bool = False) -> dict[str, float]:
        """All statistics by name: count, mean, sum, min, max, stdev, variance.

        As PySpark has it, and against what the name suggests, ``sample=True`` gives `stdev` and `variance` of
        the population, and the default those of a sample.
        """
        return {
            "count": self.count(),
            "mean": self.mean(),
            "sum": self.sum(),
            "min": self.min(),
            "max": self.max(),
            "stdev": self.stdev() if sample else self.sampleStdev(),
            "variance": self.variance() if sample else self.sampleVariance(),
        }

    def __repr__(self) -> str:
        return (
            f"(count: {self.count()}, mean: {self.mean()}, stdev: {self.stdev()}, max: {self.max()}, min: {self.min()})"
        )


def _extreme(name: str, a: float, b: float) -> float:
    """numpy's ``maximum`` or ``minimum``, of floats without numpy: NaN if either is."""
    if type(a) is float and type(b) is float:
        if math.isnan(a) or math.isnan(b):
            return math.nan
        return max(a, b) if name == "maximum" else min(a, b)
    result: float = getattr(sys.modules["numpy"], name)(a, b)
    return result


def _root(x: float) -> float:
    root: float = math.sqrt(x) if _is_real(type(x)) else x**0.5
    return root


def _is_real(kind: type) -> bool:
    """Python's and numpy's numbers, but not numpy's arrays."""
    return kind is float or issubclass(kind, Real)
