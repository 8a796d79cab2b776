"""Shuffle stores from plugins: where map outputs lie, lost, damaged and removed."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from asparkle import RDD, JobFailed, SparkConf, SparkContext
from asparkle.backends.shufflefiles import FileShuffleStore
from asparkle.core.contracts import ShuffleStore
from asparkle.errors import ConfigurationError, PluginError, StorageError
from asparkle.plugins import hookimpl
from asparkle.plugins.registry import PluginRegistry

MOON = '''
import os
import sqlite3

from asparkle.errors import StorageError
from asparkle.plugins import MapOutputReader, MapOutputWriter, ShuffleStore, hookimpl

FILE = os.path.join(os.path.dirname(__file__), "outputs.db")


def connect():
    connection = sqlite3.connect(FILE, timeout=60)
    connection.execute("create table if not exists outputs (shuffle, map, attempt, partition, data)")
    return connection


class TableStore(ShuffleStore):
    """Map outputs as rows of a table."""

    scope = "shared"

    def __init__(self, app):
        self.app = app.app_id

    def begin(self, output, partitions):
        return Writer(output, partitions)

    def open(self, location, partition):
        return Reader(location, partition)

    def remove(self, shuffle, before):
        with connect() as connection:
            connection.execute("delete from outputs where shuffle = ? and attempt < ?", (shuffle, before))

    def close(self):
        with connect() as connection:
            connection.execute("drop table outputs")
            connection.execute("create table closed (app)")
            connection.execute("insert into closed values (?)", (self.app,))


class Writer(MapOutputWriter):
    def __init__(self, output, partitions):
        self.output = output
        self.data = {}

    def write(self, pieces):
        for partition, chunks in pieces:
            self.data.setdefault(partition, bytearray()).extend(b"".join(chunks))
        if any(b"full" in data for data in self.data.values()):
            raise StorageError("the table", "it is full")

    def commit(self):
        with connect() as connection:
            rows = [(*self.output, partition, bytes(data)) for partition, data in self.data.items()]
            connection.executemany("insert into outputs values (?, ?, ?, ?, ?)", rows)
        return list(self.output)

    def abort(self):
        self.data.clear()


class Reader(MapOutputReader):
    def __init__(self, location, partition):
        with connect() as connection:
            where = "shuffle = ? and map = ? and attempt = ? and partition = ?"
            found = connection.execute("select data from outputs where " + where, (*location, partition)).fetchone()
        if found is None:
            raise FileNotFoundError(f"no row {location} {partition}")
        self.data = found[0]

    def read(self, offset, count):
        return memoryview(bytearray(self.data[offset : offset + count]))


class WorkersStore(TableStore):
    """The same, but believed to be lost with the worker."""

    scope = "worker"


@hookimpl
def asparkle_shuffle_stores():
    return {"table": "moon_store:TableStore", "workers": "moon_store:WorkersStore"}
'''


@pytest.fixture
def settings(tmp_path, monkeypatch):
    (tmp_path / "moon_store.py").write_text(MOON)
    (tmp_path / "local").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "moon_store", raising=False)
    return {
        "asparkle.store.shuffle": "table",
        "spark.local.dir": str(tmp_path / "local"),
        "spark.python.worker.memory": "200k",
    }


def context(master, settings):
    import moon_store

    return SparkContext(master, conf=SparkConf().setAll(settings.items()), plugins=[moon_store])


@pytest.fixture(params=["threads[2]", "processes[2]"])
def sc(request, settings):
    with context(request.param, settings) as context_:
        yield context_


def rows(tmp_path: Path, statement: str, *arguments: object) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(tmp_path / "outputs.db", timeout=60)
    try:
        with connection:
            return connection.execute(statement, arguments).fetchall()
    finally:
        connection.close()


class Runs:
    """How many map tasks have run: a byte each, in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def add(self) -> None:
        with self.file.open("ab") as file:
            file.write(b".")

    @property
    def value(self) -> int:
        return self.file.stat().st_size


