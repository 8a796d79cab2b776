"""Nodes over real ssh: the contract's promises, what users do, and how nodes reach each other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from waiting import wait_until

from asparkle import SparkConf, SparkContext, StorageLevel
from asparkle.aio import SparkContext as AsyncContext
from asparkle.backends.ssh import process as ssh_process
from asparkle.backends.ssh.manager import SshManager
from asparkle.core import workercluster
from asparkle.errors import ConfigurationError, NoExecutors
from asparkle.events import ExecutorAdded, ExecutorRemoved, TaskEnded
from asparkle.plugins import Listener
from asparkle.testing import ExecutorBackendConformance

from .conversation import PYTHON
from .faults import conf, left_behind
from .hosts import Hosts, hosts, run

pytestmark = pytest.mark.slow
EXCLUDE = "spark.excludeOnFailure.enabled"


class TestConformance(ExecutorBackendConformance):
    bad_masters = ["ssh://", "ssh://alpha*0", "ssh://alpha,alpha", "ssh:nowhere.toml"]

    @pytest.fixture(autouse=True)
    def on_hosts(self, made: Hosts) -> Iterator[None]:
        found = conf(made)
        type(self).master = str(found.get("spark.master"))
        type(self).settings = {key: str(found.get(key)) for key in ("asparkle.ssh.options", "spark.network.timeout")}
        yield
        assert left_behind(made) == []

    def make(self) -> SshManager:
        return SshManager()


@pytest.fixture
def context(made: Hosts) -> Iterator[SparkContext]:
    with SparkContext(conf=conf(made)) as found:
        yield found
    assert left_behind(made) == []


def wait_for_workers(context: SparkContext, count: int) -> None:
    """Until there are so many."""
    tasks = context.parallelize(range(count), count).map(lambda _: (time.sleep(0.05), os.getpid())[1])
    wait_until(lambda: len(set(tasks.collect())) == count)


def test_tasks_run_on_all_nodes_in_a_directory_of_the_application(made: Hosts, context: SparkContext) -> None:
    wait_for_workers(context, 6)

    def where(_: int) -> tuple[str, str]:
        time.sleep(0.3)
        return socket.gethostname(), os.getcwd()

    found = dict(context.parallelize(range(6), 6).map(where).collect())
    assert found.keys() == {host.name for host in made}
    for host in made:
        assert found[host.name].startswith(str(host.directory / "tmp"))


def test_nodes_listen_where_ssh_reached_them_and_nowhere_else(made: Hosts, context: SparkContext) -> None:
    wait_for_workers(context, 6)
    for host in made:
        lines = [line.split() for line in host.execute("ss", "-Hltn").splitlines()]
        addresses = {line[3].rpartition(":")[0] for line in lines if not line[3].endswith(":22")}
        assert addresses == {host.address}


def test_a_node_has_as_many_slots_as_cpus_unless_it_is_said(made: Hosts) -> None:
    nodes = made.directory / "some.toml"
    nodes.write_text(f'nodes = ["node1", "node2*1"]\n[defaults]\npython = "{PYTHON}"\n')
    with SparkContext(conf=conf(made).setMaster(f"ssh:{nodes}")) as context:
        cpus = len(os.sched_getaffinity(0))
        wait_for_workers(context, cpus + 1)
        assert context.defaultParallelism == cpus + 1
    assert left_behind(made) == []


def test_labels_of_nodes_are_in_events(made: Hosts) -> None:
    nodes = made.directory / "labels.toml"
    lines = [f'[defaults]\npython = "{PYTHON}"\nslots = 1']
    lines += ['[[nodes]]\nhost = "node1"\nlabels = { accelerator = "a100", zone = "a" }', '[[nodes]]\nhost = "node2"']
    nodes.write_text("\n".join(lines))
    found = dict[str, Mapping[str, str]]()

    class Labels(Listener):
        events = (ExecutorAdded,)

        def on_event(self, event: ExecutorAdded) -> None:
            found[event.host] = event.labels

    with SparkContext(conf=conf(made).setMaster(f"ssh:{nodes}"), plugins=[Labels()]) as context:
        wait_for_workers(context, 2)
    assert found == {"node1": {"accelerator": "a100", "zone": "a"}, "node2": {}}
    assert left_behind(made) == []


def test_of_nodes_that_do_not_say_how_many_slots_they_have_executors_are_released_and_stay_away(made: Hosts) -> None:
    nodes = made.directory / "elastic.toml"
    nodes.write_text(f'nodes = ["node1", "node2"]\n[defaults]\npython = "{PYTHON}"\n')
    settings = conf(made, spark__dynamicAllocation__enabled=True, spark__dynamicAllocation__executorIdleTimeout="1s")
    added, removed = list[str](), list[str]()

    class Fleet(Listener):
        events = (ExecutorAdded, ExecutorRemoved)

        def on_event(self, event: ExecutorAdded | ExecutorRemoved) -> None:
            (added if isinstance(event, ExecutorAdded) else removed).append(event.executor)

    with SparkContext(conf=settings.setMaster(f"ssh:{nodes}"), plugins=[Fleet()]) as context:
        slots = 2 * len(os.sched_getaffinity(0))
        tasks = context.parallelize(range(4 * slots), 4 * slots).map(lambda _: time.sleep(0.3))
        wait_until(lambda: tasks.count() and len(added) >= slots)
        wait_until(lambda: len(removed) >= slots)
        assert context.parallelize([1], 1).count() == 1
        wait_until(lambda: len(removed) > slots and len(removed) == len(added))
        assert len(added) == slots + 1
    assert left_behind(made) == []


def test_word_count_with_big_results_and_a_broadcast(context: SparkContext) -> None:
    words = [f"word{i % 1000}" for i in range(60_000)]
    weights = context.broadcast({f"word{i}": bytes(1000) for i in range(1000)})
    found = (
        context.parallelize(words, 12)
        .map(lambda word: (word, len(weights.value[word])))
        .reduceByKey(lambda a, b: a + b, 6)
        .collectAsMap()
    )
    assert found == {f"word{i}": 60_000 for i in range(1000)}
    assert context.parallelize(range(12), 12).map(lambda i: bytes([i]) * 3_000_000).map(len).sum() == 36_000_000
    assert [len(x) for x in context.parallelize(range(6), 6).map(lambda i: bytes([i]) * 3_000_000).collect()] == [
        3_000_000
    ] * 6


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_application(made: Hosts, backend: str) -> None:
    async def main() -> Any:
        async with AsyncContext(conf=conf(made)) as context:
            return (
                await context.parallelize(range(1000), 12)
                .map(lambda x: (x % 7, x))
                .reduceByKey(lambda a, b: a + b)
                .collect()
            )

    found = anyio.run(main, backend=backend)
    assert sorted(found) == [(k, sum(range(k, 1000, 7))) for k in range(7)]
    assert left_behind(made) == []


def test_the_driver_is_killed_and_nothing_is_left(made: Hosts, tmp_path: Path) -> None:
    settings = dict(conf(made).getAll())
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import time
            from asparkle import SparkConf, SparkContext, StorageLevel
            context = SparkContext(conf=SparkConf().setAll({list(settings.items())!r}))
            context.parallelize(range(600), 6).map(lambda x: (x, x)).groupByKey().count()
            print("ready", flush=True)
            context.parallelize(range(600), 6).map(lambda x: time.sleep(1)).count()
            """
        )
    )
    process = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        assert all(host.processes() for host in made)
        process.send_signal(signal.SIGKILL)
        assert left_behind(made, 5) == []
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_the_driver_is_cut_off_and_nodes_end_what_it_began(fresh: Hosts, tmp_path: Path) -> None:
    with SparkContext(conf=conf(fresh)) as context:
        wait_for_workers(context, 6)
        for host in fresh:
            host.execute("iptables", "-A", "OUTPUT", "-p", "tcp", "--sport", "22", "-j", "DROP")
            host.execute("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP")
        assert left_behind(fresh, 15) == []


