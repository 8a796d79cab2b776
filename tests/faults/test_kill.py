"""Workers die, files are damaged: that costs time, and nothing else."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from waiting import until

from asparkle import SparkConf, StorageLevel
from asparkle.aio import RDD, SparkContext
from asparkle.core.errors import JobFailed, NoExecutors
from asparkle.core.events import JobEnded
from asparkle.plugins.listeners import EventRecorder

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


class Calls:
    """Counts calls of a function in tasks, by what they were called with: a file gets a line each."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, x: object) -> None:
        with open(self.path, "a") as file:
            file.write(f"{x}\n")

    def take(self) -> Counter[str]:
        text = self.path.read_text() if self.path.exists() else ""
        self.path.unlink(missing_ok=True)
        return Counter(text.split())


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path / "calls")


def pids_of(sc: SparkContext) -> list[int]:
    return [r.executor.info.pid or 0 for r in sc._driver._remotes.values()]


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # it was killed before, and its loss is on its way to the driver
        os.kill(pid, signal.SIGKILL)


def noted(calls: Calls) -> Callable[[int, object], object]:
    def note(partition: int, elements: object) -> object:
        calls(partition)
        return elements

    return note


async def test_a_worker_killed_every_second_during_a_three_stage_job_with_a_cached_input() -> None:
    async with SparkContext("processes[2]") as sc:
        visited = sc.accumulator(0)
        squares = sc.parallelize(range(240), 24).map(lambda x: (x % 12, x * x)).cache()
        await squares.count()
        deaths = 0

        async def kill_at_random() -> None:
            nonlocal deaths
            rng = random.Random(7)
            while True:
                await anyio.sleep(1)
                if pids := pids_of(sc):
                    kill(rng.choice(pids))
                    deaths += 1

        def visit(pair: tuple[int, int]) -> tuple[int, int]:
            time.sleep(0.025)
            visited.add(1)
            return pair

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill_at_random)
            by_key = squares.map(visit).reduceByKey(lambda a, b: a + b, 6)
            by_third = by_key.map(lambda kv: (kv[0] % 3, kv[1])).reduceByKey(lambda a, b: a + b, 3)
            found = await by_third.sortByKey().collect()
            tasks.cancel_scope.cancel()
        assert found == [(i, sum(x * x for x in range(240) if x % 12 % 3 == i)) for i in range(3)]
        assert visited.value == 240
        assert deaths >= 2


async def test_shuffle_files_of_a_dead_worker_are_not_computed_again(calls: Calls) -> None:
    async with SparkContext("processes[2]") as sc:
        pairs = sc.parallelize(range(40), 8).mapPartitionsWithIndex(noted(calls)).map(lambda x: (x % 5, x))
        grouped = pairs.reduceByKey(lambda a, b: a + b, 4)
        await grouped.count()
        assert sum(calls.take().values()) == 8
        for pid in pids_of(sc):
            kill(pid)
        assert sum(v for _, v in await grouped.collect()) == sum(range(40))
        assert calls.take() == Counter()


async def test_only_the_cached_partitions_of_the_dead_worker_are_computed_again(calls: Calls) -> None:
    async with SparkContext("processes[2]") as sc:
        cached = sc.parallelize(range(40), 8).mapPartitionsWithIndex(noted(calls)).cache()
        await cached.count()
        assert calls.take() == Counter({str(p): 1 for p in range(8)})
        assert await cached.sum() == sum(range(40))
        assert calls.take() == Counter()  # an action on a cached RDD computes nothing twice
        (victim, remote), *_ = sc._driver._remotes.items()
        held = {str(p) for p in range(8) if victim in sc._driver.blocks.holders((cached.id(), p))}
        assert held
        kill(remote.executor.info.pid)
        assert await cached.sum() == sum(range(40))
        assert calls.take() == Counter(dict.fromkeys(held, 1))


async def test_blocks_on_disk_survive_their_worker(calls: Calls) -> None:
    async with SparkContext("processes[2]") as sc:
        cached = sc.parallelize(range(40), 8).mapPartitionsWithIndex(noted(calls))
        cached.persist(StorageLevel.DISK_ONLY)
        await cached.count()
        calls.take()
        for pid in pids_of(sc):
            kill(pid)
        assert await cached.sum() == sum(range(40))
        assert calls.take() == Counter()


