"""A second attempt at what takes much longer than its like.

When ``quantile`` of a stage's tasks have succeeded, an attempt that runs longer than ``multiplier`` times
their median (and ``min_runtime``) deserves one copy, on another executor and, if there is one, another
host.  The attempts of a stage start in order, so only the oldest has to be looked at.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

from asparkle.core.scheduler.announcer import Announcer
from asparkle.core.scheduler.dispatch import Dispatch
from asparkle.core.scheduler.records import RUNNING, SETTLED, Attempt, Executor
from asparkle.core.scheduler.tasksets import LIVE, TaskSet
from asparkle.core.scheduler.turn import Turn


class Median:
    """Of numbers added one by one: the lower half in one heap, the upper in another."""

    def __init__(self) -> None:
        self._low: list[float] = []  # negated
        self._high: list[float] = []

    def __len__(self) -> int:
        return len(self._low) + len(self._high)

    def add(self, value: float) -> None:
        heapq.heappush(self._high, -heapq.heappushpop(self._low, -value))
        if len(self._high) > len(self._low):
            heapq.heappush(self._low, -heapq.heappop(self._high))

    def get(self) -> float:
        if len(self._low) > len(self._high):
            return -self._low[0]
        return (self._high[0] - self._low[0]) / 2


class Watch:
    """One task set's run times, and its running attempts from the oldest on."""

    def __init__(self) -> None:
        self.median = Median()
        self.oldest: deque[Attempt] = deque()

    def begun(self, attempt: Attempt) -> None:
        self.oldest.append(attempt)


class Speculation:
    def __init__(self, turn: Turn, dispatch: Dispatch, announcer: Announcer) -> None:
        self._turn = turn
        self._dispatch = dispatch
        self._announcer = announcer

    def starting(self, tasks: TaskSet) -> None:
        if self._turn.conf.speculation and tasks.total > 1 and tasks.gathering is None:
            tasks.watch = Watch()

    def ended(self, tasks: TaskSet) -> None:
        if tasks.watch is not None:
            self._turn.timers.cancel(("speculate", tasks))

    def succeeded(self, tasks: TaskSet, seconds: float) -> None:
        watch = tasks.watch
        if watch is not None:
            watch.median.add(seconds)
            if ("speculate", tasks) not in self._turn.timers:
                self._look(tasks, watch)

    def _look(self, tasks: TaskSet, watch: Watch) -> None:
        """Mark what is overdue, and come back when the next may be."""
        conf, now = self._turn.conf, self._turn.now
        if len(watch.median) < max(1, conf.speculation_quantile * tasks.total):
            return
        threshold = max(conf.speculation_multiplier * watch.median.get(), conf.speculation_min_runtime)
        while watch.oldest:
            attempt = watch.oldest[0]
            if attempt.state == SETTLED or not attempt.wanted:
                watch.oldest.popleft()
            elif now - attempt.started < threshold:
                when = max(attempt.started + threshold, now + conf.speculation_interval)
                again: Callable[[], None] = lambda: self._look(tasks, watch)  # noqa: E731
                self._turn.timers.set(("speculate", tasks), when, again)
                return
            else:
                watch.oldest.popleft()
                self._speculate(tasks, attempt)

    def _speculate(self, tasks: TaskSet, attempt: Attempt) -> None:
        if attempt.twin is None:
            tasks.copies.append(attempt)
            self._dispatch.rank(tasks)
            if self._turn.listening:
                self._announcer.speculated(attempt)

    def take_copy(self, tasks: TaskSet, executor: Executor) -> int:
        """The partition of an attempt that deserves a copy on this executor; -1 if there is none."""
        copies = tasks.copies
        found = -1
        for _ in range(len(copies)):
            attempt = copies.popleft()
            if not self._alone(tasks, attempt):
                continue
            if found < 0 and self._elsewhere(tasks, attempt, executor):
                found = attempt.partition
                break
            copies.append(attempt)
        self._dispatch.rank(tasks)
        return found

    def _alone(self, tasks: TaskSet, attempt: Attempt) -> bool:
        return (
            attempt.state == RUNNING
            and attempt.wanted
            and attempt.twin is None
            and tasks.status[attempt.partition] == LIVE
        )

    def _elsewhere(self, tasks: TaskSet, attempt: Attempt, executor: Executor) -> bool:
        if executor is attempt.executor:
            return False
        if tasks.bars is not None and not tasks.bars.allow(attempt.partition, executor):
            return False
        return executor.host is not attempt.executor.host or self._dispatch.fleet.occupied == 1
