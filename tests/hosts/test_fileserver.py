"""What a file server gives to whoever may ask it, and what it does not."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asparkle.core.bytestream import pack
from asparkle.core.fileclient import Broken, FileConnection, read_ranges
from asparkle.core.fileserver import REQUEST_BYTES, serve_files


class Served:
    def __init__(self, directories: list[str], idle: float = 60) -> None:
        self.socket, theirs = socket.socketpair()
        self.thread = threading.Thread(
            target=serve_files, args=(theirs, directories), kwargs={"idle": idle}, daemon=True
        )
        self.thread.start()
        self.connection = FileConnection(self.socket, 30)

    def read(self, path: object, offset: int, count: int) -> bytes:
        (view,) = read_ranges(self.connection, [(str(path), offset, offset + count)])
        return bytes(view)

    def ended(self) -> bool:
        self.thread.join(30)
        return not self.thread.is_alive()


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An application's directory, with something to read, and something beside it that is nobody's business."""
    for part in ("app/data", "app/results", "app/blocks/deep", "app-2/data", "outside"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "app" / "data" / "17").write_bytes(bytes(range(256)) * 4000)
    (tmp_path / "app" / "lock").write_text("the driver's")
    for place in ("outside", "app-2/data"):
        (tmp_path / place / "secret").write_text("secret")
    return tmp_path / "app"


@pytest.fixture
def served(app: Path) -> Served:
    return Served([str(app)])


def test_any_part_of_a_file(served, app):
    data = bytes(range(256)) * 4000
    for offset, count in ((0, 10), (1, 1000), (0, len(data)), (500_001, 300_000), (len(data) - 1, 1), (len(data), 0)):
        assert served.read(app / "data" / "17", offset, count) == data[offset : offset + count]
    assert served.connection.size(str(app / "data" / "17")) == len(data)


def test_what_is_behind_the_end_of_a_file(served, app):
    with pytest.raises(OSError, match="has 6 bytes fewer than were asked for"):
        served.read(app / "data" / "17", 1_024_000 - 4, 10)
    with pytest.raises(OSError, match="10 bytes fewer"):
        served.read(app / "data" / "17", 1 << 62, 10)
    assert served.read(app / "data" / "17", 0, 2) == b"\0\1"


def test_many_requests_at_once(served, app):
    data = bytes(range(256)) * 4000
    rng = random.Random(3)
    starts = [rng.randrange(len(data) - 9000) for _ in range(500)]
    ranges = [(str(app / "data" / "17"), start, start + rng.randrange(9000)) for start in starts]
    assert [bytes(view) for view in read_ranges(served.connection, ranges)] == [data[a:b] for _, a, b in ranges]


def test_one_of_many_that_is_gone(served, app):
    ranges = [(str(app / "data" / name), 0, 4) for name in ("17", "18", "17")]
    with pytest.raises(FileNotFoundError, match="18: it is gone"):
        read_ranges(served.connection, ranges)
    assert served.read(app / "data" / "17", 0, 2) == b"\0\1"  # the answers to come are the right ones


def test_removing(served, app):
    (app / "results" / "5").write_text("a result")
    served.connection.remove(str(app / "results" / "5"))
    assert os.listdir(app / "results") == []
    with pytest.raises(FileNotFoundError, match="it is gone"):
        served.connection.remove(str(app / "results" / "5"))


@pytest.mark.parametrize("path", ["data/17", "lock", "results", "results/..", "results/../data/17", "results/deep/1"])
def test_what_may_not_be_removed(served, app, path):
    (app / "results" / "deep").mkdir()
    (app / "results" / "deep" / "1").write_text("not a result")
    with pytest.raises(PermissionError):
        served.connection.remove(f"{app}/{path}")
    assert (app / "data" / "17").exists() and (app / "lock").exists() and (app / "results" / "deep" / "1").exists()


