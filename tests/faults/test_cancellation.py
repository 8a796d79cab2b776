"""Cancelling: the caller is back at once, nothing new starts, and the context works on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from waiting import until

from asparkle import SparkConf
from asparkle.aio import SparkContext
from asparkle.core.errors import ContextStopped, JobCancelled, TooManyJobs
from asparkle.core.events import JobStarted

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


def nap(directory: Path, name: str) -> Callable[[object], None]:
    """A function that leaves a file ``name`` in ``directory``, and then sleeps in C for a minute."""

    def nap(x: object) -> None:
        (directory / name).touch()
        time.sleep(60)

    return nap


async def test_the_caller_is_back_while_its_tasks_sleep_in_c(tmp_path: Path) -> None:
    conf = SparkConf().setMaster("processes[2]").set("spark.task.reaper.killTimeout", "1h")
    async with SparkContext(conf=conf) as sc:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sc.parallelize(range(8), 8).map(nap(tmp_path, "asleep")).count)
            await until((tmp_path / "asleep").exists)
            asked = time.monotonic()
            tasks.cancel_scope.cancel()
        assert time.monotonic() - asked < 20  # of sixty; how soon it really is, contrib/bench/cancelling.py tells


@pytest.mark.parametrize("master", ["inline", "threads[2]"])
async def test_the_caller_is_back_while_its_tasks_hold_threads(master: str, tmp_path: Path) -> None:
    """A thread can't be killed: it goes on, and its slot is free when it has ended."""
    asleep, end = tmp_path / "asleep", tmp_path / "end"

    def nap_until_told(x: object) -> None:
        asleep.touch()
        while not end.exists():
            try:
                time.sleep(0.01)
            except BaseException:
                continue

    async with SparkContext(master) as sc:
        with anyio.fail_after(20) as deadline:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sc.parallelize(range(8), 8).map(nap_until_told).count)
                await until(asleep.exists)
                tasks.cancel_scope.cancel()
        assert not deadline.cancelled_caught
        end.touch()
        assert await sc.parallelize(range(4), 4).map(lambda x: x + 1).collect() == [1, 2, 3, 4]


async def test_a_task_that_swallows_the_interrupt_is_killed_with_its_worker(tmp_path: Path) -> None:
    def swallow_interrupts_for_a_minute(x: int) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                (tmp_path / str(x)).touch()
                time.sleep(60)
            except BaseException:
                continue

    conf = SparkConf().setMaster("processes[2]").set("spark.task.reaper.killTimeout", "200ms")
    async with SparkContext(conf=conf) as sc:
        pids = set(await sc.parallelize(range(2), 2).map(lambda x: os.getpid()).collect())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sc.parallelize(range(2), 2).map(swallow_interrupts_for_a_minute).count)
            await until(lambda: len(os.listdir(tmp_path)) == 2)
            tasks.cancel_scope.cancel()
        assert await sc.parallelize(range(4), 4).count() == 4
        assert pids.isdisjoint(await sc.parallelize(range(2), 2).map(lambda x: os.getpid()).collect())


async def test_cancelling_one_job_does_not_disturb_another(tmp_path: Path) -> None:
    async with SparkContext("processes[2]") as sc:
        async with anyio.create_task_group() as tasks:

            async def other() -> None:
                found = await sc.parallelize(range(40), 20).map(lambda x: time.sleep(0.01) or x).sum()
                assert found == 780

            async with anyio.create_task_group() as cancelled:
                cancelled.start_soon(sc.parallelize(range(4), 4).map(nap(tmp_path, "asleep")).count)
                await until((tmp_path / "asleep").exists)
                tasks.start_soon(other)
                cancelled.cancel_scope.cancel()


async def test_groups_and_tags_cancel_the_jobs_that_have_them(tmp_path: Path) -> None:
    async with SparkContext("processes[2]") as sc, anyio.create_task_group() as tasks:
        started: list[JobStarted] = []
        ended: list[str] = []
        sc.addListener(started.append, JobStarted)

        async def grouped() -> None:
            sc.setJobGroup("nightly", "what runs at night")
            with pytest.raises(JobCancelled, match="nightly"):
                await sc.parallelize(range(2), 2).map(nap(tmp_path, "grouped")).count()
            ended.append("group")

        async def tagged() -> None:
            with sc.jobTag("report"), pytest.raises(JobCancelled, match="report"):
                await sc.parallelize(range(2), 2).map(nap(tmp_path, "tagged")).count()
            ended.append("tag")

        tasks.start_soon(grouped)
        tasks.start_soon(tagged)
        await until(lambda: len(started) == 2)
        await sc.cancelJobsWithTag("report")
        await until(lambda: bool(ended))
        assert ended == ["tag"]
        await sc.cancelJobGroup("nightly")
        await until(lambda: len(ended) == 2)
        assert sc.getLocalProperty("spark.jobGroup.id") is None  # it was the other task's


async def test_stopping_the_context_fails_the_jobs_that_run(tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        async with SparkContext("processes[2]") as sc:

            async def interrupted() -> None:
                with pytest.raises(ContextStopped):
                    await sc.parallelize(range(2), 2).map(nap(tmp_path, "asleep")).count()

            tasks.start_soon(interrupted)
            await until((tmp_path / "asleep").exists)
    with pytest.raises(ContextStopped):
        await sc.parallelize(range(2)).count()


async def test_jobs_beyond_the_cap_wait_and_beyond_the_queue_are_refused(tmp_path: Path) -> None:
    conf = SparkConf().setMaster("processes[2]")
    conf.set("asparkle.scheduler.maxConcurrentJobs", 1).set("asparkle.scheduler.maxQueuedJobs", 1)
    begun, end = tmp_path / "begun", tmp_path / "end"

    def nap_until_told(x: int) -> None:
        begun.touch()
        while not end.exists():
            time.sleep(0.01)

    async with SparkContext(conf=conf) as sc, anyio.create_task_group() as tasks:
        order: list[int] = []

        async def job(i: int) -> None:
            await sc.parallelize([i], 1).map(nap_until_told).count()
            order.append(i)

        tasks.start_soon(job, 0)
        await until(begun.exists)
        tasks.start_soon(job, 1)
        await until(lambda: sc._admission.waiting == 1)
        with pytest.raises(TooManyJobs, match="maxQueuedJobs"):
            await sc.parallelize([2], 1).count()
        assert order == []
        end.touch()
    assert order == [0, 1]


def test_ctrl_c_cancels_the_job_and_the_context_works_on(tmp_path: Path) -> None:
    script, asleep = tmp_path / "script.py", tmp_path / "asleep"
    script.write_text(
        "import pathlib, sys, time\n"
        "from asparkle import SparkContext\n"
        "def nap(x):\n"
        "    pathlib.Path(asleep).touch()\n"
        "    time.sleep(60)\n"
        "asleep = sys.argv[1]\n"
        "sc = SparkContext('processes[2]')\n"
        "try:\n"
        "    sc.parallelize(range(4), 4).map(nap).count()\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', sc.parallelize(range(4)).sum())\n"
        "sc.stop()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen(
        [sys.executable, str(script), str(asleep)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    anyio.run(until, asleep.exists)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "interrupted 6\n", "")
