"""Tells the bus what happens.  Called only while somebody listens; the event types are imported then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asparkle.core.scheduler.records import Attempt, Executor, Job, Stage
from asparkle.core.scheduler.tasksets import FAR, NEAR, TaskSet
from asparkle.core.scheduler.turn import Turn

if TYPE_CHECKING:
    from asparkle.core.events import TaskMetrics
    from asparkle.core.scheduler.messages import BlocksChanged, JobFailure

LOCALITY = {NEAR: "near", FAR: "far"}


class Announcer:
    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def job_started(self, job: Job) -> None:
        from asparkle.core.events import JobStarted, StageInfo

        spec = job.spec
        stages = tuple(
            StageInfo(s.stage, s.tasks, s.name, s.shuffle, s.parents, s.rdds)  # type: ignore[arg-type]
            for s in spec.stages
        )
        tags, properties = tuple(sorted(spec.tags)), dict(spec.properties)
        where = (spec.pool, spec.group, tags, properties)
        self._turn.emit(JobStarted(self._turn.now, job.id, spec.name, stages, len(job.wanted), *where))

    def job_ended(self, job: Job, failure: JobFailure | None) -> None:
        from asparkle.core.events import JobEnded

        kind, reason = ("", "") if failure is None else (failure.kind.value, failure.reason)
        self._turn.emit(JobEnded(self._turn.now, job.id, kind, reason))

    def stage_submitted(self, stage: Stage, tasks: TaskSet) -> None:
        from asparkle.core.events import StageSubmitted

        self._turn.emit(StageSubmitted(self._turn.now, stage.id, stage.attempt, stage.spec.name, tasks.left))

    def stage_completed(self, stage: Stage, error: str) -> None:
        from asparkle.core.events import StageCompleted

        self._turn.emit(StageCompleted(self._turn.now, stage.id, stage.attempt, stage.spec.name, error))

    def task_started(self, attempt: Attempt) -> None:
        from asparkle.core.events import TaskStarted

        self._turn.emit(
            TaskStarted(
                self._turn.now,
                attempt.tid,
                attempt.stage.id,
                attempt.stage_attempt,
                attempt.partition,
                attempt.number,
                attempt.executor.name,
                attempt.executor.host.name,
                LOCALITY.get(attempt.luck, "any"),
                attempt.speculative,
            )
        )

    def task_ended(
        self,
        attempt: Attempt,
        outcome: str,
        seconds: float = 0.0,
        error: str = "",
        metrics: Sequence[float] | None = None,
        story: Sequence[str] = (),
        unread: tuple[int, ...] = (),
    ) -> None:
        """``story``: as in the scheduler's `TaskFailed`; ``unread``: as in the event."""
        from asparkle.core.events import TaskEnded

        self._turn.emit(
            TaskEnded(
                self._turn.now,
                attempt.tid,
                attempt.stage.id,
                attempt.stage_attempt,
                attempt.partition,
                attempt.number,
                attempt.executor.name,
                attempt.executor.host.name,
                outcome,
                seconds,
                error,
                None if metrics is None else _task_metrics(metrics),
                story[0] if story else "",
                story[2] if story else "",
                unread,
            )
        )

    def speculated(self, attempt: Attempt) -> None:
        from asparkle.core.events import SpeculativeTaskSubmitted

        self._turn.emit(SpeculativeTaskSubmitted(self._turn.now, attempt.tid, attempt.stage.id, attempt.partition))

    def executor_added(self, executor: Executor, labels: Mapping[str, str]) -> None:
        from asparkle.core.events import ExecutorAdded

        where = (executor.name, executor.epoch, executor.host.name)
        self._turn.emit(ExecutorAdded(self._turn.now, *where, executor.slots, dict(labels)))

    def executor_removed(self, executor: Executor, reason: str, released: bool) -> None:
        from asparkle.core.events import ExecutorRemoved

        self._turn.emit(
            ExecutorRemoved(self._turn.now, executor.name, executor.epoch, executor.host.name, reason, released)
        )

    def executor_excluded(self, executor: Executor, reason: str, failures: int) -> None:
        from asparkle.core.events import ExecutorExcluded

        self._turn.emit(ExecutorExcluded(self._turn.now, executor.name, executor.host.name, reason, failures))

    def executor_readmitted(self, executor: Executor) -> None:
        from asparkle.core.events import ExecutorReadmitted

        self._turn.emit(ExecutorReadmitted(self._turn.now, executor.name, executor.host.name))

    def blocks(self, executor: Executor, change: BlocksChanged) -> None:
        from asparkle.core.events import BlockUpdated

        where = (executor.name, executor.host.name, change.scope)
        for rdd, part in change.removed:
            self._turn.emit(BlockUpdated(self._turn.now, rdd, part, *where, False))
        for rdd, part in change.added:
            self._turn.emit(BlockUpdated(self._turn.now, rdd, part, *where, True, change.size))

    def shuffle_removed(self, shuffle: int) -> None:
        from asparkle.core.events import ShuffleRemoved

        self._turn.emit(ShuffleRemoved(self._turn.now, shuffle))

    def unpersisted(self, rdd: int) -> None:
        from asparkle.core.events import RddUnpersisted

        self._turn.emit(RddUnpersisted(self._turn.now, rdd))


def _task_metrics(metrics: Sequence[Any]) -> TaskMetrics:
    from asparkle.core.events import TaskMetrics

    values: list[Any] = [*metrics[:-1], tuple(map(tuple, metrics[-1]))]  # msgpack makes tuples lists
    return TaskMetrics(*values)
