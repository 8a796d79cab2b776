"""What type checkers see of the blocking face alone.  Nothing here is ever run."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import assert_type

from asparkle import RDD, AsparkleError, JobFailed, JobHandle, SparkContext
from asparkle.core.events import JobEnded
from asparkle.core.partitioner import Partitioner
from asparkle.core.storagelevel import StorageLevel


def contexts() -> None:
    with SparkContext("local[2]", "app") as sc:
        assert_type(sc, SparkContext)
        assert_type(sc.parallelize([1]).context, SparkContext)
        assert_type(sc.parallelize([1]).ctx, SparkContext)
    assert_type(SparkContext.getOrCreate(), SparkContext)
    assert_type(SparkContext.getSystemProperty("spark.master"), str | None)
    assert_type(sc.jobTag("report"), AbstractContextManager[None])
    sc.stop()
    sc.stop(drain=10)


def waiting(sc: SparkContext, words: RDD[str]) -> None:
    assert_type(words.count(), int)
    assert_type(words.partitioner, Partitioner | None)
    assert_type(words.toLocalIterator(), Iterator[str])
    for word in words.toLocalIterator(prefetchPartitions=True):
        assert_type(word, str)
    for event in sc.events(JobEnded):
        assert_type(event, JobEnded)
    job = sc.submit(words.count)
    assert_type(job, JobHandle[int])
    assert_type(job.result(), int)
    assert_type(sc.submit(words.reduce, max).result(), str)


def failing(words: RDD[str]) -> int | None:
    try:
        return words.persist(StorageLevel.DISK_ONLY).count()
    except JobFailed as error:
        assert_type(error, JobFailed)
        return error.partition
    except AsparkleError as error:
        assert_type(error, AsparkleError)
        raise
