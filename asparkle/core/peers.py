"""Connections between hosts of one application over a network that anybody may listen to, and write to.

TLS 1.3, by Python's own ``ssl``; each side shows a certificate that names the application and its host, of an
authority that was made for this application alone (`certificates`), and checks the other's.  Nothing else is looked at
before: whoever has no such key gets nothing but the server's certificate.  There is no resumption and no early data, so
what was recorded of one connection is of no use for another.

A `PeerServer` holds a bounded number of connections.  Those that have not said who they are have a deadline, and when
there are too many, the oldest goes: a peer is through in a moment, whoever else may knock.  Of the others, when there
are too many, the one that has been idle for the longest time goes; its other end connects anew when it needs to.
"""

from __future__ import annotations

import resource
import selectors
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote

from asparkle.core.contracts import Buffer, Connection
from asparkle.core.logs import log
from asparkle.core.namedtuple import NamedTuple

PENDING: Final = 64  # connections that have not said who they are
CONNECTIONS: Final = 1024  # of peers
DEADLINE: Final = 10.0  # seconds in which a peer says who it is
_ACCEPTED: Final = 16  # at once, before those that wait have their turn
_FULL: Final = 0.05  # seconds until descriptors are tried for again, when there are none


class Identity(NamedTuple):
    """What a host shows to others and knows them by: the texts of PEM files.  Who has it is taken for this host."""

    application: str
    host: str
    authority: str  # a certificate
    certificate: str
    key: str

    def __repr__(self) -> str:
        return f"<Identity of host {self.host!r}>"  # the key is nobody's business


def name_of(application: str, host: str) -> str:
    """How a certificate calls a host: a URI."""
    return f"asparkle://{quote(application, safe='')}/{quote(host, safe='')}"


class PeerConnection:
    """A `Connection` to an authenticated peer."""

    route = "direct"

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._socket = connection
        self.idle_since: float | None = None  # while the other side is waited for

    def sendall(self, data: Buffer, /) -> None:
        self._socket.sendall(data)

    def recv_into(self, buffer: memoryview, /) -> int:
        self.idle_since = time.monotonic()
        try:
            return self._socket.recv_into(buffer)
        finally:
            self.idle_since = None

    def settimeout(self, seconds: float, /) -> None:
        self._socket.settimeout(seconds)

    def shutdown(self, how: int, /) -> None:
        socket.socket.shutdown(self._socket, how)  # not the TLS layer's, which another thread may be in

    def close(self) -> None:
        self._socket.close()


def connect_peer(identity: Identity, host: str, address: tuple[str, int], timeout: float = DEADLINE) -> PeerConnection:
    """A connection to the `PeerServer` of ``host``, at a name or number and a port.

    Raises OSError where it can't be reached in time, or is not that host of this application.
    """
    raw = socket.create_connection(address, timeout)
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _client_context(identity).wrap_socket(raw)
    except BaseException:
        raw.close()
        raise
    found = _peer(connection, identity.application)
    if found != host:
        connection.close()
        raise OSError(f"at {address[0]}:{address[1]} is host {found!r}, not {host!r}")
    return PeerConnection(connection)


def _peer(connection: ssl.SSLSocket, application: str) -> str | None:
    """The host that the other side is, by its certificate, which is the authority's; None if it is of no host."""
    certificate: Any = connection.getpeercert() or {}
    names = certificate.get("subjectAltName", ())
    prefix = name_of(application, "")
    hosts = [str(name)[len(prefix) :] for kind, name in names if kind == "URI" and str(name).startswith(prefix)]
    return unquote(hosts[0]) if len(hosts) == 1 else None


@lru_cache(8)
def _client_context(identity: Identity) -> ssl.SSLContext:
    context = _context(ssl.PROTOCOL_TLS_CLIENT, identity)
    context.check_hostname = False  # by its own name of hosts: see `_peer`
    return context


def _context(protocol: int, identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=identity.authority)
    with tempfile.NamedTemporaryFile("w", prefix="asparkle-") as file:  # its owner's alone; ssl reads files only
        file.write(identity.certificate + identity.key)
        file.flush()
        context.load_cert_chain(file.name)
    return context


