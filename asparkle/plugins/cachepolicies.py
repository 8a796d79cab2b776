"""Cache policies that come with asparkle."""

from __future__ import annotations

import heapq
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from asparkle.plugins import AppSpec, BlockFacts, BlockId, CachePolicy


class LRU(CachePolicy):
    """The block that was read least recently goes first."""

    def __init__(self, app: AppSpec) -> None:
        super().__init__(app)
        self._order: OrderedDict[BlockId, None] = OrderedDict()

    def touch(self, block: BlockId) -> None:
        self._order[block] = None
        self._order.move_to_end(block)

    def forget(self, block: BlockId) -> None:
        self._order.pop(block, None)

    def victims(self) -> Iterable[BlockId]:
        return iter(self._order)


class FIFO(CachePolicy):
    """The block that was stored first goes first, whoever reads it."""

    def __init__(self, app: AppSpec) -> None:
        super().__init__(app)
        self._order: OrderedDict[BlockId, None] = OrderedDict()  # a dict is slow to iterate when its first are gone

    def touch(self, block: BlockId) -> None:
        self._order.setdefault(block, None)

    def forget(self, block: BlockId) -> None:
        self._order.pop(block, None)

    def victims(self) -> Iterable[BlockId]:
        return iter(self._order)


class Ranked(CachePolicy):
    """The block of the lowest rank goes first; of those with one rank, the one that got it first.

    A heap, in which a block whose rank has changed leaves its old entry behind until that comes up, or until most
    entries are such.
    """

    def __init__(self, app: AppSpec) -> None:
        super().__init__(app)
        self._entries: dict[BlockId, tuple[float, int, BlockId]] = {}
        self._heap: list[tuple[float, int, BlockId]] = []
        self._changes = 0

    @abstractmethod
    def rank(self, block: BlockId) -> float:
        """Of a block that is stored or read now."""

    def touch(self, block: BlockId) -> None:
        self._changes += 1
        entry = self._entries[block] = (self.rank(block), self._changes, block)
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._entries) + 64:
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)

    def forget(self, block: BlockId) -> None:
        self._entries.pop(block, None)

    def lowest(self) -> float:
        """The lowest rank; of no blocks, 0."""
        self._drop_old()
        return self._heap[0][0] if self._heap else 0.0

    def victims(self) -> Iterator[BlockId]:
        """From the heap's top downwards: behind each entry come the two below it, and nothing is moved."""
        self._drop_old()
        heap = self._heap
        near = [(heap[0], 0)] if heap else []
        while near:
            entry, place = heapq.heappop(near)
            if not self._is_old(entry):
                yield entry[2]
            for below in range(2 * place + 1, min(2 * place + 3, len(heap))):
                heapq.heappush(near, (heap[below], below))

    def _drop_old(self) -> None:
        """Take old entries from the top."""
        while self._heap and self._is_old(self._heap[0]):
            heapq.heappop(self._heap)

    def _is_old(self, entry: tuple[float, int, BlockId]) -> bool:
        return self._entries.get(entry[2]) is not entry


class LFU(Ranked):
    """The block that was read least often since it was stored goes first; of these, the one not read for longest."""

    def __init__(self, app: AppSpec) -> None:
        super().__init__(app)
        self._reads: dict[BlockId, int] = {}

    def rank(self, block: BlockId) -> float:
        reads = self._reads[block] = self._reads.get(block, -1) + 1
        return reads

    def forget(self, block: BlockId) -> None:
        super().forget(block)
        self._reads.pop(block, None)


READ_BACK = 50e6
"""Bytes of a block on disk that are read and unpickled in a second, about."""


class CostAware(Ranked):
    """The block that costs the fewest seconds a byte to have again goes first, unless it was read lately.

    GreedyDual-Size (P. Cao, S. Irani: Cost-Aware WWW Proxy Caching Algorithms, USITS 1997).  What a block costs is to
    compute it again, or to read it where it goes to disk.  Its rank is cost / size above the *floor* of the time when
    it was last stored or read; the floor rises to the rank of what leaves.  So what is not read sinks, as others rise,
    however much it has cost, and of blocks that cost alike the one that was read least recently goes first.
    """

    def __init__(self, app: AppSpec) -> None:
        super().__init__(app)
        self._worth: dict[BlockId, float] = {}  # seconds a byte
        self._floor = 0.0  # no block has a lower rank

    def stored(self, block: BlockId, facts: BlockFacts) -> None:
        size = max(facts.size, 1)
        seconds = min(facts.seconds, size / READ_BACK) if facts.on_disk else facts.seconds
        self._worth[block] = seconds / size
        self.touch(block)

    def rank(self, block: BlockId) -> float:
        return self._floor + self._worth.get(block, 0.0)

    def forget(self, block: BlockId) -> None:
        if self._worth.pop(block, None) is not None:
            self._floor = self.lowest()
        super().forget(block)
