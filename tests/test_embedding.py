"""The asynchronous face inside programs that are asyncio's own: their timeouts, task groups and event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from anyio import from_thread, to_thread

from asparkle.aio import SparkContext

MASTERS = ["inline", "threads[2]", "processes[2]"]
pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture(params=MASTERS)
async def sc(request: pytest.FixtureRequest) -> AsyncIterator[SparkContext]:
    """Entered and left in different tasks, as the fixtures of pytest-asyncio are."""
    async with SparkContext(request.param) as context:
        yield context


def nap(x: int) -> int:
    time.sleep(0.02)
    return x


async def test_a_timeout_cancels_the_job_and_the_context_works_on(sc: SparkContext) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await sc.parallelize(range(1000), 1000).map(nap).count()
    assert await sc.parallelize(range(10), 2).sum() == 45


async def test_the_jobs_of_a_task_group_run_at_once_and_one_that_fails_cancels_the_others(sc: SparkContext) -> None:
    async with asyncio.TaskGroup() as group:
        sums = [group.create_task(sc.parallelize(range(n), 2).sum()) for n in range(1, 9)]
    assert [task.result() for task in sums] == [sum(range(n)) for n in range(1, 9)]

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(sc.parallelize([0], 1).map(lambda x: 1 / x).collect())
            long = group.create_task(sc.parallelize(range(1000), 1000).map(nap).count())
    assert isinstance(caught.value.exceptions[0].__cause__, ZeroDivisionError)
    assert long.cancelled()
    assert await sc.parallelize([1, 2], 1).sum() == 3


async def test_the_loop_turns_while_a_job_runs(sc: SparkContext) -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    before = turns
    assert await sc.parallelize(range(10), 10).map(nap).count() == 10
    assert turns - before > 10
    turning.cancel()


async def test_an_action_is_a_coroutine_that_wait_for_and_gather_take(sc: SparkContext) -> None:
    rdd = sc.parallelize(range(100), 4)
    count, total, taken = await asyncio.wait_for(asyncio.gather(rdd.count(), rdd.sum(), rdd.take(2)), timeout=60)
    assert (count, total, taken) == (100, 4950, [0, 1])


async def test_elements_come_one_by_one_into_an_async_for(sc: SparkContext) -> None:
    seen = []
    async for x in sc.parallelize(range(20), 4):
        seen.append(x)
        if len(seen) == 7:
            break
    assert seen == list(range(7))
    assert await sc.parallelize(range(3), 3).count() == 3


async def test_threads_of_the_program_may_all_wait_for_asparkle(sc: SparkContext, tmp_path: Path) -> None:
    """As the handlers of a web framework do, which has so many threads; asparkle waited for one of them to be free."""
    limiter = to_thread.current_default_thread_limiter()
    many = int(limiter.total_tokens)
    rdd = sc.parallelize(range(4), 2)
    everybody = threading.Barrier(many)

    def endpoint(i: int) -> None:
        everybody.wait()
        from_thread.run(rdd.saveAsTextFile, str(tmp_path / str(i)))

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for i in range(many):
            group.create_task(to_thread.run_sync(endpoint, i, abandon_on_cancel=True))
    assert len(list(tmp_path.glob("*/_SUCCESS"))) == many
