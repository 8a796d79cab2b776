"""What a worker has opened for its tasks' coroutines: the other side of `asparkle.core.resources.WorkerResource`."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from asparkle.core.errors import UserFunctionError
from asparkle.core.logs import log
from asparkle.core.shown import shown


class Resources:
    """Those of one worker, by identity, in the order in which they were opened; all of it is called on ``loop``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: dict[str, _Resource] = {}

    async def opened(self, identity: str, factory: Callable[[], AbstractAsyncContextManager[Any]]) -> Any:
        """What entering the resource gave; it is opened if it is not."""
        if asyncio.get_running_loop() is not self._loop:
            raise UserFunctionError("a WorkerResource is awaited on another event loop than its worker's")
        resource = self._open.get(identity)
        if resource is None:
            resource = self._open[identity] = _Resource(factory)
            # with variables of its own: what it starts outlives the task that happens to need it first
            resource.start(self._loop, lambda: self._open.pop(identity, None))
        return await asyncio.shield(resource.value)

    def close(self) -> list[asyncio.Task[None]]:
        """Begin to close them, the last one opened first; the tasks that do so.  One that is slow keeps no other."""
        return [resource.close() for resource in reversed(list(self._open.values()))]


class _Resource:
    """An asynchronous context manager, entered and left in one task of its own."""

    def __init__(self, factory: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._factory = factory
        self._closing = asyncio.Event()
        self.value: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def start(self, loop: asyncio.AbstractEventLoop, ended: Callable[[], object]) -> None:
        self._task = loop.create_task(self._hold(ended), context=contextvars.Context())

    async def _hold(self, ended: Callable[[], object]) -> None:
        try:
            manager = self._factory()
            if not hasattr(manager, "__aenter__"):
                raise UserFunctionError(
                    f"the factory of a WorkerResource returned {shown(manager)}, which is no asynchronous context "
                    "manager; decorate a generator with contextlib.asynccontextmanager"
                )
            async with manager as value:
                self.value.set_result(value)
                try:
                    await self._closing.wait()
                finally:
                    ended()  # perhaps by itself
        except BaseException as error:  # who awaits it gets it; later ones try again
            if self.value.done():
                how = "was not closed well" if self._closing.is_set() else "ended by an error"
                log("asparkle.worker").error(f"a WorkerResource {how}", exc_info=error)
            else:
                ended()
                cause: BaseException = error
                if isinstance(error, StopIteration):  # no future can hold it
                    cause = UserFunctionError("the factory of a WorkerResource raised StopIteration; catch it there")
                    cause.__cause__ = error
                self.value.set_exception(cause)
                self.value.exception()  # perhaps nobody waits any more

    def close(self) -> asyncio.Task[None]:
        self._closing.set()
        if not self.value.done():
            self._task.cancel()
        return self._task
