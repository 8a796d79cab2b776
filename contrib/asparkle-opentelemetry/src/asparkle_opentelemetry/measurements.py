"""Counters and histograms, fed by events."""

from __future__ import annotations

from typing import ClassVar

from opentelemetry.metrics import Meter

from asparkle.events import (
    ApplicationStarted,
    ExecutorAdded,
    ExecutorRemoved,
    JobEnded,
    JobStarted,
    StageCompleted,
    StageSubmitted,
    TaskEnded,
)

_BYTES = {
    "input": "input_bytes",
    "output": "output_bytes",
    "shuffle read": "shuffle_read_bytes",
    "shuffle write": "shuffle_write_bytes",
    "result": "result_bytes",
    "spill": "spilled_bytes",
}
_RECORDS = {
    "input": "input_records",
    "output": "output_records",
    "shuffle read": "shuffle_read_records",
    "shuffle write": "shuffle_write_records",
}


class Measurements:
    """One context's.  The application's name is an attribute of all."""

    TAKES: ClassVar[dict[type, str]] = {
        ApplicationStarted: "application_started",
        JobStarted: "job_started",
        JobEnded: "job_ended",
        StageSubmitted: "stage_submitted",
        StageCompleted: "stage_completed",
        TaskEnded: "task_ended",
        ExecutorAdded: "executor_added",
        ExecutorRemoved: "executor_removed",
    }

    def __init__(self, meter: Meter) -> None:
        self._application = ""
        self._begun: dict[object, float] = {}  # jobs and stages: when
        self._jobs = meter.create_counter("asparkle.jobs", "{job}", "Jobs that have ended, by outcome")
        self._job_time = meter.create_histogram("asparkle.job.duration", "s", "From a job's start to its end")
        self._stage_time = meter.create_histogram("asparkle.stage.duration", "s", "From a stage's start to its end")
        self._tasks = meter.create_counter("asparkle.tasks", "{attempt}", "Task attempts that have ended, by outcome")
        self._task_time = meter.create_histogram("asparkle.task.duration", "s", "What attempts took in their worker")
        self._bytes = meter.create_counter("asparkle.task.io", "By", "Bytes that attempts read and wrote, by kind")
        self._records = meter.create_counter("asparkle.task.records", "{record}", "Records, likewise")
        self._executors = meter.create_up_down_counter("asparkle.executors", "{executor}", "Executors that there are")

    def _with(self, **attributes: str) -> dict[str, str]:
        return {"asparkle.application.name": self._application, **attributes}

    def application_started(self, event: ApplicationStarted) -> None:
        self._application = event.name

    def job_started(self, event: JobStarted) -> None:
        self._begun[event.job] = event.time

    def job_ended(self, event: JobEnded) -> None:
        attributes = self._with(outcome=event.failure or "success")
        self._jobs.add(1, attributes)
        self._job_time.record(event.time - self._begun.pop(event.job, event.time), attributes)

    def stage_submitted(self, event: StageSubmitted) -> None:
        self._begun[event.stage, event.attempt] = event.time

    def stage_completed(self, event: StageCompleted) -> None:
        attributes = self._with(outcome="failed" if event.error else "success")
        begun = self._begun.pop((event.stage, event.attempt), event.time)
        self._stage_time.record(event.time - begun, attributes)

    def task_ended(self, event: TaskEnded) -> None:
        attributes = self._with(outcome=event.outcome)
        self._tasks.add(1, attributes)
        seconds = event.seconds or (event.metrics.run_seconds if event.metrics is not None else 0.0)
        if seconds:
            self._task_time.record(seconds, attributes)
        for counter, kinds in ((self._bytes, _BYTES), (self._records, _RECORDS)):
            for kind, field in kinds.items():
                if amount := getattr(event.metrics, field, 0):
                    counter.add(amount, self._with(kind=kind))

    def executor_added(self, event: ExecutorAdded) -> None:
        self._executors.add(1, self._with())

    def executor_removed(self, event: ExecutorRemoved) -> None:
        self._executors.add(-1, self._with())
