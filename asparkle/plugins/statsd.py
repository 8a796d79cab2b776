"""The metric sink `statsd`: metrics as UDP packets for StatsD and what understands its protocol.

A counter is sent as what it has grown by, a gauge as what it is.  Of a histogram each bucket is sent as a timing, in
milliseconds: the mean of the bucket's new observations, with the sample rate that stands for their number.

    asparkle.wordcount.tasks.success:12|c
    asparkle.wordcount.executors:2|g
    asparkle.wordcount.task_duration:3.25|ms|@0.083333333
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, TypeAlias

from asparkle.conf import SparkConf
from asparkle.plugins import KEYS, Metric, Metrics, MetricSink

PACKET: Final = 1432
"""Bytes: what one Ethernet frame holds besides the headers."""

Counted: TypeAlias = dict[tuple[str, tuple[tuple[str, str], ...], float], tuple[float, float]]
"""By name, labels and a histogram's bucket, what the server has been told in all: a counter's value, or a bucket's
count and sum."""
Line: TypeAlias = tuple[str, Counted]
"""A line, and what the server has been told with it."""


class StatsdSink(MetricSink):
    """Sends to ``asparkle.metrics.statsd.address``.

    Nobody is waited for.  What does not fit into the socket's buffer is lost, as packets may be anyway.
    What could not be sent, as the host has no address or can't be reached, is kept for the next report.
    """

    name = "statsd"

    def __init__(self, conf: SparkConf) -> None:
        super().__init__(conf)
        self._address = KEYS["asparkle.metrics.statsd.address"].read(conf)
        self._prefix = KEYS["asparkle.metrics.statsd.prefix"].read(conf)
        self._counted: Counted = {}

    def report(self, metrics: Metrics) -> None:
        host, port = self._address
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        prefix = ".".join(filter(None, (self._prefix, _plain(metrics.name))))
        lines = [line for metric in metrics.metrics for line in self._lines(f"{prefix}.{_name(metric)}", metric)]
        with socket.socket(family, kind, protocol) as out:
            out.setblocking(False)
            for packet, counted in packets(lines):
                with suppress(BlockingIOError):
                    out.sendto(packet, address)
                self._counted |= counted

    def _lines(self, name: str, metric: Metric) -> Iterator[Line]:
        if metric.kind == "gauge":
            yield f"{name}:{_number(metric.value)}|g", {}
        elif metric.kind == "counter":
            key = (metric.name, metric.labels, 0.0)
            before, _ = self._counted.get(key, (0.0, 0.0))
            if metric.value > before:
                yield f"{name}:{_number(metric.value - before)}|c", {key: (metric.value, 0.0)}
        for bound, count, total in metric.buckets:
            key = (metric.name, metric.labels, bound)
            old_count, old_total = self._counted.get(key, (0.0, 0.0))
            if count > old_count:
                new = count - old_count
                mean = _number((total - old_total) / new * 1000)
                yield f"{name}:{mean}|ms" + (f"|@{_number(1 / new)}" if new > 1 else ""), {key: (count, total)}


def packets(lines: Iterable[Line]) -> Iterator[tuple[bytes, Counted]]:
    """The lines in as few packets as they fit into, in order; one that is too long for any is on its own."""
    packet, counted = b"", Counted()
    for line, what in lines:
        data = line.encode()
        if packet and len(packet) + 1 + len(data) > PACKET:
            yield packet, counted
            packet, counted = b"", Counted()
        packet += b"\n" + data if packet else data
        counted |= what
    if packet:
        yield packet, counted


def _name(metric: Metric) -> str:
    """Timings are in milliseconds, so their names say nothing of seconds."""
    name = metric.name.removesuffix("_seconds") if metric.kind == "histogram" else metric.name
    return ".".join((name, *(_plain(value) for _, value in metric.labels)))


def _plain(text: str) -> str:
    """``text`` without what the protocol gives a meaning."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.9f}".rstrip("0")
