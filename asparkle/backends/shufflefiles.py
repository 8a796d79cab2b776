"""Map outputs as files, which every executor of their host opens, and those of other hosts fetch.

One file for each map output::

    pieces    of partition 0, of partition 1, ...          first round
    pieces    of partition 0, ...                          next round, if the task's memory was short
    index     for each round: where it starts, and where each partition's pieces end; 8 bytes each
    footer    48 bytes: magic, counts, position and checksum of the index, length of the file, own checksum

A task whose memory fills up appends what it has and goes on: nothing is spilled elsewhere and copied back, and a
reader finds one stretch per round.  Files are written under another name and renamed when they are whole.  Footer and
index are checked before they are acted upon; what is in the pieces, asparkle checks.
"""

from __future__ import annotations

import mmap
import os
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple
from zlib import crc32

from asparkle.errors import CorruptBlock, StorageError
from asparkle.plugins import (
    AppSpec,
    Buffer,
    HostFiles,
    MapOutputId,
    MapOutputReader,
    MapOutputWriter,
    Piece,
    ReadAhead,
    ShuffleStore,
    read_into,
    remove_file,
    write_all,
)

FOOTER = struct.Struct("<4sIIIQQQII")
MAGIC = b"ASM1"
MAP_FROM = 1 << 20  # more than that in one piece has arrays in it, and is mapped


class FileShuffleStore(ShuffleStore):
    """Files below the application's directories, in turn."""

    scope = "host"

    def __init__(self, app: AppSpec) -> None:
        super().__init__(app)
        self._directories = app.directories
        self._host = app.host
        self._apart = bool(app.host or app.dialer)
        self._ahead = app.fetch_ahead
        self._files = HostFiles(app)

    def use(self, files: HostFiles) -> None:
        self._files = files

    def begin(self, output: MapOutputId, partitions: int) -> MapOutputWriter:
        shuffle, partition, attempt = output
        directory = os.path.join(self._directories[partition % len(self._directories)], f"shuffle-{shuffle}")
        path = os.path.join(directory, f"{partition}-{attempt}")
        try:
            return self._begin(directory, path, partitions)
        except StorageError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
        return self._begin(directory, path, partitions)  # the last of the shuffle's files was removed just now

    def _begin(self, directory: str, path: str, partitions: int) -> FileWriter:
        try:
            with suppress(FileExistsError):
                os.mkdir(directory, 0o700)
        except OSError as error:
            raise StorageError(directory, error) from error
        return FileWriter(path, partitions, self._host if self._apart else None)

    def open(self, location: str | Sequence[Any], partition: int) -> MapOutputReader:
        place = _place(location, self._host)
        if place.host == self._host:
            return FileReader(place.path, partition)
        return RemoteReader(self._files, place, partition)

    def open_all(self, pieces: Sequence[tuple[Any, int, Sequence[int]]]) -> Iterator[MapOutputReader]:
        places = [_place(location, self._host) for location, _, _ in pieces]
        elsewhere = [
            _piece(place, partition, sizes)
            for place, (_, partition, sizes) in zip(places, pieces, strict=True)
            if place.host != self._host
        ]
        if not elsewhere:
            yield from super().open_all(pieces)
            return
        ahead = ReadAhead(self._files, elsewhere, self._ahead)
        try:
            for place, (_, partition, _) in zip(places, pieces, strict=True):
                yield FileReader(place.path, partition) if place.host == self._host else ahead.reader()
        finally:
            ahead.close()

    def has(self, location: str | Sequence[Any]) -> bool:
        place = _place(location, self._host)
        return self._files.may_exist(place.host, place.path)

    def remove(self, shuffle: int, before: int) -> None:
        for root in self._directories:
            directory = os.path.join(root, f"shuffle-{shuffle}")
            with suppress(FileNotFoundError):
                for name in os.listdir(directory):
                    if int(name.partition("-")[2].removesuffix(".tmp")) < before:
                        remove_file(os.path.join(directory, name))
            with suppress(OSError):  # there are none, or a later attempt's
                os.rmdir(directory)


class Place(NamedTuple):
    """Where an output lies, for readers on other hosts: these need not read its footer.

    Where all executors share the driver's files, the path says it all."""

    path: str
    host: str
    position: int = 0  # of the index
    rounds: int = 0
    partitions: int = 0


def _place(location: str | Sequence[Any], host: str) -> Place:
    return Place(location, host) if isinstance(location, str) else Place(*location)


def _piece(place: Place, partition: int, sizes: Sequence[int]) -> Piece:
    """What is to be read of an output on another host."""
    if place.rounds == 1:
        start = sum(sizes[:partition])
        return Piece(place.host, sizes[partition], [(place.path, start, start + sizes[partition])])
    return Piece(place.host, sizes[partition], None, partial(_find, place, partition))


def _find(
    place: Place, partition: int, read: Callable[[Sequence[tuple[str, int, int]]], Sequence[memoryview]]
) -> list[tuple[str, int, int]]:
    """Where a partition's pieces lie, by what the index says."""
    firsts = [place.position + 8 * (i * (place.partitions + 1) + partition) for i in range(place.rounds)]
    bounds = (bounds.cast("Q") for bounds in read([(place.path, first, first + 16) for first in firsts]))
    return [(place.path, start, end) for start, end in bounds if start < end]


