"""What one process sees of the files of all hosts: its own host's are mapped, others' are fetched.

A host, here, is a set of processes that share an application's directories: the driver's, named "", and those that a
cluster manager says (`AppSpec.host`).  Where there is only the driver's, nothing but `payloads.map_ref` is ever called.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import IO, TYPE_CHECKING, Final, NoReturn

from asparkle.core.contracts import AppSpec, Dial
from asparkle.core.errors import CorruptBlock, HostUnreachable, StorageError
from asparkle.core.payloads import map_ref, remove_file
from asparkle.core.protocol import FileRef
from asparkle.core.serializer import map_file

if TYPE_CHECKING:
    from asparkle.core.fileclient import FileClient, FileConnection

_CHUNK: Final = 1 << 20
_SHARED: Final = 1 << 20  # bytes from which on it is asked whether another host has a copy
_PART: Final = 4 << 20  # that are asked for of a copy
_POLL: Final = 0.01  # seconds until it is looked whether another host's copy has grown
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


def incoming(app: AppSpec) -> str:
    """Where files lie on this host that are not whole yet; made when it is needed first."""
    directory = os.path.join(app.directories[0], "incoming")
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(os.path.dirname(directory), error) from error
    return directory


class HostFiles:
    """The files of all hosts of an application, for one process of it.  Thread-safe; its methods block.

    ``dial``: how other hosts are reached; else what `AppSpec.dialer` names, loaded when another host's file is needed.
    All raise `HostUnreachable` (an OSError) where a host can't be reached.
    """

    def __init__(self, app: AppSpec, dial: Dial | None = None) -> None:
        self.host = app.host
        self._app = app
        self._dial = dial
        self._lock = threading.Lock()
        self._fetched: dict[tuple[str, str], int] = {}  # (host, route): bytes
        self._client: FileClient | None = None

    @property
    def client(self) -> FileClient:
        """The connections to other hosts."""
        if self._client is None:
            with self._lock:
                if self._client is None:
                    from asparkle.core.fileclient import FileClient

                    self._client = FileClient(self._dial or self._dialer(), self._app.network_timeout)
        return self._client

    def _dialer(self) -> Dial:
        from asparkle.core.loading import load_function

        if not self._app.dialer:
            return _nowhere
        dial: Dial = load_function(self._app.dialer)(self._app)
        return dial

    def map(self, ref: FileRef) -> memoryview:
        """The file: mapped copy-on-write, or fetched into memory that is nobody else's.

        Raises `CorruptBlock` if it is gone, or not as long as it was written.
        """
        if ref.host == self.host:
            return map_ref(ref)
        view = _memory(ref.length)
        self._fetch(ref, _Memory(view))
        return view

    def bring(self, ref: FileRef, path: str) -> FileRef:
        """Another host's file, as one of this host at ``path``; there it is deleted.

        Raises as `map` does, and `StorageError` where there is no room.
        """
        self._fetch_file(ref, path)
        with suppress(OSError):  # it goes with the application's directories
            self.remove(ref)
        return FileRef(path, ref.length, self.host)

    def remove(self, ref: FileRef) -> None:
        """Delete a file of the directory ``results`` of any host.  It is no error if it is gone."""
        if ref.host == self.host:
            remove_file(ref.path)
            return
        with suppress(FileNotFoundError):
            self.client.run(ref.host, lambda connection: connection.remove(ref.path))

    def may_exist(self, host: str, path: str) -> bool:
        """Whether a file may be there: False for those of a host that a moment ago could not be reached.  Another host
        is asked only if a moment ago it had lost a file, so that asking for thousands is quick."""
        if host == self.host:
            return os.path.exists(path)
        client = self.client
        if not client.doubted(host):
            return True
        if client.lost(host):
            return False
        try:
            self.client.run(host, lambda connection: connection.size(path))
        except (FileNotFoundError, PermissionError, HostUnreachable):
            return False
        except OSError:  # its host can't say
            return True
        return True

    def read(self, host: str, ranges: Sequence[tuple[str, int, int]]) -> list[memoryview]:
        """What ranges of another host's files hold, each a path, where it starts and where it ends, asked for at once.

        Raises OSError for what is not there.
        """
        from asparkle.core.fileclient import read_ranges

        def work(connection: FileConnection) -> list[memoryview]:
            found = read_ranges(connection, ranges)
            self.count(host, connection.route, sum(map(len, found)))
            return found

        return self.client.run(host, work)

    # ------------------------------------------------------------------ what all processes of a host need

    def keep(self, ref: FileRef) -> memoryview:
        """A file of the driver's directory ``data``, mapped copy-on-write: fetched once for all processes of this host.

        Raises as `bring` does.
        """
        if ref.host == self.host:
            return map_ref(ref)
        copy = self._copy(ref.path)
        for _ in range(3):  # another process may drop it as soon as it is there
            with suppress(FileNotFoundError):
                view = map_file(copy)
                if len(view) == ref.length:
                    return view
                remove_file(copy)
            self._fetch_together(ref, copy, f"{copy}.part", partial(os.rename, dst=copy), shared=True)
        return self.map(ref)

    def place(self, ref: FileRef, path: str, make: Callable[[str], object]) -> None:
        """See that ``path`` is there: ``make`` is called with the path to which the file was fetched, may move it, and
        makes ``path`` in one step.  Done once for all processes of this host.

        Raises as `bring` does, and what ``make`` raises.
        """
        if not os.path.lexists(path):
            self._fetch_together(ref, path, os.path.join(incoming(self._app), os.path.basename(ref.path)), make)

    def drop(self, path: str) -> None:
        """Delete this host's copy of what was at ``path`` of the driver's."""
        if self.host:
            remove_file(self._copy(path))

    def _copy(self, path: str) -> str:
        return os.path.join(self._app.directories[0], "data", os.path.basename(path))

    def _fetch_together(
        self, ref: FileRef, copy: str, unfinished: str, make: Callable[[str], object], *, shared: bool = False
    ) -> None:
        """Fetch a file, of which ``make`` makes ``copy``, or wait until another process has: who has locked the
        unfinished one fetches it.  ``shared``: from hosts that have a copy, and for those that will want one."""
        import fcntl

        while True:
            with _opened(unfinished) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.path.lexists(copy):
                    return
                if not _is_at(file.fileno(), unfinished):
                    continue  # it was finished, and dropped since
                try:
                    file.truncate()
                    target = _File(file, ref.length)
                    if shared and ref.length >= _SHARED:
                        self._fetch_from_others(ref, copy, target)
                    self._fetch(ref, target)
                    make(unfinished)
                finally:
                    remove_file(unfinished)  # unless it was moved
                return

    def _fetch_from_others(self, ref: FileRef, copy: str, target: _File) -> None:
        """As much of a file as another host gives that has a copy, or is about to."""
        with suppress(OSError):
            source = self.client.run(ref.host, lambda connection: connection.source(ref.path, self.host, copy))
            while source is not None and target.left and self._some_came(*source, ref.length, target):
                continue

    def _some_came(self, host: str, path: str, length: int, target: _File) -> bool:
        """More of another host's copy, if there is any in time."""
        deadline = time.monotonic() + self._app.network_timeout
        while time.monotonic() < deadline:
            if self.client.run(host, lambda connection: self._fetch_some(connection, host, path, length, target)):
                return True
            time.sleep(_POLL)
        return False

    def _fetch_some(self, connection: FileConnection, host: str, path: str, length: int, target: _File) -> int:
        """What there is so far of another host's copy, finished or not."""
        for name in (path, f"{path}.part", path):  # it may be finished between two looks
            connection.ask([("read", name, length - target.left, min(target.left, _PART))])
            try:
                count = connection.answer(name, target.left)
            except FileNotFoundError:
                continue
            self._fill(target, connection, host, count)
            return count
        raise FileNotFoundError(path)

    # ----------------------------------------------------------------------------------------- fetching

    def _fetch_file(self, ref: FileRef, path: str) -> None:
        try:
            with _opened(path) as file:
                self._fetch(ref, _File(file, ref.length))
        except BaseException:
            remove_file(path)
            raise

    def _fetch(self, ref: FileRef, target: _Memory | _File) -> None:
        def work(connection: FileConnection) -> None:
            if not target.left:
                return
            connection.ask([("read", ref.path, ref.length - target.left, target.left)])
            found = connection.answer(ref.path, target.left)
            if found < target.left:
                there = ref.length - target.left + found
                raise CorruptBlock(f"{ref.path} has {there} bytes, {ref.length} were written")
            self._fill(target, connection, ref.host, found)

        try:
            self.client.run(ref.host, work)
        except FileNotFoundError:
            raise CorruptBlock(f"{ref.path} is gone") from None

    # ----------------------------------------------------------------------------------------- counting

    def count(self, host: str, route: str, size: int) -> None:
        """So many bytes have come from another host."""
        with self._lock:
            self._fetched[host, route] = self._fetched.get((host, route), 0) + size

    def fetched(self) -> Sequence[tuple[str, str, int]]:
        """(host, route, bytes) of what has come from other hosts since this was last asked."""
        if not self._fetched:
            return ()
        with self._lock:
            fetched, self._fetched = self._fetched, {}
        return [(host, route, size) for (host, route), size in fetched.items()]

    def _fill(self, target: _Memory | _File, connection: FileConnection, host: str, count: int) -> None:
        before = target.left
        try:
            target.fill(connection, count)
        finally:
            self.count(host, connection.route, before - target.left)

    def close(self) -> None:
        """Close all connections; who waits for something of them learns that the host can't be reached."""
        if self._client is not None:
            self._client.close()


