"""Elements from a slot's thread to a coroutine on the worker's event loop, and its results back.

The thread goes on computing the partition's elements; what comes back, it gives to the next step.  Both ends wait for
the other: neither gets further ahead than a number of elements that is fixed.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import islice
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from asparkle.core.errors import TaskKilled, UserFunctionError
from asparkle.core.taskcontext import TaskContext, enter_coroutines

if TYPE_CHECKING:
    from asparkle.core.worker.eventloop import EventLoop

Work: TypeAlias = Callable[[AsyncIterator[Any], Callable[[Any], Awaitable[None]]], Awaitable[None]]
_PATIENCE: Final = 0.005  # seconds that the first elements of a batch wait for the others

_RESULTS: Final = 0
_WANTED: Final = 1
_ENDED: Final = 2


class Stream:
    """One partition's.  ``ahead``: how many elements wait to be looked at, and results to be taken, at most."""

    def __init__(self, owner: EventLoop, elements: Iterator[Any], work: Work, ahead: int, context: TaskContext) -> None:
        self._owner = owner
        self._elements = elements
        self._work = work
        self._ahead = ahead
        self._mail: SimpleQueue[tuple[int, Any]] = SimpleQueue()  # for the slot's thread
        self._variables = contextvars.copy_context()
        self._variables.run(enter_coroutines, context)
        # On the loop:
        self.task: asyncio.Task[None] | None = None
        self._arrived: deque[Any] = deque()
        self._exhausted = self._asked = self._cut = False
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._results: list[Any] = []
        self._untaken = 0

    # ------------------------------------------------------------------------- in the slot's thread

    def results(self) -> Iterator[Any]:
        """Once.  Closed before its end, it cancels the coroutine, and does not wait: that may be on any thread, as
        the garbage collector likes, the event loop's among them."""
        try:
            self._owner.begin(self)
            while True:
                kind, value = self._mail.get()
                if kind == _RESULTS:
                    yield from value
                    self._owner.call(self._taken, len(value))
                elif kind == _WANTED:
                    self._owner.call(self._arrive, *self._batch())
                elif value is not None:
                    raise value
                else:
                    return
        except BaseException:
            self.kill()
            raise

    def _batch(self) -> tuple[list[Any], bool]:
        """The next few elements, and whether these are all; no more than come in a short time."""
        batch: list[Any] = []
        late = monotonic() + _PATIENCE
        while len(batch) < self._ahead:
            more = list(islice(self._elements, 1))
            if not more:
                return batch, True
            batch += more
            if monotonic() > late:
                break
        return batch, False

    def close(self) -> None:
        """Cancel the coroutine if it has not ended, and wait until it has; for the attempt's clean-up."""
        # An interrupt may have lost mail, the last one too, but what is begun is the loop's until just before that.
        if self._owner.runs(self):
            self.kill()
        while self._owner.runs(self):
            self._mail.get()

    def kill(self, killed: TaskKilled | None = None) -> None:
        """Cancel the coroutine.  From any thread."""
        self._owner.call(self.cancel)

    # ------------------------------------------------------------------------- on the loop

    def begin(self) -> None:
        """Start the coroutine, unless it was cancelled before."""
        if self._cut:
            self.end(TaskKilled("the coroutine was cancelled"))
        else:
            self.task = self._owner.loop.create_task(self._live(), context=self._variables)
            self.task.add_done_callback(self._unless_begun)

    def _unless_begun(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before its first step: else `_live` has said how it ended
            self.end(TaskKilled("the coroutine was cancelled"))

    async def _live(self) -> None:
        error: BaseException | None = None
        try:
            await self._work(self, self.emit)
        except asyncio.CancelledError:
            error = UserFunctionError("a coroutine cancelled itself: asyncio.CancelledError escaped it")
        except BaseException as raised:  # SystemExit included: it must not end the loop
            error = raised
        if self._cut:  # whatever it made of that, a regular end included: the results are perhaps not all
            error = TaskKilled("the coroutine was cancelled")
        self._flush()
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """Nothing comes any more."""
        self._cut_off()
        self._owner.forget(self)
        self._mail.put((_ENDED, error))

    def cancel(self) -> None:
        """Cancel the coroutine."""
        if self.task is None:
            self.end(TaskKilled("the coroutine was cancelled"))
        elif not self._cut:
            self._cut_off()
            self.task.cancel()

    def _cut_off(self) -> None:
        """Tell what goes on, behind `asyncio.shield` say, that neither end can be reached any more."""
        self._cut = True
        self._more.set()
        self._room.set()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        while not self._arrived:
            if self._exhausted:
                raise StopAsyncIteration
            if self._cut:
                raise TaskKilled("the coroutine has ended or was cancelled; there were more elements")
            self._ask()
            self._more.clear()
            await self._more.wait()
        element = self._arrived.popleft()
        if not self._arrived and not self._exhausted:
            self._ask()  # they are fetched while this one is looked at
        return element

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            self._mail.put((_WANTED, None))

    def _arrive(self, elements: list[Any], exhausted: bool) -> None:
        self._asked = False
        self._arrived += elements
        self._exhausted = exhausted
        self._more.set()

    async def emit(self, result: Any) -> None:
        """Hand a result on; waits while those before it are not taken."""
        while self._untaken >= self._ahead and not self._cut:
            self._flush()
            self._room.clear()
            await self._room.wait()
        if self._cut:
            raise TaskKilled("the coroutine has ended or was cancelled; nobody takes its results")
        if not self._results:
            self._owner.loop.call_soon(self._flush)
        self._results.append(result)
        self._untaken += 1

    def _flush(self) -> None:
        if self._results:
            self._mail.put((_RESULTS, self._results))
            self._results = []

    def _taken(self, count: int) -> None:
        self._untaken -= count
        self._room.set()
