"""One-shot alarms by key.  They ring when the machine is told a time at or past theirs, in order of time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Hashable

Action = Callable[[], None]


class Timers:
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Hashable]] = []
        self._alarms: dict[Hashable, tuple[float, int, Action]] = {}
        self._count = 0
        self.earliest = math.inf  # nothing rings before

    def __contains__(self, key: Hashable) -> bool:
        return key in self._alarms

    def __len__(self) -> int:
        return len(self._alarms)

    def set(self, key: Hashable, when: float, action: Action) -> None:
        """Ring once at ``when``; instead of an earlier alarm of the same key, if there is one."""
        self._count += 1
        self._alarms[key] = (when, self._count, action)
        heapq.heappush(self._heap, (when, self._count, key))
        self.earliest = self._heap[0][0]

    def cancel(self, key: Hashable) -> None:
        if self._alarms.pop(key, None) is not None and len(self._heap) > 2 * len(self._alarms) + 64:
            self._heap = [(when, n, key) for key, (when, n, _) in self._alarms.items()]
            heapq.heapify(self._heap)

    def next(self) -> float | None:
        heap, alarms = self._heap, self._alarms
        while heap:
            alarm = alarms.get(heap[0][2])
            if alarm is not None and alarm[1] == heap[0][1]:
                return heap[0][0]
            heapq.heappop(heap)
        return None

    def ring(self, now: float) -> None:
        """Do what is due.  What is set meanwhile for the past rings at the next call."""
        last = self._count
        later: list[tuple[float, int, Hashable]] = []
        while (when := self.next()) is not None and when <= now:
            entry = heapq.heappop(self._heap)
            if entry[1] > last:
                later.append(entry)
            else:
                self._alarms.pop(entry[2])[2]()
        for entry in later:
            heapq.heappush(self._heap, entry)
        self.earliest = self._heap[0][0] if self._heap else math.inf
