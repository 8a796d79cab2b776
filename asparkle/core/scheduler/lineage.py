"""Jobs and their stages: what has to be computed, what is complete, what is lost and what rests on it.

A stage is computed because somebody *demands* it: a job its result stage, a stage that is not complete its
incomplete parents.  ``_demands`` is the queue of stages to look at; ``settle`` empties it, so that one
event's consequences are worked off without recursion, in order, before anything is launched.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from asparkle.core.scheduler.announcer import Announcer
from asparkle.core.scheduler.blocks import Blocks
from asparkle.core.scheduler.dispatch import Dispatch
from asparkle.core.scheduler.messages import (
    Accept,
    Determinism,
    DiscardResults,
    FailureKind,
    FinishJob,
    JobFailure,
    JobSpec,
    StageDone,
    StageSpec,
    TakeResult,
    TaskSucceeded,
)
from asparkle.core.scheduler.pools import Pools
from asparkle.core.scheduler.records import ACTIVE, IDLE, SETTLED, WAITING, Attempt, Executor, Job, Outputs, Stage
from asparkle.core.scheduler.tasksets import DONE, LIVE, TaskSet
from asparkle.core.scheduler.turn import Turn


class Lineage:
    def __init__(self, turn: Turn, dispatch: Dispatch, pools: Pools, blocks: Blocks, announcer: Announcer) -> None:
        self._turn = turn
        self._dispatch = dispatch
        self._pools = pools
        self._blocks = blocks
        self._announcer = announcer
        self.jobs: dict[int, Job] = {}
        self.stages: dict[int, Stage] = {}
        self.shuffles: dict[int, Stage] = {}
        self.groups: dict[str, dict[int, Job]] = {}
        self.tags: dict[str, dict[int, Job]] = {}
        self.demands: deque[Stage] = deque()
        self._submitted = 0
        self._first_version = 0  # of new map output tables: a shuffle that comes back has none twice
        self.starting: Callable[[TaskSet], None]  # set by the machine: equips a new task set
        self.ended: Callable[[TaskSet, bool], None]  # and this undoes it; whether the stage is complete

    # --------------------------------------------------------------------------------------- jobs

    def submit(self, spec: JobSpec) -> None:
        if spec.job in self.jobs:
            return
        self._check(spec)
        job = Job(spec, self._submitted)
        self._submitted += 1
        self.jobs[job.id] = job
        for stage_spec in spec.stages:
            stage = self._adopt(stage_spec, job)
            job.stages.append(stage)
            stage.jobs[job.id] = job
        job.result = job.stages[-1]
        for key, table in self._indexes(job):
            table.setdefault(key, {})[job.id] = job
        if self._turn.listening:
            self._announcer.job_started(job)
        if job.left:
            self.demands.append(job.result)
        else:
            self.finish(job, None)

    def _check(self, spec: JobSpec) -> None:
        """Parents first; or the machine would be left with half a job."""
        before: set[int] = set()
        for stage in spec.stages:
            for shuffle in stage.parents:
                if shuffle not in before and shuffle not in self.shuffles:
                    raise ValueError(f"job {spec.job}: stage {stage.stage} reads shuffle {shuffle}: nobody writes it")
            if stage.shuffle is not None:
                before.add(stage.shuffle)

    def _adopt(self, spec: StageSpec, job: Job) -> Stage:
        """The stage's record: its shuffle's, if it is known, with the newer spec."""
        stage = self.shuffles.get(spec.shuffle) if spec.shuffle is not None else None
        if stage is None:
            wanted = spec.tasks if spec.shuffle is not None else len(job.wanted)
            stage = self.stages[spec.stage] = Stage(spec, self._first_version, wanted)
            if spec.shuffle is not None:
                self.shuffles[spec.shuffle] = stage
        stage.open = True
        stage.removed = False
        stage.spec = spec
        parents = tuple(dict.fromkeys(self.shuffles[shuffle] for shuffle in spec.parents))
        if parents != stage.parents:
            self._unlink(stage)
            stage.parents = parents
        for parent in parents:
            parent.children[stage] = None
        return stage

    def _indexes(self, job: Job) -> list[tuple[str, dict[str, dict[int, Job]]]]:
        groups = [(job.spec.group, self.groups)] if job.spec.group is not None else []
        return [*groups, *((tag, self.tags) for tag in job.spec.tags)]

    def finish(self, job: Job, failure: JobFailure | None) -> None:
        """The job is over.  Its stages go on only where another live job needs them now."""
        if self.jobs.pop(job.id, None) is None:
            return
        for key, table in self._indexes(job):
            del table[key][job.id]
            if not table[key]:
                del table[key]
        self._turn.out.append(FinishJob(job.id, failure))
        for stage in job.stages:
            del stage.jobs[job.id]
        needed: dict[Job, set[Stage]] = {}
        reason = f"job {job.id} is over" if failure is None else failure.reason
        for stage in reversed(job.stages):
            complete = failure is None and stage is job.result  # another one was computed for nothing
            self._release(stage, needed, reason, "" if complete else reason)
        if self._turn.listening:
            self._announcer.job_ended(job, failure)

    def _release(self, stage: Stage, needed: dict[Job, set[Stage]], reason: str, error: str) -> None:
        """A job that had the stage is over."""
        if stage.state != IDLE:
            heir = next((job for job in stage.jobs.values() if stage in self._needed(job, needed)), None)
            if heir is None:
                self._end_tasks(stage, reason, error)
            elif stage.tasks is not None:
                ready = stage.tasks.ready
                self._pools.leave(stage.tasks)
                self._pools.join(stage.tasks, heir.spec, heir.seq)
                if ready:
                    self._pools.ready(stage.tasks)
        if stage.jobs:
            return
        self._done(stage)
        if stage.spec.shuffle is None or stage.removed:
            self._forget(stage)

    def _needed(self, job: Job, cache: dict[Job, set[Stage]]) -> set[Stage]:
        """The stages without which the job can't end."""
        if job not in cache:
            needed = cache[job] = {job.result}
            work = [job.result]
            while work:
                for parent in work.pop().parents:
                    if not parent.complete and parent not in needed:
                        needed.add(parent)
                        work.append(parent)
        return cache[job]

    def cancel(self, job: Job, reason: str) -> None:
        self.finish(job, JobFailure(FailureKind.CANCELLED, reason or f"job {job.id} was cancelled"))

    def fail(self, stage: Stage, failure: JobFailure) -> None:
        """The stage can't be computed: the jobs that need it fail, not those that merely know it."""
        for job in [job for job in stage.jobs.values() if stage in self._needed(job, {})]:
            self.finish(job, failure)
        if stage.state != IDLE:
            self._end_tasks(stage, failure.reason, failure.reason)

    # ------------------------------------------------------------------------- demand and supply

    def settle(self) -> None:
        """Start, or let wait, every stage that somebody has come to need."""
        demands = self.demands
        while demands:
            stage = demands.popleft()
            if stage.state == IDLE and not self._satisfied(stage):
                self._demand(stage)

    def _satisfied(self, stage: Stage) -> bool:
        """Nobody waits for anything of the stage."""
        if stage.spec.shuffle is None:
            return not stage.jobs
        return stage.complete or not any(child.state != IDLE for child in stage.children)

    def _demand(self, stage: Stage) -> None:
        if stage.missing < len(stage.outputs) or stage.readers:
            self._recompute(stage)
            if self._satisfied(stage):
                return  # results could not be taken back: who needed it has failed
        stage.state = WAITING
        stage.open = True
        self._rewire(stage)

    def _rewire(self, stage: Stage) -> None:
        """Count the parents that a waiting stage waits for; start it if there is none."""
        stage.blocked = 0
        for parent in stage.parents:
            if not parent.complete:
                stage.blocked += 1
                self.demands.append(parent)
        if not stage.blocked:
            self._start(stage)

    def _start(self, stage: Stage) -> None:
        stage.state = ACTIVE
        tasks = stage.tasks
        if tasks is not None and self._turn.listening:
            self._announcer.stage_completed(stage, "outputs that it reads were lost")
        stage.attempt += 1
        if tasks is None:
            tasks = stage.tasks = TaskSet(stage, self._uncomputed(stage))
            owner = next(iter(stage.jobs.values()))
            self._pools.join(tasks, owner.spec, owner.seq)
            places = self._blocks.finder(stage)
            if places is not None:
                tasks.place_all(places)
            self.starting(tasks)
        tasks.shuffles = tuple((parent.spec.shuffle or 0, parent.version) for parent in stage.parents)
        if self._turn.listening:
            self._announcer.stage_submitted(stage, tasks)
        self._dispatch.enter(tasks)

    def again(self, tasks: TaskSet, reason: str) -> None:
        """An attempt at a stage is over, and all its tasks are to run in another one."""
        stage = tasks.stage
        if self._turn.listening:
            self._announcer.stage_completed(stage, reason)
        stage.attempt += 1
        if self._turn.listening:
            self._announcer.stage_submitted(stage, tasks)

    def _uncomputed(self, stage: Stage) -> Sequence[int]:
        if stage.spec.shuffle is None:
            (job,) = stage.jobs.values()
            return job.wanted
        if stage.missing == stage.size:
            return range(stage.size)
        return [partition for partition, writer in enumerate(stage.outputs.writers) if writer is None]

    def _complete(self, stage: Stage) -> None:
        """All outputs of a shuffle's stage are there."""
        stage.fetch_failed.clear()
        self._end_tasks(stage, "its stage is complete", "")
        for child in stage.children:
            if child.state == WAITING:
                child.blocked -= 1
                if not child.blocked:
                    self._start(child)

    def _end_tasks(self, stage: Stage, reason: str, error: str) -> None:
        stage.state = IDLE
        tasks = stage.tasks
        if tasks is not None:
            self.kill_all(tasks, reason)
            self._dispatch.drop(tasks)
            self.ended(tasks, not error)
            stage.tasks = None
            if self._turn.listening:
                self._announcer.stage_completed(stage, error)
        self._done(stage)

    def _done(self, stage: Stage) -> None:
        if stage.open:
            stage.open = False
            self._turn.out.append(StageDone(stage.id))

    # ------------------------------------------------------------------------------------ success

    def succeeded(self, attempt: Attempt, report: TaskSucceeded) -> None:
        """A wanted attempt's output, or a late one's that is still good and welcome."""
        stage = attempt.stage
        tasks = stage.tasks
        partition = attempt.partition
        if not attempt.wanted:
            if tasks is None or attempt.generation != stage.generation or tasks.gathering is not None:
                return
            if not tasks.withdraw(partition) and tasks.status[partition] != LIVE:
                return
            self._dispatch.rank(tasks)
        assert tasks is not None
        if stage.fetch_failed:
            self._read_well(stage)
        other = tasks.live.pop(partition, None)
        if other is not None and (other is not attempt or other.twin is not None):
            self._kill_copies(other, attempt)
        self.record(tasks, attempt, report)

    def _read_well(self, stage: Stage) -> None:
        """What succeeds after a fetch failure ends the series of failures; but not if it may be rolled
        back, or the same bad output could fail the stage for ever."""
        if all(parent.spec.determinism != Determinism.INDETERMINATE for parent in stage.parents):
            stage.fetch_failed.clear()

    def _kill_copies(self, other: Attempt, winner: Attempt) -> None:
        copies = (other, other.twin)
        for copy in copies:
            if copy is not None and copy is not winner:
                self.kill(copy, "another attempt was quicker")

    def record(self, tasks: TaskSet, attempt: Attempt, report: TaskSucceeded) -> None:
        stage = attempt.stage
        partition = attempt.partition
        tasks.status[partition] = DONE
        tasks.left -= 1
        out = self._turn.out
        if not stage.accepted[partition]:
            stage.accepted[partition] = 1
            out.append(Accept(stage.id, partition, report.tid, report.updates))
        if stage.spec.shuffle is not None:
            self._register(stage, attempt, report)
            return
        (job,) = stage.jobs.values()
        out.append(TakeResult(job.id, partition, report.tid, report.result))
        job.left -= 1
        if not job.left:
            self.finish(job, None)

    def _register(self, stage: Stage, attempt: Attempt, report: TaskSucceeded) -> None:
        executor = attempt.executor
        partition = attempt.partition
        stage.outputs.put(partition, executor, report)
        written = stage.written.get(executor)
        if written is None:
            written = stage.written[executor] = array("q")
            executor.wrote[stage] = None
        written.append(partition)
        stage.version += 1
        stage.missing -= 1
        if not stage.missing:
            self._complete(stage)

    # --------------------------------------------------------------------------------------- loss

    def lose(self, stage: Stage, partitions: Iterable[int]) -> None:
        """These map outputs can't be read any more."""
        was_complete = stage.complete
        for partition in partitions:
            stage.outputs.drop(partition)
            stage.missing += 1
            stage.version += 1
            if stage.tasks is not None:
                stage.tasks.left += 1
                self._dispatch.requeue(stage.tasks, partition)
        if was_complete and stage.missing:
            self._withdrawn(stage)

    def _withdrawn(self, stage: Stage) -> None:
        """The stage was complete and is not: what reads it waits, and demands it."""
        self.demands.append(stage)
        for child in stage.children:
            if child.state == ACTIVE:
                child.state = WAITING
                child.blocked = 1
                assert child.tasks is not None
                self._dispatch.pause(child.tasks)
            elif child.state == WAITING:
                child.blocked += 1

    def lose_written(self, executor: Executor, stage: Stage) -> None:
        """All that the executor wrote of this shuffle."""
        written = stage.written.pop(executor, ())
        executor.wrote.pop(stage, None)
        self.lose(stage, [part for part in dict.fromkeys(written) if stage.outputs.writers[part] is executor])

    def remove_shuffle(self, shuffle: int) -> None:
        stage = self.shuffles.get(shuffle)
        if stage is None:
            return
        stage.removed = True
        self._clear_outputs(stage)
        if not stage.jobs:
            self._forget(stage)

    def _clear_outputs(self, stage: Stage) -> None:
        was_complete = stage.complete
        stage.outputs = Outputs(len(stage.outputs))
        stage.missing = len(stage.outputs)
        stage.version += 1
        for executor in stage.written:
            executor.wrote.pop(stage, None)
        stage.written.clear()
        if was_complete and stage.missing:
            self._withdrawn(stage)

    def _forget(self, stage: Stage) -> None:
        self._unlink(stage)
        self.stages.pop(stage.id, None)
        for executor in stage.written:
            executor.wrote.pop(stage, None)
        if stage.spec.shuffle is not None:
            self.shuffles.pop(stage.spec.shuffle, None)
            self._first_version = max(self._first_version, stage.version + 1)

    def _unlink(self, stage: Stage) -> None:
        for parent in stage.parents:
            parent.children.pop(stage, None)
            parent.readers.pop(stage, None)

    # ----------------------------------------------------------------------------------- rollback

    def _recompute(self, stage: Stage) -> None:
        """Outputs of the stage are about to be computed a second time.

        An indeterminate stage may put other records into them.  If nothing was launched on the old ones
        that is no matter.  Otherwise all its outputs are computed anew, and all that was launched on the
        old ones, and on what came out of that, starts again."""
        if stage.spec.determinism == Determinism.INDETERMINATE and stage.readers:
            self._roll_back(stage)
        elif stage.spec.barrier and stage.missing:
            self._clear_outputs(stage)  # its tasks run all together or not at all

    def _roll_back(self, stage: Stage) -> None:
        reason = f"stage {stage.id} ({stage.spec.name}) has indeterminate output, of which a part was lost"
        seen = {stage: None}
        work = deque([stage])
        while work:
            current = work.popleft()
            for reader in current.readers:
                if reader not in seen:
                    seen[reader] = None
                    work.append(reader)
            current.readers.clear()
        for current in seen:
            self._void(current, reason)
        for current in seen:
            if current.state == WAITING:
                self._rewire(current)

    def _void(self, stage: Stage, reason: str) -> None:
        """All that the stage has computed, and is computing, comes to nothing."""
        tasks = stage.tasks
        stage.generation += 1
        if tasks is not None:
            self.kill_all(tasks, reason)
            self._dispatch.drop(tasks)
            self.ended(tasks, False)
            stage.tasks = None
            stage.state = WAITING
            if self._turn.listening:
                self._announcer.stage_completed(stage, reason)
        if stage.spec.shuffle is not None:
            self._clear_outputs(stage)
        elif tasks is not None:
            self._take_back(stage, tasks, reason)

    def _take_back(self, stage: Stage, tasks: TaskSet, reason: str) -> None:
        (job,) = stage.jobs.values()
        taken = tuple(partition for partition in job.wanted if tasks.status[partition] == DONE)
        if (taken or stage.commits) and not job.spec.can_redo_results:
            self.finish(job, self.failure(FailureKind.INDETERMINATE, reason, stage))
        elif taken:
            job.left = len(job.wanted)
            self._turn.out.append(DiscardResults(job.id, taken))

    # --------------------------------------------------------------------------------------- kill

    def kill(self, attempt: Attempt, reason: str) -> None:
        """It is not wanted any more.  Its slot stays occupied until its executor answers or is lost."""
        if not attempt.wanted:
            return
        if attempt.state == SETTLED:
            attempt.wanted = False
            return
        self._dispatch.fleet.unwant(attempt)
        self._turn.kill(attempt, reason)

    def kill_all(self, tasks: TaskSet, reason: str) -> None:
        for attempt in tasks.live.values():
            if attempt.twin is not None:
                self.kill(attempt.twin, reason)
            self.kill(attempt, reason)
        tasks.live.clear()

    def failure(
        self,
        kind: FailureKind,
        reason: str,
        stage: Stage,
        attempt: Attempt | None = None,
        error: object = None,
    ) -> JobFailure:
        if attempt is None:
            return JobFailure(kind, reason, error, stage.id, stage.spec.name)
        where = attempt.executor
        return JobFailure(
            kind,
            reason,
            error,
            stage.id,
            stage.spec.name,
            attempt.partition,
            attempt.number,
            where.name,
            where.host.name,
        )
