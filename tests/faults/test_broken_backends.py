"""Backends that break their contract: whoever runs a job, or makes the context, gets a PluginError that names it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import anyio
import pytest

import asparkle
from asparkle import SparkConf, aio
from asparkle.core.protocol import HasLoop
from asparkle.errors import ContextStopped, PluginError
from asparkle.plugins import AppSpec, Cluster, ClusterManager, Executor, ExecutorInfo, Lost, hookimpl

INFO = ExecutorInfo("1", 1, "localhost", 1)


class Mute(Executor):
    """Whose worker never reports anything."""

    info = INFO

    def send(self, messages: Any) -> None:
        return None

    async def receive(self) -> Any:
        await anyio.sleep_forever()

    def kill(self) -> bool:
        return False


class One(Cluster):
    """Brings one executor."""

    def __init__(self, executor: object) -> None:
        self.executors = [executor]

    async def added(self) -> Any:
        while not self.executors:
            await anyio.sleep_forever()
        return self.executors.pop()

    async def set_target(self, executors: int) -> None:
        return None

    async def release(self, ids: Any) -> None:
        return None


class Manager(ClusterManager):
    cluster: ClassVar[Any]

    @asynccontextmanager
    async def open(self, app: AppSpec) -> AsyncIterator[Any]:
        yield self.cluster()


def soon(value: object) -> Any:
    async def method(*arguments: object) -> object:
        return value

    return method


def manager(**methods: Any) -> type[ClusterManager]:
    return type("Broken", (Manager,), {"cluster": lambda self: One(Mute()), **methods})


def cluster(**methods: Any) -> type[ClusterManager]:
    return manager(cluster=lambda self: type("Broken", (One,), methods)(Mute()))


def losing(**methods: Any) -> type[ClusterManager]:
    """The same, of a cluster that loses its executor."""
    lost = type("Losing", (Mute,), {"receive": soon(Lost("it broke"))})
    return manager(cluster=lambda self: type("Broken", (One,), methods)(lost()))


def executor(**methods: Any) -> type[ClusterManager]:
    return manager(cluster=lambda self: One(type("Broken", (Mute,), methods)()))


def returns(value: object) -> Any:
    return lambda *arguments: value


def fails(*arguments: object) -> Any:
    raise KeyError("oops")


async def fails_soon(*arguments: object) -> Any:
    raise KeyError("oops")


@asynccontextmanager
async def fails_at_first(self: object, app: AppSpec) -> AsyncIterator[Any]:
    raise KeyError("oops")
    yield


@asynccontextmanager
async def fails_at_last(self: object, app: AppSpec) -> AsyncIterator[Any]:
    yield One(Mute())
    raise KeyError("oops")


@asynccontextmanager
async def fails_meanwhile(self: object, app: AppSpec) -> AsyncIterator[Any]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fails_soon)
        yield One(Mute())


class Half(Cluster):
    """Not abstract, and yet no cluster: `set_target` takes nothing."""

    added = release = soon(None)

    async def set_target(self) -> None:  # type: ignore[override]
        return None


BROKEN = [
    (manager(executors=returns(0)), "ClusterManager.executors: Broken returned 0 for 'broken://': expected a whole nu"),
    (
        manager(executors=returns("four")),
        "ClusterManager.executors: Broken returned 'four' for 'broken://': expected a",
    ),
    (manager(executors=fails), "ClusterManager.executors: Broken raised KeyError: 'oops'"),
    (manager(prestart=fails), "ClusterManager.prestart: Broken raised KeyError: 'oops'"),
    (manager(open=soon(None)), "ClusterManager.open: Broken returned <coroutine "),
    (manager(open=fails), "ClusterManager.open: Broken raised KeyError: 'oops'"),
    (manager(open=fails_at_first), "ClusterManager.open: Broken raised KeyError: 'oops'"),
    (manager(cluster=returns(3)), "ClusterManager.open: Broken gave 3: <class 'int'> is not a class derived from Clus"),
    (manager(cluster=lambda self: Half()), "can't be called as Cluster.set_target(executors)"),
    (cluster(set_target=returns(None)), "Cluster.set_target: Broken returned None: expected a coroutine, as of 'async"),
    (cluster(set_target=fails_soon), "Cluster.set_target: Broken raised KeyError: 'oops'"),
    (cluster(added=soon("me")), "Cluster.added: Broken returned 'me': expected an Executor"),
    (cluster(added=returns(Mute())), "expected a coroutine, as of 'async def added'"),
    (
        cluster(added=soon(Mute())),
        "Cluster.added: Broken returned executor '1' of epoch 1 after one of epoch 1: expected",
    ),
    (cluster(added=fails_soon), "Cluster.added: Broken raised KeyError: 'oops'"),
    (losing(lost=fails), "Cluster.lost: Broken raised KeyError: 'oops'"),
    (executor(info="here"), "Executor.info: Broken has 'here' there: expected an ExecutorInfo"),
    (executor(send=lambda self: None), "can't be called as Executor.send(messages)"),
    (executor(send=fails), "Executor.send: Broken raised KeyError: 'oops'"),
    (executor(receive=fails_soon), "Executor.receive: Broken raised KeyError: 'oops'"),
    (
        executor(receive=soon(None)),
        "Executor.receive: Broken returned None: expected at least one report of a worker's",
    ),
    (executor(receive=soon([])), "Executor.receive: Broken returned []: expected at least one report of a worker's"),
    (executor(receive=soon(["x"])), "Executor.receive: Broken returned ['x']: expected at least one report of a wor"),
]


def plugin(kind: type[ClusterManager]) -> Any:
    return SimpleNamespace(asparkle_cluster_managers=hookimpl(lambda: {"broken": kind}))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(("kind", "problem"), BROKEN, ids=[problem for _, problem in BROKEN])
def test_a_job_fails_with_the_promise_that_was_broken(kind: type[ClusterManager], problem: str, backend: str) -> None:
    async def main() -> None:
        async with aio.SparkContext("broken://", plugins=[plugin(kind)]) as sc:
            await sc.parallelize(range(4), 2).count()

    with pytest.raises(PluginError, match=re.escape(problem)):
        anyio.run(main, backend=backend)


@pytest.mark.parametrize(("kind", "problem"), BROKEN, ids=[problem for _, problem in BROKEN])
def test_so_does_one_without_an_event_loop(kind: type[ClusterManager], problem: str) -> None:
    with pytest.raises(PluginError, match=re.escape(problem)):
        with asparkle.SparkContext("broken://", plugins=[plugin(kind)]) as sc:
            sc.parallelize(range(4), 2).count()


@pytest.mark.parametrize("opens", [fails_at_last, fails_meanwhile])
async def test_what_fails_when_no_job_waits_for_it_is_told_by_the_context(opens: Any, anyio_backend: str) -> None:
    with pytest.raises(PluginError, match="ClusterManager.open: Broken raised KeyError: 'oops'") as told:
        async with aio.SparkContext("broken://", plugins=[plugin(manager(open=opens))]) as sc:
            if opens is fails_meanwhile:
                with pytest.raises(ContextStopped):
                    await sc.parallelize(range(4), 2).count()
    assert isinstance(told.value.__cause__, KeyError | ExceptionGroup)


@pytest.mark.anyio
async def test_nobody_waits_for_the_loop_of_a_worker_that_is_not_heard_any_more() -> None:
    class Cut(Mute):
        reports: ClassVar[list[Any]] = []

        async def receive(self) -> Any:
            return [self.reports.pop()]

    Cut.reports.append(HasLoop(True))
    with anyio.fail_after(10), pytest.raises(PluginError, match=r"Executor.receive: .*Cut raised IndexError"):
        conf = SparkConf().set("spark.task.reaper.killTimeout", "100s")
        broken = plugin(manager(cluster=lambda self: One(Cut())))
        async with aio.SparkContext("broken://", conf=conf, plugins=[broken]) as sc:
            await sc.parallelize(range(4), 2).count()


@pytest.mark.anyio
async def test_what_ends_something_may_fail_and_is_logged(caplog: Any) -> None:
    broken = manager(abandon=fails, cluster=lambda self: One(type("Broken", (Mute,), {"kill": fails})()))
    conf = SparkConf().set("spark.task.reaper.killTimeout", "10ms")
    async with aio.SparkContext("broken://", conf=conf, plugins=[plugin(broken)]) as sc:
        while "Executor.kill: Broken raised KeyError: 'oops'" not in caplog.text:
            with anyio.move_on_after(0.05):
                await sc.parallelize(range(4), 2).count()
    assert "ClusterManager.abandon: Broken raised KeyError: 'oops'" in caplog.text
