"""Listeners of a context hear what happens, from the first job to the last, and never hold it up."""

from __future__ import annotations

import asyncio
import gc
import threading

import anyio
import pytest
from waiting import until

from asparkle import SparkContext as BlockingContext
from asparkle import TaskContext
from asparkle.aio import SparkContext
from asparkle.core.bus import Bus
from asparkle.core.conf import SparkConf
from asparkle.core.contracts import Listener
from asparkle.core.errors import ArgumentTypeError, ContextStopped, JobFailed
from asparkle.core.events import (
    ApplicationEnded,
    ExecutorAdded,
    ExecutorRemoved,
    JobEnded,
    JobStarted,
    StageCompleted,
    TaskEnded,
    TaskStarted,
)
from asparkle.plugins.listeners import EventRecorder

pytestmark = pytest.mark.anyio


go = threading.Event()


def hold(_):
    assert go.wait(30)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.mark.parametrize("master", ["inline", "threads[2]", "processes[2]"])
async def test_a_recorder_gets_every_event_of_a_job(master):
    recorder = EventRecorder()
    async with SparkContext(master, plugins=[recorder]) as sc:
        counts = sc.parallelize(range(10), 3).map(lambda x: (x % 2, 1)).reduceByKey(lambda a, b: a + b, 2)
        assert sorted(await counts.collect()) == [(0, 5), (1, 5)]
    assert len(recorder.of_type(JobStarted)) == 1
    assert [event.failure for event in recorder.of_type(JobEnded)] == [""]
    assert len(recorder.of_type(StageCompleted)) == 2
    outcomes = [task.outcome for task in recorder.of_type(TaskEnded)]  # what was sent ahead may have been given back
    assert outcomes.count("success") == 3 + 2 == len(outcomes) - outcomes.count("returned")
    kinds = [type(event) for event in recorder.recorded]
    assert kinds.index(JobStarted) < kinds.index(TaskEnded) < kinds.index(JobEnded)
    assert kinds.index(JobEnded) > max(i for i, kind in enumerate(kinds) if kind is StageCompleted)


@pytest.mark.parametrize("master", ["inline", "threads[2]", "processes[2]"])
async def test_what_a_task_raised_is_told_in_words(master):
    def divide(x):
        return 1 / x

    recorder = EventRecorder()
    async with SparkContext(master, plugins=[recorder]) as sc:
        with pytest.raises(JobFailed):
            await sc.parallelize([0], 1).map(divide).collect()
    ended = recorder.of_type(TaskEnded)
    assert {task.outcome for task in ended} == {"failed"}
    assert {task.error for task in ended} == {"ZeroDivisionError: division by zero"}
    assert {task.error_type for task in ended} == {"ZeroDivisionError"}
    assert all("in divide" in task.frames for task in ended)
    (job,) = recorder.of_type(JobEnded)
    assert job.failure == "task" and job.reason.endswith(": ZeroDivisionError: division by zero")


@pytest.mark.parametrize("master", ["inline", "threads[2]", "processes[2]"])
async def test_events_say_in_words_why_attempts_stages_and_jobs_failed(master):
    recorder = EventRecorder(TaskEnded, StageCompleted, JobEnded)
    async with SparkContext(master, plugins=[recorder]) as sc:
        with pytest.raises(JobFailed, match="division by zero"):
            await sc.parallelize([0], 1).map(lambda x: 1 / x).collect()
    assert {event.error for event in recorder.of_type(TaskEnded)} == {"ZeroDivisionError: division by zero"}
    assert recorder.of_type(StageCompleted)[0].error.endswith(": ZeroDivisionError: division by zero")
    assert recorder.of_type(JobEnded)[0].reason.endswith(": ZeroDivisionError: division by zero")


