"""The file that one map task leaves for all reducers.

::

    frames       of reducer 0, of reducer 1, ...          first flush
    frames       of reducer 0, ...                        next flush, if the task's memory was short
    index        for each flush: where it starts, and where each reducer's frames end; 8 bytes each
    footer       48 bytes: magic, counts, position and checksum of the index, length of the file, own checksum

A task whose memory fills up appends what it has and goes on: nothing is spilled elsewhere and copied back,
and a reducer reads one stretch per flush.  Files are written under another name and renamed when they
are whole.  Everything that a reader acts upon is checked first: the length of the file against the
footer, the footer and the index against their checksums, every frame against its own.

Frames hold ``(keys, values, combined)`` of a `Batch`; a column of strings is joined by NUL characters, which
is four times quicker to write than a list of them, and shorter.
"""

from __future__ import annotations

import mmap
import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

from asparkle.core.contracts import Buffer
from asparkle.core.errors import AsparkleError
from asparkle.core.namedtuple import NamedTuple
from asparkle.core.serializer import HEADER, CorruptBlock, Dumps, Loads, frame_length, loads, pack_frame, read_frame
from asparkle.core.shuffle.batch import Batch, pack_column, unpack_column
from asparkle.core.shuffle.spill import read_into

FOOTER = struct.Struct("<4sIIIQQQII")
MAGIC = b"ASM1"
READ_AHEAD = 1 << 20
MAP_FROM = 256 * 1024  # frames above this with arrays in them are mapped, smaller ones are read


class MapOutputInfo(NamedTuple):
    """What a map task reports: its file, or its bytes themselves where they are few.

    ``path``: the file, '' if ``inline``.  ``sizes``: bytes for each reducer (0: nothing to read there).
    ``records``: how many were written, after combining.  ``inline``: the file's bytes if it has none."""

    path: str
    sizes: Sequence[int]
    records: int
    inline: bytes | None = None


