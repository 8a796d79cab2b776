"""What every metric sink is tested for."""

from __future__ import annotations

import itertools
import math
import socket
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

from asparkle.core.conf import LISTENER_FLUSH_TIMEOUT, SparkConf
from asparkle.core.contracts import Metric, Metrics, MetricSink
from asparkle.core.errors import ConfigurationError
from asparkle.core.shown import shown
from asparkle.testing.leaks import census, grown
from asparkle.testing.promises import Conformance, expect


def sample_metrics(step: int = 1, name: str = "a sample") -> Metrics:
    """What an application's metrics may be, at its ``step``-th report: of each kind, some with labels."""
    buckets = ((0.1, 3 * step, 0.2 * step), (1.0, step, 0.5 * step), (math.inf, 0, 0.0))
    metrics = (
        Metric("jobs_started", "counter", "Jobs that were submitted.", step),
        Metric("tasks", "counter", "Task attempts that have ended.", 10 * step, (("outcome", "success"),)),
        Metric("tasks", "counter", "Task attempts that have ended.", step, (("outcome", "executor lost"),)),
        Metric("executors", "gauge", "Executors that are there.", 2),
        Metric("cached_bytes", "gauge", "Bytes of cached partitions.", 4096.5 / step, (("scope", "worker"),)),
        Metric("task_duration_seconds", "histogram", "How long tasks took.", 0.7 * step, (), buckets),
        Metric("listener_dropped_events", "counter", "Missed.", 0, (("listener", 'a "name"\nof {two} lines, é'),)),
    )
    return Metrics("local-1700000000000-1-0", name, "threads[2]", metrics)


