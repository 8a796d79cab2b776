"""Text files as partitions: which files a path names, where they are cut, and the lines of one piece.

The rules are those of Hadoop's input formats, which Spark reads text through, so a file has the same
partitions here as there; they were measured on PySpark 4.3 and are restated at each function.  Three
departures: a directory is listed in the order of names (Hadoop takes whatever order the file system gives),
a file that two alternatives of one pattern match is read once (Hadoop: sometimes twice), and a bzip2 file
is one partition (Hadoop starts a piece at any compressed block; decompressing in parallel is for those who
split their files).

`expand` and `plan_splits` run on the driver, `read_lines` in workers.  Files of other file systems than the
local one are found, cut and read by the same rules; whatever reads files (pickle files, whole files, records)
finds them with `expand`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, pairwise
from typing import IO, Final, Literal, overload

from asparkle.core.errors import ArgumentError, InputNotFound
from asparkle.core.filesystems import LOCAL, FileSystem, Options, file_system, is_remote, local_path
from asparkle.core.namedtuple import NamedTuple
from asparkle.core.shown import shown

BLOCK_SIZE: Final = 32 << 20
"""The largest piece: the block size that Hadoop assumes of a local file system."""

SPLIT_SLOP: Final = 1.1
"""A file's last piece may be this much larger than the others, so that no tiny piece is left over."""

CHUNK: Final = 1 << 20
"""Bytes read, decoded and split at a time."""

Codec = Literal["gzip", "bzip2", "deflate", "xz", "zstd", "lz4"]
CODECS: Final[dict[str, Codec]] = {
    ".gz": "gzip",
    ".bz2": "bzip2",
    ".deflate": "deflate",
    ".xz": "xz",
    ".zst": "zstd",
    ".lz4": "lz4",
}


class TextFile(NamedTuple):
    """A file of an input: its absolute ``path`` and its ``size`` in bytes, -1 where it can't be read in parts.

    ``url``: what leads to its file system; empty for the local one.
    """

    path: str
    size: int
    url: str = ""


class FileSplit(NamedTuple):
    """One partition: ``length`` bytes of ``path`` from ``start``; with a ``codec`` or length -1, the whole file."""

    path: str
    start: int
    length: int
    codec: Codec | None = None
    url: str = ""


# ---------------------------------------------------------------------------------------- which files


def expand(paths: str, directory: str = "", options: Options = (), *, skip_directories: bool = False) -> list[TextFile]:
    """The files that ``paths`` names, in the order in which their lines are read.

    ``paths`` is a comma-separated list of files, directories and patterns, each absolute, relative to
    ``directory`` (the working directory by default), or a URL.  A directory stands for the files in it; a
    directory inside it is an error, or with ``skip_directories`` nothing.  A pattern may use ``*``, ``?``,
    ``[a-c]``, ``[^a-c]``, ``{this,that}`` (also around ``/``) and a backslash before a character that is meant
    literally; its matches are sorted.  Names that begin with ``_`` or ``.`` are skipped, even where they are
    given in full, as in Hadoop; directories on the way to a file may have such names.  There are no patterns in
    http URLs.
    ``options``: see `file_system`.

    Raises InputNotFound (a FileNotFoundError), IsADirectoryError, or ArgumentError (a ValueError) for
    a malformed list, pattern or URL.
    """
    return [file for path in split_commas(paths) for file in _files_of(path, directory, options, skip_directories)]


def split_commas(paths: str) -> list[str]:
    """Cut at the commas that are outside braces."""
    if not isinstance(paths, str):
        raise ArgumentError(f"a path must be a str, not {type(paths).__name__}: {shown(paths)}")
    parts, depth, start = [], 0, 0
    for i, char in enumerate(paths):
        depth += (char == "{") - (char == "}")
        if char == "," and depth <= 0:
            parts.append(paths[start:i])
            start = i + 1
    parts.append(paths[start:])
    if not all(parts):
        raise ArgumentError(f"an empty path in {paths!r}: name a file, a directory or a pattern")
    return parts