class PeerServer:
    """Listens, and calls ``serve`` with the connection of each peer, in a thread of its own, until that returns.

    ``address``: of this machine, a name or number; all of them unless given.  ``port``: any that is free unless given;
    `port` says which it is.  Raises OSError where that can't be listened to.
    """

    def __init__(
        self,
        identity: Identity,
        serve: Callable[[Connection], object],
        *,
        address: str = "",
        port: int = 0,
        connections: int = CONNECTIONS,
        deadline: float = DEADLINE,
    ) -> None:
        self._identity = identity
        self._serve = serve
        self._most = min(connections, descriptors() // 4)  # each may have files open
        self._deadline = deadline
        self._context = self._server_context(identity)
        self._lock = threading.Lock()
        self._peers: set[PeerConnection] = set()
        self._pending: dict[ssl.SSLSocket, float] = {}  # until when, the oldest first
        self._closed = False
        log()  # imported now: once there are no descriptors left, nothing can be
        everywhere = not address and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if everywhere or ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, port), family=family, dualstack_ipv6=everywhere, backlog=128)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._waker, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="asparkle-peers", daemon=True)
        self._thread.start()

    @staticmethod
    def _server_context(identity: Identity) -> ssl.SSLContext:
        context = _context(ssl.PROTOCOL_TLS_SERVER, identity)
        context.num_tickets = 0
        return context

    def close(self) -> None:
        """Listen no more, and end all connections; returns when what served them has been told."""
        self._closed = True
        self._waker.send(b"x")
        self._thread.join()
        self._waker.close()

    # ------------------------------------------------------------------------- the one thread that listens

    def _run(self) -> None:
        try:
            while not self._closed:
                first = next(iter(self._pending.values()), None)
                for key, _ in self._selector.select(None if first is None else max(0.0, first - time.monotonic())):
                    if key.fileobj is self._listener:
                        self._accept()
                    elif isinstance(key.fileobj, ssl.SSLSocket):
                        self._go_on(key.fileobj)
                self._drop_late()
        finally:
            self._end()

    def _accept(self) -> None:
        for _ in range(_ACCEPTED):
            try:
                raw, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # of who is gone again; or there are no descriptors left
                log().warning("a connection could not be accepted", error=error.strerror)
                with self._lock:
                    ended = self._end_idle()
                if not ended:
                    self._drop_oldest()
                time.sleep(_FULL)
                return
            try:
                raw.setblocking(False)
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = self._context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
            except OSError:
                raw.close()
                continue
            if len(self._pending) >= PENDING:
                self._drop_oldest()
            self._pending[connection] = time.monotonic() + self._deadline
            self._selector.register(connection, selectors.EVENT_READ)

    def _go_on(self, connection: ssl.SSLSocket) -> None:
        """The other side has said more."""
        if connection not in self._pending:
            return  # dropped in this turn
        try:
            connection.do_handshake()
        except ssl.SSLWantReadError:
            self._selector.modify(connection, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._selector.modify(connection, selectors.EVENT_WRITE)
        except (OSError, ValueError):
            self._drop(connection)
        else:
            if _peer(connection, self._identity.application) is None:
                self._drop(connection)
                return
            self._selector.unregister(connection)
            del self._pending[connection]
            self._admit(connection)

    def _drop_late(self) -> None:
        now = time.monotonic()
        while self._pending and next(iter(self._pending.values())) <= now:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        if self._pending:
            self._drop(next(iter(self._pending)))

    def _drop(self, connection: ssl.SSLSocket) -> None:
        del self._pending[connection]
        self._selector.unregister(connection)
        connection.close()

    def _admit(self, connection: ssl.SSLSocket) -> None:
        connection.setblocking(True)
        peer = PeerConnection(connection)
        with self._lock:
            if len(self._peers) >= self._most and not self._end_idle():
                connection.close()
                return
            self._peers.add(peer)
        try:
            threading.Thread(target=self._serve_peer, args=(peer,), name="asparkle-peer", daemon=True).start()
        except RuntimeError:  # there are no threads to be had
            self._forget(peer)

    def _end_idle(self) -> bool:
        """End the connection that has been idle for the longest time; says whether there was one."""
        idle = {peer: since for peer in self._peers if (since := peer.idle_since) is not None}
        if not idle:
            return False
        longest = min(idle, key=lambda peer: idle[peer])
        self._peers.discard(longest)
        _end(longest)
        return True

    def _serve_peer(self, peer: PeerConnection) -> None:
        try:
            self._serve(peer)
        finally:
            self._forget(peer)

    def _forget(self, peer: PeerConnection) -> None:
        with self._lock:
            self._peers.discard(peer)
        peer.close()

    def _end(self) -> None:
        self._selector.close()
        for connection in self._pending:
            connection.close()
        for listening in (self._listener, self._woken):
            listening.close()
        with self._lock:
            for peer in self._peers:
                _end(peer)


def descriptors() -> int:
    """How many this process may have."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return most if most != resource.RLIM_INFINITY else sys.maxsize


def _end(peer: PeerConnection) -> None:
    with suppress(OSError):
        peer.shutdown(socket.SHUT_RDWR)
