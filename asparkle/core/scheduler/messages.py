"""What goes into the scheduler and what comes out of it: plain, immutable data and nothing else.

``Scheduler.handle(event, now) -> list[Command]`` takes one *event* of this file and answers with
*commands* of this file.  Payloads that the scheduler does not look into (results, errors, map output
locations, accumulator updates) are typed ``object`` and travel through it untouched.

Identities
    executor   the executor's name, with an ``epoch`` that grows each time that name comes back;
               a report of an older epoch is stale and ignored.
    tid        one task attempt.  Never used twice in an application, so a report about an attempt
               that the scheduler has already settled (or forgotten) is recognised and ignored.
    stage      one per shuffle dependency, for as long as the shuffle lives, or one per result stage.
    block      ``(rdd, partition)``: one cached partition.

`ExecutorAdded`, `TaskStarted` and `RddUnpersisted` are other classes in `asparkle.core.events`: there they tell
listeners what happened, here they tell the scheduler.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from asparkle.core.namedtuple import NamedTuple

if TYPE_CHECKING:
    from asparkle.core.contracts import SchedulingPolicy

BlockId: TypeAlias = tuple[int, int]  # (rdd, partition)


class Determinism(enum.IntEnum):
    """What a second computation of a partition yields (SPARK-23207), from best to worst."""

    DETERMINATE = 0  # the same records in the same order
    UNORDERED = 1  # the same records, in an order that may differ
    INDETERMINATE = 2  # perhaps other records: what was computed from the first must be redone


# --------------------------------------------------------------------------- what a job consists of


class StageSpec(NamedTuple):
    """One stage of a job: ``tasks`` attempts at the partitions of one RDD, without a shuffle inside.

    A stage with ``shuffle`` set writes that shuffle's map outputs; one with None is a result stage.
    A shuffle's stage has the same ``stage`` id in every job that uses it, so jobs share its outputs;
    of two specs for one stage the later submitted one counts.
    """

    stage: int
    tasks: int
    parents: tuple[int, ...] = ()  # shuffles whose outputs the tasks read
    shuffle: int | None = None
    determinism: Determinism = Determinism.DETERMINATE
    barrier: bool = False
    hosts: Sequence[Sequence[str]] | None = None  # by partition: preferred hosts
    blocks: Sequence[Sequence[BlockId]] | None = None  # by partition: cached inputs, nearest first
    name: str = ""
    rdds: tuple[object, ...] = ()  # for listeners: `events.RddInfo`


class JobSpec(NamedTuple):
    """``stages`` are in topological order, parents first; the last one is the result stage."""

    job: int
    stages: tuple[StageSpec, ...]
    partitions: Sequence[int]  # of the result stage, each wanted once
    pool: str = "default"
    group: str | None = None
    tags: frozenset[str] = frozenset()
    can_redo_results: bool = True  # False when a delivered result can't be taken back (a commit, a stream)
    name: str = ""
    properties: Mapping[str, str] = MappingProxyType({})  # told to listeners


# ------------------------------------------------------------------------------------------- events


class JobSubmitted(NamedTuple):
    spec: JobSpec


class JobCancelled(NamedTuple):
    """Ends one job, or all jobs of a group, of a tag, or (all None) every job, queued ones included."""

    job: int | None = None
    group: str | None = None
    tag: str | None = None
    stage: int | None = None  # all jobs that need this stage
    reason: str = ""


class ExecutorAdded(NamedTuple):
    """``blocks_survive``: shuffle files and disk blocks that it writes could still be read if it were released."""

    executor: str
    epoch: int
    host: str
    slots: int
    blocks_survive: bool = True
    labels: Mapping[str, str] = MappingProxyType({})  # told to listeners


class ExecutorLost(NamedTuple):
    """``blame``: the loss may be the doing of what ran there (a crash), so what ran counts as failed.
    False for a released executor, a powered-off node, a kill that we asked for.
    ``running``: the attempts that had really started, where the backend knows; None: presume the
    first ``slots`` unfinished ones in the order in which they were sent.
    ``blocks_survive``: disk blocks are still readable by others on its host; ``outputs_survive``: and so are the map
    outputs that it wrote; None: as the blocks are."""

    executor: str
    epoch: int
    reason: str
    blame: bool = True
    running: Collection[int] | None = None
    blocks_survive: bool = True
    outputs_survive: bool | None = None


class TaskStarted(NamedTuple):
    """Optional and possibly late: short attempts may succeed without ever having been said to start."""

    executor: str
    epoch: int
    tid: int


class TaskSucceeded(NamedTuple):
    executor: str
    epoch: int
    tid: int
    seconds: float  # the attempt's own run time, measured where it ran
    result: object = None  # of a result task: its value; of a map task: where its output lies
    updates: object = None  # accumulator updates
    sizes: Sequence[int] | None = None  # of a map task: bytes per reduce partition
    metrics: Sequence[float] | None = None  # for listeners: the fields of `events.TaskMetrics`


class TaskFailed(NamedTuple):
    """``penalised`` False: no fault of the task's (its executor is shutting down, a commit was denied).

    ``story``: for listeners, what ``error`` is: its kind, its message and the user's frames."""

    executor: str
    epoch: int
    tid: int
    error: object
    penalised: bool = True
    killed: bool = False  # it ended because we had asked for it
    fatal: bool = False  # no retry can help (an unpicklable result): fails its job at once
    metrics: Sequence[float] | None = None
    story: Sequence[str] = ()


