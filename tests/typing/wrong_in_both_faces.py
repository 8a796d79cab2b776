"""Wrong uses of both faces: each line that ends with ``# error`` is reported by each checker, and no other.

``# error by pyright``: mypy does not see that a key can't be hashed where the RDD is what has it.

Written for `asparkle.aio`; `test_types` makes the blocking face's file of it.  Nothing here is ever run.
"""

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import assert_type

from asparkle.aio import RDD, AccumulatorParam, SparkConf, SparkContext, StorageLevel
from asparkle.core.contracts import Listener


def sources(sc: SparkContext) -> None:
    sc.parallelize(5)  # error
    sc.parallelize([1], "2")  # error
    sc.range("5")  # error
    sc.textFile(5)  # error
    sc.textFile("a", minPartitions="2")  # error
    sc.union([1, 2])  # error
    sc.union(sc.range(3))  # error
    sc.parallelise([1])  # error
    lines: RDD[str] = sc.textFile("a", use_unicode=False)  # error
    print(lines)


def elements(sc: SparkContext, numbers: RDD[int], words: RDD[str]) -> None:
    numbers.map(lambda x: x.upper())  # error
    numbers.map(len)  # error
    numbers.map(5)  # error
    numbers.map()  # error
    numbers.flatMap(lambda x: x + 1)  # error
    numbers.flatMap(lambda x: [x.nothing])  # error
    words.filter(lambda word: word.nothing)  # error
    words.mapPartitions(len)  # error
    words.mapPartitions(lambda xs: xs.nothing)  # error
    words.glom().map(lambda xs: xs.nothing)  # error
    numbers.mapPartitionsWithIndex(lambda xs: xs)  # error
    numbers.mapPartitions(upper)  # error
    numbers.zip([1, 2])  # error
    words.sample(False, "half")  # error
    words.repartition()  # error
    words.repartition("4")  # error
    words.persist("MEMORY_ONLY")  # error
    words.persist(StorageLevel.MEMORY)  # error
    words + [1]  # error
    for word in words:  # error
        print(word)
    strings: RDD[str] = words.map(len)  # error
    print(strings)


def coroutine_functions(words: RDD[str], numbers: RDD[int]) -> None:
    words.map(len, concurrency=5)  # error
    words.map(fetched, retries="2")  # error
    words.map(fetched, on_error="ignore")  # error
    words.map(fetched, in_flight=100)  # error
    numbers.map(fetched)  # error
    numbers.mapPartitions(each)  # error
    words.mapValues(fetched)  # error
    pages: RDD[bytes] = words.map(fetched, on_error="collect")  # error
    print(pages)


def pairs(numbers: RDD[int], words: RDD[str], triples: RDD[tuple[str, int, int]], ages: RDD[tuple[str, int]]) -> None:
    numbers.keys()  # error
    numbers.values()  # error
    numbers.mapValues(str)  # error
    numbers.flatMapValues(range)  # error
    numbers.reduceByKey(max)  # error
    numbers.foldByKey(0, max)  # error
    numbers.groupByKey()  # error
    numbers.combineByKey(list, max, max)  # error
    numbers.aggregateByKey(0, max, max)  # error
    numbers.sortByKey()  # error
    numbers.partitionBy(4)  # error
    numbers.join(ages)  # error
    ages.join(numbers)  # error
    words.leftOuterJoin(ages)  # error
    words.rightOuterJoin(ages)  # error
    words.fullOuterJoin(ages)  # error
    words.cogroup(ages)  # error
    words.groupWith(ages)  # error
    words.subtractByKey(ages)  # error
    words.sampleByKey(False, {})  # error
    triples.keys()  # error
    triples.groupByKey()  # error

    ages.mapValues(len)  # error
    ages.reduceByKey(lambda a, b: f"{a} {b}")  # error
    ages.aggregateByKey(0, lambda n, v: n + len(v), lambda n, m: n + m)  # error
    ages.partitionBy("4")  # error
    ages.sortByKey(keyfunc=lambda name: name + 1)  # error
    names: RDD[int] = ages.keys()  # error
    print(names)


def unhashable(lists: RDD[tuple[list[int], str]], dicts: RDD[dict[str, int]]) -> None:
    lists.groupByKey()  # error by pyright
    lists.reduceByKey(max)  # error by pyright
    lists.join(lists)  # error by pyright
    dicts.groupBy(lambda found: found)  # error


async def actions(sc: SparkContext, numbers: RDD[int], words: RDD[str], ages: RDD[tuple[str, int]]) -> None:
    await numbers.countByKey()  # error
    await numbers.collectAsMap()  # error
    await numbers.lookup(5)  # error
    await numbers.reduceByKeyLocally(max)  # error
    await numbers.saveAsSequenceFile("a")  # error
    await words.mean()  # error
    await sc.parallelize([Decimal(1)]).mean()  # error
    await words.stats()  # error
    await words.stdev()  # error
    await words.sumApprox(100)  # error
    await words.take("3")  # error
    await words.top()  # error
    await words.reduce(lambda a, b: len(a))  # error
    await words.max(key=lambda word: word.nothing)  # error
    await words.foreach(lambda word: word.nothing)  # error
    await numbers.foreach(len)  # error
    await words.foreachPartition(lambda xs: xs.nothing)  # error
    await words.histogram(range(5))  # error
    await words.saveAsTextFile(5)  # error
    await sc.runJob(words, len)  # error
    await sc.runJob([1, 2], list)  # error
    first: int = await words.first()  # error
    names: list[int] = await words.collect()  # error
    ages_of: dict[int, str] = await ages.collectAsMap()  # error
    total: str = await numbers.sum()  # error
    print(first, names, ages_of, total)


async def shared(sc: SparkContext) -> None:
    total = sc.accumulator(0)
    total.add("1")  # error
    total.value = "1"  # error
    total += "1"  # error
    sc.accumulator(0, Joined())  # error
    names = await sc.broadcast({"a": "Ann"})
    names.value["a"] + 1  # error
    names.value = {}  # error


async def contexts(sc: SparkContext) -> None:
    SparkContext(5)  # error
    SparkContext("local", conf={"a": "b"})  # error
    SparkConf().setMaster(2)  # error
    SparkConf().set("a")  # error
    sc.setLocalProperty("a", 5)  # error
    sc.jobDeadline("5")  # error
    sc.addListener(5)  # error
    sc.addListener(print, "JobEnded")  # error
    sc.events("JobEnded")  # error
    sc.submit(5)  # error
    sc.submit(sc.range(5).take)  # error
    sc.submit(sc.range(5).take, "2")  # error
    assert_type(await sc.submit(sc.range(5).count).result(), str)  # error


class Deaf(Listener):
    name = "deaf"


Deaf()  # error


class Joined(AccumulatorParam[str]):
    def zero(self, value: str) -> int:  # error
        return 0


def upper(words: Iterator[str]) -> Iterator[str]:
    return map(str.upper, words)


async def fetched(url: str) -> bytes:
    return url.encode()


async def each(words: AsyncIterator[str]) -> AsyncIterator[str]:
    async for word in words:
        yield word
