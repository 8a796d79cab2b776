"""One executor in the driver's own process, with N threads for slots.

Nothing is pickled on the way but users' functions, which each attempt gets afresh.  A thread can't be killed:
a cancelled attempt goes on until its code returns, and its slot stays taken until then.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from asparkle.plugins import (
    AppSpec,
    Cluster,
    ClusterManager,
    Executor,
    ExecutorInfo,
    Lost,
    Worker,
    loop_caller,
)

STACK = 64 << 20  # of address space, not of memory: deep lineage nests iterators


class ThreadExecutor(Executor):
    """A worker runtime in this process; messages are handed over as objects."""

    def __init__(self, app: AppSpec, wake: Any) -> None:
        self.info = ExecutorInfo("driver", 0, "localhost", app.slots_per_executor)
        self._inbox: deque[Any] = deque()
        self._wake = wake
        self._woken = False
        self._arrived = anyio.Event()
        self.worker = Worker(app, "driver", self._reported, in_process=True)
        self.threads = [
            threading.Thread(target=self.worker.run_slot, name=f"asparkle-slot-{i}", daemon=True)
            for i in range(app.slots_per_executor)
        ]

    def start(self) -> None:
        before = threading.stack_size(STACK)
        try:
            for thread in self.threads:
                thread.start()
        finally:
            threading.stack_size(before)

    def send(self, messages: Sequence[Any]) -> None:
        self.worker.receive(messages)

    def _reported(self, batch: Sequence[Any]) -> None:
        self._inbox.append(batch)
        if not self._woken:  # one wake-up serves all that is there when the loop comes to look
            self._woken = True
            self._wake(self._arrived_now)

    def _arrived_now(self) -> None:
        self._arrived.set()

    async def receive(self) -> Sequence[Any] | Lost:
        await self._arrived.wait()
        self._arrived = anyio.Event()
        self._woken = False
        return [message for _ in range(len(self._inbox)) for message in self._inbox.popleft()]

    def kill(self) -> bool:
        return False


class ThreadCluster(Cluster):
    def __init__(self, executor: ThreadExecutor) -> None:
        self._executor: ThreadExecutor | None = executor

    async def added(self) -> Executor:
        executor, self._executor = self._executor, None
        if executor is None:
            await anyio.sleep_forever()
        assert executor is not None
        return executor

    async def set_target(self, executors: int) -> None:
        """There is one executor, always."""

    async def release(self, ids: Collection[str]) -> None:
        """The one executor can't be given back."""


class ThreadsManager(ClusterManager):
    """Master URL ``threads[N]``."""

    in_process = True

    @asynccontextmanager
    async def open(self, app: AppSpec) -> AsyncIterator[Cluster]:
        executor = ThreadExecutor(app, loop_caller())
        executor.start()
        try:
            yield ThreadCluster(executor)
        finally:
            executor.worker.stop()
