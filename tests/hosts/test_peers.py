"""Who connects to a host's file server gets files if it is a host of the same application, and nothing otherwise."""

from __future__ import annotations

import datetime
import os
import random
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from waiting import wait_until

from asparkle.core.bytestream import pack
from asparkle.core.certificates import SKEW, Authority
from asparkle.core.fileclient import Broken, FileConnection, read_ranges
from asparkle.core.fileserver import serve_files
from asparkle.core.peers import PENDING, Identity, PeerServer, connect_peer, name_of

HERE = "127.0.0.1"
SECRET = b"what is served to peers"
AUTHORITY = Authority("app-1")
SERVER, CLIENT = AUTHORITY.identity("n1"), AUTHORITY.identity("user@n2:22")


class Served:
    """A server, and how many connections it took for a peer's."""

    def __init__(self, directory: Path, identity: Identity = SERVER, **options: float) -> None:
        (directory / "data").mkdir(exist_ok=True)
        self.file = directory / "data" / "secret"
        self.file.write_bytes(SECRET)
        self.directory = directory
        self.peers = 0
        self.server = PeerServer(identity, self._serve, address=HERE, **options)
        self.port = self.server.port
        self.request = pack(("read", str(self.file), 0, len(SECRET)))

    def _serve(self, connection: object) -> None:
        self.peers += 1
        serve_files(connection, [str(self.directory)])

    def open(self, identity: Identity = CLIENT, host: str = "n1", port: int | None = None) -> FileConnection:
        return FileConnection(connect_peer(identity, host, (HERE, port or self.port), 30), 30)

    def read(self, *arguments: object) -> bytes:
        """What a peer reads."""
        connection = self.open(*arguments)
        try:
            return bytes(read_ranges(connection, [(str(self.file), 0, len(SECRET))])[0])
        finally:
            connection.close()

    def gives_nothing(self, context: ssl.SSLContext) -> None:
        """To who asks for a file as a peer would."""
        before = self.peers
        with socket.create_connection((HERE, self.port), 30) as raw, suppress(OSError):
            with context.wrap_socket(raw) as connection:
                connection.sendall(self.request)
                assert connection.recv(1000) == b""
        assert self.peers == before
        assert self.read() == SECRET


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.server.close()


