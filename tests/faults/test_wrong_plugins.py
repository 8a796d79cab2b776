"""Plugins that are wrong: jobs fail and say what of which plugin, and nothing hangs, dies or is left behind."""

from __future__ import annotations

import os
import socket
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.abc import Process

from asparkle import JobFailed, SparkConf, StorageLevel
from asparkle.aio import SparkContext
from asparkle.core import workercluster
from asparkle.errors import ConfigurationError, NoExecutors
from asparkle.plugins import (
    AppSpec,
    Cluster,
    ClusterManager,
    ExecutorInfo,
    SocketExecutor,
    WorkerCluster,
    hookimpl,
    worker_command,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Faulty(WorkerCluster):
    """``faulty://FAULT``: each worker is a process, and one thing about that is wrong."""

    started: list[Process]

    async def start(self, info: ExecutorInfo) -> SocketExecutor:
        fault = self.app.master.partition("://")[2]
        if fault == "start":
            raise ValueError("no such pool")
        ours, theirs = socket.socketpair()
        command = worker_command(self.app)
        if fault == "banner":
            command = ["sh", "-c", 'echo Welcome to this host; exec "$@"', "sh", *command]
        elif fault == "echo":
            command = ["cat"]
        elif fault == "silence":
            command = ["sleep", "1000"]
        with theirs:
            process = await anyio.open_process(command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=None)
        self.started.append(process)

        async def ended() -> str:
            if fault == "ended":
                raise RuntimeError("nobody knows")
            return f"exit status {await process.wait()}"

        def end() -> None:
            process.kill()
            if fault == "end":
                raise RuntimeError("not so sure")

        executor = SocketExecutor(self.app, info, ours, self.tasks, ended=ended, end=end)
        executor.hello()
        return executor


class FaultyManager(ClusterManager):
    def open(self, app: AppSpec) -> AbstractAsyncContextManager[Cluster]:
        Faulty.started = []
        return Faulty.opened(app)

    def executors(self, url: str) -> int:
        return 2


def provider(hook: str, table: dict[str, Any]) -> object:
    """A plugin with one hook."""

    def implementation() -> dict[str, Any]:
        return table

    implementation.__name__ = hook
    return SimpleNamespace(**{hook: hookimpl(implementation)})


def context(fault: str) -> SparkContext:
    return SparkContext(f"faulty://{fault}", plugins=[provider("asparkle_cluster_managers", {"faulty": FaultyManager})])


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("banner", r"what came out of it is no message of a worker: b'Welcome to this host"),
        ("echo", r"it began with Hello, before it was ready"),
        ("start", r"Faulty.start failed: ValueError: no such pool"),
    ],
)
async def test_a_backend_whose_workers_can_not_be_talked_to_fails_jobs_in_words(fault: str, problem: str) -> None:
    async with context(fault) as sc:
        with anyio.fail_after(60), pytest.raises(NoExecutors, match=problem):
            await sc.parallelize(range(4), 2).count()
    assert all(process.returncode is not None for process in Faulty.started)


