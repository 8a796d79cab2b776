"""A whole shuffle in one call, for the tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Any

from asparkle.backends.shufflefiles import FileReader, FileWriter
from asparkle.core.errors import CorruptBlock
from asparkle.core.hashing import portable_hash
from asparkle.core.partitioner import Partitioner
from asparkle.core.shuffle import (
    Aggregator,
    Batch,
    MapOutputInfo,
    MapOutputLost,
    SpillSpace,
    write_map_output,
)
from asparkle.core.shuffle import read_reduce_partition as read_with

ROOMY = 1 << 30
TIGHT = 1 << 12
_numbers = count()


def write(
    records: Iterable[Any],
    directory: Any,
    reducers: int = 1,
    aggregator: Aggregator | None = None,
    limit: int = ROOMY,
    func: Callable[[Any], int] = portable_hash,
    inline_limit: int = 0,
) -> MapOutputInfo:
    path = os.path.join(directory, f"map-{next(_numbers)}")
    with SpillSpace([str(directory)], limit) as space:
        return write_map_output(
            records,
            partitioner=Partitioner(reducers, func),
            begin=lambda: FileWriter(path, reducers),
            space=space,
            aggregator=aggregator,
            inline_limit=inline_limit,
        )


def read_reduce_partition(source: MapOutputInfo | str, reducer: int) -> Iterator[Batch]:
    """The batches of a partition in a map output, or in the file at a path, however long it is there."""
    if isinstance(source, str):
        return _read_file(source, reducer)
    return read_with(source, reducer, FileReader)


def _read_file(path: str, reducer: int) -> Iterator[Batch]:
    try:
        reader = FileReader(path, reducer)
    except (CorruptBlock, OSError) as error:
        raise MapOutputLost(path, str(error)) from error
    size = reader.size
    reader.close()
    return read_with(MapOutputInfo(path, {reducer: size}, 0), reducer, FileReader)


def read(infos: Sequence[MapOutputInfo], reducer: int = 0) -> Iterator[Batch]:
    return chain.from_iterable(read_reduce_partition(info, reducer) for info in infos)


def grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """The model: what plain Python makes of pairs."""
    groups: dict[Any, list[Any]] = {}
    for k, v in pairs:
        groups.setdefault(k, []).append(v)
    return groups
