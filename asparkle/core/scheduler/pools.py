"""Whose turn it is: task sets by pool, pools by Spark's FIFO or FAIR rule.

    FIFO  task sets in the order of their jobs' submission, then of stage ids.
    FAIR  who runs less than its minimum share goes first, the one with the smaller part of it before the
          others; then who runs less for its weight; then by name (Spark's FairSchedulingAlgorithm).

Under ``spark.scheduler.mode`` FIFO all sets are in one pool.  Under FAIR pools are ranked by FAIR, and the
sets of a pool by its own mode; a set has minimum share 0 and weight 1.  Only what is *presumed to run*
counts as running: work sent ahead is no share of anything yet.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

from asparkle.core.scheduler.messages import SchedulerConf
from asparkle.core.scheduler.tasksets import TaskSet

T = TypeVar("T")
Rank: TypeAlias = "tuple[float | str, ...]"


class Ranking(Generic[T]):
    """Items by a key that may change: a heap in which outdated entries are skipped."""

    def __init__(self) -> None:
        self._heap: list[tuple[Rank, int, T]] = []
        self._entries: dict[T, tuple[Rank, int, T]] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, item: T) -> bool:
        return item in self._entries

    def put(self, item: T, rank: Rank) -> None:
        """Add the item, or change its rank."""
        self._count += 1
        entry = self._entries[item] = (rank, self._count, item)
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._entries) + 64:
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)

    def discard(self, item: T) -> None:
        self._entries.pop(item, None)

    def first(self) -> T | None:
        heap, entries = self._heap, self._entries
        while heap:
            entry = heap[0]
            if entries.get(entry[2]) is entry:
                return entry[2]
            heapq.heappop(heap)
        return None

    def find(self, test: Callable[[T], bool]) -> T | None:
        """The first in rank that passes the test; the test may change what is ranked."""
        aside: list[tuple[Rank, int, T]] = []
        found = None
        while (item := self.first()) is not None:
            aside.append(heapq.heappop(self._heap))
            if test(item):
                found = item
                break
        for entry in aside:
            heapq.heappush(self._heap, entry)
        return found


class Pool:
    def __init__(self, name: str, mode: str, weight: int, min_share: int) -> None:
        self.name = name
        self.fair = mode == "FAIR"
        self.weight = weight
        self.min_share = min_share
        self.running = 0
        self.members = 0  # task sets, with pending tasks or without
        self.ready: Ranking[TaskSet] = Ranking()

    def rank(self) -> Rank:
        if self.running < self.min_share:
            return (0, self.running / self.min_share, self.name)
        return (1, self.running / self.weight, self.name)


class Pools:
    """Task sets that could use any executor with a free slot (*ready*), the most deserving first."""

    def __init__(self, conf: SchedulerConf) -> None:
        self._conf = conf
        self._pools: dict[str, Pool] = {}
        self._order: Ranking[Pool] = Ranking()  # of pools with a ready set
        self._changed: dict[Pool, None] = {}
        self._changed_sets: dict[TaskSet, None] = {}
        self._first: TaskSet | None = None
        self._stale = False  # ``_first`` may be another

    def __len__(self) -> int:
        return len(self._pools)

    def join(self, tasks: TaskSet, name: str, seq: int) -> None:
        """``seq``: the submission order of the job that the set works for."""
        if not self._conf.fair:
            name = "default"
        pool = self._pools.get(name)
        if pool is None:
            setting = self._conf.pools.get(name, ("FIFO", 1, 0)) if self._conf.fair else ("FIFO", 1, 0)
            pool = self._pools[name] = Pool(name, *setting)
        pool.members += 1
        tasks.pool, tasks.seq = pool, seq
        pool.running += tasks.running
        self.moved(tasks)

    def leave(self, tasks: TaskSet) -> None:
        self.unready(tasks)
        pool = tasks.pool
        pool.running -= tasks.running
        self.moved(tasks)
        pool.members -= 1
        self._changed_sets.pop(tasks, None)
        if not pool.members:
            self._stale = True
            del self._pools[pool.name]
            self._changed.pop(pool, None)
            self._order.discard(pool)

    def moved(self, tasks: TaskSet) -> None:
        """The set's count of running attempts, and its pool's, have changed: that matters under FAIR."""
        self._stale = True
        self._changed[tasks.pool] = None
        if tasks.pool.fair:
            self._changed_sets[tasks] = None

    def ready(self, tasks: TaskSet) -> None:
        if not tasks.ready:
            tasks.ready = self._stale = True
            pool = tasks.pool
            pool.ready.put(tasks, self._set_rank(tasks))
            if len(pool.ready) == 1:
                self._order.put(pool, pool.rank())

    def unready(self, tasks: TaskSet) -> None:
        if tasks.ready:
            tasks.ready = False
            self._stale = True
            pool = tasks.pool
            pool.ready.discard(tasks)
            if not len(pool.ready):
                self._order.discard(pool)

    def first(self) -> TaskSet | None:
        if self._stale:
            self._stale = False
            if self._changed:
                self._reorder()
            pool = self._order.first()
            self._first = None if pool is None else pool.ready.first()
        return self._first

    def find(self, test: Callable[[TaskSet], bool]) -> TaskSet | None:
        """The first in rank that passes the test."""
        if self._changed:
            self._reorder()
        found: list[TaskSet] = []

        def in_pool(pool: Pool) -> bool:
            tasks = pool.ready.find(test)
            if tasks is not None:
                found.append(tasks)
            return bool(found)

        self._order.find(in_pool)
        return found[0] if found else None

    def rank(self, tasks: TaskSet) -> Rank:
        """Comparable between all task sets, ready or not."""
        return (*tasks.pool.rank(), *self._set_rank(tasks))

    def _set_rank(self, tasks: TaskSet) -> Rank:
        return (tasks.running if tasks.pool.fair else 0, tasks.seq, tasks.stage.id)

    def _reorder(self) -> None:
        for tasks in self._changed_sets:
            if tasks.ready:
                tasks.pool.ready.put(tasks, self._set_rank(tasks))
        for pool in self._changed:
            if len(pool.ready):
                self._order.put(pool, pool.rank())
        self._changed.clear()
        self._changed_sets.clear()
