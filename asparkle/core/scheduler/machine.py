"""The machine: one method per event, each a few lines over the parts that do the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asparkle.core.scheduler.allocation import Allocation
from asparkle.core.scheduler.announcer import Announcer
from asparkle.core.scheduler.barriers import Barriers
from asparkle.core.scheduler.blocks import Blocks
from asparkle.core.scheduler.dispatch import Dispatch
from asparkle.core.scheduler.exclusion import Exclusion
from asparkle.core.scheduler.lineage import Lineage
from asparkle.core.scheduler.messages import (
    AnswerCommit,
    BarrierReached,
    BlocksChanged,
    Command,
    CommitRequested,
    DeadlineReached,
    Event,
    ExecutorAdded,
    ExecutorLost,
    FailureKind,
    FetchFailed,
    JobCancelled,
    JobSubmitted,
    MapOutput,
    RddUnpersisted,
    SchedulerConf,
    ShuffleRemoved,
    TaskFailed,
    TasksReturned,
    TaskStarted,
    TaskSucceeded,
)
from asparkle.core.scheduler.pools import Pools
from asparkle.core.scheduler.recalls import Recalls
from asparkle.core.scheduler.records import IDLE, QUEUED, RUNNING, SETTLED, Attempt, Executor, Job, Stage
from asparkle.core.scheduler.speculation import Speculation
from asparkle.core.scheduler.tasksets import TaskSet
from asparkle.core.scheduler.turn import Turn
from asparkle.core.scheduler.views import ExecutorView, JobView, StageView

DEFAULT = SchedulerConf()


class Scheduler:
    """Events in, commands out.

    ``handle`` takes events in the order in which they happened, with a clock that never goes back, and
    answers with what is to be done, in that order.  ``next_deadline`` says when to call it with
    `DeadlineReached` if nothing happens before.  ``listening``: whether to make `Emit` commands.
    """

    def __init__(self, conf: SchedulerConf = DEFAULT, *, listening: bool = False) -> None:
        self._turn = turn = Turn(conf, listening)
        self._announcer = announcer = Announcer(turn)
        self._pools = pools = Pools(conf)
        self._dispatch = dispatch = Dispatch(turn, pools, announcer)
        self._fleet = fleet = dispatch.fleet
        self._blocks = Blocks(fleet)
        self._lineage = Lineage(turn, dispatch, pools, self._blocks, announcer)
        self._exclusion = Exclusion(turn, fleet, announcer)
        self._speculation = Speculation(turn, dispatch, announcer)
        self._barriers = Barriers(turn, dispatch, self._lineage)
        self._recalls = Recalls(turn, fleet, pools)
        dispatch.could_gather = self._barriers.could_gather
        dispatch.gather = self._barriers.gather
        dispatch.take_copy = self._speculation.take_copy
        dispatch.arrived = self._recalls.arrived
        self._allocation = self._allocate() if conf.allocation is not None else None
        self._lineage.starting = self._starting
        self._lineage.ended = self._ended
        self._barriers.broken = self._barrier_broken
        self._suspects: dict[TaskSet, None] = {}  # may have a task that no executor is allowed to run
        self._handlers: Mapping[type, Callable[[Any], None]] = {
            TaskSucceeded: self._task_succeeded,
            TaskStarted: self._task_started,
            TaskFailed: self._task_failed,
            FetchFailed: self._fetch_failed,
            TasksReturned: self._tasks_returned,
            CommitRequested: self._commit_requested,
            BarrierReached: self._barrier_reached,
            BlocksChanged: self._blocks_changed,
            JobSubmitted: self._job_submitted,
            JobCancelled: self._job_cancelled,
            ExecutorAdded: self._executor_added,
            ExecutorLost: self._executor_lost,
            RddUnpersisted: self._rdd_unpersisted,
            ShuffleRemoved: self._shuffle_removed,
            DeadlineReached: lambda event: None,
        }

    @property
    def listening(self) -> bool:
        return self._turn.listening

    @listening.setter
    def listening(self, listening: bool) -> None:
        self._turn.listening = listening

    def handle(self, event: Event, now: float) -> list[Command]:
        turn, fleet = self._turn, self._fleet
        turn.now = now
        if now >= turn.timers.earliest:
            turn.timers.ring(now)
        self._handlers[type(event)](event)
        if self._lineage.demands:
            self._lineage.settle()
        if self._suspects or (not fleet.slots and fleet.executors):
            self._check_suspects()
        self._dispatch.deal()
        self._barriers.after_turn()
        self._recalls.after_turn()
        if self._allocation is not None:
            self._allocation.after_turn()
        return turn.finish()

    def next_deadline(self) -> float | None:
        return self._turn.timers.next()

    def _allocate(self) -> Allocation:
        conf, dispatch = self._turn.conf.allocation, self._dispatch
        assert conf is not None
        allocation = Allocation(conf, self._turn, self._fleet, self._blocks)
        allocation.lose = self._release

        def arrived(tasks: TaskSet) -> None:
            self._recalls.arrived(tasks)
            allocation.arrived(tasks)

        dispatch.arrived = arrived
        return allocation

    def _release(self, executor: Executor, reason: str) -> None:
        lost = ExecutorLost(executor.name, executor.epoch, reason, False, (), executor.blocks_survive)
        self._lose(executor, lost, released=True)

    # ----------------------------------------------------------------------------------------- jobs

    def _job_submitted(self, event: JobSubmitted) -> None:
        self._lineage.submit(event.spec)

    def _job_cancelled(self, event: JobCancelled) -> None:
        for job in self._addressed(event):
            self._lineage.cancel(job, event.reason)

    def _addressed(self, event: JobCancelled) -> list[Job]:
        lineage = self._lineage
        if event.job is not None:
            jobs = [lineage.jobs[event.job]] if event.job in lineage.jobs else []
        elif event.group is not None:
            jobs = list(lineage.groups.get(event.group, {}).values())
        elif event.tag is not None:
            jobs = list(lineage.tags.get(event.tag, {}).values())
        elif event.stage is not None:
            stage = lineage.stages.get(event.stage)
            jobs = list(stage.jobs.values()) if stage is not None else []
        else:
            jobs = list(lineage.jobs.values())
        return jobs

    def _starting(self, tasks: TaskSet) -> None:
        self._barriers.starting(tasks)
        self._speculation.starting(tasks)
        if self._allocation is not None:
            self._allocation.starting(tasks)
        if self._turn.conf.exclude:
            self._suspects[tasks] = None

    def _ended(self, tasks: TaskSet, complete: bool) -> None:
        self._barriers.ended(tasks)
        self._speculation.ended(tasks)
        self._exclusion.ended(tasks, complete)
        self._recalls.forget(tasks)
        if self._allocation is not None:
            self._allocation.ended(tasks)
        if tasks.bars is not None:
            self._suspects.update(self._exclusion.barred)  # an executor may be excluded for good now
        self._suspects.pop(tasks, None)

    # ------------------------------------------------------------------------------------- attempts

    def _settle(self, event: TaskSucceeded | TaskFailed | FetchFailed) -> Attempt | None:
        """The attempt that is reported to have ended, whose slot is free now; None if the report is stale."""
        attempt = self._fleet.find(event.tid, event.executor, event.epoch)
        if attempt is not None:
            if self._turn.listening:
                self._announce_end(attempt, event)
            self._fleet.settle(attempt, self._turn.now)
            self._dispatch.offers.append(attempt.executor)
            if attempt.stage.commits:
                self._release_commit(attempt)
        return attempt

    def _announce_end(self, attempt: Attempt, event: TaskSucceeded | TaskFailed | FetchFailed) -> None:
        killed = isinstance(event, TaskFailed) and event.killed
        if attempt.state == QUEUED:
            if killed:
                return  # it never started
            self._announcer.task_started(attempt)
        if isinstance(event, TaskSucceeded):
            outcome = "success" if attempt.wanted else "unused"
            self._announcer.task_ended(attempt, outcome, event.seconds, metrics=event.metrics)
        elif isinstance(event, TaskFailed):
            outcome = "killed" if killed else "failed"
            self._announcer.task_ended(attempt, outcome, 0.0, _in_words(event), event.metrics, event.story)
        else:
            unread = (event.shuffle, event.map_partition, event.map_tid)
            self._announcer.task_ended(attempt, "fetch failed", 0.0, _in_words(event), story=event.story, unread=unread)

    def _task_started(self, event: TaskStarted) -> None:
        attempt = self._fleet.find(event.tid, event.executor, event.epoch)
        if attempt is not None:
            self._fleet.start(attempt, self._turn.now)

    def _task_succeeded(self, event: TaskSucceeded) -> None:
        attempt = self._settle(event)
        if attempt is None:
            return
        tasks = attempt.stage.tasks
        if attempt.wanted and tasks is not None:
            attempt.stage.seconds += event.seconds
            self._dispatch.observe(tasks, attempt, event.seconds)
            if tasks.watch is not None:
                self._speculation.succeeded(tasks, event.seconds)
            if tasks.gathering is not None:
                self._barriers.succeeded(attempt, event)
                return
        self._lineage.succeeded(attempt, event)

    def _task_failed(self, event: TaskFailed) -> None:
        attempt = self._settle(event)
        if attempt is None:
            return
        if attempt.wanted:
            penalised = (event.penalised and not event.killed) or event.fatal
            self._failed(attempt, _in_words(event), event.error, penalised, event.fatal)

    def _failed(self, attempt: Attempt, reason: str, error: object, penalised: bool, fatal: bool = False) -> None:
        """A wanted attempt came to nothing; it is settled already, or killed."""
        stage, partition = attempt.stage, attempt.partition
        tasks = stage.tasks
        assert tasks is not None
        alone = self._withdraw(tasks, attempt)
        if penalised:
            stage.failures += 1
            count = tasks.failures[partition] = tasks.failures.get(partition, 0) + 1
            self._exclusion.failed(tasks, attempt, reason, error)
            if fatal or count >= self._turn.conf.max_failures:
                times = "" if fatal else f"{count} times, the last time "
                text = f"task {partition} of stage {stage.id} failed {times}on {attempt.executor.name}: {reason}"
                failure = self._lineage.failure(FailureKind.TASK, text, stage, attempt, error)
                self._lineage.fail(stage, failure)
                return
            if self._turn.conf.exclude:
                self._suspects[tasks] = None
        if tasks.gathering is not None:
            self._barriers.start_again(tasks, f"task {partition} failed: {reason}")
        elif alone:
            self._dispatch.requeue(tasks, partition)

    def _withdraw(self, tasks: TaskSet, attempt: Attempt) -> bool:
        """The attempt is out of the set; whether its partition is without an attempt now."""
        live = tasks.live
        partition = attempt.partition
        twin = attempt.twin
        attempt.twin = None
        if twin is not None and twin.wanted and twin.state != SETTLED:
            twin.twin = None
            live[partition] = twin
            return False
        if live.get(partition) is not attempt:
            return False
        del live[partition]
        return True

    def _barrier_broken(self, tasks: TaskSet, partition: int, reason: str) -> None:
        """Not all can come to a barrier, or they take too long: as if the attempt at ``partition`` had failed."""
        attempt = tasks.live[partition]
        self._lineage.kill(attempt, reason)
        self._failed(attempt, reason, None, True)

    def _tasks_returned(self, event: TasksReturned) -> None:
        fleet = self._fleet
        for tid in reversed(event.tids):  # each goes to the front
            attempt = fleet.find(tid, event.executor, event.epoch)
            if attempt is None:
                continue
            if self._turn.listening and attempt.state == RUNNING:
                self._announcer.task_ended(attempt, "returned")
            fleet.settle(attempt, self._turn.now)
            attempt.executor.frozen = True
            self._dispatch.offers.append(attempt.executor)
            self._release_commit(attempt)
            if attempt.wanted:
                self._failed(attempt, "given back", None, False)

    def _fetch_failed(self, event: FetchFailed) -> None:
        attempt = self._settle(event)
        if attempt is None:
            return
        parent = self._lineage.shuffles.get(event.shuffle)
        stage, tasks = attempt.stage, attempt.stage.tasks
        partition = event.map_partition
        lost = parent is not None and parent.outputs.has(partition, event.map_tid)
        if not attempt.wanted or tasks is None:
            if parent is not None and lost:
                self._lose_outputs(parent, event)
            return
        if parent is not None and lost:
            stage.fetch_failed.add(attempt.stage_attempt)
            self._failed(attempt, "fetch failed", event.error, False)
            self._lose_outputs(parent, event)
            self._check_fetches(attempt, event)
        else:
            self._stale_fetch(tasks, attempt, event)

    def _lose_outputs(self, parent: Stage, event: FetchFailed) -> None:
        """Map outputs can't be read; and, if who wrote one is gone, nor can the others that it wrote."""
        gone = []
        for partition, tid in ((event.map_partition, event.map_tid), *event.others):
            if parent.outputs.has(partition, tid):
                writer = parent.outputs.writers[partition]
                assert writer is not None
                if writer.alive:
                    gone.append(partition)
                else:
                    self._lineage.lose_written(writer, parent)
        if gone:
            self._lineage.lose(parent, gone)

    def _check_fetches(self, attempt: Attempt, event: FetchFailed) -> None:
        stage = attempt.stage
        if stage.state != IDLE and len(stage.fetch_failed) >= self._turn.conf.max_stage_attempts:
            text = (
                f"stage {stage.id} failed {len(stage.fetch_failed)} times in a row to read shuffle "
                f"{event.shuffle}, the last time map output {event.map_partition}: {_in_words(event)}"
            )
            failure = self._lineage.failure(FailureKind.FETCH, text, stage, attempt, event.error)
            self._lineage.fail(stage, failure)

    def _stale_fetch(self, tasks: TaskSet, attempt: Attempt, event: FetchFailed) -> None:
        """The output has been replaced since the attempt was sent: no fault of its.  An executor that sees
        stale outputs time and again has one, or its partition would be tried for ever."""
        count = tasks.stale[attempt.partition] = tasks.stale.get(attempt.partition, 0) + 1
        penalised = count > self._turn.conf.max_stage_attempts
        self._failed(attempt, f"could not read shuffle {event.shuffle}: {_in_words(event)}", event.error, penalised)

    # -------------------------------------------------------------------------- commits and barriers

    def _release_commit(self, attempt: Attempt) -> None:
        commits = attempt.stage.commits
        if commits.get(attempt.partition) == attempt.tid:
            del commits[attempt.partition]

    def _commit_requested(self, event: CommitRequested) -> None:
        attempt = self._fleet.find(event.tid, event.executor, event.epoch)
        granted = False
        if attempt is not None and attempt.wanted:
            granted = attempt.stage.commits.setdefault(attempt.partition, attempt.tid) == attempt.tid
        self._turn.out.append(AnswerCommit(event.executor, event.epoch, event.tid, granted))

    def _barrier_reached(self, event: BarrierReached) -> None:
        attempt = self._fleet.find(event.tid, event.executor, event.epoch)
        if attempt is not None:
            self._barriers.reached(attempt, event.round, event.message)

    # ------------------------------------------------------------------------------------ executors

    def _executor_added(self, event: ExecutorAdded) -> None:
        fleet = self._fleet
        if fleet.known(event.executor, event.epoch):
            return
        before = fleet.executors.get(event.executor)
        if before is not None:
            self._lose(before, ExecutorLost(event.executor, before.epoch, "it came back", blame=False))
        executor = fleet.add(event.executor, event.epoch, event.host, event.slots)
        executor.blocks_survive = event.blocks_survive
        executor.idle_since = self._turn.now
        if self._allocation is not None:
            self._allocation.added(executor)
        if self._turn.listening:
            self._announcer.executor_added(executor, event.labels)
        self._exclusion.added(executor)
        self._suspects.update(self._exclusion.barred)
        self._dispatch.offers.append(executor)

    def _executor_lost(self, event: ExecutorLost) -> None:
        executor = self._fleet.executors.get(event.executor)
        if executor is not None and executor.epoch <= event.epoch:
            self._lose(executor, event)
        if executor is None or executor.epoch < event.epoch:
            self._fleet.bury(event.executor, event.epoch)

    def _lose(self, executor: Executor, event: ExecutorLost, *, released: bool = False) -> None:
        presumed, queued = self._fleet.remove(executor)
        started = {attempt.tid for attempt in presumed} if event.running is None else set(event.running)
        if self._turn.listening:
            for attempt in presumed:
                self._announcer.task_ended(attempt, "executor lost", 0.0, event.reason)
            self._announcer.executor_removed(executor, event.reason, released)
        gone = self._blocks.lose(executor, event.blocks_survive)
        if gone and self._turn.listening:
            self._announcer.blocks(executor, BlocksChanged(executor.name, executor.epoch, (), gone, "host"))
        self._dispatch.release(executor)
        survive = event.blocks_survive if event.outputs_survive is None else event.outputs_survive
        if not survive:
            for stage in list(executor.wrote):
                self._lineage.lose_written(executor, stage)
        reason = f"executor {executor.name} was lost: {event.reason}"
        for attempt in reversed(presumed + queued):  # each goes to the front
            self._release_commit(attempt)
            if attempt.wanted:
                self._failed(attempt, reason, None, event.blame and attempt.tid in started)
        self._suspects.update(self._exclusion.barred)
        if self._allocation is not None:
            self._allocation.gone(executor)

    def _check_suspects(self) -> None:
        """A task that may run on none of the executors that there are fails its jobs."""
        if not self._fleet.slots:
            self._suspects.update((stage.tasks, None) for stage in self._lineage.stages.values() if stage.tasks)
        for tasks in list(self._suspects):
            partition = self._exclusion.stuck(tasks) if tasks in self._suspects else -1
            if partition >= 0 and not (self._allocation is not None and self._allocation.another(tasks)):
                failure = self._exclusion.failure(tasks, partition, self._lineage.failure)
                self._lineage.fail(tasks.stage, failure)
        self._suspects.clear()

    def _blocks_changed(self, event: BlocksChanged) -> None:
        executor = self._fleet.executors.get(event.executor)
        if executor is None or executor.epoch != event.epoch:
            return
        self._blocks.remove(executor, event.removed, event.scope)
        self._blocks.add(executor, event.added, event.scope)
        if self._turn.listening:
            self._announcer.blocks(executor, event)

    def _rdd_unpersisted(self, event: RddUnpersisted) -> None:
        self._blocks.unpersist(event.rdd)
        if self._turn.listening:
            self._announcer.unpersisted(event.rdd)

    def _shuffle_removed(self, event: ShuffleRemoved) -> None:
        self._lineage.remove_shuffle(event.shuffle)
        if self._turn.listening:
            self._announcer.shuffle_removed(event.shuffle)

    # ---------------------------------------------------------------------------------------- views

    def map_outputs(self, shuffle: int) -> tuple[int, Sequence[MapOutput | None]]:
        """The version of the shuffle's table and its map outputs, by partition; None where one is missing.
        Raises KeyError if no living shuffle has this number."""
        stage = self._lineage.shuffles[shuffle]
        return stage.version, stage.outputs.table()

    @property
    def attempts(self) -> int:
        """How many were launched so far: all have smaller numbers."""
        return self._dispatch.attempts

    def keeps(self, tid: int) -> bool:
        """Whether a report of this attempt's success is held back: its result may be taken later."""
        return tid in self._barriers.kept

    def shuffle_complete(self, shuffle: int) -> bool:
        stage = self._lineage.shuffles.get(shuffle)
        return stage is not None and stage.complete

    def job(self, job: int) -> Job | None:
        """A live job's record; to be looked at, and not to be kept for longer than the job lives."""
        return self._lineage.jobs.get(job)

    def jobs(self) -> list[JobView]:
        return [JobView.of(job) for job in self._lineage.jobs.values()]

    def stage(self, stage: int) -> StageView | None:
        found = self._lineage.stages.get(stage)
        return StageView.of(found) if found is not None else None

    def stages(self) -> list[StageView]:
        return [StageView.of(stage) for stage in self._lineage.stages.values()]

    def executors(self) -> list[ExecutorView]:
        return [ExecutorView.of(executor) for executor in self._fleet.executors.values()]


def _in_words(event: TaskFailed | FetchFailed) -> str:
    """What went wrong: of what comes from a worker, its story; the error itself is pickled."""
    if not event.story:
        return "" if event.error is None else str(event.error)
    kind, message, _ = event.story
    return f"{kind}: {message}" if message else kind