def _files_of(given: str, directory: str, options: Options, skip_directories: bool) -> Iterator[TextFile]:
    url = ""
    fs: FileSystem = LOCAL
    if is_remote(given):
        url = given
        fs, path = file_system(given, options)
    else:
        path = local_path(given)
    if fs.has_patterns and _SPECIAL.search(path):
        if directory and not url:
            path = os.path.join(_SPECIAL.sub(r"\\\g<0>", directory), path)
        plains = [p for p in _alternatives(path, given) if p.endswith("/") == path.endswith("/")]
        found = sorted({match for plain in plains for match in _matches(fs, plain, given)}, key=_order)
        if not found:
            raise InputNotFound("no file matches the pattern", given)
    else:
        found = [path if url else os.path.abspath(os.path.join(directory, path))]
        if _hidden(os.path.basename(found[0])):
            raise InputNotFound("names that begin with '_' or '.' are skipped; rename it or use a link", given)
    for match in found:
        try:
            status = fs.status(match)
        except FileNotFoundError as error:
            problem = "no such file or directory"
            if error.__cause__ is not None:  # a web server that can't be reached, or has another answer
                problem += f" ({error.__cause__})"
            raise InputNotFound(problem, given) from error.__cause__
        if status.is_directory:
            yield from _listing(fs, match, url, skip_directories)
        else:
            yield TextFile(match, status.size, url)


def _hidden(name: str) -> bool:
    return name.startswith(("_", "."))


def _listing(fs: FileSystem, directory: str, url: str, skip_directories: bool) -> Iterator[TextFile]:
    children = {os.path.basename(child.path): child for child in fs.children(directory)}
    for name in sorted(filter(lambda name: not _hidden(name), children)):
        path, size, is_directory = children[name]
        if not is_directory:
            yield TextFile(path, size, url)
        elif not skip_directories:
            raise IsADirectoryError(
                f"{path!r} is a directory inside an input directory; directories are not read recursively: "
                f"name it, or use a pattern such as {os.path.join(directory, '*', '*')!r}"
            )


def _order(path: str) -> str:
    """Matches are ordered as URIs: ASCII characters that a URI does not allow count as their %XX."""
    return re.sub(r"[^\w\-.!~'()*,;:$&+=/@]", lambda m: f"%{ord(m[0]):02X}" if m[0] < "\x80" else m[0], path)


# ------------------------------------------------------------------------------------------- patterns

_SPECIAL: Final = re.compile(r"[*?\[{\\]")
_TOKEN: Final = re.compile(r"\\(.)|\[([!^]?)((?:\\.|[^\\])(?:\\.|[^\]\\])*)\]|(.)", re.DOTALL)


def _alternatives(pattern: str, given: str) -> list[str]:
    """``{a,b}`` written out, outermost first; escapes and character classes are left alone."""
    depth, cuts = 0, []
    for token in _TOKEN.finditer(pattern):
        char = token[4]
        if char == "{" or (char == "}" and depth):
            depth += 1 if char == "{" else -1
            if depth == (char == "{"):
                cuts.append(token.start())
        elif char == "," and depth == 1:
            cuts.append(token.start())
        if cuts and not depth:
            before, after = pattern[: cuts[0]], pattern[cuts[-1] + 1 :]
            inner = [pattern[i + 1 : j] for i, j in pairwise(cuts)]
            return [plain for part in inner for plain in _alternatives(before + part + after, given)]
    if depth:
        raise ArgumentError(f"'{{' without '}}' in the pattern {given!r}; a literal one is written '\\{{'")
    return [pattern]


def _matches(fs: FileSystem, pattern: str, given: str) -> list[str]:
    """The paths that a pattern without braces matches; of the local file system, absolute ones."""
    found = ["/" if pattern.startswith("/") else os.getcwd() if fs is LOCAL else ""]
    names = [name for name in pattern.split("/") if name not in ("", ".")]
    for depth, name in enumerate(names, 1):
        if name == "..":
            found = [os.path.dirname(path) for path in found]
        elif not _SPECIAL.search(name):
            found = [joined for path in found if fs.exists(joined := os.path.join(path, name))]
        else:
            regex = _regex(name, given)
            found = [
                os.path.join(path, child) for path in found for child in _names(fs, path) if regex.fullmatch(child)
            ]
        if depth == len(names):
            found = [path for path in found if not _hidden(os.path.basename(path))]
    return found


