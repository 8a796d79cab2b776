"""Metrics say what was done, and sinks get them: on time, at the end, and whatever other sinks do."""

from __future__ import annotations

import math
import os
import signal
import threading

import anyio
import pytest
from waiting import until

from asparkle import TaskContext
from asparkle.aio import SparkContext
from asparkle.core import events as e
from asparkle.core import taskcontext
from asparkle.core.conf import SparkConf
from asparkle.core.errors import ConfigurationError, JobFailed, PluginError
from asparkle.core.metrics import Counters, counts_input
from asparkle.core.scheduler.messages import FailureKind
from asparkle.plugins import Metrics, MetricSink, hookimpl
from asparkle.plugins.metrics import JOB_OUTCOMES, METRICS, TASK_TOTALS, MetricsListener
from asparkle.plugins.registry import PluginRegistry

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


class Kept(MetricSink):
    """Keeps what it is given, and in which thread."""

    def __init__(self) -> None:
        self.reports: list[Metrics] = []
        self.calls: list[str] = []
        self.threads: set[str] = set()

    def open(self, read):
        self.read = read
        self.called("open")

    def report(self, metrics):
        self.reports.append(metrics)
        self.called("report")

    def close(self):
        self.called("close")

    def called(self, name):
        self.calls.append(name)
        self.threads.add(threading.current_thread().name)


def values(metrics: Metrics) -> dict[str, float]:
    """By name, with the label's value in brackets."""
    return {f"{m.name}[{m.labels[0][1]}]" if m.labels else m.name: m.value for m in metrics.metrics}


def conf(**settings):
    return SparkConf().setAll((key.replace("_", "."), value) for key, value in settings.items())


# --------------------------------------------------------------------------------------- what is counted


@pytest.mark.parametrize("master", ["inline", "threads[2]", "processes[2]"])
async def test_metrics_are_what_was_done_as_soon_as_a_job_is_over(master):
    sink = Kept()
    async with SparkContext(master, "counted", plugins=[sink]) as sc:
        await until(lambda: sink.calls)
        pairs = sc.parallelize(range(100), 4).map(lambda x: (x % 5, 1))
        assert len(await pairs.reduceByKey(lambda a, b: a + b, 2).collect()) == 5
        after_one = sink.read()
        with pytest.raises(JobFailed):
            await sc.parallelize([0], 1).map(lambda x: 1 / x).collect()
        await until(lambda: values(sink.read())["slots"] == (1 if master == "inline" else 2))
        now = values(sink.read())
    assert (after_one.application, after_one.name, after_one.master) == (sc.applicationId, "counted", master)
    one = values(after_one)
    assert (one["jobs_started"], one["jobs[success]"], one["jobs_active"]) == (1, 1, 0)
    assert (one["stages[success]"], one["stages_active"]) == (2, 0)
    started = one["tasks_started"] - one["tasks[returned]"]  # what was sent ahead may have been given back
    assert (started, one["tasks[success]"], one["tasks_active"]) == (6, 6, 0)
    assert one["shuffle_write_records"] == one["shuffle_read_records"]
    assert one["shuffle_write_bytes"] > 0
    assert one["task_run_seconds"] > 0
    assert (now["jobs_started"], now["jobs[success]"], now["jobs[task]"]) == (2, 1, 1)
    assert now["tasks[failed]"] == 4  # spark.task.maxFailures; a plain master retries
    assert now["stages[failed]"] == 1
    last = values(sink.reports[-1])
    assert last["jobs_started"] == 2
    assert (last["executors"], last["slots"], last["executors_lost"]) == (0, 0, 0)  # it has ended: nothing is there


async def test_histograms_tell_how_many_took_how_long():
    sink = Kept()
    async with SparkContext("threads[2]", plugins=[sink]) as sc:
        await sc.parallelize(range(6), 6).count()
    found = {metric.name: metric for metric in sink.reports[-1].metrics}
    tasks, jobs = found["task_duration_seconds"], found["job_duration_seconds"]
    assert sum(count for _, count, _ in tasks.buckets) == 6
    assert sum(count for _, count, _ in jobs.buckets) == 1
    assert tasks.buckets[-1][0] == math.inf
    assert tasks.value == pytest.approx(sum(total for _, _, total in tasks.buckets))
    assert 0 < jobs.value < 60


