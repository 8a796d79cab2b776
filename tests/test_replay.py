"""A log of events, given to listeners: what they make of it is what they made of the application."""

from __future__ import annotations

import gzip
import threading

import anyio
import pytest

from asparkle import SparkContext
from asparkle.core.codecs import codec_named, load_codec
from asparkle.core.conf import SparkConf
from asparkle.core.contracts import Listener, MetricSink
from asparkle.core.errors import ArgumentError, ConfigurationError, CorruptInput, PluginError
from asparkle.core.events import (
    ApplicationEnded,
    ApplicationStarted,
    JobEnded,
    JobStarted,
    StageCompleted,
    TaskEnded,
    UnknownEvent,
)
from asparkle.plugins import Replayed, hookimpl, read_events, replay
from asparkle.plugins.jsonlines import JsonLinesListener
from asparkle.plugins.listeners import EventRecorder

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


class Kept(MetricSink):
    """Remembers the metrics."""

    def __init__(self):
        self.reports = []
        self.closed = False

    def report(self, metrics):
        self.reports.append(metrics)

    def close(self):
        self.closed = True


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """An application: its log, what listeners were told, its metrics and Spark's event log of it."""
    directory, recorder, sink = tmp_path_factory.mktemp("live"), EventRecorder(), Kept()
    conf = SparkConf().setMaster("processes[2]").setAppName("live")
    conf.set("asparkle.events.jsonlines.path", f"{directory}/events.jsonl")
    conf.set("spark.eventLog.enabled", "true").set("spark.eventLog.dir", f"{directory}")
    conf.set("spark.eventLog.rolling.enabled", "false").set("spark.eventLog.logBlockUpdates.enabled", "true")
    with SparkContext(conf=conf, plugins=[recorder, sink]) as sc:
        pairs = sc.parallelize(range(40), 4).map(lambda x: (x % 3, x)).cache()
        pairs.reduceByKey(lambda a, b: a + b).collect()
        pairs.count()
        with pytest.raises(Exception, match="by zero"):
            pairs.map(lambda pair: 1 // pair[0]).collect()
        sc.broadcast([1, 2]).destroy()
    return directory, recorder.recorded, sink.reports[-1]


class Plain(EventRecorder):
    def on_event(self, event):
        self.thread = threading.current_thread()
        self.recorded.append(event)

    def close(self):
        self.closed = True


class AtOnce(Plain):
    at_once = True


class Coroutine(EventRecorder):
    async def on_event(self, event):
        self.thread = threading.current_thread()
        await anyio.lowlevel.checkpoint()
        self.recorded.append(event)

    async def close(self):
        self.closed = True


async def test_every_kind_of_listener_gets_what_it_gets_live(live):
    directory, events, _ = live
    listeners = [Plain(), AtOnce(), Coroutine(), Plain(TaskEnded, JobEnded)]
    done = await replay(directory / "events.jsonl", plugins=listeners)
    assert done == Replayed(len(events), 0)
    for listener in listeners[:3]:
        assert listener.recorded == events
    assert listeners[3].recorded == [event for event in events if isinstance(event, TaskEnded | JobEnded)]
    assert all(listener.closed for listener in listeners)
    here = threading.current_thread()
    assert [listener.thread is here for listener in listeners] == [False, True, True, False]
    assert not any(thread.name.startswith("listener") for thread in threading.enumerate())


async def test_events_may_be_given_as_such(live):
    _, events, _ = live
    recorder = EventRecorder()
    jobs = (event for event in events if isinstance(event, JobEnded))
    assert await replay(jobs, plugins=[recorder]) == Replayed(3, 0)
    assert [event.failure for event in recorder.recorded] == ["", "", "task"]


async def test_sparks_event_log_of_a_replay_is_the_live_one(live, tmp_path):
    directory, _, _ = live
    (written,) = directory.glob("local-*")
    conf = SparkConf(loadDefaults=False).set("spark.eventLog.enabled", "true").set("spark.eventLog.dir", str(tmp_path))
    conf.set("spark.eventLog.rolling.enabled", "false").set("spark.eventLog.logBlockUpdates.enabled", "true")
    await replay(directory / "events.jsonl", conf=conf)
    (again,) = tmp_path.iterdir()
    assert again.name == written.name
    assert again.read_text().splitlines() == written.read_text().splitlines()  # times are the events'


async def test_the_metrics_of_a_replay_are_the_live_ones(live):
    directory, _, metrics = live

    def counted(report):
        return [metric for metric in report.metrics if metric.name != "listener_dropped_events"]

    sink = Kept()
    await replay(directory / "events.jsonl", plugins=[sink])
    assert sink.closed
    assert sink.reports[-1][:3] == metrics[:3]
    assert counted(sink.reports[-1]) == counted(metrics)
    by_name = {(metric.name, metric.labels): metric.value for metric in metrics.metrics}
    assert by_name["jobs", (("outcome", "success"),)] == 2  # it is not all zero


async def test_a_log_without_an_end_is_reported_too(live, tmp_path):
    _, events, _ = live
    sink = Kept()
    with anyio.fail_after(4):  # the flush's deadline is five seconds
        await replay([event for event in events if not isinstance(event, ApplicationEnded)], plugins=[sink])
    assert len(sink.reports) == 1 and sink.closed


async def test_a_slow_listener_misses_nothing():
    got = []

    class Slow(Listener):
        async def on_event(self, event):
            if event.job % 700 == 0:
                await anyio.sleep(0.01)
            got.append(event.job)

    quick = Plain()
    assert await replay((JobEnded(1.0, job) for job in range(5000)), plugins=[Slow(), quick]) == Replayed(5000, 0)
    assert got == list(range(5000))
    assert [event.job for event in quick.recorded] == got


@pytest.mark.parametrize(("policy", "calls"), [("stay", 5), ("remove", 1)])
async def test_a_listener_that_fails_is_logged_once_and_harms_no_other(policy, calls, caplog):
    class Fails(Plain):
        name = "glass"
        on_error = policy

        def on_event(self, event):
            self.recorded.append(event)
            raise ValueError("broken")

    fails, whole = Fails(), EventRecorder()
    await replay([JobEnded(1.0, job) for job in range(5)], plugins=[fails, whole])
    assert len(whole.recorded) == 5
    assert len(fails.recorded) == calls or (policy == "remove" and not fails.recorded[5:])
    assert sum("listener failed: listener='glass'" in message for message in caplog.messages) == 1


async def test_a_replay_that_is_cancelled_ends_though_a_listener_never_returns(caplog):
    go_on = threading.Event()

    class Hangs(Listener):
        name = "hangs"

        def on_event(self, event):
            go_on.wait(60)

    conf = SparkConf(loadDefaults=False).set("asparkle.listener.flush.timeout", "50ms")
    with anyio.fail_after(30), anyio.move_on_after(0.05) as scope:
        await replay([JobEnded(1.0, 0), JobEnded(2.0, 1)], plugins=[Hangs()], conf=conf)
    go_on.set()
    assert scope.cancelled_caught
    assert "listener did not return in time: its thread is left behind: listener='hangs'" in caplog.messages


# ---------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".deflate", ".lz4", ".zst"])
async def test_compressed_logs_are_read(live, tmp_path, suffix):
    if suffix == ".zst":
        pytest.importorskip("zstandard", reason="zstandard is not installed: pip install 'asparkle[dev]'")
    directory, events, _ = live
    path, recorder = tmp_path / f"events.jsonl{suffix}", EventRecorder()
    codecs = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".deflate": "deflate", ".lz4": "lz4", ".zst": "zstd"}
    with path.open("wb") as file, load_codec(codec_named(codecs[suffix])).write(file) as compressed:
        compressed.write((directory / "events.jsonl").read_bytes())
    assert await replay(path, plugins=[recorder]) == Replayed(len(events), 0)
    assert recorder.recorded == events == list(read_events(path))


