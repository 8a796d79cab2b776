"""The metric sink `prometheus`.

Names follow Prometheus' conventions: ``asparkle_`` in front, ``_total`` behind a counter.  Every series has the label
``application``, the application's name; `asparkle_application_info` has its id and its master, too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from math import inf

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
from asparkle.plugins import Metric, Metrics, MetricSink
from asparkle_prometheus.endpoint import Endpoint
from asparkle_prometheus.settings import ADDRESS, PORT, PUSHGATEWAY

PUSH_TIMEOUT = 3.0
"""Seconds that the push gateway has for an answer: fewer than ``asparkle.listener.flush.timeout``, which the last push
has to be over in."""

log = logging.getLogger("asparkle.prometheus")


class PrometheusSink(MetricSink):
    """An endpoint that Prometheus scrapes, a push gateway, or both.

    Reads of ``conf``: ``asparkle.prometheus.port`` (of the endpoint; 0, and not set, is any free one),
    ``asparkle.prometheus.address`` (127.0.0.1 unless set) and ``asparkle.prometheus.pushgateway`` (host:port, or a URL;
    where it is set, there is an endpoint only with a port).  Raises ConfigurationError for a bad value.
    """

    name = "prometheus"

    def __init__(self, conf: SparkConf | None = None) -> None:
        conf = SparkConf() if conf is None else conf
        self._pushgateway = PUSHGATEWAY.read(conf)
        self._address = ADDRESS.read(conf)
        port = PORT.read(conf)
        self._port = 0 if port is None and not self._pushgateway else port
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
                remedy = f"set {PORT.name} to another one, or to 0 for any that is free"
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
