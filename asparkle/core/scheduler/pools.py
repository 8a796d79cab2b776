"""Whose turn it is: task sets by pool, pools and sets by the ranks that scheduling policies give them.

Where the context's policy has no pools, all sets are in one, and are ranked by it.  Where it has, it ranks the pools,
and each pool's own policy the pool's sets.  Equal pools go by name, equal sets by the order of their jobs' submission,
then of stage ids: which is all there is without a policy.  Only what is *presumed to run* counts as running: work sent
ahead is no share of anything yet.

A rank is asked for again when what runs of a set or a pool has changed, and it matters next; never, if the policy says
that its ranks are fixed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar

from asparkle.core.contracts import PoolFacts, SchedulingPolicy, TaskSetFacts
from asparkle.core.scheduler.messages import JobSpec, SchedulerConf
from asparkle.core.scheduler.tasksets import TaskSet

T = TypeVar("T")
Key: TypeAlias = "tuple[Any, ...]"
"""A policy's rank, and what makes it unique."""

_new = tuple.__new__  # a named tuple's own is a function of Python's, which would take longer than most ranks


class Ranking(Generic[T]):
    """Items by a key that may change: a heap in which outdated entries are skipped."""

    def __init__(self) -> None:
        self._heap: list[tuple[Key, int, T]] = []
        self._entries: dict[T, tuple[Key, int, T]] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, item: T) -> bool:
        return item in self._entries

    def put(self, item: T, rank: Key) -> None:
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
        aside: list[tuple[Key, int, T]] = []
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
    def __init__(self, name: str, policy: SchedulingPolicy | None, weight: int, min_share: int) -> None:
        self.name = name
        self.policy = policy
        self.fixed = policy is None or policy.fixed
        self.weight = weight
        self.min_share = min_share
        self.running = 0
        self.members = 0  # task sets, with pending tasks or without
        self.ready: Ranking[TaskSet] = Ranking()
        self.key: Key = ()


class Pools:
    """Task sets that could use any executor with a free slot (*ready*), the most deserving first."""

    def __init__(self, conf: SchedulerConf) -> None:
        self._settings = conf.pools
        self._policy = policy = conf.policy
        self._ranks_pools = policy is not None and policy.pools
        self._fixed = policy is None or policy.fixed or not policy.pools  # the ranks of pools
        self.fixed = self._fixed and all(each is None or each.fixed for each in self._set_policies())
        """Whether it is all the same to all ranks what runs: `moved` need not be called."""
        self._pools: dict[str, Pool] = {}
        self._order: Ranking[Pool] = Ranking()  # of pools with a ready set
        self._changed: dict[Pool, None] = {}
        self._changed_sets: dict[TaskSet, None] = {}
        self._first: TaskSet | None = None
        self._stale = False  # ``_first`` may be another

    def __len__(self) -> int:
        return len(self._pools)

    def _set_policies(self) -> list[SchedulingPolicy | None]:
        return [policy for policy, _, _ in self._settings.values()] if self._ranks_pools else [self._policy]

    def join(self, tasks: TaskSet, job: JobSpec, seq: int) -> None:
        """``job``: which the set works for; ``seq``: its submission order."""
        tasks.job = job
        name = job.pool if self._ranks_pools else "default"
        pool = self._pools.get(name)
        if pool is None:
            setting = self._settings.get(name, (None, 1, 0)) if self._ranks_pools else (self._policy, 1, 0)
            pool = self._pools[name] = Pool(name, *setting)
            pool.key = self._pool_key(pool)
        pool.members += 1
        tasks.pool, tasks.seq = pool, seq
        pool.running += tasks.running
        tasks.key = self._set_key(tasks)
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
        """The set's count of running attempts, and its pool's, have changed."""
        pool = tasks.pool
        if not self._fixed:
            self._stale = True
            self._changed[pool] = None
        if not pool.fixed:
            self._stale = True
            self._changed_sets[tasks] = None

    def ready(self, tasks: TaskSet) -> None:
        if not tasks.ready:
            tasks.ready = self._stale = True
            pool = tasks.pool
            pool.ready.put(tasks, tasks.key)
            if len(pool.ready) == 1:
                self._order.put(pool, pool.key)

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
            self._reorder()
            pool = self._order.first()
            self._first = None if pool is None else pool.ready.first()
        return self._first

    def find(self, test: Callable[[TaskSet], bool]) -> TaskSet | None:
        """The first in rank that passes the test."""
        self._reorder()
        found: list[TaskSet] = []

        def in_pool(pool: Pool) -> bool:
            tasks = pool.ready.find(test)
            if tasks is not None:
                found.append(tasks)
            return bool(found)

        self._order.find(in_pool)
        return found[0] if found else None

    def rank(self, tasks: TaskSet) -> Key:
        """Comparable between all task sets, ready or not."""
        self._reorder()
        return (tasks.pool.key, tasks.key)

    def _reorder(self) -> None:
        """Rank anew what has changed."""
        if self._changed_sets:
            for tasks in self._changed_sets:
                tasks.key = self._set_key(tasks)
                if tasks.ready:
                    tasks.pool.ready.put(tasks, tasks.key)
            self._changed_sets.clear()
        if self._changed:
            for pool in self._changed:
                pool.key = self._pool_key(pool)
                if len(pool.ready):
                    self._order.put(pool, pool.key)
            self._changed.clear()

    def _set_key(self, tasks: TaskSet) -> Key:
        stage, job, policy = tasks.stage.spec, tasks.job, tasks.pool.policy
        rank: Key = ()
        if policy is not None:
            name, properties = job.pool, job.properties
            facts = (stage.stage, stage.name, name, tasks.seq, properties, tasks.total, tasks.left, tasks.running)
            rank = policy.rank(_new(TaskSetFacts, facts))
        return (rank, tasks.seq, stage.stage)

    def _pool_key(self, pool: Pool) -> Key:
        if not self._ranks_pools:
            return ()
        assert self._policy is not None
        facts = (pool.name, pool.weight, pool.min_share, pool.running)
        return (self._policy.rank_pool(_new(PoolFacts, facts)), pool.name)
