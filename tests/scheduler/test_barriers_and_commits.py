"""Barrier stages, and the authority to commit."""

from __future__ import annotations

import pytest

from asparkle.core.scheduler import FailureKind, Launch, ReleaseBarrier, TakeResult

from .bench import Bench, failed, result, stage
from .invariants import leftovers


class TestBarrierLaunch:
    def test_all_tasks_are_launched_at_once_with_their_peers(self) -> None:
        bench = Bench(prefetch_horizon=1.0).executor("a", 2).executor("b", 2)
        bench.job(result(0, 3, barrier=True))
        launches = bench.get(Launch)
        assert sorted(bench.launched) == [(0, 0), (0, 1), (0, 2)]
        for launch in launches:
            assert launch.peers is not None
            assert [launch.peers[task.partition] for task in launch.tasks] == [launch.executor] * len(launch.tasks)

    def test_or_none(self) -> None:
        bench = Bench().executor("a", 3)
        bench.job(result(0, 1))
        bench.job(result(1, 3, barrier=True))
        assert bench.launched == []
        bench.succeed((0, 0))
        assert sorted(bench.launched) == [(1, 0), (1, 1), (1, 2)]

    def test_free_slots_are_kept_for_it_against_later_jobs(self) -> None:
        bench = Bench().executor("a", 2)
        bench.job(result(0, 2))
        bench.job(result(1, 2, barrier=True))
        bench.job(result(2, 50))
        bench.succeed((0, 0))
        assert bench.launched == []
        bench.succeed((0, 1))
        assert sorted(bench.launched) == [(1, 0), (1, 1)]

    def test_but_not_against_earlier_ones(self) -> None:
        bench = Bench().executor("a", 2)
        bench.job(result(0, 3))
        bench.job(result(1, 2, barrier=True))
        bench.succeed((0, 0))
        assert bench.launched == [(0, 2)]

    def test_under_fair_it_is_not_starved_by_a_busy_pool(self) -> None:
        bench = Bench(policy="FAIR").executor("a", 2)
        bench.job(result(0, 1000), pool="x")
        bench.job(result(1, 2, barrier=True), pool="y")
        for _ in range(5):
            if (1, 0) in bench.launched:
                break
            bench.succeed(min(bench.scheduler._fleet.attempts))
        assert sorted(bench.launched) == [(1, 0), (1, 1)]

    def test_nothing_is_sent_behind_its_tasks(self) -> None:
        bench = Bench(prefetch_horizon=1.0)
        bench.job(result(0, 2, barrier=True))
        bench.job(result(1, 9))
        bench.executor("a", 3)
        assert sum(view.queued for view in bench.scheduler.executors()) == 1  # behind the third slot's

    def test_near_their_input_if_possible(self) -> None:
        bench = Bench().executor("a", 2).executor("b", 2)
        bench.job(result(0, 3, barrier=True, hosts=[["host-b"], ["host-a"], ["host-b"]]))
        assert bench.placed == {(0, 0): "b", (0, 1): "a", (0, 2): "b"}

    def test_too_few_slots_hold_up_nobody_and_fail_the_job_in_the_end(self) -> None:
        bench = Bench(barrier_slot_wait=15.0).executor("a", 2)
        job = bench.job(result(0, 3, barrier=True))
        bench.job(result(1, 1))
        assert bench.launched == [(1, 0)]
        bench.wait(14.0)
        assert bench.outcome(job) is None
        bench.wait(2.0)
        assert "needs 3 slots" in failed(bench, job, FailureKind.BARRIER).reason

    def test_slots_that_come_in_time_save_it(self) -> None:
        bench = Bench(barrier_slot_wait=15.0).executor("a", 2)
        job = bench.job(result(0, 3, barrier=True))
        bench.wait(14.0)
        bench.executor("b", 1).wait(20.0)
        bench.run()
        assert bench.outcome(job) == "success"

    def test_slots_that_go_again_make_it_wait_anew(self) -> None:
        bench = Bench(barrier_slot_wait=15.0).executor("a", 2)
        bench.job(result(9, 2))
        job = bench.job(result(0, 3, barrier=True))
        bench.wait(14.0)
        bench.executor("b", 1).wait(5.0)
        bench.lose("b").wait(14.0)
        assert bench.outcome(job) is None
        bench.wait(2.0)
        failed(bench, job, FailureKind.BARRIER)


