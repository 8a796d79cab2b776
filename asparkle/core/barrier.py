"""Barrier execution: the tasks of a stage run all at once, and can wait for and talk to each other.

As in Spark's Project Hydrogen (SPARK-24374), for programs that bring their own communication, such as MPI or the
training of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from asparkle.core import arguments
from asparkle.core.errors import UserFunctionError
from asparkle.core.lineage import Mapped
from asparkle.core.taskcontext import TaskContext
from asparkle.core.transforms import MapPartitions, MapPartitionsWithIndex

if TYPE_CHECKING:
    from asparkle.core.program import Transform
    from asparkle.core.rdd import RDD

T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")


class RDDBarrier(Generic[T_co]):
    """An RDD whose next step starts all its tasks together; made by `RDD.barrier`."""

    def __init__(self, rdd: RDD[T_co]) -> None:
        self.rdd = rdd

    def mapPartitions(self, f: Callable[[Iterator[T_co]], Iterable[U]], preservesPartitioning: bool = False) -> RDD[U]:
        """As `RDD.mapPartitions`; in ``f``, `BarrierTaskContext.get` is the way to the other tasks.

        The stage needs a slot for each partition at once, or the job fails after
        ``asparkle.scheduler.barrierSlotWait``.  If one task fails, all are run again.
        """
        return self._mapped(MapPartitions(arguments.function(f, "mapPartitions", "f")), preservesPartitioning)

    def mapPartitionsWithIndex(
        self, f: Callable[[int, Iterator[T_co]], Iterable[U]], preservesPartitioning: bool = False
    ) -> RDD[U]:
        """As `RDD.mapPartitionsWithIndex`; otherwise as `mapPartitions` here."""
        transform = MapPartitionsWithIndex(arguments.function(f, "mapPartitionsWithIndex", "f"))
        return self._mapped(transform, preservesPartitioning)

    def _mapped(self, transform: Transform, preserves: bool) -> RDD[Any]:
        return self.rdd._derive(Mapped(self.rdd._node, transform, preserves_partitioning=preserves, barrier=True))


@dataclass(frozen=True)
class BarrierTaskInfo:
    """``address``: the host that a task of the barrier stage runs on."""

    address: str


class BarrierTaskContext(TaskContext):
    """What a task of a barrier stage can know about itself, and the way to the others."""

    _hosts: Sequence[str]
    _exchange: Callable[[int, str], list[str]]
    _rounds = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return (*super().__reduce__(), {"_hosts": self._hosts})

    @classmethod
    def get(cls) -> BarrierTaskContext:
        """The context of the task that runs in this thread.

        Raises UserFunctionError where that is no task of a barrier stage.
        """
        context = TaskContext.get()
        if not isinstance(context, BarrierTaskContext):
            raise UserFunctionError(
                "BarrierTaskContext.get() was called outside a task of a barrier stage; make one with rdd.barrier()"
            )
        return context

    def barrier(self) -> None:
        """Wait until all tasks of the stage have called this as often as this one.

        The stage fails if they do not within ``spark.barrier.sync.timeout``.
        """
        self.allGather("")

    def allGather(self, message: str = "") -> list[str]:
        """Wait as `barrier` does; returns what each task gave as ``message``, in order of partitions."""
        message = arguments.text(message, "allGather", "message")
        self._rounds += 1
        return self._exchange(self._rounds - 1, message)

    def getTaskInfos(self) -> list[BarrierTaskInfo]:
        """Where the tasks of the stage run, in order of partitions."""
        return [BarrierTaskInfo(host) for host in self._hosts]
