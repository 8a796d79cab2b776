"""One attempt, from what was sent to what is reported."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from asparkle.core import protocol, taskcontext
from asparkle.core.accumulators import updates_of
from asparkle.core.errors import CommitDenied, PicklingFailed, TaskKilled
from asparkle.core.failure import describe_failure
from asparkle.core.metrics import Counters
from asparkle.core.payloads import pack
from asparkle.core.protocol import Live, Payload
from asparkle.core.serializer import dumps
from asparkle.core.shuffle.steps import MapOutputMissing, ShuffleWrite, is_gone
from asparkle.core.taskcontext import TaskContext
from asparkle.core.worker.task import TaskEnvironment

if TYPE_CHECKING:
    from asparkle.core.worker.runtime import Item, Worker


def run_attempt(worker: Worker, item: Item) -> protocol.ToDriver:
    """Run one attempt, and say how it went.  Never raises: whatever happens in it is its report."""
    counters = Counters()
    if not item.metered:
        return _attempt(worker, item, counters)
    garbage, cpu, started = worker.garbage_seconds(), time.thread_time(), time.perf_counter()
    report = _attempt(worker, item, counters)
    if isinstance(report, protocol.FetchFailed):
        return report
    seconds = time.perf_counter() - started
    counters.run_seconds = max(0.0, seconds - counters.deserialize_seconds - counters.result_seconds)
    counters.cpu_seconds = time.thread_time() - cpu
    counters.gc_seconds = worker.garbage_seconds() - garbage
    counters.fetched = worker.files.fetched()
    return report._replace(metrics=counters.values())


def _attempt(
    worker: Worker, item: Item, counters: Counters
) -> protocol.Succeeded | protocol.Failed | protocol.FetchFailed:
    task = item.task
    context = _context(worker, item)
    context._counters = counters
    context._request_commit = lambda: worker.request_commit(task.tid)
    taskcontext.enter(context)
    started = time.perf_counter()
    try:
        try:
            for scope in worker.task_scopes:
                context._at_end().enter_context(scope(context))
            environment = TaskEnvironment(worker, task, context)
            if worker.provisions is not None:
                worker.provisions.bring()
            program, sink = worker.stages[item.stage].unpickle()  # may import, which must not be interrupted
            counters.deserialize_seconds = time.perf_counter() - started
            worker.interruptible = task.tid
            if task.tid in worker.killing:  # asked for before the interrupt could strike
                raise TaskKilled(worker.killing[task.tid])
            write, run = ShuffleWrite.write, program.run
            if program.profiler is not None:
                write, run = partial(program.profiler.profile, write), partial(program.profiler.profile, run)
            if type(sink) is ShuffleWrite:
                written = write(sink, program, task.partition, environment)
                updates = _pack_updates(worker, context)
                return protocol.Succeeded(
                    task.tid, time.perf_counter() - started, written.location, updates, written.sizes
                )
            value = run(task.partition, sink, environment)
        finally:
            worker.interruptible = None
            if context._cleanups is not None:
                context._cleanups.close()
        seconds = time.perf_counter() - started
        result = _pack_result(worker, task.tid, value, counters)
        return protocol.Succeeded(task.tid, seconds, result, _pack_updates(worker, context))
    except MapOutputMissing as missing:
        error = describe_failure(missing, live=worker.in_process)
        others = _gone(worker, missing)
        return protocol.FetchFailed(task.tid, missing.shuffle, missing.partition, missing.tid, error, others)
    except BaseException as error:  # whatever a user's function raises, SystemExit included, is its report
        was_killed = task.tid in worker.killing
        if worker.provisions is not None:
            worker.provisions.explain(error)
        fatal = isinstance(error, PicklingFailed)
        described = describe_failure(error, live=worker.in_process)
        penalised = not was_killed and not isinstance(error, CommitDenied)
        return protocol.Failed(task.tid, described, penalised, was_killed, fatal)
    finally:
        taskcontext.leave()


def _gone(worker: Worker, missing: MapOutputMissing) -> list[tuple[int, int]]:
    """The other map outputs of the shuffle that are not where they should be: one look for all is quicker than an
    attempt for each."""
    table = worker.tables.get(missing.shuffle)
    outputs = enumerate(table.outputs if table is not None else ())
    return [
        (partition, tid)
        for partition, (tid, where) in outputs
        if partition != missing.partition and is_gone(where, worker.shuffles)
    ]


def _context(worker: Worker, item: Item) -> TaskContext:
    task = item.task
    facts = (item.stage, task.partition, task.attempt, task.tid, item.properties, worker.app.task_cpus)
    if item.hosts is None:
        return TaskContext(*facts)
    from asparkle.core.barrier import BarrierTaskContext

    context = BarrierTaskContext(*facts)
    context._hosts = item.hosts
    context._exchange = lambda number, message: worker.barrier(task.tid, number, message)
    return context


def _pack_result(worker: Worker, tid: int, value: Any, counters: Counters) -> Payload:
    if worker.in_process:
        return Live(value)
    started = time.perf_counter()
    path = os.path.join(worker.app.directories[0], "results", str(tid))
    try:
        chunks = worker.elements.dumps(value)
    except Exception as error:  # pickling runs users' code
        from asparkle.core.closures import diagnose

        raise diagnose(value, "the task's result", error) from error
    packed = pack(chunks, worker.app.direct_result, path, is_pickle=worker.elements.is_pickle, host=worker.app.host)
    counters.result_bytes = sum(map(len, chunks))
    counters.result_seconds = time.perf_counter() - started
    return packed


def _pack_updates(worker: Worker, context: TaskContext) -> Payload | None:
    if not context._accumulators:
        return None
    updates = updates_of(context)
    if worker.in_process:
        return Live(updates)
    path = os.path.join(worker.app.directories[0], "results", f"{context._tid}-updates")
    return pack(dumps(updates), worker.app.direct_result, path, host=worker.app.host)
