"""When a function's variables are read: where PySpark reads them, so that an RDD stays what it was meant to be."""

from __future__ import annotations

import gc
import os
import signal

import pytest

import asparkle
from asparkle.aio import SparkConf, SparkContext
from asparkle.core.closures import Fixed, _reach, fixed
from asparkle.core.errors import BroadcastDestroyed, PicklingFailed

factor = 1

FIXES = {
    "cache": lambda rdd: rdd.cache(),
    "persist": lambda rdd: rdd.persist(asparkle.StorageLevel.DISK_ONLY),
    "localCheckpoint": lambda rdd: rdd.localCheckpoint() or rdd,
    "union": lambda rdd: rdd.union(rdd.context.emptyRDD()),
    "SparkContext.union": lambda rdd: rdd.context.union([rdd, rdd.context.emptyRDD()]),
    "coalesce": lambda rdd: rdd.coalesce(1),
    "repartition": lambda rdd: rdd.repartition(1),
    "zip": lambda rdd: rdd.zip(rdd.context.range(4, numSlices=2)).keys(),
    "zipPartitions": lambda rdd: rdd.zipPartitions(rdd, lambda xs, ys: xs),
    "cartesian": lambda rdd: rdd.cartesian(rdd.context.parallelize([0], 1)).keys(),
    "sortBy": lambda rdd: rdd.sortBy(lambda x: x),
    "distinct": lambda rdd: rdd.distinct(),
    "partitionBy": lambda rdd: rdd.map(lambda x: (x, x)).partitionBy(2).keys(),
    "reduceByKey": lambda rdd: rdd.map(lambda x: (x, x)).reduceByKey(lambda x, y: x).keys(),
    "groupBy": lambda rdd: rdd.groupBy(lambda x: x).keys(),
    "join": lambda rdd: rdd.map(lambda x: (x, x)).join(rdd.map(lambda x: (x, x))).keys(),
    "subtract": lambda rdd: rdd.subtract(rdd.context.emptyRDD()),
}


@pytest.mark.parametrize("fix", FIXES.values(), ids=FIXES)
async def test_a_variable_is_read_where_the_elements_are_kept_or_brought_together(local, fix):
    made = []
    for n in range(3):
        made.append(fix(local.range(4, numSlices=2).map(lambda x: x * n)))
    for n, rdd in enumerate(made):
        assert set(await rdd.collect()) == {0, n, 2 * n, 3 * n}


async def test_a_union_that_grows_in_a_loop(sc):
    rdd, united = sc.parallelize([1, 2], 2), sc.emptyRDD()
    for n in range(3):
        united = united.union(rdd.map(lambda x: (n, x)))
    assert await united.collect() == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)]


async def test_globals_are_read_then_too(sc):
    global factor
    kept = []
    try:
        for factor in (1, 10):
            kept.append(sc.range(3).map(lambda x: x * factor).cache())
        assert [await rdd.sum() for rdd in kept] == [3, 30]
    finally:
        factor = 1


async def test_what_changes_in_place_is_copied_then(sc):
    numpy = pytest.importorskip("numpy")
    words, weights = ["a"], numpy.arange(100_000.0)
    rdd = sc.parallelize([1, 2], 2).map(lambda x: (x, len(words), float(weights.sum()))).cache()
    words.append("b")
    weights *= 0
    assert await rdd.collect() == [(1, 1, 4999950000.0), (2, 1, 4999950000.0)]


