"""Executors that are lost, map outputs that can't be read, and what is computed again."""

from __future__ import annotations

import pytest

from asparkle.core.scheduler import DiscardResults, FailureKind, FetchFailed, TakeResult

from .bench import INDETERMINATE, Bench, failed, result, stage


class TestExecutorLoss:
    def test_its_attempts_are_tried_elsewhere(self) -> None:
        bench = Bench().executor("a", 2).executor("b", 2)
        job = bench.job(result(0, 4))
        bench.lose("a")
        assert bench.launched == []
        bench.run()
        assert bench.outcome(job) == "success"
        assert {where for tid, where in bench.where.items() if tid >= 4} == {("b", 0)}

    def test_what_ran_is_blamed_and_what_was_queued_is_not(self) -> None:
        bench = Bench(max_failures=1, prefetch_horizon=1.0)
        victim, neighbour = bench.job(result(0, 1)), bench.job(result(1, 1))
        bench.executor("a", 1)
        assert bench.where[bench.tid(1, 0)] == ("a", 0)
        bench.lose("a")
        failed(bench, victim, FailureKind.TASK)
        bench.executor("b").run()
        assert bench.outcome(neighbour) == "success"

    def test_what_the_backend_says_ran_counts_more_than_what_was_presumed(self) -> None:
        bench = Bench(max_failures=1, prefetch_horizon=1.0)
        presumed, really = bench.job(result(0, 1)), bench.job(result(1, 1))
        bench.executor("a", 1)
        bench.lose("a", running=[bench.tid(1, 0)])
        failed(bench, really, FailureKind.TASK)
        bench.executor("b").run()
        assert bench.outcome(presumed) == "success"

    def test_a_queued_attempt_that_said_it_started_is_blamed_as_well(self) -> None:
        bench = Bench(max_failures=1, prefetch_horizon=1.0)
        _, second = bench.job(result(0, 1)), bench.job(result(1, 1))
        bench.executor("a", 1)
        bench.started(bench.tid(1, 0)).lose("a")
        failed(bench, second, FailureKind.TASK)

    def test_when_one_ends_the_next_in_the_queue_is_presumed_to_run(self) -> None:
        bench = Bench(max_failures=1, prefetch_horizon=1.0)
        _, second = bench.job(result(0, 1)), bench.job(result(1, 1))
        bench.executor("a", 1)
        bench.succeed((0, 0)).lose("a")
        failed(bench, second, FailureKind.TASK)

    def test_a_released_executor_is_nobodys_fault(self) -> None:
        bench = Bench(max_failures=1).executor("a")
        job = bench.job(result(0, 1))
        bench.lose("a", blame=False)
        bench.executor("b").run()
        assert bench.outcome(job) == "success"

    def test_a_task_that_kills_its_executor_fails_its_job_in_the_end(self) -> None:
        bench = Bench(max_failures=4)
        job = bench.job(result(0, 1))
        for n in range(4):
            assert bench.outcome(job) is None
            bench.executor(f"e{n}")
            bench.lose(f"e{n}")
        assert "e3 was lost" in failed(bench, job, FailureKind.TASK).reason

    def test_map_outputs_survive_if_their_files_do(self) -> None:
        bench = Bench().executor("a").executor("b")
        bench.job(stage(0, 2), result(1, 1, [0]))
        bench.succeed((0, 0)).lose("a").succeed((0, 1))
        assert bench.launched == [(1, 0)]

    def test_map_outputs_are_lost_if_their_files_are(self) -> None:
        bench = Bench().executor("a").executor("b")
        bench.job(stage(0, 3), result(1, 1, [0]))
        bench.succeed((0, 0), (0, 1))
        assert bench.placed == {}
        bench.lose("a", blocks_survive=False)
        assert [output is not None for output in bench.scheduler.map_outputs(0)[1]] == [False, True, False]
        bench.run()
        assert bench.outcome(1) == "success"

    @pytest.mark.parametrize("blocks_survive", [True, False])
    @pytest.mark.parametrize("outputs_survive", [True, False])
    def test_a_store_may_say_otherwise(self, blocks_survive: bool, outputs_survive: bool) -> None:
        bench = Bench().executor("a").executor("b")
        bench.job(stage(0, 3), result(1, 1, [0]))
        bench.succeed((0, 0), (0, 1))
        bench.lose("a", blocks_survive=blocks_survive, outputs_survive=outputs_survive)
        assert [output is not None for output in bench.scheduler.map_outputs(0)[1]] == [outputs_survive, True, False]

    def test_outputs_that_nobody_needs_now_are_computed_when_somebody_does(self) -> None:
        bench = Bench().executor("a").executor("b")
        bench.job(stage(0, 2), result(1, 1, [0]))
        bench.run()
        bench.lose("a", blocks_survive=False)
        assert bench.launched == []
        bench.job(stage(0, 2), result(2, 1, [0]))
        assert bench.launched == [(0, 0)]

    def test_readers_wait_for_the_lost_outputs_and_running_ones_go_on(self) -> None:
        bench = Bench().executor("a", 1).executor("b", 2)
        job = bench.job(stage(0, 3), result(1, 4, [0]))
        bench.succeed((0, 0), (0, 1), (0, 2))
        running = [partition for (_, partition), where in bench.placed.items() if where == "b"]
        bench.lose("a", blocks_survive=False)
        bench.succeed((1, running[0]))  # counts, and its slot goes to the lost output
        assert bench.launched == [(0, 0)]
        bench.succeed((1, running[1]))
        assert bench.launched == []
        bench.succeed((0, 0))
        assert sorted(bench.launched) == sorted((1, part) for part in range(4) if part not in running)
        bench.run()
        assert bench.outcome(job) == "success"

    def test_lost_outputs_of_several_generations_of_stages(self) -> None:
        bench = Bench().executor("a").executor("b")
        job = bench.job(stage(0, 2), stage(1, 2, [0]), stage(2, 2, [1]), result(3, 2, [2]))
        bench.succeed((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1))
        bench.lose("a", blocks_survive=False)
        bench.run()
        assert bench.outcome(job) == "success"
        assert [bench.tasks[tid].attempt for tid in bench.tasks if bench.tasks[tid].stage == 2] == [0, 0, 1]