@pytest.mark.parametrize("copies", [2, 3])
async def test_a_replicated_partition_is_on_as_many_executors_and_survives_one(calls: Calls, copies: int) -> None:
    async with SparkContext("processes[3]") as sc:
        cached: RDD[int] = sc.parallelize(range(30), 6).mapPartitionsWithIndex(noted(calls))
        cached.persist(StorageLevel(False, True, False, False, copies))
        await cached.count()
        directory = sc._driver.blocks
        await until(lambda: all(len(directory.holders((cached.id(), p))) == copies for p in range(6)))
        calls.take()
        kill(pids_of(sc)[0])
        assert await cached.sum() == sum(range(30))
        assert calls.take() == Counter()


@pytest.mark.parametrize("damage", ["truncate", "garbage", "delete"])
async def test_a_damaged_shuffle_file_reruns_that_map_task_only(calls: Calls, damage: str, tmp_path: Path) -> None:
    conf = SparkConf().setMaster("processes[2]").set("spark.local.dir", str(tmp_path / "local"))
    async with SparkContext(conf=conf) as sc:
        pairs = sc.parallelize(range(20_000), 4).mapPartitionsWithIndex(noted(calls)).map(lambda x: (x, str(x)))
        moved = pairs.partitionBy(3)
        assert await moved.count() == 20_000
        assert calls.take() == Counter({"0": 1, "1": 1, "2": 1, "3": 1})
        (file,) = (tmp_path / "local").glob("*/shuffle-*/2-*")
        if damage == "truncate":
            os.truncate(file, file.stat().st_size // 2)
        elif damage == "garbage":
            file.write_bytes(random.Random(1).randbytes(file.stat().st_size))
        else:
            file.unlink()
        assert sorted(await moved.keys().collect()) == list(range(20_000))
        assert calls.take() == Counter({"2": 1})


async def test_a_task_that_kills_its_worker_fails_its_job_and_no_neighbour(tmp_path: Path) -> None:
    async with SparkContext("processes[2]") as sc:

        def die(x: int) -> int:
            if x == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return x

        with pytest.raises(JobFailed, match="SIGKILL") as failed:
            await sc.parallelize(range(12), 12).map(die).collect()
        assert failed.value.partition == 5
        assert "failed 4 times" in failed.value.reason
        assert failed.value.attempt >= 3  # more, if it had been sent ahead to a worker that ended before it began
        assert await sc.parallelize(range(12), 12).map(lambda x: x).sum() == 66


async def test_a_task_that_exits_its_worker_by_os_exit_is_said_to(tmp_path: Path) -> None:
    async with SparkContext("processes[1]") as sc:
        with pytest.raises(JobFailed, match="exit status 7"):
            await sc.parallelize([1], 1).map(lambda x: os._exit(7)).collect()


async def test_the_process_that_starts_workers_may_die_too() -> None:
    async with SparkContext("processes[2]") as sc:
        await sc.parallelize(range(2)).count()
        kill(sc._driver._cluster.zygote.pid)  # type: ignore[union-attr]
        for pid in pids_of(sc):
            kill(pid)
        with anyio.fail_after(20):
            assert await sc.parallelize(range(4), 4).map(lambda x: x + 1).collect() == [1, 2, 3, 4]


async def test_a_worker_that_has_outlived_who_started_it_is_ended_by_force(tmp_path: Path) -> None:
    settings = SparkConf().setMaster("processes[1]").set("spark.task.reaper.killTimeout", "200ms")
    async with SparkContext(conf=settings) as sc:
        await sc.parallelize(range(2)).count()
        cluster: Any = sc._driver._cluster
        before = cluster.zygote
        kill(before.pid)
        while cluster.zygote is before:
            await anyio.sleep(0.01)

        def goes_on(x: int) -> None:
            (tmp_path / "begun").touch()
            while True:
                with suppress(BaseException):
                    time.sleep(60)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sc.parallelize([1], 1).map(goes_on).collect)
                while not (tmp_path / "begun").exists():
                    await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()
            assert await sc.parallelize(range(4), 4).sum() == 6


async def test_the_process_that_starts_workers_may_die_before_it_has_started_any() -> None:
    made = SparkContext("processes[2]")
    started = made._application.begin

    def begin_stopped() -> None:
        started()
        zygote = made._application.manager._zygote  # type: ignore[attr-defined]
        os.kill(zygote.pid, signal.SIGSTOP)

    made._application.begin = begin_stopped  # type: ignore[method-assign]
    async with made as sc, anyio.create_task_group() as tasks:
        results: list[list[int]] = []

        async def job() -> None:
            results.append(await sc.parallelize(range(4), 4).map(lambda x: x + 1).collect())

        tasks.start_soon(job)
        await anyio.sleep(0.2)
        assert not results
        kill(sc._driver._cluster.zygote.pid)  # type: ignore[union-attr]
        with anyio.fail_after(20):
            while not results:
                await anyio.sleep(0.01)
    assert results == [[1, 2, 3, 4]]


