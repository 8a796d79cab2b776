"""Files that an application brings along: every task finds them, and nothing of them stays."""

from __future__ import annotations

import functools
import http.server
import os
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

import asparkle.aio
from asparkle import SparkContext, SparkFiles
from asparkle.core.errors import ArgumentError, ContextError, CorruptInput, InputNotFound, JobFailed


def read_in_tasks(sc: SparkContext, name: str) -> set[str]:
    return set(sc.parallelize(range(4), 4).map(lambda x: Path(SparkFiles.get(name)).read_text()).collect())


def test_a_file_reaches_all_tasks(sc, tmp_path):
    (tmp_path / "words.txt").write_text("tiger")
    assert os.listdir(SparkFiles.getRootDirectory()) == []
    sc.addFile(str(tmp_path / "words.txt"))
    (tmp_path / "words.txt").write_text("changed afterwards")
    assert read_in_tasks(sc, "words.txt") == {"tiger"}
    assert Path(SparkFiles.get("words.txt")).read_text() == "tiger"
    assert SparkFiles.get("words.txt") == os.path.join(SparkFiles.getRootDirectory(), "words.txt")
    assert sc.listFiles == [f"file:{tmp_path}/words.txt"]
    sc.addFile(str(tmp_path / "words.txt"))  # the same path again: nothing happens
    assert sc.listFiles == [f"file:{tmp_path}/words.txt"]
    assert read_in_tasks(sc, "words.txt") == {"tiger"}


def test_a_thread_that_a_task_has_started_finds_it_too(tmp_path):
    (tmp_path / "words.txt").write_text("tiger")

    def in_a_thread(x):
        found = []
        thread = threading.Thread(target=lambda: found.append(Path(SparkFiles.get("words.txt")).read_text()))
        thread.start()
        thread.join()
        return found

    with SparkContext("processes[1]") as sc:
        sc.addFile(tmp_path / "words.txt")
        assert sc.parallelize([1], 1).map(in_a_thread).collect() == [["tiger"]]


def test_a_module_that_needs_it_when_it_is_imported_finds_it(sc, tmp_path, monkeypatch):
    (tmp_path / "words.txt").write_text("tiger")
    (tmp_path / "reader.py").write_text(
        "from asparkle import SparkFiles\n"
        "WORDS = open(SparkFiles.get('words.txt')).read()\n"
        "def words(x):\n"
        "    return WORDS\n"
    )
    sc.addFile(tmp_path / "words.txt")
    sc.addPyFile(tmp_path / "reader.py")
    import reader

    monkeypatch.delitem(sys.modules, "reader")
    assert sc.parallelize([1], 1).map(reader.words).collect() == ["tiger"]


def test_a_directory(sc, tmp_path):
    (tmp_path / "tree/below").mkdir(parents=True)
    (tmp_path / "tree/below/leaf").write_text("leaf")
    with pytest.raises(ArgumentError, match="recursive=True"):
        sc.addFile(str(tmp_path / "tree"))
    sc.addFile(str(tmp_path / "tree"), recursive=True)
    assert read_in_tasks(sc, "tree/below/leaf") == {"leaf"}
    assert sc.listFiles == [f"file:{tmp_path}/tree/"]


def test_what_is_neither_a_file_nor_a_directory(threads, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tmp_path / "words.txt").write_text("tiger")
    (tree / "linked").symlink_to(tmp_path / "words.txt")
    os.mkfifo(tree / "pipe")
    with pytest.raises(ArgumentError, match=r"tree/pipe' is neither a file nor a directory"):
        threads.addFile(tree, recursive=True)
    with pytest.raises(ArgumentError, match=r"tree/pipe' is neither a file nor a directory"):
        threads.addFile(tree / "pipe")
    (tree / "pipe").unlink()
    (tree / "nowhere").symlink_to(tmp_path / "not there")
    with pytest.raises(InputNotFound, match=r"a link to nothing: '.*tree/nowhere'"):
        threads.addFile(tree, recursive=True)
    (tree / "nowhere").unlink()
    (tree / "round").symlink_to(tree)
    with pytest.raises(ArgumentError, match=r"tree/round' is a link to '.*tree', in which it lies"):
        threads.addFile(tree, recursive=True)
    (tree / "round").unlink()
    threads.addFile(tree, recursive=True)
    assert read_in_tasks(threads, "tree/linked") == {"tiger"}


