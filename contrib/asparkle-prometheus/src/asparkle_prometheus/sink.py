"""The metric sink `prometheus`.

Names follow Prometheus' conventions: ``asparkle_`` in front, ``_total`` behind a counter.  Every series has the label
``application``, the application's name; `asparkle_application_info` has its id and its master, too.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from math import inf
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, make_wsgi_app, push_to_gateway
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from asparkle import SparkConf
from asparkle.errors import ConfigurationError
from asparkle.plugins import Metric, Metrics, MetricSink
from asparkle_prometheus.endpoint import Endpoint

PREFIX = "asparkle.prometheus."
PUSH_TIMEOUT = 3.0
"""Seconds that the push gateway has for an answer: fewer than ``asparkle.listener.flush.timeout``, which the last push
has to be over in."""

log = logging.getLogger("asparkle.prometheus")


class PrometheusSink(MetricSink):
    """An endpoint that Prometheus scrapes, a push gateway, or both.

    Reads of ``conf``: ``asparkle.prometheus.port`` (of the endpoint; 0, and not set, is any free one),
    ``asparkle.prometheus.address`` (127.0.0.1 unless set) and ``asparkle.prometheus.pushgateway`` (host:port, or a URL;
    where it is set, there is an endpoint only with a port).  Raises ConfigurationError for a bad value, and for a key
    that it does not know.
    """

    name = "prometheus"

    def __init__(self, conf: SparkConf | None = None) -> None:
        settings = _settings(SparkConf() if conf is None else conf)
        self._pushgateway = _gateway(settings.get("pushgateway", "").strip())
        self._address = settings.get("address", "127.0.0.1")
        port = settings.get("port", "" if self._pushgateway else "0")
        self._port = _port(port) if port else None
        self._endpoint: Endpoint | None = None
        self._registry = CollectorRegistry()  # of this context: others in the process have theirs
        self._opened = threading.Event()

    def open(self, read: Callable[[], Metrics]) -> None:
        self._registry.register(ApplicationCollector(read))
        if self._port is not None:
            try:
                self._endpoint = Endpoint(self._address, self._port, make_wsgi_app(self._registry))
            except OSError as error:
                where = f"{self._address}:{self._port}"
                remedy = f"set {PREFIX}port to another one, or to 0 for any that is free"
                raise OSError(error.errno, f"metrics can't be served at {where}: {error.strerror}; {remedy}") from None
            log.info("metrics are served: url=%r", self._endpoint.url)
        self._opened.set()

    def report(self, metrics: Metrics) -> None:
        if self._pushgateway:
            push_to_gateway(self._pushgateway, job=metrics.name, registry=self._registry, timeout=PUSH_TIMEOUT)

    def close(self) -> None:
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            endpoint.close()

    def url(self, timeout: float = 5.0) -> str | None:
        """Where the endpoint is; None where there is none: its port was taken, or the context has stopped.

        It is opened when the context starts: for this it waits ``timeout`` seconds at most.
        """
        self._opened.wait(timeout)
        endpoint = self._endpoint
        return None if endpoint is None else endpoint.url


class ApplicationCollector(Collector):
    """Makes Prometheus' metrics of an application's, whenever somebody asks."""

    def __init__(self, read: Callable[[], Metrics]) -> None:
        self._read = read

    def collect(self) -> Iterator[Family]:
        now = self._read()
        info = InfoMetricFamily("asparkle_application", "The application.", labels=["application"])
        info.add_metric([now.name], {"id": now.application, "master": now.master})
        yield info
        for _, found in groupby(now.metrics, key=lambda metric: metric.name):
            yield _family(now.name, list(found))


def _family(application: str, metrics: list[Metric]) -> Family:
    first = metrics[0]
    name, labels = f"asparkle_{first.name}", ["application", *(label for label, _ in first.labels)]
    if first.kind == "histogram":
        histogram = HistogramMetricFamily(name, first.help, labels=labels)
        for metric in metrics:
            histogram.add_metric(_labels(application, metric), list(_cumulative(metric)), metric.value)
        return histogram
    kind = CounterMetricFamily if first.kind == "counter" else GaugeMetricFamily
    family = kind(name, first.help, labels=labels)
    for metric in metrics:
        family.add_metric(_labels(application, metric), metric.value)
    return family


def _labels(application: str, metric: Metric) -> list[str]:
    return [application, *(value for _, value in metric.labels)]


def _cumulative(metric: Metric) -> Iterable[tuple[str, int]]:
    so_far = 0
    for bound, count, _ in metric.buckets:
        so_far += count
        yield "+Inf" if bound == inf else repr(bound), so_far


def _settings(conf: SparkConf) -> dict[str, str]:
    settings = {key.removeprefix(PREFIX): value for key, value in conf.getAll() if key.startswith(PREFIX)}
    known = ("address", "port", "pushgateway")
    for name in settings.keys() - {*known}:
        raise ConfigurationError(f"unknown key {PREFIX}{name}: known are {', '.join(PREFIX + key for key in known)}")
    return settings


def _gateway(text: str) -> str:
    """``text``, if something can be pushed there, or if it is empty."""
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        if not text or (url.scheme in ("http", "https") and url.hostname and not re.search(r"\s", text)):
            _ = url.port  # raises ValueError for one that is none
            return text
    except ValueError:
        pass
    raise ConfigurationError(f"{PREFIX}pushgateway = {text!r}: expected host:port, or a URL")


def _port(text: str) -> int:
    try:
        port = int(text)
        if 0 <= port <= 65535:
            return port
    except ValueError:
        pass
    raise ConfigurationError(f"{PREFIX}port = {text!r}: expected a port, or 0 for any that is free")
