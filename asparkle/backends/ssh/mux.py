"""Many channels over one stream of bytes, none of which holds up another.  Sans I/O: `Mux` is given what was read, and
says what is to be written.

A frame is 9 bytes and its payload::

    channel  4 bytes   0 is there from the start; who opens another numbers it, the driver even, the node odd
    kind     1 byte    open (the payload says what for), data, close, credit (how many bytes more may be sent)
    length   4 bytes   of the payload, 64 KB at most

A channel may have `WINDOW` bytes under way that its reader has not taken: a reader that is slow holds up its own
channel alone.  Channels that have something to send take turns, frame by frame; but what keeps them going (opening,
closing, credit) and channel 0 go first.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Final, NamedTuple, TypeAlias

HEADER: Final = struct.Struct("<IBI")
OPEN, DATA, CLOSE, CREDIT = range(4)
MOST: Final = 1 << 16  # bytes of a payload
WINDOW: Final = 1 << 20
CONTROL: Final = 0
_COUNT: Final = struct.Struct("<I")


class Opened(NamedTuple):
    """The other side has opened a channel."""

    channel: int
    purpose: bytes


class Arrived(NamedTuple):
    """Bytes of a channel; whoever has taken them says so, by `Mux.taken`."""

    channel: int
    data: bytes


class Closed(NamedTuple):
    """The other side neither sends nor reads any more."""

    channel: int


Event: TypeAlias = Opened | Arrived | Closed


class BrokenFrames(ValueError):
    """What arrived can't have been sent by a `Mux`."""


class _Sending:
    """What one channel has still to send."""

    __slots__ = ("credit", "ending", "queue", "waiting")

    def __init__(self) -> None:
        self.queue: deque[memoryview] = deque()
        self.credit = WINDOW
        self.waiting = False  # whether it is in line
        self.ending = False  # whether it is closed when all is sent