async def test_workers_that_say_nothing_are_mentioned_and_ended(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(workercluster, "PATIENCE", 0.2)
    async with context("silence") as sc, anyio.create_task_group() as tasks:
        tasks.start_soon(sc.parallelize(range(4), 2).count)
        with anyio.fail_after(30):
            while (
                "a worker is not ready yet: executor='0' others=1 seconds=0.2 master='faulty://silence'"
                not in caplog.text
            ):
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert all(process.returncode is not None for process in Faulty.started)


@pytest.mark.parametrize("fault", ["ended", "end"])
async def test_a_backend_that_fails_at_a_workers_end_fails_no_job(fault: str, tmp_path: Path, caplog: Any) -> None:
    def die_once(x: int) -> int:
        marker = tmp_path / "died"
        if x == 0 and not marker.exists():
            marker.touch()
            os._exit(3)
        return x

    async with context(fault) as sc:
        with anyio.fail_after(60):
            assert await sc.parallelize(range(4), 4).map(die_once).collect() == [0, 1, 2, 3]
    for process in Faulty.started:
        with anyio.fail_after(10):
            await process.wait()
    if fault == "ended":
        assert "how a worker ended is not known" in caplog.text and "nobody knows" in caplog.text


POLICY = """
from asparkle.plugins import CachePolicy

class Policy(CachePolicy):
    def __init__(self, app):
        self.blocks = []

    def touch(self, block):
        self.blocks.append(block)

    def forget(self, block):
        {forget}

    def victims(self):
        return {victims}
"""


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("raise RuntimeError('no licence')", "can't be imported here: RuntimeError: no licence"),
        ("", "has no attribute 'Policy'"),
        ("class Policy: pass", "is not a class derived from CachePolicy"),
        (
            POLICY.format(forget="pass", victims="[]").replace("self, app", "self"),
            "Policy' could not be made: TypeError",
        ),
        (POLICY.format(forget="pass", victims="[]").replace("self.blocks = []", "exit(3)"), "made: SystemExit: 3"),
    ],
)
@pytest.mark.parametrize("master", ["processes[1]", "threads[1]"])
async def test_what_workers_can_not_load_they_say(
    source: str, problem: str, master: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    module = f"faulty_policy_{abs(hash(request.node.name))}"
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = provider("asparkle_cache_policies", {"faulty": f"{module}:Policy"})
    conf = SparkConf().set("asparkle.cache.policy", "faulty")
    with anyio.fail_after(60), pytest.raises((NoExecutors, ConfigurationError), match=problem):
        async with SparkContext(master, conf=conf, plugins=[plugin]) as sc:
            await sc.parallelize(range(4), 2).count()


@pytest.mark.parametrize(
    ("victims", "forget", "problem"),
    [
        ("None", "pass", r"cache policy Policy: victims\(\) returned None: expected blocks"),
        ("[(99, 0)]", "pass", r"cache policy Policy: victims\(\) named \(99, 0\), which is not in the store"),
        ("self.blocks", "pass", r"which is not in the store: is it not heeding forget\(\)\?"),
        (
            "self.blocks",
            "self.blocks = [kept for kept in self.blocks if kept != block]",
            "",
        ),  # names some twice: no harm
    ],
)
async def test_a_policy_that_names_no_blocks_of_the_store_is_named(
    victims: str, forget: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    module = f"faulty_victims_{abs(hash(request.node.name))}"
    (tmp_path / f"{module}.py").write_text(POLICY.format(victims=victims, forget=forget))
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = provider("asparkle_cache_policies", {"faulty": f"{module}:Policy"})
    conf = SparkConf().set("asparkle.cache.policy", "faulty").set("spark.executor.memory", "1m")
    async with SparkContext("threads[1]", conf=conf, plugins=[plugin]) as sc:
        caches = [sc.parallelize(range(8), 8).map(lambda x: "x" * 30_000).persist() for _ in range(4)]

        async def fill() -> list[int]:
            return [await cached.count() for cached in (*caches, *caches)]

        if problem:
            with pytest.raises(JobFailed, match=problem):
                await fill()
        else:
            assert await fill() == [8] * 8


STORE = """
from asparkle.plugins import BlockStore

class Store(BlockStore):
    def __init__(self, app):
        self.blocks = {}

    def put(self, block, chunks):
        self.blocks[block] = b"".join(map(bytes, chunks))
        return len(self.blocks[block])

    def get(self, block):
        found = self.blocks.get(block)
        return None if found is None else memoryview(found)

    def remove(self, block):
        raise OSError("no route to the store")
"""


@pytest.mark.parametrize("master", ["processes[1]", "threads[1]"])
async def test_a_store_that_can_not_remove_costs_no_worker(
    master: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"faulty_store_{master[0]}"
    (tmp_path / f"{module}.py").write_text(STORE)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = provider("asparkle_block_stores", {"faulty": f"{module}:Store"})
    conf = SparkConf().set("asparkle.store.disk", "faulty")
    async with SparkContext(master, conf=conf, plugins=[plugin]) as sc:
        pids = sc.parallelize(range(1), 1).map(lambda _: os.getpid())
        before = await pids.collect()
        cached = sc.parallelize(range(4), 1).persist(StorageLevel.DISK_ONLY)
        assert await cached.count() == 4
        await cached.unpersist()
        assert await pids.collect() == before
