"""Who gets which attempt: free slots first, then work ahead of need.

An executor with a free slot asks for work when it gets the slot (it is *offered*); work that arrives is
offered to idle executors.  Between events either no executor is idle or no task set is ready, except where
exclusion or a gathering barrier stage keeps them apart, so nothing has ever to be searched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice

from asparkle.core.scheduler.announcer import Announcer
from asparkle.core.scheduler.fleet import Fleet
from asparkle.core.scheduler.messages import Task
from asparkle.core.scheduler.pools import Pools
from asparkle.core.scheduler.records import QUEUED, Attempt, Executor
from asparkle.core.scheduler.tasksets import FAR, NEAR, TaskSet
from asparkle.core.scheduler.turn import Turn

NEAR_SETS = 16  # task sets with input near an executor that are compared for it, the oldest first


class Dispatch:
    def __init__(self, turn: Turn, pools: Pools, announcer: Announcer) -> None:
        self._turn = turn
        self._announcer = announcer
        self.fleet = Fleet(self._begun, self._ended)
        self._pools = pools
        self._fixed = pools.fixed
        self.offers: deque[Executor] = deque()  # may have got a free slot, or a shorter queue
        self._touched: list[Executor] = []  # may need work ahead
        self.attempts = 0  # the next one's number
        self._reserved: TaskSet | None = None  # a barrier stage for which all free slots are kept
        # set by Barriers, Speculation and Recalls
        self.could_gather: Callable[[TaskSet], bool]
        self.gather: Callable[[TaskSet], bool]
        self.take_copy: Callable[[TaskSet, Executor], int]
        self.arrived: Callable[[TaskSet], None]

    # ---------------------------------------------------------------------------------- task sets

    def enter(self, tasks: TaskSet) -> None:
        """The set's pending partitions may be launched from now on."""
        tasks.paused = False
        tasks.since = self._turn.now
        for executor in tasks.by_executor:
            if executor.room():
                self.offers.append(executor)
        for host, queue in tasks.by_host.items():
            self.offers.extend(islice(host.idle, len(queue)))
        self.rank(tasks)

    def pause(self, tasks: TaskSet) -> None:
        tasks.paused = True
        self.rank(tasks)

    def drop(self, tasks: TaskSet) -> None:
        """The set has ended."""
        self._pools.leave(tasks)
        self._turn.timers.cancel(("open", tasks))
        tasks.detach()
        for host in tasks.by_host:
            self.fleet.drop_host(host)

    def requeue(self, tasks: TaskSet, partition: int) -> None:
        """The partition goes back to the front of its queues."""
        executors, hosts = tasks.put(partition)
        if not tasks.paused:
            self.offers.extend(executors)
            for host in hosts:
                self.offers.extend(islice(host.idle, 1))
        self.rank(tasks)

    def rank(self, tasks: TaskSet) -> None:
        """After a change of what is pending: is the set for everybody, or for those near its input?"""
        if tasks.eligible():
            if not tasks.ready:
                self._pools.ready(tasks)
                self.arrived(tasks)
        elif tasks.ready:
            self._pools.unready(tasks)
        held = tasks.n_held and not tasks.open and not tasks.paused and tasks.gathering is None
        if held and ("open", tasks) not in self._turn.timers:
            self.await_near(tasks)

    def await_near(self, tasks: TaskSet) -> None:
        """Let partitions that are held go anywhere when the wait is over."""
        timers = self._turn.timers
        key = ("open", tasks)

        def over() -> None:
            if self._turn.now < tasks.since + tasks.wait(self._turn.conf.locality_wait):
                self.await_near(tasks)
            elif not tasks.paused:
                tasks.open = True
                self.rank(tasks)

        timers.set(key, tasks.since + tasks.wait(self._turn.conf.locality_wait), over)

    def release(self, executor: Executor) -> None:
        """An executor is gone: what would have liked to run on it, or on its host, need not wait for it."""
        for tasks in list(executor.local):
            tasks.let_go(tasks.by_executor.pop(executor, None))
            self.rank(tasks)
        executor.local.clear()
        host = executor.host
        if not host.executors:
            for tasks in host.local:
                tasks.let_go(tasks.by_host.get(host))
                self.rank(tasks)
            self.fleet.drop_host(host)

    def observe(self, tasks: TaskSet, attempt: Attempt, seconds: float) -> None:
        """A wanted attempt succeeded after so long."""
        first = tasks.observe(seconds, attempt.luck == FAR, self._turn.conf.prefetch_horizon)
        if tasks.n_held and first and not tasks.open and not tasks.paused:
            self.await_near(tasks)  # what was a guess is known now

    # ------------------------------------------------------------------------------------ dealing

    def deal(self) -> None:
        """Launch all that can be launched."""
        offers = self.offers
        touched = self._touched
        if self._reserved is not None:
            self._keep_or_launch(self._reserved)
        while offers:
            executor = offers.popleft()
            if len(executor.running) >= executor.slots:
                if executor.queued <= executor.refill_at:
                    touched.append(executor)
            elif executor.usable() and self._goes_first(executor) and self._give(executor) and executor.room():
                offers.append(executor)  # the next slot, after the others' turn
        if self.fleet.idle:
            self._deal_idle()
        for executor in touched:
            if not executor.frozen and executor.queued <= executor.refill_at and executor.usable():
                self._send_ahead(executor)
        touched.clear()

    def _goes_first(self, executor: Executor) -> bool:
        """It is near something, or nobody else is idle; otherwise it has its turn with the others."""
        if executor.local or executor.host.local:
            return True
        return self.fleet.free == executor.slots - len(executor.running)

    def _deal_idle(self) -> None:
        """One attempt to each idle executor in turn, while there are any."""
        fleet = self.fleet
        while self._pools.first() is not None and self._reserved is None and fleet.idle:
            executor = fleet.next_idle()
            if not self._give(executor) and not self._give_any():
                return  # the idle ones are barred from all that is ready

    def _give_any(self) -> bool:
        return any(other.room() and self._give(other) for other in self.fleet.all_idle())

    def _give(self, executor: Executor) -> bool:
        found = self._next(executor, ahead=False)
        if found is None:
            return False
        tasks, partition, _ = found
        self.launch(executor, tasks, partition)
        self._taken(tasks)
        if len(executor.running) >= executor.slots:
            self._touched.append(executor)
        return True

    def _send_ahead(self, executor: Executor) -> None:
        """Fill the executor's queue, so that its workers never wait for the driver between two tasks."""
        if len(executor.running) < executor.slots:
            return
        first = self._pools.first()
        if (first is None or first.slow) and not executor.local and not executor.host.local:
            return
        full = False
        while not full and (found := self._next(executor, ahead=True)) is not None:
            tasks, partition, room = found
            while partition >= 0:
                self.launch(executor, tasks, partition)
                room -= 1
                full = room <= 0
                partition = -1 if full else tasks.take(executor, ahead=True)
            self._taken(tasks)

    def _room_ahead(self, executor: Executor, tasks: TaskSet) -> int:
        quota = tasks.quota(executor, self._turn.conf.prefetch_horizon)
        executor.refill_at = quota // 2 if tasks.mean >= 0 else max(0, quota - 1)
        return quota - executor.queued

    def _taken(self, tasks: TaskSet) -> None:
        if tasks.luck == NEAR and not self.fleet.idle:
            # all slots are busy and near executors make progress: others need not take over
            tasks.since = self._turn.now
            tasks.open = False
            self.rank(tasks)
        elif not tasks.n_free:
            self.rank(tasks)

    def launch(self, executor: Executor, tasks: TaskSet, partition: int) -> Attempt:
        """Send an attempt at a partition that was taken from the set."""
        turn = self._turn
        stage = tasks.stage
        tid = self.attempts
        self.attempts = tid + 1
        number = stage.tries[partition]
        stage.tries[partition] = number + 1
        attempt = Attempt(tid, stage, partition, number, executor, turn.now)
        attempt.slow = tasks.slow
        attempt.luck = tasks.luck
        if not tasks.reading:
            tasks.reading = True
            for parent in stage.parents:
                parent.readers[stage] = None
        live = tasks.live
        if partition in live:
            attempt.twin = live[partition]
            attempt.twin.twin = attempt
            attempt.speculative = True
        live[partition] = attempt
        self.fleet.send(attempt, turn.now)
        task = Task(tid, stage.id, stage.attempt, partition, number)
        turn.launch(executor, tasks, task, attempt.state == QUEUED)
        return attempt

    # ------------------------------------------------------------------------------------ choosing

    def _next(self, executor: Executor, ahead: bool) -> tuple[TaskSet, int, int] | None:
        """The most deserving set that has something for the executor, the partition, and how many of the
        set's attempts it has room for.  ``ahead``: None also if it has enough of them in its queue."""
        room = 1
        if self._reserved is not None:
            return None
        first = self._pools.first()
        if executor.local or executor.host.local:
            near = self._nearest(executor)
            if near is not None and (first is None or self._pools.rank(near) < self._pools.rank(first)):
                if ahead and (room := self._room_ahead(executor, near)) <= 0:
                    return None
                partition = near.take(executor, ahead)
                if partition >= 0:
                    return near, partition, room
        if first is None:
            return None
        if first.gathering is None:
            if ahead and (room := self._room_ahead(executor, first)) <= 0:
                return None
            partition = first.take(executor, ahead)
            if partition >= 0:
                return first, partition, room
        return self._search(executor, ahead)

    def _nearest(self, executor: Executor) -> TaskSet | None:
        """The most deserving of the sets that wait for executors like this one."""
        best: TaskSet | None = None
        for table in (executor.local, executor.host.local):
            for tasks in islice(table, NEAR_SETS):
                if tasks.paused or tasks.ready or tasks.gathering is not None:
                    continue
                if best is None or self._pools.rank(tasks) < self._pools.rank(best):
                    best = tasks
        return best

    def _search(self, executor: Executor, ahead: bool) -> tuple[TaskSet, int, int] | None:
        """As ``_next``, where the first set in rank has nothing for this executor."""
        taken, room = -1, 1

        def suits(tasks: TaskSet) -> bool:
            nonlocal taken, room
            if tasks.gathering is not None:
                return self.could_gather(tasks)  # if there never are enough slots, it holds up nobody
            if ahead and (room := self._room_ahead(executor, tasks)) <= 0:
                return False
            taken = tasks.take(executor, ahead)
            if taken < 0 and not ahead and tasks.copies:
                taken = self.take_copy(tasks, executor)
            return taken >= 0

        tasks = self._pools.find(suits)
        if tasks is None:
            return None
        if tasks.gathering is None:
            return tasks, taken, room
        if ahead:
            return None
        if self.gather(tasks):
            return self._next(executor, ahead) if executor.room() else None
        self._reserved = tasks
        return None

    def _keep_or_launch(self, tasks: TaskSet) -> None:
        """A barrier stage keeps its reservation until it is launched, whatever ranks before it meanwhile;
        or busy others could snatch slot after slot away from it."""
        if not tasks.ready or not self.could_gather(tasks) or self.gather(tasks):
            self._reserved = None

    # ------------------------------------------------------------------------------------ counting

    def _begun(self, attempt: Attempt) -> None:
        """The attempt is presumed to run."""
        if attempt.wanted:
            tasks = attempt.stage.tasks
            assert tasks is not None
            tasks.running += 1
            tasks.pool.running += 1
            if not self._fixed:
                self._pools.moved(tasks)
            if tasks.watch is not None:
                tasks.watch.begun(attempt)
        if self._turn.listening:
            self._announcer.task_started(attempt)

    def _ended(self, attempt: Attempt) -> None:
        """A wanted attempt runs no more, or is wanted no more."""
        tasks = attempt.stage.tasks
        assert tasks is not None
        tasks.running -= 1
        tasks.pool.running -= 1
        if not self._fixed:
            self._pools.moved(tasks)
