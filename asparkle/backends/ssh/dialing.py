"""How a worker on a node reaches the file servers of other hosts.

Directly where the network lets it: by TLS, with the identity that the agent was handed over ssh.  The agent tries which
nodes can be reached so, and keeps a list of them beside the identity.  Otherwise through the agent's socket: the agent,
the driver and the other node's agent carry the bytes, inside ssh.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from asparkle.plugins import AppSpec, Buffer, Connection, Dial, Identity, connect_peer, write_file

DIRECT: Final = "direct"  # routes, as events call them: from host to host,
RELAYED: Final = "driver"  # and from node to node through the driver
CONNECTING: Final = 3.0  # seconds that a direct connection may take
_AVOIDED: Final = 30.0  # seconds in which no direct connection is tried after one has failed
_SILENT: Final = (
    10.0  # seconds without an answer, after which a direct connection is taken for cut, as its node is there
)
_LOOKING: Final = 0.5  # seconds that a node may say nothing, before it is looked whether it is there at all
_LONGEST: Final = 100  # bytes of a socket's path


def door_of(directory: str) -> str:
    """Where the agent of an application with this directory listens."""
    return os.path.join(directory, "door")


class SocketInside(socket.socket):
    """A connection inside ssh: to the driver, or through it to another node."""

    route = DIRECT


def knock(directory: str, host: str) -> SocketInside:
    """A connection to the file server of ``host``, inside ssh.  Whether it can be reached shows only then."""
    connection = SocketInside(socket.AF_UNIX)
    if host:
        connection.route = RELAYED
    try:
        with reachable(door_of(directory)) as path:
            connection.connect(path)
        name = host.encode()
        connection.sendall(bytes([len(name)]) + name)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def reachable(path: str) -> Iterator[str]:
    """With a path at which a Unix socket can be bound or connected to, however long its own is."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield path
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


class Peers:
    """The nodes that can be reached directly, as a node's agent writes them down for its workers."""

    def __init__(self, directory: str) -> None:
        self._identity = os.path.join(directory, "identity")
        self._addresses = os.path.join(directory, "peers")

    def introduce(self, identity: Identity) -> None:
        """Keep who this node is."""
        write_file([json.dumps(identity).encode()], self._identity)

    def write(self, addresses: Mapping[str, tuple[str, int]]) -> None:
        """Keep where nodes are found."""
        write_file([json.dumps(addresses).encode()], self._addresses)

    def identity(self) -> Identity:
        with open(self._identity) as file:
            return Identity(*json.load(file))

    def addresses(self) -> dict[str, tuple[str, int]]:
        """Where nodes are found; none is where that was not written yet."""
        try:
            with open(self._addresses) as file:
                return {host: (address, port) for host, (address, port) in json.load(file).items()}
        except FileNotFoundError:
            return {}


class DirectConnection:
    """A `Connection` to another node, which fails as soon as that is known to be lost, however long it might be waited
    for; and when nothing comes from a node that is not: then ``avoid`` is called, and the way through the driver is
    next."""

    route = DIRECT

    def __init__(self, peer: Connection, is_there: Callable[[], bool], avoid: Callable[[], None]) -> None:
        self._peer = peer
        self._is_there = is_there
        self._avoid = avoid
        self._timeout = 0.0

    def settimeout(self, seconds: float, /) -> None:
        self._timeout = min(seconds, _SILENT)
        self._peer.settimeout(min(seconds, _LOOKING))

    def sendall(self, data: Buffer, /) -> None:
        self._peer.sendall(data)  # requests are shorter than what a socket takes at once

    def recv_into(self, buffer: memoryview, /) -> int:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return self._peer.recv_into(buffer)
            except TimeoutError:
                if not self._is_there():
                    raise ConnectionError("the node is lost") from None
                if time.monotonic() >= deadline:
                    self._avoid()
                    raise ConnectionError("nothing comes directly") from None

    def shutdown(self, how: int, /) -> None:
        self._peer.shutdown(how)

    def close(self) -> None:
        self._peer.close()


class Dialer:
    """A worker's `Dial`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._peers = Peers(directory)
        self._lock = threading.Lock()
        self._identity: Identity | None = None
        self._avoided: dict[str, float] = {}  # host: until when

    def __call__(self, host: str) -> Connection:
        address = self._peers.addresses().get(host)
        if address is not None and self._avoided.get(host, 0.0) < time.monotonic():
            try:
                peer = connect_peer(self._myself(), host, address, CONNECTING)
                return DirectConnection(
                    peer, lambda: self._peers.addresses().get(host) == address, lambda: self._avoid(host)
                )
            except OSError:  # perhaps only this way is closed
                self._avoid(host)
        return knock(self._directory, host)

    def _avoid(self, host: str) -> None:
        self._avoided[host] = time.monotonic() + _AVOIDED

    def _myself(self) -> Identity:
        with self._lock:
            if self._identity is None:
                self._identity = self._peers.identity()
            return self._identity


def dialer(app: AppSpec) -> Dial:
    """See `asparkle.plugins.AppSpec.dialer`."""
    return Dialer(app.directories[0])
