"""Hadoop's SequenceFiles: keys and values as bytes, behind a header, with marks at which a reader can begin.

    header  "SEQ" 6, key class, value class, compressed?, in blocks?, codec class if compressed, metadata, sync
    record  length, key length, key, value                         plain; compressed: the value is
    block   count, then compressed: key lengths, keys, value lengths, values
    sync    -1 and the header's 16 random bytes: before every block, else about every 100 KB

What a piece of a file has is what follows the marks that begin in it (Hadoop's SequenceFile.Reader.sync).
Written are plain files and, with a codec, blocks, as Spark does; all three are read.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, Final, NamedTuple

from asparkle.core.codecs import codec_named, decompressed, load_codec
from asparkle.core.contracts import Codec
from asparkle.core.errors import ArgumentError, CorruptInput, UserFunctionError
from asparkle.core.filesystems import CHUNK, Options
from asparkle.core.inputfiles import FileSplit, InputFile, open_piece, plan_splits
from asparkle.core.metrics import counts_input
from asparkle.core.shown import shown

SYNC_INTERVAL: Final = 100 << 10
BLOCK: Final = 1_000_000
"""Bytes of keys and values in a compressed block (Hadoop: io.seqfile.compress.blocksize)."""

_ESCAPE: Final = b"\xff\xff\xff\xff"
_IO: Final = "org.apache.hadoop.io."
NULL: Final = f"{_IO}NullWritable"
BYTES: Final = f"{_IO}BytesWritable"

# ------------------------------------------------------------------------------------------- numbers


def vint(n: int) -> bytes:
    """Hadoop's variable-length integer: one byte from -112 to 127, else a byte that says how many follow."""
    if -112 <= n <= 127:
        return struct.pack("b", n)
    base = -112
    if n < 0:
        n, base = ~n, -120
    length = (n.bit_length() + 7) // 8
    return struct.pack("b", base - length) + n.to_bytes(length, "big")


def _vint_at(data: bytes, at: int) -> tuple[int, int]:
    """The number at ``at`` and where it ends.  Raises IndexError or struct.error where the data end."""
    (first,) = struct.unpack_from("b", data, at)
    if first >= -112:
        return first, at + 1
    negative = first < -120
    length = -first - (120 if negative else 112)
    end = at + 1 + length
    if end > len(data):
        raise IndexError
    n = int.from_bytes(data[at + 1 : end], "big")
    return (~n if negative else n), end


def _text(value: str) -> bytes:
    data = value.encode()
    return vint(len(data)) + data


# ------------------------------------------------------------------------------------- keys and values


class Writable(NamedTuple):
    """How a class of Hadoop's is written and read."""

    types: tuple[type, ...]
    dump: Callable[[Any], bytes]
    load: Callable[[bytes], Any]


def _packed(code: str, *types: type) -> Writable:
    form = struct.Struct(code)
    return Writable(types, form.pack, lambda data: form.unpack(data)[0])


def _load_text(data: bytes) -> str:
    length, at = _vint_at(data, 0)
    if at + length != len(data):
        raise ValueError
    return data[at:].decode(errors="replace")


def _load_bytes(data: bytes) -> bytearray:
    (length,) = struct.unpack_from(">i", data)
    if length != len(data) - 4:
        raise ValueError
    return bytearray(data[4:])


WRITABLES: Final = {
    f"{_IO}Text": Writable((str,), _text, _load_text),
    f"{_IO}IntWritable": _packed(">i", int),
    f"{_IO}LongWritable": _packed(">q", int),
    f"{_IO}DoubleWritable": _packed(">d", float),
    f"{_IO}FloatWritable": _packed(">f", float),
    f"{_IO}BooleanWritable": _packed(">?", bool),
    BYTES: Writable((bytes, bytearray), lambda value: struct.pack(">i", len(value)) + value, _load_bytes),
    NULL: Writable((type(None),), lambda value: b"", lambda data: None),
}


def class_for(value: object) -> str:
    """The class that a Python value is saved as.  Raises UserFunctionError where Hadoop has none for it."""
    kind = type(value)
    if kind is int:
        assert isinstance(value, int)
        for name, bits in ((f"{_IO}IntWritable", 31), (f"{_IO}LongWritable", 63)):
            if -(1 << bits) <= value < 1 << bits:
                return name
    for name, writable in WRITABLES.items():
        if kind in writable.types and kind is not int:
            return name
    raise UserFunctionError(
        f"saveAsSequenceFile: {shown(value)} of type {kind.__name__} is no str, int of 64 bits, float, bool, bytes or "
        "None; map it to one of these, or use saveAsPickleFile"
    )


def pair_classes(first: list[Any]) -> tuple[str, str]:
    """The classes of keys and values that the first pair, if there is one, has."""
    if not first:
        return NULL, NULL
    key, value = _pair(first[0])
    return class_for(key), class_for(value)


