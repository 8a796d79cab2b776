"""Coroutine functions in place of plain ones: how they are told apart, their parameters, and what applies them.

This is what a stage's binary holds.  The event loop, and what is done there, is imported by the worker that
meets one of these: `asparkle.core.worker.eventloop` and `asparkle.core.worker.concurrently`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar, cast

from asparkle.core import arguments
from asparkle.core.errors import ArgumentError, ArgumentTypeError, UserFunctionError
from asparkle.core.pairs import not_a_pair
from asparkle.core.program import Transform
from asparkle.core.rates import Rate, parse_rate
from asparkle.core.shown import name_of, shown
from asparkle.core.transforms import iterable

T = TypeVar("T")
Emit: TypeAlias = Callable[[Any], Awaitable[None]]
OnError: TypeAlias = Literal["raise", "skip", "collect"]

CONCURRENCY: Final = 32  # calls in flight per task where nobody says otherwise
AHEAD: Final = 64  # elements that are fetched, or results that wait, between a slot's thread and the event loop


def is_async(f: Any) -> bool:
    """Whether calling ``f`` gives a coroutine or an asynchronous generator, as far as can be told by looking."""
    return is_generator(f) or inspect.iscoroutinefunction(f) or inspect.iscoroutinefunction(type(f).__call__)


def is_generator(f: Any) -> bool:
    """Whether it is an asynchronous generator."""
    return inspect.isasyncgenfunction(f) or inspect.isasyncgenfunction(type(f).__call__)


class FailedElement(Generic[T]):
    """An element whose call failed, and why, where ``on_error="collect"`` was asked for.

    ``element``; ``error``: what the last attempt raised.

    >>> async def invert(x):
    ...     return 1 / x
    >>> sc.parallelize([1, 0, 2]).map(invert, on_error="collect").collect()
    [1.0, FailedElement(0, ZeroDivisionError('division by zero')), 0.5]
    """

    __slots__ = ("element", "error")

    def __init__(self, element: T, error: BaseException) -> None:
        self.element = element
        self.error = error

    def __repr__(self) -> str:
        return f"FailedElement({self.element!r}, {self.error!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        from asparkle.core.failure import describe_failure

        return _failed_element, (self.element, describe_failure(self.error))


def _failed_element(element: Any, story: Any) -> FailedElement[Any]:
    from asparkle.core.failure import load_failure

    told = load_failure(story)
    return FailedElement(element, told.exception or UserFunctionError(f"{told.kind}: {told.message}"))


class Calls(NamedTuple):
    """How a coroutine function is called for each element; see `RDD.map`."""

    operation: str
    concurrency: int = CONCURRENCY
    ordered: bool = True
    timeout: float | None = None
    retries: int = 0
    rate: Rate | None = None
    on_error: OnError = "raise"


def calls(
    f: Any,
    operation: str,
    concurrency: int | None,
    ordered: bool,
    timeout: float | None,
    retries: int,
    rate: str | None,
    on_error: str,
) -> Calls | None:
    """The parameters, checked; None for a plain function, which takes none of them.

    Raises ArgumentError and ArgumentTypeError.
    """
    arguments.function(f, operation, "f", takes_async=True)
    if not is_async(f):
        given = {
            "concurrency": concurrency is not None,
            "ordered": ordered is not True,
            "timeout": timeout is not None,
            "retries": retries != 0,
            "rate": rate is not None,
            "on_error": on_error != "raise",
        }
        if any(given.values()):
            names = ", ".join(name for name, is_given in given.items() if is_given)
            raise ArgumentTypeError(
                f"{operation}: {names} is for coroutine functions, and {name_of(f)} is a plain one: "
                "write it with `async def`, or leave the parameter out"
            )
        return None
    if is_generator(f) and operation != "flatMap":
        raise ArgumentTypeError(
            f"{operation}: {name_of(f)} is an asynchronous generator, and one value for each element is needed: "
            "return it, or use flatMap"
        )
    if not isinstance(ordered, bool):
        raise arguments.wrong_type(ordered, operation, "ordered", "True or False")
    if on_error not in ("raise", "skip", "collect"):
        raise ArgumentError(f"{operation}: on_error = {shown(on_error)}: expected 'raise', 'skip' or 'collect'")
    return Calls(
        operation,
        CONCURRENCY if concurrency is None else arguments.whole_number(concurrency, operation, "concurrency", 1),
        ordered,
        None if timeout is None else arguments.seconds(timeout, operation, "timeout"),
        arguments.whole_number(retries, operation, "retries", 0),
        None if rate is None else parse_rate(rate, operation),
        cast(OnError, on_error),
    )


class _OfCoroutine(Transform):
    __slots__ = ("function",)
    function: Callable[..., Any]

    def functions(self) -> Sequence[Callable[..., Any]]:
        return (self.function,)

    @property
    def ahead(self) -> int:
        return AHEAD

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        from asparkle.core.worker.task import current_environment

        async def work(elements: AsyncIterator[Any], emit: Emit) -> None:
            await self.work(partition, elements, emit)

        return current_environment().stream(elements, work, self.ahead)

    async def work(self, partition: int, elements: AsyncIterator[Any], emit: Emit) -> None:
        """Await what is to be awaited for ``elements``, and ``await emit(x)`` each x that comes of it."""
        raise NotImplementedError


class AsyncMap(_OfCoroutine):
    """``await function(element)`` for each element, several at a time."""

    __slots__ = ("calls",)

    def __init__(self, function: Callable[..., Any], calls: Calls) -> None:
        self.function = function
        self.calls = calls

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.function, self.calls))

    @property
    def ahead(self) -> int:
        return min(self.calls.concurrency, AHEAD)

    async def work(self, partition: int, elements: AsyncIterator[Any], emit: Emit) -> None:
        from asparkle.core.worker.concurrently import call_each

        await call_each(self, elements, emit)

    def given(self, element: Any) -> Any:
        """What the function is called with."""
        return element

    def made(self, element: Any, result: Any) -> Iterable[Any]:
        """What goes on from a call that returned."""
        return (result,)

    def failed(self, element: Any, error: BaseException) -> Iterable[Any]:
        """What goes on from one that failed, where failures are collected."""
        return (FailedElement(element, error),)


class AsyncFlatMap(AsyncMap):
    __slots__ = ()

    def made(self, element: Any, result: Any) -> Iterable[Any]:
        return iterable(result, self.function, self.calls.operation)


class AsyncFilter(AsyncMap):
    __slots__ = ()

    def made(self, element: Any, result: Any) -> Iterable[Any]:
        return (element,) if result else ()


class AsyncMapValues(AsyncMap):
    __slots__ = ()

    def given(self, element: Any) -> Any:
        try:
            return element[1]
        except (TypeError, LookupError) as error:
            raise not_a_pair(element, "mapValues") from error

    def made(self, element: Any, result: Any) -> Iterable[Any]:
        return ((element[0], result),)

    def failed(self, element: Any, error: BaseException) -> Iterable[Any]:
        return ((element[0], FailedElement(element[1], error)),)


class AsyncForEach(AsyncMap):
    __slots__ = ()

    def made(self, element: Any, result: Any) -> Iterable[Any]:
        return ()


class AsyncMapPartitions(_OfCoroutine):
    """What a coroutine function, or an asynchronous generator, makes of a partition's asynchronous iterator."""

    __slots__ = ("operation",)

    def __init__(self, function: Callable[..., Any], operation: str) -> None:
        self.function = function
        self.operation = operation

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.function, self.operation))

    def results(self, partition: int, elements: AsyncIterator[Any]) -> Any:
        return self.function(elements)

    async def work(self, partition: int, elements: AsyncIterator[Any], emit: Emit) -> None:
        from asparkle.core.worker.concurrently import emit_each

        results = self.results(partition, elements)
        if not hasattr(results, "__aiter__"):
            results = await results
        if not hasattr(results, "__aiter__"):
            results = iterable(results, self.function, self.operation)
        await emit_each(results, emit)


class AsyncMapPartitionsWithIndex(AsyncMapPartitions):
    __slots__ = ()

    def results(self, partition: int, elements: AsyncIterator[Any]) -> Any:
        return self.function(partition, elements)


class AsyncForPartition(AsyncMapPartitions):
    """What comes of it is not looked at, but an asynchronous generator is run to its end."""

    __slots__ = ()

    async def work(self, partition: int, elements: AsyncIterator[Any], emit: Emit) -> None:
        from asparkle.core.worker.concurrently import emit_each

        results = self.results(partition, elements)
        if not hasattr(results, "__aiter__"):
            results = await results
        if hasattr(results, "__aiter__"):
            await emit_each(results, _drop)


async def _drop(result: Any) -> None:
    """Nobody wants it."""
