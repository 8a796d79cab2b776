"""Faults that a review found: each of these once hung, crashed or lost something."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.lowlevel
import pluggy
import pytest

from asparkle import AccumulatorParam, SparkConf, SparkContext, StorageLevel
from asparkle.aio import SparkContext as AsyncSparkContext
from asparkle.backends.threads import ThreadsManager
from asparkle.core.contracts import AppSpec, Cluster, Executor
from asparkle.core.errors import ArgumentError, ContextError, ContextStopped, JobCancelled, JobFailed, PluginError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Broken(AccumulatorParam[int]):
    def zero(self, value: int) -> int:
        return 0

    def addInPlace(self, value1: int, value2: int) -> int:
        if value1 and value2:
            raise ValueError("can't add")
        return value1 + value2


def test_an_accumulator_that_can_not_add_up_does_not_end_the_context() -> None:
    with SparkContext("threads[2]") as sc:
        broken = sc.accumulator(0, Broken())
        sc.parallelize(range(2), 2).foreach(lambda x: broken.add(1))
        assert sc.parallelize(range(4)).sum() == 6


async def test_a_worker_killed_while_a_process_that_it_forked_lives_is_noticed(tmp_path: Path) -> None:
    def fork_once(x: int) -> int:
        marker = tmp_path / "forked"
        if not marker.exists():
            marker.touch()
            if os.fork() == 0:
                time.sleep(30)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    async with AsyncSparkContext("processes[1]") as sc:
        with anyio.fail_after(15):
            assert await sc.parallelize([7], 1).map(fork_once).collect() == [7]


async def test_workers_start_though_the_drivers_directory_is_gone(tmp_path: Path) -> None:
    before = os.getcwd()
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    try:
        async with AsyncSparkContext("processes[1]") as sc:
            (pid,) = await sc.parallelize([1], 1).map(lambda x: os.getpid()).collect()
            gone.rmdir()
            os.kill(pid, signal.SIGKILL)
            with anyio.fail_after(15):
                assert await sc.parallelize([1], 1).map(lambda x: x + 1).collect() == [2]
    finally:
        os.chdir(before)


async def test_a_cancelled_job_leaves_the_binary_of_a_stage_that_another_job_shares() -> None:
    ballast = os.urandom(100_000)

    def slow(x: int) -> tuple[int, int]:
        time.sleep(0.1)
        return (x % 2, len(ballast) + x)

    async with AsyncSparkContext("processes[1]") as sc:
        shared = sc.parallelize(range(8), 8).map(slow).reduceByKey(lambda a, b: a + b, 2)
        async with anyio.create_task_group() as tasks:
            first = anyio.CancelScope()

            async def cancelled() -> None:
                with first:
                    await shared.count()

            async def other() -> None:
                assert len(await shared.collect()) == 2

            tasks.start_soon(cancelled)
            await anyio.sleep(0.25)
            tasks.start_soon(other)
            await anyio.sleep(0.1)
            first.cancel()


@pytest.mark.parametrize("name", ["plain", "in [brackets]"])  # which mean something to glob
async def test_unpersist_forgets_the_disk_blocks_of_dead_workers_too(tmp_path: Path, name: str) -> None:
    source = tmp_path / "source"
    source.write_text("old")
    (tmp_path / name).mkdir()
    conf = SparkConf().set("spark.local.dir", str(tmp_path / name))
    async with AsyncSparkContext("processes[1]", conf=conf) as sc:
        read = sc.parallelize([0], 1).map(lambda _: source.read_text()).persist(StorageLevel.DISK_ONLY)
        assert await read.collect() == ["old"]
        (pid,) = await sc.parallelize([1], 1).map(lambda x: os.getpid()).collect()
        os.kill(pid, signal.SIGKILL)
        await sc.parallelize([1], 1).count()
        await read.unpersist()
        source.write_text("new")
        read.persist(StorageLevel.DISK_ONLY)
        assert await read.collect() == ["new"]


async def test_a_partition_may_be_asked_for_twice() -> None:
    async with AsyncSparkContext("processes[2]") as sc:
        rdd = sc.parallelize(range(4), 2).map(lambda x: bytes([x]) * 1_500_000)
        parts = await sc.runJob(rdd, lambda part: [sum(len(x) for x in part)], [0, 0, 1])
        assert parts == [3_000_000] * 3


def test_a_call_after_the_loop_has_ended_is_an_error_and_does_not_hang() -> None:
    sc = SparkContext("inline")
    rdd = sc.parallelize([1])
    sc._portal.stop()
    with pytest.raises(ContextStopped):
        rdd.count()
    sc.stop()


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize("master", ["inline", "processes[1]"])
def test_an_exception_that_can_not_be_printed_fails_its_job_only(master: str) -> None:
    def fail(x: int) -> None:
        raise ValueError(Unprintable())

    with SparkContext(master) as sc:
        with pytest.raises(JobFailed, match="ValueError"):
            sc.parallelize([1]).map(fail).collect()
        assert sc.parallelize([1]).count() == 1


async def test_a_context_of_another_event_loop_says_so_and_goes_on() -> None:
    async with AsyncSparkContext("inline") as sc:
        rdd = sc.parallelize([1, 2])
        assert await rdd.count() == 2
        with pytest.raises(ContextError, match="another event loop"):
            await anyio.to_thread.run_sync(lambda: anyio.run(rdd.count))
        assert await rdd.count() == 2


@pytest.mark.parametrize("master", ["inline", "threads[2]", "processes[2]"])
async def test_a_context_may_be_entered_and_stopped_in_different_tasks(master: str, tmp_path: Path) -> None:
    conf = SparkConf().setMaster(master).set("spark.local.dir", str(tmp_path))
    sc = AsyncSparkContext(conf=conf)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sc.__aenter__)
    assert await sc.parallelize(range(4), 2).sum() == 6
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sc.stop)
    assert os.listdir(tmp_path) == []
    with pytest.raises(ContextStopped, match="entered once"):
        async with sc:
            pass
    with pytest.raises(ContextStopped, match="not entered"):
        await AsyncSparkContext("inline").parallelize([1]).count()


class BrokenCluster(Cluster):
    """Brings one executor, and fails when it is asked for a second."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.asked = 0

    async def added(self) -> Executor:
        self.asked += 1
        if self.asked == 1:
            return await self.cluster.added()
        await anyio.sleep(0.2)
        raise ZeroDivisionError("broken plugin")

    async def set_target(self, executors: int) -> None:
        await self.cluster.set_target(executors)

    async def release(self, ids: Collection[str]) -> None:
        await self.cluster.release(ids)


