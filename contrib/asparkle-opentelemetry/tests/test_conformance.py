"""The listener keeps the promises of its contract: asparkle's own tests of any listener."""

from __future__ import annotations

import socket

from asparkle_opentelemetry import OpenTelemetryListener
from asparkle_opentelemetry.settings import ENDPOINT, PROTOCOL, TIMEOUT, read_export
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from asparkle import SparkConf
from asparkle.testing import ListenerConformance


class TestWithoutProviders(ListenerConformance):
    def make(self):
        return OpenTelemetryListener()


class TestWithTheProgramsProviders(ListenerConformance):
    @classmethod
    def setup_class(cls):
        cls.tracers, cls.meters = TracerProvider(), MeterProvider([InMemoryMetricReader()])
        cls.tracers.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))

    @classmethod
    def teardown_class(cls):
        cls.tracers.shutdown()
        cls.meters.shutdown()

    def make(self):
        return OpenTelemetryListener(tracer_provider=self.tracers, meter_provider=self.meters)


class Exports(ListenerConformance):
    """By itself, to where connections are refused."""

    protocol = ""

    @classmethod
    def setup_class(cls):
        cls.nobody = socket.socket()
        cls.nobody.bind(("127.0.0.1", 0))

    @classmethod
    def teardown_class(cls):
        cls.nobody.close()

    def make(self):
        port = self.nobody.getsockname()[1]
        conf = SparkConf().set(ENDPOINT.name, f"http://127.0.0.1:{port}").set(PROTOCOL.name, self.protocol)
        return OpenTelemetryListener(export=read_export(conf.set(TIMEOUT.name, "0.5")))


class TestExportsOverHttp(Exports):
    protocol = "http"


class TestExportsOverGrpc(Exports):
    protocol = "grpc"
