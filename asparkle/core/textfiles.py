"""Text files: the lines of one piece.

Where a line ends, and which piece it belongs to, is as in Hadoop's input formats, which Spark reads text through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import IO, Literal, overload

from asparkle.core.codecs import decompressed, load_codec
from asparkle.core.filesystems import CHUNK, Options
from asparkle.core.inputfiles import FileSplit, open_piece
from asparkle.core.metrics import count_input


@overload
def read_lines(split: FileSplit, options: Options = (), use_unicode: Literal[True] = True) -> Iterator[str]: ...
@overload
def read_lines(split: FileSplit, options: Options = (), *, use_unicode: Literal[False]) -> Iterator[bytes]: ...
@overload
def read_lines(split: FileSplit, options: Options, use_unicode: bool) -> Iterator[str] | Iterator[bytes]: ...


def read_lines(split: FileSplit, options: Options = (), use_unicode: bool = True) -> Iterator[str] | Iterator[bytes]:
    """The lines of ``split``, without their ends, as a C iterator: no Python code runs per line.

    A line ends at ``\\n``, ``\\r\\n`` or ``\\r``; the last one of a file may have no end.  A line belongs to
    the piece in which it begins, except that one which begins right at a piece's first byte belongs to the
    piece before: so the pieces of a file, whatever their sizes, together have each line once, in order.

    The text is UTF-8; a byte order mark that opens the file is dropped.  What is not valid is replaced by
    U+FFFD, as Java does it; ``use_unicode=False`` gives the same lines as UTF-8 bytes.

    The file is opened at the first ``next`` and closed at the end or when the iterator goes away.  Raises the
    OSError of the system, or CorruptInput, when it gets there.
    """
    chunks = _chunks(split, options)
    lines = _split(_without_mark(chunks) if split.start == 0 else chunks)
    if use_unicode:
        return chain.from_iterable(count_input(text.split("\n") for text in map(decode, lines)))
    return chain.from_iterable(count_input(block.split(b"\n") for block in map(valid, lines)))


def decode(block: bytes) -> str:
    """UTF-8 as text; what is not valid is replaced as Java does it."""
    try:
        return block.decode()
    except UnicodeDecodeError:
        # Java takes an encoded surrogate for one error, Python for two or three.
        return re.sub(rb"\xed[\xa0-\xbf][\x80-\xbf]?", b"\xef\xbf\xbd", block).decode(errors="replace")


def valid(block: bytes) -> bytes:
    """The same text, valid UTF-8."""
    return block if block.isascii() else decode(block).encode()


def _chunks(split: FileSplit, options: Options) -> Iterator[bytes]:
    """The bytes of the lines that belong to ``split``, ends included."""
    with open_piece(split, options) as file:
        if split.codec:
            yield from decompressed(file, load_codec(split.codec), split.path)
        elif split.length < 0:
            while chunk := file.read(CHUNK):
                yield chunk
        else:
            begin = _line_end(file, split.start) if split.start else 0
            left = _line_end(file, split.start + split.length) - begin
            file.seek(begin)
            while left > 0 and (chunk := file.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk


def _line_end(file: IO[bytes], start: int) -> int:
    """Where the line that one reads from ``start`` on ends, its end included, or else the file."""
    file.seek(start)
    position = start
    while chunk := file.read(1 << 16):
        if found := re.search(rb"\r\n?|\n", chunk):
            position += found.end()
            if found[0] == b"\r" and found.end() == len(chunk) and file.read(1) == b"\n":
                position += 1
            return position
        position += len(chunk)
    return position


def _without_mark(chunks: Iterator[bytes]) -> Iterator[bytes]:
    first = b""
    for chunk in chunks:
        first += chunk
        if len(first) >= 3:
            break
    return chain((first.removeprefix(b"\xef\xbb\xbf"),), chunks)


def _split(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks of whole lines, each line ended by ``\\n`` except a block's last one."""
    rest: list[bytes] = []
    after_return = False
    for chunk in chunks:
        if after_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        if b"\r" in chunk:
            after_return = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            after_return = False
        end = chunk.rfind(b"\n")
        if end < 0:
            rest.append(chunk)
        else:
            yield b"".join((*rest, memoryview(chunk)[:end]))
            rest = [chunk[end + 1 :]]
    if last := b"".join(rest):
        yield last
