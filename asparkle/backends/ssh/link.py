"""The stream to one node's agent, as the driver sees it: channels, and messages on channel 0."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from asparkle.backends.ssh.mux import CONTROL, WINDOW, Arrived, BrokenFrames, Closed, Mux, Opened
from asparkle.plugins import Channel, Receiver, Unpacker, pack

BEAT: Final = 1.0  # seconds


class LinkChannel(Channel):
    """One channel of a link."""

    def __init__(self, link: Link, number: int) -> None:
        self._link = link
        self.number = number
        self._arrived: deque[bytes] = deque()
        self._ended = False
        self._waiting: anyio.Event | None = None
        self._room: anyio.Event | None = None

    def send(self, data: bytes) -> None:
        self._link.send(self.number, data)

    async def receive(self) -> bytes:
        while not self._arrived:
            if self._ended:
                return b""
            self._waiting = anyio.Event()
            await self._waiting.wait()
        data = self._arrived.popleft()
        self._link.taken(self.number, len(data))
        return data

    async def drained(self) -> None:
        """Wait until not much is left of what was to be sent."""
        while not self._ended and not self.has_room:
            self._room = anyio.Event()
            self._link.waiting.add(self)
            await self._room.wait()

    @property
    def has_room(self) -> bool:
        """Whether not much is in line to be sent."""
        return self._link.mux.unsent(self.number) <= WINDOW

    def hang_up(self) -> None:
        self._ended = True
        self.wake()

    def close(self) -> None:
        self._arrived.clear()
        self._link.close(self.number)
        self.hang_up()

    def arrived(self, data: bytes) -> None:
        if not self._ended:
            self._arrived.append(data)
            self.wake()

    def wake(self) -> None:
        """Whoever waits for bytes, or for room, looks again."""
        for event in (self._waiting, self._room):
            if event is not None:
                event.set()
        self._waiting = self._room = None


class Link:
    """Made on an event loop, over a connected socket that leads to an agent; ``rest`` was read from it already.

    ``told`` is called with the agent's messages, ``opened`` with channels that it opens and their purposes.
    """

    def __init__(
        self,
        connection: socket.socket,
        tasks: TaskGroup,
        told: Callable[[list[Any]], None],
        opened: Callable[[LinkChannel, list[Any]], None],
        rest: bytes = b"",
    ) -> None:
        connection.setblocking(False)
        self.mux = Mux(driver=True)
        self.silence = 0  # beats in a row in which nothing arrived
        self.waiting: set[LinkChannel] = set()  # for room
        self._socket = connection
        self._tasks = tasks
        self._told = told
        self._opened = opened
        self._receiver = Receiver(connection)
        self._rest = rest
        self._messages = Unpacker()
        self._channels: dict[int, LinkChannel] = {}
        self._unsent = memoryview(b"")
        self._draining = False
        self._spoke = False
        self._lock = threading.Lock()  # of what is sent: beats come from a thread
        self._closed = False

    async def run(self) -> str:
        """Read until the end, and say why it came to that."""
        try:
            self._take(self._rest)
            while not self._closed and (data := await self._receiver.receive()):
                self.silence = 0
                self._take(data)
            return "the connection was closed"
        except BrokenFrames as error:
            return f"what came from its agent is none of its messages: {error}"
        finally:
            self.end()

    def _take(self, data: bytes) -> None:
        with self._lock:
            events = self.mux.feed(data)
        for event in events:
            if isinstance(event, Arrived):
                self._arrived(event)
            elif isinstance(event, Opened):
                channel = self._channels[event.channel] = LinkChannel(self, event.channel)
                self._opened(channel, Unpacker().feed(event.purpose)[0])
            elif isinstance(event, Closed) and event.channel in self._channels:
                self._channels.pop(event.channel).hang_up()
        self._flush()  # credit, above all

    def _arrived(self, event: Arrived) -> None:
        if event.channel != CONTROL:
            channel = self._channels.get(event.channel)
            if channel is not None:
                channel.arrived(event.data)
            return
        self.taken(CONTROL, len(event.data))
        for message in self._messages.feed(event.data):
            self._told(message)

    # ------------------------------------------------------------------------- sending

    def open(self, purpose: list[Any]) -> LinkChannel:
        """A new channel; the agent learns what for.  It is at its end at once where the link is."""
        with self._lock:
            number = self.mux.open(pack(purpose))
        channel = LinkChannel(self, number)
        if self._closed:
            channel.hang_up()
            return channel
        self._channels[number] = channel
        self._flush()
        return channel

    def tell(self, message: list[Any]) -> None:
        """Send the agent a message."""
        self.send(CONTROL, pack(message))

    def send(self, channel: int, data: bytes) -> None:
        with self._lock:
            self.mux.send(channel, data)
        self._flush()

    def taken(self, channel: int, count: int) -> None:
        with self._lock:
            self.mux.taken(channel, count)
            owes = self.mux.has_outgoing
        if owes:
            self._flush()

    def close(self, channel: int) -> None:
        """Send what is in line, and no more."""
        self._channels.pop(channel, None)
        with self._lock:
            self.mux.close(channel)
        self._flush()

    def _flush(self) -> None:
        if not self._draining and not self._write():
            self._draining = True
            self._tasks.start_soon(self._drain)
        self._wake_senders()

    def _wake_senders(self) -> None:
        for channel in [channel for channel in self.waiting if channel.has_room]:
            self.waiting.discard(channel)
            channel.wake()

    def _write(self) -> bool:
        """Write what can be written; says whether that was all."""
        with self._lock:
            while not self._closed:
                if not self._unsent:
                    self._unsent = memoryview(self.mux.outgoing())
                if not self._unsent:
                    return True
                try:
                    sent = self._socket.send(self._unsent)
                except BlockingIOError:
                    return False
                except OSError:  # it is gone: `run` says so
                    return True
                self._unsent = self._unsent[sent:]
                self._spoke = True
            return True

    async def _drain(self) -> None:
        try:
            while not self._write():
                self._wake_senders()
                await anyio.wait_writable(self._socket)
            self._wake_senders()
        except (OSError, anyio.ClosedResourceError):
            return
        finally:
            self._draining = False

    def beat(self) -> None:
        """Show that the driver lives, unless it has just said something.  Called in a thread: the host's event loop
        may be busy for long."""
        if not self._spoke:
            with self._lock:
                self.mux.send(CONTROL, pack(["beat"]))
            self._write()
        self._spoke = False

    @property
    def ended(self) -> bool:
        """Whether nothing arrives any more."""
        return self._closed

    def end(self) -> None:
        """Let go: every channel reads the end."""
        if not self._closed:
            with self._lock:
                self._closed = True
            self._receiver.close()
            for channel in list(self._channels.values()):
                channel.hang_up()
            self._channels.clear()
