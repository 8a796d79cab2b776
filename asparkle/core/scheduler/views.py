"""Read-only pictures of the machine's state, for a status page."""

from __future__ import annotations

from typing import Final

from asparkle.core.namedtuple import NamedTuple
from asparkle.core.scheduler.records import ACTIVE, IDLE, WAITING, Executor, Job, Stage

STATES: Final = {IDLE: "idle", WAITING: "waiting", ACTIVE: "active"}


class JobView(NamedTuple):
    job: int
    name: str
    pool: str
    group: str | None
    tags: frozenset[str]
    stages: tuple[int, ...]
    partitions: int
    left: int  # results not taken yet

    @classmethod
    def of(cls, job: Job) -> JobView:
        spec = job.spec
        stages = tuple(stage.id for stage in job.stages)
        return cls(job.id, spec.name, spec.pool, spec.group, spec.tags, stages, len(job.wanted), job.left)


class StageView(NamedTuple):
    stage: int
    name: str
    state: str  # 'idle', 'waiting' for a parent, or 'active'
    attempt: int  # -1: never started
    tasks: int  # of a result stage, those that its job wants
    completed: int
    pending: int
    running: int
    failures: int  # attempts that failed and were not killed
    seconds: float  # that its successful tasks took

    @classmethod
    def of(cls, stage: Stage, job: Job | None = None) -> StageView:
        """``job``: one that has the stage; any live one if not given."""
        job = job or next(iter(stage.jobs.values()), None)
        total, completed = stage.size, stage.size - stage.missing
        if job is not None and job.result is stage:
            total = len(job.wanted)
            completed = total - job.left
        head = (stage.id, stage.spec.name, STATES[stage.state], stage.attempt, total, completed)
        tasks = stage.tasks
        if tasks is None:
            return cls(*head, 0, 0, stage.failures, stage.seconds)
        return cls(*head, tasks.pending, tasks.running, stage.failures, stage.seconds)


class ExecutorView(NamedTuple):
    executor: str
    epoch: int
    host: str
    slots: int
    free: int
    running: tuple[int, ...]  # attempts that are presumed to run, killed ones that have not answered included
    queued: int  # sent ahead
    excluded: bool

    @classmethod
    def of(cls, executor: Executor) -> ExecutorView:
        free = max(0, executor.slots - len(executor.running))
        running = tuple(executor.running)
        return cls(
            executor.name,
            executor.epoch,
            executor.host.name,
            executor.slots,
            free,
            running,
            executor.queued,
            executor.excluded,
        )
