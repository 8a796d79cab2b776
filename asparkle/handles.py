"""Handles of actions under way, for programs without an event loop."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from asparkle.core import handles
from asparkle.core.errors import ArgumentTypeError
from asparkle.core.jobrecords import JobMetrics, JobProgress
from asparkle.core.shown import shown
from asparkle.rdd import RDD, _unwrap

if TYPE_CHECKING:
    from asparkle.blocking import BlockingContext

__all__ = ["JobHandle"]

T = TypeVar("T")
_WITHOUT_RESULT = {"toLocalIterator", "unpersist"}  # theirs belong to the event loop


class JobHandle(Generic[T]):
    """An action under way, made by `SparkContext.submit`.  May be used by any thread.

    >>> job = sc.submit(sc.parallelize(range(100), 4).take, 2)
    >>> job.result()
    [0, 1]
    >>> job.done
    True
    """

    def __init__(self, context: BlockingContext, handle: handles.JobHandle[T]) -> None:
        self._context = context
        self._handle = handle

    @property
    def done(self) -> bool:
        """Whether it has ended, well or badly."""
        return self._handle.done

    def result(self, timeout: float | None = None) -> T:
        """What the action returns, or raises; JobCancelled if it was cancelled.

        Raises TimeoutError after ``timeout`` seconds; the action goes on, and so it does after Ctrl-C.
        """
        if self.done:
            return self._handle._background.outcome()  # the context may have stopped since
        return self._context._call(self._handle.result, timeout)

    def cancel(self) -> None:
        """End it, and the jobs that it has submitted.  Whoever waits gets JobCancelled."""
        if not self.done:
            self._context._ask(self._handle.cancel)

    def progress(self) -> JobProgress:
        """How far its jobs are."""
        return self._handle.progress() if self.done else self._context._ask(self._handle.progress)

    def metrics(self) -> JobMetrics:
        """What its jobs took so far."""
        return self._handle.metrics() if self.done else self._context._ask(self._handle.metrics)

    def __repr__(self) -> str:
        return repr(self._handle)


def asynchronous(action: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Awaitable[Any]]:
    """The coroutine function behind an action of this face.  Raises ArgumentTypeError for anything else."""
    from asparkle.context import SparkContext

    owner, name = getattr(action, "__self__", None), getattr(action, "__name__", "")
    inner = owner._rdd if isinstance(owner, RDD) else owner._context if isinstance(owner, SparkContext) else None
    method = getattr(inner, name, None)
    if not inspect.iscoroutinefunction(method) or name in _WITHOUT_RESULT:
        raise ArgumentTypeError(
            f"submit: action = {shown(action)}: expected an action of an RDD or of this context, such as rdd.count; "
            "its arguments come behind it"
        )
    return functools.partial(method, *map(_unwrap, args), **{key: _unwrap(value) for key, value in kwargs.items()})
