"""Receivers of OTLP, over HTTP and gRPC, which decode what they are sent as a collector does."""

from __future__ import annotations

import gzip
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc


class Received(NamedTuple):
    """A span as it was decoded; ids in hexadecimal."""

    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    error: str | None  # the status's message, if the status is error
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    service: str

    def encloses(self, other: Received) -> bool:
        return self.start <= other.start <= other.end <= self.end


class Receiver:
    """Keeps what it is sent."""

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self.spans: list[Received] = []
        self.metrics: dict[str, list[tuple[dict[str, Any], Any]]] = {}

    def take_spans(self, request: Any) -> None:
        for resource in request.resource_spans:
            service = plain(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                assert scope.scope.name in ("asparkle", "the request")
                self.spans += [decoded(span, service) for span in scope.spans]

    def take_metrics(self, request: Any) -> None:
        for resource in request.resource_metrics:
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points:
                    value = (point.count, point.sum) if kind == "histogram" else point.as_int
                    self.metrics.setdefault(metric.name, []).append((plain(point.attributes), value))

    def named(self, prefix: str) -> list[Received]:
        return sorted((span for span in self.spans if span.name.startswith(prefix)), key=lambda span: span.start)

    def one(self, prefix: str) -> Received:
        (span,) = self.named(prefix)
        return span

    def children(self, parent: Received) -> list[Received]:
        return sorted((span for span in self.spans if span.parent == parent.id), key=lambda span: span.start)

    def counted(self, name: str, **attributes: Any) -> Any:
        """The last value of a metric's series that has these attributes."""
        return next(v for has, v in reversed(self.metrics[name]) if attributes.items() <= has.items())


def plain(attributes: Any) -> dict[str, Any]:
    def value(any_value: Any) -> Any:
        kind = any_value.WhichOneof("value")
        found = getattr(any_value, kind)
        return [value(item) for item in found.values] if kind == "array_value" else found

    return {item.key: value(item.value) for item in attributes}


def decoded(span: Any, service: str) -> Received:
    return Received(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.message if span.status.code == 2 else None,
        plain(span.attributes),
        [(event.name, plain(event.attributes)) for event in span.events],
        service,
    )


class HttpReceiver(Receiver):
    def __init__(self) -> None:
        super().__init__("http")
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                if self.path == "/v1/traces":
                    receiver.take_spans(trace_pb2.ExportTraceServiceRequest.FromString(body))
                else:
                    assert self.path == "/v1/metrics"
                    receiver.take_metrics(metrics_pb2.ExportMetricsServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), name="receiver")
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


class GrpcReceiver(Receiver):
    def __init__(self) -> None:
        super().__init__("grpc")
        receiver = self

        class Traces(trace_grpc.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:
                receiver.take_spans(request)
                return trace_pb2.ExportTraceServiceResponse()

        class Metrics(metrics_grpc.MetricsServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:
                receiver.take_metrics(request)
                return metrics_pb2.ExportMetricsServiceResponse()

        self.server = grpc.server(futures.ThreadPoolExecutor(4, thread_name_prefix="receiver"))
        trace_grpc.add_TraceServiceServicer_to_server(Traces(), self.server)
        metrics_grpc.add_MetricsServiceServicer_to_server(Metrics(), self.server)
        self.endpoint = f"http://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def close(self) -> None:
        self.server.stop(None).wait()


@pytest.fixture(params=[HttpReceiver, GrpcReceiver], ids=["http", "grpc"])
def receiver(request):
    started = request.param()
    yield started
    started.close()


@pytest.fixture
def http_receiver():
    started = HttpReceiver()
    yield started
    started.close()
