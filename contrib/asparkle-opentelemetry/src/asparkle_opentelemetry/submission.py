"""Where a job is submitted: which trace it belongs to, told to its tasks and to the listener by its properties.

The job's span is made later, from events; its id is chosen here, so that tasks know it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider as SdkProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import SpanContext, TraceFlags, Tracer, TracerProvider

from asparkle_opentelemetry.settings import Export
from asparkle_opentelemetry.tasks import EXPORT, TRACEPARENT, TRACESTATE, span_context

PARENT = "asparkle.opentelemetry.parent"
"""The property of a job that has the id of the span in which it was submitted; zeros for none."""

_given: ContextVar[tuple[int, int] | None] = ContextVar("asparkle_opentelemetry_ids", default=None)


class JobTraces:
    """Called with a job's properties; returns those to add.

    The trace is that of the caller's current span, else of the ``traceparent`` that the job has as a local property
    (what a message from a queue brought along), else a new one.
    """

    def __init__(self, tracer_provider: TracerProvider | None, export: Export | None) -> None:
        self._tracer_provider = tracer_provider
        self._export = export if tracer_provider is None else None
        self._more = {EXPORT: export.as_text()} if export is not None else {}

    def __call__(self, properties: Mapping[str, str]) -> Mapping[str, str]:
        caller = trace.get_current_span().get_span_context()
        if not caller.is_valid:
            caller = span_context(properties)
        if caller.is_valid:
            trace_id, flags, state = caller.trace_id, int(caller.trace_flags), caller.trace_state.to_header()
        else:
            trace_id = self._ids.generate_trace_id()
            flags, state = self._flags_of(trace_id), ""
        found = {
            TRACEPARENT: f"00-{trace_id:032x}-{self._ids.generate_span_id():016x}-{flags:02x}",
            PARENT: f"{caller.span_id:016x}",
            **self._more,
        }
        return found | {TRACESTATE: state} if state else found

    @cached_property
    def _own(self) -> SdkProvider:
        """Samples as the listener's own provider will."""
        return SdkProvider(shutdown_on_exit=False)

    @property
    def _provider(self) -> TracerProvider:
        if self._export is not None:
            return self._own
        return self._tracer_provider or trace.get_tracer_provider()

    @property
    def _ids(self) -> IdGenerator:
        found = getattr(self._provider, "id_generator", None)
        return found if isinstance(found, IdGenerator) else _RANDOM

    def _flags_of(self, trace_id: int) -> int:
        sampler = getattr(self._provider, "sampler", None)
        sampled = sampler is None or sampler.should_sample(None, trace_id, "job").decision.is_sampled()
        return TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT


_RANDOM = RandomIdGenerator()


class GivenIds(IdGenerator):
    """The ids that are `given` where a span is made, else those of ``others``."""

    def __init__(self, others: IdGenerator) -> None:
        self._others = others

    def generate_span_id(self) -> int:
        ids = _given.get()
        return self._others.generate_span_id() if ids is None else ids[1]

    def generate_trace_id(self) -> int:
        ids = _given.get()
        return self._others.generate_trace_id() if ids is None else ids[0]

    def is_trace_id_random(self) -> bool:
        return bool(getattr(self._others, "is_trace_id_random", bool)())


@contextmanager
def given(span: SpanContext) -> Iterator[None]:
    """A span that is made inside, by a tracer that is `taking_ids`, has the ids of ``span``, if these are valid."""
    token = _given.set((span.trace_id, span.span_id) if span.is_valid else None)
    try:
        yield
    finally:
        _given.reset(token)


def taking_ids(tracer: Tracer) -> Tracer:
    """``tracer``, which is ours alone, made to take `given` ids.  One that is not the SDK's keeps its own ways."""
    ids = getattr(tracer, "id_generator", None)
    if isinstance(ids, IdGenerator) and not isinstance(ids, GivenIds):
        tracer.id_generator = GivenIds(ids)  # type: ignore[attr-defined]
    return tracer
