"""The sink `statsd`, with a real UDP socket at the other end."""

from __future__ import annotations

import math
import re
import socket
from collections import defaultdict

import pytest

from asparkle import SparkContext
from asparkle.core.conf import SparkConf
from asparkle.core.errors import ConfigurationError
from asparkle.plugins import Metric, Metrics
from asparkle.plugins.statsd import PACKET, StatsdSink


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def server(request):
    with socket.socket(request.param, socket.SOCK_DGRAM) as here:
        try:
            here.bind(("::1" if request.param == socket.AF_INET6 else "127.0.0.1", 0))
        except OSError:
            here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # a machine without IPv6
            here.bind(("127.0.0.1", 0))
        here.setblocking(False)
        yield here
        here.close()


def address_of(server):
    host, port, *_ = server.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def received(server) -> list[bytes]:
    packets = []
    while True:
        try:
            packets.append(server.recv(65536))
        except BlockingIOError:
            return packets


def understood(packets: list[bytes]) -> dict[str, list[tuple[float, str, float]]]:
    """What a server makes of them: value, kind and sample rate, by name."""
    found = defaultdict(list)
    for line in b"\n".join(packets).decode().splitlines():
        match = re.fullmatch(r"([\w.-]+):(\d+(?:\.\d+)?)\|(c|g|ms)(?:\|@(0\.\d+))?", line)
        assert match, line
        found[match[1]].append((float(match[2]), match[3], float(match[4] or 1)))
    return found


def conf(**settings):
    return SparkConf().setAll((f"asparkle.metrics.{key.replace('_', '.')}", value) for key, value in settings.items())


def metrics(*found: Metric) -> Metrics:
    return Metrics("local-1", "my app: 1", "local", found)


def test_a_servers_counts_are_what_was_done(server):
    settings = conf(sinks="statsd", statsd_address=address_of(server), interval="100ms")
    with SparkContext("processes[2]", "words", conf=settings) as sc:
        for _ in range(3):
            sc.parallelize(range(60), 20).map(lambda x: (x % 7, x)).reduceByKey(lambda a, b: a + b, 2).collect()
    got = understood(received(server))

    def total(name):
        return sum(value for value, kind, _ in got[f"asparkle.words.{name}"] if kind == "c")

    assert total("tasks.success") == total("tasks_started") == 3 * 22
    assert total("jobs.success") == 3
    assert total("executors_added") in (1, 2)  # the second may come too late
    assert total("shuffle_write_bytes") == total("shuffle_read_bytes") > 0
    assert "asparkle.words.jobs.task" not in got  # nothing failed: nothing is sent
    durations = got["asparkle.words.task_duration"]
    assert {kind for _, kind, _ in durations} == {"ms"}
    assert sum(1 / rate for _, _, rate in durations) == pytest.approx(66, abs=0.01)
    assert got["asparkle.words.executors"][-1] == (0, "g", 1)


def test_counters_are_what_they_have_grown_by(server):
    sink = StatsdSink(conf(statsd_address=address_of(server), statsd_prefix="team.spark"))
    for value in (5, 7.25, 7.25):
        sink.report(metrics(Metric("tasks", "counter", "", value, (("outcome", "fetch failed"),))))
    assert received(server) == [
        b"team.spark.my_app__1.tasks.fetch_failed:5|c",
        b"team.spark.my_app__1.tasks.fetch_failed:2.25|c",
    ]


def test_a_timing_stands_for_the_new_observations_of_a_bucket(server):
    sink = StatsdSink(conf(statsd_address=address_of(server), statsd_prefix=""))
    for buckets in (((1.0, 1, 0.5), (math.inf, 0, 0.0)), ((1.0, 5, 1.5), (math.inf, 1, 3.0))):
        sink.report(metrics(Metric("task_duration_seconds", "histogram", "", 0.0, (), buckets)))
    first, second = received(server)
    assert first == b"my_app__1.task_duration:500|ms"
    assert second.splitlines() == [b"my_app__1.task_duration:250|ms|@0.25", b"my_app__1.task_duration:3000|ms"]


def test_many_metrics_are_sent_in_packets_that_one_frame_holds(server):
    sink = StatsdSink(conf(statsd_address=address_of(server)))
    many = [Metric(f"metric_{i}", "gauge", "", i) for i in range(500)]
    sink.report(metrics(*many))
    packets = received(server)
    assert max(map(len, packets)) <= PACKET
    assert len(packets) < 500 / 20
    assert [value for ((value, _, _),) in understood(packets).values()] == list(range(500))


def test_a_host_that_nobody_listens_on_costs_nothing():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = address_of(gone)
    sink = StatsdSink(conf(statsd_address=address))
    for value in range(1, 100):
        sink.report(metrics(Metric("jobs", "counter", "", value)))  # the system says that the port is closed


def test_a_host_without_an_address_is_logged_once_and_fails_no_job(caplog):
    settings = conf(sinks="statsd", statsd_address="no-such-host.invalid:8125", interval="100ms")
    with SparkContext("threads[1]", conf=settings) as sc:
        assert sc.parallelize(range(3)).count() == 3
    assert len([message for message in caplog.messages if "metric sink failed: sink='statsd'" in message]) == 1


def test_what_could_not_be_sent_is_counted_later(server, monkeypatch):
    sink = StatsdSink(conf(statsd_address="no-such-host.invalid:8125"))
    with pytest.raises(OSError):
        sink.report(metrics(Metric("jobs", "counter", "", 3)))
    host, port, *_ = server.getsockname()
    sink._address = (host, port)
    sink.report(metrics(Metric("jobs", "counter", "", 4)))
    assert received(server) == [b"asparkle.my_app__1.jobs:4|c"]


def test_what_was_sent_before_an_error_is_counted_once(server):
    """No packet holds the name in the middle."""
    sink = StatsdSink(conf(statsd_address=address_of(server)))

    def report(number, *names):
        buckets = (Metric("times", "histogram", "", 0.0, (), ((1.0, number, number), (math.inf, number, 2 * number))),)
        sink.report(metrics(*buckets, *(Metric(name, "counter", "", number) for name in names)))

    with pytest.raises(OSError, match="too long"):
        report(2, "before", "m" * 70_000, "after")
    report(3, "before", "after")
    prefix = "asparkle.my_app__1"
    assert b"\n".join(received(server)).decode().splitlines() == [
        f"{prefix}.times:1000|ms|@0.5",
        f"{prefix}.times:2000|ms|@0.5",
        f"{prefix}.before:2|c",
        f"{prefix}.times:1000|ms",
        f"{prefix}.times:2000|ms",
        f"{prefix}.before:1|c",
        f"{prefix}.after:3|c",
    ]


@pytest.mark.parametrize("address", ["localhost", ":8125", "localhost:", "localhost:0", "h:99999", "::1:8125", "h:x"])
def test_an_address_that_makes_no_sense_is_refused(address):
    with pytest.raises(ConfigurationError, match=r"asparkle.metrics.statsd.address = .*: expected host:port, such as"):
        SparkContext("threads[1]", conf=conf(statsd_address=address))
