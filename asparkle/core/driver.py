"""The driver: the one loop around the scheduler.

It feeds the scheduler what happens and carries out what the scheduler answers.  All of a job's state is
touched on the event loop only; there are no locks.  What is large is pickled, written and read in threads.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
from anyio.abc import TaskGroup

from asparkle.core import protocol
from asparkle.core.accumulators import live_accumulators
from asparkle.core.background import Background
from asparkle.core.blockdirectory import BlockDirectory
from asparkle.core.cleaner import Cleaner
from asparkle.core.contracts import AppSpec, Buffer, Cluster, Executor, Lost, ShuffleStore
from asparkle.core.errors import AsparkleError, ContextStopped, JobCancelled, NoExecutors, PluginError, ResultTooLarge
from asparkle.core.failure import describe_failure, story_of
from asparkle.core.hostfiles import HostFiles
from asparkle.core.jobrecords import JobRecords
from asparkle.core.jobs import Job, JobOptions, drop_payload, failure_of
from asparkle.core.lineage import Node
from asparkle.core.loading import made
from asparkle.core.logs import log
from asparkle.core.loop import LoopCaller, in_thread
from asparkle.core.payloads import load, remove_file
from asparkle.core.plan import JobPlan, Planner
from asparkle.core.protocol import FileRef
from asparkle.core.rates import Rate, TurnDealer
from asparkle.core.scheduler import Scheduler
from asparkle.core.scheduler import messages as m
from asparkle.core.serializer import Elements, Loads, load_elements
from asparkle.core.shipping import ShippedStage, Shipping
from asparkle.core.shown import shown
from asparkle.core.transforms import Sink

if TYPE_CHECKING:
    from asparkle.core.localmodules import LocalModules

T = TypeVar("T")
_DEFAULTS = JobOptions()
TRIES: Final = 6  # executors that may end in a row before they begin a task


class Remote:
    """An executor, and what it has been sent so far."""

    __slots__ = ("executor", "has_loop", "outbox", "stages", "surroundings", "tables")

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.stages: dict[int, ShippedStage] = {}  # what was installed there, kept alive for as long
        self.tables: dict[int, int] = {}
        self.outbox: list[Any] = []
        self.surroundings: object = None
        self.has_loop = False  # which it is given time to close


class Driver:
    """Runs jobs on a cluster.  Made and used on one event loop; `post` is the way in from other threads."""

    def __init__(
        self, app: AppSpec, conf: m.SchedulerConf, call_in_loop: LoopCaller, tasks: TaskGroup, *, max_result: int
    ) -> None:
        self.app = app
        self.scheduler = Scheduler(conf)
        self._emit_to: Callable[[Any], None] | None = None
        self._call_in_loop = call_in_loop
        self.tasks = tasks
        self._posted: deque[Callable[[], None]] = deque()
        self.max_result = max_result
        self.planner: Planner
        self.redacted: Callable[
            [Mapping[str, str]], Mapping[str, str]
        ]  # a job's properties, as listeners are told them
        self.stopped = False
        self._remotes: dict[str, Remote] = {}
        self._jobs: dict[int, Job] = {}
        self._awaiting: list[
            tuple[Job, set[tuple[m.BlockId, str]]]
        ] = []  # replicas, without which it has not succeeded
        self.records = JobRecords(self.scheduler)
        self._job_numbers = itertools.count()
        self._taken: set[int] = set()  # attempts whose results the last report's turn took
        self._shipping = Shipping(app)
        self._preparing: dict[int, anyio.Event | None] = {}  # an event once another job waits for it
        self._together: dict[int, Background[None]] = {}  # by node
        self._wake = anyio.Event()
        self._wake_at = float("inf")
        self._broken: AsparkleError | None = None
        self._stillborn = 0  # executors in a row that were lost before they had reported anything
        self._later: list[m.Event] = []
        self._kills: dict[int, tuple[float, str]] = {}
        self._bringing: set[int] = set()  # attempts that have succeeded, whose results are on their way
        self._few = anyio.Semaphore(8)  # that are fetched at once
        self._wanted_modules: deque[tuple[str, protocol.WantModule]] = deque()  # by executors; the first is looked for
        self._turns = TurnDealer()
        self._loop_closed = anyio.Event()
        self._dirty: dict[str, Remote] = {}
        self.blocks = BlockDirectory(self._to, self.remove_file)
        self.cleaner = Cleaner(self)
        self._cluster: Cluster | None = None
        self.files: HostFiles
        self._apart = False  # whether it may have executors that do not share the driver's files
        self._elastic = conf.allocation is not None
        self._adjustments: deque[Callable[[Cluster], Awaitable[None]]] = deque()  # of the cluster, in their order
        self._adjust = anyio.Event()

    # ------------------------------------------------------------------------- life

    async def start(self, cluster: Cluster, executors: int) -> None:
        """Serve jobs from now on, until the task group is cancelled."""
        self._cluster = cluster
        self._apart = not cluster.shares_files
        self.files = HostFiles(self.app, cluster.dial if self._apart else None)
        await cluster.set_target(executors)
        self.tasks.start_soon(self._or_give_up, self._admit_executors)
        self.tasks.start_soon(self._keep_time)
        if self._elastic:
            self.tasks.start_soon(self._adjust_cluster, cluster)

    @property
    def slots(self) -> int:
        """Those of the executors that there are.  From any thread."""
        return sum(remote.executor.info.slots for remote in list(self._remotes.values()))

    def post(self, function: Callable[[], None]) -> None:
        """Call a function soon, in a task of the driver's.  From any thread."""
        self._posted.append(function)
        self._call_in_loop(self._wake_up)

    def _wake_up(self) -> None:
        self._wake.set()

    def emit_to(self, post: Callable[[Any], None] | None) -> None:
        """Somebody listens: make events, and give them to ``post``.  None: nobody does any more."""
        self._emit_to = post
        self.scheduler.listening = post is not None

    def stop(self) -> None:
        """No more jobs; those that run fail with `ContextStopped`."""
        self.stopped = True
        reason = "the context was stopped while the job ran"
        for job in list(self._jobs.values()):
            self._finish(job, ContextStopped(reason))
        self.cancel_jobs(reason=reason)  # the scheduler's and the listeners' part of it
        for remote in self._remotes.values():
            self._send(remote, [protocol.Shutdown()])
        if self._cluster is not None:
            self.files.close()

    async def loops_closed(self) -> None:
        """After `stop`: wait until the workers' event loops have closed what they hold, or have had time to."""
        with anyio.move_on_after(self.app.kill_timeout):
            while any(remote.has_loop for remote in self._remotes.values()):
                self._loop_closed = anyio.Event()
                await self._loop_closed.wait()

    async def _admit_executors(self) -> None:
        assert self._cluster is not None
        while True:
            executor = await self._cluster.added()
            info = executor.info
            self._remotes[info.id] = Remote(executor)
            self.blocks.executor_added(info.id, info.host)
            self.tasks.start_soon(self._or_give_up, self._listen, executor)
            survive = self._cluster.blocks_survive
            self.handle(m.ExecutorAdded(info.id, info.epoch, info.host, info.slots, survive, info.labels))

    async def _or_give_up(self, function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """A task that calls the backend; if that fails, no job can run."""
        try:
            await function(*arguments)
        except AsparkleError as error:
            self._give_up(error)

    def _give_up(self, error: AsparkleError) -> None:
        """There are no executors to be had: no job can run."""
        self._broken = error
        for job in list(self._jobs.values()):
            self._finish(job, error)
        self.cancel_jobs(reason=str(error))  # the scheduler's and the listeners' part of it

    async def _listen(self, executor: Executor) -> None:
        stillborn = True
        while True:
            try:
                reports = await executor.receive()
            except PluginError:  # nobody hears of this worker any more
                del self._remotes[executor.info.id]
                raise
            if isinstance(reports, Lost):
                stillborn = stillborn and reports.blame and not reports.running
                self._lost(executor, reports, stillborn and bool(self._remotes[executor.info.id].stages))
                return
            stillborn, self._stillborn = False, 0
            for report in reports:
                _REPORTS[type(report)](self, executor, report)
            self._deliver()

    def _lost(self, executor: Executor, lost: Lost, stillborn: bool) -> None:
        """``stillborn``: it was given tasks, and is gone before it began one."""
        info = executor.info
        self._remotes.pop(info.id, None)
        self._loop_closed.set()
        if self.stopped:  # it was told to end
            return
        survive = lost.blocks_survive
        self.blocks.executor_lost(info.id, survive)
        self._finish_awaiting()
        outputs = {"worker": False, "host": survive, "shared": True}[self.shuffles.scope]
        self.handle(m.ExecutorLost(info.id, info.epoch, lost.reason, lost.blame, lost.running, survive, outputs))
        self._stillborn += stillborn
        if self._stillborn >= TRIES:
            self._give_up(
                NoExecutors(
                    f"{TRIES} executors in a row ended before they began a task; of the last one, {lost.reason}. What "
                    "they wrote says why: look above, or where stderr goes"
                )
            )
        elif self._elastic:  # the cluster is to know first whether another is needed
            self._soon(partial(_tell_lost, executor=info.id))
        elif self._cluster is not None:
            self._cluster.lost(info.id)

    async def _keep_time(self) -> None:
        """Tell the scheduler when its deadlines are due, end what won't be interrupted, and do what was posted."""
        while True:
            now = time.monotonic()
            self._wake_at = min(
                self.scheduler.next_deadline() or float("inf"),
                min((at for at, _ in self._kills.values()), default=float("inf")),
            )
            with anyio.move_on_after(max(0.0, self._wake_at - now)):
                await self._wake.wait()
            if self._wake.is_set():
                self._wake = anyio.Event()
            while self._posted:
                self._posted.popleft()()
            now = time.monotonic()
            self._end_stubborn(now)
            deadline = self.scheduler.next_deadline()
            if deadline is not None and deadline <= now:
                self.handle(m.DeadlineReached())

    def _end_stubborn(self, now: float) -> None:
        for tid, (at, executor) in list(self._kills.items()):
            if at <= now:
                del self._kills[tid]
                remote = self._remotes.get(executor)
                if remote is not None:
                    remote.executor.kill()

    # ------------------------------------------------------------------------- the scheduler

    def handle(self, event: m.Event) -> None:
        """Give the scheduler an event, carry out its commands, and send what they put in the outboxes."""
        self._feed(event)
        self._deliver()

    def _feed(self, event: m.Event) -> None:
        for command in self.scheduler.handle(event, time.monotonic()):
            _COMMANDS[type(command)](self, command)
        while self._later:  # what a command gave rise to comes after all commands of its turn
            later = self._later.pop(0)
            if type(later) is m.TaskFailed:
                self._kills.pop(later.tid, None)
            self._feed(later)

    def _deliver(self) -> None:
        while self._dirty:
            _, remote = self._dirty.popitem()
            batch, remote.outbox = remote.outbox, []
            self._send(remote, batch)
        deadline = self.scheduler.next_deadline()
        if deadline is not None and deadline < self._wake_at:
            self._wake.set()

    def _send(self, remote: Remote, messages: Sequence[Any]) -> None:
        try:
            remote.executor.send(messages)
        except PluginError as error:  # which it must not raise; whoever runs here may be in the midst of something
            self.post(partial(self._give_up, error))

    def _launch(self, command: m.Launch) -> None:
        remote = self._remotes.get(command.executor)
        if remote is None:
            return
        self._dirty[command.executor] = remote
        self._surround(remote)
        stage = self._shipping.stages[command.stage]
        try:
            if remote.stages.get(command.stage) is not stage:
                self._install(remote, stage)
            data = [stage.data(task.partition) for task in command.tasks]
        except Exception as error:  # pickling runs users' code, and large data goes to a disk, which may be full
            self._not_launched(command, remote, error)
            return
        for shuffle, version in command.shuffles:
            if remote.tables.get(shuffle) != version:
                remote.tables[shuffle] = version
                _, outputs = self.scheduler.map_outputs(shuffle)
                table = [(o.tid, o.location) if o is not None else (-1, None) for o in outputs]
                remote.outbox.append(protocol.MapTable(shuffle, version, table))
        find = self._elsewhere if stage.persists else _nothing
        tasks = [
            protocol.RunTask(
                t.tid,
                t.stage_attempt,
                t.partition,
                t.attempt,
                pieces,
                find(remote, stage, t.partition),
            )
            for t, pieces in zip(command.tasks, data, strict=True)
        ]
        hosts = None if command.peers is None else [self._host_of(name) for name in command.peers]
        metered = self.scheduler.listening
        remote.outbox.append(protocol.Run(command.stage, tasks, stage.properties, hosts, metered))

    def _not_launched(self, command: m.Launch, remote: Remote, error: Exception) -> None:
        """What an executor needs for these tasks can't be made, and could not be made for another executor."""
        info, described = remote.executor.info, describe_failure(error, live=True)
        failed = m.TaskFailed(info.id, info.epoch, -1, described, fatal=True, story=self._story_of(described))
        self._later += [failed._replace(tid=task.tid) for task in command.tasks]

    def _host_of(self, executor: str) -> str:
        remote = self._remotes.get(executor)
        return remote.executor.info.host if remote is not None else ""

    def _surround(self, remote: Remote) -> None:
        surroundings = self._shipping.surroundings
        if remote.surroundings is not surroundings:
            remote.surroundings = surroundings
            remote.outbox.append(surroundings)
            self._dirty[remote.executor.info.id] = remote

    def _install(self, remote: Remote, stage: ShippedStage) -> None:
        install = stage.install()
        remote.stages[stage.plan.stage] = stage
        remote.outbox.append(install)

    def _elsewhere(self, remote: Remote, stage: ShippedStage, partition: int) -> list[m.BlockId]:
        return self.blocks.elsewhere(list(stage.plan.cached_blocks(partition)), remote.executor.info.id)

    def _recall(self, command: m.Recall) -> None:
        self._to(command.executor, protocol.Recall(list(command.tids)))

    def _kill(self, command: m.Kill) -> None:
        self._to(command.executor, protocol.Kill(list(command.tids), command.reason))
        due = time.monotonic() + self.app.kill_timeout
        for tid in command.tids:
            if tid not in self._bringing:  # or it has ended, and need not be ended by force
                self._kills[tid] = (due, command.executor)
        if due < self._wake_at:
            self._wake.set()

    def _accept(self, command: m.Accept) -> None:
        if command.updates is None:
            return
        payload = protocol.payload(command.updates)
        try:
            for aid, update in load(payload):
                accumulator = live_accumulators.get(aid)
                if accumulator is not None:
                    accumulator.value = accumulator.accum_param.addInPlace(accumulator.value, update)
                    if self._emit_to is not None:
                        self._tell_accumulated(command, aid, accumulator.value)
        except (Exception, SystemExit) as error:  # a user's addInPlace: its failure is not that of every job
            log("asparkle.driver").error("an accumulator could not be updated", exc_info=error)
        finally:
            drop_payload(payload)

    def _tell_accumulated(self, command: m.Accept, accumulator: int, value: object) -> None:
        from asparkle.core.events import AccumulatorUpdated

        place = (command.stage, command.partition, command.tid)
        self.tell(AccumulatorUpdated(time.monotonic(), accumulator, *place, shown(value)))

    def tell(self, event: Any) -> None:
        """Give listeners an event, if there are any."""
        if self._emit_to is not None:
            self._emit_to(event)

    def _take_result(self, command: m.TakeResult) -> None:
        job = self._jobs.get(command.job)
        result = protocol.payload(command.result)
        if job is None:
            return
        self._taken.add(command.tid)
        job.take(command.partition, result)
        if self.max_result and job.size > self.max_result:
            self._finish(job, ResultTooLarge(job.size, self.max_result, job=job.id))
            self._later.append(m.JobCancelled(job.id, reason="its results are too large"))

    def _discard(self, command: m.DiscardResults) -> None:
        job = self._jobs.get(command.job)
        if job is not None:
            job.discard(command.partitions)

    def _finish_job(self, command: m.FinishJob) -> None:
        job = self._jobs.get(command.job)
        if job is not None:
            failure = command.failure
            if failure is None and self.blocks.replicating:
                self._awaiting.append((job, set(self.blocks.replicating)))
            else:
                self._finish(job, None if failure is None else failure_of(failure, job.id))

    def _finish_awaiting(self) -> None:
        """The jobs that have succeeded, and whose replicas are there now."""
        awaiting, self._awaiting = self._awaiting, []
        for job, replicas in awaiting:
            replicas &= self.blocks.replicating
            if replicas:
                self._awaiting.append((job, replicas))
            elif job.id in self._jobs:  # or the context was stopped meanwhile
                self._finish(job, None)

    def _finish(self, job: Job, error: BaseException | None) -> None:
        self._jobs.pop(job.id, None)
        self.records.ended(job.id, error, job.size)
        job.finish(error)

    def _answer_commit(self, command: m.AnswerCommit) -> None:
        self._to(command.executor, protocol.AnswerCommit(command.tid, command.granted))

    def _release_barrier(self, command: m.ReleaseBarrier) -> None:
        self._to(command.executor, protocol.ReleaseBarrier(command.tid, command.round, list(command.messages)))

    def _stage_done(self, command: m.StageDone) -> None:
        for remote in self._remotes.values():
            if remote.stages.pop(command.stage, None) is not None:
                remote.outbox.append(protocol.Forget(command.stage))  # not urgent: goes with the next message

    def _emit(self, command: m.Emit) -> None:
        self.tell(command.event)

    def _set_target(self, command: m.SetTarget) -> None:
        self._soon(lambda cluster: cluster.set_target(command.executors))

    def _release(self, command: m.Release) -> None:
        for executor, reason in command.reasons.items():
            log("asparkle.driver").info("an executor is released", executor=executor, reason=reason)
        self._soon(lambda cluster: cluster.release(command.reasons.keys()))

    def _soon(self, adjustment: Callable[[Cluster], Awaitable[None]]) -> None:
        self._adjustments.append(adjustment)
        self._adjust.set()

    async def _adjust_cluster(self, cluster: Cluster) -> None:
        """Tell the cluster, one thing at a time, what the scheduler wants of it."""
        while True:
            await self._adjust.wait()
            self._adjust = anyio.Event()
            while self._adjustments and not self.stopped:
                adjustment = self._adjustments.popleft()
                try:
                    await adjustment(cluster)
                except Exception as error:  # a plugin's: jobs go on with the executors that there are
                    log("asparkle.driver").error("the number of executors could not be changed", exc_info=error)

    def _to(self, executor: str, message: Any) -> None:
        remote = self._remotes.get(executor)
        if remote is not None:
            remote.outbox.append(message)
            self._dirty[executor] = remote

    # ------------------------------------------------------------------------- reports

    def _started(self, executor: Executor, r: protocol.Started) -> None:
        self._feed(m.TaskStarted(executor.info.id, executor.info.epoch, r.tid))

    def _succeeded(self, executor: Executor, r: protocol.Succeeded) -> None:
        self._kills.pop(r.tid, None)
        if self._apart:
            result = None if r.sizes is not None else r.result  # where a map output lies is the store's business
            refs = [ref for ref in map(protocol.payload, (result, r.updates)) if type(ref) is FileRef and ref.host]
            if refs:
                self._bringing.add(r.tid)
                self.tasks.start_soon(self._bring, executor, r, refs)
                return
        self._done(executor, r)

    def _done(self, executor: Executor, r: protocol.Succeeded) -> None:
        info = executor.info
        self._taken.clear()
        self._feed(m.TaskSucceeded(info.id, info.epoch, r.tid, r.seconds, r.result, r.updates, r.sizes, r.metrics))
        if self.scheduler.keeps(r.tid):
            return
        if r.sizes is None and r.tid not in self._taken:  # a late result, or a slower copy's
            drop_payload(protocol.payload(r.result))
        if r.updates is not None:
            drop_payload(protocol.payload(r.updates))

    async def _bring(self, executor: Executor, r: protocol.Succeeded, refs: Sequence[FileRef]) -> None:
        """Fetch what an attempt has left in files of its host; the scheduler hears of its success when they are here.

        So a result that is lost is computed again, and its accumulator updates count once; and a host whose results are
        not fetched as fast as it makes them makes no more, as its slots are not free.
        """
        here = {ref: os.path.join(self.app.directories[0], "results", f"{r.tid}-{i}") for i, ref in enumerate(refs)}
        try:
            async with self._few:
                await in_thread(self._bring_files, here)
        except Exception as error:  # its host is gone, or the driver's disk is full
            self._bringing.discard(r.tid)
            self._failed(executor, protocol.Failed(r.tid, describe_failure(error, live=True)))
        else:
            self._bringing.discard(r.tid)
            result, updates = (
                FileRef(here[ref], ref.length) if type(ref) is FileRef and ref in here else ref
                for ref in map(protocol.payload, (r.result, r.updates))
            )
            if self._emit_to is not None:
                self._tell_fetched()
            self._done(executor, r._replace(result=result, updates=updates))
        self._deliver()

    def _tell_fetched(self) -> None:
        from asparkle.core.events import ResultsFetched

        for host, route, size in self.files.fetched():
            self.tell(ResultsFetched(time.monotonic(), host, route, size))

    def _bring_files(self, files: Mapping[FileRef, str]) -> None:
        for ref, path in files.items():
            if self.max_result and ref.length > self.max_result:  # its job fails for that
                self.files.remove(ref)
            else:
                self.files.bring(ref, path)

    def remove_file(self, ref: FileRef) -> None:
        """Delete a file of any host, soon."""
        if ref.host:
            self.in_thread(self._remove_there, ref)
        else:
            remove_file(ref.path)

    def _remove_there(self, ref: FileRef) -> None:
        with suppress(OSError):  # it goes with the host's directories
            self.files.remove(ref)

    def _failed(self, executor: Executor, r: protocol.Failed) -> None:
        self._kills.pop(r.tid, None)
        info = executor.info
        story = self._story_of(r.error)
        self._feed(m.TaskFailed(info.id, info.epoch, r.tid, r.error, r.penalised, r.killed, r.fatal, r.metrics, story))

    def _story_of(self, error: Any) -> Sequence[str]:
        """An attempt's error in words, if anybody listens."""
        return story_of(error) if self.scheduler.listening and error is not None else ()

    def _fetch_failed(self, executor: Executor, r: protocol.FetchFailed) -> None:
        self._kills.pop(r.tid, None)
        info = executor.info
        others = [(partition, tid) for partition, tid in r.others]
        output = (r.shuffle, r.map_partition, r.map_tid)
        self._feed(m.FetchFailed(info.id, info.epoch, r.tid, *output, r.error, others, self._story_of(r.error)))

    def _returned(self, executor: Executor, r: protocol.Returned) -> None:
        for tid in r.tids:
            self._kills.pop(tid, None)
        self._feed(m.TasksReturned(executor.info.id, executor.info.epoch, r.tids))

    def _blocks_changed(self, executor: Executor, r: protocol.BlocksChanged) -> None:
        info = executor.info
        added = [(rdd, p) for rdd, p in r.added]
        removed = [(rdd, p) for rdd, p in r.removed]
        self.blocks.changed(info.id, added, removed, r.scope)
        self._feed(m.BlocksChanged(info.id, info.epoch, added, removed, r.scope, r.size))
        if r.replicas:
            for block in added:
                self.blocks.replicate(block, info.id, r.replicas, r.level)

    def _request_commit(self, executor: Executor, r: protocol.RequestCommit) -> None:
        self._feed(m.CommitRequested(executor.info.id, executor.info.epoch, r.tid))

    def _barrier_reached(self, executor: Executor, r: protocol.BarrierReached) -> None:
        self._feed(m.BarrierReached(executor.info.id, executor.info.epoch, r.tid, r.round, r.message))

    def _want_block(self, executor: Executor, r: protocol.WantBlock) -> None:
        self.blocks.wanted(executor.info.id, r)

    def _want_module(self, executor: Executor, r: protocol.WantModule) -> None:
        self._wanted_modules.append((executor.info.id, r))
        if len(self._wanted_modules) == 1:
            self.tasks.start_soon(self._find_modules)

    async def _find_modules(self) -> None:
        while self._wanted_modules:
            executor, want = self._wanted_modules[0]
            found = await in_thread(self._local_modules.find, want.name, want.missing)
            self._to(executor, found._replace(request=want.request))
            self._deliver()
            self._wanted_modules.popleft()

    @cached_property
    def _local_modules(self) -> LocalModules:
        from asparkle.core.localmodules import LocalModules

        return LocalModules(
            self._shipping.path, self._shipping.is_others, os.path.join(self.app.directories[0], "data")
        )

    def _exported(self, executor: Executor, r: protocol.Exported) -> None:
        self.blocks.exported(r)

    def _replica_taken(self, executor: Executor, r: protocol.ReplicaTaken) -> None:
        self.blocks.replicated((r.rdd, r.partition), executor.info.id)
        self._finish_awaiting()

    def _want_turns(self, executor: Executor, r: protocol.WantTurns) -> None:
        wait = self._turns.deal(Rate(r.rate, r.interval), r.turns, time.monotonic())
        self._to(executor.info.id, protocol.Turns(r.rate, r.interval, wait))

    def _has_loop(self, executor: Executor, r: protocol.HasLoop) -> None:
        remote = self._remotes.get(executor.info.id)
        if remote is not None:
            remote.has_loop = r.running
            self._loop_closed.set()

    # ------------------------------------------------------------------------- jobs

    async def run_job(
        self, node: Node, sink: Sink, partitions: Sequence[int] | None, options: JobOptions = _DEFAULTS
    ) -> list[Any]:
        """What ``sink`` makes of each of ``partitions`` (None: all), in the order given.

        Cancelling the caller cancels the job: nothing new starts, and what runs is interrupted.
        """
        plan = await self.planner.plan(node, sink, partitions)
        if not plan.partitions:
            return []
        job = await self._submit(plan, options)
        try:
            await job.done.wait()
            if job.error is not None:
                raise job.error
            return await self._unpack(job)
        finally:
            self._leave(job, "its caller was cancelled")
            del job  # or the traceback and the job hold each other

    async def run_job_for(self, seconds: float, node: Node, sink: Sink, options: JobOptions) -> tuple[list[Any], int]:
        """What ``sink`` makes of those partitions that are done in time, in their order, and how many there are.

        The job is cancelled then."""
        plan = await self.planner.plan(node, sink, None)
        if not plan.partitions:
            return [], 0
        job = await self._submit(plan, options)
        try:
            with anyio.move_on_after(seconds):
                await job.done.wait()
            if job.error is not None:
                raise job.error
            return [load(job.results[p], self._loads) for p in sorted(job.results)], len(plan.partitions)
        finally:
            self._leave(job, "its time is up")
            del job

    def _leave(self, job: Job, reason: str) -> None:
        """Nobody waits for the job any more."""
        if not job.done.is_set():
            self._finish(job, JobCancelled(reason, job=job.id))
            self.handle(m.JobCancelled(job.id, reason=reason))
        job.discard()

    async def _submit(self, plan: JobPlan, options: JobOptions) -> Job:
        complete = {
            s.stage for s in plan.stages if s.shuffle is not None and self.scheduler.shuffle_complete(s.shuffle.spec.id)
        }
        stages = await self._shipping.ship(plan.stages, complete, options.properties)
        if self.stopped:
            raise ContextStopped
        if self._broken is not None:
            raise self._broken
        job = Job(next(self._job_numbers), plan.partitions, stages)
        self._jobs[job.id] = job
        spec = m.JobSpec(
            job.id,
            tuple(s.spec(described=self.scheduler.listening) for s in plan.stages),
            plan.partitions,
            options.pool,
            options.group,
            options.tags,
            name=options.description,
            properties=self.redacted(options.properties) if self.scheduler.listening else {},
        )
        self._feed(m.JobSubmitted(spec))
        if options.submitted is not None:
            options.submitted()
        self.records.submitted(job.id, options)
        self._deliver()
        return job

    async def _unpack(self, job: Job) -> list[Any]:
        if job.is_large:
            return await in_thread(_load_results, job, self._loads)
        return _load_results(job, self._loads)

    @cached_property
    def shuffles(self) -> ShuffleStore:
        """Where map outputs lie."""
        store: ShuffleStore = made(self.app.shuffle_store, ShuffleStore, self.app)
        store.use(self.files)
        return store

    def forget_outputs(self) -> None:
        """After the last executor: what shuffles have left.  Blocks."""
        if self.cleaner.has_shuffles:
            try:
                self.shuffles.close()
            except Exception as error:  # the application has ended well, but for this
                log("asparkle.driver").error("the shuffle store could not be closed", exc_info=error)

    def _loads(self, chunks: Sequence[Buffer]) -> Any:
        """Of a result that is more than one pickle."""
        return self._elements.loads(chunks)

    @cached_property
    def _elements(self) -> Elements:
        """How results were packed."""
        return load_elements(self.app)

    def cancel_jobs(
        self,
        *,
        group: str | None = None,
        tag: str | None = None,
        job: int | None = None,
        stage: int | None = None,
        reason: str = "",
    ) -> None:
        """End jobs by id, group, tag or stage; all of them without any."""
        self.handle(m.JobCancelled(job, group, tag, stage, reason))

    def in_background(self, function: Callable[[], Awaitable[T]]) -> Background[T]:
        """Begin a coroutine function beside the caller; who wants its result asks for it."""
        if self.stopped:
            raise ContextStopped
        background = Background(function)
        self.tasks.start_soon(background.run)
        return background

    async def prepare_once(self, node: Node, planner: Planner) -> None:
        """Prepare a node; when another job is at it, wait for that."""
        while not node.prepared:
            if node.read_once:
                await self._prepare_together(node, planner)
                continue
            if node.id in self._preparing:
                done = self._preparing[node.id] = self._preparing[node.id] or anyio.Event()
                await done.wait()
                continue
            self._preparing[node.id] = None
            try:
                await node.prepare(planner)
                node.prepared = True
            finally:
                waited_for = self._preparing.pop(node.id)
                if waited_for is not None:
                    waited_for.set()

    async def _prepare_together(self, node: Node, planner: Planner) -> None:
        """Prepare a node on behalf of all jobs that wait for it: it goes on when one of them is cancelled."""
        background = self._together.get(node.id)
        if background is None:
            background = self._together[node.id] = self.in_background(lambda: node.prepare(planner))
        try:
            await background.shared_result()
            node.prepared = True
        finally:
            if not background.sharers:
                self._together.pop(node.id, None)

    @property
    def has_other_hosts(self) -> bool:
        """Whether there may be executors that do not share the driver's files."""
        return self._apart

    def files_added(self, modules: int, added: Sequence[protocol.AddedFile], imports: Sequence[str]) -> None:
        """There is more to read, or to import, than executors have seen: attempts that start from now on find it."""
        self._shipping.files_added(modules, added, imports)
        for remote in self._remotes.values():  # attempts may be waiting there
            self._surround(remote)
        self._deliver()

    # ------------------------------------------------------------------------- for the cleaner

    def tell_all(self, message: protocol.ToExecutor) -> None:
        """Send every executor a message."""
        for name in self._remotes:
            self._to(name, message)
        self._deliver()

    def drop_table(self, shuffle: int) -> None:
        """Tell the executors that know where a shuffle's outputs lie, or have them, to forget it."""
        for name, remote in self._remotes.items():
            if remote.tables.pop(shuffle, None) is not None or self._apart:
                self._to(name, protocol.DropShuffle(shuffle, self.scheduler.attempts))
        self._deliver()

    def in_thread(self, function: Callable[..., object], *arguments: Any) -> None:
        """Begin a function in a thread, for what it does."""
        self.tasks.start_soon(in_thread, function, *arguments)


async def _tell_lost(cluster: Cluster, executor: str) -> None:
    cluster.lost(executor)


def _nothing(remote: Remote, stage: ShippedStage, partition: int) -> Sequence[m.BlockId]:
    return ()


def _load_results(job: Job, loads: Loads) -> list[Any]:
    loaded = {partition: load(payload, loads) for partition, payload in job.results.items()}
    return [loaded[partition] for partition in job.partitions]


_COMMANDS: dict[type, Callable[[Driver, Any], None]] = {
    m.Launch: Driver._launch,
    m.Recall: Driver._recall,
    m.Kill: Driver._kill,
    m.Accept: Driver._accept,
    m.TakeResult: Driver._take_result,
    m.DiscardResults: Driver._discard,
    m.FinishJob: Driver._finish_job,
    m.AnswerCommit: Driver._answer_commit,
    m.ReleaseBarrier: Driver._release_barrier,
    m.StageDone: Driver._stage_done,
    m.SetTarget: Driver._set_target,
    m.Release: Driver._release,
    m.Emit: Driver._emit,
}

_REPORTS: dict[type, Callable[[Driver, Executor, Any], None]] = {
    protocol.Started: Driver._started,
    protocol.Succeeded: Driver._succeeded,
    protocol.Failed: Driver._failed,
    protocol.FetchFailed: Driver._fetch_failed,
    protocol.Returned: Driver._returned,
    protocol.BlocksChanged: Driver._blocks_changed,
    protocol.RequestCommit: Driver._request_commit,
    protocol.BarrierReached: Driver._barrier_reached,
    protocol.WantBlock: Driver._want_block,
    protocol.WantModule: Driver._want_module,
    protocol.Exported: Driver._exported,
    protocol.ReplicaTaken: Driver._replica_taken,
    protocol.WantTurns: Driver._want_turns,
    protocol.HasLoop: Driver._has_loop,
}
