"""Cached partitions in a worker: kept while they are computed, read where they lie.

A partition of immutable elements is kept as a live list and read without unpickling.  Any other is kept as
frames (pickled batches) and unpickled for each reader, so that a task that changes an element changes
its own copy.  What does not fit in the heap goes to disk, if its storage level has a disk, or is not kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from time import perf_counter
from typing import Any, Final, TypeAlias

from asparkle.core.contracts import BlockFacts, BlockId, BlockStore, Buffer
from asparkle.core.elements import estimate_size, is_immutable
from asparkle.core.errors import CorruptBlock, StoreFull
from asparkle.core.logs import log
from asparkle.core.payloads import frame, load_frame
from asparkle.core.program import Cached
from asparkle.core.protocol import BlocksChanged
from asparkle.core.serializer import Elements, Loads, read_frames
from asparkle.core.worker.memory import MemoryStore

_BATCH: Final = 4096

Started: TypeAlias = tuple[float, float]
"""When computing a block began, and what the thread had spent on others by then."""


class Frames:
    """A partition as pickled batches of elements."""

    __slots__ = ("chunks", "loads")

    def __init__(self, chunks: list[bytes], loads: Loads) -> None:
        self.chunks = chunks
        self.loads = loads

    def elements(self) -> Iterator[Any]:
        return chain.from_iterable(map(load_frame, self.chunks, repeat(self.loads)))


class _Spent(threading.local):
    """Seconds that a thread has spent on computing blocks which were kept."""

    seconds = 0.0


class BlockManager:
    """One per worker, shared by its slots."""

    def __init__(
        self, memory: MemoryStore, disk: BlockStore, report: Callable[[BlocksChanged], None], elements: Elements
    ) -> None:
        self.dumps = elements.dumps
        self.loads = elements.loads
        self.memory = memory
        self.disk = disk
        self.report = report
        self.levels: dict[BlockId, Sequence[Any]] = {}
        self._spent = _Spent()

    def read(self, block: BlockId) -> Iterable[Any] | None:
        """The elements of a block that is here or on this host; None where it must be computed."""
        value = self.memory.get(block)
        if value is not None:
            return value.elements() if type(value) is Frames else value
        view = self.disk.get(block)
        if view is None:
            return None
        return self._from_disk(block, view)

    def has(self, block: BlockId) -> bool:
        """Whether a block is here or on this host."""
        return self.memory.get(block) is not None or self.disk.get(block) is not None

    def _from_disk(self, block: BlockId, view: memoryview) -> Iterable[Any] | None:
        try:
            return list(chain.from_iterable(read_frames(view, 0, len(view), self.loads)))
        except CorruptBlock:  # a torn file is a lost one
            self.disk.remove(block)
            self.report(BlocksChanged((), (block,), "host"))
            return None

    def started(self) -> Started:
        """To be taken by the thread that computes a block, as it begins; for `keep`."""
        return perf_counter(), self._spent.seconds

    def keep(self, cached: Cached, partition: int, elements: Iterator[Any], started: Started) -> Iterable[Any]:
        """Store ``elements`` as the storage level says, and give them back to the task that computed them."""
        block = (cached.rdd, partition)
        use_disk, use_memory = cached.level[0], cached.level[1]
        if use_memory:
            gathered, size, whole = self._gather(elements, self.memory.limit)
            began, others = started
            took = perf_counter() - began
            seconds = took - (self._spent.seconds - others)  # without those that another computation would find
            if whole and self._put_in_memory(block, gathered, size, cached.level, seconds):
                self._spent.seconds = others + took
                return gathered
            elements = chain(gathered, elements)
        if not use_disk:
            return elements
        return self._put_on_disk(block, elements, cached.level)

    def _gather(self, elements: Iterator[Any], limit: int) -> tuple[list[Any], int, bool]:
        """As much of ``elements`` as ``limit`` bytes hold: (elements, their size, whether these are all)."""
        gathered: list[Any] = []
        size, step = 0, _BATCH
        while True:
            batch = list(islice(elements, step))
            gathered += batch
            if len(batch) < step:
                return gathered, size + estimate_size(batch) if batch else size, True
            size += estimate_size(batch)
            if size > limit:
                return gathered, size, False
            step = min(step * 2, 1 << 17)

    def _put_in_memory(
        self, block: BlockId, elements: list[Any], size: int, level: Sequence[Any], seconds: float = 0.0
    ) -> bool:
        value: Any = elements
        if not is_immutable(elements):
            batches = [elements[i : i + _BATCH] for i in range(0, len(elements), _BATCH)]
            value = Frames(list(self._frames(batches)), self.loads)
            size = sum(map(len, value.chunks))
        try:
            evicted = self.memory.put(block, value, BlockFacts(size, seconds, bool(level[0])))
        except StoreFull:
            return False
        self._stored(block, level, "worker", size)
        for victim, what in evicted:
            self._evicted(victim, what)
        return True

    def _evicted(self, block: BlockId, value: Any) -> None:
        level = self.levels.pop(block, (False,))
        self.report(BlocksChanged((), (block,), "worker"))
        if level[0]:
            size = self._write(block, Frames.elements(value) if type(value) is Frames else iter(value))
            self._stored(block, level, "host", size, replicate=False)

    def _put_on_disk(self, block: BlockId, elements: Iterator[Any], level: Sequence[Any]) -> Iterable[Any]:
        kept = list(elements)  # not read back from the file, which may be unpersisted as soon as it is there
        self._stored(block, level, "host", self._write(block, iter(kept)))
        return kept

    def _write(self, block: BlockId, elements: Iterator[Any]) -> int:
        return self.disk.put(block, self._frames(_batches(elements)))

    def _frames(self, batches: Iterable[list[Any]]) -> Iterator[bytes]:
        return map(frame, batches, repeat(self.dumps))

    def _stored(self, block: BlockId, level: Sequence[Any], scope: str, size: int, replicate: bool = True) -> None:
        self.levels[block] = level
        copies = level[4] - 1 if replicate else 0
        self.report(BlocksChanged((block,), (), scope, copies, tuple(level), size))

    def export(self, block: BlockId) -> Iterable[Buffer] | None:
        """The block as frames, for a reader elsewhere."""
        value = self.memory.get(block)
        if value is None:
            view = self.disk.get(block)
            return None if view is None else [view]
        if type(value) is Frames:
            return value.chunks
        return self._frames(_batches(iter(value)))

    def adopt(self, block: BlockId, level: Sequence[Any], view: memoryview) -> None:
        """Keep a replica of a block that another executor computed."""
        elements = list(chain.from_iterable(read_frames(view, 0, len(view), self.loads)))
        one = (*level[:4], 1)
        if level[1] and self._put_in_memory(block, elements, estimate_size(elements), one):
            return
        if level[0]:
            self._stored(block, one, "host", self._write(block, iter(elements)))

    def drop_rdd(self, rdd: int) -> None:
        for block in [b for b in list(self.levels) if b[0] == rdd]:
            self.levels.pop(block, None)
            self.memory.remove(block)
            try:
                self.disk.remove(block)
            except Exception as error:  # a plugin's store; what stays there is not asked for any more
                log("asparkle.worker").warning("a block could not be removed", block=block, exc_info=error)


def _batches(elements: Iterator[Any]) -> Iterator[list[Any]]:
    step = 64
    while batch := list(islice(elements, step)):
        yield batch
        step = _BATCH if estimate_size(batch) < 1 << 18 else 64
