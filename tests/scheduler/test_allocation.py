"""How many executors there are: growing with the backlog, shrinking when idle, and losing nothing unawares."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.core.events import ExecutorRemoved
from asparkle.core.scheduler import (
    AllocationConf,
    Emit,
    ExecutorAdded,
    ExecutorLost,
    JobCancelled,
    JobSpec,
    JobSubmitted,
    Launch,
    RddUnpersisted,
    Release,
    Scheduler,
    SchedulerConf,
    SetTarget,
    ShuffleRemoved,
    StageSpec,
    TaskSucceeded,
)

from .bench import Bench, result, stage
from .elastic import ElasticSimulation, elastic_run
from .test_simulation import SLOW

pytestmark = pytest.mark.slow


class Elastic(Bench):
    """A bench whose executors come when they are told to: ``arrive``.  ``target``: what the cluster was told."""

    def __init__(
        self, initial: int = 0, least: int = 0, most: int = 100, conf: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.target = initial
        self.targets: list[tuple[float, int]] = []
        super().__init__(allocation=AllocationConf(initial, least, most, **options), listening=True, **(conf or {}))

    def tell(self, event: Any) -> Elastic:
        super().tell(event)
        for command in self.said:
            if isinstance(command, SetTarget):
                self.target = command.executors
                self.targets.append((self.now, self.target))
            elif isinstance(command, Release):
                self.target -= len(command.reasons)
        return self

    def arrive(self, *names: str, slots: int = 1, survive: bool = True) -> Elastic:
        for name in names:
            self.epochs[name] = 0
            self.tell(ExecutorAdded(name, 0, f"host-{name}", slots, survive))
        return self

    @property
    def released(self) -> list[str]:
        """Executors that were released in the last answer."""
        return [name for release in self.get(Release) for name in release.reasons]

    @property
    def there(self) -> list[str]:
        return [view.executor for view in self.scheduler.executors()]

    def reasons(self) -> dict[str, str]:
        """Why executors were removed, as listeners are told."""
        events = [emit.event for emit in self.get(Emit, ever=True)]
        return {event.executor: event.reason for event in events if isinstance(event, ExecutorRemoved)}


def names(count: int) -> list[str]:
    return [f"e{n}" for n in range(count)]


class TestGrowing:
    def test_by_doubling_every_time_that_tasks_have_waited_for_long_enough(self) -> None:
        bench = Elastic()
        bench.job(result(0, 20))
        bench.wait(10)
        assert bench.targets == [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 20)]

    def test_the_first_time_after_one_timeout_and_then_after_another(self) -> None:
        bench = Elastic(initial=2, backlog_timeout=5.0, sustained_timeout=0.5).arrive("a", "b")
        bench.job(result(0, 20))
        bench.wait(6.2)
        assert bench.targets == [(5, 3), (5.5, 5), (6, 9)]

    def test_where_there_is_no_executor_the_first_is_asked_for_at_once(self) -> None:
        bench = Elastic()
        bench.job(result(0, 1))
        assert bench.get(SetTarget) == [SetTarget(1)]
        assert bench.arrive("a").launched == [(0, 0)]

    def test_nothing_is_asked_for_when_no_task_waits(self) -> None:
        bench = Elastic(initial=2).arrive("a", "b")
        bench.job(result(0, 2))
        bench.wait(30)
        assert bench.targets == []

    def test_a_backlog_that_is_gone_in_time_is_none(self) -> None:
        bench = Elastic(initial=1).arrive("a")
        for number in range(5):
            bench.job(result(number, 2))
            bench.wait(0.9).succeed((number, 0)).succeed((number, 1))
        assert bench.targets == []

    def test_after_a_backlog_it_begins_with_one_again(self) -> None:
        bench = Elastic(initial=1).arrive("a")
        bench.job(result(0, 4))
        bench.wait(2.5).arrive("b", "c", "d")
        bench.job(result(1, 50))
        bench.wait(2.5)
        assert [target for _, target in bench.targets] == [2, 4, 5, 7]

    def test_to_no_more_than_the_tasks_could_use(self) -> None:
        bench = Elastic(slots=4, ratio=0.5)
        bench.job(result(0, 50))
        bench.wait(60)
        assert bench.target == math.ceil(50 * 0.5 / 4)

    def test_to_no_more_than_the_most(self) -> None:
        bench = Elastic(most=5)
        bench.job(result(0, 50))
        bench.wait(60)
        assert bench.target == 5

    def test_for_tasks_that_are_queued_at_busy_executors(self) -> None:
        bench = Elastic(initial=1, conf={"prefetch_horizon": 1.0}).arrive("a")
        bench.job(result(0, 2))
        assert bench.scheduler.executors()[0].queued == 1
        bench.wait(1)
        assert bench.target == 2

    def test_for_tasks_that_wait_for_a_better_place(self) -> None:
        bench = Elastic(initial=1).arrive("a").cached("a", *((7, part) for part in range(9)))
        bench.job(result(0, 9, blocks=[[(7, part)] for part in range(9)]))
        bench.wait(1)
        assert bench.target == 2

    def test_for_tasks_that_come_back(self) -> None:
        bench = Elastic(initial=2).arrive("a", "b")
        bench.job(result(0, 2))
        bench.wait(5).lose("a")
        assert bench.target == 2  # another one is to take its place
        bench.lose("b")
        assert bench.target == 2

    def test_for_second_attempts_at_slow_tasks(self) -> None:
        bench = Elastic(initial=2, conf={"speculation": True, "speculation_quantile": 0.5}).arrive("a", "b")
        bench.job(result(0, 2))
        bench.succeed((0, 0), seconds=0.1)
        bench.wait(0.2).job(result(1, 1))  # takes the slot that is free
        bench.wait(5)
        assert bench.target == 3

    def test_for_a_barrier_stage_until_it_has_its_slots(self) -> None:
        bench = Elastic()
        bench.job(result(0, 6, barrier=True))
        bench.wait(5)
        assert [target for _, target in bench.targets] == [1, 2, 4, 6]
        bench.arrive(*names(5))
        assert bench.get(Launch, ever=True) == []
        assert len(bench.arrive("last").launched) == 6

    def test_for_stages_that_can_run_not_for_those_that_wait_for_them(self) -> None:
        bench = Elastic()
        bench.job(stage(0, 2), result(1, 50, [0]))
        bench.wait(60)
        assert bench.target == 2

    def test_where_a_task_failed_on_all_executors_that_there_are_another_is_brought(self) -> None:
        bench = Elastic(initial=1, conf={"exclude": True, "exclude_task_node": 9}).arrive("a")
        job = bench.job(result(0, 1))
        bench.fail((0, 0))
        assert (bench.outcome(job), bench.target) == (None, 2)
        assert bench.wait(30).arrive("b").placed == {(0, 0): "b"}
        bench.run()
        assert bench.outcome(job) == "success"

    def test_and_no_further_than_that_helps(self) -> None:
        """A host where the task is not to run any more gets a few executors in vain, not all that there may be."""
        bench = Elastic(initial=1, conf={"exclude": True, "exclude_task_node": 1, "max_failures": 3}).executor(
            "a", 1, "h"
        )
        job = bench.job(result(0, 1))
        bench.fail((0, 0))
        for name in names(3):
            assert bench.outcome(job) is None
            bench.executor(name, 1, "h")
        assert bench.outcome(job) != "success" and bench.target == 4


class TestShrinking:
    def test_an_executor_without_work_is_released_after_its_time(self) -> None:
        bench = Elastic(initial=3, least=1).arrive(*names(3))
        bench.wait(59.9)
        assert bench.there == names(3)
        bench.wait(0.2)
        assert bench.released == ["e0", "e1"]
        assert (bench.target, bench.there) == (1, ["e2"])
        assert bench.reasons() == dict.fromkeys(["e0", "e1"], "released: idle for 60 s")
        assert bench.wait(600).released == []

    def test_its_time_begins_when_its_last_task_has_ended(self) -> None:
        bench = Elastic(initial=1, idle_timeout=10.0).arrive("a")
        bench.wait(8).job(result(0, 1))
        bench.wait(100).succeed((0, 0))
        assert bench.wait(9.9).there == ["a"]
        assert bench.wait(0.2).released == ["a"]

    def test_a_killed_task_that_has_not_ended_is_work(self) -> None:
        bench = Elastic(initial=1).arrive("a")
        bench.job(result(0, 1))
        bench.cancel()
        assert bench.wait(600).there == ["a"]
        bench.killed_ok(bench.tid(0, 0))
        assert bench.wait(61).released == ["a"]

    def test_a_released_executor_is_sent_nothing(self) -> None:
        """Not even by a job that comes at that very moment."""
        bench = Elastic(initial=1).arrive("a")
        bench.now = 60.0
        bench.job(result(0, 1))
        assert bench.released == ["a"]
        assert bench.launched == []
        assert bench.target == 1  # the job gets one of its own
        assert bench.arrive("b").launched == [(0, 0)]

    def test_what_a_released_executor_says_is_ignored(self) -> None:
        bench = Elastic(initial=1).arrive("a").wait(61)
        bench.cached("a", (1, 1)).tell(ExecutorLost("a", 0, "it was released", False))
        assert (bench.said, bench.there, bench.target) == ([], [], 0)

    def test_nobody_is_released_whom_tasks_could_use(self) -> None:
        """They wait for a barrier stage's slots, or for a better place."""
        bench = Elastic(initial=2, most=3).arrive("a", "b")
        bench.job(result(0, 3, barrier=True))
        bench.wait(14)
        assert bench.there == ["a", "b"]

    def test_one_that_nobody_needs_is_not_replaced_when_it_is_lost(self) -> None:
        bench = Elastic(initial=3, least=1).arrive(*names(3))
        bench.job(result(0, 2))
        bench.lose("e2")
        assert bench.target == 2

    def test_one_that_tasks_could_use_is(self) -> None:
        bench = Elastic(initial=3).arrive(*names(3))
        bench.job(result(0, 3))
        bench.lose("e2")
        assert bench.target == 3

    def test_the_least_are_always_there(self) -> None:
        bench = Elastic(initial=2, least=2).arrive("a", "b").lose("a")
        assert bench.target == 2

    @pytest.mark.parametrize("how", ["cancelled", "done"])
    def test_what_has_not_come_is_asked_for_no_longer(self, how: str) -> None:
        bench = Elastic(initial=1).arrive("a")
        bench.job(result(0, 2 if how == "done" else 20))
        bench.wait(1)
        assert bench.target == 2
        if how == "cancelled":
            bench.tell(JobCancelled())
        else:
            bench.succeed((0, 0))
        assert bench.target == 1

    def test_what_comes_all_the_same_counts(self) -> None:
        bench = Elastic(initial=1).arrive("a", "late")
        assert bench.target == 2
        assert bench.wait(61).released == ["a", "late"]
        assert bench.target == 0

    def test_the_first_ones_are_waited_for(self) -> None:
        bench = Elastic(initial=4)
        bench.wait(600)
        assert bench.target == 4

    def test_no_timeout_at_all(self) -> None:
        bench = Elastic(initial=1, idle_timeout=0.0).arrive("a")
        bench.job(result(0, 1))
        bench.wait(7).succeed((0, 0))
        assert bench.wait(0.2).released == ["a"]


