"""Listeners and sinks that sleep, raise or never return: jobs run at full speed, and the context stops in time.

No time is compared where counts will do: a job that waited for a listener would still wait when it is asked for.
"""

from __future__ import annotations

import threading
import time

import anyio
import anyio.to_thread
import pytest
from waiting import until

from asparkle import SparkContext as BlockingContext
from asparkle.aio import SparkContext
from asparkle.core.conf import SparkConf
from asparkle.core.contracts import Listener, MetricSink
from asparkle.core.events import JobEnded, TaskEnded
from asparkle.plugins.listeners import EventRecorder

pytestmark = pytest.mark.anyio

MASTERS = ["threads[2]", "processes[2]"]
FLUSH = 0.1
MARGIN = 5.0
"""Seconds that stopping takes besides, on a busy machine; what never returns would never end."""


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


def conf(queue: int = 10_000) -> SparkConf:
    settings = SparkConf().set("asparkle.listener.flush.timeout", f"{int(FLUSH * 1000)}ms")
    return settings.set("asparkle.listener.queue.size", str(queue))


class Bad(Listener):
    """Does at ``at`` (the first event, or the end) what ``what`` says; ``go_on`` lets it."""

    name = "bad"

    def __init__(self, what: str, at: str) -> None:
        self.what, self.at = what, at
        self.got: list[object] = []
        self.left = 0  # events that it is done with
        self.closed = False
        self.go_on = threading.Event()

    def acts(self, at: str) -> bool:
        if at != self.at:
            return False
        if self.what == "raises":
            raise ValueError(f"broken at {at}")
        return True


class Plain(Bad):
    def on_event(self, event):
        self.got.append(event)
        if self.acts("on_event"):
            self.pause()
        self.left += 1

    def close(self):
        self.closed = True
        if self.acts("close"):
            self.pause()

    def pause(self):
        if self.what == "sleeps":
            time.sleep(0.02)
        else:
            self.go_on.wait(60)


class Coroutine(Bad):
    async def on_event(self, event):
        self.got.append(event)
        if self.acts("on_event"):
            await self.pause()
        self.left += 1

    async def close(self):
        self.closed = True
        if self.acts("close"):
            await self.pause()

    async def pause(self):
        await anyio.sleep(0.02 if self.what == "sleeps" else 60)


class Uncancellable(Coroutine):
    """As one that calls a library which blocks."""

    async def pause(self):
        await anyio.to_thread.run_sync(self.go_on.wait, 60)


async def squares(sc: SparkContext) -> list[int]:
    return await sc.parallelize(range(60), 30).map(lambda x: x * x).collect()


RESULT = [x * x for x in range(60)]


@pytest.mark.parametrize("master", MASTERS)
@pytest.mark.parametrize("kind", [Plain, Coroutine, Uncancellable])
async def test_jobs_end_while_a_listener_is_at_its_first_event(kind, master, caplog):
    bad, good = kind("never returns", "on_event"), EventRecorder()
    async with SparkContext(master, conf=conf(), plugins=[bad, good]) as sc:
        for _ in range(3):
            assert await squares(sc) == RESULT
        await until(lambda: len(good.of_type(JobEnded)) == 3)
        assert len(bad.got) <= 1 and bad.left == 0
        began = time.monotonic()
        await sc.stop()
        assert time.monotonic() - began < FLUSH + MARGIN
        dropped = sc._bus.dropped()
    bad.go_on.set()
    assert dropped == {"bad": len(good.recorded) - 1, "EventRecorder": 0}
    assert caplog.messages.count(f"listener is too slow: listener='bad' events_dropped={len(good.recorded) - 1}") == 1
    in_time = kind is Coroutine  # that is cancelled
    assert sum("listener did not return in time" in message for message in caplog.messages) == (not in_time)
    await until(lambda: not any(thread.name == "listener bad" for thread in threading.enumerate()))


@pytest.mark.parametrize("master", MASTERS)
@pytest.mark.parametrize("kind", [Plain, Coroutine])
async def test_what_a_sleeping_listener_gets_and_what_it_misses_is_all_there_was(kind, master, caplog):
    bad, good = kind("sleeps", "on_event"), EventRecorder()
    async with SparkContext(master, conf=conf(), plugins=[bad, good]) as sc:
        for _ in range(3):
            assert await squares(sc) == RESULT
        assert bad.left < 90  # of over 180 events: no job waited
        began = time.monotonic()
        await sc.stop()
        assert time.monotonic() - began < FLUSH + MARGIN
        dropped = sc._bus.dropped()["bad"]
    assert dropped > 0
    assert len(bad.got) + dropped == len(good.recorded)
    assert bad.got == good.recorded[: len(bad.got)]  # in order, without a gap: there was room for all
    assert caplog.messages.count(f"listener is too slow: listener='bad' events_dropped={dropped}") == 1


@pytest.mark.parametrize("master", MASTERS)
@pytest.mark.parametrize("kind", [Plain, Coroutine])
async def test_what_exceeds_the_queue_is_dropped_counted_and_logged(kind, master, caplog):
    bad, good = kind("sleeps", "on_event"), EventRecorder(TaskEnded)
    async with SparkContext(master, conf=conf(queue=3), plugins=[bad]) as sc:
        stream = sc.events()
        for _ in range(3):
            assert await squares(sc) == RESULT
        dropped = sc._bus.dropped()["bad"]
        assert dropped > 0 and stream.dropped > 0
        sc.addListener(good)
        assert await squares(sc) == RESULT
    messages = [message for message in caplog.messages if "listener='bad'" in message]
    assert 1 <= len(messages) <= 2  # at the first time, and at the end
    assert all(message.startswith("listener is too slow") for message in messages)
    assert messages[-1].endswith(f"events_dropped={sc._bus.dropped()['bad']}")
    assert good.recorded  # who has room enough is none the worse


