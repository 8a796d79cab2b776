"""SequenceFiles and pickle files: what Spark wrote is read, byte for byte, and nothing damaged is believed."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import itertools
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asparkle.core import sequencefiles
from asparkle.core.errors import CorruptInput, JobFailed, NeedsJVM, UserFunctionError
from asparkle.core.inputfiles import FileSplit
from asparkle.core.picklefiles import from_java, read_pickles, to_java
from asparkle.core.sequencefiles import SequenceWriter, WritePairs, class_for, read_pairs, read_raw, vint

IO = "org.apache.hadoop.io."
SYNC = bytes(range(16))

# Written by PySpark 4.3: parallelize([(1, "a"), (2, "b")], 1).saveAsSequenceFile(path), marks replaced by SYNC
PLAIN = (
    b"SEQ\x06 org.apache.hadoop.io.IntWritable\x19org.apache.hadoop.io.Text\x00\x00\x00\x00\x00\x00"
    + SYNC
    + b"\x00\x00\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01\x01a\x00\x00\x00\x06\x00\x00\x00\x04\x00\x00\x00\x02\x01b"
)
# The same with [(i, f"v{i}") for i in range(5)] and DefaultCodec
BLOCKS = (
    b"SEQ\x06 org.apache.hadoop.io.IntWritable\x19org.apache.hadoop.io.Text\x01\x01"
    b"*org.apache.hadoop.io.compress.DefaultCodec\x00\x00\x00\x00"
    + SYNC
    + b"\xff\xff\xff\xff"
    + SYNC
    + b"\x05\x0bx\x9cca\x01\x02\x00\x00A\x00\x15\x14x\x9cc`\x00\x03F f\x02bf f\x01\x00\x00F\x00\x0b"
    b"\x0bx\x9ccf\x06\x02\x00\x002\x00\x10\x17x\x9cc*3`*3d*3b*3f*3\x01\x00\x19\x91\x03S"
)
# parallelize(range(25), 2).saveAsPickleFile(path, 3), the first file
PICKLES = (
    b'SEQ\x06!org.apache.hadoop.io.NullWritable"org.apache.hadoop.io.BytesWritable\x00\x00\x00\x00\x00\x00'
    + SYNC
    + b"\x00\x00\x00\xad\x00\x00\x00\x00\x00\x00\x00\xa9\xac\xed\x00\x05ur\x00\x03[[BK\xfd\x19\x15gg\xdb7\x02\x00\x00xp"
    b"\x00\x00\x00\x04ur\x00\x02[B\xac\xf3\x17\xf8\x06\x08T\xe0\x02\x00\x00xp\x00\x00\x00\x16\x80\x05\x95\x0b\x00\x00"
    b"\x00\x00\x00\x00\x00]\x94(K\x00K\x01K\x02e.uq\x00~\x00\x02\x00\x00\x00\x16\x80\x05\x95\x0b\x00\x00\x00\x00\x00"
    b"\x00\x00]\x94(K\x03K\x04K\x05e.uq\x00~\x00\x02\x00\x00\x00\x16\x80\x05\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94("
    b"K\x06K\x07K\x08e.uq\x00~\x00\x02\x00\x00\x00\x16\x80\x05\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94(K\tK\nK\x0be."
)


def whole(path: Path) -> FileSplit:
    return FileSplit(str(path), 0, path.stat().st_size)


def written(path: Path, data: bytes) -> FileSplit:
    path.write_bytes(data)
    return whole(path)


def pairs(split: FileSplit) -> list[tuple[object, object]]:
    return list(read_pairs(split, (), None, None))


# ----------------------------------------------------------------------------------------- what Spark wrote


def test_sparks_files_are_read(tmp_path):
    assert pairs(written(tmp_path / "plain", PLAIN)) == [(1, "a"), (2, "b")]
    assert pairs(written(tmp_path / "blocks", BLOCKS)) == [(i, f"v{i}") for i in range(5)]
    assert list(read_pickles(written(tmp_path / "pickles", PICKLES), ())) == list(range(12))


def test_spark_would_have_written_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(sequencefiles.os, "urandom", lambda n: SYNC)
    buffer = io.BytesIO()
    WritePairs(f"{IO}IntWritable", f"{IO}Text", None)([(1, "a"), (2, "b")], buffer)
    assert buffer.getvalue() == PLAIN
    from asparkle.core.picklefiles import WritePickles

    buffer = io.BytesIO()
    WritePickles(3)(range(12), buffer)
    assert buffer.getvalue() == PICKLES


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, zlib.compress], ids=["gzip", "bzip2", "deflate"])
def test_compressed_values(tmp_path, compress):
    """Files whose records are compressed one by one, which Spark does not write by itself."""
    name = {gzip: "GzipCodec", bz2: "BZip2Codec", zlib: "DefaultCodec"}[
        {gzip.compress: gzip, bz2.compress: bz2, zlib.compress: zlib}[compress]
    ]
    codec = f"org.apache.hadoop.io.compress.{name}".encode()
    head = (
        PLAIN[: PLAIN.index(b"\x00\x00\x00\x00\x00\x00" + SYNC)] + b"\x01\x00" + bytes([len(codec)]) + codec + bytes(4)
    )
    value = compress(b"\x02ab")
    record = (4 + len(value)).to_bytes(4, "big") + b"\x00\x00\x00\x04\x00\x00\x00\x07" + value
    assert pairs(written(tmp_path / "file", head + SYNC + record * 2)) == [(7, "ab"), (7, "ab")]


# ------------------------------------------------------------------------------------------------ model

values = st.one_of(
    st.lists(st.integers(-(1 << 31), (1 << 31) - 1), min_size=1),
    st.lists(st.integers(1 << 32, (1 << 63) - 1), min_size=1),
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1),
    st.lists(st.floats(allow_nan=False), min_size=1),
    st.lists(st.booleans(), min_size=1),
    st.lists(st.binary(max_size=300), min_size=1),
    st.lists(st.none(), min_size=1),
)


@settings(deadline=None)
@given(keys=values, others=values, codec=st.sampled_from([None, "GzipCodec", "BZip2Codec", "DefaultCodec"]))
def test_pairs_come_back(tmp_path_factory, keys, others, codec):
    elements = list(zip(keys, others, strict=False))
    path = tmp_path_factory.mktemp("pairs") / "file"
    name = codec and f"org.apache.hadoop.io.compress.{codec}"
    with path.open("wb") as file:
        WritePairs(class_for(keys[0]), class_for(others[0]), name)(elements, file)
    assert pairs(whole(path)) == elements


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 3000), max_size=60),
    cuts=st.sets(st.integers(1, 60_000), max_size=8),
    codec=st.sampled_from([None, "org.apache.hadoop.io.compress.DefaultCodec"]),
)
def test_pieces_have_each_record_once_in_order(tmp_path_factory, sizes, cuts, codec):
    """Wherever a file is cut, also inside its header and its marks."""
    path = tmp_path_factory.mktemp("pieces") / "file"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequencefiles, "SYNC_INTERVAL", 500)
        patch.setattr(sequencefiles, "BLOCK", 500)
        patch.setattr(sequencefiles, "CHUNK", 777)
        with path.open("wb") as file:
            writer = SequenceWriter(file, sequencefiles.BYTES, sequencefiles.BYTES, codec)
            for i, size in enumerate(sizes):
                writer.append(i.to_bytes(4, "big"), b"\xff" * size)
            writer.close()
        total = path.stat().st_size
        bounds = sorted({0, total, *(cut for cut in cuts if cut < total)})
        found = []
        for start, end in itertools.pairwise(bounds):
            found += [(k, v) for _, k, v in read_raw(FileSplit(str(path), start, end - start), ())]
    assert found == [(i.to_bytes(4, "big"), b"\xff" * size) for i, size in enumerate(sizes)]


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_variable_length_numbers(n):
    assert sequencefiles._vint_at(vint(n), 0) == (n, len(vint(n)))


def test_variable_length_numbers_are_hadoops():
    assert vint(127) == b"\x7f" and vint(128) == b"\x8f\x80" and vint(-112) == b"\x90" and vint(-113) == b"\x87\x70"
    assert vint(65536) == b"\x8d\x01\x00\x00"


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_arrays_of_java(batches):
    assert from_java(to_java(batches)) == batches


@given(st.binary(max_size=60))
def test_what_is_no_array_of_java_is_refused(data):
    with pytest.raises(ValueError):
        from_java(data)


# ---------------------------------------------------------------------------------------------- damage


@settings(max_examples=300, deadline=None)
@given(data=st.data(), original=st.sampled_from([PLAIN, BLOCKS]))
def test_damaged_files_give_an_error_or_pairs_and_nothing_else(tmp_path_factory, data, original):
    content = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    split = written(tmp_path_factory.mktemp("damaged") / "file", bytes(content))
    with contextlib.suppress(CorruptInput):
        pairs(split)


@pytest.mark.parametrize("end", [10, len(PLAIN) - 1, len(PLAIN) - 8, len(PLAIN) - 10])
def test_a_file_that_is_cut_off_is_named(tmp_path, end):
    with pytest.raises(CorruptInput, match=r"/cut'"):
        pairs(written(tmp_path / "cut", PLAIN[:end]))


def test_other_files_are_refused(sc, tmp_path):
    (tmp_path / "text").write_text("these are no pickles\n")
    with pytest.raises(JobFailed, match=r"text': it begins with b'thes', and is no SequenceFile"):
        sc.pickleFile(str(tmp_path / "text")).collect()
    (tmp_path / "pairs").write_bytes(PLAIN)
    with pytest.raises(JobFailed, match="no pickle file"):
        sc.pickleFile(str(tmp_path / "pairs")).collect()
    with pytest.raises(JobFailed, match=r"of org.apache.hadoop.io.Text, not of .*LongWritable"):
        sc.sequenceFile(str(tmp_path / "pairs"), valueClass=f"{IO}LongWritable").collect()
    with pytest.raises(NeedsJVM, match=r"my\.Converter"):
        sc.sequenceFile(str(tmp_path / "pairs"), keyConverter="my.Converter")


# ----------------------------------------------------------------------------------------------- whole jobs


@pytest.mark.parametrize("batch", [0, 1, 3, 10, -1])
def test_pickle_files_come_back(sc, tmp_path, batch):
    elements = [None, 1, "two", (3, [4.5]), {"five": {6}}] * 20
    sc.parallelize(elements, 3).saveAsPickleFile(str(tmp_path / "saved"), batch)
    assert sc.pickleFile(str(tmp_path / "saved")).collect() == elements
    assert sc.pickleFile(f"{tmp_path}/saved/part-00000,{tmp_path}/saved/part-0000[12]", 5).collect() == elements


def test_arrays_and_classes_of_the_main_program_are_pickled(sc, tmp_path):
    numpy = pytest.importorskip("numpy")

    class Point:
        def __init__(self, x):
            self.x = x

    sc.parallelize([numpy.arange(5000), Point(7)], 1).saveAsPickleFile(str(tmp_path / "saved"))
    array, point = sc.pickleFile(str(tmp_path / "saved")).collect()
    assert array.sum() == numpy.arange(5000).sum() and point.x == 7


def test_large_pickle_files_are_cut(sc, tmp_path):
    sc.parallelize([bytes([i]) * 5000 for i in range(200)], 1).saveAsPickleFile(str(tmp_path / "saved"))
    rdd = sc.pickleFile(str(tmp_path / "saved"), 4)
    assert rdd.getNumPartitions() >= 4
    assert rdd.map(lambda x: x[0]).collect() == list(range(200))


@pytest.mark.parametrize("codec", [None, "org.apache.hadoop.io.compress.GzipCodec"])
def test_sequence_files_come_back(sc, tmp_path, codec):
    elements = [(f"key {i}", i * 0.5) for i in range(100)]
    sc.parallelize(elements, 3).saveAsSequenceFile(str(tmp_path / "saved"), codec)
    assert sc.sequenceFile(str(tmp_path / "saved")).collect() == elements


def test_elements_of_two_types_fail_as_in_spark(sc, tmp_path):
    with pytest.raises(JobFailed, match=r"'a' of type str in a file of .*IntWritable"):
        sc.parallelize([(1, 1), ("a", 2)], 1).saveAsSequenceFile(str(tmp_path / "saved"))
    with pytest.raises(JobFailed, match=r"\[1, 2\] of type list"):
        sc.parallelize([(1, [1, 2])], 1).saveAsSequenceFile(str(tmp_path / "saved"))
    with pytest.raises(JobFailed, match="5 is no pair"):
        sc.parallelize([5], 1).saveAsSequenceFile(str(tmp_path / "saved"))
    assert list(tmp_path.iterdir()) == []


def test_numbers_beyond_64_bits_have_no_class():
    assert class_for(2**31) == f"{IO}LongWritable"
    with pytest.raises(UserFunctionError, match="64 bits"):
        class_for(2**63)
