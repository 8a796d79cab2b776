"""Text files against a model, and against what PySpark 4.3 did with the same bytes.

Every expected value in the tables below was printed by PySpark 4.3.0 (Hadoop's classes, local file system).
"""

from __future__ import annotations

import bz2
import gzip
import os
import re
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asparkle.core import textfiles
from asparkle.core.codecs import CODECS
from asparkle.core.errors import (
    ArgumentError,
    AsparkleError,
    ConfigurationError,
    CorruptInput,
    InputIsDirectory,
    InputNotFound,
)
from asparkle.core.inputfiles import FileSplit, InputFile, expand, plan_splits
from asparkle.core.textfiles import read_lines

MB = 1 << 20


def write(path: Path, content: bytes = b"1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def glom(path: Path, min_partitions: int) -> list[list[str]]:
    return [list(read_lines(split)) for split in plan_splits(expand(str(path)), min_partitions)]


def cuts(size: int, min_partitions: int) -> list[tuple[int, int]]:
    return [(s.start, s.length) for s in plan_splits([InputFile("/f", size)], min_partitions)]


# ------------------------------------------------------------------------------------------ the pieces


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        # partitions for minPartitions = 0, 1, 2, 3, 4, 7, 20
        (0, (0, 0, 0, 0, 0, 0, 0)),
        (1, (1, 1, 1, 1, 1, 1, 1)),
        (2, (1, 1, 2, 2, 2, 2, 2)),
        (3, (1, 1, 3, 3, 3, 3, 3)),
        (10, (1, 1, 2, 4, 5, 10, 10)),
        (11, (1, 1, 3, 4, 6, 11, 11)),
        (12, (1, 1, 2, 3, 4, 12, 12)),
        (100, (1, 1, 2, 3, 4, 8, 20)),
    ],
)
def test_small_files_have_sparks_number_of_partitions(size: int, counts: tuple[int, ...]) -> None:
    assert tuple(len(cuts(size, n)) for n in (0, 1, 2, 3, 4, 7, 20)) == counts


@pytest.mark.parametrize(
    ("megabytes", "min_partitions", "expected"),
    [
        (32, 1, [(0, 33554432)]),
        (33, 3, [(0, 11534336), (11534336, 11534336), (23068672, 11534336)]),
        (35, 1, [(0, 36700160)]),
        (35, 3, [(0, 12233386), (12233386, 12233386), (24466772, 12233388)]),
        (36, 1, [(0, 33554432), (33554432, 4194304)]),
        (64, 3, [(0, 22369621), (22369621, 22369621), (44739242, 22369622)]),
        (71, 2, [(0, 33554432), (33554432, 33554432), (67108864, 7340032)]),
        (100, 3, [(0, 33554432), (33554432, 33554432), (67108864, 33554432), (100663296, 4194304)]),
    ],
)
def test_big_files_are_cut_where_spark_cuts_them(
    megabytes: int, min_partitions: int, expected: list[tuple[int, int]]
) -> None:
    assert cuts(megabytes * MB, min_partitions) == expected


def test_the_goal_counts_all_files_and_pieces_do_not_span_them() -> None:
    files = [InputFile(f"/s{size}", size) for size in (0, 100, 10, 1)]
    assert [(s.path, s.start, s.length) for s in plan_splits(files, 4)] == [
        ("/s100", 0, 27),
        ("/s100", 27, 27),
        ("/s100", 54, 27),
        ("/s100", 81, 19),
        ("/s10", 0, 10),
        ("/s1", 0, 1),
    ]


def test_compressed_files_are_one_piece_whatever_the_case_of_their_suffix() -> None:
    files = [InputFile(path, 99 * MB) for path in ("/a.gz", "/b.GZ", "/c.bz2")]
    assert plan_splits(files, 50) == [
        FileSplit("/a.gz", 0, 99 * MB, CODECS[".gz"]),
        FileSplit("/b.GZ", 0, 99 * MB, CODECS[".gz"]),
        FileSplit("/c.bz2", 0, 99 * MB, CODECS[".bz2"]),
    ]


def test_negative_min_partitions_are_refused() -> None:
    with pytest.raises(ArgumentError, match="-1"):
        plan_splits([], -1)


# ------------------------------------------------------------------------------------------- the lines