class MetricSinkConformance(Conformance):
    """Tests a `MetricSink`: derive from it, name the class ``Test...``, and say how a sink is made.

    class TestMySink(MetricSinkConformance):
        bad_settings = ({"asparkle.mine.port": "http"},)

        def make(self, conf):
            return MySink(conf)

        def towards(self, host, port):
            return {"asparkle.mine.host": host, "asparkle.mine.port": str(port)}
    """

    settings: ClassVar[Mapping[str, str]] = {}
    """What the sink needs to work."""
    bad_settings: ClassVar[Sequence[Mapping[str, str]]] = ()
    """Some that it can't use."""

    @abstractmethod
    def make(self, conf: SparkConf) -> MetricSink:
        """A new sink, as a context makes it."""

    def towards(self, host: str, port: int) -> Mapping[str, str]:
        """Settings that make the sink send to this address.  Needed unless nothing is sent: it is asked, or writes."""
        return self.settings

    # ------------------------------------------------------------------------------------ what there is

    @pytest.fixture(autouse=True)
    def _without_a_sink(self) -> None:
        self.name = ""

    def subject(self) -> str:
        return self.name or "the factory"

    def made(self, settings: Mapping[str, str] | None = None) -> MetricSink:
        conf = SparkConf().setAll(list((self.settings if settings is None else settings).items()))
        with self.promised("MetricSink", "The class is called with the context's `SparkConf`"):
            sink = self.make(conf)
        self.name = type(sink).__name__
        return sink

    def call(self, contract: str, promise: str, function: Callable[..., Any], *arguments: Any, within: float) -> None:
        """Call a method as asparkle does, in a thread that is not the main one; it is promised to return."""
        errors: list[BaseException] = []

        def run() -> None:
            try:
                function(*arguments)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, name="metric sink", daemon=True)
        thread.start()
        thread.join(within)
        with self.promised(contract, promise):
            expect(not thread.is_alive(), f"had not returned after {within:g} seconds")
            if errors:
                raise errors[0]

    def live(self, sink: MetricSink, reports: int = 3, *, name: str = "a sample") -> None:
        """A whole life, as the contract tells it."""
        steps = itertools.count(1)
        patience = self.patience
        self.call("MetricSink.open", "when the application starts", sink.open, read(steps, name), within=patience)
        for step in range(1, reports + 1):
            metrics = sample_metrics(step, name)
            self.call("MetricSink.report", "Every ``asparkle.metrics.interval``", sink.report, metrics, within=patience)
        self.call("MetricSink.close", "After the last report", sink.close, within=patience)

    # -------------------------------------------------------------------------------------- the promises

    def test_making_one_starts_nothing(self) -> None:
        self.made()  # what it imports, it imports now
        before = census()
        sinks = [self.made() for _ in range(3)]
        with self.promised("MetricSink", "it starts and opens nothing then"):
            more = grown(before, patience=0.0)
            expect(not more, f"was only made, three times, and has {more}")
        del sinks

    def test_logs_can_name_it(self) -> None:
        sink = self.made()
        with self.promised("MetricSink.name", "What logs call it"):
            expect(isinstance(sink.name, str), f"has the name {sink.name!r}")

    def test_bad_settings_are_refused(self) -> None:
        self.made()
        for settings in self.bad_settings:
            with self.promised("MetricSink", "`errors.ConfigurationError` for settings that it can't use"):
                try:
                    self.make(SparkConf().setAll(list(settings.items())))
                    expect(False, f"accepted {dict(settings)}")
                except ConfigurationError as error:
                    named = any(key in str(error) or value in str(error) for key, value in settings.items())
                    expect(named, f"said {str(error)!r}, which names nothing of {dict(settings)}")

    @pytest.mark.parametrize("reports", [0, 1, 5])
    def test_a_whole_life(self, reports: int) -> None:
        self.live(self.made(), reports)

    @pytest.mark.parametrize("name", ["", "a name\nof two lines", 'quo"ted', "ünï\u2028cödé", "a.b:c|d@e#f/g" * 20])
    def test_any_application_name(self, name: str) -> None:
        self.live(self.made(), 1, name=name)

    def test_an_application_without_metrics(self) -> None:
        sink = self.made()
        empty = Metrics("local-1", "empty", "inline", ())
        self.call("MetricSink.open", "when the application starts", sink.open, lambda: empty, within=self.patience)
        self.call("MetricSink.report", "Every ``asparkle.metrics.interval``", sink.report, empty, within=self.patience)
        self.call("MetricSink.close", "After the last report", sink.close, within=self.patience)

    def test_nothing_is_left_after_close(self) -> None:
        self.live(self.made())
        before = census()
        for _ in range(3):
            self.live(self.made())
        with self.promised("MetricSink.close", "give back what `open` and `report` have taken"):
            more = grown(before, patience=2.0)
            expect(not more, f"left {more}")

    def test_two_contexts_at_once(self) -> None:
        sinks = [self.made(), self.made()]
        for step, sink in enumerate(sinks):
            self.call("MetricSink", "A sink serves one context", sink.open, read(itertools.count(step)), within=5.0)
        for sink in sinks:
            self.call("MetricSink", "A sink serves one context", sink.report, sample_metrics(), within=5.0)
        for sink in sinks:
            self.call("MetricSink", "A sink serves one context", sink.close, within=5.0)

    @pytest.mark.parametrize("peer", ["gone", "silent"])
    def test_peers_that_do_not_answer(self, peer: str) -> None:
        """The port is closed, or whoever listens there never says a word."""
        patience = LISTENER_FLUSH_TIMEOUT.read(SparkConf())
        with silent() as (host, port):
            if peer == "silent":
                self._report_to(host, port, patience)
                return
        self._report_to(host, port, patience)

    def _report_to(self, host: str, port: int, patience: float) -> None:
        before = census()
        sink = self.made({**self.settings, **self.towards(host, port)})
        promise = "Each returns or raises in time, whether or not anybody answers"
        for function, arguments in (
            (sink.open, (read(itertools.count(1)),)),
            (sink.report, (sample_metrics(),)),
            (sink.close, ()),
        ):
            self.call("MetricSink", promise, _ignoring_errors(function), *arguments, within=patience)
        with self.promised("MetricSink.close", "give back what `open` and `report` have taken"):
            more = grown(before, patience=2.0)
            expect(not more, f"left {more}, when nobody had answered")

    def test_a_real_job(self) -> None:
        """With the sink, a job's results are right, and its context stops in time."""
        from asparkle import SparkContext

        sink = self.made()
        conf = SparkConf().set("spark.local.dir", str(self.directory)).set("asparkle.metrics.interval", "100ms")
        with self.promised("MetricSink", "hold up neither jobs nor other sinks", within=30.0):
            with SparkContext("threads[2]", conf=conf, plugins=[sink]) as sc:
                found = sc.parallelize(range(100), 4).map(lambda x: x + 1).sum()
                expect(found == 5050, f"made a job return {shown(found)}")
                until_stop = time.monotonic()
            took = time.monotonic() - until_stop
            expect(took < 4.0, f"held up the context's end for {took:.1f} seconds")


def read(steps: Iterator[int], name: str = "a sample") -> Callable[[], Metrics]:
    """What a sink is given to ask for metrics: they grow."""
    lock = threading.Lock()

    def metrics() -> Metrics:
        with lock:
            return sample_metrics(next(steps) + 1, name)

    return metrics


def _ignoring_errors(function: Callable[..., Any]) -> Callable[..., None]:
    def call(*arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception:
            return  # asparkle logs it

    return call


@contextmanager
def silent() -> Iterator[tuple[str, int]]:
    """An address that takes connections and packets, and never answers."""
    with socket.socket() as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        address = server.getsockname()
        packets.bind(address)
        yield address