class Mux:
    """One side's state.  ``driver``: which side."""

    def __init__(self, *, driver: bool) -> None:
        self._next = 2 if driver else 1
        self._theirs = 1 if driver else 0  # parity of the channels that the other side opens
        self._sending: dict[int, _Sending] = {CONTROL: _Sending()}
        self._room: dict[int, int] = {CONTROL: WINDOW}  # bytes that may still come, by channel that is open to them
        self._owed: dict[int, int] = {CONTROL: 0}  # bytes taken, for which no credit was given yet
        self._line: deque[int] = deque()
        self._urgent = bytearray()
        self._buffer = bytearray()

    # ------------------------------------------------------------------------- to the other side

    def open(self, purpose: bytes) -> int:
        """A new channel; ``purpose`` tells the other side what for."""
        channel = self._next
        self._next += 2
        self._begin(channel)
        self._frame(channel, OPEN, purpose)
        return channel

    def _begin(self, channel: int) -> None:
        self._sending[channel] = _Sending()
        self._room[channel] = WINDOW
        self._owed[channel] = 0

    def send(self, channel: int, data: bytes | memoryview) -> None:
        """Put ``data`` in line.  To a channel that is closed, nothing is sent."""
        sending = self._sending.get(channel)
        if sending is None or sending.ending or not data:
            return
        sending.queue.append(memoryview(data))
        self._line_up(channel, sending)

    def unsent(self, channel: int) -> int:
        """Bytes that are in line."""
        sending = self._sending.get(channel)
        return 0 if sending is None else sum(map(len, sending.queue))

    def close(self, channel: int, *, at_once: bool = False) -> None:
        """Send what is in line, unless ``at_once``, and nothing more; what still comes is dropped."""
        sending = self._sending.get(channel)
        self._room.pop(channel, None)
        self._owed.pop(channel, None)
        if sending is None:
            return
        if at_once:
            sending.queue.clear()
        elif sending.ending:
            return
        sending.ending = True
        if not sending.queue:
            self._end(channel)

    def _end(self, channel: int) -> None:
        del self._sending[channel]
        self._frame(channel, CLOSE)

    def taken(self, channel: int, count: int) -> None:
        """That many bytes of what arrived have been dealt with: as many more may come."""
        if channel not in self._owed:
            return
        self._owed[channel] += count
        if self._owed[channel] >= WINDOW // 2:
            owed, self._owed[channel] = self._owed[channel], 0
            self._room[channel] += owed
            self._frame(channel, CREDIT, _COUNT.pack(owed))

    def _frame(self, channel: int, kind: int, payload: bytes = b"") -> None:
        self._urgent += HEADER.pack(channel, kind, len(payload)) + payload

    def _line_up(self, channel: int, sending: _Sending) -> None:
        if not sending.waiting and sending.queue and sending.credit:
            sending.waiting = True
            if channel == CONTROL:
                self._line.appendleft(channel)
            else:
                self._line.append(channel)

    @property
    def has_outgoing(self) -> bool:
        """Whether there is anything to write now."""
        return bool(self._urgent or self._line)

    def outgoing(self, most: int = 4 * MOST) -> bytearray:
        """What is to be written next: some frames, about ``most`` bytes; nothing where there is nothing to write, or
        the other side has to take something first."""
        out, self._urgent = self._urgent, bytearray()
        while self._line and len(out) < most:
            channel = self._line.popleft()
            sending = self._sending.get(channel)
            if sending is None:
                continue
            sending.waiting = False
            self._take_frame(channel, sending, out)
            if not sending.queue and sending.ending:
                self._end(channel)
                out += self._urgent
                self._urgent.clear()
            self._line_up(channel, sending)
        return out

    def _take_frame(self, channel: int, sending: _Sending, out: bytearray) -> None:
        """Move one frame's worth of what is in line to ``out``; small pieces share a frame."""
        room = min(MOST, sending.credit)
        start = len(out)
        out += HEADER.pack(channel, DATA, 0)
        length = 0
        while sending.queue and length < room:
            piece = sending.queue[0]
            if len(piece) <= room - length:
                sending.queue.popleft()
            else:
                sending.queue[0] = piece[room - length :]
                piece = piece[: room - length]
            out += piece
            length += len(piece)
        if not length:  # closed at once, meanwhile
            del out[start:]
            return
        HEADER.pack_into(out, start, channel, DATA, length)
        sending.credit -= length

    # ------------------------------------------------------------------------- from the other side

    def feed(self, data: bytes) -> list[Event]:
        """What has come with ``data``.  Raises BrokenFrames."""
        events: list[Event] = []
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        while end - start >= HEADER.size:
            channel, kind, length = HEADER.unpack_from(buffer, start)
            if kind > CREDIT or length > MOST:
                raise BrokenFrames(f"{bytes(buffer[start : start + 40])!r} is no frame")
            body = start + HEADER.size
            if end - body < length:
                break
            start = body + length
            event = self._take(channel, kind, bytes(memoryview(buffer)[body:start]))
            if event is not None:
                events.append(event)
        if start:
            del buffer[:start]
        return events

    def _take(self, channel: int, kind: int, payload: bytes) -> Event | None:
        if kind == DATA:
            if channel not in self._room:
                return None  # closed here; the other side will know in a moment
            self._room[channel] -= len(payload)
            if self._room[channel] < 0:
                raise BrokenFrames(f"channel {channel} has sent more than it may")
            return Arrived(channel, payload)
        if kind == OPEN:
            if channel % 2 != self._theirs or channel in self._sending or channel == CONTROL:
                raise BrokenFrames(f"channel {channel} can't be opened")
            self._begin(channel)
            return Opened(channel, payload)
        if kind == CLOSE:
            known = channel in self._room
            self.close(channel, at_once=True)
            return Closed(channel) if known else None
        if len(payload) != _COUNT.size:
            raise BrokenFrames(f"a credit of {len(payload)} bytes")
        sending = self._sending.get(channel)
        if sending is not None:
            sending.credit += _COUNT.unpack(payload)[0]
            self._line_up(channel, sending)
        return None
