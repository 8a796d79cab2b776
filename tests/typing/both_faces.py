"""What type checkers see of both faces: each line must hold for both.

Written for `asparkle.aio`; `test_types` makes the blocking face's file of it, by taking ``await`` and ``async``
away.  Nothing here is ever run.
"""

import pathlib
from collections.abc import AsyncIterator, Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from operator import add
from typing import Any, NamedTuple, assert_type

from asparkle.aio import (
    RDD,
    Accumulator,
    AccumulatorParam,
    BarrierTaskContext,
    BarrierTaskInfo,
    Broadcast,
    EventStream,
    FailedElement,
    RDDBarrier,
    SparkConf,
    SparkContext,
    SparkFiles,
    StatCounter,
    StorageLevel,
    TaskContext,
)
from asparkle.core.approximate import BoundedFloat
from asparkle.core.coroutines import OnError
from asparkle.core.events import Event, JobEnded, JobStarted
from asparkle.core.jobrecords import JobMetrics, JobProgress
from asparkle.core.status import SparkExecutorInfo, SparkJobInfo, SparkStageInfo, StatusTracker
from asparkle.errors import (
    AsparkleError,
    InputNotFound,
    JobCancelled,
    JobDeadlineExceeded,
    JobFailed,
    OutputExists,
    PicklingFailed,
)
from asparkle.resource import ResourceProfile
from asparkle.resultiterable import ResultIterable
from asparkle.sql import Row


class Point(NamedTuple):
    x: int
    y: float


class Sale(NamedTuple):
    shop: str
    price: float


def sources(sc: SparkContext, path: pathlib.Path, either: bool, points: Iterator[Point]) -> None:
    assert_type(sc.parallelize([1, 2, 3]), RDD[int])
    assert_type(sc.parallelize(range(10), 4), RDD[int])
    assert_type(sc.parallelize("abc"), RDD[str])
    assert_type(sc.parallelize([("a", 1), ("b", 2)]), RDD[tuple[str, int]])
    assert_type(sc.parallelize({"a": 1}.items()), RDD[tuple[str, int]])
    assert_type(sc.parallelize(points, numSlices=2), RDD[Point])
    assert_type(sc.parallelize([{"a": [1.5]}]), RDD[dict[str, list[float]]])
    assert_type(sc.parallelize(countdown(3)), RDD[int])
    assert_type(sc.range(5), RDD[int])
    assert_type(sc.range(1, 10, 3, numSlices=2), RDD[int])
    assert_type(sc.emptyRDD(), RDD[Any])
    assert_type(sc.textFile("words.txt"), RDD[str])
    assert_type(sc.textFile(path, 4), RDD[str])
    assert_type(sc.textFile(path, use_unicode=True), RDD[str])
    assert_type(sc.textFile(path, use_unicode=False), RDD[bytes])
    assert_type(sc.textFile(path, None, False), RDD[bytes])
    assert_type(sc.textFile(path, use_unicode=either), RDD[str | bytes])
    assert_type(sc.wholeTextFiles(path), RDD[tuple[str, str]])
    assert_type(sc.wholeTextFiles(path, use_unicode=False), RDD[tuple[bytes, bytes]])
    assert_type(sc.wholeTextFiles(path, 2, False), RDD[tuple[bytes, bytes]])
    assert_type(sc.binaryFiles(path), RDD[tuple[str, bytes]])
    assert_type(sc.binaryRecords(path, 16), RDD[bytes])
    assert_type(sc.pickleFile(path), RDD[Any])
    assert_type(sc.sequenceFile(path), RDD[tuple[Any, Any]])
    assert_type(sc.union([sc.range(3), sc.range(4)]), RDD[int])
    assert_type(sc.union(sc.textFile(f"{year}.txt") for year in range(2000, 2003)), RDD[str])


