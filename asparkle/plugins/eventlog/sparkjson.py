"""asparkle's events as the JSON that Spark 4.3's History Server reads.

One function for each type of event, which takes what Spark repeats from earlier events from the `Translation`: a
task's stage, a stage's RDDs, the wall clock.  Spark's JsonProtocol has the keys; its tests here are logs that Spark
itself has written.  What asparkle does not have (a JVM's heap, blocks fetched from other hosts) is 0.

Tasks may begin and end ten thousand times a second.  Their JSON is made once, as a pattern, in which numbers and
encoded text are filled: a quarter of the time.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from asparkle import events as e

Json: TypeAlias = "dict[str, Any]"

FORMAT: Final = "4.3.0"  # of Spark, that reads it
LOCALITY: Final = {"near": "NODE_LOCAL", "any": "NO_PREF", "far": "ANY"}
KILLED: Final = {
    "killed": "",
    "unused": "another attempt was quicker",
    "returned": "it had not started: another executor was free",
}
_PACKAGE: Final = "org.apache.spark.scheduler."  # Spark names events so that it has no JSON of its own for


class Translation:
    """Spark's lines for one application's events, given in their order from `ApplicationStarted` on."""

    def __init__(self, *, block_updates: bool = False) -> None:
        self.application = ""
        self._block_updates = block_updates
        self._clock = 0.0  # what the wall clock said when the events' clock was 0
        self._task_cpus = 1
        self._memory = 0  # of each executor
        self._stages: dict[int, Json] = {}  # Stage Info, as the latest job lists it
        self._jobs: dict[int, int] = {}  # by stage: the latest job that has it
        self._properties: dict[int, Json] = {}  # by job
        self._shuffles: dict[int, int] = {}  # by shuffle: the stage that writes it
        self._maps: set[int] = set()  # stages that write one
        self._running: dict[int, Json] = {}  # Stage Info of the attempt that runs
        self._next_attempts: dict[int, int] = {}  # by stage that writes a shuffle: of an attempt to come
        self._tasks: dict[int, Json] = {}  # of those that run: what is filled in Task Info
        self._ports: dict[str, int] = {}  # by executor: they listen on none, but the server tells them apart by it

    def lines(self, event: e.Event) -> list[str]:
        """None for an event that has no place in Spark's log, and for what precedes `ApplicationStarted`."""
        make = _MAKERS.get(type(event))
        if make is None or not (self.application or isinstance(event, e.ApplicationStarted)):
            return []
        return [made if isinstance(made, str) else _encode(made) for made in make(self, event)]

    def _at(self, time: float) -> int:
        """Milliseconds of the wall clock."""
        return round((time + self._clock) * 1000)

    # -------------------------------------------------------------------------------- the application

    def _application_started(self, event: e.ApplicationStarted) -> Iterable[Json]:
        self.application = event.application
        self._clock = event.wall_time - event.time
        self._memory, self._task_cpus = event.executor_memory, event.task_cpus
        yield {"Event": "SparkListenerLogStart", "Spark Version": FORMAT}
        memory = {"Resource Name": "memory", "Amount": self._memory >> 20, "Discovery Script": "", "Vendor": ""}
        yield {
            "Event": "SparkListenerResourceProfileAdded",
            "Resource Profile Id": 0,
            "Executor Resource Requests": {"memory": memory},
            "Task Resource Requests": {"cpus": {"Resource Name": "cpus", "Amount": float(self._task_cpus)}},
        }
        known = {"spark.app.id": event.application, "spark.app.name": event.name, "spark.master": event.master}
        yield {
            "Event": "SparkListenerEnvironmentUpdate",
            "JVM Information": {
                "Java Home": "none",
                "Java Version": f"none: Python {event.environment.get('python.version', '')}",
                "Scala Version": f"none: asparkle {event.asparkle_version}",
            },
            "Spark Properties": {"spark.scheduler.mode": "FIFO", **event.conf, **known},
            "Hadoop Properties": {
                key.removeprefix("spark.hadoop."): value
                for key, value in event.conf.items()
                if key.startswith("spark.hadoop.")
            },
            "System Properties": dict(event.environment),
            "Metrics Properties": {},
            "Classpath Entries": {},
        }
        yield {
            "Event": "SparkListenerApplicationStart",
            "App Name": event.name,
            "App ID": event.application,
            "Timestamp": self._at(event.time),
            "User": event.user,
        }

    def _application_ended(self, event: e.ApplicationEnded) -> Iterable[Json]:
        yield {"Event": "SparkListenerApplicationEnd", "Timestamp": self._at(event.time), "ExitCode": 0}

    # ---------------------------------------------------------------------------------- jobs and stages

    def _job_started(self, event: e.JobStarted) -> Iterable[Json]:
        for stage in event.stages:
            if stage.shuffle is not None:
                self._shuffles[stage.shuffle] = stage.stage
                self._maps.add(stage.stage)
        for stage in event.stages:
            tasks = stage.tasks if stage.shuffle is not None else event.partitions
            parents = [self._shuffles[shuffle] for shuffle in stage.parents if shuffle in self._shuffles]
            info = self._stages[stage.stage] = _stage_info(stage, tasks, parents)
            info["Stage Attempt ID"] = self._attempt(stage.stage)
            self._jobs[stage.stage] = event.job
        named = {"spark.job.description": event.name} if event.name else {}
        properties = {**named, **event.properties, "spark.scheduler.pool": event.pool}
        self._properties[event.job] = properties
        yield {
            "Event": "SparkListenerJobStart",
            "Job ID": event.job,
            "Submission Time": self._at(event.time),
            "Stage Infos": [self._stages[stage.stage] for stage in event.stages],
            "Stage IDs": [stage.stage for stage in event.stages],
            "Properties": properties,
        }

    def _shuffle_removed(self, event: e.ShuffleRemoved) -> Iterable[Json]:
        """Spark's log does not have it; the stage that has written the shuffle may be forgotten."""
        stage = self._shuffles.get(event.shuffle)
        if stage is not None and stage not in self._jobs:
            del self._shuffles[event.shuffle]
            self._maps.discard(stage)
            self._stages.pop(stage, None)
            self._next_attempts.pop(stage, None)
        return ()

    def _attempt(self, stage: int) -> int:
        """The attempt that a new job waits for.

        A job that finds a shuffle written has an attempt of its own at the stage, which is skipped: the server would
        else take the one that wrote it for skipped.
        """
        running = self._running.get(stage)
        attempt: int = running["Stage Attempt ID"] if running else self._next_attempts.get(stage, 0)
        return attempt

    def _job_ended(self, event: e.JobEnded) -> Iterable[Json]:
        result: Json = {"Result": "JobSucceeded"}
        if event.failure:
            result = {"Result": "JobFailed", "Exception": {"Message": event.reason, "Stack Trace": []}}
        yield {
            "Event": "SparkListenerJobEnd",
            "Job ID": event.job,
            "Completion Time": self._at(event.time),
            "Job Result": result,
        }
        self._properties.pop(event.job, None)
        for stage in [stage for stage, job in self._jobs.items() if job == event.job]:
            del self._jobs[stage]
            if stage not in self._maps:
                self._stages.pop(stage, None)

    def _stage_submitted(self, event: e.StageSubmitted) -> Iterable[Json]:
        info = {
            **self._stages.get(event.stage, _stage_info(e.StageInfo(event.stage, event.tasks, event.name), 0, [])),
            "Stage Attempt ID": event.attempt,
            "Number of Tasks": event.tasks,
            "Submission Time": self._at(event.time),
            "Accumulables": [],
        }
        self._running[event.stage] = info
        if event.stage in self._maps:
            self._next_attempts[event.stage] = event.attempt + 1
        properties = self._properties.get(self._jobs.get(event.stage, -1), {})
        yield {"Event": "SparkListenerStageSubmitted", "Stage Info": info, "Properties": properties}

    def _stage_completed(self, event: e.StageCompleted) -> Iterable[Json]:
        info = self._running.pop(event.stage, None)
        if info is not None:
            info["Completion Time"] = self._at(event.time)
            if event.error:
                info["Failure Reason"] = event.error
            yield {"Event": "SparkListenerStageCompleted", "Stage Info": info}

    def _accumulator_updated(self, event: e.AccumulatorUpdated) -> Iterable[Json]:
        """Told with its stage, when that is complete."""
        if (info := self._running.get(event.stage)) is not None:
            others = [other for other in info["Accumulables"] if other["ID"] != event.accumulator]
            info["Accumulables"] = [
                *others,
                {
                    "ID": event.accumulator,
                    "Name": f"accumulator {event.accumulator}",
                    "Value": event.value,
                    "Internal": False,
                    "Count Failed Values": False,
                },
            ]
        return ()

    # --------------------------------------------------------------------------------------------- tasks

    def _task_started(self, event: e.TaskStarted) -> Iterable[str]:
        info = self._tasks[event.tid] = _task_info(event, self._at(event.time))
        info["locality"] = _text(LOCALITY[event.locality])
        info["speculative"] = "true" if event.speculative else "false"
        yield _TASK_START % (event.stage, event.stage_attempt, _TASK_INFO % info)

    def _task_ended(self, event: e.TaskEnded) -> Iterable[str]:
        end = self._at(event.time)
        info = self._tasks.pop(event.tid, None) or _task_info(event, end)
        # It was noted to have started when its executor was free, or later: where that was not known before its end.
        info["launched"] = min(info["launched"], end - round(_seconds_of(event) * 1000))
        info["finished"] = end
        if event.outcome == "success":
            reason = _SUCCESS
        else:
            reason = _encode(self._reason(event))
            info["killed" if event.outcome in KILLED else "failed"] = "true"
        kind = _text("ShuffleMapTask" if event.stage in self._maps else "ResultTask")
        metrics = "" if event.metrics is None else _task_metrics(event.metrics)
        yield _TASK_END % (event.stage, event.stage_attempt, kind, reason, _TASK_INFO % info, metrics)

    def _reason(self, event: e.TaskEnded) -> Json:
        if event.outcome in KILLED:
            reason = KILLED[event.outcome] or event.error or "killed"
            return {"Reason": "TaskKilled", "Kill Reason": reason, "Accumulator Updates": []}
        if event.outcome == "executor lost":
            return {
                "Reason": "ExecutorLostFailure",
                "Executor ID": event.executor,
                "Exit Caused By App": True,
                "Loss Reason": event.error,
            }
        if event.unread:
            shuffle, partition, tid = event.unread
            return {
                "Reason": "FetchFailed",
                "Block Manager Address": None,
                "Shuffle ID": shuffle,
                "Map ID": tid,
                "Map Index": partition,
                "Reduce ID": event.partition,
                "Message": event.error,
            }
        if event.error_type == "CommitDenied":
            return {
                "Reason": "TaskCommitDenied",
                "Job ID": self._jobs.get(event.stage, -1),
                "Partition ID": event.partition,
                "Attempt Number": event.attempt,
            }
        kind, _, message = event.error.partition(": ") if event.error_type else ("", "", event.error)
        return {
            "Reason": "ExceptionFailure",
            "Class Name": kind or event.error_type,
            "Description": message,
            "Stack Trace": [],
            "Full Stack Trace": f"{event.error}\n{event.frames}" if event.frames else event.error,
            "Accumulator Updates": [],
        }

    # ------------------------------------------------------------------------------ executors and blocks

    def _executor_added(self, event: e.ExecutorAdded) -> Iterable[Json]:
        time = self._at(event.time)
        yield {
            "Event": "SparkListenerExecutorAdded",
            "Timestamp": time,
            "Executor ID": event.executor,
            "Executor Info": {
                "Host": event.host,
                "Total Cores": event.slots * self._task_cpus,
                "Log Urls": {},
                "Attributes": dict(event.labels),
                "Resources": {},
                "Resource Profile Id": 0,
                "Registration Time": time,
            },
        }
        yield {
            "Event": "SparkListenerBlockManagerAdded",
            "Block Manager ID": self._block_manager(event),
            "Maximum Memory": self._memory,
            "Timestamp": time,
            "Maximum Onheap Memory": self._memory,
            "Maximum Offheap Memory": 0,
        }

    def _executor_removed(self, event: e.ExecutorRemoved) -> Iterable[Json]:
        time = self._at(event.time)
        yield {
            "Event": "SparkListenerBlockManagerRemoved",
            "Block Manager ID": self._block_manager(event),
            "Timestamp": time,
        }
        yield {
            "Event": "SparkListenerExecutorRemoved",
            "Timestamp": time,
            "Executor ID": event.executor,
            "Removed Reason": event.reason,
        }

    def _executor_excluded(self, event: e.ExecutorExcluded) -> Iterable[Json]:
        yield {
            "Event": f"{_PACKAGE}SparkListenerExecutorExcluded",
            "time": self._at(event.time),
            "executorId": event.executor,
            "taskFailures": event.failures,
        }

    def _executor_readmitted(self, event: e.ExecutorReadmitted) -> Iterable[Json]:
        yield {
            "Event": f"{_PACKAGE}SparkListenerExecutorUnexcluded",
            "time": self._at(event.time),
            "executorId": event.executor,
        }

    def _block_updated(self, event: e.BlockUpdated) -> Iterable[Json]:
        if not self._block_updates:
            return
        in_memory = event.present and event.scope == "worker"
        on_disk = event.present and not in_memory
        yield {
            "Event": "SparkListenerBlockUpdated",
            "Block Updated Info": {
                "Block Manager ID": self._block_manager(event),
                "Block ID": f"rdd_{event.rdd}_{event.partition}",
                "Storage Level": _storage_level((on_disk, in_memory, False, False, 1)),
                "Memory Size": event.size if in_memory else 0,
                "Disk Size": event.size if on_disk else 0,
            },
        }

    def _block_manager(self, event: e.ExecutorAdded | e.ExecutorRemoved | e.BlockUpdated) -> Json:
        port = self._ports.setdefault(event.executor, len(self._ports) + 1)
        return {"Executor ID": event.executor, "Host": event.host, "Port": port}

    def _unpersisted(self, event: e.RddUnpersisted) -> Iterable[Json]:
        yield {"Event": "SparkListenerUnpersistRDD", "RDD ID": event.rdd}


