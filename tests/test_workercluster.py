"""`WorkerCluster` and `SocketExecutor`, as a backend has them: workers that don't start, don't talk, don't end."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import pytest

from asparkle import SparkConf, SparkContext
from asparkle.core.application import Application
from asparkle.core.errors import NoExecutors
from asparkle.core.protocol import Hello, MessageReader, Refused, encode
from asparkle.plugins import AppSpec, ExecutorInfo, Lost, SocketExecutor, WorkerCluster, in_thread, worker_command
from asparkle.plugins.registry import PluginRegistry

pytestmark = pytest.mark.anyio
Commands = Callable[[str, AppSpec], Sequence[str]]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def app(tmp_path: Path) -> AppSpec:
    (tmp_path / "results").mkdir()
    conf = SparkConf().setMaster("processes[1]").setAppName("workers")
    return Application(conf, PluginRegistry(conf)).spec._replace(directories=(str(tmp_path),))


class Subprocesses(WorkerCluster):
    """Workers as subprocesses; ``commands`` says what is started for each id."""

    def __init__(self, app: AppSpec, tasks: anyio.abc.TaskGroup, commands: Commands) -> None:
        super().__init__(app, tasks)
        self.commands = commands
        self.processes: list[subprocess.Popen[bytes]] = []
        self.hold = 0.0  # seconds before a process is started
        self.starting_one = threading.Event()

    async def start(self, info: ExecutorInfo) -> SocketExecutor:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await in_thread(self._popen, self.commands(info.id, self.app), theirs)

        async def ended() -> str:
            while process.poll() is None:
                await anyio.sleep(0.01)
            return f"exit status {process.returncode}"

        executor = SocketExecutor(self.app, info, ours, self.tasks, ended=ended, end=process.kill)
        executor.hello()
        return executor

    def _popen(self, command: Sequence[str], channel: socket.socket) -> subprocess.Popen[bytes]:
        self.starting_one.set()
        time.sleep(self.hold)
        process = subprocess.Popen(command, stdin=channel.fileno(), stdout=channel.fileno(), stderr=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def all_gone(self) -> bool:
        return all(process.poll() is not None for process in self.processes)


def first_is(script: str) -> Commands:
    """The worker "0" is a shell script; others are workers."""
    return lambda executor, app: ["sh", "-c", script] if executor == "0" else worker_command(app)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo Welcome to this host", r"no message of a worker: b'Welcome to this host\n'"),
        (r"printf '\001\000\000\000\377'", "no message of a worker"),
        (r"printf '\003\000\000\000\221\221\001'", "no message of a worker"),
        (r"printf '\004\000\000\000\221\222\022\001'", "it began with Started, before it was ready"),
        ("exec <&- >&- sleep 60", "its channel was closed"),
        ("exit 3", "exit status 3"),
    ],
)
async def test_a_worker_that_makes_no_sense_is_ended_and_another_started(app, caplog, script, reason):
    with anyio.fail_after(30):
        async with Subprocesses.opened(app, first_is(f"{script}; cat > /dev/null")) as cluster:
            await cluster.set_target(1)
            assert (await cluster.added()).info.id == "1"
            assert cluster.processes[0].wait(5) is not None
        assert cluster.all_gone()
    assert reason in caplog.text.replace("\\\\", "\\")


async def test_some_that_do_not_start_do_no_harm_while_others_do(app):
    def commands(executor: str, app: AppSpec) -> Sequence[str]:
        return ["false"] if int(executor) < 9 else worker_command(app)

    with anyio.fail_after(30):
        async with Subprocesses.opened(app, commands) as cluster:
            await cluster.set_target(10)
            assert int((await cluster.added()).info.id) >= 9


async def test_where_none_starts_it_says_so(app):
    with anyio.fail_after(30):
        async with Subprocesses.opened(app, lambda executor, app: ["false"]) as cluster:
            await cluster.set_target(2)
            with pytest.raises(NoExecutors, match="no worker could be started: the last one says exit status 1"):
                await cluster.added()


async def test_a_worker_that_is_being_started_when_the_cluster_closes_is_ended(app):
    with anyio.fail_after(30):
        async with Subprocesses.opened(app, lambda executor, app: ["sleep", "60"]) as cluster:
            cluster.hold = 0.2
            await cluster.set_target(3)
            assert await in_thread(cluster.starting_one.wait, 5)
        assert cluster.processes and cluster.all_gone()


async def test_a_released_worker_that_does_not_end_is_ended_with_the_cluster(app):
    with anyio.fail_after(30):
        async with Subprocesses.opened(app, lambda executor, app: worker_command(app)) as cluster:
            await cluster.set_target(1)
            executor = await cluster.added()
            cluster.processes[0].send_signal(signal.SIGSTOP)  # it hears nothing
            await cluster.release([executor.info.id])
            await cluster.release([executor.info.id, "unknown"])
            assert cluster.target == -2
            await anyio.sleep(0.05)  # it is asked to end
        assert cluster.all_gone()


async def test_a_released_worker_is_not_replaced(app):
    with anyio.fail_after(30):
        async with Subprocesses.opened(app, lambda executor, app: worker_command(app)) as cluster:
            await cluster.set_target(2)
            first, second = await cluster.added(), await cluster.added()
            await cluster.release([first.info.id])
            lost = await first.receive()
            assert lost == Lost("it was released", blame=False, running=[])
            cluster.lost(first.info.id)
            assert cluster.executors() == [second] and len(cluster.processes) == 2


def test_what_versions_differ_over_is_the_same_in_all_of_them():
    """A worker of another version must understand the Hello, and its driver the refusal."""
    hello = Hello("1", "3.11", {}, "0")
    assert encode([hello])[4:7] == b"\x91\x95\x00" and encode([Refused("no")])[4:7] == b"\x91\x92\x01"
    assert MessageReader().feed(encode([hello])) == [hello]
    assert Hello._fields == ("version", "python", "app", "executor") and Refused._fields == ("reason",)


def test_nobody_s_words_are_no_messages():
    for words in (b"\1\0\0\0\xff", b"\3\0\0\0\x91\x91\x7f", b"\2\0\0\0\x91\xa1"):
        with pytest.raises(ValueError):
            MessageReader().feed(words)


def test_workers_agree_on_hashes_whenever_and_by_whomever_they_are_started(app, monkeypatch):
    """Or a key with a hash of its own would go elsewhere after the process that starts workers was replaced."""
    for given, seed in (("random", "0"), ("", "0"), ("7", "7")):
        monkeypatch.setenv("PYTHONHASHSEED", given)
        assert app.hash_seed == seed and f"PYTHONHASHSEED={seed}" in worker_command(app)
    assert app._replace(environment={"PYTHONHASHSEED": "8"}).hash_seed == "8"
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    found = set()
    for _ in range(2):
        with SparkContext("processes[1]", "seeds") as sc:
            found.add(sc.parallelize([1], 1).map(lambda _: hash("spark")).first())
    assert len(found) == 1