async def test_cached_blocks_are_there_until_they_are_unpersisted():
    sink = Kept()
    async with SparkContext("processes[2]", plugins=[sink]) as sc:
        kept = sc.parallelize(range(1000), 4).map(str).persist()
        await kept.count()
        await until(lambda: values(sink.read())["cached_blocks[worker]"] == 4)
        assert values(sink.read())["cached_bytes[worker]"] > 1000
        await kept.unpersist()
        await until(lambda: values(sink.read())["cached_blocks[worker]"] == 0)
        assert values(sink.read())["cached_bytes[worker]"] == 0


async def test_broadcasts_are_there_until_they_are_destroyed():
    sink = Kept()
    async with SparkContext("threads[1]", plugins=[sink]) as sc:
        await until(lambda: sink.calls)
        words = await sc.broadcast(["word"] * 100)
        now = values(sink.read())
        assert now["broadcasts"] == 1
        assert now["broadcast_bytes"] > 100
        words.unpersist()  # from the executors only
        await sc.parallelize([1]).count()
        assert values(sink.read())["broadcasts"] == 1
        words.destroy()
        await until(lambda: values(sink.read())["broadcasts"] == 0)
        assert values(sink.read())["broadcast_bytes"] == 0


async def test_an_executor_that_is_killed_is_lost_and_its_blocks_with_it():
    sink = Kept()
    async with SparkContext("processes[2]", plugins=[sink]) as sc:
        kept = sc.parallelize(range(8), 8).persist()
        pids = await kept.mapPartitions(lambda _: [os.getpid()]).collect()
        await until(lambda: values(sink.read())["cached_blocks[worker]"] == 8)
        os.kill(pids[0], signal.SIGKILL)
        await until(lambda: values(sink.read())["executors_lost"] == 1)
        now = values(sink.read())
        assert now["cached_blocks[worker]"] == 8 - pids.count(pids[0])
        assert now["executors_added"] - now["executors_lost"] == now["executors"]
        await until(lambda: values(sink.read())["executors"] == 2)  # another has come
        assert await kept.count() == 8
        assert values(sink.read())["tasks_active"] == 0


async def test_what_a_cancelled_job_had_begun_is_active_no_more():
    sink = Kept()
    async with SparkContext("processes[2]", conf=conf(spark_task_reaper_killTimeout="100ms"), plugins=[sink]) as sc:

        def stuck(x):
            import time

            time.sleep(600)

        with anyio.move_on_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sc.parallelize([1, 2], 2).map(stuck).collect)
                await until(lambda: values(sink.read())["tasks_active"] == 2 if sink.calls else False)
                tasks.cancel_scope.cancel()
        await until(lambda: values(sink.read())["tasks_active"] == 0)
        now = values(sink.read())
        assert (now["jobs[cancelled]"], now["jobs_active"], now["stages_active"]) == (1, 0, 0)


async def test_what_listeners_miss_is_counted():
    sink, go_on = Kept(), threading.Event()
    async with SparkContext("threads[1]", conf=conf(asparkle_listener_queue_size="1"), plugins=[sink]) as sc:

        def slow(event):
            go_on.wait(60)

        sc.addListener(slow)
        await sc.parallelize(range(20), 20).count()
        missed = {name: value for name, value in values(sink.read()).items() if name.startswith("listener")}
        go_on.set()
    (slow,) = (number for name, number in missed.items() if name.endswith("slow]"))
    assert slow > 20  # of two events a task
    assert sum(missed.values()) == slow  # nobody else


def test_every_kind_of_failure_has_its_series_from_the_beginning():
    assert {*JOB_OUTCOMES} == {"success", *(kind.value for kind in FailureKind)}


