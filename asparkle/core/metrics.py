"""What an attempt at a task took: counted where it happens, by batches, and told only where somebody listens."""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Final, ParamSpec, TypeVar

from asparkle.core.taskcontext import TaskContext

T = TypeVar("T")
P = ParamSpec("P")
_BATCH: Final = 1024
C = TypeVar("C", bound="list[Any]")


class Counters:
    """Of one attempt; in the order of the fields of `events.TaskMetrics`, which says what each is.

    The values here are what they are until something is counted: to make an object is to make an empty one.
    """

    run_seconds: float = 0.0
    cpu_seconds: float = 0.0
    deserialize_seconds: float = 0.0
    gc_seconds: float = 0.0
    result_seconds: float = 0.0
    result_bytes: int = 0
    peak_memory: int = 0
    spilled_bytes: int = 0
    input_bytes: int = 0
    input_records: int = 0
    output_bytes: int = 0
    output_records: int = 0
    shuffle_read_bytes: int = 0
    shuffle_read_records: int = 0
    shuffle_read_blocks: int = 0
    shuffle_read_seconds: float = 0.0
    shuffle_write_bytes: int = 0
    shuffle_write_records: int = 0
    shuffle_write_seconds: float = 0.0
    shuffle_remote_bytes: int = 0
    shuffle_remote_blocks: int = 0
    fetched: Sequence[tuple[str, str, int]] = ()

    def values(self) -> tuple[Any, ...]:
        """As they travel."""
        return tuple(getattr(self, name) for name in NAMES)


NAMES = tuple(Counters.__annotations__)


def counters() -> Counters:
    """Those of the attempt that runs in this thread; outside of one, some that nobody looks at."""
    context = TaskContext.get()
    return Counters() if context is None else context._counters


def count_input(batches: Iterable[C]) -> Iterator[C]:
    """``batches`` of records, as they are read from the outside."""
    counted = counters()
    for batch in batches:
        counted.input_records += len(batch)
        yield batch


def count_output(records: Iterator[T]) -> Iterator[T]:
    """``records``, as they are written to the outside: taken, and counted, by batches."""
    counted = counters()

    def batches() -> Iterator[list[T]]:
        while batch := list(islice(records, _BATCH)):
            counted.output_records += len(batch)
            yield batch

    return chain.from_iterable(batches())


def counts_input(read: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """A generator function which reads records from the outside one by one."""

    @functools.wraps(read)
    def counted(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        counts, records = counters(), 0  # those of the attempt that reads: it may be closed by the next
        try:
            for records, record in enumerate(read(*args, **kwargs), 1):  # noqa: B007
                yield record
        finally:
            counts.input_records += records

    return counted


class GarbageClock:
    """How long the garbage collector has taken in this process, since the clock was made."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0
        gc.callbacks.append(self._tick)

    def _tick(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.seconds += time.perf_counter() - self._began

    def stop(self) -> None:
        gc.callbacks.remove(self._tick)