def elements(sc: SparkContext, numbers: RDD[int], words: RDD[str], points: RDD[Point]) -> None:
    # one by one
    assert_type(numbers.map(lambda x: x + 1), RDD[int])
    assert_type(numbers.map(str), RDD[str])
    assert_type(numbers.map(lambda x: (x % 2, str(x))), RDD[tuple[int, str]])
    assert_type(numbers.map(lambda x: x / 2, True), RDD[float])
    assert_type(points.map(lambda point: point.y), RDD[float])
    assert_type(words.map(parsed), RDD[Any])
    assert_type(words.map(sale), RDD[Sale])
    words.map(row).map(lambda row: row.asDict())  # to mypy it is an RDD[Any], as Row is a tuple of Any
    assert_type(words.map(lambda line: line if line else None), RDD[str | None])
    assert_type(words.map(tuple), RDD[tuple[str, ...]])
    assert_type(words.flatMap(str.split), RDD[str])
    assert_type(words.flatMap(lambda line: [(word, 1) for word in line.split()]), RDD[tuple[str, int]])
    assert_type(numbers.flatMap(range), RDD[int])
    assert_type(numbers.filter(lambda x: x % 2), RDD[int])
    assert_type(points.filter(lambda point: point.x > 0), RDD[Point])
    assert_type(words.keyBy(len), RDD[tuple[int, str]])
    assert_type(points.keyBy(lambda point: [point.x]), RDD[tuple[list[int], Point]])

    # by partition
    assert_type(numbers.mapPartitions(lambda xs: [sum(xs)]), RDD[int])
    assert_type(numbers.mapPartitions(lambda xs: (str(x) for x in xs)), RDD[str])
    assert_type(numbers.mapPartitions(halves), RDD[float])
    assert_type(numbers.mapPartitionsWithIndex(lambda i, xs: [(i, x) for x in xs]), RDD[tuple[int, int]])
    assert_type(words.mapPartitionsWithIndex(numbered, preservesPartitioning=True), RDD[tuple[int, str]])
    assert_type(words.mapPartitionsWithSplit(numbered), RDD[tuple[int, str]])
    assert_type(words.glom(), RDD[list[str]])
    assert_type(numbers.zipPartitions(words, lambda xs, ys: zip(xs, ys, strict=True)), RDD[tuple[int, str]])
    assert_type(words.pipe("sort", {"LC_ALL": "C"}), RDD[str])
    assert_type(numbers.barrier(), RDDBarrier[int])
    assert_type(numbers.barrier().mapPartitions(halves), RDD[float])
    assert_type(words.barrier().mapPartitionsWithIndex(numbered), RDD[tuple[int, str]])

    # what stays
    assert_type(points.sample(False, 0.5, seed=1), RDD[Point])
    assert_type(points.randomSplit([1, 2]), list[RDD[Point]])
    assert_type(words.distinct(), RDD[str])
    assert_type(words.coalesce(1), RDD[str])
    assert_type(words.repartition(9), RDD[str])
    assert_type(words.sortBy(len, ascending=False), RDD[str])
    assert_type(points.sortBy(lambda point: (point.x, -point.y)), RDD[Point])
    assert_type(words.intersection(words), RDD[str])
    assert_type(words.subtract(words, 2), RDD[str])

    # two of them
    assert_type(numbers.union(numbers), RDD[int])
    assert_type(numbers.union(words), RDD[int | str])
    assert_type(numbers + numbers, RDD[int])
    assert_type(numbers + words, RDD[int | str])
    assert_type(numbers.zip(words), RDD[tuple[int, str]])
    assert_type(numbers.cartesian(words), RDD[tuple[int, str]])
    assert_type(words.zipWithIndex(), RDD[tuple[str, int]])
    assert_type(words.zipWithUniqueId(), RDD[tuple[str, int]])
    assert_type(words.groupBy(len), RDD[tuple[int, ResultIterable[str]]])
    assert_type(points.groupBy(lambda point: point.x, 4), RDD[tuple[int, ResultIterable[Point]]])

    # an RDD is covariant, as what can't be changed is
    assert_type(shown(numbers) + shown(words) + shown(points), str)
    assert_type(halved(numbers), RDD[float])


