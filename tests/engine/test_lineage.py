"""Lineage: how deep it may be, where it is cut into stages, and what is kept of it."""

from __future__ import annotations

import gc
import itertools
import operator
import os

import anyio
import pytest

from asparkle.aio import RDD, SparkContext, StorageLevel
from asparkle.core import closures
from asparkle.core.errors import ArgumentError, JobFailed
from asparkle.core.program import Program
from asparkle.core.transforms import CollectList


async def plan_of(rdd: RDD):
    return await rdd.context._driver.planner.plan(rdd._node, CollectList(), None)


async def stages(rdd: RDD) -> int:
    """How many stages a job over ``rdd`` has: one more than there are shuffles."""
    return len((await plan_of(rdd)).stages)


async def binary_size(rdd: RDD) -> int:
    """Bytes of all binaries that such a job sends to a worker."""
    plan = await plan_of(rdd)
    return sum(len(closures.dumps((s.program, s.sink), "it")[0]) for s in plan.stages)


# ------------------------------------------------------------------------------------- depth


def mapped(sc, n):
    rdd = sc.parallelize(range(4), 2)
    for _ in range(n):
        rdd = rdd.map(lambda x: x + 1)
    return rdd


def united(sc, n):
    rdd = sc.parallelize(range(4), 2)
    for i in range(n):
        rdd = rdd.union(sc.parallelize([i], 1))
    return rdd


def generated(sc, n):
    def add_one(elements):
        for x in elements:
            yield x + 1

    rdd = sc.parallelize(range(4), 2)
    for _ in range(n):
        rdd = rdd.mapPartitions(add_one)
    return rdd


def mixed(sc, n):
    """Every narrow operation in turn."""
    rdd = sc.parallelize([(x, x) for x in range(4)], 2)
    operations = itertools.cycle(
        [
            lambda rdd: rdd.mapValues(lambda v: v + 1),
            lambda rdd: rdd.filter(lambda kv: True),
            lambda rdd: rdd.flatMap(lambda kv: [kv]),
            lambda rdd: rdd.flatMapValues(lambda v: [v]),
            lambda rdd: rdd.keyBy(lambda kv: kv[0]).values(),
            lambda rdd: rdd.glom().flatMap(iter),
            lambda rdd: rdd.coalesce(2),
            lambda rdd: rdd.mapPartitionsWithIndex(lambda i, it: it),
        ]
    )
    for operation in itertools.islice(operations, n):
        rdd = operation(rdd)
    return rdd


def zipped(sc, n):
    rdd = sc.parallelize(range(4), 2)
    ones = sc.parallelize([1] * 4, 2)
    for _ in range(n):
        rdd = rdd.zipPartitions(ones, lambda a, b: (x + y for x, y in zip(a, b, strict=True)))
    return rdd


def updated(sc, n):
    """A state that takes in an update again and again, all partitioned alike: no shuffle but the first."""
    update = sc.parallelize([(x, 1) for x in range(4)], 2).partitionBy(2)
    state = update
    for _ in range(n):
        state = state.union(update).reduceByKey(operator.add)
    return state


def joined(sc, n):
    other = sc.parallelize([(x, 1) for x in range(4)], 2).partitionBy(2)
    state = other
    for _ in range(n):
        state = state.join(other).mapValues(sum)
    return state


def shuffled(sc, n):
    rdd = sc.parallelize([(x, 1) for x in range(4)], 2)
    for _ in range(n):
        rdd = rdd.map(lambda kv: (kv[0] + 1, kv[1])).reduceByKey(operator.add, 2)
    return rdd


DEEP = [
    (mapped, 1_000, lambda rdd: [1000, 1001, 1002, 1003]),
    (united, 1_000, lambda rdd: [*range(4), *range(1000)]),
    (generated, 1_000, lambda rdd: [1000, 1001, 1002, 1003]),
    (zipped, 1_000, lambda rdd: [1000, 1001, 1002, 1003]),
    (mixed, 1_000, lambda rdd: [(x, x + 125) for x in range(4)]),
    (updated, 1_000, lambda rdd: [(x, 1001) for x in (0, 2, 1, 3)]),
    (joined, 1_000, lambda rdd: [(x, 1001) for x in (0, 2, 1, 3)]),
    (shuffled, 300, lambda rdd: sorted((x + 300, 1) for x in range(4))),
]


