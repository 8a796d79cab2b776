"""What one attempt has at hand while it runs: its data, map outputs, blocks, memory and scratch space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from asparkle.core.payloads import load
from asparkle.core.program import Cached
from asparkle.core.protocol import RunTask
from asparkle.core.shuffle import SpillSpace
from asparkle.core.taskcontext import TaskContext

if TYPE_CHECKING:
    from asparkle.core.worker.runtime import Worker
    from asparkle.core.worker.stream import Work


class TaskEnvironment:
    """The surroundings of one attempt; program steps ask it for what they can't hold themselves."""

    __slots__ = ("_data", "_elsewhere", "_space", "computed", "context", "task", "worker")

    def __init__(self, worker: Worker, task: RunTask, context: TaskContext) -> None:
        self.worker = worker
        self.task = task
        self.context = context
        self._space: SpillSpace | None = None
        self.computed: dict[tuple[int, int], list[Any]] = {}  # (step, partition): elements, of `Program`
        context._environment = self
        self._elsewhere = frozenset((rdd, p) for rdd, p in task.elsewhere)
        self._data = {(step, partition): payload for step, partition, payload in task.data}

    # --- data from the driver

    def data(self, step: int, partition: int) -> Any:
        """What the driver sent for this partition of a source, unpickled afresh."""
        return load(self._data[step, partition], map=self.worker.files.map)

    # --- cached partitions

    def read_block(self, cached: Cached, partition: int) -> Iterable[Any] | None:
        """The elements of a cached partition, or None if it has to be computed."""
        block = (cached.rdd, partition)
        found = self.worker.blocks.read(block)
        if found is None and block in self._elsewhere:
            found = self.worker.fetch_block(self.task.tid, block)
        if isinstance(found, list):
            self.context._counters.input_records += len(found)
        return found

    def has_block(self, cached: Cached, partition: int) -> bool:
        """Whether `read_block` is likely to find it."""
        block = (cached.rdd, partition)
        return block in self._elsewhere or self.worker.blocks.has(block)

    def block_keeper(self, cached: Cached) -> Callable[[int, Iterator[Any]], Iterable[Any]]:
        """What stores a partition, the computing of which begins now, and returns its elements."""
        blocks = self.worker.blocks
        started = blocks.started()
        return lambda partition, elements: blocks.keep(cached, partition, elements, started)

    # --- coroutines

    def stream(self, elements: Iterator[Any], work: Work, ahead: int) -> Iterator[Any]:
        """What the coroutine function ``work`` emits for ``elements``, on the worker's event loop.

        At most ``ahead`` elements wait to be looked at there, and as many results to be taken.  When the attempt
        ends, or is killed, the coroutine is cancelled; the attempt is over when that has ended.
        """
        from asparkle.core.worker.stream import Stream

        stream = Stream(self.worker.event_loop(), elements, work, ahead, self.context)
        self.context._add_cleanup(stream.close)
        self.worker.watch(self.task.tid, stream.kill)
        return stream.results()

    # --- shuffle

    def map_outputs(self, shuffle: int) -> Sequence[tuple[int, Any]]:
        """(tid, location) of each map output of ``shuffle``, in map order."""
        return self.worker.tables[shuffle].outputs

    @property
    def space(self) -> SpillSpace:
        """What this attempt may hold in memory before it spills, and where to; closed at its end."""
        if self._space is None:
            app, elements = self.worker.app, self.worker.elements
            limit = None if app.in_process else app.worker_memory
            self._space = SpillSpace(
                self.worker.spill_directories, app.worker_memory, limit, elements.dumps, elements.loads
            )
            self.context._add_cleanup(self._close_space)
        return self._space

    def _close_space(self) -> None:
        assert self._space is not None
        counters = self.context._counters
        counters.peak_memory, counters.spilled_bytes = self._space.peak, self._space.bytes_spilled
        self._space.close()


def current_environment() -> TaskEnvironment:
    """That of the attempt which runs in this thread."""
    context = TaskContext.get()
    assert context is not None
    environment: TaskEnvironment = context._environment
    return environment