class BrokenManager(ThreadsManager):
    @asynccontextmanager
    async def open(self, app: AppSpec) -> AsyncIterator[BrokenCluster]:
        async with super().open(app) as cluster:
            yield BrokenCluster(cluster)


class BrokenPlugin:
    @pluggy.HookimplMarker("asparkle")
    def asparkle_cluster_managers(self) -> dict[str, type]:
        return {"broken": BrokenManager}


async def test_a_cluster_that_fails_ends_the_contexts_jobs_which_say_why() -> None:
    async with AsyncSparkContext("broken://x", plugins=[BrokenPlugin()]) as sc:
        assert await sc.parallelize([1]).count() == 1
        for seconds in (1, 0):
            with anyio.fail_after(10), pytest.raises(PluginError, match=r"added.*ZeroDivisionError: broken plugin"):
                await sc.parallelize([1]).map(lambda x, s=seconds: time.sleep(s)).count()


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
def test_the_end_of_the_event_loop_ends_a_context_that_nobody_stopped(master: str, loop: str, tmp_path: Path) -> None:
    conf = SparkConf().setMaster(master).set("spark.local.dir", str(tmp_path))

    async def forgetful() -> list[int]:
        sc = await AsyncSparkContext(conf=conf).__aenter__()
        return await sc.parallelize(range(3), 3).map(lambda x: os.getpid()).collect()

    workers = anyio.run(forgetful, backend=loop)
    assert os.listdir(tmp_path) == []
    if master.startswith("processes"):
        for pid in workers:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


