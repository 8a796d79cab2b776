"""A worker's event loop: asyncio's, in a thread of its own, for the coroutine functions of all the worker's tasks.

It is started when a task first needs it and kept until the worker ends, so that what belongs to an event loop (a
pool of connections) can live from task to task.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from asparkle.core.errors import TaskKilled
from asparkle.core.logs import log
from asparkle.core.rates import Rate
from asparkle.core.worker.resources import Resources
from asparkle.core.worker.stream import Stream
from asparkle.core.worker.turns import Turns


class EventLoop:
    """One per worker.  ``ask_turns``: asks the driver for turns of a rate; the answer goes to ``turns``."""

    def __init__(self, name: str, ask_turns: Callable[[Rate, int], None]) -> None:
        self.loop = asyncio.new_event_loop()
        self.turns = Turns(self.loop, ask_turns)
        self.resources = Resources(self.loop)
        self._streams: dict[Stream, None] = {}
        self._closing = self._gone = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._gone:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:  # of a task that a user's function left behind
                log("asparkle.worker").error("a coroutine that no task waits for ended badly", exc_info=error)
        self.loop.close()

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function soon on the loop, from any thread; nothing happens once the loop has ended."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *arguments)

    def join(self, timeout: float) -> None:
        """After `close`: wait for its thread."""
        self._thread.join(timeout)

    # ------------------------------------------------------------------------- streams

    def begin(self, stream: Stream) -> None:
        """Start its coroutine, or end it once the worker ends.  From the thread that takes its results."""
        self._streams[stream] = None
        self.call(stream.cancel if self._closing else stream.begin)
        if self._gone:  # perhaps too late for it to be ended with the others
            stream.end(TaskKilled("the worker ends"))

    def runs(self, stream: Stream) -> bool:
        """Whether it has begun and is not over.  From any thread."""
        return stream in self._streams

    def forget(self, stream: Stream) -> None:
        """It is over."""
        self._streams.pop(stream, None)

    # ------------------------------------------------------------------------- the end

    def close(self, timeout: float, closed: Callable[[], None]) -> None:
        """Cancel what runs, close the resources, and end; ``closed`` is called then, or when ``timeout`` is over.

        Returns at once.  From any thread; once.
        """
        self.call(self._begin_closing, timeout, closed)

    def _begin_closing(self, timeout: float, closed: Callable[[], None]) -> None:
        if not self._closing:
            self._closing = True
            self._end = self.loop.create_task(self._close(timeout, closed), context=contextvars.Context())

    async def _close(self, timeout: float, closed: Callable[[], None]) -> None:
        end = self.loop.time() + timeout
        own = asyncio.current_task()
        try:
            for stream in list(self._streams):
                stream.cancel()
            streams = [stream.task for stream in list(self._streams) if stream.task is not None]
            ended = await _have_ended(streams, end)
            ended &= await _have_ended(self.resources.close(), end)
            others = [task for task in asyncio.all_tasks() if task is not own]
            for task in others:
                task.cancel()
            ended &= await _have_ended(others, end)
            ended &= await _have_ended([self.loop.create_task(self.loop.shutdown_asyncgens())], end)
            if not ended:
                log("asparkle.worker").warning("coroutines went on when their worker was to end; they are left behind")
        finally:
            self._gone = True
            for stream in list(self._streams):
                stream.end(TaskKilled("the worker ends"))
            closed()
            self.loop.call_soon(self.loop.stop)


async def _have_ended(tasks: Collection[asyncio.Task[Any]], end: float) -> bool:
    """Whether ``tasks`` end, in whatever way, in half of the time until ``end``: what follows needs some, too."""
    if not tasks:
        return True
    _, left = await asyncio.wait(tasks, timeout=(end - asyncio.get_running_loop().time()) / 2)
    return not left