class MapOutputLost(AsparkleError):
    """The map output at ``path`` can't be read: missing, truncated or damaged, as ``reason`` says.

    Nothing wrong has been unpickled; the map task has to run again."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"map output {path or '(inline)'} is lost: {reason}")
        self.path = path
        self.reason = reason


# ---------------------------------------------------------------------------------------------- writing


def pack_batch(batch: Batch, dumps: Dumps) -> list[Buffer]:
    """The frame of ``batch``, as buffers; raises `PicklingFailed` if a record has no bytes."""
    keys, values, combined = batch
    return pack_frame(dumps((pack_column(keys), None if values is None else pack_column(values), combined)))


def pack_index(flushes: Sequence[array[int]], reducers: int, position: int) -> bytes:
    """Index and footer of a file whose frames end at ``position``; a flush is its start and its ends."""
    index = b"".join(flush.tobytes() for flush in flushes)
    size = position + len(index) + FOOTER.size
    footer = FOOTER.pack(MAGIC, 1, reducers, len(flushes), position, len(index), size, crc32(index), 0)
    return index + footer[:-4] + crc32(footer[:-4]).to_bytes(4, "little")


# ---------------------------------------------------------------------------------------------- reading


def read_reduce_partition(source: MapOutputInfo | str, reducer: int, load: Loads = loads) -> Iterator[Batch]:
    """The batches of ``reducer`` in one map output (or the path of one), in the order they were written.

    Reads lazily, about a megabyte ahead; opens nothing if ``source.sizes`` says that there is nothing.
    Arrays in the records are writable, copy-on-write.  Raises `MapOutputLost`, at the first batch or a
    later one, if the file is not whole and as it was written.
    """
    if isinstance(source, str):
        return _read(source, None, reducer, load)
    if not source.sizes[reducer]:
        return iter(())
    return _read(source.path, source.inline, reducer, load)


def _read(path: str, inline: bytes | None, reducer: int, load: Loads) -> Iterator[Batch]:
    try:
        if inline is not None:
            source: _Source = _Inline(inline)
        else:
            source = _File(path)
        try:
            for start, end in _stretches(source, reducer):
                yield from source.batches(start, end, load)
        finally:
            source.close()
    except CorruptBlock as error:
        raise MapOutputLost(path, str(error)) from error
    except OSError as error:
        raise MapOutputLost(path, error.strerror or str(error)) from error


class _Source:
    """Bytes that can be read at random."""

    size: int

    def read(self, offset: int, length: int) -> memoryview:
        """``length`` bytes at ``offset``, in memory that the caller may keep and write to."""
        raise NotImplementedError

    def map(self, offset: int, length: int) -> memoryview:
        """As `read`, if possible without reading until it is touched."""
        return self.read(offset, length)

    def close(self) -> None:
        pass

    def batches(self, start: int, end: int, load: Loads) -> Iterator[Batch]:
        """The batches between two offsets."""
        while start < end:
            ahead = self.read(start, min(READ_AHEAD, end - start))
            position = 0
            while position + HEADER.size <= len(ahead):
                length = frame_length(ahead[position : position + HEADER.size])
                if length > end - start - position:
                    raise CorruptBlock(f"the frame at {start + position} does not end before {end}")
                if length > len(ahead) - position:
                    break
                obj, position = read_frame(ahead, position, load)
                yield _as_batch(obj)
            if position:
                start += position
            elif len(ahead) < HEADER.size:
                raise CorruptBlock(f"no frame fits between {start} and {end}")
            else:
                yield _as_batch(read_frame(self.map(start, length), 0, load)[0])
                start += length


def _as_batch(obj: Any) -> Batch:
    keys, values, combined = obj
    return Batch(unpack_column(keys), None if values is None else unpack_column(values), combined)


class _Inline(_Source):
    def __init__(self, data: bytes) -> None:
        self._view = memoryview(bytearray(data))  # writable, as what a file gives
        self.size = len(data)

    def read(self, offset: int, length: int) -> memoryview:
        return self._view[offset : offset + length]


class _File(_Source):
    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._fd).st_size

    def read(self, offset: int, length: int) -> memoryview:
        data = bytearray(length)
        if read_into(self._fd, data, offset) < length:
            raise CorruptBlock(f"the file ends before byte {offset + length}")
        return memoryview(data)

    def map(self, offset: int, length: int) -> memoryview:
        if length < MAP_FROM or os.fstat(self._fd).st_size < offset + length:
            return self.read(offset, length)
        before = offset % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(self._fd, before + length, access=mmap.ACCESS_COPY, offset=offset - before)
        return memoryview(mapped)[before:]

    def close(self) -> None:
        os.close(self._fd)


def _stretches(source: _Source, reducer: int) -> list[tuple[int, int]]:
    """Where the frames of ``reducer`` lie: start and end, for each flush.  Checks footer and index."""
    if source.size < FOOTER.size:
        raise CorruptBlock(f"{source.size} bytes are too few")
    footer = source.read(source.size - FOOTER.size, FOOTER.size)
    magic, version, reducers, flushes, position, length, size, checksum, own = FOOTER.unpack(footer)
    if magic != MAGIC or version != 1 or crc32(footer[:-4]) != own:
        raise CorruptBlock("it has no footer: cut off, or not a map output")
    whole = position + length + FOOTER.size == size and length == flushes * (reducers + 1) * 8
    if size != source.size or not whole:
        raise CorruptBlock(f"it has {source.size} bytes, {size} expected")
    index = source.read(position, length)
    if crc32(index) != checksum:
        raise CorruptBlock("its index has a wrong checksum")
    if not 0 <= reducer < reducers:
        raise CorruptBlock(f"it has {reducers} reducers, none is {reducer}")
    bounds = index.cast("Q")
    first = range(reducer, len(bounds), reducers + 1)
    return [(bounds[i], bounds[i + 1]) for i in first if bounds[i] < bounds[i + 1]]
