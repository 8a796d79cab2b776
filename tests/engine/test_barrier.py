"""Barrier stages: all tasks at once, or none; what they tell each other; what happens when one fails."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import anyio
import pytest
from waiting import until

from asparkle import SparkConf
from asparkle.aio import BarrierTaskContext, SparkContext, TaskContext
from asparkle.core.errors import (
    ArgumentTypeError,
    BarrierStageError,
    ContextStopped,
    JobFailed,
    TaskKilled,
    UserFunctionError,
)

SEVERAL = ["threads[3]", "processes[3]"]


def gather(elements):
    context = BarrierTaskContext.get()
    sums = context.allGather(str(sum(elements)))
    context.barrier()
    again = context.allGather(f"{context.partitionId()} of {len(context.getTaskInfos())}")
    return [(sums, again)]


@pytest.mark.parametrize("master", SEVERAL)
async def test_tasks_exchange_messages(master):
    async with SparkContext(master) as sc:
        results = await sc.parallelize(range(6), 3).barrier().mapPartitions(gather).collect()
        assert results == [(["1", "5", "9"], ["0 of 3", "1 of 3", "2 of 3"])] * 3
        assert await sc.parallelize(range(6), 3).barrier().mapPartitionsWithIndex(lambda i, xs: [i]).collect() == [
            0,
            1,
            2,
        ]
        assert TaskContext.get() is None


async def test_a_context_can_be_returned_from_its_task(sc):
    (plain,) = await sc.parallelize([1], 1).map(lambda x: TaskContext.get()).collect()
    assert (type(plain), plain.partitionId(), plain.getLocalProperty("x"), plain.cpus()) == (TaskContext, 0, None, 1)
    (barrier,) = await sc.parallelize([1], 1).barrier().mapPartitions(lambda xs: [BarrierTaskContext.get()]).collect()
    assert [info.address for info in barrier.getTaskInfos()] == ["localhost"]


async def test_one_task_is_a_barrier_stage_too(sc):
    assert await sc.parallelize([1, 2], 1).barrier().mapPartitions(gather).collect() == [(["3"], ["0 of 1"])]


@pytest.mark.parametrize("master", SEVERAL)
async def test_a_barrier_stage_may_follow_and_precede_shuffles(master):
    async with SparkContext(master) as sc:
        pairs = sc.parallelize(range(30), 3).map(lambda x: (x % 3, x)).reduceByKey(lambda a, b: a + b, 3)
        gathered = pairs.barrier().mapPartitions(
            lambda xs: [(int(s), 1) for s in BarrierTaskContext.get().allGather(str(sum(x for _, x in xs)))]
        )
        assert sorted(await gathered.reduceByKey(lambda a, b: a + b).collect()) == [(135, 3), (145, 3), (155, 3)]


@pytest.mark.parametrize("master", SEVERAL)
async def test_when_one_task_fails_all_run_again(master, tmp_path):
    tried = str(tmp_path)

    def fail_once(elements):
        context = BarrierTaskContext.get()
        Path(tried, f"{context.partitionId()}-{context.attemptNumber()}").touch()
        context.barrier()
        if context.partitionId() == 1 and context.attemptNumber() == 0:
            raise OSError("not yet")
        context.barrier()
        return elements

    async with SparkContext(master) as sc:
        with anyio.fail_after(30):
            assert await sc.parallelize(range(3), 3).barrier().mapPartitions(fail_once).collect() == [0, 1, 2]
    assert {path.name.split("-")[0] for path in tmp_path.iterdir() if not path.name.endswith("-0")} == {"0", "1", "2"}


async def test_when_a_worker_is_killed_all_run_again(tmp_path):
    marker = str(tmp_path / "killed")

    def die_once(elements):
        context = BarrierTaskContext.get()
        context.barrier()
        if context.partitionId() == 2 and not os.path.exists(marker):
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return context.allGather(str(context.partitionId()))

    async with SparkContext("processes[3]") as sc:
        with anyio.fail_after(60):
            assert await sc.parallelize(range(3), 3).barrier().mapPartitions(die_once).collect() == ["0", "1", "2"] * 3


@pytest.mark.parametrize("master", SEVERAL)
async def test_a_cancelled_barrier_stage_leaves_its_slots(master):
    def wait_for_nobody(elements):
        context = BarrierTaskContext.get()
        if context.partitionId():
            context.barrier()
        time.sleep(0.2)
        return elements

    async with SparkContext(master) as sc:
        stuck = sc.parallelize(range(3), 3).barrier().mapPartitions(wait_for_nobody)
        with anyio.move_on_after(0.5) as scope:
            await stuck.map(lambda x: time.sleep(0.5)).collect()
        assert scope.cancelled_caught
        with anyio.fail_after(20):
            assert await sc.parallelize(range(3), 3).barrier().mapPartitions(gather).count() == 3


async def test_a_task_that_waits_for_others_ends_when_its_context_is_stopped(tmp_path):
    waits, ended, go_on = tmp_path / "waits", tmp_path / "ended", tmp_path / "go on"

    def wait_for_other(elements):
        if BarrierTaskContext.get().partitionId():
            while not go_on.exists():
                time.sleep(0.01)
            return
        waits.touch()
        try:
            BarrierTaskContext.get().barrier()
        except TaskKilled as killed:
            ended.write_text(str(killed))
            raise

    async with SparkContext("threads[2]") as sc:
        job = sc.submit(sc.parallelize(range(2), 2).barrier().mapPartitions(wait_for_other).collect)
        await until(waits.exists)
    with pytest.raises(ContextStopped):
        await job
    await until(lambda: ended.exists() and ended.read_text().startswith("the context was stopped"))
    go_on.touch()


async def test_more_tasks_than_slots_is_an_error():
    conf = SparkConf().setMaster("processes[2]").set("asparkle.scheduler.barrierSlotWait", "4s")
    async with SparkContext(conf=conf) as sc:
        with pytest.raises(JobFailed, match="slots"):
            await sc.parallelize(range(3), 3).barrier().mapPartitions(gather).collect()
        assert await sc.parallelize(range(2), 2).barrier().mapPartitions(gather).count() == 2


async def test_tasks_that_do_not_come_are_an_error():
    conf = SparkConf().setMaster("processes[2]").set("spark.barrier.sync.timeout", "1s")

    def leave_out_barrier(elements):
        context = BarrierTaskContext.get()
        if context.partitionId():
            context.barrier()
        else:
            time.sleep(30)
        return elements

    async with SparkContext(conf=conf.set("spark.task.maxFailures", "1")) as sc:
        with anyio.fail_after(25), pytest.raises(JobFailed, match="barrier"):
            await sc.parallelize(range(2), 2).barrier().mapPartitions(leave_out_barrier).collect()


async def test_a_task_that_returns_before_its_barrier_fails_its_job_and_no_other(local):
    """When the barrier timed out, the whole application ended."""

    def forget_barrier(elements):
        context = BarrierTaskContext.get()
        if context.partitionId():
            context.barrier()
        return elements

    with anyio.fail_after(60), pytest.raises(JobFailed, match=r"tasks \[0\] ended without coming to it"):
        await local.parallelize(range(2), 2).barrier().mapPartitions(forget_barrier).collect()
    assert await local.parallelize(range(4), 2).sum() == 6


@pytest.mark.parametrize(
    "follow",
    [
        lambda rdd: rdd.coalesce(1).collect(),
        lambda rdd: rdd.union(rdd).collect(),
        lambda rdd: rdd.first(),
        lambda rdd: rdd.take(1),
    ],
)
async def test_what_is_not_one_task_for_each_partition_is_refused(local, follow):
    with pytest.raises(BarrierStageError, match="2"):
        await follow(local.parallelize(range(4), 2).barrier().mapPartitions(lambda xs: xs))


async def test_outside_a_barrier_stage_there_is_no_barrier(sc):
    with pytest.raises(UserFunctionError, match=r"rdd.barrier\(\)"):
        BarrierTaskContext.get()
    with pytest.raises(JobFailed, match="outside a task of a barrier stage"):
        await sc.parallelize([1], 1).map(lambda x: BarrierTaskContext.get()).collect()
    with pytest.raises(ArgumentTypeError, match="mapPartitions: f"):
        sc.parallelize([1]).barrier().mapPartitions(3)
    with pytest.raises(JobFailed, match="allGather: message = 3"):
        await sc.parallelize([1], 1).barrier().mapPartitions(lambda xs: BarrierTaskContext.get().allGather(3)).collect()
