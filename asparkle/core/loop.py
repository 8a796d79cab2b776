"""What anyio leaves to asyncio and trio: which loop runs, calls from other threads, tasks that outlive who began
them, and a socket that is listened to all the time."""

from __future__ import annotations

import asyncio
import contextvars
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar

import anyio
from anyio import to_thread
from anyio.lowlevel import RunVar

LoopCaller: TypeAlias = Callable[[Callable[[], Any]], None]
T = TypeVar("T")
_CHUNK: Final = 1 << 18
_THREADS: Final = 40  # at once, for each event loop


def current_loop() -> object:
    """The event loop that runs here, to compare with others."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token()


_threads: RunVar[anyio.CapacityLimiter] = RunVar("asparkle_threads")


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """What ``function`` returns, run in a thread; off the event loop, which it might hold up.

    The threads are asparkle's own: all of the host's may be waiting for asparkle.
    """
    try:
        limiter = _threads.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_THREADS)
        _threads.set(limiter)
    return await to_thread.run_sync(function, *arguments, limiter=limiter)


def loop_caller() -> LoopCaller:
    """A function that runs another one soon on the event loop that runs now.

    It may be called from any thread, never blocks, and does nothing once the loop has ended.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _trio_caller()
    here = contextvars.copy_context()

    def call(function: Callable[[], Any]) -> None:
        try:
            loop.call_soon_threadsafe(function, context=here)
        except RuntimeError:
            if not loop.is_closed():
                raise

    return call


def _trio_caller() -> LoopCaller:
    import trio

    token = trio.lowlevel.current_trio_token()

    def call(function: Callable[[], Any]) -> None:
        try:
            token.run_sync_soon(function)
        except trio.RunFinishedError:
            return

    return call


def start_detached(function: Callable[[], Coroutine[Any, Any, None]], name: str, ended: Callable[[], None]) -> object:
    """Begin a coroutine function in a task that is the event loop's own and no other task's child.

    It is cancelled when the loop's main function is over, on asyncio perhaps before its first step.  It must not
    raise.  ``ended`` is called when the task is over, whatever became of it.  Hold on to what is returned, or
    asyncio may forget the task.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _start_detached_on_trio(function, name, ended)
    task = loop.create_task(function(), name=name)
    task.add_done_callback(lambda _: ended())
    return task


def _start_detached_on_trio(
    function: Callable[[], Coroutine[Any, Any, None]], name: str, ended: Callable[[], None]
) -> object:
    import trio

    async def run() -> None:
        try:
            await function()
        finally:
            ended()

    return trio.lowlevel.spawn_system_task(run, name=name)


def cancel_detached(task: object) -> None:
    """Cancel what `start_detached` has begun; on asyncio, whatever shields it.  On trio there is no such thing."""
    if isinstance(task, asyncio.Task):
        task.cancel()


async def clean_up(function: Callable[[], Any]) -> None:
    """Run ``function`` in a thread, whatever is cancelled; or here, at the interpreter's end, when from Python 3.12
    on no thread can be started any more."""
    with anyio.CancelScope(shield=True):
        try:
            await in_thread(function)
        except RuntimeError as error:
            if "interpreter shutdown" not in str(error):
                raise
            function()


class Receiver:
    """What arrives at a non-blocking socket, chunk by chunk.  Made on an event loop, and used there by one task.

    On asyncio the loop watches the socket for as long as this lives, and reads what has come before the task has
    its turn: asking for each chunk anew (`anyio.wait_readable`) takes three times as long.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._arrived: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:  # trio
            return
        self._loop.add_reader(connection, self._read)

    async def receive(self) -> bytes:
        """The next chunk; nothing at the end, and after `stop`."""
        if self._loop is None:
            while (data := self._take()) is None:
                with suppress(anyio.ClosedResourceError):
                    await anyio.wait_readable(self._socket)
            return data
        while not self._arrived:
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._arrived.popleft()

    def stop(self) -> None:
        """Listen no more.  To be called before the socket is closed."""
        if self._loop is not None and self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
        self._deliver(b"")

    def close(self) -> None:
        """Stop, and close the socket; who waits to write to it is woken, too."""
        self.stop()
        if self._socket.fileno() >= 0:
            anyio.notify_closing(self._socket)
            self._socket.close()

    def _take(self) -> bytes | None:
        try:
            return self._socket.recv(_CHUNK)
        except BlockingIOError:
            return None
        except OSError:  # reset, or closed here
            return b""

    def _read(self) -> None:
        data = self._take()
        if data == b"":
            self.stop()
        elif data is not None:
            self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        self._arrived.append(data)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
