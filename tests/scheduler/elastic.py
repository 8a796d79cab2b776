"""A cluster that brings and ends executors as the machine asks, and judges every one of its decisions.

What it knows (who is busy, since when each is idle, who holds what) it has from the events alone.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

from asparkle.core.scheduler import (
    AllocationConf,
    BlocksChanged,
    DeadlineReached,
    ExecutorAdded,
    ExecutorLost,
    Release,
    SchedulerConf,
    SetTarget,
)

from .invariants import check
from .simulation import Chances, Simulation, Worker, Workload, random_chances, random_conf

EPSILON = 1e-9


class Before:
    """What was so before the machine was told of an event: what it releases, it releases first."""

    def __init__(self, sim: ElasticSimulation) -> None:
        scheduler, conf = sim.scheduler, sim.allocation
        self.there = len(sim.told_alive)
        self.idle = {name for name in sim.told_alive if not sim.load[name, 0]}
        active = {view.stage: view.pending for view in scheduler.stages() if view.state == "active"}
        tasks = sum(active.values()) + sum(stage in active for stage, _ in sim.wanted)
        self.need = min(conf.most, math.ceil(tasks * conf.ratio / conf.slots))
        self.in_use = {stage for job in scheduler.jobs() for stage in job.stages}
        self.outputs: dict[str, Counter[int]] = {}  # by executor: how many of each shuffle's stage
        for stage in scheduler._lineage.shuffles.values():
            for output in stage.outputs.table():
                if output is not None:
                    self.outputs.setdefault(output.executor, Counter())[stage.id] += 1


class ElasticSimulation(Simulation):
    """``targets``: each that was asked for, and when.  ``losing``: executors that were released with something that
    nobody else had."""

    def __init__(
        self,
        rng: random.Random,
        conf: SchedulerConf,
        chances: Chances | None = None,
        *,
        start: float = 0.05,
        survive: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(rng, conf, chances, **options)
        assert conf.allocation is not None
        self.allocation = conf.allocation
        self.start = start  # seconds until an executor is there
        self.survive = survive  # the chance that its files can be read when it is released
        self.target = self.told = self.allocation.initial
        self.targets: list[tuple[float, int]] = []
        self.before: Before | None = None
        self.live: dict[str, Worker] = {}  # as the cluster knows them
        self.starting = 0
        self.started = 0
        self.idle_since: dict[str, float] = {}
        self.hosts: dict[str, str] = {}
        self.survivors: set[str] = set()  # whose files can be read
        self.holders: dict[tuple[int, int], dict[str, str]] = {}  # cached blocks: scope by executor
        self.released: dict[str, float] = {}  # when
        self.gone: set[str] = set()  # released, or lost
        self.losing: dict[str, str] = {}
        self.fill()

    # ---------------------------------------------------------------------------------- the cluster

    def fill(self) -> None:
        while len(self.live) + self.starting < self.told:
            self.starting += 1
            self.at(self.start * (0.5 + self.rng.random()), self._bring)

    def _bring(self) -> None:
        self.starting -= 1
        if self.rng.random() < self.chances.fail:  # it dies before it is ready
            return self.fill()
        name, slots = f"x{self.started}", self.allocation.slots
        self.started += 1
        worker = self.live[name] = self.workers[name] = Worker(name, 0, f"h{self.rng.randrange(4)}", slots)
        self.hosts[name] = worker.host
        survives = self.rng.random() < self.survive
        if survives:
            self.survivors.add(name)
        self.report(worker, ExecutorAdded(name, 0, worker.host, slots, survives))

    def _settarget(self, command: SetTarget) -> None:
        assert command.executors != self.told, "it is told what it knows"
        self.target = self.told = command.executors
        self.targets.append((self.now, self.target))
        self.fill()

    def _release(self, command: Release) -> None:
        for name, reason in command.reasons.items():
            self._judge_release(name, reason)
            self.target -= 1
            self.told -= 1
            self.released[name] = self.now
            self._forget_executor(name, name in self.survivors)
            worker = self.live.pop(name, None)
            if worker is not None:
                self.at(0.01, lambda worker=worker: self._end_released(worker))  # type: ignore[misc]

    def _end_released(self, worker: Worker) -> None:
        if worker.name in self.workers:
            self.kill_executor(worker.name, blame=False, survive=worker.name in self.survivors)

    def _forget_executor(self, name: str, survive: bool) -> None:
        self._note_lost(name)
        self.gone.add(name)
        self.idle_since.pop(name, None)
        for held in self.holders.values():
            if held.get(name) == "worker" or not survive:
                held.pop(name, None)

    # ------------------------------------------------------------------------------------ judgement

    def _judge_release(self, name: str, reason: str) -> None:
        conf = self.allocation
        before = self.before
        assert before is not None, "an executor is released at no deadline"
        assert name in before.idle, "an executor is released that is not there, or has attempts"
        before.there -= 1
        assert before.there >= max(before.need, conf.least), "an executor is released that tasks could use"
        idle = self.now - self.idle_since[name]
        assert idle >= conf.idle_timeout - EPSILON, "an executor is released too early"
        assert reason.startswith(f"released: idle for {round(idle, 1):g} s")
        blocks = self.alone(name)
        outputs = 0
        if name not in self.survivors:
            mine = before.outputs.get(name, Counter())
            outputs = sum(mine.values())
            if conf.shuffle_tracking and outputs:
                assert idle >= conf.shuffle_timeout - EPSILON, "map outputs are lost too early"
                assert not mine.keys() & before.in_use, "a job needs these map outputs"
        if blocks:
            assert idle >= conf.cached_timeout - EPSILON, "cached partitions are lost too early"
        if blocks or outputs:
            self.losing[name] = reason
            assert f"with {blocks} cached partitions and {outputs} map outputs" in reason
        else:
            assert reason.endswith(" s")

    def alone(self, name: str) -> int:
        """How many cached partitions would go with the executor."""

        def goes(scope: str) -> bool:
            return scope == "worker" or name not in self.survivors

        holders = [held for held in self.holders.values() if name in held]
        return sum(all(other == name and goes(scope) for other, scope in held.items()) for held in holders)

    def tell(self, event: Any) -> None:
        deadline = self.scheduler.next_deadline()
        self.before = Before(self) if deadline is not None and deadline <= self.now else None
        super().tell(event)
        self._hear(event)
        conf, there = self.allocation, len(self.told_alive)
        if isinstance(event, ExecutorLost) and self.live.pop(event.executor, None) is not None:
            self.fill()
        assert self.target == self.told
        assert conf.least <= self.target <= conf.most, "the target is out of bounds"
        assert there <= self.target, "there are more executors than are meant to be"
        if self.target > there and not self.scheduler.jobs() and not self.out:
            assert self.target <= max(conf.least, conf.initial), "executors are asked for that nobody needs"

    def _forget(self, tid: int) -> None:
        executor, epoch, _ = self.out[tid]
        super()._forget(tid)
        if not self.load[executor, epoch]:
            self.idle_since[executor] = self.now

    def _note(self, event: Any) -> None:
        if not (isinstance(event, ExecutorAdded) and event.executor in self.gone):  # said a second time, and too late
            super()._note(event)

    def _hear(self, event: Any) -> None:
        """Our own book of blocks and of idle executors."""
        if isinstance(event, ExecutorAdded) and event.executor not in self.gone:
            self.idle_since.setdefault(event.executor, self.now)
        elif isinstance(event, ExecutorLost):
            self._forget_executor(event.executor, event.blocks_survive)
        elif isinstance(event, BlocksChanged) and event.executor in self.told_alive and event.scope != "shared":
            for block in event.added:
                held = self.holders.setdefault(block, {})
                if event.scope == "host":  # a host has one file of a block, and the machine knows who wrote it last
                    host = self.hosts[event.executor]
                    for other in [o for o, scope in held.items() if scope == "host" and self.hosts[o] == host]:
                        del held[other]
                if not (held.get(event.executor) == "host" and event.executor in self.survivors):
                    held[event.executor] = event.scope

    # ----------------------------------------------------------------------------------------- ends

    def idle_away(self, looks: int = 20_000) -> None:
        """Nothing happens any more: time passes until no executor is released any more for a long while."""
        until = self.now + 5 * self._patience()
        for _ in range(looks):
            deadline = self.scheduler.next_deadline()
            if self._future and (deadline is None or self._future[0][0] <= deadline):
                self.step()
            elif deadline is not None and deadline <= until:
                self.now = max(self.now, deadline)
                self.tell(DeadlineReached())
            else:
                return
        raise AssertionError("it goes on and on")

    def _patience(self) -> float:
        conf = self.allocation
        finite = [t for t in (conf.cached_timeout, conf.shuffle_timeout) if t < math.inf]
        return max(0.1, conf.idle_timeout, *finite)

    def finish(self) -> None:
        """Every job ends with the executors that the machine asks for, and those that nobody needs are gone."""
        self.calm()
        self.run()
        stuck = [job.spec for job in self.jobs.values() if not job.over]
        assert not stuck, f"jobs that never end: {stuck} {self.scheduler.stages()} {self.scheduler.executors()}"
        assert not self.out, f"attempts never answered: {self.out}"
        self.idle_away()
        check(self.scheduler)
        kept = [name for name in self.told_alive if not self._has_reason_to_stay(name)]
        assert len(self.told_alive) == self.target >= self.allocation.least
        assert self.target == self.allocation.least or not kept, "executors stay that nobody needs"

    def _has_reason_to_stay(self, name: str) -> bool:
        conf = self.allocation
        tracked = conf.shuffle_tracking and name not in self.survivors and name in Before(self).outputs
        return (conf.cached_timeout == math.inf and self.alone(name) > 0) or (
            conf.shuffle_timeout == math.inf and tracked
        )


def random_allocation(rng: random.Random) -> AllocationConf:
    least = rng.choice([0, 0, 1, 2])
    most = least + rng.choice([1, 3, 8])
    backlog = rng.choice([0.01, 0.1, 1.0])
    return AllocationConf(
        initial=rng.randrange(least, most + 1),
        least=least,
        most=most,
        slots=rng.choice([1, 1, 2]),
        backlog_timeout=backlog,
        sustained_timeout=rng.choice([0.01, backlog]),
        idle_timeout=rng.choice([0.0, 0.02, 0.3, 60.0]),
        cached_timeout=rng.choice([0.0, 0.05, 1.0, math.inf]),
        ratio=rng.choice([1.0, 1.0, 0.5]),
        shuffle_tracking=rng.random() < 0.8,
        shuffle_timeout=rng.choice([0.0, 0.05, 1.0, math.inf]),
    )


def elastic_run(rng: random.Random, jobs: int = 5, **options: Any) -> ElasticSimulation:
    """Some jobs, with pauses between them, through all kinds of trouble."""
    conf = random_conf(rng, allocation=random_allocation(rng))
    chances = random_chances(rng)
    chances.add_executor = 0.0
    sim = ElasticSimulation(rng, conf, chances, survive=rng.choice([0.0, 0.5, 1.0]), **options)
    work = Workload(rng)
    for _ in range(rng.randrange(1, jobs + 1)):
        sim.submit(work.job(), commits=rng.random() < 0.3)
        for _ in range(rng.randrange(60)):
            sim.fault()
            sim.step()
        if rng.random() < 0.3:
            pause(sim, rng.choice([0.05, 0.5, 5.0]))
    sim.finish()
    return sim


def pause(sim: ElasticSimulation, seconds: float) -> None:
    """Time passes, and what is under way goes on."""
    until = sim.now + seconds
    sim.at(seconds, lambda: None)
    while sim.now < until:
        deadline = sim.scheduler.next_deadline()
        if deadline is not None and deadline <= sim._future[0][0]:
            sim.now = max(sim.now, deadline)
            sim.tell(DeadlineReached())
        else:
            sim.step()
