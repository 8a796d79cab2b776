"""What asparkle asks of a file system, and the local one.

Paths without a scheme and ``file:`` URLs are local and need nothing but Python.  Every other URL is fsspec's
(`remotefiles`), imported when the first such URL is used.  All methods block: the driver calls them in
threads, tasks as they are.
"""

from __future__ import annotations

import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, Final, NamedTuple, TypeAlias

from asparkle.core.codecs import OF_PLUGINS as CODEC
from asparkle.core.conf import HADOOP, SparkConf, settings_below
from asparkle.core.errors import ArgumentError, ConfigurationError

Options: TypeAlias = tuple[tuple[str, str], ...]
"""What a context says of files: Hadoop's settings, ``("fs.s3a.access.key", "..."), ...``, and what its plugins have for
them: see `file_options`."""

OF_PLUGINS: Final = "asparkle.filesystem:"
"""What the options for plugins' file systems begin with, before the scheme."""

CHUNK: Final = 1 << 20
"""Bytes read at a time."""

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?:::[A-Za-z][A-Za-z0-9+.-]*)*://")  # simplecache::s3://


class Status(NamedTuple):
    """A file or a directory.  ``size`` in bytes; -1 where it can't be known, or the file not be read in parts."""

    path: str
    size: int
    is_directory: bool


class FileSystem(ABC):
    """Files by path; a path is what the file system calls it, without a scheme.

    Errors are those of `open` and `os`: FileNotFoundError, NotADirectoryError, FileExistsError, OSError.
    """

    has_patterns = True
    """Whether directories can be listed, so that ``*`` means something."""
    at_once = 1
    """How many files are published at once, which helps where each takes an answer from afar."""

    @abstractmethod
    def status(self, path: str) -> Status: ...

    @abstractmethod
    def children(self, path: str) -> list[Status]:
        """What is in a directory, in any order."""

    @abstractmethod
    def open(self, path: str, seekable: bool = False) -> IO[bytes]:
        """A file to read, unbuffered or read ahead.  ``seekable``: not only from front to back; its size is known."""

    @abstractmethod
    def url(self, path: str) -> str:
        """The path as Spark shows it: ``file:/data/1.txt``, ``s3a://bucket/1.txt``."""

    @abstractmethod
    def make_directory(self, path: str) -> None:
        """Make a directory, and those above it.  Raises FileExistsError if there is anything at ``path``."""

    @abstractmethod
    def create(self, path: str) -> IO[bytes]:
        """A new file to write, which replaces one of this name no later than when it is closed."""

    @abstractmethod
    def rename(self, source: str, target: str) -> None:
        """Give a file another name, replacing a file that has it: readers see the old or the new one, whole."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Delete a file, or a directory with all that is in it; nothing happens if it is not there."""

    @abstractmethod
    def remove_empty(self, path: str) -> None:
        """Delete a directory unless there is something in it."""

    def names(self, path: str) -> list[str]:
        """The names of what is in a directory."""
        return [os.path.basename(child.path) for child in self.children(path)]

    def exists(self, path: str) -> bool:
        try:
            self.status(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    # --- output: an attempt's file, until the job publishes it

    def begin_staging(self, directory: str) -> None:
        """Make the directory in which attempts write, and see that they can."""
        self.make_directory(directory)

    def begin(self, target: str, staged: str) -> StagedFile:
        """A file that will be ``target`` once it is published; ``staged``: a name for the time until then."""
        return StagedFile(self, staged)

    def publish(self, token: Any, target: str) -> None:
        """Make what an attempt has finished a file of its own name, in one step."""
        self.rename(token, target)

    def end_staging(self, directory: str) -> None:
        """Delete what was not published; attempts that still go on fail from here on, or leave nothing."""
        self.remove(directory)


class StagedFile:
    """What one attempt writes.  ``finish`` gives what `publish` needs: plain data."""

    def __init__(self, fs: FileSystem, path: str) -> None:
        self._fs = fs
        self._path = path
        self.file = fs.create(path)

    def finish(self) -> Any:
        """All is written."""
        self.file.close()
        return self._path

    def discard(self) -> None:
        """Nobody wants it; whatever there is of it goes."""
        try:
            self.file.close()
        finally:
            self._fs.remove(self._path)


class LocalFileSystem(FileSystem):
    """The operating system's files, by absolute path."""

    def status(self, path: str) -> Status:
        status = os.stat(path)
        return Status(path, status.st_size, stat.S_ISDIR(status.st_mode))

    def children(self, path: str) -> list[Status]:
        return [self.status(os.path.join(path, name)) for name in os.listdir(path)]

    def names(self, path: str) -> list[str]:
        return os.listdir(path)

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def open(self, path: str, seekable: bool = False) -> IO[bytes]:
        return open(path, "rb", buffering=0)

    def url(self, path: str) -> str:
        return f"file:{path}"

    def make_directory(self, path: str) -> None:
        os.makedirs(path)

    def create(self, path: str) -> IO[bytes]:
        return open(path, "wb")

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def remove(self, path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):  # macOS says the latter of a directory
            import shutil

            # Who still writes there fails from now on, and can't put a file into what is being removed.
            gone = f"{path}.{os.urandom(4).hex()}"
            os.rename(path, gone)
            shutil.rmtree(gone)

    def remove_empty(self, path: str) -> None:
        with suppress(OSError):
            os.rmdir(path)


LOCAL: Final = LocalFileSystem()


def is_remote(path: str) -> bool:
    """Whether ``path`` is a URL of another file system than the local one."""
    scheme = _SCHEME.match(path)
    return scheme is not None and scheme[1].lower() != "file"


def file_system(url: str, options: Options) -> tuple[FileSystem, str]:
    """The file system that has ``url``, and the path there; a local path is made absolute.

    Raises ArgumentError for a URL that nobody
    knows, MissingDependency for one that needs a package which is not installed.
    """
    if not is_remote(url):
        return LOCAL, os.path.abspath(local_path(url))
    from asparkle.core.remotefiles import remote_file_system

    return remote_file_system(url, dict(options))


def check_shared(paths: str, in_process: bool) -> None:
    """Raises ArgumentError for files that executors would not see."""
    if not in_process and "memory://" in paths:
        raise ArgumentError(
            f"{paths!r}: memory:// is the memory of one process, and the executors of this master are others: "
            "use threads[N], or a directory"
        )


def local_path(path: str) -> str:
    """``path`` without ``file:``.  Nothing is percent-decoded, as in Hadoop."""
    scheme, colon, rest = path.partition(":")
    if colon and scheme.lower() == "file":
        rest = rest.removeprefix("//")
        if not rest.startswith("/") or rest.startswith("//"):
            raise ArgumentError(f"a file: URL needs an absolute path and no host, as in file:///data: {path!r}")
        return rest
    return path


def hadoop_flag(options: Options, name: str, default: bool) -> bool:
    """A setting of Hadoop's that is true or false.  Raises ConfigurationError for another value."""
    text = dict(options).get(name, str(default)).strip().lower()
    if text not in ("true", "false"):
        raise ConfigurationError(f"{HADOOP}{name} = {text!r}: expected true or false")
    return text == "true"


def file_options(conf: SparkConf, file_systems: Mapping[str, str], codecs: Mapping[str, str]) -> Options:
    """What ``spark.hadoop.*`` sets, by Hadoop's own names, and paths of classes that plugins provide: of file systems
    by scheme, of codecs by extension or name."""
    return (
        *settings_below(conf, HADOOP).items(),
        *((OF_PLUGINS + scheme, path) for scheme, path in file_systems.items()),
        *((CODEC + name, path) for name, path in codecs.items()),
    )
