"""What runs, and what has run, by numbers: PySpark's status tracker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from asparkle.core import arguments
from asparkle.core.jobrecords import RUNNING

if TYPE_CHECKING:
    from asparkle.core.driver import Driver


class SparkJobInfo(NamedTuple):
    """A job: ``status`` is RUNNING, SUCCEEDED or FAILED."""

    jobId: int
    stageIds: list[int]
    status: str


class SparkStageInfo(NamedTuple):
    """A stage.  Tasks of a shuffle that another job has written already count as completed."""

    stageId: int
    currentAttemptId: int
    name: str
    numTasks: int
    numActiveTasks: int
    numCompletedTasks: int
    numFailedTasks: int


class SparkExecutorInfo(NamedTuple):
    """An executor.  ``port``, ``cacheSize`` and the used memory are 0: workers don't report them."""

    host: str
    port: int
    cacheSize: int
    numRunningTasks: int
    usedOnHeapStorageMemory: int
    usedOffHeapStorageMemory: int
    totalOnHeapStorageMemory: int
    totalOffHeapStorageMemory: int


class StatusTracker:
    """Jobs, stages and executors of a context, as they are when a method is called.

    It knows the jobs that run and about the last thousand that have ended.  Its methods return at once, in both
    faces.  Made by `SparkContext.statusTracker`.
    """

    def __init__(self, driver: Driver, ask: Callable[..., Any]) -> None:
        self._driver = driver
        self._ask = ask  # calls a function where the driver lives

    def getJobIdsForGroup(self, jobGroup: str | None = None) -> list[int]:
        """The jobs of a group, the newest first; without one, those that are in none.

        >>> sc.setJobGroup("nightly", "what runs at night")
        >>> sc.parallelize([1]).count()
        1
        >>> sc.statusTracker().getJobIdsForGroup("nightly")
        [0]
        """
        if jobGroup is not None:
            arguments.text(jobGroup, "getJobIdsForGroup", "jobGroup")
        found: list[int] = self._ask(self._job_ids, jobGroup)
        return found

    def _job_ids(self, group: str | None) -> list[int]:
        return [record.id for record in self._driver.records.by_id.values() if record.group == group][::-1]

    def getActiveJobsIds(self) -> list[int]:
        """The jobs that run, in ascending order.

        >>> sc.statusTracker().getActiveJobsIds()
        []
        """
        found: list[int] = self._ask(
            lambda: sorted(record.id for record in self._driver.records.by_id.values() if record.status == RUNNING)
        )
        return found

    def getActiveStageIds(self) -> list[int]:
        """The stages that have tasks to run now, in ascending order.

        >>> sc.statusTracker().getActiveStageIds()
        []
        """
        found: list[int] = self._ask(
            lambda: sorted(view.stage for view in self._driver.scheduler.stages() if view.state == "active")
        )
        return found

    def getJobInfo(self, jobId: int) -> SparkJobInfo | None:
        """A job; None if it is not known, or not any more.

        >>> sc.parallelize([1]).count()
        1
        >>> sc.statusTracker().getJobInfo(0)
        SparkJobInfo(jobId=0, stageIds=[...], status='SUCCEEDED')
        """
        found: SparkJobInfo | None = self._ask(self._job_info, jobId)
        return found

    def _job_info(self, job: int) -> SparkJobInfo | None:
        record = self._driver.records.by_id.get(job)
        if record is None:
            return None
        return SparkJobInfo(record.id, [view.stage for view in record.stages()], record.status)

    def getStageInfo(self, stageId: int) -> SparkStageInfo | None:
        """A stage; None if no job that is known has it.

        >>> sc.parallelize(range(9), 3).count()
        9
        >>> tracker = sc.statusTracker()
        >>> stage, = tracker.getJobInfo(0).stageIds
        >>> tracker.getStageInfo(stage).numCompletedTasks
        3
        """
        found: SparkStageInfo | None = self._ask(self._stage_info, stageId)
        return found

    def _stage_info(self, stage: int) -> SparkStageInfo | None:
        view = self._driver.records.stage(stage)
        if view is None:
            return None
        counts = (view.tasks, view.running, view.completed, view.failures)
        return SparkStageInfo(view.stage, max(view.attempt, 0), view.name, *counts)

    def getExecutorInfos(self) -> list[SparkExecutorInfo]:
        """The executors that are alive.

        >>> [executor.numRunningTasks for executor in sc.statusTracker().getExecutorInfos()]
        [0]
        """
        found: list[SparkExecutorInfo] = self._ask(self._executor_infos)
        return found

    def _executor_infos(self) -> list[SparkExecutorInfo]:
        memory = self._driver.app.storage_memory
        return [
            SparkExecutorInfo(view.host, 0, 0, len(view.running), 0, 0, memory, 0)
            for view in self._driver.scheduler.executors()
        ]
