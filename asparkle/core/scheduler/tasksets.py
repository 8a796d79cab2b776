"""The partitions that a stage has still to compute, and the queues from which executors get them.

Every partition has one status; the queues hold candidates, and one whose status has changed since it was
queued is skipped when it comes up.  So a partition may lie in many queues, and every step costs O(1).

    FREE      pending, as good here as there
    HELD      pending, and some living executor or host is near its input: others wait for ``open``
    MARKED    pending, and barred from some executors because it failed there (see exclusion)
    LIVE      one or two wanted attempts at it are under way
    DONE      computed
    0         not asked for
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from asparkle.core.scheduler.records import Attempt, Executor, Flags, Host, Stage, flags

if TYPE_CHECKING:
    from asparkle.core.scheduler.barriers import Gathering
    from asparkle.core.scheduler.exclusion import Bars
    from asparkle.core.scheduler.messages import JobSpec
    from asparkle.core.scheduler.pools import Pool
    from asparkle.core.scheduler.speculation import Watch

FREE: Final = 1
HELD: Final = 2
MARKED: Final = 3
LIVE: Final = 4
DONE: Final = 5

ANYWHERE: Final = 0  # the place of an attempt, against where its partition would like to be
NEAR: Final = 1
FAR: Final = 2

MAX_AHEAD: Final = 256  # attempts sent ahead to one executor
LONG: Final = 20  # a task longer than so many horizons: nothing is sent ahead of or behind it
UNKNOWN_WAIT: Final = 0.3  # seconds to wait for a near executor while nothing was measured
WAIT_TASKS: Final = 3  # and then so many mean run times
MIN_WAIT: Final = 0.005
MEMORY: Final = 32  # about so many of the last attempts make up the mean

Places: TypeAlias = "tuple[Sequence[Executor], Sequence[Host]]"


class TaskSet:
    """One run of a stage.  Made when the stage is started, gone when it is complete or not needed."""

    __slots__ = (
        "_again",
        "_fresh",
        "_held",
        "bars",
        "by_executor",
        "by_host",
        "copies",
        "failures",
        "far_mean",
        "gathering",
        "job",
        "key",
        "left",
        "live",
        "luck",
        "marked",
        "mean",
        "n_free",
        "n_held",
        "n_marked",
        "observed",
        "open",
        "paused",
        "peers",
        "places",
        "pool",
        "reading",
        "ready",
        "running",
        "seq",
        "shuffles",
        "since",
        "slow",
        "stage",
        "stale",
        "status",
        "total",
        "watch",
    )

    def __init__(self, stage: Stage, partitions: Sequence[int]) -> None:
        self.stage = stage
        self.total = self.left = len(partitions)
        self.status: Flags
        if len(partitions) == stage.size:
            self.status = bytearray((FREE,)) * stage.size
        else:
            self.status = flags(stage.size, len(partitions))
            for partition in partitions:
                self.status[partition] = FREE
        # pending partitions
        self.n_free = len(partitions)
        self.n_held = 0
        self.n_marked = 0
        self._fresh: Iterator[int] = iter(partitions)
        self._again: deque[int] = deque()  # came back: they go first
        self._held: deque[int] = deque()
        self.marked: deque[int] = deque()
        self.by_executor: dict[Executor, deque[int]] = {}
        self.by_host: dict[Host, deque[int]] = {}
        self.places: Callable[[int], Places] | None = None
        self.open = False  # HELD partitions may go anywhere
        self.luck = ANYWHERE  # of the partition taken last
        self.since = 0.0  # when the wait for near executors began
        # attempts
        self.live: dict[int, Attempt] = {}
        self.failures: dict[int, int] = {}
        self.stale: dict[int, int] = {}  # by partition: stale fetch failures
        self.copies: deque[Attempt] = deque()  # attempts that deserve a second one elsewhere
        self.running = 0  # wanted attempts that are presumed to run
        self.reading = False  # an attempt was launched: the parents' outputs count as read
        # measured
        self.mean = -1.0
        self.far_mean = -1.0
        self.observed = 0
        self.slow = stage.spec.barrier  # nothing is queued behind its tasks
        # for others
        self.shuffles: tuple[tuple[int, int], ...] = ()
        self.peers: Sequence[str] | None = None
        self.pool: Pool
        self.job: JobSpec
        self.seq = 0  # of the job
        self.key: tuple[Any, ...]  # Pools ranks it by
        self.ready = False  # Pools ranks it
        self.paused = False  # a parent is incomplete
        self.bars: Bars | None = None
        self.watch: Watch | None = None
        self.gathering: Gathering | None = None  # of a barrier stage

    # ---------------------------------------------------------------------------------- pending

    @property
    def pending(self) -> int:
        return self.n_free + self.n_held + self.n_marked

    def eligible(self) -> bool:
        """Whether an executor that is near none of the input could get something."""
        if self.paused:
            return False
        if self.gathering is not None:
            return self.pending > 0
        return bool(self.n_free or self.n_marked or self.copies or (self.open and self.n_held))

    def place_all(self, places: Callable[[int], Places]) -> None:
        """Sort all pending partitions by where they would like to be."""
        self.places = places
        for partition in list(self._fresh):
            if self.status[partition] == FREE:
                self.n_free -= 1
                self.put(partition, False)
        self._fresh = iter(())

    def put(self, partition: int, front: bool = True) -> Places:
        """Make the partition pending; says where it would like to be."""
        executors: Sequence[Executor] = ()
        hosts: Sequence[Host] = ()
        if self.places is not None:
            executors, hosts = self.places(partition)
        for executor in executors:
            if (queue := self.by_executor.get(executor)) is None:
                queue = self.by_executor[executor] = deque()
                executor.local[self] = None
            push(queue, partition, front)
        for host in hosts:
            if (queue := self.by_host.get(host)) is None:
                queue = self.by_host[host] = deque()
                host.local[self] = None
            push(queue, partition, front)
        if self.bars is not None and self.bars.has(partition):
            self.status[partition] = MARKED
            self.n_marked += 1
            push(self.marked, partition, front)
        elif executors or any(host.executors for host in hosts):
            self.status[partition] = HELD
            self.n_held += 1
            push(self._held, partition, front)
        else:
            self.status[partition] = FREE
            self.n_free += 1
            push(self._again, partition, front)
        return executors, hosts

    def take(self, executor: Executor, ahead: bool = False) -> int:
        """A pending partition for this executor, which is LIVE from now on; -1 if there is none.
        ``ahead``: not one that would rather be elsewhere.  ``self.luck`` says how good the place is."""
        if self.bars is not None and self.bars.bar(executor):
            return -1
        if self.places is not None:
            self.luck = NEAR
            partition = self._take_near(executor)
            if partition >= 0:
                return partition
            self.luck = ANYWHERE
        if self.n_marked:
            partition = self._take_marked(executor)
            if partition >= 0:
                return partition
        if self.n_free:
            return self._take_free()
        if self.n_held and self.open and not ahead:
            self.luck = FAR
            return self._take_held()
        return -1

    def _take_held(self) -> int:
        held = self._held
        while self.status[partition := held.popleft()] != HELD:
            pass
        self.n_held -= 1
        self.status[partition] = LIVE
        return partition

    def _take_free(self) -> int:
        status = self.status
        again = self._again
        partition = -1
        while again:
            partition = again.popleft()
            if status[partition] == FREE:
                break
        else:
            for partition in self._fresh:
                if status[partition] == FREE:
                    break
        self.n_free -= 1
        status[partition] = LIVE
        return partition

    def _take_near(self, executor: Executor) -> int:
        queue = self.by_executor.get(executor)
        if queue is not None:
            partition = self._from_near(queue)
            if not queue:
                del self.by_executor[executor]
                executor.local.pop(self, None)
            if partition >= 0:
                return partition
        host = executor.host
        queue = self.by_host.get(host)
        if queue is not None:
            partition = self._from_near(queue)
            if not queue:
                del self.by_host[host]
                host.local.pop(self, None)
            return partition
        return -1

    def _from_near(self, queue: deque[int]) -> int:
        while queue:
            partition = queue.popleft()
            status = self.status[partition]
            if status in (FREE, HELD):  # MARKED ones have a queue of their own
                self._forget(partition)
                self.status[partition] = LIVE
                return partition
        return -1

    def _take_marked(self, executor: Executor) -> int:
        """One of those that failed somewhere, if not here.  An executor is barred from the whole stage
        after a few failures, so few are passed over."""
        assert self.bars is not None
        passed: list[int] = []
        found = -1
        while self.marked:
            partition = self.marked.popleft()
            if self.status[partition] != MARKED:
                continue
            if self.bars.allow(partition, executor):
                found = partition
                break
            passed.append(partition)
        self.marked.extendleft(reversed(passed))
        if found >= 0:
            self._forget(found)
            self.status[found] = LIVE
        return found

    def _forget(self, partition: int) -> None:
        """The partition is pending no more."""
        status = self.status[partition]
        if status == FREE:
            self.n_free -= 1
        elif status == HELD:
            self.n_held -= 1
        else:
            self.n_marked -= 1

    def withdraw(self, partition: int) -> bool:
        """Take it out of the queues, wherever it is; False if it was not pending."""
        if self.status[partition] not in (FREE, HELD, MARKED):
            return False
        self._forget(partition)
        return True

    def marked_pending(self) -> list[int]:
        return [partition for partition in self.marked if self.status[partition] == MARKED]

    def any_pending(self) -> int:
        """Some pending partition, for an error message."""
        for partition in range(self.stage.size):
            if self.status[partition] in (FREE, HELD, MARKED):
                return partition
        return -1

    def near(self, partition: int) -> list[Executor]:
        """Executors that the partition would like, the nearest first."""
        executors, hosts = self.places(partition) if self.places is not None else ((), ())
        return [*executors, *(executor for host in hosts for executor in host.executors.values())]

    def mark_live(self, partition: int) -> None:
        self.status[partition] = LIVE

    def let_go(self, queue: deque[int] | None) -> None:
        """An executor or host is gone: what was held for it alone need not wait."""
        assert self.places is not None
        for partition in queue or ():
            if self.status[partition] == HELD:
                executors, hosts = self.places(partition)
                if not executors and not any(host.executors for host in hosts):
                    self.n_held -= 1
                    self.n_free += 1
                    self.status[partition] = FREE
                    self._again.append(partition)

    def detach(self) -> None:
        """The set ends: executors and hosts no longer know it."""
        for executor in self.by_executor:
            executor.local.pop(self, None)
        for host in self.by_host:
            host.local.pop(self, None)

    # --------------------------------------------------------------------------------- measured

    def observe(self, seconds: float, far: bool, horizon: float) -> bool:
        """An attempt took so long; recent ones count more.  Says whether that was the first, here or far."""
        self.observed = n = self.observed + 1
        first = n == 1 or (far and self.far_mean < 0)
        if n == 1:
            self.mean = seconds
        else:
            self.mean += (seconds - self.mean) / (n if n < MEMORY else MEMORY)
        if far:
            self.far_mean = seconds if self.far_mean < 0 else (self.far_mean + seconds) / 2
        self.slow = self.slow if self.gathering is not None else self.mean > LONG * horizon
        return first

    def quota(self, executor: Executor, horizon: float) -> int:
        """How many attempts may wait at the executor: about ``horizon`` seconds of work."""
        lanes = executor.slots - executor.slow
        if lanes <= 0 or horizon <= 0 or self.slow:
            return 0
        if self.mean < 0 or self.mean >= horizon:
            return lanes
        if self.mean * MAX_AHEAD <= horizon * lanes:
            return MAX_AHEAD
        return min(MAX_AHEAD, math.ceil(horizon / self.mean) * lanes)

    def wait(self, longest: float) -> float:
        """How long a pending partition waits for a near executor: while it is not known what running elsewhere costs,
        a few run times; then by how much longer that takes."""
        if self.mean < 0:
            return min(longest, UNKNOWN_WAIT)
        worth = self.mean if self.far_mean < 0 else self.far_mean - self.mean
        return min(longest, max(MIN_WAIT, WAIT_TASKS * worth))


def push(queue: deque[int], partition: int, front: bool) -> None:
    if front:
        queue.appendleft(partition)
    else:
        queue.append(partition)
