"""A cluster on a virtual clock: asparkle's real scheduler, executors that only pretend, and no waiting.

    cluster = SimulatedCluster(executors=10, seconds=lambda attempt: 60.0)
    job = cluster.submit(100, 10)       # two stages: 100 tasks, whose output 10 tasks read
    cluster.at(90.0, lambda: cluster.lose("e3"))
    cluster.run()
    job.seconds, cluster.attempts, cluster.events

Hours of a thousand executors take seconds, and the same calls give the same history.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from asparkle.core import scheduler as s
from asparkle.core.errors import ArgumentError


class VirtualDriver:
    """Feeds the scheduler what happens, in the order of a virtual clock, and hands its commands to methods that are
    named for them (``_launch``, ``_kill``, ...)."""

    def __init__(self, conf: s.SchedulerConf, *, listening: bool) -> None:
        self.conf = conf
        self.scheduler = s.Scheduler(conf, listening=listening)
        self.now = 0.0
        self.history: list[tuple[float, Any]] = []
        """Every command of the scheduler, and when."""
        self._future: list[tuple[float, int, Callable[[], object]]] = []
        self._n = 0

    def at(self, delay: float, action: Callable[[], object]) -> None:
        """Do something ``delay`` seconds from now."""
        self._n += 1
        heapq.heappush(self._future, (self.now + delay, self._n, action))

    def _waits(self) -> bool:
        """Whether anybody still waits for what the scheduler may do when its next deadline is reached."""
        raise NotImplementedError

    def step(self) -> bool:
        """The next thing happens; False if nothing ever will."""
        deadline = self.scheduler.next_deadline()
        if self._future and (deadline is None or self._future[0][0] <= deadline):
            self.now, _, action = heapq.heappop(self._future)
            action()
            return True
        if deadline is not None and (self._future or self._waits()):
            self.now = max(self.now, deadline)
            self.tell(s.DeadlineReached())
            return True
        return False

    def run(self, steps: int = 10_000_000) -> None:
        """Until nothing more happens.  Raises RuntimeError if that is not so after so many ``steps``."""
        for _ in range(steps):
            if not self.step():
                return
        raise RuntimeError(f"still busy after {steps} steps: {self.scheduler.jobs()} {self.scheduler.stages()}")

    def tell(self, event: s.Event) -> None:
        """Hand the scheduler an event, and carry out its commands."""
        for command in self.scheduler.handle(event, self.now):
            self.history.append((self.now, command))
            getattr(self, "_" + type(command).__name__.lower())(command)


@dataclass(eq=False)
class SimulatedAttempt:
    """One attempt at a task.  ``outcome``: 'success', 'failed', 'killed', 'returned' (it never began), 'executor lost',
    or empty while it has not ended."""

    tid: int
    job: int
    stage: int  # of its job's stages, counted from 0
    partition: int
    attempt: int
    executor: str
    host: str
    began: float | None = None
    ended: float | None = None
    outcome: str = ""


@dataclass(eq=False)
class SimulatedJob:
    """``failure``: empty, or why it failed."""

    job: int
    submitted: float
    ended: float | None = None
    failure: str = ""

    @property
    def seconds(self) -> float:
        """From its submission to its end.  Raises ArgumentError for a job that has not ended."""
        if self.ended is None:
            raise ArgumentError(f"job {self.job} has not ended: call run(), and give the cluster executors")
        return self.ended - self.submitted


@dataclass(eq=False)
class _Executor:
    name: str
    epoch: int
    host: str
    slots: int
    queue: deque[SimulatedAttempt]
    running: dict[int, SimulatedAttempt]


class SimulatedCluster(VirtualDriver):
    """Executors that take tasks and say, after a while, how they went.

    ``executors`` of ``slots`` slots each, named e0, e1, ..., are there from the beginning, each on a host of its own.
    ``seconds``: how long an attempt takes, or a function that says so; ``fails``: a function that says whether it
    fails in the end.  ``conf``: the scheduler's settings, the fields of `SchedulerConf`: ``max_failures=1``,
    ``policy=FAIR()``, ``speculation=True``, ...
    """

    def __init__(
        self,
        executors: int = 0,
        *,
        slots: int = 1,
        seconds: float | Callable[[SimulatedAttempt], float] = 1.0,
        fails: Callable[[SimulatedAttempt], bool] | None = None,
        **conf: Any,
    ) -> None:
        unknown = conf.keys() - set(s.SchedulerConf._fields)
        if unknown:
            fields = ", ".join(s.SchedulerConf._fields)
            raise ArgumentError(f"the scheduler has no setting {min(unknown)!r}: it has {fields}")
        super().__init__(s.SchedulerConf(**conf), listening=True)
        self.attempts: list[SimulatedAttempt] = []
        """All attempts, in the order in which they were launched."""
        self.events: list[Any] = []
        """What listeners are told of jobs, stages, tasks and executors."""
        self.jobs: list[SimulatedJob] = []
        self._seconds = seconds if callable(seconds) else lambda attempt: float(seconds)
        self._fails = fails or (lambda attempt: False)
        self._executors: dict[str, _Executor] = {}
        self._epochs = itertools.count()
        self._stages: dict[int, tuple[int, int]] = {}  # of which job it is which
        self._read: set[tuple[int, int]] = set()  # those of them that others read
        self._by_tid: dict[int, SimulatedAttempt] = {}
        for _ in range(executors):
            self.add(slots=slots)

    @property
    def executors(self) -> list[str]:
        """The names of those that are there."""
        return list(self._executors)

    def add(self, name: str = "", *, host: str = "", slots: int = 1) -> str:
        """One more executor; returns its name."""
        epoch = next(self._epochs)
        name = name or f"e{epoch}"
        if name in self._executors:
            raise ArgumentError(f"there is an executor {name!r} already")
        executor = self._executors[name] = _Executor(name, epoch, host or f"host-{name}", slots, deque(), {})
        self.tell(s.ExecutorAdded(name, epoch, executor.host, slots))
        return name

    def lose(self, name: str, reason: str = "it was lost", *, blame: bool = True, blocks_survive: bool = True) -> None:
        """An executor is gone, and what it ran; ``blame`` and ``blocks_survive`` as in `contracts.Lost`."""
        if name not in self._executors:
            raise ArgumentError(f"there is no executor {name!r}: there are {', '.join(self._executors) or 'none'}")
        executor = self._executors.pop(name)
        running = tuple(executor.running)
        for attempt in (*executor.running.values(), *executor.queue):
            self._close(attempt, "executor lost")
        self.tell(s.ExecutorLost(name, executor.epoch, reason, blame, running, blocks_survive))

    def submit(
        self,
        *tasks: int,
        hosts: Sequence[Sequence[str]] | None = None,
        pool: str = "default",
        group: str | None = None,
        name: str = "",
    ) -> SimulatedJob:
        """A job of stages, each with so many ``tasks``, of which each reads what the one before it wrote.

        ``hosts``: where the tasks of the first stage would like to run, by partition.
        """
        if not tasks or min(tasks) < 1:
            raise ArgumentError(
                f"submit{tasks}: expected the number of tasks of one stage or several, at least one each"
            )
        number, first = len(self.jobs), len(self._stages)
        specs = []
        for i, count in enumerate(tasks):
            stage, is_last = first + i, i == len(tasks) - 1
            self._stages[stage] = number, i
            if not is_last:
                self._read.add((number, i))
            parents = (stage - 1,) if i else ()
            shuffle = None if is_last else stage
            specs.append(
                s.StageSpec(stage, count, parents, shuffle, hosts=None if i else hosts, name=f"{name or 'job'} {i}")
            )
        job = SimulatedJob(number, self.now)
        self.jobs.append(job)
        self.tell(s.JobSubmitted(s.JobSpec(number, tuple(specs), range(tasks[-1]), pool, group, name=name)))
        return job

    def cancel(self, job: SimulatedJob, reason: str = "it was cancelled") -> None:
        """Nobody waits for the job any more."""
        self.tell(s.JobCancelled(job.job, reason=reason))

    def _waits(self) -> bool:
        return any(job.ended is None for job in self.jobs)

    # ------------------------------------------------------------------------------------- commands

    def _launch(self, command: s.Launch) -> None:
        executor = self._executors[command.executor]
        for task in command.tasks:
            job, stage = self._stages[task.stage]
            place = (executor.name, executor.host)
            attempt = SimulatedAttempt(task.tid, job, stage, task.partition, task.attempt, *place)
            self.attempts.append(attempt)
            self._by_tid[task.tid] = attempt
            executor.queue.append(attempt)
        self._begin(executor)

    def _begin(self, executor: _Executor) -> None:
        while executor.queue and len(executor.running) < executor.slots:
            attempt = executor.queue.popleft()
            attempt.began = self.now
            executor.running[attempt.tid] = attempt
            self.at(0.0, lambda a=attempt: self._say_started(executor, a))  # type: ignore[misc]
            self.at(self._seconds(attempt), lambda a=attempt: self._end(executor, a))  # type: ignore[misc]

    def _say_started(self, executor: _Executor, attempt: SimulatedAttempt) -> None:
        if not attempt.outcome:
            self.tell(s.TaskStarted(executor.name, executor.epoch, attempt.tid))

    def _end(self, executor: _Executor, attempt: SimulatedAttempt) -> None:
        if attempt.outcome:
            return  # killed, or gone with its executor
        where = (executor.name, executor.epoch, attempt.tid)
        del executor.running[attempt.tid]
        if self._fails(attempt):
            self._close(attempt, "failed")
            self.tell(s.TaskFailed(*where, "it was to fail", story=("SimulatedFailure", "it was to fail", "")))
        else:
            assert attempt.began is not None
            self._close(attempt, "success")
            sizes = (1,) if (attempt.job, attempt.stage) in self._read else None
            self.tell(s.TaskSucceeded(*where, self.now - attempt.began, sizes=sizes))
        self._begin(executor)

    def _close(self, attempt: SimulatedAttempt, outcome: str) -> None:
        attempt.ended, attempt.outcome = self.now, outcome
        del self._by_tid[attempt.tid]

    def _kill(self, command: s.Kill) -> None:
        self.at(0.0, lambda: self._interrupt(command))

    def _interrupt(self, command: s.Kill) -> None:
        executor = self._executors.get(command.executor)
        for tid in command.tids:
            attempt = self._by_tid.get(tid)
            if executor is None or executor.epoch != command.epoch or attempt is None:
                continue
            if executor.running.pop(tid, None) is None:
                executor.queue.remove(attempt)
            self._close(attempt, "killed")
            self.tell(s.TaskFailed(executor.name, executor.epoch, tid, command.reason, killed=True))
        if executor is not None:
            self._begin(executor)

    def _recall(self, command: s.Recall) -> None:
        self.at(0.0, lambda: self._give_back(command))

    def _give_back(self, command: s.Recall) -> None:
        executor = self._executors.get(command.executor)
        if executor is None or executor.epoch != command.epoch:
            return
        back = [attempt for attempt in executor.queue if attempt.tid in command.tids]
        for attempt in back:
            executor.queue.remove(attempt)
            self._close(attempt, "returned")
        if back:
            self.tell(s.TasksReturned(executor.name, executor.epoch, [attempt.tid for attempt in back]))

    def _finishjob(self, command: s.FinishJob) -> None:
        job = self.jobs[command.job]
        job.ended = self.now
        if command.failure is not None:
            job.failure = command.failure.reason or str(command.failure.kind)

    def _emit(self, command: s.Emit) -> None:
        self.events.append(command.event)

    def _nothing(self, command: s.Command) -> None:
        """Results, accumulators and commits are not simulated."""

    _accept = _takeresult = _discardresults = _stagedone = _answercommit = _releasebarrier = _nothing