def test_nodes_that_can_not_connect_to_each_other_go_through_the_driver(fresh: Hosts) -> None:
    for host in fresh:
        for other in fresh:
            if other is not host:
                host.execute("iptables", "-A", "INPUT", "-s", other.address, "-j", "DROP")
    assert routes_of_a_shuffle(fresh) == {"driver"}


def test_nodes_connect_to_each_other(made: Hosts) -> None:
    assert routes_of_a_shuffle(made) == {"direct"}


def routes_of_a_shuffle(made: Hosts) -> set[str]:
    """How nodes have read from each other; what they read of the driver's came directly."""
    routes = set[tuple[bool, str]]()

    class Routes(Listener):
        events = (TaskEnded,)

        def on_event(self, event: TaskEnded) -> None:
            fetched = event.metrics.fetched if event.metrics is not None else ()
            routes.update((bool(host), route) for host, route, _ in fetched)

    with SparkContext(conf=conf(made), plugins=[Routes()]) as context:
        wait_for_workers(context, 6)
        value = context.broadcast(os.urandom(1 << 20))
        pairs = context.parallelize(range(60_000), 12).map(lambda i: (i % 100, value.value[:100]))
        assert pairs.groupByKey(6).mapValues(lambda values: sum(map(len, values))).collectAsMap() == {
            k: 60_000 for k in range(100)
        }
    assert {route for from_node, route in routes if not from_node} == {"direct"}
    return {route for from_node, route in routes if from_node}