@pytest.mark.parametrize(
    ("content", "min_partitions", "expected"),
    [
        (b"a\rb\rc", 2, [["a", "b"], ["c"], []]),
        (b"a\rb\rc", 4, [["a"], ["b"], [], ["c"], []]),
        (b"a\r\nb\r\n\r\nc\r\n", 2, [["a", "b"], ["", "c"], []]),
        (b"a\r\nb\r\n\r\nc\r\n", 4, [["a"], ["b"], [""], ["c"], [], []]),
        (b"a\r\nb\r\n\r\nc\r\n", 9, [["a"], [], ["b"], [], [], [""], [], ["c"], [], [], []]),
        (b"a\n\rb\r\r\n\nc", 1, [["a", "", "b", "", "", "c"]]),
        (b"a\n\rb\r\r\n\nc", 4, [["a", ""], ["b"], [""], ["", "c"], []]),
        (b"a\n\rb\r\r\n\nc", 9, [["a"], [""], ["b"], [], [""], [], [""], ["c"], []]),
        (b"\n\n\n", 2, [["", ""], [""], []]),
        (b"a\nb", 3, [["a"], ["b"], []]),
        (b"a\r", 2, [["a"], []]),
        (b"a\n\r", 2, [["a"], [""], []]),
        (b"a\0b\n", 1, [["a\0b"]]),
        ("a\x0bb\x0cc\x1cd\u2028e\x85f\n".encode(), 2, [["a\x0bb\x0cc\x1cd\u2028e\x85f"], [], []]),
        (b"\xef\xbb\xbfhi\nx\n", 3, [["hi"], [], ["x"], []]),
        (b"\xef\xbb\xbf\xef\xbb\xbfhi\n\xef\xbb\xbfx", 1, [["\ufeffhi", "\ufeffx"]]),
        (b"\xef\xbb\xbf", 2, [[], [], []]),
        (b"\xef\xbb\xbf\n\nx", 2, [[""], ["", "x"]]),
        (b"\xef\xbb\xbf\r\nx", 1, [["", "x"]]),
        (b"", 2, []),
    ],
)
def test_lines_are_where_pyspark_has_them(
    tmp_path: Path, content: bytes, min_partitions: int, expected: list[list[str]]
) -> None:
    path = write(tmp_path / "t", content)
    assert glom(path, min_partitions) == expected
    splits = plan_splits(expand(str(path)), min_partitions)
    assert [[line.decode() for line in read_lines(split, use_unicode=False)] for split in splits] == expected


@pytest.mark.parametrize(
    ("raw", "replaced"),
    [
        (b"a\xffb", 1),
        (b"c\xe2\x82", 1),
        (b"\xed\xa0\x80", 1),
        (b"\xed\xa0\xbd\xed\xb8\x80", 2),
        (b"\xed\xa0", 1),
        (b"\xed\xa0x", 1),
        (b"\xed\xa0\xed\xa0\x80", 2),
        (b"\xe2\x82\xe2", 2),
        (b"\xf0\x9f\x98", 1),
        (b"\xf0\x80\x80", 3),
        (b"\xf8\x88\x80\x80\x80", 5),
        (b"\xc0\x80", 2),
        (b"\xf4\x90\x80\x80", 4),
        (b"\xf0\x9f\x98\x80", 0),
    ],
)
def test_invalid_utf8_is_replaced_as_java_does(tmp_path: Path, raw: bytes, replaced: int) -> None:
    split = FileSplit(str(write(tmp_path / "t", raw)), 0, len(raw))
    [line] = read_lines(split)
    assert line.count("\ufffd") == replaced
    assert list(read_lines(split, use_unicode=False)) == [line.encode()]


def model(content: bytes) -> list[str]:
    lines = re.split(rb"\r\n|\r|\n", content.removeprefix(b"\xef\xbb\xbf"))
    return [line.decode() for line in (lines if lines[-1] else lines[:-1])]


TEXTS = st.lists(
    st.sampled_from(["\n", "\r", "\r\n", "a", "bc", "é", "€", "😀", "\ufeff", "\u2028", "\x0b", " ", "xyz" * 5])
).map(lambda parts: "".join(parts).encode())


@given(content=TEXTS, min_partitions=st.integers(0, 40), chunk=st.integers(1, 9))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
def test_the_pieces_together_have_each_line_once_in_order(
    tmp_path: Path, content: bytes, min_partitions: int, chunk: int
) -> None:
    path = write(tmp_path / "t", content)
    with patch.object(textfiles, "CHUNK", chunk):
        assert [line for piece in glom(path, min_partitions) for line in piece] == model(content)


