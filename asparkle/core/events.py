"""The bus's events: what listeners, event logs and metrics see of an application.

Each is a frozen, slotted dataclass of plain data, and goes through `pack` and `unpack` unchanged:

    >>> unpack(pack(StageCompleted(12.5, stage=3, attempt=0, name="count", error="")))
    StageCompleted(time=12.5, stage=3, attempt=0, name='count', error='')

Compatibility: a field is only ever added, with a default, and the type's ``VERSION`` grows with it.  So an
older reader skips fields that it does not know, and a newer one fills in what an older writer left out.
A type that the reader does not know at all becomes an `UnknownEvent`, and packs again to the same bytes.

``time`` is in seconds of a clock that only goes forward; `ApplicationStarted` says what the wall clock said then.

Not to be confused with `asparkle.core.scheduler.messages`: there `ExecutorAdded`, `TaskStarted` and
`RddUnpersisted` are what the scheduler is told; here they are what listeners are told.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """What all events have in common."""

    VERSION: ClassVar[int] = 1

    time: float


@dataclass(frozen=True, slots=True)
class ApplicationStarted(Event):
    """The first event of a listener that was there from the beginning.

    ``conf``: what is configured, with what looks secret left out (`spark.redaction.regex`).  ``environment``: facts
    about the driver's process.
    """

    application: str
    name: str
    master: str
    user: str
    wall_time: float  # seconds since the epoch, at ``time``
    asparkle_version: str
    conf: Mapping[str, str]
    environment: Mapping[str, str]
    executor_memory: int = 0  # bytes of cached partitions that each executor may hold
    task_cpus: int = 1  # cores that one slot stands for


@dataclass(frozen=True, slots=True)
class ApplicationEnded(Event):
    """The last event."""


@dataclass(frozen=True, slots=True)
class RddInfo:
    """An RDD of a stage's lineage."""

    rdd: int
    operation: str
    name: str = ""
    partitions: int = 0
    parents: tuple[int, ...] = ()
    level: tuple[bool, bool, bool, bool, int] = (False, False, False, False, 1)
    """Its storage level: disk, memory, off heap, deserialized, replication."""
    barrier: bool = False
    determinism: str = "DETERMINATE"  # or UNORDERED, INDETERMINATE: what a second computation yields


@dataclass(frozen=True, slots=True)
class StageInfo:
    """A stage of a job, as `JobStarted` lists it."""

    stage: int
    tasks: int
    name: str = ""
    shuffle: int | None = None
    parents: tuple[int, ...] = ()  # shuffles that it reads
    rdds: tuple[RddInfo, ...] = ()  # what it computes, parents first


@dataclass(frozen=True, slots=True)
class JobStarted(Event):
    job: int
    name: str
    stages: tuple[StageInfo, ...]
    partitions: int
    pool: str = "default"
    group: str | None = None
    tags: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)  # the local properties that it was submitted with


@dataclass(frozen=True, slots=True)
class JobEnded(Event):
    """``failure``: empty, or the kind of failure (``FailureKind``), which ``reason`` explains.

    After the `StageCompleted` of its stages, but for those that another job needs.
    """

    job: int
    failure: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StageSubmitted(Event):
    stage: int
    attempt: int
    name: str
    tasks: int  # that are to be computed now


@dataclass(frozen=True, slots=True)
class StageCompleted(Event):
    """Every `StageSubmitted` has one.  ``error``: empty, or why this attempt at it ended before it was complete."""

    stage: int
    attempt: int
    name: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class TaskStarted(Event):
    """``locality``: 'near' (to its cached or preferred input), 'any' (it has no preference) or 'far'."""

    tid: int
    stage: int
    stage_attempt: int
    partition: int
    attempt: int
    executor: str
    host: str
    locality: str = "any"
    speculative: bool = False


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """What an attempt took, as its worker counted it."""

    run_seconds: float = 0.0  # without deserialization, and without what followed the user's code
    cpu_seconds: float = 0.0  # of its thread, from beginning to end
    deserialize_seconds: float = 0.0  # of the stage's functions
    gc_seconds: float = 0.0  # of the garbage collector in its process, while it ran
    result_seconds: float = 0.0  # to serialize the result
    result_bytes: int = 0  # 0 where it is not copied
    peak_memory: int = 0  # held by its aggregations, groupings, sorts and joins, as they estimate it
    spilled_bytes: int = 0  # to disk
    input_bytes: int = 0  # of files, as they are on disk
    input_records: int = 0  # from files and cached partitions
    output_bytes: int = 0  # to files
    output_records: int = 0
    shuffle_read_bytes: int = 0
    shuffle_read_records: int = 0
    shuffle_read_blocks: int = 0  # pieces of map outputs
    shuffle_read_seconds: float = 0.0  # reading and unpickling
    shuffle_write_bytes: int = 0
    shuffle_write_records: int = 0  # after combining
    shuffle_write_seconds: float = 0.0  # pickling and writing


