"""Spark's own History Server reads asparkle's event logs, and its numbers are those of the events."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from asparkle import SparkConf, SparkContext, TaskContext
from asparkle.core import events as e
from asparkle.plugins.eventlog import EventLogListener
from asparkle.plugins.eventlog.files import LogFiles
from asparkle.plugins.listeners import EventRecorder

from .program import TEXT, run, run_and_cancel
from .server import HistoryServer, history_server, jars, wait_until
from .test_files import unlz4

pytestmark = [
    pytest.mark.skipif(jars() is None, reason="needs the History Server of an installed PySpark, and Java"),
    pytest.mark.slow,
]


class Ran(NamedTuple):
    id: str
    events: EventRecorder


class Shown(NamedTuple):
    server: HistoryServer
    whole: Ran  # the program of all kinds of events
    compressed: dict[str, Ran]
    rolled: Ran
    killed: str


def conf_for(logs: Path, **settings: str) -> SparkConf:
    conf = SparkConf().setMaster("processes[2]").setAppName("shown <in> Spark")
    conf.set("spark.eventLog.enabled", "true").set("spark.eventLog.dir", f"file:{logs}")
    return conf.setAll([("spark.eventLog." + key.replace("_", "."), value) for key, value in settings.items()])


def dies_once(number: int) -> int:
    if number == 0 and TaskContext.get().attemptNumber() == 0:
        os._exit(7)
    return number


def whole(logs: Path, data: Path) -> Ran:
    recorder = EventRecorder()
    conf = conf_for(logs, rolling_enabled="false", logBlockUpdates_enabled="true").set("my.password", "hush")
    with SparkContext(conf=conf, plugins=[recorder]) as sc:
        words = run(sc, f"{data}/out")
        run_and_cancel(sc)
        sc.setJobGroup("faults", "an executor dies")
        assert sc.parallelize(range(2), 2).map(dies_once).count() == 2
        kept = sc.parallelize(TEXT * 100, 4).setName("still cached").persist()
        kept.count()
        words.count()  # what the executor had of it is cached again
        return Ran(sc.applicationId, recorder)


def small(conf: SparkConf, tasks: int = 3, *plugins: object) -> Ran:
    recorder = EventRecorder()
    with SparkContext(conf=conf, plugins=[recorder, *plugins]) as sc:
        assert sc.parallelize(range(tasks), tasks).count() == tasks
        return Ran(sc.applicationId, recorder)


def killed(logs: Path) -> str:
    """The id of an application whose driver is killed while its second job runs."""
    program = """if True:
        import sys, time
        from asparkle import SparkConf, SparkContext
        conf = SparkConf().setMaster("threads[2]").setAppName("killed")
        conf.setAll([("spark.eventLog.enabled", "true"), ("spark.eventLog.dir", sys.argv[1])])
        conf.setAll([("spark.eventLog.compress", "true"), ("spark.eventLog.compression.codec", "lz4")])
        sc = SparkContext(conf=conf)
        print(sc.applicationId, flush=True)
        sc.parallelize(range(4), 4).count()
        sc.parallelize([1], 1).foreach(lambda _: time.sleep(60))
    """
    with subprocess.Popen([sys.executable, "-c", program, str(logs)], stdout=subprocess.PIPE, text=True) as process:
        application = process.stdout.readline().strip()
        log = logs / f"eventlog_v2_{application}" / f"events_1_{application}.lz4"
        try:
            wait_until(lambda: log.exists() and unlz4(log.read_bytes()).count(b"JobStart") == 2, "the second job", 30)
        finally:
            process.kill()
    return application


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    logs, other = tmp_path_factory.mktemp("logs"), tmp_path_factory.mktemp("other")
    all_kinds = whole(logs, other)
    compressed = {c: small(conf_for(logs, compress="true", compression_codec=c)) for c in ("zstd", "lz4")}
    unlogged = SparkConf().setMaster("processes[2]").setAppName("rolled")
    rolled = small(unlogged, 50, EventLogListener(LogFiles(str(logs), roll_at=20_000)))
    dead = killed(logs)
    ids = {all_kinds.id, rolled.id, dead, *(ran.id for ran in compressed.values())}
    with history_server(logs, other / "server.log") as server:
        wait_until(lambda: {a["id"] for a in server.rest("applications")} == ids, f"{ids} to be listed")
        yield Shown(server, all_kinds, compressed, rolled, dead)
        said = (other / "server.log").read_text()
    assert " ERROR " not in said and "Exception" not in said, said


def of(shown: Shown, what: str) -> Any:
    return shown.server.rest(f"applications/{shown.whole.id}/{what}")


def ended_tasks(ran: Ran, stage: int) -> list[e.TaskEnded]:
    return [task for task in ran.events.of_type(e.TaskEnded) if task.stage == stage]


STATUS = {"success": "SUCCESS", "killed": "KILLED", "failed": "FAILED", "executor lost": "FAILED"}


class TestApplications:
    def test_an_application_has_its_name_user_times_and_is_complete(self, shown):
        application = of(shown, "")
        (start,) = shown.whole.events.of_type(e.ApplicationStarted)
        (end,) = shown.whole.events.of_type(e.ApplicationEnded)
        (attempt,) = application["attempts"]
        assert (application["name"], attempt["sparkUser"]) == ("shown <in> Spark", start.user)
        assert attempt["completed"] is True
        assert abs(attempt["startTimeEpoch"] - start.wall_time * 1000) < 2
        assert abs(attempt["duration"] - (end.time - start.time) * 1000) < 2

    @pytest.mark.parametrize("codec", ["zstd", "lz4"])
    def test_compressed(self, shown, codec):
        (job,) = shown.server.rest(f"applications/{shown.compressed[codec].id}/jobs")
        assert (job["status"], job["numTasks"], job["numCompletedTasks"]) == ("SUCCEEDED", 3, 3)

    def test_rolled(self, shown):
        (job,) = shown.server.rest(f"applications/{shown.rolled.id}/jobs")
        assert (job["status"], job["numTasks"], job["numCompletedTasks"]) == ("SUCCEEDED", 50, 50)

    def test_of_a_killed_driver_all_until_then(self, shown):
        application = shown.server.rest(f"applications/{shown.killed}")
        assert application["attempts"][0]["completed"] is False
        jobs = shown.server.rest(f"applications/{shown.killed}/jobs")
        assert {job["jobId"]: job["status"] for job in jobs} == {0: "SUCCEEDED", 1: "RUNNING"}


class TestJobsAndStages:
    def test_jobs(self, shown):
        recorded = shown.whole.events
        jobs = {job["jobId"]: job for job in of(shown, "jobs")}
        ended = {event.job: event for event in recorded.of_type(e.JobEnded)}
        assert jobs.keys() == ended.keys()
        for started in recorded.of_type(e.JobStarted):
            job, end = jobs[started.job], ended[started.job]
            during = recorded.recorded[recorded.recorded.index(started) : recorded.recorded.index(end)]
            submitted = {event.stage for event in during if isinstance(event, e.StageSubmitted)}
            assert job["numSkippedStages"] == len(started.stages) - len(submitted)
            assert job["status"] == ("FAILED" if end.failure else "SUCCEEDED")
            assert (job["description"], job["jobGroup"]) == (started.name, started.group)
            assert sorted(job["stageIds"]) == sorted(info.stage for info in started.stages)
            tasks = [task for info in started.stages for task in ended_tasks(shown.whole, info.stage)]
            outcomes = Counter(task.outcome for task in tasks)
            assert job["numActiveStages"] == 0
            assert job["numTasks"] == sum(
                started.partitions if info.shuffle is None else info.tasks for info in started.stages
            )
            if not job["numSkippedStages"]:
                assert job["numCompletedTasks"] == outcomes["success"]
                assert job["numFailedTasks"] == outcomes["failed"] + outcomes["executor lost"]
        described = {job["description"]: job for job in jobs.values()}
        assert described["fails"]["numFailedTasks"] == 4
        assert described["writes and reads"]["numSkippedStages"] == 1  # that of the shuffle, which was there

    def test_stages(self, shown):
        recorded = shown.whole.events
        stages = {(stage["stageId"], stage["attemptId"]): stage for stage in of(shown, "stages")}
        errors = {(event.stage, event.attempt): event.error for event in recorded.of_type(e.StageCompleted)}
        assert {key for key, stage in stages.items() if stage["status"] != "SKIPPED"} == errors.keys()
        for submitted in recorded.of_type(e.StageSubmitted):
            stage = stages[submitted.stage, submitted.attempt]
            error = errors[submitted.stage, submitted.attempt]
            assert stage["status"] == ("FAILED" if error else "COMPLETE")
            assert stage.get("failureReason", "") == error
            assert (stage["name"], stage["numTasks"]) == (submitted.name, submitted.tasks)
            metrics = [task.metrics for task in ended_tasks(shown.whole, submitted.stage) if task.metrics]
            for name, field in [
                ("inputBytes", "input_bytes"),
                ("inputRecords", "input_records"),
                ("outputBytes", "output_bytes"),
                ("outputRecords", "output_records"),
                ("shuffleReadBytes", "shuffle_read_bytes"),
                ("shuffleReadRecords", "shuffle_read_records"),
                ("shuffleWriteBytes", "shuffle_write_bytes"),
                ("shuffleWriteRecords", "shuffle_write_records"),
                ("resultSize", "result_bytes"),
                ("peakExecutionMemory", "peak_memory"),
            ]:
                assert stage[name] == sum(getattr(m, field) for m in metrics), name
            assert abs(stage["executorRunTime"] - sum(m.run_seconds for m in metrics) * 1000) <= len(metrics)
        assert sum(stage["shuffleWriteRecords"] for stage in stages.values()) > 0
        assert sum(stage["inputRecords"] for stage in stages.values()) >= 4  # the lines that were written
        assert sum(stage["outputRecords"] for stage in stages.values()) == 4

    def test_tasks(self, shown):
        recorded = shown.whole.events
        seen = Counter()
        for submitted in recorded.of_type(e.StageSubmitted):
            tasks = of(shown, f"stages/{submitted.stage}/{submitted.attempt}/taskList?length=1000")
            ended = {task.tid: task for task in ended_tasks(shown.whole, submitted.stage)}
            assert {task["taskId"] for task in tasks} == ended.keys()
            for task in tasks:
                event = ended[task["taskId"]]
                assert task["status"] == STATUS[event.outcome]
                assert (task["index"], task["attempt"]) == (event.partition, event.attempt)
                assert (task["executorId"], task["host"]) == (event.executor, event.host)
                assert task.get("duration", 0) >= int(event.seconds * 1000) - 1
                seen[task["status"]] += 1
                if event.outcome == "failed":
                    assert "ValueError: three is no number" in task["errorMessage"]
                    assert "program.py" in task["errorMessage"]
                if event.outcome == "executor lost":
                    assert "exit status 7" in task["errorMessage"]
        assert seen["FAILED"] == 5 and seen["KILLED"] == 2

    def test_accumulators(self, shown):
        updates = [u["value"] for stage in of(shown, "stages") for u in stage["accumulatorUpdates"]]
        assert updates == ["45"]


class TestExecutorsStorageAndEnvironment:
    def test_executors(self, shown):
        recorded = shown.whole.events
        executors = {executor["id"]: executor for executor in of(shown, "allexecutors")}
        added = {event.executor: event for event in recorded.of_type(e.ExecutorAdded)}
        removed = {event.executor: event.reason for event in recorded.of_type(e.ExecutorRemoved)}
        assert executors.keys() == added.keys() and len(removed) == 1
        (start,) = recorded.of_type(e.ApplicationStarted)
        for name, executor in executors.items():
            outcomes = Counter(t.outcome for t in recorded.of_type(e.TaskEnded) if t.executor == name)
            assert executor["completedTasks"] == outcomes["success"]
            assert executor["failedTasks"] == outcomes["failed"] + outcomes["executor lost"]
            assert executor["isActive"] is (name not in removed)
            assert executor.get("removeReason") == removed.get(name)
            assert (executor["totalCores"], executor["maxMemory"]) == (1, start.executor_memory)
        assert {executor["id"] for executor in of(shown, "executors")} == added.keys() - removed.keys()

    def test_storage(self, shown):
        rdds = {rdd["name"]: rdd for rdd in of(shown, "storage/rdd")}
        kept = rdds["still cached"]
        assert (kept["numPartitions"], kept["numCachedPartitions"]) == (4, 4)
        assert kept["storageLevel"] == "Memory Serialized 1x Replicated"
        sizes = [b.size for b in shown.whole.events.of_type(e.BlockUpdated) if b.rdd == kept["id"] and b.present]
        assert kept["memoryUsed"] == sum(sizes) > 0
        assert "words of the text" in rdds and len(rdds) == 2  # a third one was forgotten

    def test_without_block_updates_the_storage_page_is_empty(self, shown):
        assert shown.server.rest(f"applications/{shown.compressed['zstd'].id}/storage/rdd") == []

    def test_environment(self, shown):
        environment = of(shown, "environment")
        properties = dict(environment["sparkProperties"])
        assert properties["spark.master"] == "processes[2]"
        assert properties["spark.app.id"] == shown.whole.id
        assert "redacted" in properties["my.password"]
        assert dict(environment["systemProperties"])["python.executable"] == sys.executable
        assert "Python" in environment["runtime"]["javaVersion"]


class TestPages:
    @pytest.mark.parametrize(
        "page, names",
        [
            ("jobs/", ["counts words", "is cancelled", "words"]),
            ("jobs/job/?id=0", ["Details for Job 0", "words", "digraph", "words of the text", "reduceByKey|shuffled"]),
            ("stages/", ["counts words", "an executor dies", "ValueError: three is no number"]),
            ("stages/stage/?id=0&attempt=0", ["Details for Stage 0", "digraph", "words of the text", "flatMap"]),
            ("storage/", ["still cached", "words of the text", "Memory Serialized 1x Replicated"]),
            ("environment/", ["Environment"]),
            ("executors/", ["Executors"]),
        ],
    )
    def test_pages_show_names(self, shown, page, names):
        text = shown.server.page(f"history/{shown.whole.id}/{page}")
        for name in names:
            assert re.search(name, text), f"{name} is not on {page}"

    def test_the_page_of_a_cached_rdd(self, shown):
        (rdd,) = [rdd for rdd in of(shown, "storage/rdd") if rdd["name"] == "still cached"]
        text = shown.server.page(f"history/{shown.whole.id}/storage/rdd/?id={rdd['id']}")
        assert "still cached" in text and f"rdd_{rdd['id']}_3" in text

    def test_names_are_text_not_html(self, shown):
        text = shown.server.page(f"history/{quote(shown.whole.id)}/jobs/")
        assert "shown &lt;in&gt; Spark" in text and "shown <in> Spark" not in text
