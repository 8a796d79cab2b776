"""Events that are made only where a listener wants them: what asparkle logs, and how far stages are."""

from __future__ import annotations

import logging
import re
import threading

import anyio
import pytest
import structlog
from waiting import until

from asparkle.aio import AccumulatorParam, SparkContext, TaskContext
from asparkle.core import logs
from asparkle.core.conf import SparkConf
from asparkle.core.contracts import Listener, MetricSink
from asparkle.core.errors import ConfigurationError
from asparkle.core.events import JobEnded, LogWritten, StageCompleted, StageProgress, StageSubmitted, TaskEnded
from asparkle.core.logs import log
from asparkle.plugins.listeners import EventRecorder, LogListener

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


def written(recorder: EventRecorder) -> list[str]:
    return [event.message for event in recorder.of_type(LogWritten)]


class Fragile(AccumulatorParam):
    """Adds nothing in the driver, which logs that."""

    def zero(self, value):
        return value

    def addInPlace(self, one, other):
        if TaskContext.get() is None:
            raise ValueError("broken")
        return one + other


async def log_something(sc) -> None:
    total = sc.accumulator(0, Fragile())
    await sc.parallelize([1], 1).foreach(lambda x: total.add(x))


# ------------------------------------------------------------------------------------------- what is logged


@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
async def test_what_asparkle_logs_is_an_event_of_its_application_and_of_no_other(master, caplog):
    mine, other = EventRecorder(), EventRecorder()
    async with SparkContext(master, plugins=[mine]) as sc, SparkContext(master, plugins=[other]):
        await log_something(sc)
    (event,) = mine.of_type(LogWritten)
    assert (event.level, event.message) == ("error", "an accumulator could not be updated")
    assert event.fields["exception"].splitlines()[0] == "Traceback (most recent call last):"
    assert event.fields["exception"].splitlines()[-1] == "ValueError: broken"
    assert written(other) == []
    assert len(caplog.messages) == 1  # it is still logged, once
    kinds = [type(event) for event in mine.recorded]
    assert kinds.index(LogWritten) < kinds.index(JobEnded)


async def test_what_belongs_to_no_application_is_told_to_all_from_any_thread():
    first, second = EventRecorder(LogWritten), EventRecorder(LogWritten)
    async with SparkContext("threads[1]", plugins=[first]), SparkContext("threads[1]", plugins=[second]):
        threads = [threading.Thread(target=lambda n=n: log().warning("from afar", n=n)) for n in range(8)]
        for thread in threads:
            thread.start()
        log().warning("here", where=["a", 1])
        await until(lambda: len(first.recorded) == len(second.recorded) == 9)
    for recorder in (first, second):
        assert sorted(event.fields.get("n", "") for event in recorder.recorded) == ["", *map(str, range(8))]
        (here,) = (event for event in recorder.recorded if event.message == "here")
        assert here.fields == {"where": "['a', 1]"} and here.level == "warning"


async def test_what_a_metric_sink_logs_is_no_event(caplog):
    class Broken(MetricSink):
        def open(self, read):
            raise ValueError("broken")

        def report(self, metrics):
            pass

    recorder = EventRecorder(LogWritten)
    async with SparkContext("threads[1]", plugins=[recorder, Broken()]):
        await until(lambda: caplog.messages)
    assert caplog.messages[0].startswith("metric sink failed")
    assert written(recorder) == []


async def test_the_level_of_the_logger_says_what_is_told():
    recorder, logger = EventRecorder(LogWritten), logging.getLogger("asparkle")
    async with SparkContext("threads[1]", plugins=[recorder]) as sc:
        log().info("unseen")
        sc.setLogLevel("INFO")
        log().info("seen")
        logger.setLevel(logging.NOTSET)
    assert written(recorder) == ["seen"]