class FetchFailed(NamedTuple):
    """The attempt could not read map output ``map_partition`` of ``shuffle``, which attempt
    ``map_tid`` had written (so that a report about an output since rewritten is recognised).

    ``others``: (partition, attempt) of more outputs of the shuffle that it has found to be gone.
    ``story``: as in `TaskFailed`."""

    executor: str
    epoch: int
    tid: int
    shuffle: int
    map_partition: int
    map_tid: int
    error: object = None
    others: Sequence[tuple[int, int]] = ()
    story: Sequence[str] = ()


class TasksReturned(NamedTuple):
    """Attempts that were sent, had not started, and will not: the answer to ``Recall``."""

    executor: str
    epoch: int
    tids: Sequence[int]


class BlocksChanged(NamedTuple):
    """``scope``: 'worker' (in that executor's heap, gone with it), 'host' or 'shared'.  ``size``: bytes of each of the
    ``added``, for listeners."""

    executor: str
    epoch: int
    added: Sequence[BlockId] = ()
    removed: Sequence[BlockId] = ()
    scope: str = "worker"
    size: int = 0


class RddUnpersisted(NamedTuple):
    rdd: int


class ShuffleRemoved(NamedTuple):
    """The shuffle's files are deleted; its outputs are forgotten."""

    shuffle: int


class CommitRequested(NamedTuple):
    executor: str
    epoch: int
    tid: int


class BarrierReached(NamedTuple):
    """A barrier task waits for its stage's other tasks; ``round`` counts its barriers from 0."""

    executor: str
    epoch: int
    tid: int
    round: int
    message: str = ""


class DeadlineReached(NamedTuple):
    """Time has passed: sent when ``next_deadline()`` is due."""


Event: TypeAlias = (
    JobSubmitted
    | JobCancelled
    | ExecutorAdded
    | ExecutorLost
    | TaskStarted
    | TaskSucceeded
    | TaskFailed
    | FetchFailed
    | TasksReturned
    | BlocksChanged
    | RddUnpersisted
    | ShuffleRemoved
    | CommitRequested
    | BarrierReached
    | DeadlineReached
)

# ----------------------------------------------------------------------------------------- commands


class Task(NamedTuple):
    """One attempt to launch.  ``attempt`` counts attempts at this partition in this stage from 0."""

    tid: int
    stage: int
    stage_attempt: int
    partition: int
    attempt: int


class Launch(NamedTuple):
    """``shuffles``: the parents of the tasks' stage, each with the version of its map output table;
    an executor that has not seen that version needs ``Scheduler.map_outputs(shuffle)`` first.
    ``peers``: of a barrier stage, the executor of each task, in order of partition."""

    executor: str
    epoch: int
    stage: int
    tasks: Sequence[Task]
    shuffles: tuple[tuple[int, int], ...] = ()
    peers: Sequence[str] | None = None


class Recall(NamedTuple):
    """Give back those of these attempts that have not started (``TasksReturned``)."""

    executor: str
    epoch: int
    tids: Sequence[int]


class Kill(NamedTuple):
    """Interrupt these attempts, started or not; each is answered by TaskFailed(killed), TasksReturned,
    TaskSucceeded (it was quicker) or the loss of the executor."""

    executor: str
    epoch: int
    tids: Sequence[int]
    reason: str


class Accept(NamedTuple):
    """The first success of this partition of this stage, the only one whose accumulator updates count
    (for a shuffle's stage: the first ever, also when its output is recomputed later)."""

    stage: int
    partition: int
    tid: int
    updates: object


class TakeResult(NamedTuple):
    job: int
    partition: int
    tid: int
    result: object


class DiscardResults(NamedTuple):
    """Results taken so far came from indeterminate input that was lost: they will be taken again."""

    job: int
    partitions: Sequence[int]


class FailureKind(enum.Enum):
    TASK = "task"  # an attempt failed for the last time
    FETCH = "fetch"  # a shuffle could not be read, time and again
    INDETERMINATE = "indeterminate"  # results that can't be taken back rest on lost indeterminate input
    EXCLUDED = "excluded"  # every executor is excluded for one of its tasks
    BARRIER = "barrier"  # a barrier stage can't get its slots at once
    CANCELLED = "cancelled"


