"""So many calls a second, counted over all workers of an application.

A worker asks the driver for turns and is told how long to wait for each; the driver deals them out at equal
distances (the generic cell rate algorithm, ITU-T I.371, without bursts).  Waits travel, not times: the clocks of
two hosts need not agree.
"""

from __future__ import annotations

import itertools
from typing import Any, Final

from asparkle.core.errors import ArgumentError, ArgumentTypeError
from asparkle.core.namedtuple import NamedTuple
from asparkle.core.shown import shown

_UNITS: Final = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_numbers = itertools.count()


class Rate(NamedTuple):
    """``interval``: seconds between two calls; ``id``: who counts together."""

    id: int
    interval: float

    @property
    def batch(self) -> int:
        """Turns that a worker asks for at once: those of a tenth of a second, so that it keeps few from the others."""
        return max(int(0.1 / self.interval), 1)


def parse_rate(text: Any, operation: str) -> Rate:
    """The rate that ``"50/s"`` or ``"100/min"`` is, counted by itself.  Raises ArgumentError, ArgumentTypeError."""
    expected = 'expected a number of calls per time, such as "50/s", "100/min" or "5000/h"'
    if not isinstance(text, str):
        raise ArgumentTypeError(f"{operation}: rate = {shown(text)} of type {type(text).__name__}: {expected}")
    import re

    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*(s|m|min|h|d)\s*", text)
    calls = float(found[1]) if found else 0.0
    if not found or not calls:
        raise ArgumentError(f"{operation}: rate = {shown(text)}: {expected}")
    return Rate(next(_numbers), _UNITS[found[2]] / calls)


class TurnDealer:
    """The driver's side."""

    def __init__(self) -> None:
        self._next: dict[int, float] = {}  # when the next turn is free; a rate that is not here has one now

    def deal(self, rate: Rate, count: int, now: float) -> float:
        """How long to wait for the first of ``count`` turns; each of the others is an interval later."""
        first = max(self._next.get(rate.id, now), now)
        self._next[rate.id] = first + count * rate.interval
        if len(self._next) > 64:
            self._next = {known: at for known, at in self._next.items() if at > now}
        return first - now
