"""The worker: one per executor, its slots' threads run tasks, and another thread feeds it messages.

`Worker.receive` is called with the driver's messages, in order, by whoever reads the channel; it never
runs a user's code.  `Worker.run_slot` is the loop of one slot.  What a slot reports is collected for a few
milliseconds at most, so that short tasks do not cost a system call each.
"""

from __future__ import annotations

import importlib
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from asparkle.core import broadcast, protocol
from asparkle.core.contracts import AppSpec, BlockId, BlockStore, CachePolicy, ShuffleStore
from asparkle.core.directories import added_files, files_below, remove_blocks
from asparkle.core.errors import CorruptBlock, HostUnreachable, StorageError, TaskKilled
from asparkle.core.hostfiles import HostFiles
from asparkle.core.loading import load_function, made
from asparkle.core.logs import log
from asparkle.core.metrics import GarbageClock
from asparkle.core.namedtuple import NamedTuple
from asparkle.core.payloads import Map, load, write_file
from asparkle.core.protocol import FileRef, RunTask
from asparkle.core.rates import Rate
from asparkle.core.serializer import load_elements, read_frames
from asparkle.core.worker.blocks import BlockManager
from asparkle.core.worker.mark import NO_TASK, mark_of
from asparkle.core.worker.memory import MemoryStore
from asparkle.core.worker.runner import run_attempt

if TYPE_CHECKING:
    from asparkle.core.worker.eventloop import EventLoop
    from asparkle.core.worker.provisions import Provisions

HOLD_BACK = 0.002  # seconds that a finished short task's report may wait for company
REMEMBERED = 32  # stages' small binaries, beyond the stages that there are
FETCH_WAIT = 5.0  # seconds that a reader waits for a block of another executor before it computes it


_STOPPED = "the context was stopped"


class Stage:
    """A stage's binary in this worker, and, where it may be used again, what it unpickles to."""

    __slots__ = ("binary", "cached", "map", "reusable")

    def __init__(self, binary: Any, reusable: bool, map: Map) -> None:
        self.binary = binary
        self.reusable = reusable
        self.map = map
        self.cached: Any = None

    def unpickle(self) -> Any:
        """(program, sink), fresh unless nothing in it can change."""
        if not self.reusable:
            return load(self.binary, map=self.map)
        if self.cached is None:
            self.cached = load(self.binary, map=self.map)
        return self.cached


class Item(NamedTuple):
    stage: int
    task: RunTask
    properties: dict[str, str]
    hosts: Sequence[str] | None  # of a barrier stage: where each of its tasks runs
    metered: bool


