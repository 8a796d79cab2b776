"""Jobs and stages: what is computed, in which order, and what ends when."""

from __future__ import annotations

import pytest

from asparkle.core.scheduler import (
    Accept,
    DiscardResults,
    FailureKind,
    JobSpec,
    JobSubmitted,
    Launch,
    ShuffleRemoved,
    StageDone,
    TakeResult,
)

from .bench import Bench, failed, result, stage
from .invariants import leftovers


class TestStages:
    def test_a_result_stage_alone_runs_and_the_job_succeeds(self) -> None:
        bench = Bench().executor("a", 2)
        job = bench.job(result(0, 2))
        assert bench.launched == [(0, 0), (0, 1)]
        bench.succeed((0, 0))
        assert bench.outcome(job) is None
        bench.succeed((0, 1))
        assert bench.outcome(job) == "success"
        assert [(take.partition, take.result) for take in bench.get(TakeResult, ever=True)] == [
            (0, "out-0"),
            (1, "out-1"),
        ]

    def test_only_the_wanted_partitions_are_computed(self) -> None:
        bench = Bench().executor("a", 9)
        bench.job(result(0, 1000), partitions=[7, 3])
        assert bench.launched == [(0, 7), (0, 3)]

    def test_a_job_that_wants_nothing_ends_at_once(self) -> None:
        bench = Bench()
        assert bench.outcome(bench.job(result(0, 3), partitions=[])) == "success"
        assert leftovers(bench.scheduler) == []

    def test_a_stage_waits_for_its_parents(self) -> None:
        bench = Bench().executor("a", 9)
        bench.job(stage(0, 2), stage(1, 1), result(2, 1, [0, 1]))
        assert bench.launched == [(0, 0), (0, 1), (1, 0)]
        bench.succeed((0, 0), (0, 1))
        assert bench.launched == []
        bench.succeed((1, 0))
        assert bench.launched == [(2, 0)]
        (launch,) = bench.get(Launch)
        assert launch.shuffles == tuple((shuffle, bench.scheduler.map_outputs(shuffle)[0]) for shuffle in (0, 1))

    def test_map_outputs_are_kept_by_partition_with_their_writers(self) -> None:
        bench = Bench().executor("a", 2, host="h")
        bench.job(stage(0, 2), result(1, 1, [0]))
        bench.succeed((0, 1), sizes=[5])
        _, outputs = bench.scheduler.map_outputs(0)
        assert outputs[0] is None
        assert outputs[1] is not None
        assert outputs[1][1:] == ("a", "h", "out-1", [5])
        assert not bench.scheduler.shuffle_complete(0)
        bench.succeed((0, 0))
        assert bench.scheduler.shuffle_complete(0)

    def test_every_change_of_the_outputs_has_a_new_version(self) -> None:
        bench = Bench().executor("a", 2)
        bench.job(stage(0, 2), result(1, 1, [0]))
        versions = [bench.scheduler.map_outputs(0)[0]]
        for step in (
            lambda: bench.succeed((0, 0)),
            lambda: bench.succeed((0, 1)),
            lambda: bench.fetch_failed((1, 0), 0, 1),
            lambda: bench.succeed((0, 1)),
        ):
            step()
            versions.append(bench.scheduler.map_outputs(0)[0])
        assert versions == sorted(set(versions))

    def test_a_shuffle_that_comes_back_after_its_removal_has_no_old_version(self) -> None:
        bench = Bench().executor("a")
        bench.job(stage(0, 1), result(1, 1, [0]))
        bench.run()
        before, _ = bench.scheduler.map_outputs(0)
        bench.tell(ShuffleRemoved(0))
        bench.job(stage(0, 1), result(2, 1, [0]))
        assert bench.scheduler.map_outputs(0)[0] > before

    def test_a_deep_lineage_needs_no_recursion(self) -> None:
        bench = Bench().executor("a")
        depth = 3000
        bench.scheduler.handle(
            JobSubmitted(
                JobSpec(
                    1,
                    (
                        stage(0, 1),
                        *(stage(n, 1, [n - 1]) for n in range(1, depth)),
                        result(depth, 1, [depth - 1]),
                    ),
                    [0],
                )
            ),
            0.0,
        )
        assert sum(view.state == "waiting" for view in bench.scheduler.stages()) == depth

    def test_a_stage_that_reads_what_nobody_writes_is_refused_and_leaves_nothing(self) -> None:
        bench = Bench()
        with pytest.raises(ValueError, match="stage 1 reads shuffle 9"):
            bench.job(result(1, 1, [9]))
        assert leftovers(bench.scheduler) == []

    def test_a_job_submitted_twice_is_one_job(self) -> None:
        bench = Bench().executor("a", 2)
        spec = JobSpec(1, (result(0, 1),), [0])
        bench.tell(JobSubmitted(spec)).tell(JobSubmitted(spec))
        assert len(bench.get(Launch, ever=True)) == 1


