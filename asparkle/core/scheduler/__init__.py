"""The DAG scheduler: a state machine without I/O.

Rules for what may live in this package
=======================================

1. Nothing here awaits, sleeps, starts a thread, reads a clock, draws a random number, touches a file or a
   socket, logs, or calls user code.  Time comes in with each event; the same events yield the same commands.
2. Plain data in, plain data out (`messages`).  What is not ours to look into (results, errors, locations,
   accumulator updates) passes through as ``object``.
3. Only the standard library is imported.  `asparkle.core.events` is imported when somebody listens.
4. An event costs O(1) or O(log n), spread over the tasks that it launches or ends.  No event looks at all
   tasks, executors, stages or jobs; except the loss or exclusion of executors when exclusion is on, and,
   under dynamic allocation, what may change the number of executors.
5. A report is believed only if it is about an attempt that is under way, and comes from the executor, of
   the right epoch, that has it.  All others are stale, doubled or forged, and change nothing.
6. Nothing is remembered of a finished job, a settled attempt or a removed shuffle; except how the last
   lost executors were called (`fleet.GRAVES`), and where tasks failed, while exclusion is on.
7. There is one owner for each piece of state, named in `records`; others ask it.

Theory of operation
===================

**Demand.**  A job is a graph of stages.  It demands its result stage; a stage that is demanded and whose
parents' outputs are incomplete waits (WAITING) and demands these parents; when all are complete it is
ACTIVE and its missing partitions are a `TaskSet`.  A shuffle's stage belongs to the shuffle, not to a job:
jobs share its outputs, and what is complete is never computed again.  A stage that no live job needs any
longer is IDLE.  That is all that is to be known of jobs (`lineage`).

**Loss.**  A lost map output makes its stage incomplete, so that whatever reads it waits again and demands
it: only the missing outputs are computed, then the readers go on.  Attempts under way are not disturbed;
what they achieve counts.  The exception is *indeterminate* output (SPARK-23207).  If a part of it is lost,
and anything was ever launched on it, a second computation would not fit to what was read: when it is next
demanded all of it is computed anew, and everything that was launched on it, and on what came of that, is
rolled back.  The mark for "was launched on it" is `Stage.readers`, the guard against late reports
`Stage.generation`.

**Attempts.**  An attempt is *wanted* until it is killed, because another was quicker, its job is over or
its stage was rolled back.  Its executor has it, and a slot or a place in the queue is taken, until it is
reported on or lost with the executor; so a slot is never given away twice.  A failure of a wanted attempt
puts its partition back to the front; penalised ones are counted, and the last fails the jobs that need the
stage, and no others.  A late success of a killed attempt is used if nothing has made it void.

**Where.**  A partition with an input in some executor's heap, or on a host with executors, is *held* for
these; others get it after a wait which is a small multiple of the stage's mean run time (`TaskSet.wait`).
The wait begins anew while near executors make progress and no slot is idle (delay scheduling, Zaharia et
al., EuroSys 2010; SPARK-18886).

**When.**  `pools` ranks task sets as a policy says: FIFO, FAIR or a plugin's.  A free slot goes to the first in
rank that has something for it (`dispatch`).  Then work is sent *ahead*: about `prefetch_horizon` seconds of it by
the measured mean, nothing if tasks are long, one per slot if nothing is known.  The scheduler presumes that an
executor runs the first ``slots`` attempts in the order in which they were sent, and those that it says it runs.
What waits longer than was meant is recalled, for an idle executor or for a set that ranks higher (`recalls`).

**How many.**  With dynamic allocation the machine says how many executors there should be, and releases those that are
needed no more; an executor is forgotten in the same turn (`allocation`).

**Files.**  `messages`, `records` and `tasksets` are data; `timers`, `fleet`, `pools`, `blocks` tables with an
owner; `dispatch`, `lineage`, `recalls`, `speculation`, `exclusion`, `barriers`, `allocation` one concern each;
`machine` has one method per event.

Tables
======

What becomes of a wanted attempt's partition:

    report                      partition               failures     slot
    TaskSucceeded               done                    -            free
    TaskFailed, penalised       to the front            + 1          free
    TaskFailed, not penalised   to the front            -            free
    TaskFailed, fatal           jobs fail               -            free
    FetchFailed                 to the front, and waits -            free
    TasksReturned               to the front            -            free
    ExecutorLost, it ran        to the front            + 1 if blame gone
    ExecutorLost, it was queued to the front            -            gone

and of a killed one's: any report frees its slot; TaskSucceeded is used if its stage is active, its partition
not done and its generation not void.

Stages:

    IDLE     demanded, a parent incomplete       -> WAITING  (the parent is demanded)
    IDLE     demanded, parents complete          -> ACTIVE   (attempt + 1)
    WAITING  last parent complete                -> ACTIVE   (attempt + 1)
    ACTIVE   a parent's output lost              -> WAITING  (attempts under way go on)
    any      complete, or no live job needs it   -> IDLE     (StageDone)
"""

from asparkle.core.scheduler.machine import Scheduler
from asparkle.core.scheduler.messages import (
    Accept,
    AllocationConf,
    AnswerCommit,
    BarrierReached,
    BlockId,
    BlocksChanged,
    Command,
    CommitRequested,
    DeadlineReached,
    Determinism,
    DiscardResults,
    Emit,
    Event,
    ExecutorAdded,
    ExecutorLost,
    FailureKind,
    FetchFailed,
    FinishJob,
    JobCancelled,
    JobFailure,
    JobSpec,
    JobSubmitted,
    Kill,
    Launch,
    MapOutput,
    RddUnpersisted,
    Recall,
    Release,
    ReleaseBarrier,
    SchedulerConf,
    SetTarget,
    ShuffleRemoved,
    StageDone,
    StageSpec,
    TakeResult,
    Task,
    TaskFailed,
    TasksReturned,
    TaskStarted,
    TaskSucceeded,
)

__all__ = [
    "Accept",
    "AllocationConf",
    "AnswerCommit",
    "BarrierReached",
    "BlockId",
    "BlocksChanged",
    "Command",
    "CommitRequested",
    "DeadlineReached",
    "Determinism",
    "DiscardResults",
    "Emit",
    "Event",
    "ExecutorAdded",
    "ExecutorLost",
    "FailureKind",
    "FetchFailed",
    "FinishJob",
    "JobCancelled",
    "JobFailure",
    "JobSpec",
    "JobSubmitted",
    "Kill",
    "Launch",
    "MapOutput",
    "RddUnpersisted",
    "Recall",
    "Release",
    "ReleaseBarrier",
    "Scheduler",
    "SchedulerConf",
    "SetTarget",
    "ShuffleRemoved",
    "StageDone",
    "StageSpec",
    "TakeResult",
    "Task",
    "TaskFailed",
    "TaskStarted",
    "TaskSucceeded",
    "TasksReturned",
]
