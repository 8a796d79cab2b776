"""Coroutine functions called for many elements at once: in bounded number, in order, again where they failed.

All of this is plain asyncio, on one event loop.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Iterable
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from asparkle.core.errors import UserFunctionError
from asparkle.core.logs import log
from asparkle.core.rates import Rate
from asparkle.core.shown import name_of, shown
from asparkle.core.taskcontext import TaskContext

if TYPE_CHECKING:
    from asparkle.core.coroutines import AsyncMap, Emit

_FIRST_WAIT: Final = 0.1  # seconds, on average half of it, before the first retry; each is twice the one before
_LONGEST_WAIT: Final = 30.0
_HELD: Final = 256  # results that an asynchronous generator may be ahead of its turn
_TURN: Final = 0.001  # seconds that a generator which never waits may have the event loop for itself


async def emit_each(results: Iterable[Any] | AsyncIterator[Any], emit: Emit) -> None:
    """Hand on what an iterable gives, in order; an asynchronous generator is closed whatever happens.

    The event loop has its turn, for timeouts, cancellation and other calls, also if nothing here ever waits.
    """
    if not isinstance(results, AsyncIterable):
        for result in results:
            await emit(result)
        return
    until = monotonic() + _TURN
    try:
        async for result in results:
            await emit(result)
            if monotonic() > until:
                await asyncio.sleep(0)
                until = monotonic() + _TURN
    finally:
        if isinstance(results, AsyncGenerator):
            await results.aclose()


async def _gathered(results: AsyncGenerator[Any]) -> list[Any]:
    """All results, or none: a failure, which may be kept for long, does not keep them with its frames."""
    gathered: list[Any] = []

    async def gather(result: Any) -> None:
        gathered.append(result)

    try:
        await emit_each(results, gather)
    except BaseException:
        gathered.clear()
        raise
    return gathered


async def call_each(each: AsyncMap, elements: AsyncIterator[Any], emit: Emit) -> None:
    """Call the function for each element, and hand on what is made of the results.

    At most ``concurrency`` calls are under way, and at most twice as many elements are under way or wait for
    one before them that is not done.  The first call that fails for good cancels the others, and is raised when
    these have ended.
    """
    calls = each.calls
    callers = _Callers(each, emit)
    window = asyncio.Semaphore(2 * calls.concurrency)
    slots = asyncio.Semaphore(calls.concurrency)
    coming: asyncio.Queue[tuple[_Turn, asyncio.Task[Iterable[Any]]] | None] = asyncio.Queue()

    async def hand_on() -> None:
        while (call := await coming.get()) is not None:
            turn, task = call
            await turn.come(emit)
            try:
                for result in await task:
                    await emit(result)
            except asyncio.CancelledError as error:
                if callers.ending:
                    raise
                raise callers.cancelled_itself() from error
            except (SystemExit, KeyboardInterrupt) as error:
                raise _Escaped(error) from error
            window.release()

    def done(turn: _Turn, task: asyncio.Task[Iterable[Any]]) -> None:
        has_ended(task)
        slots.release()
        if not calls.ordered:
            coming.put_nowait((turn, task))

    def has_ended(task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is not None:
            callers.have_failed = True

    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hand_on()).add_done_callback(has_ended)
            async for element in elements:
                await window.acquire()
                await slots.acquire()
                turn = _Turn(has_come=not calls.ordered)
                task = tasks.create_task(callers.call(element, turn))
                if calls.ordered:
                    coming.put_nowait((turn, task))
                task.add_done_callback(partial(done, turn))
            for _ in range(calls.concurrency):
                await slots.acquire()  # all have ended
            coming.put_nowait(None)
    except BaseExceptionGroup as group:
        failure = _first(group)
    finally:
        callers.tell_skipped()
    if failure is not None:
        raise failure


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that the others followed from; perhaps a group of the user's own."""
    error = group.exceptions[0]
    return error.error if isinstance(error, _Escaped) else error


class _Escaped(Exception):
    """Holds what would end the event loop."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Turn:
    """Of one call, to hand on its results: after those of the calls before it, or at any time.

    ``held``: results that it has before that, of an asynchronous generator.
    """

    __slots__ = ("_waits", "has_come", "held")

    def __init__(self, has_come: bool) -> None:
        self.has_come = has_come
        self.held: list[Any] = []
        self._waits: asyncio.Future[None] | None = None

    async def come(self, emit: Emit) -> None:
        """It is the call's turn; what it holds is handed on, though it may be waiting for more."""
        while self.held:
            held, self.held = self.held, []
            for result in held:
                await emit(result)
        self.has_come = True
        if self._waits is not None and not self._waits.done():
            self._waits.set_result(None)

    async def wait(self) -> None:
        """Until it has come, and nothing is held any more; for the call."""
        if not self.has_come:
            self._waits = asyncio.get_running_loop().create_future()
            await self._waits


