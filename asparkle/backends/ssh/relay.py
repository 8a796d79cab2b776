"""Bytes between a link's channel and another channel, or a socket, in the driver."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio

from asparkle.backends.ssh.link import LinkChannel

_CHUNK = 1 << 18


async def join(one: LinkChannel, other: LinkChannel) -> None:
    """Carry bytes both ways until either is closed."""
    await _both(lambda: _to_channel(one.receive, other), lambda: _to_channel(other.receive, one))
    one.close()
    other.close()


async def connect(channel: LinkChannel, connection: socket.socket) -> None:
    """The same between a channel and a socket, which is closed at the end."""
    connection.setblocking(False)
    try:
        await _both(lambda: _to_channel(lambda: receive(connection), channel), lambda: _to_socket(channel, connection))
    finally:
        channel.close()
        connection.close()


async def _both(*ways: Callable[[], Awaitable[None]]) -> None:
    async with anyio.create_task_group() as tasks:

        async def go(way: Callable[[], Awaitable[None]]) -> None:
            with suppress(OSError, anyio.ClosedResourceError):
                await way()
            tasks.cancel_scope.cancel()

        for way in ways:
            tasks.start_soon(go, way)


async def _to_channel(receive: Callable[[], Awaitable[bytes]], channel: LinkChannel) -> None:
    while data := await receive():
        channel.send(data)
        await channel.drained()


async def receive(connection: socket.socket) -> bytes:
    """The next bytes of a non-blocking socket, none at its end; what is not asked for holds up who sends it."""
    while True:
        try:
            return connection.recv(_CHUNK)
        except BlockingIOError:
            await anyio.wait_readable(connection)
        except OSError:
            return b""


async def _to_socket(channel: LinkChannel, connection: socket.socket) -> None:
    while data := await channel.receive():
        await send_all(connection, data)


async def send_all(connection: socket.socket, data: bytes) -> None:
    """All of ``data``, to a non-blocking socket."""
    left = memoryview(data)
    while left:
        try:
            left = left[connection.send(left) :]
        except BlockingIOError:
            await anyio.wait_writable(connection)
