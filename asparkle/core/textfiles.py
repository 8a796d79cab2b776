"""Text files as partitions: which files a path names, where they are cut, and the lines of one piece.

The rules are those of Hadoop's input formats, which Spark reads text through, so a file has the same
partitions here as there; they were measured on PySpark 4.3 and are restated at each function.  Three
departures: a directory is listed in the order of names (Hadoop takes whatever order the file system gives),
a file that two alternatives of one pattern match is read once (Hadoop: sometimes twice), and a bzip2 file
is one partition (Hadoop starts a piece at any compressed block; decompressing in parallel is for those who
split their files).

`expand` and `plan_splits` run on the driver, `read_lines` in workers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import IO, TYPE_CHECKING, Final, Literal, NamedTuple, overload

from asparkle.core.errors import ArgumentError, CorruptInput, InputNotFound
from asparkle.core.shown import shown

if TYPE_CHECKING:
    from io import BufferedIOBase

BLOCK_SIZE: Final = 32 << 20
"""The largest piece: the block size that Hadoop assumes of a local file system."""

SPLIT_SLOP: Final = 1.1
"""A file's last piece may be this much larger than the others, so that no tiny piece is left over."""

CHUNK: Final = 1 << 20
"""Bytes read, decoded and split at a time."""

Codec = Literal["gzip", "bzip2"]
_CODECS: Final[dict[str, Codec]] = {".gz": "gzip", ".bz2": "bzip2"}


class TextFile(NamedTuple):
    """A file of an input: its absolute ``path`` and its ``size`` in bytes."""

    path: str
    size: int


class FileSplit(NamedTuple):
    """One partition: ``length`` bytes of ``path`` from ``start`` or, with a ``codec``, the whole file."""

    path: str
    start: int
    length: int
    codec: Codec | None = None


# ---------------------------------------------------------------------------------------- which files


def expand(paths: str, directory: str = "") -> list[TextFile]:
    """The files that ``paths`` names, in the order in which their lines are read.

    ``paths`` is a comma-separated list of files, directories and patterns, each absolute, relative to
    ``directory`` (the working directory by default), or a ``file:`` URL.  A directory stands for the files
    in it; a directory inside it is an error.  A pattern may use ``*``, ``?``, ``[a-c]``, ``[^a-c]``,
    ``{this,that}`` (also around ``/``) and a backslash before a character that is meant literally; its
    matches are sorted.  Names that begin with ``_`` or ``.`` are skipped, even where they are given in full,
    as in Hadoop; directories on the way to a file may have such names.

    Raises InputNotFound (a FileNotFoundError), IsADirectoryError, or ArgumentError (a ValueError) for
    a malformed list, pattern or URL.
    """
    return [file for path in _split_commas(paths) for file in _files_of(path, directory)]


def _split_commas(paths: str) -> list[str]:
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


def _files_of(given: str, directory: str) -> Iterator[TextFile]:
    path = _local(given)
    if _SPECIAL.search(path):
        if directory:
            path = os.path.join(_SPECIAL.sub(r"\\\g<0>", directory), path)
        plains = [p for p in _alternatives(path, given) if p.endswith("/") == path.endswith("/")]
        found = sorted({match for plain in plains for match in _matches(plain, given)}, key=_order)
        if not found:
            raise InputNotFound("no file matches the pattern", given)
    else:
        found = [os.path.abspath(os.path.join(directory, path))]
        if _hidden(os.path.basename(found[0])):
            raise InputNotFound("names that begin with '_' or '.' are skipped; rename it or use a link", given)
    for match in found:
        try:
            is_directory, size = _status(match)
        except FileNotFoundError:
            raise InputNotFound("no such file or directory", given) from None
        if is_directory:
            yield from _listing(match)
        else:
            yield TextFile(match, size)


def _local(path: str) -> str:
    """``path`` without ``file:``.  Nothing is percent-decoded, as in Hadoop."""
    scheme, colon, rest = path.partition(":")
    if colon and scheme.lower() == "file":
        rest = rest.removeprefix("//")
        if not rest.startswith("/") or rest.startswith("//"):
            raise ArgumentError(f"a file: URL needs an absolute path and no host, as in file:///data: {path!r}")
        return rest
    if rest.startswith("//") and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise ArgumentError(f"only local files can be read; {scheme}:// is not one: {path!r}")
    return path


def _hidden(name: str) -> bool:
    return name.startswith(("_", "."))


def _status(path: str) -> tuple[bool, int]:
    status = os.stat(path)
    return (status.st_mode & 0o170000) == 0o040000, status.st_size


def _listing(directory: str) -> Iterator[TextFile]:
    for name in sorted(filter(lambda name: not _hidden(name), os.listdir(directory))):
        path = os.path.join(directory, name)
        is_directory, size = _status(path)
        if is_directory:
            raise IsADirectoryError(
                f"{path!r} is a directory inside an input directory; directories are not read recursively: "
                f"name it, or use a pattern such as {os.path.join(directory, '*', '*')!r}"
            )
        yield TextFile(path, size)


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


