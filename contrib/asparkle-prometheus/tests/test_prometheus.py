"""What Prometheus, its tools and its push gateway make of an application's metrics."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from importlib.metadata import entry_points
from pathlib import Path

import asparkle_prometheus
import pytest
from asparkle_prometheus import PrometheusSink
from prometheus_client.parser import text_string_to_metric_families
from prometheus_servers import Prometheus, free_port, program, prometheus, pushgateway, text, wait_until

from asparkle import RDD, JobFailed, SparkConf, SparkContext
from asparkle.aio import SparkContext as AsyncContext
from asparkle.errors import ConfigurationError

PACKAGE = Path(__file__).parents[1]
DASHBOARD = Path(asparkle_prometheus.__file__).with_name("dashboard.json")


def conf(**settings: object) -> SparkConf:
    return SparkConf().setAll((f"asparkle.prometheus.{key}", value) for key, value in settings.items())


def scraped(url: str) -> dict[str, float]:
    """By sample's name, and its labels' values but the application's, as in ``asparkle_tasks_total success``."""
    found = {}
    for family in text_string_to_metric_families(text(url)):
        for sample in family.samples:
            labels = [value for name, value in sample.labels.items() if value and name != "application"]
            found[" ".join([sample.name, *labels])] = sample.value
    return found


def opened(sink: PrometheusSink) -> str:
    url = sink.url(60)
    assert url is not None
    return url


