"""Shuffles as steps of a stage: what a map task writes, and what a reduce task makes of it.

A `ShuffleSpec` says both.  It travels in the binary of the stage that writes and in that of the stage that
reads; where the input is partitioned as wanted already, `ShuffleSpec.local_step` does the reader's part
without a shuffle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from asparkle.core import shuffle as sh
from asparkle.core.errors import AsparkleError, PluginError
from asparkle.core.metrics import counters
from asparkle.core.partitioner import Partitioner
from asparkle.core.program import GENERATOR, Apply, Program, Step, Transform
from asparkle.core.resultiterable import ResultIterable
from asparkle.core.shuffle.aggregator import DISTINCT, GROUP, Aggregator

if TYPE_CHECKING:
    from asparkle.core.contracts import MapOutputReader, ShuffleStore
    from asparkle.core.serializer import Loads
    from asparkle.core.shuffle import Batch, MapOutputInfo
    from asparkle.core.shuffle.mapoutput import Open
    from asparkle.core.worker.task import TaskEnvironment


class MapOutputMissing(AsparkleError):
    """A map output could not be read: its map task has to run again.  Never reaches users."""

    def __init__(self, shuffle: int, partition: int, tid: int, reason: str) -> None:
        super().__init__(f"output {partition} of shuffle {shuffle} can't be read: {reason}")
        self.shuffle = shuffle
        self.partition = partition
        self.tid = tid


class ShuffleSpec:
    """Which partition each record goes to, and what is made of those that come together.

    This one leaves records as they are; subclasses combine, group, sort them.
    """

    __slots__ = ("id", "partitioner")

    aggregator: Aggregator | None = None
    longer: bool = False  # whether records may have more than two items, of which the first two count

    def __init__(self, partitioner: Partitioner) -> None:
        self.id = -1  # given by the planner when the records really have to move
        self.partitioner = partitioner

    def gather(self, batches: Iterator[Batch], task: TaskEnvironment) -> Iterator[Any]:
        """The elements of a partition, from the batches that its map outputs hold."""
        return sh.records_of(batches)

    def local_step(self, input: int) -> Step:
        """The same for records that are in the right partition already."""
        return Apply(input, Gather(self))


class Gather(Transform):
    """A reader's part of a shuffle over records that did not have to move."""

    __slots__ = ("spec",)

    def __init__(self, spec: ShuffleSpec) -> None:
        self.spec = spec

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        from asparkle.core.worker.task import current_environment

        return self.spec.gather(sh.batches_of(elements), current_environment())


class GatherElements(Gather):
    """The same where whole elements, not the first of each pair, are the keys."""

    __slots__ = ()

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        from asparkle.core.worker.task import current_environment

        chunks = iter(lambda: list(islice(elements, 1024)), [])
        return self.spec.gather((sh.Batch(chunk, None, True) for chunk in chunks), current_environment())


class RecordsSpec(ShuffleSpec):
    """Pairs as they are, in map order."""

    __slots__ = ()

    def local_step(self, input: int) -> Step:
        return Apply(input, AsTheyAre())


class LongerRecordsSpec(RecordsSpec):
    """The first two items of each record, in map order."""

    __slots__ = ()
    longer = True


class AsTheyAre(Transform):
    __slots__ = ()

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        return elements


class CombineSpec(ShuffleSpec):
    """One pair per key, its values combined; also on the map side."""

    __slots__ = ("aggregator",)

    def __init__(
        self,
        partitioner: Partitioner,
        create: Callable[[Any], Any],
        merge_value: Callable[[Any, Any], Any],
        merge_combiners: Callable[[Any, Any], Any],
    ) -> None:
        super().__init__(partitioner)
        self.aggregator: Aggregator = Aggregator(create, merge_value, merge_combiners)

    def gather(self, batches: Iterator[Batch], task: TaskEnvironment) -> Iterator[Any]:
        return iter(sh.combine(batches, self.aggregator, task.space))


