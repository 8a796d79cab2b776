"""Records on their way through a shuffle: columns instead of pairs.

Two lists of a million keys and values take 80 ms to pickle where a million tuples take 450, and as much
again to read, so records are turned into columns once, on the map side, and back into pairs by ``zip``,
which makes no tuple that is not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, starmap
from typing import Any, NamedTuple, NoReturn, TypeAlias

from asparkle.core.errors import UserFunctionError
from asparkle.core.hashing import portable_hash

__all__ = ["Batch", "batches_of", "records_of"]

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


def batches_of(records: Pairs, size: int = 1024) -> Iterator[Batch]:
    """``records``, which did not come through a shuffle (a co-partitioned input), in batches of ``size``.

    Raises `UserFunctionError` for a record that is not a pair."""
    iterator = iter(records)
    while chunk := list(islice(iterator, size)):
        try:
            yield Batch([k for k, _ in chunk], [v for _, v in chunk])
        except (TypeError, ValueError):
            for record in chunk:
                check_pair(record)
            raise


def check_pair(record: object) -> None:
    """Raise `UserFunctionError` unless ``record`` is a pair."""
    try:
        _key, _value = record  # type: ignore[misc]
    except (TypeError, ValueError):
        raise UserFunctionError(
            f"an operation on keys needs (key, value) pairs, and got {_short(record)} "
            f"of type {type(record).__name__}"
        ) from None


def explain(record: Any, error: BaseException) -> NoReturn:
    """Raise what is wrong with ``record`` if it is no pair or its key can't be one, else ``error``.

    For loops that unpack and hash millions of records: looking for the reason afterwards costs nothing."""
    check_pair(record)
    key, _ = record
    portable_hash(key)
    raise error


def sample_size(columns: Sequence[list[Any]], count: int) -> int:
    """Bytes that the last ``count`` entries of each of ``columns`` take, by sample."""
    from asparkle.core.serializer import estimate_size

    return sum([estimate_size(c[-count:]) for c in columns])


def _short(x: object) -> str:
    text = repr(x)
    return text if len(text) <= 100 else text[:97] + "..."
