"""Whole clusters in simulation, through all kinds of trouble, against what must always be true.

What is judged, and how, is in `simulation`; what must hold inside the machine, in `invariants`.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from asparkle.core.scheduler import Determinism, JobSpec, SchedulerConf, StageSpec
from asparkle.plugins.schedulingpolicies import FAIR

from .invariants import check
from .simulation import (
    Chances,
    Simulation,
    Workload,
    random_chances,
    random_conf,
    random_run,
    stormy_run,
)

pytestmark = pytest.mark.slow

SLOW = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=60
)


@pytest.mark.parametrize("block", range(10))
def test_random_trouble(block: int) -> None:
    for seed in range(40 * block, 40 * block + 40):
        random_run(random.Random(seed))


@pytest.mark.parametrize("block", range(10))
def test_storms(block: int) -> None:
    for seed in range(15 * block, 15 * block + 15):
        stormy_run(random.Random(seed))


@SLOW
@given(st.randoms(use_true_random=False))
def test_trouble_of_hypothesis_own_choice(rng: random.Random) -> None:
    random_run(rng, jobs=3)


class Cluster(RuleBasedStateMachine):
    """Hypothesis says what happens, one thing after the other."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        rng = random.Random(seed)
        self.sim = Simulation(rng, random_conf(rng, max_failures=3), random_chances(rng), deep=False)
        self.work = Workload(rng, shaky=0.4, tasks=8)
        self.sim.add_executor()

    @rule(commits=st.booleans())
    def submit(self, commits: bool) -> None:
        self.sim.submit(self.work.job(), commits)

    @rule(n=st.integers(1, 30))
    def go_on(self, n: int) -> None:
        for _ in range(n):
            self.sim.step()

    @rule()
    def add_executor(self) -> None:
        self.sim.add_executor()

    @rule(blame=st.booleans(), survive=st.booleans(), told=st.booleans(), n=st.integers(0, 7))
    def kill_executor(self, blame: bool, survive: bool, told: bool, n: int) -> None:
        names = sorted(self.sim.workers)
        if names:
            self.sim.kill_executor(names[n % len(names)], blame=blame, survive=survive, told=told)

    @rule(n=st.integers(0, 99))
    def lose_a_file(self, n: int) -> None:
        files = self.sim.wanted_files() or sorted(self.sim.files)
        if files:
            del self.sim.files[files[n % len(files)]]

    @rule(n=st.integers(0, 99), how=st.sampled_from(["job", "group", "tag", "stage", "all"]))
    def cancel(self, n: int, how: str) -> None:
        live = [job.spec for job in self.sim.jobs.values() if not job.over]
        if live:
            spec = live[n % len(live)]
            which: dict[str, Any] = {
                "job": {"job": spec.job},
                "group": {"group": "g1"},
                "tag": {"tag": "t1"},
                "stage": {"stage": spec.stages[0].stage},
                "all": {},
            }[how]
            self.sim.cancel(**which)

    @invariant()
    def all_counts_agree(self) -> None:
        if hasattr(self, "sim"):
            check(self.sim.scheduler)

    def teardown(self) -> None:
        if hasattr(self, "sim"):
            self.sim.finish()


Cluster.TestCase.settings = settings(SLOW, stateful_step_count=30)
TestCluster = Cluster.TestCase


# ----------------------------------------------------------------------------------- at some scale


def large(seed: int) -> Simulation:
    """Three jobs over a common shuffle, 3,420 tasks in all, on executors that come and go."""
    rng = random.Random(seed)
    chances = Chances(
        fail=0.01,
        unpenalised=0.01,
        duplicate=0.05,
        delay=0.02,
        straggle=0.01,
        give_back=0.01,
        kill_executor=0.5,
        add_executor=0.5,
    )
    conf = SchedulerConf(max_failures=50, max_stage_attempts=1000, speculation=True, policy=FAIR())
    sim = Simulation(rng, conf, chances, deep=False, listening=True)
    names = [f"e{n}" for n in range(60)]
    for n, name in enumerate(names[:40]):
        sim.add_executor(name, f"h{n % 10}", 4)
    shared = StageSpec(0, 1500, (), 0)
    for job in range(3):
        stages = (
            shared,
            StageSpec(10 + job, 40, (0,), 10 + job, Determinism.INDETERMINATE),
            StageSpec(20 + job, 600, (10 + job,)),
        )
        sim.submit(JobSpec(job, stages, range(600), pool=f"p{job}"))
    for step in range(30_000):
        if all(job.over for job in sim.jobs.values()):
            break
        if step % 50 == 0:
            name = names[rng.randrange(len(names))]
            sim.add_executor(name, f"h{rng.randrange(10)}", 4)
            sim.fault()
        sim.step()
    sim.finish()
    return sim


def test_thousands_of_tasks_on_dying_executors_and_the_same_seed_is_the_same_history() -> None:
    first, second = large(1), large(1)
    assert all(job.failure is None for job in first.jobs.values())
    assert first.history == second.history
    assert first.emitted == second.emitted
    assert len(first.tids) > 3420 and sum(first.epochs.values()) > 100
    assert large(2).history != first.history
