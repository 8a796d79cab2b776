"""What every listener is tested for."""

from __future__ import annotations

import inspect
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Final

import anyio
import pytest

from asparkle.core.bus import Bus, Feed
from asparkle.core.contracts import Listener
from asparkle.core.events import Event
from asparkle.core.shown import shown
from asparkle.testing.leaks import census, grown
from asparkle.testing.promises import Conformance, expect
from asparkle.testing.samples import sample_events, unknown_event

NEVER_RAISES: Final = "passes over what it does not know"
AT_ONCE: Final = 0.05  # seconds: far more than next to no time
HELD_UP: Final = 0.25  # likewise, of an event loop
FLUSH: Final = 3.0  # seconds for what waits in a listener's queue when the application has ended


class ListenerConformance(Conformance):
    """Tests a `Listener`: derive from it, name the class ``Test...``, and say how a listener is made.

        class TestMyListener(ListenerConformance):
            def make(self):
                return MyListener(self.directory / "events.txt")

    What the listener makes of the events is tested by its author: `sample_events` are some to begin with.
    """

    @abstractmethod
    def make(self) -> Listener:
        """A new listener; what it writes may go below ``self.directory``, which is this test's own."""

    # ------------------------------------------------------------------------------------ what there is

    @pytest.fixture(autouse=True)
    def _with_a_listener(self, _in_a_directory_of_its_own: None) -> None:
        self.listener = self.make()

    def subject(self) -> str:
        return type(self.listener).__name__

    def wants(self, event: Event) -> bool:
        kinds = tuple(kind for kind in self.listener.events if isinstance(kind, type))  # the others are tested for
        return not self.listener.events or isinstance(event, kinds)

    def wanted(self, events: Iterable[Event]) -> list[Event]:
        return [event for event in events if self.wants(event)]

    def use(self, events: Sequence[Event]) -> None:
        """Give the listener events as the bus does, but with what it raises."""

        async def run() -> None:
            for event in events:
                with self.promised("Listener.on_event", NEVER_RAISES):
                    try:
                        answer = self.listener.on_event(event)
                        if answer is not None:
                            await answer
                    except Exception as error:
                        expect(False, f"raised {type(error).__name__}: {error}, at {shown(event)}")
            with self.promised("Listener.close", "After the last event"):
                done = self.listener.close()
                if done is not None:
                    await done

        anyio.run(run)

    # -------------------------------------------------------------------------------------- the promises

    def test_its_events_are_types(self) -> None:
        with self.promised("Listener.events", "The event types that it wants"):
            events = self.listener.events
            fine = isinstance(events, tuple) and all(isinstance(kind, type) for kind in events)
            expect(fine, f"has events = {shown(events)}: expected a tuple of classes, such as (JobEnded,)")
            own = [kind for kind in events if not issubclass(kind, Event) and not issubclass(Event, kind)]
            expect(not own, f"wants {shown(own)}, and no event is one")

    def test_logs_can_name_it(self) -> None:
        with self.promised("Listener.name", "What logs call it"):
            expect(isinstance(self.listener.name, str), f"has the name {self.listener.name!r}")

    def test_on_error_is_known(self) -> None:
        with self.promised("Listener.on_error", "the listener stays (the default)"):
            expect(self.listener.on_error in ("stay", "remove"), f"has on_error = {self.listener.on_error!r}")

    def test_methods_are_of_one_kind(self) -> None:
        on_event, close = (inspect.iscoroutinefunction(f) for f in (self.listener.on_event, self.listener.close))
        overridden = type(self.listener).close is not Listener.close
        with self.promised("Listener.close", "A coroutine if, and only if, ``on_event`` is one"):
            kinds = {True: "a coroutine", False: "a plain method"}
            expect(not overridden or on_event == close, f"has {kinds[on_event]} on_event, and {kinds[close]} close")
        with self.promised("Listener.at_once", "a plain method that must not block"):
            expect(not (self.listener.at_once and on_event), "is to be called at once, and on_event is a coroutine")

    @pytest.mark.parametrize("event", sample_events(), ids=lambda event: type(event).__name__)
    def test_each_event_on_its_own(self, event: Event) -> None:
        """Without what usually comes before it: a listener may be added while jobs run."""
        self.use(self.wanted([event]))

    def test_a_whole_application(self) -> None:
        self.use(self.wanted(sample_events()))

    def test_an_application_that_had_begun_before(self) -> None:
        events = self.wanted(sample_events())
        self.use(events[len(events) // 3 :])

    def test_events_of_a_later_version(self) -> None:
        self.use(self.wanted([*sample_events()[:5], unknown_event(), *sample_events()[5:]]))

    def test_no_events_at_all(self) -> None:
        self.use([])

    def test_nothing_is_left_after_close(self) -> None:
        self.use(self.wanted(sample_events()))  # what it imports, it imports now
        before = census()
        for _ in range(3):
            self.listener = self.make()
            self.use(self.wanted(sample_events()))
        with self.promised("Listener.close", "Gives back what the listener has taken"):
            more = grown(before, patience=2.0)
            expect(not more, f"left {more}")

    @pytest.mark.parametrize("loop", ["asyncio", "trio"])
    def test_it_keeps_up(self, loop: str) -> None:
        """With some thousands of events in a moment: more than its queue holds would be lost to it."""
        if loop == "trio":
            pytest.importorskip("trio")
        began, *events, ended = sample_events()
        rounds = 10 if self.listener.at_once else 150
        many = [began, *(event for _ in range(rounds) for event in events), ended]
        feeds: list[Feed] = []
        longest = 0.0

        async def watch_the_loop() -> None:
            nonlocal longest
            before = time.perf_counter()
            while True:
                await anyio.sleep(0.005)
                now = time.perf_counter()
                longest, before = max(longest, now - before), now

        async def run() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch_the_loop)
                async with Bus(queue_size=10_000, flush_timeout=FLUSH) as bus:
                    feeds.append(bus.add(self.listener))
                    for i, event in enumerate(many):
                        bus.post(event)
                        if i % 100 == 0:
                            await anyio.sleep(0)
                tasks.cancel_scope.cancel()

        with self.promised("Listener", "keeps up with the events", within=30.0):
            anyio.run(run, backend=loop)
            expect(not feeds[0].dropped, f"missed {feeds[0].dropped} of {len(many)} events, in {FLUSH:g} seconds")
        with self.promised("Listener.on_event", NEVER_RAISES):
            expect(not feeds[0].errors, f"raised at {feeds[0].errors} of {len(many)} events")
        with self.promised("Listener", "must not block it"):
            expect(longest < HELD_UP, f"held up the event loop for {longest:.2f} seconds")

    def test_at_once_takes_no_time(self) -> None:
        if not self.listener.at_once:
            return
        longest, at = 0.0, ""
        for event in self.wanted(sample_events()) * 5:
            began = time.perf_counter()
            self.listener.on_event(event)
            longest, at = max((longest, at), (time.perf_counter() - began, type(event).__name__))
        self.listener.close()
        with self.promised("Listener.at_once", "take next to no time"):
            expect(longest < AT_ONCE, f"took {longest:.2f} seconds for {at}, while all jobs wait")

    def test_a_real_job(self) -> None:
        """With the listener, a job's results are right, and its context stops in time."""
        from asparkle import SparkConf, SparkContext

        conf = SparkConf().set("spark.local.dir", str(self.directory / "local"))
        with self.promised("Listener", "Receives an application's events", within=30.0):
            with SparkContext("threads[2]", conf=conf, plugins=[self.listener]) as sc:
                pairs = sc.parallelize(range(100), 4).map(lambda x: (x % 3, x)).reduceByKey(lambda a, b: a + b)
                found = dict(pairs.collect())
                expect(found == {0: 1683, 1: 1617, 2: 1650}, f"made a job return {found}")
                until_stop = time.monotonic()
            took = time.monotonic() - until_stop
            expect(took < 4.0, f"held up the context's end for {took:.1f} seconds")
