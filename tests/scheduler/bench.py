"""A workbench for specifications of the scheduler: events in by short names, commands out by type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from asparkle.core.scheduler import (
    BarrierReached,
    BlocksChanged,
    CommitRequested,
    DeadlineReached,
    Determinism,
    ExecutorAdded,
    ExecutorLost,
    FailureKind,
    FetchFailed,
    FinishJob,
    JobCancelled,
    JobFailure,
    JobSpec,
    JobSubmitted,
    Kill,
    Launch,
    Recall,
    Scheduler,
    SchedulerConf,
    StageSpec,
    Task,
    TaskFailed,
    TasksReturned,
    TaskStarted,
    TaskSucceeded,
)
from asparkle.plugins import SchedulingPolicy
from asparkle.plugins.schedulingpolicies import FAIR, FIFO

from .invariants import check

C = TypeVar("C")
INDETERMINATE = Determinism.INDETERMINATE


def stage(number: int, tasks: int, parents: Sequence[int] = (), **options: Any) -> StageSpec:
    """A shuffle's stage; the shuffle has the stage's number."""
    return StageSpec(number, tasks, tuple(parents), number, **options)


def result(number: int, tasks: int, parents: Sequence[int] = (), **options: Any) -> StageSpec:
    return StageSpec(number, tasks, tuple(parents), None, **options)


def with_policies(*, policy: Any = "FIFO", **settings: Any) -> SchedulerConf:
    """A configuration in which policies, of pools too, are said by name."""
    named: dict[object, SchedulingPolicy] = {"FIFO": FIFO(), "FAIR": FAIR()}
    pools = {name: (named.get(mode, mode), *shares) for name, (mode, *shares) in settings.pop("pools", {}).items()}
    return SchedulerConf(policy=named.get(policy, policy), pools=pools, **settings)


class Bench:
    """``all``: every command so far.  Attempts are named by what they compute: (stage, partition)."""

    def __init__(self, listening: bool = False, deep: bool = True, **conf: Any) -> None:
        self.deep = deep
        conf.setdefault("prefetch_horizon", 0.0)  # nothing ahead, unless it is the subject
        self.scheduler = Scheduler(with_policies(**conf), listening=listening)
        self.now = 0.0
        self.all: list[Any] = []
        self.where: dict[int, tuple[str, int]] = {}
        self.tasks: dict[int, Task] = {}
        self.epochs: dict[str, int] = {}
        self.jobs = 0

    def tell(self, event: Any) -> Bench:
        self.said = self.scheduler.handle(event, self.now)
        self.all += self.said
        for launch in self.get(Launch):
            for task in launch.tasks:
                self.where[task.tid] = (launch.executor, launch.epoch)
                self.tasks[task.tid] = task
        if self.deep:
            check(self.scheduler)
        return self

    # ------------------------------------------------------------------------------------- asking

    def get(self, kind: type[C], ever: bool = False) -> list[C]:
        """The commands of a type in the last answer, or ever."""
        return [command for command in (self.all if ever else self.said) if type(command) is kind]

    @property
    def launched(self) -> list[tuple[int, int]]:
        """(stage, partition) of what was launched in the last answer."""
        return [(task.stage, task.partition) for launch in self.get(Launch) for task in launch.tasks]

    @property
    def placed(self) -> dict[tuple[int, int], str]:
        """Where."""
        return {(t.stage, t.partition): launch.executor for launch in self.get(Launch) for t in launch.tasks}

    @property
    def killed(self) -> list[int]:
        return [tid for kill in self.get(Kill) for tid in kill.tids]

    @property
    def recalled(self) -> list[int]:
        return [tid for recall in self.get(Recall) for tid in recall.tids]

    def tid(self, number: int, partition: int) -> int:
        """The latest attempt."""
        return max(t.tid for t in self.tasks.values() if (t.stage, t.partition) == (number, partition))

    def outcome(self, job: int) -> JobFailure | str | None:
        """'success', the failure, or None while it goes on."""
        ends = [command for command in self.get(FinishJob, ever=True) if command.job == job]
        assert len(ends) <= 1
        return (ends[0].failure or "success") if ends else None

    # ------------------------------------------------------------------------------------- telling

    def executor(self, name: str, slots: int = 1, host: str | None = None) -> Bench:
        self.epochs[name] = self.epochs.get(name, -1) + 1
        return self.tell(ExecutorAdded(name, self.epochs[name], host or f"host-{name}", slots))

    def lose(self, name: str, **options: Any) -> Bench:
        return self.tell(ExecutorLost(name, self.epochs[name], "gone", **options))

    def job(self, *stages: StageSpec, partitions: Sequence[int] | None = None, **options: Any) -> int:
        self.jobs += 1
        wanted = range(stages[-1].tasks) if partitions is None else partitions
        self.tell(JobSubmitted(JobSpec(self.jobs, stages, wanted, **options)))
        return self.jobs

    def cancel(self, **which: Any) -> Bench:
        return self.tell(JobCancelled(**which))

    def started(self, tid: int) -> Bench:
        return self.tell(TaskStarted(*self.where[tid], tid))

    def succeed(self, *attempts: tuple[int, int] | int, seconds: float = 1.0, sizes: Any = None) -> Bench:
        """Attempts succeed, by tid or (stage, partition)."""
        for attempt in attempts:
            tid = attempt if isinstance(attempt, int) else self.tid(*attempt)
            self.tell(TaskSucceeded(*self.where[tid], tid, seconds, f"out-{tid}", f"upd-{tid}", sizes))
        return self

    def fail(self, attempt: tuple[int, int] | int, error: object = "boom", **options: Any) -> Bench:
        tid = attempt if isinstance(attempt, int) else self.tid(*attempt)
        return self.tell(TaskFailed(*self.where[tid], tid, error, **options))

    def killed_ok(self, *tids: int) -> Bench:
        for tid in tids:
            self.fail(tid, "killed", killed=True)
        return self

    def fetch_failed(
        self,
        attempt: tuple[int, int],
        shuffle: int,
        partition: int,
        tid: int | None = None,
        others: Sequence[tuple[int, int]] = (),
    ) -> Bench:
        """The attempt could not read a map output: that of attempt ``tid``, or the registered one."""
        if tid is None:
            output = self.scheduler.map_outputs(shuffle)[1][partition]
            tid = output.tid if output is not None else self.tid(shuffle, partition)
        reader = self.tid(*attempt)
        return self.tell(FetchFailed(*self.where[reader], reader, shuffle, partition, tid, "lost", others))

    def returned(self, *tids: int) -> Bench:
        return self.tell(TasksReturned(*self.where[tids[0]], list(tids)))

    def commit(self, tid: int) -> bool:
        self.tell(CommitRequested(*self.where[tid], tid))
        (answer,) = [command for command in self.said if type(command).__name__ == "AnswerCommit"]
        return bool(answer.granted)

    def barrier(self, tid: int, round: int, message: str = "") -> Bench:
        return self.tell(BarrierReached(*self.where[tid], tid, round, message))

    def cached(self, name: str, *blocks: tuple[int, int], scope: str = "worker") -> Bench:
        return self.tell(BlocksChanged(name, self.epochs[name], blocks, (), scope))

    def wait(self, seconds: float) -> Bench:
        """Time passes; every deadline in it is kept.  ``said`` is all that was said meanwhile."""
        until, before = self.now + seconds, len(self.all)
        while (deadline := self.scheduler.next_deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.tell(DeadlineReached())
        self.now = until
        self.said = self.all[before:]
        return self

    def run(self, limit: int = 10_000) -> Bench:
        """All attempts succeed, in the order in which they were launched, until none is left."""
        for _ in range(limit):
            under_way = sorted(self.scheduler._fleet.attempts)
            if not under_way:
                return self
            self.succeed(under_way[0])
        raise AssertionError("it goes on and on")


def failed(bench: Bench, job: int, kind: FailureKind) -> JobFailure:
    """The job's failure, which must be of this kind."""
    failure = bench.outcome(job)
    assert isinstance(failure, JobFailure) and failure.kind is kind, failure
    return failure
