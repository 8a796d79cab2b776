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

from asparkle import SparkConf
from asparkle.aio import SparkContext
from asparkle.core.errors import ContextStopped, JobCancelled, TooManyJobs

pytestmark = pytest.mark.anyio

PROMPT = 0.1  # seconds: the design's promise, which is behaviour and not speed


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


def sleep_a_minute(x: object) -> None:
    time.sleep(60)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.01)


@pytest.mark.parametrize("master", ["inline", "threads[2]", "processes[2]"])
async def test_the_caller_of_a_job_that_sleeps_in_c_is_back_promptly(master: str) -> None:
    naps = 60.0 if master.startswith("processes") else 1.0  # a thread can't be killed: its sleep goes on

    async with SparkContext(master) as sc:
        await sc.parallelize(range(4), 4).count()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sc.parallelize(range(8), 8).map(lambda x: time.sleep(naps)).count)
                await anyio.sleep(0.3)
                asked = time.monotonic()
                scope.cancel()
        assert time.monotonic() - asked < PROMPT
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


async def test_cancelling_one_job_does_not_disturb_another() -> None:
    async with SparkContext("processes[2]") as sc:
        async with anyio.create_task_group() as tasks:

            async def other() -> None:
                found = await sc.parallelize(range(40), 20).map(lambda x: time.sleep(0.01) or x).sum()
                assert found == 780

            tasks.start_soon(other)
            with anyio.move_on_after(0.1):
                await sc.parallelize(range(4), 4).map(sleep_a_minute).count()


async def test_groups_and_tags_cancel_the_jobs_that_have_them() -> None:
    async with SparkContext("processes[2]") as sc, anyio.create_task_group() as tasks:
        await sc.parallelize(range(2)).count()
        ended: list[str] = []

        async def grouped() -> None:
            sc.setJobGroup("nightly", "what runs at night")
            with pytest.raises(JobCancelled, match="nightly"):
                await sc.parallelize(range(2), 2).map(sleep_a_minute).count()
            ended.append("group")

        async def tagged() -> None:
            with sc.jobTag("report"), pytest.raises(JobCancelled, match="report"):
                await sc.parallelize(range(2), 2).map(sleep_a_minute).count()
            ended.append("tag")

        tasks.start_soon(grouped)
        tasks.start_soon(tagged)
        await anyio.sleep(0.2)
        await sc.cancelJobsWithTag("report")
        await anyio.sleep(0.2)
        assert ended == ["tag"]
        await sc.cancelJobGroup("nightly")
        await anyio.sleep(0.2)
        assert ended == ["tag", "group"]
        assert sc.getLocalProperty("spark.jobGroup.id") is None  # it was the other task's


async def test_stopping_the_context_fails_the_jobs_that_run() -> None:
    async with anyio.create_task_group() as tasks:
        async with SparkContext("processes[2]") as sc:
            await sc.parallelize(range(2)).count()

            async def interrupted() -> None:
                with pytest.raises(ContextStopped):
                    await sc.parallelize(range(2), 2).map(sleep_a_minute).count()

            tasks.start_soon(interrupted)
            await anyio.sleep(0.2)
    with pytest.raises(ContextStopped):
        await sc.parallelize(range(2)).count()


async def test_jobs_beyond_the_cap_wait_and_beyond_the_queue_are_refused() -> None:
    conf = SparkConf().setMaster("processes[2]")
    conf.set("asparkle.scheduler.maxConcurrentJobs", 1).set("asparkle.scheduler.maxQueuedJobs", 1)
    async with SparkContext(conf=conf) as sc, anyio.create_task_group() as tasks:
        order: list[int] = []

        async def job(i: int) -> None:
            await sc.parallelize([i], 1).map(lambda x: time.sleep(0.3)).count()
            order.append(i)

        tasks.start_soon(job, 0)
        await anyio.sleep(0.1)
        tasks.start_soon(job, 1)
        await anyio.sleep(0.05)
        with pytest.raises(TooManyJobs, match="maxQueuedJobs"):
            await sc.parallelize([2], 1).count()
        assert order == []
    assert order == [0, 1]


def test_ctrl_c_cancels_the_job_and_the_context_works_on(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from asparkle import SparkContext\n"
        "sc = SparkContext('processes[2]')\n"
        "sc.parallelize(range(2)).count()\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    sc.parallelize(range(4), 4).map(lambda x: time.sleep(60)).count()\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', sc.parallelize(range(4)).sum())\n"
        "sc.stop()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "interrupted 6\n", "")