@pytest.mark.parametrize(
    "path",
    [
        "{root}/outside/secret",
        "{app}/../outside/secret",
        "{app}/data/../../outside/secret",
        "{app}/data/./17",
        "{app}/data//17",
        "{app}//data/17",
        "{app}-2/data/secret",
        "{app}/lock",  # beside the directories, where the lock is, and perhaps keys
        "{app}",
        "{app}/",
        "{app}/data",
        "{app}/data/",
        "{app}/blocks/deep",
        "data/17",
        "/etc/passwd",
        "",
        "/",
        "{app}/data/17\0",
        "{app}/data/\0",
        "~/data",
        "{app}/data/" + "x" * 300,
    ],
)
def test_what_is_not_served(served, app, path):
    path = path.format(root=app.parent, app=app)
    for ask in (lambda: served.read(path, 0, 6), lambda: served.connection.size(path)):
        with pytest.raises(PermissionError):
            ask()
    assert served.read(app / "data" / "17", 0, 2) == b"\0\1"


@pytest.mark.parametrize("kind", ["a link to a file", "a link to a directory", "a pipe", "a socket", "a link inside"])
def test_what_is_no_file_of_the_applications(served, app, kind):
    path = app / "data" / "entry"
    if kind == "a link to a file":
        path.symlink_to(app.parent / "outside" / "secret")
    elif kind == "a link inside":
        path.symlink_to(app / "data" / "17")
    elif kind == "a link to a directory":
        path.symlink_to(app.parent / "outside")
        path = path / "secret"
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    with pytest.raises(PermissionError):
        served.read(path, 0, 6)
    assert served.read(app / "data" / "17", 0, 2) == b"\0\1"


def test_a_directory_that_was_removed(served, app):
    import shutil

    shutil.rmtree(app)
    with pytest.raises(FileNotFoundError):
        served.read(app / "data" / "17", 0, 2)


def test_a_file_that_is_cut_off_while_it_is_read(served, app):
    (app / "data" / "long").write_bytes(bytes(50 << 20))
    served.connection.ask([("read", str(app / "data" / "long"), 0, 50 << 20)])
    assert served.connection.answer("long", 50 << 20) == 50 << 20
    os.truncate(app / "data" / "long", 1000)
    with pytest.raises(Broken):
        served.connection.receive(memoryview(bytearray(50 << 20)))
    assert served.ended()


@pytest.mark.parametrize(
    "asked",
    [
        None,
        [],
        ["read"],
        ["read", "x"],
        ["read", "x", 0],
        ["read", "x", 0, -1],
        ["read", "x", -1, 5],
        ["read", "x", 1 << 63, 5],
        ["read", "x", "0", 5],
        ["read", 5, 0, 5],
        ["read", b"x", 0, 5],
        ["read", "x", 0, 5, 6],
        ["write", "x", 0, b"data"],
        ["remove", None],
        {"read": "x"},
        {(): 1},
        "read",
        5,
        1.5,
        msgpack.Timestamp(1, 2),
        msgpack.ExtType(5, b"x"),
    ],
    ids=str,
)
def test_what_is_no_request_ends_the_connection(served, asked):
    served.socket.sendall(pack(asked))
    assert served.socket.recv(100) == b""
    assert served.ended()


@pytest.mark.parametrize("length", [REQUEST_BYTES + 1, 1 << 31, 0xFFFFFFFF])
def test_a_request_of_any_length(served, length):
    """It ends the connection before it has come, and is kept nowhere."""
    served.socket.sendall(struct.pack("<I", length) + b"x")
    assert served.socket.recv(100) == b""
    assert served.ended()


def test_who_asks_for_nothing(app):
    served = Served([str(app)], idle=0.01)
    assert served.ended()
    assert served.socket.recv(100) == b""


def test_who_takes_nothing(app):
    (app / "data" / "long").write_bytes(bytes(50 << 20))
    served = Served([str(app)], idle=0.05)
    served.connection.ask([("read", str(app / "data" / "long"), 0, 50 << 20)])
    assert served.ended()


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 63) | st.floats() | st.text() | st.binary(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=200) | plain.map(pack) | plain.map(lambda x: pack(["read", x, x, x])), max_size=6))
def test_anything_at_all(parts):
    """Comes to an end, gives nothing of the file system, and hurts nobody."""
    served = Served([os.path.dirname(__file__)])
    try:
        for part in parts:
            served.socket.sendall(part)
        served.socket.shutdown(socket.SHUT_WR)
        got = b""
        while data := served.socket.recv(1 << 16):
            got += data
        assert len(got) < 2000
    except OSError:
        pass
    assert served.ended()
    served.socket.close()
