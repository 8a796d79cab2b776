"""The nouns of the machine: attempts, executors, hosts, stages, jobs.  Data with next to no behaviour.

Invariants, by owner:

    Fleet     ``Executor.running`` + its queue are all attempts that it was sent and has not settled.
              An executor with queued attempts has no free slot.
    TaskSet   of a partition at most two *wanted* attempts are under way (``TaskSet.live`` and its twin).
    Lineage   ``Stage.blocked`` counts the incomplete parents of a WAITING stage, 0 < blocked; a stage
              that is ACTIVE or WAITING has ``tasks`` once it was ACTIVE, one that is IDLE has none.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, defaultdict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from asparkle.core.scheduler.messages import BlockId, JobSpec, MapOutput, StageSpec, TaskSucceeded

if TYPE_CHECKING:
    from asparkle.core.scheduler.tasksets import TaskSet

QUEUED: Final = 0  # sent ahead, presumed not to have started
RUNNING: Final = 1  # presumed to run: it occupies a slot
SETTLED: Final = 2  # reported on, or lost

IDLE: Final = 0  # nobody waits for the stage: it is complete, or not needed now
WAITING: Final = 1  # needed, but a parent's output is incomplete
ACTIVE: Final = 2  # needed, and its attempts may be launched


# By partition.  Sparse where a job wants few of many: ``take(1)`` of a million partitions costs no megabyte.
Flags: TypeAlias = "bytearray | defaultdict[int, int]"
Counts: TypeAlias = "array[int] | defaultdict[int, int]"


def flags(size: int, wanted: int) -> Flags:
    return bytearray(size) if size <= 64 * wanted else defaultdict(int)


def counts(size: int, wanted: int) -> Counts:
    return array("I", bytes(4 * size)) if size <= 64 * wanted else defaultdict(int)


class Host:
    """Exists while an executor is on it, or a pending task would like to be."""

    __slots__ = ("executors", "idle", "local", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.executors: dict[str, Executor] = {}
        self.idle: OrderedDict[Executor, None] = OrderedDict()  # those with a free slot
        self.local: dict[TaskSet, None] = {}  # sets with pending tasks that would like to be here


class Executor:
    """One incarnation (epoch) of an executor."""

    __slots__ = (
        "alive",
        "blocks",
        "blocks_survive",
        "epoch",
        "excluded",
        "frozen",
        "host",
        "host_blocks",
        "idle_since",
        "local",
        "name",
        "queue",
        "queued",
        "refill_at",
        "running",
        "slots",
        "slow",
        "unrecalled",
        "wrote",
    )

    def __init__(self, name: str, epoch: int, host: Host, slots: int) -> None:
        self.name = name
        self.epoch = epoch
        self.host = host
        self.slots = slots
        self.alive = True
        self.excluded = False  # from the whole application
        self.blocks_survive = True  # its files could be read if it were released
        self.idle_since = 0.0  # if nothing is running
        self.running: dict[int, Attempt] = {}
        self.queue: deque[Attempt] = deque()  # in send order; those no longer QUEUED are skipped
        self.queued = 0
        self.unrecalled = 0  # of these, not asked back
        self.slow = 0  # running attempts that nothing is to be queued behind
        self.refill_at = 0  # work is sent ahead when ``queued`` is at or below
        self.frozen = False  # asked to give attempts back: no work ahead before one of its attempts ends
        self.local: dict[TaskSet, None] = {}  # sets with pending tasks whose cached input is in its heap
        self.blocks: set[BlockId] = set()  # cached in its heap
        self.host_blocks: set[BlockId] = set()  # that it wrote on its host
        self.wrote: dict[Stage, None] = {}  # shuffles that it wrote map outputs of

    def usable(self) -> bool:
        return self.alive and not self.excluded

    def room(self) -> bool:
        return len(self.running) < self.slots and self.alive and not self.excluded


class Attempt:
    __slots__ = (
        "executor",
        "generation",
        "luck",
        "number",
        "partition",
        "recalled",
        "sent",
        "slow",
        "speculative",
        "stage",
        "stage_attempt",
        "started",
        "state",
        "tid",
        "twin",
        "wanted",
    )

    def __init__(self, tid: int, stage: Stage, partition: int, number: int, executor: Executor, now: float):
        self.tid = tid
        self.stage = stage
        self.partition = partition
        self.number = number
        self.executor = executor
        self.sent = now
        self.started = now
        self.stage_attempt = stage.attempt
        self.generation = stage.generation
        self.state = QUEUED
        self.wanted = True  # False: killed; its report frees its slot and, at best, saves a retry
        self.recalled = False
        self.slow = False
        self.luck = 0  # how near it is to its input (tasksets.NEAR, FAR)
        self.speculative = False
        self.twin: Attempt | None = None  # the other copy of a speculated partition


class Outputs:
    """A shuffle's map outputs by partition, in columns.  There may be a million for as long as the shuffle lives; an
    object for each would be visited by every full run of the garbage collector."""

    __slots__ = ("locations", "sizes", "tids", "writers")

    def __init__(self, size: int) -> None:
        self.writers: list[Executor | None] = [None] * size  # None: the output is missing
        self.tids = array("q", bytes(8 * size))
        self.locations: list[object] = [None] * size
        self.sizes: list[Sequence[int] | None] = [None] * size

    def __len__(self) -> int:
        return len(self.writers)

    def has(self, partition: int, tid: int) -> bool:
        """Whether the output is there, and is that attempt's."""
        return partition < len(self) and self.writers[partition] is not None and self.tids[partition] == tid

    def put(self, partition: int, writer: Executor, report: TaskSucceeded) -> None:
        self.writers[partition] = writer
        self.tids[partition] = report.tid
        self.locations[partition] = report.result
        self.sizes[partition] = report.sizes

    def drop(self, partition: int) -> None:
        self.writers[partition] = self.locations[partition] = self.sizes[partition] = None

    def table(self) -> list[MapOutput | None]:
        columns = zip(self.tids, self.writers, self.locations, self.sizes, strict=True)
        return [
            None if writer is None else MapOutput(tid, writer.name, writer.host.name, location, sizes)
            for tid, writer, location, sizes in columns
        ]