async def test_a_task_that_failed_is_tried_again(tmp_path: Path) -> None:
    async with SparkContext("processes[2]") as sc:
        added = sc.accumulator(0)

        def fail_twice(x: int) -> int:
            added.add(1)
            from asparkle import TaskContext

            if TaskContext.get().attemptNumber() < 2:  # type: ignore[union-attr]
                raise OSError("not yet")
            return x

        assert await sc.parallelize(range(4), 4).map(fail_twice).collect() == [0, 1, 2, 3]
        assert added.value == 4


async def test_a_worker_that_sits_on_a_full_disk_says_which_directory(tmp_path: Path) -> None:
    async with SparkContext(conf=SparkConf().setMaster("processes[1]").set("spark.local.dir", str(tmp_path))) as sc:

        def limit_files(x: int) -> tuple[int, str]:
            import resource

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY))
            return (x, str(x) * 100)

        with pytest.raises(JobFailed, match=str(tmp_path)):
            await sc.parallelize(range(20_000), 1).map(limit_files).partitionBy(2).count()


async def test_workers_that_can_not_start_fail_the_job_with_the_reason(tmp_path: Path) -> None:
    broken = tmp_path / "sitecustomize.py"
    broken.write_text("import os, sys\nif 'zygote' in ' '.join(sys.orig_argv): os._exit(3)\n")
    conf = SparkConf().setMaster("processes[2]").setExecutorEnv("PYTHONPATH", str(tmp_path))
    async with SparkContext(conf=conf) as sc:
        with anyio.fail_after(20), pytest.raises(NoExecutors, match="no worker could be started"):
            await sc.parallelize(range(2)).count()


async def test_workers_that_end_before_they_begin_a_task_are_not_replaced_for_ever(tmp_path: Path) -> None:
    broken = tmp_path / "sitecustomize.py"
    broken.write_text(
        "import importlib, os, sys\n"
        "if 'zygote' in ' '.join(sys.orig_argv):\n"
        "    importlib.invalidate_caches = lambda: os._exit(3)\n"  # a worker's first deed when it is sent work
    )
    conf = SparkConf().setMaster("processes[2]").setExecutorEnv("PYTHONPATH", str(tmp_path))
    recorder = EventRecorder(JobEnded)
    async with SparkContext(conf=conf, plugins=[recorder]) as sc:
        for _ in range(2):
            with anyio.fail_after(20), pytest.raises(NoExecutors, match="before they began a task.*exit status 3"):
                await sc.parallelize(range(2)).count()
    assert len(recorder.recorded) == 1


async def test_workers_that_are_killed_at_their_task_are_replaced() -> None:
    conf = SparkConf().setMaster("processes[2]").set("spark.task.maxFailures", "20")
    async with SparkContext(conf=conf) as sc:

        def die_often(x: int) -> int:
            from asparkle import TaskContext

            if TaskContext.get().attemptNumber() < 8:  # type: ignore[union-attr]
                os.kill(os.getpid(), signal.SIGKILL)
            return x

        assert await sc.parallelize([1], 1).map(die_often).collect() == [1]


async def test_workers_that_are_not_forked_are_replaced_too() -> None:
    """As on macOS: each worker is an interpreter of its own."""
    conf = SparkConf().setMaster("processes[2]").setExecutorEnv("ASPARKLE_START_METHOD", "spawn")
    async with SparkContext(conf=conf) as sc:
        cached = sc.parallelize(range(100), 4).map(lambda x: (x % 3, x)).cache()
        assert await cached.reduceByKey(lambda a, b: a + b).collectAsMap() == {0: 1683, 1: 1617, 2: 1650}
        victim = (await sc.parallelize([1], 1).map(lambda x: os.getpid()).collect())[0]
        if sys.platform.startswith("linux"):
            assert b"worker_main" in Path(f"/proc/{victim}/cmdline").read_bytes()
        os.kill(victim, signal.SIGKILL)
        assert await cached.map(lambda kv: kv[1]).sum() == 4950