class GroupSpec(ShuffleSpec):
    """One pair per key with all its values."""

    __slots__ = ()

    aggregator = GROUP

    def gather(self, batches: Iterator[Batch], task: TaskEnvironment) -> Iterator[Any]:
        return ((k, ResultIterable(values)) for k, values in sh.group(batches, task.space))


class DistinctSpec(ShuffleSpec):
    """Each different element once; the elements are the keys."""

    __slots__ = ()

    aggregator = DISTINCT

    def gather(self, batches: Iterator[Batch], task: TaskEnvironment) -> Iterator[Any]:
        return iter(sh.distinct(batches, task.space))

    def local_step(self, input: int) -> Step:
        return Apply(input, GatherElements(self))


class SortSpec(ShuffleSpec):
    """Pairs sorted by key within each partition."""

    __slots__ = ("ascending", "key_func")

    def __init__(
        self, partitioner: Partitioner, ascending: bool = True, key_func: Callable[[Any], Any] | None = None
    ) -> None:
        super().__init__(partitioner)
        self.ascending = ascending
        self.key_func = key_func

    def gather(self, batches: Iterator[Batch], task: TaskEnvironment) -> Iterator[Any]:
        key = itemgetter(0) if self.key_func is None else _OfKey(self.key_func)
        return iter(sh.sort(sh.records_of(batches), key, not self.ascending, task.space))


class _OfKey:
    """Orders pairs by a function of their key."""

    __slots__ = ("key_func",)

    def __init__(self, key_func: Callable[[Any], Any]) -> None:
        self.key_func = key_func

    def __call__(self, pair: tuple[Any, Any]) -> Any:
        return self.key_func(pair[0])


# ------------------------------------------------------------------------------ the map side


class Written:
    """What a map task reports: where its output lies, and how much of it goes to each reducer."""

    __slots__ = ("location", "sizes")

    def __init__(self, location: Any, sizes: Sequence[int]) -> None:
        self.location = location
        self.sizes = sizes


class ShuffleWrite:
    """The end of a map task: writes a partition's records for the reducers."""

    __slots__ = ("spec",)

    def __init__(self, spec: ShuffleSpec) -> None:
        self.spec = spec

    def __reduce__(self) -> tuple[Any, ...]:
        return (ShuffleWrite, (self.spec,))

    def write(self, program: Program, partition: int, task: TaskEnvironment) -> Written:
        info = program.run(partition, lambda _, records: self._output(records, partition, task), task)
        sizes = list(info.sizes)
        counters = task.context._counters
        counters.shuffle_write_bytes, counters.shuffle_write_records = sum(sizes), info.records
        return Written((info.location, sizes, info.inline), sizes)

    def _output(self, records: Iterator[Any], partition: int, task: TaskEnvironment) -> MapOutputInfo:
        output = (self.spec.id, partition, task.task.tid)
        return sh.write_map_output(
            records,
            partitioner=self.spec.partitioner,
            aggregator=self.spec.aggregator,
            longer=self.spec.longer,
            begin=lambda: task.worker.shuffles.begin(output, self.spec.partitioner.numPartitions),
            space=task.space,
        )


# ------------------------------------------------------------------------------ the reduce side


