"""What `asparkle cluster check` asks an agent about its node; the agent imports this when it is asked.

Bandwidth is measured by what carries map outputs: a file below the application's directory, read over a connection to
its host's file server.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

from asparkle.backends.ssh.dialing import CONNECTING, Peers, knock
from asparkle.plugins import AppSpec, Connection, HostFiles, connect_peer

SIZE: Final = 1 << 20  # of the file; it is read again and again
_FIRST: Final = 1 << 16  # bytes that are read first, then twice as many
_SILENCE: Final = 5.0  # seconds without a byte, after which a transfer has failed


def probe_file(directory: str) -> str:
    """Where the file is, in an application's directory."""
    return os.path.join(directory, "data", "probe")


def room(app: AppSpec) -> int:
    """Bytes that are free where this host's files go, after the file was written there.  Raises OSError."""
    path = probe_file(app.directories[0])
    with open(path, "wb") as file:
        file.write(os.urandom(SIZE))  # so that nothing on the way compresses it
        file.flush()
        os.fsync(file.fileno())
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def reach(app: AppSpec, host: str, address: tuple[str, int]) -> str:
    """Why this node can't connect to another one directly; empty if it can."""
    try:
        connect_peer(Peers(app.directories[0]).identity(), host, address, CONNECTING).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def fetch(app: AppSpec, host: str, address: tuple[str, int] | None, path: str, most: int, seconds: float) -> float:
    """The bandwidth from another host, connected to directly at ``address``, or through the driver; see `bandwidth`."""
    if address is None:
        return bandwidth(app, lambda name: knock(app.directories[0], name), host, path, most, seconds)
    identity = Peers(app.directories[0]).identity()
    return bandwidth(app, lambda name: connect_peer(identity, name, address, CONNECTING), host, path, most, seconds)


def bandwidth(
    app: AppSpec, dial: Callable[[str], Connection], host: str, path: str, most: int, seconds: float
) -> float:
    """Bytes per second at which another host's file is read.

    That of the last of several transfers, each of which is twice as long as the one before: until they have taken so
    many seconds, or are of ``most`` bytes.  Raises OSError.
    """
    files = HostFiles(app._replace(network_timeout=_SILENCE), dial)
    try:
        files.read(host, [(path, 0, 1)])  # connects
        began, count = time.monotonic(), _FIRST
        while True:
            before = time.monotonic()
            files.read(host, [(path, 0, min(count, SIZE))] * max(1, count // SIZE))
            now = time.monotonic()
            if now - began >= seconds or 2 * count > most:
                return count / (now - before)
            count *= 2
    finally:
        files.close()


QUESTIONS: Final[dict[str, Callable[..., Any]]] = {"room": room, "reach": reach, "fetch": fetch}
"""By their names; called with the application and what else was sent."""