@pytest.mark.parametrize(
    ("level", "copies"),
    [
        (StorageLevel.MEMORY_ONLY, 1),
        (StorageLevel.DISK_ONLY, 1),
        (StorageLevel.MEMORY_ONLY_2, 2),
        (StorageLevel.DISK_ONLY_2, 2),
    ],
)
def test_of_a_lost_nodes_cached_partitions_just_those_are_computed_again(
    fresh: Hosts, tmp_path: Path, level: StorageLevel, copies: int
) -> None:
    """None of those of which another node has a copy."""
    log = tmp_path / "computed"  # which all hosts of this machine see

    def compute(partition: int, elements: Iterator[int]) -> Iterator[int]:
        with log.open("a") as file:
            file.write(f"{partition} {socket.gethostname()}\n")
        time.sleep(0.05)
        return (x * 2 for x in elements)

    def computed() -> list[tuple[int, str]]:
        return [(int(p), host) for p, host in map(str.split, log.read_text().splitlines())]

    with SparkContext(conf=conf(fresh)) as context:
        wait_for_workers(context, 6)
        cached = context.parallelize(range(1200), 12).mapPartitionsWithIndex(compute).persist(level)
        assert cached.sum() == 1200 * 1199
        first = computed()
        lost = {partition for partition, host in first if host == "node1"}
        assert len(first) == 12 and lost
        fresh[0].power_off()
        assert cached.sum() == 1200 * 1199
        again = {partition for partition, _ in computed()[12:]}
        assert again == (lost if copies == 1 else set())


def test_full_disks_on_two_nodes_fail_attempts_there_and_no_job(tmp_path: Path) -> None:
    with (
        hosts(3, tmp_path, space={"node1": "2m", "node2": "3m"}) as made,
        SparkContext(conf=conf(made).set(EXCLUDE, "true").set("spark.task.maxFailures", "5")) as context,
    ):  # a task may fail twice on either node
        wait_for_workers(context, 6)
        pairs = context.parallelize(range(24), 24).map(lambda i: (i, (os.urandom(300_000), socket.gethostname())))
        found = pairs.groupByKey(6).mapValues(lambda values: [len(data) for data, _ in values]).collectAsMap()
        assert found == {i: [300_000] for i in range(24)}
        assert pairs.persist(StorageLevel.DISK_ONLY).count() == 24
        big = context.broadcast(os.urandom(4 << 20))
        assert context.parallelize(range(12), 12).map(lambda _: len(big.value)).distinct().collect() == [4 << 20]


def test_a_node_that_comes_up_late_is_used(fresh: Hosts) -> None:
    fresh[2].power_off()
    with SparkContext(conf=conf(fresh)) as context:
        hosts_of = lambda: set(
            context.parallelize(range(12), 12).map(lambda _: (time.sleep(0.1), socket.gethostname())[1]).collect()
        )
        wait_for_workers(context, 4)
        assert hosts_of() == {"node1", "node2"}
        fresh[2].connect()
        fresh[2].start()
        wait_until(lambda: hosts_of() == {"node1", "node2", "node3"})