def pairs(
    sc: SparkContext, ages: RDD[tuple[str, int]], names: RDD[tuple[str, str]], flags: RDD[tuple[str, bool]]
) -> None:
    assert_type(ages.keys(), RDD[str])
    assert_type(ages.values(), RDD[int])
    assert_type(ages.mapValues(lambda age: age / 2), RDD[tuple[str, float]])
    assert_type(ages.mapValues(str), RDD[tuple[str, str]])
    assert_type(ages.flatMapValues(range), RDD[tuple[str, int]])
    assert_type(ages.flatMapValues(lambda age: [str(age)]), RDD[tuple[str, str]])
    assert_type(ages.reduceByKey(add), RDD[tuple[str, int]])
    assert_type(ages.reduceByKey(lambda a, b: max(a, b), 4), RDD[tuple[str, int]])
    assert_type(ages.foldByKey(0, lambda a, b: a + b), RDD[tuple[str, int]])
    assert_type(ages.groupByKey(), RDD[tuple[str, ResultIterable[int]]])
    assert_type(ages.groupByKey().mapValues(list), RDD[tuple[str, list[int]]])
    assert_type(ages.groupByKey().mapValues(lambda found: sum(found) / len(found)), RDD[tuple[str, float]])
    ages.combineByKey(lambda v: (v, 1), lambda c, v: (c[0] + v, c[1] + 1), lambda c, d: (c[0] + d[0], c[1] + d[1]))
    ages.combineByKey(lambda v: [v], lambda c, v: [*c, v], lambda c, d: c + d)  # mypy takes lambdas' results for Any
    assert_type(ages.combineByKey(begun, extended, merged), RDD[tuple[str, list[int]]])
    assert_type(
        ages.aggregateByKey((0, 0.0), lambda c, v: (c[0] + 1, c[1] + v), lambda c, d: (c[0] + d[0], c[1] + d[1])),
        RDD[tuple[str, tuple[int, float]]],
    )
    assert_type(ages.partitionBy(4), RDD[tuple[str, int]])
    assert_type(ages.partitionBy(4, len), RDD[tuple[str, int]])
    assert_type(ages.sortByKey(), RDD[tuple[str, int]])
    assert_type(ages.sortByKey(False, keyfunc=lambda name: name.lower()), RDD[tuple[str, int]])
    assert_type(ages.repartitionAndSortWithinPartitions(2, len, True, lambda name: name.lower()), RDD[tuple[str, int]])
    assert_type(ages.sampleByKey(False, {"a": 0.5}), RDD[tuple[str, int]])
    assert_type(ages.subtractByKey(names), RDD[tuple[str, int]])

    assert_type(ages.join(names), RDD[tuple[str, tuple[int, str]]])
    assert_type(ages.leftOuterJoin(names), RDD[tuple[str, tuple[int, str | None]]])
    assert_type(ages.rightOuterJoin(names), RDD[tuple[str, tuple[int | None, str]]])
    assert_type(ages.fullOuterJoin(names, 3), RDD[tuple[str, tuple[int | None, str | None]]])
    assert_type(ages.join(names).join(flags), RDD[tuple[str, tuple[tuple[int, str], bool]]])
    assert_type(ages.cogroup(names), RDD[tuple[str, tuple[ResultIterable[int], ResultIterable[str]]]])
    assert_type(ages.groupWith(names), RDD[tuple[str, tuple[ResultIterable[int], ResultIterable[str]]]])
    assert_type(
        ages.groupWith(names, flags),
        RDD[tuple[str, tuple[ResultIterable[int], ResultIterable[str], ResultIterable[bool]]]],
    )
    assert_type(
        ages.groupWith(names, flags, ages),
        RDD[tuple[str, tuple[ResultIterable[int], ResultIterable[str], ResultIterable[bool], ResultIterable[int]]]],
    )
    assert_type(ages.groupWith(names, flags, ages, names), RDD[tuple[str, tuple[ResultIterable[Any], ...]]])

    # tuples that lambdas make: of their literals nothing stays
    words = ages.keys()
    assert_type(words.map(lambda word: (word, 1)).reduceByKey(lambda a, b: a + b), RDD[tuple[str, int]])
    assert_type(
        words.map(lambda word: (word, (len(word), 1))).reduceByKey(lambda a, b: (a[0] + b[0], a[1] + b[1])),
        RDD[tuple[str, tuple[int, int]]],
    )
    assert_type(
        ages.mapValues(lambda age: (age, 1)).reduceByKey(lambda a, b: (a[0] + b[0], a[1] + b[1])),
        RDD[tuple[str, tuple[int, int]]],
    )

    # whatever is a tuple of two is a pair; what is not known is taken for one
    sales = sc.parallelize([Sale("Bern", 9.5)])
    assert_type(sales.reduceByKey(add), RDD[tuple[str, float]])
    anything = sc.pickleFile("saved")
    assert_type(anything.reduceByKey(add), RDD[tuple[Any, Any]])
    assert_type(anything.keys(), RDD[Any])

    # keys that are not hashed need not be hashable
    by_list = sc.parallelize([([1, 2], "a")])
    assert_type(by_list.keys(), RDD[list[int]])
    assert_type(by_list.values(), RDD[str])
    assert_type(by_list.mapValues(len), RDD[tuple[list[int], int]])
    assert_type(by_list.flatMapValues(list), RDD[tuple[list[int], str]])
    assert_type(by_list.sortByKey(), RDD[tuple[list[int], str]])


