"""Where RDDs come from: collections, ranges, arrays and text files, and how they are cut into partitions."""

from __future__ import annotations

import bz2
import gzip

import pytest

from asparkle.core.errors import ArgumentError, JobFailed
from asparkle.core.sources import Collection, Range


async def parts(rdd):
    return await rdd.glom().collect()


# ------------------------------------------------------------------------------------- collections


async def test_a_range_is_cut_evenly(sc):
    assert await parts(sc.parallelize(range(10), 4)) == [[0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]
    assert await parts(sc.parallelize(range(0, 6, 2), 5)) == [[], [0], [], [2], [4]]
    assert await parts(sc.parallelize(range(5, 0, -2), 2)) == [[5], [3, 1]]


async def test_a_list_is_cut_as_in_pyspark(sc):
    assert await parts(sc.parallelize([0, 2, 3, 4, 6], 5)) == [[0], [2], [3], [4], [6]]
    assert await parts(sc.parallelize(list(range(10)), 4)) == [[0, 1], [2, 3], [4, 5], [6, 7, 8, 9]]
    assert await parts(sc.parallelize([1], 3)) == [[], [], [1]]
    assert await parts(sc.parallelize([], 2)) == [[], []]


@pytest.mark.parametrize(
    ("given", "elements"),
    [
        ("abc", ["a", "b", "c"]),
        ((1, 2), [1, 2]),
        ({"a": 1, "b": 2}, ["a", "b"]),
        ({7}, [7]),
        (b"ab", [97, 98]),
        (iter([1, 2]), [1, 2]),
        ((x * x for x in range(3)), [0, 1, 4]),
        (map(str, range(2)), ["0", "1"]),
        ([None, [1], {"a": (1,)}], [None, [1], {"a": (1,)}]),
    ],
)
async def test_any_iterable_will_do(local, given, elements):
    assert await local.parallelize(given, 2).collect() == elements


async def test_sc_range(sc):
    assert await sc.range(5).collect() == [0, 1, 2, 3, 4]
    assert await sc.range(2, 4).collect() == [2, 3]
    assert await sc.range(1, 7, 2, numSlices=2).collect() == [1, 3, 5]
    assert await sc.range(5, 1).collect() == []
    assert await sc.range(10, step=5).collect() == [0, 5]
    assert await sc.range(10, step=-1).collect() == []
    for arguments in ((1, 5, 0), (5, None, 0)):
        with pytest.raises(ArgumentError, match="range: step = 0"):
            sc.range(*arguments)


async def test_a_huge_range_costs_nothing(sc):
    rdd = sc.parallelize(range(10**15), 1000)
    assert await rdd.take(2) == [0, 1]
    assert await sc.runJob(rdd, lambda it: [next(it)], [999]) == [10**15 // 1000 * 999]


async def test_kinds_are_kept(local):
    """A range stays three numbers, and a slice of an array is an array."""
    numpy = pytest.importorskip("numpy")
    assert isinstance(local.parallelize(range(5))._node, Range)
    node = local.parallelize(numpy.arange(6), 3)._node
    assert isinstance(node, Collection)
    assert isinstance(node.slice(1), numpy.ndarray)
    assert isinstance(local.parallelize((1, 2, 3), 2)._node.slice(0), tuple)


async def test_a_collection_is_read_when_the_job_runs(sc):
    """Changing the list between two jobs is not seen: its slices are pickled once."""
    data = [1, 2, 3]
    rdd = sc.parallelize(data, 1)
    assert await rdd.sum() == 6
    data[0] = 100
    assert await rdd.sum() == 6


async def test_large_elements_travel(sc):
    rdd = sc.parallelize([bytes(3_000_000), b"x" * 100_000], 2)
    assert await rdd.map(len).collect() == [3_000_000, 100_000]
    assert [len(x) for x in await rdd.collect()] == [3_000_000, 100_000]


async def test_large_arrays_travel(sc):
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(1_000_000, dtype="float64")
    rdd = sc.parallelize([array[:500_000], array[500_000:]], 2)
    assert await rdd.map(lambda a: float(a.sum())).sum() == array.sum()
    first, second = await rdd.map(lambda a: a + 1).collect()
    assert numpy.array_equal(numpy.concatenate([first, second]), array + 1)
    first += 1  # what comes back can be written to


async def test_elements_of_a_class_defined_in_a_function(sc):
    class Point:
        def __init__(self, x):
            self.x = x

        def __eq__(self, other):
            return type(self).__name__ == type(other).__name__ and self.x == other.x

        def __hash__(self):
            return hash(self.x)

    found = await sc.parallelize([Point(1), Point(2), Point(1)], 2).map(lambda p: p.x).collect()
    assert found == [1, 2, 1]
    assert await sc.parallelize([Point(1), Point(2), Point(1)], 2).distinct().count() == 2


async def test_an_element_that_cannot_be_pickled_is_named(sc):
    import threading

    from asparkle.core.errors import PicklingFailed

    with pytest.raises(PicklingFailed):
        await sc.parallelize([1, {"lock": threading.Lock()}], 1).map(str).collect()


# ------------------------------------------------------------------------------------- unions


async def test_union_of_many(sc):
    rdds = [sc.parallelize([i], 1) for i in range(5)]
    assert await parts(sc.union(rdds)) == [[0], [1], [2], [3], [4]]
    assert sc.union(rdds[:1]) is rdds[0]
    assert await parts(rdds[0] + rdds[1] + sc.emptyRDD() + rdds[2]) == [[0], [1], [2]]
    assert await parts(sc.emptyRDD().union(sc.emptyRDD()).union(rdds[3])) == [[3]]
    assert await sc.union([rdds[0], rdds[0]]).collect() == [0, 0]


# ------------------------------------------------------------------------------------- text files


async def test_a_file(sc, tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("one\ntwo\r\nthrée\n\nfive")
    rdd = sc.textFile(str(path), 1)
    assert await rdd.collect() == ["one", "two", "thrée", "", "five"]
    assert rdd.name() == str(path)
    assert await sc.textFile(str(path), use_unicode=False).first() == b"one"


async def test_a_file_in_many_splits(sc, tmp_path):
    path = tmp_path / "lines.txt"
    lines = [f"línea {i} " + "ö" * (i % 7) for i in range(2_000)]
    path.write_text("\n".join(lines) + "\n")
    for slices in (1, 2, 7):
        rdd = sc.textFile(str(path), slices)
        assert await rdd.getNumPartitions() >= slices
        assert await rdd.collect() == lines
        assert await rdd.count() == 2_000


async def test_directories_globs_and_lists(sc, tmp_path):
    for name in ("b.txt", "a.txt", ".hidden", "_SUCCESS"):
        (tmp_path / name).write_text(f"{name}\n")
    assert await sc.textFile(str(tmp_path)).collect() == ["a.txt", "b.txt"]
    assert await sc.textFile(f"{tmp_path}/*.txt").collect() == ["a.txt", "b.txt"]
    assert await sc.textFile(f"{tmp_path}/b.txt,{tmp_path}/a.txt").collect() == ["b.txt", "a.txt"]


@pytest.mark.parametrize(("ending", "module"), [("gz", gzip), ("bz2", bz2)])
async def test_compressed_files(sc, tmp_path, ending, module):
    path = tmp_path / f"lines.txt.{ending}"
    with module.open(path, "wt", encoding="utf-8") as file:
        file.write("ä\nb\nc")
    rdd = sc.textFile(str(path), 4)
    assert await rdd.getNumPartitions() == 1
    assert await rdd.collect() == ["ä", "b", "c"]


async def test_a_file_that_is_not_there_fails_at_the_action(sc, tmp_path):
    rdd = sc.textFile(str(tmp_path / "nowhere.txt")).map(len)
    with pytest.raises(OSError, match=r"nowhere\.txt"):
        await rdd.collect()
    (tmp_path / "nowhere.txt").write_text("abc\n")
    assert await rdd.collect() == [3]


async def test_a_file_that_disappears_fails_the_job(sc, tmp_path):
    path = tmp_path / "gone.txt"
    path.write_text("abc\n")
    rdd = sc.textFile(str(path), 1)
    assert await rdd.count() == 1
    path.unlink()
    with pytest.raises(JobFailed, match=r"gone\.txt"):
        await rdd.count()


async def test_paths_are_relative_to_where_the_rdd_was_made(local, tmp_path, monkeypatch):
    (tmp_path / "here.txt").write_text("abc\n")
    directory = tmp_path / "a[b]{c}"
    directory.mkdir()
    (directory / "there.txt").write_text("def\n")
    monkeypatch.chdir(tmp_path)
    here = local.textFile("here.txt")
    monkeypatch.chdir(directory)
    there = local.textFile("*.txt")
    monkeypatch.chdir("/")
    assert await here.union(there).collect() == ["abc", "def"]


async def test_a_torn_compressed_file_is_named(sc, tmp_path):
    path = tmp_path / "torn.gz"
    path.write_bytes(gzip.compress(b"abc" * 1000)[:-10])
    with pytest.raises(JobFailed, match=r"torn\.gz': .*"):
        await sc.textFile(str(path)).count()


async def test_word_count(sc, tmp_path):
    path = tmp_path / "text"
    path.write_text("the cat\nthe dog\n" * 100)
    words = sc.textFile(str(path), 3).flatMap(str.split).map(lambda w: (w, 1)).reduceByKey(lambda a, b: a + b)
    assert await words.sortBy(lambda kv: (-kv[1], kv[0])).collect() == [
        ("the", 200),
        ("cat", 100),
        ("dog", 100),
    ]
