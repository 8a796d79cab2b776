"""The bus: every event to every listener, and no listener slows or fails anybody else."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import threading
from dataclasses import dataclass

import anyio
import anyio.to_thread
import pytest

from asparkle.core.bus import Bus
from asparkle.core.contracts import Listener
from asparkle.core.errors import ArgumentTypeError


@dataclass(frozen=True)
class Started:
    number: int


@dataclass(frozen=True)
class Ended:
    number: int


@dataclass(frozen=True)
class EndedWell(Ended):
    pass


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


pytestmark = pytest.mark.anyio


class Recorder(Listener):
    """Keeps what it gets; a subclass says how."""

    def __init__(self):
        self.got = []
        self.closed = False

    def on_event(self, event):
        self.got.append(event)


class AsyncRecorder(Recorder):
    async def on_event(self, event):
        await anyio.lowlevel.checkpoint()
        self.got.append(event)

    async def close(self):
        self.closed = True


class ThreadRecorder(Recorder):
    def on_event(self, event):
        self.thread = threading.current_thread()
        self.got.append(event)

    def close(self):
        self.closed = True


EVENTS = [Started(1), Ended(1), Started(2), EndedWell(2)]


@pytest.mark.parametrize("kind", [AsyncRecorder, ThreadRecorder])
async def test_every_event_reaches_every_listener_in_order(kind):
    first, second = kind(), kind()
    async with Bus() as bus:
        bus.add(first)
        bus.add(second)
        for event in EVENTS:
            bus.post(event)
    assert first.got == second.got == EVENTS
    assert first.closed and second.closed


async def test_functions_are_listeners_too():
    got, got_async = [], []

    async def listen(event):
        got_async.append(event)

    async with Bus() as bus:
        bus.add(got.append)
        bus.add(functools.partial(listen))
        bus.post(1)
    assert got == got_async == [1]


class DirectRecorder(ThreadRecorder):
    at_once = True

    def on_event(self, event):
        super().on_event(event)
        if event == Started(2):
            raise ValueError


async def test_a_listener_may_be_called_at_once():
    direct = DirectRecorder()
    async with Bus() as bus:
        feed = bus.add(direct, Started)
        for i, event in enumerate(EVENTS):
            bus.post(event)
            assert direct.got == EVENTS[: i + 1 : 2]
        assert direct.thread is threading.current_thread()
    assert direct.got == [Started(1), Started(2)] and direct.closed
    assert feed.errors == 1


async def test_one_that_fails_at_once_may_leave():
    direct, got = DirectRecorder(), []
    direct.on_error = "remove"
    async with Bus() as bus:
        bus.add(direct)
        bus.add(got.append)
        for event in EVENTS:
            bus.post(event)
    assert direct.got == EVENTS[:3] and got == EVENTS


class Quitter(DirectRecorder):
    """It has seen enough, and says so as a script would."""

    def on_event(self, event):
        sys.exit(f"at {event}")

    def close(self):
        sys.exit("at the end")


class AsyncQuitter(Listener):
    """Likewise."""

    async def on_event(self, event):
        sys.exit(f"at {event}")

    async def close(self):
        sys.exit("at the end")


@pytest.mark.parametrize("quitter", [Quitter, AsyncQuitter])
async def test_one_that_exits_ends_nobody_else(quitter, caplog):
    got = []
    async with Bus() as bus:
        feed = bus.add(quitter())
        bus.add(got.append)
        for event in EVENTS:
            bus.post(event)
    assert got == EVENTS
    assert feed.errors == len(EVENTS) + 1
    assert "listener failed" in caplog.text


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_one_that_waits_for_what_is_cancelled_ends_nobody_and_hears_on(caplog):
    async def cancelled(event):
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    got = []
    async with Bus() as bus:
        feed = bus.add(cancelled)
        bus.add(got.append)
        for event in EVENTS:
            bus.post(event)
        for _ in range(5):
            await anyio.sleep(0)
    assert got == EVENTS
    assert feed.errors == len(EVENTS)
    assert "listener failed" in caplog.text


class StopsSynchronously(AsyncRecorder):
    def close(self):
        return None


class IgnoresErrors(AsyncRecorder):
    on_error = "ignore"


class ForgotAComma(AsyncRecorder):
    events = Started


@pytest.mark.parametrize(
    ("listener", "problem"),
    [
        (AsyncRecorder, "not <class .*AsyncRecorder"),
        (StopsSynchronously(), "close is a coroutine if, and only if, on_event is one"),
        (IgnoresErrors(), "on_error = 'ignore': expected 'stay' or 'remove'"),
        (ForgotAComma(), r"expected classes, as in \(JobEnded,\)"),
    ],
)
async def test_a_listener_that_could_not_work_is_refused(listener, problem):
    with pytest.raises(ArgumentTypeError, match=problem):
        Bus().add(listener)


async def test_what_is_no_listener_is_refused():
    with pytest.raises(ArgumentTypeError, match="not 3"):
        Bus().add(3)
    slow = AsyncRecorder()
    slow.at_once = True
    with pytest.raises(ArgumentTypeError, match="on_event is a coroutine"):
        Bus().add(slow)


async def test_types_narrow_what_is_delivered_and_include_subclasses():
    got, recorder = [], AsyncRecorder()
    recorder.events = (Started,)
    async with Bus() as bus:
        bus.add(got.append, Ended)
        bus.add(recorder)
        for event in EVENTS:
            bus.post(event)
    assert got == [Ended(1), EndedWell(2)]
    assert recorder.got == [Started(1), Started(2)]


async def test_the_bus_is_active_only_while_somebody_listens():
    changes = []
    async with Bus() as bus:
        bus.on_change = lambda: changes.append(bus.active)
        assert not bus.active
        feed = bus.add(print)
        other = bus.add(print)
        assert bus.active
        bus.remove(feed)
        assert bus.active
        bus.remove(other)
        assert not bus.active
    assert changes == [True, True, True, False]


async def test_listeners_added_before_the_bus_runs_miss_nothing():
    bus, recorder, got = Bus(), AsyncRecorder(), []
    bus.add(recorder)
    bus.add(got.append)
    bus.post(1)
    async with bus:
        bus.post(2)
    assert recorder.got == got == [1, 2]


async def test_a_removed_listener_gets_what_was_posted_before():
    recorder = AsyncRecorder()
    async with Bus() as bus:
        feed = bus.add(recorder)
        bus.post(1)
        bus.remove(feed)
        bus.post(2)
    assert recorder.got == [1]
    assert recorder.closed


async def test_plain_listeners_run_in_a_thread_of_their_own_that_ends():
    first, second = ThreadRecorder(), ThreadRecorder()
    async with Bus() as bus:
        bus.add(first)
        bus.add(second)
        bus.post(1)
    assert len({first.thread, second.thread, threading.current_thread()}) == 3
    assert not first.thread.is_alive()


# ---------------------------------------------------------------------------------- slow and failing ones


async def test_a_slow_listener_loses_events_and_another_none(caplog):
    got, go_on = [], anyio.Event()

    async def slow(event):
        await go_on.wait()
        got.append(event)

    quick = AsyncRecorder()
    async with Bus(queue_size=2) as bus:
        feed = bus.add(slow, name="snail")
        bus.add(quick)
        for number in range(10):
            bus.post(number)
            while len(quick.got) <= number:
                await anyio.lowlevel.checkpoint()
        go_on.set()
    assert quick.got == list(range(10))
    assert len(got) + feed.dropped == 10
    assert got == list(range(len(got)))
    assert "snail" in caplog.text and f"events_dropped={feed.dropped}" in caplog.text


async def test_a_slow_thread_loses_events_too(caplog):
    got, go_on = [], threading.Event()

    def slow(event):
        go_on.wait()
        got.append(event)

    async with Bus(queue_size=2) as bus:
        feed = bus.add(slow, name="snail")
        for number in range(10):
            bus.post(number)
        go_on.set()
    assert len(got) in (2, 3)
    assert len(got) + feed.dropped == 10
    assert f"events_dropped={feed.dropped}" in caplog.text


async def wrong_async(event):
    raise KeyError(event)


def wrong(event):
    raise SystemExit(event)


def returns_a_coroutine(event):
    return wrong_async(event)


@pytest.mark.parametrize("listener", [wrong_async, wrong, returns_a_coroutine, lambda event: wrong_async(event)])
async def test_a_failing_listener_is_logged_once_and_stays(caplog, listener):
    recorder = AsyncRecorder()
    async with Bus() as bus:
        feed = bus.add(listener, name="clumsy")
        bus.add(recorder)
        for number in range(5):
            bus.post(number)
    assert feed.errors == 5
    assert recorder.got == list(range(5))
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "clumsy" in caplog.text and "Traceback" in caplog.text


@pytest.mark.parametrize("kind", [AsyncRecorder, ThreadRecorder])
async def test_a_failing_listener_leaves_when_its_policy_says_so(caplog, kind):
    class Clumsy(kind):
        on_error = "remove"
        if kind is AsyncRecorder:

            async def on_event(self, event):
                raise KeyError(event)
        else:

            def on_event(self, event):
                raise KeyError(event)

    async with Bus() as bus:
        clumsy = Clumsy()
        feed = bus.add(clumsy)
        bus.post(0)
        while not clumsy.closed:
            await anyio.to_thread.run_sync(lambda: None)
        bus.post(1)
        assert not bus.active
    assert (feed.errors, feed.dropped) == (1, 0)
    assert "it is removed" in caplog.text


async def test_an_error_in_close_is_logged(caplog):
    class Clumsy(AsyncRecorder):
        async def close(self):
            raise KeyError("close")

    async with Bus() as bus:
        bus.add(Clumsy())
    assert "Clumsy" in caplog.text and "at='close'" in caplog.text


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_listener_that_never_returns_does_not_hold_up_the_stop(caplog, is_async):
    never = threading.Event()

    async def hangs_async(event):
        await anyio.sleep_forever()

    bus = Bus(flush_timeout=0.01)
    async with bus:
        feed = bus.add(hangs_async if is_async else lambda event: never.wait(), name="hangs")
        for number in range(3):
            bus.post(number)
            await anyio.to_thread.run_sync(lambda: None)
    never.set()
    assert feed.dropped == 2
    assert "hangs" in caplog.text


async def test_cancelling_the_host_still_flushes():
    recorder = AsyncRecorder()
    with anyio.CancelScope() as scope:
        async with Bus() as bus:
            bus.add(recorder)
            bus.post(1)
            scope.cancel()
            await anyio.sleep_forever()
    assert recorder.got == [1]


async def test_an_error_inside_the_bus_passes_through_unchanged():
    with pytest.raises(KeyError, match="mine"):
        async with Bus() as bus:
            bus.add(AsyncRecorder())
            raise KeyError("mine")