@given(
    members=st.lists(TEXTS, min_size=1, max_size=4),
    chunk=st.integers(1, 9),
    codec=st.sampled_from([gzip, bz2]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
def test_compressed_members_are_read_as_one_text(
    tmp_path: Path, members: list[bytes], chunk: int, codec: object
) -> None:
    suffix, compress = (".gz", gzip.compress) if codec is gzip else (".bz2", bz2.compress)
    path = write(tmp_path / f"t{suffix}", b"".join(map(compress, members)))
    with patch.object(textfiles, "CHUNK", chunk):
        assert glom(path, 5) == [model(b"".join(members))]


def test_a_line_of_many_chunks_and_a_character_across_chunks(tmp_path: Path) -> None:
    lines = ["x" + "€" * MB, "", "é" * (MB + 1)]
    path = write(tmp_path / "t", "\r\n".join(lines).encode())
    for min_partitions in (1, 7):
        assert [line for piece in glom(path, min_partitions) for line in piece] == lines


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
@pytest.mark.parametrize("damage", ["truncated", "overwritten", "another format"])
def test_a_damaged_compressed_file_is_named(tmp_path: Path, suffix: str, compress: object, damage: str) -> None:
    assert callable(compress)
    raw: bytes = compress(b"".join(b"%d\n" % i for i in range(9999)))
    middle = len(raw) // 2
    content = {
        "truncated": raw[:-9],
        "overwritten": raw[:middle] + bytes(50) + raw[middle + 50 :],
        "another format": b"not compressed at all\n",
    }[damage]
    path = write(tmp_path / f"t{suffix}", content)
    with pytest.raises(CorruptInput, match=re.escape(str(path))) as error:
        glom(path, 1)
    assert isinstance(error.value, OSError)
    assert isinstance(error.value, AsparkleError)
    assert error.value.filename == str(path)


def test_an_abandoned_iterator_closes_its_file(tmp_path: Path) -> None:
    fds = Path("/proc/self/fd" if os.path.exists("/proc/self/fd") else "/dev/fd")
    path = write(tmp_path / "t", b"a\n" * MB)
    before = len(list(fds.iterdir()))
    lines = read_lines(FileSplit(str(path), 0, 2 * MB))
    assert next(lines) == "a"
    del lines
    assert len(list(fds.iterdir())) == before


# ---------------------------------------------------------------------------------------- which files


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "b.txt",
        "a.txt",
        "B.txt",
        "_hid",
        ".hid",
        "a10.txt",
        "a2.txt",
        "é.txt",
        "a b.txt",
        "c,d.txt",
    ):
        write(tmp_path / "flat" / name)
    for name in ("a-b", "a{b", "a,b", "a[b", "x]y", "a*b", "zz", "z^"):
        write(tmp_path / "odd" / name)
    for name in ("_d", ".d", "d"):
        write(tmp_path / "hid" / name / "a.txt")
    write(tmp_path / "one.txt", b"1\n2\n")
    write(tmp_path / "nested" / "sub" / "x.txt")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ("one.txt", "one.txt"),
        ("./flat/../one.txt", "one.txt"),
        ("flat//a.txt", "flat/a.txt"),
        ("one.txt,flat/b.txt,flat/a.txt", "one.txt flat/b.txt flat/a.txt"),
        ("one.txt,one.txt", "one.txt one.txt"),
        ("empty", ""),
        ("flat/a*.txt", "flat/a~b.txt flat/a.txt flat/a10.txt flat/a2.txt"),
        ("flat/?.txt", "flat/B.txt flat/a.txt flat/b.txt flat/é.txt"),
        ("flat/[ab].txt", "flat/a.txt flat/b.txt"),
        ("flat/[^a].txt", "flat/B.txt flat/b.txt flat/é.txt"),
        ("flat/[!a].txt", "flat/B.txt flat/b.txt flat/é.txt"),
        ("flat/[a-b]?.txt", "flat/a2.txt"),
        ("flat/{b,a}.txt", "flat/a.txt flat/b.txt"),
        ("{one.txt,flat/{b,a}.txt}", "flat/a.txt flat/b.txt one.txt"),
        ("odd/a?b", "odd/a[b odd/a{b odd/a*b odd/a,b odd/a-b"),
        ("odd/a\\*b", "odd/a*b"),
        ("odd/a\\{b", "odd/a{b"),
        ("odd/a\\[b", "odd/a[b"),
        ("odd/a\\-b", "odd/a-b"),
        ("odd/x]y", "odd/x]y"),
        ("odd/[]z]z", "odd/zz"),
        ("odd/z[\\^]", "odd/z^"),
        ("odd/z[*^]", "odd/z^"),
        ("odd/{a{-,\\{}b,zz}", "odd/a{b odd/a-b odd/zz"),
        ("odd/{zz,nope}", "odd/zz"),
        ("odd/{zz,z*}", "odd/z^ odd/zz"),
        ("o*/z*", "odd/z^ odd/zz"),
        ("hid/*", "hid/d/a.txt"),
        ("hid/*/a.txt", "hid/.d/a.txt hid/_d/a.txt hid/d/a.txt"),
        ("hid/_d/a.txt", "hid/_d/a.txt"),
    ],
)
def test_paths_name_the_files_that_pyspark_reads(tree: Path, paths: str, expected: str) -> None:
    names = [os.path.relpath(file.path).replace(" ", "~") for file in expand(paths)]
    assert names == expected.split()


