"""The bus's events: what listeners, event logs and metrics see of an application.

Each is a frozen, slotted dataclass of plain data, and goes through `pack` and `unpack` unchanged:

    >>> unpack(pack(StageCompleted(12.5, stage=3, attempt=0, name="count", error="")))
    StageCompleted(time=12.5, stage=3, attempt=0, name='count', error='')

Compatibility: a field is only ever added, with a default, and the type's ``VERSION`` grows with it.  So an
older reader skips fields that it does not know, and a newer one fills in what an older writer left out.
A type that the reader does not know at all becomes an `UnknownEvent`, and packs again to the same bytes.

What a class is for, its docstring says, and what a field is, the comment behind it, with its unit: the reference's
table is made of them.

Not to be confused with `asparkle.core.scheduler.messages`: there `ExecutorAdded`, `TaskStarted` and
`RddUnpersisted` are what the scheduler is told; here they are what listeners are told.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

_NONE: Final = (False, False, False, False, 1)  # the level of what is not persisted


@dataclass(frozen=True, slots=True)
class Event:
    """What all events have in common."""

    VERSION: ClassVar[int] = 1

    time: float  # when it happened: seconds of a clock that only goes forward; `ApplicationStarted` has the wall's


@dataclass(frozen=True, slots=True)
class ApplicationStarted(Event):
    """The context has been entered: the first event of a listener that was there from the beginning."""

    application: str  # its id, which no other has
    name: str  # as configured
    master: str  # the URL
    user: str  # who runs it
    wall_time: float  # seconds since the epoch, at `time`
    asparkle_version: str  # as in '0.1.0'
    conf: Mapping[str, str]  # what is configured; what looks secret (`spark.redaction.regex`) is left out
    environment: Mapping[str, str]  # facts about the driver's process
    executor_memory: int = 0  # bytes of cached partitions that each executor may hold
    task_cpus: int = 1  # cores that one slot stands for


@dataclass(frozen=True, slots=True)
class ApplicationEnded(Event):
    """The context has been stopped: the last event."""


@dataclass(frozen=True, slots=True)
class RddInfo:
    """An RDD of a stage's lineage."""

    rdd: int  # its id
    operation: str  # what made it, as in 'map'
    name: str = ""  # what the program calls it
    partitions: int = 0  # how many it has
    parents: tuple[int, ...] = ()  # the ids of the RDDs that it was made of
    level: tuple[bool, bool, bool, bool, int] = _NONE  # disk, memory, off heap, deserialized, replication
    barrier: bool = False  # whether its tasks wait for one another
    determinism: str = "DETERMINATE"  # or UNORDERED, INDETERMINATE: what a second computation yields


@dataclass(frozen=True, slots=True)
class StageInfo:
    """A stage of a job, as `JobStarted` lists it."""

    stage: int  # its id
    tasks: int  # how many it has
    name: str = ""  # what it ends with, as in 'map 3'
    shuffle: int | None = None  # the id of the shuffle that it writes; None for a job's last stage
    parents: tuple[int, ...] = ()  # the ids of the shuffles that it reads
    rdds: tuple[RddInfo, ...] = ()  # what it computes, parents first


@dataclass(frozen=True, slots=True)
class JobStarted(Event):
    """A job has been submitted, planned, and given to the scheduler."""

    job: int  # its id
    name: str  # its description; empty, if the program gave none
    stages: tuple[StageInfo, ...]  # all that it needs, those that are complete already included; parents first
    partitions: int  # how many of the last stage's it asks for
    pool: str = "default"  # the FAIR scheduler's
    group: str | None = None  # that the program put it into
    tags: tuple[str, ...] = ()  # that the program gave it, sorted
    properties: Mapping[str, str] = field(default_factory=dict)  # local ones that it was submitted with; no secrets


@dataclass(frozen=True, slots=True)
class JobEnded(Event):
    """A job has ended, well or badly, or with the context: every `JobStarted` has one.  Before it come the
    `StageCompleted` of its stages, but for those that another needs."""

    job: int  # its id
    failure: str = ""  # empty, or the kind: 'task', 'fetch', 'indeterminate', 'excluded', 'barrier' or 'cancelled'
    reason: str = ""  # empty, or what is behind that, in words


@dataclass(frozen=True, slots=True)
class StageSubmitted(Event):
    """An attempt at a stage begins: all that it reads is there."""

    stage: int  # its id
    attempt: int  # from 0
    name: str  # what it ends with, as in 'map 3'
    tasks: int  # that are to be computed now


@dataclass(frozen=True, slots=True)
class StageCompleted(Event):
    """An attempt at a stage has ended: every `StageSubmitted` has one."""

    stage: int  # its id
    attempt: int  # from 0
    name: str  # what it ends with, as in 'map 3'
    error: str = ""  # empty, or why it ended before the stage was complete