async def test_a_compressed_log_that_is_cut_off_is_an_error_when_the_rest_was_given(live, tmp_path):
    directory, events, _ = live
    path, listener = tmp_path / "events.jsonl.gz", Plain()
    whole = gzip.compress((directory / "events.jsonl").read_bytes() * 200, mtime=0)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptInput, match=r"events\.jsonl\.gz': the gzip file is truncated"):
        await replay(path, plugins=[listener], application=events[0].application)
    assert listener.recorded[: len(events)] == events
    assert listener.closed


async def test_half_a_line_is_skipped_counted_and_logged(live, tmp_path, caplog):
    directory, events, _ = live
    path, recorder = tmp_path / "events.jsonl", EventRecorder()
    path.write_bytes(b"garbage\n" + (directory / "events.jsonl").read_bytes()[:-20])
    assert await replay(path, plugins=[recorder]) == Replayed(len(events) - 1, 2)
    assert recorder.recorded == events[:-1]
    skipped = [message for message in caplog.messages if message.startswith("a line that is no event is skipped")]
    assert [f"line={line}" in message for line, message in zip((1, len(events) + 1), skipped, strict=True)] == [
        True
    ] * 2


async def test_types_of_later_versions_are_passed_on_unchanged(tmp_path):
    path, again, recorder = tmp_path / "events.jsonl", tmp_path / "again.jsonl", EventRecorder()
    path.write_text(
        '{"type": "Novelty", "version": 3, "time": 1.5, "stars": [1, [2]]}\n'
        '{"type": "JobEnded", "version": 9, "time": 2.5, "job": 0, "failure": "", "reason": "", "mood": "good"}\n'
    )
    await replay(path, plugins=[recorder, JsonLinesListener(again)])
    assert recorder.recorded == [UnknownEvent(1.5, "Novelty", 3, {"stars": (1, (2,))}), JobEnded(2.5, 0)]
    assert again.read_text().splitlines()[0] == path.read_text().splitlines()[0]