@pytest.mark.parametrize("make, depth, wanted", DEEP, ids=lambda x: getattr(x, "__name__", None))
async def test_deep_lineage_works(sc, make, depth, wanted):
    rdd = make(sc, depth)
    found = await rdd.collect()
    assert (sorted(found) if make is shuffled else found) == wanted(rdd)


VERY_DEEP = [(mapped, 4), (united, 10_004), (generated, 4)]


@pytest.mark.parametrize("make, wanted", VERY_DEEP, ids=lambda x: getattr(x, "__name__", None))
@pytest.mark.parametrize("where", ["threads[2]", "processes[2]"])
def test_lineage_ten_thousand_deep(contexts, where, make, wanted):
    running = contexts(where, "asyncio")

    async def count():
        return await make(running.context, 10_000).count()

    assert running.run(count) == wanted


@pytest.mark.parametrize("make", [make for make, *_ in DEEP], ids=lambda f: f.__name__)
async def test_binaries_grow_linearly(local, make):
    one, two, four = [await binary_size(make(local, n)) for n in (50, 100, 200)]
    assert abs((four - two) - 2 * (two - one)) < 0.1 * (four - two) + 500


async def test_what_is_deep_and_cached_is_read_and_not_computed(sc):
    computed = sc.accumulator(0)

    def count(x):
        computed.add(1)
        return x

    cached = generated(sc, 300).map(count).cache()
    rdd = cached
    for _ in range(300):
        rdd = rdd.mapPartitions(lambda elements: (x + 1 for x in elements))
    for _ in range(2):
        assert await rdd.collect() == [600, 601, 602, 603]
    assert computed.value == 4


async def test_a_step_that_is_used_twice_below_a_deep_lineage(sc):
    base = generated(sc, 400)
    both = base.zip(base.mapPartitions(lambda it: (x * 10 for x in it)))
    for _ in range(200):
        both = both.mapPartitions(lambda it: (x for x in it))
    assert await both.collect() == [(x, 10 * x) for x in range(400, 404)]


# ------------------------------------------------------------------------------------- stages


async def test_stages_are_cut_at_shuffles(local):
    rdd = local.parallelize(range(10), 2).map(lambda x: (x % 3, x))
    assert await stages(rdd) == 1
    assert await stages(rdd.reduceByKey(max).mapValues(str)) == 2
    assert await stages(rdd.reduceByKey(max).map(lambda x: x).groupByKey()) == 3
    assert await stages(rdd.join(rdd)) == 3
    assert await stages(rdd.cartesian(rdd).union(rdd).coalesce(2).zipWithIndex()) == 1


async def test_co_partitioned_inputs_are_joined_without_a_shuffle(sc):
    left = sc.parallelize([(x, "l") for x in range(6)], 3).partitionBy(2)
    right = sc.parallelize([(x, "r") for x in range(6)], 2).partitionBy(2)
    assert await stages(left.join(right)) == 3  # the two partitionBy
    assert await stages(left.join(right).reduceByKey(max, 2).cogroup(left)) == 3
    assert await stages(left.join(left.mapValues(str))) == 2
    assert await stages(left.join(right, 3)) == 5
    assert await stages(left.partitionBy(2)) == await stages(left.groupByKey()) == 2
    assert await stages(left.union(right).reduceByKey(max)) == 3
    assert sorted(await left.join(right).collect()) == [(x, ("l", "r")) for x in range(6)]


async def test_another_partition_function_needs_a_shuffle(local):
    rdd = local.parallelize([(x, x) for x in range(6)], 3)
    one = rdd.partitionBy(2, lambda k: k)
    two = rdd.partitionBy(2, lambda k: k + 1)
    assert await stages(one.union(two)) == 3
    assert await one.union(two).getNumPartitions() == 4
    assert sorted(await one.join(two).collect()) == [(x, (x, x)) for x in range(6)]


async def test_a_shuffle_is_written_once(sc):
    written = sc.accumulator(0)

    def count(x):
        written.add(1)
        return (x % 2, x)

    rdd = sc.parallelize(range(4), 2).map(count).reduceByKey(operator.add)
    for _ in range(3):
        assert sorted(await rdd.collect()) == [(0, 2), (1, 4)]
    assert sorted(await rdd.mapValues(str).collect()) == [(0, "2"), (1, "4")]
    assert written.value == 4


