"""Records on their way through a shuffle: columns instead of pairs.

Two lists of a million keys and values take 80 ms to pickle where a million tuples take 450, and as much
again to read, so records are turned into columns once, on the map side, and back into pairs by ``zip``,
which makes no tuple that is not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice, starmap
from typing import Any, NoReturn, TypeAlias

from asparkle.core.hashing import portable_hash
from asparkle.core.namedtuple import NamedTuple
from asparkle.core.pairs import check_pair, first_two

JOINED_LENGTH = 64
Pairs: TypeAlias = Iterable[tuple[Any, Any]]


class Batch(NamedTuple):
    """Some records of one reduce partition, in order: ``keys[i]`` with ``values[i]``.

    ``combined``: the values are what an aggregator made of the records' values (combiners, lists of
    grouped values); for a distinct, which has none, ``values`` is None."""

    keys: list[Any]
    values: list[Any] | None
    combined: bool = False

    def pairs(self) -> Pairs:
        return zip(self.keys, self.values or (), strict=True)


def records_of(batches: Iterable[Batch]) -> Iterator[tuple[Any, Any]]:
    """The ``(key, value)`` pairs of ``batches``, in order, lazily, without a layer of Python per record."""
    return chain.from_iterable(starmap(_zip_columns, batches))


def _zip_columns(keys: list[Any], values: list[Any], combined: bool) -> Pairs:
    return zip(keys, values, strict=True)


def batches_of(records: Pairs, size: int = 1024, *, longer: bool = False) -> Iterator[Batch]:
    """``records``, which did not come through a shuffle (a co-partitioned input), in batches of ``size``.

    Raises `UserFunctionError` for a record that is not a pair or, with ``longer``, has not even two items."""
    iterator = iter(records)
    while chunk := list(islice(iterator, size)):
        try:
            yield Batch([k for k, _ in chunk], [v for _, v in chunk])
        except (TypeError, ValueError):
            if not longer:
                for record in chunk:
                    check_pair(record)
                raise
            chunk = list(first_two(chunk, "an operation on keys"))
            yield Batch([k for k, _ in chunk], [v for _, v in chunk])


def explain(record: Any, error: BaseException) -> NoReturn:
    """Raise what is wrong with ``record`` if it is no pair or its key can't be one, else ``error``.

    For loops that unpack and hash millions of records: looking for the reason afterwards costs nothing."""
    check_pair(record)
    key, _ = record
    portable_hash(key)
    raise error


def pack_column(column: list[Any]) -> list[Any] | str:
    """What to pickle instead of ``column``: short strings joined by NUL, if none has one.

    Long ones gain nothing, and may be one string a million times, which pickle writes once."""
    if len(column) > 1 and type(column[0]) is str and set(map(type, column)) == {str}:
        if sum(map(len, column)) > JOINED_LENGTH * len(column):
            return column
        joined = "\0".join(column)
        if joined.count("\0") == len(column) - 1:
            return joined
    return column


def unpack_column(packed: list[Any] | str) -> list[Any]:
    return packed.split("\0") if isinstance(packed, str) else packed


def pack_rows(rows: list[Any]) -> list[Any] | tuple[list[Any] | str, ...]:
    """What to pickle instead of ``rows``: columns, if these are tuples of one length."""
    if set(map(type, rows)) == {tuple} and len(set(map(len, rows))) == 1 and rows[0]:
        return tuple(pack_column(list(column)) for column in zip(*rows, strict=True))
    return rows


def unpack_rows(packed: list[Any] | tuple[list[Any] | str, ...]) -> list[Any]:
    if isinstance(packed, tuple):
        return list(zip(*map(unpack_column, packed), strict=True))
    return packed