_MAKERS: Final[Mapping[type, Callable[[Translation, Any], Iterable[Json | str]]]] = {
    e.ApplicationStarted: Translation._application_started,
    e.ApplicationEnded: Translation._application_ended,
    e.JobStarted: Translation._job_started,
    e.JobEnded: Translation._job_ended,
    e.StageSubmitted: Translation._stage_submitted,
    e.StageCompleted: Translation._stage_completed,
    e.AccumulatorUpdated: Translation._accumulator_updated,
    e.TaskStarted: Translation._task_started,
    e.TaskEnded: Translation._task_ended,
    e.ExecutorAdded: Translation._executor_added,
    e.ExecutorRemoved: Translation._executor_removed,
    e.ExecutorExcluded: Translation._executor_excluded,
    e.ExecutorReadmitted: Translation._executor_readmitted,
    e.BlockUpdated: Translation._block_updated,
    e.RddUnpersisted: Translation._unpersisted,
    e.ShuffleRemoved: Translation._shuffle_removed,
}

# ------------------------------------------------------------------------------------------------- the parts

_encode: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False).encode


def _stage_info(stage: e.StageInfo, tasks: int, parents: list[int]) -> Json:
    return {
        "Stage ID": stage.stage,
        "Stage Attempt ID": 0,
        "Stage Name": stage.name,
        "Number of Tasks": tasks,
        "RDD Info": [_rdd_info(rdd) for rdd in reversed(stage.rdds)],
        "Parent IDs": parents,
        "Details": "",
        "Accumulables": [],
        "Resource Profile Id": 0,
        "Shuffle Push Enabled": False,
        "Shuffle Push Mergers Count": 0,
    }


