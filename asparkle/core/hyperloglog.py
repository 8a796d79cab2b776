"""How many different elements there are, about: HyperLogLog with 64-bit hashes.

Flajolet and others, *HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm* (2007); 64 bits as
in Heule and others, *HyperLogLog in Practice* (2013); the estimate is Ertl's, *New cardinality estimation algorithms
for HyperLogLog sketches* (2017), section 4, which needs no tables of corrections and is good from 0 upwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, inf, log, log2, sqrt
from typing import Any, Final

from asparkle.core.hashing import portable_hash

LEAST_ERROR: Final = 0.000017
_MASK: Final = (1 << 64) - 1


class HyperLogLog:
    """Registers for elements, ``2**precision`` of them: the longest run of zeros seen in each."""

    __slots__ = ("precision", "registers")

    def __init__(self, precision: int) -> None:
        self.precision = precision
        self.registers = bytearray(1 << precision)

    @classmethod
    def within(cls, relative_error: float) -> HyperLogLog:
        """One whose estimates have this standard deviation, relative to the count, or a smaller one."""
        return cls(min(max(4, ceil(2 * log2(1.054 / relative_error))), 32))

    def add(self, elements: Iterable[Any]) -> None:
        """Take note of elements; they are hashed as keys are."""
        registers, shift = self.registers, 64 - self.precision
        low = (1 << shift) - 1
        for element in elements:
            h = _mixed(portable_hash(element))
            register, rest = h >> shift, h & low
            rank = shift - rest.bit_length() + 1
            if rank > registers[register]:
                registers[register] = rank

    def merge(self, other: bytes) -> None:
        """Take in the registers of another one, of the same precision."""
        self.registers = bytearray(map(max, self.registers, other))

    def estimate(self) -> int:
        """About how many different elements there were."""
        m, q = 1 << self.precision, 64 - self.precision
        counts = [0] * (q + 2)
        for rank in self.registers:
            counts[rank] += 1
        z = m * _tau(1 - counts[q + 1] / m)
        for k in range(q, 0, -1):
            z = 0.5 * (z + counts[k])
        z += m * _sigma(counts[0] / m)
        return round(m * m / (2 * log(2) * z)) if z != inf else 0


def _mixed(h: int) -> int:
    """Sixty-four bits that all depend on all of ``h`` (Steele and others, splitmix64)."""
    h = (h + 0x9E3779B97F4A7C15) & _MASK
    h = ((h ^ (h >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    h = ((h ^ (h >> 27)) * 0x94D049BB133111EB) & _MASK
    return h ^ (h >> 31)


def _sigma(x: float) -> float:
    """x + the sum of x**(2**k) * 2**(k - 1) from k = 1."""
    if x == 1:
        return inf
    y, z = 1.0, x
    while True:
        x *= x
        last = z
        z += x * y
        y += y
        if z == last:
            return z


def _tau(x: float) -> float:
    """A third of 1 - x - the sum of (1 - x**(2**-k))**2 * 2**-k from k = 1."""
    if x in (0, 1):
        return 0.0
    y, z = 1.0, 1 - x
    while True:
        x = sqrt(x)
        last = z
        y *= 0.5
        z -= (1 - x) ** 2 * y
        if z == last:
            return z / 3
