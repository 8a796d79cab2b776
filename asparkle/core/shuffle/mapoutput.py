"""What one map task leaves for all reducers: frames, kept by a `ShuffleStore`, or in its report where they are few.

Frames hold ``(keys, values, combined)`` of a `Batch`; a column of strings is joined by NUL characters, which is four
times quicker to write than a list of them, and shorter.  Every frame is checked before it is acted upon, and a
partition against the number of bytes that the map task has reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from asparkle.core.contracts import Buffer, MapOutputReader
from asparkle.core.errors import AsparkleError, CorruptBlock
from asparkle.core.namedtuple import NamedTuple
from asparkle.core.serializer import HEADER, Dumps, Loads, frame_length, loads, pack_frame, read_frame
from asparkle.core.shuffle.batch import Batch, pack_column, unpack_column

READ_AHEAD = 1 << 20

Open: TypeAlias = Callable[[Any, int], MapOutputReader]


class MapOutputInfo(NamedTuple):
    """What a map task reports: where its output lies, or its bytes themselves where they are few.

    ``location``: what the store calls it, None if ``inline``.  ``sizes``: bytes for each reducer (0: nothing to read
    there).  ``records``: how many were written, after combining.  ``inline``: all reducers' bytes, one after the
    other."""

    location: Any
    sizes: Sequence[int]
    records: int
    inline: bytes | None = None


class MapOutputLost(AsparkleError):
    """The map output at ``location`` can't be read: missing, truncated or damaged, as ``reason`` says.

    Nothing wrong has been unpickled; the map task has to run again."""

    def __init__(self, location: Any, reason: str) -> None:
        super().__init__(f"map output {'(inline)' if location is None else location} is lost: {reason}")
        self.location = location
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return MapOutputLost, (self.location, self.reason)


def pack_batch(batch: Batch, dumps: Dumps) -> list[Buffer]:
    """The frame of ``batch``, as buffers; raises `PicklingFailed` if a record has no bytes."""
    keys, values, combined = batch
    return pack_frame(dumps((pack_column(keys), None if values is None else pack_column(values), combined)))


def read_reduce_partition(source: MapOutputInfo, reducer: int, open: Open, load: Loads = loads) -> Iterator[Batch]:
    """The batches of ``reducer`` in one map output, in the order they were written.

    ``open``: the store's.  Reads lazily, about a megabyte ahead; opens nothing if ``source.sizes`` says that there is
    nothing.  Arrays in the records are writable, copy-on-write.  Raises `MapOutputLost`, at the first batch or a later
    one, if the output is not whole and as it was written.
    """
    size = source.sizes[reducer]
    return _read(source, reducer, size, open, load) if size else iter(())


def _read(source: MapOutputInfo, reducer: int, size: int, open: Open, load: Loads) -> Iterator[Batch]:
    try:
        if source.inline is not None:
            start = sum(source.sizes[:reducer])
            reader: MapOutputReader = _Inline(source.inline[start : start + size])
        else:
            reader = open(source.location, reducer)
        try:
            yield from _batches(reader, size, load)
        finally:
            reader.close()
    except CorruptBlock as error:
        raise MapOutputLost(source.location, str(error)) from error
    except OSError as error:
        raise MapOutputLost(source.location, error.strerror or str(error)) from error


class _Inline(MapOutputReader):
    def __init__(self, data: bytes) -> None:
        self._view = memoryview(bytearray(data))  # writable, as what a store gives

    def read(self, offset: int, count: int) -> memoryview:
        return self._view[offset : offset + count]


def _batches(reader: MapOutputReader, size: int, load: Loads) -> Iterator[Batch]:
    start = 0
    while start < size:
        ahead = reader.read(start, min(READ_AHEAD, size - start))
        position = 0
        while position + HEADER.size <= len(ahead):
            length = frame_length(ahead[position : position + HEADER.size])
            if length > size - start - position:
                raise CorruptBlock(f"the frame at {start + position} does not end before {size}")
            if length > len(ahead) - position:
                break
            obj, position = read_frame(ahead, position, load)
            yield _as_batch(obj)
        if position:
            start += position
        elif len(ahead) < HEADER.size:
            raise CorruptBlock(f"it ends at byte {start + len(ahead)} of {size}")
        else:
            yield _as_batch(read_frame(reader.read(start, length), 0, load)[0])
            start += length


def _as_batch(obj: Any) -> Batch:
    keys, values, combined = obj
    return Batch(unpack_column(keys), None if values is None else unpack_column(values), combined)
