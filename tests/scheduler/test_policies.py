"""Scheduling policies: what a third party's decides, and that one which fails disturbs nobody."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest

from asparkle.plugins import PoolFacts, Rank, SchedulingPolicy, TaskSetFacts
from asparkle.plugins.guards import GuardedPolicy
from asparkle.plugins.schedulingpolicies import FAIR

from .bench import Bench, result, stage
from .simulation import random_conf, random_run


class Smallest(SchedulingPolicy):
    """The stage goes first that has the fewest tasks left."""

    def rank(self, tasks: TaskSetFacts) -> Rank:
        return (tasks.left,)


class ByProperty(SchedulingPolicy):
    """Jobs say how urgent they are."""

    fixed = True

    def rank(self, tasks: TaskSetFacts) -> Rank:
        return (-int(tasks.properties.get("urgency", 0)),)


class ByName(SchedulingPolicy):
    """Pools by the length of their names."""

    pools = True
    fixed = True

    def rank(self, tasks: TaskSetFacts) -> Rank:
        raise AssertionError("pools rank their task sets by their own modes")

    def rank_pool(self, pool: PoolFacts) -> Rank:
        return (len(pool.name),)


def order(bench: Bench) -> list[int]:
    """The stages of all attempts, in the order in which they were launched."""
    bench.run()
    return [task.stage for _, task in sorted(bench.tasks.items())]


class TestRanks:
    def test_a_policy_ranks_stages_by_what_is_left_of_them(self) -> None:
        bench = Bench(policy=Smallest()).executor("a", 1)
        bench.job(result(0, 5))
        bench.job(result(1, 3))
        bench.job(result(2, 1))
        assert order(bench) == [0, 2, 1, 1, 1, 0, 0, 0, 0]

    def test_ranks_change_as_tasks_end(self) -> None:
        bench = Bench(policy=Smallest()).executor("a", 1)
        bench.job(result(0, 4))
        bench.succeed((0, 0)).succeed((0, 1))
        bench.job(result(1, 3))  # two of the first are left
        assert order(bench) == [0, 0, 0, 0, 1, 1, 1]

    def test_equal_ranks_go_in_the_order_of_submission(self) -> None:
        bench = Bench(policy=Smallest()).executor("a", 1)
        for number in range(4):
            bench.job(result(number, 1))
        assert order(bench) == [0, 1, 2, 3]

    def test_a_policy_sees_the_properties_of_jobs(self) -> None:
        bench = Bench(policy=ByProperty()).executor("a", 1)
        bench.job(result(0, 2))
        bench.job(result(1, 2), properties={"urgency": "1"})
        bench.job(result(2, 2), properties={"urgency": "2"})
        assert order(bench) == [0, 2, 2, 1, 1, 0]

    def test_a_policy_is_told_the_facts(self) -> None:
        told: list[TaskSetFacts] = []

        class Told(SchedulingPolicy):
            def rank(self, tasks: TaskSetFacts) -> Rank:
                told.append(tasks)
                return ()

        bench = Bench(policy=Told()).executor("a", 2)
        bench.job(stage(7, 3, name="map"), result(8, 1, [7]), pool="x", properties={"k": "v"})
        bench.succeed((7, 0))
        bench.run()
        first = TaskSetFacts(7, "map", "x", told[0].submission, {"k": "v"}, tasks=3, left=3, running=0)
        assert told[0] == first
        assert first._replace(left=2, running=2) in told
        assert any(facts.stage == 8 for facts in told)

    def test_a_policy_with_pools_leaves_task_sets_to_their_pools(self) -> None:
        bench = Bench(policy=ByName()).executor("a", 1)
        bench.job(result(0, 2), pool="long")
        bench.job(result(1, 2), pool="xx")
        bench.job(result(2, 2), pool="x")
        bench.job(result(3, 1), pool="x")
        assert order(bench) == [0, 2, 2, 3, 1, 1, 0]

    def test_a_pool_may_have_such_a_policy(self) -> None:
        bench = Bench(policy=FAIR(), pools={"x": (Smallest(), 1, 0)}).executor("a", 1)
        bench.job(result(0, 4), pool="x")
        bench.job(result(1, 2), pool="x")
        assert order(bench) == [0, 1, 1, 0, 0, 0]

    def test_a_fixed_rank_is_asked_for_once(self) -> None:
        asked = []

        class Asked(ByProperty):
            def rank(self, tasks: TaskSetFacts) -> Rank:
                asked.append(tasks.stage)
                return super().rank(tasks)

        bench = Bench(policy=Asked()).executor("a", 2)
        bench.job(stage(0, 20), result(1, 5, [0]))
        bench.run()
        assert asked == [0, 1]


class Failing(SchedulingPolicy):
    """Fails from the ``after``-th rank on, in some way."""

    def __init__(self, how: Any, after: int = 0, pools: bool = False) -> None:
        self.how, self.left, self.pools = how, after, pools

    def rank(self, tasks: TaskSetFacts) -> Rank:
        self.left -= 1
        return (-tasks.submission,) if self.left >= 0 else self.how(tasks)

    def rank_pool(self, pool: PoolFacts) -> Rank:
        return self.rank(TaskSetFacts(0, "", pool.name, 0, {}, 0, 0, 0))


FAILURES = {
    "raises": (lambda facts: 1 / 0, "raised ZeroDivisionError: division by zero"),
    "no attribute": (lambda facts: facts.lenght, "raised AttributeError"),
    "none": (lambda facts: None, "returned None: expected a tuple of numbers"),
    "number": (lambda facts: 3, "returned 3: expected a tuple of numbers"),
    "text": (lambda facts: ("a",), "returned ('a',): expected a tuple of numbers"),
    "nan": (lambda facts: (float("nan"),), "returned (nan,): expected a tuple of numbers"),
}


class TestFailures:
    @pytest.mark.parametrize("kind", FAILURES)
    @pytest.mark.parametrize("after", [0, 3])
    @pytest.mark.parametrize("pools", [False, True])
    def test_a_policy_that_fails_is_named_and_not_asked_again(
        self, kind: str, after: int, pools: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        how, problem = FAILURES[kind]
        policy = GuardedPolicy(Failing(how, after, pools), "moon", "TIDAL")
        bench = Bench(policy=policy).executor("a", 2)
        with caplog.at_level(logging.ERROR, "asparkle"):
            jobs = [bench.job(stage(2 * i, 3), result(2 * i + 1, 2, [2 * i]), pool=f"p{i}") for i in range(4)]
            bench.run()
        assert [bench.outcome(job) for job in jobs] == ["success"] * 4
        (message,) = caplog.messages
        assert "plugin 'moon': scheduling policy 'TIDAL': rank" in message and problem in message

    def test_after_it_jobs_go_in_the_order_of_submission(self) -> None:
        policy = GuardedPolicy(Failing(lambda facts: None), "moon", "TIDAL")
        bench = Bench(policy=policy).executor("a", 1)
        for number in range(3):
            bench.job(result(number, 2))
        assert order(bench) == [0, 0, 1, 1, 2, 2]

    def test_what_it_ranked_before_goes_first(self) -> None:
        policy = GuardedPolicy(Failing(lambda facts: None, after=3), "moon", "TIDAL")
        policy.fixed = True
        bench = Bench(policy=policy).executor("a", 1)
        for number in range(5):  # the last first, of the three that are ranked
            bench.job(result(number, 2))
        assert order(bench) == [0, 2, 2, 1, 1, 0, 3, 3, 4, 4]


class TestSimulated:
    @pytest.mark.parametrize("seed", range(15))
    def test_with_smallest_first_everything_holds_that_must(self, seed: int) -> None:
        rng = random.Random(seed)
        random_run(rng, conf=random_conf(rng, policy=Smallest()))

    @pytest.mark.parametrize("seed", range(25))
    def test_with_ranks_thrown_like_dice_everything_holds_that_must(self, seed: int) -> None:
        rng, dice = random.Random(seed), random.Random(seed)

        class Dice(SchedulingPolicy):
            pools = seed % 2 == 0
            fixed = seed % 5 == 0

            def rank(self, tasks: TaskSetFacts) -> Rank:
                return tuple(dice.random() for _ in range(dice.randrange(3)))

            def rank_pool(self, pool: PoolFacts) -> Rank:
                return (dice.choice([0, 1, -1e300, float("inf"), True]),)

        random_run(rng, conf=random_conf(rng, policy=Dice(), pools={"a": (Dice(), 1, 0)}))
