"""Events as they happen, for a loop of the program's own: ``async for event in sc.events(TaskEnded)``.

A stream is a queue of the bus, as a listener's is, but the program takes the events out itself.  The bus has the queue
and never the stream: when nobody has the stream any more, it has left the bus.
"""

from __future__ import annotations

from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import anyio
import anyio.lowlevel

from asparkle.core.bus import Bus, Failures, Feed
from asparkle.core.errors import DeadlockError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

E = TypeVar("E")
_END: Final = object()  # behind the last event of a thread's queue
_BATCH: Final = 32  # events that a reader gets before others have their turn on the loop


class ReadFeed(Feed):
    """A queue whose reader empties it."""

    def __init__(self, bus: Bus, events: tuple[type, ...]) -> None:
        super().__init__(bus, "events", events)
        self.name = f"events({', '.join(kind.__name__ for kind in events)})"
        self._failures = Failures(self)

    def end(self) -> None:
        super().end()
        self._failures.say_dropped()

    def leave(self) -> None:
        """The reader wants nothing more.  In any thread, also while objects are destroyed."""
        self._ended = True
        self._forget()
        self._bus.soon(self._bus.remove, self)

    def _forget(self) -> None:
        raise NotImplementedError


class LoopFeed(ReadFeed):
    """Read on the bus's event loop."""

    def __init__(self, bus: Bus, events: tuple[type, ...]) -> None:
        super().__init__(bus, events)
        self._queue: deque[Any] = deque()
        self._wake: anyio.Event | None = None
        self._taken = 0

    async def next(self) -> Any:
        """Raises StopAsyncIteration at the end."""
        self._failures.say_dropped()
        self._taken += 1
        if self._taken % _BATCH == 0:
            await anyio.lowlevel.checkpoint()
        while not self._queue:
            if self._ended:
                raise StopAsyncIteration
            self._wake = self._wake or anyio.Event()
            await self._wake.wait()
        return self._queue.popleft()

    def end(self) -> None:
        super().end()
        self._rouse()

    def _backlog(self) -> int:
        return len(self._queue)

    def _append(self, event: object) -> None:
        self._queue.append(event)
        self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    def _forget(self) -> None:
        self._queue.clear()


class ThreadFeed(ReadFeed):
    """Read in any thread but that of the bus's event loop."""

    def __init__(self, bus: Bus, events: tuple[type, ...]) -> None:
        super().__init__(bus, events)
        self._queue: SimpleQueue[Any] = SimpleQueue()

    def next(self) -> Any:
        """Raises StopIteration at the end."""
        if self._bus.is_here():
            raise DeadlockError(
                "a stream of events that is read on the context's own event loop would wait for itself: read it in "
                "another thread, or use asparkle.aio there"
            )
        self._failures.say_dropped()
        event = self._queue.get()
        if event is _END:
            self._queue.put(_END)  # for whoever else reads
            raise StopIteration
        return event

    def end(self) -> None:
        super().end()
        self._queue.put(_END)

    def _backlog(self) -> int:
        return self._queue.qsize()

    def _append(self, event: object) -> None:
        self._queue.put(event)

    def _forget(self) -> None:
        try:
            while True:
                self._queue.get_nowait()
        except Empty:
            self._queue.put(_END)


class EventStream(Generic[E]):
    """Events as they happen, made by `SparkContext.events`; for one ``async for``, or several that share them.

    It ends when the context stops: what is in its queue then can still be read.  Who leaves the loop, and has no
    variable that holds the stream, has left the bus; with a variable, the loop may be entered again, until `aclose` or
    the end of an ``async with`` block.
    """

    def __init__(self, feed: LoopFeed) -> None:
        self._feed = feed

    @property
    def dropped(self) -> int:
        """Events that came while ``asparkle.listener.queue.size`` of them waited: they are lost."""
        return self._feed.dropped

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        feed = self._feed
        try:
            event: E = await feed.next()
            return event
        finally:
            del self  # the traceback of a cancellation would keep the stream, and it would stay on the bus

    async def aclose(self) -> None:
        """Leave the bus.  Nothing more is to be read; whoever waits for an event gets the end."""
        self._feed.leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._feed.leave()

    def __del__(self) -> None:
        if hasattr(self, "_feed"):
            self._feed.leave()
