"""Memory that a task may use, and the disk that it spills to.

Spill files are unlinked the moment they are made (where the system can, they never have a name): whatever
happens to the process, also SIGKILL, the operating system frees them.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from typing import Any

from asparkle.core.errors import CorruptBlock, StorageError
from asparkle.core.namedtuple import NamedTuple
from asparkle.core.serializer import Dumps, Loads, dumps, loads, pack_frame, read_frame, write_all

_RSS_STEP = 4 << 20  # look at /proc once in so many bytes taken


class SpillSpace:
    """What the operations of one task share: a memory limit, and directories to spill to.

    ``memory_limit``: bytes that they may hold together, as estimated; one that needs more spills.
    ``rss_limit``: as a safety net against wrong estimates, also spill when the process's own memory
    (/proc/self/statm, where it exists) is above this; None where other tasks share the process.
    ``directories`` are used in turn, and must exist; nothing in them is made or opened before it is needed.

    ``dumps`` and ``loads``: how what is spilled, and written for reducers, becomes bytes and is read again.

    `close` frees the disk space at once, also of iterators that were not read to their end; reading
    on from those is an error.  Without it the space is freed as they are garbage-collected.
    """

    def __init__(
        self,
        directories: Sequence[str],
        memory_limit: int,
        rss_limit: int | None = None,
        dumps: Dumps = dumps,
        loads: Loads = loads,
    ) -> None:
        self.dumps = dumps
        self.loads = loads
        self.directories = list(directories)
        self.memory_limit = memory_limit
        self.rss_limit = rss_limit
        self.used = self.peak = 0
        self.bytes_spilled = 0
        self._turn = 0
        self._files: weakref.WeakSet[SpillFile] = weakref.WeakSet()
        self._rss_floor = 0

    def new_file(self) -> SpillFile:
        """An empty spill file in the next directory.  Raises `StorageError` if it can't be made."""
        directory = self.directories[self._turn % len(self.directories)]
        self._turn += 1
        file = SpillFile(self, directory)
        self._files.add(file)
        return file

    def close(self) -> None:
        for file in list(self._files):
            file.close()

    def __enter__(self) -> SpillSpace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def process_is_full(self) -> bool:
        if self.rss_limit is None:
            return False
        # What was freed by the last spill may not have gone back to the system: it will be used again.
        return _anonymous_memory() > max(self.rss_limit, self._rss_floor)

    def note_spilled(self) -> None:
        if self.rss_limit is not None:
            self._rss_floor = int(_anonymous_memory() * 1.05)


class Meter:
    """The memory that one operation of a task holds, as it estimates it."""

    __slots__ = ("_next_look", "space", "used")

    def __init__(self, space: SpillSpace) -> None:
        self.space = space
        self.used = 0
        self._next_look = _RSS_STEP

    def add(self, nbytes: int) -> bool:
        """Take ``nbytes`` more; whether it is time to spill."""
        space = self.space
        self.used += nbytes
        space.used += nbytes
        if space.used > space.peak:
            space.peak = space.used
        # Who holds little can't help, even if others fill the memory.
        if space.used > space.memory_limit and self.used * 16 > space.memory_limit:
            return True
        if self.used < self._next_look:
            return False
        self._next_look = self.used + _RSS_STEP
        return space.process_is_full()

    def clear(self, spilled: bool = False) -> None:
        """Nothing is held any more; ``spilled``: because it was written to disk."""
        self.space.used -= self.used
        self.used = 0
        self._next_look = _RSS_STEP
        if spilled:
            self.space.note_spilled()

    def __del__(self) -> None:
        self.space.used -= self.used


class Segment(NamedTuple):
    """Where in a spill file one object lies, and how many rows it has."""

    offset: int
    length: int
    rows: int = 0


class SpillFile:
    """A nameless temporary file of frames: appended to, read at random, gone when closed or collected."""

    def __init__(self, space: SpillSpace, directory: str) -> None:
        self._fd = -1
        self._space = space
        self.directory = directory
        self._end = 0
        try:
            self._fd = _open_nameless(directory)
        except OSError as error:
            raise StorageError(directory, f"no spill file can be made: {error.strerror}") from error

    def append(self, obj: object, rows: int = 0) -> Segment:
        """Write ``obj``; raises `StorageError` if there is no room, `PicklingFailed` if it has no bytes."""
        frame = pack_frame(self._space.dumps(obj))
        try:
            length = write_all(self._fd, frame)
        except OSError as error:
            # What was written of the frame is behind the end, and will be written over.
            os.lseek(self._fd, self._end, os.SEEK_SET)
            raise StorageError(self.directory, f"spilling {self._end} bytes: {error.strerror}") from error
        segment = Segment(self._end, length, rows)
        self._end += length
        self._space.bytes_spilled += length
        return segment

    def read(self, segment: Segment) -> Any:
        """The object at ``segment``, anew each time."""
        data = bytearray(segment.length)
        if self._fd < 0:
            raise ValueError("the task that spilled this data is over")
        if read_into(self._fd, data, segment.offset) < segment.length:
            raise CorruptBlock(f"a spill file in {self.directory} was cut off")
        return read_frame(memoryview(data), 0, self._space.loads)[0]

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def _open_nameless(directory: str) -> int:
    if hasattr(os, "O_TMPFILE"):
        try:
            return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if isinstance(error, (FileNotFoundError, PermissionError)):
                raise
            # Not every file system knows O_TMPFILE (overlayfs before Linux 6.3, NFS).
    import tempfile  # late: it is not needed to start

    fd, path = tempfile.mkstemp(prefix="spill-", dir=directory)
    os.unlink(path)
    return fd


def read_into(fd: int, data: bytearray, offset: int) -> int:
    """Fill ``data`` from ``offset`` of a file; how many bytes there were, less than asked for at its end."""
    view = memoryview(data)
    done = 0
    while done < len(view):
        if hasattr(os, "preadv"):
            n = os.preadv(fd, [view[done:]], offset + done)
        else:  # macOS
            part = os.pread(fd, len(view) - done, offset + done)
            n = len(part)
            view[done : done + n] = part
        if not n:
            break
        done += n
    return done


def _anonymous_memory() -> int:
    """Bytes of the process's memory that files don't back; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            fields = file.read().split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * _PAGE


_PAGE = os.sysconf("SC_PAGE_SIZE")


class SpillFiles:
    """Spill files of one operation, one to a directory, used in turn."""

    def __init__(self, space: SpillSpace) -> None:
        self._space = space
        self._files: list[SpillFile] = []
        self._turn = -1

    def next(self) -> SpillFile:
        self._turn += 1
        many = len(self._space.directories)
        if len(self._files) < many:
            self._files.append(self._space.new_file())
        return self._files[self._turn % many]
