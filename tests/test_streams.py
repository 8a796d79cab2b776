"""A worker's event loop by itself: how much is under way, and how rates are dealt out."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import threading
import time
import weakref
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.core.coroutines import AsyncFlatMap, AsyncMap, calls
from asparkle.core.errors import ArgumentError, TaskKilled
from asparkle.core.rates import Rate, TurnDealer, parse_rate
from asparkle.core.taskcontext import TaskContext
from asparkle.core.worker.concurrently import _wait_before_retry, call_each
from asparkle.core.worker.eventloop import EventLoop
from asparkle.core.worker.stream import Stream


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    made = EventLoop("test", lambda rate, count: None)
    yield made
    closed = threading.Event()
    made.close(10, closed.set)
    assert closed.wait(20)
    made.join(20)


def stream_of(loop: EventLoop, elements, function, *, context=None, made=AsyncMap, **parameters) -> Stream:
    how = {"concurrency": None, "ordered": True, "timeout": None, "retries": 0, "rate": None, "on_error": "raise"}
    each = made(function, calls(function, "flatMap", **{**how, **parameters}))

    async def work(elements, emit):
        await call_each(each, elements, emit)

    return Stream(loop, elements, work, each.ahead, context or TaskContext(0, 0, 0, 0))


class Gauge:
    """How many are inside, and the most there ever were."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def up(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def down(self) -> None:
        self.now -= 1


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("concurrency", [1, 3, 10])
def test_what_is_under_way_and_what_waits_is_bounded(loop, concurrency, ordered):
    """The first call takes as long as all others together, and the consumer stops for a while."""
    under_way, held = Gauge(), Gauge()
    release = asyncio.Event()

    def elements():
        for x in range(400):
            held.up()
            yield x

    async def call(x):
        under_way.up()
        if x == 0 and ordered:
            await release.wait()
        else:
            await asyncio.sleep(0)
        under_way.down()
        return x

    stream = stream_of(loop, elements(), call, concurrency=concurrency, ordered=ordered)
    if ordered:  # once nothing moves any more
        loop.call(loop.loop.call_later, 0.3, release.set)
    found = []
    for x in stream.results():
        held.down()
        found.append(x)
    assert sorted(found) == list(range(400)) and (found == sorted(found) or not ordered)
    assert under_way.most == concurrency
    assert held.most <= 4 * concurrency


@pytest.mark.parametrize("ordered", [True, False])
def test_the_results_of_generators_that_wait_are_bounded(loop, ordered):
    concurrency, held = 3, Gauge()

    async def many(x):
        for i in range(2000):
            held.up()
            yield x, i

    stream = stream_of(loop, iter(range(10)), many, made=AsyncFlatMap, concurrency=concurrency, ordered=ordered)
    found = []
    for result in stream.results():
        held.down()
        found.append(result)
    expected = [(x, i) for x in range(10) for i in range(2000)]
    assert (found if ordered else sorted(found)) == expected
    assert held.most <= 2 * concurrency * (256 + 1) + 2 * concurrency


def test_a_generator_that_never_waits_is_timed_out_all_the_same(loop):
    async def many(x):
        for i in range(1_000_000):
            yield i

    rest = {"timeout": 0.01, "on_error": "skip", "made": AsyncFlatMap}
    assert list(stream_of(loop, iter([1, 2]), many, **rest).results()) == []


@pytest.mark.parametrize("how", [{}, {"retries": 1}, {"ordered": False}])
def test_a_generator_that_never_waits_leaves_the_loop_to_others(loop, how):
    asked = False

    def ask():
        nonlocal asked
        asked = True

    async def until_asked(x):
        loop.call(ask)
        for _ in range(60):
            if asked:
                break
            time.sleep(0.002)  # computes
            yield x

    assert len(list(stream_of(loop, iter([1]), until_asked, made=AsyncFlatMap, **how).results())) < 60


def test_a_failure_that_is_collected_does_not_keep_what_was_gathered_before_it(loop):
    gathered: weakref.WeakSet[Gauge] = weakref.WeakSet()

    async def hang(x):
        for _ in range(10):
            result = Gauge()
            gathered.add(result)
            yield result
        del result
        begun.append(len(gathered))
        await asyncio.sleep(60)

    begun: list[int] = []
    stream = stream_of(loop, iter([1]), hang, made=AsyncFlatMap, timeout=0.05, on_error="collect")
    (failed,) = stream.results()
    assert isinstance(failed.error, TimeoutError)
    assert begun == [10] and len(gathered) <= 1  # the last, in a frame


