"""Checkpoints: saved once, read afterwards, lineage forgotten."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from pathlib import Path

import anyio
import pytest
from waiting import wait_until

from asparkle.aio import SparkConf, SparkContext, StorageLevel
from asparkle.core.checkpoints import Checkpointed
from asparkle.core.errors import (
    ArgumentError,
    CheckpointLost,
    ContextError,
    JobCancelled,
    JobFailed,
    PicklingFailed,
    StorageError,
)


@pytest.fixture
def calls(tmp_path):
    """A function that leaves a file for each call, and their number."""
    directory = tmp_path / "calls"
    directory.mkdir()

    def note(x):
        import tempfile

        os.close(tempfile.mkstemp(dir=directory)[0])
        return x * x

    return note, lambda: len(list(directory.iterdir()))


async def test_a_checkpoint_is_saved_after_the_first_job_and_read_from_then_on(sc, tmp_path, calls):
    note, called = calls
    await sc.setCheckpointDir(tmp_path / "new" / "directory")
    rdd = sc.parallelize(range(3000), 3).map(note)
    rdd.checkpoint()
    after = rdd.map(lambda x: (x % 2, x))
    sums = after.reduceByKey(lambda a, b: a + b)
    expected = {0: sum(x * x for x in range(0, 3000, 2)), 1: sum(x * x for x in range(1, 3000, 2))}
    assert (rdd.isCheckpointed(), rdd.getCheckpointFile()) == (False, None)
    assert await sums.collectAsMap() == expected
    assert rdd.isCheckpointed() and not rdd.isLocallyCheckpointed()
    assert called() == 6000  # once for the job, once to save
    assert sorted(os.listdir(rdd.getCheckpointFile())) == ["_SUCCESS", "part-00000", "part-00001", "part-00002"]
    assert rdd.getCheckpointFile().startswith(sc.getCheckpointDir())
    assert await rdd.collect() == [x * x for x in range(3000)]
    assert await after.count() == 3000
    assert await rdd.getNumPartitions() == 3
    assert called() == 6000


async def test_a_persisted_rdd_is_saved_without_computing_it_again(sc, tmp_path, calls):
    note, called = calls
    await sc.setCheckpointDir(str(tmp_path))
    rdd = sc.parallelize(range(4), 2).map(note).persist(StorageLevel.MEMORY_AND_DISK)
    rdd.checkpoint()
    assert await rdd.sum() == 14
    await rdd.unpersist(blocking=True)
    assert await rdd.sum() == 14
    assert called() == 4


async def test_lineage_is_forgotten(sc, tmp_path):
    await sc.setCheckpointDir(str(tmp_path))
    parent = sc.parallelize(range(10), 2).map(lambda x: (x % 3, x)).partitionBy(2)
    rdd = parent.mapValues(lambda x: x + 1)
    rdd.checkpoint()
    child = rdd.mapValues(lambda x: -x)
    await child.count()
    assert type(rdd._node) is Checkpointed
    assert await child.partitioner() == await parent.partitioner()
    gone = weakref.ref(parent._node)
    del parent
    gc.collect()
    assert gone() is None
    assert sorted(await child.values().collect()) == [-x for x in range(10, 0, -1)]


async def test_marks_of_ancestors_count_too(sc, tmp_path):
    await sc.setCheckpointDir(str(tmp_path))
    first = sc.parallelize(range(4), 2).map(lambda x: x + 1)
    first.checkpoint()
    second = first.map(lambda x: x * 10)
    second.checkpoint()
    assert await second.collect() == [10, 20, 30, 40]
    assert first.isCheckpointed() and second.isCheckpointed()


async def test_an_array_comes_back_as_it_was(sc, tmp_path):
    numpy = pytest.importorskip("numpy")
    await sc.setCheckpointDir(str(tmp_path))
    rdd = sc.parallelize(range(3), 3).map(lambda i: numpy.full(10_000, i))
    rdd.checkpoint()
    await rdd.count()
    arrays = await rdd.map(lambda a: a.__iadd__(1)).collect()
    assert [int(a.sum()) for a in arrays] == [10_000, 20_000, 30_000]
    assert [int(a.sum()) for a in await rdd.collect()] == [0, 10_000, 20_000]


async def test_a_torn_file_is_an_error_and_no_result(sc, tmp_path):
    await sc.setCheckpointDir(str(tmp_path))
    rdd = sc.parallelize(range(4), 2).map(lambda x: x)
    rdd.checkpoint()
    await rdd.count()
    part = Path(rdd.getCheckpointFile(), "part-00001")
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(JobFailed, match="part-00001"):
        await rdd.collect()


async def test_a_local_checkpoint_is_kept_by_executors(sc, calls):
    note, called = calls
    rdd = sc.parallelize(range(4), 2).map(note)
    rdd.localCheckpoint()
    assert rdd.isLocallyCheckpointed() and not rdd.isCheckpointed()
    assert str(rdd.getStorageLevel()) == "Disk Memory Serialized 1x Replicated"
    assert await rdd.first() == 0  # one partition only
    assert rdd.isCheckpointed() and rdd.getCheckpointFile() is None
    assert await rdd.collect() == [0, 1, 4, 9]
    assert called() == 4
    await rdd.unpersist(blocking=True)
    with pytest.raises(JobFailed, match="locally checkpointed RDD is lost") as failed:
        await rdd.collect()
    assert isinstance(failed.value.__cause__, CheckpointLost) and "spark.local.dir" not in str(failed.value)


async def test_a_local_checkpoint_dies_with_its_executor():
    async with SparkContext("processes[2]") as sc:
        rdd = sc.parallelize(range(4), 2).map(lambda x: os.getpid()).persist(StorageLevel.MEMORY_ONLY)
        rdd.localCheckpoint()
        pids = set(await rdd.collect())
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(JobFailed, match="locally checkpointed RDD is lost"):
            while True:  # until the driver has noticed
                await rdd.collect()


async def test_what_can_not_be_marked_is_not_persisted_either(local):
    varying = [threading.Lock()]
    rdd = local.parallelize([1], 1).map(lambda x: (x, len(varying)))
    with pytest.raises(PicklingFailed, match="varying"):
        rdd.localCheckpoint()
    assert not rdd.is_cached and rdd.getStorageLevel() == StorageLevel.NONE
    assert not rdd.isLocallyCheckpointed()


async def test_there_must_be_a_directory(local, tmp_path):
    async with SparkContext("inline") as sc:
        assert sc.getCheckpointDir() is None
        with pytest.raises(ContextError, match="setCheckpointDir"):
            sc.parallelize([1]).checkpoint()
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="another directory in setCheckpointDir"):
            await sc.setCheckpointDir(str(tmp_path / "file"))
        with pytest.raises(ArgumentError, match="s3a://bucket/ck"):
            await sc.setCheckpointDir("s3a://bucket/ck")
        with pytest.raises(ContextError):
            sc.parallelize([1]).checkpoint()
        await sc.setCheckpointDir(f"file:{tmp_path}/there")
        assert sc.getCheckpointDir().startswith(f"{tmp_path}/there/")


async def test_a_save_that_fails_says_so_and_is_tried_with_the_next_job(sc, tmp_path):
    await sc.setCheckpointDir(str(tmp_path))
    rdd = sc.parallelize(range(4), 2).map(lambda x: x)
    rdd.checkpoint()
    Path(sc.getCheckpointDir(), f"rdd-{rdd.id()}").touch()
    with pytest.raises(StorageError, match="rdd-"):
        await rdd.count()
    assert not rdd.isCheckpointed()
    Path(sc.getCheckpointDir(), f"rdd-{rdd.id()}").unlink()
    assert await rdd.count() == 4
    assert rdd.isCheckpointed()


async def test_what_a_function_raises_while_its_rdd_is_saved_is_no_failure_of_the_disk(sc, tmp_path):
    await sc.setCheckpointDir(str(tmp_path))
    seen = tmp_path / "seen"

    def once(x):
        if seen.exists():
            raise FileNotFoundError("what the function looked for")
        seen.touch()
        return x

    rdd = sc.parallelize([1], 1).map(once)
    rdd.checkpoint()
    with pytest.raises(JobFailed) as failed:
        await rdd.count()
    assert isinstance(failed.value.__cause__, FileNotFoundError)
    assert os.listdir(sc.getCheckpointDir()) == []


@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
async def test_an_attempt_of_a_job_that_was_cancelled_changes_nothing_once_the_rdd_is_saved(tmp_path, master):
    """It goes on after the next job has saved the RDD, and has other elements."""
    attempts, ending, go_on = (tmp_path / name for name in ("attempts", "ending", "go on"))
    attempts.mkdir()

    def look_up(partition, elements):
        if partition:
            return elements
        if len(os.listdir(attempts)) == 1:  # the first attempt to save it
            return late(elements)
        (attempts / str(time.monotonic_ns())).touch()
        return elements

    def late(elements):
        try:
            (attempts / "late").touch()
            wait_until(go_on.exists)
        except BaseException:  # as a `finally:` that takes its time
            wait_until(go_on.exists)
        ending.touch()
        yield from [-x for x in elements] * 100

    def all_slots_are_free(partition, elements):
        (tmp_path / f"slot {partition}").touch()
        wait_until(lambda: all((tmp_path / f"slot {p}").exists() for p in (0, 1)))
        return elements

    conf = SparkConf().set("spark.task.reaper.killTimeout", "1h")
    async with SparkContext(master, conf=conf) as sc:
        await sc.setCheckpointDir(tmp_path / "saved")
        rdd = sc.parallelize(range(4), 2).mapPartitionsWithIndex(look_up)
        rdd.checkpoint()
        async with anyio.create_task_group() as tasks:

            async def cancel() -> None:
                while not (attempts / "late").exists():
                    await anyio.sleep(0.01)
                await sc.cancelAllJobs()

            tasks.start_soon(cancel)
            with pytest.raises(JobCancelled):
                await rdd.count()
        assert os.listdir(sc.getCheckpointDir()) == []
        assert await rdd.collect() == [0, 1, 2, 3] and rdd.isCheckpointed()
        go_on.touch()
        await sc.parallelize(range(2), 2).mapPartitionsWithIndex(all_slots_are_free).count()
        assert ending.exists()
        assert await rdd.collect() == [0, 1, 2, 3]
        assert sorted(os.listdir(rdd.getCheckpointFile())) == ["_SUCCESS", "part-00000", "part-00001"]


async def test_a_worker_that_is_killed_while_it_saves_leaves_nothing(tmp_path):
    computed, killed = tmp_path / "computed", tmp_path / "killed"

    def dying(partition, elements):
        yield from elements
        if partition and not computed.exists():
            computed.touch()
        elif partition and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    async with SparkContext("processes[2]") as sc:
        await sc.setCheckpointDir(tmp_path / "saved")
        rdd = sc.parallelize(range(10_000), 2).mapPartitionsWithIndex(dying)
        rdd.checkpoint()
        assert await rdd.count() == 10_000
        assert killed.exists()
        assert sorted(os.listdir(rdd.getCheckpointFile())) == ["_SUCCESS", "part-00000", "part-00001"]
        assert await rdd.collect() == list(range(10_000))
