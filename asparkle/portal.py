"""An event loop in a thread of its own, for programs that don't have one.

The blocking face runs each coroutine here and waits for it.  This works anywhere, also in a thread whose
own loop is running (a notebook), and raises only where waiting could never end.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from asparkle.core.errors import ContextStopped, DeadlockError, NestedContextError
from asparkle.core.taskcontext import TaskContext

if TYPE_CHECKING:
    from concurrent.futures import Future

    from anyio import Event
    from anyio.abc import TaskGroup

    from asparkle.core.application import Application
    from asparkle.core.context import SparkContext
    from asparkle.core.loop import LoopCaller

T = TypeVar("T")


class Portal:
    """Runs one asynchronous context in a background thread, and coroutines beside it."""

    def __init__(self, application: Application) -> None:
        from concurrent.futures import Future

        self._application = application
        self._started: Future[None] = Future()
        self._stopping = threading.Event()
        self._pending: set[_Call[Any]] = set()
        self._thread = threading.Thread(target=self._run, name="asparkle-loop", daemon=True)
        self.context: SparkContext
        self._loop_call: LoopCaller
        self._tasks: TaskGroup
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
        import anyio

        try:
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
        self.context = SparkContext(self._application)
        async with self.context, anyio.create_task_group() as self._tasks:
            self._started.set_result(None)
            await self._stop_event.wait()
            self._tasks.cancel_scope.cancel()

    def call(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
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
        call: _Call[T] = _Call(function, arguments)
        self._pending.add(call)
        self._loop_call(lambda: call.begin(self._tasks))
        if self._stopping.is_set():  # in between: perhaps nobody looks after this any more
            call.give_up()
        try:
            return call.future.result()
        except BaseException as error:
            if not call.future.done():  # Ctrl-C in the waiting thread
                self._loop_call(call.cancel)
                _wait_quietly(call.future)
            try:
                raise error
            finally:
                del error  # or its traceback would hold itself
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
    """One coroutine on the loop, and the future of who waits for it."""

    def __init__(self, function: Callable[..., Awaitable[T]], arguments: tuple[Any, ...]) -> None:
        from concurrent.futures import Future

        self.function = function
        self.arguments = arguments
        self.future: Future[T] = Future()
        self._variables = contextvars.copy_context()
        self._scope: Any = None

    def begin(self, tasks: Any) -> None:
        import anyio

        self._scope = anyio.CancelScope()
        try:
            tasks.start_soon(self._run)
        except RuntimeError:  # the task group has ended
            self.future.set_exception(ContextStopped())

    async def _run(self) -> None:
        import anyio

        own = contextvars.copy_context()
        for variable, value in self._variables.items():
            if variable not in own:  # the loop has its own idea of which loop it is
                variable.set(value)
        try:
            with self._scope:
                self.future.set_result(await self.function(*self.arguments))
            if not self.future.done():
                self.future.set_exception(KeyboardInterrupt())
        except BaseException as error:  # SystemExit, say, in a function that ran here: it is the caller's
            cancelled = isinstance(error, anyio.get_cancelled_exc_class())
            if not self.future.done():
                self.future.set_exception(ContextStopped() if cancelled else error)
            if cancelled:
                raise

    def give_up(self) -> None:
        """The loop is no more: nobody will run this."""
        from concurrent.futures import InvalidStateError

        with suppress(InvalidStateError):
            self.future.set_exception(ContextStopped())

    def cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()


def _wait_quietly(future: Future[Any]) -> None:
    while not future.done():
        try:
            future.exception()
        except BaseException:  # Ctrl-C again, or the cancellation itself
            continue
