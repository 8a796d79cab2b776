"""What a process sees of other hosts' files: as if they were its own, or an error that says why not."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from apart import Wrong

from asparkle.core import fileserver
from asparkle.core.errors import CorruptBlock, HostUnreachable, StorageError
from asparkle.core.fileserver import Copies
from asparkle.core.hostfiles import HostFiles
from asparkle.core.protocol import FileRef
from hosts.serving import Hosts

DATA = random.Random(1).randbytes(5 << 20)


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path, "n1", "n2")


@pytest.fixture
def ref(hosts: Hosts) -> FileRef:
    return FileRef(hosts.write("n1", "results/1", DATA), len(DATA), "n1")


# ------------------------------------------------------------------------------------------- what is there


@pytest.mark.parametrize("size", [0, 1, 1000, 1 << 20, len(DATA)])
@pytest.mark.parametrize("host", ["", "n1", "n2"])
def test_a_file_of_any_host(hosts, host, size):
    ref = FileRef(hosts.write("n1", "results/1", DATA[:size]), size, "n1")
    assert hosts.files(host).map(ref) == DATA[:size]


def test_what_is_mapped_is_the_readers_own(hosts, ref):
    for host in ("n1", "n2"):
        files = hosts.files(host)
        first, second = files.map(ref), files.map(ref)
        first[:4] = b"mine"
        assert second == DATA
        files.remove(ref._replace(path=ref.path + "0"))  # it is no error that there is no such file
        assert first[4:] == DATA[4:]


def test_one_connection_is_kept(hosts, ref):
    files = hosts.files("n2")
    for _ in range(3):
        files.map(ref)
    assert hosts.dials == ["n1"]
    with ThreadPoolExecutor(8) as threads:
        assert all(view == DATA for view in threads.map(files.map, [ref] * 32))
    assert len(hosts.dials) <= 33
    assert list(files.client._idle) == ["n1"]
    files.close()


def test_a_file_is_brought_here_and_removed_there(hosts, ref):
    there = ref.path
    here = str(hosts.directory("n2") / "results" / "1")
    found = hosts.files("n2").bring(ref, here)
    assert found == FileRef(here, len(DATA), "n2")
    assert Path(here).read_bytes() == DATA and not os.path.exists(there)
    assert os.stat(here).st_mode & 0o077 == 0


def test_whether_a_file_may_be_there(hosts, ref):
    assert hosts.files("n1").may_exist("n1", ref.path)
    assert not hosts.files("n1").may_exist("n1", ref.path + "0")
    files = hosts.files("n2")
    assert files.may_exist("n1", ref.path) and files.may_exist("n1", ref.path + "0")
    assert hosts.dials == []  # who has lost nothing is not asked
    with pytest.raises(CorruptBlock):
        files.map(ref._replace(path=ref.path + "0"))
    assert files.may_exist("n1", ref.path)
    assert not files.may_exist("n1", ref.path + "0") and not files.may_exist("n1", ref.path + "1")


def test_a_host_that_came_back_has_none_of_its_old_files(hosts, ref):
    files = hosts.files("n2")
    before = str(hosts.root / "n1-before" / "results" / "1")
    assert files.may_exist("n1", before)
    with pytest.raises(PermissionError):
        files.read("n1", [(before, 0, 1)])
    assert not files.may_exist("n1", before) and files.may_exist("n1", ref.path)


def test_a_host_without_descriptors_has_not_lost_its_files(hosts, ref, monkeypatch):
    def none_left(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    files = hosts.files("n2")
    files.client.doubt("n1")
    with monkeypatch.context() as patched:
        patched.setattr(fileserver.os, "open", none_left)
        assert files.may_exist("n1", ref.path)
    assert files.may_exist("n1", ref.path) and not files.may_exist("n1", ref.path + "0")


@pytest.mark.parametrize("host", ["n1", "n2"])
def test_a_file_that_is_gone_or_not_as_long_as_it_was(hosts, ref, host):
    files = hosts.files(host)
    with pytest.raises(CorruptBlock, match=f"has {len(DATA)} bytes, {len(DATA) + 1} were written"):
        files.map(ref._replace(length=len(DATA) + 1))
    os.unlink(ref.path)
    with pytest.raises(CorruptBlock, match="is gone"):
        files.map(ref)
    if host == "n2":
        here = str(hosts.directory("n2") / "results" / "1")
        with pytest.raises(CorruptBlock, match="is gone"):
            files.bring(ref, here)
        assert not os.path.exists(here)


def test_no_room_for_what_is_brought(hosts, ref):
    with pytest.raises(StorageError, match="No such file or directory"):
        hosts.files("n2").bring(ref, str(hosts.directory("n2") / "nowhere" / "1"))
    assert os.path.exists(ref.path)


def test_what_comes_is_counted(hosts, ref):
    files = hosts.files("n2")
    for _ in range(2):
        files.map(ref)
    files.read("n1", [(ref.path, 0, 100)])
    files.map(FileRef(hosts.write("", "data/1", b"abc"), 3))
    files.map(FileRef(hosts.write("n2", "data/1", b"own"), 3, "n2"))
    assert files.fetched() == [("n1", "direct", 2 * len(DATA) + 100), ("", "direct", 3)]
    assert files.fetched() == ()


# ----------------------------------------------------------------------------------- what can go wrong there


def test_a_connection_that_was_closed_is_made_anew(hosts, ref):
    files = hosts.files("n2")
    files.map(ref)
    for connection in files.client._idle.values():
        connection.end()
    assert files.map(ref) == DATA
    assert hosts.dials == ["n1", "n1"]


def cut_at(position: int, times: int = 1):
    """Answers end after so many bytes, for the first connections."""
    left = [times]

    def wrap(connection: object) -> object:
        sent = 0

        def change(data: bytes) -> bytes:
            nonlocal sent
            sent += len(data)
            return data if sent < position else data[: max(0, position - sent)]

        left[0] -= 1
        return Wrong(connection, change) if left[0] >= 0 else connection

    return wrap


@pytest.mark.parametrize("position", [1, 9, 10, 1 << 20, len(DATA) - 5])
def test_a_transfer_that_is_cut_off_goes_on(hosts, ref, position):
    hosts.wrap["n1"] = cut_at(position)
    files = hosts.files("n2")
    assert files.map(ref) == DATA
    assert hosts.dials == ["n1", "n1"]
    assert not files.client.lost("n1")


def test_a_host_that_cuts_off_every_time(hosts, ref):
    hosts.wrap["n1"] = cut_at(1000, times=99)
    files = hosts.files("n2")
    with pytest.raises(HostUnreachable, match="host 'n1' can't be reached: the connection was closed"):
        files.map(ref)
    assert hosts.dials == ["n1", "n1"]


def test_a_host_that_is_not_there(hosts, ref):
    hosts.down.add("n1")
    files = hosts.files("n2")
    with pytest.raises(HostUnreachable, match="the files of host 'n1' can't be reached: nobody listens") as raised:
        files.map(ref)
    assert raised.value.host == "n1" and isinstance(raised.value, OSError)
    assert not any(files.may_exist("n1", ref.path) for _ in range(5))
    assert hosts.dials == ["n1"]  # for whether a file is there, it is not tried again for a while
    hosts.down.clear()
    assert not files.may_exist("n1", ref.path)
    assert files.map(ref) == DATA  # a file that is needed, though
    assert files.may_exist("n1", ref.path)


@pytest.mark.parametrize("after", [0, 1000])
def test_a_host_that_says_nothing(tmp_path, after):
    hosts = Hosts(tmp_path, "n1", timeout=0.1)
    ref = FileRef(hosts.write("n1", "results/1", DATA), len(DATA), "n1")
    hosts.wrap["n1"] = lambda connection: Stalling(connection, after)
    with pytest.raises(HostUnreachable, match="timed out"):
        hosts.files("").map(ref)
    assert hosts.dials == ["n1"]


class Stalling(Wrong):
    def __init__(self, connection: object, after: int) -> None:
        super().__init__(connection, lambda data: data)
        self._after = after

    def sendall(self, data: bytes) -> None:
        self._connection.sendall(bytes(data)[: self._after])
        self._ended.wait()


@pytest.mark.parametrize("answer", [b"\xff" * 9, b"\x00" + b"\xff" * 8, b"\x01" + b"\xff" * 8, b"\x05" + bytes(8)])
def test_what_is_no_answer(hosts, ref, answer):
    """A length of any size is not believed."""
    hosts.wrap["n1"] = lambda connection: Wrong(connection, lambda data: answer + data[9:])
    with pytest.raises(HostUnreachable, match="what came is no answer of a file server"):
        hosts.files("n2").map(ref)


def test_the_driver_is_called_so(hosts):
    hosts.down.add("")
    with pytest.raises(HostUnreachable, match="the files of the driver can't be reached"):
        hosts.files("n1").map(FileRef("/x", 1))


def test_no_way_to_other_hosts(hosts, ref):
    app = hosts.app("n2")._replace(dialer="")
    with pytest.raises(HostUnreachable, match="this process has no way to other hosts' files"):
        HostFiles(app).map(ref)


def test_closing_wakes_who_waits(hosts, ref):
    waiting = threading.Event()

    def change(data: bytes) -> None:
        waiting.set()

    hosts.wrap["n1"] = lambda connection: Wrong(connection, change)
    files = hosts.files("n2")
    errors = []

    def read() -> None:
        try:
            files.map(ref)
        except HostUnreachable as error:
            errors.append(str(error))

    thread = threading.Thread(target=read)
    thread.start()
    assert waiting.wait(30)
    files.close()
    thread.join(30)
    assert len(errors) == 1 and "the context was stopped" in errors[0]


# ---------------------------------------------------------------------------- once for all processes of a host


def test_a_copy_is_kept_for_all_of_a_host(hosts):
    ref = FileRef(hosts.write("", "data/broadcast-3", DATA), len(DATA))
    files, other = hosts.files("n1"), hosts.files("n1")
    assert files.keep(ref) == DATA
    os.unlink(ref.path)
    assert other.keep(ref) == files.keep(ref) == DATA
    assert hosts.dials == [""]
    assert os.listdir(hosts.directory("n1") / "data") == ["broadcast-3"]
    view = files.keep(ref)
    other.drop("broadcast-3")
    other.drop(ref.path)  # twice is no error
    assert os.listdir(hosts.directory("n1") / "data") == []
    assert view == DATA
    with pytest.raises(CorruptBlock, match="is gone"):
        files.keep(ref)


def test_the_drivers_own_is_no_copy(hosts):
    ref = FileRef(hosts.write("", "data/broadcast-3", DATA), len(DATA))
    hosts.files("").drop("broadcast-3")
    assert hosts.files("").keep(ref) == DATA
    assert hosts.dials == []


def test_many_who_want_it_at_once_fetch_it_once(hosts):
    ref = FileRef(hosts.write("", "data/7", DATA), len(DATA))
    many = [hosts.files("n1") for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        assert all(view == DATA for view in threads.map(lambda files: files.keep(ref), many))
    assert hosts.dials == [""]


def test_a_copy_that_was_dropped_while_it_was_fetched(hosts):
    ref = FileRef(hosts.write("", "data/7", DATA), len(DATA))
    many = [hosts.files("n1") for _ in range(4)]

    def work(files: object) -> bool:
        for _ in range(50):
            if files.keep(ref) != DATA:
                return False
            files.drop("7")
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, many))


def test_a_process_that_dies_while_it_fetches(hosts):
    """Another one begins anew."""
    ref = FileRef(hosts.write("", "data/7", DATA), len(DATA))
    code = """
