"""What becomes of the values of one key: loops that run once per record, on both sides of a shuffle.

A *table* maps each key to its combiner, in order of first appearance; it is a plain dict, so keys behave
as dict keys do (1 and 1.0 are one key, the first seen is kept).  ``fold`` takes raw values into it, on the
map side and for inputs that were not combined; ``merge`` takes combiners.  These loops are the hottest of
all: each record's tuple is used up before the next is made (it then never leaves the processor's cache;
collecting a thousand first and treating columns costs twice as much), and each does nothing that its
operation does not need.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

from asparkle.core.errors import KeyHashError
from asparkle.core.shuffle.batch import Batch, Pairs, explain

Table = dict[Any, Any]
_NO_RECORD = (None, None)


def identity(x: Any) -> Any:
    """The ``create_combiner`` of reduceByKey; recognised, and then not called."""
    return x


class Aggregator:
    """The three functions of ``combineByKey``, as in Spark.

    ``create_combiner(v)`` makes a combiner of a key's first value, ``merge_value(c, v)`` adds another,
    ``merge_combiners(c, d)`` joins two, of which ``c`` has the earlier values.  Both may change and return
    their first argument."""

    __slots__ = ("create_combiner", "merge_combiners", "merge_value")

    def __init__(
        self,
        create_combiner: Callable[[Any], Any],
        merge_value: Callable[[Any, Any], Any],
        merge_combiners: Callable[[Any, Any], Any],
    ) -> None:
        self.create_combiner = create_combiner
        self.merge_value = merge_value
        self.merge_combiners = merge_combiners

    def new_table(self) -> Table:
        return {}

    def fold(self, table: Table, records: Iterable[Any]) -> None:
        """Take raw records into ``table``.  Errors of the user's functions pass through; a record that is
        not a pair is a `UserFunctionError`, a key that can't be hashed a `KeyHashError`."""
        if self.create_combiner is identity:
            if self.merge_value is operator.add:
                return _fold_sum(table, records)
            return _reduce(table, records, self.merge_value)
        create, add = self.create_combiner, self.merge_value
        kv = _NO_RECORD
        try:
            for kv in records:
                k, v = kv
                if k in table:
                    table[k] = add(table[k], v)
                else:
                    table[k] = create(v)
        except (TypeError, ValueError) as error:
            explain(kv, error)

    def merge(self, table: Table, records: Pairs) -> None:
        """Take ``(key, combiner)`` pairs into ``table``."""
        if self.merge_combiners is operator.add:
            _fold_sum(table, records)
        else:
            _reduce(table, records, self.merge_combiners)

    def take(self, table: Table, batch: Batch) -> None:
        """Take a batch into ``table``, raw or combined."""
        if batch.combined:
            self.merge(table, batch.pairs())
        else:
            self.fold(table, batch.pairs())


def _reduce(table: Table, records: Iterable[Any], add: Callable[[Any, Any], Any]) -> None:
    kv = _NO_RECORD
    try:
        for kv in records:
            k, v = kv
            if k in table:
                table[k] = add(table[k], v)
            else:
                table[k] = v
    except (TypeError, ValueError) as error:
        explain(kv, error)


def _fold_sum(table: Table, records: Iterable[Any]) -> None:
    """As `_reduce` with ``operator.add``, whose call costs more than the sum."""
    kv = _NO_RECORD
    try:
        for kv in records:
            k, v = kv
            if k in table:
                table[k] = table[k] + v
            else:
                table[k] = v
    except (TypeError, ValueError) as error:
        explain(kv, error)


# ------------------------------------------------------------------------------------------- built-ins


def _append(values: list[Any], v: Any) -> list[Any]:
    values.append(v)
    return values


def _one(v: Any) -> list[Any]:
    return [v]


class _Group(Aggregator):
    """Values into lists; the table is a defaultdict."""

    __slots__ = ()

    def new_table(self) -> Table:
        return defaultdict(list)

    def fold(self, table: Table, records: Iterable[Any]) -> None:
        kv = _NO_RECORD
        try:
            for kv in records:
                k, v = kv
                table[k].append(v)
        except (TypeError, ValueError) as error:
            explain(kv, error)

    def merge(self, table: Table, records: Pairs) -> None:
        for k, values in records:
            if k in table:
                table[k] += values
            else:
                table[k] = values  # the batch's own list: nobody else has it


class _Distinct(Aggregator):
    """Records are the keys themselves, without values."""

    __slots__ = ()

    def fold(self, table: Table, records: Iterable[Any]) -> None:
        # A dict of the chunk first: fromkeys looks each key up once, and most chunks repeat themselves.
        try:
            table.update(dict.fromkeys(records))
        except TypeError as error:
            here = error.__traceback__
            if here is not None and here.tb_next is None and str(error).startswith("unhashable"):
                raise KeyHashError(f"distinct needs elements that can be hashed: {error}") from error
            raise

    def merge(self, table: Table, records: Pairs) -> None:
        table.update(records)

    def take(self, table: Table, batch: Batch) -> None:
        table.update(zip(batch.keys, repeat(None)))


GROUP = _Group(_one, _append, operator.iadd)
"""groupByKey: each key's values in a list."""

DISTINCT = _Distinct(identity, lambda c, _: c, lambda c, _: c)
"""distinct: records are elements, not pairs, and each is kept once, the first of those that are equal."""