def _rdd_info(rdd: e.RddInfo) -> Json:
    return {
        "RDD ID": rdd.rdd,
        "Name": rdd.name or rdd.operation,
        "Scope": _encode({"id": str(rdd.rdd), "name": rdd.operation}),
        "Callsite": rdd.operation,
        "Parent IDs": list(rdd.parents),
        "Storage Level": _storage_level(rdd.level),
        "Barrier": rdd.barrier,
        "DeterministicLevel": rdd.determinism,
        "Number of Partitions": rdd.partitions,
        "Number of Cached Partitions": 0,
        "Memory Size": 0,
        "Disk Size": 0,
    }


def _storage_level(level: tuple[bool, bool, bool, bool, int]) -> Json:
    names = ("Use Disk", "Use Memory", "Use Off Heap", "Deserialized", "Replication")
    return dict(zip(names, level, strict=True))


def _task_info(event: e.TaskStarted | e.TaskEnded, time: int) -> Json:
    return {
        "tid": event.tid,
        "partition": event.partition,
        "attempt": event.attempt,
        "launched": time,
        "executor": _text(event.executor),
        "host": _text(event.host),
        "locality": _text("ANY"),
        "speculative": "false",
        "finished": 0,
        "failed": "false",
        "killed": "false",
    }


@functools.lru_cache(1000)
def _text(value: str) -> str:
    return _encode(value)