@pytest.fixture
def configured():
    """A host that has configured structlog, and what it gets."""
    got = []

    def keep(_logger, method, record):
        if record["event"] == "secret":
            raise structlog.DropEvent
        got.append((method, record.pop("event"), dict(record)))
        return ""

    structlog.configure(
        processors=[keep, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.ReturnLoggerFactory(),
    )
    yield got
    structlog.reset_defaults()


async def test_where_the_host_has_configured_structlog_its_processors_come_first(configured):
    recorder = EventRecorder(LogWritten)
    async with SparkContext("threads[1]", plugins=[recorder]):
        log().warning("told", n=1)
        log().warning("secret")
        log().debug("too quiet")
    assert configured == [("warning", "told", {"n": 1})]
    assert [(event.message, dict(event.fields)) for event in recorder.recorded] == [("told", {"n": "1"})]


class Logs(Listener):
    """Logs whatever it gets."""

    def __init__(self):
        self.got = []

    def on_event(self, event):
        self.got.append(event)
        log().warning("got one", n=len(self.got))


class LogsAtOnce(Logs):
    at_once = True


class LogsInACoroutine(Logs):
    async def on_event(self, event):
        super().on_event(event)


@pytest.mark.parametrize("kind", [Logs, LogsAtOnce, LogsInACoroutine])
async def test_a_listener_that_logs_does_not_hear_itself(kind, caplog):
    listener, recorder = kind(), EventRecorder()
    async with SparkContext("threads[1]", plugins=[listener, recorder]) as sc:
        await sc.parallelize(range(4), 4).count()
    others = [event for event in recorder.recorded if not isinstance(event, LogWritten)]
    assert [event for event in listener.got if not isinstance(event, LogWritten)] == others
    assert written(recorder) == []
    assert caplog.messages.count("got one: n=1") == 1 and len(caplog.messages) == len(listener.got)


async def test_the_log_listener_logs_each_event_once_and_none_that_was_logged_already(caplog):
    recorder = EventRecorder()
    caplog.set_level(logging.INFO, "asparkle")
    async with SparkContext("threads[1]", plugins=[LogListener(), recorder]) as sc:
        await log_something(sc)
    assert written(recorder) == ["an accumulator could not be updated"]
    kinds = [re.split("[:\n]", message)[0] for message in caplog.messages]
    told = [type(event).__name__ for event in recorder.recorded if not isinstance(event, LogWritten)]
    assert sorted(kinds) == sorted(["an accumulator could not be updated", *told])
    (ended,) = (message for message in caplog.messages if message.startswith("JobEnded"))
    assert ended.endswith("job=0 failure='' reason=''") and "VERSION" not in caplog.text


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_drop_that_logs_drops_no_more_than_it_must(is_async, caplog):
    go_on, go_on_async = threading.Event(), anyio.Event()
    recorder = EventRecorder(LogWritten)

    async def slow_async(event):
        await go_on_async.wait()

    def slow(event):
        go_on.wait(60)

    conf = SparkConf().set("asparkle.listener.queue.size", "3")
    async with SparkContext("threads[1]", conf=conf, plugins=[recorder]) as sc:
        sc.addListener(slow_async if is_async else slow)
        for _ in range(5):
            assert await sc.parallelize(range(4), 4).count() == 4
        go_on.set()
        go_on_async.set()
    assert 1 <= sum("listener is too slow" in message for message in caplog.messages) <= 2
    assert written(recorder) == []  # it is the listener's own doing


async def test_a_listener_that_fails_at_every_event_fails_at_no_event_about_itself(caplog):
    def fails(event):
        raise ValueError(event)

    recorder = EventRecorder()
    async with SparkContext("threads[1]", plugins=[recorder]) as sc:
        sc.addListener(fails)
        await sc.parallelize(range(4), 4).count()
    assert sum("listener failed" in message for message in caplog.messages) == 1


async def test_without_a_listener_for_it_nothing_hears():
    async with SparkContext("threads[1]", plugins=[EventRecorder(JobEnded)]) as sc:
        assert not logs._hearers
        stream = sc.events(LogWritten)
        assert len(logs._hearers) == 1
        log().warning("told")
        assert (await anext(stream)).message == "told"
        await stream.aclose()
        assert not logs._hearers
        recorder = EventRecorder()
        sc.addListener(recorder)
    assert not logs._hearers
    log().warning("after the end")
    assert written(recorder) == []


# -------------------------------------------------------------------------------------------- how far stages are


def conf(interval: str = "10ms") -> SparkConf:
    return SparkConf().set("asparkle.events.progress.interval", interval)


@pytest.fixture
def gate(tmp_path):
    """A file that holds up tasks, in whichever process, until it is there."""
    return tmp_path / "open"


def wait_for(gate):
    def wait(x):
        import time

        while x >= 2 and not gate.exists():
            time.sleep(0.01)
        return x

    return wait


@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
async def test_progress_is_told_while_a_stage_runs_and_when_it_has_changed(master, gate):
    recorder = EventRecorder(StageProgress, StageSubmitted, StageCompleted)
    async with SparkContext(master, conf=conf(), plugins=[recorder]) as sc:
        rdd = sc.parallelize(range(4), 4).map(wait_for(gate))
        job = sc.submit(rdd.collect)
        async with sc.events(StageProgress) as stream:
            async for event in stream:
                if (event.tasks, event.completed, event.running) == (4, 2, 2):
                    break
        await anyio.sleep(0.1)  # ten intervals, in which nothing changes
        gate.touch()
        assert await job.result() == [0, 1, 2, 3]
    seen = recorder.of_type(StageProgress)
    numbers = [(event.completed, event.running) for event in seen]
    assert [completed for completed, _ in numbers] == sorted(completed for completed, _ in numbers)
    assert numbers.count((2, 2)) == 1
    assert {(event.stage, event.attempt, event.tasks, event.failed) for event in seen} == {(0, 0, 4, 0)}
    kinds = [type(event) for event in recorder.recorded]
    assert kinds[0] is StageSubmitted and kinds[-1] is StageCompleted


async def test_progress_says_what_failed_and_how_many_elements_were_read(gate, tmp_path):
    wait, failed = wait_for(gate), tmp_path / "failed"

    def fails_once(x):
        if x == 3 and not failed.exists():
            failed.touch()
            raise ValueError("once")
        return wait(x)

    async with SparkContext("threads[2]", conf=conf()) as sc:
        cached = sc.parallelize([0, 0, 1, 1, 2, 2, 3, 3], 4).cache()
        await cached.count()
        stream = sc.events(StageProgress)
        job = sc.submit(cached.map(fails_once).count)
        async for event in stream:
            if event.completed == event.running == 2 and event.failed:
                break
        assert (event.failed, event.records) == (1, 4)  # of attempts that succeeded
        gate.touch()
        assert await job.result() == 8


async def test_a_listener_that_comes_late_is_told_of_stages_that_run(gate):
    async with SparkContext("threads[2]", conf=conf()) as sc:
        started = sc.events(TaskEnded)
        job = sc.submit(sc.parallelize(range(4), 4).map(wait_for(gate)).collect)
        await anext(started)
        await anext(started)
        event = await anext(sc.events(StageProgress))
        assert (event.tasks, event.completed) == (4, 2)
        gate.touch()
        await job.result()


async def test_no_timer_runs_without_stages_or_without_a_listener(monkeypatch, gate):
    naps = []
    sleep = anyio.sleep

    async def nap(seconds):
        if seconds == 0.011:
            naps.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(anyio, "sleep", nap)
    async with SparkContext("threads[2]", conf=conf("11ms")) as sc:
        await sc.parallelize(range(4), 4).count()
        assert naps == []
        stream = sc.events(StageProgress)
        await sleep(0.05)
        assert naps == []  # nothing runs
        job = sc.submit(sc.parallelize(range(4), 4).map(wait_for(gate)).collect)
        await anext(stream)
        assert naps
        await stream.aclose()
        await sleep(0.05)
        seen = len(naps)
        await sleep(0.05)
        assert len(naps) == seen  # nobody wants it
        gate.touch()
        await job.result()


async def test_an_interval_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigurationError, match=r"asparkle.events.progress.interval = '1ms': expected a duration of"):
        SparkContext("inline", conf=conf("1ms"))
