"""Contexts leave nothing behind: no process, thread, file descriptor or file, whatever happened inside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
from scripts import run_script
from waiting import wait_until

from asparkle import SparkConf, SparkContext
from asparkle.aio import SparkContext as AsyncSparkContext
from asparkle.core.errors import JobFailed
from asparkle.testing.leaks import census, grown

MASTERS = ["inline", "threads[2]", "processes[2]"]
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts processes and descriptors in /proc")


def one_in_ten_fails(x: int) -> int:
    if x % 10 == 9:
        raise ValueError(x)
    return x


def sleeps(x: int) -> None:
    time.sleep(60)


@LINUX
@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
def test_200_contexts_with_failing_and_cancelled_jobs_leave_nothing(master: str, tmp_path: Path) -> None:
    conf = SparkConf().setMaster(master).set("spark.local.dir", str(tmp_path))

    async def use(i: int) -> None:
        async with AsyncSparkContext(conf=conf) as sc:
            rdd = sc.parallelize(range(20), 4)
            if i % 4 == 1:
                with pytest.raises(JobFailed, match="ValueError: 1?9"):
                    await rdd.map(one_in_ten_fails).collect()
            elif i % 4 == 3 and master.startswith("processes"):
                with anyio.move_on_after(0.01):
                    await rdd.map(sleeps).collect()
            else:
                pairs = await rdd.map(lambda x: (x % 3, x)).reduceByKey(lambda a, b: a + b).collect()
                assert sum(v for _, v in pairs) == 190

    anyio.run(use, 0)
    before = census(tmp_path)
    for i in range(200):
        anyio.run(use, i)
    assert grown(before, tmp_path) == ""
    assert before.processes == {}
    assert before.files == {}


@LINUX
@pytest.mark.parametrize("master", MASTERS)
def test_a_blocking_context_that_is_garbage_collected_leaves_nothing(master: str, tmp_path: Path) -> None:
    before = census(tmp_path)
    sc = SparkContext(conf=SparkConf().setMaster(master).set("spark.local.dir", str(tmp_path)))
    assert sc.parallelize(range(4)).cache().count() == 4
    del sc
    assert grown(before, tmp_path) == ""


@LINUX
@pytest.mark.parametrize("master", MASTERS)
def test_an_exception_inside_the_block_leaves_nothing(master: str, tmp_path: Path) -> None:
    conf = SparkConf().setMaster(master).set("spark.local.dir", str(tmp_path))
    before = census(tmp_path)

    async def use() -> None:
        async with AsyncSparkContext(conf=conf) as sc:
            await sc.parallelize(range(4)).count()
            raise KeyError("the user's own")

    with pytest.raises(KeyError, match="the user's own"):
        anyio.run(use)
    assert grown(before, tmp_path) == ""


@pytest.mark.parametrize("master", MASTERS)
def test_a_script_that_never_stops_its_context_ends_and_leaves_nothing(master: str, tmp_path: Path) -> None:
    script = """
        import sys
        from asparkle import SparkConf, SparkContext
        sc = SparkContext(conf=SparkConf().setMaster(sys.argv[1]).set("spark.local.dir", sys.argv[2]))
        print(sc.parallelize(range(10)).sum())
    """
    done = run_script(script, master, str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "45\n", "")
    assert os.listdir(tmp_path) == []


def test_files_of_a_driver_that_was_killed_are_removed(tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        from asparkle import SparkConf, SparkContext
        sc = SparkContext(conf=SparkConf().setMaster("processes[2]").set("spark.local.dir", sys.argv[1]))
        sc.parallelize(range(10)).map(lambda x: (x, x)).partitionBy(2).cache().count()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = run_script(script, str(tmp_path))
    assert done.returncode == -9
    wait_until(lambda: os.listdir(tmp_path) == [])


def test_the_next_start_removes_what_a_crash_left(tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        from asparkle import SparkConf, SparkContext
        sc = SparkContext(conf=SparkConf().setMaster("threads[2]").set("spark.local.dir", sys.argv[1]))
        sc.parallelize(range(10)).map(lambda x: (x, x)).partitionBy(2).count()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run_script(script, str(tmp_path)).returncode == -9
    (abandoned,) = os.listdir(tmp_path)
    with SparkContext(conf=SparkConf().setMaster("inline").set("spark.local.dir", str(tmp_path))):
        assert abandoned not in os.listdir(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("master", ["processes[1]", "threads[1]"])
def test_a_context_leaves_no_stream_that_is_not_closed(master: str) -> None:
    script = f"""
import gc
from asparkle import SparkContext
with SparkContext({master!r}) as sc:
    assert sc.parallelize([1, 2]).count() == 2
gc.collect()
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0
    assert "Unclosed <Memory" not in run.stderr