class Worker:
    """The state that an executor's slots share.

    ``send``: takes a batch of reports for the driver; thread-safe.
    ``interrupt``: asks the attempt that runs in the only slot to end; None where that can't be done.
    """

    def __init__(
        self,
        app: AppSpec,
        executor: str,
        send: Callable[[Sequence[Any]], None],
        *,
        in_process: bool,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        self.app = app
        self.executor = executor
        self.in_process = in_process
        self.interrupt = interrupt
        self.main = threading.get_ident()  # where interrupts strike
        self.listener: int | None = None  # the thread that hears the driver, where that is one of the worker's own
        self.holds_back = not in_process  # somebody flushes what is held back while a long task runs
        self._send = send
        self._outbox: list[Any] = []
        self._outbox_lock = threading.Lock()
        self._flushed = 0.0
        self.stages: dict[int, Stage] = {}
        self._lately: dict[bytes, Stage] = {}  # by binary, the latest last
        self.tables: dict[int, protocol.MapTable] = {}
        self.queue: SimpleQueue[int | None] = SimpleQueue()
        self.waiting: dict[int, Item] = {}
        self.running: dict[int, float] = {}
        self.killing: dict[int, str] = {}
        self.interruptible: int | None = None  # the attempt that is inside a user's code, of a single slot
        self.mark: mmap.mmap | None = None
        self._garbage_clock: GarbageClock | None = None
        self._event_loop: EventLoop | None = None
        self._life_lock = threading.Lock()  # what `stop` ends is made, and ended, under it
        self._wakers: dict[int, list[Callable[[TaskKilled], object]]] = {}  # of running attempts
        self._answers: dict[Any, SimpleQueue[Any]] = {}
        self._requests = 0
        self._stopped = False
        self.spill_directories = [os.path.join(d, "spill") for d in app.directories]
        self.task_scopes = [load_function(where) for where in app.task_scopes]
        self.elements = load_elements(app)
        self.files = HostFiles(app)
        if app.host:
            broadcast.fetch_with(app.app_id, self.files)
        self.provisions = self._provisions() if app.host else None
        self._errands: SimpleQueue[Callable[[], object]] | None = None
        self.blocks = self._block_manager()

    @cached_property
    def shuffles(self) -> ShuffleStore:
        """Where map outputs lie; loaded when there is one that does not travel in a message."""
        with self.uninterrupted():
            store: ShuffleStore = made(self.app.shuffle_store, ShuffleStore, self.app)
            store.use(self.files)
        return store

    def _provisions(self) -> Provisions:
        from asparkle.core.worker.provisions import Provisions

        return Provisions(self)

    def _block_manager(self) -> BlockManager:
        policy: CachePolicy = made(self.app.cache_policy, CachePolicy, self.app)
        disk: BlockStore = made(self.app.disk_store, BlockStore, self.app)
        return BlockManager(MemoryStore(self.app.storage_memory, policy), disk, self.report_later, self.elements)

    # ------------------------------------------------------------------------- from the driver

    def receive(self, messages: Iterable[Any]) -> None:
        """Take the driver's messages, in order."""
        for message in messages:
            _HANDLERS[type(message)](self, message)

    def _run(self, message: protocol.Run) -> None:
        for task in message.tasks:
            task = RunTask(*task)
            self.waiting[task.tid] = Item(message.stage, task, message.properties, message.hosts, message.metered)
            self.queue.put(task.tid)

    def _install(self, message: protocol.Install) -> None:
        binary = protocol.payload(message.binary)
        if not message.reusable or type(binary) is not bytes:
            self.stages[message.stage] = Stage(binary, message.reusable, self.files.keep)
            return
        # Programs that differ in nothing may be one: the same small job again and again unpickles it once.
        stage = self._lately.pop(binary, None) or Stage(binary, True, self.files.keep)
        self._lately[binary] = self.stages[message.stage] = stage
        if len(self._lately) > REMEMBERED:
            del self._lately[next(iter(self._lately))]

    def _forget(self, message: protocol.Forget) -> None:
        stage = self.stages.pop(message.stage, None)
        if stage is not None and type(stage.binary) is FileRef:
            self.files.drop(stage.binary.path)

    def _map_table(self, message: protocol.MapTable) -> None:
        self.tables[message.shuffle] = message

    def _recall(self, message: protocol.Recall) -> None:
        given_back = [tid for tid in message.tids if self.waiting.pop(tid, None) is not None]
        if given_back:
            self.report(protocol.Returned(given_back))

    def _kill(self, message: protocol.Kill) -> None:
        given_back = []
        for tid in message.tids:
            if self.waiting.pop(tid, None) is not None:
                given_back.append(tid)
            elif tid in self.running:
                self.killing[tid] = message.reason
                if self.interrupt is not None:
                    self.interrupt()
                self._wake(tid, message.reason)
        if given_back:
            self.report(protocol.Returned(given_back))

    def _drop_rdd(self, message: protocol.DropRdd) -> None:
        self.blocks.drop_rdd(message.rdd)
        if self.files.host:
            self._later(lambda: remove_blocks(self.app.directories, message.rdd))

    def _drop_broadcast(self, message: protocol.DropBroadcast) -> None:
        broadcast.forget(self.app.app_id, message.broadcast)
        self.files.drop(broadcast.file_name(message.broadcast))

    def _drop_shuffle(self, message: protocol.DropShuffle) -> None:
        self.tables.pop(message.shuffle, None)
        if self.files.host:
            self._later(lambda: self._remove_outputs(message))

    def _remove_outputs(self, message: protocol.DropShuffle) -> None:
        """The driver sees none of this host's."""
        if self.shuffles.scope == "host":
            self.shuffles.remove(message.shuffle, message.before)

    def _answer_commit(self, message: protocol.AnswerCommit) -> None:
        self._answer(("commit", message.tid), message.granted)

    def _release_barrier(self, message: protocol.ReleaseBarrier) -> None:
        self._answer(("barrier", message.tid, message.round), list(message.messages))

    def _take_block(self, message: protocol.TakeBlock) -> None:
        ref = FileRef(*message.ref) if message.ref is not None else None
        if message.request >= 0:
            if not self._answer(("block", message.request), ref) and ref is not None:
                self._with_file(ref, lambda: self.files.remove(ref))  # the reader has given up waiting
        elif ref is not None:
            self._with_file(ref, lambda: self._adopt(message, ref))
        else:
            self.report(protocol.ReplicaTaken(message.rdd, message.partition))

    def _adopt(self, message: protocol.TakeBlock, ref: FileRef) -> None:
        try:
            self.blocks.adopt((message.rdd, message.partition), message.level, self.files.map(ref))
        except (StorageError, CorruptBlock, HostUnreachable) as error:  # one copy less
            log("asparkle.worker").warning("a replica was not kept", error=str(error))
        finally:
            self.report(protocol.ReplicaTaken(message.rdd, message.partition))
            with suppress(HostUnreachable):
                self.files.remove(ref)

    def _with_file(self, ref: FileRef, work: Callable[[], object]) -> None:
        """Do it now if the file is this host's; later, if it is to be fetched."""
        if ref.host == self.files.host:
            work()
        else:
            self._later(work)

    def _later(self, errand: Callable[[], object]) -> None:
        """Do in a thread what takes time: the channel is heard meanwhile."""
        if self._errands is None:
            self._errands = SimpleQueue()
            threading.Thread(
                target=self._run_errands, args=(self._errands,), name="asparkle-errands", daemon=True
            ).start()
        self._errands.put(errand)

    def _run_errands(self, errands: SimpleQueue[Callable[[], object]]) -> None:
        while True:
            try:
                errands.get()()
            except Exception as error:  # a plugin's, a full disk's, a lost host's: nobody waits for it
                log("asparkle.worker").warning("what the driver wanted could not be done", exc_info=error)

    def _export(self, message: protocol.Export) -> None:
        try:
            ref = self.export((message.rdd, message.partition))
        except StorageError as error:
            log("asparkle.worker").warning("a block could not be exported", error=str(error))
            ref = None
        self.report(protocol.Exported(message.rdd, message.partition, message.request, ref))

    def _surroundings(self, message: protocol.Surroundings) -> None:
        if self.provisions is not None:  # this host has a path and directories of its own
            self.provisions.take(message)
        elif not self.in_process:
            sys.path[:] = list(message.path)
            importlib.invalidate_caches()
            added_files[self.app.app_id] = files_below(self.app.directories)
            with suppress(OSError):  # the driver's directory may be gone: then relative paths fail, and say so
                os.chdir(message.directory)

    def _take_module(self, message: protocol.TakeModule) -> None:
        if self.provisions is not None:
            self.provisions.answer(message)

    def _turns(self, message: protocol.Turns) -> None:
        loop = self._event_loop
        if loop is not None:
            loop.call(loop.turns.dealt, Rate(message.rate, message.interval), message.wait)

    def _shutdown(self, message: protocol.Shutdown) -> None:
        self.stop()

    def stop(self) -> None:
        """End the slots' loops once they have finished what they run, and the event loop, whose tasks are cancelled;
        what they ask the driver, nobody answers.  Broadcasts are forgotten."""
        with self._life_lock:
            loop = self._event_loop
            if self._garbage_clock is not None and not self._stopped:
                self._garbage_clock.stop()
            self._stopped = True
        self.waiting.clear()
        for tid in {*self.running, *self._wakers}:
            self._wake(tid, self.killing.setdefault(tid, _STOPPED))
        for _ in range(self.app.slots_per_executor):
            self.queue.put(None)
        if loop is not None:
            loop.close(self.app.kill_timeout, lambda: self.report(protocol.HasLoop(False)))
        broadcast.forget(self.app.app_id)
        if self.provisions is not None:
            self.provisions.stop()
        self.files.close()

    # ------------------------------------------------------------------------- coroutines

    def event_loop(self) -> EventLoop:
        """The loop of the worker's coroutines, started when it is first asked for.

        Raises TaskKilled once the worker is stopped.
        """
        if self._event_loop is None:
            with self.uninterrupted(), self._life_lock:
                if self._event_loop is None and not self._stopped:
                    from asparkle.core.worker.eventloop import EventLoop

                    self._event_loop = EventLoop(f"asparkle-coroutines-{self.executor}", self._want_turns)
                    self.report(protocol.HasLoop(True))
            if self._event_loop is None:
                raise TaskKilled("the worker ends")
        return self._event_loop

    def join_event_loop(self) -> None:
        """After `stop`: wait until the event loop has ended, or has had time to."""
        if self._event_loop is not None:
            self._event_loop.join(self.app.kill_timeout)

    def _want_turns(self, rate: Rate, count: int) -> None:
        self.report(protocol.WantTurns(rate.id, rate.interval, count))

    def garbage_seconds(self) -> float:
        """How long the garbage collector has taken, since this was first asked."""
        if self._garbage_clock is None:
            with self._life_lock:
                if self._garbage_clock is None and not self._stopped:
                    self._garbage_clock = GarbageClock()
        return 0.0 if self._garbage_clock is None else self._garbage_clock.seconds

    # ------------------------------------------------------------------------- interrupts, and waking who waits

    @contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """An interrupt does not strike inside of this, but raises its TaskKilled at the end."""
        if self.interrupt is None or threading.get_ident() != self.main:
            yield
            return
        running, self.interruptible = self.interruptible, None
        try:
            yield
        finally:
            self.interruptible = running
        if running is not None and running in self.killing:
            raise TaskKilled(self.killing[running])

    def watch(self, tid: int, wake: Callable[[TaskKilled], object]) -> None:
        """Call ``wake`` when the attempt is killed or the worker stops: a thread that waits can't be interrupted.

        Raises TaskKilled if that has happened already.  Forgotten when the attempt ends, or by `unwatch`.
        """
        self._wakers.setdefault(tid, []).append(wake)
        if self._stopped or tid in self.killing:  # perhaps before ``wake`` was known here
            raise TaskKilled(self.killing.get(tid, _STOPPED))

    def unwatch(self, tid: int, wake: Callable[[TaskKilled], object]) -> None:
        """The attempt waits there no more."""
        self._wakers[tid].remove(wake)

    def _wake(self, tid: int, reason: str) -> None:
        for wake in list(self._wakers.get(tid, ())):
            wake(TaskKilled(reason))

    # ------------------------------------------------------------------------- asking the driver

    def _ask(self, tid: int, key: Any, question: Any, timeout: float | None = None) -> Any:
        """The driver's answer to an attempt's question.  Raises TaskKilled, and Empty after ``timeout`` seconds."""
        answers: SimpleQueue[Any] = SimpleQueue()
        wake = answers.put
        self._answers[key] = answers
        try:
            self.watch(tid, wake)
            self.report(question)
            answer = answers.get(timeout=timeout)
        finally:
            self._answers.pop(key, None)
            self.unwatch(tid, wake)
        if isinstance(answer, TaskKilled):
            raise answer
        return answer

    def _answer(self, key: Any, value: Any) -> bool:
        waiting = self._answers.get(key)
        if waiting is None:
            return False
        waiting.put(value)
        return True

    def request_commit(self, tid: int) -> bool:
        """Whether attempt ``tid`` is the one that may publish its partition's output."""
        granted: bool = self._ask(tid, ("commit", tid), protocol.RequestCommit(tid))
        return granted

    def barrier(self, tid: int, number: int, message: str) -> list[str]:
        """Wait until all tasks of the barrier stage are here, for the number-th time; their messages, in order of
        partition."""
        messages: list[str] = self._ask(tid, ("barrier", tid, number), protocol.BarrierReached(tid, number, message))
        return messages

    def fetch_block(self, tid: int, block: BlockId) -> Iterable[Any] | None:
        """A cached partition that another executor has, for attempt ``tid``, if that answers in time."""
        self._requests += 1
        request = self._requests
        try:
            ref = self._ask(tid, ("block", request), protocol.WantBlock(*block, request), FETCH_WAIT)
        except Empty:
            return None
        if ref is None:
            return None
        try:
            view = self.files.map(ref)
            self.files.remove(ref)
        except (CorruptBlock, OSError) as error:
            log("asparkle.worker").warning("a cached partition could not be fetched", block=block, error=str(error))
            return None
        return [x for batch in read_frames(view, 0, len(view), self.elements.loads) for x in batch]

    def export(self, block: BlockId) -> FileRef | None:
        """Write a block of this worker to a file of its own."""
        frames = self.blocks.export(block)
        if frames is None:
            return None
        name = f"export-{self.executor}-{block[0]}-{block[1]}-{time.monotonic_ns()}"
        return write_file(frames, os.path.join(self.app.directories[0], "results", name), self.app.host)

    # ------------------------------------------------------------------------- reports

    def report(self, message: Any) -> None:
        """Tell the driver, now, what waits to be told and this."""
        with self.uninterrupted():  # half of it would be half a message, or lose other attempts' reports
            self._report(message)

    def _report(self, message: Any) -> None:
        with self._outbox_lock:
            self._outbox.append(message)
            self._flush()

    def report_later(self, message: Any) -> None:
        """Tell the driver with the next report."""
        with self._outbox_lock:
            self._outbox.append(message)

    @property
    def has_reports(self) -> bool:
        return bool(self._outbox)

    def flush(self) -> bool:
        """Send what waits; says whether anything did."""
        with self._outbox_lock:
            if not self._outbox:
                return False
            self._flush()
            return True

    def _flush(self) -> None:
        batch, self._outbox = self._outbox, []
        self._flushed = time.monotonic()
        self._send(batch)

    # ------------------------------------------------------------------------- running

    def run_slot(self) -> None:
        """Run what is queued until `stop`."""
        while (tid := self._next()) is not None:
            self.running[tid] = started = time.monotonic()
            item = self.waiting.pop(tid, None)
            if item is None:  # recalled or killed before it started
                self.running.pop(tid, None)
                continue
            mark = self.mark
            if mark is not None:
                mark[:] = mark_of(tid)
            report = run_attempt(self, item)
            self.running.pop(tid, None)
            self.killing.pop(tid, None)
            self._wakers.pop(tid, None)
            now = time.monotonic()
            if self.holds_back and self.waiting and now - started < HOLD_BACK and now - self._flushed < HOLD_BACK:
                self.report_later(report)
            else:
                self.report(report)
            if mark is not None:  # not before it is told: if that can't be done, it is the attempt's doing
                mark[:] = NO_TASK

    def _next(self) -> int | None:
        """The next attempt's number; before waiting for one, everything is reported."""
        try:
            return self.queue.get_nowait()
        except Empty:
            self.flush()
            return self.queue.get()


_HANDLERS: dict[type, Callable[[Worker, Any], None]] = {
    protocol.Install: Worker._install,
    protocol.Forget: Worker._forget,
    protocol.MapTable: Worker._map_table,
    protocol.Run: Worker._run,
    protocol.Recall: Worker._recall,
    protocol.Kill: Worker._kill,
    protocol.DropRdd: Worker._drop_rdd,
    protocol.DropBroadcast: Worker._drop_broadcast,
    protocol.DropShuffle: Worker._drop_shuffle,
    protocol.AnswerCommit: Worker._answer_commit,
    protocol.ReleaseBarrier: Worker._release_barrier,
    protocol.Export: Worker._export,
    protocol.TakeBlock: Worker._take_block,
    protocol.Surroundings: Worker._surroundings,
    protocol.TakeModule: Worker._take_module,
    protocol.Turns: Worker._turns,
    protocol.Shutdown: Worker._shutdown,
}
