"""What went wrong once, each in the fewest events that show it."""

from __future__ import annotations

from asparkle.core.scheduler import FailureKind, Kill, Launch

from .bench import Bench, failed, result


def test_a_job_that_fails_by_exclusion_launches_nothing_in_the_same_turn() -> None:
    """Its Kill came before the Launch of what it killed (random_run of seed 108)."""
    bench = Bench(exclude=True).executor("a")
    job = bench.job(result(0, 3))
    bench.fail((0, 0))
    failed(bench, job, FailureKind.EXCLUDED)
    assert bench.get(Launch) == bench.get(Kill) == []


def test_what_has_a_slot_is_launched_before_what_is_sent_ahead() -> None:
    """An executor runs what comes first: (0, 1) was in the batch of (0, 0) and took the slot of (1, 0), so
    that a barrier task had none (random_run of seed 5100)."""
    bench = Bench(prefetch_horizon=1.0, policy="FAIR")
    bench.job(result(0, 9), pool="x")
    bench.job(result(1, 9), pool="y")
    bench.executor("a", 2)
    running = set(bench.scheduler.executors()[0].running)
    sent = [task.tid for launch in bench.get(Launch) for task in launch.tasks]
    assert len(sent) == 4
    assert set(sent[:2]) == running


def test_a_barrier_stage_that_ties_with_a_busy_pool_gets_its_slots() -> None:
    """Each time all of the pool's tasks had ended the tie went by name, and a slot to the pool."""
    bench = Bench(policy="FAIR").executor("a", 2)
    bench.job(result(0, 100), pool="a")
    bench.job(result(1, 2, barrier=True), pool="b")
    bench.succeed((0, 0), (0, 1))
    assert bench.launched == [(1, 0), (1, 1)]


def test_a_barrier_stage_whose_tasks_all_prefer_hosts_is_launched() -> None:
    """It was held for these hosts, and held sets were not ranked."""
    bench = Bench().executor("a", 2).executor("b", 2)
    bench.job(result(0, 2, barrier=True, hosts=[["host-b"], ["host-b"]]))
    assert set(bench.placed.values()) == {"b"}


def test_a_task_barred_from_all_executors_that_come_later_fails_its_job() -> None:
    """It was looked at only when executors went (random_run of seed 6589)."""
    bench = Bench(exclude=True, exclude_task_node=1).executor("a", host="h")
    job = bench.job(result(0, 1))
    bench.lose("a").executor("b", host="h")
    failed(bench, job, FailureKind.EXCLUDED)


def test_what_ends_in_the_turn_in_which_it_would_be_recalled_is_not_recalled() -> None:
    """A timer rings before the event that comes with it is looked at (found by hypothesis)."""
    bench = Bench(prefetch_horizon=0.005).executor("a", 1)
    bench.job(result(0, 2))
    bench.executor("b", 1)
    bench.now = 1.0
    bench.cancel()
    assert bench.killed == [0, 1]
    assert bench.recalled == []
