"""Streams of events: in order, complete from the call on, bounded, and gone with the loop that reads them."""

from __future__ import annotations

import gc
import threading
from contextlib import aclosing

import anyio
import pytest
from waiting import until, wait_until

from asparkle import SparkContext as BlockingContext
from asparkle.aio import SparkContext
from asparkle.core.conf import SparkConf
from asparkle.core.errors import ArgumentTypeError, ContextError, ContextStopped, DeadlockError
from asparkle.core.events import ApplicationEnded, JobEnded, JobStarted, TaskEnded, TaskStarted
from asparkle.plugins.listeners import EventRecorder

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


def small_queue() -> SparkConf:
    return SparkConf().set("asparkle.listener.queue.size", "5")


# ------------------------------------------------------------------------------------------ asynchronous


@pytest.mark.parametrize("master", ["inline", "threads[2]", "processes[2]"])
async def test_a_stream_has_what_a_listener_gets_from_the_call_on_until_the_end(master):
    recorder, got = EventRecorder(), []
    async with SparkContext(master, plugins=[recorder]) as sc:
        await sc.parallelize([1]).count()
        stream = sc.events()
        await sc.parallelize(range(10), 3).map(lambda x: (x % 2, 1)).reduceByKey(lambda a, b: a + b).collect()
    async for event in stream:  # whatever came before its first step waits for it
        got.append(event)
    assert isinstance(got[-1], ApplicationEnded)
    assert got == recorder.recorded[-len(got) :]
    assert [event.job for event in got if isinstance(event, JobEnded)] == [1]
    assert stream.dropped == 0
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_stream_is_read_while_jobs_run_and_ends_with_the_context():
    seen = []

    async def read(stream):
        async for event in stream:
            seen.append(event)

    async with anyio.create_task_group() as tasks:
        async with SparkContext("threads[2]") as sc:
            tasks.start_soon(read, sc.events(JobEnded, TaskEnded))
            for jobs in range(1, 4):
                await sc.parallelize(range(4), 2).count()
                await until(lambda jobs=jobs: len(seen) == 3 * jobs)
    assert [type(event) for event in seen] == [TaskEnded, TaskEnded, JobEnded] * 3


async def test_leaving_the_loop_leaves_the_bus_at_once():
    async with SparkContext("threads[1]") as sc:
        stream = sc.events(JobEnded)
        job = sc.submit(sc.parallelize([1]).count)
        async for _ in stream:
            break
        assert sc._bus.active  # the variable has it
        del stream
        assert not sc._bus.active
        assert not sc._driver.scheduler.listening  # so events are not even built
        await job.result()


async def test_awaiting_a_single_event_leaves_the_bus():
    async with SparkContext("threads[1]") as sc:
        job = sc.submit(sc.parallelize([1]).count)
        assert isinstance(await anext(sc.events(JobEnded)), JobEnded)
        assert not sc._bus.active
        await job.result()


async def test_a_loop_that_raises_leaves_the_bus():
    async def read(sc):
        async for event in sc.events(JobStarted):
            raise KeyError(event.job)

    async with SparkContext("threads[1]") as sc:
        job = sc.submit(sc.parallelize([1]).count)
        with pytest.raises(KeyError) as raised:  # which holds the traceback, and the loop's frame
            await read(sc)
        assert raised.value.args == (0,)
        assert not sc._bus.active
        assert await job.result() == 1


async def test_a_cancelled_loop_leaves_the_bus_though_its_traceback_is_kept():
    kept = []

    async def read(sc):
        try:
            async for _ in sc.events(JobStarted):
                pass
        except BaseException as error:
            kept.append(error)
            raise

    async with SparkContext("threads[1]") as sc:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, sc)
            await until(lambda: sc._bus.active)
            tasks.cancel_scope.cancel()
        assert len(kept) == 1
        assert not sc._bus.active


async def test_waiting_with_a_timeout_loses_no_event():
    async with SparkContext("threads[1]") as sc:
        stream = sc.events(JobEnded)
        with anyio.move_on_after(0.01):
            await anext(stream)
        await sc.parallelize([1]).count()
        assert (await anext(stream)).job == 0


async def test_a_stream_is_a_context_manager_and_is_closed_once():
    async with SparkContext("threads[1]") as sc:
        async with sc.events(JobEnded) as stream:
            await sc.parallelize([1]).count()
            assert (await anext(stream)).job == 0
        assert not sc._bus.active
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        async with aclosing(sc.events(JobEnded)) as other:
            await sc.parallelize([1]).count()
        assert [event async for event in other] == []  # what was not read is given up
        await other.aclose()


async def test_closing_ends_the_wait_of_another_task():
    ended = []

    async def read(stream):
        async for _ in stream:
            pytest.fail("there was no job")
        ended.append(True)

    async with SparkContext("threads[1]") as sc, anyio.create_task_group() as tasks:
        stream = sc.events(JobEnded)
        tasks.start_soon(read, stream)
        await anyio.wait_all_tasks_blocked()
        await stream.aclose()
        await until(lambda: ended)


async def test_a_stream_that_is_destroyed_in_another_thread_leaves_too():
    async with SparkContext("threads[1]") as sc:
        held = [sc.events(JobEnded)]
        await anyio.to_thread.run_sync(held.clear)
        await until(lambda: not sc._bus.active)


