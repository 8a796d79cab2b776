"""Whole files and records; expected values of tables are PySpark 4.3's, in the order of names."""

from __future__ import annotations

import gzip
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle import SparkConf, SparkContext
from asparkle.core import wholefiles
from asparkle.core.errors import ArgumentError, ArgumentTypeError, InputIsDirectory, JobFailed
from asparkle.core.inputfiles import InputFile
from asparkle.core.wholefiles import group_binaries, group_texts, plan_records, read_records


@pytest.fixture
def directory(tmp_path):
    for name, content in {
        "1.txt": b"123",
        "2.txt": b"xyz\xff\n\r\n",
        "empty.txt": b"",
        "mark.txt": b"\xef\xbb\xbfabc",
        "z.gz": gzip.compress(b"gz data", mtime=0),
        "_hidden": b"q",
        ".hidden": b"q",
        "below/b": b"B",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_texts(sc, directory):
    """Invalid bytes are replaced, a mark stays, line ends stay, compressed files are decompressed."""
    expected = [
        ("1.txt", "123"),
        ("2.txt", "xyz\ufffd\n\r\n"),
        ("empty.txt", ""),
        ("mark.txt", "\ufeffabc"),
        ("z.gz", "gz data"),
    ]
    pairs = [(f"file:{directory}/{name}", text) for name, text in expected]
    assert sc.wholeTextFiles(str(directory)).collect() == pairs
    assert sc.wholeTextFiles(directory, use_unicode=False).collect() == [(k.encode(), v.encode()) for k, v in pairs]
    assert sc.wholeTextFiles(f"{directory}/*/b,{directory}/1.txt", 1).values().collect() == ["B", "123"]


def test_binaries(sc, directory):
    found = dict(sc.binaryFiles(directory).collect())
    assert found[f"file:{directory}/2.txt"] == b"xyz\xff\n\r\n"
    assert gzip.decompress(found[f"file:{directory}/z.gz"]) == b"gz data"
    assert len(found) == 5
    assert sc.binaryFiles(directory).getNumPartitions() == 1


def test_files_of_all_levels(directory):
    conf = SparkConf().set("spark.hadoop.mapreduce.input.fileinputformat.input.dir.recursive", "true")
    with SparkContext("threads[2]", conf=conf) as sc:
        assert sc.textFile(directory).take(6) == ["123", "xyz\ufffd", "", "B", "abc", "gz data"]
        assert sc.binaryFiles(directory).count() == 6 == sc.wholeTextFiles(directory).count()
    with (
        SparkContext("threads[2]") as sc,
        pytest.raises(InputIsDirectory, match=r"/below' is no file .*recursive=true"),
    ):
        sc.textFile(directory).count()


@pytest.mark.parametrize("name", ["x.snappy", "X.SNAPPY", "x.lzo", "x.lzo_deflate"])
def test_what_cannot_be_decompressed_is_named(threads, tmp_path, name):
    (tmp_path / name).write_bytes(b"abc")
    for read in (threads.textFile, threads.wholeTextFiles, lambda path: threads.binaryRecords(path, 3)):
        with pytest.raises(ArgumentError, match=f"/{name}': (Snappy|LZO) files can't be read"):
            read(tmp_path).collect()
    assert threads.binaryFiles(tmp_path).values().collect() == [b"abc"]


@given(st.lists(st.integers(0, 100)), st.integers(1, 10))
def test_groups_have_all_files_in_order(sizes, many):
    files = [InputFile(f"/{i}", size) for i, size in enumerate(sizes)]
    for groups in (group_texts(files, many), group_binaries(files, many, parallelism=4)):
        assert [file for group in groups for file in group] == files
        assert all(groups)
    assert len(group_texts(files, many)) <= many + 1


def test_how_many_share_a_partition():
    files = [InputFile(str(i), size) for i, size in enumerate([3, 7, 4, 1000, 0, 29])]
    shapes = {n: [[f.size for f in group] for group in group_texts(files, n)] for n in (1, 2, 100)}
    assert shapes == {
        1: [[3, 7, 4, 1000, 0, 29]],
        2: [[3, 7, 4, 1000], [0, 29]],
        100: [[3, 7, 4], [1000], [0, 29]],
    }
    large = [InputFile(str(i), 30 << 20) for i in range(8)]
    assert [len(group) for group in group_binaries(large, 2, parallelism=2)] == [5, 3]


def test_records(sc, tmp_path):
    (tmp_path / "records").write_bytes(b"0123456789" * 10)
    rdd = sc.binaryRecords(str(tmp_path / "records"), 5)
    assert rdd.collect() == [b"01234", b"56789"] * 10
    with pytest.raises(JobFailed, match=r"records': the last record has 2 bytes, not 7"):
        sc.binaryRecords(str(tmp_path / "records"), 7).collect()


def test_large_records_are_cut_as_in_spark():
    pieces = plan_records([InputFile("/f", 70_000_000)], 10)
    assert [piece.length for piece in pieces] == [33_554_430, 36_445_570]
    assert [piece.length for piece in plan_records([InputFile("/f", 3 * (40 << 20))], 40 << 20)] == [40 << 20] * 3


@given(st.integers(1, 50), st.integers(0, 200), st.integers(1, 30))
def test_pieces_have_each_record_once(tmp_path_factory, length, count, block):
    path = tmp_path_factory.mktemp("records") / "file"
    path.write_bytes(os.urandom(length * count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wholefiles, "BLOCK_SIZE", block * 7)
        patch.setattr(wholefiles, "CHUNK", 64)
        pieces = plan_records([InputFile(str(path), length * count)], length)
        found = [record for piece in pieces for record in read_records(piece, (), length)]
    assert b"".join(found) == path.read_bytes() and {len(record) for record in found} <= {length}


def test_bad_arguments(threads, tmp_path):
    with pytest.raises(ArgumentError, match="recordLength = 0"):
        threads.binaryRecords("x", 0)
    with pytest.raises(ArgumentTypeError, match="path = 5"):
        threads.wholeTextFiles(5)
    with pytest.raises(ArgumentError, match="minPartitions"):
        threads.binaryFiles("x", 0)
    (tmp_path / "x.gz").write_bytes(b"1")
    with pytest.raises(ArgumentError, match="compressed"):
        threads.binaryRecords(str(tmp_path), 1).collect()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        threads.binaryFiles(tmp_path / "nowhere").collect()