class _Callers:
    """The calls of one partition."""

    def __init__(self, each: AsyncMap, emit: Emit) -> None:
        self._each = each
        self._emit = emit
        self._parent = asyncio.current_task()
        self.have_failed = False
        self._skipped = 0
        self._last: BaseException | None = None

    @property
    def ending(self) -> bool:
        """Whether the calls under way are being cancelled, as the job is or one of them has failed for good."""
        assert self._parent is not None
        return self.have_failed or self._parent.cancelling() > 0

    def cancelled_itself(self) -> UserFunctionError:
        return UserFunctionError(f"{name_of(self._each.function)} cancelled itself")

    async def call(self, element: Any, turn: _Turn) -> Iterable[Any]:
        """What is made of an element: several attempts, and then what ``on_error`` says."""
        each = self._each
        given = each.given(element)
        try:
            result = await self._attempts(given, turn)
        except asyncio.CancelledError:
            if self.ending:
                raise
            return self._failed(element, self.cancelled_itself())
        except Exception as error:
            return self._failed(element, error)
        except (SystemExit, KeyboardInterrupt) as error:
            raise _Escaped(error) from error
        return each.made(element, result)

    def _failed(self, element: Any, error: BaseException) -> Iterable[Any]:
        on_error = self._each.calls.on_error
        if on_error == "raise":
            raise error
        if on_error == "collect":
            return self._each.failed(element, error)
        self._skipped += 1
        self._last = error
        return ()

    async def _attempts(self, given: Any, turn: _Turn) -> Any:
        calls = self._each.calls
        for attempt in range(calls.retries):
            try:
                return await self._attempt(given, turn)
            except Exception as error:
                wait = _wait_before_retry(attempt, error)
            await asyncio.sleep(wait)
        return await self._attempt(given, turn)

    async def _attempt(self, given: Any, turn: _Turn) -> Any:
        calls = self._each.calls
        if calls.rate is not None:
            await _turn_of(calls.rate)
        try:
            if calls.timeout is None:
                return await self._result(given, turn)
            return await self._timed(given, turn, calls.timeout)
        except Exception as error:
            if self.ending:  # what the function makes of its cancellation, as client libraries do
                raise asyncio.CancelledError from error
            raise

    async def _timed(self, given: Any, turn: _Turn, seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds) as deadline:
                return await self._result(given, turn)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            name = name_of(self._each.function)
            raise TimeoutError(f"{name}({shown(given)}) took longer than timeout={seconds:g} s") from error

    async def _result(self, given: Any, turn: _Turn) -> Any:
        result = self._each.function(given)
        if not hasattr(result, "__aiter__"):
            return await result
        calls = self._each.calls
        if calls.retries or calls.timeout is not None or calls.on_error != "raise":
            return await _gathered(result)  # none is handed on before it is sure that it counts
        await emit_each(result, partial(self._hand_on, turn))
        return ()

    def _hand_on(self, turn: _Turn, result: Any) -> Awaitable[None]:
        return self._emit(result) if turn.has_come else self._hold(turn, result)

    async def _hold(self, turn: _Turn, result: Any) -> None:
        if len(turn.held) < _HELD:
            turn.held.append(result)
        else:
            await turn.wait()
            await self._emit(result)

    def tell_skipped(self) -> None:
        """Say how many elements are missing from the result."""
        if self._skipped:
            log("asparkle.worker").warning(
                "elements were skipped: their calls failed",
                operation=self._each.calls.operation,
                function=name_of(self._each.function),
                elements=self._skipped,
                last_error=repr(self._last),
            )


async def _turn_of(rate: Rate) -> None:
    context = TaskContext.get()
    assert context is not None
    await context._environment.worker.event_loop().turns.wait(rate)


def _wait_before_retry(attempt: int, error: Exception) -> float:
    """Seconds: those that the server asked for and up to a tenth more, or a random part of a growing number.

    The random part keeps calls that failed together from coming back together (exponential back-off with full
    jitter, M. Brooker, AWS Architecture Blog 2015).
    """
    asked = _retry_after(error)
    if asked is not None:
        return asked * random.uniform(1, 1.1)
    return random.uniform(0, min(_FIRST_WAIT * 2 ** min(attempt, 30), _LONGEST_WAIT))


def _retry_after(error: Exception) -> float | None:
    """The wait that the server asked for: seconds or a date (RFC 9110, 10.2.3); None if there is none to be read."""
    try:
        value: Any = getattr(error, "retry_after", None)
        if value is None:
            value = getattr(getattr(error, "response", error), "headers", {}).get("Retry-After")
        if value is None:
            return None
        try:
            seconds = float(value)
        except ValueError:
            seconds = _seconds_until(str(value))
    except (AttributeError, TypeError, ValueError, OverflowError):  # whatever else goes by these names
        return None
    return seconds if 0 <= seconds < 1e9 else None


def _seconds_until(date: str) -> float:
    from email.utils import parsedate_to_datetime

    when = parsedate_to_datetime(date)
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)