async def actions(sc: SparkContext, numbers: RDD[int], words: RDD[str], ages: RDD[tuple[str, int]]) -> None:
    assert_type(await words.collect(), list[str])
    assert_type(await words.collectWithJobGroup("nightly", "at night"), list[str])
    assert_type(await words.first(), str)
    assert_type(await words.take(3), list[str])
    assert_type(await words.top(3, key=len), list[str])
    assert_type(await words.takeOrdered(3, key=lambda word: -len(word)), list[str])
    assert_type(await words.takeSample(True, 3, 1), list[str])
    assert_type(await words.isEmpty(), bool)
    assert_type(await words.count(), int)
    assert_type(await words.getNumPartitions(), int)
    assert_type(await words.toDebugString(), bytes)
    assert_type(await ages.keys().distinct().collect(), list[str])

    # reductions
    assert_type(await numbers.reduce(add), int)
    assert_type(await words.reduce(lambda a, b: a + b), str)
    assert_type(await words.treeReduce(min, 3), str)
    assert_type(await numbers.fold(0, add), int)
    assert_type(await numbers.fold(0, lambda a, b: a + b), int)
    assert_type(await words.fold("", lambda a, b: max(a, b)), str)
    assert_type(await words.aggregate(0, lambda n, word: n + len(word), lambda n, m: n + m), int)
    assert_type(await words.treeAggregate(0.5, lambda n, word: n + len(word), add), float)
    assert_type(
        await numbers.aggregate((0, 0), lambda c, x: (c[0] + x, c[1] + 1), lambda c, d: (c[0] + d[0], c[1] + d[1])),
        tuple[int, int],
    )
    assert_type(await numbers.max(), int)
    assert_type(await words.max(key=len), str)
    assert_type(await words.min(), str)

    # numbers
    assert_type(await numbers.sum(), int)
    assert_type(await sc.parallelize([0.5]).sum(), float)
    assert_type(await sc.parallelize([True]).sum(), int)
    assert_type(await sc.parallelize([Decimal(1)]).sum(), Any)
    assert_type(await sc.pickleFile("saved").sum(), Any)
    assert_type(await numbers.stats(), StatCounter)
    assert_type((await numbers.stats()).mean(), float)
    assert_type((await numbers.stats()).asDict(), dict[str, float])
    assert_type(await numbers.mean(), float)
    assert_type(await sc.parallelize([Fraction(1, 3)]).mean(), float)
    assert_type(await sc.pickleFile("saved").mean(), float)
    assert_type(await numbers.variance(), float)
    assert_type(await numbers.stdev(), float)
    assert_type(await numbers.sampleVariance(), float)
    assert_type(await numbers.sampleStdev(), float)
    assert_type(await numbers.histogram(3), tuple[list[float], list[int]])
    assert_type(await numbers.histogram([0, 10, 20]), tuple[list[int], list[int]])
    assert_type(await words.histogram(["a", "m", "z"]), tuple[list[str], list[int]])

    # about
    assert_type(await numbers.countApprox(100), int)
    assert_type(await numbers.sumApprox(100), BoundedFloat)
    assert_type((await numbers.meanApprox(100, 0.9)).low, float)
    assert_type(await words.countApproxDistinct(0.01), int)

    # by key
    assert_type(await ages.countByKey(), dict[str, int])
    assert_type(await words.countByValue(), dict[str, int])
    assert_type(await ages.collectAsMap(), dict[str, int])
    assert_type(await ages.reduceByKeyLocally(add), dict[str, int])
    assert_type(await ages.lookup("Ann"), list[int])

    # for what they do
    assert_type(await words.foreach(print), None)
    assert_type(await words.foreachPartition(written), None)
    assert_type(await words.saveAsTextFile(pathlib.Path("lines")), None)
    assert_type(await words.saveAsPickleFile("saved"), None)
    assert_type(await ages.saveAsSequenceFile("saved"), None)
    await words.foreach(lambda word: print(word.upper()))
    await words.foreachPartition(lambda lines: print(next(lines).upper()))


