"""Who gets what: pools, locality, work ahead, recalls."""

from __future__ import annotations

import pytest

from asparkle.core.scheduler import BlocksChanged, Launch, RddUnpersisted, Recall

from .bench import Bench, result, stage


class TestFifo:
    def test_jobs_in_the_order_of_their_submission(self) -> None:
        bench = Bench().executor("a", 1)
        bench.job(result(5, 2))
        bench.job(result(1, 2))
        order = []
        while bench.scheduler.executors()[0].running:
            (tid,) = bench.scheduler.executors()[0].running
            order.append(bench.tasks[tid].stage)
            bench.succeed(tid)
        assert order == [5, 5, 1, 1]

    def test_a_late_stage_of_an_earlier_job_goes_first(self) -> None:
        bench = Bench().executor("a", 1)
        bench.job(stage(0, 1), result(9, 2, [0]))
        bench.job(result(1, 2))
        bench.succeed((0, 0))
        assert bench.launched == [(9, 0)]

    def test_pools_mean_nothing(self) -> None:
        bench = Bench(pools={"x": ("FAIR", 9, 9)}).executor("a", 1)
        bench.job(result(0, 2))
        bench.job(result(1, 2), pool="x")
        bench.succeed((0, 0))
        assert bench.launched == [(0, 1)]


class TestFair:
    def shares(self, bench: Bench, steps: int = 60) -> dict[int, int]:
        """How many attempts of each stage were launched while every slot was busy."""
        for _ in range(steps):
            bench.succeed(min(bench.scheduler._fleet.attempts))
        counts: dict[int, int] = {}
        for task in bench.tasks.values():
            counts[task.stage] = counts.get(task.stage, 0) + 1
        return counts

    def test_pools_share_by_weight(self) -> None:
        bench = Bench(policy="FAIR", pools={"x": ("FIFO", 2, 0), "y": ("FIFO", 1, 0)}).executor("a", 6)
        bench.job(result(0, 1000), pool="x")
        bench.job(result(1, 1000), pool="y")
        counts = self.shares(bench)
        assert counts[0] == pytest.approx(2 * counts[1], rel=0.2)

    def test_a_minimum_share_goes_before_weights(self) -> None:
        bench = Bench(policy="FAIR", pools={"x": ("FIFO", 100, 0), "y": ("FIFO", 1, 3)}).executor("a", 4)
        bench.job(result(1, 1000), pool="y")
        bench.job(result(0, 1000), pool="x")
        for tid in range(4):
            bench.succeed(tid)
        running = [bench.tasks[tid].stage for tid in bench.scheduler.executors()[0].running]
        assert sorted(running) == [0, 1, 1, 1]

    def test_the_smaller_part_of_a_minimum_share_goes_first(self) -> None:
        bench = Bench(policy="FAIR", pools={"x": ("FIFO", 1, 4), "y": ("FIFO", 1, 2)})
        bench.job(result(0, 9), pool="x")
        bench.job(result(1, 9), pool="y")
        bench.executor("a", 6)
        stages = [bench.tasks[tid].stage for tid in bench.scheduler.executors()[0].running]
        assert sorted(stages) == [0, 0, 0, 0, 1, 1]

    def test_a_new_pool_gets_the_next_slots(self) -> None:
        bench = Bench(policy="FAIR").executor("a", 2)
        bench.job(result(0, 10), pool="x")
        bench.job(result(1, 10), pool="y")
        assert bench.launched == []
        bench.succeed((0, 0))
        assert bench.launched == [(1, 0)]

    def test_jobs_of_a_fair_pool_share_it(self) -> None:
        bench = Bench(policy="FAIR", pools={"x": ("FAIR", 1, 0)}).executor("a", 2)
        bench.job(result(0, 10), pool="x")
        bench.job(result(1, 10), pool="x")
        bench.succeed((0, 0))
        assert bench.launched == [(1, 0)]

    def test_jobs_of_a_fifo_pool_queue_up(self) -> None:
        bench = Bench(policy="FAIR", pools={"x": ("FIFO", 1, 0)}).executor("a", 2)
        bench.job(result(0, 10), pool="x")
        bench.job(result(1, 10), pool="x")
        bench.succeed((0, 0))
        assert bench.launched == [(0, 2)]

    def test_killed_attempts_are_no_share(self) -> None:
        bench = Bench(policy="FAIR").executor("a", 3)
        gone = bench.job(result(0, 2), pool="x")
        bench.job(result(1, 9), pool="y")
        bench.cancel(job=gone)
        bench.job(result(2, 9), pool="x")
        bench.succeed((1, 0))
        assert bench.launched == [(2, 0)]

    def test_work_ahead_is_no_share_and_never_more_than_a_horizon(self) -> None:
        bench = Bench(policy="FAIR", prefetch_horizon=1.0).executor("a", 1)
        bench.job(result(0, 1000), pool="x")
        for _ in range(20):
            bench.succeed(bench.scheduler.executors()[0].running[0], seconds=0.1)
        bench.job(result(1, 1000), pool="y")
        waited = 0
        while (1, 0) not in {
            (bench.tasks[t].stage, bench.tasks[t].partition) for t in bench.scheduler.executors()[0].running
        }:
            bench.succeed(bench.scheduler.executors()[0].running[0], seconds=0.1)
            waited += 1
        assert waited <= 11


