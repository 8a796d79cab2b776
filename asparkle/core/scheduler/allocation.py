"""How many executors there should be, and which are needed no more (Spark's dynamic allocation).

The *target* is the number of executors that there are and that are to come.  While tasks wait for a slot it grows
by 1, 2, 4, 8, ... executors, the first time after ``backlog_timeout``, then every ``sustained_timeout``, up to what
all tasks that are not done could use.  When none waits, what has not come yet is asked for no longer; and one that
is lost is replaced only where tasks could use it.

An executor that has had nothing to do for ``idle_timeout`` is *released*, unless the others would be fewer than
tasks could use.  From that moment the machine does not know it any more, so nothing is ever sent to it: there is no
state in between.  What it alone holds, and would take with it, buys it time: cached partitions
``cached_timeout``, map outputs ``shuffle_timeout``, or all that is left of the jobs that need these.

Costs nothing for a task, and O(1) for an event: one set that has tasks waiting stands for all (``_waiting``).  All
active sets are looked at when the target may change, an executor's blocks once in its idle timeout.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from asparkle.core.scheduler.blocks import Blocks
from asparkle.core.scheduler.fleet import Fleet
from asparkle.core.scheduler.messages import AllocationConf, Release, SetTarget
from asparkle.core.scheduler.records import Executor
from asparkle.core.scheduler.tasksets import TaskSet
from asparkle.core.scheduler.turn import Turn

MIN_LOOK = 0.1  # seconds between two looks at an executor, whatever the idle timeout


class Allocation:
    def __init__(self, conf: AllocationConf, turn: Turn, fleet: Fleet, blocks: Blocks) -> None:
        self._conf = conf
        self._turn = turn
        self._fleet = fleet
        self._blocks = blocks
        self.target = conf.initial
        self._told = conf.initial  # what the cluster takes for the target
        self._step = 1  # how many are asked for next
        self._sets: dict[TaskSet, None] = {}  # those that have begun and not ended
        self._waiting: OrderedDict[TaskSet, None] = OrderedDict()  # those of them that may have tasks without a slot
        self._extra: dict[TaskSet, int] = {}  # how many executors were asked for because a set was barred from all
        self._floor = 0  # executors that these need, whatever the number of tasks
        self._less = False  # a set has ended in this turn
        self._needed: int | None = None  # as found in this turn
        self._released: dict[str, str] = {}
        self.lose: Callable[[Executor, str], None]  # set by the machine: it is gone, for this reason

    # ------------------------------------------------------------------------------- what happens

    def starting(self, tasks: TaskSet) -> None:
        self._sets[tasks] = self._waiting[tasks] = None

    def arrived(self, tasks: TaskSet) -> None:
        """It has something for everybody again."""
        self._waiting[tasks] = None

    def ended(self, tasks: TaskSet) -> None:
        del self._sets[tasks]
        self._less = True
        self._waiting.pop(tasks, None)
        self._extra.pop(tasks, None)

    def added(self, executor: Executor) -> None:
        self.target = max(self.target, len(self._fleet.executors))  # it was asked for once
        self._look_again(executor, self._conf.idle_timeout)

    def gone(self, executor: Executor) -> None:
        self._turn.timers.cancel(("idle", executor))
        self._lower()

    def after_turn(self) -> None:
        self._needed = None
        timers = self._turn.timers
        if self._backlog():
            if "backlog" not in timers:
                self.target = max(self.target, 1)  # where there is nobody, nothing is gained by waiting
                timers.set("backlog", self._turn.now + self._conf.backlog_timeout, self._grow)
        elif self._less or "backlog" in timers:
            timers.cancel("backlog")
            self._step, self._floor = 1, 0
            self._lower()
        self._less = False
        if self._released:
            self._turn.out.append(Release(self._released))
            self._told -= len(self._released)
            self._released = {}
        if self._told != self.target:
            self._told = self.target
            self._turn.out.append(SetTarget(self.target))
        self._needed = None

    # ----------------------------------------------------------------------------------- how many

    def _backlog(self) -> bool:
        """Whether a task waits for a slot."""
        if self._fleet.ahead:
            return True
        while self._waiting:
            tasks = next(iter(self._waiting))
            if not tasks.paused and (tasks.pending or tasks.copies):
                return True
            del self._waiting[tasks]
        return False

    def _need(self) -> int:
        """How many executors all tasks could use that are not done, within the limits."""
        if self._needed is None:
            conf = self._conf
            tasks = sum(tasks.left + len(tasks.copies) for tasks in self._sets if not tasks.paused)
            needed = math.ceil(tasks * conf.ratio / conf.slots)
            self._needed = min(max(conf.least, self._floor, needed), conf.most)
        return self._needed

    def another(self, tasks: TaskSet) -> bool:
        """The set may run on none of the executors that there are: whether one is on its way that it may run on."""
        there, asked = len(self._fleet.executors), self._extra.get(tasks, 0)
        if self.target <= there:
            if there >= self._conf.most or asked >= self._turn.conf.max_failures:
                return False
            self._extra[tasks] = asked + 1
            self.target = self._floor = there + 1
        return True

    def _grow(self) -> None:
        """Tasks have waited for long enough."""
        asked = min(self._need(), self.target + self._step) - self.target
        self._step = 2 * self._step if asked == self._step else 1
        self.target += max(0, asked)
        self._turn.timers.set("backlog", self._turn.now + self._conf.sustained_timeout, self._grow)

    def _lower(self) -> None:
        """Ask no longer for executors that are yet to come and nobody needs."""
        there = len(self._fleet.executors)
        if self.target > there:
            self.target = min(self.target, max(there, self._need()))

    # -------------------------------------------------------------------------------------- which

    def _look_again(self, executor: Executor, delay: float) -> None:
        timers = self._turn.timers
        timers.set(("idle", executor), self._turn.now + max(MIN_LOOK, delay), partial(self._look, executor))

    def _look(self, executor: Executor) -> None:
        """Release it, if it has been idle for long enough."""
        conf, now = self._conf, self._turn.now
        blocks, outputs, timeout = 0, 0, conf.idle_timeout
        if not executor.running:
            blocks, outputs = self._blocks.only_on(executor), _outputs_only_on(executor)
            if blocks:
                timeout = max(timeout, conf.cached_timeout)
            if outputs and conf.shuffle_tracking:
                timeout = max(
                    timeout, math.inf if any(stage.jobs for stage in executor.wrote) else conf.shuffle_timeout
                )
        left = executor.idle_since + timeout - now
        if executor.running or left > 0 or len(self._fleet.executors) <= self._need():
            self._look_again(executor, min(left, conf.idle_timeout) if left > 0 else conf.idle_timeout)
            return
        reason = f"released: idle for {round(now - executor.idle_since, 1):g} s"
        if blocks or outputs:
            reason += f", with {blocks} cached partitions and {outputs} map outputs that no other has"
        self.target -= 1
        self._released[executor.name] = reason
        self.lose(executor, reason)


def _outputs_only_on(executor: Executor) -> int:
    """How many map outputs can't be read any more once the executor is released."""
    if executor.blocks_survive:
        return 0
    return sum(
        stage.outputs.writers[partition] is executor
        for stage in executor.wrote
        for partition in dict.fromkeys(stage.written[executor])
    )