async def test_a_context_that_is_cancelled_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    conf = SparkConf().setMaster("processes[2]").set("spark.local.dir", str(tmp_path))
    outcomes = set()
    for turns in [2**n for n in range(12)] + [float("inf")]:
        entered = []

        async def enter(entered: list[object] = entered) -> None:
            entered.append(await AsyncSparkContext(conf=conf).__aenter__())

        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(enter)
                turn = 0
                while turn < turns and not entered:
                    await anyio.lowlevel.checkpoint()
                    turn += 1
                scope.cancel()
        for sc in entered:
            await sc.stop()
        outcomes.add(len(entered))
        assert os.listdir(tmp_path) == []
    assert outcomes == {0, 1}  # it was cancelled early and late


def test_a_context_that_is_never_entered_has_started_nothing(tmp_path: Path) -> None:
    made = AsyncSparkContext(conf=SparkConf().setMaster("processes[2]").set("spark.local.dir", str(tmp_path)))
    assert os.listdir(tmp_path) == []
    assert made._application.manager._zygote is None


async def test_the_file_of_a_result_that_nobody_takes_is_removed(tmp_path: Path) -> None:
    marker = tmp_path / "running"

    def not_to_be_stopped(x: int) -> bytes:
        marker.touch()
        with suppress(BaseException):  # the interrupt of a cancelled job
            time.sleep(60)
        return bytes(4_000_000)

    conf = SparkConf().setMaster("processes[1]").set("spark.local.dir", str(tmp_path / "local"))
    async with AsyncSparkContext(conf=conf) as sc:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sc.parallelize([1], 1).map(not_to_be_stopped).collect)
                while not marker.exists():
                    await anyio.sleep(0.01)
                scope.cancel()
        assert await sc.parallelize([1], 1).sum() == 1  # after it, on the same worker
        assert list((tmp_path / "local").glob("*/results/*")) == []