async def test_shuffle_files_go_with_their_rdd():
    async with SparkContext("threads[2]") as sc:
        rdd = sc.parallelize([(x, "a" * 100) for x in range(10_000)], 2).groupByKey(2)
        await rdd.count()
        (directory,) = sc._application.spec.directories

        def files():
            return [name for name in os.listdir(directory) if name.startswith("shuffle-")]

        assert files()
        del rdd
        gc.collect()
        with anyio.fail_after(5):
            while files():
                await anyio.sleep(0.01)


# ------------------------------------------------------------------------------------- caching


@pytest.fixture
def counting(sc):
    """``counting(rdd)``: (the RDD, and an accumulator of how many elements were computed)."""

    def make(rdd):
        computed = sc.accumulator(0)

        def count(x):
            computed.add(1)
            return x

        return rdd.map(count), computed

    return make


ALL_LEVELS = [
    StorageLevel.MEMORY_ONLY,
    StorageLevel.MEMORY_AND_DISK,
    StorageLevel.MEMORY_AND_DISK_DESER,
    StorageLevel.DISK_ONLY,
    StorageLevel.MEMORY_ONLY_2,
]


@pytest.mark.parametrize("level", ALL_LEVELS, ids=str)
async def test_what_is_persisted_is_computed_once(sc, counting, level):
    rdd, computed = counting(sc.parallelize(range(10), 3))
    assert not rdd.is_cached
    assert rdd.persist(level) is rdd
    assert rdd.is_cached
    assert rdd.getStorageLevel() == level
    assert computed.value == 0
    for _ in range(3):
        assert await rdd.collect() == list(range(10))
    assert await rdd.map(lambda x: -x).sum() == -45
    assert computed.value == 10
    assert await rdd.unpersist() is rdd
    assert not rdd.is_cached
    assert await rdd.count() == 10
    assert computed.value == 20


async def test_only_the_partitions_that_were_computed_are_kept(sc, counting):
    rdd, computed = counting(sc.parallelize(range(10), 5))
    rdd.cache()
    assert await rdd.first() == 0
    assert computed.value == 2
    assert await rdd.count() == 10
    assert computed.value == 10


async def test_a_partition_that_was_not_read_to_its_end_is_kept_whole(sc, counting):
    rdd, computed = counting(sc.parallelize(range(100), 1))
    rdd.cache()
    assert await rdd.take(3) == [0, 1, 2]
    assert await rdd.collect() == list(range(100))
    assert computed.value == 100


async def test_a_level_is_not_changed_in_place(local):
    rdd = local.parallelize([1]).cache()
    assert rdd.persist(StorageLevel.MEMORY_ONLY) is rdd
    with pytest.raises(ArgumentError, match="unpersist"):
        rdd.persist(StorageLevel.DISK_ONLY)
    await rdd.unpersist(blocking=True)
    assert rdd.persist(StorageLevel.DISK_ONLY).getStorageLevel() == StorageLevel.DISK_ONLY
    assert await rdd.count() == 1


async def test_persisting_later_takes_part_in_what_was_built_before(sc, counting):
    rdd, computed = counting(sc.parallelize(range(4), 2))
    built = rdd.map(lambda x: x + 1)
    assert await built.collect() == [1, 2, 3, 4]
    rdd.cache()
    for _ in range(2):
        assert await built.collect() == [1, 2, 3, 4]
    assert computed.value == 8


async def test_a_union_inside_a_union_may_be_cached(sc, counting):
    one, computed = counting(sc.parallelize([1, 2], 2))
    inner = one.union(sc.parallelize([3], 1))
    outer = inner.union(sc.parallelize([4], 1))
    assert await outer.collect() == [1, 2, 3, 4]
    inner.cache()
    for _ in range(2):
        assert await outer.collect() == [1, 2, 3, 4]
    assert await inner.collect() == [1, 2, 3]
    assert computed.value == 4
    await inner.unpersist()
    assert await outer.collect() == [1, 2, 3, 4]
    assert computed.value == 6


