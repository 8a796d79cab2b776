"""The plugin: a listener that makes spans and metrics, and what brings the trace to jobs and tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Tracer, TracerProvider

from asparkle import SparkConf
from asparkle.events import Event
from asparkle.plugins import ConfigKey, Listener, hookimpl
from asparkle_opentelemetry.export import DriverExport
from asparkle_opentelemetry.measurements import Measurements
from asparkle_opentelemetry.settings import KEYS, Export, read_export
from asparkle_opentelemetry.spans import Spans
from asparkle_opentelemetry.submission import JobTraces
from asparkle_opentelemetry.tasks import SCOPE, in_driver

ASPARKLE_API_VERSION = 1


class OpenTelemetry:
    """The plugin, for ``SparkContext(plugins=[OpenTelemetry(...)])``; may be given to several contexts.

    Spans go through ``tracer_provider``, metrics through ``meter_provider``; by default through providers of the
    context's own if ``asparkle.opentelemetry.endpoint`` is set, else through the global ones.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider

    @hookimpl
    def asparkle_configuration(self) -> Sequence[ConfigKey[Any]]:
        return KEYS

    @hookimpl
    def asparkle_listeners(self, conf: SparkConf) -> Sequence[Listener]:
        return [
            OpenTelemetryListener(
                tracer_provider=self._tracer_provider, meter_provider=self._meter_provider, export=read_export(conf)
            )
        ]

    @hookimpl
    def asparkle_job_properties(self, conf: SparkConf) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
        return JobTraces(self._tracer_provider, read_export(conf))

    @hookimpl
    def asparkle_task_scopes(self) -> Sequence[str]:
        return ["asparkle_opentelemetry.tasks:task_scope"]


plugin = OpenTelemetry()
"""What the entry point names."""


class OpenTelemetryListener(Listener):
    """Makes spans and metrics from events, in a thread of its own.

    Without the plugin's other parts (``sc.addListener(OpenTelemetryListener())``) jobs are traces of their own: where
    they were submitted nobody noted the caller's span.
    """

    name = "opentelemetry"
    events = tuple(dict.fromkeys((*Spans.TAKES, *Measurements.TAKES)))

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        export: Export | None = None,
    ) -> None:
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._export = export
        self._own: DriverExport | None = None
        if export is not None:
            self._own = DriverExport(export)
            in_driver.setdefault(export.as_text(), []).append(self._provider)
        self._spans = Spans(self._tracer)
        self._measurements: Measurements | None = None

    def on_event(self, event: Event) -> None:
        measurements = self._measurements or self._open()
        for part in (self._spans, measurements):
            if method := part.TAKES.get(type(event)):
                getattr(part, method)(event)

    def _open(self) -> Measurements:
        """With the first event: exporters take time to import, and this is not the event loop."""
        provider = self._meter_provider or (self._own and self._own.meter_provider) or metrics.get_meter_provider()
        self._measurements = Measurements(provider.get_meter(SCOPE))
        return self._measurements

    def _provider(self) -> TracerProvider:
        return self._tracer_provider or (self._own and self._own.tracer_provider) or trace.get_tracer_provider()

    def _tracer(self) -> Tracer:
        return self._provider().get_tracer(SCOPE)

    def close(self) -> None:
        """Spans that are open end; what the listener exports by itself is exported, and its threads end."""
        self._spans.close()
        if self._own is not None:
            assert self._export is not None
            in_driver[self._export.as_text()].remove(self._provider)
            self._own.close()