class NotFromItsArgs(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


@pytest.mark.parametrize("master", ["inline", "processes[1]"])
def test_an_exception_that_can_not_be_called_with_its_args_is_the_cause(master: str) -> None:
    def fail(x: int) -> int:
        raise NotFromItsArgs(7, "no")

    with SparkContext(master) as sc:
        with pytest.raises(JobFailed, match="NotFromItsArgs: 7: no") as caught:
            sc.parallelize([1], 1).map(fail).collect()
        cause = caught.value.__cause__
        assert type(cause).__name__ == "NotFromItsArgs" and cause.code == 7


def stops(x: object) -> object:
    raise StopIteration


@pytest.mark.parametrize("master", ["inline", "processes[1]"])
@pytest.mark.parametrize("operation", ["sortBy", "groupBy", "keyBy", "map"])
def test_a_stop_iteration_that_escapes_is_named_whatever_it_comes_through(master: str, operation: str) -> None:
    with SparkContext(master) as sc:
        with pytest.raises(JobFailed, match=r"one of stops \(.*raised StopIteration"):
            getattr(sc.parallelize(range(9), 2), operation)(stops).collect()


@pytest.mark.parametrize("partitions", [1, 2])
def test_keys_that_can_not_be_compared_fail_the_job_from_sample_or_task(partitions: int) -> None:
    with SparkContext("processes[1]") as sc:
        with pytest.raises(JobFailed, match="TypeError: '<' not supported") as caught:
            sc.parallelize([1, "a", 2, "b"], 2).sortBy(lambda x: x, numPartitions=partitions).collect()
        assert isinstance(caught.value.__cause__, TypeError)


def test_an_error_about_the_users_data_shows_none_of_our_frames() -> None:
    with SparkContext("processes[1]") as sc:
        with pytest.raises(JobFailed, match="can't be a key") as caught:
            sc.parallelize([([1], 2)], 1).reduceByKey(lambda a, b: a + b).collect()
        assert "asparkle/core" not in str(caught.value)


@pytest.mark.parametrize("left", [0, 1, 2, 3, 4, 5, 6, 7, 8])  # sockets and files that may still be opened
def test_a_context_that_finds_no_more_file_descriptors_leaves_nothing(left: int) -> None:
    script = f"""
import gc, os, resource
from asparkle import SparkContext
from asparkle.backends import process_cluster
with SparkContext("processes[2]"):  # everything is imported
    pass
open_now = len(os.listdir("/proc/self/fd"))
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
lowest = os.open("/dev/null", os.O_RDONLY)
os.close(lowest)
resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + {left}, hard))
try:
    SparkContext("processes[2]").stop()
except OSError as error:
    print(error.errno)
except Exception as error:
    print(type(error).__name__, error)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
try:
    print("left:", os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no child")
gc.collect()  # an event loop of asyncio's that could not be made whole
assert len(os.listdir("/proc/self/fd")) == open_now
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "no child", done.stdout


def test_what_fails_before_the_loop_runs_reaches_the_caller() -> None:
    script = "import sys; sys.modules['anyio'] = None; from asparkle import SparkContext; SparkContext('processes[1]')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.stderr.splitlines()[-1].startswith("ModuleNotFoundError: import of anyio halted")


def slowly(x: int) -> int:
    time.sleep(0.03)
    return x


UNDER_WAY = {
    "source": lambda sc, rdd: rdd.map(slowly),
    "union": lambda sc, rdd: sc.union([rdd, sc.parallelize([100], 1)]).map(slowly),
    "coalesce": lambda sc, rdd: rdd.coalesce(20).map(slowly),
    "cached": lambda sc, rdd: rdd.cache().map(slowly).coalesce(20).map(lambda x: x),
}


@pytest.mark.parametrize("local", [False, True], ids=["files", "local"])
@pytest.mark.parametrize("of_source", [False, True], ids=["mapped", "source"])
@pytest.mark.parametrize("kind", UNDER_WAY)
@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
async def test_a_checkpoint_that_completes_under_a_running_job(
    master: str, kind: str, of_source: bool, local: bool, tmp_path: Path
) -> None:
    conf = SparkConf().setMaster(master).set("spark.scheduler.mode", "FAIR")
    async with AsyncSparkContext(conf=conf) as sc:
        await sc.setCheckpointDir(str(tmp_path))
        rdd = sc.parallelize([*range(30)], 30)
        if not of_source:
            rdd = rdd.map(lambda x: x + 0)
        slow = UNDER_WAY[kind](sc, rdd)
        if local:
            rdd.localCheckpoint()
        else:
            rdd.checkpoint()
        job = sc.submit(slow.sum)
        while not job.progress().completed:
            await anyio.sleep(0.005)
        sc.setLocalProperty("spark.scheduler.pool", "other")
        assert await rdd.count() == 30
        assert not job.done
        assert rdd.isLocallyCheckpointed() if local else rdd.isCheckpointed()
        assert await job == sum(range(30)) + 100 * (kind == "union")
        assert await slow.sum() == sum(range(30)) + 100 * (kind == "union")


def delete_shuffle_files(sc: AsyncSparkContext) -> int:
    found = [path for root in sc._application.spec.directories for path in Path(root).glob("shuffle-*/*")]
    for path in found:
        path.unlink()
    return len(found)


@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
async def test_map_outputs_of_an_earlier_job_are_written_again_however_many_are_lost(master: str) -> None:
    async with AsyncSparkContext(master) as sc:
        held = [1]
        grouped = sc.parallelize(range(24000), 6).map(lambda x: (x % 100, f"{x}" * 50 * len(held))).groupByKey(4)
        assert await grouped.count() == 100
        held.append(open(os.devnull))  # noqa: SIM115  # what can't be pickled any more is not pickled any more
        assert delete_shuffle_files(sc) == 6
        assert await grouped.count() == 100
        held[1].close()  # type: ignore[attr-defined]


async def test_a_stage_that_can_not_be_sent_fails_its_job_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from asparkle.core.shipping import ShippedStage

    async with AsyncSparkContext("processes[2]") as sc:
        pids = set(await sc.range(8, numSlices=8).map(lambda x: slowly(x) * 0 + os.getpid()).collect())
        other = sc.submit(sc.range(20, numSlices=10).map(slowly).sum)
        while not other.progress().running:
            await anyio.sleep(0.005)

        data = ShippedStage.data

        def full(stage: ShippedStage, partition: int) -> object:
            if stage.plan.tasks == 4:
                raise OSError(28, "No space left on device")
            return data(stage, partition)

        with monkeypatch.context() as patch:
            patch.setattr(ShippedStage, "data", full)
            with pytest.raises(JobFailed, match="No space left on device"):
                await sc.range(4, numSlices=4).count()
        assert await other == 190
        await anyio.sleep(2.5)  # longer than what is killed has to end by itself
        assert set(await sc.range(8, numSlices=8).map(lambda x: slowly(x) * 0 + os.getpid()).collect()) == pids


@pytest.mark.parametrize("cap", ["0", "1", "3"])
async def test_a_job_may_need_other_jobs_however_few_may_run(cap: str) -> None:
    conf = SparkConf().setMaster("threads[2]").set("asparkle.scheduler.maxConcurrentJobs", cap)
    async with AsyncSparkContext(conf=conf) as sc:
        source = sc.range(4, numSlices=2)

        async def collected() -> AsyncIterator[int]:
            for x in await source.collect():
                yield x

        async def streamed() -> AsyncIterator[int]:
            async for x in source:
                yield x

        with anyio.fail_after(20):
            assert await sc.parallelize(collected(), 2).collect() == [0, 1, 2, 3]
            assert await sc.parallelize(streamed(), 2).collect() == [0, 1, 2, 3]


@pytest.mark.parametrize("how", ["handle", "group"])
async def test_a_generator_is_read_for_all_jobs_that_wait_for_it(how: str) -> None:
    async def numbers() -> AsyncIterator[int]:
        for i in range(5):
            await anyio.sleep(0.05)
            yield i

    async with AsyncSparkContext("threads[2]") as sc:
        rdd = sc.parallelize(numbers(), 2)
        sc.setJobGroup("first", "")
        first = sc.submit(rdd.collect)
        await anyio.sleep(0.02)
        sc.setJobGroup("second", "")
        second = sc.submit(rdd.collect)
        await anyio.sleep(0.1)
        if how == "group":
            await sc.cancelJobGroup("first")
        else:
            first.cancel()
        with pytest.raises(JobCancelled):
            await first
        assert await second == [0, 1, 2, 3, 4]

        unread = sc.parallelize(numbers(), 2)
        with anyio.move_on_after(0.1):
            await unread.collect()
        with pytest.raises(ArgumentError, match="was read in part"):
            await unread.collect()


async def test_a_task_that_closes_all_files_is_what_fails() -> None:
    def close_all(x: int) -> int:
        if x == 2:
            os.closerange(3, 100)
        return x

    async with AsyncSparkContext("local[2,2]") as sc:
        with pytest.raises(JobFailed, match="task 2 of stage 0 failed 2 times"):
            await sc.parallelize(range(3), 3).map(close_all).collect()  # the last: no other's report is sent with its
        assert await sc.parallelize(range(4), 4).sum() == 6