def test_closing_half_way_cancels_the_coroutines_and_the_clean_up_waits_for_them(loop):
    ended = []

    async def call(x):
        try:
            if x:
                await asyncio.sleep(60)
        finally:
            ended.append(x)
        return x

    stream = stream_of(loop, iter(range(100)), call, concurrency=4)
    results = stream.results()
    assert next(results) == 0
    results.close()
    stream.close()
    assert len(ended) == len(set(ended)) <= 8
    stream.close()  # once more does no harm


def test_a_stream_that_never_began_is_closed(loop):
    stream_of(loop, iter([1]), asyncio.sleep).close()


def test_the_end_of_the_loop_ends_its_streams():
    loop = EventLoop("test", lambda rate, count: None)
    results = stream_of(loop, iter(range(9)), asyncio.sleep, concurrency=1).results()
    next(results)
    closed = threading.Event()
    loop.close(10, closed.set)
    with pytest.raises(TaskKilled):
        list(results)
    assert closed.wait(20)
    loop.join(20)
    with pytest.raises(TaskKilled):
        list(stream_of(loop, iter([1]), asyncio.sleep).results())


def test_an_interrupt_may_strike_anywhere(loop):
    """In the slot's thread, between any two bytecodes; the attempt's clean-up waits for the coroutine all the same."""
    struck, left = True, []

    async def same(x):
        return x

    def attempt(strike_at: int) -> None:
        nonlocal struck
        struck = False
        bytecodes = itertools.count()

        def trace(frame, event, argument):
            nonlocal struck
            ours = frame.f_globals["__name__"].startswith(("asparkle.core.worker", "asyncio", "contextlib"))
            if not ours:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode" and next(bytecodes) == strike_at:
                struck = True
                raise TaskKilled("here")
            return trace

        context = TaskContext(0, 0, 0, 0)
        gc.disable()  # or what earlier tests left is struck while it is collected
        sys._getframe().f_trace_opcodes = True  # Python 3.12 traces bytecodes only if some frame asked before settrace
        sys.settrace(trace)
        try:
            stream = stream_of(loop, iter([1]), same, context=context)
            context._add_cleanup(stream.close)
            list(stream.results())
        except TaskKilled:
            pass
        finally:
            sys.settrace(None)
            gc.enable()
            context._at_end().close()
        left.extend(loop._streams)

    for strike_at in itertools.count():
        slot = threading.Thread(target=attempt, args=(strike_at,), daemon=True)
        slot.start()
        slot.join(20)
        assert not slot.is_alive(), f"the clean-up hangs after a strike at bytecode {strike_at}"
        assert not left, f"a stream is left behind by a strike at bytecode {strike_at}"
        if not struck:
            break
    assert strike_at > 200


def test_an_error_group_of_the_users_own_stays_one(loop):
    async def fail(x):
        raise ExceptionGroup("mine", [ValueError(x)])

    with pytest.raises(ExceptionGroup, match="mine"):
        list(stream_of(loop, iter([1]), fail).results())


def test_a_wait_that_was_asked_for_is_never_shorter_and_a_tenth_longer_at_most():
    for asked in (0, 0.5, 600):
        error = OSError("busy")
        error.retry_after = asked
        for _ in range(100):
            assert asked <= _wait_before_retry(0, error) <= asked * 1.1


# ------------------------------------------------------------------------------------------------ rates


@given(
    interval=st.floats(0.001, 10),
    questions=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20)), min_size=1, max_size=30),
)
def test_turns_are_an_interval_apart_whoever_asks_and_when(interval, questions):
    dealer, rate, now = TurnDealer(), Rate(0, interval), 0.0
    turns = []
    for pause, count in questions:
        now += pause
        wait = dealer.deal(rate, count, now)
        assert wait >= 0
        turns += [now + wait + i * interval for i in range(count)]
    assert all(b - a >= interval * 0.999 for a, b in itertools.pairwise(turns))


def test_rates_are_counted_apart_and_forgotten_when_they_are_idle():
    dealer = TurnDealer()
    for i in range(1000):
        assert dealer.deal(Rate(i, 1.0), 1, now=float(i)) == 0
    assert len(dealer._next) <= 65


def test_how_rates_are_written():
    for text, interval in {"50/s": 0.02, " 30 / min": 2.0, "30/m": 2.0, "0.5/s": 2.0, "7200/h": 0.5}.items():
        assert parse_rate(text, "map").interval == pytest.approx(interval)
    for text in ("", "50", "50/", "/s", "50/week", "-1/s", "0/s", "50/s/s"):
        with pytest.raises(ArgumentError, match="map: rate = "):
            parse_rate(text, "map")