class TestLocality:
    def test_a_partition_goes_to_the_executor_that_has_it_cached(self) -> None:
        bench = Bench().executor("a").executor("b").cached("b", (7, 0))
        bench.job(result(0, 1, blocks=[[(7, 0)]]))
        assert bench.placed == {(0, 0): "b"}

    def test_or_to_a_host_that_has_it_on_disk(self) -> None:
        bench = Bench().executor("a", host="h").executor("b", host="i").executor("c", host="h")
        bench.cached("a", (7, 0), scope="host").lose("a")
        bench.job(result(0, 1, blocks=[[(7, 0)]]))
        assert bench.placed == {(0, 0): "c"}

    def test_or_to_a_preferred_host(self) -> None:
        bench = Bench().executor("a").executor("b")
        bench.job(result(0, 2, hosts=[["host-b"], ["host-a"]]))
        assert bench.placed == {(0, 0): "b", (0, 1): "a"}

    def test_the_nearest_block_counts_and_blocks_count_before_hosts(self) -> None:
        bench = Bench().executor("a").executor("b").executor("c")
        bench.cached("b", (7, 0)).cached("c", (8, 0))
        bench.job(result(0, 1, blocks=[[(9, 0), (7, 0), (8, 0)]], hosts=[["host-a"]]))
        assert bench.placed == {(0, 0): "b"}

    def test_a_shared_block_is_near_to_nobody(self) -> None:
        bench = Bench().executor("a").executor("b").cached("b", (7, 0), scope="shared")
        bench.job(result(0, 1, blocks=[[(7, 0)]]))
        assert bench.placed == {(0, 0): "a"}

    @pytest.mark.parametrize("how", ["removed", "unpersisted", "lost"])
    def test_a_block_that_is_gone_is_near_to_nobody(self, how: str) -> None:
        bench = Bench().executor("a").executor("b").cached("b", (7, 0))
        if how == "removed":
            bench.tell(BlocksChanged("b", 0, (), [(7, 0)]))
        elif how == "unpersisted":
            bench.tell(RddUnpersisted(7))
        else:
            bench.lose("b").executor("b")
        bench.job(result(0, 1, blocks=[[(7, 0)]]))
        assert bench.placed == {(0, 0): "a"}
        assert len(bench.scheduler._blocks) == 0

    def test_a_host_hint_where_no_executor_is_is_ignored(self) -> None:
        bench = Bench().executor("a")
        bench.job(result(0, 1, hosts=[["elsewhere"]]))
        assert bench.placed == {(0, 0): "a"}

    def test_but_counts_for_an_executor_that_comes_later(self) -> None:
        bench = Bench().executor("a")
        bench.job(result(0, 4, hosts=[["host-a"], ["host-a"], ["host-a"], ["host-z"]]))
        bench.executor("z")
        assert bench.placed == {(0, 3): "z"}

    def test_a_free_executor_waits_before_it_takes_what_is_near_another(self) -> None:
        bench = Bench().executor("a").executor("b").cached("a", (7, 0), (7, 1))
        bench.job(result(0, 2, blocks=[[(7, 0)], [(7, 1)]]))
        assert bench.placed == {(0, 0): "a"}
        bench.wait(0.29)
        assert bench.launched == []
        bench.wait(0.02)
        assert bench.placed == {(0, 1): "b"}

    def test_the_wait_follows_measured_times(self) -> None:
        bench = Bench().executor("a").executor("b").cached("a", *((7, n) for n in range(9)))
        bench.job(result(0, 9, blocks=[[(7, n)] for n in range(9)]))
        bench.succeed((0, 0), seconds=0.01)
        bench.wait(0.0299)
        assert bench.launched == []
        bench.wait(0.001)
        assert bench.placed == {(0, 2): "b"}

    def test_and_what_running_elsewhere_has_cost(self) -> None:
        bench = Bench().executor("a").executor("b").cached("a", *((7, n) for n in range(9)))
        bench.job(result(0, 9, blocks=[[(7, n)] for n in range(9)]))
        bench.wait(0.31)
        assert bench.placed == {(0, 1): "b"}
        bench.wait(0.7)
        bench.succeed((0, 0), seconds=1.0)
        assert bench.placed == {(0, 2): "a"}  # and the wait begins anew: all slots are busy, and "a" makes progress
        bench.wait(0.2)
        bench.succeed((0, 1), seconds=1.1)  # no more than that, so it is not worth three seconds
        bench.wait(0.01)
        assert bench.placed == {(0, 3): "b"}
        bench.wait(0.3)
        bench.succeed((0, 3), seconds=2.5)  # now it is
        bench.wait(0.5)
        assert bench.launched == []

    def test_and_is_never_longer_than_the_setting(self) -> None:
        bench = Bench(locality_wait=0.5).executor("a").executor("b").cached("a", (7, 0), (7, 1), (7, 2))
        bench.job(result(0, 3, blocks=[[(7, n)] for n in range(3)]))
        bench.succeed((0, 0), seconds=100.0)
        bench.wait(0.51)
        assert bench.placed == {(0, 2): "b"}

    def test_a_zero_wait_is_none(self) -> None:
        bench = Bench(locality_wait=0.0).executor("a").executor("b").cached("a", (7, 0), (7, 1))
        bench.job(result(0, 2, blocks=[[(7, 0)], [(7, 1)]]))
        bench.wait(0.0)
        assert bench.scheduler.executors()[1].running

    def test_other_work_is_taken_meanwhile(self) -> None:
        bench = Bench().executor("a").executor("b").cached("a", (7, 0), (7, 1))
        bench.job(result(0, 2, blocks=[[(7, 0)], [(7, 1)]]))
        bench.job(result(1, 1))
        assert bench.placed == {(1, 0): "b"}

    def test_when_the_near_executor_is_lost_nobody_waits_for_it(self) -> None:
        bench = Bench().executor("a").executor("b").cached("a", (7, 0), (7, 1))
        bench.job(result(0, 2, blocks=[[(7, 0)], [(7, 1)]]))
        bench.lose("a", blame=False)
        assert len(bench.placed) == 1 and set(bench.placed.values()) == {"b"}

    def test_near_executors_that_make_progress_put_the_wait_off_while_all_slots_are_busy(self) -> None:
        bench = Bench().executor("a").executor("b").cached("a", *((7, n) for n in range(9)))
        bench.job(result(0, 9, blocks=[[(7, n)] for n in range(9)]))
        bench.job(result(1, 1))
        for n in range(5):
            bench.wait(0.2)
            bench.succeed((0, n), seconds=0.2)
            assert bench.placed == {(0, n + 1): "a"}
        bench.succeed((1, 0))
        assert bench.launched == []

    def test_reducers_go_where_a_good_part_of_their_input_is(self) -> None:
        bench = Bench().executor("a").executor("b").executor("c")
        bench.job(stage(0, 2, hosts=[["host-b"], ["host-c"]]), result(1, 2, [0]))
        bench.succeed((0, 0), sizes=[99, 10]).succeed((0, 1), sizes=[1, 90])
        assert bench.placed == {(1, 0): "b", (1, 1): "c"}

    def test_sizes_that_fit_no_reducer_say_nothing(self) -> None:
        bench = Bench().executor("a").executor("b")
        bench.job(stage(0, 1, hosts=[["host-b"]]), result(1, 2, [0]))
        bench.succeed((0, 0), sizes=[1, 2, 3])
        assert sorted(bench.placed.values()) == ["a", "b"]

    def test_tasks_are_spread_over_hosts_and_executors(self) -> None:
        bench = Bench()
        for name, host in (("a", "h"), ("b", "h"), ("c", "i"), ("d", "i")):
            bench.executor(name, 4, host)
        bench.job(result(0, 4))
        assert sorted(bench.placed.values()) == ["a", "b", "c", "d"]