def _pair(element: Any) -> tuple[Any, Any]:
    try:
        key, value = element
    except (TypeError, ValueError) as error:
        raise UserFunctionError(f"saveAsSequenceFile: {shown(element)} is no pair of key and value") from error
    return key, value


def _dump(name: str, value: object) -> bytes:
    writable = WRITABLES[name]
    try:
        if type(value) in writable.types:
            return writable.dump(value)
    except struct.error:
        pass
    raise UserFunctionError(
        f"saveAsSequenceFile: {shown(value)} of type {type(value).__name__} in a file of {name}, "
        "which the first element was taken for: all keys have one type, and all values"
    )


# ---------------------------------------------------------------------------------------------- writing


class SequenceWriter:
    """Writes one file's records; `close` ends the last block and leaves the file open."""

    def __init__(
        self, file: IO[bytes], key_class: str, value_class: str, codec_class: str | None, options: Options = ()
    ) -> None:
        self._file = file
        self._codec = load_codec(codec_named(codec_class, options)) if codec_class else None
        self._sync = os.urandom(16)
        self._since = 0
        self._records: list[tuple[bytes, bytes]] = []
        flags = b"\1\1" + _text(codec_class) if codec_class else b"\0\0"
        head = b"SEQ\6" + _text(key_class) + _text(value_class) + flags + struct.pack(">i", 0) + self._sync
        file.write(head)

    def append(self, key: bytes, value: bytes) -> None:
        self._since += len(key) + len(value) + 8
        if self._codec is not None:
            self._records.append((key, value))
            if self._since >= BLOCK:
                self.close()
            return
        self._file.write(struct.pack(">ii", len(key) + len(value), len(key)) + key + value)
        if self._since >= SYNC_INTERVAL:
            self._file.write(_ESCAPE + self._sync)
            self._since = 0

    def close(self) -> None:
        records, self._records, self._since = self._records, [], 0
        if records and self._codec is not None:
            keys, values = zip(*records, strict=True)
            self._file.write(_ESCAPE + self._sync + vint(len(records)))
            for parts in (map(vint, map(len, keys)), keys, map(vint, map(len, values)), values):
                data = _compressed(b"".join(parts), self._codec)
                self._file.write(vint(len(data)) + data)


def _compressed(data: bytes, codec: Codec) -> bytes:
    buffer = io.BytesIO()
    with codec.write(buffer) as file:
        file.write(data)
    return buffer.getvalue()


class WritePairs:
    """Pairs into a file of two of Hadoop's classes."""

    extension = ""

    def __init__(self, key_class: str, value_class: str, codec_class: str | None, options: Options = ()) -> None:
        self.classes = (key_class, value_class, codec_class)
        self.options = options

    def __call__(self, elements: Iterable[Any], file: IO[bytes]) -> None:
        key_class, value_class, _ = self.classes
        writer = SequenceWriter(file, *self.classes, self.options)
        for element in elements:
            key, value = _pair(element)
            writer.append(_dump(key_class, key), _dump(value_class, value))
        writer.close()


# ---------------------------------------------------------------------------------------------- reading


def plan_sequences(files: Sequence[InputFile], min_partitions: int, options: Options = ()) -> list[FileSplit]:
    """As `plan_splits`; no piece is smaller than what lies between two marks."""
    return plan_splits(files, min_partitions, options, SYNC_INTERVAL)


class _Stream:
    """A file, read exactly: a cut-off one is corrupt.  ``position``: of the next byte."""

    def __init__(self, file: IO[bytes], path: str) -> None:
        self._file = file
        self._buffer = b""
        self._at = 0
        self.path = path
        self.position = 0

    def seek(self, position: int) -> None:
        self._file.seek(position)
        self._buffer, self._at, self.position = b"", 0, position

    def _fill(self, count: int) -> bool:
        """Whether so many bytes are there."""
        parts = [self._buffer[self._at :]]
        have = len(parts[0])
        while have < count and (chunk := self._file.read(CHUNK)):
            parts.append(chunk)
            have += len(chunk)
        self._buffer, self._at = b"".join(parts), 0
        return have >= count

    def read(self, count: int) -> bytes:
        if count < 0:
            raise CorruptInput(f"a length of {count} before byte {self.position}: it is damaged", self.path)
        if self._at + count > len(self._buffer) and not self._fill(count):
            raise CorruptInput(f"it ends inside a record, at byte {self.position + len(self._buffer)}", self.path)
        data = self._buffer[self._at : self._at + count]
        self._at += count
        self.position += count
        return data

    def at_end(self) -> bool:
        return self._at >= len(self._buffer) and not self._fill(1)

    def number(self) -> int:
        return int.from_bytes(self.read(4), "big", signed=True)

    def vint(self) -> int:
        first = self.read(1)
        if first[0] < 128 or first[0] >= 144:
            return _vint_at(first, 0)[0]
        length = 136 - first[0] if first[0] < 136 else 144 - first[0]
        return _vint_at(first + self.read(length), 0)[0]

    def text(self) -> str:
        return self.read(self.vint()).decode(errors="replace")

    def find(self, mark: bytes) -> bool:
        """Go to the next place where ``mark`` is, if there is one."""
        while True:
            found = self._buffer.find(mark, self._at)
            if found >= 0:
                self.position += found - self._at
                self._at = found
                return True
            skip = max(len(self._buffer) - self._at - len(mark) + 1, 0)
            self._at += skip
            self.position += skip
            if not self._fill(len(self._buffer) - self._at + 1):
                return False


