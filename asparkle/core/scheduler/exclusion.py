"""Keeping work away from executors and hosts where it fails (Spark's excludeOnFailure).

    task         an executor where an attempt at it failed `exclude_task_executor` times, a host where
                 attempts at it failed `exclude_task_node` times
    stage        an executor where `exclude_stage_executor` of its tasks failed, a host with
                 `exclude_stage_node` such executors
    application  an executor where `exclude_application_executor` tasks of stages that were completed all
                 the same failed within `exclude_timeout`, a host with `exclude_application_node` such
                 executors; for that time

Failures count for the application only when the stage is complete, so that a job that fails everywhere
does not discredit the executors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TypeAlias

from asparkle.core.scheduler.announcer import Announcer
from asparkle.core.scheduler.fleet import Fleet
from asparkle.core.scheduler.messages import FailureKind, JobFailure, SchedulerConf
from asparkle.core.scheduler.records import Attempt, Executor
from asparkle.core.scheduler.tasksets import TaskSet
from asparkle.core.scheduler.turn import Turn

Incarnation: TypeAlias = "tuple[str, int, str]"  # an executor's name, epoch and host


def incarnation(executor: Executor) -> Incarnation:
    """A new process under an old name has not failed yet."""
    return executor.name, executor.epoch, executor.host.name


class Bars:
    """Where one task set, and each of its failed tasks, is not to run."""

    def __init__(self, conf: SchedulerConf) -> None:
        self._conf = conf
        self._failed: dict[Incarnation, set[int]] = {}  # partitions that failed there
        self._tasks: dict[int, dict[Incarnation | str, int]] = {}  # by partition: failures by executor and host
        self._executors: set[Incarnation] = set()
        self._hosts: set[str] = set()
        self._bad_on_host: dict[str, set[Incarnation]] = defaultdict(set)
        self.last: dict[int, tuple[Attempt, str, object]] = {}  # by partition: the attempt that failed last, and why

    def add(self, partition: int, executor: Executor) -> None:
        """An attempt at the partition failed there."""
        who, host = incarnation(executor), executor.host.name
        counts = self._tasks.setdefault(partition, defaultdict(int))
        counts[who] += 1
        counts[host] += 1
        failed = self._failed.setdefault(who, set())
        failed.add(partition)
        if len(failed) >= self._conf.exclude_stage_executor:
            self._executors.add(who)
            self._bad_on_host[host].add(who)
            if len(self._bad_on_host[host]) >= self._conf.exclude_stage_node:
                self._hosts.add(host)

    def has(self, partition: int) -> bool:
        return partition in self._tasks

    def bar(self, executor: Executor) -> bool:
        """Whether the whole stage keeps away from it."""
        return incarnation(executor) in self._executors or executor.host.name in self._hosts

    def allow(self, partition: int, executor: Executor) -> bool:
        counts = self._tasks.get(partition)
        return counts is None or (
            counts.get(incarnation(executor), 0) < self._conf.exclude_task_executor
            and counts.get(executor.host.name, 0) < self._conf.exclude_task_node
        )

    def failures(self) -> list[tuple[Incarnation, int]]:
        """Executors, and how many partitions failed there."""
        return [(who, len(partitions)) for who, partitions in self._failed.items()]


class Exclusion:
    def __init__(self, turn: Turn, fleet: Fleet, announcer: Announcer) -> None:
        self._turn = turn
        self._fleet = fleet
        self._announcer = announcer
        self._failures: dict[Incarnation, list[float]] = {}  # when each counted failure expires
        self._executors: dict[Incarnation, None] = {}  # excluded
        self._hosts: dict[str, None] = {}
        self.barred: dict[TaskSet, None] = {}  # sets that keep away from somebody

    def failed(self, tasks: TaskSet, attempt: Attempt, reason: str, error: object) -> None:
        """A penalised failure, and why."""
        if not self._turn.conf.exclude:
            return
        if tasks.bars is None:
            tasks.bars = Bars(self._turn.conf)
            self.barred[tasks] = None
        tasks.bars.add(attempt.partition, attempt.executor)
        tasks.bars.last[attempt.partition] = (attempt, reason, error)

    def ended(self, tasks: TaskSet, complete: bool) -> None:
        self.barred.pop(tasks, None)
        if tasks.bars is not None and complete:
            for who, partitions in tasks.bars.failures():
                self._count(who, partitions)

    def added(self, executor: Executor) -> None:
        if executor.host.name in self._hosts:
            self._apply(incarnation(executor), "executors of its host are excluded")

    def stuck(self, tasks: TaskSet) -> int:
        """A pending partition that may run nowhere though there are executors; -1 if there is none."""
        usable = [executor for executor in self._fleet.executors.values() if executor.usable()]
        if not self._fleet.executors or not tasks.pending:
            return -1
        bars = tasks.bars
        if bars is not None:
            usable = [executor for executor in usable if not bars.bar(executor)]
        if not usable:
            return tasks.any_pending()
        if bars is not None:
            for partition in tasks.marked_pending():
                if not any(bars.allow(partition, executor) for executor in usable):
                    return partition
        return -1

    def failure(self, tasks: TaskSet, partition: int, failure: Callable[..., JobFailure]) -> JobFailure:
        """Of a task that may run nowhere: why, as far as it failed itself."""
        stage = tasks.stage
        reason = f"task {partition} of stage {stage.id}: all executors are excluded for it"
        last = tasks.bars.last.get(partition) if tasks.bars is not None else None
        if last is None:
            return JobFailure(FailureKind.EXCLUDED, reason, None, stage.id, stage.spec.name, partition)
        attempt, why, error = last
        text = f"{reason}; the last time it failed on {attempt.executor.name}: {why}"
        return failure(FailureKind.EXCLUDED, text, stage, attempt, error)

    # --------------------------------------------------------------------------------- application

    def _count(self, who: Incarnation, partitions: int) -> None:
        conf, timers = self._turn.conf, self._turn.timers
        until = self._turn.now + conf.exclude_timeout
        times = self._failures.setdefault(who, [])
        times[:] = [time for time in times if time > self._turn.now] + [until] * partitions
        timers.set(("failures", who), until, lambda: self._forgive(who))
        if len(times) >= conf.exclude_application_executor and who not in self._executors:
            self._exclude(who, until)

    def _forgive(self, who: Incarnation) -> None:
        self._failures.pop(who, None)

    def _exclude(self, who: Incarnation, until: float) -> None:
        host = who[2]
        self._executors[who] = None
        self._turn.timers.set(("executor", who), until, lambda: self._readmit(who))
        self._apply(who, "tasks failed there")
        bad = sum(other[2] == host for other in self._executors)
        if bad >= self._turn.conf.exclude_application_node and host not in self._hosts:
            self._hosts[host] = None
            self._turn.timers.set(("host", host), until, lambda: self._readmit_host(host))
            for executor in self._on(host):
                self._apply(incarnation(executor), "executors of its host are excluded")

    def _on(self, host: str) -> list[Executor]:
        known = self._fleet.hosts.get(host)
        return list(known.executors.values()) if known is not None else []

    def _apply(self, who: Incarnation, reason: str) -> None:
        executor = self._fleet.executors.get(who[0])
        if executor is not None and incarnation(executor) == who and executor.usable():
            self._fleet.exclude(executor)
            if self._turn.listening:
                self._announcer.executor_excluded(executor, reason, len(self._failures.get(who, ())))

    def _readmit(self, who: Incarnation) -> None:
        del self._executors[who]
        executor = self._fleet.executors.get(who[0])
        if executor is not None and incarnation(executor) == who and who[2] not in self._hosts:
            self._welcome(executor)

    def _readmit_host(self, host: str) -> None:
        del self._hosts[host]
        for executor in self._on(host):
            if incarnation(executor) not in self._executors:
                self._welcome(executor)

    def _welcome(self, executor: Executor) -> None:
        if executor.excluded:
            self._fleet.readmit(executor)
            if self._turn.listening:
                self._announcer.executor_readmitted(executor)
