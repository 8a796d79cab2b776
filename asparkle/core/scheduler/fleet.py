"""Executors, their hosts, and the attempts that they have: who runs what, and who has a free slot."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from asparkle.core.scheduler.records import QUEUED, RUNNING, SETTLED, Attempt, Executor, Host

GRAVES = 1024  # lost executors whose last epoch is remembered, lest a late report revive them


class Fleet:
    """``begun``, ``ended``: called when an attempt is presumed to start, and when one that was wanted and
    running no longer is."""

    def __init__(self, begun: Callable[[Attempt], None], ended: Callable[[Attempt], None]) -> None:
        self.executors: dict[str, Executor] = {}
        self.hosts: dict[str, Host] = {}
        self.attempts: dict[int, Attempt] = {}
        self.idle: OrderedDict[Host, None] = OrderedDict()  # hosts with a free slot, in the order of turns
        self.ahead: OrderedDict[Executor, None] = OrderedDict()  # those with attempts that could be recalled
        self.occupied = 0  # hosts with an executor
        self.free = 0  # free slots of usable executors
        self.slots = 0  # all slots of usable executors
        self._graves: OrderedDict[str, int] = OrderedDict()
        self._begun = begun
        self._ended = ended

    # ------------------------------------------------------------------------------- executors

    def known(self, name: str, epoch: int) -> bool:
        """Whether this incarnation, or a later one, has been seen already."""
        current = self.executors.get(name)
        return (current is not None and current.epoch >= epoch) or self._graves.get(name, -1) >= epoch

    def add(self, name: str, epoch: int, host_name: str, slots: int) -> Executor:
        host = self.host(host_name)
        executor = Executor(name, epoch, host, slots)
        self.occupied += not host.executors
        self.executors[name] = host.executors[name] = executor
        self.slots += slots
        self.free += slots
        self._idle(executor)
        return executor

    def remove(self, executor: Executor) -> tuple[list[Attempt], list[Attempt]]:
        """It is lost.  Returns the attempts that it had, settled: presumed running, and queued."""
        self.exclude(executor)
        executor.alive = False
        running = list(executor.running.values())
        queued = [attempt for attempt in executor.queue if attempt.state == QUEUED]
        for attempt in queued + running:
            del self.attempts[attempt.tid]
            if attempt.state == RUNNING and attempt.wanted:
                self._ended(attempt)
            attempt.state = SETTLED
        executor.running.clear()
        executor.queue.clear()
        self.ahead.pop(executor, None)
        del self.executors[executor.name], executor.host.executors[executor.name]
        self.occupied -= not executor.host.executors
        self.bury(executor.name, executor.epoch)
        return running, queued

    def bury(self, name: str, epoch: int) -> None:
        self._graves[name] = max(epoch, self._graves.pop(name, -1))
        if len(self._graves) > GRAVES:
            self._graves.popitem(last=False)

    def exclude(self, executor: Executor) -> None:
        """It gets no more work."""
        if executor.usable():
            self.slots -= executor.slots
            self.free -= max(0, executor.slots - len(executor.running))
            self._busy(executor)
            executor.excluded = True

    def readmit(self, executor: Executor) -> None:
        if executor.alive and executor.excluded:
            executor.excluded = False
            self.slots += executor.slots
            self.free += max(0, executor.slots - len(executor.running))
            if executor.room():
                self._idle(executor)

    def host(self, name: str) -> Host:
        host = self.hosts.get(name)
        if host is None:
            host = self.hosts[name] = Host(name)
        return host

    def drop_host(self, host: Host) -> None:
        """Forget the host if nothing speaks of it any more."""
        if not host.executors and not host.local:
            self.hosts.pop(host.name, None)

    def _idle(self, executor: Executor) -> None:
        host = executor.host
        if not host.idle:
            self.idle[host] = None
        host.idle[executor] = None

    def _busy(self, executor: Executor) -> None:
        host = executor.host
        if host.idle.pop(executor, 0) is None and not host.idle:
            del self.idle[host]

    def next_idle(self) -> Executor:
        """An executor with a free slot, from host to host in turn.  There is one."""
        host = next(iter(self.idle))
        self.idle.move_to_end(host)
        executor = next(iter(host.idle))
        host.idle.move_to_end(executor)
        return executor

    def all_idle(self) -> list[Executor]:
        return [executor for host in self.idle for executor in host.idle]

    # -------------------------------------------------------------------------------- attempts

    def find(self, tid: int, name: str, epoch: int) -> Attempt | None:
        """The attempt, if the report is about one that is under way, and comes from who has it."""
        attempt = self.attempts.get(tid)
        if attempt is None:
            return None
        executor = attempt.executor
        return attempt if executor.epoch == epoch and executor.name == name else None

    def send(self, attempt: Attempt, now: float) -> None:
        executor = attempt.executor
        self.attempts[attempt.tid] = attempt
        if len(executor.running) < executor.slots:
            self.begin(attempt, now)
        else:
            executor.queue.append(attempt)
            executor.queued += 1
            executor.unrecalled += 1
            if executor.unrecalled == 1:
                self.ahead[executor] = None

    def begin(self, attempt: Attempt, now: float) -> None:
        """Presume that it runs from now on."""
        executor = attempt.executor
        attempt.state = RUNNING
        attempt.started = now
        executor.running[attempt.tid] = attempt
        if attempt.slow:
            executor.slow += 1
        running = len(executor.running)
        if running <= executor.slots and not executor.excluded:
            self.free -= 1
            if running == executor.slots:
                self._busy(executor)
        self._begun(attempt)

    def unqueue(self, attempt: Attempt) -> None:
        executor = attempt.executor
        executor.queued -= 1
        if not attempt.recalled:
            self.recalled(attempt)
        if not executor.queued:
            executor.queue.clear()

    def recalled(self, attempt: Attempt) -> None:
        """It no longer counts among those that could be recalled."""
        attempt.recalled = True
        executor = attempt.executor
        executor.unrecalled -= 1
        if not executor.unrecalled:
            del self.ahead[executor]

    def start(self, attempt: Attempt, now: float) -> None:
        """Its executor says that it runs."""
        if attempt.state == QUEUED:
            self.unqueue(attempt)
            self.begin(attempt, now)

    def settle(self, attempt: Attempt, now: float) -> None:
        """It ended: its slot goes to the next in the queue, or is free."""
        executor = attempt.executor
        del self.attempts[attempt.tid]
        if attempt.state == QUEUED:
            attempt.state = SETTLED
            self.unqueue(attempt)
            return
        attempt.state = SETTLED
        del executor.running[attempt.tid]
        executor.frozen = False
        if attempt.slow:
            executor.slow -= 1
        if attempt.wanted:
            self._ended(attempt)
        running = len(executor.running)
        if not running:
            executor.idle_since = now
        if running >= executor.slots:
            return
        if not executor.excluded:
            self.free += 1
        if executor.queued:
            self._promote(executor, now)
        elif not executor.excluded and running + 1 == executor.slots:
            self._idle(executor)

    def _promote(self, executor: Executor, now: float) -> None:
        queue = executor.queue
        attempt = queue.popleft()
        while attempt.state != QUEUED:
            attempt = queue.popleft()
        executor.queued -= 1
        if not attempt.recalled:
            executor.unrecalled -= 1
            if not executor.unrecalled:
                del self.ahead[executor]
        if not executor.queued:
            queue.clear()
        self.begin(attempt, now)

    def unwant(self, attempt: Attempt) -> None:
        """Whatever it reports, it no longer counts; it keeps its slot until it does."""
        attempt.wanted = False
        if attempt.state == RUNNING:
            self._ended(attempt)
