"""Workers at the other end of sockets, as the driver sees them: channels, losses, replacements.

What a backend adds is how one worker is started, how its end is learned of, and how it is killed.
"""

from __future__ import annotations

import socket
import sys
from abc import abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final, Protocol, Self

import anyio
from anyio.abc import TaskGroup

from asparkle.core.contracts import AppSpec, Cluster, Executor, ExecutorInfo, Lost
from asparkle.core.errors import NoExecutors
from asparkle.core.logs import log
from asparkle.core.loop import Receiver
from asparkle.core.protocol import Hello, MessageReader, Ready, Refused, Shutdown, encode
from asparkle.core.version import PYTHON, VERSION
from asparkle.core.worker.mark import running_task

TRIES: Final = 6  # workers that may die in a row before they are ready, or as many as are wanted, if these are more
LINGER: Final = 2.0  # seconds in which a worker that closed its channel is expected to be gone
PAUSE: Final = 0.1  # seconds before a worker is started in the place of one that was never ready; more after each
LONGEST_PAUSE: Final = 5.0
FIRST_WORDS: Final = 1 << 16  # bytes that the first message of a worker may have: what else it says may be of any size
PATIENCE: Final = 15.0  # seconds after which it is said that a worker is not ready yet
GRACE: Final = 1.0  # seconds that a worker which is not needed any more has to end by itself


def worker_command(app: AppSpec, python: str | None = None) -> list[str]:
    """The command that is a worker: its standard input and output are the channel to the driver.  ``python``: this one.

    Started anywhere with the same versions of Python and asparkle, it waits to be told what it is a worker of:
    `SocketExecutor.hello`.  What tasks print goes to its standard error.
    """
    return ["env", f"PYTHONHASHSEED={app.hash_seed}", python or sys.executable, "-m", "asparkle.worker"]


class Channel(Protocol):
    """An ordered stream of bytes in both directions, between the driver and one worker."""

    def send(self, data: bytes) -> None:
        """Hand bytes over.  Never blocks and never fails: to an end that is gone, nothing is sent."""

    async def receive(self) -> bytes:
        """The next bytes; none at the end, or once it is closed.  Cancelled, it loses nothing."""

    def hang_up(self) -> None:
        """The worker is no more, even if something else still holds its end: what it has sent is read, and then the
        end."""

    def close(self) -> None:
        """Let go of it: the other end reads the end.  May be called twice."""