def started(application: str) -> ApplicationStarted:
    return ApplicationStarted(1.0, application, "name", "local", "me", 5.0, "0.1", {}, {})


async def test_of_several_applications_one_is_to_be_named():
    log = [started("a"), JobStarted(2.0, 0, "", (), 1), started("b"), StageCompleted(3.0, 0, 0, ""), started("a")]
    for application, types in [
        ("a", [ApplicationStarted, JobStarted, ApplicationStarted]),
        ("b", [ApplicationStarted, StageCompleted]),
    ]:
        recorder = EventRecorder()
        await replay(log, plugins=[recorder], application=application)
        assert [type(event) for event in recorder.recorded] == types
    with pytest.raises(ArgumentError, match="several applications, 'a' and 'b' among them: say which is meant"):
        await replay(log)
    with pytest.raises(ArgumentError, match="application = 'c': the log has a, b, a"):
        await replay(log, application="c")


async def test_what_can_not_be_used_is_refused_as_a_context_refuses_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.jsonl"):
        await replay(tmp_path / "none.jsonl")
    with pytest.raises(PluginError, match="is not installed"):
        await replay([], plugins=["nosuch"])
    with pytest.raises(ConfigurationError, match="asparkle.listener.queue.size = 'many'"):
        await replay([], conf=SparkConf(loadDefaults=False).set("asparkle.listener.queue.size", "many"))
    path = tmp_path / "events.jsonl"
    path.write_text("")
    conf = SparkConf(loadDefaults=False).set("asparkle.events.jsonlines.path", str(path))
    with pytest.raises(ArgumentError, match="is the log that is read: it would never end"):
        await replay(str(path), conf=conf)


async def test_a_plugin_gives_its_listeners(live):
    directory, events, _ = live
    recorder = EventRecorder()

    class Plugin:
        @hookimpl
        def asparkle_listeners(self, conf):
            assert conf.get("color") == "blue"
            return [recorder]

    conf = SparkConf(loadDefaults=False).set("color", "blue")
    await replay(directory / "events.jsonl", plugins=[Plugin()], conf=conf)
    assert recorder.recorded == events
