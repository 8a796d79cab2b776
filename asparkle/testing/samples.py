"""What plugins are tried with: one event of every type, as one application has them, and what it tells its workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping

from asparkle.core import events as e
from asparkle.core.contracts import AppSpec
from asparkle.core.version import VERSION

_RDDS = (
    e.RddInfo(0, "parallelize", "numbers", 2),
    e.RddInfo(1, "map", "", 2, (0,), (True, True, False, False, 1)),
    e.RddInfo(2, "reduceByKey", "сумма", 2, (1,)),
)
_STAGES = (
    e.StageInfo(0, 2, "reduceByKey at job.py:7", 0, (), _RDDS[:2]),
    e.StageInfo(1, 2, "collect at job.py:8", None, (0,), _RDDS[2:]),
)
_METRICS = e.TaskMetrics(run_seconds=0.5, cpu_seconds=0.25, result_bytes=1000, shuffle_write_bytes=4096)
_ENVIRONMENT = {"python": "3.11.9", "executable": "/usr/bin/python3", "directory": "/home/ada"}


def sample_events() -> list[e.Event]:
    """A short application's life, in order: two stages, a failure, a lost executor, a cached RDD, a broadcast value."""
    return [
        e.ApplicationStarted(
            10.0,
            "local-1700000000000-1-0",
            "a sample",
            "processes[2]",
            "ada",
            1.7e9,
            VERSION,
            {"spark.app.name": "a sample"},
            _ENVIRONMENT,
            1 << 30,
            1,
        ),
        e.ExecutorAdded(10.1, "0", 1, "localhost", 1),
        e.ExecutorAdded(10.1, "1", 2, "localhost", 1, {"accelerator": "a100"}),
        e.BroadcastCreated(10.2, 0, 1000),
        e.JobStarted(10.3, 0, "collect", _STAGES, 2, "default", "a group", ("a tag",), {"request.id": "7"}),
        e.StageSubmitted(10.3, 0, 0, "reduceByKey at job.py:7", 2),
        e.TaskStarted(10.3, 0, 0, 0, 0, 0, "0", "localhost"),
        e.TaskStarted(10.3, 1, 0, 0, 1, 0, "1", "localhost", "near"),
        e.LogWritten(10.35, "warning", "a task is slow", {"task": "1"}),
        e.SpeculativeTaskSubmitted(10.4, 1, 0, 1),
        e.TaskStarted(10.4, 2, 0, 0, 1, 1, "0", "localhost", "far", True),
        e.BlockUpdated(10.4, 1, 0, "0", "localhost", "worker", True, 5000),
        e.TaskEnded(10.5, 0, 0, 0, 0, 0, "0", "localhost", "success", 0.2, metrics=_METRICS),
        e.AccumulatorUpdated(10.5, 0, 0, 0, 0, "17"),
        e.TaskEnded(
            10.6,
            1,
            0,
            0,
            1,
            0,
            "1",
            "localhost",
            "failed",
            0.3,
            "ZeroDivisionError: division by zero",
            _METRICS,
            "ZeroDivisionError",
            '  File "job.py", line 7, in <lambda>\n    1 // 0\n',
        ),
        e.ExecutorExcluded(10.6, "1", "localhost", "1 task failed on it", 1),
        e.TaskEnded(10.7, 2, 0, 0, 1, 1, "0", "localhost", "success", 0.3, metrics=_METRICS),
        e.StageCompleted(10.7, 0, 0, "reduceByKey at job.py:7"),
        e.StageSubmitted(10.7, 1, 0, "collect at job.py:8", 2),
        e.TaskStarted(10.7, 3, 1, 0, 0, 0, "0", "localhost"),
        e.ExecutorReadmitted(10.7, "1", "localhost"),
        e.TaskStarted(10.7, 4, 1, 0, 1, 0, "1", "localhost"),
        e.TaskEnded(10.8, 4, 1, 0, 1, 0, "1", "localhost", "executor lost", error="it was killed by SIGKILL"),
        e.ExecutorRemoved(10.8, "1", 2, "localhost", "its process was killed by SIGKILL"),
        e.TaskStarted(10.8, 5, 1, 0, 1, 1, "0", "localhost"),
        e.TaskEnded(10.9, 3, 1, 0, 0, 0, "0", "localhost", "fetch failed", unread=(0, 1, 1)),
        e.TaskEnded(10.9, 5, 1, 0, 1, 1, "0", "localhost", "killed"),
        e.StageCompleted(10.9, 1, 0, "collect at job.py:8", "a map output is gone"),
        e.JobEnded(10.9, 0, "FETCH", "a map output is gone"),
        e.BlockUpdated(11.0, 1, 0, "0", "localhost", "worker", False),
        e.RddUnpersisted(11.0, 1),
        e.ShuffleRemoved(11.0, 0),
        e.BroadcastRemoved(11.0, 0, True),
        e.ResultsFetched(11.0, "node-1", "direct", 2 << 20),
        e.ApplicationEnded(11.1),
    ]


def unknown_event() -> e.UnknownEvent:
    """One of a type that a later version may have."""
    return e.UnknownEvent(10.5, "PartitionMigrated", 3, {"rdd": 1, "partition": 0, "to": "2"})


def sample_app(directories: Iterable[str] = (), settings: Mapping[str, str] = {}) -> AppSpec:
    """What classes that are loaded in workers are called with.

    ``directories``: existing ones, in the place of the application's own; ``settings``: of the plugin's keys."""
    return AppSpec(
        app_id="local-1700000000000-1-0",
        name="a sample",
        master="processes[2]",
        directories=tuple(directories),
        slots_per_executor=1,
        worker_memory=512 << 20,
        storage_memory=512 << 20,
        direct_result=1 << 20,
        kill_timeout=10.0,
        task_cpus=1,
        environment={},
        path=tuple(sys.path),
        directory=os.getcwd(),
        disk_store="",
        shuffle_store="",
        cache_policy="",
        serializer="",
        settings=dict(settings),
    )