def test_every_counted_field_of_a_task_is_there():
    fields = {field for field, _ in TASK_TOTALS.values()}
    others = {"peak_memory", "fetched"}  # the most of the one is a gauge; the other is counted by route
    assert fields == {*e.TaskMetrics.__dataclass_fields__} - others


def test_what_came_from_other_hosts_is_counted_by_its_route():
    listener = MetricsListener()
    metrics = e.TaskMetrics(fetched=(("n1", "direct", 10), ("n2", "driver", 5), ("", "direct", 1)))
    listener.on_event(e.TaskEnded(1.0, 0, 0, 0, 0, 0, "0", "n3", "success", metrics=metrics))
    listener.on_event(e.ResultsFetched(1.0, "n3", "direct", 100))
    now = values(listener.metrics())
    assert (now["fetched_bytes[direct]"], now["fetched_bytes[driver]"]) == (111, 5)


def test_a_metric_is_there_before_anything_happens():
    metrics = MetricsListener().metrics()
    assert {metric.name for metric in metrics.metrics} == {*METRICS, *TASK_TOTALS} - {"listener_dropped_events"}
    assert not any(metric.value for metric in metrics.metrics)


def test_when_the_application_has_ended_its_executors_are_gone_and_not_lost():
    listener = MetricsListener()
    listener.on_event(e.ExecutorAdded(1.0, "0", 0, "host", 2))
    listener.on_event(e.ExecutorAdded(1.0, "1", 0, "host", 2))
    listener.on_event(e.ExecutorRemoved(2.0, "1", 0, "host", "killed"))
    listener.on_event(e.ApplicationEnded(3.0))
    now = values(listener.metrics())
    assert (now["executors_added"], now["executors_lost"], now["executors"], now["slots"]) == (2, 1, 0, 0)


def test_an_executor_that_is_released_is_not_lost():
    listener = MetricsListener()
    listener.on_event(e.ExecutorAdded(1.0, "0", 0, "host", 2))
    listener.on_event(e.ExecutorRemoved(2.0, "0", 0, "host", "it was idle for 60 seconds", released=True))
    now = values(listener.metrics())
    assert (now["executors_lost"], now["executors_released"], now["executors"]) == (0, 1, 0)


def test_metrics_that_were_read_do_not_change():
    listener = MetricsListener()
    before = listener.metrics()
    copy = Metrics(*before)
    listener.on_event(e.JobStarted(1.0, 0, "count", (), 1))
    listener.on_event(e.JobEnded(2.0, 0))
    assert before == copy
    assert listener.metrics() != before


# ---------------------------------------------------------------------------------------------- the sinks


async def test_a_sink_is_opened_reported_to_and_closed_in_a_thread_of_its_own():
    sink = Kept()
    async with SparkContext("threads[1]", conf=conf(asparkle_metrics_interval="100ms"), plugins=[sink]) as sc:
        await sc.parallelize([1]).count()
        await until(lambda: len(sink.reports) > 2)
        assert sink.calls[:2] == ["open", "report"]
    assert sink.calls[-2:] == ["report", "close"]
    assert sink.threads == {"metric sink Kept"}
    assert not any(thread.name.startswith("metric sink") for thread in threading.enumerate())


async def test_the_last_report_comes_when_all_has_been_counted():
    sink = Kept()
    async with SparkContext("processes[2]", plugins=[sink]) as sc:
        await sc.parallelize(range(50), 50).count()
    assert len(sink.reports) == 1  # the interval is ten seconds
    assert values(sink.reports[0])["tasks[success]"] == 50


class Fails(Kept):
    name = "glass"
    at = ""

    def called(self, name):
        super().called(name)
        if name == self.at:
            raise SystemExit(f"{name} broke")