class TestBarrierFailure:
    def running(self, **conf: object) -> Bench:
        bench = Bench(**conf).executor("a", 3)  # type: ignore[arg-type]
        bench.job(result(0, 3, barrier=True))
        return bench

    def test_one_failure_ends_the_attempt_and_all_are_launched_again(self) -> None:
        bench = self.running()
        bench.fail((0, 1))
        assert sorted(bench.killed) == [0, 2]
        bench.killed_ok(0)
        assert bench.launched == []
        bench.killed_ok(2)
        assert sorted(bench.launched) == [(0, 0), (0, 1), (0, 2)]
        assert {task.stage_attempt for task in bench.get(Launch)[0].tasks} == {1}

    def test_what_had_succeeded_is_computed_again_and_never_seen(self) -> None:
        bench = self.running()
        bench.succeed((0, 0))
        assert bench.said == []
        bench.fail((0, 1)).killed_ok(2)
        bench.succeed((0, 0), (0, 1), (0, 2))
        assert [take.tid for take in bench.get(TakeResult, ever=True)] == [3, 4, 5]
        assert bench.outcome(1) == "success"

    def test_failures_count_to_the_limit(self) -> None:
        bench = self.running(max_failures=2)
        bench.fail((0, 1)).killed_ok(0, 2)
        bench.fail((0, 1))
        failed(bench, 1, FailureKind.TASK)

    def test_a_lost_executor_ends_the_attempt_and_blames_one_task(self) -> None:
        bench = Bench(max_failures=2).executor("a", 2).executor("b", 2)
        job = bench.job(result(0, 3, barrier=True))
        lost = max("ab", key=list(bench.placed.values()).count)
        bench.lose(lost)
        assert [bench.where[tid][0] for tid in bench.killed] == ["a" if lost == "b" else "b"]
        bench.killed_ok(*bench.killed).executor("c", 2)
        assert len(bench.launched) == 3
        bench.run()
        assert bench.outcome(job) == "success"

    def test_a_fetch_failure_ends_the_attempt(self) -> None:
        bench = Bench().executor("a", 2)
        bench.job(stage(0, 1), result(1, 2, [0], barrier=True))
        bench.succeed((0, 0)).fetch_failed((1, 0), 0, 0)
        assert bench.killed == [bench.tid(1, 1)]
        assert bench.launched == [(0, 0)]
        bench.killed_ok(*bench.killed)
        bench.run()
        assert bench.outcome(1) == "success"

    def test_lost_outputs_of_a_barrier_stage_are_all_computed_again(self) -> None:
        bench = Bench().executor("a", 2)
        bench.job(stage(0, 2, barrier=True), result(1, 1, [0]))
        bench.succeed((0, 0), (0, 1)).fetch_failed((1, 0), 0, 1)
        assert sorted(bench.launched) == [(0, 0), (0, 1)]

    def test_a_late_success_of_the_old_attempt_is_ignored(self) -> None:
        bench = self.running()
        bench.fail((0, 1)).succeed(0)
        assert bench.said == []