def outsider(tmp_path: Path, certificate: str = "", key: str = "") -> ssl.SSLContext:
    """Who believes whatever a server says, and shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate:
        (tmp_path / "shown").write_text(certificate + key)
        context.load_cert_chain(tmp_path / "shown")
    return context


def signed(issuer: x509.Name, by: ec.EllipticCurvePrivateKey, key: ec.EllipticCurvePrivateKey) -> str:
    """A certificate for a host of the application, by somebody."""
    now = datetime.datetime.now(datetime.UTC)
    name = x509.UniformResourceIdentifier(name_of("app-1", "n2"))
    certificate = (
        x509.CertificateBuilder(issuer, issuer, key.public_key(), 1, now - SKEW, now + SKEW)
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .sign(by, hashes.SHA256())
    )
    return pem(certificate)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_of(identity: Identity) -> ec.EllipticCurvePrivateKey:
    return serialization.load_pem_private_key(identity.key.encode(), None)


# ------------------------------------------------------------------------------------------------- peers


def test_peers_read_files(served):
    assert [served.read() for _ in range(3)] == [SECRET] * 3


@pytest.mark.parametrize("host", ["", "n1", "user@n2:22", "a/b", "ä%20", "n1/"])
def test_hosts_of_any_name(tmp_path, host):
    served = Served(tmp_path, AUTHORITY.identity(host))
    assert served.read(CLIENT, host) == SECRET
    served.server.close()


def test_a_peer_is_the_host_that_it_was_taken_for(served):
    with pytest.raises(OSError, match="is host 'n1', not 'n3'"):
        served.read(CLIENT, "n3")


def test_clocks_of_hosts_may_be_off():
    certificate = x509.load_pem_x509_certificate(CLIENT.certificate.encode())
    now = datetime.datetime.now(datetime.UTC)
    assert certificate.not_valid_before_utc <= now - datetime.timedelta(hours=23, minutes=59)
    assert certificate.not_valid_after_utc >= now + datetime.timedelta(days=1)


def test_a_certificate_comes_to_its_end(tmp_path):
    served = Served(tmp_path, AUTHORITY.identity("n1", -2 * SKEW))
    with pytest.raises(OSError, match="expired"):
        served.read()
    served.server.close()
    served = Served(tmp_path, SERVER)
    with pytest.raises((OSError, Broken)):
        served.read(AUTHORITY.identity("n2", -2 * SKEW))
    assert served.read() == SECRET
    served.server.close()


def test_the_key_is_not_shown_and_not_left(tmp_path, monkeypatch):
    assert "PRIVATE" not in repr(CLIENT) and "PRIVATE" not in str((CLIENT,))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    served = Served(tmp_path, AUTHORITY.identity("n1"))
    assert served.read(AUTHORITY.identity("n2")) == SECRET
    served.server.close()
    assert os.listdir(tmp_path / "temporary") == []


def test_closing_ends_all_connections(served):
    connection = served.open()
    connection.size(str(served.file))
    served.server.close()
    with pytest.raises(Broken):
        connection.size(str(served.file))
    connection.close()
    with pytest.raises(OSError):
        served.read()
    served.server = PeerServer(SERVER, print, address=HERE, port=served.port)  # which is free again


def test_too_many_peers(tmp_path):
    """The one that has been idle for longest goes."""
    served = Served(tmp_path, connections=3)
    connections = []
    for _ in range(3):
        connections.append(served.open())
        connections[-1].size(str(served.file))
    for connection in connections[1:]:
        connection.size(str(served.file))
    wait_until(lambda: all(peer.idle_since for peer in served.server._peers))
    assert served.read() == SECRET
    with pytest.raises(Broken):
        connections[0].size(str(served.file))
    for connection in connections[1:]:
        assert connection.size(str(served.file)) == len(SECRET)
    for connection in connections:
        connection.close()
    served.server.close()


@pytest.mark.parametrize("surprised", [False, True])
def test_more_peers_than_there_are_descriptors(tmp_path, surprised):
    """Idle ones go: their number is bounded by what the process may have; and where it is surprised by having none."""
    (tmp_path / "data").mkdir()
    served = Served.__new__(Served)
    served.file = tmp_path / "data" / "secret"
    served.file.write_bytes(SECRET)
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
    made = "print(server.port"
    code = SERVER_ALONE.replace(made, limit + made) if surprised else limit + SERVER_ALONE
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with ExitStack() as stack:
        stack.callback(process.communicate)
        process.stdin.write(f"{tuple(SERVER)!r}\n")
        process.stdin.flush()
        served.port = int(process.stdout.readline())
        for _ in range(80):
            connection = served.open()
            stack.callback(connection.close)
            if not surprised:  # who has none can't open a file, either
                assert connection.size(str(served.file)) == len(SECRET)


# ---------------------------------------------------------------------------------------------- outsiders


def test_no_certificate(served, tmp_path):
    served.gives_nothing(outsider(tmp_path))


@pytest.mark.parametrize("application", ["app-1", "app-2"])
def test_another_applications_key(served, tmp_path, application):
    other = Authority(application).identity("n2")
    served.gives_nothing(outsider(tmp_path, other.certificate, other.key))
    with pytest.raises(OSError, match="verify failed"):
        served.read(other)  # it does not take this one for a peer either


def test_a_certificate_that_names_another_application(served, tmp_path):
    """What one authority would never give."""
    other = Authority("app-2")
    other._key, other.certificate = AUTHORITY._key, AUTHORITY.certificate
    served.gives_nothing(outsider(tmp_path, *other.identity("n2")[3:]))


@pytest.mark.parametrize("by", ["itself", "a host"])
def test_a_certificate_that_is_signed_by(served, tmp_path, by):
    issuer = x509.load_pem_x509_certificate((AUTHORITY.certificate if by == "itself" else CLIENT.certificate).encode())
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = signed(issuer.subject, key if by == "itself" else key_of(CLIENT), key)
    chain = certificate + (CLIENT.certificate if by == "a host" else "")
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    served.gives_nothing(outsider(tmp_path, chain, text))


def test_a_certificate_without_its_key(served, tmp_path):
    key = Authority("app-1").identity("n2").key
    with pytest.raises(ssl.SSLError):
        outsider(tmp_path, CLIENT.certificate, key)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2])
def test_older_versions_of_tls(served, tmp_path, version):
    context = outsider(tmp_path, CLIENT.certificate, CLIENT.key)
    context.maximum_version = version
    served.gives_nothing(context)


def test_a_replayed_handshake(served):
    """All that a peer has sent, byte by byte, over another connection."""
    sent: list[bytes] = []
    relay = socket.create_server((HERE, 0))

    def pass_on(source: socket.socket, target: socket.socket, note: Callable[[bytes], object]) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                note(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def run() -> None:
        ours, _ = relay.accept()
        with ours, socket.create_connection((HERE, served.port)) as theirs:
            back = threading.Thread(target=pass_on, args=(theirs, ours, len))
            back.start()
            pass_on(ours, theirs, sent.append)
            back.join()

    relaying = threading.Thread(target=run)
    relaying.start()
    assert served.read(CLIENT, "n1", relay.getsockname()[1]) == SECRET
    relaying.join()
    relay.close()
    before = served.peers
    for parts in (sent, [b"".join(sent)]):
        with socket.create_connection((HERE, served.port), 30) as connection, suppress(OSError):
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(1 << 16):
                assert SECRET not in data
    assert served.peers == before
    assert served.read() == SECRET


def test_garbage(served):
    """Of many kinds: random bytes, records of TLS with wrong content, a good greeting that is changed or cut off."""
    rng = random.Random(5)
    greeting = client_hello()
    for round in range(400):
        kind = round % 4
        if kind == 0:
            data = rng.randbytes(rng.randrange(2000))
        elif kind == 1:
            body = rng.randbytes(rng.randrange(1, 3000))
            data = bytes([rng.choice([20, 21, 22, 23]), 3, rng.randrange(5)]) + struct.pack(">H", len(body)) + body
        elif kind == 2:
            changed = bytearray(greeting)
            for _ in range(rng.randrange(1, 5)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            data = bytes(changed)
        else:
            data = greeting[: rng.randrange(len(greeting))] + served.request
        with socket.create_connection((HERE, served.port), 30) as connection, suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while got := connection.recv(1 << 16):
                assert SECRET not in got
    assert served.peers == 0
    assert served.read() == SECRET


def client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def test_a_length_of_4_gb(served):
    """From an outsider, and, in a connection of its own, from a peer."""
    with socket.create_connection((HERE, served.port), 30) as connection, suppress(OSError):
        connection.sendall(struct.pack("<I", 0xFFFFFFFF) + bytes(100_000))
        connection.shutdown(socket.SHUT_WR)
        assert SECRET not in connection.recv(1000)
    peer = connect_peer(CLIENT, "n1", (HERE, served.port), 30)
    peer.settimeout(30)
    with suppress(OSError):
        peer.sendall(struct.pack("<I", 0xFFFFFFFF) + bytes(100_000))
        assert not peer.recv_into(memoryview(bytearray(1000)))
    peer.close()
    assert served.read() == SECRET


def test_who_says_nothing_is_dropped(tmp_path):
    served = Served(tmp_path, deadline=0.05)
    greeting = client_hello()
    for data in (b"", greeting[:10], greeting):
        with socket.create_connection((HERE, served.port), 30) as connection:
            connection.sendall(data)
            with suppress(OSError):
                while connection.recv(1 << 16):
                    continue  # the server's part of the handshake; then the end
    assert served.peers == 0
    served.server.close()


def test_slow_ones_do_not_keep_peers_out(served):
    """However many send a byte now and then: there is room for a peer, whose handshake takes a moment."""
    greeting = client_hello()
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection((HERE, served.port), 30)) for _ in range(3 * PENDING)]
        for i in range(5):
            for connection in slow:
                with suppress(OSError):
                    connection.sendall(greeting[i : i + 1])
            assert served.read() == SECRET
        assert len(served.server._pending) <= PENDING


SERVER_ALONE = """
import sys
from asparkle.core.fileserver import serve_files
from asparkle.core.peers import Identity, PeerServer
import ast
identity, directory = Identity(*ast.literal_eval(sys.stdin.readline())), sys.argv[1]
server = PeerServer(identity, lambda connection: serve_files(connection, [directory]), address="127.0.0.1")
print(server.port, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_thousands_of_connections(tmp_path):
    """Memory, threads and descriptors of the server are bounded, and a peer is served all the while."""
    (tmp_path / "data").mkdir()
    served = Served.__new__(Served)
    served.file = tmp_path / "data" / "secret"
    served.file.write_bytes(SECRET)
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER_ALONE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        process.stdin.write(f"{tuple(SERVER)!r}\n")
        process.stdin.flush()
        served.port = int(process.stdout.readline())
        assert served.read() == SECRET
        before = usage(process.pid)
        greeting = client_hello()
        for _ in range(10):
            with ExitStack() as stack:
                for _ in range(300):
                    connection = stack.enter_context(socket.create_connection((HERE, served.port), 30))
                    with suppress(OSError):
                        connection.sendall(greeting)
                assert served.read() == SECRET
                during = usage(process.pid)
                assert during["fds"] <= before["fds"] + PENDING + 5
                assert during["Threads"] <= before["Threads"] + 2
                assert during["VmRSS"] <= before["VmRSS"] + 60_000  # kB
        assert served.read() == SECRET
    finally:
        process.communicate()


def usage(pid: int) -> dict[str, int]:
    status = Path(f"/proc/{pid}/status").read_text()
    found = {name: int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("VmRSS", "Threads")}
    return {**found, "fds": len(os.listdir(f"/proc/{pid}/fd"))}
