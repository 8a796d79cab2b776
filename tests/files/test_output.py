"""Saving: all of an output or nothing, and of several attempts one."""

from __future__ import annotations

import asyncio
import bz2
import errno
import gzip
import itertools
import lzma
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waiting import wait_until

from asparkle import SparkConf, SparkContext, TaskContext, aio
from asparkle.core import protocol
from asparkle.core.errors import ArgumentError, JobFailed, OutputExists
from asparkle.core.filesystems import LocalFileSystem
from asparkle.core.taskcontext import TaskContext as CoreTaskContext
from asparkle.core.worker.runtime import Worker


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


# -------------------------------------------------------------------------------------------- what is written


def test_elements_are_lines(sc, tmp_path):
    """What PySpark 4.3 wrote of the same elements."""
    sc.parallelize(["a", b"\xff\xc3", 1, None, "", ("x", 2)], 3).saveAsTextFile(str(tmp_path / "out"))
    assert contents(tmp_path / "out") == {
        "_SUCCESS": b"",
        "part-00000": b"a\n\xef\xbf\xbd\xef\xbf\xbd\n",
        "part-00001": b"1\nNone\n",
        "part-00002": b"\n('x', 2)\n",
    }


def test_partitions_without_elements_are_empty_files(sc, tmp_path):
    sc.parallelize([], 2).saveAsTextFile(tmp_path / "empty")
    assert contents(tmp_path / "empty") == {"_SUCCESS": b"", "part-00000": b"", "part-00001": b""}
    sc.emptyRDD().saveAsTextFile(tmp_path / "none")
    assert contents(tmp_path / "none") == {"_SUCCESS": b""}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))),
    slices=st.integers(1, 4),
    codec=st.sampled_from([None, "gzip", "bzip2", "deflate", "xz", "zstd", "lz4"]),
)
def test_what_was_saved_is_read(lines, slices, codec, text_model):
    context, fresh = text_model
    path = fresh()
    context.parallelize(lines, slices).saveAsTextFile(path, codec)
    if lines and lines[0].startswith("\ufeff"):  # a mark that opens a file is dropped, as in Spark
        return
    assert context.textFile(path).map(lambda line: line.lstrip("\ufeff")).collect() == [
        line.lstrip("\ufeff") for line in lines
    ]


@pytest.fixture
def text_model(threads, tmp_path):
    """A context, and a function that gives paths that no example before has used."""
    numbers = itertools.count()
    return threads, lambda: str(tmp_path / str(next(numbers)))


@pytest.mark.parametrize(
    ("codec", "extension", "decompress"),
    [
        ("org.apache.hadoop.io.compress.GzipCodec", ".gz", gzip.decompress),
        ("org.apache.hadoop.io.compress.BZip2Codec", ".bz2", bz2.decompress),
        ("org.apache.hadoop.io.compress.DefaultCodec", ".deflate", zlib.decompress),
        ("xz", ".xz", lzma.decompress),
    ],
)
def test_codecs(sc, tmp_path, codec, extension, decompress):
    sc.parallelize(["foo", "bar"], 1).saveAsTextFile(str(tmp_path / "out"), codec)
    assert decompress((tmp_path / f"out/part-00000{extension}").read_bytes()) == b"foo\nbar\n"


def test_an_unknown_codec_fails_at_the_call(threads, tmp_path):
    with pytest.raises(ArgumentError, match=r"SnappyCodec.*GzipCodec"):
        threads.parallelize([1]).saveAsTextFile(tmp_path / "out", "org.apache.hadoop.io.compress.SnappyCodec")
    assert not (tmp_path / "out").exists()