def counted(sc: SparkContext, tmp_path: Path) -> tuple[RDD, Runs]:
    """An RDD behind a shuffle of four map tasks, which are counted; too much for messages."""
    runs = Runs(tmp_path / "runs")

    def noted(index, elements):
        runs.add()
        return [(x % 2, f"{x}" * 5000) for x in elements]

    return sc.parallelize(range(8), 4).mapPartitionsWithIndex(noted).groupByKey(2).mapValues(len), runs


RIGHT = [(0, 4), (1, 4)]


def test_shuffles_go_through_a_store_from_a_plugin(sc, tmp_path):
    """200 KB hold a part of it: map tasks write in rounds."""
    pairs = sc.parallelize(range(20_000), 4).map(lambda x: (x % 100, str(x) * 10))
    grouped = pairs.groupByKey(3).mapValues(list)
    assert grouped.collectAsMap() == {k: [str(x) * 10 for x in range(k, 20_000, 100)] for k in range(100)}
    mixed = sc.parallelize(range(20_000), 4).map(lambda x: (-x, x)).sortByKey(numPartitions=3)
    assert mixed.values().first() == 19_999
    kept = rows(tmp_path, "select shuffle, count(distinct map) from outputs group by shuffle")
    assert [maps for _, maps in kept] == [4, 4]
    assert list((tmp_path / "local").glob("*/shuffle-*")) == []


def test_arrays_that_were_read_can_be_written(sc):
    numpy = pytest.importorskip("numpy")

    def added(array):
        array += 1
        return float(array.sum())

    pairs = sc.parallelize(range(4), 2).map(lambda x: (x, numpy.zeros(300_000)))  # longer than what is read ahead
    assert pairs.partitionBy(2).mapValues(added).values().collect() == [300_000.0] * 4


def test_what_is_small_never_gets_there(sc, tmp_path):
    assert sorted(sc.parallelize(range(8), 4).map(lambda x: (x % 2, x)).groupByKey().mapValues(len).collect()) == RIGHT
    assert not (tmp_path / "outputs.db").exists()


@pytest.mark.parametrize(
    "damage",
    [
        "delete from outputs where map = 2",
        "update outputs set data = substr(data, 1, 1000) where map = 2",
        "update outputs set data = zeroblob(length(data)) where map = 2",
        "update outputs set data = x'' where map = 2",
    ],
)
def test_an_output_that_is_lost_or_damaged_is_computed_again_and_no_other(sc, tmp_path, damage):
    rdd, runs = counted(sc, tmp_path)
    assert sorted(rdd.collect()) == RIGHT and runs.value == 4
    rows(tmp_path, damage)
    assert sorted(rdd.collect()) == RIGHT and runs.value == 5


def test_a_removed_shuffle_leaves_nothing_and_is_written_anew(sc, tmp_path):
    rdd, runs = counted(sc, tmp_path)
    rdd.count()
    assert len(rows(tmp_path, "select * from outputs")) == 8  # of four map tasks, for two partitions each
    rdd.cleanShuffleDependencies(blocking=True)
    assert rows(tmp_path, "select * from outputs") == []
    assert sorted(rdd.collect()) == RIGHT and runs.value == 8
    assert len(rows(tmp_path, "select * from outputs")) == 8


def test_a_store_is_closed_in_the_end_if_there_were_shuffles(settings, tmp_path):
    with context("threads[1]", settings) as sc:
        sc.parallelize(range(4), 2).count()
    assert not (tmp_path / "outputs.db").exists()
    with context("processes[1]", settings) as sc:
        counted(sc, tmp_path)[0].count()
        app = sc.applicationId
    assert rows(tmp_path, "select app from closed") == [(app,)]