def _matches(pattern: str, given: str) -> list[str]:
    """The absolute paths that a pattern without braces matches."""
    found = ["/" if pattern.startswith("/") else os.getcwd()]
    names = [name for name in pattern.split("/") if name not in ("", ".")]
    for depth, name in enumerate(names, 1):
        if name == "..":
            found = [os.path.dirname(path) for path in found]
        elif not _SPECIAL.search(name):
            found = [joined for path in found if os.path.exists(joined := os.path.join(path, name))]
        else:
            regex = _regex(name, given)
            found = [os.path.join(path, child) for path in found for child in _children(path) if regex.fullmatch(child)]
        if depth == len(names):
            found = [path for path in found if not _hidden(os.path.basename(path))]
    return found


def _children(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except NotADirectoryError:
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


def plan_splits(files: Sequence[TextFile], min_partitions: int) -> list[FileSplit]:
    """Cut ``files`` into the pieces that become partitions, in order.

    A piece is the total size divided by ``min_partitions`` (rounded down, at least a byte, 0 counting as 1),
    but never more than 32 MB; a file's last piece takes up to 10% more rather than leave a tiny one.  So
    there may be more pieces than asked for, and fewer only where there are not so many bytes.  Pieces do not
    span files, compressed files are not cut, and empty files give no partition.
    """
    if min_partitions < 0:
        raise ArgumentError(f"minPartitions must not be negative: {min_partitions}")
    goal = sum(file.size for file in files) // max(min_partitions, 1)
    size = max(1, min(goal, BLOCK_SIZE))
    splits: list[FileSplit] = []
    for file in files:
        codec = _CODECS.get(os.path.splitext(file.path)[1].lower())
        start = 0
        if codec is None:
            while (file.size - start) / size > SPLIT_SLOP:
                splits.append(FileSplit(file.path, start, size))
                start += size
        if start < file.size:
            splits.append(FileSplit(file.path, start, file.size - start, codec))
    return splits


# ------------------------------------------------------------------------------------------- the lines


@overload
def read_lines(split: FileSplit, use_unicode: Literal[True] = True) -> Iterator[str]: ...
@overload
def read_lines(split: FileSplit, use_unicode: Literal[False]) -> Iterator[bytes]: ...
@overload
def read_lines(split: FileSplit, use_unicode: bool) -> Iterator[str] | Iterator[bytes]: ...


def read_lines(split: FileSplit, use_unicode: bool = True) -> Iterator[str] | Iterator[bytes]:
    """The lines of ``split``, without their ends, as a C iterator: no Python code runs per line.

    A line ends at ``\\n``, ``\\r\\n`` or ``\\r``; the last one of a file may have no end.  A line belongs to
    the piece in which it begins, except that one which begins right at a piece's first byte belongs to the
    piece before: so the pieces of a file, whatever their sizes, together have each line once, in order.

    The text is UTF-8; a byte order mark that opens the file is dropped.  What is not valid is replaced by
    U+FFFD, as Java does it; ``use_unicode=False`` gives the same lines as UTF-8 bytes.

    The file is opened at the first ``next`` and closed at the end or when the iterator goes away.  Raises the
    OSError of the system, or CorruptInput, when it gets there.
    """
    chunks = _decompressed(split) if split.codec else _plain(split)
    lines = _split(_without_mark(chunks) if split.start == 0 else chunks)
    if use_unicode:
        return chain.from_iterable(text.split("\n") for text in map(_decode, lines))
    return chain.from_iterable(block.split(b"\n") for block in map(_valid, lines))


def _decode(block: bytes) -> str:
    try:
        return block.decode()
    except UnicodeDecodeError:
        # Java takes an encoded surrogate for one error, Python for two or three.
        return re.sub(rb"\xed[\xa0-\xbf][\x80-\xbf]?", b"\xef\xbf\xbd", block).decode(errors="replace")


def _valid(block: bytes) -> bytes:
    return block if block.isascii() else _decode(block).encode()


def _plain(split: FileSplit) -> Iterator[bytes]:
    """The bytes of the lines that belong to ``split``, ends included."""
    with open(split.path, "rb", buffering=0) as file:
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


def _decompressed(split: FileSplit) -> Iterator[bytes]:
    """The content of a compressed file, of all its members one after the other."""
    import zlib

    try:
        with _open_compressed(split) as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except EOFError:
        raise CorruptInput(f"the {split.codec} file is truncated", split.path) from None
    except zlib.error as error:
        raise CorruptInput(f"the {split.codec} file is damaged: {error}", split.path) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise CorruptInput(f"the {split.codec} file is damaged: {error}", split.path) from error


def _open_compressed(split: FileSplit) -> BufferedIOBase:
    if split.codec == "gzip":
        import gzip

        return gzip.open(split.path, "rb")
    import bz2

    return bz2.open(split.path, "rb")


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