@pytest.mark.parametrize("at", ["open", "report", "close"])
async def test_a_sink_that_fails_is_logged_once_and_fails_nothing(at, caplog):
    broken, whole = Fails(), Kept()
    broken.at = at
    async with SparkContext("threads[1]", conf=conf(asparkle_metrics_interval="100ms"), plugins=[broken, whole]) as sc:
        await until(lambda: len(whole.reports) > 2)
        assert await sc.parallelize([1]).count() == 1
    logged = [message for message in caplog.messages if "metric sink failed" in message]
    assert len(logged) == 1
    assert f"sink='glass' at='{at}'" in logged[0]
    assert whole.calls[-1] == "close"
    assert (broken.calls == ["open"]) if at == "open" else (broken.calls[-1] == "close")


async def test_a_sink_that_hangs_holds_up_neither_jobs_nor_others_nor_the_stop(caplog):
    go_on, whole = threading.Event(), Kept()

    class Hangs(Kept):
        def report(self, metrics):
            super().report(metrics)
            go_on.wait(60)

    hangs = Hangs()
    settings = conf(asparkle_metrics_interval="100ms", asparkle_listener_flush_timeout="200ms")
    with anyio.fail_after(30):
        async with SparkContext("threads[1]", conf=settings, plugins=[hangs, whole]) as sc:
            await until(lambda: hangs.reports and len(whole.reports) > 2)
            assert await sc.parallelize([1]).count() == 1
    assert whole.calls[-1] == "close"
    assert "metric sink did not return in time: its thread is left behind: sink='Hangs'" in caplog.messages
    go_on.set()
    await until(lambda: hangs.calls[-1] == "close")  # it gives back what it has, with no further report
    assert hangs.calls == ["open", "report", "close"]


async def test_a_context_that_is_never_entered_opens_no_sink():
    sink = Kept()
    SparkContext("threads[1]", plugins=[sink])
    assert sink.calls == []


# ------------------------------------------------------------------------------------------- which sinks


class Named(Kept):
    made: list[Named] = []

    def __init__(self, conf):
        super().__init__()
        self.conf = conf
        self.made.append(self)


class Plugin:
    @hookimpl
    def asparkle_metric_sinks(self):
        return {"named": f"{__name__}:Named", "broken": Kept}


async def test_a_sink_of_a_plugin_is_used_where_the_conf_names_it():
    async with SparkContext("threads[1]", plugins=[Plugin()]):
        pass
    assert Named.made == []
    settings = conf(asparkle_metrics_sinks="named, statsd, named")
    async with SparkContext("threads[1]", conf=settings, plugins=[Plugin()]) as sc:
        await sc.parallelize([1]).count()
    (sink,) = Named.made
    Named.made.clear()
    assert sink.calls == ["open", "report", "close"]
    assert sink.conf.get("asparkle.metrics.sinks") == "named, statsd, named"


async def test_an_unknown_sink_is_refused_when_the_context_is_made():
    with pytest.raises(ConfigurationError, match="unknown metric sink 'stasd': known are .*named, .*statsd"):
        SparkContext("threads[1]", conf=conf(asparkle_metrics_sinks="stasd"), plugins=[Plugin()])


def test_a_sink_meets_its_contract():
    class Wrong:
        @hookimpl
        def asparkle_metric_sinks(self):
            return {"wrong": dict}

    with pytest.raises(PluginError, match="'wrong': .* is not a class derived from MetricSink"):
        PluginRegistry(conf(asparkle_metrics_sinks="wrong"), [Wrong()])


@pytest.mark.parametrize("interval", ["0s", "50ms", "soon"])
async def test_an_interval_that_makes_no_sense_is_refused(interval):
    with pytest.raises(ConfigurationError, match=f"asparkle.metrics.interval = '{interval}': expected a duration of"):
        SparkContext("threads[1]", conf=conf(asparkle_metrics_interval=interval))


def test_what_a_reader_has_read_is_counted_for_the_attempt_that_read_it():
    @counts_input
    def read():
        yield from range(10)

    first, second = Counters(), Counters()
    context = TaskContext(0, 0, 0, 0)
    taskcontext.enter(context)
    try:
        context._counters = first
        records = read()
        next(records), next(records)
        context._counters = second  # the next attempt, in which the garbage collector closes the reader
        records.close()
    finally:
        taskcontext.leave()
    assert (first.input_records, second.input_records) == (2, 0)
