"""Pieces of other hosts' files, read ahead of a task that takes them one after the other.

Think of the pieces as laid end to end, in the order in which they are taken, and cut into chunks.  What has come and
what is asked for lies in a window of ``limit`` bytes that begins where the task is: whatever host the next chunk is on,
it is in the window, so nobody waits for room that only the task could make.  A few threads, each at one host at a time,
ask for the chunks of their host that are in the window, many at once, and take the answers as they come.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Final, TypeAlias

from asparkle.core.contracts import MapOutputReader
from asparkle.core.errors import CorruptBlock
from asparkle.core.fileclient import GONE_THERE, UNANSWERED, FileConnection, read_ranges
from asparkle.core.metrics import counters
from asparkle.core.namedtuple import NamedTuple

if TYPE_CHECKING:
    from asparkle.core.hostfiles import HostFiles

THREADS: Final = 4
_CHUNK: Final = 4 << 20

Range: TypeAlias = tuple[str, int, int]
"""A path, and where a part of that file starts and ends."""
Read: TypeAlias = Callable[[Sequence[Range]], list[memoryview]]


class Piece(NamedTuple):
    """``size`` bytes of files of ``host``: ``ranges``; where these are None, what ``find`` says, given a function that
    reads ranges of that host's files."""

    host: str
    size: int
    ranges: Sequence[Range] | None
    find: Callable[[Read], Sequence[Range]] | None = None


class _Chunk(NamedTuple):
    number: int  # of its host's
    piece: int
    offset: int  # in the piece
    start: int  # on the line
    length: int


class _Host:
    def __init__(self, name: str) -> None:
        self.name = name
        self.chunks: list[_Chunk] = []
        self.next = 0  # the first of them that has not come
        self.busy = False
        self.error: BaseException | None = None


class _Closed(Exception):
    """Nobody takes anything any more."""


