"""What every scheduling policy is tested for."""

from __future__ import annotations

import itertools
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar, Final

import pytest

from asparkle.core.conf import SparkConf
from asparkle.core.contracts import PoolFacts, SchedulingPolicy, TaskSetFacts
from asparkle.core.shown import shown
from asparkle.testing.promises import Conformance, expect
from asparkle.testing.providing import providing
from asparkle.testing.simulation import SimulatedCluster

LOWEST: Final = "What the task set is compared by, the lowest first: a tuple of numbers"
POOL: Final = "The same, of a pool"
MANY: Final = 20_000


class SchedulingPolicyConformance(Conformance):
    """Tests a `SchedulingPolicy`: derive from it, name the class ``Test...``, and say how a policy is made.

        class TestMyPolicy(SchedulingPolicyConformance):
            def make(self, conf):
                return MyPolicy(conf)

    Which job goes first is the policy's own business, and tested by its author: with a `SimulatedCluster`, say.
    """

    quick: ClassVar[float] = 2.0
    """Seconds that 20,000 ranks may take, of which the scheduler asks for one whenever a task starts or ends."""

    @abstractmethod
    def make(self, conf: SparkConf) -> SchedulingPolicy:
        """A new policy, as a context makes it."""

    # ------------------------------------------------------------------------------------ what there is

    @pytest.fixture(autouse=True)
    def _with_a_policy(self) -> None:
        self.policy = self.make(SparkConf())

    def subject(self) -> str:
        return type(self.policy).__name__

    def is_rank(self, rank: object, facts: object) -> None:
        """One that can be compared with all others."""
        expect(isinstance(rank, tuple), f"returned {shown(rank)}, which is no tuple, for {facts}")
        assert isinstance(rank, tuple)
        numbers = all(isinstance(part, int | float) for part in rank)
        expect(numbers, f"returned {shown(rank)}, whose parts are not all numbers, for {facts}")
        expect(all(part == part for part in rank), f"returned {shown(rank)}, with NaN, for {facts}")

    # -------------------------------------------------------------------------------------- the promises

    def test_the_class_is_called_with_the_configuration(self) -> None:
        with self.promised("SchedulingPolicy", "The class is called with the context's `SparkConf`"):
            kind: Callable[[SparkConf], SchedulingPolicy] = type(self.policy)
            expect(isinstance(kind(SparkConf()), SchedulingPolicy), "is not a class derived from SchedulingPolicy")

    def test_any_task_set_has_a_rank(self) -> None:
        with self.promised("SchedulingPolicy.rank", LOWEST):
            for facts in task_sets():
                self.is_rank(self.policy.rank(facts), facts)

    def test_any_pool_has_a_rank(self) -> None:
        with self.promised("SchedulingPolicy.rank_pool", POOL):
            for facts in pools():
                self.is_rank(self.policy.rank_pool(facts), facts)

    def test_what_it_says_of_itself(self) -> None:
        with self.promised(
            "SchedulingPolicy.pools", "Whether, as the mode of a context, it shares slots between pools"
        ):
            expect(isinstance(self.policy.pools, bool), f"says pools = {self.policy.pools!r}")
        with self.promised("SchedulingPolicy.fixed", "Whether ranks depend on nothing that changes while tasks run"):
            expect(isinstance(self.policy.fixed, bool), f"says fixed = {self.policy.fixed!r}")

    def test_fixed_ranks_do_not_change_while_tasks_run(self) -> None:
        """They are not asked for again."""
        if not self.policy.fixed:
            pytest.skip("its ranks are not fixed")
        with self.promised("SchedulingPolicy.fixed", "Whether ranks depend on nothing that changes while tasks run"):
            for facts in task_sets():
                first = self.policy.rank(facts._replace(left=facts.tasks, running=0))
                later = self.policy.rank(facts)
                expect(first == later, f"says fixed, and ranked {facts} {later}, which had been {first} as it began")
            for pool in pools() if self.policy.pools else ():
                idle, busy = self.policy.rank_pool(pool._replace(running=0)), self.policy.rank_pool(pool)
                expect(idle == busy, f"says fixed, and ranked {pool} {busy}, which had been {idle} as it began")

    def test_what_it_is_told_is_not_changed(self) -> None:
        """The properties are the job's own: its tasks get them."""
        with self.promised("SchedulingPolicy", "What it is told is not its to change"):
            for facts in task_sets():
                before = dict(facts.properties)
                self.policy.rank(facts)
                expect(facts.properties == before, f"made {dict(facts.properties)} of the properties {before}")

    def test_it_is_quick(self) -> None:
        sets, of_pools = list(task_sets()), list(pools())
        with self.promised("SchedulingPolicy", "must be quick", within=self.quick):
            for facts in itertools.islice(itertools.cycle(sets), MANY):
                self.policy.rank(facts)
        with self.promised("SchedulingPolicy", "must be quick", within=self.quick):
            for pool in itertools.islice(itertools.cycle(of_pools), MANY if self.policy.pools else 0):
                self.policy.rank_pool(pool)

    def test_many_task_sets_are_still_quick(self) -> None:
        """A policy that keeps what it was told looks through more and more of it."""
        with self.promised("SchedulingPolicy", "must be quick", within=self.quick):
            for stage in range(MANY):
                self.policy.rank(TaskSetFacts(stage, "map at job.py:7", "default", stage, {}, 10, 10, 0))

    @pytest.mark.parametrize("mode", ["of the context", "of a pool"])
    def test_the_scheduler_uses_it(self, mode: str) -> None:
        """The real one, with executors that only pretend: whoever goes first, all jobs end, and no slot is idle."""
        with self.promised("SchedulingPolicy", "Which jobs get free slots first", within=30.0):
            cluster = self._cluster(mode)
            jobs = [cluster.submit(5 * i % 13 + 1, i % 3 + 1, pool=f"pool {i % 3}", name=f"job {i}") for i in range(20)]
            cluster.at(3.5, lambda: cluster.lose("e1", blocks_survive=False))
            cluster.at(4.5, lambda: cluster.cancel(jobs[7]))
            cluster.run()
            for i, job in enumerate(jobs):
                expect(job.ended is not None, f"left job {i} waiting for ever")
                failed = job.failure and i != 7
                expect(not failed, f"made job {i} fail: {job.failure}")

    def _cluster(self, mode: str) -> SimulatedCluster:
        if mode == "of the context":
            shares = {f"pool {i}": (None, i + 1, i) for i in range(2)}
            return SimulatedCluster(4, slots=2, policy=self.policy, pools=shares)
        from asparkle.plugins.schedulingpolicies import FAIR

        settings = {f"pool {i}": (self.make(SparkConf()), i + 1, i) for i in range(3)}
        return SimulatedCluster(4, slots=2, policy=FAIR(), pools=settings)

    def test_contexts_have_policies_of_their_own(self) -> None:
        with self.promised("SchedulingPolicy", "once for ``spark.scheduler.mode``, and once for each pool"):
            first, second = self.make(SparkConf()), self.make(SparkConf())
            expect(first is not second, "is one object for several contexts")
            for facts in task_sets():
                self.is_rank(first.rank(facts), facts)
            for facts in reversed(list(task_sets())):
                self.is_rank(second.rank(facts), facts)

    @pytest.mark.parametrize("mode", ["of the context", "of a pool"])
    def test_a_job_uses_it(self, mode: str, request: pytest.FixtureRequest) -> None:
        """Jobs of a real context, some of them at once, in pools; asparkle has nothing to say against the policy."""
        from asparkle import SparkContext

        plugins, name = providing(SchedulingPolicy, type(self.policy))
        file = self.directory / "pools.toml"
        file.write_text(f'[pool.first]\nweight = 2\nminShare = 1\n[pool.second]\nschedulingMode = "{name}"\n')
        conf = SparkConf().set("spark.local.dir", str(self.directory))
        conf.set("spark.scheduler.mode", name if mode == "of the context" else "FAIR")
        if mode == "of a pool" or self.policy.pools:
            conf.set("spark.scheduler.allocation.file", str(file))
        told = _Errors()
        logging.getLogger().addHandler(told)
        try:
            with (
                self.promised("SchedulingPolicy", "Which jobs get free slots first", within=30.0),
                SparkContext("threads[2]", conf=conf, plugins=plugins) as sc,
            ):
                handles = []
                for i in range(8):
                    sc.setLocalProperty("spark.scheduler.pool", ("first", "second", None)[i % 3])
                    pairs = sc.parallelize(range(100), 4).map(lambda x: (x % 5, x))
                    handles.append(sc.submit(pairs.reduceByKey(lambda a, b: a + b, 2).count))
                for handle in handles:
                    found = handle.result(20)
                    expect(found == 5, f"made a job return {shown(found)}, not 5")
        finally:
            logging.getLogger().removeHandler(told)
        with self.promised("SchedulingPolicy", "is not asked again: an error is logged that names it"):
            expect(not told.messages, f"failed in a job: {told.messages[0] if told.messages else ''}")


class _Errors(logging.Handler):
    """What asparkle has to say of a plugin's policy that failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "scheduling policy" in message:
            self.messages.append(message)


def task_sets() -> Iterator[TaskSetFacts]:
    """Task sets as there may be: of one task or of many, idle, busy, nearly done, speculating, with properties."""
    properties = {"spark.scheduler.pool": "p", "spark.jobGroup.id": "g", "mine": "not a number", "empty": ""}
    stage = itertools.count()
    for tasks, pool, own in itertools.product((1, 2, 100, 1_000_000), ("default", "", "ünï cödé"), ({}, properties)):
        for left, running in {(tasks, 0), (tasks, 1), (tasks, tasks), (1, 0), (1, 2), (0, 0), (0, 1)}:
            number = next(stage)
            yield TaskSetFacts(number, f"map at job.py:{number}", pool, number // 3, dict(own), tasks, left, running)


def pools() -> Iterator[PoolFacts]:
    """Pools as there may be, with a minimum share or without, running more or less than that."""
    for weight, share, running in itertools.product((1, 2, 1_000_000), (0, 1, 1000), (0, 1, 999, 1_000_000)):
        yield PoolFacts(f"pool {weight}", weight, share, running)
        yield PoolFacts("default", weight, share, running)
