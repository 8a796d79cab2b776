"""Joins: one input in a table, through which the other streams.

That takes a third of the time of grouping both, and the memory of one.  The order is that of the input that streams:
of the first for inner and left joins, of the second for right ones.

Whether the table fits is told by its own weight alone (not by what else the process holds), so that a partition which
is computed a second time, on whatever worker, comes in the same order.  Where it does not fit, both inputs are grouped
(see `external`), and the order is that of the first appearance of each key, in the input that was to be the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, product, repeat
from typing import Any, TypeAlias

from asparkle.core.hashing import portable_hash
from asparkle.core.shuffle.aggregator import GROUP, Table
from asparkle.core.shuffle.batch import Batch, explain
from asparkle.core.shuffle.external import CHECK_ROWS, cogroup
from asparkle.core.shuffle.spill import Meter, SpillSpace
from asparkle.core.shuffle.weighing import Scales

_SHARE = 2  # the table may have this part of the task's memory
_NOTHING = (None,)
_NONE: tuple[Any, ...] = ()
_ABSENT = object()


def join(inputs: Sequence[Iterable[Batch]], space: SpillSpace, *, streamed: int, outer: bool) -> Iterator[Any]:
    """``(k, (v, w))`` for each pair of values that two inputs have for a key.

    ``streamed``: which of the two streams.  ``outer``: where the other has no value for a key, it has None.
    Reads the inputs when the first result is asked for.  Raises what they raise, and `StorageError`.
    """
    stream, held = inputs[streamed], iter(inputs[1 - streamed])
    missing = _NOTHING if outer else _NONE
    table = GROUP.new_table()
    meter = Meter(space)
    if _fill(table, held, meter):
        pairs: _Pairs
        if all(len(values) == 1 for values in table.values()):
            single = {k: values[0] for k, values in table.items()}
            del table
            pairs = partial(_with_one, single.get, streamed, outer)
        else:
            pairs = partial(_with_left if streamed else _with_right, table.get, missing)
        yield from chain.from_iterable(map(pairs, stream))
    else:
        so_far = Batch(list(table), list(table.values()), True)
        del table
        meter.clear()
        groups = cogroup([chain((so_far,), held), stream], space)
        yield from chain.from_iterable(_pairs_of_group(k, lists, streamed, missing) for k, lists in groups)


def _pairs_of_group(key: Any, lists: Sequence[Any], streamed: int, missing: tuple[Any, ...]) -> Iterator[Any]:
    held, stream = lists[0] or missing, lists[1]
    return zip(repeat(key), product(held, stream) if streamed else product(stream, held))


def _fill(table: Table, batches: Iterator[Batch], meter: Meter) -> bool:
    """Take ``batches`` into ``table``, all of them if there is room; whether there was."""
    scales = Scales(GROUP)
    unweighed = 0
    for batch in batches:
        GROUP.take(table, batch)
        unweighed += sum(map(len, batch.values or ())) if batch.combined else len(batch.keys)
        if unweighed >= CHECK_ROWS:
            weight = scales(table, unweighed)
            meter.add(weight - meter.used)
            if weight > meter.space.memory_limit // _SHARE:
                return False
            unweighed = 0
    return True


_Get: TypeAlias = Callable[[Any, Any], Any]
_Pairs: TypeAlias = Callable[[Batch], Iterable[Any]]


def _with_one(get: _Get, streamed: int, outer: bool, batch: Batch) -> Iterable[Any]:
    """Where no key has more than one value in the table, which is usual: half of the time."""
    keys, values, _ = batch
    assert values is not None
    try:
        others = list(map(get, keys, repeat(None if outer else _ABSENT)))
    except TypeError as error:
        for key in keys:
            portable_hash(key)  # says which can't be hashed
        raise error
    if outer:
        return zip(
            keys, zip(others, values, strict=True) if streamed else zip(values, others, strict=True), strict=True
        )
    if streamed:
        return [(k, (v, w)) for k, v, w in zip(keys, others, values, strict=True) if v is not _ABSENT]
    return [(k, (v, w)) for k, v, w in zip(keys, values, others, strict=True) if w is not _ABSENT]


def _with_right(get: _Get, missing: tuple[Any, ...], batch: Batch) -> Iterator[Any]:
    k = v = None
    try:
        for k, v in batch.pairs():
            for w in get(k, missing):
                yield k, (v, w)
    except TypeError as error:
        explain((k, v), error)


def _with_left(get: _Get, missing: tuple[Any, ...], batch: Batch) -> Iterator[Any]:
    k = w = None
    try:
        for k, w in batch.pairs():
            for v in get(k, missing):
                yield k, (v, w)
    except TypeError as error:
        explain((k, w), error)