def work(sc: SparkContext) -> RDD[str]:
    """Two jobs that succeed, with a shuffle, and a cached RDD of three partitions; one that fails.

    Returns the cached RDD: it is cached for as long as somebody has it.
    """
    pairs = sc.parallelize(range(1000), 4).map(lambda x: (x % 10, x))
    assert len(pairs.reduceByKey(lambda a, b: a + b, 2).collect()) == 10
    kept = sc.parallelize(range(30), 3).map(str).persist()
    assert kept.count() == 30
    with pytest.raises(JobFailed):
        sc.parallelize([0], 1).map(lambda x: 1 // x).collect()
    return kept


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with prometheus(tmp_path_factory.mktemp("prometheus")) as running:
        yield running


# ------------------------------------------------------------------------------------------ real servers


def test_prometheus_knows_what_was_done(server: Prometheus):
    sink = PrometheusSink()
    with SparkContext("processes[2]", "scraped", plugins=[sink]) as sc:
        server.scrape(opened(sink))
        kept = work(sc)
        expected = {
            'asparkle_jobs_total{application="scraped",outcome="success"}': 2,
            'asparkle_jobs_total{application="scraped",outcome="task"}': 1,
            'asparkle_tasks_total{application="scraped",outcome="success"}': 4 + 2 + 3,
            'asparkle_tasks_total{application="scraped",outcome="failed"}': 4,
            'asparkle_jobs_active{application="scraped"}': 0,
            'asparkle_executors{application="scraped"}': 2,
            'asparkle_slots{application="scraped"}': 2,
            'sum(asparkle_cached_blocks{application="scraped"})': 3,
            'asparkle_task_duration_seconds_count{application="scraped"}': 9,
            'asparkle_task_duration_seconds_bucket{application="scraped",le="+Inf"}': 9,
            'asparkle_job_duration_seconds_count{application="scraped"}': 3,
        }
        for query, value in expected.items():
            server.wait_for(query, value)
        written = server.value('asparkle_shuffle_write_bytes_total{application="scraped"}')
        assert written == server.value('asparkle_shuffle_read_bytes_total{application="scraped"}')
        assert written and written > 0
        kept.unpersist()
        server.wait_for('sum(asparkle_cached_blocks{application="scraped"})', 0)
        (info,) = server.ask('asparkle_application_info{application="scraped"}')
        assert (info["metric"]["id"], info["metric"]["master"]) == (sc.applicationId, "processes[2]")


def test_promtool_finds_nothing_wrong_with_the_metrics():
    sink = PrometheusSink()
    with SparkContext("threads[2]", plugins=[sink]) as sc:
        work(sc)
        page = text(opened(sink))
    done = subprocess.run([program("promtool"), "check", "metrics"], input=page, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_push_gateway_keeps_what_a_program_has_done(tmp_path, server: Prometheus):
    with pushgateway(tmp_path) as address:
        settings = conf(pushgateway=address).set("asparkle.metrics.sinks", "prometheus")
        with SparkContext("processes[2]", "pushed", conf=settings) as sc:
            work(sc)
            application = sc.applicationId
        got = scraped(f"http://{address}/metrics")  # the program has ended
        assert got["asparkle_jobs_total pushed success"] == 2  # with the gateway's own label: job
        assert got["asparkle_tasks_total pushed success"] == 9
        assert got["asparkle_executors pushed"] == 0
        assert any(name.startswith("asparkle_application_info") and application in name for name in got)
        server.scrape(f"http://{address}/metrics")
        server.wait_for('asparkle_tasks_total{application="pushed",outcome="failed"}', 4)


def test_a_program_that_runs_again_replaces_what_it_pushed(tmp_path):
    with pushgateway(tmp_path) as address:
        for _ in range(2):
            with SparkContext("threads[1]", "again", plugins=[PrometheusSink(conf(pushgateway=address))]) as sc:
                sc.parallelize([1]).count()
        got = scraped(f"http://{address}/metrics")
    assert got["asparkle_jobs_total again success"] == 1


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def test_the_dashboard_names_all_metrics_and_no_others():
    sink = PrometheusSink()
    with SparkContext("threads[1]", plugins=[sink]) as sc:
        sc.addListener(print, JobFailed)  # a type that no event has
        page = text(opened(sink))
    there = {sample.name for family in text_string_to_metric_families(page) for sample in family.samples}
    named = {name for expr in expressions() for name in re.findall(r"asparkle_\w+", expr)}
    assert named - there == set()
    assert there - named == set()


def test_prometheus_understands_every_expression_of_the_dashboard(server: Prometheus):
    sink = PrometheusSink()
    with SparkContext("threads[2]", "dashboard", plugins=[sink]) as sc:
        server.scrape(opened(sink))
        empty = []

        def all_have_values() -> bool:
            work(sc)
            empty[:] = [expr for expr in expressions() if not server.ask(filled_in(expr))]
            return not empty

        wait_until(all_have_values)


def filled_in(expression: str) -> str:
    return expression.replace("$application", "dashboard").replace("$__rate_interval", "30s")


# -------------------------------------------------------------------------------------------- the endpoint


def test_it_is_found_by_its_entry_point():
    (entry,) = entry_points(group="asparkle", name="prometheus")
    assert entry.load().asparkle_metric_sinks() == {"prometheus": "asparkle_prometheus.sink:PrometheusSink"}


def test_a_port_is_the_one_that_was_asked_for():
    port = free_port()
    with SparkContext("threads[1]", "named", conf=conf(port=port).set("asparkle.metrics.sinks", "prometheus")) as sc:
        assert sc.parallelize(range(3), 3).count() == 3
        url = f"http://127.0.0.1:{port}/metrics"
        wait_until(lambda: answers(port))
        assert scraped(url)["asparkle_tasks_total success"] == 3
    assert not answers(port)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_the_port_that_was_chosen_is_logged(caplog):
    caplog.set_level("INFO", "asparkle.prometheus")
    sink = PrometheusSink(conf(port=0))
    with SparkContext("threads[1]", plugins=[sink]):
        url = opened(sink)
        assert f"metrics are served: url={url!r}" in caplog.messages
    assert sink.url() is None


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost", "0.0.0.0"])
def test_the_address_is_the_one_that_was_asked_for(address):
    if ":" in address and not socket.has_ipv6:
        address = "127.0.0.1"
    sink = PrometheusSink(conf(address=address))
    with SparkContext("threads[1]", plugins=[sink]):
        assert scraped(opened(sink))["asparkle_executors"] == 1


async def two_contexts() -> list[dict[str, float]]:
    first, second = PrometheusSink(), PrometheusSink()
    one = AsyncContext("threads[1]", "first", plugins=[first])
    two = AsyncContext("threads[1]", "second", plugins=[second])
    async with one, two:
        await one.parallelize(range(3), 3).count()
        await two.parallelize(range(5), 5).count()
        return [scraped(opened(first)), scraped(opened(second)), {text(opened(second)): 0}]


def test_two_contexts_in_one_process_do_not_mix():
    import asyncio

    first, second, page = asyncio.run(two_contexts())
    assert (first["asparkle_tasks_total success"], second["asparkle_tasks_total success"]) == (3, 5)
    assert 'application="first"' not in next(iter(page))


def test_nothing_is_left_of_an_endpoint_also_with_clients_that_hang():
    before = {*threading.enumerate()}
    sink = PrometheusSink()
    with SparkContext("threads[1]", plugins=[sink]):
        port = int(opened(sink).rpartition(":")[2].partition("/")[0])
        silent = socket.create_connection(("127.0.0.1", port))
        silent.sendall(b"GET /metrics HTTP/1.1\r\n")  # and no more
        wait_until(lambda: any("process_request" in thread.name for thread in threading.enumerate()))
    left = {thread.name for thread in {*threading.enumerate()} - before}
    assert not [name for name in left if re.search("http|process_request|metric|listener", name)]
    assert silent.recv(100) == b""
    silent.close()
    assert not answers(port)


def test_a_port_that_is_taken_is_logged_and_fails_no_job(caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with SparkContext("threads[1]", plugins=[PrometheusSink(conf(port=port))]) as sc:
            assert sc.parallelize([1]).count() == 1
    (message,) = [message for message in caplog.messages if "metric sink failed: sink='prometheus'" in message]
    assert f"metrics can't be served at 127.0.0.1:{port}: Address already in use" in message
    assert "set asparkle.prometheus.port to another one, or to 0" in message


def test_a_gateway_that_is_not_there_is_logged_once_and_fails_no_job(caplog):
    settings = conf(pushgateway=f"127.0.0.1:{free_port()}").set("asparkle.metrics.interval", "100ms")
    sink = PrometheusSink(settings)
    pushes = []
    with SparkContext("threads[1]", conf=settings, plugins=[sink]) as sc:
        sc.addListener(pushes.append)
        assert sc.parallelize([1]).count() == 1
    assert len([message for message in caplog.messages if "metric sink failed: sink='prometheus'" in message]) == 1
    assert sink.url() is None  # no port was set: there is only the gateway


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("port", "http", "asparkle.prometheus.port = 'http': expected a port, or 0"),
        ("port", "-1", "asparkle.prometheus.port = '-1': expected"),
        ("port", "65536", "asparkle.prometheus.port = '65536': expected"),
        (
            "adress",
            "0.0.0.0",
            "unknown key asparkle.prometheus.adress of plugin 'prometheus': known are asparkle.prometheus.address, ",
        ),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_when_the_context_is_made(key, value, problem):
    with pytest.raises(ConfigurationError, match=re.escape(problem)):
        SparkContext("threads[1]", conf=conf(**{key: value}).set("asparkle.metrics.sinks", "prometheus"))


def test_asparkle_conf_lists_its_keys():
    command = [sys.executable, "-m", "asparkle", "conf", "--json", "asparkle.prometheus"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [row["key"] for row in json.loads(done.stdout)] == [
        f"asparkle.prometheus.{name}" for name in ("port", "address", "pushgateway")
    ]


def test_the_readme_does_what_it_says(tmp_path):
    runner = PACKAGE.parents[1] / "tests" / "test_docs.py"
    command = [sys.executable, str(runner), str(PACKAGE / "README.md")]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