class _Header(NamedTuple):
    key_class: str
    value_class: str
    codec: Codec | None
    blocks: bool
    sync: bytes


def _header(stream: _Stream, options: Options) -> _Header:
    magic = stream.read(4)
    if magic != b"SEQ\6":
        raise CorruptInput(f"it begins with {magic!r}, and is no SequenceFile of version 6", stream.path)
    key_class, value_class = stream.text(), stream.text()
    compressed, blocks = stream.read(2)
    codec = None
    if compressed:
        name = stream.text()
        try:
            codec = load_codec(codec_named(name, options))
        except ArgumentError as error:
            raise CorruptInput(f"it is compressed with {name}, which can't be read", stream.path) from error
    for _ in range(2 * stream.number()):
        stream.text()
    return _Header(key_class, value_class, codec, bool(blocks), stream.read(16))


def read_raw(split: FileSplit, options: Options) -> Iterator[tuple[_Header, bytes, bytes]]:
    """(header, key, value) of each record of a piece, keys and values as they were written."""
    with open_piece(split, options) as file:
        stream = _Stream(file, split.path)
        header = _header(stream, options)
        end = float("inf") if split.length < 0 else split.start + split.length
        if split.start > stream.position:
            stream.seek(split.start)
            if not stream.find(_ESCAPE + header.sync):
                return
        elif stream.position >= end:
            return
        while not stream.at_end():
            position = stream.position
            length = stream.number()
            if length == -1:
                if position >= end:
                    return
                if stream.read(16) != header.sync:
                    raise CorruptInput(f"a wrong mark at byte {position}: it is damaged", split.path)
                if header.blocks:
                    yield from _block(stream, header)
                    continue
                if stream.at_end():
                    return
                length = stream.number()
            elif header.blocks:
                raise CorruptInput(f"no block at byte {position}: it is damaged", split.path)
            key_length = stream.number()
            key, value = stream.read(key_length), stream.read(length - key_length)
            if header.codec:
                value = _plain(value, header.codec, split.path)
            yield header, key, value


def _plain(data: bytes, codec: Codec, path: str) -> bytes:
    return b"".join(decompressed(io.BytesIO(data), codec, path))


def _block(stream: _Stream, header: _Header) -> Iterator[tuple[_Header, bytes, bytes]]:
    assert header.codec is not None
    count = stream.vint()
    parts = [_plain(stream.read(stream.vint()), header.codec, stream.path) for _ in range(4)]
    keys, values = _cut(parts[0], parts[1], count, stream), _cut(parts[2], parts[3], count, stream)
    for key, value in zip(keys, values, strict=True):
        yield header, key, value


def _cut(lengths: bytes, data: bytes, count: int, stream: _Stream) -> list[bytes]:
    pieces, at, begin = [], 0, 0
    try:
        for _ in range(count):
            length, at = _vint_at(lengths, at)
            pieces.append(data[begin : begin + length])
            begin += length
    except (IndexError, struct.error):
        begin = -1
    if begin != len(data):
        raise CorruptInput(f"the block before byte {stream.position} is damaged", stream.path)
    return pieces


@counts_input
def read_pairs(
    split: FileSplit, options: Options, key_class: str | None, value_class: str | None
) -> Iterator[tuple[Any, Any]]:
    """(key, value) of each record, as Python values.  Raises CorruptInput for a class that has none."""
    loads: list[Callable[[bytes], Any]] = []
    for header, key, value in read_raw(split, options):
        if not loads:
            for found, wanted in ((header.key_class, key_class), (header.value_class, value_class)):
                if wanted is not None and wanted != found:
                    raise CorruptInput(f"it is a SequenceFile of {found}, not of {wanted}", split.path)
                if found not in WRITABLES:
                    raise CorruptInput(f"it is a SequenceFile of {found}; known are {', '.join(WRITABLES)}", split.path)
                loads.append(WRITABLES[found].load)
        try:
            pair = loads[0](key), loads[1](value)
        except (ValueError, IndexError, struct.error) as error:
            raise CorruptInput(f"a record is no {header.key_class} and {header.value_class}", split.path) from error
        yield pair