class TestSharing:
    def test_complete_shuffles_are_skipped(self) -> None:
        bench = Bench().executor("a", 4)
        bench.job(stage(0, 2), result(1, 1, [0]))
        bench.run()
        bench.job(stage(0, 2), result(2, 1, [0]))
        assert bench.launched == [(2, 0)]

    def test_what_is_behind_a_complete_shuffle_is_skipped_too(self) -> None:
        bench = Bench().executor("a", 4)
        bench.job(stage(0, 1), stage(1, 1, [0]), result(2, 1, [1]))
        bench.run()
        bench.tell(ShuffleRemoved(0))
        bench.job(stage(0, 1), stage(1, 1, [0]), result(3, 1, [1]))
        assert bench.launched == [(3, 0)]

    def test_two_jobs_compute_a_common_stage_once(self) -> None:
        bench = Bench().executor("a", 4)
        first = bench.job(stage(0, 2), result(1, 1, [0]))
        second = bench.job(stage(0, 2), result(2, 1, [0]))
        assert bench.launched == []
        bench.succeed((0, 0), (0, 1))
        assert bench.launched == [(1, 0), (2, 0)]
        bench.run()
        assert bench.outcome(first) == bench.outcome(second) == "success"

    def test_a_common_stage_goes_on_when_one_of_its_jobs_ends(self) -> None:
        bench = Bench().executor("a", 1)
        first = bench.job(stage(0, 2), result(1, 1, [0]))
        second = bench.job(stage(0, 2), result(2, 1, [0]))
        bench.cancel(job=first)
        assert bench.killed == []
        bench.run()
        failed(bench, first, FailureKind.CANCELLED)
        assert bench.outcome(second) == "success"

    def test_a_stage_that_no_live_job_needs_is_killed_though_one_knows_it(self) -> None:
        bench = Bench().executor("a", 4)
        bench.job(stage(0, 1), stage(1, 1, [0]), result(2, 1, [1]))
        bench.run()
        bench.tell(ShuffleRemoved(0))
        reader = bench.job(stage(0, 1), stage(1, 1, [0]), result(3, 1, [1]))  # needs 1 only, which is there
        other = bench.job(stage(0, 1), result(4, 1, [0]))
        assert bench.launched == [(0, 0)]
        bench.cancel(job=other)
        assert bench.killed == [bench.tid(0, 0)]
        assert bench.outcome(reader) is None

    def test_a_failing_stage_fails_the_jobs_that_need_it_and_no_others(self) -> None:
        bench = Bench(max_failures=1).executor("a", 4)
        bench.job(stage(0, 1), stage(1, 1, [0]), result(2, 1, [1]))
        bench.run()
        bench.tell(ShuffleRemoved(0))
        knows = bench.job(stage(0, 1), stage(1, 1, [0]), result(3, 1, [1]))
        needs = [bench.job(stage(0, 1), result(4 + n, 1, [0])) for n in range(2)]
        bench.fail((0, 0))
        for job in needs:
            failed(bench, job, FailureKind.TASK)
        bench.run()
        assert bench.outcome(knows) == "success"

    def test_a_later_spec_of_a_stage_counts(self) -> None:
        bench = Bench().executor("a").executor("b")
        bench.job(stage(0, 1), result(1, 1, [0]))
        bench.run()
        bench.tell(ShuffleRemoved(0))
        bench.job(stage(0, 1, hosts=[["host-b"]], name="again"), result(2, 1, [0]))
        assert bench.placed == {(0, 0): "b"}


