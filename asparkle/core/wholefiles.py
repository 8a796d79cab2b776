"""Files that are read whole, each as one element, and files of records of one length.

How many files share a partition is as in Spark 4.3; the files are taken in the order of their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, Final

from asparkle.core.codecs import codec_of, decompressed, load_codec
from asparkle.core.errors import ArgumentError, CorruptInput
from asparkle.core.filesystems import CHUNK, Options
from asparkle.core.inputfiles import BLOCK_SIZE, FileSplit, InputFile, cut, file_system_of, open_piece
from asparkle.core.metrics import counts_input
from asparkle.core.textfiles import decode, valid

MAX_BYTES: Final = 128 << 20
"""The most bytes of small files in one partition of ``binaryFiles`` (Spark: spark.files.maxPartitionBytes)."""

OPEN_COST: Final = 4 << 20
"""What opening a file counts, in bytes that could be read in the same time (spark.files.openCostInBytes)."""


def group_texts(files: Sequence[InputFile], min_partitions: int, options: Options = ()) -> list[tuple[InputFile, ...]]:
    """Files for each partition of ``wholeInputFiles``: until they have a ``min_partitions``-th of all bytes."""
    for file in files:
        codec_of(file.path, options)  # refuses what can't be read, before a task has begun
    total = sum(_size(file) for file in files)
    return _grouped(files, -(-total // max(min_partitions, 1)))


def group_binaries(
    files: Sequence[InputFile], min_partitions: int, options: Options = (), *, parallelism: int
) -> list[tuple[InputFile, ...]]:
    """The same for ``binaryFiles``, whose partitions are of 4 to 128 MB where the files allow it."""
    total = sum(_size(file) + OPEN_COST for file in files)
    share = total // max(min_partitions, parallelism)
    return _grouped(files, min(MAX_BYTES, max(OPEN_COST, share)))


def _size(file: InputFile) -> int:
    return max(file.size, 0)


def _grouped(files: Sequence[InputFile], enough: int) -> list[tuple[InputFile, ...]]:
    groups, group, size = [], [], 0
    for file in files:
        group.append(file)
        size += _size(file)
        if size >= enough > 0:
            groups.append(tuple(group))
            group, size = [], 0
    return [*groups, tuple(group)] if group else groups


@counts_input
def read_texts(
    files: Sequence[InputFile], options: Options, use_unicode: bool
) -> Iterator[tuple[str, str] | tuple[bytes, bytes]]:
    """(URL, text) of each file, decompressed where its name says so; as UTF-8 bytes without ``use_unicode``."""
    for file in files:
        codec = codec_of(file.path, options)
        with open_piece(file, options) as opened:
            if codec is None:
                content = _whole(opened)
            else:
                content = b"".join(decompressed(opened, load_codec(codec), file.path))
        url = _url(file, options)
        yield (url, decode(content)) if use_unicode else (url.encode(), valid(content))


@counts_input
def read_binaries(files: Sequence[InputFile], options: Options) -> Iterator[tuple[str, bytes]]:
    """(URL, content) of each file, as it is."""
    for file in files:
        with open_piece(file, options) as opened:
            content = _whole(opened)
        yield _url(file, options), content


def _whole(file: IO[bytes]) -> bytes:
    return b"".join(iter(lambda: file.read(CHUNK << 4), b""))


def _url(file: InputFile, options: Options) -> str:
    return file_system_of(file, options).url(file.path)


# ---------------------------------------------------------------------------------------------- records


def plan_records(files: Sequence[InputFile], length: int, options: Options = ()) -> list[FileSplit]:
    """Pieces of whole records, of some 32 MB; a file's last one may be a tenth larger."""
    for file in files:
        if codec_of(file.path, options) is not None:
            problem = "is compressed, so its records have no known place; unpack it"
            raise ArgumentError(f"binaryRecords: {file.path!r} {problem}")
    size = max(BLOCK_SIZE // length, 1) * length
    return [split for file in files for split in cut(file, size, options)]


@counts_input
def read_records(split: FileSplit, options: Options, length: int) -> Iterator[bytes]:
    """The records of a piece.  Raises CorruptInput if the last one is cut off."""
    left = split.length
    many = max(CHUNK // length, 1) * length
    with open_piece(split, options) as file:
        if split.start:
            file.seek(split.start)
        rest = b""
        while left and (chunk := file.read(many if left < 0 else min(many, left))):
            left -= len(chunk) if left > 0 else 0
            rest += chunk
            whole = len(rest) // length * length
            for start in range(0, whole, length):
                yield rest[start : start + length]
            rest = rest[whole:]
    if rest or left > 0:
        raise CorruptInput(f"the last record has {len(rest)} bytes, not {length}", split.path)
