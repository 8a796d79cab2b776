"""What a running task can know about itself, and which task is running in this thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decimal import Decimal
from contextvars import ContextVar

from asparkle.core.errors import ContextError

_running = threading.local()
_awaiting: ContextVar[TaskContext | None] = ContextVar("asparkle_task", default=None)  # in a task's coroutines


class TaskContext:
    """Facts about the task attempt that runs in this thread, or that this coroutine is part of.

    ``TaskContext.get()`` gives it inside a task, and None in the driver.  ``TaskContext()`` does so as well, and raises
    ContextError in the driver.
    """

    def __new__(cls, *facts: Any) -> TaskContext:
        if facts:
            return object.__new__(cls)
        running = cls.get()
        if running is None:
            raise ContextError(f"{cls.__name__}(): no task runs here; make it in a function that tasks call")
        return running

    def __init__(
        self,
        stage: int = -1,
        partition: int = -1,
        attempt: int = -1,
        tid: int = -1,
        properties: dict[str, str] | None = None,
        cpus: int = 1,
    ) -> None:
        if stage < 0:  # it is the running task's
            return
        self._stage = stage
        self._partition = partition
        self._attempt = attempt
        self._tid = tid
        self._properties = properties or {}
        self._cpus = cpus
        self._accumulators: dict[int, Any] = {}
        self._cleanups: ExitStack | None = None  # most attempts need none
        self._environment: Any = None  # of the runtime
        self._request_commit: Callable[[], bool] | None = None
        self._counters: Any = None  # `metrics.Counters`, of the runtime

    def __reduce__(self) -> tuple[Any, ...]:
        """Facts can be returned from a task."""
        return (type(self), (self._stage, self._partition, self._attempt, self._tid, self._properties, self._cpus))

    @classmethod
    def get(cls) -> TaskContext | None:
        """The context of the task that runs in this thread or coroutine; None outside a task."""
        return getattr(_running, "context", None) or _awaiting.get()

    def stageId(self) -> int:
        """The stage that this task belongs to."""
        return self._stage

    def partitionId(self) -> int:
        """The number of the partition that this task computes."""
        return self._partition

    def attemptNumber(self) -> int:
        """How many attempts at this partition came before this one in its stage."""
        return self._attempt

    def taskAttemptId(self) -> int:
        """A number that no other attempt of the application has."""
        return self._tid

    def getLocalProperty(self, key: str) -> str | None:
        """A local property of the job, as it was set when the job was submitted; None if unset."""
        return self._properties.get(key)

    def cpus(self) -> int:
        """How many CPUs the task may use: ``spark.task.cpus``."""
        return self._cpus

    def cpuAmount(self) -> Decimal:
        """The same, as a Decimal.

        >>> TaskContext(0, 0, 0, 0).cpuAmount()
        Decimal('1')
        """
        from decimal import Decimal

        return Decimal(self._cpus)

    def resources(self) -> dict[str, Any]:
        """Resources such as GPUs, which executors here do not have: none."""
        return {}

    def _add_cleanup(self, function: Callable[[], None]) -> None:
        """Call ``function`` when the attempt ends, however it ends; the last added is called first."""
        self._at_end().callback(function)

    def _at_end(self) -> ExitStack:
        """What is closed when the attempt ends: all of it, whatever a part of it raises."""
        if self._cleanups is None:
            self._cleanups = ExitStack()
        return self._cleanups


def enter(context: TaskContext) -> None:
    """``context`` is the running task of this thread from now on."""
    _running.context = context


def leave() -> None:
    """No task runs in this thread any more."""
    _running.context = None


def enter_coroutines(context: TaskContext) -> None:
    """``context`` is the running task of the coroutines that are started with this thread's context variables."""
    _awaiting.set(context)
