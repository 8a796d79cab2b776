"""What every block store is tested for."""

from __future__ import annotations

import gc
import os
import random
import resource
import signal
import tempfile
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import pytest

from asparkle.core.contracts import AppSpec, BlockId, BlockStore, Buffer
from asparkle.core.errors import StorageError, StoreFull
from asparkle.core.shown import shown
from asparkle.testing import work
from asparkle.testing.leaks import census, grown
from asparkle.testing.promises import Conformance, expect
from asparkle.testing.providing import providing
from asparkle.testing.samples import sample_app

if TYPE_CHECKING:
    from asparkle import SparkContext

BLOCK: Final[BlockId] = (3, 1)
PUT: Final = "Keep the bytes, those of all chunks in order; returns how many."
WHOLE: Final = "A block is seen as a whole or not at all"


@contextmanager
def small_disk(largest: int) -> Iterator[None]:
    """Inside of it this process can't write files of more than ``largest`` bytes: what it tries fails as it does on a
    disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class _Interrupted(Exception):
    """What goes wrong while chunks are made: they are computed by users' functions."""


class BlockStoreConformance(Conformance):
    """Tests a `BlockStore`: derive from it, name the class ``Test...``, and say how a store is made.

        class TestMyStore(BlockStoreConformance):
            def make(self, app):
                return MyStore(app)

    Where a store writes files, ``full`` may return ``small_disk(1 << 20)``.
    """

    large: ClassVar[int] = 8 << 20
    """Bytes of the largest block that is put."""

    @abstractmethod
    def make(self, app: AppSpec) -> BlockStore:
        """A new store, as a worker makes it."""

    def full(self, store: BlockStore) -> AbstractContextManager[object]:
        """Inside of it ``store`` is so full that a block of `large` bytes does not fit."""
        pytest.skip("how the store gets full is not said: override full()")

    # ------------------------------------------------------------------------------------ what there is

    def subject(self) -> str:
        return type(self.store).__name__

    @pytest.fixture(autouse=True)
    def _in_scratch_directories(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """A store in directories of the application's, and all others empty."""
        self.app = sample_app(str(tmp_path / "local" / name) for name in "ab")
        self.elsewhere = tmp_path / "elsewhere"
        for directory in [*(f"{one}/blocks" for one in self.app.directories), str(self.elsewhere)]:
            os.makedirs(directory)
        monkeypatch.chdir(self.elsewhere)
        monkeypatch.setenv("TMPDIR", str(self.elsewhere))
        monkeypatch.setattr(tempfile, "tempdir", None)
        self.directory = tmp_path
        self.store = self.make(self.app)
        yield

    def put(self, store: BlockStore, block: BlockId, chunks: Iterable[Buffer], size: int) -> None:
        with self.promised("BlockStore.put", PUT):
            returned = store.put(block, chunks)
            expect(returned == size, f"returned {returned!r} for {size} bytes")

    def get(self, store: BlockStore, block: BlockId) -> bytes | None:
        with self.promised("BlockStore.get", "The bytes that were put, as one view"):
            view = store.get(block)
            expect(view is None or isinstance(view, memoryview), f"returned {shown(view)}")
            return None if view is None else bytes(view)

    def holds(self, store: BlockStore, data: bytes, block: BlockId = BLOCK) -> None:
        """That ``store`` gives just these bytes."""
        found = self.get(store, block)
        with self.promised("BlockStore.get", "The bytes that were put, as one view"):
            expect(found is not None, f"returned None for a block of {len(data)} bytes that was put")
            assert found is not None
            expect(found == data, f"returned {len(found)} other bytes, {shown(found)}, for {len(data)}, {shown(data)}")

    # -------------------------------------------------------------------------------------- the promises

    def test_what_was_never_put_is_none(self) -> None:
        with self.promised("BlockStore.get", "or None where there is no such block"):
            found = self.store.get(BLOCK)
            expect(found is None, f"returned {shown(found)} for a block that was never put")

    @pytest.mark.parametrize("chunks", ["none", "empty", "one", "many", "large", "views"])
    def test_what_is_put_is_there(self, chunks: str) -> None:
        pieces = self._chunks(chunks)
        data = b"".join(map(bytes, pieces))
        self.put(self.store, BLOCK, iter(pieces), len(data))
        self.holds(self.store, data)

    def _chunks(self, kind: str) -> Sequence[Buffer]:
        rng = random.Random(kind)
        if kind == "large":
            return [rng.randbytes(self.large // 4) for _ in range(4)]
        if kind == "views":
            words = memoryview(bytearray(rng.randbytes(800))).cast("q")  # eight bytes each: a length is not a size
            return [words, memoryview(b"as it is"), bytearray(b"and changeable")]
        return {"none": [], "empty": [b""], "one": [b"a block"], "many": [rng.randbytes(97) for _ in range(3000)]}[kind]

    def test_blocks_are_kept_apart(self) -> None:
        blocks = [(rdd, partition) for rdd in (0, 1, 11) for partition in (0, 1, 10, 11)]
        for block in blocks:
            data = repr(block).encode()
            self.put(self.store, block, [data], len(data))
        for block in blocks:
            self.holds(self.store, repr(block).encode(), block)

    def test_what_is_put_again_is_replaced(self) -> None:
        self.put(self.store, BLOCK, [b"the first, which is longer"], 26)
        self.put(self.store, BLOCK, [b"the second"], 10)
        with self.promised("BlockStore.put", "What was put before under the same id is replaced"):
            found = self.get(self.store, BLOCK)
            expect(found == b"the second", f"returned {shown(found)} after b'the second' was put")

    def test_what_is_removed_is_gone(self) -> None:
        self.put(self.store, BLOCK, [b"a block"], 7)
        with self.promised("BlockStore.remove", "says whether it was there"):
            removed = self.store.remove(BLOCK)
            expect(removed is True, f"returned {removed!r} for a block that was there")
        with self.promised("BlockStore.remove", "Forget ``block``"):
            found = self.get(self.store, BLOCK)
            expect(found is None, f"still gave {shown(found)} after it was removed")
        with self.promised("BlockStore.remove", "says whether it was there"):
            again = self.store.remove(BLOCK)
            expect(again is False, f"returned {again!r} for a block that had been removed")

    def test_removing_what_was_never_put(self) -> None:
        with self.promised("BlockStore.remove", "says whether it was there"):
            removed = self.store.remove((99, 99))
            expect(removed is False, f"returned {removed!r} for a block that was never put")

    @pytest.mark.parametrize("before", [None, b"what was there before"])
    def test_chunks_that_fail_are_not_kept(self, before: bytes | None) -> None:
        if before is not None:
            self.put(self.store, BLOCK, [before], len(before))

        def chunks() -> Iterator[bytes]:
            yield b"the first half" * 10_000
            raise _Interrupted("while chunks were computed")

        with self.promised("BlockStore.put", "What ``chunks`` raises is passed on"):
            try:
                self.store.put(BLOCK, chunks())
                expect(False, "returned, when the chunks had raised")
            except _Interrupted:
                pass
        with self.promised("BlockStore.put", "having kept nothing"):
            found = self.get(self.store, BLOCK)
            expect(found in (None, before), f"gave {shown(found)} after its chunks had raised")
        self.holds_no_litter()

    def holds_no_litter(self) -> None:
        """What can't be kept takes no room either."""
        with self.promised("BlockStore.put", "having kept nothing"):
            self.store.remove(BLOCK)
            left = [str(path.relative_to(self.directory)) for path in self.directory.rglob("*") if path.is_file()]
            size = sum(os.path.getsize(self.directory / path) for path in left)
            expect(size < 10_000, f"left {size} bytes in {shown(left)}")

    def test_a_block_that_does_not_fit(self) -> None:
        with self.promised("BlockStore.put", "Raises `errors.StoreFull` or `errors.StorageError`"):
            try:
                with self.full(self.store):
                    self.store.put(BLOCK, (bytes(1 << 16) for _ in range(self.large >> 16)))
                expect(False, f"returned for {self.large} bytes, in a full store")
            except (StoreFull, StorageError):
                pass
        with self.promised("BlockStore.put", "having kept nothing"):
            found = self.get(self.store, BLOCK)
            expect(found is None, f"gave {len(found or b'')} bytes of a block that did not fit")
        self.holds_no_litter()

    def test_another_worker_finds_the_block(self) -> None:
        self.put(self.store, BLOCK, [b"put by one worker"], 17)
        with self.promised("BlockStore", "every worker of the host finds it, under the same `BlockId`"):
            other = self.make(self.app)
            found = self.get(other, BLOCK)
            expect(found == b"put by one worker", f"gave {shown(found)} to another worker")
            other.remove(BLOCK)
            found = self.get(self.store, BLOCK)
            expect(found is None, f"gave {shown(found)} when another worker had removed it")

    def test_a_block_outlives_the_worker_that_put_it(self) -> None:
        self.put(self.store, BLOCK, [b"put by a worker that ended"], 26)
        first = self.subject()
        del self.store
        gc.collect()
        self.store = self.make(self.app)
        assert self.subject() == first
        with self.promised("BlockStore", "A block outlives the worker that put it"):
            found = self.get(self.store, BLOCK)
            expect(found is not None, "had no such block when that worker was gone")

    def test_the_class_is_called_with_the_application(self) -> None:
        with self.promised("BlockStore", "The class is called with the application's `AppSpec`"):
            kind: Callable[[AppSpec], BlockStore] = type(self.store)
            expect(isinstance(kind(self.app), BlockStore), "is not a class derived from BlockStore")

    def test_a_view_stays_valid(self) -> None:
        """A task may still read a block that another one's unpersist has removed."""
        data, more = (random.Random(seed).randbytes(1 << 18) for seed in (5, 6))
        self.put(self.store, BLOCK, [data], len(data))
        with self.promised(
            "BlockStore.get", "stays as it is when the block is removed or put again, or others are read"
        ):
            first = self.store.get(BLOCK)
            self.store.put(BLOCK, [more])
            second = self.store.get(BLOCK)
            self.store.remove(BLOCK)
            for view, wanted in ((first, data), (second, more)):
                expect(view is not None and bytes(view) == wanted, "changed the view that a reader had")

    def test_many_threads_at_once(self) -> None:
        """Each of some threads puts, gets and removes blocks, its own and those of all."""
        problems: list[str] = []
        until = time.monotonic() + 0.5

        def use(number: int) -> None:
            rng = random.Random(number)
            try:
                while time.monotonic() < until and not problems:
                    problems.extend(self._one_round(number, rng))
            except Exception as error:
                problems.append(f"raised {type(error).__name__}: {error}")

        with self.promised("BlockStore", "Thread-safe"):
            threads = [threading.Thread(target=use, args=(i,), daemon=True) for i in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(self.patience / 2)
            expect(not any(thread.is_alive() for thread in threads), "did not return to one of several threads")
            expect(not problems, problems[0] if problems else "")

    def _one_round(self, number: int, rng: random.Random) -> Iterator[str]:
        """What goes wrong where one thread uses a block of its own, and one that all use."""
        own, shared = (100 + number, rng.randrange(4)), (99, rng.randrange(2))
        data = bytes([number]) * rng.randrange(1, 20_000)
        for block in (own, shared):
            self.store.put(block, [data[: len(data) // 2], data[len(data) // 2 :]])
        found = self.store.get(own)
        if found is None or bytes(found) != data:
            yield f"gave {'None' if found is None else 'other bytes'} for a block that no other thread had touched"
        torn = self.store.get(shared)
        if torn is not None and len({*bytes(torn)}) > 1:
            yield "gave a mixture of what two threads had put"
        if not self.store.remove(own):
            yield "removed a block, and said that it was not there"
        if rng.random() < 0.3:
            self.store.remove(shared)

    def test_a_reader_sees_the_whole_block_or_none(self) -> None:
        seen: list[bytes | None] = []

        def chunks() -> Iterator[bytes]:
            for _ in range(3):
                yield b"a third of it" * 1000
                view = self.make(self.app).get(BLOCK)
                seen.append(None if view is None else bytes(view))

        with self.promised("BlockStore.put", WHOLE):
            self.store.put(BLOCK, chunks())
            part = next((found for found in seen if found is not None), None)
            expect(part is None, f"gave {len(part or b'')} bytes of a block of 39000, while it was being put")

    def test_nothing_is_left_elsewhere(self) -> None:
        self.put(self.store, BLOCK, [b"a block"] * 1000, 7000)
        self.holds(self.store, b"a block" * 1000)
        with self.promised("BlockStore", "what a store keeps elsewhere is its own to delete"):
            left = [str(path.relative_to(self.elsewhere)) for path in self.elsewhere.rglob("*")]
            expect(not left, f"put {shown(left)} into the working or temporary directory")

    def test_descriptors_are_given_back(self) -> None:
        def use() -> None:
            for partition in range(50):
                self.store.put((7, partition), [b"a block"])
                self.store.get((7, partition))
                self.store.get((8, partition))
            for partition in range(50):
                self.store.remove((7, partition))

        with self.promised("BlockStore", "Uses no more descriptors and threads the more blocks there have been"):
            use()
            before = census()
            for _ in range(4):
                use()
            more = grown(before, patience=1.0)
            expect(not more, f"left {more} after 200 blocks were put, read and removed")

    def context(self) -> SparkContext:
        """Real workers, which use a store of this kind."""
        from asparkle import SparkConf, SparkContext

        plugins, name = providing(BlockStore, type(self.store))
        conf = SparkConf().set("asparkle.store.disk", name).set("spark.local.dir", str(self.directory / "local"))
        return SparkContext("processes[2]", conf=conf, plugins=plugins)

    def test_a_block_outlives_a_worker_that_is_killed(self) -> None:
        with self.promised("BlockStore", "A block outlives the worker that put it", within=30.0), self.context() as sc:
            pid = sc.parallelize([0], 1).map(lambda _: work.put_block()).first()
            os.kill(pid, signal.SIGKILL)
            found = sc.parallelize(range(4), 4).map(lambda _: work.get_block()).distinct().collect()
            expect(found == [work.DATA], f"gave {shown(found)} to workers, when the one that had put it was killed")

    def test_a_job_uses_it(self) -> None:
        """Cached partitions of a real job are put there, found by other workers, and removed."""
        from asparkle import StorageLevel

        with (
            self.promised("BlockStore", "Keeps serialized cached partitions", within=30.0),
            self.context() as sc,
        ):
            rdd = sc.parallelize(range(1000), 4).map(lambda x: [x] * 10).persist(StorageLevel.DISK_ONLY)
            for _ in range(3):
                total = rdd.map(lambda xs: sum(xs)).sum()
                expect(total == 4995000, f"made a job return {total}, not 4995000")
            rdd.unpersist(blocking=True)
