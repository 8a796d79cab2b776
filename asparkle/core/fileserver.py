"""The files of one host, served to the other hosts of an application.

Requests are msgpack arrays with their length in front (`bytestream`), of `REQUEST_BYTES` at most; any number may be
under way.  They are answered in their order, each by a header, which is a status and a length, and so many bytes::

    ["read", path, offset, count]    what is there of these bytes: fewer where the file ends
    ["size", path]                   the file's length, as 8 bytes
    ["remove", path]                 nothing: the file, one of the directory `results`, is gone
    ["source", path, host, copy]     where ``host``, which is to have a ``copy`` of the file, had better get it: another
                                     host and what that calls its own copy, as msgpack; nothing: here

A status other than `DATA` comes with a reason in words.  What is no such request ends the connection.

Who may ask, whoever connected the two ends has made sure of (`peers`, or a channel inside SSH).  All that can be asked
for are regular files at least one directory below an application's own, so neither its lock nor a key that lies beside
it; no symbolic link is followed.  Nothing that is received is unpickled, and no length that is told is trusted.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import threading
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgpack

from asparkle.core.bytestream import Unpacker
from asparkle.core.logs import log

if TYPE_CHECKING:
    from asparkle.core.contracts import Connection

REQUEST_BYTES: Final = 1 << 14
IDLE: Final = 120.0  # seconds in which a connection is expected to be used
HEADER: Final = struct.Struct("<BQ")
LENGTH: Final = struct.Struct("<Q")
DATA, GONE, REFUSED, FAILED = range(4)
REMOVABLE: Final = "results"
_CHUNK: Final = 1 << 17
_BRANCHES: Final = 2  # hosts that fetch a file from the driver, and from each other host
_REMEMBERED: Final = 1000  # files
_NOT_THE_FILES_FAULT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe would be waited for


class Copies:
    """Which hosts have copies of a file, or are about to: each is sent by one other, in a tree, while that receives it.

    One for all connections of the driver's file server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: dict[str, dict[str, str]] = {}  # by path: what each host that asked calls its copy, in their order

    def source(self, path: str, host: str, copy: str) -> tuple[str, str] | None:
        """Another host and the name of its copy; None: the driver, as for those that ask again."""
        with self._lock:
            hosts = self._hosts.setdefault(path, {})
            if len(self._hosts) > _REMEMBERED:
                del self._hosts[next(iter(self._hosts))]
            if host in hosts:
                return None
            number = len(hosts)
            hosts[host] = copy
            if number < _BRANCHES:
                return None
            return next(islice(hosts.items(), number // _BRANCHES - 1, None))


def serve_files(
    connection: Connection, directories: Sequence[str], copies: Copies | None = None, *, idle: float = IDLE
) -> None:
    """Answer what comes over ``connection`` with files below ``directories``, an application's own on this host.

    Blocks until the other side closes it, asks for what can't be, or does nothing for ``idle`` seconds; then closes it.
    ``copies``: of the driver's, so that what all hosts need is not fetched by all of them from the driver.
    """
    unpacker = Unpacker()
    unpacker.most = REQUEST_BYTES
    server = _Server(connection, directories, copies)
    buffer = memoryview(bytearray(REQUEST_BYTES))
    try:
        connection.settimeout(idle)
        while count := connection.recv_into(buffer):
            for request in unpacker.feed(bytes(buffer[:count])):
                server.answer(request)
    except OSError:
        return  # whoever is at the other end is gone, or has nothing to ask
    except Exception as error:  # whatever msgpack makes of what is none
        log().warning("a request for files was not understood", error=f"{type(error).__name__}: {error}")
    finally:
        connection.close()


class _Refused(Exception):
    """What was asked for is not to be had."""


class _Server:
    def __init__(self, connection: Connection, directories: Sequence[str], copies: Copies | None) -> None:
        self._connection = connection
        self._directories = directories
        self._copies = copies
        self._buffer = memoryview(bytearray(HEADER.size + _CHUNK))

    def answer(self, request: Any) -> None:
        """Raises ValueError for what is no request, and OSError when the connection is at its end."""
        match request:
            case ["read", str(path), int(offset), int(count)] if 0 <= offset < 1 << 63 and count >= 0:
                begin = self._open(path)
                if begin is not None:
                    try:
                        self._read(begin, offset, count)
                    finally:
                        os.close(begin)
            case ["size", str(path)]:
                found = self._open(path)
                if found is not None:
                    size = os.fstat(found).st_size
                    os.close(found)
                    self._send(DATA, LENGTH.pack(size))
            case ["remove", str(path)]:
                self._remove(path)
            case ["source", str(path), str(host), str(copy)]:
                source = self._copies.source(path, host, copy) if self._copies is not None else None
                self._send(DATA, b"" if source is None else msgpack.packb(source))
            case _:
                raise ValueError(f"{str(request)[:100]} is no request")

    def _open(self, path: str) -> int | None:
        """The file; None if it was said why it is not to be had."""
        try:
            return open_below(self._directories, path)
        except (_Refused, OSError) as error:
            self._say_why(error)
        return None

    def _read(self, file: int, offset: int, count: int) -> None:
        count = min(count, max(0, os.fstat(file).st_size - offset))
        buffer, filled = self._buffer, HEADER.size
        HEADER.pack_into(buffer, 0, DATA, count)
        end = offset + count
        while True:
            wanted = min(len(buffer) - filled, end - offset)
            if wanted:
                got = os.preadv(file, [buffer[filled : filled + wanted]], offset)
                if not got:
                    raise OSError("the file was cut off while it was read")
                filled, offset = filled + got, offset + got
            if filled == len(buffer) or offset == end:
                self._connection.sendall(buffer[:filled])
                filled = 0
            if offset == end:
                return

    def _remove(self, path: str) -> None:
        try:
            remove_below(self._directories, path)
        except (_Refused, OSError) as error:
            self._say_why(error)
        else:
            self._send(DATA, b"")

    def _say_why(self, error: Exception) -> None:
        """Why a file is not to be had."""
        if isinstance(error, FileNotFoundError):
            self._send(GONE, b"it is gone")
        elif isinstance(error, OSError):
            self._send(FAILED, (error.strerror or str(error)).encode())
        else:
            self._send(REFUSED, str(error).encode())

    def _send(self, status: int, data: bytes) -> None:
        self._connection.sendall(HEADER.pack(status, len(data)) + data)


def open_below(directories: Sequence[str], path: str) -> int:
    """A descriptor of a regular file, at least one directory below one of ``directories``; no symbolic link is followed
    on the way from there.  Raises `_Refused`, or OSError."""
    parts = _below(directories, path)
    directory = _walk(parts[:-1])
    try:
        file = os.open(parts[-1], _FILE, dir_fd=directory)
    except OSError as error:
        raise _seen_as(error, path) from error
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _Refused(f"{path!r} is no file")
    return file


def remove_below(directories: Sequence[str], path: str) -> None:
    """Delete a file of the directory `REMOVABLE` of one of ``directories``.  Raises as `open_below` does."""
    parts = _below(directories, path)
    if len(parts) != 3 or parts[1] != REMOVABLE:
        raise _Refused(f"{path!r} is none of the files that may be removed")
    directory = _walk(parts[:-1])
    try:
        os.unlink(parts[-1], dir_fd=directory)
    finally:
        os.close(directory)


def _below(directories: Sequence[str], path: str) -> list[str]:
    """One of ``directories``, and the names that lead from there to ``path``."""
    for directory in directories:
        if path.startswith(f"{directory}/"):
            names = path[len(directory) + 1 :].split("/")
            if len(names) > 1 and "\0" not in path and not {"", ".", ".."}.intersection(names):
                return [directory, *names]
    raise _Refused(f"{path[:200]!r} is none of the application's files")


def _walk(parts: Sequence[str]) -> int:
    """A descriptor of the directory that ``parts`` lead to."""
    found = os.open(parts[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in parts[1:]:
        try:
            found, above = os.open(name, _DIRECTORY, dir_fd=found), found
        except OSError as error:
            os.close(found)
            raise _seen_as(error, name) from error
        os.close(above)
    return found


def _seen_as(error: OSError, path: str) -> Exception:
    if isinstance(error, FileNotFoundError) or error.errno in _NOT_THE_FILES_FAULT:
        return error
    return _Refused(f"{path!r} can't be opened: {error.strerror}")
