"""Cached partitions in the worker's heap; a policy says which goes first."""

from __future__ import annotations

import threading
from typing import Any

from asparkle.core.contracts import BlockId, CachePolicy
from asparkle.core.errors import StoreFull


class MemoryStore:
    """Blocks by identity, within ``limit`` accounted bytes.  Thread-safe."""

    def __init__(self, limit: int, policy: CachePolicy) -> None:
        self.limit = limit
        self.used = 0
        self._policy = policy
        self._blocks: dict[BlockId, tuple[Any, int]] = {}
        self._lock = threading.Lock()

    def get(self, block: BlockId) -> Any | None:
        """The value of ``block``, or None."""
        with self._lock:
            found = self._blocks.get(block)
            if found is None:
                return None
            self._policy.touch(block)
            return found[0]

    def put(self, block: BlockId, value: Any, size: int) -> list[tuple[BlockId, Any]]:
        """Keep ``value``; returns the blocks that had to leave for it, with their values.

        Blocks of the same RDD never leave for each other, so that an RDD which does not fit keeps what it
        has instead of chasing its own tail.  Raises `StoreFull`, and then nothing has changed.
        """
        with self._lock:
            room = self.limit - self.used + self._blocks.get(block, (None, 0))[1]
            leaving: list[BlockId] = []
            for victim in self._policy.victims() if room < size else ():
                if room >= size:
                    break
                if victim[0] != block[0]:
                    leaving.append(victim)
                    room += self._blocks[victim][1]
            if room < size:
                raise StoreFull("the memory store", size, self.limit)
            evicted = [(victim, self._remove(victim)) for victim in leaving]
            self._remove(block)
            self._blocks[block] = (value, size)
            self.used += size
            self._policy.touch(block)
            return evicted

    def remove(self, block: BlockId) -> bool:
        """Forget ``block``; says whether it was there."""
        with self._lock:
            return self._remove(block) is not None

    def _remove(self, block: BlockId) -> Any | None:
        value, size = self._blocks.pop(block, (None, 0))
        self.used -= size
        self._policy.forget(block)
        return value