class TestWorkAhead:
    def queued(self, bench: Bench) -> int:
        return sum(view.queued for view in bench.scheduler.executors())

    def test_one_per_slot_while_nothing_is_known(self) -> None:
        bench = Bench(prefetch_horizon=0.005).executor("a", 3)
        bench.job(result(0, 100))
        assert (len(bench.launched), self.queued(bench)) == (6, 3)

    def test_short_tasks_fill_the_horizon_at_once(self) -> None:
        bench = Bench(prefetch_horizon=0.005).executor("a", 1)
        bench.job(result(0, 1000))
        bench.succeed((0, 0), seconds=0.0001)
        assert self.queued(bench) == 50

    def test_never_more_than_a_few_hundred(self) -> None:
        bench = Bench(prefetch_horizon=0.005).executor("a", 4)
        bench.job(result(0, 9000))
        bench.succeed((0, 0), seconds=1e-9)
        assert self.queued(bench) == 256

    def test_nothing_when_tasks_are_long(self) -> None:
        bench = Bench(prefetch_horizon=0.005).executor("a", 2)
        bench.job(result(0, 100))
        bench.succeed(0, 1, 2, 3, seconds=0.2)
        assert self.queued(bench) == 0

    def test_it_is_sent_in_batches(self) -> None:
        bench = Bench(prefetch_horizon=0.005, deep=False).executor("a", 1)
        bench.job(result(0, 10_000))
        for _ in range(5000):
            bench.succeed(bench.scheduler.executors()[0].running[0], seconds=0.0001)
        launches = bench.get(Launch, ever=True)
        assert len(launches) < 300
        assert all(len(launch.tasks) > 10 for launch in launches[3:-1])

    def test_one_launch_per_executor_and_stage(self) -> None:
        bench = Bench(prefetch_horizon=0.005).executor("a", 2).executor("b", 2)
        bench.job(result(0, 8))
        assert sorted(launch.executor for launch in bench.get(Launch)) == ["a", "b"]

    def test_idle_executors_go_first(self) -> None:
        bench = Bench(prefetch_horizon=0.005).executor("a", 1).executor("b", 1)
        bench.job(result(0, 3))
        assert [launch.tasks[0].partition for launch in bench.get(Launch)] == [0, 1]

    def test_nothing_is_sent_ahead_that_would_rather_be_elsewhere(self) -> None:
        bench = Bench(prefetch_horizon=0.005).executor("a", 1).executor("b", 1).cached("b", *((7, n) for n in range(9)))
        bench.job(result(0, 1))
        bench.job(result(1, 9, blocks=[[(7, n)] for n in range(9)]))
        assert set(bench.placed.values()) == {"b"}

    def test_a_killed_attempt_in_the_queue_keeps_its_place_until_it_is_answered(self) -> None:
        bench = Bench(prefetch_horizon=0.005).executor("a", 1)
        job = bench.job(result(0, 2))
        bench.cancel(job=job)
        assert bench.killed == [0, 1]
        assert self.queued(bench) == 1
        bench.returned(1)
        assert self.queued(bench) == 0


