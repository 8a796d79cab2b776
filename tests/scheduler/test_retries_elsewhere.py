"""Exclusion and speculation: keeping away from bad places, and a second attempt at slow tasks."""

from __future__ import annotations

from asparkle.core.events import ExecutorExcluded, ExecutorReadmitted
from asparkle.core.scheduler import Emit, ExecutorLost, FailureKind, Launch, TakeResult

from .bench import Bench, failed, result, stage
from .invariants import leftovers


class TestExclusion:
    def test_is_off_unless_asked_for(self) -> None:
        bench = Bench().executor("a").executor("b")
        bench.job(result(0, 1))
        bench.fail((0, 0))
        assert len(bench.placed) == 1

    def test_a_task_is_not_tried_again_where_it_failed(self) -> None:
        bench = Bench(exclude=True).executor("a", host="h").executor("b", host="i")
        bench.job(result(0, 1))
        first = bench.where[bench.tid(0, 0)][0]
        bench.fail((0, 0))
        assert bench.placed == {(0, 0): "b" if first == "a" else "a"}

    def test_nor_on_a_host_where_it_failed_twice(self) -> None:
        bench = Bench(exclude=True)
        for name in "abc":
            bench.executor(name, host="h")
        bench.job(result(0, 1))
        bench.executor("z", host="i")
        bench.fail((0, 0))
        assert bench.placed[0, 0] in "bc"
        bench.fail((0, 0))
        assert bench.placed == {(0, 0): "z"}

    def test_other_tasks_still_run_there(self) -> None:
        bench = Bench(exclude=True).executor("a").executor("b")
        bench.job(result(0, 3))
        bench.fail((0, 0))
        assert bench.placed == {(0, 2): "a"}

    def test_an_executor_barred_from_a_task_does_not_get_what_is_held_for_another_instead(self) -> None:
        bench = Bench(exclude=True).executor("a").executor("b").cached("a", (7, 1), (7, 2))
        bench.job(result(0, 3, blocks=[[], [(7, 1)], [(7, 2)]]))
        assert bench.placed == {(0, 1): "a", (0, 0): "b"}
        bench.fail((0, 0))
        assert bench.launched == []

    def test_a_stage_keeps_away_from_an_executor_where_two_of_its_tasks_failed(self) -> None:
        bench = Bench(exclude=True).executor("a", 1, "h").executor("b", 1, "i")
        bench.job(result(0, 5))
        bench.fail((0, 0))
        assert bench.placed == {(0, 2): "a"}
        bench.fail((0, 2))
        assert bench.launched == []
        bench.succeed((0, 1))
        assert set(bench.placed.values()) == {"b"}

    def test_but_other_stages_do_not(self) -> None:
        bench = Bench(exclude=True).executor("a", 1, "h").executor("b", 1, "i")
        bench.job(result(0, 5))
        bench.job(result(1, 1))
        bench.fail((0, 0)).fail((0, 2))
        assert bench.placed == {(1, 0): "a"}

    def test_a_task_that_may_run_nowhere_fails_its_job(self) -> None:
        bench = Bench(exclude=True).executor("a").executor("b")
        job = bench.job(result(0, 1))
        bench.fail((0, 0)).fail((0, 0))
        failure = failed(bench, job, FailureKind.EXCLUDED)
        assert (failure.stage, failure.partition) == (0, 0)

    def test_also_if_the_last_executor_that_could_run_it_is_lost(self) -> None:
        bench = Bench(exclude=True).executor("a").executor("b")
        job = bench.job(result(0, 3))
        bench.fail((0, 0))
        assert bench.outcome(job) is None
        bench.lose("b", blame=False)
        failed(bench, job, FailureKind.EXCLUDED)

    def test_and_if_only_barred_ones_come_back(self) -> None:
        bench = Bench(exclude=True, exclude_task_node=1).executor("a", host="h")
        job = bench.job(result(0, 1))
        bench.tell(ExecutorLost("a", 0, "crash"))
        assert bench.outcome(job) is None
        bench.executor("b", host="h")
        failed(bench, job, FailureKind.EXCLUDED)

    def test_a_new_process_under_an_old_name_is_not_barred(self) -> None:
        bench = Bench(exclude=True).executor("a", host="h")
        job = bench.job(result(0, 1))
        bench.tell(ExecutorLost("a", 0, "crash")).executor("a", host="h").run()
        assert bench.outcome(job) == "success"

    def test_while_there_is_no_executor_the_job_waits(self) -> None:
        bench = Bench(exclude=True).executor("a")
        job = bench.job(result(0, 1))
        bench.lose("a")
        assert bench.outcome(job) is None

    def application(self, **conf: object) -> Bench:
        """Executor a is excluded from the application: two tasks of a complete stage failed there."""
        bench = Bench(exclude=True, **conf).executor("a", 1, "h").executor("b", 1, "i")  # type: ignore[arg-type]
        bench.job(result(0, 4))
        bench.fail((0, 0)).fail((0, 2)).run()
        return bench

    def test_the_application_keeps_away_from_an_executor_that_failed_stages_that_succeeded(self) -> None:
        bench = self.application()
        assert [view.executor for view in bench.scheduler.executors() if view.excluded] == ["a"]
        bench.job(result(1, 2))
        assert bench.placed == {(1, 0): "b"}

    def test_until_the_timeout(self) -> None:
        bench = self.application(exclude_timeout=60.0)
        bench.job(result(1, 2)), bench.wait(59)
        assert bench.launched == []
        bench.wait(2)
        assert bench.placed == {(1, 1): "a"}
        bench.run()
        assert leftovers(bench.scheduler) == [] and bench.scheduler.next_deadline() is None

    def test_a_stage_that_failed_discredits_nobody(self) -> None:
        bench = Bench(exclude=True, max_failures=2).executor("a", 1, "h").executor("b", 1, "i")
        bench.job(result(0, 4))
        bench.fail((0, 0)).fail((0, 2)).fail((0, 1))
        bench.cancel()
        assert not any(view.excluded for view in bench.scheduler.executors())

    def test_a_host_with_two_excluded_executors_is_excluded_with_all_that_come_to_it(self) -> None:
        bench = Bench(True, exclude=True, exclude_application_executor=1, exclude_task_node=9, exclude_timeout=60.0)
        bench.executor("a", 1, "h").executor("b", 1, "h").executor("c", 1, "h").executor("z", 1, "i")
        bench.job(result(0, 4))
        on = {bench.where[tid][0]: task for tid, task in bench.tasks.items()}
        bench.fail(on["a"].tid).fail(on["b"].tid)
        bench.run()
        bench.executor("d", 1, "h")
        assert [v.executor for v in bench.scheduler.executors() if v.excluded] == ["a", "b", "c", "d"]
        bench.wait(61)
        assert not any(view.excluded for view in bench.scheduler.executors())
        told = [emit.event for emit in bench.get(Emit, ever=True)]
        for kind in (ExecutorExcluded, ExecutorReadmitted):
            assert {event.executor for event in told if isinstance(event, kind)} == set("abcd")

    def test_if_all_executors_are_excluded_jobs_fail(self) -> None:
        bench = Bench(exclude=True, exclude_application_executor=1, exclude_task_executor=2).executor("a")
        bench.job(result(0, 1))
        bench.fail((0, 0)).succeed((0, 0))
        failed(bench, bench.job(result(1, 1)), FailureKind.EXCLUDED)


