"""What is configured: where to export to, if the plugin is to export by itself."""

from __future__ import annotations

import json
import os
import socket
from importlib.util import find_spec
from typing import Any, NamedTuple

from asparkle import SparkConf
from asparkle.errors import ConfigurationError
from asparkle.plugins import ConfigKey

_EXPORTERS = {"http": "opentelemetry.exporter.otlp.proto.http", "grpc": "opentelemetry.exporter.otlp.proto.grpc"}


def _url(text: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise ValueError(text)
    return text.rstrip("/")


def _protocol(text: str) -> str:
    if text not in _EXPORTERS:
        raise ValueError(text)
    return text


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 3600:
        raise ValueError(text)
    return seconds


ENDPOINT = ConfigKey(
    "asparkle.opentelemetry.endpoint",
    "URL",
    "a URL, such as http://localhost:4318",
    _url,
    "",
    "An OTLP receiver to export spans and metrics to; not set: they go through the program's own providers.",
)
PROTOCOL = ConfigKey(
    "asparkle.opentelemetry.protocol",
    "http or grpc",
    "http or grpc",
    _protocol,
    "http",
    "How: protobuf over HTTP, or gRPC.",
)
TIMEOUT = ConfigKey(
    "asparkle.opentelemetry.timeout",
    "seconds",
    "a positive number of seconds, such as 2",
    _seconds,
    "2",
    "How long a request may take, and the end of a context waits for what is not exported yet.",
)
KEYS: list[ConfigKey[Any]] = [ENDPOINT, PROTOCOL, TIMEOUT]


class Export(NamedTuple):
    """``endpoint``: a URL without a path for a signal.  ``timeout``: seconds that a request may take, and that the end
    of a context waits for what is not exported yet."""

    endpoint: str
    protocol: str
    timeout: float
    service: str
    driver: str
    """The process in which the context lives."""

    def as_text(self) -> str:
        """For a job's properties, by which workers learn of it."""
        return json.dumps(self)

    @classmethod
    def from_text(cls, text: str) -> Export:
        fields: list[Any] = json.loads(text)
        return cls(*fields)


def this_process() -> str:
    """A name that no other process has, on this host or another."""
    return f"{socket.gethostname()}:{os.getpid()}"


def read_export(conf: SparkConf) -> Export | None:
    """Where ``asparkle.opentelemetry.*`` says to export to; None without an endpoint.

    Raises ConfigurationError for a bad value, and an exporter that is not installed.
    """
    endpoint, protocol = ENDPOINT.read(conf), PROTOCOL.read(conf)
    if not endpoint:
        return None
    if not _is_installed(_EXPORTERS[protocol]):
        raise ConfigurationError(
            f"{PROTOCOL.name} = {protocol}: its exporter is not installed: "
            f"pip install 'asparkle-opentelemetry[{protocol}]'"
        )
    return Export(endpoint, protocol, TIMEOUT.read(conf), conf.get("spark.app.name", "asparkle"), this_process())


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it is not there
        return False