async def test_the_functions_of_a_shuffle_are_read_then(sc):
    pairs = sc.parallelize([(key, 1) for key in range(6)], 2)
    step, sign, weight = 2, -1, 10
    placed = pairs.partitionBy(3, lambda key: key // step)
    ordered = pairs.sortByKey(keyfunc=lambda key: sign * key)
    summed = pairs.mapValues(lambda v: v).union(pairs).reduceByKey(lambda a, b: (a + b) * weight)
    step, sign, weight = 1, 1, 0
    assert await placed.keys().glom().collect() == [[0, 1], [2, 3], [4, 5]]
    assert await ordered.keys().collect() == [5, 4, 3, 2, 1, 0]
    assert set(await summed.values().collect()) == {20}


async def test_an_rdd_that_is_only_mapped_sees_the_variable_as_it_is_at_the_action(sc):
    """As in plain Python, and in PySpark: `count`, `take` and `reduce` pickle anew."""
    n = 1
    rdd = sc.parallelize([1, 2]).map(lambda x: x * n)
    assert await rdd.sum() == 3
    n = 10
    assert await rdd.sum() == 30


async def test_one_iteration_sees_one_value(sc):
    n, seen = 0, []
    async for value in sc.range(6, numSlices=3).map(lambda x: n):
        seen.append(value)
        n += 1
    assert seen == [0] * 6


async def test_what_is_submitted_is_what_it_was_then(sc):
    handles = []
    for n in range(4):
        handles.append(sc.submit(sc.parallelize([1]).map(lambda x: x * n).collect))
    assert [await handle.result() for handle in handles] == [[0], [1], [2], [3]]


def test_submitted_by_the_blocking_face():
    with asparkle.SparkContext("threads[2]") as sc:
        handles = []
        for n in range(4):
            handles.append(sc.submit(sc.parallelize([1]).map(lambda x: x * n).collect))
        assert [handle.result() for handle in handles] == [[0], [1], [2], [3]]


async def test_what_is_computed_again_is_computed_alike():
    """Partitions that were lost came back with what the variable was by then."""
    async with SparkContext(conf=SparkConf().setMaster("processes[2]")) as sc:
        n = 1
        rdd = sc.parallelize(range(4), 4).map(lambda x: (os.getpid(), n)).cache()
        pids = {pid for pid, _ in await rdd.collect()}
        n = 2
        os.kill(pids.pop(), signal.SIGKILL)
        assert set(await rdd.values().collect()) == {1}


async def test_a_broadcast_lives_as_long_as_a_fixed_function_of_it(sc):
    value = await sc.broadcast(5)
    rdd = sc.parallelize([1]).map(lambda x: value.value).coalesce(1)
    del value
    gc.collect()
    assert await rdd.collect() == [5]
    value = await sc.broadcast(6)
    rdd = sc.parallelize([1]).map(lambda x: value.value).coalesce(1)
    value.destroy()
    with pytest.raises(BroadcastDestroyed):
        await rdd.collect()


async def test_what_can_not_be_pickled_is_said_where_it_is_fixed(local):
    lock = (x for x in ())
    with pytest.raises(PicklingFailed, match="lock"):
        local.parallelize([1]).map(lambda x: lock).cache()


async def test_an_accumulator_is_the_same(sc):
    count = sc.accumulator(0)
    rdd = sc.parallelize(range(5), 2).map(lambda x: count.add(1)).coalesce(1)
    await rdd.count()
    assert count.value == 5


def test_only_what_may_change_is_pickled():
    n = 1
    settled, varying = (lambda x: (x, 1)), (lambda x: x + n)
    same, one, other, builtin = fixed(settled, varying, varying, len)
    assert same is settled and builtin is len
    assert type(one) is Fixed and one is other
    n = 2
    assert one(1) == 2
    assert fixed(varying)[0] != one
    n = 1
    assert fixed(varying)[0] == one


async def test_equal_partition_functions_partition_alike(local):
    n = 2

    def place(key):
        return key // n

    pairs = local.parallelize([(key, 1) for key in range(6)], 2)
    first, second = pairs.partitionBy(3, place), pairs.partitionBy(3, place)
    assert await first.partitioner() == await second.partitioner()
    n = 1
    assert await pairs.partitionBy(3, place).partitioner() != await first.partitioner()


async def test_what_is_given_to_parallelize_is_copied(sc):
    numpy = pytest.importorskip("numpy")
    batch, rdds = [], []
    for n in range(4):
        batch.append(n)
        if len(batch) == 2:
            rdds.append(sc.parallelize(batch, 1))
            batch.clear()
    assert [await rdd.collect() for rdd in rdds] == [[0, 1], [2, 3]]
    array = numpy.arange(4)
    rdd = sc.parallelize(array, 2)
    array[:] = 0
    assert await rdd.sum() == 6


async def test_fixed_functions_are_unpickled_once_where_attempts_can_not_change_them(sc):
    """As others: a worker's attempts, and jobs, share what can't change."""
    offset, changing = 1, []
    shared = sc.parallelize(range(4), 4).map(lambda x: x + offset).coalesce(2)
    copied = sc.parallelize(range(4), 4).map(lambda x: changing.append(x) or len(changing)).coalesce(2)
    for rdd, reusable in ((shared, True), (copied, False)):
        await rdd.count()
        (mapped,) = rdd._node.parents
        assert type(mapped.transform) is Fixed
        assert _reach([mapped.transform]).reusable == reusable
    assert await copied.collect() == [1, 2, 1, 2]


@pytest.mark.parametrize("qualname", ["named_like_ours", "RDD.named_like_ours", "made.<locals>.named_like_ours"])
async def test_a_function_said_to_be_of_our_modules_which_is_not_found_there_goes_by_value(sc, qualname):
    """Examples in docstrings are run with their module's name."""
    scope = {"__name__": "asparkle.core.rdd"}
    exec("def named_like_ours(x): return -x", scope)
    scope["named_like_ours"].__qualname__ = qualname
    assert await sc.parallelize([1, 2], 2).map(scope["named_like_ours"]).collect() == [-1, -2]