class TestSpeculation:
    def slow(self, **conf: object) -> Bench:
        """Of ten tasks nine took a second; the one on ``a`` goes on."""
        settings = {"speculation": True, "speculation_multiplier": 3.0, **conf}
        bench = Bench(**settings).executor("a", 1, "h").executor("b", 9, "i")  # type: ignore[arg-type]
        bench.job(result(0, 10))
        slow = next(tid for tid, where in bench.where.items() if where[0] == "a")
        bench.wait(1.0)
        bench.succeed(*(tid for tid in sorted(bench.tasks) if tid != slow))
        self.tid = slow
        return bench

    def test_a_task_that_takes_too_long_gets_a_second_attempt_elsewhere(self) -> None:
        bench = self.slow()
        bench.wait(1.9)
        assert bench.launched == []
        bench.wait(0.2)
        assert set(bench.placed.values()) == {"b"}
        assert bench.launched == [(0, bench.tasks[self.tid].partition)]

    def test_one_and_no_more(self) -> None:
        bench = self.slow()
        bench.wait(100.0)
        assert len(bench.launched) == 1

    def test_the_first_success_wins_and_the_other_is_killed(self) -> None:
        bench = self.slow()
        bench.wait(2.1)
        copy = max(bench.tasks)
        bench.succeed(copy)
        assert bench.killed == [self.tid]
        assert bench.get(TakeResult)[0].tid == copy
        assert bench.outcome(1) == "success"

    def test_the_first_attempt_may_win(self) -> None:
        bench = self.slow()
        bench.wait(2.1)
        bench.succeed(self.tid)
        assert bench.killed == [max(bench.tasks)]

    def test_if_one_fails_the_other_goes_on_alone(self) -> None:
        bench = self.slow()
        bench.wait(2.1)
        bench.fail(self.tid)
        assert bench.launched == []
        bench.succeed(max(bench.tasks))
        assert bench.outcome(1) == "success"

    def test_if_both_fail_the_partition_is_tried_again(self) -> None:
        bench = self.slow()
        bench.wait(2.1)
        copy = max(bench.tasks)
        bench.fail(copy).fail(self.tid)
        assert len(bench.launched) == 1

    def test_not_on_the_same_executor(self) -> None:
        bench = self.slow()
        bench.lose("b", blame=False)
        bench.wait(100.0)
        assert bench.launched == []

    def test_on_the_same_host_only_if_there_is_no_other(self) -> None:
        bench = self.slow()
        bench.lose("b", blame=False).executor("c", 1, "h")
        bench.wait(2.1)
        assert bench.placed == {(0, bench.tasks[self.tid].partition): "c"}
        bench = self.slow()
        bench.executor("c", 1, "h").lose("b", blame=False).executor("d", 1, "j")
        bench.wait(2.1)
        assert set(bench.placed.values()) == {"d"}

    def test_not_before_the_quantile_has_succeeded(self) -> None:
        bench = Bench(speculation=True).executor("a", 10)
        bench.job(result(0, 10))
        bench.wait(1.0).succeed(*range(8))
        bench.executor("b").wait(100.0)
        assert bench.launched == []

    def test_not_below_the_minimal_run_time(self) -> None:
        bench = self.slow(speculation_min_runtime=50.0)
        bench.wait(48.0)
        assert bench.launched == []
        bench.wait(2.0)
        assert len(bench.launched) == 1

    def test_the_median_counts_not_the_mean(self) -> None:
        bench = Bench(speculation=True, speculation_quantile=0.5, speculation_multiplier=2.0)
        bench.executor("a", 10, "h").executor("b", 1, "i")
        bench.job(result(0, 10))
        slow = [tid for tid, where in bench.where.items() if where[0] == "a"]
        bench.wait(1.0)
        for n, tid in enumerate(sorted(bench.tasks)):
            if tid != slow[0]:
                bench.succeed(tid, seconds=1000.0 if n % 3 == 0 else 1.0)
        bench.wait(1.2)
        assert len(bench.launched) == 1

    def test_time_in_the_queue_is_no_run_time(self) -> None:
        bench = Bench(speculation=True, prefetch_horizon=5.0, speculation_quantile=0.5).executor("a", 1, "h")
        bench.job(result(0, 2))
        bench.wait(100.0)
        bench.succeed(0, seconds=1.0)
        bench.executor("b", 1, "i")
        bench.wait(2.5)
        assert bench.launched == []
        bench.wait(1.0)
        assert bench.launched == [(0, 1)]

    def test_map_tasks_are_speculated_too(self) -> None:
        bench = Bench(speculation=True, speculation_quantile=0.5).executor("a", 1, "h").executor("b", 1, "i")
        bench.job(stage(0, 2), result(1, 1, [0]))
        bench.wait(1.0).succeed(0).wait(10.0)
        assert [task.partition for launch in bench.get(Launch) for task in launch.tasks] == [1]
        bench.succeed(2)
        assert bench.launched == [(1, 0)]
        assert bench.killed == [1]
