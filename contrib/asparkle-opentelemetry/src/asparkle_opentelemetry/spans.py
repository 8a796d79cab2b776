"""Spans of jobs, stages and task attempts, made from events."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from asparkle.events import (
    ApplicationStarted,
    Event,
    JobEnded,
    JobStarted,
    StageCompleted,
    StageSubmitted,
    TaskEnded,
    TaskMetrics,
    TaskStarted,
)
from asparkle_opentelemetry.submission import PARENT, given, taking_ids
from asparkle_opentelemetry.tasks import attempt_id, span_context

FAILURES = {"failed", "fetch failed", "executor lost"}
"""Outcomes of attempts whose spans have the status error; one that was killed was not wanted any more."""


_METRICS = [(field.name, f"asparkle.task.{field.name}") for field in dataclasses.fields(TaskMetrics)]


class _Job(NamedTuple):
    span: Span
    context: SpanContext  # as its tasks were told
    number: int
    stages: tuple[int, ...]
    tracer: Tracer
    clock: int  # nanoseconds to add to an event's time, to have it since the epoch

    def at(self, event: Event) -> int:
        return int(event.time * 1e9) + self.clock


class _Stage(NamedTuple):
    span: Span
    job: _Job
    start: int


class _Task(NamedTuple):
    """An attempt that runs: it has a span when it has ended, as only then is known whether it has run at all."""

    event: TaskStarted
    stage: _Stage


class Spans:
    """One context's.  ``tracer``: gives the tracer, at each job's start.

    A stage that several jobs need is a child of the first of them that runs.  What a listener hears of that began
    before it was there has no span.
    """

    TAKES: ClassVar[dict[type, str]] = {
        ApplicationStarted: "application_started",
        JobStarted: "job_started",
        JobEnded: "job_ended",
        StageSubmitted: "stage_submitted",
        StageCompleted: "stage_completed",
        TaskStarted: "task_started",
        TaskEnded: "task_ended",
    }

    def __init__(self, tracer: Callable[[], Tracer]) -> None:
        self._tracer = tracer
        self._application: dict[str, AttributeValue] = {}
        self._jobs: dict[int, _Job] = {}
        self._jobs_of: dict[int, list[_Job]] = {}  # by stage, in the order of their start
        self._stages: dict[tuple[int, int], _Stage] = {}
        self._tasks: dict[int, _Task] = {}

    def application_started(self, event: ApplicationStarted) -> None:
        self._application = {
            "asparkle.application.id": event.application,
            "asparkle.application.name": event.name,
            "asparkle.master": event.master,
        }

    def job_started(self, event: JobStarted) -> None:
        own = span_context(event.properties)
        tracer = taking_ids(self._tracer())
        attributes = {
            "asparkle.job.id": event.job,
            "asparkle.job.description": event.name,
            "asparkle.job.group": event.group or "",
            "asparkle.job.tags": event.tags,
            "asparkle.job.pool": event.pool,
            "asparkle.job.stages": len(event.stages),
            "asparkle.job.partitions": event.partitions,
        }
        name = f"job {event.name}" if event.name else "job"
        parent = _parent(own, event.properties.get(PARENT))
        with given(own):
            start = int(event.time * 1e9) + (clock := _clock())
            span = tracer.start_span(name, parent, attributes=self._shown(attributes), start_time=start)
        context = own if own.is_valid else span.get_span_context()
        job = _Job(span, context, event.job, tuple(stage.stage for stage in event.stages), tracer, clock)
        self._jobs[event.job] = job
        for stage in job.stages:
            self._jobs_of.setdefault(stage, []).append(job)

    def job_ended(self, event: JobEnded) -> None:
        job = self._jobs.pop(event.job, None)
        if job is None:
            return
        for stage in job.stages:
            self._jobs_of[stage].remove(job)
            if not self._jobs_of[stage]:
                del self._jobs_of[stage]
        job.span.set_attribute("asparkle.job.outcome", event.failure or "success")
        _end(job.span, job.at(event), event.reason if event.failure else "")

    def stage_submitted(self, event: StageSubmitted) -> None:
        jobs = self._jobs_of.get(event.stage)
        if not jobs or not jobs[0].span.is_recording():  # its trace is not sampled, or nobody wants any
            return
        job = jobs[0]
        attributes = {
            "asparkle.job.id": job.number,
            "asparkle.stage.id": event.stage,
            "asparkle.stage.attempt": event.attempt,
            "asparkle.stage.name": event.name,
            "asparkle.stage.tasks": event.tasks,
        }
        start = job.at(event)
        span = _child(job, job.span, f"stage {event.name}", self._shown(attributes), start)
        self._stages[event.stage, event.attempt] = _Stage(span, job, start)

    def stage_completed(self, event: StageCompleted) -> None:
        stage = self._stages.pop((event.stage, event.attempt), None)
        if stage is not None:
            stage.span.set_attribute("asparkle.stage.outcome", "failed" if event.error else "success")
            _end(stage.span, stage.job.at(event), event.error)

    def task_started(self, event: TaskStarted) -> None:
        stage = self._stages.get((event.stage, event.stage_attempt))
        if stage is not None:
            self._tasks[event.tid] = _Task(event, stage)

    def task_ended(self, event: TaskEnded) -> None:
        task = self._tasks.pop(event.tid, None)
        if task is None or event.outcome == "returned":  # it has not begun after all
            return
        at, failed = task.stage.job.at(event), event.outcome in FAILURES
        more: dict[str, AttributeValue] = {"asparkle.task.outcome": event.outcome}
        if event.seconds:
            more["asparkle.task.seconds"] = event.seconds
        if event.metrics is not None:
            more |= {key: value for name, key in _METRICS if (value := getattr(event.metrics, name))}
        seconds = max(event.seconds, event.metrics.run_seconds if event.metrics is not None else 0.0)
        span = self._task_span(task, at - int(seconds * 1e9), more)
        if failed and event.error:
            kind, _, message = event.error.partition(": ")
            span.add_event("exception", {"exception.type": kind, "exception.message": message}, at)
        _end(span, at, (event.error or event.outcome) if failed else "")

    def _task_span(self, task: _Task, latest: int, more: Mapping[str, AttributeValue]) -> Span:
        """``latest``: it has begun by then.  The driver may have heard of it later than that."""
        event, stage, job = task.event, task.stage, task.stage.job
        attributes = {
            "asparkle.job.id": job.number,
            "asparkle.stage.id": event.stage,
            "asparkle.stage.attempt": event.stage_attempt,
            "asparkle.task.id": event.tid,
            "asparkle.task.partition": event.partition,
            "asparkle.task.attempt": event.attempt,
            "asparkle.task.locality": event.locality,
            "asparkle.task.speculative": event.speculative,
            "asparkle.executor.id": event.executor,
            "asparkle.executor.host": event.host,
            **more,
        }
        start = max(stage.start, min(job.at(event), latest))
        with given(SpanContext(job.context.trace_id, attempt_id(job.context, event.tid), False)):
            return _child(job, stage.span, "task", attributes, start)

    def close(self) -> None:
        """What has not ended ends now: the context was stopped meanwhile."""
        now = time.time_ns()
        spans = [self._task_span(task, now, {}) for task in self._tasks.values()]
        spans += [stage.span for stage in self._stages.values()] + [job.span for job in self._jobs.values()]
        for span in spans:
            _end(span, now, "the context was stopped")
        self._tasks, self._stages, self._jobs, self._jobs_of = {}, {}, {}, {}

    def _shown(self, attributes: dict[str, Any]) -> dict[str, AttributeValue]:
        """With those of the application, and without those that say nothing."""
        return self._application | {key: value for key, value in attributes.items() if value not in ("", ())}


def _parent(own: SpanContext, identity: str | None) -> Context:
    """The context of the caller's span; an empty one where there is none."""
    span = int(identity or "0", 16)
    if not span:
        return Context()
    caller = SpanContext(own.trace_id, span, False, own.trace_flags, own.trace_state)
    return trace.set_span_in_context(NonRecordingSpan(caller), Context())


def _child(job: _Job, parent: Span, name: str, attributes: Mapping[str, AttributeValue], start: int) -> Span:
    context = trace.set_span_in_context(parent, Context())
    return job.tracer.start_span(name, context, attributes=attributes, start_time=start)


def _end(span: Span, at: int, error: str) -> None:
    if error:
        span.set_status(Status(StatusCode.ERROR, error))
    span.end(at)


def _clock() -> int:
    """The wall clock less the clock of events, in nanoseconds.

    Read anew for each job, as clocks that are set drift apart; and three times, as a thread may have to wait between
    two readings: the quickest counts.
    """
    readings = []
    for _ in range(3):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        readings.append((after - before, wall - (before + after) // 2))
    return min(readings)[1]