def _names(fs: FileSystem, path: str) -> list[str]:
    try:
        return fs.names(path)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _regex(name: str, given: str) -> re.Pattern[str]:
    parts = []
    for token in _TOKEN.finditer(name):
        escaped, negated, members, char = token.groups()
        if members is not None:
            safe = re.sub(r"\\(.)|([\[\]^&|~])", lambda m: "\\" + (m[1] or m[2]), members)
            parts.append(f"[{'^' if negated else ''}{safe}]")
        elif char == "[":
            raise ArgumentError(f"'[' without ']' in the pattern {given!r}; a literal one is written '\\['")
        elif char == "\\":
            raise ArgumentError(f"nothing follows the backslash in the pattern {given!r}")
        else:
            parts.append({"*": ".*", "?": "."}.get(char or "") or re.escape(escaped or char))
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error as error:
        raise ArgumentError(f"the pattern {given!r} is malformed: {error}") from None


# ------------------------------------------------------------------------------------------ the pieces


def plan_splits(files: Sequence[TextFile], min_partitions: int, least: int = 1) -> list[FileSplit]:
    """Cut ``files`` into the pieces that become partitions, in order.

    A piece is the total size divided by ``min_partitions`` (rounded down, at least a byte, 0 counting as 1),
    but never more than 32 MB; a file's last piece takes up to 10% more rather than leave a tiny one.  So
    there may be more pieces than asked for, and fewer only where there are not so many bytes.  Pieces do not
    span files, compressed files are not cut, and empty files give no partition.  ``least``: the smallest size of
    a piece.
    """
    if min_partitions < 0:
        raise ArgumentError(f"minPartitions must not be negative: {min_partitions}")
    goal = sum(file.size for file in files if file.size > 0) // max(min_partitions, 1)
    size = max(least, min(goal, BLOCK_SIZE))
    splits: list[FileSplit] = []
    for file in files:
        codec = CODECS.get(os.path.splitext(file.path)[1].lower())
        start = 0
        if codec is None:
            while (file.size - start) / size > SPLIT_SLOP:
                splits.append(FileSplit(file.path, start, size, None, file.url))
                start += size
        if start < file.size or file.size < 0:
            splits.append(FileSplit(file.path, start, file.size - start, codec, file.url))
    return splits


# ------------------------------------------------------------------------------------------- the lines


@overload
def read_lines(split: FileSplit, use_unicode: Literal[True] = True, options: Options = ()) -> Iterator[str]: ...
@overload
def read_lines(split: FileSplit, use_unicode: Literal[False], options: Options = ()) -> Iterator[bytes]: ...
@overload
def read_lines(split: FileSplit, use_unicode: bool, options: Options = ()) -> Iterator[str] | Iterator[bytes]: ...


def read_lines(split: FileSplit, use_unicode: bool = True, options: Options = ()) -> Iterator[str] | Iterator[bytes]:
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
        return chain.from_iterable(text.split("\n") for text in map(decode, lines))
    return chain.from_iterable(block.split(b"\n") for block in map(valid, lines))


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


@contextmanager
def open_split(split: FileSplit | TextFile, options: Options) -> Iterator[IO[bytes]]:
    """The file that a piece is of, open at its beginning, for as long as the block lasts."""
    fs = file_system(split.url, options)[0] if split.url else LOCAL  # which some files need while they are read
    in_parts = isinstance(split, FileSplit) and split.codec is None and split.length >= 0
    with fs.open(split.path, seekable=in_parts) as file:
        yield file


def _chunks(split: FileSplit, options: Options) -> Iterator[bytes]:
    """The bytes of the lines that belong to ``split``, ends included."""
    with open_split(split, options) as file:
        if split.codec:
            from asparkle.core.codecs import decompressed

            yield from decompressed(file, split.codec, split.path)
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