class ReadAhead:
    """Readers of ``pieces``, in their order, by calling `reader` for one after the other.

    ``limit``: bytes that are held before they are taken.  `close` it, and its threads end.
    """

    def __init__(self, files: HostFiles, pieces: Sequence[Piece], limit: int) -> None:
        self._files = files
        self._pieces = pieces
        self._limit = limit
        self.chunk = max(1, min(_CHUNK, limit // (2 * THREADS)))
        self._starts = list(accumulate((piece.size for piece in pieces), initial=0))
        self._ranges = {i: piece.ranges for i, piece in enumerate(pieces) if piece.ranges is not None}
        self._errors: dict[int, Exception] = {}  # by piece
        self._came: dict[tuple[int, int], memoryview] = {}  # (piece, offset): chunks that are not passed yet
        self._position = 0  # on the line: where the task is
        self._given = 0  # readers
        self._closed = False
        self._lock = threading.Lock()  # entered as it is, not by its condition: an interrupt can't leave it locked
        self._changed = threading.Condition(self._lock)
        self._hosts = self._by_host()
        for number in range(min(THREADS, len(self._hosts))):
            threading.Thread(target=self._run, name=f"asparkle-reads-ahead-{number}", daemon=True).start()

    def _by_host(self) -> Sequence[_Host]:
        hosts: dict[str, _Host] = {}
        for i, (piece, start) in enumerate(zip(self._pieces, self._starts, strict=False)):
            host = hosts.setdefault(piece.host, _Host(piece.host))
            for offset in range(0, piece.size, self.chunk):
                length = min(self.chunk, piece.size - offset)
                host.chunks.append(_Chunk(len(host.chunks), i, offset, start + offset, length))
        return list(hosts.values())

    # ------------------------------------------------------------------------------------ the task's side

    def reader(self) -> MapOutputReader:
        """Of the next piece."""
        index = self._given
        self._given += 1
        size = self._pieces[index].size
        counted = counters()
        counted.shuffle_remote_blocks += 1
        counted.shuffle_remote_bytes += size
        return _Reader(self, index, size)

    def take(self, piece: int, offset: int) -> memoryview:
        """The chunk that begins at ``offset`` of a piece, when it has come.  Raises what went wrong with it."""
        start = self._starts[piece] + offset
        with self._lock:
            if start >= self._position:
                while (found := self._came.get((piece, offset))) is None:
                    if (error := self._error(piece)) is not None:
                        raise error
                    if self._closed:
                        raise OSError("it is read no more")
                    self._pass(start)  # what is before it has been copied, and room is needed
                    self._changed.wait()
                return found
        return self._take_again(piece, offset)

    def _error(self, piece: int) -> BaseException | None:
        if (error := self._errors.get(piece)) is not None:
            return error
        name = self._pieces[piece].host
        return next(host.error for host in self._hosts if host.name == name)

    def _take_again(self, piece: int, offset: int) -> memoryview:
        """A chunk that was passed: a reader went back, further than it mostly does."""
        host, size, *_ = self._pieces[piece]
        ranges = _part(self._ranges[piece], offset, min(offset + self.chunk, size))
        return memoryview(b"".join(self._files.read(host, ranges)))

    def passed(self, piece: int, offset: int) -> None:
        """The task needs nothing before ``offset`` of a piece, as far as is known."""
        with self._lock:
            self._pass(self._starts[piece] + offset)

    def _pass(self, position: int) -> None:
        if position > self._position:
            self._position = position
            for piece, offset in list(self._came):  # these are few
                if self._starts[piece] + offset < position:
                    del self._came[piece, offset]
            self._changed.notify_all()

    def close(self) -> None:
        """Read no more."""
        with self._lock:
            self._closed = True
            self._came.clear()
            self._changed.notify_all()

    # ------------------------------------------------------------------------------------ the threads' side

    def _run(self) -> None:
        while (host := self._take_host()) is not None:
            error: BaseException | None = None
            try:
                self._files.client.run(host.name, partial(self._fetch, host))
            except _Closed:
                return
            except BaseException as raised:  # the host's, or a plugin's `find`: the task is told
                error = raised
            with self._lock:
                host.error = error
                host.busy = False
                self._changed.notify_all()

    def _fetch(self, host: _Host, connection: FileConnection) -> None:
        _Fetching(self, host, connection).run()

    def _take_host(self) -> _Host | None:
        """That of the first chunk in the window, of hosts that nobody is at; waits for one; None at the end."""
        with self._lock:
            while not self._closed:
                firsts = [(chunk, host) for host in self._hosts if (chunk := self.first(host, host.next)) is not None]
                free = [(chunk, host) for chunk, host in firsts if not host.busy and self.in_window(chunk)]
                if free:
                    host = min(free, key=lambda pair: pair[0].start)[1]
                    host.busy = True
                    return host
                if not firsts:
                    break
                self._changed.wait()
            return None

    def first(self, host: _Host, index: int) -> _Chunk | None:
        """The first chunk of a host from ``index`` on that somebody still needs."""
        if host.error is None:
            for number in range(index, len(host.chunks)):
                chunk = host.chunks[number]
                if chunk.start >= self._position and chunk.piece not in self._errors:
                    return chunk
        return None

    def in_window(self, chunk: _Chunk) -> bool:
        return chunk.start + chunk.length <= self._position + self._limit or chunk.start <= self._position

    def next(self, host: _Host, index: int) -> _Chunk | None:
        """The first chunk from ``index`` on that is to be asked for now; None if there is none."""
        with self._lock:
            if self._closed:
                raise _Closed
            chunk = self.first(host, index)
            return chunk if chunk is not None and self.in_window(chunk) else None

    def ranges(self, piece: int) -> Sequence[Range] | None:
        """Where a piece lies, if that is known."""
        return self._ranges.get(piece)

    def find(self, index: int, connection: FileConnection) -> None:
        """Learn where a piece lies."""
        piece = self._pieces[index]
        assert piece.find is not None
        try:
            ranges = piece.find(partial(read_ranges, connection))
            length = sum(end - start for _, start, end in ranges)
            if length != piece.size:
                raise CorruptBlock(f"it has {length} bytes, {piece.size} were written")
            self._ranges[index] = ranges
        except (OSError, CorruptBlock) as error:
            self.failed(index, error)

    def failed(self, piece: int, error: Exception) -> None:
        """There may be other pieces at its host that can be read."""
        if isinstance(error, GONE_THERE):
            self._files.client.doubt(self._pieces[piece].host)
        with self._lock:
            self._errors[piece] = error
            self._changed.notify_all()

    def came(self, host: _Host, chunk: _Chunk, data: memoryview, route: str) -> None:
        self._files.count(host.name, route, len(data))
        with self._lock:
            if self._closed:
                raise _Closed
            if chunk.start >= self._position:
                self._came[chunk.piece, chunk.offset] = data
            self._changed.notify_all()


class _Fetching:
    """One connection to a host, over which its chunks are asked for and come."""

    def __init__(self, ahead: ReadAhead, host: _Host, connection: FileConnection) -> None:
        self._ahead = ahead
        self._host = host
        self._connection = connection
        self._index = host.next  # of what is to be asked for
        self._asked: deque[tuple[_Chunk, memoryview, list[tuple[str, memoryview]]]] = deque()
        self._unanswered = 0

    def run(self) -> None:
        """Until no chunk of the host is in the window.  Where the connection breaks, another begins after what came."""
        while True:
            self._ask()
            if not self._asked:
                return
            self._take()

    def _ask(self) -> None:
        ahead = self._ahead
        requests: list[tuple[str, str, int, int]] = []
        while self._unanswered + len(requests) < UNANSWERED:
            chunk = ahead.next(self._host, self._index)
            if chunk is None:
                break
            ranges = ahead.ranges(chunk.piece)
            if ranges is None:
                if self._asked:  # whose answers come first
                    break
                ahead.find(chunk.piece, self._connection)
                continue
            whole = memoryview(bytearray(chunk.length))
            views, at = [], 0
            for path, start, end in _part(ranges, chunk.offset, chunk.offset + chunk.length):
                views.append((path, whole[at : at + end - start]))
                requests.append(("read", path, start, end - start))
                at += end - start
            self._asked.append((chunk, whole, views))
            self._index = chunk.number + 1
        if requests:
            self._unanswered += len(requests)
            self._connection.ask(requests)

    def _take(self) -> None:
        chunk, whole, views = self._asked.popleft()
        error = None
        for path, view in views:
            try:
                self._connection.take(path, view)
            except OSError as raised:
                error = raised
        self._unanswered -= len(views)
        if error is None:
            self._ahead.came(self._host, chunk, whole, self._connection.route)
        else:
            self._ahead.failed(chunk.piece, error)
        self._host.next = chunk.number + 1


class _Reader(MapOutputReader):
    """Of one piece; copies what it is asked for, as chunks come."""

    def __init__(self, ahead: ReadAhead, piece: int, size: int) -> None:
        self._ahead = ahead
        self._piece = piece
        self._size = size

    def read(self, offset: int, count: int) -> memoryview:
        ahead, piece = self._ahead, self._piece
        end = min(offset + count, self._size)
        data = memoryview(bytearray(max(0, end - offset)))
        begin = offset - offset % ahead.chunk
        ahead.passed(piece, begin)
        for start in range(begin, end, ahead.chunk):
            chunk = ahead.take(piece, start)[max(0, offset - start) : end - start]
            at = max(start, offset) - offset
            data[at : at + len(chunk)] = chunk
        return data

    def close(self) -> None:
        self._ahead.passed(self._piece, self._size)


def _part(ranges: Sequence[Range], start: int, end: int) -> list[Range]:
    """The part from ``start`` to ``end`` of what ranges are together."""
    found, before = [], 0
    for path, first, last in ranges:
        begin, until = max(first, first + start - before), min(last, first + end - before)
        if begin < until:
            found.append((path, begin, until))
        before += last - first
    return found