class JobFailure(NamedTuple):
    kind: FailureKind
    reason: str
    error: object = None  # the last attempt's
    stage: int | None = None
    stage_name: str = ""
    partition: int | None = None
    attempt: int | None = None
    executor: str | None = None
    host: str | None = None


class FinishJob(NamedTuple):
    job: int
    failure: JobFailure | None  # None: success


class AnswerCommit(NamedTuple):
    executor: str
    epoch: int
    tid: int
    granted: bool


class ReleaseBarrier(NamedTuple):
    """All tasks of the barrier stage reached this round: their messages, in order of partition."""

    executor: str
    epoch: int
    tid: int
    round: int
    messages: Sequence[str]


class StageDone(NamedTuple):
    """No attempt of the stage will be launched again unless a later job or a lost output needs it."""

    stage: int


class SetTarget(NamedTuple):
    """The cluster is to have so many executors."""

    executors: int


class Release(NamedTuple):
    """These executors run nothing and are needed no more; to the machine they are lost.  The target sinks by as many.

    ``reasons``: why, by executor."""

    reasons: Mapping[str, str]


class Emit(NamedTuple):
    """For the bus.  Made only while ``Scheduler.listening`` is true."""

    event: object


Command: TypeAlias = (
    Launch
    | Recall
    | Kill
    | Accept
    | TakeResult
    | DiscardResults
    | FinishJob
    | AnswerCommit
    | ReleaseBarrier
    | StageDone
    | SetTarget
    | Release
    | Emit
)


class MapOutput(NamedTuple):
    """Where one map task's output lies: what the task reported, and who wrote it."""

    tid: int
    executor: str
    host: str
    location: object
    sizes: Sequence[int] | None


class AllocationConf(NamedTuple):
    """How many executors there are; each setting names the key that it comes from, below spark.dynamicAllocation."""

    initial: int  # what the cluster is asked for at first
    least: int = 0  # minExecutors
    most: int = 1  # maxExecutors
    slots: int = 1  # of each executor
    backlog_timeout: float = 1.0  # schedulerBacklogTimeout, seconds
    sustained_timeout: float = 1.0  # sustainedSchedulerBacklogTimeout
    idle_timeout: float = 60.0  # executorIdleTimeout
    cached_timeout: float = math.inf  # cachedExecutorIdleTimeout
    ratio: float = 1.0  # executorAllocationRatio
    shuffle_tracking: bool = True  # shuffleTracking.enabled
    shuffle_timeout: float = math.inf  # shuffleTracking.timeout


class SchedulerConf(NamedTuple):
    """The scheduler's settings, already parsed; each names the key that it comes from."""

    max_failures: int = 4  # spark.task.maxFailures
    max_stage_attempts: int = 4  # spark.stage.maxConsecutiveAttempts
    policy: SchedulingPolicy | None = None  # spark.scheduler.mode; None: in the order of submission
    pools: Mapping[str, tuple[SchedulingPolicy | None, int, int]] = MappingProxyType({})  # (mode, weight, min share)
    locality_wait: float = 3.0  # spark.locality.wait: the longest wait for a better place, seconds
    prefetch_horizon: float = 0.005  # asparkle.scheduler.prefetch: seconds of work sent ahead to an executor
    speculation: bool = False  # spark.speculation
    speculation_interval: float = 0.1  # spark.speculation.interval
    speculation_multiplier: float = 3.0  # spark.speculation.multiplier
    speculation_quantile: float = 0.9  # spark.speculation.quantile
    speculation_min_runtime: float = 0.1  # spark.speculation.minTaskRuntime
    exclude: bool = False  # spark.excludeOnFailure.enabled
    exclude_task_executor: int = 1  # ...task.maxTaskAttemptsPerExecutor
    exclude_task_node: int = 2  # ...task.maxTaskAttemptsPerNode
    exclude_stage_executor: int = 2  # ...stage.maxFailedTasksPerExecutor
    exclude_stage_node: int = 2  # ...stage.maxFailedExecutorsPerNode
    exclude_application_executor: int = 2  # ...application.maxFailedTasksPerExecutor
    exclude_application_node: int = 2  # ...application.maxFailedExecutorsPerNode
    exclude_timeout: float = 3600.0  # spark.excludeOnFailure.timeout, seconds
    barrier_timeout: float = 365 * 24 * 3600.0  # spark.barrier.sync.timeout
    barrier_slot_wait: float = 15.0  # how long a barrier stage may want more slots than there are
    allocation: AllocationConf | None = (
        None  # spark.dynamicAllocation.enabled; None: executors come and go as they like
    )
