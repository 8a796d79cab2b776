"""Coroutine functions called for many elements at once: in bounded number, in order, again where they failed.

All of this is plain asyncio, on one event loop.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final

from asparkle.core.coroutines import AsyncMap, Emit
from asparkle.core.errors import UserFunctionError
from asparkle.core.logs import log
from asparkle.core.rates import Rate
from asparkle.core.shown import name_of, shown
from asparkle.core.taskcontext import TaskContext

_FIRST_WAIT: Final = 0.1  # seconds, on average half of it, before the first retry; each is twice the one before
_LONGEST_WAIT: Final = 30.0


async def emit_each(results: Iterable[Any] | AsyncIterator[Any], emit: Emit) -> None:
    """Hand on what an iterable gives, in order; an asynchronous generator is closed whatever happens."""
    if isinstance(results, AsyncGenerator):
        async with aclosing(results):
            async for result in results:
                await emit(result)
    elif hasattr(results, "__aiter__"):
        async for result in results:
            await emit(result)
    else:
        for result in results:
            await emit(result)


async def call_each(each: AsyncMap, elements: AsyncIterator[Any], emit: Emit) -> None:
    """Call the function for each element, and hand on what is made of the results.

    At most ``concurrency`` calls are under way, and at most twice as many elements are under way or wait for
    one before them that is not done.  The first call that fails for good cancels the others, and is raised when
    these have ended.
    """
    calls = each.calls
    callers = _Callers(each)
    window = asyncio.Semaphore(2 * calls.concurrency)
    slots = asyncio.Semaphore(calls.concurrency)
    coming: asyncio.Queue[asyncio.Task[Iterable[Any]] | None] = asyncio.Queue()

    async def hand_on() -> None:
        while (task := await coming.get()) is not None:
            for result in await task:
                await emit(result)
            window.release()

    def done(task: asyncio.Task[Iterable[Any]]) -> None:
        slots.release()
        if not calls.ordered:
            coming.put_nowait(task)

    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hand_on())
            async for element in elements:
                await window.acquire()
                await slots.acquire()
                task = tasks.create_task(callers.call(element))
                if calls.ordered:
                    coming.put_nowait(task)
                task.add_done_callback(done)
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


class _Callers:
    """The calls of one partition."""

    def __init__(self, each: AsyncMap) -> None:
        self._each = each
        self._skipped = 0
        self._last: BaseException | None = None

    async def call(self, element: Any) -> Iterable[Any]:
        """What is made of an element: several attempts, and then what ``on_error`` says."""
        each = self._each
        given = each.given(element)
        try:
            result = await self._attempts(given)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return self._failed(element, UserFunctionError(f"{name_of(each.function)} cancelled itself"))
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

    async def _attempts(self, given: Any) -> Any:
        calls = self._each.calls
        for attempt in range(calls.retries):
            try:
                return await self._attempt(given)
            except Exception as error:
                wait = _wait_before_retry(attempt, error)
            await asyncio.sleep(wait)
        return await self._attempt(given)

    async def _attempt(self, given: Any) -> Any:
        calls = self._each.calls
        if calls.rate is not None:
            await _turn(calls.rate)
        if calls.timeout is None:
            return await self._result(given)
        try:
            async with asyncio.timeout(calls.timeout) as deadline:
                return await self._result(given)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            name = name_of(self._each.function)
            raise TimeoutError(f"{name}({shown(given)}) took longer than timeout={calls.timeout:g} s") from error

    async def _result(self, given: Any) -> Any:
        result = self._each.function(given)
        if hasattr(result, "__aiter__"):
            async with aclosing(result):
                return [x async for x in result]
        return await result

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


async def _turn(rate: Rate) -> None:
    context = TaskContext.get()
    assert context is not None
    await context._environment.worker.event_loop().turns.wait(rate)


def _wait_before_retry(attempt: int, error: Exception) -> float:
    """Seconds: those that the server asked for and up to a second more, or a random part of a growing number.

    The random part keeps calls that failed together from coming back together (exponential back-off with full
    jitter, M. Brooker, AWS Architecture Blog 2015).
    """
    asked = _retry_after(error)
    if asked is not None:
        return asked + random.uniform(0, 1)
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
