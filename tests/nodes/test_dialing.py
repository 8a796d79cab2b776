"""How a worker reaches other nodes' file servers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from asparkle.backends.ssh import dialing
from asparkle.backends.ssh.dialing import RELAYED, Dialer, Peers, door_of
from asparkle.plugins import Authority, Connection, HostFiles, PeerServer, serve_files
from asparkle.testing import sample_app

pytest.importorskip("cryptography")


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The directory of another node's application, with a file in it."""
    (tmp_path / "there" / "data").mkdir(parents=True)
    (tmp_path / "there" / "data" / "file").write_bytes(b"what is there")
    return tmp_path / "there"


@pytest.fixture
def here(tmp_path: Path, there: Path) -> Iterator[Path]:
    """This node's: who knocks is led to the other node."""
    (tmp_path / "here").mkdir()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(door_of(str(tmp_path / "here")))
        door.listen()

        def answer() -> None:
            while True:
                try:
                    connection, _ = door.accept()
                except OSError:
                    return
                assert connection.recv(connection.recv(1)[0]) == b"there"
                serve_files(connection, [str(there)])

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield tmp_path / "here"
        door.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_direct_connection_on_which_nothing_comes_is_left_for_the_way_through_the_driver(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialing, "_SILENT", 0.1)
    monkeypatch.setattr(dialing, "_LOOKING", 0.05)
    over = threading.Event()
    connected = []

    def say_nothing(connection: Connection) -> None:
        connected.append(connection)
        over.wait()

    authority = Authority("application")
    server = PeerServer(authority.identity("there"), say_nothing, address="127.0.0.1")
    try:
        peers = Peers(str(here))
        peers.introduce(authority.identity("here"))
        peers.write({"there": ("127.0.0.1", server.port)})
        app = sample_app([str(here)])._replace(host="here", network_timeout=30.0)
        files = HostFiles(app, Dialer(str(here)))
        for _ in range(2):  # and is not tried again at once
            (found,) = files.read("there", [(str(there / "data" / "file"), 5, 13)])
            assert bytes(found) == b"is there"
        assert len(connected) == 1
        assert [route for _, route, _ in files.fetched()] == [RELAYED]
        files.close()
    finally:
        over.set()
        server.close()
