"""What every shuffle store is tested for."""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import tempfile
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import msgpack
import pytest

from asparkle.core.contracts import AppSpec, Buffer, MapOutputId, MapOutputReader, MapOutputWriter, ShuffleStore
from asparkle.core.errors import CorruptBlock, StorageError
from asparkle.core.hostfiles import HostFiles
from asparkle.core.shown import shown
from asparkle.testing import work
from asparkle.testing.leaks import census, grown
from asparkle.testing.promises import Conformance, expect
from asparkle.testing.providing import providing
from asparkle.testing.samples import sample_app

if TYPE_CHECKING:
    from asparkle import SparkContext

Pieces: TypeAlias = Sequence[tuple[int, Sequence[Buffer]]]

OUTPUT: Final[MapOutputId] = (3, 1, 7)
JOINED: Final = "One partition of one map output, as one string of bytes: its pieces, joined"
GONE: Final = "Raises OSError where the output is not there"
SMALL_LOCATION: Final = 4096


class ShuffleStoreConformance(Conformance):
    """Tests a `ShuffleStore`: derive from it, name the class ``Test...``, and say how a store is made.

        class TestMyStore(ShuffleStoreConformance):
            def make(self, app):
                return MyStore(app)

    Where a store writes files, ``full`` may return ``small_disk(1 << 20)``.
    """

    large: ClassVar[int] = 8 << 20
    """Bytes of the largest map output that is written."""

    @abstractmethod
    def make(self, app: AppSpec) -> ShuffleStore:
        """A new store, as a worker makes it."""

    def full(self, store: ShuffleStore) -> AbstractContextManager[object]:
        """Inside of it ``store`` is so full that an output of `large` bytes does not fit."""
        pytest.skip("how the store gets full is not said: override full()")

    def damage(self, location: Any) -> None:
        """Cut off, or overwrite, what lies at ``location``."""
        pytest.skip("how an output gets damaged is not said: override damage()")

    # ------------------------------------------------------------------------------------ what there is

    def made(self) -> ShuffleStore:
        """A store as a process has it."""
        store = self.make(self.app)
        if not hasattr(self, "store"):
            self.store = store
        with self.promised("ShuffleStore.use", "Called once, before anything else"):
            store.use(HostFiles(self.app))
        return store

    def subject(self) -> str:
        return type(self.store).__name__

    @pytest.fixture(autouse=True)
    def _in_scratch_directories(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """A store in directories of the application's, and all others empty."""
        directories = [str(tmp_path / "local" / name) for name in "ab"]
        self.elsewhere = tmp_path / "elsewhere"
        for directory in [*directories, str(self.elsewhere)]:
            os.makedirs(directory)
        monkeypatch.chdir(self.elsewhere)
        monkeypatch.setenv("TMPDIR", str(self.elsewhere))
        monkeypatch.setattr(tempfile, "tempdir", None)
        self.app = sample_app(directories)
        self.store = self.made()
        yield
        if os.path.exists(directories[0]):
            with self.promised("ShuffleStore.close", "The application ends, and all its workers have"):
                self.made().close()

    def begin(self, output: MapOutputId = OUTPUT, partitions: int = 4) -> MapOutputWriter:
        with self.promised("ShuffleStore.begin", "Where an attempt writes"):
            return self.store.begin(output, partitions)

    def write(self, writer: MapOutputWriter, pieces: Pieces) -> None:
        with self.promised("MapOutputWriter.write", "Append pieces"):
            writer.write(pieces)

    def commit(self, writer: MapOutputWriter) -> Any:
        """Where the output lies, as readers are told."""
        with self.promised("MapOutputWriter.commit", "plain data that msgpack carries, not None, and small"):
            location = writer.commit()
            expect(location is not None, "returned None")
            packed = msgpack.packb(location)
            expect(len(packed) <= SMALL_LOCATION, f"returned a location of {len(packed)} bytes")
            return msgpack.unpackb(packed, strict_map_key=False)

    def put(self, rounds: Sequence[Pieces], output: MapOutputId = OUTPUT, partitions: int = 4) -> Any:
        writer = self.begin(output, partitions)
        for pieces in rounds:
            self.write(writer, pieces)
        return self.commit(writer)

    def get(self, location: Any, partition: int, step: int = 1 << 20, store: ShuffleStore | None = None) -> bytes:
        """The partition's bytes, read as asparkle reads them."""
        with self.promised("ShuffleStore.open", "A partition of the output that `MapOutputWriter.commit` put"):
            reader = (store or self.store).open(location, partition)
        parts = []
        offset = 0
        with self.promised("MapOutputReader.read", "fewer where a piece ends, none at the end of the partition"):
            while part := reader.read(offset, step):
                expect(isinstance(part, memoryview), f"returned {shown(part)}")
                expect(part.nbytes <= step, f"returned {part.nbytes} bytes, where {step} were asked for")
                offset += part.nbytes
                expect(offset <= 4 * self.large, "returned more and more bytes, and did not come to an end")
                parts.append(bytes(part))
        with self.promised("MapOutputReader.close", "Nothing more is read"):
            reader.close()
        return b"".join(parts)

    def holds(self, location: Any, rounds: Sequence[Pieces], store: ShuffleStore | None = None) -> None:
        """That just these bytes are there."""
        for partition, data in sorted(_partitions(rounds).items()):
            if data:
                found = self.get(location, partition, store=store)
                with self.promised("MapOutputReader", JOINED):
                    expect(found == data, f"gave {_bytes(found)} for partition {partition}, which has {_bytes(data)}")

    def gone(self, location: Any, why: str, store: ShuffleStore | None = None) -> None:
        """That it can't be read any more."""
        with self.promised("ShuffleStore.open", GONE):
            try:
                reader = (store or self.store).open(location, 0)
                try:
                    found = reader.read(0, 100)
                finally:
                    reader.close()
                expect(False, f"gave {_bytes(bytes(found))} of an output {why}")
            except (OSError, CorruptBlock):
                pass

    def files(self) -> dict[str, int]:
        paths = [path for path in self.directory.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.directory)): path.stat().st_size for path in paths}

    # -------------------------------------------------------------------------------------- the promises

    def test_the_class_is_called_with_the_application(self) -> None:
        with self.promised("ShuffleStore", "The class is called with the application's `AppSpec`"):
            kind: Callable[[AppSpec], ShuffleStore] = type(self.store)
            expect(isinstance(kind(self.app), ShuffleStore), "is not a class derived from ShuffleStore")

    def test_its_scope(self) -> None:
        with self.promised("ShuffleStore.scope", "What an output outlives"):
            known = self.store.scope in ("worker", "host", "shared")
            expect(known, f"says scope = {self.store.scope!r}, which is none of worker, host, shared")

    @pytest.mark.parametrize("kind", ["one", "all", "few", "rounds", "pieces of one partition", "large", "views"])
    def test_what_is_written_can_be_read(self, kind: str) -> None:
        rounds = self._rounds(kind)
        location = self.put(rounds, partitions=1000 if kind == "few" else 4)
        self.holds(location, rounds)

    def _rounds(self, kind: str) -> Sequence[Pieces]:
        rng = random.Random(kind)
        if kind == "views":
            data = memoryview(bytearray(rng.randbytes(10_000)))
            return [[(0, [data[:10], data[5000:]]), (2, [b"", bytearray(b"changeable"), b""])]]
        if kind == "rounds":  # which begin and end with any partition
            return [[(p, [rng.randbytes(500)]) for p in range(4) if rng.random() < 0.6] for _ in range(9)]
        every = [(p, [rng.randbytes(3000), rng.randbytes(100)]) for p in range(4)]
        return {
            "one": [[(1, [b"the only piece"])]],
            "all": [every],
            "few": [[(3, [b"three"]), (700, [b"seven ", b"hundred"]), (999, [b"last"])]],
            "pieces of one partition": [every[:2], [every[1], every[1]], every[1:]],
            "large": [[(0, [b"a"]), (2, [rng.randbytes(self.large // 2)] * 2), (3, [b"z"])]],
        }[kind]

    def test_each_piece_is_given_whole(self) -> None:
        """A piece is a frame, of which asparkle knows where it begins and how long it is."""
        rng = random.Random(1)
        sizes = [64, 6400, 3 << 20, 128, 70_000]
        pieces = [rng.randbytes(size) for size in sizes]
        location = self.put([[(1, [b"before"]), (2, [piece])] for piece in pieces])
        with self.promised("MapOutputReader.read", "The ``count`` bytes from ``offset``"):
            reader = self.store.open(location, 2)
            start = 0
            for piece in pieces:
                for at, count in ((0, len(piece)), (0, 32), (len(piece) // 2, len(piece) // 3), (0, len(piece))):
                    found = bytes(reader.read(start + at, count))
                    wanted = piece[at : at + count]
                    expect(found == wanted, f"gave {_bytes(found)} at {start + at}, where there are {_bytes(wanted)}")
                start += len(piece)
            reader.close()

    @pytest.mark.parametrize("step", [1, 100, 1 << 22])
    def test_any_number_of_bytes_can_be_asked_for(self, step: int) -> None:
        rounds = [[(0, [b"first "]), (1, [b"a piece of some length "])], [(1, [b"and another"])]]
        location = self.put(rounds)
        found = self.get(location, 1, step)
        with self.promised("MapOutputReader", JOINED):
            wanted = b"a piece of some length and another"
            expect(found == wanted, f"gave {_bytes(found)}, {step} bytes at a time, where there are {_bytes(wanted)}")

    def test_memory_is_the_callers(self) -> None:
        data = [random.Random(2).randbytes(size) for size in (10_000, 3 << 20)]
        location = self.put([[(0, data[:1]), (1, data[1:])]])
        with self.promised("MapOutputReader.read", "The memory is the caller's: writable, nobody else's"):
            for partition, wanted in enumerate(data):
                reader = self.store.open(location, partition)
                views = [reader.read(0, len(wanted)) for _ in range(2)]
                expect(not views[0].readonly, "gave memory that can't be written to")
                views[0][:4] = b"mine"
                expect(bytes(views[1]) == wanted, "gave two readers one memory: what one has changed, the other sees")
                expect(bytes(reader.read(0, len(wanted))) == wanted, "gave what a reader had changed")
                reader.close()
        with self.promised("MapOutputReader.close", "memory that was given out stays valid"):
            reader = self.store.open(location, 1)
            view = reader.read(0, len(data[1]))
            reader.close()
            self.made().remove(OUTPUT[0], OUTPUT[2] + 1)
            expect(bytes(view) == data[1], "changed the memory that a reader had been given")

    def test_chunks_are_the_tasks(self) -> None:
        """They may be changed when they have been written."""
        data = bytearray(b"as it was written" * 100)
        before = bytes(data)
        with self.promised("MapOutputWriter.write", "write or copy them before returning"):
            writer = self.store.begin(OUTPUT, 4)
            writer.write([(0, [memoryview(data)])])
            data[:] = bytes(len(data))
            location = writer.commit()
            found = self._whole(self.store.open(location, 0))
            expect(found == before, f"gave {_bytes(found)}, which the task's memory became when it had been written")

    def test_attempts_are_kept_apart(self) -> None:
        """Two attempts at each of some partitions of two shuffles, at once."""
        outputs = [(shuffle, partition, 10 * shuffle + 2 * partition + i) for shuffle in (1, 11) for partition in (0, 1)
                   for i in (0, 1)]  # fmt: skip
        with self.promised("ShuffleStore.begin", "Several attempts at one partition may write at once"):
            writers = [self.store.begin(output, 4) for output in outputs]
            for output, writer in zip(outputs, writers, strict=True):
                writer.write([(0, [repr(output).encode()])])
            for writer in writers:
                writer.write([(3, [b"!"])])
            locations = [writer.commit() for writer in writers]
            for output, location in zip(outputs, locations, strict=True):
                found, wanted = self._whole(self.store.open(location, 0)), repr(output).encode()
                expect(found == wanted, f"gave {_bytes(found)} for the output {output}, which has {_bytes(wanted)}")

    @pytest.mark.parametrize("when", ["nothing is written", "something is written"])
    def test_an_aborted_attempt_leaves_nothing(self, when: str) -> None:
        location = self.put([[(0, [b"of another attempt"])]], (3, 1, 6))
        before = self.files()
        writer = self.begin()
        if when == "something is written":
            self.write(writer, [(0, [bytes(100_000)])])
        with self.promised("MapOutputWriter.abort", "leave nothing"):
            writer.abort()
            left = {path: size for path, size in self.files().items() if before.get(path) != size}
            expect(not left, f"left {shown(left)}, when {when}")
        self.holds(location, [[(0, [b"of another attempt"])]])

    def test_an_output_that_does_not_fit(self) -> None:
        before = self.files()
        writer = None
        with self.promised("MapOutputWriter.write", "Raises `errors.StorageError` where there is no room"):
            try:
                with self.full(self.store):
                    writer = self.store.begin(OUTPUT, 4)
                    for _ in range(8):
                        writer.write([(0, [bytes(self.large // 8)])])
                    writer.commit()
                expect(False, f"raised nothing for {self.large} bytes, in a full store")
            except StorageError:
                pass
        with self.promised("MapOutputWriter.abort", "leave nothing"):
            if writer is not None:
                writer.abort()
            left = {path: size for path, size in self.files().items() if before.get(path) != size}
            expect(not left, f"left {shown(left)} of an output that did not fit")

    def test_an_output_that_is_damaged(self) -> None:
        location = self.put([[(p, [bytes([p]) * 100_000]) for p in range(4)]])
        self.damage(location)
        with self.promised("ShuffleStore.open", "and `errors.CorruptBlock` where it is not what was written"):
            for partition in range(4):
                try:
                    reader = self.store.open(location, partition)
                    try:
                        for offset in range(0, 100_000, 10_000):
                            reader.read(offset, 10_000)
                    finally:
                        reader.close()
                except (OSError, CorruptBlock):
                    pass

    def test_several_outputs_one_after_another(self) -> None:
        rng = random.Random(4)
        every = [
            [[(p, [rng.randbytes(rng.randrange(1, 5000))]) for p in range(4)] for _ in range(n)] for n in (1, 3, 1)
        ]
        locations = [self.put(rounds, (3, i, i)) for i, rounds in enumerate(every)]
        outputs = [_partitions(rounds) for rounds in every]
        pieces = [(where, 2, [len(data[p]) for p in range(4)]) for where, data in zip(locations, outputs, strict=True)]
        with self.promised("ShuffleStore.open_all", "Readers of several outputs, one for each of ``pieces``"):
            readers = iter(self.store.open_all(pieces))
            for data in outputs:
                reader = next(readers, None)
                expect(reader is not None, "gave fewer readers than there are pieces")
                found = self._read(reader) if reader is not None else b""
                expect(found == data[2], f"gave {_bytes(found)}, where there are {_bytes(data[2])}")
            expect(next(readers, None) is None, "gave more readers than there are pieces")
            expect(not list(self.store.open_all([])), "gave a reader of nothing")

    def _read(self, reader: MapOutputReader) -> bytes:
        found = b""
        while part := reader.read(len(found), 1 << 20):
            found += bytes(part)
        reader.close()
        return found

    def test_one_of_several_outputs_is_gone(self) -> None:
        rounds = [[(0, [b"some bytes"])]]
        pieces = [(self.put(rounds, (shuffle, 0, shuffle)), 0, [10, 0, 0, 0]) for shuffle in (3, 4, 5)]
        self.store.remove(4, 5)
        with self.promised("ShuffleStore.open_all", "Raises as `open` does, for the piece that is next"):
            readers = iter(self.store.open_all(pieces))
            found = self._read(next(readers))
            expect(found == b"some bytes", f"gave {_bytes(found)} of an output that is there")
            try:
                found = self._read(next(readers))
                expect(False, f"gave {_bytes(found)} of an output that was removed")
            except (OSError, CorruptBlock):
                pass

    def test_not_all_of_several_outputs_are_read(self) -> None:
        rounds = [[(0, [b"some bytes" * 1000])]]
        pieces = [(self.put(rounds, (3, i, i)), 0, [10_000, 0, 0, 0]) for i in range(30)]

        def use() -> None:
            readers = self.store.open_all(pieces)
            reader = next(readers)
            reader.read(0, 10)
            reader.close()
            close = getattr(readers, "close", None)
            if close is not None:
                close()

        with self.promised("ShuffleStore.open_all", "may be the last that is: then the iterator is closed"):
            use()
            before = census()
            for _ in range(5):
                use()
            more = grown(before, patience=1.0)
            expect(not more, f"left {more} when only the first of 30 outputs had been read")

    def test_another_worker_finds_the_output(self) -> None:
        rounds = [[(0, [b"written by one worker"])]]
        location = self.put(rounds)
        with self.promised("ShuffleStore.open", "in this worker or another"):
            found = self.get(location, 0, store=self.made())
            expect(found == b"written by one worker", f"gave {shown(found)} to another worker")

    def test_an_output_outlives_what_its_scope_says(self) -> None:
        if self.store.scope == "worker":
            pytest.skip("its outputs are lost with the worker")
        location = self.put([[(0, [b"by a worker that ended"])]])
        del self.store
        gc.collect()
        self.store = self.made()
        with self.promised("ShuffleStore.scope", "What an output outlives"):
            found = self.get(location, 0)
            expect(found == b"by a worker that ended", f"gave {shown(found)} when that worker was gone")

    def test_an_output_outlives_a_worker_that_is_killed(self) -> None:
        """If the scope says so."""
        if self.store.scope == "worker":
            pytest.skip("its outputs are lost with the worker")
        with self.promised("ShuffleStore.scope", "What an output outlives", within=30.0), self.context() as sc:
            pid, location = sc.parallelize([0], 1).map(lambda _: work.write_output()).first()
            os.kill(pid, signal.SIGKILL)
            found = sc.parallelize(range(4), 4).map(lambda _: work.read_output(location)).distinct().collect()
            expect(found == [work.DATA], f"gave {shown(found)} to workers, when the one that had written was killed")

    def test_whether_an_output_is_there(self) -> None:
        location = self.put([[(0, [b"it is there"])]])
        with self.promised("ShuffleStore.has", "Whether the output may be there: False where it surely is not"):
            for store in (self.store, self.made()):
                found = store.has(location)
                expect(found is True, f"returned {found!r} for an output that is there")
            self.store.remove(OUTPUT[0], OUTPUT[2] + 1)
            found = self.store.has(location)
            expect(isinstance(found, bool), f"returned {found!r}, which is no bool")
        with self.promised("ShuffleStore.has", "Quick: asked of all outputs of a shuffle"):
            for _ in range(2000):
                self.store.has(location)

    def test_removed_outputs_are_gone(self) -> None:
        """Those of one shuffle, whose attempts came before."""
        rounds = [[(0, [b"some bytes" * 100])]]
        outputs = [(3, partition, partition) for partition in range(6)]
        locations = [self.put(rounds, output) for output in outputs]
        other = self.put(rounds, (33, 0, 0))
        driver = self.made()
        with self.promised("ShuffleStore.remove", "Forget the shuffle's outputs whose attempts have smaller numbers"):
            driver.remove(3, 4)
        for location in locations[:4]:
            self.gone(location, "that was removed")
        with self.promised("ShuffleStore.remove", "whose attempts have smaller numbers than ``before``"):
            for kept, what in (
                *((location, "a later attempt") for location in locations[4:]),
                (other, "another shuffle"),
            ):
                found = self._whole(self.store.open(kept, 0))
                expect(found == b"some bytes" * 100, f"removed the output of {what}")

    def test_removed_outputs_leave_nothing(self) -> None:
        before = self.files()
        for partition in range(6):
            self.put([[(0, [bytes(1000)])]], (3, partition, partition))
        with self.promised("ShuffleStore.remove", "Forget the shuffle's outputs"):
            self.store.remove(3, 6)
            left = self.files().keys() - before.keys()
            expect(not left, f"left {shown(sorted(left))}")

    def test_removing_what_is_not_there(self) -> None:
        with self.promised("ShuffleStore.remove", "It is no error if there are none"):
            for _ in range(2):
                self.store.remove(99, 1 << 40)

    def test_later_attempts_write_while_earlier_ones_are_removed(self) -> None:
        self.put([[(0, [b"earlier"])]], (3, 0, 1))
        with self.promised("ShuffleStore.remove", "later ones may be written meanwhile"):
            writer = self.store.begin((3, 0, 2), 4)
            writer.write([(0, [b"later, "])])
            self.made().remove(3, 2)
            writer.write([(0, [b"and more"])])
            location = writer.commit()
            found = self._whole(self.store.open(location, 0))
            expect(found == b"later, and more", f"gave {shown(found)} of an output that was written meanwhile")

    def test_many_threads_at_once(self) -> None:
        problems: list[str] = []

        def use(number: int) -> None:
            rng = random.Random(number)
            try:
                for i in range(12):
                    data = [rng.randbytes(rng.randrange(1, 20_000)) for _ in range(4)]
                    writer = self.store.begin((number % 2, number, 100 * number + i), 4)
                    writer.write([(partition, [piece]) for partition, piece in enumerate(data)])
                    if i % 4 == 3:
                        writer.abort()
                        continue
                    location = writer.commit()
                    if [self._whole(self.store.open(location, p)) for p in range(4)] != data:
                        problems.append("gave something else than one of several threads had written")
                    self.store.remove(1000 + number, 1 << 40)
            except Exception as error:
                problems.append(f"raised {type(error).__name__}: {error}, in one of several threads")

        with self.promised("ShuffleStore", "Thread-safe", within=30.0):
            threads = [threading.Thread(target=use, args=(i,), daemon=True) for i in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(self.patience / 2)
            expect(not any(thread.is_alive() for thread in threads), "did not return to one of several threads")
            expect(not problems, problems[0] if problems else "")

    def _whole(self, reader: MapOutputReader) -> bytes:
        try:
            return bytes(reader.read(0, 1 << 20))
        finally:
            reader.close()

    def test_descriptors_are_given_back(self) -> None:
        def use(first: int) -> None:
            for i in range(first, first + 20):
                writer = self.store.begin((7, i, i), 4)
                writer.write([(0, [b"some bytes"])])
                if i % 4:
                    location = writer.commit()
                    self.store.open(location, 0).close()
                    self._whole(self.store.open(location, 0))
                else:
                    writer.abort()
            self.store.remove(7, first + 20)

        with self.promised("ShuffleStore", "Uses no more descriptors and threads the more outputs there have been"):
            use(0)
            before = census()
            for i in range(1, 5):
                use(20 * i)
            more = grown(before, patience=1.0)
            expect(not more, f"left {more} after 80 outputs were written, read and removed")

    def test_the_end_of_an_application(self) -> None:
        location = self.put([[(0, [b"some bytes"])]])
        driver = self.made()
        with self.promised("ShuffleStore.close", "forget all its outputs"):
            driver.close()
            for directory in self.app.directories:
                shutil.rmtree(directory)
            left = [str(path.relative_to(self.elsewhere)) for path in self.elsewhere.rglob("*")]
            expect(not left, f"left {shown(left)} in the working or temporary directory")
        self.gone(location, "of an application that has ended", self.made())

    def context(self) -> SparkContext:
        """Real workers, which use a store of this kind, and are short of memory."""
        from asparkle import SparkConf, SparkContext

        plugins, name = providing(ShuffleStore, type(self.store))
        conf = SparkConf().set("asparkle.store.shuffle", name).set("spark.local.dir", str(self.directory / "local"))
        conf.set("spark.python.worker.memory", "200k")
        return SparkContext("processes[2]", conf=conf, plugins=plugins)

    def test_a_job_uses_it(self) -> None:
        """Shuffles of a real job, in rounds as memory is short, read by other workers, and removed."""
        with (
            self.promised("ShuffleStore", "what map tasks write for the tasks of the next stage", within=60.0),
            self.context() as sc,
        ):
            pairs = sc.parallelize(range(20_000), 4).map(lambda x: (x % 100, str(x) * 5))
            grouped = pairs.groupByKey(3).mapValues(len)
            for _ in range(2):
                found = dict(grouped.collect())
                expect(found == dict.fromkeys(range(100), 200), f"made a job return {shown(found)}")
            grouped.cleanShuffleDependencies(blocking=True)
            found = dict(grouped.collect())
            expect(found == dict.fromkeys(range(100), 200), f"made a job return {shown(found)}, written anew")


def _partitions(rounds: Sequence[Pieces]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for pieces in rounds:
        for partition, chunks in pieces:
            found[partition] = found.get(partition, b"") + b"".join(map(bytes, chunks))
    return found


def _bytes(data: bytes) -> str:
    return f"{len(data)} bytes, {shown(data)}"