@pytest.mark.parametrize("master", MASTERS)
@pytest.mark.parametrize("policy", ["stay", "remove"])
@pytest.mark.parametrize("kind", [Plain, Coroutine])
async def test_one_that_raises_is_logged_once_and_stays_or_goes(kind, policy, master, caplog):
    bad, good = kind("raises", "on_event"), EventRecorder()
    bad.on_error = policy
    async with SparkContext(master, conf=conf(), plugins=[bad, good]) as sc:
        for _ in range(3):
            assert await squares(sc) == RESULT
        if policy == "remove":
            await until(lambda: bad.closed)  # at once, not at the end
        assert await squares(sc) == RESULT
    then = "it stays; more of its errors are only counted" if policy == "stay" else "it is removed"
    (message,) = caplog.messages
    first = f"listener failed: listener='bad' at='{type(bad.got[0]).__name__}' then='{then}'"
    assert message.splitlines()[0] == first
    assert message.splitlines()[-1] == "ValueError: broken at on_event"
    assert len(bad.got) == (len(good.recorded) if policy == "stay" else 1)
    assert bad.closed and len(good.of_type(JobEnded)) == 4


@pytest.mark.parametrize("master", MASTERS)
@pytest.mark.parametrize("what", ["sleeps", "raises", "never returns"])
@pytest.mark.parametrize("kind", [Plain, Coroutine, Uncancellable])
async def test_a_bad_end_holds_up_neither_the_stop_nor_the_end_of_others(kind, what, master, caplog):
    bad, good = kind(what, "close"), Plain("", "")
    bad.go_on.set() if kind is Uncancellable and what == "sleeps" else None
    async with SparkContext(master, conf=conf(), plugins=[bad, good]) as sc:
        assert await squares(sc) == RESULT
        began = time.monotonic()
        await sc.stop()
        assert time.monotonic() - began < FLUSH + MARGIN
    bad.go_on.set()
    assert bad.closed and good.closed
    assert bad.got == good.got
    expected = {
        "sleeps": [],
        "raises": ["listener failed: listener='bad' at='close' then='it stays; more of its errors are only counted'"],
        "never returns": []
        if kind is Coroutine
        else [f"listener did not return in time: its {kind.__name__} is left behind: listener='bad'"],
    }[what]
    names = {"Plain": "thread", "Uncancellable": "task"}
    for kind_name, word in names.items():
        expected = [text.replace(f"its {kind_name} is", f"its {word} is") for text in expected]
    assert [message.splitlines()[0] for message in caplog.messages] == expected


@pytest.mark.parametrize("what", ["sleeps", "raises", "never returns"])
@pytest.mark.parametrize("at", ["on_event", "close"])
@pytest.mark.parametrize("kind", [Plain, Coroutine, Uncancellable])
def test_a_blocking_context_stops_in_time_too(kind, what, at):
    bad = kind(what, at)
    with BlockingContext("threads[2]", conf=conf(), plugins=[bad]) as sc:
        assert sc.parallelize(range(60), 30).map(lambda x: x * x).collect() == RESULT
        began = time.monotonic()
        sc.stop()
        assert time.monotonic() - began < FLUSH + MARGIN
    bad.go_on.set()


async def test_one_that_is_called_at_once_and_raises_fails_no_job(caplog):
    class AtOnce(Plain):
        at_once = True

    bad, good = AtOnce("raises", "on_event"), EventRecorder()
    async with SparkContext("processes[2]", conf=conf(), plugins=[bad, good]) as sc:
        assert await squares(sc) == RESULT
    assert len(caplog.messages) == 1
    assert [event for event in bad.got] == good.recorded and bad.closed


# ------------------------------------------------------------------------------------------------- sinks


class BadSink(MetricSink):
    name = "bad"

    def __init__(self, what: str, at: str) -> None:
        self.what, self.at = what, at
        self.calls: list[str] = []
        self.go_on = threading.Event()

    def act(self, at: str) -> None:
        self.calls.append(at)
        if at != self.at:
            return
        if self.what == "raises":
            raise ValueError(f"broken at {at}")
        self.go_on.wait(0.02 if self.what == "sleeps" else 60)

    def open(self, read):
        self.act("open")

    def report(self, metrics):
        self.act("report")

    def close(self):
        self.act("close")


@pytest.mark.parametrize("master", MASTERS)
@pytest.mark.parametrize("what", ["sleeps", "raises", "never returns"])
@pytest.mark.parametrize("at", ["open", "report", "close"])
async def test_a_bad_sink_holds_up_neither_jobs_nor_the_stop_nor_other_sinks(at, what, master, caplog):
    bad, good = BadSink(what, at), BadSink("", "")
    settings = conf().set("asparkle.metrics.interval", "100ms")
    async with SparkContext(master, conf=settings, plugins=[bad, good]) as sc:
        await until(lambda: "report" in good.calls and (at == "close" or at in bad.calls))
        assert await squares(sc) == RESULT
        began = time.monotonic()
        await sc.stop()
        assert time.monotonic() - began < FLUSH + MARGIN
    assert good.calls[-1] == "close"
    expected = {
        "sleeps": 0,
        "raises": sum(message.startswith(f"metric sink failed: sink='bad' at='{at}'") for message in caplog.messages),
        "never returns": caplog.messages.count(
            "metric sink did not return in time: its thread is left behind: sink='bad'"
        ),
    }[what]
    assert len(caplog.messages) == expected == (what != "sleeps")
    bad.go_on.set()
    await until(lambda: not any(thread.name == "metric sink bad" for thread in threading.enumerate()))