class TestFetchFailure:
    def test_only_the_unreadable_output_is_computed_again(self) -> None:
        bench = Bench().executor("a", 4)
        job = bench.job(stage(0, 3), result(1, 2, [0]))
        bench.succeed((0, 0), (0, 1), (0, 2))
        bench.fetch_failed((1, 0), 0, 1)
        assert bench.launched == [(0, 1)]
        bench.succeed((0, 1))
        assert bench.launched == [(1, 0)]
        bench.run()
        assert bench.outcome(job) == "success"

    def test_the_stage_attempt_grows_with_every_resubmission(self) -> None:
        bench = Bench().executor("a", 4)
        bench.job(stage(0, 2), result(1, 2, [0]))
        bench.succeed((0, 0), (0, 1))
        bench.fetch_failed((1, 0), 0, 1)
        assert bench.tasks[bench.tid(0, 1)].stage_attempt == 1
        bench.succeed((0, 1))
        assert bench.tasks[bench.tid(1, 0)].stage_attempt == 1
        assert bench.tasks[bench.tid(1, 1)].stage_attempt == 0

    def test_it_is_no_failure_of_the_reader(self) -> None:
        bench = Bench(max_failures=1).executor("a", 4)
        job = bench.job(stage(0, 1), result(1, 1, [0]))
        bench.succeed((0, 0)).fetch_failed((1, 0), 0, 0).run()
        assert bench.outcome(job) == "success"

    def test_a_report_about_an_output_since_rewritten_is_stale(self) -> None:
        bench = Bench().executor("a", 4)
        bench.job(stage(0, 1), result(1, 2, [0]))
        bench.succeed((0, 0))
        bench.fetch_failed((1, 0), 0, 0, tid=0)
        bench.succeed((0, 0))
        bench.fetch_failed((1, 1), 0, 0, tid=0)
        assert bench.launched == [(1, 1)]
        assert bench.scheduler.shuffle_complete(0)

    def test_a_second_report_about_a_lost_output_only_sends_its_reader_back(self) -> None:
        bench = Bench().executor("a", 4)
        bench.job(stage(0, 1), result(1, 2, [0]))
        bench.succeed((0, 0))
        bench.fetch_failed((1, 0), 0, 0, tid=0)
        bench.fetch_failed((1, 1), 0, 0, tid=0)
        assert bench.launched == []
        bench.succeed((0, 0))
        assert sorted(bench.launched) == [(1, 0), (1, 1)]

    def test_stale_reports_without_end_do_not_run_for_ever(self) -> None:
        bench = Bench().executor("a", 4)
        job = bench.job(stage(0, 1), result(1, 1, [0]))
        bench.succeed((0, 0))
        for _ in range(20):
            if bench.outcome(job) is None:
                bench.fetch_failed((1, 0), 0, 0, tid=77)
        failed(bench, job, FailureKind.TASK)

    def test_failures_in_a_row_without_a_success_fail_the_job(self) -> None:
        bench = Bench(max_stage_attempts=3).executor("a", 4)
        job = bench.job(stage(0, 1), result(1, 1, [0]))
        for _ in range(3):
            assert bench.outcome(job) is None
            bench.succeed((0, 0)).fetch_failed((1, 0), 0, 0)
        assert "3 times in a row" in failed(bench, job, FailureKind.FETCH).reason

    def test_a_success_in_between_ends_the_series(self) -> None:
        bench = Bench(max_stage_attempts=2).executor("a", 4)
        job = bench.job(stage(0, 1), result(1, 4, [0]))
        bench.succeed((0, 0)).fetch_failed((1, 0), 0, 0).succeed((1, 3))
        bench.succeed((0, 0)).fetch_failed((1, 0), 0, 0)
        assert bench.outcome(job) is None
        bench.run()
        assert bench.outcome(job) == "success"

    def test_many_readers_that_fail_in_one_attempt_count_once(self) -> None:
        bench = Bench(max_stage_attempts=2).executor("a", 9)
        job = bench.job(stage(0, 5), result(1, 5, [0]))
        bench.succeed(*((0, n) for n in range(5)))
        for n in range(5):
            bench.fetch_failed((1, n), 0, n)
        bench.run()
        assert bench.outcome(job) == "success"

    def test_if_the_writer_is_gone_all_that_it_wrote_of_the_shuffle_is(self) -> None:
        bench = Bench().executor("a", 3).executor("b", 1)
        bench.job(stage(0, 4), result(1, 1, [0]))
        on_a = [part for (_, part), where in bench.placed.items() if where == "a"]
        bench.succeed(*((0, n) for n in range(4)))
        bench.lose("a")
        bench.executor("c", 4)
        bench.fetch_failed((1, 0), 0, on_a[0])
        assert sorted(
            part for part, output in enumerate(bench.scheduler.map_outputs(0)[1]) if output is None
        ) == sorted(on_a)

    def test_other_outputs_that_are_gone_are_written_again_at_once(self) -> None:
        bench = Bench(max_stage_attempts=2).executor("a", 9)
        job = bench.job(stage(0, 5), result(1, 2, [0]))
        bench.succeed(*((0, n) for n in range(5)))
        outputs = bench.scheduler.map_outputs(0)[1]
        others = [(n, outputs[n].tid) for n in (1, 4)]
        bench.fetch_failed((1, 0), 0, 3, others=[*others, (2, 77)])  # of 2 there is a newer output
        assert [n for n, output in enumerate(bench.scheduler.map_outputs(0)[1]) if output is None] == [1, 3, 4]
        bench.run()
        assert bench.outcome(job) == "success"

    def test_a_killed_readers_report_is_believed_but_not_counted(self) -> None:
        bench = Bench(max_stage_attempts=1).executor("a", 4)
        bench.cancel(job=bench.job(stage(0, 1), result(1, 1, [0])))
        bench.killed_ok(0)
        first = bench.job(stage(0, 1), result(2, 1, [0]))
        second = bench.job(stage(0, 1), result(3, 1, [0]))
        bench.succeed((0, 0)).cancel(job=first)
        bench.fetch_failed((2, 0), 0, 0)
        assert bench.launched == [(0, 0)]
        bench.run()
        assert bench.outcome(second) == "success"

    def test_about_an_unknown_shuffle_or_partition_it_is_stale(self) -> None:
        bench = Bench().executor("a", 4)
        bench.job(result(0, 1))
        bench.tell(FetchFailed("a", 0, bench.tid(0, 0), 99, 5, 1))
        assert bench.launched == [(0, 0)]


