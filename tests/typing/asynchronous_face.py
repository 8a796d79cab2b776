"""What type checkers see of the asynchronous face alone.  Nothing here is ever run.

A line that ends with ``# reveals: ...`` has a type that the two checkers call by different names: a regular
expression for what both say.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import assert_type, reveal_type

from asparkle.aio import RDD, JobCancelled, JobFailed, JobHandle, SparkContext, WorkerResource
from asparkle.core.events import Event, JobEnded
from asparkle.core.partitioner import Partitioner


async def contexts() -> None:
    async with SparkContext("local[2]", "app") as sc:
        assert_type(sc, SparkContext)
        assert_type(await used(sc), int)
    entered = await SparkContext("local[2]").__aenter__()
    assert_type(entered, SparkContext)
    await sc.stop()
    await sc.stop(drain=10)


async def used(sc: SparkContext) -> int:
    return await sc.range(3).count()


async def iterating(sc: SparkContext, words: RDD[str]) -> None:
    async for word in words:
        assert_type(word, str)
    async for word in await words.toLocalIterator():
        assert_type(word, str)
    assert_type(await words.toLocalIterator(prefetchPartitions=True), AsyncIterator[str])
    assert_type([word async for word in words], list[str])
    assert_type(sc.parallelize(ticks()), RDD[int])
    assert_type(await words.partitioner(), Partitioner | None)


async def awaiting(sc: SparkContext, words: RDD[str], numbers: RDD[int]) -> None:
    job = sc.submit(words.count)
    assert_type(job, JobHandle[int])
    assert_type(await job, int)
    assert_type(await job.result(), int)
    assert_type(await sc.submit(words.reduce, max), str)
    assert_type(await sc.submit(used, sc), int)
    assert_type(await asyncio.gather(words.count(), words.first()), tuple[int, str])
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        counting = group.create_task(words.count())
        every = group.create_task(words.collect())
    assert_type(counting.result(), int)
    assert_type(every.result(), list[str])
    try:
        await words.count()
    except JobCancelled as cancelled:
        assert_type(cancelled.where, str)
    except JobFailed as failed:
        assert_type(failed.partition, int | None)


def not_awaited(sc: SparkContext, words: RDD[str], numbers: RDD[int], ages: RDD[tuple[str, int]]) -> None:
    reveal_type(words.count()).close()  # reveals: Coroutine(Type)?\[Any, Any, int\]
    reveal_type(words.collect()).close()  # reveals: Coroutine(Type)?\[Any, Any, list\[str\]\]
    reveal_type(words.first()).close()  # reveals: Coroutine(Type)?\[Any, Any, str\]
    reveal_type(numbers.sum()).close()  # reveals: Coroutine(Type)?\[Any, Any, int\]
    reveal_type(numbers.fold(0, max)).close()  # reveals: Coroutine(Type)?\[Any, Any, int\]
    reveal_type(numbers.top(2)).close()  # reveals: Coroutine(Type)?\[Any, Any, list\[int\]\]
    reveal_type(numbers.foreach(print)).close()  # reveals: Coroutine(Type)?\[Any, Any, None\]
    reveal_type(words.unpersist()).close()  # reveals: Coroutine(Type)?\[Any, Any, RDD\[str\]\]
    reveal_type(ages.collectAsMap()).close()  # reveals: Coroutine(Type)?\[Any, Any, dict\[str, int\]\]
    reveal_type(sc.broadcast("a")).close()  # reveals: Coroutine(Type)?\[Any, Any, Broadcast\[str\]\]


async def listening(sc: SparkContext) -> None:
    async for event in sc.events(JobEnded):
        assert_type(event, JobEnded)
    async with sc.events() as stream:
        assert_type(await anext(stream), Event)


async def pooled(urls: RDD[str]) -> None:
    client = WorkerResource(connected)
    assert_type(client, WorkerResource[Client])
    assert_type(await client, Client)

    async def fetched(url: str) -> bytes:
        return await (await client).get(url)

    assert_type(urls.map(fetched, concurrency=200), RDD[bytes])


class Client:
    async def get(self, url: str) -> bytes:
        return url.encode()


@asynccontextmanager
async def connected() -> AsyncIterator[Client]:
    yield Client()


async def ticks() -> AsyncIterator[int]:
    yield 1


made: AbstractAsyncContextManager[SparkContext] = SparkContext("local[2]")
