"""A backend as others write one: workers are processes, each at the other end of a pair of sockets.

It keeps every promise; `broken_backends` has what does not.
"""

from __future__ import annotations

import socket
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
    worker_command,
)


class Subprocesses(WorkerCluster):
    executor = SocketExecutor

    async def start(self, info: ExecutorInfo) -> SocketExecutor:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await anyio.open_process(worker_command(self.app), stdin=theirs, stdout=theirs, stderr=None)

        async def ended() -> str:
            return f"its process ended with exit status {await process.wait()}"

        executor = self.executor(self.app, info, ours, self.tasks, ended=ended, end=process.kill)
        executor.hello()
        return executor


class SubprocessManager(ClusterManager):
    """Master URLs ``sub://N``."""

    cluster = Subprocesses

    def executors(self, url: str) -> int:
        number = url.partition("://")[2]
        if not number.isdigit() or int(number) == 0:
            raise ConfigurationError(
                f"master URL {url!r}: expected sub://N, N being how many workers are to be started"
            )
        return int(number)

    def open(self, app: AppSpec) -> AbstractAsyncContextManager[Cluster]:
        return self.cluster.opened(app)
