"""Events as they happen, for programs without an event loop: ``for event in sc.events(TaskEnded)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from asparkle.core.eventstreams import ThreadFeed

__all__ = ["EventStream"]

E = TypeVar("E")


class EventStream(Generic[E]):
    """Events as they happen, made by `SparkContext.events`; for one loop, in any thread, or several that share them.

    It ends when the context stops, in whichever thread: what is in its queue then can still be read.  A thread that
    waits for an event keeps a program from ending until the context is stopped, unless it is a daemon.  Who leaves the
    loop, and has no variable that holds the stream, has left the bus; with a variable, the loop may be entered again,
    until `close` or the end of a ``with`` block.

    >>> from asparkle.core.events import JobEnded
    >>> with sc.events(JobEnded) as ended:
    ...     sc.parallelize([1, 2]).count()
    ...     next(ended).failure or "well"
    2
    'well'
    """

    def __init__(self, feed: ThreadFeed) -> None:
        self._feed = feed

    @property
    def dropped(self) -> int:
        """Events that came while ``asparkle.listener.queue.size`` of them waited: they are lost."""
        return self._feed.dropped

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> E:
        event: E = self._feed.next()
        return event

    def close(self) -> None:
        """Leave the bus.  Nothing more is to be read; whoever waits for an event gets the end."""
        self._feed.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._feed.leave()

    def __del__(self) -> None:
        if hasattr(self, "_feed"):
            self._feed.leave()