@dataclass(frozen=True, slots=True)
class TaskStarted(Event):
    """An attempt at a task runs, or is presumed to: its executor has a slot for it."""

    tid: int  # the attempt's id, which no other has
    stage: int  # the stage's id
    stage_attempt: int  # from 0
    partition: int  # that it computes
    attempt: int  # at this partition, from 0
    executor: str  # its id
    host: str  # the executor's
    locality: str = "any"  # 'near' (to its cached or preferred input), 'any' (it has no preference) or 'far'
    speculative: bool = False  # whether it is a second one, as the first is slow


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """What an attempt took, as its worker counted it.

    ``fetched``: the files that came to its worker from other hosts since the last attempt there that had metrics, each
    as a host ('' is the driver's), the route by which they came ('direct', unless the cluster has others), and bytes.
    """

    run_seconds: float = 0.0  # seconds without deserialization, and without what followed the user's code
    cpu_seconds: float = 0.0  # seconds of its thread on a CPU, from beginning to end
    deserialize_seconds: float = 0.0  # seconds: of the stage's functions
    gc_seconds: float = 0.0  # seconds of the garbage collector in its process, while it ran
    result_seconds: float = 0.0  # seconds to serialize the result
    result_bytes: int = 0  # bytes; 0 where it is not copied
    peak_memory: int = 0  # bytes held by its aggregations, groupings, sorts and joins, as they estimate it
    spilled_bytes: int = 0  # bytes to disk
    input_bytes: int = 0  # bytes of files, as they are on disk
    input_records: int = 0  # elements from files and cached partitions
    output_bytes: int = 0  # bytes to files
    output_records: int = 0  # elements to files
    shuffle_read_bytes: int = 0  # bytes
    shuffle_read_records: int = 0  # elements
    shuffle_read_blocks: int = 0  # pieces of map outputs
    shuffle_read_seconds: float = 0.0  # seconds of reading and unpickling
    shuffle_write_bytes: int = 0  # bytes
    shuffle_write_records: int = 0  # elements, after combining
    shuffle_write_seconds: float = 0.0  # seconds of pickling and writing
    shuffle_remote_bytes: int = 0  # bytes of those that were read which came from other hosts
    shuffle_remote_blocks: int = 0  # pieces of map outputs of other hosts
    fetched: tuple[tuple[str, str, int], ...] = ()  # see above


@dataclass(frozen=True, slots=True)
class TaskEnded(Event):
    """An attempt at a task has ended, in whatever way: every `TaskStarted` has one, unless the context stops before.

    ``outcome``: 'success', 'failed', 'killed', 'fetch failed', 'executor lost', 'returned' (it had not started after
    all) or 'unused' (a success that came too late).
    """

    tid: int  # the attempt's id
    stage: int  # the stage's id
    stage_attempt: int  # from 0
    partition: int  # that it was to compute
    attempt: int  # at this partition, from 0
    executor: str  # its id
    host: str  # the executor's
    outcome: str  # see above
    seconds: float = 0.0  # seconds, as the worker measured it; 0 where it did not
    error: str = ""  # empty, or what went wrong, in a line
    metrics: TaskMetrics | None = None  # None where the worker did not tell any
    error_type: str = ""  # the exception's type, where there was one
    frames: str = ""  # the user's part of its traceback
    unread: tuple[int, ...] = ()  # where a fetch failed: the shuffle, the map partition, and the attempt that wrote it


@dataclass(frozen=True, slots=True)
class SpeculativeTaskSubmitted(Event):
    """An attempt takes so long that its partition deserves a second one."""

    tid: int  # the slow attempt's id
    stage: int  # the stage's id
    partition: int  # that it computes


@dataclass(frozen=True, slots=True)
class ExecutorAdded(Event):
    """An executor is ready for tasks."""

    VERSION: ClassVar[int] = 2

    executor: str  # its id
    epoch: int  # grows when an executor comes back under the same id
    host: str  # where it is
    slots: int  # tasks that it runs at once
    labels: Mapping[str, str] = field(default_factory=dict)  # what is said of it, as in {'accelerator': 'a100'}


@dataclass(frozen=True, slots=True)
class ExecutorRemoved(Event):
    """An executor is gone: it is lost, or was released.  After the `TaskEnded` of what it ran."""

    VERSION: ClassVar[int] = 2

    executor: str  # its id
    epoch: int  # see `ExecutorAdded`
    host: str  # where it was
    reason: str  # in words
    released: bool = False  # given back, as it was not needed any more: it is not lost


@dataclass(frozen=True, slots=True)
class ExecutorExcluded(Event):
    """Tasks keep failing on an executor: it gets no more for a time."""

    executor: str  # its id
    host: str  # where it is
    reason: str  # in words
    failures: int = 0  # tasks that failed on it


@dataclass(frozen=True, slots=True)
class ExecutorReadmitted(Event):
    """An executor that was excluded gets tasks again."""

    executor: str  # its id
    host: str  # where it is


@dataclass(frozen=True, slots=True)
class BlockUpdated(Event):
    """A cached partition came to be somewhere, or ceased to be there."""

    rdd: int  # the RDD's id
    partition: int  # its partition
    executor: str  # the id of the one that says so
    host: str  # where that is
    scope: str  # 'worker' (in the executor's heap), 'host' (on its host) or 'shared'
    present: bool  # whether it is there now
    size: int = 0  # bytes, as they are counted against `spark.executor.memory`, or on disk