class TestBlocks:
    def keep(self, bench: Elastic, *names: str, seconds: float = 1e6) -> None:
        bench.wait(seconds)
        assert bench.there == [*names]

    def test_one_that_alone_has_cached_partitions_stays(self) -> None:
        bench = Elastic(initial=2).arrive("a", "b").cached("a", (7, 0), (7, 1))
        self.keep(bench, "a", seconds=1000)
        bench.tell(RddUnpersisted(7))
        self.keep(bench)
        assert bench.reasons()["a"].endswith(" s")

    def test_until_the_time_for_these_is_over_and_then_it_is_said_what_is_lost(self) -> None:
        bench = Elastic(initial=1, cached_timeout=600.0).arrive("a").cached("a", (7, 0), (7, 1))
        self.keep(bench, "a", seconds=599)
        self.keep(bench, seconds=2)
        lost = "released: idle for 600 s, with 2 cached partitions and 0 map outputs that no other has"
        assert bench.reasons() == {"a": lost}

    def test_of_two_that_have_the_same_one_stays(self) -> None:
        bench = Elastic(initial=2).arrive("a", "b").cached("a", (7, 0)).cached("b", (7, 0))
        self.keep(bench, "b", seconds=1000)
        assert bench.reasons() == {"a": "released: idle for 60 s"}

    @pytest.mark.parametrize(
        ("scope", "survive", "stays"), [("host", True, False), ("host", False, True), ("shared", False, False)]
    )
    def test_what_is_on_disk_or_beyond(self, scope: str, survive: bool, stays: bool) -> None:
        bench = Elastic(initial=1).arrive("a", survive=survive).cached("a", (7, 0), scope=scope)
        self.keep(bench, *(["a"] if stays else []), seconds=1000)

    def shuffled(self, survive: bool, **options: Any) -> Elastic:
        """A job whose first stage ran on "a", whose second one runs on "b"."""
        bench = Elastic(initial=1, **options).arrive("a", survive=survive)
        bench.job(stage(0, 3), result(1, 1, [0], hosts=[["host-b"]]))
        bench.succeed((0, 0), (0, 1)).arrive("b", survive=survive).succeed((0, 2))
        assert bench.placed == {(1, 0): "b"}
        return bench

    def test_map_outputs_that_survive_keep_nobody_and_are_not_computed_again(self) -> None:
        bench = self.shuffled(survive=True)
        self.keep(bench, "b", seconds=61)
        assert bench.reasons() == {"a": "released: idle for 60 s"}
        assert bench.scheduler.shuffle_complete(0)
        bench.succeed((1, 0)).job(stage(0, 3), result(2, 1, [0]))
        assert bench.launched == [(2, 0)]

    def test_map_outputs_that_would_go_with_it_keep_an_executor(self) -> None:
        bench = self.shuffled(survive=False, shuffle_timeout=100.0)
        self.keep(bench, "a", "b", seconds=1000)  # a job needs them
        bench.succeed((1, 0))
        self.keep(bench, seconds=61)  # it has been idle for longer than that
        assert bench.reasons()["a"].endswith(", with 0 cached partitions and 3 map outputs that no other has")
        assert not bench.scheduler.shuffle_complete(0)

    def test_until_the_shuffle_is_gone(self) -> None:
        bench = self.shuffled(survive=False)
        bench.succeed((1, 0))
        self.keep(bench, "a", seconds=1000)
        bench.tell(ShuffleRemoved(0))
        self.keep(bench, seconds=61)

    def test_unless_they_are_not_tracked(self) -> None:
        bench = self.shuffled(survive=False, shuffle_tracking=False)
        self.keep(bench, "b", seconds=61)
        assert bench.reasons()["a"].endswith("3 map outputs that no other has")


