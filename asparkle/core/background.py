"""A coroutine function under way beside its caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio

from asparkle.core.errors import ContextStopped

T = TypeVar("T")


class Background(Generic[T]):
    """A coroutine function under way in the driver's own task group, whose result somebody may want.

    A generator can't hold a task group open, since it may be abandoned in another task than it began in.
    """

    def __init__(self, function: Callable[[], Awaitable[T]]) -> None:
        self._function = function
        self._done = anyio.Event()
        self._scope = anyio.CancelScope()
        self._value: list[T] = []
        self._error: BaseException | None = None
        self._cancelled: Exception | None = None
        self.sharers = 0

    async def run(self) -> None:
        """The task."""
        try:
            with self._scope:
                self._value.append(await self._function())
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # it is the caller's, who gets it from `result`
            self._error = error
        finally:
            self._done.set()

    async def result(self) -> T:
        """The function's result, or its exception."""
        await self._done.wait()
        return self.outcome()

    def outcome(self) -> T:
        """The same, once `is_over`."""
        if self._error is not None:
            raise self._error
        if not self._value:
            raise self._cancelled or ContextStopped()
        return self._value[0]

    @property
    def is_over(self) -> bool:
        """Whether `result` returns at once."""
        return self._done.is_set()

    async def shared_result(self) -> T:
        """The same for one of several who want it: cancelled when all of them are."""
        self.sharers += 1
        try:
            return await self.result()
        finally:
            self.sharers -= 1
            if not self.sharers:
                self.cancel()

    def cancel(self, error: Exception | None = None) -> None:
        """Nobody wants the result any more; whoever asks for it still gets ``error``."""
        self._cancelled = self._cancelled or error
        self._scope.cancel()