@dataclass(frozen=True, slots=True)
class RddUnpersisted(Event):
    """The program, or the garbage collector, has given up an RDD's cached partitions."""

    rdd: int  # its id


@dataclass(frozen=True, slots=True)
class ShuffleRemoved(Event):
    """Nobody can read a shuffle any more: its files are deleted."""

    shuffle: int  # its id


@dataclass(frozen=True, slots=True)
class BroadcastCreated(Event):
    """The program has made a broadcast variable."""

    broadcast: int  # its id
    size: int  # bytes, pickled


@dataclass(frozen=True, slots=True)
class BroadcastRemoved(Event):
    """The program, or the garbage collector, has given up a broadcast variable."""

    broadcast: int  # its id
    destroyed: bool  # for good; else from the executors only, which may fetch it again


@dataclass(frozen=True, slots=True)
class AccumulatorUpdated(Event):
    """A task's first success has added to an accumulator."""

    accumulator: int  # its id
    stage: int  # the stage's id
    partition: int  # that the task computed
    tid: int  # the attempt's id
    value: str  # the sum so far, as text, cut if it is long


@dataclass(frozen=True, slots=True)
class ResultsFetched(Event):
    """The driver has fetched results of tasks, or updates of accumulators, that lay in files of another host."""

    host: str  # where they lay
    route: str  # how they came: 'direct', unless the cluster has other routes
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class StageProgress(Event):
    """A stage that has tasks to run is further than it was: at most once every `asparkle.events.progress.interval`, so
    one that is quicker has none."""

    stage: int  # its id
    attempt: int  # from 0
    tasks: int  # in all; of a job's last stage, those that the job wants
    completed: int  # tasks, those of earlier attempts at the stage included
    running: int  # attempts
    failed: int  # attempts, since the stage is known
    records: int  # elements that tasks which ended since somebody listens have read: files, caches, shuffles


@dataclass(frozen=True, slots=True)
class LogWritten(Event):
    """asparkle has logged something in the driver's process, and the level of its logger lets that through."""

    level: str  # 'debug', 'info', 'warning', 'error' or 'critical'
    message: str  # what happened
    fields: Mapping[str, str]  # what it is about, as text; of an error, the traceback as 'exception'


@dataclass(frozen=True, slots=True)
class UnknownEvent(Event):
    """A log that is read has an event of a type that this version does not know."""

    type: str  # the event's
    version: int  # the type's
    fields: Mapping[str, Any]  # all others


def to_plain(event: Event) -> dict[str, Any]:
    """The event as a dict of its fields, its type and that type's version: what msgpack and JSON can hold."""
    if isinstance(event, UnknownEvent):
        return {"type": event.type, "version": event.version, "time": event.time, **event.fields}
    return {"type": type(event).__name__, "version": event.VERSION, **dataclasses.asdict(event)}


def pack(event: Event) -> bytes:
    """The event as msgpack: what `to_plain` gives."""
    import msgpack

    packed: bytes = msgpack.packb(to_plain(event))
    return packed


def unpack(data: bytes) -> Event:
    """The event that was packed.  Raises ValueError if the bytes are not an event."""
    import msgpack

    try:
        return from_plain(msgpack.unpackb(data, use_list=False))
    except Exception as error:
        raise ValueError(f"not a packed event: {data[:40]!r}: {error}") from None


def from_plain(document: Any) -> Event:
    """The event of a dict that `to_plain` gave, with tuples where it has them.  Raises ValueError for another one."""
    try:
        name, version, time = (document[key] for key in ("type", "version", "time"))
        kind = event_types().get(name)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an event: {type(error).__name__}: {error}") from None
    if kind is None:
        rest = {key: value for key, value in document.items() if key not in ("type", "version", "time")}
        return UnknownEvent(time, name, version, rest)
    known = {field.name for field in dataclasses.fields(kind)}
    fields = {key: value for key, value in document.items() if key in known}
    try:
        _restore_parts(fields)
        return kind(**fields)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"not an event: {name} of version {version}: {error}") from None


PARTS: Final[dict[str, type]] = {"stages": StageInfo, "rdds": RddInfo, "metrics": TaskMetrics}
"""What fields of events hold that is not plain: one of these, or several."""


def _restore_parts(fields: dict[str, Any]) -> None:
    for name, kind in PARTS.items():
        if fields.get(name) is not None:
            fields[name] = _restored(kind, fields[name])


def _restored(kind: type, document: Any) -> Any:
    if not isinstance(document, dict):
        return tuple(_restored(kind, part) for part in document)
    known = {field.name for field in dataclasses.fields(kind)}
    fields = {key: value for key, value in document.items() if key in known}
    _restore_parts(fields)
    return kind(**fields)


@functools.cache
def event_types() -> Mapping[str, type[Event]]:
    """Every type of event, by name."""
    types = {kind.__name__: kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, Event)}
    del types["Event"], types["UnknownEvent"]
    return types
