"""A worker's event loop: asyncio's, in a thread of its own, for the coroutine functions of all the worker's tasks.

It is started when a task first needs it and kept until the worker ends, so that what belongs to an event loop (a
pool of connections) can live from task to task.  A slot's thread goes on computing the partition's elements, and
hands them over through a `Stream`; what comes back, it gives to the next step.  Both ends of a stream wait for the
other: neither gets further ahead than a number of elements that is fixed.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from itertools import islice
from queue import SimpleQueue
from time import monotonic
from typing import Any, Final, TypeAlias

from asparkle.core.errors import TaskKilled, UserFunctionError
from asparkle.core.logs import log
from asparkle.core.rates import Rate
from asparkle.core.shown import shown
from asparkle.core.taskcontext import TaskContext, enter_coroutines

Work: TypeAlias = Callable[[AsyncIterator[Any], Callable[[Any], Awaitable[None]]], Awaitable[None]]
_PATIENCE: Final = 0.005  # seconds that the first elements of a batch wait for the others


class EventLoop:
    """One per worker.  ``ask_turns``: asks the driver for turns of a rate; the answer comes to `turns_dealt`."""

    def __init__(self, name: str, ask_turns: Callable[[Rate, int], None]) -> None:
        self.loop = asyncio.new_event_loop()
        self._ask_turns = ask_turns
        self._streams: dict[Stream, None] = {}
        self._resources: dict[str, _Resource] = {}
        self._turns: dict[Rate, _Turns] = {}
        self._closing = self._gone = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._closing:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:  # of a task that a user's function left behind
                log("asparkle.worker").error("a coroutine that no task waits for ended badly", exc_info=error)
        self._gone = True
        for stream in list(self._streams):
            stream.end(asyncio.CancelledError())
        self.loop.close()

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function soon on the loop, from any thread; nothing happens once the loop has ended."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *arguments)

    def join(self, timeout: float) -> None:
        """After `close`: wait for its thread."""
        self._thread.join(timeout)

    # ------------------------------------------------------------------------- streams

    def stream(self, elements: Iterator[Any], work: Work, ahead: int, context: TaskContext) -> Stream:
        """What ``work`` emits for ``elements``, for the thread that computes these.

        Raises TaskKilled once the worker ends.
        """
        stream = Stream(self, elements, work, ahead, context)
        self._streams[stream] = None
        if self._closing or self._gone:  # perhaps too late for it to be cancelled with the others
            raise TaskKilled("the worker ends")
        return stream

    def forget(self, stream: Stream) -> None:
        """It is over."""
        self._streams.pop(stream, None)

    # ------------------------------------------------------------------------- turns

    async def turn(self, rate: Rate) -> None:
        """Wait for a turn of ``rate``, which all workers share."""
        turns = self._turns.setdefault(rate, _Turns())
        mine = self.loop.create_future()
        turns.waiting.append(mine)
        self._ask_for(rate, turns)
        at: float = await mine
        await asyncio.sleep(at - self.loop.time())

    def _ask_for(self, rate: Rate, turns: _Turns) -> None:
        while turns.waiting and turns.waiting[0].cancelled():
            turns.waiting.popleft()
        if turns.waiting and not turns.resting:
            turns.resting = True
            turns.asked = min(len(turns.waiting), rate.batch)
            self._ask_turns(rate, turns.asked)

    def turns_dealt(self, rate: Rate, wait: float) -> None:
        """The driver's answer; from any thread."""
        self.call(self._deal, rate, wait)

    def _deal(self, rate: Rate, wait: float) -> None:
        turns = self._turns[rate]
        first = self.loop.time() + wait
        for i in range(turns.asked):
            while turns.waiting and turns.waiting[0].cancelled():
                turns.waiting.popleft()
            if turns.waiting:
                turns.waiting.popleft().set_result(first + i * rate.interval)
        # The next ones when these have gone, or this worker would take all turns of the near future.
        self.loop.call_at(first + (turns.asked - 1) * rate.interval, self._rested, rate, turns)

    def _rested(self, rate: Rate, turns: _Turns) -> None:
        turns.resting = False
        self._ask_for(rate, turns)
        if not turns.resting:
            del self._turns[rate]

    # ------------------------------------------------------------------------- resources

    async def opened(self, identity: str, factory: Callable[[], AbstractAsyncContextManager[Any]]) -> Any:
        """What entering the resource gave; it is opened if it is not."""
        if asyncio.get_running_loop() is not self.loop:
            raise UserFunctionError("a WorkerResource is awaited on another event loop than its worker's")
        resource = self._resources.get(identity)
        if resource is None:
            resource = self._resources[identity] = _Resource(factory)
            # with variables of its own: what it starts outlives the task that happens to need it first
            resource.start(self.loop, lambda: self._resources.pop(identity, None))
        return await asyncio.shield(resource.value)

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
        try:
            async with asyncio.timeout(timeout):
                for stream in list(self._streams):
                    stream.cancel()
                await _all(stream.task for stream in self._streams if stream.task is not None)
                for resource in reversed(list(self._resources.values())):
                    await resource.close()
                own = asyncio.current_task()
                left = [task for task in asyncio.all_tasks() if task is not own]
                for task in left:
                    task.cancel()
                await _all(left)
                await self.loop.shutdown_asyncgens()
        except TimeoutError:
            log("asparkle.worker").warning("coroutines went on when their worker was to end; they are left behind")
        finally:
            for stream in list(self._streams):
                stream.end(asyncio.CancelledError())
            closed()
            self.loop.call_soon(self.loop.stop)


