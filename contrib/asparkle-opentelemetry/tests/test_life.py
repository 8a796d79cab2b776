"""Endpoints that nobody is at, and what is left when a context has ended: nothing."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time

import pytest
from asparkle_opentelemetry import task_span
from conftest import Receiver
from test_export import conf

from asparkle import SparkConf, SparkContext
from asparkle.errors import ConfigurationError


@pytest.fixture(params=["refuses", "never answers"])
def unreachable(request):
    """A port at which connections are refused, or taken and never answered."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if request.param == "never answers":
            listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def ours():
    """Threads but for the receivers', and those that AnyIO keeps for an event loop, which end in their own time."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith(("receiver", "AnyIO"))}


def sockets():
    gc.collect()
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # the one that lists
            continue
    return sum(link.startswith("socket:") for link in links)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
def test_an_endpoint_that_nobody_is_at_neither_fails_nor_slows_jobs(unreachable, protocol, master):
    def fetch(x):
        with task_span("fetch"):
            return x

    receiver = Receiver(protocol)
    receiver.endpoint = unreachable
    before = ours()
    with SparkContext(conf=conf(receiver, master).set("asparkle.opentelemetry.timeout", "1")) as sc:
        began = time.monotonic()
        for _ in range(5):
            assert sc.parallelize(range(100), 20).map(fetch).count() == 100
        taken = time.monotonic() - began
        stopping = time.monotonic()
    stopped = time.monotonic() - stopping
    assert taken < 20, taken  # 100 attempts; 50 s, if each waited for the endpoint
    assert stopped < 10, stopped
    for thread in ours() - before:  # stop() waits for an export only so long; it gives up at its own timeout
        thread.join(10)
    assert ours() == before


def test_nothing_is_left_when_a_context_has_ended(receiver):
    def run():
        with SparkContext(conf=conf(receiver, "threads[2]")) as sc:
            assert sc.parallelize(range(10), 2).count() == 10

    run()  # what is imported once may keep something
    threads, open_sockets = ours(), sockets()
    for _ in range(3):
        run()
    assert ours() == threads
    assert len(receiver.named("job")) == 4
    deadline = time.monotonic() + 5
    while sockets() > open_sockets and time.monotonic() < deadline:  # the receiver closes its ends in its own time
        time.sleep(0.01)
    assert sockets() <= open_sockets


def test_a_context_that_is_never_entered_starts_no_thread(http_receiver):
    from asparkle.aio import SparkContext as AioContext

    before = ours()
    AioContext(conf=conf(http_receiver))
    assert ours() == before


@pytest.mark.parametrize(
    "key, value, problem",
    [
        ("protocol", "udp", "asparkle.opentelemetry.protocol = 'udp': expected http or grpc"),
        ("endpoint", "localhost:4318", "endpoint = 'localhost:4318': expected a URL, such as http://localhost:4318"),
        ("timeout", "soon", "asparkle.opentelemetry.timeout = 'soon': expected a positive number of seconds"),
        ("timeout", "0", "asparkle.opentelemetry.timeout = '0': expected a positive number of seconds"),
        (
            "endpont",
            "x",
            "unknown key asparkle.opentelemetry.endpont of plugin .*: known are asparkle.opentelemetry.endpoint, ",
        ),
    ],
)
def test_bad_settings_are_refused_when_the_context_is_made(key, value, problem):
    conf = SparkConf().setMaster("inline").set("asparkle.plugins", "opentelemetry")
    with pytest.raises(ConfigurationError, match=problem):
        SparkContext(conf=conf.set(f"asparkle.opentelemetry.{key}", value))


def test_an_exporter_that_is_not_installed_is_named(monkeypatch):
    from asparkle_opentelemetry import settings

    monkeypatch.setitem(settings._EXPORTERS, "grpc", "opentelemetry.exporter.otlp.proto.carrier_pigeon")
    given = SparkConf().set(settings.ENDPOINT.name, "http://localhost:4317").set(settings.PROTOCOL.name, "grpc")
    with pytest.raises(ConfigurationError, match=r"not installed: pip install 'asparkle-opentelemetry\[grpc\]'"):
        settings.read_export(given)