class TestAccept:
    def test_the_first_success_of_a_partition_is_accepted(self) -> None:
        bench = Bench().executor("a")
        bench.job(result(0, 1))
        bench.succeed((0, 0))
        assert bench.get(Accept) == [Accept(0, 0, 0, "upd-0")]

    def test_a_map_output_that_is_computed_again_is_not_accepted_again(self) -> None:
        bench = Bench().executor("a")
        bench.job(stage(0, 1), result(1, 1, [0]))
        bench.succeed((0, 0))
        bench.fetch_failed((1, 0), 0, 0)
        bench.succeed((0, 0))
        assert len([accept for accept in bench.get(Accept, ever=True) if accept.stage == 0]) == 1

    def test_nor_for_a_later_job(self) -> None:
        bench = Bench().executor("a").executor("b")
        bench.job(stage(0, 1), result(1, 1, [0]))
        bench.run()
        bench.lose("a", blocks_survive=False)
        bench.job(stage(0, 1), result(2, 1, [0]))
        assert bench.launched == [(0, 0)]
        bench.run()
        assert [(accept.stage, accept.partition) for accept in bench.get(Accept, ever=True)] == [
            (0, 0),
            (1, 0),
            (2, 0),
        ]


class TestStageDone:
    def test_said_when_a_stage_is_complete_and_when_its_job_is_over(self) -> None:
        bench = Bench().executor("a")
        bench.job(stage(0, 1), result(1, 1, [0]))
        bench.succeed((0, 0))
        assert bench.get(StageDone) == [StageDone(0)]
        bench.succeed((1, 0))
        assert bench.get(StageDone) == [StageDone(1)]

    def test_said_again_when_a_lost_output_has_been_computed_again(self) -> None:
        bench = Bench().executor("a")
        bench.job(stage(0, 1), result(1, 1, [0]))
        bench.succeed((0, 0))
        bench.fetch_failed((1, 0), 0, 0)
        bench.succeed((0, 0))
        assert bench.get(StageDone) == [StageDone(0)]

    def test_said_of_skipped_stages_when_the_last_job_is_over(self) -> None:
        bench = Bench().executor("a")
        bench.job(stage(0, 1), result(1, 1, [0]))
        bench.run()
        bench.job(stage(0, 1), result(2, 1, [0]))
        bench.succeed((2, 0))
        assert set(bench.get(StageDone)) == {StageDone(0), StageDone(2)}


class TestFailures:
    def test_a_task_is_tried_max_failures_times(self) -> None:
        bench = Bench(max_failures=3).executor("a")
        job = bench.job(result(0, 1))
        for attempt in range(3):
            assert bench.launched == [(0, 0)]
            assert bench.tasks[bench.tid(0, 0)].attempt == attempt
            bench.fail((0, 0), error=f"boom {attempt}")
        failure = failed(bench, job, FailureKind.TASK)
        assert (failure.error, failure.stage, failure.partition, failure.attempt) == ("boom 2", 0, 0, 2)
        assert (failure.executor, failure.host) == ("a", "host-a")

    def test_failures_of_other_partitions_do_not_add_up(self) -> None:
        bench = Bench(max_failures=2).executor("a", 3)
        job = bench.job(result(0, 3))
        for partition in range(3):
            bench.fail((0, partition))
        bench.run()
        assert bench.outcome(job) == "success"

    def test_unpenalised_failures_do_not_count(self) -> None:
        bench = Bench(max_failures=2).executor("a")
        job = bench.job(result(0, 1))
        for _ in range(10):
            bench.fail((0, 0), penalised=False)
        bench.run()
        assert bench.outcome(job) == "success"

    def test_a_fatal_failure_is_not_tried_again(self) -> None:
        bench = Bench().executor("a")
        job = bench.job(result(0, 1))
        bench.fail((0, 0), fatal=True)
        failed(bench, job, FailureKind.TASK)
        assert bench.launched == []

    def test_a_failed_job_kills_what_runs_and_disturbs_no_other(self) -> None:
        bench = Bench(max_failures=1).executor("a", 3)
        job = bench.job(result(0, 2))
        other = bench.job(result(1, 1))
        bench.fail((0, 0))
        assert bench.killed == [bench.tid(0, 1)]
        bench.succeed((1, 0))
        assert bench.outcome(other) == "success"
        failed(bench, job, FailureKind.TASK)

    def test_a_retry_goes_before_what_was_never_tried(self) -> None:
        bench = Bench().executor("a")
        bench.job(result(0, 3))
        bench.fail((0, 0))
        assert bench.launched == [(0, 0)]


