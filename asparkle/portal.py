"""An event loop in a thread of its own, for programs that don't have one.

The blocking face runs each coroutine here and waits for it.  This works anywhere, also in a thread whose
own loop is running (a notebook), and raises only where waiting could never end.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from asparkle.core.errors import ContextStopped, DeadlockError, NestedContextError
from asparkle.core.taskcontext import TaskContext

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    from anyio import CancelScope, Event

    from asparkle.core.application import Application
    from asparkle.core.context import SparkContext
    from asparkle.core.loop import LoopCaller
    from asparkle.core.profiling import Profiler

T = TypeVar("T")


class Portal:
    """Runs one asynchronous context in a background thread, and coroutines beside it."""

    def __init__(self, application: Application, profiler_cls: type[Profiler] | None = None) -> None:
        from concurrent.futures import Future

        self._application = application
        self._profiler_cls = profiler_cls
        self._started: Future[None] = Future()
        self._stopping = threading.Event()
        self._pending: set[_Call[Any]] = set()
        self._thread = threading.Thread(target=self._run, name="asparkle-loop", daemon=True)
        self.context: SparkContext
        self._loop_call: LoopCaller
        self._stop_event: Event

    def start(self) -> None:
        """Enter the context; raises what that raises."""
        self._thread.start()
        try:
            self._started.result()
        except BaseException:  # Ctrl-C, or what entering raised
            self._stopping.set()
            if hasattr(self, "_loop_call"):
                self._loop_call(self._stop_event.set)
            self._thread.join()
            raise

    def _run(self) -> None:
        try:
            import anyio

            anyio.run(self._main)
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            else:
                raise
        finally:
            self._stopping.set()
            for call in list(self._pending):
                call.give_up()

    async def _main(self) -> None:
        import anyio

        from asparkle.core.context import SparkContext
        from asparkle.core.loop import loop_caller

        self._stop_event = anyio.Event()
        self._loop_call = loop_caller()
        if self._stopping.is_set():  # given up already
            return
        self.context = SparkContext(self._application, self._profiler_cls)
        async with self.context:
            self._started.set_result(None)
            await self._stop_event.wait()
            calls = list(self._pending)
            for call in calls:
                call.cancel()
            for call in calls:
                await call.end()

    def call(self, function: Callable[..., Awaitable[T]], *arguments: Any, **keywords: Any) -> T:
        """The result of a coroutine function, run on the loop with this thread's context variables.

        Ctrl-C cancels it, and is raised once it has ended.
        """
        if TaskContext.get() is not None:
            raise NestedContextError
        if threading.current_thread() is self._thread:
            raise DeadlockError(
                "a blocking call on the context's own event loop would wait for itself; use asparkle.aio there"
            )
        if self._stopping.is_set():
            raise ContextStopped
        call: _Call[T] = _Call(function, arguments, keywords)
        self._pending.add(call)
        try:
            self._loop_call(call.begin)
            if self._stopping.is_set():  # in between: perhaps nobody looks after this any more
                call.give_up()
            return call.wait()
        except BaseException:
            if not call.is_over:  # Ctrl-C in the waiting thread
                self._loop_call(call.cancel)
                call.wait_quietly()
            raise
        finally:
            self._pending.discard(call)

    def iterate(self, function: Callable[..., Awaitable[AsyncIterator[T]]], *arguments: Any) -> Iterator[T]:
        """The elements of an asynchronous iterator, fetched as they are asked for."""
        elements = self.call(function, *arguments)
        while True:
            try:
                yield self.call(_next, elements)
            except _Ended:
                return

    def stop(self) -> None:
        """Leave the context and end the thread."""
        if self._stopping.is_set() or not self._thread.is_alive():
            return
        self._stopping.set()
        self._loop_call(self._stop_event.set)
        if threading.current_thread() is not self._thread:
            self._thread.join()


async def _next(elements: AsyncIterator[T]) -> T:
    try:
        return await elements.__anext__()
    except StopAsyncIteration as end:
        raise _Ended from end


class _Ended(Exception):
    """The end of an asynchronous iterator: StopAsyncIteration can't leave a coroutine."""


class _Call(Generic[T]):
    """One coroutine on the loop, and the thread that waits for it.

    A native task and a lock: a task group and a `concurrent.futures.Future` take three times as long, which
    a small job feels.
    """

    def __init__(
        self, function: Callable[..., Awaitable[T]], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        self._function = function
        self._arguments = arguments
        self._keywords = keywords
        self._variables = contextvars.copy_context()
        self._outcome: tuple[T | None, BaseException | None] | None = None
        self._over = threading.Lock()
        self._over.acquire()
        self._scope: CancelScope
        self._task: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------- in the waiting thread

    @property
    def is_over(self) -> bool:
        return self._outcome is not None

    def wait(self) -> T:
        """What the coroutine returned or raised; once."""
        self._over.acquire()
        assert self._outcome is not None
        (value, error), self._outcome = self._outcome, (None, None)  # an error's traceback holds this
        if error is None:
            return cast(T, value)
        try:
            raise error
        finally:
            del error

    def wait_quietly(self) -> None:
        """Until it is over, through any number of Ctrl-C."""
        while not self.is_over:
            with suppress(KeyboardInterrupt):
                self._over.acquire()

    # ------------------------------------------------------------------------- on the loop

    def begin(self) -> None:
        import asyncio

        import anyio

        if self.is_over:
            return
        self._scope = anyio.CancelScope()
        context = contextvars.copy_context()
        # The loop has its own idea of which loop it is; all else is the caller's.
        context.run(_set_all, [(var, value) for var, value in self._variables.items() if var not in context])
        self._task = asyncio.get_running_loop().create_task(self._run(), context=context)

    async def _run(self) -> None:
        try:
            with self._scope:
                self._settle(await self._function(*self._arguments, **self._keywords), None)
        except BaseException as error:  # SystemExit, say, in a function that ran here: it is the caller's
            import asyncio

            self._settle(None, ContextStopped() if isinstance(error, asyncio.CancelledError) else error)
        else:
            self._settle(None, ContextStopped())  # if it was cancelled

    def cancel(self) -> None:
        """End what is under way, for Ctrl-C or because the context ends."""
        if self._task is not None:
            self._scope.cancel()

    async def end(self) -> None:
        """Wait until it is over."""
        import asyncio

        if self._task is not None:
            await asyncio.wait([self._task])

    def give_up(self) -> None:
        """Nobody will run this, for the loop is no more.  From any thread."""
        self._settle(None, ContextStopped())

    def _settle(self, value: T | None, error: BaseException | None) -> None:
        """The first of these counts; should two threads come at once, either."""
        if self._outcome is None:
            self._outcome = (value, error)
            with suppress(RuntimeError):  # released by the other
                self._over.release()


def _set_all(variables: list[tuple[contextvars.ContextVar[Any], Any]]) -> None:
    for variable, value in variables:
        variable.set(value)
