"""What every serializer is tested for."""

from __future__ import annotations

import copy
import datetime
import mmap
import pickle
import random
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Final

import pytest

from asparkle.core.contracts import AppSpec, Buffer, Serializer
from asparkle.core.serializer import pack_frame, read_frame
from asparkle.core.shown import shown
from asparkle.testing.promises import Conformance, expect
from asparkle.testing.providing import providing
from asparkle.testing.samples import sample_app

SAME: Final = "equal to it and of the same types, tuples and lists told apart"
LATER: Final = "stay what they are, whatever is serialized meanwhile"


class SerializerConformance(Conformance):
    """Tests a `Serializer`: derive from it, name the class ``Test...``, and say how a serializer is made.

        class TestMySerializer(SerializerConformance):
            def make(self, app):
                return MySerializer(app)

    Where it does not take all that pickle takes, ``elements`` are some that it does.
    """

    elements: ClassVar[Sequence[Any]] = (
        *(None, True, False, 0, -1, 255, 2**31, -(2**63), 2**64, 10**40, 0.5, -0.0, 1e300, float("inf"), 1 + 2j),
        *("", "text", "ünï\u2028cödé \U0001f600", "a\0b", "x" * 10_000, b"", b"bytes\0", b"y" * 10_000),
        *((), (1,), [], [1], ([1], (2,)), [(1, [2, (3,)])], {}, {"a": [1], 2: (3,)}, {1, 2}, frozenset({3}), ...),
        *(bytearray(b"changeable"), range(3), Decimal("1.50"), datetime.date(2024, 2, 29), datetime.timedelta(1, 2, 3)),
    )
    """Elements of RDDs."""
    unserializable: Any = None
    """Something that it can't serialize; a frame of the interpreter's unless set."""

    @abstractmethod
    def make(self, app: AppSpec) -> Serializer:
        """A new serializer, as a worker makes it."""

    # ------------------------------------------------------------------------------------ what there is

    @pytest.fixture(autouse=True)
    def _with_a_serializer(self) -> None:
        self.app = sample_app()
        self.serializer = self.make(self.app)

    def subject(self) -> str:
        return type(self.serializer).__name__

    def dumps(self, value: Any) -> Sequence[Buffer]:
        with self.promised("Serializer.dumps", "one chunk at least, each of single bytes"):
            chunks = self.serializer.dumps(value)
            expect(isinstance(chunks, Sequence) and not isinstance(chunks, bytes), f"returned {shown(chunks)}")
            expect(len(chunks) > 0, f"returned no chunk for {shown(value)}")
            for chunk in chunks:
                expect(isinstance(chunk, bytes | bytearray | memoryview), f"gave the chunk {shown(chunk)}")
                view = memoryview(chunk)
                expect(view.contiguous, "gave a chunk whose bytes do not lie one behind the other")
                expect(len(chunk) == view.nbytes, f"gave a chunk of length {len(chunk)} that has {view.nbytes} bytes")
        return chunks

    def loads(self, chunks: Sequence[Buffer]) -> Any:
        """By an object of its own, as another worker has it, of memory as asparkle has read it."""
        with self.promised("Serializer.loads", "`dumps` may have been another object's, in another process"):
            return self.make(self.app).loads(_read(chunks))

    def survives(self, value: Any) -> None:
        """That ``value`` is what is loaded."""
        found = self.loads(self.dumps(value))
        with self.promised("Serializer.loads", SAME):
            expect(not (difference := differs(found, value)), f"made {difference}")

    # -------------------------------------------------------------------------------------- the promises

    def test_the_class_is_called_with_the_application(self) -> None:
        with self.promised("Serializer", "The class is called with the application's `AppSpec`"):
            kind: Callable[[AppSpec], Serializer] = type(self.serializer)
            expect(isinstance(kind(self.app), Serializer), "is not a class derived from Serializer")

    def test_elements(self) -> None:
        """One by one, so that the message names the one that is not the same."""
        for element in self.elements:
            self.survives([element])

    @pytest.mark.parametrize("count", [0, 1, 2, 1000])
    def test_lists_of_elements(self, count: int) -> None:
        self.survives([self.elements[i % len(self.elements)] for i in range(count)])

    @pytest.mark.parametrize("combined", [False, True])
    def test_what_shuffles_and_spills_have(self, combined: bool) -> None:
        values = list(self.elements)
        self.survives(([*range(len(values))], values, combined))
        self.survives((values, None, combined))
        self.survives(("these\0are\0joined\0keys", [[value] for value in values[:4]], combined))

    def test_what_a_task_returns(self) -> None:
        results: Sequence[Any] = (None, 7, 0.5, "text", (3, 1.5), [], {"a": 1})
        for result in results:
            self.survives(result)

    def test_large_elements(self) -> None:
        texts = [element for element in self.elements if element and isinstance(element, str | bytes | bytearray)]
        self.survives([text * ((1 << 20) // len(text)) for text in texts])

    def test_what_is_loaded_is_new_each_time(self) -> None:
        """Users' functions may change what they are given."""
        value = [[1], {"a": [2]}, [3, [4]]]
        chunks = self.dumps(value)
        with self.promised("Serializer.loads", "new each time"):
            loader = self.make(self.app)
            for _ in range(2):
                found = loader.loads(_read(chunks))
                expect(found == value, f"loaded {shown(found)} of {shown(value)}, when it had been loaded and changed")
                found[0].append("changed")
                found[1]["a"].append("changed")
                found[2][1].append("changed")
                found.append("changed")

    def test_the_value_is_not_changed(self) -> None:
        value = [[1, (2, [3])], {"a": [4]}, "text", *self.elements]
        before = copy.deepcopy(value)
        self.dumps(value)
        with self.promised("Serializer.dumps", "It is not to be changed"):
            expect(not (difference := differs(value, before)), f"made {difference}, of what it was given")

    def test_chunks_stay_what_they_are(self) -> None:
        """A task collects megabytes of them before it writes."""
        values = [[i, f"element {i}", "x" * 5000 * i] for i in range(20)]
        with self.promised("Serializer.dumps", LATER):
            dumped = [self.serializer.dumps(value) for value in values]
            for value, chunks in zip(values, dumped, strict=True):
                found = self.make(self.app).loads(_read(chunks))
                expect(
                    found == value, f"loaded {shown(found)} of {shown(value)}, as others were dumped before it was read"
                )

    @pytest.mark.parametrize("memory", ["bytes", "writable", "a map", "a frame"])
    def test_chunks_may_lie_in_any_memory(self, memory: str) -> None:
        """Views of what was read, by a `read`, or a memory map; read-only where they come in a message."""
        value = [*range(100), "text", "x" * 10_000, [1, [2]]]
        chunks = self.dumps(value)
        with self.promised("Serializer.loads", "``chunks``: views, as many, and as long, as `dumps` gave"):
            found = self.make(self.app).loads(_mapped(chunks) if memory == "a map" else _read(chunks, memory))
            expect(not (difference := differs(found, value)), f"made {difference}, of chunks in {memory} memory")

    def test_what_cant_be_serialized(self) -> None:
        value = sys._getframe() if self.unserializable is None else self.unserializable
        for batch in ([1, value], ([1], [value], False), value):
            with self.promised("Serializer.dumps", "Raises anything for a value that can't be serialized"):
                try:
                    self.serializer.dumps(batch)
                except Exception:
                    continue
                expect(False, f"raised nothing for {shown(batch)}")
        self.survives([1, "after that"])

    def test_several_threads_at_once(self) -> None:
        problems: list[str] = []

        def work(number: int) -> None:
            rng = random.Random(number)
            try:
                for i in range(200):
                    value = [(number, i, "x" * rng.randrange(2000), [j]) for j in range(rng.randrange(20))]
                    if self.serializer.loads(_read(self.serializer.dumps(value))) != value:
                        problems.append("loaded something else than it had dumped, in one of several threads")
            except Exception as error:
                problems.append(f"raised {type(error).__name__}: {error}, in one of several threads")

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            with self.promised("Serializer", "also at once in several threads"):
                threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(6)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(self.patience / 2)
                expect(not any(thread.is_alive() for thread in threads), "did not return to one of several threads")
                expect(not problems, problems[0] if problems else "")
        finally:
            sys.setswitchinterval(before)

    def test_whether_one_chunk_is_a_pickle(self) -> None:
        with self.promised(
            "Serializer.is_pickle", "Whether one chunk alone is a pickle, of protocol 5, that `pickle.loads` reads"
        ):
            expect(isinstance(self.serializer.is_pickle, bool), f"says is_pickle = {self.serializer.is_pickle!r}")
            for value in ([*range(100)], [], 7, {"a": [1]}) if self.serializer.is_pickle else ():
                chunks = self.serializer.dumps(value)
                if len(chunks) == 1:
                    expect(
                        bytes(chunks[0][:2]) == b"\x80\x05", f"says is_pickle, and begins with {bytes(chunks[0][:8])!r}"
                    )
                    found = pickle.loads(chunks[0])
                    expect(found == value, f"says is_pickle, and pickle.loads gives {shown(found)} of {shown(value)}")

    def test_a_job_uses_it(self) -> None:
        """A shuffle that spills, partitions cached on disk, and results, of real workers in processes of their own."""
        from asparkle import SparkConf, SparkContext, StorageLevel

        plugins, name = providing(Serializer, type(self.serializer))
        conf = SparkConf().set("asparkle.serializer", name).set("spark.local.dir", str(self.directory))
        conf.set("spark.python.worker.memory", "200k")
        with (
            self.promised("Serializer", "those of shuffles, spills, cached partitions and results", within=60.0),
            SparkContext("processes[2]", conf=conf, plugins=plugins) as sc,
        ):
            pairs = sc.parallelize(range(20_000), 2).map(lambda x: (f"k{x % 100}", x))
            kept = pairs.groupByKey(2).mapValues(sorted).persist(StorageLevel.DISK_ONLY)
            for _ in range(2):
                groups = dict(kept.collect())
                expect(
                    groups == {f"k{k}": [*range(k, 20_000, 100)] for k in range(100)},
                    f"made a job return {shown(groups)}",
                )
            values = list(self.elements)
            found = sc.parallelize(enumerate(values), 2).partitionBy(2).sortByKey(numPartitions=2).values().collect()
            expect(not (difference := differs(found, values)), f"made, in a job, {difference}")


def differs(found: Any, wanted: Any) -> str:
    """In words, where ``found`` is not of the same types as ``wanted``, or not equal to it; empty if it is."""
    kinds = type(found), type(wanted)
    if kinds[0] is not kinds[1]:
        return f"{shown(found)}, a {kinds[0].__name__}, of {shown(wanted)}, a {kinds[1].__name__}"
    if isinstance(wanted, list | tuple) and len(found) == len(wanted):
        return next((inner for pair in zip(found, wanted, strict=True) if (inner := differs(*pair))), "")
    if isinstance(wanted, dict) and list(found) == list(wanted):
        return differs([*found.keys(), *found.values()], [*wanted.keys(), *wanted.values()])
    same = repr(found) == repr(wanted) if isinstance(wanted, float) else bool(found == wanted)  # -0.0, NaN
    return "" if same else f"{shown(found)} of {shown(wanted)}"


def _read(chunks: Sequence[Buffer], memory: str = "a frame") -> Sequence[Buffer]:
    """The chunks as asparkle has them when they were written and read again."""
    if memory == "a frame":
        data = memoryview(bytearray(b"".join(pack_frame(chunks))))
        found: list[Sequence[Buffer]] = []
        read_frame(data, 0, found.append)
        return found[0]
    return [memoryview(bytes(chunk) if memory == "bytes" else bytearray(chunk)) for chunk in chunks]


def _mapped(chunks: Sequence[Buffer]) -> Sequence[Buffer]:
    found: list[Buffer] = []
    for chunk in chunks:
        size = memoryview(chunk).nbytes
        memory = mmap.mmap(-1, max(1, size))
        memory[:size] = bytes(chunk)
        found.append(memoryview(memory)[:size])
    return found
