"""`toDebugString`: the lineage as Spark draws it."""

from __future__ import annotations

import re


async def drawn(rdd):
    """The lines, with the RDDs' numbers counted from 0."""
    text = (await rdd.toDebugString()).decode()
    numbers = sorted({int(n) for n in re.findall(r"\[(\d+)\]", text)})
    return re.sub(r"\[(\d+)\]", lambda found: f"[{numbers.index(int(found[1]))}]", text)


async def test_a_chain_a_shuffle_and_a_level(local):
    rdd = local.parallelize([(1, 2)], 2).reduceByKey(max).map(lambda pair: pair).cache()
    assert await drawn(rdd) == (
        "(2) map[2] [Memory Serialized 1x Replicated]\n |  shuffled[1] []\n +-(2) collection[0] []"
    )


async def test_branches(local):
    one = local.parallelize([(1, 2)], 2).map(lambda pair: pair)
    other = local.parallelize([(1, 3)], 12).groupByKey(3)
    rdd = one.join(other).union(local.parallelize([1], 1).setName("ones"))
    assert await drawn(rdd) == (
        "(6) union[6] []\n"
        " |  coGrouped[4] []\n"
        " +-(2) map[1] []\n"
        " |  |  collection[0] []\n"
        " +-(3) shuffled[3] []\n"
        "    +-(12) collection[2] []\n"
        " |  ones collection[5] []"
    )


async def test_no_recursion(local):
    rdd = local.parallelize([1])
    for _ in range(2000):
        rdd = rdd.map(abs)
    assert len((await rdd.toDebugString()).splitlines()) == 2001
