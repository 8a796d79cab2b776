"""Worker processes of this machine, as the driver sees them: channels, losses, replacements."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio

from asparkle.backends.launch import ZygoteProcess, reap
from asparkle.core.bytestream import Unpacker
from asparkle.core.contracts import AppSpec, Cluster, Executor, ExecutorInfo, Lost
from asparkle.core.errors import NoExecutors
from asparkle.core.loop import Receiver, clean_up, in_thread
from asparkle.core.protocol import MessageReader, Ready, encode
from asparkle.core.worker.mark import running_task

TRIES = 6  # workers that may die in a row before they are ready
LINGER = 2.0  # seconds in which a worker that closed its channel is expected to be reaped


class ProcessExecutor(Executor):
    """A channel to one worker process."""

    def __init__(self, cluster: ProcessCluster, info: ExecutorInfo, connection: socket.socket) -> None:
        self.info = info
        self._cluster = cluster
        self._socket = connection
        self._receiver = Receiver(connection)
        self._reader = MessageReader()
        self._unsent = bytearray()
        self._gone = False
        self._killed = False

    def send(self, messages: Sequence[Any]) -> None:
        if self._gone:
            return
        data = encode(messages)
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # it is gone: `receive` tells why
            return
        if sent < len(data):
            self._unsent += memoryview(data)[sent:]
            self._cluster.tasks.start_soon(self._drain)

    async def _drain(self) -> None:
        while self._unsent and not self._gone:
            try:
                await anyio.wait_writable(self._socket)
                sent = self._socket.send(self._unsent)
            except BlockingIOError:
                continue
            except (OSError, anyio.ClosedResourceError):
                return
            del self._unsent[:sent]

    async def receive(self) -> Sequence[Any] | Lost:
        while data := await self._receiver.receive():
            messages = self._reader.feed(data)
            if messages:
                return messages
        return await self._lost()

    async def _lost(self) -> Lost:
        if self._gone:
            return Lost("its channel was closed")
        self.close()
        status = await self._cluster.exit_status(self.info.id)
        running = running_task(self._cluster.app, self.info.id)
        if self._killed:
            return Lost("it was killed because a cancelled task did not end", blame=False, running=running)
        if status is None:
            return Lost("its channel was closed", running=running)
        if status < 0:
            return Lost(f"its process was killed by {_signal_name(-status)}", running=running)
        return Lost(f"its process ended with exit status {status}", running=running)

    def kill(self) -> bool:
        self._killed = True
        self._cluster.zygote.tell(["kill", self.info.id])
        return True

    def hang_up(self) -> None:
        """The worker is no more, even if a process that it forked still holds its end of the channel: what
        it has sent is read, and then the end."""
        if not self._gone:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._gone = True
        self._receiver.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class ProcessCluster(Cluster):
    """The workers of one application, replaced as they die."""

    def __init__(self, app: AppSpec, zygote: ZygoteProcess) -> None:
        self.app = app
        self.target = 0
        self.tasks: Any = None
        self.zygote = zygote
        self._next = 0
        self._live: dict[str, ProcessExecutor] = {}
        self._starting: dict[str, ProcessExecutor] = {}
        self._statuses: dict[str, int] = {}
        self._status_arrived = anyio.Event()
        self._send, self._added = anyio.create_memory_object_stream[Executor | NoExecutors](1_000_000)
        self._stillborn = 0

    async def added(self) -> Executor:
        found = await self._added.receive()
        if isinstance(found, NoExecutors):
            raise found
        return found

    async def set_target(self, executors: int) -> None:
        self.target = executors
        self._fill()

    def _fill(self) -> None:
        while len(self._live) + len(self._starting) < self.target:
            self._start_one()

    def _start_one(self) -> None:
        executor_id = str(self._next)
        self._next += 1
        info = ExecutorInfo(executor_id, self._next, "localhost", 1)
        executor = ProcessExecutor(self, info, self.zygote.worker(executor_id))
        self._starting[executor_id] = executor
        self.tasks.start_soon(self._await_ready, executor)

    async def _await_ready(self, executor: ProcessExecutor) -> None:
        first = await executor.receive()
        self._starting.pop(executor.info.id, None)
        if isinstance(first, Lost):
            await self._died_young(first)
            return
        ready = first[0]
        assert isinstance(ready, Ready)
        info = executor.info
        executor.info = ExecutorInfo(info.id, info.epoch, info.host, info.slots, ready.pid)
        self._live[info.id] = executor
        self._stillborn = 0
        self._send.send_nowait(executor)

    async def _died_young(self, lost: Lost) -> None:
        self._stillborn += 1
        if self._stillborn >= TRIES:
            self._send.send_nowait(NoExecutors(f"no worker process could be started: the last one says {lost.reason}"))
            return
        await anyio.sleep(0.1)  # not again and again as fast as it can fail
        self._fill()

    def lost(self, executor: str) -> None:
        self._live.pop(executor, None)
        self._fill()

    async def release(self, ids: Collection[str], *, drain: bool) -> None:
        for executor_id in ids:
            executor = self._live.pop(executor_id, None)
            self.target -= 1
            if executor is not None:
                executor.kill()

    async def listen(self) -> None:
        """Take note of what the zygote says; start another one when it dies."""
        while True:
            await self._listen_to_zygote()
            await self._replace_zygote()

    async def _listen_to_zygote(self) -> None:
        unpacker = Unpacker()
        receiver = Receiver(self.zygote.control)
        try:
            while data := await receiver.receive():
                for kind, executor, _pid, *rest in unpacker.feed(data):
                    if kind == "ended":
                        self._ended(executor, rest[0])
        finally:
            receiver.stop()

    def _ended(self, executor: str, status: int) -> None:
        self._statuses[executor] = status
        ended = self._live.get(executor) or self._starting.get(executor)
        if ended is not None:
            ended.hang_up()
        self._status_arrived.set()
        self._status_arrived = anyio.Event()

    async def _replace_zygote(self) -> None:
        await anyio.sleep(0.1)
        self.zygote.close()
        await in_thread(reap, self.zygote.pid)
        self.zygote = ZygoteProcess(self.app)
        for executor in list(self._starting.values()):
            executor.close()  # it was never started, and its channel leads nowhere
        self._fill()

    async def exit_status(self, executor: str) -> int | None:
        """How a worker's process ended; None if nobody says so in time."""
        with anyio.move_on_after(LINGER):
            while executor not in self._statuses:
                await self._status_arrived.wait()
        return self._statuses.pop(executor, None)

    def close(self) -> None:
        for executor in [*self._live.values(), *self._starting.values()]:
            executor.close()
        self.zygote.close()


@asynccontextmanager
async def open_cluster(app: AppSpec, zygote: ZygoteProcess) -> AsyncIterator[Cluster]:
    """The cluster of ``zygote``, which is ended with it."""
    cluster = ProcessCluster(app, zygote)
    try:
        async with anyio.create_task_group() as tasks:
            cluster.tasks = tasks
            tasks.start_soon(cluster.listen)
            try:
                yield cluster
            finally:
                tasks.cancel_scope.cancel()
    finally:
        cluster.close()
        await clean_up(lambda: reap(cluster.zygote.pid))