class SocketChannel(Channel):
    """A connected socket; what can't be sent at once, a task of ``tasks`` sends."""

    def __init__(self, connection: socket.socket, tasks: TaskGroup) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._tasks = tasks
        self._receiver = Receiver(connection)
        self._unsent = bytearray()

    def send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # it is gone: `receive` tells
            return
        if sent < len(data):
            self._unsent += memoryview(data)[sent:]
            self._tasks.start_soon(self._drain)

    async def _drain(self) -> None:
        while self._unsent:
            try:
                await anyio.wait_writable(self._socket)
                sent = self._socket.send(self._unsent)
            except BlockingIOError:
                continue
            except (OSError, anyio.ClosedResourceError):
                return
            del self._unsent[:sent]

    async def receive(self) -> bytes:
        return await self._receiver.receive()

    def hang_up(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._unsent.clear()
        self._receiver.close()


class ChannelExecutor(Executor):
    """One worker at the other end of a `Channel`.

    ``ended``: waits until the worker is gone, and says in words how it went ("its process was killed by SIGKILL").
    ``end``: makes it go by force, at once; one that is gone it leaves alone, or raises ProcessLookupError; None where
    that can't be done.

    What the channel leads to is trusted: results are unpickled.  So it must be inherited by the worker, or led to it by
    something that has authenticated both sides.
    """

    def __init__(
        self,
        app: AppSpec,
        info: ExecutorInfo,
        channel: Channel,
        *,
        ended: Callable[[], Awaitable[str]],
        end: Callable[[], object] | None = None,
    ) -> None:
        self.info = info
        self._app = app
        self._ended = ended
        self._end = end
        self._channel = channel
        self._reader = MessageReader()
        self._gone = False
        self._blameless = ""

    def hello(self) -> None:
        """Tell a worker that `worker_command` started what it is a worker of: the first thing to send."""
        self.send([Hello(VERSION, PYTHON, self._app._asdict(), self.info.id)])

    async def ready(self) -> Lost | None:
        """Wait until the worker says that it can be sent tasks; or why it never will be."""
        self._reader.limit(FIRST_WORDS)
        first = await self.receive()
        self._reader.limit(None)
        if isinstance(first, Lost):
            return first
        if isinstance(first[0], Refused):
            return await self._lost(first[0].reason)
        if not isinstance(first[0], Ready):
            return await self._lost(f"it began with {type(first[0]).__name__}, before it was ready")
        self.info = self.info._replace(pid=first[0].pid)
        return None

    def send(self, messages: Sequence[Any]) -> None:
        if not self._gone:
            self._channel.send(encode(messages))

    async def receive(self) -> Sequence[Any] | Lost:
        while data := await self._channel.receive():
            try:
                messages = self._reader.feed(data)
            except ValueError as error:  # a program that prints, above all
                return await self._lost(f"what came out of it is no message of a worker: {error}")
            if messages:
                return messages
        return await self._lost()

    async def _lost(self, reason: str = "") -> Lost:
        """``reason``: empty for what `ended` says."""
        if self._gone:
            return Lost("its channel was closed")
        self.close()
        how = "its channel was closed"
        with anyio.move_on_after(LINGER) as waiting:
            how = await self._how_it_ended() or how
        if waiting.cancelled_caught:  # it lives, and nobody can talk to it any more
            self._end_by_force()
        return self.loss(self._blameless or reason or how, blame=not self._blameless)

    def loss(self, reason: str, blame: bool) -> Lost:
        """What is said of its loss.  Called once, when the worker is gone, or as good as gone."""
        return Lost(reason, blame=blame, running=running_task(self._app, self.info.id))

    def kill(self) -> bool:
        return self._kill("it was killed because a cancelled task did not end")

    def _kill(self, reason: str) -> bool:
        if self._end is None:
            return False
        self._blameless = reason
        self._end_by_force()
        return True

    def _end_by_force(self) -> None:
        """If that can be done."""
        if self._end is None:
            return
        try:
            self._end()
        except ProcessLookupError:
            return  # it is gone already
        except Exception as error:  # the backend's fault: other workers are to be ended all the same
            log().error("a worker could not be ended", executor=self.info.id, exc_info=error)

    async def _how_it_ended(self) -> str:
        """In words, once it is gone; empty where the backend fails to say."""
        try:
            return await self._ended()
        except Exception as error:
            log().error("how a worker ended is not known", executor=self.info.id, exc_info=error)
            return ""

    async def release(self) -> None:
        """End the worker, which is not needed any more: by asking it, then by force."""
        self._blameless = "it was released"
        self.send([Shutdown()])
        await anyio.sleep(GRACE)
        if not self._gone:
            self._kill(self._blameless)

    async def end(self) -> None:
        """Close the channel, and wait until the worker is gone: in a moment, or by force."""
        self.close()
        with anyio.move_on_after(GRACE):
            await self._how_it_ended()
            return
        self._end_by_force()
        with anyio.move_on_after(LINGER):
            await self._how_it_ended()

    def hang_up(self) -> None:
        """The worker is no more, even if a process that it forked still holds its end of the channel."""
        if not self._gone:
            self._channel.hang_up()

    def close(self) -> None:
        """Let go of the channel: the worker's end of it reads the end, and the worker ends."""
        self._gone = True
        self._channel.close()


class SocketExecutor(ChannelExecutor):
    """One worker that reads and writes the other end of a connected socket."""

    def __init__(
        self,
        app: AppSpec,
        info: ExecutorInfo,
        connection: socket.socket,
        tasks: TaskGroup,
        *,
        ended: Callable[[], Awaitable[str]],
        end: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(app, info, SocketChannel(connection, tasks), ended=ended, end=end)


class WorkerCluster(Cluster):
    """A cluster whose workers are started one by one, and replaced as they die: derive from it, and say how one is
    started.

    ``tasks``: a task group that lives as long as the cluster.
    """

    def __init__(self, app: AppSpec, tasks: TaskGroup) -> None:
        self.app = app
        self.tasks = tasks
        self.target = 0
        self._next = 0
        self._starting: dict[str, ChannelExecutor | None] = {}
        self._live: dict[str, ChannelExecutor] = {}
        self._released: set[str] = set()  # of these, until they are gone
        self._ready: deque[Executor | NoExecutors] = deque()  # and not given to the driver yet
        self._arrived = anyio.Event()
        self._stillborn = 0
        self._last_reason = ""  # why the last one could not be started

    @abstractmethod
    async def start(self, info: ExecutorInfo) -> ChannelExecutor:
        """Start a worker; ``info`` has its id, its epoch, and one slot on "localhost": what is not so is to be replaced
        in the executor's.  Raises OSError where that can't be done: it is tried again, or somewhere else.  Jobs fail
        with any other error at once.  When it is cancelled, it leaves no worker behind.
        """

    async def added(self) -> Executor:
        while not self._ready:
            await self._arrived.wait()
        found = self._ready.popleft()
        if isinstance(found, NoExecutors):
            raise found
        return found

    def _give(self, found: Executor | NoExecutors) -> None:
        self._ready.append(found)
        self._arrived.set()
        self._arrived = anyio.Event()

    async def set_target(self, executors: int) -> None:
        self.target = executors
        self.fill()

    def lost(self, executor: str) -> None:
        self._live.pop(executor, None)
        self._released.discard(executor)
        self.fill()

    async def release(self, ids: Collection[str]) -> None:
        for executor_id in ids:
            self.target -= 1
            if executor_id in self._live and executor_id not in self._released:
                self._released.add(executor_id)
                self.tasks.start_soon(self._live[executor_id].release)

    def fill(self) -> None:
        """Start as many workers as are missing."""
        begun: list[str] = []
        while len(self._live) - len(self._released) + len(self._starting) < self.target:
            info = ExecutorInfo(str(self._next), self._next + 1, "localhost", 1)
            self._next += 1
            self._starting[info.id] = None
            begun.append(info.id)
            self.tasks.start_soon(self._bring, info)
        if begun:
            self.tasks.start_soon(self._mention, begun)

    async def _mention(self, begun: Sequence[str]) -> None:
        """Jobs wait for workers for as long as it takes: who wonders why finds it in the log, once for those that are
        started together."""
        await anyio.sleep(PATIENCE)
        if late := [executor for executor in begun if executor in self._starting]:
            others = {"others": len(late) - 1} if len(late) > 1 else {}
            fields = {"executor": late[0], **others, "seconds": PATIENCE, "master": self.app.master}
            log().warning("a worker is not ready yet", **fields)

    async def _bring(self, info: ExecutorInfo) -> None:
        try:
            lost = await self._begin(info)
        except Exception as error:  # the backend's fault, which would be the same the next time
            executor = self._starting.pop(info.id)
            if executor is not None:
                await executor.end()
            problem = NoExecutors(f"{type(self).__qualname__}.start failed: {type(error).__name__}: {error}")
            problem.__cause__ = error
            self._give(problem)
            return
        executor = self._starting.pop(info.id)
        if lost is None:
            assert executor is not None
            self._live[info.id] = executor
            self._stillborn, self._last_reason = 0, ""
            self._give(executor)
            return
        self._stillborn += 1
        if lost.reason != self._last_reason:  # it may be the same for all
            self._last_reason = lost.reason
            log().warning("a worker could not be started", executor=info.id, reason=lost.reason)
        if self._stillborn >= max(TRIES, self.target) and not self._live:
            self._give(NoExecutors(f"no worker could be started: the last one says {lost.reason}"))
            return
        await anyio.sleep(min(PAUSE * self._stillborn, LONGEST_PAUSE))  # not again and again as fast as it can fail
        self.fill()

    async def _begin(self, info: ExecutorInfo) -> Lost | None:
        try:
            executor = await self.start(info)
        except OSError as error:
            return Lost(f"it could not be started: {error}")
        self._starting[info.id] = executor
        return await executor.ready()

    def executors(self) -> list[ChannelExecutor]:
        """Those that are started and not gone: ready or not, released or not."""
        return [*self._live.values(), *self.starting()]

    def starting(self) -> list[ChannelExecutor]:
        """Those that are started, and not ready yet."""
        return [executor for executor in self._starting.values() if executor is not None]

    def find(self, executor: str) -> ChannelExecutor | None:
        """The one of this id, ready or not; None when it is lost, or not started."""
        return self._live.get(executor) or self._starting.get(executor)

    async def close(self) -> None:
        """End all workers."""
        async with anyio.create_task_group() as tasks:
            for executor in self.executors():
                tasks.start_soon(executor.end)

    @classmethod
    @asynccontextmanager
    async def opened(cls, app: AppSpec, *arguments: Any) -> AsyncIterator[Self]:
        """A cluster, made with a task group and ``arguments``, for as long as it is needed: what `ClusterManager.open`
        returns."""
        async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
            cluster = cls(app, tasks, *arguments)
            stack.push_async_callback(cluster._close)  # when no task starts a worker any more
            try:
                yield cluster
            finally:
                tasks.cancel_scope.cancel()

    async def _close(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.close()
