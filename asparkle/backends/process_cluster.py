"""Worker processes of this machine, as the driver sees them."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import anyio
from anyio.abc import TaskGroup

from asparkle.backends.launch import ZygoteProcess, how_it_ended, reap
from asparkle.plugins import (
    AppSpec,
    ExecutorInfo,
    Receiver,
    SocketExecutor,
    Unpacker,
    WorkerCluster,
    clean_up,
    in_thread,
)


class ProcessCluster(WorkerCluster):
    """Workers that a zygote forks."""

    def __init__(self, app: AppSpec, tasks: TaskGroup, zygote: ZygoteProcess) -> None:
        super().__init__(app, tasks)
        self.zygote = zygote
        self._pids: dict[str, int] = {}  # of workers that the zygote has started
        self._orphans: dict[str, int] = {}  # of those that have outlived it
        self._statuses: dict[str, int] = {}
        self._status_arrived = anyio.Event()
        tasks.start_soon(self._listen)

    async def start(self, info: ExecutorInfo) -> SocketExecutor:
        return SocketExecutor(
            self.app,
            info,
            self.zygote.worker(info.id),
            self.tasks,
            ended=lambda: self._end_of(info.id),
            end=lambda: self._end_by_force(info.id),
        )

    def _end_by_force(self, executor: str) -> None:
        if executor in self._orphans:
            os.kill(self._orphans[executor], signal.SIGKILL)
        else:
            self.zygote.tell(["kill", executor])

    def lost(self, executor: str) -> None:
        self._orphans.pop(executor, None)
        super().lost(executor)

    async def close(self) -> None:
        """The zygote ends its workers, and itself."""
        for executor in self.executors():
            executor.close()
        self.zygote.close()
        for pid in self._orphans.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await clean_up(lambda: reap(self.zygote.pid))

    async def _listen(self) -> None:
        """Take note of what the zygote says; start another one when it dies."""
        while True:
            await self._listen_to_zygote()
            await self._replace_zygote()

    async def _listen_to_zygote(self) -> None:
        unpacker = Unpacker()
        receiver = Receiver(self.zygote.control)
        try:
            while data := await receiver.receive():
                for kind, executor, pid, *rest in unpacker.feed(data):
                    if kind == "started":
                        self._pids[executor] = pid
                    elif kind == "ended":
                        self._pids.pop(executor, None)
                        self._ended(executor, rest[0])
        finally:
            receiver.stop()

    def _ended(self, executor: str, status: int) -> None:
        self._statuses[executor] = status
        ended = self.find(executor)
        if ended is not None:
            ended.hang_up()
        self._status_arrived.set()
        self._status_arrived = anyio.Event()

    async def _replace_zygote(self) -> None:
        self._orphans |= {executor: pid for executor, pid in self._pids.items() if self.find(executor) is not None}
        self._pids.clear()
        await anyio.sleep(0.1)
        self.zygote.close()
        await in_thread(reap, self.zygote.pid)
        self.zygote = ZygoteProcess(self.app)
        for executor in self.starting():
            executor.close()  # it was never started, and its channel leads nowhere
        self.fill()

    async def _end_of(self, executor: str) -> str:
        """How a worker's process ended."""
        while executor not in self._statuses:
            await self._status_arrived.wait()
        return f"its process {how_it_ended(self._statuses.pop(executor))}"