class ShuffleRead(Step):
    """A partition out of the pieces that all map tasks wrote for it, in map order."""

    __slots__ = ("spec",)

    def __init__(self, spec: ShuffleSpec) -> None:
        self.cached = None
        self.spec = spec

    def compute(self, program: Program, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        return self.spec.gather(self.batches(partition, task), task)

    def batches(self, partition: int, task: TaskEnvironment) -> Iterator[Batch]:
        shuffle = self.spec.id
        outputs = task.map_outputs(shuffle)
        open, loads = _Readers(outputs, partition, task), task.worker.elements.loads
        return chain.from_iterable(
            _read(shuffle, map_partition, tid, location, partition, open, loads)
            for map_partition, (tid, location) in enumerate(outputs)
        )


class _Readers:
    """The pieces that a reducer reads from a store, which is told at the first of them what else there will be."""

    def __init__(self, outputs: Sequence[tuple[int, Any]], partition: int, task: TaskEnvironment) -> None:
        self._outputs = outputs
        self._partition = partition
        self._task = task
        self._readers: Iterator[MapOutputReader] | None = None

    def __call__(self, location: Any, partition: int) -> MapOutputReader:
        """The reader of the next of them: this one."""
        if self._readers is None:
            pieces = [
                (where, partition, sizes)
                for where, sizes, inline in (location for _, location in self._outputs if location is not None)
                if inline is None and sizes[partition]
            ]
            self._readers = self._task.worker.shuffles.open_all(pieces)
            self._task.context._add_cleanup(self._close)
        reader = next(self._readers, None)
        if reader is None:
            problem = "open_all() came to an end before it had given a reader for each piece"
            raise PluginError(type(self._task.worker.shuffles).__qualname__, problem)
        return reader

    def _close(self) -> None:
        """The attempt ends, perhaps before all is read."""
        close = getattr(self._readers, "close", None)
        if close is not None:
            close()


def _read(
    shuffle: int, map_partition: int, tid: int, location: Any, reducer: int, open: Open, loads: Loads
) -> Iterator[Batch]:
    if location is None:
        raise MapOutputMissing(shuffle, map_partition, tid, "it is not known where it lies")
    where, sizes, inline = location
    if not sizes[reducer]:
        return
    counted = counters()
    counted.shuffle_read_bytes += sizes[reducer]
    counted.shuffle_read_blocks += 1
    batches = sh.read_reduce_partition(sh.MapOutputInfo(where, sizes, 0, inline), reducer, open, loads)
    try:
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            counted.shuffle_read_seconds += time.perf_counter() - started
            if batch is None:
                return
            counted.shuffle_read_records += len(batch.keys)
            yield batch
    except sh.MapOutputLost as lost:
        raise MapOutputMissing(shuffle, map_partition, tid, lost.reason) from lost


def is_gone(location: Any, store: ShuffleStore) -> bool:
    """Whether a map output is surely not there."""
    if location is None:
        return False
    where, _, inline = location
    return inline is None and not store.has(where)


class CoGroupStep(Step):
    """``function(k, lists)`` over the groups that several inputs have for each key."""

    __slots__ = ("function", "inputs")
    nesting = 3 * GENERATOR

    def __init__(self, inputs: Sequence[int], function: Callable[[Iterator[Any]], Iterable[Any]]) -> None:
        self.cached = None
        self.inputs = inputs
        self.function = function

    def inputs_of(self, partition: int) -> Sequence[tuple[int, int]]:
        return [(step, partition) for step in self.inputs]

    def input_steps(self) -> Sequence[int]:
        return self.inputs

    def compute(self, program: Program, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        return iter(self.function(sh.cogroup(self._inputs(program, partition, task), task.space)))

    def _inputs(self, program: Program, partition: int, task: TaskEnvironment) -> list[Iterator[Batch]]:
        return [self._batches(program, step, partition, task) for step in self.inputs]

    @staticmethod
    def _batches(program: Program, index: int, partition: int, task: TaskEnvironment) -> Iterator[Batch]:
        step = program.steps[index]
        if type(step) is ShuffleRead and isinstance(step.spec, RecordsSpec) and step.cached is None:
            return step.batches(partition, task)
        return sh.batches_of(program.iterator(index, partition, task), longer=True)


class Join:
    """That two inputs are joined.  ``streamed``, ``outer``: see `joining`."""

    __slots__ = ("outer", "streamed")

    def __init__(self, streamed: int = 0, outer: bool = False) -> None:
        self.streamed = streamed
        self.outer = outer


class JoinStep(CoGroupStep):
    """``(k, (v, w))`` for each pair of values that two inputs have for a key."""

    __slots__ = ("join",)

    def __init__(self, inputs: Sequence[int], join: Join) -> None:
        self.cached = None
        self.inputs = inputs
        self.join = join

    def compute(self, program: Program, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        inputs = self._inputs(program, partition, task)
        return sh.join(inputs, task.space, streamed=self.join.streamed, outer=self.join.outer)
