"""In workers: the trace of the job that a task belongs to, for the code that the task calls.

The job's properties bring it there as W3C ``traceparent``, which names the job's span.  The span of a task attempt is
made in the driver, from events, when the attempt has long begun; so that spans made in the attempt can be its
children, its id is not random: it derives from the job's span and the attempt's number, here as there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from asparkle import TaskContext

if TYPE_CHECKING:
    from asparkle_opentelemetry.export import WorkerExport

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
EXPORT = "asparkle.opentelemetry.export"
"""The property of a job that says where its context exports to, if it does by itself."""
SCOPE = "asparkle"
"""The instrumentation scope of all spans and metrics."""

_propagator = TraceContextTextMapPropagator()
_lock = threading.Lock()
_exports: dict[str, WorkerExport] = {}
"""In a worker's process: by what `EXPORT` says."""
in_driver: dict[str, list[Callable[[], TracerProvider]]] = {}
"""In the driver's process: what gives the providers of the contexts that are open, likewise; for tasks on threads."""


def span_context(properties: Mapping[str, str]) -> SpanContext:
    """The span that properties name as ``traceparent``; not valid where they name none."""
    return _parsed(properties.get(TRACEPARENT), properties.get(TRACESTATE))


@lru_cache(64)
def _parsed(traceparent: str | None, tracestate: str | None) -> SpanContext:
    carrier = {TRACEPARENT: traceparent or "", TRACESTATE: tracestate or ""}
    return trace.get_current_span(_propagator.extract(carrier, Context())).get_span_context()


def attempt_id(job: SpanContext, tid: int) -> int:
    """The id of the span of a task attempt."""
    digest = sha256(f"{job.trace_id:032x}-{job.span_id:016x}-{tid}".encode()).digest()
    return int.from_bytes(digest[:8], "big") or 1


def current_context() -> Context:
    """The OpenTelemetry context here; in a task it has the attempt's span for its current one, if no other is.

    For what takes a context, or headers: ``propagate.inject(headers, current_context())``.
    """
    task = TaskContext.get()
    return context.get_current() if task is None else _context_of(task)


def _context_of(task: TaskContext) -> Context:
    job = _parsed(task.getLocalProperty(TRACEPARENT), task.getLocalProperty(TRACESTATE))
    here = trace.get_current_span().get_span_context()
    if not job.is_valid or here.trace_id == job.trace_id:
        return context.get_current()
    identity = attempt_id(job, task.taskAttemptId())
    attempt = SpanContext(job.trace_id, identity, True, job.trace_flags, job.trace_state)
    return trace.set_span_in_context(NonRecordingSpan(attempt))


@contextmanager
def task_span(name: str, attributes: Mapping[str, AttributeValue] | None = None) -> Iterator[Span]:
    """``with task_span("fetch"):`` is a span of what runs inside, a child of the attempt's, or of the current one.

    It is exported where the context exports to (``asparkle.opentelemetry.endpoint``), else through this process's
    global tracer provider.  An exception is recorded.  Does no harm outside tasks, and in contexts without traces.
    """
    tracer = _provider().get_tracer(SCOPE)
    with tracer.start_as_current_span(name, current_context(), attributes=attributes) as span:
        yield span


@contextmanager
def task_scope(task: TaskContext) -> Iterator[None]:
    """What the plugin surrounds attempts with: their context is current; afterwards their spans are on their way."""
    export = _export(task)
    token = context.attach(_context_of(task))
    try:
        yield
    finally:
        context.detach(token)
        if export is not None:
            export.flush()


def _provider() -> TracerProvider:
    task = TaskContext.get()
    text = task.getLocalProperty(EXPORT) if task is not None else None
    if task is None or text is None:
        return trace.get_tracer_provider()
    export = _export(task)
    if export is not None:
        return export.provider
    here = in_driver.get(text)
    return here[-1]() if here else trace.get_tracer_provider()


def _export(task: TaskContext) -> WorkerExport | None:
    """This worker's own; None where there is nothing to export to, and in the driver's process."""
    text = task.getLocalProperty(EXPORT)
    if text is None:
        return None
    with _lock:
        if text not in _exports:
            from asparkle_opentelemetry.settings import Export, this_process

            export = Export.from_text(text)
            if export.driver == this_process():
                return None
            from asparkle_opentelemetry.export import WorkerExport

            _exports[text] = WorkerExport(export)
            if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # nobody has set one
                trace.set_tracer_provider(_WhenAsked(_exports[text]))
        return _exports[text]


class _WhenAsked(TracerProvider):
    """A worker's global provider, so that instrumented libraries export, too: made when somebody wants a tracer."""

    def __init__(self, export: WorkerExport) -> None:
        self._export = export

    def get_tracer(self, *arguments: Any, **keywords: Any) -> trace.Tracer:
        return self._export.provider.get_tracer(*arguments, **keywords)
