"""Reading other hosts' files: connections to their file servers, kept and made anew (see `fileserver`)."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgpack

from asparkle.core.bytestream import pack
from asparkle.core.contracts import Connection, Dial
from asparkle.core.errors import HostUnreachable
from asparkle.core.fileserver import DATA, FAILED, GONE, HEADER, LENGTH, REFUSED

T = TypeVar("T")
LOST_FOR: Final = 5.0  # seconds for which a host that could not be reached is taken for lost, as far as files go
UNANSWERED: Final = 32  # requests over one connection: with more, each side might wait for the other to take something
GONE_THERE: Final = (FileNotFoundError, PermissionError)
"""What is raised for a file that a host has lost: it refuses those of directories that it had before it was lost
itself, and came back."""
_REASON_BYTES: Final = 4096


class Broken(Exception):
    """A connection is of no use any more.  ``silent``: nothing came for too long."""

    def __init__(self, reason: str, *, silent: bool = False) -> None:
        super().__init__(reason)
        self.silent = silent


class FileConnection:
    """One connection: requests that are sent, and their answers in the same order.  For one thread at a time.

    Methods raise `Broken` where it is at its end, or what comes is no answer; then it is to be closed.
    """

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection = connection
        self.route = str(getattr(connection, "route", "direct"))
        connection.settimeout(timeout)
        self._header = memoryview(bytearray(HEADER.size))

    def ask(self, requests: Iterable[tuple[Any, ...]]) -> None:
        """Send requests; no more than `UNANSWERED` may wait for their answers then."""
        try:
            self._connection.sendall(b"".join(map(pack, requests)))
        except OSError as error:
            raise _broken(error) from error

    def answer(self, path: str, most: int) -> int:
        """How many bytes the next answer, one about ``path``, has: ``most`` or fewer, which are to be received then.

        Raises OSError for what the other side can't give; that has been received.
        """
        self.receive(self._header)
        status, length = HEADER.unpack(self._header)
        if length > (most if status == DATA else _REASON_BYTES) or status > FAILED:
            raise Broken("what came is no answer of a file server")
        if status == DATA:
            return int(length)
        reason = memoryview(bytearray(length))
        self.receive(reason)
        text = f"{path}: {bytes(reason).decode(errors='replace')}"
        raise {GONE: FileNotFoundError, REFUSED: PermissionError, FAILED: OSError}[status](text)

    def receive(self, view: memoryview) -> None:
        """Fill ``view`` with what comes next."""
        try:
            while view:
                count = self._connection.recv_into(view)
                if not count:
                    raise Broken("the connection was closed")
                view = view[count:]
        except OSError as error:
            raise _broken(error) from error

    def take(self, path: str, view: memoryview) -> None:
        """The answer to a request to read: it fills ``view``, or an OSError is raised."""
        count = self.answer(path, len(view))
        self.receive(view[:count])
        if count < len(view):
            raise OSError(f"{path} has {len(view) - count} bytes fewer than were asked for")

    def size(self, path: str) -> int:
        """How long a file is.  Raises OSError."""
        self.ask([("size", path)])
        view = memoryview(bytearray(LENGTH.size))
        self.take(path, view)
        size: int = LENGTH.unpack(view)[0]
        return size

    def remove(self, path: str) -> None:
        """Delete a file.  Raises OSError: FileNotFoundError, if it is gone."""
        self.ask([("remove", path)])
        self.answer(path, 0)

    def end(self) -> None:
        """Another thread uses it: have that see its end."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def source(self, path: str, host: str, copy: str) -> tuple[str, str] | None:
        """Whence ``host`` had better fetch its ``copy`` of a file: another host, and its copy."""
        self.ask([("source", path, host, copy)])
        answer = memoryview(bytearray(self.answer(path, _REASON_BYTES)))
        self.receive(answer)
        if not answer:
            return None
        other, theirs = msgpack.unpackb(answer)
        return str(other), str(theirs)

    def close(self) -> None:
        self._connection.close()