def test_relative_paths_and_urls(threads, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads.parallelize([1], 1).saveAsTextFile("here")
    threads.parallelize([2], 1).saveAsTextFile(f"file://{tmp_path}/there,{{a}}")
    assert contents(tmp_path / "here")["part-00000"] == b"1\n"
    assert contents(tmp_path / "there,{a}")["part-00000"] == b"2\n"


# ------------------------------------------------------------------------------------- nothing is overwritten


def test_what_is_there_is_left_alone(sc, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").write_text("mine")
    with pytest.raises(OutputExists, match="already exists") as caught:
        sc.parallelize([1]).saveAsTextFile(str(tmp_path / "out"))
    assert isinstance(caught.value, FileExistsError)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        sc.parallelize([1]).saveAsTextFile(str(tmp_path / "file"))
    assert contents(tmp_path / "out") == {"precious": b"mine"}
    assert (tmp_path / "file").read_text() == "mine"


def test_unless_told_so(tmp_path):
    conf = SparkConf().set("spark.hadoop.validateOutputSpecs", "false")
    with SparkContext("threads[2]", conf=conf) as sc:
        sc.parallelize(range(3), 3).saveAsTextFile(tmp_path / "out")
        sc.parallelize(["x", "y"], 2).saveAsTextFile(tmp_path / "out")
        found = contents(tmp_path / "out")
        assert found == {"_SUCCESS": b"", "part-00000": b"x\n", "part-00001": b"y\n", "part-00002": b"2\n"}
        with pytest.raises(JobFailed):
            sc.parallelize([1, 0], 2).map(lambda x: 1 // x).saveAsTextFile(tmp_path / "out")
        assert contents(tmp_path / "out") == found


def test_of_two_jobs_at_one_directory_one_writes(threads, tmp_path):
    outcomes: list[object] = []

    def save(word: str) -> None:
        try:
            threads.parallelize([word] * 100, 2).saveAsTextFile(tmp_path / "out")
            outcomes.append(word)
        except OutputExists as error:
            outcomes.append(error)

    both = [threading.Thread(target=save, args=(word,)) for word in ("one", "two")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(outcomes) == 2
    assert threads.textFile(tmp_path / "out").distinct().collect() == [winner]


# --------------------------------------------------------------------------------------- nothing is left behind


def test_a_failed_job_leaves_nothing(sc, tmp_path):
    with pytest.raises(JobFailed):
        sc.parallelize([1, 2, 0], 3).map(lambda x: 1 / x).saveAsTextFile(str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(JobFailed):
        sc.parallelize([1], 1).map(lambda x: 1 / 0).saveAsPickleFile(str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_input_leaves_nothing(sc, tmp_path):
    with pytest.raises(FileNotFoundError):
        sc.textFile(str(tmp_path / "nowhere")).saveAsTextFile(str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
async def test_a_cancelled_job_leaves_nothing(tmp_path, master):
    mark, out, go_on = tmp_path / "mark", tmp_path / "out", tmp_path / "go on"

    def slow(x):
        yield x
        mark.touch()
        while not go_on.exists():
            time.sleep(0.01)
        yield x

    async with aio.SparkContext(master) as sc:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def cancel() -> None:
                    while not mark.exists():
                        await anyio.sleep(0.01)
                    scope.cancel()

                tasks.start_soon(cancel)
                await sc.parallelize(range(2), 2).flatMap(slow).saveAsTextFile(out)
        assert scope.cancelled_caught
        assert not out.exists()
        go_on.touch()  # in a thread the attempt goes on, and is refused
        assert await sc.parallelize(range(8), 8).count() == 8
        assert sorted(path.name for path in tmp_path.iterdir()) == ["go on", "mark"]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request) -> str:
    return request.param


@pytest.mark.asyncio
async def test_a_timeout_of_asyncio_leaves_nothing(tmp_path):
    """Whenever it strikes: while directories are made, tasks run, or files are published."""
    async with aio.SparkContext("threads[2]") as sc:
        for i in range(40):
            try:
                async with asyncio.timeout(i * 0.0005):
                    await sc.parallelize(range(50), 5).saveAsTextFile(tmp_path / str(i))
            except TimeoutError:
                pass
            else:
                assert await sc.textFile(tmp_path / str(i)).count() == 50
        # a timeout may come when all is published; then all of it is there
        assert all((path / "_SUCCESS").exists() for path in tmp_path.iterdir())


def test_a_failed_commit_leaves_nothing(tmp_path):
    (tmp_path / "out/part-00001/in the way").mkdir(parents=True)
    with SparkContext("threads[2]", conf=SparkConf().set("spark.hadoop.validateOutputSpecs", "false")) as sc:
        with pytest.raises(IsADirectoryError):
            sc.parallelize(range(3), 3).saveAsTextFile(tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["part-00001"]


@pytest.fixture
def replacing() -> Iterator[SparkContext]:
    with SparkContext("threads[2]", conf=SparkConf().set("spark.hadoop.validateOutputSpecs", "false")) as sc:
        yield sc


def test_a_failed_commit_removes_nothing_that_was_there_and_leaves_no_success(replacing, tmp_path):
    out = tmp_path / "out"
    replacing.parallelize(["old 0", "old 1", "old 2"], 3).saveAsTextFile(out)
    (out / "part-00002").unlink()
    (out / "part-00002/in the way").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        replacing.parallelize(["new 0", "new 1", "new 2"], 3).saveAsTextFile(out)
    assert sorted(os.listdir(out)) == ["part-00000", "part-00001", "part-00002"]
    assert [(out / f"part-0000{i}").read_text() for i in (0, 1)] == ["new 0\n", "new 1\n"]
    (out / "part-00002/in the way").rmdir()
    (out / "part-00002").rmdir()
    replacing.parallelize(["newer"], 1).saveAsTextFile(out)
    assert contents(out) == {"_SUCCESS": b"", "part-00000": b"newer\n", "part-00001": b"new 1\n"}


def test_a_driver_that_dies_while_it_replaces_leaves_no_success(replacing, tmp_path):
    replacing.parallelize(["old 0", "old 1"], 2).saveAsTextFile(tmp_path / "out")
    script = (
        "import os, sys\n"
        "from asparkle import SparkConf, SparkContext\n"
        "def killed(source, target, replace=os.replace):\n"
        "    replace(source, target)\n"
        "    os.kill(os.getpid(), 9)\n"
        "os.replace = killed\n"
        "conf = SparkConf().set('spark.hadoop.validateOutputSpecs', 'false')\n"
        "SparkContext('threads[2]', conf=conf).parallelize(['new 0', 'new 1'], 2).saveAsTextFile(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "out"], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(p for p in os.listdir(tmp_path / "out") if "temporary" not in p) == ["part-00000", "part-00001"]
    assert [(tmp_path / f"out/part-0000{i}").read_text() for i in (0, 1)] == ["new 0\n", "old 1\n"]


def busy(self: LocalFileSystem, path: str) -> None:
    raise OSError(errno.EBUSY, "Device or resource busy", path)  # as NFS does while somebody has a file open


def test_what_cannot_be_removed_hides_no_error(threads, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(LocalFileSystem, "end_staging", busy)
    with pytest.raises(JobFailed) as failed:
        threads.parallelize([1, 0], 2).map(lambda x: 1 // x).saveAsTextFile(tmp_path / "out")
    assert isinstance(failed.value.__cause__, ZeroDivisionError)
    (name,) = os.listdir(tmp_path / "out")
    assert name.startswith("_temporary-")
    assert f"could not remove what a job has written: path='file:{tmp_path}/out/{name}'" in caplog.text


def test_what_cannot_be_removed_fails_no_job_that_has_succeeded(threads, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(LocalFileSystem, "end_staging", busy)
    threads.parallelize([1, 2], 2).saveAsTextFile(tmp_path / "out")
    assert (tmp_path / "out/_SUCCESS").exists() and threads.textFile(tmp_path / "out").collect() == ["1", "2"]
    assert "Device or resource busy" in caplog.text


def test_a_directory_that_cannot_be_made(threads, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        threads.parallelize([1]).saveAsTextFile(tmp_path / "file/out")


def test_a_full_disk_fails_the_job_and_leaves_nothing(tmp_path):
    """A limit on the size of files stands for the disk: the write fails half-way, as there."""
    import resource

    def limited(elements):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return elements

    with SparkContext("processes[1]") as sc:
        with pytest.raises(JobFailed, match="File too large"):
            sc.parallelize(["x" * 1000] * 1000, 1).mapPartitions(limited).saveAsTextFile(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------- two attempts, one result


def test_a_killed_worker_costs_an_attempt_and_nothing_else(tmp_path):
    first = tmp_path / "first"

    def dying(partition, elements):
        for i, x in enumerate(elements):
            if partition == 1 and i == 50 and not first.exists():
                first.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield x

    with SparkContext("processes[2]") as sc:
        sc.parallelize(range(400), 4).mapPartitionsWithIndex(dying).saveAsTextFile(tmp_path / "out")
        assert first.exists()
        assert sc.textFile(tmp_path / "out").map(int).collect() == list(range(400))
    assert sorted(os.listdir(tmp_path / "out")) == ["_SUCCESS", *(f"part-{i:05d}" for i in range(4))]


def test_a_worker_killed_between_commit_and_report_costs_an_attempt(tmp_path, monkeypatch):
    """Its permission goes to the next attempt, whose file is the one that is published."""
    first = tmp_path / "first"

    def dying(elements):
        context = CoreTaskContext.get()
        ask = context._request_commit

        def ask_and_die():
            granted = ask()
            if not first.exists():
                first.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return granted

        context._request_commit = ask_and_die
        return elements

    with SparkContext("processes[1]") as sc:
        sc.parallelize(range(10), 1).mapPartitions(dying).saveAsTextFile(tmp_path / "out")
    assert first.exists()
    assert contents(tmp_path / "out") == {"_SUCCESS": b"", "part-00000": b"".join(b"%d\n" % i for i in range(10))}


def test_of_racing_attempts_one_is_kept(tmp_path):
    """Speculation starts a second attempt; both write, and both are made to finish at once."""
    attempts = tmp_path / "attempts"
    attempts.mkdir()

    def racing(partition, elements):
        tid = TaskContext.get().taskAttemptId()
        for x in elements:
            yield f"{x} of {tid}" if partition == 3 else str(x)
        if partition == 3:
            (attempts / str(tid)).touch()
            wait_until(lambda: len(list(attempts.iterdir())) == 2)

    conf = SparkConf().setAll(
        [
            ("spark.speculation", "true"),
            ("spark.speculation.quantile", "0.5"),
            ("spark.speculation.multiplier", "1"),
            ("spark.speculation.minTaskRuntime", "10ms"),
            ("spark.speculation.interval", "20ms"),
        ]
    )
    with SparkContext("processes[4]", conf=conf) as sc:
        sc.parallelize(range(40), 4).mapPartitionsWithIndex(racing).saveAsTextFile(tmp_path / "out")
        found = sc.textFile(tmp_path / "out").collect()
    assert len(list(attempts.iterdir())) == 2
    assert [line.split()[0] for line in found] == [str(i) for i in range(40)]
    assert len({line.split(" of ")[1] for line in found[30:]}) == 1
    assert sorted(os.listdir(tmp_path / "out")) == ["_SUCCESS", *(f"part-{i:05d}" for i in range(4))]


def test_a_context_that_stops_while_an_attempt_waits_for_its_answer(tmp_path):
    """Nobody answers any more: the attempt ends, and its thread with it."""
    waits, go_on = tmp_path / "waits", tmp_path / "go on"

    def late(elements):
        yield from elements
        waits.touch()
        wait_until(go_on.exists)

    def slots() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name.startswith("asparkle-slot")]

    before = set(slots())
    sc = SparkContext("threads[1]")
    mine = [t for t in slots() if t not in before]

    def save() -> None:
        with pytest.raises(Exception, match="stopped"):
            sc.parallelize([1], 1).mapPartitions(late).saveAsTextFile(tmp_path / "out")

    saver = threading.Thread(target=save)
    saver.start()
    wait_until(waits.exists)
    sc.stop()
    go_on.touch()
    saver.join(30)
    wait_until(lambda: not any(t.is_alive() for t in mine))
    assert not (tmp_path / "out").exists()


def test_a_kill_that_comes_as_its_attempt_ends_harms_nobody(threads):
    """The interrupt is when the slot's thread ends the attempt: its waker is still known then, its kill no more."""
    spec = threads._context._application.spec
    woken = []
    worker = Worker(spec, "x", lambda batch: None, in_process=True, interrupt=lambda: worker.killing.clear())
    worker.running[1] = 0
    worker.watch(1, woken.append)
    worker.receive([protocol.Kill([1], "nobody wants it")])
    assert [str(killed) for killed in woken] == ["nobody wants it"]
