"""The event log's files, named and compressed as Spark does.

    <application>.<codec>.inprogress           one file, which loses its last suffix when the application ends
    eventlog_v2_<application>/                 or, rolling, a directory
        appstatus_<application>.inprogress     empty; likewise
        events_1_<application>.<codec>         each file ends where its lines exceed maxFileSize

Spark's EventLogFileWriters say so.  A line goes to the disk whole or, if the driver is killed or the disk full, not at
all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, Final, Protocol

from asparkle.conf import SparkConf
from asparkle.errors import ArgumentError, ConfigurationError, MissingDependency
from asparkle.plugins import KEYS, local_path
from asparkle.plugins.eventlog.lz4blocks import Lz4Blocks

IN_PROGRESS: Final = ".inprogress"
_BUFFER: Final = 1 << 16


class Compressor(Protocol):
    """What makes a stream's bytes of chunks of text: those that are due after each."""

    def compress(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes:
        """All so far, so that it can be read."""

    def finish(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""

    finish = flush


class _Zstd:
    def __init__(self, zstandard: Any) -> None:
        self._object = zstandard.ZstdCompressor().compressobj()
        self._block = zstandard.COMPRESSOBJ_FLUSH_BLOCK

    def compress(self, data: bytes) -> bytes:
        compressed: bytes = self._object.compress(data)
        return compressed

    def flush(self) -> bytes:
        compressed: bytes = self._object.flush(self._block)
        return compressed

    def finish(self) -> bytes:
        compressed: bytes = self._object.flush()
        return compressed


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class _File:
    """One file: lines in, compressed bytes out."""

    def __init__(self, path: str, compressor: Compressor) -> None:
        self._file: IO[bytes] = open(path, "xb", buffering=0, opener=_for_its_owner)  # noqa: SIM115  # closed by its owner
        os.chmod(path, 0o660)  # as Spark's: the group's History Server reads it
        self._compressor = compressor
        self._lines: list[bytes] = []
        self._waiting = 0
        self._written = 0
        self.length = 0  # before compression

    def write(self, line: bytes) -> None:
        self._lines.append(line)
        self._waiting += len(line)
        self.length += len(line)
        if self._waiting > _BUFFER:
            self._out(self._taken())

    def flush(self) -> None:
        self._out(self._taken() + self._compressor.flush())

    def close(self) -> None:
        self._out(self._taken() + self._compressor.finish())
        self.abandon()

    def abandon(self) -> None:
        self._file.close()

    def _taken(self) -> bytes:
        data = b"".join(self._lines)
        self._lines, self._waiting = [], 0
        return self._compressor.compress(data)

    def _out(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError:  # the disk is full: what it has taken of a line goes again
            with suppress(OSError):
                self._file.truncate(self._written)
            raise
        self._written += len(data)


class LogFiles:
    """One application's log below ``directory``.  Its methods raise OSError for what the disk does not take."""

    def __init__(
        self,
        directory: str,
        *,
        codec: str = "",
        roll_at: int | None = None,
        overwrite: bool = False,
        compressor: Callable[[], Compressor] = _Plain,
    ) -> None:
        """``roll_at``: bytes of lines in one file, None: all; ``codec``: what ``compressor`` makes, a suffix."""
        self.path = directory
        self.opened = False
        self._directory = directory
        self._suffix = f".{codec}" if codec else ""
        self._roll_at = roll_at
        self._overwrite = overwrite
        self._compressor = compressor
        self._application = ""
        self._index = 0
        self._file: _File | None = None

    def open(self, application: str) -> None:
        """Begin the log.  Raises FileExistsError if there is one, unless that is to be overwritten."""
        self.opened = True
        self._application = application
        if self._roll_at is None:
            self.path = os.path.join(self._directory, application + self._suffix)
            self._make_room(self.path)
            self._make_room(self.path + IN_PROGRESS)
            self._file = self._opened(self.path + IN_PROGRESS)
        else:
            self.path = os.path.join(self._directory, f"eventlog_v2_{application}")
            self._make_room(self.path)
            os.mkdir(self.path, 0o700)
            os.chmod(self.path, 0o770)
            _File(self._status + IN_PROGRESS, _Plain()).close()
            self._file = self._next()

    def write(self, line: str) -> None:
        assert self._file is not None
        data = line.encode(errors="surrogatepass") + b"\n"
        if self._roll_at is not None and self._file.length and self._file.length + len(data) > self._roll_at:
            self._file.close()
            self._file = self._next()
        self._file.write(data)

    def flush(self) -> None:
        """All that was written can be read now."""
        assert self._file is not None
        self._file.flush()

    def finish(self) -> None:
        """The log is complete."""
        assert self._file is not None
        self._file.close()
        done = self.path if self._roll_at is None else self._status
        os.rename(done + IN_PROGRESS, done)

    def abandon(self) -> None:
        """Write nothing more; what there is stays, in progress."""
        if self._file is not None:
            self._file.abandon()

    @property
    def _status(self) -> str:
        return os.path.join(self.path, f"appstatus_{self._application}")

    def _next(self) -> _File:
        self._index += 1
        return self._opened(os.path.join(self.path, f"events_{self._index}_{self._application}{self._suffix}"))

    def _opened(self, path: str) -> _File:
        return _File(path, self._compressor())

    def _make_room(self, path: str) -> None:
        if not os.path.lexists(path):
            return
        if not self._overwrite:
            raise FileExistsError(f"{path} exists; spark.eventLog.overwrite = true would replace it")
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def log_files(conf: SparkConf) -> LogFiles:
    """Those that the configuration asks for.

    Raises ConfigurationError for a directory that is not there or can't be written to, MissingDependency where the
    codec's package is not installed."""
    codec = ""
    compressor: Callable[[], Compressor] = _Plain
    if KEYS["spark.eventLog.compress"].read(conf):
        codec = KEYS["spark.eventLog.compression.codec"].read(conf)
        compressor = _compressors(codec)
    return LogFiles(
        _checked_directory(KEYS["spark.eventLog.dir"].read(conf)),
        codec=codec,
        roll_at=KEYS["spark.eventLog.rolling.maxFileSize"].read(conf)
        if KEYS["spark.eventLog.rolling.enabled"].read(conf)
        else None,
        overwrite=KEYS["spark.eventLog.overwrite"].read(conf),
        compressor=compressor,
    )


def _checked_directory(given: str) -> str:
    said = f"spark.eventLog.dir = {given!r}"
    try:
        path = local_path(given)
    except ArgumentError as error:
        raise ConfigurationError(f"{said}: {error}") from None
    if "://" in path:
        raise ConfigurationError(f"{said}: an event log is written to a local directory; copy it there when it is done")
    if not os.path.isdir(path):
        problem = "is no directory" if os.path.exists(path) else "does not exist"
        raise ConfigurationError(f"{said} {problem}: make it, name another, or set spark.eventLog.enabled = false")
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigurationError(f"{said} can't be written to: give this user leave to, or name another")
    return os.path.abspath(path)


def _compressors(codec: str) -> Callable[[], Compressor]:
    try:
        if codec == "zstd":
            import zstandard

            return lambda: _Zstd(zstandard)
        import lz4.block
    except ImportError as error:
        package = "zstandard" if codec == "zstd" else "lz4"
        problem = f"spark.eventLog.compression.codec = {codec} needs {package}"
        raise MissingDependency(problem, "asparkle[compression]") from error
    return lambda: Lz4Blocks(lz4.block.compress)
