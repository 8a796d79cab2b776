"""What takes metrics to metric sinks: a thread for each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

import anyio

from asparkle.conf import SparkConf
from asparkle.core.logs import logging_for_nobody
from asparkle.events import ApplicationEnded
from asparkle.plugins import KEYS, Listener, Metrics, MetricSink, log
from asparkle.plugins.metrics import MetricsListener


class SinkRunner(Listener):
    """Keeps the promises that were made to sinks: see `MetricSink`."""

    name = "metric sinks"
    events = (ApplicationEnded,)

    def __init__(self, sinks: Iterable[MetricSink], read: Callable[[], Metrics], interval: float) -> None:
        self._sinks = [SinkThread(sink, read, interval) for sink in sinks]

    def start(self) -> None:
        for sink in self._sinks:
            sink.start()

    async def on_event(self, event: ApplicationEnded) -> None:
        for sink in self._sinks:
            sink.stopping.set()

    async def close(self) -> None:
        for sink in self._sinks:
            sink.stopping.set()  # for those that nobody has told of the end
        try:
            while any(sink.is_alive() for sink in self._sinks):
                await anyio.sleep(0.002)  # no thread to wait in: at the interpreter's end none can be started
        finally:  # the bus cancels this at the flush's deadline
            for sink in self._sinks:
                if sink.is_alive():
                    sink.abandoned = True
                    log().warning("metric sink did not return in time: its thread is left behind", sink=sink.sink_name)


class SinkThread(threading.Thread):
    """All calls of one sink."""

    def __init__(self, sink: MetricSink, read: Callable[[], Metrics], interval: float) -> None:
        self.sink_name = sink.name or type(sink).__name__
        super().__init__(name=f"metric sink {self.sink_name}", daemon=True)
        self.stopping = threading.Event()
        self.abandoned = False
        self._sink = sink
        self._read = read
        self._interval = interval
        self._failed: set[str] = set()

    def run(self) -> None:
        logging_for_nobody()
        if not self._try("open", self._sink.open, self._read):
            return
        while not self.stopping.wait(self._interval):
            self._try("report", self._sink.report, self._read())
        if not self.abandoned:
            self._try("report", self._sink.report, self._read())
        self._try("close", self._sink.close)

    def _try(self, call: str, function: Callable[..., None], *arguments: object) -> bool:
        try:
            function(*arguments)
        except (Exception, SystemExit) as error:
            if call not in self._failed:
                self._failed.add(call)
                then = {"open": "it is given up", "report": "it is called again; more of its errors are not logged"}
                log().error(
                    "metric sink failed",
                    sink=self.sink_name,
                    at=call,
                    then=then.get(call, "it is over"),
                    exc_info=error,
                )
            return False
        return True


def metrics_for(
    sinks: Iterable[MetricSink], conf: SparkConf, dropped: Callable[[], Mapping[str, int]]
) -> list[Listener]:
    """The listeners that serve these sinks."""
    runner = SinkRunner(sinks, lambda: listener.metrics(), KEYS["asparkle.metrics.interval"].read(conf))
    listener = MetricsListener(dropped, runner.start)
    return [listener, runner]
