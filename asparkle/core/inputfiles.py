"""The files of an input: which ones a path names, and where they are cut into the pieces that become partitions.

The rules are those of Hadoop's input formats, which Spark reads files through, so a file has the same
partitions here as there; they were measured on PySpark 4.3 and are restated at each function.  Three
departures: a directory is listed in the order of names (Hadoop takes whatever order the file system gives),
a file that two alternatives of one pattern match is read once (Hadoop: sometimes twice), and a bzip2 file
is one partition (Hadoop starts a piece at any compressed block; decompressing in parallel is for those who
split their files).

`expand` and what cuts run on the driver, `open_piece` in workers.  Files of other file systems than the
local one are found and cut by the same rules.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import IO, Final, Literal, TypeAlias

from asparkle.core.codecs import codec_of
from asparkle.core.errors import ArgumentError, InputIsDirectory, InputNotFound
from asparkle.core.filesystems import LOCAL, FileSystem, Options, file_system, hadoop_flag, is_remote, local_path
from asparkle.core.metrics import counters
from asparkle.core.namedtuple import NamedTuple
from asparkle.core.shown import shown

BLOCK_SIZE: Final = 32 << 20
"""The largest piece, in bytes: the block size that Hadoop assumes of a local file system."""

SPLIT_SLOP: Final = 1.1
"""A file's last piece may be this much larger than the others, so that no tiny piece is left over."""


Inner: TypeAlias = Literal["refuse", "skip", "read"]
"""What becomes of directories in input directories."""


class InputFile(NamedTuple):
    """A file of an input: its absolute ``path`` and its ``size`` in bytes, -1 where it can't be read in parts.

    ``url``: what leads to its file system; empty for the local one.
    """

    path: str
    size: int
    url: str = ""


class FileSplit(NamedTuple):
    """One partition: ``length`` bytes of ``path`` from ``start``; with length -1, or a ``codec``, the path of a class,
    the whole file."""

    path: str
    start: int
    length: int
    codec: str | None = None
    url: str = ""


# ---------------------------------------------------------------------------------------- which files


def expand(
    paths: str, directory: str = "", options: Options = (), *, skip_directories: bool = False
) -> list[InputFile]:
    """The files that ``paths`` names, in the order in which they are read.

    ``paths`` is a comma-separated list of files, directories and patterns, each absolute, relative to
    ``directory`` (the working directory by default), or a URL.  A directory stands for the files in it; a
    directory inside it is an error, or with ``skip_directories`` nothing, unless Hadoop's setting
    ``mapreduce.input.fileinputformat.input.dir.recursive`` is true.  A pattern may use ``*``, ``?``,
    ``[a-c]``, ``[^a-c]``, ``{this,that}`` (also around ``/``) and a backslash before a character that is meant
    literally; its matches are sorted.  Names that begin with ``_`` or ``.`` are skipped, even where they are
    given in full, as in Hadoop; directories on the way to a file may have such names.  There are no patterns in
    http URLs.
    ``options``: see `file_system`.

    Raises InputNotFound (a FileNotFoundError), InputIsDirectory (an IsADirectoryError), or ArgumentError (a
    ValueError) for a malformed list, pattern or URL.
    """
    inner: Inner = "skip" if skip_directories else "refuse"
    if hadoop_flag(options, "mapreduce.input.fileinputformat.input.dir.recursive", False):
        inner = "read"
    return [file for path in split_commas(paths) for file in _files_of(path, directory, options, inner)]


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


def _files_of(given: str, directory: str, options: Options, inner: Inner) -> Iterator[InputFile]:
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
            yield from _listing(fs, match, url, inner)
        else:
            yield InputFile(match, status.size, url)


def _hidden(name: str) -> bool:
    return name.startswith(("_", "."))


def _listing(fs: FileSystem, directory: str, url: str, inner: Inner) -> Iterator[InputFile]:
    children = {os.path.basename(child.path): child for child in fs.children(directory)}
    for name in sorted(filter(lambda name: not _hidden(name), children)):
        path, size, is_directory = children[name]
        if not is_directory:
            yield InputFile(path, size, url)
        elif inner == "read":
            yield from _listing(fs, path, url, inner)
        elif inner == "refuse":
            raise InputIsDirectory(fs.url(path), fs.url(directory))


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


def plan_splits(
    files: Sequence[InputFile], min_partitions: int, options: Options = (), least: int = 1
) -> list[FileSplit]:
    """Cut ``files`` into the pieces that become partitions, in order.

    A piece is the total size divided by ``min_partitions`` (rounded down, at least a byte, 0 counting as 1),
    but never more than 32 MB; a file's last piece takes up to 10% more rather than leave a tiny one.  So
    there may be more pieces than asked for, and fewer only where there are not so many bytes.  Pieces do not
    span files, compressed files are not cut, and empty files give no partition.  ``least``: the smallest size of
    a piece, in bytes.
    """
    if min_partitions < 0:
        raise ArgumentError(f"minPartitions must not be negative: {min_partitions}")
    goal = sum(file.size for file in files if file.size > 0) // max(min_partitions, 1)
    size = max(least, min(goal, BLOCK_SIZE))
    return [split for file in files for split in cut(file, size, options)]


def cut(file: InputFile, size: int, options: Options) -> Iterator[FileSplit]:
    """Pieces of ``size`` bytes, the last one of up to a tenth more; a compressed file is one piece."""
    codec = codec_of(file.path, options)
    start = 0
    if codec is None:
        while (file.size - start) / size > SPLIT_SLOP:
            yield FileSplit(file.path, start, size, None, file.url)
            start += size
    if start < file.size or file.size < 0:
        yield FileSplit(file.path, start, file.size - start, codec, file.url)


@contextmanager
def open_piece(piece: FileSplit | InputFile, options: Options) -> Iterator[IO[bytes]]:
    """The file that a piece is of, open at its beginning, for as long as the block lasts."""
    fs = file_system_of(piece, options)  # which some files need while they are read
    in_parts = isinstance(piece, FileSplit) and piece.codec is None and piece.length >= 0
    with fs.open(piece.path, seekable=in_parts) as file:
        counts = counters()
        try:
            yield file
        finally:
            counts.input_bytes += _position(file) - (piece.start if isinstance(piece, FileSplit) else 0)


def _position(file: IO[bytes]) -> int:
    """How far a file was read; 0 where it does not say."""
    try:
        return file.tell()
    except (OSError, ValueError):  # it can't, or is closed
        return 0


def file_system_of(piece: FileSplit | InputFile, options: Options) -> FileSystem:
    """The file system that has its ``path``."""
    return file_system(piece.url, options)[0] if piece.url else LOCAL