class _Memory:
    """Where to put what is fetched; goes on where it was, over another connection."""

    def __init__(self, view: memoryview) -> None:
        self._rest = view

    @property
    def left(self) -> int:
        return len(self._rest)

    def fill(self, connection: FileConnection, count: int) -> None:
        while self._rest:
            piece = self._rest[:_CHUNK]
            connection.receive(piece)
            self._rest = self._rest[len(piece) :]


class _File:
    def __init__(self, file: IO[bytes], length: int) -> None:
        self._file = file
        self.left = length

    def fill(self, connection: FileConnection, count: int) -> None:
        buffer = _memory(min(_CHUNK, count))
        end = self.left - count
        while self.left > end:
            piece = buffer[: self.left - end]
            connection.receive(piece)
            try:
                while piece:
                    written = self._file.write(piece)
                    piece = piece[written:]
                    self.left -= written
            except OSError as error:
                raise StorageError(os.path.dirname(self._file.name), error) from error


def _opened(path: str) -> IO[bytes]:
    """A file of its owner's alone, unbuffered; what it has is left as it is."""
    try:
        return open(path, "r+b", buffering=0, opener=lambda path, _: os.open(path, _FLAGS, 0o600))
    except OSError as error:
        raise StorageError(os.path.dirname(path), error) from error


def _memory(length: int) -> memoryview:
    """Writable memory; pages, if it is much, which go back to the system with the last view of them."""
    return memoryview(mmap.mmap(-1, length) if length >= _CHUNK else bytearray(length))


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _nowhere(host: str) -> NoReturn:
    raise OSError("this process has no way to other hosts' files")