class TestBarrierRounds:
    def test_all_are_released_when_the_last_has_come(self) -> None:
        bench = Bench().executor("a", 3)
        bench.job(result(0, 3, barrier=True))
        bench.barrier(2, 0, "c").barrier(0, 0, "a")
        assert bench.get(ReleaseBarrier) == []
        bench.barrier(1, 0, "b")
        assert [(r.tid, r.round, tuple(r.messages)) for r in bench.get(ReleaseBarrier)] == [
            (tid, 0, ("a", "b", "c")) for tid in range(3)
        ]

    def test_round_by_round_and_twice_said_is_said_once(self) -> None:
        bench = Bench().executor("a", 2)
        bench.job(result(0, 2, barrier=True))
        bench.barrier(0, 0).barrier(0, 0).barrier(1, 0)
        bench.barrier(0, 0)
        bench.barrier(0, 1)
        assert bench.get(ReleaseBarrier) == []
        bench.barrier(1, 1)
        assert [release.round for release in bench.get(ReleaseBarrier)] == [1, 1]

    def test_a_new_attempt_begins_with_round_0(self) -> None:
        bench = Bench().executor("a", 2)
        bench.job(result(0, 2, barrier=True))
        bench.barrier(0, 0).barrier(1, 0).barrier(0, 1).fail(1).killed_ok(0)
        bench.barrier(2, 0).barrier(3, 0)
        assert len(bench.get(ReleaseBarrier)) == 2

    def test_a_task_that_does_not_come_in_time_fails_the_attempt(self) -> None:
        bench = Bench(barrier_timeout=10.0, max_failures=1).executor("a", 2)
        job = bench.job(result(0, 2, barrier=True))
        bench.barrier(0, 0).wait(9.0)
        assert bench.outcome(job) is None
        bench.wait(2.0)
        assert "[1] did not come" in failed(bench, job, FailureKind.TASK).reason

    def test_a_task_that_came_too_late_is_ended_like_the_others(self) -> None:
        """It went on, and what it then returned was taken for the next attempt's."""
        bench = Bench(barrier_timeout=10.0).executor("a", 4)
        job = bench.job(result(0, 2, barrier=True))
        bench.barrier(0, 0).wait(11.0)
        assert sorted(bench.killed) == [0, 1]
        assert sorted(bench.launched) == [(0, 0), (0, 1)]
        bench.succeed(1, 2, 3)
        assert bench.outcome(job) == "success"
        assert [take.tid for take in bench.get(TakeResult, ever=True)] == [2, 3]

    @pytest.mark.parametrize("first", ["ends", "waits"])
    def test_a_task_that_ends_without_a_barrier_to_which_others_come_fails_the_attempt(self, first: str) -> None:
        """It had to time out; and then there was no attempt to charge with it, which ended the application."""
        bench = Bench(max_failures=2).executor("a", 3)
        job = bench.job(result(0, 3, barrier=True))
        for tids in ([0, 1, 2], [3, 4, 5]):
            assert bench.outcome(job) is None
            if first == "ends":
                bench.succeed(tids[0]).barrier(tids[1], 0)
            else:
                bench.barrier(tids[1], 0).succeed(tids[0])
            assert sorted(bench.killed) == tids[1:]
            bench.killed_ok(*tids[1:])
        reason = failed(bench, job, FailureKind.TASK).reason
        assert reason.endswith("barrier 0 can't be passed: tasks [0] ended without coming to it")
        assert leftovers(bench.scheduler) == []

    def test_nothing_remains(self) -> None:
        bench = Bench().executor("a", 2)
        bench.job(result(0, 2, barrier=True))
        bench.barrier(0, 0)
        bench.cancel()
        bench.killed_ok(0, 1)
        assert leftovers(bench.scheduler) == []
        assert bench.scheduler.next_deadline() is None


class TestCommit:
    def twins(self) -> tuple[Bench, int, int]:
        """Two attempts at one partition."""
        bench = Bench(speculation=True, speculation_quantile=0.5).executor("a", 1, "h").executor("b", 1, "i")
        bench.job(result(0, 2))
        bench.wait(1.0).succeed(0).wait(10.0)
        return bench, 1, 2

    def test_the_first_who_asks_may(self) -> None:
        bench, first, second = self.twins()
        assert bench.commit(second)
        assert not bench.commit(first)

    def test_asking_again_gets_the_same_answer(self) -> None:
        bench, first, second = self.twins()
        assert bench.commit(first) and bench.commit(first)
        assert not bench.commit(second)

    def test_when_the_holder_has_failed_another_may(self) -> None:
        bench, first, second = self.twins()
        bench.commit(first)
        bench.fail(first)
        assert bench.commit(second)

    def test_or_when_it_was_lost(self) -> None:
        bench, first, second = self.twins()
        bench.commit(first)
        bench.lose(bench.where[first][0])
        assert bench.commit(second)

    def test_a_killed_attempt_may_not(self) -> None:
        bench = Bench().executor("a")
        bench.cancel(job=bench.job(result(0, 1)))
        assert not bench.commit(0)

    def test_nor_one_that_is_settled_or_unknown(self) -> None:
        bench = Bench().executor("a", 2)
        bench.job(result(0, 2))
        bench.succeed(0)
        assert not bench.commit(0)
        bench.where[99] = ("nobody", 3)
        assert not bench.commit(99)

    def test_partitions_commit_independently(self) -> None:
        bench = Bench().executor("a", 2)
        bench.job(result(0, 2))
        assert bench.commit(0) and bench.commit(1)

    def test_a_killed_holder_keeps_it_until_it_answers(self) -> None:
        bench = Bench().executor("a", 3)
        from asparkle.core.scheduler import Determinism

        bench.job(stage(0, 1, determinism=Determinism.INDETERMINATE), result(1, 2, [0]))
        bench.succeed((0, 0))
        holder = bench.tid(1, 0)
        assert bench.commit(holder)
        bench.fetch_failed((1, 1), 0, 0)
        assert bench.killed == [holder]
        bench.succeed((0, 0))
        again = bench.tid(1, 0)
        assert again != holder
        assert not bench.commit(again)
        bench.killed_ok(holder)
        assert bench.commit(again)