import os, sys, time
sys.path[:] = {path!r}
from hosts.serving import Hosts
from pathlib import Path
from asparkle.core.hostfiles import HostFiles
from asparkle.core.protocol import FileRef

class Dying:
    settimeout = sendall = lambda self, x: None
    lengths = [{length}, 0]  # of the file, and, before, of where to get it
    def recv_into(self, view):
        if len(view) == 9:
            view[:] = b"\\0" + self.lengths.pop().to_bytes(8, "little")
            return 9
        if len(view) < {chunk}:
            os.kill(os.getpid(), 9)
        view[:100] = bytes(100)
        return 100

hosts = Hosts.__new__(Hosts)
hosts.root, hosts.timeout = Path({root!r}), 5.0
HostFiles(hosts.app("n1"), lambda host: Dying()).keep(FileRef(*{ref!r}))
"""
    code = code.format(path=sys.path, root=str(hosts.root), ref=tuple(ref), length=len(DATA), chunk=(1 << 20) - 5000)
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert os.listdir(hosts.directory("n1") / "data") == ["7.part"]
    assert hosts.files("n1").keep(ref) == DATA
    assert os.listdir(hosts.directory("n1") / "data") == ["7"]


# ------------------------------------------------------------------------------------- from host to host


def sources(hosts: Hosts, ref: FileRef, names: list[str]) -> dict[str, dict[str, int]]:
    """How many bytes each of these hosts got from which others, all at once."""
    files = {name: hosts.files(name) for name in names}
    with ThreadPoolExecutor(len(names)) as threads:
        assert all(view == DATA for view in threads.map(lambda name: files[name].keep(ref), names))
    for name in names:
        assert os.listdir(hosts.directory(name) / "data") == [os.path.basename(ref.path)]
    return {name: {host: size for host, _, size in files[name].fetched()} for name in names}


NAMES = [f"n{i}" for i in range(9)]


def test_what_all_hosts_need_goes_down_a_tree(tmp_path):
    hosts = Hosts(tmp_path, *NAMES)
    got = sources(hosts, FileRef(hosts.write("", "data/7", DATA), len(DATA)), NAMES)
    given = Counter(source for found in got.values() for source in found)
    assert given[""] == 2  # by the driver
    assert max(given.values()) == 2
    assert all(found == {source: len(DATA)} for found in got.values() for source in found)


def test_small_files_come_from_the_driver(tmp_path):
    hosts = Hosts(tmp_path, *NAMES)
    ref = FileRef(hosts.write("", "data/7", DATA[:1000]), 1000)
    for name in NAMES:
        files = hosts.files(name)
        assert files.keep(ref) == DATA[:1000]
        assert files.fetched() == [("", "direct", 1000)]


def test_a_host_that_passes_nothing_on(tmp_path):
    """What is still missing comes from the driver."""
    hosts = Hosts(tmp_path, *NAMES, timeout=0.2)
    hosts.down |= {"n0", "n1"}
    hosts.wrap["n2"] = cut_at(3 << 20, times=99)
    hosts.wrap["n3"] = lambda connection: Stalling(connection, 2 << 20)
    ref = FileRef(hosts.write("", "data/7", DATA), len(DATA))
    got = {}
    for name in NAMES:  # in this order: so it is known who passes on to whom
        got |= sources(hosts, ref, [name])
    assert [got[name] for name in NAMES[:4]] == [{"": len(DATA)}] * 4
    for found in got.values():
        assert sum(found.values()) == len(DATA)


def test_a_host_whose_copy_does_not_grow(tmp_path):
    hosts = Hosts(tmp_path, *NAMES, timeout=0.2)
    ref = FileRef(hosts.write("", "data/7", DATA), len(DATA))
    for name in ("n0", "n1"):  # they have begun, and were killed
        copy = hosts.write(name, "data/7.part", DATA[: 2 << 20])
        assert hosts.copies.source(ref.path, name, copy.removesuffix(".part")) is None
    assert sources(hosts, ref, ["n2"]) == {"n2": {"n0": 2 << 20, "": len(DATA) - (2 << 20)}}


def test_a_host_that_asks_again_is_sent_to_the_driver():
    copies = Copies()
    assert [copies.source("/x", name, f"/{name}") for name in ("a", "b", "c", "a", "c", "d", "e")] == [
        None, None, ("a", "/a"), None, None, ("a", "/a"), ("b", "/b"),
    ]  # fmt: skip
    assert copies.source("/y", "c", "/c") is None
    for i in range(2000):
        copies.source(str(i), "a", "/a")
    assert len(copies._hosts) <= 1000
