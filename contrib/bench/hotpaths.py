"""The hot paths, one by one, for comparing commits: each is a function that does a thing so many times.

    python -m pytest contrib/bench/hotpaths.py --benchmark-autosave [--benchmark-compare]    by pytest-benchmark
    python -m contrib.bench.instructions [--save FILE] [--compare FILE]                      by cachegrind

Seconds tell what a user feels, and are not the same twice on a shared machine; instructions are, to a thousandth,
and know nothing of caches.
"""

from __future__ import annotations

import operator
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain
from typing import Any

import pytest

from asparkle.backends.shufflefiles import FileReader, FileWriter
from asparkle.core import closures
from asparkle.core.partitioner import Partitioner, RangePartitioner
from asparkle.core.program import Apply, Program
from asparkle.core.protocol import MessageReader, Run, RunTask, encode
from asparkle.core.scheduler import (
    ExecutorAdded,
    JobSpec,
    JobSubmitted,
    Launch,
    Scheduler,
    SchedulerConf,
    StageSpec,
    TaskSucceeded,
)
from asparkle.core.serializer import dumps, loads
from asparkle.core.shuffle import (
    DISTINCT,
    GROUP,
    Aggregator,
    Batch,
    SpillSpace,
    combine,
    distinct,
    group,
    identity,
    join,
    read_reduce_partition,
    records_of,
    sort,
    write_map_output,
)
from asparkle.core.source_steps import RangeStep
from asparkle.core.transforms import CollectList, Filter, Map
from asparkle.core.worker.task import TaskEnvironment

PATHS: dict[str, tuple[Callable[[int], object], int]] = {}
"""By name: a function of how many, and how many make a tenth of a second or so."""

ADD = Aggregator(identity, operator.add, operator.add)


def path(count: int) -> Callable[[Callable[[int], object]], Callable[[int], object]]:
    def add(function: Callable[[int], object]) -> Callable[[int], object]:
        PATHS[function.__name__] = function, count
        return function

    return add


def drain(elements: Iterable[Any]) -> None:
    deque(elements, maxlen=0)


# -------------------------------------------------------------------------------- the driver, for each task or stage


@path(5_000)
def task_lifecycle(n: int) -> None:
    """In the scheduler: launched, and succeeded."""
    scheduler = Scheduler(SchedulerConf())
    events: deque[Any] = deque(ExecutorAdded(f"e{i}", 0, f"h{i}", 4) for i in range(4))
    events.append(JobSubmitted(JobSpec(0, (StageSpec(0, n),), tuple(range(n)))))
    while events:
        for command in scheduler.handle(events.popleft(), 0.0):
            if type(command) is Launch:
                events.extend(TaskSucceeded(command.executor, 0, task.tid, 0.001) for task in command.tasks)


def _square(x: int) -> int:
    return x**2


def _program() -> Program:
    return Program([RangeStep(range(100), 2), Apply(0, Map(_square)), Apply(1, Filter(lambda x: x > 9))])


@path(500)
def stage_pickled(n: int) -> None:
    program, sink = _program(), CollectList()
    for _ in range(n):
        reach = closures.reach(program, sink)
        closures.dumps((program, sink), "a function", by_name=reach.by_name)


@path(10_000)
def task_message(n: int) -> None:
    """There and back: encoded, and read."""
    reader = MessageReader()
    for i in range(0, n, 10):
        tasks = [RunTask(i + j, 0, j, 0) for j in range(10)]
        reader.feed(encode([Run(3, tasks, {}, None, False)]))


# ------------------------------------------------------------------------------------- workers, for each element


class _Task(TaskEnvironment):
    """Of a program that asks for nothing."""

    def __init__(self) -> None:
        self.computed = {}


@path(200_000)
def narrow_chain(n: int) -> None:
    """map and filter over a range."""
    program = Program([RangeStep(range(n), 1), Apply(0, Map(_square)), Apply(1, Filter(bool))])
    program.run(0, CollectList(), _Task())


@path(200_000)
def narrow_chain_in_plain_python(n: int) -> None:
    list(filter(bool, map(_square, range(n))))


def _pairs(n: int) -> Iterator[tuple[int, int]]:
    return ((i * 7919 % 10_007, i) for i in range(n))


def _written(
    records: Iterable[Any], aggregator: Aggregator | None = None, partitioner: Partitioner | None = None
) -> Any:
    with tempfile.TemporaryDirectory() as directory, SpillSpace([directory], 512 << 20) as space:
        partitioner = partitioner or Partitioner(4)
        begin = lambda: FileWriter(f"{directory}/0", partitioner.numPartitions)
        info = write_map_output(records, partitioner=partitioner, begin=begin, space=space, aggregator=aggregator)
        drain(chain.from_iterable(read_reduce_partition(info, r, FileReader) for r in range(4)))


@path(100_000)
def shuffle_pairs(n: int) -> None:
    """Written and read."""
    _written(_pairs(n))


@path(100_000)
def shuffle_strings(n: int) -> None:
    _written((f"word {k}", i) for k, i in _pairs(n))


@path(100_000)
def shuffle_by_range(n: int) -> None:
    _written(_pairs(n), None, RangePartitioner([2_500, 5_000, 7_500]))


@path(100_000)
def map_side_sum(n: int) -> None:
    _written(_pairs(n), ADD)


@path(100_000)
def map_side_group(n: int) -> None:
    _written(_pairs(n), GROUP)


@path(100_000)
def map_side_distinct(n: int) -> None:
    _written((k for k, _ in _pairs(n)), DISTINCT)


@cache
def _batches(n: int) -> list[Batch]:
    pairs = list(_pairs(n))
    pieces = [pairs[i : i + 4096] for i in range(0, n, 4096)]
    return [Batch([k for k, _ in piece], [v for _, v in piece]) for piece in pieces]


def _reduced(operation: Callable[[list[Batch], SpillSpace], Iterable[Any]], n: int) -> None:
    with SpillSpace([tempfile.gettempdir()], 512 << 20) as space:
        drain(operation(_batches(n), space))


@path(100_000)
def reduce_side_sum(n: int) -> None:
    _reduced(lambda batches, space: combine(batches, ADD, space), n)


@path(100_000)
def reduce_side_group(n: int) -> None:
    _reduced(group, n)


@path(100_000)
def reduce_side_distinct(n: int) -> None:
    _reduced(lambda batches, space: distinct([Batch(b.keys, None, True) for b in batches], space), n)


@path(100_000)
def reduce_side_sort(n: int) -> None:
    _reduced(lambda batches, space: sort(records_of(batches), operator.itemgetter(0), False, space), n)


@path(100_000)
def reduce_side_join(n: int) -> None:
    few = [Batch(list(range(10_007)), list(range(10_007)))]
    _reduced(lambda batches, space: join([batches, few], space, streamed=0, outer=False), n)


@path(100_000)
def pickled_and_back(n: int) -> None:
    loads(dumps(list(_pairs(n))))


@pytest.mark.parametrize("name", PATHS)
def test_path(name: str, benchmark: Any) -> None:
    function, count = PATHS[name]
    function(count)
    benchmark(function, count)
