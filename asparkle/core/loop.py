"""What anyio leaves to asyncio and trio: calls from other threads, tasks that outlive who began them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import anyio
from anyio import to_thread

LoopCaller: TypeAlias = Callable[[Callable[[], Any]], None]


def loop_caller() -> LoopCaller:
    """A function that runs another one soon on the event loop that runs now.

    It may be called from any thread, never blocks, and does nothing once the loop has ended.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _trio_caller()
    here = contextvars.copy_context()

    def call(function: Callable[[], Any]) -> None:
        try:
            loop.call_soon_threadsafe(function, context=here)
        except RuntimeError:
            if not loop.is_closed():
                raise

    return call


def _trio_caller() -> LoopCaller:
    import trio

    token = trio.lowlevel.current_trio_token()

    def call(function: Callable[[], Any]) -> None:
        try:
            token.run_sync_soon(function)
        except trio.RunFinishedError:
            return

    return call


def start_detached(function: Callable[[], Coroutine[Any, Any, None]], name: str, ended: Callable[[], None]) -> object:
    """Begin a coroutine function in a task that is the event loop's own and no other task's child.

    It is cancelled when the loop's main function is over, on asyncio perhaps before its first step.  It must not
    raise.  ``ended`` is called when the task is over, whatever became of it.  Hold on to what is returned, or
    asyncio may forget the task.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _start_detached_on_trio(function, name, ended)
    task = loop.create_task(function(), name=name)
    task.add_done_callback(lambda _: ended())
    return task


def _start_detached_on_trio(
    function: Callable[[], Coroutine[Any, Any, None]], name: str, ended: Callable[[], None]
) -> object:
    import trio

    async def run() -> None:
        try:
            await function()
        finally:
            ended()

    return trio.lowlevel.spawn_system_task(run, name=name)


async def clean_up(function: Callable[[], Any]) -> None:
    """Run ``function`` in a thread, whatever is cancelled; or here, at the interpreter's end, when from Python 3.12
    on no thread can be started any more."""
    with anyio.CancelScope(shield=True):
        try:
            await to_thread.run_sync(function)
        except RuntimeError as error:
            if "interpreter shutdown" not in str(error):
                raise
            function()
