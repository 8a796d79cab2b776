"""What is known of an application's jobs, those that have ended included: for the status tracker and for handles.

A record costs a job two look-ups at its beginning and a few small tuples at its end; nothing is counted for each
task that the scheduler does not count for itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from asparkle.core.namedtuple import NamedTuple
from asparkle.core.scheduler.views import StageView

if TYPE_CHECKING:
    from asparkle.core.jobs import JobOptions
    from asparkle.core.scheduler import Scheduler
    from asparkle.core.scheduler.records import Job

RETAINED: Final = 1000  # records of ended jobs, as many as Spark's UI retains

RUNNING, SUCCEEDED, FAILED = "RUNNING", "SUCCEEDED", "FAILED"


class JobProgress(NamedTuple):
    """How far an action is: of the jobs that it has submitted so far, and of these jobs' tasks.

    ``tasks`` grows when the action submits another job.
    """

    jobs: int
    tasks: int
    completed: int
    running: int
    failed: int  # attempts; those that were tried again with success included


class JobMetrics(NamedTuple):
    """What an action took so far."""

    seconds: float  # since it was submitted, until its end
    task_seconds: float  # in all tasks that succeeded
    jobs: int
    tasks: int  # that succeeded
    failed_tasks: int  # attempts
    result_bytes: int  # as tasks returned them; 0 where they are not copied


class JobRecord:
    """One job."""

    __slots__ = ("_final", "_live", "ended", "group", "id", "result_bytes", "started", "status")

    def __init__(self, identity: int, group: str | None, live: Job | None, known: tuple[StageView, ...]) -> None:
        self.id = identity
        self.group = group
        self.status = RUNNING
        self.started = time.monotonic()
        self.ended: float | None = None
        self.result_bytes = 0
        self._live = live
        self._final = known

    def end(self, succeeded: bool, result_bytes: int) -> None:
        """The job is over."""
        if self.status == RUNNING:
            self._final, self._live = self.stages(), None
            self.status = SUCCEEDED if succeeded else FAILED
            self.ended = time.monotonic()
            self.result_bytes = result_bytes

    def stages(self) -> tuple[StageView, ...]:
        """Its stages, parents first, as they are now or were at its end."""
        if self._live is None:
            return self._final
        return tuple(StageView.of(stage, self._live) for stage in self._live.stages)


class JobRecords:
    """The driver's; touched on the event loop only."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._records: dict[int, JobRecord] = {}

    @property
    def by_id(self) -> Mapping[int, JobRecord]:
        return self._records

    def submitted(self, job: int, options: JobOptions) -> None:
        """The scheduler has been told of the job."""
        record = JobRecord(job, options.group, self._scheduler.job(job), ())
        self._records[job] = record
        if options.submission is not None:
            options.submission.append(record)
        if len(self._records) > RETAINED:
            self._drop_one()

    def _drop_one(self) -> None:
        for job, record in self._records.items():  # the oldest first
            if record.status != RUNNING:
                del self._records[job]
                return

    def ended(self, job: int, error: BaseException | None, result_bytes: int) -> None:
        record = self._records.get(job)
        if record is not None:
            record.end(error is None, result_bytes)

    def stage(self, stage: int) -> StageView | None:
        """A stage as the latest job that has it knows it."""
        for record in reversed(self._records.values()):
            for view in record.stages():
                if view.stage == stage:
                    return view
        return None


def progress_of(records: Iterable[JobRecord]) -> JobProgress:
    jobs = tasks = completed = running = failed = 0
    for record in records:
        jobs += 1
        for view in record.stages():
            tasks += view.tasks
            completed += view.completed
            running += view.running if record.status == RUNNING else 0
            failed += view.failures
    return JobProgress(jobs, tasks, completed, running, failed)


def metrics_of(records: Iterable[JobRecord], seconds: float) -> JobMetrics:
    records = list(records)
    views = [view for record in records for view in record.stages()]
    return JobMetrics(
        seconds,
        sum(view.seconds for view in views),
        len(records),
        sum(view.completed for view in views),
        sum(view.failures for view in views),
        sum(record.result_bytes for record in records),
    )