class TestCancelling:
    def test_the_job_ends_at_once_and_its_slots_stay_taken_until_the_executor_answers(self) -> None:
        bench = Bench().executor("a", 1)
        job = bench.job(result(0, 1))
        bench.job(result(1, 1))
        bench.cancel(job=job, reason="enough")
        assert failed(bench, job, FailureKind.CANCELLED).reason == "enough"
        assert bench.killed == [0]
        assert bench.launched == []
        bench.killed_ok(0)
        assert bench.launched == [(1, 0)]

    @pytest.mark.parametrize(
        ("which", "gone"),
        [
            ({"job": 2}, {2}),
            ({"group": "g"}, {1, 2}),
            ({"tag": "t"}, {2, 3}),
            ({"stage": 0}, {1, 3}),
            ({}, {1, 2, 3}),
            ({"group": "nobody's"}, set()),
            ({"job": 99}, set()),
        ],
    )
    def test_by_job_group_tag_stage_or_all(self, which: dict[str, object], gone: set[int]) -> None:
        bench = Bench().executor("a", 1)
        bench.job(stage(0, 1), result(1, 1, [0]), group="g")
        bench.job(result(2, 1), group="g", tags=frozenset({"t", "u"}))
        bench.job(stage(0, 1), result(3, 1, [0]), tags=frozenset({"t"}))
        bench.cancel(**which)
        assert {job for job in (1, 2, 3) if bench.outcome(job)} == gone

    def test_a_queued_job_is_cancelled_too(self) -> None:
        bench = Bench()
        job = bench.job(result(0, 1))
        bench.cancel(job=job)
        failed(bench, job, FailureKind.CANCELLED)
        bench.executor("a")
        assert bench.launched == []

    def test_a_success_that_was_quicker_than_the_kill_changes_nothing(self) -> None:
        bench = Bench().executor("a")
        job = bench.job(result(0, 1))
        bench.cancel(job=job)
        bench.succeed(0)
        assert bench.said == []
        assert leftovers(bench.scheduler) == []


class TestForgetting:
    def test_nothing_remains_of_finished_jobs(self) -> None:
        bench = (
            Bench(speculation=True, exclude=True, policy="FAIR", prefetch_horizon=0.01)
            .executor("a", 2)
            .executor("b", 2)
        )
        for n in range(0, 40, 4):
            bench.job(stage(n, 3, hosts=[["host-a"], ["nowhere"], ["host-b"]]), result(n + 1, 4, [n]), pool=f"p{n}")
            bench.job(stage(n, 3), result(n + 2, 4, [n]), group="g", tags=frozenset("ab"))
        bench.run()
        assert leftovers(bench.scheduler) == []
        for n in range(0, 40, 4):
            bench.tell(ShuffleRemoved(n))
        assert bench.scheduler.stages() == [] and bench.scheduler.jobs() == []

    def test_a_shuffle_removed_under_a_live_job_is_computed_again(self) -> None:
        bench = Bench().executor("a")
        job = bench.job(stage(0, 1), result(1, 2, [0]))
        bench.succeed((0, 0))
        bench.tell(ShuffleRemoved(0))
        bench.run()
        assert bench.outcome(job) == "success"
        assert bench.get(DiscardResults, ever=True) == []
        assert bench.scheduler.stages() == []