def test_a_store_that_is_full_fails_the_job_and_keeps_nothing(sc, tmp_path):
    with pytest.raises(JobFailed, match="it is full") as failed:
        sc.parallelize(range(4), 1).map(lambda x: (x, "full" * 3000)).groupByKey(2).count()
    assert isinstance(failed.value.__cause__, StorageError)
    assert not (tmp_path / "outputs.db").exists() or rows(tmp_path, "select * from outputs") == []


@pytest.mark.parametrize(("store", "again"), [("table", False), ("workers", True)])
def test_what_outlives_its_worker_is_not_computed_again(settings, tmp_path, store, again):
    with context("processes[2]", settings | {"asparkle.store.shuffle": store}) as sc:
        rdd, runs = counted(sc, tmp_path)
        rdd.count()
        for pid in set(sc.parallelize(range(8), 8).map(lambda _: os.getpid()).collect()):
            os.kill(pid, signal.SIGKILL)
        assert sorted(rdd.collect()) == RIGHT
        assert (runs.value > 4) is again


# ------------------------------------------------------------------------------------------------ the files


class App:
    host = dialer = ""
    fetch_ahead = 1 << 20

    def __init__(self, directories):
        self.directories = directories


def written(store: FileShuffleStore, output: tuple[int, int, int], *rounds: list[tuple[int, bytes]]) -> str:
    writer = store.begin(output, 3)
    for pieces in rounds:
        writer.write([(partition, [data[:2], data[2:]]) for partition, data in pieces])
    return writer.commit()


def test_pieces_are_joined_by_partition(tmp_path):
    store = FileShuffleStore(App([str(tmp_path)]))
    where = written(store, (7, 0, 1), [(0, b"aaaa"), (2, b"bb"), (2, b"cc")], [(0, b"dddd")], [(1, b"e"), (2, b"f")])
    contents = []
    for partition in range(3):
        reader, content = store.open(where, partition), b""
        while data := reader.read(len(content), 100):
            content += data
        contents.append(content)
        reader.close()
    assert contents == [b"aaaadddd", b"e", b"bbccf"]


def test_what_is_removed_is_what_was_written_before(tmp_path):
    store = FileShuffleStore(App([str(tmp_path), str(tmp_path / "second")]))
    (tmp_path / "second").mkdir()
    old = [written(store, (7, p, 10 + p), [(0, b"x")]) for p in range(4)]
    begun = store.begin((7, 0, 13), 3)  # by an attempt that does not know
    new = written(store, (7, 0, 14), [(0, b"x")])
    store.remove(7, 14)
    assert [store.has(where) for where in (*old, new)] == [False] * 4 + [True]
    begun.abort()
    store.remove(7, 15)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() or path.name.startswith("shuffle")] == []
    store.remove(7, 99)
    assert store.has(written(store, (7, 0, 20), [(0, b"x")]))


def test_an_aborted_output_leaves_no_file(tmp_path):
    store = FileShuffleStore(App([str(tmp_path)]))
    writer = store.begin((1, 0, 0), 2)
    writer.write([(0, [b"x"])])
    writer.abort()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# -------------------------------------------------------------------------------------------------- names


def test_unknown_and_taken_names_and_unmet_contracts_are_named(settings):
    with pytest.raises(ConfigurationError, match="unknown shuffle store 'table': known are files"):
        SparkContext("inline", conf=SparkConf().setAll(settings.items()))

    class Plugin:
        def __init__(self, table):
            self.table = table

        @hookimpl
        def asparkle_shuffle_stores(self):
            return self.table

    with pytest.raises(PluginError, match="asparkle_shuffle_stores: 'files' is already provided by asparkle itself"):
        PluginRegistry(SparkConf(), [Plugin({"files": "x:Y"})])
    half = type("Half", (ShuffleStore,), {"begin": lambda self, output, partitions: None, "remove": lambda self: None})
    with pytest.raises(PluginError, match=r"Half lacks ShuffleStore\.open\(location, partition\)"):
        PluginRegistry(SparkConf(), [Plugin({"half": half})]).path(ShuffleStore, "half")
