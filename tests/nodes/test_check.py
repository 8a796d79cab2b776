"""``asparkle cluster check``: what it says of nodes that are well, and of each thing that may be wrong with one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import anyio
import pytest
from waiting import wait_until

from asparkle import SparkConf
from asparkle.backends.ssh import check as checking
from asparkle.backends.ssh import sync
from asparkle.backends.ssh.check import CheckedNode, CheckedPair, Clock, Report, check, rounds
from asparkle.backends.ssh.sync import Sync
from asparkle.backends.ssh.wheels import lock
from asparkle.launcher.clustercheck import text
from asparkle.newapplication import new_application

from .conversation import PYTHON
from .faults import agent_pids, left_behind, signal_all
from .hosts import Host, Hosts, run

pytestmark = pytest.mark.slow


def asked(made: Hosts, url: str, *words: str, timeout: str = "30s") -> subprocess.CompletedProcess[str]:
    """The command itself."""
    settings = [f"asparkle.ssh.options=-F {made.config}", f"asparkle.ssh.connect.timeout={timeout}"]
    options = [word for setting in settings for word in ("--conf", setting)]
    command = [sys.executable, "-m", "asparkle", "cluster", "check", url, *options, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def found(done: subprocess.CompletedProcess[str], *, status: int) -> tuple[dict[str, Any], dict[tuple[str, str], Any]]:
    """Nodes by name, and pairs by reader and holder."""
    assert done.returncode == status, done.stderr
    report = json.loads(done.stdout)
    assert report["usable"] == (status == 0)
    nodes = {node["name"]: node for node in report["nodes"]}
    return nodes, {(pair["reader"], pair["holder"]): pair for pair in report["pairs"]}


def all_of(made: Hosts) -> str:
    """The master URL of all hosts, with three slots each."""
    return nodes_file(made.directory, {host.name: {"host": host.name, "slots": 3} for host in made})


def nodes_file(directory: Path, nodes: dict[str, dict[str, object]]) -> str:
    """The master URL of a file of nodes, whose Python is this one unless they say another."""
    lines = [f"[defaults]\npython = {json.dumps(PYTHON)}"]
    for name, node in nodes.items():
        lines += ["[[nodes]]", f"name = {json.dumps(name)}", *(f"{k} = {json.dumps(v)}" for k, v in node.items())]
    (directory / "nodes.toml").write_text("\n".join(lines))
    return f"ssh:{directory}/nodes.toml"


def python_that(directory: Path, name: str, statement: str) -> str:
    """A Python that executes a statement first."""
    path = directory / name
    path.write_text(f"#!/bin/sh\nexec {PYTHON} -c '{statement}; exec(sys.argv[1])' \"$2\"\n")
    path.chmod(0o755)
    return str(path)


def small_disk(host: Host, path: Path, size: str) -> Callable[..., str]:
    """Have a file system of that size at ``path``, on that host alone; what runs programs that see it."""
    assert host.sshd is not None
    path.mkdir()

    def there(*command: str) -> str:
        assert host.sshd is not None
        return run("nsenter", "--mount", "--target", str(host.sshd.pid), *command)

    there("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path))
    return there


# ------------------------------------------------------------------------------------------- nodes that are well


def test_nodes_that_are_well(made: Hosts) -> None:
    described = {host.name: {"host": host.name, "slots": 3, "labels.zone": f"of {host.name}"} for host in made}
    nodes, pairs = found(asked(made, nodes_file(made.directory, described), "--json"), status=0)
    assert [*nodes] == [host.name for host in made]
    for host, node in zip(made, nodes.values(), strict=True):
        assert (node["problem"], node["notes"]) == ("", [])
        assert node["python"] == ".".join(map(str, sys.version_info[:3]))
        assert (node["slots"], node["cpus"]) == (3, len(os.sched_getaffinity(0)))
        assert node["directory"] == str(host.directory / "tmp")
        assert node["labels"] == {"zone": f"of {host.name}"}
        assert node["memory"] > 0 and node["free_disk"] > 0 and node["from_driver"] > 0 and node["to_driver"] > 0
        assert abs(node["clock"]) <= node["clock_uncertainty"] == node["round_trip"] / 2
    assert pairs.keys() == {(one, other) for one in nodes for other in nodes if one != other}
    assert {(pair["route"], pair["reason"]) for pair in pairs.values()} == {("direct", "")}
    assert all(pair["bandwidth"] > 0 for pair in pairs.values())
    assert left_behind(made) == []


def test_a_table_that_fits_a_page(made: Hosts) -> None:
    done = asked(made, all_of(made))
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "3 of 3 nodes can be used."
    assert lines[2].split()[:6] == ["NODE", "OK", "PYTHON", "SLOTS", "CPUS", "MEMORY"]
    assert [line.split()[:2] for line in lines[3:6]] == [[host.name, "yes"] for host in made]
    assert [line.split()[:2] for line in lines[-3:]] == [[f"{i}", f"node{i}"] for i in (1, 2, 3)]
    assert max(map(len, lines)) <= 100
    assert left_behind(made) == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_under_any_event_loop(made: Hosts, backend: str) -> None:
    report = checked(made, all_of(made), backend=backend)
    assert report.usable and len(report.pairs) == 6 and not report.sampled
    assert left_behind(made) == []


def checked(made: Hosts, url: str, *, backend: str = "asyncio", all_pairs: bool = False, **settings: str) -> Report:
    """The report, in this process."""
    conf = SparkConf().setMaster(url).set("asparkle.ssh.options", f"-F {made.config}")
    application = new_application(None, "check", conf.setAll([(k.replace("__", "."), v) for k, v in settings.items()]))
    application.begin()
    try:
        return anyio.run(lambda: check(application.spec, all_pairs=all_pairs), backend=backend)
    finally:
        application.end()


# ------------------------------------------------------------------------------------- what is wrong with nodes


def test_each_node_that_cannot_be_used_is_told_of_with_what_to_do(fresh: Hosts, tmp_path: Path) -> None:
    here, off, _ = fresh
    full = tmp_path / "full"
    there = small_disk(here, full, "512k")
    old = python_that(tmp_path, "python-old", 'import sys; sys.version_info = (3, 9, 2, "final", 0)')
    url = nodes_file(
        tmp_path,
        {
            "well": {"host": here.name},
            "off": {"host": off.name},
            "old": {"host": here.name, "python": old},
            "none": {"host": here.name, "python": "python-of-nobody"},
            "full": {"host": here.name, "directory": str(full)},
            "closed": {"host": here.name, "directory": "/proc/nowhere"},
            "refused": {"host": f"nobody@{here.name}"},
        },
    )
    off.power_off()
    nodes, pairs = found(asked(fresh, url, "--json", timeout="10s"), status=1)
    told = asked(fresh, url, timeout="10s").stdout
    assert there("ls", "-A", str(full)) == ""
    problems = {name: node["problem"] for name, node in nodes.items()}
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert problems["well"] == "" and pairs == {}
    assert f"does `ssh -F {fresh.config} {off.name}` work" in problems["off"]
    assert "is cpython 3.9.2, the driver's" in problems["old"] and f"install Python {version} there" in problems["old"]
    assert "python-of-nobody can't be run there" in problems["none"]
    assert problems["full"].startswith(f"{full}: No space left on device; free space there, or give the node another")
    assert (
        "directory '/proc/nowhere'" in problems["closed"] and "give the node another `directory`" in problems["closed"]
    )
    assert "Permission denied" in problems["refused"] and "without a password?" in problems["refused"]
    assert told.startswith("1 of 7 nodes can be used.\n")
    assert max(map(len, told.splitlines())) <= 100
    for name in nodes.keys() - {"well"}:
        assert f"\n{name} can't be used:" in told
    assert left_behind(fresh) == []


def test_an_environment_may_take_longer_to_build_than_a_node_to_answer(
    made: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "_PATIENCE", 2.0)
    built = Sync.bring

    async def slow(self: Sync, *arguments: Any) -> dict[str, Any]:
        await anyio.sleep(5)
        return await built(self, *arguments)

    monkeypatch.setattr(Sync, "bring", slow)
    monkeypatch.setattr(sync, "lock", lambda: lock([str(made.directory)]))  # nothing is installed there
    report = checked(made, all_of(made), asparkle__ssh__connect__timeout="2s", asparkle__ssh__env="sync")
    assert [node.problem for node in report.nodes] == [""] * 3
    assert left_behind(made) == []


def test_a_node_that_says_nothing_is_a_row(fresh: Hosts) -> None:
    silent = fresh[1]
    assert silent.sshd is not None
    os.kill(silent.sshd.pid, signal.SIGSTOP)
    try:
        nodes, pairs = found(asked(fresh, all_of(fresh), "--json", timeout="3s"), status=1)
    finally:
        os.kill(silent.sshd.pid, signal.SIGCONT)
    assert nodes["node2"]["problem"].startswith(
        f"no Python has answered within 3 s; is it up, and does `ssh -F {fresh.config} node2` work"
    )
    assert nodes["node1"]["problem"] == nodes["node3"]["problem"] == ""
    assert pairs.keys() == {("node1", "node3"), ("node3", "node1")}
    assert left_behind(fresh) == []


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (signal.SIGSTOP, "it has not answered within 1 s: is the machine overloaded?"),
        (signal.SIGKILL, "it was lost: "),  # and ssh's words, if it had any
    ],
)
def test_an_agent_that_freezes_or_dies_in_the_middle_is_a_row(
    fresh: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: signal.Signals, problem: str
) -> None:
    monkeypatch.setattr(checking, "_PATIENCE", 1.0)
    in_the_middle = (
        "import os, sys, time; now = time.time; "
        f'time.time = lambda: (sys._getframe(1).f_code.co_name == "ask" and os.kill(os.getpid(), {fault:d}), now())[1]'
    )
    nodes: dict[str, dict[str, object]] = {host.name: {"host": host.name} for host in fresh}
    nodes["node2"]["python"] = python_that(tmp_path, "python-of-node2", in_the_middle)
    try:
        report = checked(fresh, nodes_file(tmp_path, nodes))
    finally:
        signal_all(agent_pids(fresh[1]), signal.SIGCONT)
    first, second, third = (node.problem for node in report.nodes)
    assert (first, third) == ("", "") and second.startswith(problem)
    assert {pair.route for pair in report.pairs} == {"direct"} and len(report.pairs) == 2
    assert left_behind(fresh) == []


def test_a_clock_that_is_off_and_a_small_disk_are_mentioned(fresh: Hosts, tmp_path: Path) -> None:
    ahead = python_that(tmp_path, "python-ahead", "import sys, time; now = time.time; time.time = lambda: now() + 90")
    small = tmp_path / "small"
    small_disk(fresh[1], small, "20m")
    url = nodes_file(
        tmp_path,
        {"ahead": {"host": "node1", "python": ahead}, "small": {"host": "node2", "directory": str(small)}},
    )
    nodes, _ = found(asked(fresh, url, "--json"), status=0)
    assert nodes["ahead"]["clock"] == pytest.approx(90, abs=1)
    (note,) = nodes["ahead"]["notes"]
    assert note.startswith("its clock is 90 s ahead of the driver's") and "NTP" in note
    (note,) = nodes["small"]["notes"]
    assert f"MB are free in {small}, for map outputs and cached partitions: free space there" in note
    assert left_behind(fresh) == []


# ------------------------------------------------------------------------------------------- the network


@pytest.mark.parametrize(
    ("target", "words"), [(["DROP"], "timed out"), (["REJECT", "--reject-with", "tcp-reset"], "Connection refused")]
)
def test_who_is_shut_out_by_a_firewall_reads_through_the_driver(fresh: Hosts, target: list[str], words: str) -> None:
    """Only who opens a connection is: the way back is open."""
    one, other, _ = fresh
    other.execute("iptables", "-A", "INPUT", "-s", one.address, "-p", "tcp", "--syn", "-j", *target)
    nodes, pairs = found(asked(fresh, all_of(fresh), "--json"), status=0)
    shut_out = pairs.pop((one.name, other.name))
    assert shut_out["route"] == "driver" and shut_out["bandwidth"] > 0
    assert f"node1 can't connect to {other.address}, port " in shut_out["reason"] and words in shut_out["reason"]
    assert {pair["route"] for pair in pairs.values()} == {"direct"}
    assert left_behind(fresh) == []


def test_where_no_node_may_connect_to_another_the_setting_is_named(made: Hosts) -> None:
    report = checked(made, all_of(made), asparkle__ssh__direct="false")
    assert report.usable and len(report.pairs) == 6
    assert {(pair.route, pair.reason) for pair in report.pairs} == {("driver", "asparkle.ssh.direct is false")}
    assert all(pair.bandwidth for pair in report.pairs)


def test_without_the_package_for_certificates_it_is_named(made: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    report = checked(made, all_of(made))
    assert report.usable and {pair.route for pair in report.pairs} == {"driver"}
    assert all(
        pair.reason.endswith("cryptography, in the driver: pip install 'asparkle[ssh]'") for pair in report.pairs
    )


def test_ctrl_c_ends_it_and_leaves_nothing(fresh: Hosts) -> None:
    silent = fresh[1]
    assert silent.sshd is not None
    os.kill(silent.sshd.pid, signal.SIGSTOP)
    command = [sys.executable, "-m", "asparkle", "cluster", "check", all_of(fresh)]
    options = ["--conf", f"asparkle.ssh.options=-F {fresh.config}"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: agent_pids(fresh[0]) and agent_pids(fresh[2]))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130
    os.kill(silent.sshd.pid, signal.SIGCONT)
    assert left_behind(fresh) == []


def test_of_many_nodes_a_sample_of_the_pairs_is_measured(
    made: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "_ALL_PAIRS", 4)
    monkeypatch.setattr(checking, "_SAMPLE", 2)
    names = [f"n{i}" for i in range(6)]
    url = nodes_file(tmp_path, {name: {"host": f"node{1 + i % 3}"} for i, name in enumerate(names)})
    report = checked(made, url)
    assert report.sampled and report.usable
    for name in names:
        assert sum(pair.reader == name for pair in report.pairs) == 2
    report = checked(made, url, all_pairs=True)
    assert not report.sampled and len(report.pairs) == 30
    assert left_behind(made) == []


# ------------------------------------------------------------------------------------------- the parts


def test_a_clock_is_off_by_what_the_middle_of_the_quickest_answer_says() -> None:
    assert Clock.of([(100.0, 130.0, 104.0)]) == (28.0, 2.0, 4.0)
    assert Clock.of([(100.0, 130.0, 104.0), (110.0, 138.5, 111.0), (120.0, 149.0, 123.0)]) == (28.0, 0.5, 1.0)
    assert Clock.of([(50.0, 20.0, 50.0)]) == (-30.0, 0.0, 0.0)
    assert Clock.of([(50.0, 20.0, 49.0)]).uncertainty == 0.0  # the driver's own was put back meanwhile


@pytest.mark.parametrize("count", range(10))
def test_rounds_have_each_pair_once_and_nobody_twice(count: int) -> None:
    names = [f"n{i}" for i in range(count)]
    drawn = rounds(names)
    assert sorted(tuple(sorted(pair)) for pairs in drawn for pair in pairs) == [*combinations(names, 2)]
    assert len(drawn) == max(0, count - 1 + count % 2)
    for pairs in drawn:
        members = [name for pair in pairs for name in pair]
        assert len(members) == len({*members})


def node(name: str, **fields: Any) -> CheckedNode:
    known = {"python": "3.11.10", "executable": "/usr/bin/python3", "slots": 128, "cpus": 128, "memory": 1 << 40}
    known |= {"directory": "/tmp", "free_disk": 9 << 40, "clock": -90.0, "clock_uncertainty": 0.2, "round_trip": 0.4}
    return CheckedNode(name, **known | {"from_driver": 2e9, "to_driver": 2e9} | fields)


def pairs_of(names: list[str], route: Callable[[int], str]) -> Iterator[CheckedPair]:
    for i, (one, other) in enumerate((a, b) for a in names for b in names if a != b):
        reason = "" if route(i) == "direct" else f"{one} can't connect to {other}, port 4000: timed out"
        yield CheckedPair(one, other, route(i), 2e9 / (1 + i) if route(i) else None, reason)


@pytest.mark.parametrize("count", [1, 2, 16, 17, 40])
def test_any_number_of_nodes_fits_100_columns(count: int) -> None:
    names = [f"node{i:02}.a-long-name.example.com" for i in range(count)]
    pairs = [*pairs_of(names, lambda i: ("direct", "driver", "")[i % 3])]
    shown = text(Report([node(name) for name in names], pairs, False), 100)
    assert max(map(len, shown.splitlines())) <= 100
    assert shown.count("through the driver: ") <= 8
    if count > 1:
        assert "--json tells of each" in shown or len(pairs) < 20


def test_a_report_in_words() -> None:
    nodes = [
        node(
            "a", clock=0.0123, clock_uncertainty=0.0004, round_trip=0.0008, free_disk=300 << 20, notes=["it is slow."]
        ),
        CheckedNode("b", "ssh failed: no\nroute"),
        node("c", directory="/scratch", from_driver=5 << 20),
    ]
    pairs = [
        CheckedPair("a", "c", "direct", 50 << 20),
        CheckedPair("c", "a", "driver", 5 << 20, "c can't connect to a"),
    ]
    assert text(Report(nodes, pairs, False), 100).splitlines() == [
        "2 of 3 nodes can be used.",
        "",
        "NODE  OK   PYTHON   SLOTS  CPUS  MEMORY  DISK    CLOCK          RTT       DRIVER MB/S",
        "a     yes  3.11.10  128    128   1.0 TB  300 MB  +12.3 ±0.4 ms  0.8 ms    1907, 1907",
        "b     no   -        -      -     -       -       -              -         -",
        "c     yes  3.11.10  128    128   1.0 TB  9.0 TB  -90.0 ±0.2 s   400.0 ms  5.0, 1907",
        "DISK: what is free. CLOCK: how far it is ahead of the driver's. RTT: from a question to its answer.",
        "  DRIVER MB/S: at which it reads from the driver, and the driver from it.",
        "",
        "a: Python is /usr/bin/python3, files go to /tmp",
        "c: Python is /usr/bin/python3, files go to /scratch",
        "",
        "a: it is slow.",
        "b can't be used: ssh failed: no route",
        "",
        "MB/s at which the node of a row reads from the node of a column (* through the driver):",
        "        1    2",
        "  1 a   -   50",
        "  2 c 5.0*   -",
        "c reads from a through the driver: c can't connect to a",
        "What goes through the driver takes up its network twice. For direct connections, let nodes reach",
        "  each other by TCP, on the ports that their systems choose (ephemeral ones).",
    ]


def test_labels_are_shown_where_there_are_some() -> None:
    labels = {"zone": "a", "accelerator": "a100"}
    nodes = [node("a", labels=labels), node("b"), CheckedNode("c", "ssh failed", labels=labels)]
    nodes.append(node("d", labels={"about": "many words " * 20}))
    shown = text(Report(nodes, [], False), 100).splitlines()
    assert "a, c: labels accelerator = a100, zone = a" in shown
    assert any(line.startswith("d: labels about = many words") for line in shown)
    assert max(map(len, shown)) <= 100
    assert "labels" not in text(Report([node("b")], [], False), 100)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["local[2]"], "master 'local[2]': expected ssh://host,host or ssh:nodes.toml"),
        (["ssh:nowhere.toml"], "nowhere.toml"),
        ([], "expected ssh://host,host or ssh:nodes.toml"),
        (["--conf", "asparkle.ssh.direct=perhaps", "ssh://a"], "asparkle.ssh.direct = 'perhaps'"),
    ],
)
def test_what_is_no_master_of_nodes_is_refused(words: list[str], problem: str) -> None:
    command = [sys.executable, "-m", "asparkle", "cluster", "check", *words]
    environment = {name: value for name, value in os.environ.items() if name != "MASTER"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and problem in done.stderr and len(done.stderr.splitlines()) == 1
