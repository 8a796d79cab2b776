"""Stages whose tasks run all at once, and wait for each other (barrier execution mode).

A barrier set is launched in one turn when enough slots are free, and nothing is sent ahead of or behind
its tasks.  When it comes first in rank and there are not enough, free slots are *reserved*: nothing else is
launched until it is, so they gather as attempts end.  If all usable slots together are too few, it holds up
nobody, and after ``barrier_slot_wait`` its jobs fail.  One failed task ends the whole attempt: what the
others have done is kept back until all have succeeded, and is thrown away if one fails.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from asparkle.core.scheduler.dispatch import Dispatch
from asparkle.core.scheduler.lineage import Lineage
from asparkle.core.scheduler.messages import FailureKind, ReleaseBarrier, TaskSucceeded
from asparkle.core.scheduler.records import ACTIVE, Attempt, Executor
from asparkle.core.scheduler.tasksets import TaskSet
from asparkle.core.scheduler.turn import Turn


class Gathering:
    """The state of one barrier set: who has come to the present barrier, and who is done."""

    def __init__(self) -> None:
        self.round = 0
        self.reached: dict[int, tuple[Attempt, str]] = {}  # by partition
        self.succeeded: dict[int, tuple[Attempt, TaskSucceeded]] = {}

    def clear(self) -> None:
        self.round = 0
        self.reached.clear()
        self.succeeded.clear()


class Barriers:
    def __init__(self, turn: Turn, dispatch: Dispatch, lineage: Lineage) -> None:
        self._turn = turn
        self._dispatch = dispatch
        self._fleet = dispatch.fleet
        self._lineage = lineage
        self._waiting: dict[TaskSet, None] = {}  # sets that want to be launched
        self._seen = -1  # usable slots when these were looked at
        self.kept: set[int] = set()  # attempts whose success is not taken before all of their stage have succeeded
        self.broken: Callable[[TaskSet, int, str], None]  # set by the machine

    # ------------------------------------------------------------------------------------- slots

    def starting(self, tasks: TaskSet) -> None:
        if tasks.stage.spec.barrier:
            tasks.gathering = Gathering()
            self._waiting[tasks] = None
            self._seen = -1

    def ended(self, tasks: TaskSet) -> None:
        if tasks.gathering is not None:
            self._forget_kept(tasks)
        self._waiting.pop(tasks, None)
        self._turn.timers.cancel(("slots", tasks))
        self._turn.timers.cancel(("barrier", tasks))

    def could_gather(self, tasks: TaskSet) -> bool:
        """Whether there would be slots enough if nothing else ran."""
        return self._slots(tasks) >= tasks.total

    def after_turn(self) -> None:
        """Those that can't be launched for want of slots have so long to get them."""
        if self._seen == self._fleet.slots:
            return
        self._seen = self._fleet.slots
        for tasks in self._waiting:
            key = ("slots", tasks)
            if self.could_gather(tasks):
                self._turn.timers.cancel(key)
            elif key not in self._turn.timers:
                self._turn.timers.set(
                    key, self._turn.now + self._turn.conf.barrier_slot_wait, partial(self._short, tasks)
                )

    def _short(self, tasks: TaskSet) -> None:
        slots = self._slots(tasks)
        reason = (
            f"barrier stage {tasks.stage.id} needs {tasks.total} slots at once; there are {slots}: "
            "use fewer partitions, or more executors"
        )
        failure = self._lineage.failure(FailureKind.BARRIER, reason, tasks.stage)
        self._lineage.fail(tasks.stage, failure)

    def _slots(self, tasks: TaskSet) -> int:
        if tasks.bars is None:
            return self._fleet.slots
        usable = (executor for executor in self._fleet.executors.values() if executor.usable())
        return sum(executor.slots for executor in usable if not tasks.bars.bar(executor))

    def gather(self, tasks: TaskSet) -> bool:
        """Launch all tasks, if there are free slots enough; near their input where that is possible."""
        if self._fleet.free < tasks.total:
            return False
        slots: dict[Executor, int] = {}
        for executor in self._fleet.all_idle():
            if tasks.bars is None or not tasks.bars.bar(executor):
                slots[executor] = executor.slots - len(executor.running)
        if sum(slots.values()) < tasks.total:
            return False
        places = self._assign(tasks, slots)
        attempts = [self._dispatch.launch(executor, tasks, part) for part, executor in sorted(places.items())]
        tasks.peers = [attempt.executor.name for attempt in attempts]
        self._waiting.pop(tasks)
        self._turn.timers.cancel(("slots", tasks))
        self._dispatch.rank(tasks)
        return True

    def _assign(self, tasks: TaskSet, slots: dict[Executor, int]) -> dict[int, Executor]:
        partitions = [part for part in self._partitions(tasks) if tasks.withdraw(part)]
        places: dict[int, Executor] = {}
        for partition in partitions if tasks.places is not None else ():
            near = tasks.near(partition)
            executor = next((executor for executor in near if slots.get(executor)), None)
            if executor is not None:
                places[partition] = executor
                slots[executor] -= 1
        free = [executor for executor, count in slots.items() for _ in range(count)]
        rest = iter(free)
        for partition in partitions:
            tasks.mark_live(partition)
            if partition not in places:
                places[partition] = next(rest)
        return places

    def _partitions(self, tasks: TaskSet) -> list[int]:
        return [part for part in range(tasks.stage.size) if tasks.status[part]]

    # ------------------------------------------------------------------------------------ barriers

    def reached(self, attempt: Attempt, round: int, message: str) -> None:
        tasks = attempt.stage.tasks
        if not attempt.wanted or tasks is None or (gathering := tasks.gathering) is None:
            return
        if round != gathering.round:
            return  # said twice
        gathering.reached[attempt.partition] = (attempt, message)
        if len(gathering.reached) == 1:
            timeout = self._turn.conf.barrier_timeout
            self._turn.timers.set(("barrier", tasks), self._turn.now + timeout, lambda: self._timed_out(tasks))
        if len(gathering.reached) == tasks.total:
            self._release(tasks, gathering)
        else:
            self._check(tasks, gathering)

    def _check(self, tasks: TaskSet, gathering: Gathering) -> None:
        """Nobody can pass a barrier to which a task did not come that has ended."""
        if gathering.reached and gathering.succeeded:
            ended = sorted(gathering.succeeded)
            reason = f"barrier {gathering.round} can't be passed: tasks {ended[:10]} ended without coming to it"
            self.broken(tasks, min(gathering.reached), reason)

    def _release(self, tasks: TaskSet, gathering: Gathering) -> None:
        self._turn.timers.cancel(("barrier", tasks))
        reached = [gathering.reached[partition] for partition in sorted(gathering.reached)]
        messages = tuple(message for _, message in reached)
        for attempt, _ in reached:
            executor = attempt.executor
            self._turn.out.append(ReleaseBarrier(executor.name, executor.epoch, attempt.tid, gathering.round, messages))
        gathering.reached.clear()
        gathering.round += 1

    def _timed_out(self, tasks: TaskSet) -> None:
        gathering = tasks.gathering
        assert gathering is not None
        absent = [part for part in self._partitions(tasks) if part not in gathering.reached]
        reason = f"barrier {gathering.round} timed out: tasks {absent[:10]} did not come to it"
        self.broken(tasks, absent[0], reason)

    # ------------------------------------------------------------------------------ success, failure

    def succeeded(self, attempt: Attempt, report: TaskSucceeded) -> None:
        """Keep the result back until all have succeeded."""
        tasks = attempt.stage.tasks
        assert tasks is not None and tasks.gathering is not None
        done = tasks.gathering.succeeded
        done[attempt.partition] = (attempt, report)
        self.kept.add(report.tid)
        tasks.live.pop(attempt.partition, None)
        if len(done) == tasks.total:
            self._forget_kept(tasks)
            for partition in sorted(done):
                self._lineage.record(tasks, *done[partition])
        else:
            self._check(tasks, tasks.gathering)

    def _forget_kept(self, tasks: TaskSet) -> None:
        assert tasks.gathering is not None
        self.kept.difference_update(report.tid for _, report in tasks.gathering.succeeded.values())

    def start_again(self, tasks: TaskSet, reason: str) -> None:
        """One task failed: the attempt at the stage is over."""
        stage = tasks.stage
        assert tasks.gathering is not None
        self._turn.timers.cancel(("barrier", tasks))
        self._lineage.kill_all(tasks, reason)
        stage.generation += 1
        self._forget_kept(tasks)
        tasks.gathering.clear()
        self._waiting[tasks] = None
        self._seen = -1
        for partition in reversed(self._partitions(tasks)):
            tasks.withdraw(partition)
            tasks.put(partition)
        if stage.state == ACTIVE:
            self._lineage.again(tasks, reason)
        self._dispatch.rank(tasks)