async def persistence(sc: SparkContext, words: RDD[str]) -> None:
    assert_type(words.cache(), RDD[str])
    assert_type(words.persist(), RDD[str])
    assert_type(words.persist(StorageLevel.MEMORY_AND_DISK), RDD[str])
    assert_type(await words.unpersist(), RDD[str])
    assert_type(await words.unpersist(blocking=True), RDD[str])
    assert_type(words.getStorageLevel(), StorageLevel)
    assert_type(words.getResourceProfile(), ResourceProfile | None)
    assert_type(words.getStorageLevel().useDisk, bool)
    assert_type(words.is_cached, bool)
    assert_type(words.setName("words").map(len), RDD[int])
    assert_type(words.name(), str | None)
    assert_type(words.id(), int)
    await sc.setCheckpointDir("checkpoints")
    assert_type(sc.getCheckpointDir(), str | None)
    assert_type(words.isCheckpointed(), bool)
    assert_type(words.is_checkpointed, bool)
    assert_type(words.isLocallyCheckpointed(), bool)
    assert_type(words.getCheckpointFile(), str | None)


async def coroutine_functions(
    sc: SparkContext, words: RDD[str], ages: RDD[tuple[str, int]], pages: list[RDD[bytes]], what: OnError
) -> None:
    assert_type(words.map(fetched), RDD[bytes])
    assert_type(words.map(fetched, concurrency=100, ordered=False, timeout=5, retries=2, rate="50/s"), RDD[bytes])
    assert_type(words.map(fetched, on_error="skip"), RDD[bytes])
    assert_type(words.map(fetched, on_error="collect"), RDD[bytes | FailedElement[str]])
    assert_type(words.flatMap(links), RDD[int])
    assert_type(words.flatMap(each_link), RDD[int])
    assert_type(words.flatMap(each_link, concurrency=3, on_error="collect"), RDD[int | FailedElement[str]])
    assert_type(words.filter(is_there), RDD[str])
    assert_type(words.filter(is_there, concurrency=3), RDD[str])
    assert_type(words.filter(is_there, on_error="collect"), RDD[str | FailedElement[str]])
    assert_type(ages.mapValues(looked_up), RDD[tuple[str, bytes]])
    assert_type(ages.mapValues(looked_up, timeout=1), RDD[tuple[str, bytes]])
    assert_type(ages.mapValues(looked_up, on_error="collect"), RDD[tuple[str, bytes | FailedElement[int]]])
    assert_type(words.mapPartitions(each_page), RDD[bytes])
    assert_type(words.mapPartitions(all_pages), RDD[bytes])
    assert_type(words.mapPartitionsWithIndex(each_numbered), RDD[tuple[int, str]])
    assert_type(await words.foreach(fetched, on_error="collect"), list[FailedElement[str]])
    await words.foreach(fetched, concurrency=100, on_error="skip")
    await words.foreachPartition(each_page)
    await words.foreachPartition(all_pages)

    for page in await words.map(fetched, on_error="collect").collect():
        if isinstance(page, FailedElement):
            assert_type(page.element, str)
            assert_type(page.error, BaseException)
        else:
            assert_type(page, bytes)

    pages.append(words.map(fetched))
    words.map(fetched, on_error=what)