@dataclass(frozen=True, slots=True)
class TaskEnded(Event):
    """``outcome``: 'success', 'failed', 'killed', 'fetch failed', 'executor lost', 'returned' (it had not
    started after all) or 'unused' (a success that came too late).  ``seconds``: as the worker measured it;
    0 where it did not.  ``error``: empty, or what went wrong, in a line; the exception's type and the user's part of
    its traceback are ``error_type`` and ``frames``.  ``metrics``: None where the worker did not tell any."""

    tid: int
    stage: int
    stage_attempt: int
    partition: int
    attempt: int
    executor: str
    host: str
    outcome: str
    seconds: float = 0.0
    error: str = ""
    metrics: TaskMetrics | None = None
    error_type: str = ""
    frames: str = ""
    unread: tuple[int, ...] = ()  # where a fetch failed: the shuffle, the map partition, and the attempt that wrote it


@dataclass(frozen=True, slots=True)
class SpeculativeTaskSubmitted(Event):
    """Attempt ``tid`` takes so long that its partition deserves a second one."""

    tid: int
    stage: int
    partition: int


@dataclass(frozen=True, slots=True)
class ExecutorAdded(Event):
    executor: str
    epoch: int
    host: str
    slots: int


@dataclass(frozen=True, slots=True)
class ExecutorRemoved(Event):
    executor: str
    epoch: int
    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExecutorExcluded(Event):
    executor: str
    host: str
    reason: str
    failures: int = 0  # tasks that failed on it


@dataclass(frozen=True, slots=True)
class ExecutorReadmitted(Event):
    executor: str
    host: str


@dataclass(frozen=True, slots=True)
class BlockUpdated(Event):
    """A cached partition came to be (``present``), or ceased to be, in a heap, on a host or shared."""

    rdd: int
    partition: int
    executor: str
    host: str
    scope: str
    present: bool
    size: int = 0  # bytes, as they are counted against ``spark.executor.memory``, or on disk


@dataclass(frozen=True, slots=True)
class RddUnpersisted(Event):
    rdd: int


@dataclass(frozen=True, slots=True)
class ShuffleRemoved(Event):
    """Nobody can read the shuffle any more: its files are deleted."""

    shuffle: int


@dataclass(frozen=True, slots=True)
class BroadcastCreated(Event):
    broadcast: int
    size: int  # bytes, pickled


@dataclass(frozen=True, slots=True)
class BroadcastRemoved(Event):
    """``destroyed``: for good; else from the executors only, which may fetch it again."""

    broadcast: int
    destroyed: bool


@dataclass(frozen=True, slots=True)
class AccumulatorUpdated(Event):
    """A task's first success has added to an accumulator.  ``value``: the sum so far, as text, cut if it is long."""

    accumulator: int
    stage: int
    partition: int
    tid: int
    value: str


@dataclass(frozen=True, slots=True)
class StageProgress(Event):
    """How far a stage that has tasks to run is, at most once every `asparkle.events.progress.interval`, if that has
    changed; one that is quicker has none."""

    stage: int
    attempt: int
    tasks: int  # in all; of a job's last stage, those that the job wants
    completed: int  # tasks, those of earlier attempts at the stage included
    running: int  # attempts
    failed: int  # attempts, since the stage is known
    records: int  # elements that its tasks have read from files, cached partitions and shuffles, when they had ended


@dataclass(frozen=True, slots=True)
class LogWritten(Event):
    """asparkle has logged something in the driver's process, and the level of its logger lets that through."""

    level: str  # 'debug', 'info', 'warning', 'error' or 'critical'
    message: str
    fields: Mapping[str, str]  # what the message is about, as text; of an error, the traceback as 'exception'


@dataclass(frozen=True, slots=True)
class UnknownEvent(Event):
    """An event of a type that this version does not know."""

    type: str
    version: int
    fields: Mapping[str, Any]


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


_PARTS: dict[str, type] = {"stages": StageInfo, "rdds": RddInfo, "metrics": TaskMetrics}
"""What fields of events hold that is not plain: one of these, or several."""


def _restore_parts(fields: dict[str, Any]) -> None:
    for name, kind in _PARTS.items():
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
