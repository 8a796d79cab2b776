"""A backend whose workers are at the other end of two pipes, no socket: made of public names alone."""

from __future__ import annotations

import os
import subprocess
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace

import anyio
import pytest
from anyio.abc import TaskGroup

from asparkle.aio import SparkContext
from asparkle.errors import JobFailed
from asparkle.plugins import (
    AppSpec,
    Channel,
    ChannelExecutor,
    Cluster,
    ClusterManager,
    ExecutorInfo,
    WorkerCluster,
    hookimpl,
    in_thread,
    worker_command,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Pipes(Channel):
    """File descriptors: one to read, one to write."""

    def __init__(self, incoming: int, outgoing: int, tasks: TaskGroup) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        for end in (incoming, outgoing):
            os.set_blocking(end, False)
        self._unsent = bytearray()
        self._tasks = tasks
        self._closed = False

    def send(self, data: bytes) -> None:
        if not self._unsent and not self._closed:
            self._tasks.start_soon(self._drain)
        self._unsent += data

    async def _drain(self) -> None:
        while self._unsent and not self._closed:
            try:
                await anyio.wait_writable(self._outgoing)
                del self._unsent[: os.write(self._outgoing, self._unsent[: 1 << 16])]
            except (OSError, anyio.ClosedResourceError):
                return

    async def receive(self) -> bytes:
        while not self._closed:
            try:
                await anyio.wait_readable(self._incoming)
                return os.read(self._incoming, 1 << 16)
            except BlockingIOError:
                continue
            except (OSError, anyio.ClosedResourceError):
                break
        return b""

    def hang_up(self) -> None:
        return None  # nothing else holds the worker's end

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            for end in (self._incoming, self._outgoing):
                anyio.notify_closing(end)
                os.close(end)


class PipedCluster(WorkerCluster):
    async def start(self, info: ExecutorInfo) -> ChannelExecutor:
        (to_worker, outgoing), (incoming, from_worker) = os.pipe(), os.pipe()
        process = subprocess.Popen(worker_command(self.app), stdin=to_worker, stdout=from_worker)
        os.close(to_worker)
        os.close(from_worker)

        async def ended() -> str:
            while process.poll() is None:
                await anyio.sleep(0.01)
            return f"it ended with exit status {process.returncode}"

        channel = Pipes(incoming, outgoing, self.tasks)
        executor = ChannelExecutor(self.app, info, channel, ended=ended, end=process.kill)
        executor.hello()
        return executor


class PipedManager(ClusterManager):
    def open(self, app: AppSpec) -> AbstractAsyncContextManager[Cluster]:
        return PipedCluster.opened(app)

    def executors(self, url: str) -> int:
        return 2


plugin = SimpleNamespace(asparkle_cluster_managers=hookimpl(lambda: {"piped": PipedManager}))


async def test_jobs_run_on_workers_that_are_reached_through_a_channel_of_ones_own() -> None:
    async with SparkContext("piped://", plugins=[plugin]) as sc:
        assert await sc.parallelize(range(1000), 4).map(lambda x: (x % 3, "x" * 1000)).countByKey() == {
            0: 334,
            1: 333,
            2: 333,
        }
        assert await sc.parallelize(["y" * 300_000] * 4, 4).map(len).sum() == 1_200_000
        with pytest.raises(JobFailed, match="it ended with exit status 3"):
            await sc.parallelize(range(1), 1).foreach(lambda _: os._exit(3))
        assert await in_thread(os.getpid) not in await sc.parallelize(range(2), 2).map(lambda _: os.getpid()).collect()
