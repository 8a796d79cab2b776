"""Wrong uses of the blocking face: each line that ends with ``# error`` is reported by each checker, and no other.

Nothing here is ever run.
"""

from asparkle import RDD, SparkContext


async def awaited(sc: SparkContext, words: RDD[str]) -> None:
    await words.count()  # error
    await sc.submit(words.count)  # error
    async for word in words:  # error
        print(word)
    async with SparkContext("local") as context:  # error
        print(context)


def misused(sc: SparkContext, words: RDD[str]) -> None:
    words.partitioner()  # error
    print(sc.submit(words.count) + 1)  # error
    print(sc.submit(words.count).result().upper())  # error
