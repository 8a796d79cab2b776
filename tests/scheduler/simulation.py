"""A cluster on a virtual clock, with everything going wrong that a random number generator can think of.

`Simulation` carries out the scheduler's commands as workers would, brings back reports late, twice, in
another order, or not at all, and judges every command against what it knows to be true.

Results carry their history.  The value of a task is a function of its stage, its partition and the values
that it read; an indeterminate task adds a *nonce*, fresh in every attempt.  So a job that mixed what was
read from two computations of an indeterminate output is found out: one partition has two nonces.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from asparkle.core.scheduler import (
    Accept,
    AnswerCommit,
    BarrierReached,
    BlocksChanged,
    CommitRequested,
    Determinism,
    DiscardResults,
    Emit,
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
    Recall,
    ReleaseBarrier,
    SchedulerConf,
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
from asparkle.testing.simulation import VirtualDriver

from .bench import with_policies
from .invariants import check, check_work_conserving, leftovers

Nonces = dict[tuple[int, int], int]  # (indeterminate stage, partition): which computation of it


@dataclass
class Chances:
    """How often what goes wrong (per attempt, report or step)."""

    fail: float = 0.0
    fatal: float = 0.0
    unpenalised: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0  # longest, seconds
    lose_file: float = 0.0
    straggle: float = 0.0
    forget: float = 0.0  # that it comes to fewer barriers than there are
    say_started: float = 0.5
    give_back: float = 0.0
    kill_executor: float = 0.0  # per step
    add_executor: float = 0.0
    cancel: float = 0.0


@dataclass(frozen=True)
class Value:
    text: int
    nonces: tuple[tuple[tuple[int, int], int], ...]
    mixed: bool  # it read two computations of one indeterminate partition


@dataclass
class Run:
    """An attempt as its executor sees it."""

    task: Task
    executor: Worker
    tables: dict[int, list[MapOutput | None]]
    peers: int
    spec: StageSpec
    commits: bool
    running: bool = False
    began: float = 0.0
    inputs: list[tuple[int, int, int]] | None = None
    read: list[Value] | None = None
    barriers: int = 0
    granted: bool = False


@dataclass
class Worker:
    name: str
    epoch: int
    host: str
    slots: int
    queue: deque[Run] = field(default_factory=deque)
    running: dict[int, Run] = field(default_factory=dict)
    alive: bool = True
    files: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass
class JobRecord:
    spec: JobSpec
    commits: bool
    taken: dict[int, TakeResult] = field(default_factory=dict)
    accepted: Counter[int] = field(default_factory=Counter)
    failure: JobFailure | None = None
    over: bool = False
    cancelled: bool = False


class Simulation(VirtualDriver):
    def __init__(
        self,
        rng: random.Random,
        conf: SchedulerConf | None = None,
        chances: Chances | None = None,
        *,
        listening: bool = False,
        deep: bool = True,
        seconds: float = 0.01,
    ) -> None:
        super().__init__(conf or SchedulerConf(), listening=listening)
        self.rng = rng
        self.chances = chances or Chances()
        self.deep = deep  # check the machine's inside after every event
        self.seconds = seconds
        self.emitted: list[Any] = []
        self.events = 0
        self.workers: dict[str, Worker] = {}
        self.epochs: Counter[str] = Counter()
        self.files: dict[tuple[int, int, int], Value] = {}  # (shuffle, map partition, tid)
        self.jobs: dict[int, JobRecord] = {}
        self.specs: dict[int, StageSpec] = {}
        self.by_shuffle: dict[int, StageSpec] = {}
        # what the scheduler has been told
        self.told_alive: dict[str, int] = {}
        self.slots: dict[tuple[str, int], int] = {}
        self.out: dict[int, tuple[str, int, Task]] = {}  # attempts launched, not reported on
        self.killed: set[int] = set()
        self.wanted: dict[tuple[int, int], set[int]] = {}  # those not killed, by stage and partition
        self.load: Counter[tuple[str, int]] = Counter()  # how many, by executor
        self._tables: dict[int, tuple[int, list[MapOutput | None]]] = {}
        self.tids: set[int] = set()
        self.numbers: dict[tuple[int, int], int] = {}
        self.accepted: Counter[tuple[int, int]] = Counter()
        self.commit_holder: dict[tuple[int, int], int] = {}
        self.penalties: Counter[tuple[int, int]] = Counter()
        self.fetch_failures: Counter[int] = Counter()
        self.successes: dict[int, Value] = {}
        self.nonce = 0
        self._oracle: dict[tuple[int, int], int] = {}

    # ---------------------------------------------------------------------------------- the outside

    def _waits(self) -> bool:
        deadline = self.scheduler.next_deadline()
        assert deadline is None or deadline <= self.now + 400 * 24 * 3600
        return any(not job.over for job in self.jobs.values())

    def run(self, steps: int = 200_000) -> None:
        super().run(steps)

    def tell(self, event: Any) -> None:
        """Hand an event to the scheduler, judge and carry out its commands."""
        self.events += 1
        self._note(event)
        super().tell(event)
        if self.deep:
            check(self.scheduler)
            check_work_conserving(self.scheduler)

    def report(self, worker: Worker, event: Any) -> None:
        """A worker says something: it may arrive late, and twice."""
        delay = self.chances.delay
        self.at(self.rng.random() * delay if delay else 0.0, lambda: self.tell(event))
        if self.rng.random() < self.chances.duplicate:
            self.at(self.rng.random() * delay * 3, lambda: self.tell(event))

    def _note(self, event: Any) -> None:
        """Keep our own book of what the scheduler has been told."""
        name = type(event).__name__
        if name == "ExecutorAdded" and self.told_alive.get(event.executor, -1) < event.epoch:
            self._note_lost(event.executor)
            self.told_alive[event.executor] = event.epoch
            self.slots[event.executor, event.epoch] = event.slots
        elif name == "ExecutorLost" and self.told_alive.get(event.executor, event.epoch + 1) <= event.epoch:
            self._note_lost(event.executor)
        elif name in ("TaskSucceeded", "TaskFailed", "FetchFailed"):
            self._note_ended(event.tid, event.executor, event.epoch, event)
        elif name == "TasksReturned":
            for tid in event.tids:
                self._note_ended(tid, event.executor, event.epoch, event)

    def _note_lost(self, name: str) -> None:
        epoch = self.told_alive.pop(name, None)
        for tid, (executor, its_epoch, task) in list(self.out.items()):
            if executor == name and its_epoch == epoch:
                self.penalties[task.stage, task.partition] += 1
                self._forget(tid)

    def _note_ended(self, tid: int, executor: str, epoch: int, event: Any) -> None:
        if tid not in self.out or self.out[tid][:2] != (executor, epoch):
            return
        task = self.out[tid][2]
        if type(event) is TaskFailed:
            self.penalties[task.stage, task.partition] += 1
        elif type(event) is FetchFailed:
            self.fetch_failures[task.stage] += 1
            self.penalties[task.stage, task.partition] += 1
        elif type(event) is TaskSucceeded:
            self.successes[tid] = event.result
        self._forget(tid)

    def _forget(self, tid: int) -> None:
        executor, epoch, task = self.out.pop(tid)
        self.killed.discard(tid)
        self.load[executor, epoch] -= 1
        self._unwant(task)
        if self.commit_holder.get((task.stage, task.partition)) == tid:
            del self.commit_holder[task.stage, task.partition]

    def _unwant(self, task: Task) -> None:
        tids = self.wanted.get((task.stage, task.partition), set())
        tids.discard(task.tid)
        if not tids:
            self.wanted.pop((task.stage, task.partition), None)

    # ------------------------------------------------------------------------------------- actions

    def add_executor(self, name: str | None = None, host: str | None = None, slots: int | None = None) -> Worker:
        name = name or f"e{self.rng.randrange(8)}"
        if name in self.workers:
            return self.workers[name]
        epoch = self.epochs[name]
        self.epochs[name] += 1
        worker = Worker(name, epoch, host or f"h{self.rng.randrange(3)}", slots or self.rng.choice([1, 1, 2, 3]))
        self.workers[name] = worker
        self.report(worker, ExecutorAdded(name, epoch, worker.host, worker.slots))
        return worker

    def kill_executor(self, name: str, *, blame: bool = True, survive: bool = True, told: bool = False) -> None:
        worker = self.workers.pop(name)
        worker.alive = False
        running = tuple(worker.running) if told else None
        if not survive:
            for key in worker.files:
                self.files.pop(key, None)
        self.report(worker, ExecutorLost(name, worker.epoch, "killed", blame, running, survive))

    def submit(self, spec: JobSpec, commits: bool = False) -> None:
        for stage in spec.stages:
            self.specs[stage.stage] = stage
            if stage.shuffle is not None:
                self.by_shuffle[stage.shuffle] = stage
        self.jobs[spec.job] = JobRecord(spec, commits)
        self.tell(JobSubmitted(spec))

    def cancel(self, **which: Any) -> None:
        for job in self.jobs.values():
            if (
                which.get("job") == job.spec.job
                or (which.get("group") is not None and which["group"] == job.spec.group)
                or which.get("tag") in job.spec.tags
                or any(which.get("stage") == stage.stage for stage in job.spec.stages)
                or not which
            ):
                job.cancelled = True
        self.tell(JobCancelled(**which))
        assert not which or which.get("job") is None or self.jobs[which["job"]].over

    def remove_shuffle(self, shuffle: int) -> None:
        stage = self.by_shuffle[shuffle].stage
        for key in [key for key in self.files if key[0] == shuffle]:
            del self.files[key]
        for key in [key for key in self.accepted if key[0] == stage]:
            del self.accepted[key]
        for numbers in [key for key in self.numbers if key[0] == stage]:
            del self.numbers[numbers]
        self.tell(ShuffleRemoved(shuffle))

    def fault(self) -> None:
        """At most one thing goes wrong with the cluster."""
        rng, chances = self.rng, self.chances
        if self.workers and rng.random() < chances.kill_executor:
            name = rng.choice(sorted(self.workers))
            flags = {key: rng.random() < 0.5 for key in ("blame", "survive", "told")}
            self.kill_executor(name, **flags)
        if rng.random() < chances.add_executor:
            self.add_executor()
        if self.files and rng.random() < chances.lose_file:
            self.files.pop(rng.choice(self.wanted_files() or sorted(self.files)))
        if rng.random() < chances.cancel:
            live = [number for number, job in self.jobs.items() if not job.over]
            if live:
                self._cancel_some(self.jobs[rng.choice(live)].spec)
        if self.workers and rng.random() < chances.give_back:
            worker = self.workers[rng.choice(sorted(self.workers))]
            if worker.queue:
                self.report(worker, TasksReturned(worker.name, worker.epoch, [worker.queue.pop().task.tid]))

    def wanted_files(self) -> list[tuple[int, int, int]]:
        """Those that a result stage at work reads."""
        stages = [job.spec.stages[-1] for job in self.jobs.values() if not job.over]
        shuffles = sorted({shuffle for stage in stages for shuffle in stage.parents})
        outputs = [(s, part, out) for s in shuffles for part, out in enumerate(self.scheduler.map_outputs(s)[1])]
        keys = [(shuffle, part, out.tid) for shuffle, part, out in outputs if out is not None]
        return [key for key in keys if key in self.files]

    def _cancel_some(self, spec: JobSpec) -> None:
        how = self.rng.randrange(4)
        if how == 1 and spec.group is not None:
            self.cancel(group=spec.group)
        elif how == 2 and spec.tags:
            self.cancel(tag=min(spec.tags))
        elif how == 3:
            self.cancel(stage=spec.stages[0].stage)
        else:
            self.cancel(job=spec.job)

    def calm(self) -> None:
        """Nothing goes wrong any more."""
        delay = self.chances.delay
        self.chances = Chances(delay=delay)

    # ------------------------------------------------------------------------------------- commands

    def _launch(self, command: Launch) -> None:
        executor, epoch = command.executor, command.epoch
        assert self.told_alive.get(executor) == epoch, "launched on an executor that is gone"
        spec = self.specs[command.stage]
        assert [shuffle for shuffle, _ in command.shuffles] == list(dict.fromkeys(spec.parents))
        tables: dict[int, list[MapOutput | None]] = {}
        for shuffle, version in command.shuffles:
            current, outputs = self.scheduler.map_outputs(shuffle)
            assert self.scheduler.shuffle_complete(shuffle) and current == version, "a parent is incomplete"
            if self._tables.get(shuffle, (-1,))[0] != version:
                self._tables[shuffle] = version, list(outputs)
            tables[shuffle] = self._tables[shuffle][1]
        assert any(not job.over and spec in job.spec.stages for job in self.jobs.values()), "works for no job"
        for task in command.tasks:
            self._launched(command, task, spec)
        slots = self.slots[executor, epoch]
        ahead = 0 if self.conf.prefetch_horizon == 0 or spec.barrier else 256
        assert self.load[executor, epoch] <= slots + ahead, "a slot is used twice"
        if spec.barrier:
            assert command.peers is not None and command.peers.count(executor) == len(command.tasks)
        commits = any(job.commits and job.spec.stages[-1] is spec for job in self.jobs.values())
        runs = [Run(task, None, tables, len(command.peers or ()), spec, commits) for task in command.tasks]  # type: ignore[arg-type]
        delay = self.rng.random() * self.chances.delay / 4 if self.chances.delay else 0.0
        self.at(delay, lambda: self._arrive(executor, epoch, runs))

    def _launched(self, command: Launch, task: Task, spec: StageSpec) -> None:
        assert task.tid not in self.tids, "a tid is used twice"
        self.tids.add(task.tid)
        key = task.stage, task.partition
        assert self.numbers.get(key, -1) < task.attempt, "an attempt number is used twice"
        self.numbers[key] = task.attempt
        self.out[task.tid] = (command.executor, command.epoch, task)
        self.load[command.executor, command.epoch] += 1
        wanted = self.wanted.setdefault(key, set())
        wanted.add(task.tid)
        assert len(wanted) <= (2 if self.conf.speculation and not spec.barrier else 1), "too many attempts at once"
        if len(wanted) == 2:
            assert len({self.out[tid][0] for tid in wanted}) == 2, "both copies on one executor"
        if spec.shuffle is None:
            (job,) = [job for job in self.jobs.values() if job.spec.stages[-1] is spec]
            assert task.partition in job.spec.partitions and task.partition not in job.taken
        else:
            assert self.scheduler.map_outputs(spec.shuffle)[1][task.partition] is None, "it is there already"

    def _known(self, command: Any) -> None:
        for tid in command.tids:
            assert tid in self.out and self.out[tid][:2] == (command.executor, command.epoch)
            assert tid not in self.killed

    def _kill(self, command: Kill) -> None:
        self._known(command)
        self.killed.update(command.tids)
        for tid in command.tids:
            self._unwant(self.out[tid][2])
        self.at(0.0, lambda: self._interrupt(command))

    def _recall(self, command: Recall) -> None:
        self._known(command)
        self.at(0.0, lambda: self._give_back(command))

    def _accept(self, command: Accept) -> None:
        self.accepted[command.stage, command.partition] += 1
        assert self.accepted[command.stage, command.partition] == 1, "an accumulator counts a partition twice"
        assert command.tid in self.successes and command.updates == ("updates", command.tid)

    def _takeresult(self, command: TakeResult) -> None:
        job = self.jobs[command.job]
        assert not job.over and command.partition in job.spec.partitions
        assert command.partition not in job.taken, "a result is taken twice"
        assert command.result is self.successes[command.tid]
        assert isinstance(command.result, Value)
        assert command.result.text == self.oracle(job.spec.stages[-1], command.partition), "a wrong result"
        job.taken[command.partition] = command

    def _discardresults(self, command: DiscardResults) -> None:
        job = self.jobs[command.job]
        assert not job.over and job.spec.can_redo_results and command.partitions
        assert set(command.partitions) == set(job.taken)
        job.taken.clear()

    def _finishjob(self, command: FinishJob) -> None:
        job = self.jobs[command.job]
        assert not job.over, "a job ends twice"
        job.over = True
        job.failure = command.failure
        if command.failure is None:
            assert set(job.taken) == set(job.spec.partitions), "a job succeeds without its results"
            self._judge_mixture(job)
        else:
            self._judge_failure(job, command.failure)

    def _judge_mixture(self, job: JobRecord) -> None:
        nonces: Nonces = {}
        for take in job.taken.values():
            assert isinstance(take.result, Value)
            assert not take.result.mixed, "one result mixes two computations of an indeterminate output"
            for key, nonce in take.result.nonces:
                assert nonces.setdefault(key, nonce) == nonce, "two results rest on different computations"

    def _judge_failure(self, job: JobRecord, failure: JobFailure) -> None:
        kind = failure.kind
        if kind is FailureKind.CANCELLED:
            assert job.cancelled
        elif kind is FailureKind.TASK:
            assert failure.stage is not None and failure.partition is not None
            count = self.penalties[failure.stage, failure.partition]
            barrier = self.specs[failure.stage].barrier
            assert failure.error == "fatal" or barrier or count >= self.conf.max_failures, "given up too soon"
        elif kind is FailureKind.FETCH:
            assert failure.stage is not None
            assert self.fetch_failures[failure.stage] >= self.conf.max_stage_attempts
        elif kind is FailureKind.INDETERMINATE:
            assert not job.spec.can_redo_results
            assert any(stage.determinism is Determinism.INDETERMINATE for stage in job.spec.stages)
        elif kind is FailureKind.EXCLUDED:
            assert self.conf.exclude
        elif kind is FailureKind.BARRIER:
            assert any(stage.barrier for stage in job.spec.stages)
        assert failure.stage is None or any(failure.stage == stage.stage for stage in job.spec.stages)

    def _answercommit(self, command: AnswerCommit) -> None:
        known = command.tid in self.out and self.out[command.tid][:2] == (command.executor, command.epoch)
        if command.granted:
            assert known and command.tid not in self.killed, "a stale attempt may commit"
            task = self.out[command.tid][2]
            holder = self.commit_holder.setdefault((task.stage, task.partition), command.tid)
            assert holder == command.tid, "two attempts may commit at once"
        self.at(0.0, lambda: self._committed(command))

    def _releasebarrier(self, command: ReleaseBarrier) -> None:
        assert command.tid in self.out and command.tid not in self.killed
        self.at(0.0, lambda: self._released(command))

    def _stagedone(self, command: StageDone) -> None:
        assert command.stage in self.specs

    def _emit(self, command: Emit) -> None:
        self.emitted.append(command.event)

    # -------------------------------------------------------------------------------------- workers

    def _worker(self, name: str, epoch: int) -> Worker | None:
        worker = self.workers.get(name)
        return worker if worker is not None and worker.epoch == epoch else None

    def _arrive(self, name: str, epoch: int, runs: list[Run]) -> None:
        worker = self._worker(name, epoch)
        if worker is None:
            return
        for run in runs:
            run.executor = worker
            worker.queue.append(run)
        self._start(worker)

    def _start(self, worker: Worker) -> None:
        while worker.queue and len(worker.running) < worker.slots:
            run = worker.queue.popleft()
            run.running = True
            run.began = self.now
            worker.running[run.task.tid] = run
            if self.rng.random() < self.chances.say_started:
                self.report(worker, TaskStarted(worker.name, worker.epoch, run.task.tid))
            seconds = self.seconds * (0.5 + self.rng.random())
            if self.rng.random() < self.chances.straggle:
                seconds *= 20
            if self.rng.random() < 0.5:
                run.read = self._read(run)
            if run.spec.barrier:
                run.barriers = self.rng.randrange(3) if self.rng.random() < self.chances.forget else 2
            self.at(seconds, lambda run=run: self._work(run))  # type: ignore[misc]

    def _runs(self, run: Run) -> bool:
        worker = run.executor
        return worker.alive and run.task.tid in worker.running

    def _read(self, run: Run) -> list[Value]:
        """Read the inputs; stops at the first that is not there, and remembers it."""
        values: list[Value] = []
        for shuffle, outputs in run.tables.items():
            for partition, output in enumerate(outputs):
                assert output is not None
                value = self.files.get((shuffle, partition, output.tid))
                if value is None:
                    run.inputs = [(shuffle, partition, output.tid)]
                    return values
                values.append(value)
        return values

    def _others_gone(self, run: Run, shuffle: int, known: int) -> list[tuple[int, int]]:
        outputs = enumerate(run.tables[shuffle])
        return [(p, o.tid) for p, o in outputs if p != known and (shuffle, p, o.tid) not in self.files]

    def _work(self, run: Run) -> None:
        """The attempt has computed for a while."""
        if not self._runs(run):
            return
        rng, chances, worker, tid = self.rng, self.chances, run.executor, run.task.tid
        where = (worker.name, worker.epoch, tid)
        if rng.random() < chances.fatal:
            return self._end(run, TaskFailed(*where, "fatal", fatal=True))
        if rng.random() < chances.fail:
            return self._end(run, TaskFailed(*where, "failed"))
        if rng.random() < chances.unpenalised:
            return self._end(run, TaskFailed(*where, "no fault of its", penalised=False))
        if run.read is None:
            run.read = self._read(run)
        if run.inputs:
            shuffle, partition, map_tid = run.inputs[0]
            others = self._others_gone(run, shuffle, partition) if rng.random() < 0.5 else []
            return self._end(run, FetchFailed(*where, shuffle, partition, map_tid, "no such file", others))
        self._go_on(run)

    def _go_on(self, run: Run, round: int = 0) -> None:
        worker = run.executor
        where = (worker.name, worker.epoch, run.task.tid)
        if run.spec.barrier and round < run.barriers:
            self.report(worker, BarrierReached(*where, round, f"{run.task.partition}"))
        elif run.commits and not run.granted:
            self.report(worker, CommitRequested(*where))
        else:
            self._succeed(run)

    def _released(self, command: ReleaseBarrier) -> None:
        worker = self._worker(command.executor, command.epoch)
        run = worker.running.get(command.tid) if worker is not None else None
        if run is not None:
            assert len(command.messages) == run.peers
            assert command.messages[0] == min(command.messages, key=int)
            self._go_on(run, command.round + 1)

    def _committed(self, command: AnswerCommit) -> None:
        worker = self._worker(command.executor, command.epoch)
        run = worker.running.get(command.tid) if worker is not None else None
        if run is None or run.granted:
            return
        if command.granted:
            run.granted = True
            if self.rng.random() < self.chances.fail:
                self._end(run, TaskFailed(command.executor, command.epoch, command.tid, "while committing"))
            else:
                self._succeed(run)
        else:
            self._end(run, TaskFailed(command.executor, command.epoch, command.tid, "denied", penalised=False))

    def _succeed(self, run: Run) -> None:
        worker, task = run.executor, run.task
        value = self._value(run)
        if run.spec.shuffle is not None:
            key = (run.spec.shuffle, task.partition, task.tid)
            self.files[key] = value
            worker.files.append(key)
        sizes = [self.rng.randrange(10) for _ in range(2)]
        seconds = self.now - run.began
        report = TaskSucceeded(worker.name, worker.epoch, task.tid, seconds, value, ("updates", task.tid), sizes)
        self._end(run, report)
        if self.rng.random() < 0.1:
            scope = self.rng.choice(["worker", "host", "shared"])
            self.report(worker, BlocksChanged(worker.name, worker.epoch, [(task.stage, task.partition)], (), scope))

    def _value(self, run: Run) -> Value:
        assert run.read is not None
        nonces: Nonces = {}
        mixed = False
        for value in run.read:
            mixed = mixed or value.mixed
            for key, nonce in value.nonces:
                mixed = nonces.setdefault(key, nonce) != nonce or mixed
        task = run.task
        if run.spec.determinism is Determinism.INDETERMINATE and run.spec.shuffle is not None:
            self.nonce += 1
            nonces[task.stage, task.partition] = self.nonce
        text = hash((task.stage, task.partition, tuple(value.text for value in run.read)))
        return Value(text, tuple(sorted(nonces.items())), mixed)

    def oracle(self, spec: StageSpec, partition: int) -> int:
        """The value where nothing goes wrong."""
        key = (spec.stage, partition)
        if key in self._oracle:
            return self._oracle[key]
        inputs: list[int] = []
        for shuffle in dict.fromkeys(spec.parents):
            parent = self.by_shuffle[shuffle]
            inputs.extend(self.oracle(parent, other) for other in range(parent.tasks))
        self._oracle[key] = value = hash((spec.stage, partition, tuple(inputs)))
        return value

    def _end(self, run: Run, report: Any) -> None:
        worker = run.executor
        del worker.running[run.task.tid]
        self.report(worker, report)
        self._start(worker)

    def _interrupt(self, command: Kill) -> None:
        worker = self._worker(command.executor, command.epoch)
        if worker is None:
            return
        for tid in command.tids:
            run = worker.running.get(tid)
            if run is None:
                self._unqueue(worker, tid)
            elif run.spec.barrier or run.granted or self.rng.random() < 0.7:
                self._end(run, TaskFailed(worker.name, worker.epoch, tid, "killed", killed=True))

    def _unqueue(self, worker: Worker, tid: int) -> None:
        waiting = [run for run in worker.queue if run.task.tid == tid]
        if not waiting:
            if tid in self.out:  # it has not arrived yet, or its report has not
                self.at(0.001, lambda: self._interrupt(Kill(worker.name, worker.epoch, [tid], "")))
            return
        worker.queue.remove(waiting[0])
        if self.rng.random() < 0.5:
            self.report(worker, TasksReturned(worker.name, worker.epoch, [tid]))
        else:
            self.report(worker, TaskFailed(worker.name, worker.epoch, tid, "killed", killed=True))

    def _give_back(self, command: Recall) -> None:
        worker = self._worker(command.executor, command.epoch)
        if worker is None:
            return
        back = [run for run in worker.queue if run.task.tid in command.tids]
        for run in back:
            worker.queue.remove(run)
        if back:
            self.report(worker, TasksReturned(worker.name, worker.epoch, [run.task.tid for run in back]))

    # -------------------------------------------------------------------------------------- the end

    def finish(self) -> None:
        """No more faults, and executors enough: every job ends, and nothing is left."""
        self.calm()
        for number in range(4):
            if f"e{number}" not in self.workers:
                self.add_executor(f"e{number}", f"h{number % 3}", 2)
        self.run()
        stuck = [job.spec for job in self.jobs.values() if not job.over]
        assert not stuck, f"jobs that never end: {stuck} {self.scheduler.stages()} {self.scheduler.executors()}"
        assert not self.out, f"attempts never answered: {self.out}"
        assert leftovers(self.scheduler) == []
        check(self.scheduler)
        for shuffle in list(self.by_shuffle):
            self.remove_shuffle(shuffle)
        assert not self.scheduler.stages()
        assert not any(executor.wrote for executor in self.scheduler._fleet.executors.values())


# ------------------------------------------------------------------------------------- random work


class Workload:
    """Random jobs over a common stock of shuffles."""

    def __init__(self, rng: random.Random, *, barriers: float = 0.1, shaky: float = 0.2, tasks: int = 5) -> None:
        self.rng = rng
        self.barriers = barriers  # chances that a stage is one
        self.shaky = shaky  # that it is indeterminate by its own doing
        self.tasks = tasks  # at most
        self.stock: list[StageSpec] = []
        self.stages = 0
        self.jobs = 0

    def stage(self, shuffle: bool) -> StageSpec:
        rng = self.rng
        number = self.stages
        self.stages += 1
        parents = rng.sample(self.stock, min(len(self.stock), rng.choice([0, 1, 1, 2])))
        level = max([parent.determinism for parent in parents], default=Determinism.DETERMINATE)
        if rng.random() < self.shaky:
            level = Determinism.INDETERMINATE
        elif rng.random() < 0.2:
            level = rng.choice([Determinism.DETERMINATE, Determinism.UNORDERED])  # it sorts, say
        tasks = rng.randrange(1, self.tasks + 1)
        barrier = rng.random() < self.barriers
        if barrier:
            tasks = min(tasks, 3)
        hosts = [[f"h{rng.randrange(5)}"] for _ in range(tasks)] if rng.random() < 0.3 else None
        blocks = [[(rng.randrange(6), part)] for part in range(tasks)] if rng.random() < 0.3 else None
        return StageSpec(
            number,
            tasks,
            tuple(parent.shuffle for parent in parents if parent.shuffle is not None),
            number if shuffle else None,
            level,
            barrier,
            hosts,
            blocks,
            f"stage {number}",
        )

    def job(self) -> JobSpec:
        rng = self.rng
        for _ in range(rng.randrange(3)):
            self.stock.append(self.stage(shuffle=True))
        result = self.stage(shuffle=False)
        wanted = list(range(result.tasks))
        if rng.random() < 0.2 and not result.barrier:
            wanted = rng.sample(wanted, rng.randrange(0, len(wanted)) or 1)
        self.jobs += 1
        return JobSpec(
            self.jobs,
            (*self.ancestors(result), result),
            wanted,
            rng.choice(["default", "a", "b"]),
            rng.choice([None, "g1", "g2"]),
            frozenset(rng.sample(["t1", "t2"], rng.randrange(3))),
            rng.random() < 0.6,
            f"job {self.jobs}",
        )

    def ancestors(self, stage: StageSpec) -> list[StageSpec]:
        needed: set[int] = set()
        work = list(stage.parents)
        by_shuffle = {spec.shuffle: spec for spec in self.stock}
        while work:
            shuffle = work.pop()
            if shuffle not in needed:
                needed.add(shuffle)
                work.extend(by_shuffle[shuffle].parents)
        return [spec for spec in self.stock if spec.shuffle in needed]


def random_conf(rng: random.Random, **fixed: Any) -> SchedulerConf:
    settings: dict[str, Any] = {
        "max_failures": rng.choice([1, 2, 4, 4]),
        "policy": rng.choice(["FIFO", "FAIR"]),
        "pools": {"a": ("FAIR", 2, 1), "b": ("FIFO", 1, 0)},
        "locality_wait": rng.choice([0.0, 0.05, 3.0]),
        "prefetch_horizon": rng.choice([0.0, 0.005, 0.05]),
        "speculation": rng.random() < 0.4,
        "speculation_quantile": 0.5,
        "speculation_multiplier": 1.5,
        "speculation_min_runtime": 0.01,
        "exclude": rng.random() < 0.3,
        "exclude_timeout": rng.choice([0.1, 3600.0]),
        "exclude_stage_executor": rng.choice([2, 4]),
        "exclude_application_executor": rng.choice([1, 2]),
        "exclude_application_node": rng.choice([1, 2]),
    }
    return with_policies(**{**settings, **fixed})


def random_chances(rng: random.Random, storm: float = 1.0) -> Chances:
    def some(most: float) -> float:
        return rng.choice([0.0, most * rng.random()])

    return Chances(
        fail=some(0.2),
        fatal=some(0.02),
        unpenalised=some(0.2),
        duplicate=some(0.5),
        delay=some(0.05),
        lose_file=some(0.05 * storm),
        straggle=some(0.3),
        forget=some(0.1),
        say_started=rng.random(),
        give_back=some(0.1),
        kill_executor=some(0.03 * storm),
        add_executor=some(0.1 * storm),
        cancel=some(0.01),
    )


def random_run(rng: random.Random, jobs: int = 6, conf: SchedulerConf | None = None, **options: Any) -> Simulation:
    """Some jobs on some executors through all kinds of trouble, judged at every step."""
    sim = Simulation(rng, conf or random_conf(rng), random_chances(rng), **options)
    return drive(sim, Workload(rng), rng.randrange(1, jobs + 1))


def stormy_run(rng: random.Random, jobs: int = 3, **options: Any) -> Simulation:
    """As `random_run`: many tasks, much that is indeterminate, and much that is lost."""
    conf = random_conf(rng, max_failures=8, max_stage_attempts=8, exclude=rng.random() < 0.1)
    chances = random_chances(rng, storm=4.0)
    chances.fail /= 4
    chances.cancel /= 2
    sim = Simulation(rng, conf, chances, **options)
    return drive(sim, Workload(rng, barriers=0.05, shaky=0.5, tasks=16), rng.randrange(1, jobs + 1))


def drive(sim: Simulation, work: Workload, jobs: int) -> Simulation:
    rng = sim.rng
    for _ in range(rng.randrange(1, 6)):
        sim.add_executor()
    for _ in range(jobs):
        sim.submit(work.job(), commits=rng.random() < 0.3)
        for _ in range(rng.randrange(40)):
            sim.fault()
            sim.step()
    for _ in range(rng.randrange(200)):
        sim.fault()
        sim.step()
    sim.finish()
    return sim
