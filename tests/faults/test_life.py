"""A context's life where it is most fragile: its first steps, its last ones, and loops that end in between.

Found by a review.  What concerns asyncio alone runs under `asyncio.run`, whose callbacks and tasks are not
anyio's.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from pathlib import Path

import anyio
import pytest
from scripts import run_script
from waiting import wait_until

from asparkle import AccumulatorParam, SparkConf, SparkContext, StorageLevel
from asparkle.aio import SparkContext as AsyncSparkContext
from asparkle.backends.disk import DiskStore
from asparkle.errors import ContextStopped, JobFailed, TaskKilled

MASTERS = ["inline", "threads[2]", "processes[2]"]


def conf(master: str, directory: Path) -> SparkConf:
    return SparkConf().setMaster(master).set("spark.local.dir", str(directory))


# ------------------------------------------------------------------------------------ first and last steps


@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
def test_a_loop_that_ends_before_the_contexts_first_step(master: str, tmp_path: Path) -> None:
    script = """
        import asyncio, sys
        from asparkle import SparkConf
        from asparkle.aio import SparkContext
        tasks = []
        async def use():
            async with SparkContext(conf=SparkConf().setMaster(sys.argv[1]).set("spark.local.dir", sys.argv[2])):
                await asyncio.sleep(10)
        async def main():
            tasks.append(asyncio.create_task(use()))
        asyncio.run(main())
        print("ended")
    """
    ended = run_script(script, master, str(tmp_path))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ended\n", "")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_loops_that_end_while_a_context_is_entered(master: str, tmp_path: Path) -> None:
    async def use() -> None:
        async with AsyncSparkContext(conf=conf(master, tmp_path)):
            await asyncio.sleep(10)

    async def main(delay: float) -> None:
        task = asyncio.create_task(use())
        await asyncio.sleep(delay)
        assert not task.done()

    # anyio 4.16 wraps what a task runs, so that asyncio, when it cancels a task that has not begun, leaves the
    # coroutine inside to the garbage collector, which warns.  Inside of a namedtuple's __new__, where nothing can be
    # imported, the warning itself would fail; here it does not.
    gc.disable()
    try:
        for i in range(40):
            asyncio.run(main(i * 0.0002))
    finally:
        gc.enable()
        gc.collect()
    wait_until(lambda: os.listdir(tmp_path) == [])  # a thread may still be at it


def test_directories_that_are_made_while_the_loop_ends_are_removed(tmp_path: Path) -> None:
    script = """
        import asyncio, os, sys, time
        import asparkle.core.application as application
        from asparkle import SparkConf
        from asparkle.aio import SparkContext
        make = application.ApplicationDirectories
        def slowly(*arguments):
            time.sleep(0.3)
            return make(*arguments)
        application.ApplicationDirectories = slowly
        async def use():
            async with SparkContext(conf=SparkConf().setMaster("processes[2]").set("spark.local.dir", sys.argv[1])):
                await asyncio.sleep(10)
        async def main():
            task = asyncio.create_task(use())
            await asyncio.sleep(0.1)
        asyncio.run(main())
        try:
            print("children", os.waitpid(-1, os.WNOHANG))
        except ChildProcessError:
            print("no children")
    """
    ended = run_script(script, str(tmp_path))
    assert (ended.stdout, ended.stderr) == ("no children\n", "")
    assert os.listdir(tmp_path) == []


def test_ctrl_c_while_a_blocking_context_starts_leaves_nothing(tmp_path: Path) -> None:
    script = """
        import os, signal, sys, threading
        import asparkle.portal
        from asparkle import SparkConf, SparkContext
        main = asparkle.portal.Portal._main
        async def slowly(self):
            import anyio
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep(0.1)
            await main(self)
        asparkle.portal.Portal._main = slowly
        try:
            SparkContext(conf=SparkConf().setMaster("processes[2]").set("spark.local.dir", sys.argv[1]))
        except KeyboardInterrupt:
            print("interrupted", [t.name for t in threading.enumerate()], os.listdir(sys.argv[1]))
        try:
            print("children", os.waitpid(-1, os.WNOHANG))
        except ChildProcessError:
            print("no children")
    """
    ended = run_script(script, str(tmp_path))
    assert (ended.stdout, ended.stderr) == ("interrupted ['MainThread'] []\nno children\n", "")


@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
def test_a_script_that_forgets_to_stop_a_context_with_a_listener_ends_quietly(master: str, tmp_path: Path) -> None:
    script = """
        import sys
        from asparkle import SparkConf, SparkContext
        sc = SparkContext(conf=SparkConf().setMaster(sys.argv[1]).set("spark.local.dir", sys.argv[2]))
        sc.addListener(lambda event: None)
        print(sc.parallelize(range(10)).count())
    """
    ended = run_script(script, master, str(tmp_path))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "10\n", "")
    assert os.listdir(tmp_path) == []


def test_an_iterator_goes_no_further_when_its_context_is_stopped() -> None:
    async def main() -> None:
        async with AsyncSparkContext("inline") as sc:
            elements = await sc.parallelize(range(8), 8).toLocalIterator()
            with pytest.raises(ContextStopped):
                async for _ in elements:
                    await sc.stop()

    anyio.run(main)


# -------------------------------------------------------------------------------------- under asyncio.run


@pytest.mark.parametrize("master", MASTERS)
def test_what_is_garbage_is_deleted_under_asyncio_run_too(master: str, tmp_path: Path) -> None:
    def files() -> list[str]:
        return [name for _, _, names in os.walk(tmp_path) for name in names if name != "lock" and "running" not in name]

    async def main() -> None:
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
        async with AsyncSparkContext(conf=conf(master, tmp_path)) as sc:
            broadcast = await sc.broadcast(list(range(1000)))
            pairs = sc.parallelize([(i % 7, bytes(2000)) for i in range(100)], 2).groupByKey(2)
            assert await pairs.count() == 7
            assert files()
            broadcast.destroy()
            del pairs
            gc.collect()
            async with asyncio.timeout(20):
                while files():
                    await asyncio.sleep(0.01)
        assert errors == []

    asyncio.run(main())


def test_a_cancel_in_the_moment_in_which_a_job_ends_leaves_no_result(tmp_path: Path, monkeypatch) -> None:
    from asparkle.core.jobs import Job

    async def main() -> None:
        async with AsyncSparkContext(conf=conf("processes[2]", tmp_path)) as sc:
            task = asyncio.create_task(sc.parallelize(range(4), 4).map(lambda i: bytes(1 << 21)).collect())
            finish = Job.finish

            def finish_and_cancel(job: Job, error: BaseException | None) -> None:
                finish(job, error)
                task.cancel()

            monkeypatch.setattr(Job, "finish", finish_and_cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
            monkeypatch.undo()
            assert list(tmp_path.glob("*/results/*")) == []

    asyncio.run(main())


# ------------------------------------------------------------------------------------ blocks being written


def test_a_partition_that_is_unpersisted_while_it_is_stored_is_not_empty(tmp_path: Path, monkeypatch) -> None:
    put = DiskStore.put

    def put_slowly(self, block, chunks):
        size = put(self, block, chunks)
        time.sleep(0.3)
        return size

    monkeypatch.setattr(DiskStore, "put", put_slowly)

    async def main() -> None:
        async with AsyncSparkContext(conf=conf("threads[2]", tmp_path)) as sc:
            rdd = sc.parallelize(range(100), 2).map(lambda x: x).persist(StorageLevel.DISK_ONLY)
            counting = asyncio.create_task(rdd.count())
            await asyncio.sleep(0.1)
            await rdd.unpersist()
            assert await counting == 100

    asyncio.run(main())


def test_unpersisting_does_not_fail_the_tasks_that_are_writing(tmp_path: Path) -> None:
    def slow(x: int) -> int:
        time.sleep(0.001)
        return x

    async def main() -> None:
        async with AsyncSparkContext(conf=conf("local[2,1]", tmp_path)) as sc:
            rdd = sc.parallelize(range(1500), 2).map(slow).persist(StorageLevel.DISK_ONLY)
            counting = asyncio.create_task(rdd.count())
            while not counting.done():
                await asyncio.sleep(0.05)
                await rdd.unpersist()
                rdd.persist(StorageLevel.DISK_ONLY)
            assert await counting == 1500

    asyncio.run(main())


# ------------------------------------------------------------------------- exceptions that are no Exception


@pytest.mark.parametrize("master", MASTERS)
def test_a_system_exit_in_the_drivers_part_of_an_action_is_its_callers(master: str) -> None:
    with SparkContext(master) as sc:
        with pytest.raises(SystemExit, match="bye"):
            sc.parallelize([1, 2], 2).reduce(lambda a, b: sys.exit("bye"))
        assert sc.parallelize([1, 2], 2).count() == 2


class Exits(AccumulatorParam[int]):
    def zero(self, value: int) -> int:
        return 0

    def addInPlace(self, value1: int, value2: int) -> int:
        if value1 and value2:
            sys.exit("bye")
        return value1 + value2


@pytest.mark.parametrize("master", MASTERS)
def test_an_accumulator_that_exits_does_not_end_the_context(master: str) -> None:
    with SparkContext(master) as sc:
        exits = sc.accumulator(0, Exits())
        sc.parallelize(range(2), 2).foreach(lambda x: exits.add(1))
        assert sc.parallelize(range(4)).sum() == 6


def killed(x: object) -> None:
    raise TaskKilled("not by us")


@pytest.mark.parametrize("master", MASTERS)
def test_a_task_that_says_that_it_was_killed_has_failed(master: str) -> None:
    with SparkContext(master) as sc, pytest.raises(JobFailed, match="TaskKilled: not by us"):
        sc.parallelize([1], 1).map(killed).collect()


@pytest.mark.parametrize("master", MASTERS)
def test_an_accumulator_counts_in_the_jobs_of_another_context(master: str) -> None:
    async def main() -> None:
        async with AsyncSparkContext(master) as one, AsyncSparkContext(master) as other:
            total = one.accumulator(0)
            await other.parallelize([1, 2, 3], 2).foreach(total.add)
            assert total.value == 6

    asyncio.run(main())


# ---------------------------------------------------------------------------- reports that are held back


def test_large_results_and_updates_of_a_barrier_stage_wait_for_all_of_it(tmp_path: Path) -> None:
    class Lists(AccumulatorParam[list]):
        def zero(self, value):
            return []

        def addInPlace(self, value1, value2):
            return value1 + value2

    async def main() -> None:
        async with AsyncSparkContext(conf=conf("processes[2]", tmp_path)) as sc:
            seen = sc.accumulator([], Lists())

            def large(elements):
                seen.add([bytes(1 << 21)])
                return [bytes(1 << 21)]

            rdd = sc.parallelize(range(2), 2).mapPartitions(large)
            rdd._node.barrier = True
            assert [len(x) for x in await rdd.collect()] == [1 << 21] * 2
            assert [len(x) for x in seen.value] == [1 << 21] * 2
            assert list(tmp_path.glob("*/results/*")) == []

    asyncio.run(main())