class Stage:
    """A shuffle's map stage, for as long as the shuffle lives, or one job's result stage."""

    __slots__ = (
        "accepted",
        "attempt",
        "blocked",
        "children",
        "commits",
        "failures",
        "fetch_failed",
        "generation",
        "id",
        "jobs",
        "missing",
        "open",
        "outputs",
        "parents",
        "readers",
        "removed",
        "seconds",
        "size",
        "spec",
        "state",
        "tasks",
        "tries",
        "version",
        "written",
    )

    def __init__(self, spec: StageSpec, version: int, wanted: int) -> None:
        self.id = spec.stage
        self.spec = spec
        self.size = spec.tasks
        self.parents: tuple[Stage, ...] = ()
        self.children: dict[Stage, None] = {}  # stages that have this one as a parent
        self.readers: dict[Stage, None] = {}  # those that launched a task on outputs of this generation
        self.jobs: dict[int, Job] = {}  # live jobs whose lineage has this stage
        self.state = IDLE
        self.blocked = 0
        self.attempt = -1
        self.generation = 0  # grows when all that was computed is void: older attempts' reports are ignored
        self.tasks: TaskSet | None = None
        self.accepted = flags(spec.tasks, wanted)
        self.tries = counts(spec.tasks, wanted)  # attempts at each partition so far
        self.failures = 0  # attempts that failed and were not killed, since the stage is known
        self.seconds = 0.0  # that its successful tasks took
        self.commits: dict[int, int] = {}  # partition: the attempt that may commit
        self.fetch_failed: set[int] = set()  # attempts of this stage, since its last success, that could not read
        self.open = True  # StageDone has not been said
        self.removed = False
        is_map = spec.shuffle is not None
        self.outputs = Outputs(spec.tasks if is_map else 0)
        self.missing = len(self.outputs)
        self.written: dict[Executor, array[int]] = {}  # by writer; may name outputs since rewritten by others
        self.version = version

    @property
    def complete(self) -> bool:
        return self.missing == 0


class Job:
    __slots__ = ("id", "left", "result", "seq", "spec", "stages", "wanted")

    def __init__(self, spec: JobSpec, seq: int) -> None:
        self.id = spec.job
        self.spec = spec
        self.seq = seq
        self.stages: list[Stage] = []
        self.result: Stage
        wanted = spec.partitions
        self.wanted = wanted if isinstance(wanted, range) else tuple(dict.fromkeys(wanted))
        self.left = len(self.wanted)  # results not taken yet
