"""Wrong uses of the asynchronous face: each line that ends with ``# error`` is reported by each checker, and no other.

Most of them are an ``await`` that is missing.  Nothing here is ever run.
"""

from asparkle.aio import RDD, SparkContext


async def not_awaited(sc: SparkContext, words: RDD[str], ages: RDD[tuple[str, int]]) -> None:
    words.count()  # error
    words.foreach(print)  # error
    words.saveAsTextFile("a")  # error
    words.unpersist()  # error
    sc.setCheckpointDir("a")  # error
    sc.stop()  # error
    many: int = words.count()  # error
    words.count() + 1  # error
    words.collect()[0]  # error
    for word in words.collect():  # error
        print(word)
    print(ages.collectAsMap()["a"])  # error
    print(sc.broadcast(1).value)  # error
    async for word in words.toLocalIterator():  # error
        print(word)
    print(many)


async def misused(sc: SparkContext, words: RDD[str]) -> None:
    with SparkContext("local") as context:  # error
        print(context)
    await words.map(len)  # error
    await words  # error
    print(words.partitioner.numPartitions)  # error
    sc.submit(len, "a")  # error
    print(sc.submit(words.count).result() + 1)  # error
