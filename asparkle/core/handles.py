"""An action that goes on by itself: a handle to wait for it, look at it, and end it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Generator
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from asparkle.core.arguments import wrong_type
from asparkle.core.errors import ArgumentTypeError, JobCancelled
from asparkle.core.jobrecords import JobMetrics, JobProgress, JobRecord, metrics_of, progress_of
from asparkle.core.jobs import submission
from asparkle.core.shown import name_of, shown

if TYPE_CHECKING:
    from asparkle.core.admission import Admission
    from asparkle.core.driver import Driver

T = TypeVar("T")


class JobHandle(Generic[T]):
    """An action under way, made by `SparkContext.submit`.

    ``await handle`` is its result.  To give up waiting does not end it; `cancel` does.
    """

    def __init__(self, driver: Driver, action: partial[Awaitable[T]], admission: Admission) -> None:
        self._records: list[JobRecord] = []
        self._started = time.monotonic()
        self._ended: float | None = None
        self._action = action
        self._admission = admission
        self._begun = admission.begin()
        token = submission.set(self._records)
        try:
            self._background = driver.in_background(self._run)
        finally:
            submission.reset(token)

    async def _run(self) -> T:
        try:
            with self._admission.inside(self._begun):
                return await self._called()
        finally:
            self._ended = time.monotonic()
            self._admission.end(self._begun)

    def _called(self) -> Awaitable[T]:
        awaitable = self._action()
        if not isawaitable(awaitable):
            raise ArgumentTypeError(
                f"submit: action = {name_of(self._action.func)}, which returned {shown(awaitable)} of type "
                f"{type(awaitable).__name__}: submit takes an action such as rdd.sum, or a coroutine function"
            )
        return awaitable

    @property
    def done(self) -> bool:
        """Whether it has ended, well or badly."""
        return self._background.is_over

    def __await__(self) -> Generator[Any, Any, T]:
        return self.result().__await__()

    async def result(self, timeout: float | None = None) -> T:
        """What the action returns, or raises; JobCancelled if it was cancelled.

        Raises TimeoutError after ``timeout`` seconds; the action goes on.
        """
        if timeout is not None and not isinstance(timeout, int | float):
            raise wrong_type(timeout, "result", "timeout", "a number of seconds")
        with anyio.fail_after(timeout):
            return await self._background.result()

    def cancel(self) -> None:
        """End it, and the jobs that it has submitted.  Whoever waits gets JobCancelled."""
        self._background.cancel(JobCancelled("it was cancelled by its handle"))

    def progress(self) -> JobProgress:
        """How far its jobs are."""
        return progress_of(self._records)

    def metrics(self) -> JobMetrics:
        """What its jobs took so far."""
        return metrics_of(self._records, (self._ended or time.monotonic()) - self._started)

    def __repr__(self) -> str:
        state = "done" if self.done else "under way"
        return f"<JobHandle: {state}, {len(self._records)} jobs>"
