"""Contexts for the engine's tests: one per backend and event loop, kept until all have run.

An asynchronous test that asks for ``sc`` runs as a task of that context's event loop, on every backend; a
test of what no backend changes asks for ``local`` instead.  One that spoils its context makes its own.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from apart import Apart
from masters import MASTERS

from asparkle.aio import SparkContext

LOOPS = ("asyncio", "trio")
EVERYWHERE = [(master, loop) for loop in LOOPS for master in MASTERS]


class Running:
    """A context, and the thread whose event loop it lives on."""

    def __init__(self, master: str, loop: str) -> None:
        self._stack = ExitStack()
        self._portal: BlockingPortal = self._stack.enter_context(start_blocking_portal(loop))
        try:
            entering: AbstractContextManager[SparkContext] = self._portal.wrap_async_context_manager(
                SparkContext(master, plugins=[Apart()])
            )
            self.context = self._stack.enter_context(entering)
        except BaseException:
            self._stack.close()
            raise

    def run(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """What a coroutine function returns, run on the context's loop."""
        return self._portal.call(function, *arguments)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="package", autouse=True)
def contexts() -> Iterator[Callable[[str, str], Running]]:
    """``contexts(master, loop)``: the context of that kind, started when it is first asked for."""
    with ExitStack() as stack:

        @functools.cache
        def running(master: str, loop: str) -> Running:
            made = Running(master, loop)
            stack.callback(made.close)
            return made

        yield running


@pytest.fixture(params=EVERYWHERE, ids=lambda where: "-".join(where))
def running(request: pytest.FixtureRequest, contexts: Callable[[str, str], Running]) -> Running:
    return contexts(*request.param)


@pytest.fixture
def sc(running: Running) -> SparkContext:
    """A context of every backend, on either event loop."""
    return running.context


@pytest.fixture
def local(contexts: Callable[[str, str], Running]) -> SparkContext:
    """One context on threads, for what no backend changes."""
    return contexts("threads[2]", "asyncio").context


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an asynchronous test on the loop of the context that it asks for; of `local` if for none."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    given = pyfuncitem.funcargs
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: given[name] for name in names}
    if "running" in given:
        runner = given["running"]
    else:
        runner = given["contexts"]("threads[2]", "asyncio")
    runner.run(functools.partial(pyfuncitem.obj, **arguments))
    return True