class TestRecall:
    def test_what_waits_behind_a_long_task_is_recalled_for_an_idle_executor(self) -> None:
        bench = Bench(prefetch_horizon=0.005).executor("a", 1).executor("b", 1)
        bench.job(result(0, 4))
        on_b = [tid for tid in bench.tasks if bench.where[tid][0] == "b"]
        bench.succeed(*on_b)
        assert bench.get(Recall) == []
        bench.wait(0.006)
        (queued,) = [
            tid
            for tid in bench.tasks
            if bench.where[tid][0] == "a" and tid not in bench.scheduler.executors()[0].running
        ]
        assert bench.recalled == [queued]
        bench.returned(queued)
        assert set(bench.placed.values()) == {"b"}

    def test_it_is_asked_for_once(self) -> None:
        bench = Bench(prefetch_horizon=0.005).executor("a", 1)
        bench.job(result(0, 2))
        bench.executor("b", 1)
        bench.wait(1.0)
        assert len(bench.recalled) == 1
        bench.wait(1.0)
        assert bench.recalled == []

    def test_what_started_meanwhile_is_not_given_back_and_goes_on(self) -> None:
        bench = Bench(prefetch_horizon=0.005).executor("a", 1)
        job = bench.job(result(0, 2))
        bench.executor("b", 1).wait(0.006)
        assert bench.recalled == [1]
        bench.succeed(0, 1)
        assert bench.outcome(job) == "success"

    def test_given_back_attempts_go_first_and_are_not_blamed(self) -> None:
        bench = Bench(prefetch_horizon=0.005, max_failures=1).executor("a", 1)
        job = bench.job(result(0, 5))
        bench.returned(1)
        bench.succeed(0)
        assert bench.launched[0] == (0, 1)
        bench.run()
        assert bench.outcome(job) == "success"

    def test_they_keep_their_order(self) -> None:
        bench = Bench(prefetch_horizon=0.005).executor("a", 3)
        bench.job(result(0, 9))
        bench.returned(3, 4, 5)
        bench.succeed(0, 1, 2)
        assert [bench.tasks[tid].partition for tid in sorted(bench.tasks) if tid > 5][:3] == [3, 4, 5]

    def test_an_executor_that_had_to_give_back_is_not_sent_more_ahead_at_once(self) -> None:
        bench = Bench(prefetch_horizon=0.005).executor("a", 1)
        bench.job(result(0, 3))
        bench.returned(1)
        assert bench.launched == []

    def test_for_a_set_that_ranks_higher(self) -> None:
        bench = Bench(prefetch_horizon=0.005, policy="FAIR", pools={"vip": ("FIFO", 1, 1)}).executor("a", 1)
        bench.job(result(0, 9))
        bench.job(result(1, 1), pool="vip")
        bench.wait(0.006)
        assert bench.recalled == [1]
        bench.returned(1)
        bench.succeed(0)
        assert bench.launched[0] == (1, 0)

    def test_not_for_one_that_ranks_lower(self) -> None:
        bench = Bench(prefetch_horizon=0.005).executor("a", 1)
        bench.job(result(0, 9))
        bench.job(result(1, 1))
        bench.wait(1.0)
        assert bench.recalled == []

    def test_not_what_has_not_waited_for_a_horizon(self) -> None:
        bench = Bench(prefetch_horizon=0.2).executor("a").executor("b").cached("a", *((7, n) for n in range(9)))
        bench.job(result(0, 9, blocks=[[(7, n)] for n in range(9)]))
        bench.wait(0.15).succeed(0, seconds=0.15)
        assert [view.queued for view in bench.scheduler.executors()] == [2, 0]
        bench.wait(0.1)  # b has been idle for more than a horizon, but a's queue is younger
        assert bench.recalled == []
        bench.wait(0.15)
        assert bench.recalled
