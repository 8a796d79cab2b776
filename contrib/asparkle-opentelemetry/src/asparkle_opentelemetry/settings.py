"""What is configured: where to export to, if the plugin is to export by itself."""

from __future__ import annotations

import json
import os
import socket
from importlib.util import find_spec
from typing import Any, NamedTuple

from asparkle import SparkConf
from asparkle.errors import ConfigurationError

PREFIX = "asparkle.opentelemetry."
ENDPOINT, PROTOCOL, TIMEOUT = f"{PREFIX}endpoint", f"{PREFIX}protocol", f"{PREFIX}timeout"
_EXPORTERS = {"http": "opentelemetry.exporter.otlp.proto.http", "grpc": "opentelemetry.exporter.otlp.proto.grpc"}


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

    Raises ConfigurationError for a bad value, an unknown key, and an exporter that is not installed.
    """
    given = {key: value for key, value in conf.getAll() if key.startswith(PREFIX)}
    for key in given:
        if key not in (ENDPOINT, PROTOCOL, TIMEOUT):
            raise ConfigurationError(f"unknown key {key}: known are {ENDPOINT}, {PROTOCOL}, {TIMEOUT}")
    endpoint, protocol = given.get(ENDPOINT, ""), given.get(PROTOCOL, "http")
    if protocol not in _EXPORTERS:
        raise ConfigurationError(f"{PROTOCOL} = {protocol!r}: expected http or grpc")
    timeout = _seconds(given.get(TIMEOUT, "2"))
    if not endpoint:
        return None
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigurationError(f"{ENDPOINT} = {endpoint!r}: expected a URL, such as http://localhost:4318")
    if not _is_installed(_EXPORTERS[protocol]):
        raise ConfigurationError(
            f"{PROTOCOL} = {protocol}: its exporter is not installed: pip install 'asparkle-opentelemetry[{protocol}]'"
        )
    return Export(endpoint.rstrip("/"), protocol, timeout, conf.get("spark.app.name", "asparkle"), this_process())


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 3600:
        raise ConfigurationError(f"{TIMEOUT} = {text!r}: expected a positive number of seconds, such as 2")
    return seconds


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it is not there
        return False