async def shared(sc: SparkContext) -> None:
    names = await sc.broadcast({"a": "Ann"})
    assert_type(names, Broadcast[dict[str, str]])
    assert_type(names.value["a"], str)
    total = sc.accumulator(0)
    assert_type(total, Accumulator[int])
    assert_type(total.value, int)
    total += 1
    total.add(2)
    assert_type(sc.accumulator(0.0), Accumulator[float])
    seen = sc.accumulator(set[str](), Union())
    assert_type(seen, Accumulator[set[str]])
    seen.add({"a"})
    await sc.range(3).foreach(total.add)
    assert_type(SparkFiles.get("words.txt"), str)


async def jobs(sc: SparkContext, numbers: RDD[int], words: RDD[str], ages: RDD[tuple[str, int]]) -> None:
    assert_type(await sc.runJob(words, lambda lines: [len(line) for line in lines]), list[int])
    assert_type(await sc.runJob(words, all_lengths, [0, 1]), list[int])

    counting = sc.submit(words.count)
    assert_type(await counting.result(), int)
    assert_type(await counting.result(timeout=5), int)
    assert_type(counting.done, bool)
    assert_type(counting.progress(), JobProgress)
    assert_type(counting.metrics(), JobMetrics)
    assert_type(counting.metrics().seconds, float)
    counting.cancel()
    assert_type(await sc.submit(words.take, 2).result(), list[str])
    assert_type(await sc.submit(words.top, num=2).result(), list[str])
    assert_type(await sc.submit(ages.collectAsMap).result(), dict[str, int])
    assert_type(await sc.submit(numbers.mean).result(), float)
    assert_type(await sc.submit(numbers.sum).result(), int)

    with sc.jobTag("report"), sc.jobDeadline(30):
        await words.count()
    assert_type(sc.getJobTags(), set[str])
    assert_type(sc.getLocalProperty("spark.job.tags"), str | None)
    await sc.cancelJobGroup("nightly")
    await sc.cancelJobsWithTag("report")
    await sc.cancelAllJobs()

    tracker = sc.statusTracker()
    assert_type(tracker, StatusTracker)
    assert_type(tracker.getActiveJobsIds(), list[int])
    assert_type(tracker.getJobInfo(1), SparkJobInfo | None)
    assert_type(tracker.getStageInfo(1), SparkStageInfo | None)
    assert_type(tracker.getExecutorInfos(), list[SparkExecutorInfo])

    started: list[JobStarted] = []
    sc.addListener(started.append, JobStarted)
    sc.addListener(lambda event: print(event))
    sc.addListener(told)
    sc.addListener(told, JobStarted, JobEnded)
    sc.addListener(noted, JobEnded)

    assert_type(sc.events(), EventStream[Event])
    assert_type(sc.events(JobEnded), EventStream[JobEnded])
    assert_type(sc.events(JobEnded).dropped, int)


