"""The reduce side: everything about a key brought together, in memory or, where that is short, on disk.

The order is that of first appearance of each key, and of arrival of its values, whether anything was
spilled or not.  In memory that is the order of a dict, and costs nothing.  When memory fills up:

1. The table's rows ``(seq, key, payload)``, where ``seq`` is the number of the key's first appearance, go to
   one of 16 files each, by a hash of the key, and the table starts anew.
2. In the end each file is read back, in the order it was written, into a table of its own, a sixteenth of
   the size.  A key's first row has its smallest ``seq``.  If that table is too big as well, it does the same
   with other bits of the hash.
3. Each file's table is written, by ascending ``seq``, as a sorted run; the runs are merged by ``seq``.

A key that alone has too many values (see `_Grouped.flush_hot`) stays in the table, and its list goes to disk
in pieces, which are never read back but by the user.  Keys need ``__eq__`` and ``__hash__``, no order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, TypeAlias

from asparkle.core.shuffle.aggregator import DISTINCT, GROUP, Aggregator, Table
from asparkle.core.shuffle.batch import Batch, pack_rows, unpack_rows
from asparkle.core.shuffle.grouped import GroupedValues, HotValues
from asparkle.core.shuffle.sorter import Run, merge_runs
from asparkle.core.shuffle.spill import Meter, Segment, SpillFile, SpillFiles, SpillSpace
from asparkle.core.shuffle.weighing import DICT_ENTRY, Scales, average_size, rows_per_frame

Row: TypeAlias = tuple[int, Any, Any]
Values: TypeAlias = list[Any] | GroupedValues

FANOUT_BITS = 4
FANOUT = 1 << FANOUT_BITS
MAX_LEVEL = 8  # keys that agree in 32 bits of hash are not worth another try
CHECK_ROWS = 64
HOT_SHARE = 64  # a list is hot if it alone takes this part of the limit: a merge may hold 16 that are not


def combine(batches: Iterable[Batch], aggregator: Aggregator, space: SpillSpace) -> Iterator[tuple[Any, Any]]:
    """``(key, combiner)`` for each key in ``batches``, which may be raw or combined, or some of both.

    Reads ``batches`` when the first result is asked for.  Combiners are made in the order of the batches.
    Raises what the batches and the user's functions raise, and `StorageError` if there is no room to spill.
    """
    return chain.from_iterable(_External(lambda: _Combined(aggregator), space).run([batches]))


def distinct(batches: Iterable[Batch], space: SpillSpace) -> Iterator[Any]:
    """Each key in ``batches`` once: the first of those that are equal."""
    external = _External(lambda: _Combined(DISTINCT), space)
    return chain.from_iterable(map(_first_column, external.run([batches])))


def group(batches: Iterable[Batch], space: SpillSpace) -> Iterator[tuple[Any, Values]]:
    """``(key, values)`` for each key: a list, or `GroupedValues` where it is too large for the memory."""
    blocks = _External(lambda: _Grouped(1), space).run([batches])
    return chain.from_iterable(blocks)


def cogroup(inputs: Sequence[Iterable[Batch]], space: SpillSpace) -> Iterator[tuple[Any, tuple[Values, ...]]]:
    """``(key, (values in the first input, values in the second, ...))`` for each key of any input.

    Inputs are read one after the other; keys are in order of first appearance."""
    return chain.from_iterable(_External(lambda: _Cogrouped(len(inputs)), space).run(inputs))


def _first_column(block: Iterable[tuple[Any, Any]]) -> Iterable[Any]:
    return block if isinstance(block, dict) else map(itemgetter(0), block)


# ------------------------------------------------------------------------------------------------ tables


class _Store(ABC):
    """The table of one operation.  A *payload* is what it holds for a key."""

    weight = 0

    @abstractmethod
    def take(self, i: int, batch: Batch) -> int:
        """Take a batch of input ``i``; how many values it has."""

    @abstractmethod
    def absorb(self, keys: Sequence[Any], payloads: Sequence[Any], files: SpillFiles) -> None:
        """Take rows that another store held before, and weigh them."""

    @abstractmethod
    def weigh(self, i: int) -> None:
        """Bring ``weight`` up to date with what was taken from input ``i``."""

    @abstractmethod
    def keys(self) -> list[Any]:
        """In order of first appearance."""

    @abstractmethod
    def payloads(self, keys: Sequence[Any]) -> list[Any]: ...

    @abstractmethod
    def clear(self) -> None:
        """Forget all keys that are not hot."""

    def flush_hot(self, files: SpillFiles, limit: int) -> int:
        """Write out what is too large for one key; the bytes that were freed."""
        return 0

    def hot_keys(self) -> set[Any]:
        return set()

    def results(self) -> Iterable[tuple[Any, Any]]:
        """What the user gets, when nothing was spilled."""
        keys = self.keys()
        return map(self.result, zip(keys, self.payloads(keys), strict=True))

    def result(self, row: tuple[Any, Any]) -> tuple[Any, Any]:
        return row


class _Combined(_Store):
    def __init__(self, aggregator: Aggregator) -> None:
        self._aggregator = aggregator
        self._start()

    def _start(self) -> None:
        self._table: Table = self._aggregator.new_table()
        self._scales = Scales(self._aggregator)
        self.weight = 0

    def take(self, i: int, batch: Batch) -> int:
        self._aggregator.take(self._table, batch)
        return len(batch.keys)

    def absorb(self, keys: Sequence[Any], payloads: Sequence[Any], files: SpillFiles) -> None:
        self._aggregator.merge(self._table, zip(keys, payloads, strict=True))
        self.weigh(0)

    def weigh(self, i: int) -> None:
        self.weight = self._scales(self._table)

    def keys(self) -> list[Any]:
        return list(self._table)

    def payloads(self, keys: Sequence[Any]) -> list[Any]:
        return list(self._table.values())

    def clear(self) -> None:
        self._start()

    def results(self) -> Iterable[tuple[Any, Any]]:
        return self._table if self._aggregator is DISTINCT else self._table.items()


class _Grouped(_Store):
    """Lists of values; a table for each input, so that filling them is a loop of two operations."""

    def __init__(self, inputs: int) -> None:
        self._tables = [GROUP.new_table() for _ in range(inputs)]
        self._scales = [Scales(GROUP) for _ in range(inputs)]
        self._values = [0] * inputs  # taken since they were weighed
        self._hot: list[dict[Any, HotValues]] = [{} for _ in range(inputs)]

    def take(self, i: int, batch: Batch) -> int:
        many = sum(map(len, batch.values or ())) if batch.combined else len(batch.keys)
        GROUP.take(self._tables[i], batch)
        self._values[i] += many
        return many

    def weigh(self, i: int) -> None:
        before = self._scales[i].total
        self.weight += self._scales[i](self._tables[i], self._values[i]) - before
        self._values[i] = 0

    def absorb(self, keys: Sequence[Any], payloads: Sequence[Any], files: SpillFiles) -> None:
        for i, column in enumerate(zip(*map(self._lists, payloads), strict=True)):
            table = self._tables[i]
            for key, values in zip(keys, column, strict=True):
                if values is None:
                    continue
                self._values[i] += len(values)
                if isinstance(values, HotValues):
                    self._absorb_hot(i, key, values, files)
                elif key in table:
                    table[key] += values
                else:
                    table[key] = values
            self.weigh(i)

    def _absorb_hot(self, i: int, key: Any, values: HotValues, files: SpillFiles) -> None:
        earlier = self._tables[i].get(key)
        if earlier is not None:
            hot = earlier if isinstance(earlier, HotValues) else HotValues(earlier)
            hot.follow(values, files, rows_per_frame(average_size(earlier)))
            values = hot
        self._tables[i][key] = self._hot[i][key] = values

    def keys(self) -> list[Any]:
        return list(self._tables[0])

    def payloads(self, keys: Sequence[Any]) -> list[Any]:
        return list(map(self._tables[0].__getitem__, keys))

    def _lists(self, payload: Any) -> tuple[list[Any] | None, ...]:
        """A payload as one list, or None, for each input."""
        return (payload,)

    def clear(self) -> None:
        hot = self.hot_keys()
        for i, table in enumerate(self._tables):
            kept = [(k, table[k]) for k in table if k in hot] if hot else ()
            self._tables[i] = GROUP.new_table()
            self._tables[i].update(kept)
            self._scales[i] = Scales(GROUP)
        self.weight = 0

    def flush_hot(self, files: SpillFiles, limit: int) -> int:
        """Lists of more than a 64th of the limit become `HotValues`; the tails of all such are written."""
        freed = 0
        for i, table in enumerate(self._tables):
            size = self._scales[i].value_size
            many = max(1, limit // HOT_SHARE // max(size, 1))
            for key in [k for k, values in table.items() if len(values) > many or k in self._hot[i]]:
                hot = table[key]
                freed += len(hot) * size
                if not isinstance(hot, HotValues):
                    hot = table[key] = self._hot[i][key] = HotValues(hot)
                hot.flush(files, rows_per_frame(size))
            self._scales[i].shrink(freed)
        self.weight -= freed
        return freed

    def hot_keys(self) -> set[Any]:
        return set().union(*self._hot)

    def results(self) -> Iterable[tuple[Any, Any]]:
        return super().results() if self._hot[0] else self._tables[0].items()

    def result(self, row: tuple[Any, Any]) -> tuple[Any, Any]:
        key, values = row
        return key, _as_result(values)


class _Cogrouped(_Grouped):
    """Payloads are tuples of a list for each input, None where the key does not appear."""

    def keys(self) -> list[Any]:
        return list(dict.fromkeys(chain.from_iterable(self._tables)))

    def payloads(self, keys: Sequence[Any]) -> list[Any]:
        return list(zip(*[map(t.get, keys) for t in self._tables], strict=True))

    def _lists(self, payload: Any) -> tuple[list[Any] | None, ...]:
        lists: tuple[list[Any] | None, ...] = payload
        return lists

    def results(self) -> Iterable[tuple[Any, Any]]:
        if any(self._hot):
            return _Store.results(self)
        keys = self.keys()
        columns = [_lists_of(t, keys) for t in self._tables]
        return zip(keys, zip(*columns, strict=True), strict=True)

    def result(self, row: tuple[Any, Any]) -> tuple[Any, Any]:
        key, lists = row
        return key, tuple(_as_result(values) for values in lists)


def _lists_of(table: Table, keys: Sequence[Any]) -> Iterable[list[Any]]:
    if len(table) == len(keys):
        return map(table.__getitem__, keys)
    return [table.get(k, []) for k in keys]


def _as_result(values: list[Any] | None) -> Values:
    if values is None:
        return []
    return GroupedValues(values) if isinstance(values, HotValues) else values


# --------------------------------------------------------------------------------------------- spilling


class _External:
    """One operation: fills a store, and spills it when the meter says so."""

    def __init__(self, make_store: Callable[[], _Store], space: SpillSpace, level: int = 0) -> None:
        self._make_store = make_store
        self._store = make_store()
        self._space = space
        self._level = level
        self._meter = Meter(space)
        self._parts: list[_Part] = []
        self._hot_files = SpillFiles(space)
        self._hot_seqs: dict[Any, int] = {}
        self._next_seq = 0
        self._seqs: dict[Any, int] = {}  # above level 0, where rows bring their own

    def run(self, inputs: Sequence[Iterable[Batch]]) -> Iterator[Iterable[Any]]:
        """Blocks of results.  Nothing is read before the first."""
        for i, batches in enumerate(inputs):
            unweighed = CHECK_ROWS
            for batch in batches:
                unweighed += self._store.take(i, batch)
                if unweighed >= CHECK_ROWS:
                    self._store.weigh(i)
                    self._check()
                    unweighed = 0
        if not self._parts:
            yield self._store.results()
            return
        result = self._store.result
        for rows in self._merged():
            yield [result((key, payload)) for _, key, payload in rows]

    def _check(self) -> None:
        if not self._meter.add(self._weight() - self._meter.used):
            return
        limit = self._space.memory_limit
        held = self._meter.used
        if self._store.flush_hot(self._hot_files, limit) * 2 < held and self._level < MAX_LEVEL:
            self._spill()
        self._meter.clear(spilled=True)
        self._meter.add(self._weight())

    def _weight(self) -> int:
        return self._store.weight + (DICT_ENTRY + 32) * len(self._seqs)

    def _spill(self) -> None:
        """Write all rows but the hot ones."""
        keys = self._store.keys()
        seqs = self._number(keys)
        if hot := self._store.hot_keys():
            for key, seq in zip(keys, seqs, strict=True):
                if key in hot:
                    self._hot_seqs.setdefault(key, seq)
            rest = [(k, s) for k, s in zip(keys, seqs, strict=True) if k not in hot]
            keys, seqs = [k for k, _ in rest], [s for _, s in rest]
        if not self._parts:
            self._parts = [_Part(self._space) for _ in range(FANOUT)]
        rows: list[list[Row]] = [[] for _ in range(FANOUT)]
        for which, *row in zip(self._parts_of(keys), seqs, keys, self._store.payloads(keys), strict=True):
            rows[which].append((row[0], row[1], row[2]))
        size = self._meter.used // max(len(keys), 1)
        self._store.clear()
        self._seqs = dict(self._hot_seqs) if self._level else {}
        for part, some in zip(self._parts, rows, strict=True):
            part.write(some, rows_per_frame(size))
            some.clear()

    def _number(self, keys: list[Any]) -> list[int]:
        """The number of each key's first appearance, as far as this store remembers."""
        if self._level:
            return list(map(self._seqs.__getitem__, keys))
        start = self._next_seq
        self._next_seq += len(keys)
        return list(range(start, self._next_seq))

    def _parts_of(self, keys: Iterable[Any]) -> list[int]:
        # Other bits of the hash at each level, mixed by Fibonacci hashing (Knuth, TAOCP 3, 6.4).
        shift = 64 - FANOUT_BITS * (self._level + 1)
        return [((hash(k) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> shift) & (FANOUT - 1) for k in keys]

    def _merged(self) -> Iterator[list[Row]]:
        """All rows, keys brought together, by ``seq``, in blocks."""
        self._spill()
        self._meter.clear(spilled=True)
        hot: list[list[Row]] = [[] for _ in range(FANOUT)]
        hot_keys = list(self._hot_seqs)
        payloads = self._store.payloads(hot_keys) if hot_keys else []
        for which, key, payload in zip(self._parts_of(hot_keys), hot_keys, payloads, strict=True):
            hot[which].append((self._hot_seqs[key], key, payload))
        kept: dict[int, Any] = {}
        runs = []
        for part, hot_rows in zip(self._parts, hot, strict=True):
            if part.segments or hot_rows:
                runs.append(self._unite(part, hot_rows, kept))
        for block in merge_runs(runs, itemgetter(0)):
            yield [(s, k, kept.pop(s, p)) for s, k, p in block] if kept else block

    def _unite(self, part: _Part, hot_rows: list[Row], kept: dict[int, Any]) -> Run:
        """The rows of one part as a sorted run; payloads with `HotValues` stay out of it, in ``kept``."""
        inner = _External(self._make_store, self._space, self._level + 1)
        for rows in part.read():
            inner._absorb(rows)
        if hot_rows:
            inner._absorb(hot_rows)
        part.close()
        size = inner._meter.used // max(len(inner._seqs), 1)
        return Run.write(self._space.new_file(), inner._rows(kept), rows_per_frame(size))

    def _absorb(self, rows: list[Row]) -> None:
        seqs, keys, payloads = zip(*rows, strict=True)
        for key, seq in zip(keys, seqs, strict=True):
            self._seqs.setdefault(key, seq)
        self._store.absorb(keys, payloads, self._hot_files)
        self._check()

    def _rows(self, kept: dict[int, Any]) -> Iterator[list[Row]]:
        """Rows by ``seq``; hot payloads go to ``kept``."""
        if self._parts:
            blocks: Iterable[list[Row]] = self._merged()
        else:
            keys = self._store.keys()
            rows = list(zip(map(self._seqs.__getitem__, keys), keys, self._store.payloads(keys), strict=True))
            rows.sort(key=itemgetter(0))  # hot rows came last
            blocks = (rows,)
        for block in blocks:
            yield [row if not _is_hot(row[2]) else _put_aside(row, kept) for row in block]


def _is_hot(payload: Any) -> bool:
    kind = type(payload)
    return kind is HotValues or (kind is tuple and HotValues in map(type, payload))


def _put_aside(row: Row, kept: dict[int, Any]) -> Row:
    seq, key, payload = row
    kept[seq] = payload
    return seq, key, None


class _Part:
    """One file of rows that share some bits of their keys' hash, in the order they were written."""

    def __init__(self, space: SpillSpace) -> None:
        self._space = space
        self._file: SpillFile | None = None
        self.segments: list[Segment] = []

    def write(self, rows: list[Row], size: int) -> None:
        if rows and self._file is None:
            self._file = self._space.new_file()
        for at in range(0, len(rows), size):
            assert self._file is not None
            self.segments.append(self._file.append(pack_rows(rows[at : at + size])))

    def read(self) -> Iterator[list[Row]]:
        for segment in self.segments:
            assert self._file is not None
            yield unpack_rows(self._file.read(segment))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