class TestThousandExecutors:
    def simulation(self, tasks: int, **options: Any) -> ElasticSimulation:
        allocation = AllocationConf(0, 0, 1000, **options)
        sim = ElasticSimulation(
            random.Random(1), SchedulerConf(allocation=allocation), seconds=60.0, start=0.3, deep=False
        )
        sim.submit(JobSpec(1, (StageSpec(0, tasks),), range(tasks)))
        return sim

    def test_they_come_by_doubling_and_go_when_they_have_nothing_to_do(self) -> None:
        sim = self.simulation(3000, cached_timeout=120.0)
        sim.finish()
        (job,) = sim.jobs.values()
        assert job.failure is None
        assert [target for _, target in sim.targets] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]
        assert [round(at, 6) for at, _ in sim.targets] == [*range(11)]
        assert sim.started == 1000  # each came once, and went once
        assert len(sim.released) == 1000 and sim.target == 0
        first, last = min(sim.released.values()), max(sim.released.values())
        assert last - first > 60.0 and len(sim.losing) < 200  # some had cached partitions, and stayed for longer

    def test_one_that_dies_is_replaced_while_there_is_work(self) -> None:
        sim = self.simulation(2000, cached_timeout=120.0)
        deaths = 0
        for step in range(100_000):
            if not sim.step():
                break
            if step % 50 == 0 and sim.live:
                sim.kill_executor(sim.rng.choice(sorted(sim.live)), blame=False)
                deaths += 1
        sim.finish()
        (job,) = sim.jobs.values()
        assert job.failure is None
        assert deaths > 100
        assert sim.started <= 1000 + deaths
        assert len(sim.gone) == sim.started and sim.target == 0

    def test_a_steady_load_brings_and_releases_nobody(self) -> None:
        """Jobs with pauses between them that are shorter than the idle timeout."""
        allocation = AllocationConf(0, 0, 1000)
        sim = ElasticSimulation(
            random.Random(1), SchedulerConf(allocation=allocation), seconds=5.0, start=0.3, deep=False
        )
        counts = []
        for number in range(20):
            sim.submit(JobSpec(number, (StageSpec(number, 100),), range(100)))
            sim.run()
            counts.append(sim.started)
            sim.now += 30.0
        assert counts[-1] == counts[4] <= 100
        assert sim.released == {}

    def lines(self, tasks: int, executors: int, allocation: AllocationConf | None) -> float:
        """Lines of the machine that are executed for each task."""
        scheduler = Scheduler(SchedulerConf(allocation=allocation))
        for n in range(executors):
            scheduler.handle(ExecutorAdded(f"e{n}", 0, f"h{n}", 1), 0.0)
        count, now = 0, 0.0

        def trace(frame: object, event: str, arg: object) -> object:
            nonlocal count
            count += 1
            return trace

        queue: list[tuple[str, int]] = []
        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            said: Sequence[object] = scheduler.handle(JobSubmitted(JobSpec(1, (result(0, tasks),), range(tasks))), 0.0)
            while scheduler.jobs():
                queue += [(c.executor, task.tid) for c in said if isinstance(c, Launch) for task in c.tasks]
                executor, tid = queue.pop(0)
                now += 0.01
                said = scheduler.handle(TaskSucceeded(executor, 0, tid, 1.0), now)
        finally:
            sys.settrace(None)
        return count / tasks

    def test_the_cost_of_a_task_does_not_grow_with_executors(self) -> None:
        few = self.lines(3000, 20, AllocationConf(20, 0, 20))
        many = self.lines(3000, 1000, AllocationConf(1000, 0, 1000))
        assert many < 1.1 * few
        without = self.lines(3000, 20, None)
        assert few < 1.2 * without


@pytest.mark.parametrize("block", range(6))
def test_random_trouble(block: int) -> None:
    for seed in range(40 * block, 40 * block + 40):
        elastic_run(random.Random(seed))


@SLOW
@given(st.randoms(use_true_random=False))
def test_trouble_of_hypothesis_own_choice(rng: random.Random) -> None:
    elastic_run(rng, jobs=3)


def test_the_random_trouble_has_all_that_matters() -> None:
    runs = [elastic_run(random.Random(seed), deep=False) for seed in range(60)]
    assert sum(len(run.released) for run in runs) > 100
    assert sum(len(run.losing) for run in runs) > 20
    assert sum(len(run.gone) - len(run.released) for run in runs) > 20  # lost
    grown = [sum(b > a for (_, a), (_, b) in zip(run.targets, run.targets[1:], strict=False)) for run in runs]
    shrunk = [sum(b < a for (_, a), (_, b) in zip(run.targets, run.targets[1:], strict=False)) for run in runs]
    assert sum(grown) > 100 and sum(shrunk) > 10


def test_the_same_seed_is_the_same_history() -> None:
    for seed in range(10):
        assert elastic_run(random.Random(seed)).history == elastic_run(random.Random(seed)).history
