"""How a worker on a node reaches the file servers of other hosts.

Directly where the network lets it: by TLS, with keys that the agent was handed over ssh.  Otherwise through the agent's
socket: the agent, the driver and the other node's agent carry the bytes, inside ssh.
"""

from __future__ import annotations

import os
import socket

from asparkle.plugins import AppSpec, Connection, Dial

RELAYED = "driver"  # the route through the driver, as events call it
_LONGEST = 100  # bytes of a socket's path


def door_of(directory: str) -> str:
    """Where the agent of an application with this directory listens."""
    return os.path.join(directory, "door")


class RelayedSocket(socket.socket):
    """A connection that leads through the driver."""

    route = RELAYED


def knock(directory: str, host: str) -> Connection:
    """A connection to the file server of ``host``, through the driver.  Whether it can be reached shows only then."""
    connection = RelayedSocket(socket.AF_UNIX)
    try:
        with reachable(door_of(directory)) as path:
            connection.connect(path)
        name = host.encode()
        connection.sendall(bytes([len(name)]) + name)
    except BaseException:
        connection.close()
        raise
    return connection


class reachable:
    """A path at which a Unix socket can be bound or connected to, however long its own is."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= _LONGEST:
            return self._path
        directory, name = os.path.split(self._path)
        self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{name}"

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def dialer(app: AppSpec) -> Dial:
    """See `asparkle.plugins.AppSpec.dialer`."""

    def dial(host: str) -> Connection:
        return knock(app.directories[0], host)

    return dial
