"""Jobs in a caller's hands: handles, deadlines, draining, what the status tracker tells, and asynchronous input."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import pytest
from waiting import until

import asparkle
from asparkle.aio import JobCancelled, JobFailed, SparkConf, SparkContext
from asparkle.core.errors import (
    ArgumentError,
    ArgumentTypeError,
    ConfigurationError,
    ContextError,
    ContextStopped,
    JobDeadlineExceeded,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["threads[2]", "processes[2]"])
async def sc(request: pytest.FixtureRequest):
    async with SparkContext(request.param) as context:
        yield context


def waiting_for(path: Path):
    """A coroutine function that returns once there is a file ``path``, for tasks."""

    async def wait(x):
        (path.parent / f"begun {x}").touch()
        while not path.exists():
            await asyncio.sleep(0.01)
        return x

    return wait


# ---------------------------------------------------------------------------------------------- handles


async def test_a_handle_tells_how_far_its_action_is(sc, tmp_path):
    end = tmp_path / "end"
    job = sc.submit(sc.parallelize(range(4), 4).map(waiting_for(end)).collect)
    await until(lambda: job.progress().running == 2)
    assert job.progress()._replace(running=0) == (1, 4, 0, 0, 0)
    assert not job.done and "under way" in repr(job)
    with pytest.raises(TimeoutError):
        await job.result(timeout=0.01)
    end.touch()
    assert await job == [0, 1, 2, 3]
    assert await job.result() == [0, 1, 2, 3]
    assert job.done
    assert job.progress() == (1, 4, 4, 0, 0)
    metrics = job.metrics()
    assert metrics.jobs == 1 and metrics.tasks == 4 and metrics.failed_tasks == 0
    assert 0 < metrics.task_seconds < 2 * metrics.seconds + 1
    assert metrics.seconds == job.metrics().seconds  # its end


async def test_an_action_of_several_jobs_and_stages_is_one(sc):
    rdd = sc.parallelize(range(100), 10).map(lambda x: (x % 3, x)).reduceByKey(max, 2).sortByKey(numPartitions=2)
    job = sc.submit(rdd.collect)
    assert await job == [(0, 99), (1, 97), (2, 98)]
    progress = job.progress()
    assert progress.jobs >= 2 and progress.completed == progress.tasks and progress.running == 0
    assert job.metrics().failed_tasks == 0


async def test_failures_are_counted_and_raised(sc):
    job = sc.submit(sc.parallelize([0], 1).map(lambda x: 1 / x).collect)
    with pytest.raises(JobFailed, match="ZeroDivisionError"):
        await job
    assert job.progress() == (1, 1, 0, 0, 4)


async def test_cancelling_a_handle_cancels_its_job_and_no_other(sc, tmp_path):
    end = tmp_path / "end"
    other = sc.submit(sc.parallelize([7], 1).map(waiting_for(end)).collect)
    job = sc.submit(sc.parallelize([8], 1).map(waiting_for(tmp_path / "never")).collect)
    await until(lambda: (tmp_path / "begun 8").exists())
    job.cancel()
    with pytest.raises(JobCancelled, match="by its handle"):
        await job
    assert job.done and job.progress().running == 0
    job.cancel()  # once more does no harm
    end.touch()
    assert await other == [7]
    other.cancel()  # too late
    assert await other == [7]


async def test_who_gives_up_waiting_does_not_end_it(sc, tmp_path):
    end = tmp_path / "end"
    job = sc.submit(sc.parallelize([1], 1).map(waiting_for(end)).collect)
    with anyio.move_on_after(0.05) as scope:
        await job
    assert scope.cancelled_caught
    end.touch()
    assert await job == [1]


async def test_a_handle_keeps_group_and_properties_of_where_it_was_made(sc):
    sc.setJobGroup("nightly", "at night")
    job = sc.submit(sc.parallelize(range(3)).count)
    sc.setJobGroup(None, None)
    assert await job == 3
    assert len(sc.statusTracker().getJobIdsForGroup("nightly")) == 1


async def test_a_stop_ends_what_handles_are_for(sc, tmp_path):
    job = sc.submit(sc.parallelize([1], 1).map(waiting_for(tmp_path / "never")).collect)
    await until(lambda: (tmp_path / "begun 1").exists())
    await sc.stop()
    with pytest.raises(ContextStopped):
        await job
    with pytest.raises(ContextStopped):
        sc.submit(sc.parallelize([1]).count)


async def test_what_is_no_action_is_told_when_it_returns(sc):
    for told, action, *arguments in (
        (r"RDD\.map, which returned .* of type RDD: ", sc.parallelize([1]).map, abs),
        (r"<lambda>, which returned 5 of type int: ", lambda: 5),
    ):
        with pytest.raises(ArgumentTypeError, match=f"submit: action = .*{told}submit takes an action such as rdd.sum"):
            await sc.submit(action, *arguments)
    assert await sc.submit(lambda: sc.parallelize([5]).first()) == 5


def test_a_blocking_handle(tmp_path):
    with asparkle.SparkContext("threads[2]") as sc:
        end = tmp_path / "end"
        job = sc.submit(sc.parallelize(range(3), 3).map(waiting_for(end)).collect)
        with pytest.raises(TimeoutError):
            job.result(timeout=0.05)
        assert not job.done and job.progress().tasks == 3
        end.touch()
        assert job.result(timeout=20) == [0, 1, 2]
        hung = sc.submit(sc.parallelize([1], 1).map(waiting_for(tmp_path / "never")).collect)
        hung.cancel()
        with pytest.raises(JobCancelled):
            hung.result()
        assert sc.submit(sc.runJob, sc.parallelize(range(6), 3), lambda xs: [sum(xs)], [0, 2]).result() == [1, 9]
        assert sc.submit(sc.parallelize([3, 1, 2]).takeOrdered, 2, key=lambda x: -x).result() == [3, 2]
        for wrong in (
            print,
            5,
            sc.parallelize([1]).cache,
            sc.parallelize([1]).map,
            sc.parallelize([1]).toLocalIterator,
            lambda: 1,
        ):
            with pytest.raises(ArgumentTypeError, match="submit: action = "):
                sc.submit(wrong)
    assert job.result() == [0, 1, 2] and job.metrics().tasks == 3  # after the context has stopped, too


def test_an_action_that_wants_to_exit_does_not_take_the_context_with_it():
    async def exits():
        raise SystemExit(3)

    async def main():
        async with SparkContext("threads[2]") as sc:
            job = sc.submit(exits)
            with pytest.raises(SystemExit):
                await job
            assert await sc.parallelize([1]).count() == 1

    anyio.run(main)


# --------------------------------------------------------------------------------------------- deadlines


async def test_a_job_that_is_too_slow_is_cancelled(sc, tmp_path):
    slow = sc.parallelize([1], 1).map(waiting_for(tmp_path / "never"))
    with sc.jobDeadline(0.2), pytest.raises(JobDeadlineExceeded, match=r"0\.2 s") as late:
        await slow.collect()
    assert isinstance(late.value, TimeoutError) and isinstance(late.value, JobCancelled)
    assert sc.statusTracker().getActiveJobsIds() == []
    with sc.jobDeadline(20):
        assert await sc.parallelize(range(3)).count() == 3
    assert sc.getLocalProperty("asparkle.job.deadline") is None


async def test_a_deadline_holds_while_a_job_waits_for_its_turn(tmp_path):
    conf = SparkConf().set("asparkle.scheduler.maxConcurrentJobs", "1").set("asparkle.job.deadline", "300ms")
    async with SparkContext("threads[2]", conf=conf) as sc:
        sc.setLocalProperty("asparkle.job.deadline", "1h")
        first = sc.submit(sc.parallelize([1], 1).map(waiting_for(tmp_path / "end")).collect)
        await until(lambda: (tmp_path / "begun 1").exists())
        sc.setLocalProperty("asparkle.job.deadline", None)
        with pytest.raises(JobDeadlineExceeded):
            await sc.parallelize([2]).count()
        (tmp_path / "end").touch()
        assert await first == [1]
        sc.setLocalProperty("asparkle.job.deadline", "1h")
        assert await sc.parallelize([2]).count() == 1


async def test_a_deadline_holds_for_the_job_that_saves_a_checkpoint(sc, tmp_path):
    await sc.setCheckpointDir(str(tmp_path))

    def slow_the_second_time(elements):
        if (tmp_path / "computed").exists():
            time.sleep(60)
        (tmp_path / "computed").touch()
        return elements

    rdd = sc.parallelize(range(4), 1).mapPartitions(slow_the_second_time)
    rdd.checkpoint()
    with anyio.fail_after(30), sc.jobDeadline(0.5), pytest.raises(JobDeadlineExceeded):
        await rdd.count()
    assert not rdd.isCheckpointed()


async def test_wrong_deadlines(sc):
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ArgumentError, match="jobDeadline: seconds = "), sc.jobDeadline(wrong):
            pass
    for wrong in ("5", True):
        with pytest.raises(ArgumentTypeError, match="jobDeadline: seconds = .* of type"), sc.jobDeadline(wrong):
            pass
    sc.setLocalProperty("asparkle.job.deadline", "soon")
    with pytest.raises(ConfigurationError, match="asparkle.job.deadline = 'soon'"):
        await sc.parallelize([1]).count()
    sc.setLocalProperty("asparkle.job.deadline", None)


# ------------------------------------------------------------------------------- cancelling what waits


CANCELS = {
    "group": lambda sc: sc.cancelJobGroup("mine"),
    "tag": lambda sc: sc.cancelJobsWithTag("mine"),
    "all": lambda sc: sc.cancelAllJobs(),
}


@pytest.mark.parametrize("cancel", CANCELS.values(), ids=CANCELS)
async def test_a_job_that_waits_for_its_turn_is_cancelled_too(cancel, tmp_path):
    """It ran when its turn came."""
    conf = SparkConf().setMaster("threads[2]").set("asparkle.scheduler.maxConcurrentJobs", "1")
    async with SparkContext(conf=conf) as sc:
        first = sc.submit(sc.parallelize([1], 1).map(waiting_for(tmp_path / "end")).collect)
        await until(lambda: (tmp_path / "begun 1").exists())
        other = sc.submit(sc.parallelize([2]).count)
        sc.setJobGroup("mine", "those that are cancelled")
        sc.addJobTag("mine")
        mine = sc.submit(sc.parallelize([3]).count)
        await until(lambda: sc._admission.waiting == 2)
        await cancel(sc)
        with pytest.raises(JobCancelled, match="cancelled"):
            await mine
        (tmp_path / "end").touch()
        if cancel is not CANCELS["all"]:
            assert (await first, await other) == ([1], 1)
        sc.setJobGroup(None, None)
        sc.clearJobTags()
        assert await sc.parallelize([4]).count() == 1


async def test_a_job_that_reads_its_input_is_cancelled_too(sc):
    reading = anyio.Event()

    class Endless:
        def __aiter__(self):
            return self

        async def __anext__(self):
            reading.set()
            await anyio.sleep_forever()

    job = sc.submit(sc.parallelize(Endless()).count)
    await reading.wait()
    await sc.cancelAllJobs()
    with anyio.fail_after(20), pytest.raises(JobCancelled):
        await job


# ---------------------------------------------------------------------------------------------- draining


async def test_draining_lets_jobs_end_and_no_new_ones_begin(sc, tmp_path):
    end = tmp_path / "end"
    job = sc.submit(sc.parallelize([1], 1).map(waiting_for(end)).collect)
    await until(lambda: (tmp_path / "begun 1").exists())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(sc.stop, drain=20))
        await until(lambda: sc._admission.is_closing)
        with pytest.raises(ContextStopped, match="takes no new jobs"):
            await sc.parallelize([2]).count()
        end.touch()
    assert await job == [1]


async def test_draining_lets_an_action_of_several_jobs_end(sc, tmp_path):
    end = tmp_path / "end"
    rdd = sc.parallelize(range(40), 40).map(waiting_for(end))
    job = sc.submit(rdd.take, 30)
    await until(lambda: (tmp_path / "begun 0").exists())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(sc.stop, drain=20))
        await until(lambda: sc._admission.is_closing)
        end.touch()
    assert await job == list(range(30)) and job.progress().jobs > 1


async def test_draining_lets_an_action_end_that_works_in_the_driver_between_its_jobs(sc, tmp_path):
    end = tmp_path / "end"
    job = sc.submit(sc.parallelize([1, 2], 1).map(waiting_for(end)).histogram, 2)
    await until(lambda: (tmp_path / "begun 1").exists())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(sc.stop, drain=20))
        await until(lambda: sc._admission.is_closing)
        end.touch()
    assert await job == ([1, 1.5, 2], [1, 1])


async def test_draining_waits_for_what_was_submitted_just_before(sc, tmp_path):
    """It waited only for what had come to its first job, or was between two."""
    count = sc.submit(sc.parallelize(range(4), 2).count)
    saved = sc.submit(sc.parallelize(range(4), 2).saveAsTextFile, str(tmp_path / "out"))
    await sc.stop(drain=20)
    assert await count == 4
    await saved
    assert (tmp_path / "out/_SUCCESS").exists()


def test_draining_the_blocking_context_waits_for_what_was_submitted_just_before(tmp_path):
    sc = asparkle.SparkContext("threads[2]")
    saved = sc.submit(sc.parallelize(range(4), 2).saveAsTextFile, str(tmp_path / "out"))
    sc.stop(drain=20)
    saved.result()
    assert (tmp_path / "out/_SUCCESS").exists()


async def test_draining_does_not_wait_for_ever(sc, tmp_path):
    job = sc.submit(sc.parallelize([1], 1).map(waiting_for(tmp_path / "never")).collect)
    await until(lambda: (tmp_path / "begun 1").exists())
    began = time.monotonic()
    await sc.stop(drain=0.2)
    assert time.monotonic() - began >= 0.2
    with pytest.raises(ContextStopped):
        await job


async def test_a_wrong_time_to_drain(sc):
    with pytest.raises(ArgumentError, match="stop: drain = -1"):
        await sc.stop(drain=-1)
    assert await sc.parallelize([1]).count() == 1  # it was not stopped


def test_draining_the_blocking_context(tmp_path):
    sc = asparkle.SparkContext("threads[2]")
    results = []
    rdd = sc.parallelize([1], 1).map(waiting_for(tmp_path / "end"))
    thread = threading.Thread(target=lambda: results.append(rdd.collect()))
    thread.start()
    while not (tmp_path / "begun 1").exists():
        time.sleep(0.01)
    threading.Timer(0.2, (tmp_path / "end").touch).start()
    sc.stop(drain=20)
    thread.join()
    assert results == [[1]]


# --------------------------------------------------------------------------------------- status tracker


async def test_the_tracker_knows_running_and_ended_jobs(sc, tmp_path):
    tracker = sc.statusTracker()
    end = tmp_path / "end"
    rdd = sc.parallelize(range(6), 3).map(lambda x: (x % 2, x)).reduceByKey(max, 2).map(waiting_for(end))
    job = sc.submit(rdd.collect)
    await until(lambda: len(list(tmp_path.glob("begun*"))) == 2)
    (identity,) = tracker.getJobIdsForGroup()
    assert tracker.getActiveJobsIds() == [identity]
    info = tracker.getJobInfo(identity)
    assert info.status == "RUNNING" and len(info.stageIds) == 2
    maps, result = map(tracker.getStageInfo, info.stageIds)
    assert (maps.numTasks, maps.numActiveTasks, maps.numCompletedTasks, maps.numFailedTasks) == (3, 0, 3, 0)
    await until(lambda: tracker.getStageInfo(result.stageId).numActiveTasks == 2)
    assert result.numTasks == 2 and result.currentAttemptId == 0
    assert tracker.getActiveStageIds() == [result.stageId]
    assert sum(e.numRunningTasks for e in tracker.getExecutorInfos()) == 2
    end.touch()
    await job
    assert tracker.getActiveJobsIds() == tracker.getActiveStageIds() == []
    assert tracker.getJobInfo(identity) == (identity, info.stageIds, "SUCCEEDED")
    assert tracker.getStageInfo(result.stageId)[3:] == (2, 0, 2, 0)
    assert tracker.getJobInfo(99) is None and tracker.getStageInfo(99) is None


async def test_the_tracker_knows_failures_and_groups(sc):
    tracker = sc.statusTracker()
    sc.setJobGroup("fails", None)
    with pytest.raises(JobFailed):
        await sc.parallelize([0], 1).map(lambda x: 1 / x).collect()
    sc.setJobGroup(None, None)
    (identity,) = tracker.getJobIdsForGroup("fails")
    assert tracker.getJobIdsForGroup() == []
    assert tracker.getJobInfo(identity).status == "FAILED"
    (stage,) = tracker.getJobInfo(identity).stageIds
    assert tracker.getStageInfo(stage).numFailedTasks == 4
    with pytest.raises(ArgumentTypeError):
        tracker.getJobIdsForGroup(5)


async def test_the_tracker_forgets_old_jobs(sc, monkeypatch):
    monkeypatch.setattr("asparkle.core.jobrecords.RETAINED", 3)
    for _ in range(5):
        await sc.parallelize([1]).count()
    assert sc.statusTracker().getJobIdsForGroup() == [4, 3, 2]


def test_the_tracker_from_many_threads(tmp_path):
    """As in Spark's status_api_demo."""
    with asparkle.SparkContext("threads[2]") as sc:
        end = tmp_path / "end"
        job = sc.submit(sc.parallelize(range(4), 4).map(waiting_for(end)).collect)
        seen = []

        def look():
            tracker = sc.statusTracker()
            while not job.done:
                for identity in tracker.getJobIdsForGroup():
                    seen.append(tracker.getStageInfo(tracker.getJobInfo(identity).stageIds[0]).numTasks)

        threads = [threading.Thread(target=look) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        end.touch()
        assert job.result() == [0, 1, 2, 3]
        for thread in threads:
            thread.join()
        assert seen and set(seen) == {4}


# ------------------------------------------------------------------------------------ asynchronous input


class Numbers:
    """An asynchronous iterable that can be read again; ``pauses`` at 3 the first time."""

    def __init__(self, pauses: bool = False) -> None:
        self.pauses = pauses
        self.readings = 0

    async def __aiter__(self):
        self.readings += 1
        for x in range(10):
            if self.pauses and self.readings == 1 and x == 3:
                await anyio.sleep(60)
            await anyio.sleep(0)
            yield x


async def numbers():
    for x in range(10):
        await anyio.sleep(0)
        yield x


async def test_an_asynchronous_iterable_is_read_once_and_when_it_is_needed(sc):
    source = Numbers()
    rdd = sc.parallelize(source, 3)
    assert source.readings == 0
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(rdd.count)
    assert await rdd.glom().collect() == await sc.parallelize(list(range(10)), 3).glom().collect()
    assert source.readings == 1
    assert await sc.parallelize(numbers()).map(lambda x: x * x).sum() == 285
    assert await rdd.getNumPartitions() == 3


async def test_reading_is_cancelled_with_its_job_and_begins_anew(sc):
    source = Numbers(pauses=True)
    rdd = sc.parallelize(source, 2)
    with anyio.move_on_after(0.1):
        await rdd.count()
    assert await rdd.collect() == list(range(10))
    assert source.readings == 2


async def test_half_a_generator_is_never_taken_for_all_of_it(sc):
    async def pausing():
        yield 1
        await anyio.sleep(60)
        yield 2

    rdd = sc.parallelize(pausing())
    with anyio.move_on_after(0.1):
        await rdd.count()
    for _ in range(2):
        with pytest.raises(ArgumentError, match="read in part"):
            await rdd.collect()


async def test_what_reading_raises_is_the_jobs_failure(sc):
    async def failing():
        yield 1
        raise ConnectionResetError("gone")

    rdd = sc.parallelize(failing())
    with pytest.raises(JobFailed, match="gone") as failed:
        await rdd.count()
    assert isinstance(failed.value.__cause__, ConnectionResetError)
    with pytest.raises(ArgumentError, match="read in part"):
        await rdd.count()


async def test_an_exhausted_asynchronous_generator_is_refused(sc):
    generator = numbers()
    assert len([x async for x in generator]) == 10
    with pytest.raises(ArgumentError, match="already exhausted"):
        sc.parallelize(generator)


def test_the_blocking_context_reads_asynchronous_iterables_too():
    with asparkle.SparkContext("threads[2]") as sc:
        assert sc.parallelize(numbers(), 2).collect() == list(range(10))


# ------------------------------------------------------------------- cancellation means what it does elsewhere


def test_timeouts_task_groups_and_cancellation_of_asyncio(tmp_path):
    async def main():
        async with SparkContext("processes[2]") as sc:
            hang = sc.parallelize(range(2), 1).map(waiting_for(tmp_path / "never"))  # leaves a slot
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await hang.collect()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(hang.count(), 0.2)

            with pytest.raises(ExceptionGroup) as group:  # one fails, and the other is cancelled
                async with asyncio.TaskGroup() as tasks:
                    hung = tasks.create_task(hang.collect())
                    tasks.create_task(sc.parallelize([0]).map(lambda x: 1 / x).collect())
            assert hung.cancelled()
            assert [type(error) for error in group.value.exceptions] == [JobFailed]

            task = asyncio.create_task(hang.collect())
            await asyncio.sleep(0.1)
            task.cancel("enough")
            with suppress(asyncio.CancelledError):
                await task
            assert task.cancelled()

            shielded = asyncio.create_task(sc.parallelize(range(4), 2).map(lambda x: x).collect())
            with suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await asyncio.shield(shielded)
            assert await shielded == [0, 1, 2, 3]

            first, second = await asyncio.gather(sc.parallelize([1]).count(), sc.parallelize([1, 2]).count())
            assert (first, second) == (1, 2)
            assert sc.statusTracker().getActiveJobsIds() == []

    asyncio.run(main())


async def test_iteration_holds_back_what_nobody_reads(sc, tmp_path):
    """One partition is read, the next one is computed, and none after it."""

    def touch(index, elements):
        (tmp_path / str(index)).touch()
        return elements

    rdd = sc.parallelize(range(100), 10).mapPartitionsWithIndex(touch)
    seen = []
    async for x in rdd:
        seen.append(x)
        if x == 15:  # in the second partition
            await until(lambda: (tmp_path / "2").exists())
            await anyio.sleep(0.1)  # for what should not happen
            assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "2"}
    assert seen == list(range(100))


async def test_leaving_an_iteration_leaves_no_job(sc, tmp_path):
    rdd = sc.parallelize(range(4), 4).map(lambda x: x)
    hung = rdd.mapPartitionsWithIndex(lambda i, xs: xs if i == 0 else map(lambda x: time.sleep(0.2) or x, xs))
    elements = aiter(hung)
    assert await anext(elements) == 0
    await elements.aclose()
    await until(lambda: sc.statusTracker().getActiveJobsIds() == [])


async def test_a_handle_is_made_on_the_contexts_own_loop(sc):
    def elsewhere():
        async def submit():
            with pytest.raises(ContextError):
                sc.submit(sc.parallelize([1]).count)

        asyncio.run(submit())

    await anyio.to_thread.run_sync(elsewhere)