def test_a_file_from_a_server(sc, tmp_path):
    (tmp_path / "served.txt").write_text("from afar")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/served.txt"
            sc.addFile(url)
        finally:
            server.shutdown()
    assert read_in_tasks(sc, "served.txt") == {"from afar"}
    assert sc.listFiles == [url]


def test_one_name_is_one_file(threads, tmp_path):
    for name, text in (("a", "one"), ("b", "two"), ("c", "one")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "words.txt").write_text(text)
    threads.addFile(tmp_path / "a/words.txt")
    with pytest.raises(ArgumentError, match=r"b/words\.txt': another file was added under the name 'words\.txt'"):
        threads.addFile(tmp_path / "b/words.txt")
    threads.addFile(tmp_path / "c/words.txt")  # it is the same
    assert read_in_tasks(threads, "words.txt") == {"one"}


def test_what_is_not_there(threads, tmp_path):
    for add in (threads.addFile, threads.addPyFile):
        with pytest.raises(InputNotFound, match=r"none\.py"):
            add(str(tmp_path / "none.py"))
    with pytest.raises(InputNotFound, match=r"none\.zip"):
        threads.addArchive(str(tmp_path / "none.zip"))
    assert threads.listFiles == [] == threads.listArchives


def test_modules(sc, tmp_path):
    name = f"brought_along_{os.urandom(4).hex()}"
    (tmp_path / f"{name}.py").write_text("def double(x):\n    return 2 * x\n")

    def double(x):
        import importlib

        return importlib.import_module(name).double(x)

    assert sc.parallelize([1, 2], 2).count() == 2  # workers have looked around before
    sc.addPyFile(str(tmp_path / f"{name}.py"))
    assert sc.parallelize([1, 2], 2).map(double).collect() == [2, 4]
    assert double(3) == 6
    second = f"{name}_too"
    with zipfile.ZipFile(tmp_path / f"{second}.zip", "w") as archive:
        archive.writestr(f"{second}/__init__.py", "from .inner import double\n")
        archive.writestr(f"{second}/inner.py", "def double(x):\n    return 20 * x\n")
    sc.addPyFile(str(tmp_path / f"{second}.zip"))
    name = second
    assert sc.parallelize([1, 2], 2).map(double).collect() == [20, 40]
    (tmp_path / "later.py").write_text("x = 1")
    sc.addPyFile(tmp_path / "later.py")
    assert sc.parallelize([1, 2], 2).map(lambda x: __import__("later").x + x).collect() == [2, 3]


def test_archives(sc, tmp_path):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("in/words.txt", "zipped")
    (tmp_path / "words.txt").write_text("tarred")
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "words.txt", "in/words.txt")
    sc.addArchive(str(tmp_path / "data.zip"))
    sc.addArchive(f"{tmp_path}/data.zip#other")
    sc.addArchive(f"{tmp_path}/data.tar.gz#tarred")
    sc.addArchive(str(tmp_path / "data.zip"))
    assert read_in_tasks(sc, "data.zip/in/words.txt") == {"zipped"} == read_in_tasks(sc, "other/in/words.txt")
    assert read_in_tasks(sc, "tarred/in/words.txt") == {"tarred"}
    assert sc.listArchives == [
        f"file:{tmp_path}/data.zip",
        f"file:{tmp_path}/data.zip#other",
        f"file:{tmp_path}/data.tar.gz#tarred",
    ]


