"""Asking back what was sent ahead, when it waits longer than it was meant to.

Work ahead is measured to take about ``prefetch_horizon`` seconds to start.  Where that was wrong (nothing
was measured yet, or an attempt takes longer than its like) it must not wait while

    - an executor is idle that could do it, or
    - a task set that ranks higher waits for a free slot.

Both are looked at one horizon after they begin.  Few executors are looked at at a time, in turn; those
that had to give back get no work ahead until one of their attempts ends.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice

from asparkle.core.scheduler.fleet import Fleet
from asparkle.core.scheduler.pools import Key, Pools
from asparkle.core.scheduler.records import QUEUED, Attempt, Executor
from asparkle.core.scheduler.tasksets import TaskSet
from asparkle.core.scheduler.turn import Turn

LOOKS = 16  # executors looked at, beyond those needed, at a time
MIN_DELAY = 0.001
PATIENCE = 64  # looks on behalf of one higher-ranking set


class Recalls:
    def __init__(self, turn: Turn, fleet: Fleet, pools: Pools) -> None:
        self._turn = turn
        self._fleet = fleet
        self._pools = pools
        self._waiting: dict[TaskSet, int] = {}  # higher-ranking sets: how often we have looked

    def after_turn(self) -> None:
        """Look again in a horizon, if somebody is idle while others have work ahead."""
        if self._fleet.idle and self._fleet.ahead and "recall" not in self._turn.timers:
            self._arm()

    def arrived(self, tasks: TaskSet) -> None:
        """A set has become ready."""
        if self._fleet.ahead:
            self._waiting[tasks] = 0
            if "recall" not in self._turn.timers:
                self._arm()

    def forget(self, tasks: TaskSet) -> None:
        self._waiting.pop(tasks, None)

    def _arm(self) -> None:
        delay = max(MIN_DELAY, self._turn.conf.prefetch_horizon)
        self._turn.timers.set("recall", self._turn.now + delay, self._look)

    def _look(self) -> None:
        if self._fleet.idle:
            self._recall(self._fleet.free, lambda attempt: True)
        for tasks in list(self._waiting):
            if not tasks.ready or self._waiting[tasks] >= PATIENCE:
                del self._waiting[tasks]
                continue
            self._waiting[tasks] += 1
            self._recall(tasks.pending, partial(self._ranks_below, self._pools.rank(tasks)))
        if self._fleet.ahead and (self._fleet.idle or self._waiting):
            self._arm()

    def _ranks_below(self, rank: Key, attempt: Attempt) -> bool:
        tasks = attempt.stage.tasks
        return tasks is not None and self._pools.rank(tasks) > rank

    def _recall(self, slots: int, unfit: Callable[[Attempt], bool]) -> None:
        """Ask back about so many attempts that have waited too long."""
        fleet = self._fleet
        long_ago = self._turn.now - self._turn.conf.prefetch_horizon
        for executor in list(islice(fleet.ahead, slots + LOOKS)):
            if slots <= 0:
                return
            overdue = [attempt for attempt in executor.queue if self._overdue(attempt, long_ago) and unfit(attempt)]
            if overdue:
                self._ask(executor, overdue[-slots:])
                slots -= len(overdue)
            if executor in fleet.ahead:
                fleet.ahead.move_to_end(executor)

    def _overdue(self, attempt: Attempt, long_ago: float) -> bool:
        return attempt.state == QUEUED and not attempt.recalled and attempt.wanted and attempt.sent <= long_ago

    def _ask(self, executor: Executor, attempts: list[Attempt]) -> None:
        executor.frozen = True
        for attempt in attempts:
            self._fleet.recalled(attempt)
            self._turn.recall(attempt)
