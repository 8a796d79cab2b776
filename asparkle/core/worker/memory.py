"""Cached partitions in the worker's heap; a policy says which goes first."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

from asparkle.core.contracts import BlockFacts, BlockId, CachePolicy
from asparkle.core.errors import ConfigurationError, StoreFull


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

    def put(self, block: BlockId, value: Any, facts: BlockFacts) -> list[tuple[BlockId, Any]]:
        """Keep ``value``; returns the blocks that had to leave for it, with their values.

        Blocks of the same RDD never leave for each other, so that an RDD which does not fit keeps what it
        has instead of chasing its own tail.  Raises `StoreFull`, and then nothing has changed.
        """
        size = facts.size
        with self._lock:
            room = self.limit - self.used + self._blocks.get(block, (None, 0))[1]
            leaving = self._leaving(block[0], size, room) if room < size else ()
            evicted = [(victim, self._remove(victim)) for victim in leaving]
            self._remove(block)
            self._blocks[block] = (value, size)
            self.used += size
            self._policy.stored(block, facts)
            return evicted

    def _leaving(self, rdd: int, size: int, room: int) -> Iterable[BlockId]:
        """The blocks that leave for one of ``rdd``, so that the ``room`` becomes ``size``."""
        leaving: dict[BlockId, None] = {}
        for victim in self._victims():
            if victim[0] != rdd and victim not in leaving:
                leaving[victim] = None
                room += self._blocks[victim][1]
                if room >= size:
                    return leaving
        raise StoreFull("the memory store", size, self.limit)

    def _victims(self) -> Iterator[BlockId]:
        """Those that the policy names, checked: what it does not keep would be taken for a fault of the user's code."""
        policy = type(self._policy).__qualname__
        victims = self._policy.victims()
        if not isinstance(victims, Iterable):
            raise ConfigurationError(f"cache policy {policy}: victims() returned {victims!r}: expected blocks")
        for victim in victims:
            if victim not in self._blocks:
                problem = f"victims() named {victim!r}, which is not in the store: is it not heeding forget()?"
                raise ConfigurationError(f"cache policy {policy}: {problem}")
            yield victim

    def remove(self, block: BlockId) -> bool:
        """Forget ``block``; says whether it was there."""
        with self._lock:
            return self._remove(block) is not None

    def _remove(self, block: BlockId) -> Any | None:
        if block not in self._blocks:
            return None
        value, size = self._blocks.pop(block)
        self.used -= size
        self._policy.forget(block)
        return value