class FileWriter(MapOutputWriter):
    """``host``: whose file it is, where readers on other hosts need to know."""

    def __init__(self, path: str, partitions: int, host: str | None = None) -> None:
        self._path = path
        self._host = host
        self._temporary = f"{path}.tmp"  # nobody else's: each attempt has a path of its own
        self._partitions = partitions
        self._rounds: list[array[int]] = []
        self._bounds = array("Q")
        self._position = 0
        self._fd = -1
        try:
            self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> StorageError:
        return StorageError(os.path.dirname(self._path), f"map output {self._path!r}: {error.strerror}")

    def write(self, pieces: Sequence[tuple[int, Sequence[Buffer]]]) -> None:
        parts: list[Buffer] = []
        for partition, chunks in pieces:
            if partition < len(self._bounds) - 1:
                self._end_round()
            while len(self._bounds) <= partition:
                self._bounds.append(self._position)
            self._position += sum(map(len, chunks))
            parts += chunks
        try:
            write_all(self._fd, parts)
        except OSError as error:
            raise self._error(error) from error

    def _end_round(self) -> None:
        while len(self._bounds) <= self._partitions:
            self._bounds.append(self._position)
        self._rounds.append(self._bounds)
        self._bounds = array("Q")

    def commit(self) -> str | Place:
        self._end_round()
        index = b"".join(bounds.tobytes() for bounds in self._rounds)
        size = self._position + len(index) + FOOTER.size
        footer = FOOTER.pack(
            MAGIC, 1, self._partitions, len(self._rounds), self._position, len(index), size, crc32(index), 0
        )
        footer = footer[:-4] + crc32(footer[:-4]).to_bytes(4, "little")
        try:
            write_all(self._fd, [index, footer])
            fd, self._fd = self._fd, -1
            os.close(fd)
            os.rename(self._temporary, self._path)
        except OSError as error:
            raise self._error(error) from error
        if self._host is None:
            return self._path
        return Place(self._path, self._host, self._position, len(self._rounds), self._partitions)

    def abort(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        remove_file(self._temporary)


class FileReader(MapOutputReader):
    """``size``: bytes of the partition."""

    def __init__(self, path: str, partition: int) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._stretches = self._find(partition)
        except BaseException:
            self.close()
            raise
        self.size = sum(end - start for start, end in self._stretches)

    def _find(self, partition: int) -> list[tuple[int, int]]:
        """Where the pieces of ``partition`` lie: start and end, for each round.  Checks footer and index."""
        actual = os.fstat(self._fd).st_size
        if actual < FOOTER.size:
            raise CorruptBlock(f"{actual} bytes are too few")
        footer = self._at(actual - FOOTER.size, FOOTER.size)
        magic, version, partitions, rounds, position, length, size, checksum, own = FOOTER.unpack(footer)
        if magic != MAGIC or version != 1 or crc32(footer[:-4]) != own:
            raise CorruptBlock("it has no footer: cut off, or not a map output")
        whole = position + length + FOOTER.size == size and length == rounds * (partitions + 1) * 8
        if size != actual or not whole:
            raise CorruptBlock(f"it has {actual} bytes, {size} expected")
        index = self._at(position, length)
        if crc32(index) != checksum:
            raise CorruptBlock("its index has a wrong checksum")
        if not 0 <= partition < partitions:
            raise CorruptBlock(f"it has {partitions} partitions, none is {partition}")
        bounds = index.cast("Q")
        first = range(partition, len(bounds), partitions + 1)
        return [(bounds[i], bounds[i + 1]) for i in first if bounds[i] < bounds[i + 1]]

    def read(self, offset: int, count: int) -> memoryview:
        for start, end in self._stretches:
            if offset < end - start:
                return self._at(start + offset, min(count, end - start - offset))
            offset -= end - start
        return memoryview(b"")

    def _at(self, offset: int, length: int) -> memoryview:
        if length > MAP_FROM and os.fstat(self._fd).st_size >= offset + length:
            before = offset % mmap.ALLOCATIONGRANULARITY
            mapped = mmap.mmap(self._fd, before + length, access=mmap.ACCESS_COPY, offset=offset - before)
            return memoryview(mapped)[before:]
        data = bytearray(length)
        if read_into(self._fd, data, offset) < length:
            raise CorruptBlock(f"the file ends before byte {offset + length}")
        return memoryview(data)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class RemoteReader(MapOutputReader):
    """Of one output on another host, read as it is asked for."""

    def __init__(self, files: HostFiles, place: Place, partition: int) -> None:
        self._read = partial(files.read, place.host)
        self._ranges = _find(place, partition, self._read)

    def read(self, offset: int, count: int) -> memoryview:
        for path, start, end in self._ranges:
            if offset < end - start:
                return self._read([(path, start + offset, min(start + offset + count, end))])[0]
            offset -= end - start
        return memoryview(b"")