def _pattern(document: Json) -> str:
    """JSON, for ``%``: a value such as "%d" is a place for a number, "%s" for what is JSON already."""
    return re.sub(r'"(%(?:\(\w+\))?[ds])"', r"\1", _encode(document))


def _seconds_of(event: e.TaskEnded) -> float:
    m = event.metrics
    return max(event.seconds, 0.0 if m is None else m.deserialize_seconds + m.run_seconds + m.result_seconds)


def _task_metrics(m: e.TaskMetrics) -> str:
    values = {name: getattr(m, name) for name in _METRIC_NAMES}
    for name, per_second in _TIMES.items():
        values[name] = round(values[name] * per_second)
    for what in ("blocks", "bytes"):
        values[f"shuffle_local_{what}"] = values[f"shuffle_read_{what}"] - values[f"shuffle_remote_{what}"]
    return _TASK_METRICS % values


_SUCCESS: Final = _encode({"Reason": "Success"})
_TASK_INFO: Final = _pattern(
    {
        "Task ID": "%(tid)d",
        "Index": "%(partition)d",
        "Attempt": "%(attempt)d",
        "Partition ID": "%(partition)d",
        "Launch Time": "%(launched)d",
        "Executor ID": "%(executor)s",
        "Host": "%(host)s",
        "Locality": "%(locality)s",
        "Speculative": "%(speculative)s",
        "Getting Result Time": 0,
        "Finish Time": "%(finished)d",
        "Failed": "%(failed)s",
        "Killed": "%(killed)s",
        "Accumulables": [],
    }
)
_TASK_START: Final = _pattern(
    {"Event": "SparkListenerTaskStart", "Stage ID": "%d", "Stage Attempt ID": "%d", "Task Info": "%s"}
)
_TASK_END: Final = (  # the last place is for Task Metrics, where there are any
    _pattern(
        {
            "Event": "SparkListenerTaskEnd",
            "Stage ID": "%d",
            "Stage Attempt ID": "%d",
            "Task Type": "%s",
            "Task End Reason": "%s",
            "Task Info": "%s",
        }
    ).removesuffix("}")
    + "%s}"
)
_TASK_METRICS: Final = ',"Task Metrics":' + _pattern(
    {
        "Executor Deserialize Time": "%(deserialize_seconds)d",
        "Executor Deserialize CPU Time": 0,
        "Executor Run Time": "%(run_seconds)d",
        "Executor CPU Time": "%(cpu_seconds)d",
        "Peak Execution Memory": "%(peak_memory)d",
        "Peak On Heap Execution Memory": "%(peak_memory)d",
        "Peak Off Heap Execution Memory": 0,
        "Result Size": "%(result_bytes)d",
        "JVM GC Time": "%(gc_seconds)d",
        "Result Serialization Time": "%(result_seconds)d",
        "Memory Bytes Spilled": 0,
        "Disk Bytes Spilled": "%(spilled_bytes)d",
        "Shuffle Read Metrics": {
            "Remote Blocks Fetched": "%(shuffle_remote_blocks)d",
            "Local Blocks Fetched": "%(shuffle_local_blocks)d",
            "Fetch Wait Time": "%(shuffle_read_seconds)d",
            "Remote Bytes Read": "%(shuffle_remote_bytes)d",
            "Remote Bytes Read To Disk": 0,
            "Local Bytes Read": "%(shuffle_local_bytes)d",
            "Total Records Read": "%(shuffle_read_records)d",
            "Remote Requests Duration": 0,
        },
        "Shuffle Write Metrics": {
            "Shuffle Bytes Written": "%(shuffle_write_bytes)d",
            "Shuffle Write Time": "%(shuffle_write_seconds)d",
            "Shuffle Records Written": "%(shuffle_write_records)d",
        },
        "Input Metrics": {"Bytes Read": "%(input_bytes)d", "Records Read": "%(input_records)d"},
        "Output Metrics": {"Bytes Written": "%(output_bytes)d", "Records Written": "%(output_records)d"},
        "Updated Blocks": [],
    }
)
_METRIC_NAMES: Final = tuple(re.findall(r"%\((\w+)\)", _TASK_METRICS.replace("shuffle_local", "shuffle_read")))
_TIMES: Final = {  # in which unit Spark counts them
    "deserialize_seconds": 1e3,
    "run_seconds": 1e3,
    "cpu_seconds": 1e9,
    "gc_seconds": 1e3,
    "result_seconds": 1e3,
    "shuffle_read_seconds": 1e3,
    "shuffle_write_seconds": 1e9,
}