async def test_a_cached_shuffle_is_joined_as_it_is_cached(sc, counting):
    pairs, computed = counting(sc.parallelize([(1, 1), (1, 2), (2, 3)], 2))
    reduced = pairs.reduceByKey(operator.add, 2).cache()
    other = sc.parallelize([(1, "a")], 1).partitionBy(2)
    for _ in range(2):
        assert await reduced.join(other).collect() == [(1, (3, "a"))]
    assert computed.value == 3


async def test_a_failing_partition_is_not_kept(sc):
    rdd = sc.parallelize(range(4), 2).map(lambda x: 1 // (x - 3)).cache()
    for _ in range(2):
        with pytest.raises(JobFailed, match="ZeroDivisionError"):
            await rdd.collect()
    assert await rdd.take(1) == [-1]


async def test_an_rdd_that_nobody_has_any_more_is_dropped():
    async with SparkContext("threads[2]") as sc:
        rdd = sc.parallelize(range(10), 2).map(lambda x: x).cache()
        assert await rdd.count() == 10
        block = (rdd.id(), 0)
        assert sc._driver.blocks.holders(block)
        del rdd
        gc.collect()
        with anyio.fail_after(5):
            while sc._driver.blocks.holders(block):
                await anyio.sleep(0.01)


async def test_names(local):
    rdd = local.parallelize([1])
    assert rdd.name() is None
    assert rdd.setName("numbers") is rdd
    assert rdd.name() == "numbers"
    assert "numbers" in repr(rdd)
    assert rdd.id() != rdd.map(str).id()
    with pytest.raises(JobFailed, match="numbers"):
        await rdd.map(lambda x: 1 / 0).setName("numbers").collect()


async def test_a_program_is_pickled_flat(local):
    """One list, however deep the lineage: pickle never recurses along it."""
    import pickle

    plan = await plan_of(mapped(local, 5_000).map(operator.neg))
    program = pickle.loads(closures.dumps(plan.stages[-1].program, "it")[0])
    assert isinstance(program, Program)
    assert len(program.steps) == 5_002


# ------------------------------------------------------------------------------------- several jobs at once


async def at_once(*functions):
    """The results of coroutine functions that run side by side."""
    results = [None] * len(functions)

    async def run(i, function):
        results[i] = await function()

    async with anyio.create_task_group() as tasks:
        for i, function in enumerate(functions):
            tasks.start_soon(run, i, function)
    return results


async def test_two_jobs_prepare_a_node_once(sc):
    sampled = sc.accumulator(0)

    def count(elements):
        sampled.add(1)
        return elements

    rdd = sc.parallelize([(x % 7, x) for x in range(50)], 3).mapPartitions(count).sortByKey(numPartitions=2)
    found = await at_once(*[rdd.keys().collect] * 4)
    assert found == [sorted(x % 7 for x in range(50))] * 4
    assert sampled.value == 6  # the sample, and the shuffle that all four share


async def test_a_cancelled_preparation_is_taken_over(sc):
    import time

    def slow(x):
        time.sleep(0.02)
        return x

    rdd = sc.parallelize(range(20, 0, -1), 2).map(slow).sortBy(lambda x: x, numPartitions=2)
    found = []

    async def first():
        with anyio.move_on_after(0.05):
            await rdd.collect()

    async def second():
        await anyio.sleep(0.02)
        found.extend(await rdd.collect())

    with anyio.fail_after(20):
        await at_once(first, second)
    assert found == list(range(1, 21))


async def test_a_failed_preparation_may_be_tried_again(sc, tmp_path):
    path = str(tmp_path / "exists")

    def check(x):
        if not os.path.exists(path):
            raise LookupError(path)
        return x

    rdd = sc.parallelize([3, 1, 2], 2).map(check).sortBy(lambda x: x, numPartitions=2)
    for _ in range(2):
        with pytest.raises(JobFailed, match="LookupError"):
            await rdd.collect()
    (tmp_path / "exists").touch()
    assert await rdd.collect() == [1, 2, 3]


async def test_many_jobs_at_once_over_a_cached_rdd(sc):
    computed = sc.accumulator(0)

    def count(x):
        computed.add(1)
        return x

    rdd = sc.parallelize(range(10), 2).map(count).cache()
    assert await rdd.count() == 10
    found = await at_once(*[lambda i=i: rdd.map(lambda x: x * i).sum() for i in range(20)])
    assert found == [45 * i for i in range(20)]
    assert computed.value == 10