def test_bad_archives(threads, tmp_path):
    (tmp_path / "bad.zip").write_text("no archive")
    (tmp_path / "bad.tar.gz").write_text("no archive")
    for name in ("bad.zip", "bad.tar.gz"):
        with pytest.raises(CorruptInput, match=name):
            threads.addArchive(tmp_path / name)
    with pytest.raises(ArgumentError, match=r"\.tar\.gz"):
        threads.addArchive(tmp_path / "words.txt")
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.add(tmp_path / "bad.zip", "../../escaped")
    with pytest.raises(CorruptInput, match="evil"):
        threads.addArchive(tmp_path / "evil.tar")
    with tarfile.open(tmp_path / "turned.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "bad.zip", "in")
    packed = bytearray((tmp_path / "turned.tar.gz").read_bytes())
    packed[-8] ^= 1  # of the checksum
    (tmp_path / "turned.tar.gz").write_bytes(packed)
    with pytest.raises(CorruptInput, match=r"turned.*CRC"):
        threads.addArchive(tmp_path / "turned.tar.gz")
    with zipfile.ZipFile(tmp_path / "locked.zip", "w") as archive:
        archive.writestr("in", "")
    packed = bytearray((tmp_path / "locked.zip").read_bytes())
    packed[packed.index(b"PK\1\2") + 8] |= 1  # of the flags: it is encrypted
    (tmp_path / "locked.zip").write_bytes(packed)
    with pytest.raises(CorruptInput, match=r"locked.*password"):
        threads.addArchive(tmp_path / "locked.zip")
    packed[packed.index(b"PK\1\2") + 8] &= 0xFE
    packed[packed.index(b"PK\1\2") + 10] = 99  # the method
    (tmp_path / "unknown.zip").write_bytes(packed)
    with pytest.raises(CorruptInput, match=r"unknown.*method"):
        threads.addArchive(tmp_path / "unknown.zip")
    assert os.listdir(SparkFiles.getRootDirectory()) == []


def test_nothing_of_them_stays(tmp_path):
    (tmp_path / "module_that_goes.py").write_text("")
    path = list(sys.path)
    with SparkContext("threads[1]") as sc:
        sc.addPyFile(tmp_path / "module_that_goes.py")
        root = SparkFiles.getRootDirectory()
        assert os.path.exists(root) and root in sys.path
    assert not os.path.exists(root) and sys.path == path
    with pytest.raises(ContextError, match="no SparkContext is running"):
        SparkFiles.get("x")


@pytest.mark.asyncio
async def test_contexts_of_one_process_have_files_of_their_own(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
    async with asparkle.aio.SparkContext("threads[1]") as one, asparkle.aio.SparkContext("threads[1]") as two:
        await one.addFile(tmp_path / "one/name")
        await two.addFile(tmp_path / "two/name")
        for sc, name in ((one, "one"), (two, "two")):
            assert await sc.parallelize([1]).map(lambda x: Path(SparkFiles.get("name")).read_text()).collect() == [name]
        with pytest.raises(ContextError, match="2 contexts"):
            SparkFiles.getRootDirectory()


@pytest.mark.asyncio
async def test_contexts_of_one_process_have_modules_of_their_own(tmp_path):
    def whose(x):
        import module_of

        return module_of.context

    async with asparkle.aio.SparkContext("processes[1]") as one, asparkle.aio.SparkContext("processes[1]") as two:
        for sc, name in ((one, "one"), (two, "two")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "module_of.py").write_text(f"context = {name!r}")
            await sc.addPyFile(tmp_path / name / "module_of.py")
        assert await one.parallelize([1]).map(whose).collect() == ["one"]
        assert await two.parallelize([1]).map(whose).collect() == ["two"]
        async with asparkle.aio.SparkContext("processes[1]") as three:
            with pytest.raises(JobFailed, match="No module named 'module_of'"):
                await three.parallelize([1]).map(whose).collect()


def test_there_are_no_instances():
    with pytest.raises(NotImplementedError):
        SparkFiles()
