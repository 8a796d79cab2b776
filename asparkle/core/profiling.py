"""Profiles of what tasks do: one for each RDD that a stage ends with, added up over its tasks.

With ``spark.python.profile`` set, each task of a stage runs inside `Profiler.profile`, in its worker, and what that
adds to an accumulator comes back with the task's result.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from asparkle.core.accumulators import AccumulatorParam
from asparkle.core.errors import ContextError

if TYPE_CHECKING:
    import pstats

    from asparkle.core.accumulators import Accumulator
    from asparkle.core.context import SparkContext

T = TypeVar("T")


class Profiler(ABC):
    """What profiles the tasks of one RDD; its objects travel to workers.  Derive from `BasicProfiler`, or from this.

    ``ctx``: the context, to make accumulators with.
    """

    def __init__(self, ctx: SparkContext) -> None:
        """Nothing, unless derived classes want more."""

    @abstractmethod
    def profile(self, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Called in a worker: call ``func``, which is a task, return what it returns, and note what it did."""

    @abstractmethod
    def stats(self) -> Any:
        """What all tasks have noted so far; called in the driver."""

    @abstractmethod
    def show(self, id: int) -> None:
        """Print the profile of the RDD ``id``."""

    @abstractmethod
    def dump(self, id: int, path: str) -> None:
        """Write the profile of the RDD ``id`` into the directory ``path``."""


class PStatsParam(AccumulatorParam["pstats.Stats | None"]):
    """Adds up profiles."""

    def zero(self, value: pstats.Stats | None) -> pstats.Stats | None:
        return None

    def addInPlace(self, value1: pstats.Stats | None, value2: pstats.Stats | None) -> pstats.Stats | None:
        if value1 is None or value2 is None:
            return value1 if value2 is None else value2
        value1.add(value2)
        return value1


class BasicProfiler(Profiler):
    """The profiler that is used unless another is named: Python's ``cProfile``."""

    def __init__(self, ctx: SparkContext) -> None:
        super().__init__(ctx)
        self._accumulator: Accumulator[pstats.Stats | None] = ctx.accumulator(None, PStatsParam())

    def profile(self, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        import cProfile
        import pstats

        profile = cProfile.Profile()
        try:
            return profile.runcall(func, *args, **kwargs)
        finally:
            stats = pstats.Stats(profile)
            stats.stream = None  # type: ignore[attr-defined]  # which can't travel
            self._accumulator.add(stats.strip_dirs())

    def stats(self) -> pstats.Stats | None:
        return self._accumulator.value

    def show(self, id: int) -> None:
        import sys

        stats = self.stats()
        if stats is not None:
            line = "=" * 60
            print(f"{line}\nProfile of RDD<id={id}>\n{line}")
            stats.stream = sys.stdout  # type: ignore[attr-defined]
            stats.sort_stats("time", "cumulative").print_stats()

    def dump(self, id: int, path: str) -> None:
        stats = self.stats()
        if stats is not None:
            os.makedirs(path, exist_ok=True)
            stats.dump_stats(os.path.join(path, f"rdd_{id}.pstats"))


class Profilers:
    """A context's profilers, by RDD."""

    def __init__(self, kind: type[Profiler], context: SparkContext) -> None:
        self._kind = kind
        self._context = context
        self._profilers: dict[int, Profiler] = {}
        self._shown: set[int] = set()

    def of(self, rdd: int) -> Profiler:
        """The profiler of an RDD, made when it is first asked for."""
        if rdd not in self._profilers:
            self._profilers[rdd] = self._kind(self._context)
        return self._profilers[rdd]

    def show(self) -> None:
        """Print those that were not shown yet."""
        for rdd, profiler in list(self._profilers.items()):
            if rdd not in self._shown:
                self._shown.add(rdd)
                profiler.show(rdd)

    def dump(self, path: str) -> None:
        """Write all into a directory, and forget them."""
        profilers, self._profilers = self._profilers, {}
        for rdd, profiler in profilers.items():
            profiler.dump(rdd, path)


def not_profiled() -> ContextError:
    """What is raised where there are no profiles."""
    return ContextError("nothing was profiled: set spark.python.profile to true before the context is made")