class TestIndeterminate:
    """Stage 0 may put other records into its outputs when it is computed again."""

    def consumed(self, **options: object) -> Bench:
        bench = Bench().executor("a", 1).executor("b", 1)
        bench.job(stage(0, 2, determinism=INDETERMINATE), result(1, 3, [0]), **options)  # type: ignore[arg-type]
        bench.succeed((0, 0), (0, 1), (1, 0))
        return bench

    def test_not_read_yet_only_the_lost_output_is_computed_again(self) -> None:
        bench = Bench().executor("a", 1).executor("b", 1)
        job = bench.job(stage(0, 3, determinism=INDETERMINATE), result(1, 1, [0]))
        bench.succeed((0, 0), (0, 1))
        bench.lose("b", blocks_survive=False)
        assert bench.get(DiscardResults) == []
        bench.succeed((0, 2))
        assert bench.launched == [(0, 1)]
        bench.run()
        assert bench.outcome(job) == "success"

    def test_read_already_all_outputs_are_computed_again_and_results_taken_back(self) -> None:
        bench = self.consumed()
        reader = bench.tid(1, 1)
        bench.fetch_failed((1, 2), 0, 1)
        assert bench.get(DiscardResults) == [DiscardResults(1, (0,))]
        assert bench.killed == [reader]
        assert bench.launched == [(0, 0)]
        bench.killed_ok(reader)
        bench.run()
        assert bench.outcome(1) == "success"
        takes = bench.get(TakeResult, ever=True)
        assert sorted(take.partition for take in takes) == [0, 0, 1, 2]

    def test_a_task_that_is_only_reading_is_enough(self) -> None:
        bench = Bench().executor("a", 2).executor("b", 2)
        bench.job(stage(0, 4, determinism=INDETERMINATE), result(1, 2, [0]))
        bench.succeed(*((0, n) for n in range(4)))
        readers = {bench.tid(1, 0), bench.tid(1, 1)}
        bench.lose("a", blocks_survive=False, blame=False)
        assert set(bench.killed) == {tid for tid in readers if bench.where[tid][0] == "b"}
        for tid in bench.killed:
            bench.killed_ok(tid)
        bench.run()
        computed = sorted(t.partition for t in bench.tasks.values() if t.stage == 0)
        assert computed == [0, 0, 1, 1, 2, 2, 3, 3]

    def test_a_late_result_of_what_was_rolled_back_is_ignored(self) -> None:
        bench = self.consumed()
        reader = bench.tid(1, 1)
        bench.fetch_failed((1, 2), 0, 1)
        bench.succeed(reader)
        assert bench.get(TakeResult) == []

    def test_nor_is_it_used_when_its_stage_is_at_work_again(self) -> None:
        bench = Bench().executor("a", 9)
        bench.job(stage(0, 1, determinism=INDETERMINATE), stage(1, 3, [0]), result(2, 1, [1]))
        bench.succeed((0, 0))
        old = bench.tid(1, 1)
        bench.fetch_failed((1, 0), 0, 0).succeed((0, 0))
        assert sorted(bench.launched) == [(1, 0), (1, 1), (1, 2)]
        bench.succeed(old)
        assert bench.said == []
        assert bench.scheduler.map_outputs(1)[1][1] is None

    def test_complete_but_not_read_only_the_lost_output_is_computed_again(self) -> None:
        bench = Bench().executor("a", 2).executor("b", 2)
        bench.job(stage(0, 3, determinism=INDETERMINATE), stage(1, 1), result(2, 1, [0, 1]))
        on_b = [part for (number, part), where in bench.placed.items() if where == "b" and number == 0]
        bench.succeed((0, 0), (0, 1), (0, 2))
        bench.lose("b", blocks_survive=False, blame=False)
        bench.run()
        computed = [task.partition for task in bench.tasks.values() if task.stage == 0]
        assert sorted(computed) == sorted([0, 1, 2, *on_b])
        assert 0 < len(on_b) < 3

    def test_results_that_cannot_be_taken_back_fail_the_job(self) -> None:
        bench = self.consumed(can_redo_results=False)
        bench.fetch_failed((1, 2), 0, 1)
        failed(bench, 1, FailureKind.INDETERMINATE)
        assert bench.get(DiscardResults) == []

    def test_unless_none_has_been_taken(self) -> None:
        bench = Bench().executor("a", 1)
        job = bench.job(stage(0, 2, determinism=INDETERMINATE), result(1, 3, [0]), can_redo_results=False)
        bench.succeed((0, 0), (0, 1)).fetch_failed((1, 0), 0, 1)
        bench.run()
        assert bench.outcome(job) == "success"

    def test_a_granted_commit_counts_as_taken(self) -> None:
        bench = Bench().executor("a", 2)
        job = bench.job(stage(0, 2, determinism=INDETERMINATE), result(1, 3, [0]), can_redo_results=False)
        bench.succeed((0, 0), (0, 1))
        assert bench.commit(bench.tid(1, 1))
        bench.fetch_failed((1, 0), 0, 1)
        failed(bench, job, FailureKind.INDETERMINATE)

    def test_everything_downstream_is_rolled_back(self) -> None:
        bench = Bench().executor("a", 9)
        bench.job(stage(0, 2, determinism=INDETERMINATE), stage(1, 2, [0]), stage(2, 2, [1]), result(3, 2, [2, 0]))
        bench.succeed((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0))
        bench.fetch_failed((3, 1), 0, 0)
        assert bench.get(DiscardResults)
        assert sorted(bench.launched) == [(0, 0), (0, 1)]
        for number in range(3):
            assert not any(bench.scheduler.map_outputs(number)[1])
        bench.run()
        assert bench.outcome(1) == "success"

    def test_but_not_what_read_other_shuffles(self) -> None:
        bench = Bench().executor("a", 9)
        bench.job(stage(0, 1, determinism=INDETERMINATE), stage(1, 1), stage(2, 1, [1]), result(3, 2, [0, 2]))
        bench.succeed((0, 0), (1, 0), (2, 0), (3, 0)).fetch_failed((3, 1), 0, 0)
        assert bench.launched == [(0, 0)]
        assert bench.scheduler.shuffle_complete(2)

    def test_a_shuffle_kept_from_an_earlier_job_is_rolled_back_when_its_input_is_computed_again(self) -> None:
        bench = Bench().executor("a", 1).executor("b", 1)
        bench.job(stage(0, 2, determinism=INDETERMINATE), stage(1, 1, [0]), result(2, 1, [1]))
        bench.run()
        bench.lose("a" if bench.where[bench.tid(1, 0)][0] == "b" else "b", blocks_survive=False)
        assert bench.scheduler.shuffle_complete(1)
        bench.job(stage(0, 2, determinism=INDETERMINATE), stage(1, 1, [0]), result(3, 1, [0, 1]))
        assert not bench.scheduler.shuffle_complete(1)
        bench.run()
        assert bench.outcome(2) == "success"
        assert len([t for t in bench.tasks.values() if t.stage == 1]) == 2

    def test_other_jobs_on_the_shuffle_are_rolled_back_as_well(self) -> None:
        bench = Bench().executor("a", 9)
        spec = stage(0, 2, determinism=INDETERMINATE)
        bench.job(spec, result(1, 2, [0]))
        fixed = bench.job(spec, result(2, 2, [0]), can_redo_results=False)
        untouched = bench.job(result(3, 1))
        bench.succeed((0, 0), (0, 1), (1, 0), (2, 0)).fetch_failed((1, 1), 0, 0)
        assert [discard.job for discard in bench.get(DiscardResults)] == [1]
        failed(bench, fixed, FailureKind.INDETERMINATE)
        bench.run()
        assert bench.outcome(1) == bench.outcome(untouched) == "success"

    def test_successes_in_between_do_not_let_it_go_on_for_ever(self) -> None:
        bench = Bench(max_stage_attempts=3).executor("a", 9)
        job = bench.job(stage(0, 1, determinism=INDETERMINATE), result(1, 2, [0]))
        for _ in range(3):
            bench.succeed((0, 0), (1, 0)).fetch_failed((1, 1), 0, 0)
        failed(bench, job, FailureKind.FETCH)

    def test_unordered_outputs_are_not_rolled_back(self) -> None:
        from asparkle.core.scheduler import Determinism

        bench = Bench().executor("a", 9)
        bench.job(stage(0, 2, determinism=Determinism.UNORDERED), result(1, 2, [0]))
        bench.succeed((0, 0), (0, 1), (1, 0)).fetch_failed((1, 1), 0, 0)
        assert bench.get(DiscardResults) == []
        assert bench.launched == [(0, 0)]
