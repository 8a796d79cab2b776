"""asparkle's event log has the keys and types that Spark's has of the same program, and its numbers are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asparkle import SparkConf, SparkContext
from asparkle.core import events as e
from asparkle.plugins.eventlog.sparkjson import Translation

from .program import run
from .record import MAPS, RECORDED, kind_of

MISSING = {
    "Task End: memory of JVMs": "SparkListenerTaskEnd/Task Executor Metrics",
    "merged shuffle blocks": "/Push Based Shuffle",
    "memory off the heap": "SparkListenerResourceProfileAdded/Executor Resource Requests/offHeap",
    "only accumulators of its own have an Update": "/Accumulables/Update",
    "lines of a JVM's stack": "/Stack Trace/",
}
"""What Spark writes and asparkle does not, and why."""


def shape(value: Any, path: str = "") -> dict[str, str]:
    """Types by path; of a list, those of its elements."""
    if isinstance(value, dict) and path.endswith(MAPS):
        return {path: "dict"} | dict.fromkeys(
            [path + "/*"] * bool(value), ",".join({type(v).__name__ for v in value.values()})
        )
    if isinstance(value, dict):
        return {path: "dict"} | {p: t for key, item in value.items() for p, t in shape(item, f"{path}/{key}").items()}
    if isinstance(value, list):
        return {path: "list"} | {p: t for item in value for p, t in shape(item, path).items() if p != path}
    return {path: type(value).__name__}


def shapes(lines: list[str]) -> dict[str, dict[str, str]]:
    """By kind of event: the paths in all events of the kind."""
    found: dict[str, dict[str, str]] = {}
    for event in map(json.loads, lines):
        kind = kind_of(event)
        found.setdefault(kind, {}).update(shape(event, event["Event"]))
    return found


def logged(directory: Path) -> list[str]:
    (log,) = directory.glob("local-*")
    assert log.suffix == ""
    return log.read_text().splitlines()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory, data = tmp_path_factory.mktemp("log"), tmp_path_factory.mktemp("data")
    conf = SparkConf().setMaster("processes[2]").setAppName("recorded")
    conf.set("spark.eventLog.enabled", "true").set("spark.eventLog.dir", f"file:{directory}")
    conf.set("spark.eventLog.rolling.enabled", "false").set("spark.eventLog.logBlockUpdates.enabled", "true")
    with SparkContext(conf=conf) as sc:
        run(sc, f"{data}/out")
    return logged(directory)


def test_every_kind_of_event_that_spark_logs_is_logged(ours):
    assert shapes(RECORDED.read_text().splitlines()).keys() <= shapes(ours).keys()


@pytest.mark.parametrize("kind", list(shapes(RECORDED.read_text().splitlines())))
def test_keys_and_types_are_those_of_spark(kind, ours):
    theirs, mine = shapes(RECORDED.read_text().splitlines())[kind], shapes(ours)[kind]
    known = {path: t for path, t in theirs.items() if not any(part in path for part in MISSING.values())}
    optional = "/Accumulables/", "/Accumulator Updates/", "Properties/*", "Entries/*", "Urls/*"
    assert {path for path in known if path not in mine and not any(part in path for part in optional)} == set()
    assert {
        path: t
        for path, t in mine.items()
        if path in known and known[path] != t and "/Accumulables/" not in path  # Spark's own are numbers
    } == {}
    assert {path for path in mine.keys() - known.keys() if not any(part in path for part in optional)} <= {
        "SparkListenerStageCompleted/Stage Info/Failure Reason"  # Spark's example is a stage that succeeded
    }


def test_every_line_is_one_event_in_ascii(ours):
    assert all(line.isascii() and "Event" in json.loads(line) for line in ours)


# --------------------------------------------------------------- what the program above does not bring about

START = e.ApplicationStarted(100.0, "app-1", "name", "local", "me", 1000.0, "0.1", {}, {}, 1 << 30, 2)
RDD = e.RddInfo(3, "map", "mine", 4, (2,), (True, True, False, False, 2), determinism="UNORDERED")
MAP_STAGE = e.StageInfo(0, 2, "map 1", shuffle=7)
JOB = e.JobStarted(101.0, 5, "words", (MAP_STAGE, e.StageInfo(1, 9, "map 3", None, (7,), (RDD,))), 4, "pool")


def translated(*events: e.Event, **options: Any) -> list[dict[str, Any]]:
    """What is written of the last one."""
    translation = Translation(**options)
    for event in (START, *events[:-1]):
        translation.lines(event)
    return [json.loads(line) for line in translation.lines(events[-1])]


def ended(outcome: str, **fields: Any) -> dict[str, Any]:
    started = e.TaskStarted(102.0, 8, 1, 0, 3, 1, "x", "host", "near", True)
    (event,) = translated(JOB, started, e.TaskEnded(103.0, 8, 1, 0, 3, 1, "x", "host", outcome, **fields))
    return event


def test_nothing_is_written_before_the_application_is_known():
    assert Translation().lines(JOB) == []


def test_times_are_milliseconds_of_the_wall_clock():
    (event,) = translated(JOB)
    assert event["Submission Time"] == 1_001_000


def test_a_job_lists_stages_with_the_tasks_that_it_needs_and_the_stages_that_they_read():
    (event,) = translated(JOB)
    assert [(info["Number of Tasks"], info["Parent IDs"]) for info in event["Stage Infos"]] == [(2, []), (4, [0])]
    assert event["Stage IDs"] == [0, 1]
    assert event["Properties"] == {"spark.job.description": "words", "spark.scheduler.pool": "pool"}


def test_a_job_that_finds_a_shuffle_written_has_an_attempt_of_its_own_at_its_stage():
    again = e.JobStarted(104.0, 6, "", (MAP_STAGE, e.StageInfo(2, 1, "map 4", None, (7,))), 1)
    submitted = e.StageSubmitted(102.0, 0, 0, "map 1", 2)
    (event,) = translated(JOB, submitted, again)
    assert event["Stage Infos"][0]["Stage Attempt ID"] == 0  # it waits for the one that runs
    (event,) = translated(JOB, submitted, e.StageCompleted(103.0, 0, 0, "map 1"), e.JobEnded(103.0, 5), again)
    assert [info["Stage Attempt ID"] for info in event["Stage Infos"]] == [1, 0]


def test_an_rdd_has_a_scope_of_its_own_its_parents_and_its_storage_level():
    (event,) = translated(JOB)
    (rdd,) = event["Stage Infos"][1]["RDD Info"]
    assert json.loads(rdd["Scope"]) == {"id": "3", "name": "map"}
    assert (rdd["Name"], rdd["Parent IDs"], rdd["DeterministicLevel"]) == ("mine", [2], "UNORDERED")
    assert rdd["Storage Level"] == {
        "Use Disk": True,
        "Use Memory": True,
        "Use Off Heap": False,
        "Deserialized": False,
        "Replication": 2,
    }


@pytest.mark.parametrize(
    "outcome, fields, reason",
    [
        ("success", {}, {"Reason": "Success"}),
        ("killed", {"error": "job 5 is over"}, {"Reason": "TaskKilled", "Kill Reason": "job 5 is over"}),
        ("unused", {}, {"Reason": "TaskKilled", "Kill Reason": "another attempt was quicker"}),
        ("returned", {}, {"Reason": "TaskKilled"}),
        (
            "executor lost",
            {"error": "it ended"},
            {
                "Reason": "ExecutorLostFailure",
                "Executor ID": "x",
                "Exit Caused By App": True,
                "Loss Reason": "it ended",
            },
        ),
        (
            "fetch failed",
            {"error": "gone", "unread": (7, 1, 44)},
            {"Reason": "FetchFailed", "Shuffle ID": 7, "Map ID": 44, "Map Index": 1, "Reduce ID": 3, "Message": "gone"},
        ),
        (
            "failed",
            {"error": "CommitDenied: another writes it", "error_type": "CommitDenied"},
            {"Reason": "TaskCommitDenied", "Job ID": 5, "Partition ID": 3, "Attempt Number": 1},
        ),
        (
            "failed",
            {"error": "KeyError: 'a: b'", "error_type": "KeyError", "frames": "  File f"},
            {
                "Reason": "ExceptionFailure",
                "Class Name": "KeyError",
                "Description": "'a: b'",
                "Full Stack Trace": "KeyError: 'a: b'\n  File f",
            },
        ),
    ],
    ids=["success", "killed", "unused", "returned", "executor lost", "fetch failed", "commit denied", "exception"],
)
def test_how_a_task_ended(outcome, fields, reason):
    event = ended(outcome, **fields)
    assert event["Task End Reason"].items() >= reason.items()
    killed = reason["Reason"] == "TaskKilled"
    info = event["Task Info"]
    assert (info["Killed"], info["Failed"]) == (killed, not killed and outcome != "success")
    assert (info["Locality"], info["Speculative"], info["Attempt"]) == ("NODE_LOCAL", True, 1)
    assert "Task Metrics" not in event


def test_a_task_that_was_noted_late_has_run_for_as_long_as_its_worker_says():
    info = ended("success", seconds=1.5)["Task Info"]
    assert (info["Launch Time"], info["Finish Time"]) == (1_001_500, 1_003_000)
    assert ended("success", seconds=0.5)["Task Info"]["Launch Time"] == 1_002_000


def test_metrics_are_in_sparks_units():
    metrics = e.TaskMetrics(run_seconds=2, cpu_seconds=1.5, shuffle_write_seconds=0.25, gc_seconds=0.5, spilled_bytes=9)
    written = ended("success", metrics=metrics)["Task Metrics"]
    assert (written["Executor Run Time"], written["Executor CPU Time"]) == (2000, 1_500_000_000)
    assert (written["JVM GC Time"], written["Disk Bytes Spilled"]) == (500, 9)
    assert written["Shuffle Write Metrics"]["Shuffle Write Time"] == 250_000_000


def test_an_attempt_at_a_stage_completes_with_what_its_tasks_added():
    submitted = e.StageSubmitted(102.0, 1, 2, "map 3", 3)
    added = e.AccumulatorUpdated(102.5, 4, 1, 0, 8, "10")
    (event,) = translated(JOB, submitted, added, e.StageCompleted(103.0, 1, 2, "map 3", "lost"))
    info = event["Stage Info"]
    assert (info["Stage Attempt ID"], info["Number of Tasks"], info["Failure Reason"]) == (2, 3, "lost")
    assert (info["Submission Time"], info["Completion Time"]) == (1_002_000, 1_003_000)
    (accumulable,) = info["Accumulables"]
    assert (accumulable["Name"], accumulable["Value"]) == ("accumulator 4", "10")


def test_executors_have_cores_memory_and_an_address_each():
    added, block_manager = translated(e.ExecutorAdded(101.0, "a", 1, "h", 1), e.ExecutorAdded(101.0, "b", 2, "h", 3))
    assert added["Executor Info"]["Total Cores"] == 6  # spark.task.cpus is 2
    assert block_manager["Maximum Memory"] == 1 << 30
    assert block_manager["Block Manager ID"] == {"Executor ID": "b", "Host": "h", "Port": 2}
    gone, removed = translated(e.ExecutorRemoved(102.0, "a", 1, "h", "it ended"))
    assert gone["Event"] == "SparkListenerBlockManagerRemoved"
    assert (removed["Executor ID"], removed["Removed Reason"]) == ("a", "it ended")


def test_labels_are_attributes_of_executors():
    labels = {"accelerator": "a100", "zone": "a"}
    added, _ = translated(e.ExecutorAdded(101.0, "a", 1, "h", 1, labels))
    assert added["Executor Info"]["Attributes"] == labels
    added, _ = translated(e.ExecutorAdded(101.0, "a", 1, "h", 1))
    assert added["Executor Info"]["Attributes"] == {}


def test_exclusion():
    (excluded,) = translated(e.ExecutorExcluded(101.0, "a", "h", "tasks failed there", 2))
    assert excluded == {
        "Event": "org.apache.spark.scheduler.SparkListenerExecutorExcluded",
        "time": 1_001_000,
        "executorId": "a",
        "taskFailures": 2,
    }
    (readmitted,) = translated(e.ExecutorReadmitted(101.0, "a", "h"))
    assert readmitted["Event"] == "org.apache.spark.scheduler.SparkListenerExecutorUnexcluded"


@pytest.mark.parametrize(
    "scope, present, memory, disk", [("worker", True, 9, 0), ("host", True, 0, 9), ("worker", False, 0, 0)]
)
def test_blocks_are_told_of_where_that_is_asked_for(scope, present, memory, disk):
    update = e.BlockUpdated(101.0, 3, 1, "a", "h", scope, present, 9)
    assert translated(update) == []
    (event,) = translated(update, block_updates=True)
    info = event["Block Updated Info"]
    assert (info["Block ID"], info["Memory Size"], info["Disk Size"]) == ("rdd_3_1", memory, disk)
    assert (info["Storage Level"]["Use Memory"], info["Storage Level"]["Use Disk"]) == (bool(memory), bool(disk))


def test_what_jobs_leave_behind_is_forgotten_but_for_shuffles():
    translation = Translation()
    shuffle_only = [START, JOB, e.JobEnded(103.0, 5)]
    for event in shuffle_only:
        translation.lines(event)
    again = e.JobStarted(104.0, 6, "", (e.StageInfo(2, 1, "map 4", None, (7,)),), 1)
    (line,) = translation.lines(again)
    assert json.loads(line)["Stage Infos"][0]["Parent IDs"] == [0]
    assert translation._stages.keys() == {0, 2} and translation._properties.keys() == {6}


def test_a_shuffle_that_is_removed_is_forgotten_once_no_job_needs_it():
    translation = Translation()
    submitted = e.StageSubmitted(102.0, 0, 0, "map 1", 2)
    for event in (START, JOB, submitted, e.ShuffleRemoved(102.0, 7)):
        translation.lines(event)
    assert translation._shuffles == {7: 0}  # a job runs that has it
    for event in (e.JobEnded(103.0, 5), e.ShuffleRemoved(104.0, 7)):
        translation.lines(event)
    left = (translation._shuffles, translation._maps, translation._stages, translation._next_attempts)
    assert not any(left)


def test_what_a_shuffle_was_read_from():
    metrics = e.TaskMetrics(
        shuffle_read_bytes=100, shuffle_read_blocks=7, shuffle_remote_bytes=60, shuffle_remote_blocks=4
    )
    read = ended("success", metrics=metrics)["Task Metrics"]["Shuffle Read Metrics"]
    assert (read["Remote Bytes Read"], read["Local Bytes Read"]) == (60, 40)
    assert (read["Remote Blocks Fetched"], read["Local Blocks Fetched"]) == (4, 3)


def test_events_that_spark_has_none_for_are_left_out():
    assert translated(e.ResultsFetched(101.0, "n1", "direct", 5)) == []
    assert translated(e.ShuffleRemoved(101.0, 1)) == []
    assert translated(e.UnknownEvent(101.0, "Later", 3, {})) == []
