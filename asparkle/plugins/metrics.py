"""Metrics of an application, made once from what listeners are told, and taken elsewhere by metric sinks.

`MetricsListener` counts.  It is called at once, so that the metrics are exact whenever somebody looks, and nothing
is dropped: an event costs jobs a microsecond or a few.  `sinks` takes them to where they are wanted.

What a name means, `METRICS` says.  A metric is there from the beginning, at zero, for all outcomes that are known:
whoever computes rates sees the first failure, too.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from operator import add, attrgetter
from typing import Any, Final, Literal

from asparkle.core.namedtuple import NamedTuple
from asparkle.events import (
    ApplicationEnded,
    ApplicationStarted,
    BlockUpdated,
    BroadcastCreated,
    BroadcastRemoved,
    ExecutorAdded,
    ExecutorExcluded,
    ExecutorReadmitted,
    ExecutorRemoved,
    JobEnded,
    JobStarted,
    RddUnpersisted,
    ResultsFetched,
    SpeculativeTaskSubmitted,
    StageCompleted,
    StageSubmitted,
    TaskEnded,
    TaskStarted,
)
from asparkle.plugins import Listener, Metric, Metrics

JOB_OUTCOMES = ("success", "task", "fetch", "indeterminate", "excluded", "barrier", "cancelled")
TASK_OUTCOMES = ("success", "failed", "killed", "fetch failed", "executor lost", "returned", "unused")
BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, inf)
"""Of histograms of seconds."""

Kind = Literal["counter", "gauge", "histogram"]


class Description(NamedTuple):
    """``label``: the name of its only label, if it has one; ``values``: those that are there from the beginning."""

    kind: Kind
    help: str
    label: str = ""
    values: tuple[str, ...] = ("",)


METRICS: Final[dict[str, Description]] = {
    "jobs_started": Description("counter", "Jobs that were submitted."),
    "jobs": Description(
        "counter", "Jobs that ended: with success, or by the kind of failure.", "outcome", JOB_OUTCOMES
    ),
    "jobs_active": Description("gauge", "Jobs that run or wait for slots."),
    "job_duration_seconds": Description("histogram", "How long jobs took."),
    "stages": Description("counter", "Attempts at stages that ended.", "outcome", ("success", "failed")),
    "stages_active": Description("gauge", "Stages that have tasks to run."),
    "tasks_started": Description("counter", "Attempts at tasks that executors were given."),
    "tasks": Description("counter", "Attempts at tasks that ended.", "outcome", TASK_OUTCOMES),
    "tasks_active": Description("gauge", "Attempts at tasks that run."),
    "tasks_speculative": Description("counter", "Tasks that were so slow that they deserved a second attempt."),
    "task_duration_seconds": Description("histogram", "How long attempts at tasks that succeeded took."),
    "executors": Description("gauge", "Executors that are there."),
    "executors_added": Description("counter", "Executors that came."),
    "executors_lost": Description("counter", "Executors that were lost: their process died, say, or their host."),
    "executors_released": Description("counter", "Executors that were given back, as they were not needed any more."),
    "executors_excluded": Description("gauge", "Executors that are left out because tasks failed on them."),
    "slots": Description("gauge", "Tasks that the executors can run at once."),
    "cached_blocks": Description(
        "gauge", "Cached partitions, by where they are.", "scope", ("worker", "host", "shared")
    ),
    "cached_bytes": Description("gauge", "Their bytes.", "scope", ("worker", "host", "shared")),
    "broadcasts": Description("gauge", "Broadcast variables that were not destroyed."),
    "broadcast_bytes": Description("gauge", "Their bytes, pickled."),
    "task_peak_memory_bytes": Description("gauge", "The most that one attempt at a task has held so far."),
    "fetched_bytes": Description(
        "counter", "Files that came from other hosts, by how they came.", "route", ("direct",)
    ),
    "listener_dropped_events": Description(
        "counter", "Events that listeners missed: they were too slow.", "listener", ()
    ),
}
"""What there is, besides `TASK_TOTALS`."""

TASK_TOTALS: Final[dict[str, tuple[str, str]]] = {
    "task_run_seconds": ("run_seconds", "Running users' code."),
    "task_cpu_seconds": ("cpu_seconds", "Of the tasks' threads on a CPU."),
    "task_deserialize_seconds": ("deserialize_seconds", "Unpickling what stages are to do."),
    "task_gc_seconds": ("gc_seconds", "Of garbage collectors, while tasks ran."),
    "task_result_seconds": ("result_seconds", "Serializing results."),
    "result_bytes": ("result_bytes", "Results that were copied to the driver."),
    "spilled_bytes": ("spilled_bytes", "To disk, by operations that had not enough memory."),
    "input_bytes": ("input_bytes", "Read from files."),
    "input_records": ("input_records", "Read from files and cached partitions."),
    "output_bytes": ("output_bytes", "Written to files."),
    "output_records": ("output_records", "Written to files."),
    "shuffle_read_bytes": ("shuffle_read_bytes", "Read from shuffles."),
    "shuffle_read_records": ("shuffle_read_records", "Read from shuffles."),
    "shuffle_read_blocks": ("shuffle_read_blocks", "Pieces of map outputs that were read."),
    "shuffle_remote_bytes": ("shuffle_remote_bytes", "Read from shuffles, from other hosts."),
    "shuffle_remote_blocks": ("shuffle_remote_blocks", "Pieces of map outputs that were read from other hosts."),
    "shuffle_read_seconds": ("shuffle_read_seconds", "Reading shuffles, and unpickling."),
    "shuffle_write_bytes": ("shuffle_write_bytes", "Written to shuffles."),
    "shuffle_write_records": ("shuffle_write_records", "Written to shuffles, after combining."),
    "shuffle_write_seconds": ("shuffle_write_seconds", "Pickling, and writing to shuffles."),
}
"""Counters: the sums over all attempts of a field of `TaskMetrics`."""

_taken = attrgetter(*(field for field, _ in TASK_TOTALS.values()))
_GAUGES = [name for name, description in METRICS.items() if description.kind == "gauge"]


class Histogram:
    """Observations of seconds, by `BOUNDS`."""

    def __init__(self) -> None:
        self.counts = [0] * len(BOUNDS)
        self.sums = [0.0] * len(BOUNDS)

    def observe(self, seconds: float) -> None:
        place = bisect_left(BOUNDS, seconds)
        self.counts[place] += 1
        self.sums[place] += seconds

    def buckets(self) -> tuple[tuple[float, int, float], ...]:
        return tuple(zip(BOUNDS, self.counts, self.sums, strict=True))


class MetricsListener(Listener):
    """Counts what happens in one application.

    ``dropped``: how many events each of the context's listeners has missed so far.  ``started`` is called when the
    application has started.
    """

    name = "metrics"
    at_once = True

    def __init__(
        self, dropped: Callable[[], Mapping[str, int]] = dict, started: Callable[[], None] = lambda: None
    ) -> None:
        self._dropped = dropped
        self._started = started
        self._lock = threading.Lock()
        self._application = ("", "", "")
        self._values: dict[str, dict[str, float]] = {
            name: dict.fromkeys(description.values, 0)
            for name, description in METRICS.items()
            if description.kind != "histogram"
        }
        self._histograms = {name: Histogram() for name in METRICS if name not in self._values}
        self._task_totals: Sequence[float] = [0] * len(TASK_TOTALS)
        self._jobs: dict[int, float] = {}  # those that run, and when they began
        self._slots: dict[str, int] = {}  # of the executors that are there
        self._excluded: set[str] = set()
        self._blocks: dict[int, dict[tuple[int, str, str], int]] = {}  # of each RDD: partition, scope, where; bytes
        self._broadcasts: dict[int, int] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            ApplicationStarted: self._application_started,
            ApplicationEnded: self._application_ended,
            JobStarted: self._job_started,
            JobEnded: self._job_ended,
            StageSubmitted: lambda event: self._add("stages_active"),
            StageCompleted: self._stage_completed,
            TaskStarted: self._task_started,
            TaskEnded: self._task_ended,
            SpeculativeTaskSubmitted: lambda event: self._add("tasks_speculative"),
            ExecutorAdded: self._executor_added,
            ExecutorRemoved: self._executor_removed,
            ExecutorExcluded: self._executor_excluded,
            ExecutorReadmitted: self._executor_readmitted,
            BlockUpdated: self._block_updated,
            RddUnpersisted: lambda event: self._forget_blocks(event.rdd),
            BroadcastCreated: self._broadcast_created,
            BroadcastRemoved: self._broadcast_removed,
            ResultsFetched: lambda event: self._add("fetched_bytes", event.size, event.route),
        }
        self.events = tuple(self._handlers)

    def on_event(self, event: Any) -> None:
        with self._lock:
            self._handlers[type(event)](event)

    def metrics(self) -> Metrics:
        """What the metrics are now; in any thread."""
        dropped = self._dropped()
        with self._lock:
            self._values["listener_dropped_events"].update(dropped)
            found = [*self._of_table(), *self._of_tasks()]
            return Metrics(*self._application, tuple(found))

    def _of_table(self) -> Iterable[Metric]:
        for name, (kind, text, label, _) in METRICS.items():
            if kind == "histogram":
                buckets = self._histograms[name].buckets()
                yield Metric(name, kind, text, sum(total for _, _, total in buckets), (), buckets)
            else:
                for value, number in self._values[name].items():
                    yield Metric(name, kind, text, number, ((label, value),) if label else ())

    def _of_tasks(self) -> Iterable[Metric]:
        for (name, (_, text)), total in zip(TASK_TOTALS.items(), self._task_totals, strict=True):
            yield Metric(name, "counter", text, total)

    def _add(self, name: str, amount: float = 1, value: str = "") -> None:
        values = self._values[name]
        values[value] = values.get(value, 0) + amount

    def _set(self, name: str, number: float) -> None:
        self._values[name][""] = number

    # ------------------------------------------------------------------------- application, jobs, stages

    def _application_started(self, event: ApplicationStarted) -> None:
        self._application = (event.application, event.name, event.master)
        self._started()

    def _application_ended(self, event: ApplicationEnded) -> None:
        """Nothing is there any more.  How the executors went nobody tells: that is no loss."""
        for name in _GAUGES:
            if name != "task_peak_memory_bytes":
                self._values[name] = dict.fromkeys(self._values[name], 0)

    def _job_started(self, event: JobStarted) -> None:
        self._add("jobs_started")
        self._jobs[event.job] = event.time
        self._set("jobs_active", len(self._jobs))

    def _job_ended(self, event: JobEnded) -> None:
        self._add("jobs", 1, event.failure or "success")
        began = self._jobs.pop(event.job, None)
        if began is not None:
            self._histograms["job_duration_seconds"].observe(event.time - began)
        self._set("jobs_active", len(self._jobs))

    def _stage_completed(self, event: StageCompleted) -> None:
        self._add("stages", 1, "failed" if event.error else "success")
        self._add("stages_active", -1)

    # ---------------------------------------------------------------------------------------- tasks

    def _task_started(self, event: TaskStarted) -> None:
        self._add("tasks_started")
        self._add("tasks_active")

    def _task_ended(self, event: TaskEnded) -> None:
        self._add("tasks", 1, event.outcome)
        self._add("tasks_active", -1)
        if event.outcome == "success":
            self._histograms["task_duration_seconds"].observe(event.seconds)
        metrics = event.metrics
        if metrics is not None:
            self._task_totals = list(map(add, self._task_totals, _taken(metrics)))
            for _, route, size in metrics.fetched:
                self._add("fetched_bytes", size, route)
            if metrics.peak_memory > self._values["task_peak_memory_bytes"][""]:
                self._set("task_peak_memory_bytes", metrics.peak_memory)

    # ------------------------------------------------------------------------------------- executors

    def _executor_added(self, event: ExecutorAdded) -> None:
        self._add("executors_added")
        self._slots[event.executor] = event.slots
        self._count_executors()

    def _executor_removed(self, event: ExecutorRemoved) -> None:
        self._add("executors_released" if event.released else "executors_lost")
        self._slots.pop(event.executor, None)
        self._excluded.discard(event.executor)
        self._count_executors()
        for rdd, blocks in list(self._blocks.items()):
            for partition, scope, where in list(blocks):
                if scope == "worker" and where == event.executor:
                    self._forget_block(rdd, (partition, scope, where))

    def _executor_excluded(self, event: ExecutorExcluded) -> None:
        self._excluded.add(event.executor)
        self._count_executors()

    def _executor_readmitted(self, event: ExecutorReadmitted) -> None:
        self._excluded.discard(event.executor)
        self._count_executors()

    def _count_executors(self) -> None:
        self._set("executors", len(self._slots))
        self._set("slots", sum(self._slots.values()))
        self._set("executors_excluded", len(self._excluded))

    # ----------------------------------------------------------------------------- blocks, broadcasts

    def _block_updated(self, event: BlockUpdated) -> None:
        where = {"worker": event.executor, "host": event.host}.get(event.scope, "")
        block = (event.partition, event.scope, where)
        self._forget_block(event.rdd, block)
        if event.present:
            self._blocks.setdefault(event.rdd, {})[block] = event.size
            self._add("cached_blocks", 1, event.scope)
            self._add("cached_bytes", event.size, event.scope)

    def _forget_block(self, rdd: int, block: tuple[int, str, str]) -> None:
        size = self._blocks.get(rdd, {}).pop(block, None)
        if size is not None:
            self._add("cached_blocks", -1, block[1])
            self._add("cached_bytes", -size, block[1])

    def _forget_blocks(self, rdd: int) -> None:
        for block in list(self._blocks.get(rdd, ())):
            self._forget_block(rdd, block)
        self._blocks.pop(rdd, None)

    def _broadcast_created(self, event: BroadcastCreated) -> None:
        self._broadcasts[event.broadcast] = event.size
        self._count_broadcasts()

    def _broadcast_removed(self, event: BroadcastRemoved) -> None:
        if event.destroyed:
            self._broadcasts.pop(event.broadcast, None)
            self._count_broadcasts()

    def _count_broadcasts(self) -> None:
        self._set("broadcasts", len(self._broadcasts))
        self._set("broadcast_bytes", sum(self._broadcasts.values()))