def _broken(error: OSError) -> Broken:
    return Broken(error.strerror or str(error) or type(error).__name__, silent=isinstance(error, TimeoutError))


def read_ranges(connection: FileConnection, ranges: Sequence[tuple[str, int, int]]) -> list[memoryview]:
    """What ranges hold, asked for at once, a few dozen at a time."""
    views = []
    for first in range(0, len(ranges), UNANSWERED):
        some = ranges[first : first + UNANSWERED]
        connection.ask(("read", path, start, end - start) for path, start, end in some)
        error = None
        for path, start, end in some:
            view = memoryview(bytearray(end - start))
            try:
                connection.take(path, view)
            except OSError as raised:  # the other answers come all the same
                error = raised
            views.append(view)
        if error is not None:
            raise error
    return views


class FileClient:
    """Connections to the file servers of other hosts: at most one idle one to each is kept.  Thread-safe."""

    def __init__(self, dial: Dial, timeout: float) -> None:
        self._dial = dial
        self._timeout = timeout
        self._lock = threading.Lock()
        self._idle: dict[str, FileConnection] = {}
        self._lost: dict[str, float] = {}  # until when
        self._doubted: dict[str, float] = {}  # likewise
        self._used: set[FileConnection] = set()
        self._closed = False

    def run(self, host: str, work: Callable[[FileConnection], T]) -> T:
        """What ``work`` returns, called with a connection to ``host``: again, if that breaks, so that it is to go on
        where it was, or to begin anew.

        Raises `HostUnreachable`: the host can't be reached, or says nothing for too long.
        """
        with self._lock:
            connection = self._idle.pop(host, None)  # if that breaks, it mostly was closed as it was idle for long
        tries = 2 if connection is None else 3
        while True:
            try:
                return self._use(connection or self._connect(host), host, work)
            except Broken as broken:
                tries -= 1
                if broken.silent or not tries:
                    raise self._lose(host, str(broken)) from broken
            connection = None

    def _use(self, connection: FileConnection, host: str, work: Callable[[FileConnection], T]) -> T:
        well = False
        try:
            with self._lock:
                self._used.add(connection)
            found = work(connection)
            well = True
            return found
        except GONE_THERE:
            self.doubt(host)
            raise
        finally:  # also if an attempt is killed meanwhile: nobody knows what is still to come then
            with self._lock:
                self._used.discard(connection)
                keep = well and not self._closed and host not in self._idle
                if keep:
                    self._idle[host] = connection
            if not keep:
                connection.close()

    def _connect(self, host: str) -> FileConnection:
        if self._closed:
            raise HostUnreachable(host, "the context was stopped")
        try:
            connection = self._dial(host)
        except OSError as error:
            raise self._lose(host, error.strerror or str(error) or type(error).__name__) from error
        with self._lock:
            self._lost.pop(host, None)
        return FileConnection(connection, self._timeout)

    def _lose(self, host: str, reason: str) -> HostUnreachable:
        with self._lock:
            self._lost[host] = self._doubted[host] = time.monotonic() + LOST_FOR
        return HostUnreachable(host, reason)

    def doubt(self, host: str) -> None:
        """It has lost a file, so there may be more."""
        self._doubted[host] = time.monotonic() + LOST_FOR

    def doubted(self, host: str) -> bool:
        """Whether a moment ago ``host`` had lost a file, or could not be reached."""
        return time.monotonic() < self._doubted.get(host, 0.0)

    def lost(self, host: str) -> bool:
        """Whether it was found out a moment ago that ``host`` can't be reached."""
        return time.monotonic() < self._lost.get(host, 0.0)

    def close(self) -> None:
        """Close all connections; who waits for something of them learns that the host can't be reached."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
            for connection in self._used:
                connection.end()
        for connection in idle.values():
            connection.close()
