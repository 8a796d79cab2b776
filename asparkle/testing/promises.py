"""Promises, and what is said when one does not hold.

A conformance class derives from `Conformance`.  Each of its tests names what it tests as the contract says it::

    with self.promised("BlockStore.get", "None where nothing was put"):
        found = store.get((1, 1))
        expect(found is None, f"returned {found!r}")

Whatever goes wrong inside (an expectation, any exception, no end) is a `PromiseBroken`, in words.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import ClassVar, Final, Literal

import anyio
import pytest

GRACE: Final = 2.0  # seconds after which what was to end by itself is interrupted


class PromiseBroken(AssertionError):
    """An implementation does not do what its contract says.

    ``contract``: the contract and its method, as in 'BlockStore.get'; ``promise``: what it says; ``by``: the
    implementation's class; ``observed``: what that did instead.
    """

    def __init__(self, contract: str, promise: str, by: str, observed: str) -> None:
        super().__init__(f'{contract}: "{promise}": {by} {observed}')
        self.contract = contract
        self.promise = promise
        self.by = by
        self.observed = observed


class _Unexpected(AssertionError):
    """What was observed, on its way to the promise that it breaks."""


def expect(condition: object, observed: str) -> None:
    """The promise of the block around is broken unless ``condition`` holds; ``observed``: "returned 3"."""
    __tracebackhide__ = True
    if not condition:
        raise _Unexpected(observed)


class Conformance:
    """What the conformance classes have in common."""

    patience: ClassVar[float] = 10.0
    """Seconds that something which is promised to happen may take."""
    directory: Path
    """An empty directory of the test's own."""

    @pytest.fixture(autouse=True)
    def _in_a_directory_of_its_own(self, tmp_path: Path) -> None:
        self.directory = tmp_path

    def subject(self) -> str:
        """Who is tested: the name of the class that the factory makes."""
        raise NotImplementedError

    def promised(self, contract: str, promise: str, *, within: float | None = None) -> Promise:
        """What happens inside is promised: that it succeeds, and that it ends ``within`` so many seconds."""
        return Promise(contract, promise, self.subject, self.patience if within is None else within)


class Promise(AbstractContextManager[None]):
    """A block of code that shows whether one promise is kept.  Raises `PromiseBroken` if not."""

    def __init__(self, contract: str, promise: str, by: Callable[[], str], seconds: float) -> None:
        self._contract = contract
        self._promise = promise
        self._by = by
        self._seconds = seconds
        self._in_time = _in_time(seconds, self._held_up)

    def broken(self, observed: str) -> PromiseBroken:
        return PromiseBroken(self._contract, self._promise, self._by(), observed)

    def _held_up(self) -> PromiseBroken:
        return self.broken(f"held up everything for {self._seconds:g} seconds, and had not returned")

    def __enter__(self) -> None:
        self._in_time.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        __tracebackhide__ = True
        raised = error
        try:
            self._in_time.__exit__(kind, error, traceback)
        except _Late:
            raise self.broken(f"had not done so after {self._seconds:g} seconds") from None
        except BaseException as other:
            raised = other
        first = raised
        while isinstance(first, BaseExceptionGroup):  # of a task group
            first = first.exceptions[0]
        if isinstance(first, _Unexpected):
            raise self.broken(str(first)) from None
        if isinstance(first, Exception) and not isinstance(first, PromiseBroken):
            raise self.broken(f"raised {type(first).__name__}: {first}") from raised
        if first is not None and first is not error:
            raise first
        return False


class _Late(Exception):
    """A wait took too long."""


@contextmanager
def _in_time(seconds: float, held_up: Callable[[], BaseException]) -> Iterator[None]:
    """Ends what takes longer: by cancelling it, on an event loop; where it does not let that happen, by raising what
    ``held_up`` makes in the middle of it, on the main thread."""
    if not _on_loop():
        with _alarm(seconds, held_up):
            yield
        return
    with _alarm(seconds + GRACE, held_up):
        with anyio.move_on_after(seconds) as scope:
            yield
        if scope.cancelled_caught:
            raise _Late


def _on_loop() -> bool:
    try:
        anyio.get_current_task()
    except (anyio.NoEventLoopError, RuntimeError):
        return False
    return True


@contextmanager
def _alarm(seconds: float, make: Callable[[], BaseException]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or math.isinf(seconds):
        yield  # signals strike on the main thread only
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise make()

    began = time.monotonic()
    handler = signal.signal(signal.SIGALRM, ring)
    before, interval = signal.setitimer(signal.ITIMER_REAL, seconds, GRACE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if before:  # that of a block around this one
            signal.setitimer(signal.ITIMER_REAL, max(0.01, before - (time.monotonic() - began)), interval)
