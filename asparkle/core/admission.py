"""Which of a context's jobs may run now: caps, deadlines, and the end, when it takes no new ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import TypeVar

import anyio

from asparkle.core.errors import ContextStopped, JobDeadlineExceeded, TooManyJobs
from asparkle.core.loop import current_task

T = TypeVar("T")


class Admission:
    """One per context, used on its event loop.

    ``running``: jobs that run at once, and ``queued``: that may wait for their turn; 0 is no limit.  ``deadline``:
    seconds from a job's submission to its end, waiting included, where the job itself has none; None is no limit.
    """

    def __init__(self, running: int, queued: int, deadline: float | None) -> None:
        self._limiter = anyio.CapacityLimiter(running) if running else None
        self._queued = queued
        self._deadline = deadline
        self._inside: Counter[object] = Counter()  # tasks that are in the middle of an action
        self._admitted: frozenset[object] | None = None  # while it is drained: those that may still submit some
        self._empty: anyio.Event | None = None

    @property
    def waiting(self) -> int:
        """Jobs that wait for their turn."""
        return self._limiter.statistics().tasks_waiting if self._limiter is not None else 0

    @property
    def is_closing(self) -> bool:
        """Whether `drain` was called."""
        return self._admitted is not None

    async def run(self, job: Callable[[], Awaitable[T]], deadline: float | None = None) -> T:
        """Run a job when its turn has come.  ``deadline``: in seconds; None: the context's.

        Raises ContextStopped once it is drained, TooManyJobs, JobDeadlineExceeded, and what ``job`` raises.
        """
        caller = current_task()
        if self._admitted is not None and caller not in self._admitted:
            raise ContextStopped("this SparkContext is about to stop, and takes no new jobs")
        deadline = self._deadline if deadline is None else deadline
        with self.inside():
            if self._limiter is None and deadline is None:
                return await job()
            with anyio.move_on_after(deadline):
                async with self._turn():
                    return await job()
        assert deadline is not None
        raise JobDeadlineExceeded(deadline)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The running task is in the middle of an action, and may go on with it while the context is drained.

        For what an action does between its jobs, where others have their turn on the event loop.
        """
        caller = current_task()
        self._inside[caller] += 1
        try:
            yield
        finally:
            self._inside[caller] -= 1
            if not self._inside[caller]:
                del self._inside[caller]
            if self._empty is not None and not self._inside:
                self._empty.set()

    def _turn(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._limiter is None else self._limited(self._limiter)

    @asynccontextmanager
    async def _limited(self, limiter: anyio.CapacityLimiter) -> AsyncIterator[None]:
        if self._queued and limiter.available_tokens <= 0 and self.waiting >= self._queued:
            raise TooManyJobs(self.waiting, self._queued)
        async with limiter:
            yield

    async def drain(self, seconds: float) -> None:
        """Let no new caller in, and wait for those who are inside; ``seconds`` at most."""
        self._admitted = frozenset(self._inside)
        with anyio.move_on_after(seconds):
            while self._inside:
                self._empty = anyio.Event()
                await self._empty.wait()