async def test_jobs_that_run_when_the_context_stops_end_first_and_nothing_comes_after_its_end():
    """In threads, which a stop can't end: what they say later is told to nobody."""
    recorder = EventRecorder()
    go.clear()
    garbage = list(gc.callbacks)
    async with SparkContext("threads[2]", plugins=[recorder]) as sc, anyio.create_task_group() as tasks:

        async def run() -> None:
            with pytest.raises(ContextStopped):
                await sc.parallelize([1, 2], 2).foreach(hold)

        tasks.start_soon(run)
        await until(lambda: len(recorder.of_type(TaskStarted)) == 2)
        slots = [thread for thread in threading.enumerate() if thread.name.startswith("asparkle-slot")]
        await sc.stop()
    assert [type(event) for event in recorder.recorded[-3:]] == [StageCompleted, JobEnded, ApplicationEnded]
    (job,) = recorder.of_type(JobEnded)
    assert (job.failure, job.reason) == ("cancelled", "the context was stopped while the job ran")
    go.set()
    for slot in slots:
        slot.join(5)
    assert gc.callbacks == garbage


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_executors_that_end_with_the_context_are_not_told_as_removed():
    """Also where the stop waits for one of them, as a coroutine in it takes its time to close."""
    recorder = EventRecorder(ExecutorAdded, ExecutorRemoved)

    async def lingering(x: int) -> int:
        async def stay() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.5)

        lingering.task = asyncio.get_running_loop().create_task(stay())
        return x

    async with SparkContext("processes[2]", plugins=[recorder]) as sc:
        assert await sc.parallelize([1], 1).map(lingering).collect() == [1]
        await until(lambda: len(recorder.recorded) == 2)
    assert recorder.of_type(ExecutorRemoved) == []


async def test_what_looks_secret_in_a_jobs_properties_is_not_told():
    recorder = EventRecorder(JobStarted)
    async with SparkContext("threads[1]", plugins=[recorder]) as sc:
        sc.setLocalProperty("db.password", "hunter2")
        sc.setLocalProperty("team", "blue")
        told = sc.parallelize([1], 1).map(lambda _: TaskContext().getLocalProperty("db.password"))
        assert await told.collect() == ["hunter2"]
    (job,) = recorder.recorded
    assert job.properties == {"db.password": "*********(redacted)", "team": "blue"}


async def test_a_listener_can_be_added_while_a_context_runs():
    got = []
    async with SparkContext("threads[1]") as sc:
        assert await sc.parallelize([1]).count() == 1  # nobody listens yet
        sc.addListener(got.append, JobEnded)
        assert await sc.parallelize([1]).count() == 1
    assert [type(event) for event in got] == [JobEnded]


def test_a_coroutine_can_be_added_to_a_blocking_context():
    got = []

    async def listen(event):
        await anyio.sleep(0)
        got.append(event)

    with BlockingContext("threads[1]") as sc:
        sc.addListener(listen, JobEnded)
        with pytest.raises(ArgumentTypeError, match="a listener is"):
            sc.addListener(5)
        assert sc.parallelize([1]).count() == 1
    assert [type(event) for event in got] == [JobEnded]


async def test_a_listener_that_never_returns_holds_up_neither_jobs_nor_the_stop():
    never = threading.Event()
    conf = SparkConf().set("asparkle.listener.flush.timeout", "10ms")

    class Hangs(EventRecorder):
        def on_event(self, event):
            never.wait()

    with anyio.fail_after(5):
        async with SparkContext("threads[1]", conf=conf, plugins=[Hangs()]) as sc:
            assert await sc.parallelize(range(100), 10).count() == 100
    never.set()


async def test_a_context_without_listeners_builds_no_events(monkeypatch):
    monkeypatch.setattr(Bus, "post", lambda bus, event: pytest.fail(f"built {event}"))
    async with SparkContext("inline") as sc:
        assert await sc.parallelize(range(4), 2).count() == 4


@pytest.mark.parametrize("events", [("JobEnded",), (5,), (None,), ([JobEnded],), (JobEnded, "JobStarted")])
async def test_a_type_of_events_that_is_no_class_is_refused_at_the_call(events):
    async with SparkContext("inline") as sc:
        with pytest.raises(ArgumentTypeError, match=r"^listener print: events = \(.*: expected classes"):
            sc.addListener(print, *events)
        assert await sc.parallelize([1]).count() == 1


async def test_a_listeners_own_events_are_checked_too():
    class Lists(Listener):
        events = [JobEnded]

        def on_event(self, event):
            pass

    async with SparkContext("inline") as sc:
        with pytest.raises(ArgumentTypeError, match="events = "):
            sc.addListener(Lists())
