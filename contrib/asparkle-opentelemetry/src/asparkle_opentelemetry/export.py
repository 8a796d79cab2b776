"""Providers of our own, which export to an OTLP endpoint, and let nobody wait for it for long."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

    from asparkle_opentelemetry.settings import Export

QUEUE = 1 << 14  # spans that wait to be exported; more are dropped
PATIENCE = 0.2  # seconds that an attempt waits for its spans to be exported
IMPATIENCE = 30.0  # seconds that no attempt waits, once one has waited in vain


class DriverExport:
    """The tracer and meter provider of one context.  They and their threads are made when either is first asked for,
    by whichever thread; `close` ends them."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._lock = threading.Lock()

    @property
    def tracer_provider(self) -> TracerProvider:
        with self._lock:
            return self._made.tracer_provider

    @property
    def meter_provider(self) -> MeterProvider:
        with self._lock:
            return self._made.meter_provider

    @cached_property
    def _made(self) -> _Made:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        spans, metrics = _span_exporter(self._export), _metric_exporter(self._export)
        meter_provider = MeterProvider(
            [PeriodicExportingMetricReader(metrics)], _resource(self._export), shutdown_on_exit=False
        )
        return _Made(_tracer_provider(self._export, spans), spans, meter_provider, metrics)

    def close(self) -> None:
        """Export what is left, within the timeout, and end all threads; what takes longer is cut short and lost."""
        if "_made" not in self.__dict__:
            return
        made, timeout = self._made, self._export.timeout
        ends = [
            (_begin(made.tracer_provider.shutdown), made.spans),
            (_begin(made.meter_provider.shutdown), made.metrics),
        ]
        deadline = time.monotonic() + timeout
        for thread, exporter in ends:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                exporter.shutdown()  # no retries any more: only a request that is under way may still take its time
        for thread, _ in ends:
            thread.join(timeout)


class _Made(NamedTuple):
    """Providers, and their exporters."""

    tracer_provider: TracerProvider
    spans: Any
    meter_provider: MeterProvider
    metrics: Any


class WorkerExport:
    """A worker's tracer provider; made, and its exporter imported, when a span is to be made."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._fresh = False  # whether spans have ended since the last flush
        self._flushing: threading.Thread | None = None
        self._impatient_until = 0.0
        self._lock = threading.Lock()

    @property
    def provider(self) -> TracerProvider:
        with self._lock:
            return self._provider

    @cached_property
    def _provider(self) -> TracerProvider:
        from opentelemetry.sdk.trace import SpanProcessor

        worker = self

        class Notes(SpanProcessor):
            def on_end(self, span: ReadableSpan) -> None:
                worker._fresh = True

        provider = _tracer_provider(self._export, _span_exporter(self._export))
        provider.add_span_processor(Notes())
        return provider

    def flush(self) -> None:
        """An attempt has ended: export its spans, as the worker may end at any time.  Waits a moment at most."""
        if not self._fresh or (self._flushing is not None and self._flushing.is_alive()):
            return
        self._fresh = False
        self._flushing = _begin(self._provider.force_flush)
        if time.monotonic() >= self._impatient_until:
            self._flushing.join(PATIENCE)
            if self._flushing.is_alive():
                self._impatient_until = time.monotonic() + IMPATIENCE


def _begin(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, name="asparkle-opentelemetry", daemon=True)
    thread.start()
    return thread


def _tracer_provider(export: Export, exporter: Any) -> TracerProvider:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=_resource(export), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE))
    return provider


def _resource(export: Export) -> Resource:
    """Who exports: the application, unless OpenTelemetry's environment variables name a service."""
    from opentelemetry.sdk.resources import Resource

    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if named else {"service.name": export.service})


def _span_exporter(export: Export) -> Any:
    if export.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc

        return grpc.OTLPSpanExporter(export.endpoint, timeout=export.timeout)
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

    return http.OTLPSpanExporter(f"{export.endpoint}/v1/traces", timeout=export.timeout)


def _metric_exporter(export: Export) -> Any:
    if export.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc

        return grpc.OTLPMetricExporter(export.endpoint, timeout=export.timeout)
    from opentelemetry.exporter.otlp.proto.http import metric_exporter as http

    return http.OTLPMetricExporter(f"{export.endpoint}/v1/metrics", timeout=export.timeout)
