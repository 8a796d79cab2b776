"""The map side: records into one map output, bucketed by reducer and combined where an aggregator is given."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Any, TypeAlias
from zlib import crc32

from asparkle.core.contracts import Buffer, MapOutputWriter
from asparkle.core.hashing import portable_hash
from asparkle.core.metrics import counters
from asparkle.core.pairs import first_two, is_pair
from asparkle.core.partitioner import Partitioner
from asparkle.core.serializer import Dumps
from asparkle.core.shuffle.aggregator import DISTINCT, GROUP, Aggregator, Table
from asparkle.core.shuffle.batch import Batch, batches_of, explain
from asparkle.core.shuffle.mapoutput import MapOutputInfo, pack_batch
from asparkle.core.shuffle.spill import Meter, SpillSpace
from asparkle.core.shuffle.weighing import (
    FIRST_STEP,
    FRAME_ROWS,
    MAX_STEP_COMBINED,
    MAX_STEP_DISTINCT,
    POINTER,
    SAMPLE,
    Scales,
    average_size,
    next_step,
    rows_per_frame,
)

Begin: TypeAlias = Callable[[], MapOutputWriter]

INLINE_LIMIT = 4096
WRITE_BYTES = 8 << 20
PROBE = 4096


def write_map_output(
    records: Iterable[Any],
    *,
    partitioner: Partitioner,
    begin: Begin,
    space: SpillSpace,
    aggregator: Aggregator | None = None,
    longer: bool = False,
    inline_limit: int = INLINE_LIMIT,
) -> MapOutputInfo:
    """Write ``records`` for the reducers that ``partitioner`` names, to what ``begin`` begins.

    ``records`` are ``(key, value)`` pairs; for `DISTINCT`, keys; with ``longer``, and no aggregator, they may have more
    than two items, of which the first two count.  With an aggregator they are combined first
    (`GROUP`: only where that helps), which changes nothing for the reader but the size.  Each reducer's
    records keep their order; combined keys are in order of first appearance.

    The store has it when it is whole, and never otherwise: on any error, also of ``records`` itself, nothing is left.
    Output of at most ``inline_limit`` bytes is not begun there but is part of what is returned.  At most about
    ``space.memory_limit`` bytes are held: beyond that, what there is goes to the store.

    Raises `UserFunctionError` (a record is not a pair, a partition function gave no int), `KeyHashError`,
    `PicklingFailed`, what the store raises (`StorageError`, naming the directory that is full or can't be written to),
    and what ``records`` and the user's functions raise.
    """
    output = _Output(begin, partitioner.numPartitions, inline_limit, space.dumps)
    try:
        if aggregator is None:
            _write_plain(iter(records), Buckets(partitioner, longer), output, space)
        else:
            _write_combined(iter(records), aggregator, partitioner, output, space)
        return output.finish()
    except BaseException:
        output.abort()
        raise


# -------------------------------------------------------------------------------- three ways to fill it


def _write_plain(
    records: Iterator[Any],
    buckets: Buckets,
    output: _Output,
    space: SpillSpace,
    head: Sequence[Batch] = (),
) -> None:
    """``head``: what was taken from ``records`` before, as batches."""
    meter = Meter(space)
    step = FIRST_STEP
    while added := buckets.fill(records, step):
        size = buckets.sample_record_size()
        if meter.add(size * added):
            output.flush(head, buckets.take(), record_size=size)
            head = ()
            meter.clear(spilled=True)
        step = next_step(step, size, space)
    size = buckets.sample_record_size()
    output.flush(head, buckets.take(), record_size=size)
    meter.clear()


def _write_combined(
    records: Iterator[Any],
    aggregator: Aggregator,
    partitioner: Partitioner,
    output: _Output,
    space: SpillSpace,
) -> None:
    table = aggregator.new_table()
    scales = Scales(aggregator)
    meter = Meter(space)
    step = FIRST_STEP
    most = MAX_STEP_DISTINCT if aggregator is DISTINCT else MAX_STEP_COMBINED
    taken = 0
    while (first := next(records, _END)) is not _END:
        aggregator.fold(table, (first,))
        aggregator.fold(table, islice(records, step - 1))
        nbytes = scales(table, step)
        if meter.add(nbytes - meter.used):
            output.flush(_bucket_table(table, aggregator, partitioner), record_size=nbytes // len(table))
            table = aggregator.new_table()
            scales = Scales(aggregator)
            meter.clear(spilled=True)
        taken += step
        if aggregator is GROUP and taken > PROBE and len(table) * 3 > taken:
            # Hashing and bucketing a key once and sending its values as one list is quicker than
            # sending pairs from about three values per key: there are fewer.
            head = _bucket_table(table, aggregator, partitioner)
            return _write_plain(records, Buckets(partitioner), output, space, head)
        step = next_step(step, scales.growth // step, space, most)
    output.flush(_bucket_table(table, aggregator, partitioner), record_size=meter.used // max(len(table), 1))
    meter.clear()


def _bucket_table(table: Table, aggregator: Aggregator, partitioner: Partitioner) -> list[Batch]:
    n = partitioner.numPartitions
    keys: list[list[Any]] = [[] for _ in range(n)]
    parts = partitioner.partitions(list(table)) if table else []
    if aggregator is GROUP and table and max(map(len, table.values())) > FRAME_ROWS:
        return _bucket_hot_groups(table, parts, n)
    _scatter(table, parts, keys)
    if aggregator is DISTINCT:
        return [Batch(k, None, True) for k in keys]
    values: list[list[Any]] = [[] for _ in range(n)]
    _scatter(table.values(), parts, values)
    return [Batch(k, v, True) for k, v in zip(keys, values, strict=True)]


def _bucket_hot_groups(table: Table, parts: list[int], n: int) -> list[Batch]:
    """As `_bucket_table`, but long lists in pieces, so that no reader has to hold a whole one."""
    batches = [Batch([], [], True) for _ in range(n)]
    for (key, values), part in zip(table.items(), parts, strict=True):
        keys, pieces, _ = batches[part]
        assert pieces is not None
        pieces += [values[at : at + FRAME_ROWS] for at in range(0, len(values), FRAME_ROWS)]
        keys += [key] * (len(pieces) - len(keys))
        values.clear()
    return batches


def _scatter(column: Iterable[Any], parts: Iterable[int], into: list[list[Any]]) -> None:
    appends = [bucket.append for bucket in into]
    for x, part in zip(column, parts, strict=True):
        appends[part](x)


_END = object()


class Buckets:
    """Records by reducer, in columns."""

    def __init__(self, partitioner: Partitioner, longer: bool = False) -> None:
        self._partitioner = partitioner
        self._longer = longer
        self._hashed = partitioner.partitionFunc is portable_hash
        self._n = partitioner.numPartitions
        self._turn = 0
        self._reset()

    def _reset(self) -> None:
        self._keys: list[list[Any]] = [[] for _ in range(self._n)]
        self._values: list[list[Any]] = [[] for _ in range(self._n)]
        self._appends = [k.append for k in self._keys], [v.append for v in self._values]
        self._length = 0

    def take(self) -> list[Batch]:
        """What is in the buckets; they are empty then."""
        batches = list(map(Batch, self._keys, self._values))
        self._reset()
        return batches

    def fill(self, records: Iterator[Any], count: int) -> int:
        """Bucket the next ``count`` records; how many there were."""
        chunk = islice(records, count)
        if self._hashed:
            self._fill_hashed(chunk)
        else:
            self._fill_partitioned(list(chunk))
        before, self._length = self._length, sum(map(len, self._keys))
        return self._length - before

    def _fill_hashed(self, records: Iterable[Any]) -> None:
        (add_key, add_value), n = self._appends, self._n
        kv: Any = (None, None)
        try:
            for kv in records:
                k, v = kv
                if type(k) is int:
                    part = hash(k) % n
                elif type(k) is str:
                    part = crc32(k.encode("utf-8", "surrogatepass")) % n
                else:
                    part = portable_hash(k) % n
                add_key[part](k)
                add_value[part](v)
        except (TypeError, ValueError) as error:
            if not self._longer or is_pair(kv):
                explain(kv, error)
            self._fill_hashed(first_two(chain((kv,), records), "an operation on keys"))

    def _fill_partitioned(self, records: list[Any]) -> None:
        if records:
            (batch,) = batches_of(records, len(records), longer=self._longer)
            parts = self._partitioner.partitions(batch.keys)
            _scatter(batch.keys, parts, self._keys)
            _scatter(batch.values or (), parts, self._values)

    def sample_record_size(self) -> int:
        """About how many bytes one of the latest records takes here."""
        for _ in range(self._n):
            self._turn = (self._turn + 1) % self._n
            if keys := self._keys[self._turn]:
                return 2 * POINTER + average_size(keys[-SAMPLE:]) + average_size(self._values[self._turn][-SAMPLE:])
        return 1


# ----------------------------------------------------------------------------------------- the output


class _Output:
    """Frames on their way to a store that has all of them or none; or to memory, if they are few."""

    def __init__(self, begin: Begin, reducers: int, inline_limit: int, dumps: Dumps) -> None:
        self._begin = begin
        self._dumps = dumps
        self._inline_limit = inline_limit
        self._writer: MapOutputWriter | None = None
        self._sizes = array("Q", bytes(8 * reducers))
        self._records = 0
        self._position = 0
        self._pieces: list[tuple[int, Sequence[Buffer]]] = []
        self._waiting = 0

    def flush(self, *columns: Sequence[Batch], record_size: int) -> None:
        """Append batches: in each of ``columns`` (in this order) one for each reducer, or none at all.

        ``record_size``: bytes of a record, about."""
        started = time.perf_counter()
        self._flush(columns, record_size)
        counters().shuffle_write_seconds += time.perf_counter() - started

    def _flush(self, columns: Sequence[Sequence[Batch]], record_size: int) -> None:
        step = rows_per_frame(record_size)
        for reducer, batches in enumerate(zip(*filter(None, columns), strict=True)):
            for batch in batches:
                for at in range(0, len(batch.keys), step):
                    self._append(reducer, _slice(batch, at, at + step))
        if self._writer is not None or self._position > self._inline_limit:
            self._write()

    def _append(self, reducer: int, batch: Batch) -> None:
        parts = pack_batch(batch, self._dumps)
        nbytes = sum(map(len, parts))
        self._pieces.append((reducer, parts))
        self._sizes[reducer] += nbytes
        self._records += len(batch.keys)
        self._position += nbytes
        self._waiting += nbytes
        if self._waiting >= WRITE_BYTES:
            self._write()

    def _write(self) -> None:
        if self._writer is None:
            self._writer = self._begin()
        self._writer.write(self._pieces)
        self._pieces.clear()
        self._waiting = 0

    def finish(self) -> MapOutputInfo:
        """Publish what was appended."""
        if self._writer is None:
            pieces = sorted(self._pieces, key=itemgetter(0))  # those of one reducer stay in order
            return MapOutputInfo(None, self._sizes, self._records, b"".join(chain.from_iterable(p for _, p in pieces)))
        return MapOutputInfo(self._writer.commit(), self._sizes, self._records)

    def abort(self) -> None:
        """Leave nothing."""
        if self._writer is not None:
            self._writer.abort()


def _slice(batch: Batch, start: int, end: int) -> Batch:
    if start == 0 and end >= len(batch.keys):
        return batch
    keys, values, combined = batch
    return Batch(keys[start:end], None if values is None else values[start:end], combined)
