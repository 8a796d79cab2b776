"""Random parts of an RDD: the same seed picks what PySpark's picks.

So the calls of the generator are what PySpark's are, one for one: how it is seeded for a partition and stirred, and
which draws an element costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, compress, repeat
from math import exp, log, sqrt
from random import Random
from typing import Any

from asparkle.core.errors import UserFunctionError
from asparkle.core.pairs import not_a_pair
from asparkle.core.program import Transform
from asparkle.core.shown import shown

_LARGE_MEAN = 20.0  # from here on exp(-mean) is too small to multiply down to


class Sample(Transform):
    """Each element with probability ``fraction`` (or Poisson many times, with replacement)."""

    __slots__ = ("fraction", "seed", "with_replacement")

    def __init__(self, with_replacement: bool, fraction: float, seed: int) -> None:
        self.with_replacement = with_replacement
        self.fraction = fraction
        self.seed = seed

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        random = _generator(self.seed, partition)
        fraction, uniform = self.fraction, random.random
        if self.with_replacement:
            return chain.from_iterable(map(repeat, elements, (_poisson(random, fraction) for _ in repeat(None))))
        return compress(elements, (uniform() < fraction for _ in repeat(None)))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Sample, (self.with_replacement, self.fraction, self.seed))


class Split(Transform):
    """The elements whose draw lies from ``low`` to ``high``: one part of a `randomSplit`."""

    __slots__ = ("high", "low", "seed")

    def __init__(self, low: float, high: float, seed: int) -> None:
        self.low = low
        self.high = high
        self.seed = seed

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        low, high, uniform = self.low, self.high, _generator(self.seed, partition).random
        return compress(elements, (low <= uniform() < high for _ in repeat(None)))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Split, (self.low, self.high, self.seed))


class SampleByKey(Transform):
    """Each pair with the probability of its key (or Poisson many times, with replacement)."""

    __slots__ = ("fractions", "seed", "with_replacement")

    def __init__(self, with_replacement: bool, fractions: Mapping[Any, float], seed: int) -> None:
        self.with_replacement = with_replacement
        self.fractions = fractions
        self.seed = seed

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        random = _generator(self.seed, partition)
        for element in elements:
            try:
                key, value = element
            except (TypeError, ValueError) as error:
                raise not_a_pair(element, "sampleByKey") from error
            try:
                fraction = self.fractions[key]
            except KeyError:
                raise UserFunctionError(
                    f"sampleByKey: there is no fraction for the key {shown(key)}; give it one, 0 to leave its pairs out"
                ) from None
            if self.with_replacement:
                yield from repeat((key, value), _poisson(random, fraction))
            elif random.random() < fraction:
                yield key, value

    def __reduce__(self) -> tuple[Any, ...]:
        return (SampleByKey, (self.with_replacement, self.fractions, self.seed))


def _generator(seed: int, partition: int) -> Random:
    random = Random(seed ^ partition)
    for _ in range(10):  # neighbouring seeds start out alike
        random.randint(0, 1)
    return random


def _poisson(random: Random, mean: float) -> int:
    """One Poisson draw (Knuth, TAOCP 2, 3.4.1): uniform draws multiplied or, for many, exponential gaps summed."""
    n = 0
    if mean < _LARGE_MEAN:
        least = exp(-mean)
        product = random.random()
        while product > least:
            n += 1
            product *= random.random()
        return n
    total = random.expovariate(mean)
    while total < 1.0:
        n += 1
        total += random.expovariate(mean)
    return n


def sufficient_fraction(num: int, total: int, with_replacement: bool) -> float:
    """The fraction with which a sample of ``total`` elements has ``num`` or more, with a chance of 0.9999.

    With replacement the size is nearly Poisson: mean + 5 to 9 standard deviations.  Without, it is binomial:
    Chernoff's bound (Cormode and others, *Optimal Sampling from Distributed Streams*, 2010).
    """
    fraction = num / total
    if with_replacement:
        return fraction + (9 if num < 12 else 5) * sqrt(fraction / total)
    gamma = -log(0.00005) / total
    return min(1.0, fraction + gamma + sqrt(gamma * gamma + 2 * gamma * fraction))