async def _all(tasks: Any) -> None:
    """Wait for tasks, however they end."""
    await asyncio.gather(*tasks, return_exceptions=True)


class _Turns:
    """Who waits for a turn of one rate, and how many turns the driver was asked for at last.

    ``resting``: no more are asked for yet.
    """

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[float]] = deque()
        self.asked = 0
        self.resting = False


class _Resource:
    """An asynchronous context manager, entered and left in one task of its own."""

    def __init__(self, factory: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._factory = factory
        self._closing = asyncio.Event()
        self.value: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def start(self, loop: asyncio.AbstractEventLoop, failed: Callable[[], object]) -> None:
        self._task = loop.create_task(self._hold(failed), context=contextvars.Context())

    async def _hold(self, failed: Callable[[], object]) -> None:
        try:
            manager = self._factory()
            if not hasattr(manager, "__aenter__"):
                raise UserFunctionError(
                    f"the factory of a WorkerResource returned {shown(manager)}, which is no asynchronous context "
                    "manager; decorate a generator with contextlib.asynccontextmanager"
                )
            async with manager as value:
                self.value.set_result(value)
                await self._closing.wait()
        except BaseException as error:  # who awaits it gets it; later ones try again
            if self.value.done():
                log("asparkle.worker").error("a WorkerResource was not closed well", exc_info=error)
            else:
                failed()
                self.value.set_exception(error)
                self.value.exception()  # perhaps nobody waits any more

    async def close(self) -> None:
        self._closing.set()
        if not self.value.done():
            self._task.cancel()
        await _all([self._task])


# ------------------------------------------------------------------------------------ between two threads

_RESULTS: Final = 0
_WANTED: Final = 1
_ENDED: Final = 2


class Stream:
    """Elements from a slot's thread to a coroutine, and its results back."""

    def __init__(self, owner: EventLoop, elements: Iterator[Any], work: Work, ahead: int, context: TaskContext) -> None:
        self._owner = owner
        self._elements = elements
        self._work = work
        self._ahead = ahead
        self._mail: SimpleQueue[tuple[int, Any]] = SimpleQueue()  # for the slot's thread
        self._is_over = False
        self._variables = contextvars.copy_context()
        self._variables.run(enter_coroutines, context)
        # On the loop:
        self.task: asyncio.Task[None] | None = None
        self._arrived: deque[Any] = deque()
        self._exhausted = self._asked = self._cancelled = False
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._results: list[Any] = []
        self._untaken = 0

    # ------------------------------------------------------------------------- in the slot's thread

    def results(self) -> Iterator[Any]:
        """Once."""
        self._owner.call(self._begin)
        try:
            while True:
                kind, value = self._mail.get()
                if kind == _RESULTS:
                    yield from value
                    self._owner.call(self._taken, len(value))
                elif kind == _WANTED:
                    self._owner.call(self._arrive, *self._batch())
                else:
                    self._is_over = True
                    if value is not None:
                        raise value
                    return
        finally:
            self.close()

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
        """Cancel the coroutine if it has not ended, and wait until it has."""
        if not self._is_over:
            self.kill()
            while self._mail.get()[0] != _ENDED:
                continue
            self._is_over = True

    def kill(self, killed: TaskKilled | None = None) -> None:
        """Cancel the coroutine.  From any thread."""
        self._owner.call(self.cancel)

    # ------------------------------------------------------------------------- on the loop

    def _begin(self) -> None:
        if not self._cancelled:
            self.task = self._owner.loop.create_task(self._live(), context=self._variables)
            self.task.add_done_callback(self._unless_begun)

    def _unless_begun(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before its first step: else `_live` has said how it ended
            self.end(asyncio.CancelledError())

    async def _live(self) -> None:
        error: BaseException | None = None
        try:
            await self._work(self, self.emit)
        except asyncio.CancelledError:
            error = TaskKilled("the coroutine was cancelled")
            if not self._cancelled:
                error = UserFunctionError("a coroutine cancelled itself: asyncio.CancelledError escaped it")
        except BaseException as raised:  # SystemExit included: it must not end the loop
            error = raised
        finally:
            self._flush()
            self.end(error)

    def end(self, error: BaseException | None) -> None:
        """Nothing comes any more."""
        self._owner.forget(self)
        self._mail.put((_ENDED, TaskKilled("the worker ends") if isinstance(error, asyncio.CancelledError) else error))

    def cancel(self) -> None:
        """Cancel the coroutine; on the loop."""
        if not self._cancelled:
            self._cancelled = True
            if self.task is not None:
                self.task.cancel()
            else:
                self.end(asyncio.CancelledError())

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        while not self._arrived:
            if self._exhausted or self._cancelled:
                raise StopAsyncIteration
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
        if self._untaken >= self._ahead:
            self._flush()
            self._room.clear()
            await self._room.wait()
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