def configured(sc: SparkContext) -> None:
    conf = SparkConf().setMaster("local[2]").setAppName("app").set("spark.executor.memory", "1g")
    assert_type(conf.setAll([("a", 1)]).setIfMissing("b", "c").setExecutorEnv("D", "e"), SparkConf)
    assert_type(conf.get("a"), str | None)
    assert_type(conf.get("a", "b"), str)
    assert_type(conf.getAll(), list[tuple[str, str]])
    assert_type(conf.contains("a"), bool)
    assert_type(sc.getConf(), SparkConf)
    assert_type(sc.applicationId, str)
    assert_type(sc.defaultParallelism, int)
    assert_type(sc.startTime, int)
    assert_type(sc.uiWebUrl, str | None)
    assert_type(sc.listFiles, list[str])
    assert_type(SparkContext("local[2]", "app", conf=conf), SparkContext)


def errors(failed: JobFailed, late: JobDeadlineExceeded, missing: InputNotFound, pickling: PicklingFailed) -> None:
    assert_type(failed.partition, int | None)
    assert_type(failed.stage, int | None)
    assert_type(failed.stage_name, str)
    assert_type(failed.job, int | None)
    assert_type(failed.attempt, int | None)
    assert_type(failed.host, str | None)
    assert_type(failed.executor, str | None)
    assert_type(failed.kind, str)
    assert_type(failed.reason, str)
    assert_type(failed.frames, str)
    assert_type(failed.where, str)
    assert_type(late.seconds, float)
    assert_type(missing.filename, str)
    assert_type(OutputExists("lines").filename, str)
    assert_type(pickling.name, str)
    assert_type(pickling.path, tuple[str, ...])
    refused: JobFailed = JobCancelled("no")
    found: FileNotFoundError = missing
    timed_out: TimeoutError = late
    every: list[AsparkleError] = [refused, missing, late]
    print(found, timed_out, every)


def in_tasks() -> None:
    assert_type(TaskContext.get(), TaskContext | None)
    assert_type(BarrierTaskContext.get(), BarrierTaskContext)
    assert_type(BarrierTaskContext.get().allGather("here"), list[str])
    assert_type(BarrierTaskContext.get().getTaskInfos(), list[BarrierTaskInfo])
    assert_type(BarrierTaskContext.get().partitionId(), int)


# What users write, and give to the methods above.


def countdown(n: int) -> Iterator[int]:
    yield from range(n, 0, -1)


def shown(rdd: RDD[object]) -> str:
    return repr(rdd)


def halved(rdd: RDD[float]) -> RDD[float]:
    return rdd.map(lambda x: x / 2)


def row(line: str) -> Row:
    return Row(line=line)


def sale(line: str) -> Sale:
    return Sale(line, 0.5)


def parsed(line: str) -> Any:
    return line


def halves(numbers: Iterator[int]) -> Iterator[float]:
    for x in numbers:
        yield x / 2


def numbered(i: int, words: Iterable[str]) -> list[tuple[int, str]]:
    return [(i, word) for word in words]


def written(lines: Iterator[str]) -> None:
    print(*lines)


def all_lengths(lines: Iterable[str]) -> Iterator[int]:
    return map(len, lines)


def begun(age: int) -> list[int]:
    return [age]


def extended(ages: list[int], age: int) -> list[int]:
    return [*ages, age]


def merged(some: list[int], more: list[int]) -> list[int]:
    return some + more


def told(event: object) -> None:
    print(event)


async def noted(event: JobEnded) -> None:
    print(event.failure)


async def fetched(url: str) -> bytes:
    return url.encode()


async def links(page: str) -> list[int]:
    return list(range(len(page)))


async def each_link(page: str) -> AsyncIterator[int]:
    for i in range(len(page)):
        yield i


async def is_there(page: str) -> bool:
    return bool(page)


async def looked_up(age: int) -> bytes:
    return bytes(age)


async def each_page(urls: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for url in urls:
        yield url.encode()


async def all_pages(urls: AsyncIterator[str]) -> list[bytes]:
    return [url.encode() async for url in urls]


async def each_numbered(i: int, words: AsyncIterator[str]) -> AsyncIterator[tuple[int, str]]:
    async for word in words:
        yield i, word


class Union(AccumulatorParam[set[str]]):
    def zero(self, value: set[str]) -> set[str]:
        return set()

    def addInPlace(self, one: set[str], other: set[str]) -> set[str]:
        return one | other
