"""Master URLs ``nice://N`` and ``nice://N/LEVEL``: N workers that give way to whatever else the machine has to do."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

import anyio

from asparkle.errors import ConfigurationError
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


def parse(url: str) -> tuple[int, int]:
    """How many workers, and how nice they are: 10, or as the URL says, up to 19."""
    match = re.fullmatch(r"nice://([1-9]\d*)(?:/(1?\d))?", url)
    if match is None:
        raise ConfigurationError(f"master = {url!r}: expected nice://N or nice://N/LEVEL, with a LEVEL of 0 to 19")
    return int(match[1]), int(match[2] or 10)


class NiceCluster(WorkerCluster):
    async def start(self, info: ExecutorInfo) -> SocketExecutor:
        ours, theirs = socket.socketpair()
        _, level = parse(self.app.master)
        command = ["nice", "-n", str(level), *worker_command(self.app)]
        with theirs:
            process = await anyio.open_process(command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=None)

        async def ended() -> str:
            return f"its process ended with exit status {await process.wait()}"

        executor = SocketExecutor(self.app, info, ours, self.tasks, ended=ended, end=process.kill)
        executor.hello()
        return executor


class NiceManager(ClusterManager):
    def executors(self, url: str) -> int:
        return parse(url)[0]

    def open(self, app: AppSpec) -> AbstractAsyncContextManager[Cluster]:
        return NiceCluster.opened(app)


@hookimpl
def asparkle_cluster_managers() -> Mapping[str, type[ClusterManager]]:
    return {"nice": NiceManager}
