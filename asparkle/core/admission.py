"""Which of a context's jobs may run now: caps, deadlines, and the end, when it takes no new ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from math import inf
from typing import TypeVar

import anyio

from asparkle.core.errors import ContextStopped, JobCancelled, JobDeadlineExceeded, TooManyJobs
from asparkle.core.jobs import JobOptions

T = TypeVar("T")

# The action that what runs here is a part of, with the tasks that it has started.
_action: ContextVar[object] = ContextVar("asparkle_action", default=None)


class _Waiting:
    """A job whose caller waits already, and which the scheduler does not know yet."""

    def __init__(self, options: JobOptions, deadline: float | None) -> None:
        self.options = options
        self.scope = anyio.CancelScope(deadline=inf if deadline is None else anyio.current_time() + deadline)
        self.reason: str | None = None  # why it was cancelled


class Admission:
    """One per context, used on its event loop.

    ``running``: jobs that run at once, and ``queued``: that may wait for their turn; 0 is no limit.  ``deadline``:
    seconds from a job's submission to its end, waiting included, where the job itself has none; None is no limit.
    """

    def __init__(self, running: int, queued: int, deadline: float | None) -> None:
        self._limiter = anyio.CapacityLimiter(running) if running else None
        self._queued = queued
        self._deadline = deadline
        self._waiting: dict[_Waiting, None] = {}
        self._having_turns: set[object] = set()  # actions of which a job has its turn
        self._actions: Counter[object] = Counter()  # those that have begun and not ended
        self._admitted: frozenset[object] | None = None  # while it is drained: those that may still submit jobs
        self._empty: anyio.Event | None = None

    @property
    def waiting(self) -> int:
        """Jobs that wait for their turn."""
        return self._limiter.statistics().tasks_waiting if self._limiter is not None else 0

    @property
    def is_closing(self) -> bool:
        """Whether `drain` was called."""
        return self._admitted is not None

    async def run(self, job: Callable[[JobOptions], Awaitable[T]], options: JobOptions) -> T:
        """Run a job when its turn has come, for as long as its deadline, or else the context's, allows.

        Raises ContextStopped once it is drained, TooManyJobs, JobDeadlineExceeded, JobCancelled, and what ``job``
        raises.
        """
        if self._admitted is not None and _action.get() not in self._admitted:
            raise ContextStopped("this SparkContext is about to stop, and takes no new jobs")
        deadline = self._deadline if options.deadline is None else options.deadline
        with self.inside() as action:
            waiting = _Waiting(options, deadline)
            self._waiting[waiting] = None
            try:
                with waiting.scope:
                    async with self._turn(action):
                        return await job(options._replace(submitted=lambda: self._waiting.pop(waiting, None)))
            finally:
                self._waiting.pop(waiting, None)
        if waiting.reason is not None:
            raise JobCancelled(waiting.reason)
        assert deadline is not None
        raise JobDeadlineExceeded(deadline)

    def cancel(self, wanted: Callable[[JobOptions], bool], reason: str) -> None:
        """End those of the ``wanted`` jobs that the scheduler does not know yet.  Their callers get JobCancelled."""
        for waiting in self._waiting:
            if wanted(waiting.options):
                waiting.reason = reason
                waiting.scope.cancel()

    @contextmanager
    def inside(self, action: object = None) -> Iterator[object]:
        """What runs inside is part of an action, which may go on with it while the context is drained.

        Of the action that runs here already, if there is one; or of ``action``, which has begun before (see `begin`).
        Yields the action.
        """
        here = _action.get() if action is None else action
        if here not in self._actions:
            here = object()
        token = _action.set(here)
        self._actions[here] += 1
        try:
            yield here
        finally:
            _action.reset(token)
            self.end(here)

    def begin(self) -> object:
        """An action begins that is not `inside` yet; until it is, and its `end` was told, draining waits for it."""
        action = object()
        self._actions[action] = 1
        return action

    def end(self, action: object) -> None:
        """The counterpart of `begin`."""
        self._actions[action] -= 1
        if not self._actions[action]:
            del self._actions[action]
        if self._empty is not None and not self._actions:
            self._empty.set()

    def _turn(self, action: object) -> AbstractAsyncContextManager[None]:
        if self._limiter is None or action in self._having_turns:  # a job may need others: it waits for them
            return nullcontext()
        return self._limited(self._limiter, action)

    @asynccontextmanager
    async def _limited(self, limiter: anyio.CapacityLimiter, action: object) -> AsyncIterator[None]:
        if self._queued and limiter.available_tokens <= 0 and self.waiting >= self._queued:
            raise TooManyJobs(self.waiting, self._queued)
        async with limiter:
            self._having_turns.add(action)
            try:
                yield
            finally:
                self._having_turns.discard(action)

    async def drain(self, seconds: float) -> None:
        """Let no new action in, and wait for those that have begun; ``seconds`` at most."""
        self._admitted = frozenset(self._actions)
        with anyio.move_on_after(seconds):
            while self._actions:
                self._empty = anyio.Event()
                await self._empty.wait()
