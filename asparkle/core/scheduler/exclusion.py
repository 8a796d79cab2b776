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

from asparkle.core.scheduler.announcer import Announcer
from asparkle.core.scheduler.fleet import Fleet
from asparkle.core.scheduler.messages import SchedulerConf
from asparkle.core.scheduler.records import Attempt, Executor
from asparkle.core.scheduler.tasksets import TaskSet
from asparkle.core.scheduler.turn import Turn


class Bars:
    """Where one task set, and each of its failed tasks, is not to run."""

    def __init__(self, conf: SchedulerConf) -> None:
        self._conf = conf
        self.failed: dict[str, set[int]] = {}  # by executor: partitions that failed there
        self._host_of: dict[str, str] = {}
        self._tasks: dict[int, dict[tuple[str, str], int]] = {}  # by partition: failures by place
        self._executors: set[str] = set()
        self._hosts: set[str] = set()
        self._bad_on_host: dict[str, set[str]] = defaultdict(set)

    def add(self, partition: int, executor: Executor) -> None:
        """An attempt at the partition failed there."""
        name, host = executor.name, executor.host.name
        counts = self._tasks.setdefault(partition, defaultdict(int))
        counts["executor", name] += 1
        counts["host", host] += 1
        self._host_of[name] = host
        failed = self.failed.setdefault(name, set())
        failed.add(partition)
        if len(failed) >= self._conf.exclude_stage_executor:
            self._executors.add(name)
            self._bad_on_host[host].add(name)
            if len(self._bad_on_host[host]) >= self._conf.exclude_stage_node:
                self._hosts.add(host)

    def has(self, partition: int) -> bool:
        return partition in self._tasks

    def bar(self, executor: Executor) -> bool:
        """Whether the whole stage keeps away from it."""
        return executor.name in self._executors or executor.host.name in self._hosts

    def allow(self, partition: int, executor: Executor) -> bool:
        counts = self._tasks.get(partition)
        return counts is None or (
            counts.get(("executor", executor.name), 0) < self._conf.exclude_task_executor
            and counts.get(("host", executor.host.name), 0) < self._conf.exclude_task_node
        )

    def failures(self) -> list[tuple[str, str, int]]:
        """(executor, host, failed partitions)."""
        return [(name, self._host_of[name], len(partitions)) for name, partitions in self.failed.items()]


class Exclusion:
    def __init__(self, turn: Turn, fleet: Fleet, announcer: Announcer) -> None:
        self._turn = turn
        self._fleet = fleet
        self._announcer = announcer
        self._failures: dict[str, list[float]] = {}  # by executor: when each counted failure expires
        self._executors: dict[str, str] = {}  # excluded: its host
        self._hosts: dict[str, None] = {}
        self.barred: dict[TaskSet, None] = {}  # sets that keep away from somebody

    def failed(self, tasks: TaskSet, attempt: Attempt) -> None:
        """A penalised failure."""
        if not self._turn.conf.exclude:
            return
        if tasks.bars is None:
            tasks.bars = Bars(self._turn.conf)
            self.barred[tasks] = None
        tasks.bars.add(attempt.partition, attempt.executor)

    def ended(self, tasks: TaskSet, complete: bool) -> None:
        self.barred.pop(tasks, None)
        if tasks.bars is not None and complete:
            for name, host, partitions in tasks.bars.failures():
                self._count(name, host, partitions)

    def added(self, executor: Executor) -> None:
        if executor.host.name in self._hosts or executor.name in self._executors:
            self._fleet.exclude(executor)

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

    # --------------------------------------------------------------------------------- application

    def _count(self, name: str, host: str, partitions: int) -> None:
        conf, timers = self._turn.conf, self._turn.timers
        until = self._turn.now + conf.exclude_timeout
        times = self._failures.setdefault(name, [])
        times[:] = [time for time in times if time > self._turn.now] + [until] * partitions
        timers.set(("failures", name), until, lambda: self._forgive(name))
        if len(times) >= conf.exclude_application_executor and name not in self._executors:
            self._exclude(name, host, until)

    def _forgive(self, name: str) -> None:
        self._failures.pop(name, None)

    def _exclude(self, name: str, host: str, until: float) -> None:
        self._executors[name] = host
        self._failures.pop(name, None)
        self._turn.timers.set(("executor", name), until, lambda: self._readmit(name))
        self._apply(name, host, "tasks failed there")
        bad = sum(other == host for other in self._executors.values())
        if bad >= self._turn.conf.exclude_application_node and host not in self._hosts:
            self._hosts[host] = None
            self._turn.timers.set(("host", host), until, lambda: self._readmit_host(host))
            for other in list(self._fleet.hosts[host].executors) if host in self._fleet.hosts else []:
                self._apply(other, host, "its host's executors are excluded")

    def _apply(self, name: str, host: str, reason: str) -> None:
        executor = self._fleet.executors.get(name)
        if executor is not None and executor.host.name == host and executor.usable():
            self._fleet.exclude(executor)
            if self._turn.listening:
                self._announcer.executor_excluded(executor, reason)

    def _readmit(self, name: str) -> None:
        host = self._executors.pop(name)
        if host not in self._hosts:
            self._welcome(name)

    def _readmit_host(self, host: str) -> None:
        del self._hosts[host]
        for name in list(self._fleet.hosts[host].executors) if host in self._fleet.hosts else []:
            if name not in self._executors:
                self._welcome(name)

    def _welcome(self, name: str) -> None:
        executor = self._fleet.executors.get(name)
        if executor is not None and executor.excluded:
            self._fleet.readmit(executor)
            if self._turn.listening:
                self._announcer.executor_readmitted(executor)
