"""Pieces of other hosts' files, read ahead: what a task gets of them, and how much is held meanwhile."""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from apart import Wrong
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_until

from asparkle.backends.shufflefiles import FileShuffleStore
from asparkle.core.contracts import MapOutputReader
from asparkle.core.errors import CorruptBlock, HostUnreachable
from asparkle.core.readahead import Piece, ReadAhead
from hosts.serving import Hosts

pytestmark = pytest.mark.slow


class Watched(ReadAhead):
    """Notes how much it has held at most."""

    held = 0

    def came(self, *arguments: object) -> None:
        super().came(*arguments)
        with self._lock:
            self.held = max(self.held, sum(map(len, self._came.values())))


class Written:
    """Pieces, each of one or several parts of files of some hosts, and what they are."""

    def __init__(self, hosts: Hosts, names: Sequence[str], sizes: Sequence[int], seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.pieces: list[Piece] = []
        self.data: list[bytes] = []
        paths = {name: str(hosts.directory(name) / "shuffle-0" / str(seed)) for name in names}
        contents = {name: bytearray(rng.randbytes(10)) for name in names}
        for size in sizes:
            name = rng.choice(names)
            data = rng.randbytes(size)
            ranges = []
            cuts = sorted({0, size, *(rng.randrange(size + 1) for _ in range(rng.randrange(3)))})
            for start, end in itertools.pairwise(cuts):
                at = len(contents[name])
                contents[name] += data[start:end] + rng.randbytes(rng.randrange(100))
                ranges.append((paths[name], at, at + end - start))
            if rng.random() < 0.7:
                self.pieces.append(Piece(name, size, ranges))
            else:
                self.pieces.append(Piece(name, size, None, lambda read, ranges=ranges: read(ranges) and ranges))
            self.data.append(data)
        for name in names:
            Path(paths[name]).write_bytes(contents[name])


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("asparkle-reads-ahead")]


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.sampled_from(["n1", "n2", "n3", "n4", "n5", "n6"]), min_size=1, max_size=6, unique=True),
    sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=40),
    limit=st.integers(1, 9000),
    seed=st.integers(0, 1 << 30),
)
def test_every_piece_is_what_was_written(tmp_path_factory, names, sizes, limit, seed):
    hosts = Hosts(tmp_path_factory.mktemp("hosts"), *names)
    written = Written(hosts, names, sizes, seed)
    files = hosts.files("")
    ahead = Watched(files, written.pieces, limit)
    for data in written.data:
        reader = ahead.reader()
        offset, end = 0, written.rng.choice([len(data), len(data) // 2])  # perhaps not to its end
        while offset < end:
            count = written.rng.randrange(1, 2 * len(data) + 1)
            assert reader.read(offset, count) == data[offset : offset + count]
            offset += written.rng.choice([count, count, count // 2])
        if written.rng.random() < 0.2:
            assert reader.read(0, len(data)) == data
        reader.close()
    ahead.close()
    files.close()
    assert ahead.held <= limit + ahead.chunk
    wait_until(lambda: not threads())


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path, "n1", "n2", "n3")


def test_one_piece_larger_than_all_that_may_be_held(hosts):
    written = Written(hosts, ["n1"], [20 << 20], 1)
    ahead = Watched(hosts.files(""), written.pieces, 1 << 20)
    reader = ahead.reader()
    assert reader.read(0, 1000) == written.data[0][:1000]
    assert reader.read(0, 20 << 20) == written.data[0]
    assert ahead.held <= (1 << 20) + ahead.chunk
    ahead.close()


def test_nothing_more_is_read_than_there_is_room_for(hosts):
    written = Written(hosts, ["n1", "n2"], [10_000] * 50, 2)
    ahead = Watched(hosts.files(""), written.pieces, 100_000)
    wait_until(lambda: ahead.held == 100_000)
    for data in written.data:
        reader = ahead.reader()
        assert reader.read(0, 10_000) == data
        reader.close()
    assert ahead.held <= 100_000 + ahead.chunk
    ahead.close()


def test_it_ends_when_nobody_wants_more(hosts):
    written = Written(hosts, ["n1", "n2"], [10_000] * 50, 3)
    files = hosts.files("")
    ahead = ReadAhead(files, written.pieces, 100_000)
    reader = ahead.reader()
    assert reader.read(0, 10) == written.data[0][:10]
    ahead.close()
    with pytest.raises(OSError, match="it is read no more"):
        reader.read(0, 10)
    wait_until(lambda: not threads())
    assert not files.client._used


def test_a_file_that_is_gone(hosts):
    """The pieces before it, and other files of its host, can be read."""
    written = Written(hosts, ["n1"], [5000] * 6, 4)
    gone = (str(hosts.directory("n1") / "shuffle-0" / "gone"), 0, 5000)
    pieces = [piece._replace(ranges=[gone]) if i == 2 else piece for i, piece in enumerate(written.pieces)]
    ahead = ReadAhead(hosts.files(""), pieces, 10_000)
    for i, data in enumerate(written.data):
        reader = ahead.reader()
        if i == 2:
            with pytest.raises(FileNotFoundError, match="gone"):
                reader.read(0, 10)
        else:
            assert reader.read(0, 5000) == data
        reader.close()
    ahead.close()


def test_a_piece_that_has_another_length(hosts):
    written = Written(hosts, ["n1"], [5000] * 2, 4)
    short = [(path, start, end - 1) for path, start, end in (written.pieces[0].ranges or written.pieces[0].find(list))]
    pieces = [written.pieces[0]._replace(ranges=None, find=lambda read: short), written.pieces[1]]
    ahead = ReadAhead(hosts.files(""), pieces, 10_000)
    with pytest.raises(CorruptBlock, match=r"it has 499\d bytes, 5000 were written"):
        ahead.reader().read(0, 10)
    assert ahead.reader().read(0, 5000) == written.data[1]
    ahead.close()


def test_a_host_that_is_gone(hosts):
    """What is on others can be read; who has it once is told each time."""
    written = Written(hosts, ["n1", "n2"], [5000] * 30, 5)
    hosts.down.add("n2")
    ahead = ReadAhead(hosts.files(""), written.pieces, 10_000)
    for piece, data in zip(written.pieces, written.data, strict=True):
        reader = ahead.reader()
        if piece.host == "n2":
            for _ in range(2):
                with pytest.raises(HostUnreachable, match="'n2'"):
                    reader.read(0, 10)
        else:
            assert reader.read(0, 5000) == data
        reader.close()
    ahead.close()
    assert hosts.dials.count("n2") == 1


@pytest.mark.parametrize("after", [0, 8, 3000, 12_345])
def test_a_connection_that_breaks_is_made_anew(hosts, after):
    written = Written(hosts, ["n1", "n2"], [700] * 100, 6)
    broken: set[str] = set()

    def wrap(name: str):
        def once(connection: object) -> object:
            if name in broken:
                return connection
            broken.add(name)
            sent = 0

            def change(data: bytes) -> bytes:
                nonlocal sent
                sent += len(data)
                return data if sent <= after else data[: max(0, len(data) - (sent - after))]

            return Wrong(connection, change)

        return once

    hosts.wrap = {"n1": wrap("n1"), "n2": wrap("n2")}
    ahead = ReadAhead(hosts.files(""), written.pieces, 10_000)
    for data in written.data:
        reader = ahead.reader()
        assert reader.read(0, 5000) == data
        reader.close()
    ahead.close()
    assert broken == {"n1", "n2"}


# ------------------------------------------------------------------------------------- the store of files


def outputs(
    hosts: Hosts, rng: random.Random, maps: int, partitions: int, rounds: int
) -> list[tuple[object, list[bytes]]]:
    """(location, what is in each partition) of map outputs on different hosts."""
    found = []
    for i in range(maps):
        name = rng.choice(["", "n1", "n2", "n3"])
        writer = FileShuffleStore(hosts.app(name)).begin((7, i, i), partitions)
        data = [b""] * partitions
        for _ in range(rng.randrange(1, rounds + 1)):
            pieces = [(p, [rng.randbytes(rng.randrange(3000))]) for p in range(partitions) if rng.random() < 0.8]
            writer.write(pieces)
            for partition, chunks in pieces:
                data[partition] += b"".join(chunks)
        location = writer.commit()
        found.append((list(location) if isinstance(location, tuple) else location, data))
    return found


def whole(reader: MapOutputReader) -> bytes:
    found = b""
    while part := bytes(reader.read(len(found), 1000)):
        found += part
    reader.close()
    return found


@pytest.mark.parametrize("host", ["", "n1"])
@pytest.mark.parametrize("rounds", [1, 4])
def test_map_outputs_of_all_hosts(hosts, host, rounds):
    rng = random.Random(rounds)
    written = outputs(hosts, rng, 40, 5, rounds)
    store = FileShuffleStore(hosts.app(host, fetch_ahead=20_000))
    store.use(hosts.files(host))
    for partition in range(5):
        wanted = [(location, data) for location, data in written if data[partition]]
        pieces = [(location, partition, list(map(len, data))) for location, data in wanted]
        readers = store.open_all(pieces)
        for location, data in wanted:
            reader = next(readers)
            assert whole(reader) == data[partition]
            assert whole(store.open(location, partition)) == data[partition]
            assert store.has(location)
        assert next(readers, None) is None


def test_map_outputs_that_are_gone(hosts):
    written = outputs(hosts, random.Random(9), 30, 2, 1)
    store = FileShuffleStore(hosts.app(""))
    store.use(hosts.files(""))
    hosts.down.add("n1")
    for host in ("n1", "n2"):
        (first, data), *_ = [(location, data) for location, data in written if location[1] == host and data[0]]
        if host == "n2":
            for location, _ in written:
                if location[1] == host:
                    os.unlink(location[0])
        readers = store.open_all([(first, 0, list(map(len, data)))])
        with pytest.raises(OSError):
            next(readers).read(0, 1)
    for location, _ in written:
        assert store.has(location) is (location[1] in ("", "n3"))
    assert (hosts.dials.count("n1"), hosts.dials.count("n3")) == (1, 0)
