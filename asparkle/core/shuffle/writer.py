"""The map side: records into one file, bucketed by reducer and combined where an aggregator is given."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from asparkle.core.errors import StorageError
from asparkle.core.hashing import portable_hash
from asparkle.core.partitioner import Partitioner
from asparkle.core.serializer import Buffer, estimate_size, write_all
from asparkle.core.shuffle.aggregator import DISTINCT, GROUP, Aggregator
from asparkle.core.shuffle.batch import Batch, explain
from asparkle.core.shuffle.mapoutput import MapOutputInfo, pack_batch, pack_index
from asparkle.core.shuffle.spill import Meter, SpillSpace

__all__ = ["write_map_output"]

INLINE_LIMIT = 4096
FRAME_BYTES = 1 << 20
FRAME_RECORDS = 1 << 14
WRITE_BYTES = 8 << 20
MAX_STEP = 2048  # records between two looks at the memory; a few more big ones than expected must fit
PROBE = 4096
DICT_ENTRY = 104  # bytes: entry, hash table slot, and the room a growing dict keeps


def write_map_output(
    records: Iterable[Any],
    *,
    partitioner: Partitioner,
    path: str,
    space: SpillSpace,
    aggregator: Aggregator | None = None,
    inline_limit: int = INLINE_LIMIT,
) -> MapOutputInfo:
    """Write ``records`` for the reducers that ``partitioner`` names, to the file ``path``.

    ``records`` are ``(key, value)`` pairs; for `DISTINCT`, keys.  With an aggregator they are combined first
    (`GROUP`: only where that helps), which changes nothing for the reader but the size.  Each reducer's
    records keep their order; combined keys are in order of first appearance.

    The file appears under its name when it is whole, and never otherwise: on any error, also of
    ``records`` itself, nothing is left.  Output of at most ``inline_limit`` bytes makes no file but is
    part of what is returned.  At most about ``space.memory_limit`` bytes are held: beyond that, what there
    is goes to the file.

    Raises `UserFunctionError` (a record is not a pair, a partition function gave no int), `KeyHashError`,
    `PicklingFailed`, `StorageError` (naming the directory that is full or can't be written to), and what
    ``records`` and the user's functions raise.
    """
    output = _Output(path, partitioner.numPartitions, inline_limit)
    try:
        if aggregator is None:
            _write_plain(iter(records), partitioner, output, space)
        elif aggregator is GROUP:
            _write_groups(iter(records), partitioner, output, space)
        else:
            _write_combined(iter(records), aggregator, partitioner, output, space)
        return output.finish()
    except BaseException:
        output.abort()
        raise


# -------------------------------------------------------------------------------- three ways to fill it


def _write_plain(records: Iterator[Any], partitioner: Partitioner, output: _Output, space: SpillSpace) -> None:
    buckets = _Buckets(partitioner)
    meter = Meter(space)
    step = 16
    while added := buckets.fill(records, step):
        nbytes = buckets.last_size() * added
        if meter.add(nbytes):
            output.flush(buckets.take())
            meter.clear(spilled=True)
        step = _next_step(step, added, nbytes, space)
    output.flush(buckets.take())
    meter.clear()


def _write_groups(records: Iterator[Any], partitioner: Partitioner, output: _Output, space: SpillSpace) -> None:
    """Group first if keys repeat: hashing and bucketing a key once and sending its values as one list is
    quicker than sending pairs, from about three values per key."""
    probe = list(islice(records, PROBE))
    table = GROUP.new_table()
    GROUP.fold(table, probe)
    if len(table) * 3 > len(probe):
        _write_plain(_chain(probe, records), partitioner, output, space)
    else:
        _write_combined(_chain(probe, records), GROUP, partitioner, output, space)


def _chain(first: list[Any], rest: Iterator[Any]) -> Iterator[Any]:
    yield from first
    first.clear()
    yield from rest


def _write_combined(
    records: Iterator[Any], aggregator: Aggregator, partitioner: Partitioner, output: _Output, space: SpillSpace
) -> None:
    table = aggregator.new_table()
    meter = Meter(space)
    step = 16
    grouping = aggregator is GROUP
    keys_only = aggregator is DISTINCT
    counted = _Counted(records)
    while True:
        before = len(table)
        chunk = islice(counted, step)
        aggregator.fold(table, chunk)
        if counted.exhausted_in(step):
            break
        nbytes = 0
        step = _next_step(step, step, nbytes, space)
    del grouping, keys_only, before
