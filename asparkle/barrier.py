"""Barrier execution for programs without an event loop; see `asparkle.core.barrier`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from asparkle.core.barrier import BarrierTaskContext, BarrierTaskInfo

if TYPE_CHECKING:
    from asparkle.core import barrier as core
    from asparkle.rdd import RDD

__all__ = ["BarrierTaskContext", "BarrierTaskInfo", "RDDBarrier"]

T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")


class RDDBarrier(Generic[T_co]):
    """An RDD whose next step starts all its tasks together; made by `RDD.barrier`."""

    def __init__(self, barrier: core.RDDBarrier[T_co], rdd: RDD[T_co]) -> None:
        self._barrier = barrier
        self.rdd = rdd

    def mapPartitions(self, f: Callable[[Iterator[T_co]], Iterable[U]], preservesPartitioning: bool = False) -> RDD[U]:
        """As `RDD.mapPartitions`; in ``f``, `BarrierTaskContext.get` is the way to the other tasks.

        The stage needs a slot for each partition at once, or the job fails after
        ``asparkle.scheduler.barrierSlotWait``.  If one task fails, all are run again.
        """
        return self.rdd._wrap(self._barrier.mapPartitions(f, preservesPartitioning))

    def mapPartitionsWithIndex(
        self, f: Callable[[int, Iterator[T_co]], Iterable[U]], preservesPartitioning: bool = False
    ) -> RDD[U]:
        """As `RDD.mapPartitionsWithIndex`; otherwise as `mapPartitions` here."""
        return self.rdd._wrap(self._barrier.mapPartitionsWithIndex(f, preservesPartitioning))