def test_an_ssh_that_still_connects_is_ended_at_once(
    made: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not see that its input has ended: an application would stop only when that was waited for."""
    monkeypatch.setattr(ssh_process, "ENDING", 60.0)
    ends = tmp_path / "ends"
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f"#!{sys.executable}\nimport os, signal, sys, time\n"
        'if "silent" not in sys.argv: os.execvp("ssh", ["ssh", *sys.argv[1:]])\n'
        f"def end(*_): open({str(ends)!r}, 'w').write(str(time.monotonic())); os._exit(1)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "time.sleep(60)\n"
    )
    ssh.chmod(0o755)
    nodes = tmp_path / "nodes.toml"
    nodes.write_text(f'nodes = ["node1*1", "silent*1"]\n[defaults]\npython = "{PYTHON}"\n')
    with SparkContext(conf=conf(made, asparkle__ssh__command=ssh).setMaster(f"ssh:{nodes}")) as context:
        assert context.parallelize([1]).count() == 1
        stopping = time.monotonic()
    assert float(ends.read_text()) - stopping < ssh_process.ENDING


def test_no_prompt_of_a_jump_host_opens_a_window(made: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ssh that leads to it knows nothing of ``BatchMode``."""
    key, asked, window = tmp_path / "key", tmp_path / "asked", tmp_path / "window"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(key))
    window.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    window.chmod(0o755)
    public = key.with_suffix(".pub").read_text()
    authorized = made[0].directory / "authorized_keys"
    authorized.write_text(authorized.read_text() + public)
    config = tmp_path / "config"
    jump = f"Host jump\n  HostName {made[0].address}\n  User root\n  IdentityFile {key}\n  IdentitiesOnly yes\n"
    jump += f"  UserKnownHostsFile {made.directory}/known_hosts\nHost node2\n  ProxyJump jump\n"
    config.write_text(jump + made.config.read_text())
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("SSH_ASKPASS", str(window))
    settings = conf(made, asparkle__ssh__options=f"-F {config}").setMaster("ssh://node2*1")
    with SparkContext(conf=settings) as context, pytest.raises(NoExecutors, match="node2.*Permission denied"):
        context.parallelize([1]).count()
    assert not asked.exists()


def test_of_many_nodes_that_are_not_there_the_error_tells_some_and_the_log_each_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho no way to there >&2\nexit 255\n")
    ssh.chmod(0o755)
    settings = SparkConf().setMaster("ssh://node[1-12]*9").setAppName("nowhere").set("asparkle.ssh.command", str(ssh))
    with SparkContext(conf=settings) as context, pytest.raises(NoExecutors) as raised:
        context.parallelize([1]).count()
    assert str(raised.value).count("no way to there") == 10
    assert str(raised.value).endswith("; and 2 others: the log tells of each")
    assert caplog.text.count("a node is not there") == 12
    assert caplog.text.count("a worker could not be started") == 1


def test_workers_that_nodes_are_waited_for_are_mentioned_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workercluster, "PATIENCE", 0.2)
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexec sleep 60\n")
    ssh.chmod(0o755)
    settings = SparkConf().setMaster("ssh://node[1-3]*3").setAppName("late").set("asparkle.ssh.command", str(ssh))
    with SparkContext(conf=settings):
        wait_until(lambda: "a worker is not ready yet" in caplog.text)
    assert "a worker is not ready yet: executor='0' others=8 seconds=0.2" in caplog.text
    assert caplog.text.count("a worker is not ready yet") == 1


def test_when_no_node_can_be_reached_jobs_fail_with_what_ssh_says(made: Hosts) -> None:
    settings = SparkConf().setMaster("ssh://nobody.invalid*2,node1*2").setAppName("nowhere")
    settings.set("asparkle.ssh.options", "-F /dev/null -o ConnectTimeout=2")
    with SparkContext(conf=settings) as context, pytest.raises(NoExecutors) as raised:
        context.parallelize([1]).count()
    assert "nobody.invalid" in str(raised.value) and "node1" in str(raised.value) and "esolve" in str(raised.value)


def test_a_url_that_can_not_be_understood_is_an_error_at_once() -> None:
    with pytest.raises(ConfigurationError, match="slots"):
        SparkContext("ssh://alpha*many", "app")