def test_a_directory_is_read_in_the_order_of_names_without_hidden_ones(tree: Path) -> None:
    names = [os.path.basename(file.path) for file in expand("flat")]
    assert names == sorted(
        ["B.txt", "a b.txt", "a.txt", "a10.txt", "a2.txt", "b.txt", "c,d.txt", "é.txt"],
    )


def test_file_urls_and_sizes(tree: Path) -> None:
    one = InputFile(str(tree / "one.txt"), 4)
    assert expand(f"file://{tree}/one.txt") == expand(f"file:{tree}/one.txt") == expand("one.txt") == [one]
    assert [file.path for file in expand(f"file://{tree}/flat/a b.txt")] == [f"{tree}/flat/a b.txt"]
    assert expand(f"file://{tree}/{{one.txt,nope}}") == [one]


@pytest.mark.parametrize("paths", ["zz", "one.txt,zz", "zz*", "odd/zz/*", "gone/*", "flat/_hid", "flat/_h*", "odd/{}"])
def test_what_is_not_there_is_named(tree: Path, paths: str) -> None:
    with pytest.raises(InputNotFound, match=re.escape(repr(paths.split(",")[-1]))) as error:
        expand(paths)
    assert isinstance(error.value, FileNotFoundError)
    assert isinstance(error.value, AsparkleError)


@pytest.mark.parametrize(
    "paths",
    [
        "",
        "one.txt,",
        "file:one.txt",
        "file://host/one.txt",
        "nosuch://h/x",
        "odd/a{b",
        "odd/a[b",
        "odd/[b-a]",
        "a\\",
    ],
)
def test_malformed_paths_are_refused(tree: Path, paths: str) -> None:
    with pytest.raises(ArgumentError):
        expand(paths)


@pytest.mark.parametrize("paths", ["nested", "ne*"])
def test_a_directory_in_an_input_directory_is_refused(tree: Path, paths: str) -> None:
    inner, remedy = f"file:{tree}/nested/sub", f"file:{tree}/nested/*"
    with pytest.raises(InputIsDirectory, match=f"'{re.escape(inner)}' is no file .*'{re.escape(remedy)}'") as caught:
        expand(paths)
    assert isinstance(caught.value, IsADirectoryError) and caught.value.filename == inner
    assert expand(remedy) == expand("nested/*")


RECURSIVE = "mapreduce.input.fileinputformat.input.dir.recursive"


def test_directories_are_read_recursively_if_hadoops_setting_says_so(tree: Path) -> None:
    (tree / "nested/sub/_hidden").mkdir()
    (tree / "nested/sub/_hidden/x").write_text("x")
    (tree / "nested/sub/deep").mkdir()
    (tree / "nested/sub/deep/1.txt").write_text("deep")
    everything = sorted(path for path in (tree / "nested").rglob("*") if path.is_file() and "_hidden" not in path.parts)
    for paths in ("nested", "ne*"):
        for skip in (False, True):
            found = expand(paths, options=((RECURSIVE, "TRUE"),), skip_directories=skip)
            assert [file.path for file in found] == list(map(str, everything))
    with pytest.raises(ConfigurationError, match=f"spark.hadoop.{RECURSIVE} = 'ja': expected true or false"):
        expand("nested", options=((RECURSIVE, "ja"),))