async def test_a_stream_in_a_cycle_leaves_when_it_is_collected():
    async with SparkContext("threads[1]") as sc:
        cycle = [sc.events(JobEnded)]
        cycle.append(cycle)
        del cycle
        gc.collect()
        assert not sc._bus.active


async def test_what_does_not_fit_is_counted_and_logged_once_and_holds_up_no_job(caplog):
    async with SparkContext("threads[1]", conf=small_queue()) as sc:
        stream, quick = sc.events(TaskEnded), sc.events(JobEnded)
        for _ in range(3):
            assert await sc.parallelize(range(20), 20).count() == 20
        assert stream.dropped == 60 - 5
        assert sc._bus.dropped() == {"events(TaskEnded)": 55}
        assert [event.partition for event in [await anext(stream) for _ in range(5)]] == sorted(range(5))
        assert (await anext(quick)).job == 0
        await sc.parallelize([1]).count()
        assert (await anext(stream)).partition == 0  # it goes on
    assert caplog.messages == ["listener is too slow: listener='events(TaskEnded)' events_dropped=55"]


async def test_two_loops_share_a_stream():
    shares = [[], []]

    async def read(stream, share):
        async for event in stream:
            share.append(event.partition)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        async with SparkContext("threads[1]") as sc:
            stream = sc.events(TaskEnded)
            for share in shares:
                tasks.start_soon(read, stream, share)
            await sc.parallelize(range(100), 100).count()
    assert sorted(shares[0] + shares[1]) == list(range(100))


async def test_reading_gives_others_their_turn():
    turns = []

    async def count():
        while True:
            turns.append(len(turns))
            await anyio.lowlevel.checkpoint()

    async with SparkContext("threads[1]") as sc:
        stream = sc.events(TaskStarted)
        await sc.parallelize(range(200), 200).count()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            for _ in range(200):
                await anext(stream)
            assert len(turns) >= 5
            tasks.cancel_scope.cancel()


async def test_what_can_not_be_streamed_is_refused():
    sc = SparkContext("inline")
    with pytest.raises(ContextStopped, match="not entered yet"):
        sc.events()
    async with sc:
        with pytest.raises(ArgumentTypeError, match=r"listener events: events = \('JobEnded',\): expected classes"):
            sc.events("JobEnded")

        def elsewhere():
            async def read():
                return sc.events()

            return anyio.run(read)

        with pytest.raises(ContextError, match="another event loop"):
            await anyio.to_thread.run_sync(elsewhere)
        assert not sc._bus.active
    with pytest.raises(ContextStopped):
        sc.events()


# ---------------------------------------------------------------------------------------------- blocking


@pytest.fixture
def sc():
    with BlockingContext("threads[2]") as context:
        yield context


def reading(stream, got):
    thread = threading.Thread(target=lambda: got.extend(stream), daemon=True)
    thread.start()
    return thread


def test_another_thread_reads_while_jobs_run_and_ends_with_the_context(sc):
    got = []
    thread = reading(sc.events(TaskEnded, JobEnded), got)
    for jobs in range(1, 4):
        sc.parallelize(range(4), 2).count()
        wait_until(lambda jobs=jobs: len(got) == 3 * jobs)
    sc.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert [type(event) for event in got] == [TaskEnded, TaskEnded, JobEnded] * 3


def test_nothing_is_lost_from_the_call_on_and_the_rest_can_be_read_after_the_end(sc):
    stream = sc.events()
    assert sc.parallelize(range(4), 4).count() == 4
    sc.stop()
    got = list(stream)
    assert [type(event) for event in got if isinstance(event, TaskEnded | JobEnded)] == [TaskEnded] * 4 + [JobEnded]
    assert isinstance(got[-1], ApplicationEnded)
    assert list(stream) == []


def test_leaving_a_blocking_loop_leaves_the_bus(sc):
    bus = sc._context._bus
    stream = sc.events(JobEnded)
    sc.parallelize([1]).count()
    for _ in stream:
        break
    assert bus.active  # the variable has it
    del stream
    wait_until(lambda: not bus.active)
    with sc.events(JobEnded) as stream:
        sc.parallelize([1]).count()
        assert next(stream).failure == ""
    wait_until(lambda: not bus.active)
    assert list(stream) == []


def test_closing_wakes_all_threads_that_wait(sc):
    stream, got = sc.events(JobEnded), []
    threads = [reading(stream, got) for _ in range(3)]
    stream.close()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads) and got == []


def test_what_a_blocking_stream_misses_is_counted():
    with BlockingContext("threads[2]", conf=small_queue()) as sc:
        stream = sc.events(TaskEnded)
        assert sc.parallelize(range(20), 20).count() == 20
        assert stream.dropped == 15
    assert len(list(stream)) == 5


def test_reading_on_the_contexts_own_loop_is_refused(sc):
    stream, errors = sc.events(JobEnded), []

    async def listen(event):
        try:
            next(stream)
        except DeadlockError as error:
            errors.append(str(error))

    sc.addListener(listen, JobEnded)
    sc.parallelize([1]).count()
    wait_until(lambda: errors)
    assert "read it in another thread" in errors[0]


def test_a_stopped_context_has_no_streams(sc):
    sc.stop()
    with pytest.raises(ContextStopped):
        sc.events()
