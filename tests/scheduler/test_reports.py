"""Reports that are late, doubled, stale or about the wrong thing change nothing."""

from __future__ import annotations

import pytest

from asparkle.core.scheduler import (
    Accept,
    ExecutorAdded,
    ExecutorLost,
    FetchFailed,
    TakeResult,
    TaskFailed,
    TasksReturned,
    TaskStarted,
    TaskSucceeded,
)

from .bench import Bench, result, stage

REPORTS = [
    lambda *where: TaskSucceeded(*where, 1.0, "again", "updates"),
    lambda *where: TaskFailed(*where, "boom", fatal=True),
    lambda *where: FetchFailed(*where, 0, 0, 0),
    lambda *where: TasksReturned(*where[:2], [where[2]]),
    lambda *where: TaskStarted(*where),
]


@pytest.mark.parametrize("report", REPORTS)
def test_about_an_attempt_that_is_settled(report: object) -> None:
    bench = Bench().executor("a", 3)
    bench.job(stage(0, 1), result(1, 2, [0]))
    bench.succeed((0, 0))
    bench.tell(report("a", 0, 0))  # type: ignore[operator]
    assert bench.said == []
    assert bench.scheduler.shuffle_complete(0)


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("where", [("a", 0), ("b", 1), ("b", 0), ("nobody", 1), ("a", 2)])
def test_from_another_executor_or_epoch(report: object, where: tuple[str, int]) -> None:
    bench = Bench().executor("a").lose("a").executor("b").lose("b").executor("a").executor("b")
    bench.job(result(0, 1))
    tid = bench.tid(0, 0)
    assert bench.where[tid] == ("a", 1)
    bench.tell(report(*where, tid))  # type: ignore[operator]
    assert bench.said == []
    bench.succeed(tid)
    assert bench.get(TakeResult)


def test_a_doubled_success_is_taken_once() -> None:
    bench = Bench().executor("a", 2)
    bench.job(result(0, 2))
    bench.succeed(0).succeed(0)
    assert len(bench.get(TakeResult, ever=True)) == len(bench.get(Accept, ever=True)) == 1


def test_an_executor_that_is_added_twice_is_one() -> None:
    bench = Bench().executor("a", 2)
    bench.tell(ExecutorAdded("a", 0, "host-a", 2))
    assert bench.scheduler._fleet.slots == 2


def test_a_lost_executor_is_not_revived_by_a_late_report() -> None:
    bench = Bench().executor("a").lose("a")
    bench.tell(ExecutorAdded("a", 0, "host-a", 2))
    assert bench.scheduler.executors() == []


def test_an_executor_whose_loss_is_heard_of_first_never_comes() -> None:
    bench = Bench().tell(ExecutorLost("a", 0, "gone")).tell(ExecutorAdded("a", 0, "host-a", 2))
    assert bench.scheduler.executors() == []


def test_a_new_epoch_without_a_loss_loses_the_old_one_unblamed() -> None:
    bench = Bench(max_failures=1).executor("a")
    job = bench.job(result(0, 1))
    bench.executor("a")
    assert bench.placed == {(0, 0): "a"}
    assert bench.where[bench.tid(0, 0)] == ("a", 1)
    bench.run()
    assert bench.outcome(job) == "success"


def test_the_loss_of_an_older_epoch_is_no_loss() -> None:
    bench = Bench().executor("a").executor("a")
    bench.tell(ExecutorLost("a", 0, "gone"))
    assert [view.epoch for view in bench.scheduler.executors()] == [1]


def test_a_started_report_may_come_after_the_end() -> None:
    bench = Bench().executor("a")
    bench.job(result(0, 2))
    bench.succeed(0)
    bench.tell(TaskStarted("a", 0, 0))
    assert bench.scheduler.executors()[0].running == (1,)


class TestZombies:
    """Killed attempts that succeed all the same."""

    def test_a_late_map_output_is_used_if_its_partition_is_still_wanted(self) -> None:
        bench = Bench().executor("a")
        first = bench.job(stage(0, 1), result(1, 1, [0]))
        bench.cancel(job=first)
        bench.job(stage(0, 1), result(2, 1, [0]))
        assert bench.launched == []  # the slot is taken by the killed attempt
        bench.succeed(0)
        assert bench.launched == [(2, 0)]
        assert bench.get(Accept) == [Accept(0, 0, 0, "upd-0")]

    def test_and_the_attempt_that_replaced_it_is_killed(self) -> None:
        bench = Bench().executor("a", 2)
        first = bench.job(stage(0, 1), result(1, 1, [0]))
        bench.cancel(job=first)
        bench.job(stage(0, 1), result(2, 1, [0]))
        assert bench.launched == [(0, 0)]
        bench.succeed(0)
        assert bench.killed == [1]
        assert bench.launched == [(2, 0)]

    def test_it_is_not_used_if_nobody_wants_it(self) -> None:
        bench = Bench().executor("a")
        bench.cancel(job=bench.job(stage(0, 1), result(1, 1, [0])))
        bench.succeed(0)
        assert bench.said == []
        assert not bench.scheduler.shuffle_complete(0)

    def test_its_failure_is_not_counted(self) -> None:
        bench = Bench(max_failures=1).executor("a", 2)
        bench.cancel(job=bench.job(stage(0, 1), result(1, 1, [0])))
        second = bench.job(stage(0, 1), result(2, 1, [0]))
        bench.fail(0)
        bench.run()
        assert bench.outcome(second) == "success"
