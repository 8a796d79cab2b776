"""What each operation does at its edges, and says when it is used wrongly; the same on every backend."""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import operator
import pickle
import re
import sys
import threading
import types
from collections import Counter
from pathlib import Path

import anyio
import cloudpickle
import pytest

from asparkle.aio import AccumulatorParam, SparkContext, StorageLevel, TaskContext
from asparkle.core.errors import (
    ArgumentError,
    ArgumentTypeError,
    AsparkleError,
    EmptyRDDError,
    JobFailed,
    KeyHashError,
    NestedContextError,
    PicklingFailed,
    UserFunctionError,
)


def cause(error: pytest.ExceptionInfo[JobFailed]) -> BaseException | None:
    return error.value.__cause__


# ------------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    "call",
    [
        lambda sc: sc.parallelize([1], 0),
        lambda sc: sc.parallelize([1], -1),
        lambda sc: sc.range(0, 3, 1, 0),
        lambda sc: sc.range(0, 3, 0),
        lambda sc: sc.textFile("x", 0),
        lambda sc: sc.parallelize([1]).repartition(0),
        lambda sc: sc.parallelize([1]).coalesce(0),
        lambda sc: sc.parallelize([1]).coalesce(-2, True),
        lambda sc: sc.parallelize([(1, 1)]).partitionBy(0),
        lambda sc: sc.parallelize([(1, 1)]).reduceByKey(max, 0),
        lambda sc: sc.parallelize([(1, 1)]).groupByKey(-1),
        lambda sc: sc.parallelize([(1, 1)]).sortByKey(True, 0),
        lambda sc: sc.parallelize([1]).sortBy(abs, True, 0),
        lambda sc: sc.parallelize([(1, 1)]).join(sc.parallelize([(1, 1)]), 0),
        lambda sc: sc.parallelize([1]).sample(False, -0.1),
        lambda sc: sc.parallelize([1]).sample(True, -1.0),
        lambda sc: sc.parallelize([1]).sample(False, float("nan")),
        lambda sc: sc.parallelize([1]).sample(True, float("inf")),
        lambda sc: sc.parallelize([1]).sample(True, 10**400),
        lambda sc: sc.union(iter([])),
        lambda sc: StorageLevel(True, True, False, False, 0),
        lambda sc: StorageLevel(True, True, False, False, True),
        lambda sc: sc.union([]),
        lambda sc: sc.addJobTag("a,b"),
        lambda sc: sc.addJobTag(""),
    ],
)
async def test_a_wrong_value_fails_at_the_call(local, call):
    with pytest.raises(ArgumentError):
        call(local)


@pytest.mark.parametrize(
    "call",
    [
        lambda sc: sc.parallelize([1]).map(5),
        lambda sc: sc.parallelize([1]).filter(None),
        lambda sc: sc.parallelize([1]).flatMap("f"),
        lambda sc: sc.parallelize([1]).mapPartitions([]),
        lambda sc: sc.parallelize([(1, 1)]).reduceByKey("max"),
        lambda sc: sc.parallelize([(1, 1)]).combineByKey(1, 2, 3),
        lambda sc: sc.parallelize([(1, 1)]).partitionBy(2, "hash"),
        lambda sc: sc.parallelize([1]).union([2]),
        lambda sc: sc.parallelize([1]).zip(range(1)),
        lambda sc: sc.parallelize([1]).cartesian(None),
        lambda sc: sc.parallelize([(1, 1)]).join({1: 1}),
        lambda sc: sc.parallelize([1]).persist("MEMORY_ONLY"),
        lambda sc: sc.parallelize([1]).persist(None),
        lambda sc: sc.parallelize([1]) + 5,
        lambda sc: sc.accumulator("a"),
        lambda sc: sc.accumulator([1]),
        lambda sc: sc.parallelize(5),
        lambda sc: sc.parallelize([1], "two"),
        lambda sc: sc.parallelize([1], [2]),
        lambda sc: sc.range(True),
        lambda sc: sc.range(0, 2.5),
        lambda sc: sc.parallelize([(1, 1)]).partitionBy(True),
        lambda sc: sc.parallelize([1]).distinct("2"),
    ],
)
async def test_a_wrong_type_fails_at_the_call(local, call):
    with pytest.raises(TypeError):
        call(local)


@pytest.mark.parametrize(
    "call",
    [
        lambda rdd: rdd.takeOrdered(-1),
        lambda rdd: rdd.takeSample(False, -1),
        lambda rdd: rdd.treeReduce(max, 0),
        lambda rdd: rdd.treeAggregate(0, max, max, -1),
        lambda rdd: rdd.histogram(0),
        lambda rdd: rdd.histogram([1]),
        lambda rdd: rdd.histogram([3, 1]),
        lambda rdd: rdd.histogram([1, 1]),
        lambda rdd: rdd.histogram([1, None]),
        lambda rdd: rdd.context.runJob(rdd, list, [7]),
        lambda rdd: rdd.context.runJob(rdd, list, [-1]),
    ],
)
async def test_a_wrong_argument_of_an_action_is_said(local, call):
    with pytest.raises(ArgumentError):
        await call(local.parallelize([1, 2], 2))


async def test_a_wrong_type_for_an_action_is_said(local):
    rdd = local.parallelize([1, 2], 2)
    for call in (
        lambda: rdd.take("1"),
        lambda: rdd.take(1.5),
        lambda: rdd.take(True),
        lambda: rdd.treeReduce(max, 1.5),
        lambda: rdd.context.runJob(rdd, list, ["0"]),
        lambda: rdd.reduce(3),
        lambda: rdd.histogram(2.5),
    ):
        with pytest.raises(ArgumentTypeError):
            await call()


def pairs_of(sc):
    return sc.parallelize([(1, 1), (2, 2)], 2)


@pytest.mark.parametrize(
    ("call", "where"),
    [
        (lambda sc: pairs_of(sc).map(5), "map: f = 5 of type int: expected a function"),
        (lambda sc: pairs_of(sc).groupBy(5), "groupBy: f = 5"),
        (lambda sc: pairs_of(sc).zipPartitions(pairs_of(sc), 5), "zipPartitions: f = 5"),
        (lambda sc: pairs_of(sc).partitionBy(2, 5), "partitionBy: partitionFunc = 5"),
        (lambda sc: pairs_of(sc).groupBy(str, 2, 5), "groupBy: partitionFunc = 5"),
        (lambda sc: pairs_of(sc).groupByKey(2, 5), "groupByKey: partitionFunc = 5"),
        (lambda sc: pairs_of(sc).reduceByKey(max, 2, 5), "reduceByKey: partitionFunc = 5"),
        (lambda sc: pairs_of(sc).reduceByKey(max, "2"), "reduceByKey: numPartitions = '2'"),
        (lambda sc: pairs_of(sc).foldByKey(0, max, 2, 5), "foldByKey: partitionFunc = 5"),
        (lambda sc: pairs_of(sc).aggregateByKey(0, max, max, 2, 5), "aggregateByKey: partitionFunc = 5"),
        (lambda sc: pairs_of(sc).combineByKey(list, max, max, 2, 5), "combineByKey: partitionFunc = 5"),
        (
            lambda sc: pairs_of(sc).repartitionAndSortWithinPartitions(2, 5),
            "repartitionAndSortWithinPartitions: partitionFunc = 5",
        ),
        (
            lambda sc: pairs_of(sc).repartitionAndSortWithinPartitions(2, keyfunc=5),
            "repartitionAndSortWithinPartitions: keyfunc = 5",
        ),
        (lambda sc: pairs_of(sc).sortByKey(True, 2, 5), "sortByKey: keyfunc = 5"),
        (lambda sc: pairs_of(sc).sortBy(None), "sortBy: keyfunc = None"),
        (lambda sc: pairs_of(sc).sortBy(str, True, "2"), "sortBy: numPartitions = '2'"),
        (lambda sc: pairs_of(sc).reduceByKey(5), "reduceByKey: func = 5"),
        (lambda sc: pairs_of(sc).foldByKey(0, 5), "foldByKey: func = 5"),
        (lambda sc: pairs_of(sc).aggregateByKey(0, 5, max), "aggregateByKey: seqFunc = 5"),
        (lambda sc: pairs_of(sc).aggregateByKey(0, max, 5), "aggregateByKey: combFunc = 5"),
        (lambda sc: pairs_of(sc).combineByKey(5, max, max), "combineByKey: createCombiner = 5"),
        (lambda sc: pairs_of(sc).combineByKey(list, 5, max), "combineByKey: mergeValue = 5"),
        (lambda sc: pairs_of(sc).combineByKey(list, max, 5), "combineByKey: mergeCombiners = 5"),
        (lambda sc: pairs_of(sc).sample(False, "0.5"), "sample: fraction = '0.5'"),
        (lambda sc: pairs_of(sc).sample(False, None), "sample: fraction = None"),
        (lambda sc: pairs_of(sc).sample(False, True), "sample: fraction = True"),
        (lambda sc: pairs_of(sc).sample(False, 0.5, "seed"), "sample: seed = 'seed'"),
        (lambda sc: pairs_of(sc).sample(False, 0.5, 1.5), "sample: seed = 1.5"),
        (lambda sc: sc.textFile(None), "textFile: name = None"),
        (lambda sc: sc.textFile(5), "textFile: name = 5"),
        (lambda sc: sc.textFile(["a"]), "textFile: name = ['a'] of type list: expected a path"),
        (lambda sc: sc.textFile(b"a"), "textFile: name = b'a'"),
        (lambda sc: sc.union(None), "union: rdds = None"),
        (lambda sc: sc.union(pairs_of(sc)), "union: rdds = <RDD"),
        (lambda sc: sc.accumulator(0, max), "accumulator: accum_param = <built-in function max>"),
        (lambda sc: sc.accumulator(0, AccumulatorParam), "accumulator: accum_param = <class"),
        (lambda sc: sc.accumulator(0, 0), "accumulator: accum_param = 0"),
        (lambda sc: StorageLevel(1, False, False, False), "StorageLevel: useDisk = 1"),
        (lambda sc: StorageLevel(True, False, False, 4), "StorageLevel: deserialized = 4"),
        (
            lambda sc: SparkContext("inline", conf={"a": 1}),
            "SparkContext: conf = {'a': 1} of type dict: expected a SparkConf",
        ),
        (lambda sc: SparkContext("inline", plugins=5), "SparkContext: plugins = 5"),
        (lambda sc: SparkContext("inline", plugins="log"), "SparkContext: plugins = 'log'"),
    ],
)
async def test_what_has_a_wrong_type_is_named_at_the_call(local, call, where):
    with pytest.raises(ArgumentTypeError) as error:
        call(local)
    assert str(error.value).startswith(where)


@pytest.mark.parametrize(
    ("call", "where"),
    [
        (lambda rdd: rdd.top(1, 5), "top: key = 5 of type int: expected a function"),
        (lambda rdd: rdd.top(0, 5), "top: key = 5"),
        (lambda rdd: rdd.takeOrdered(1, 5), "takeOrdered: key = 5"),
        (lambda rdd: rdd.max(5), "max: key = 5"),
        (lambda rdd: rdd.min(5), "min: key = 5"),
        (lambda rdd: rdd.fold(0, 5), "fold: op = 5"),
        (lambda rdd: rdd.aggregate(0, 5, max), "aggregate: seqOp = 5"),
        (lambda rdd: rdd.aggregate(0, max, 5), "aggregate: combOp = 5"),
        (lambda rdd: rdd.treeAggregate(0, 5, max), "treeAggregate: seqOp = 5"),
        (lambda rdd: rdd.treeAggregate(0, max, 5), "treeAggregate: combOp = 5"),
        (lambda rdd: rdd.treeReduce(5), "treeReduce: f = 5"),
        (lambda rdd: rdd.foreach(5), "foreach: f = 5"),
        (lambda rdd: rdd.foreachPartition(5), "foreachPartition: f = 5"),
        (lambda rdd: rdd.reduceByKeyLocally(5), "reduceByKeyLocally: func = 5"),
        (lambda rdd: rdd.takeSample(False, 1, "seed"), "takeSample: seed = 'seed'"),
        (lambda rdd: rdd.takeSample(False, 1, 1.5), "takeSample: seed = 1.5"),
        (lambda rdd: rdd.context.runJob(rdd, 5), "runJob: partitionFunc = 5"),
        (lambda rdd: rdd.context.runJob(rdd, list, 1), "runJob: partitions = 1"),
    ],
)
async def test_what_has_a_wrong_type_for_an_action_is_named(local, call, where):
    with pytest.raises(ArgumentTypeError) as error:
        await call(pairs_of(local))
    assert str(error.value).startswith(where)


async def test_a_union_of_a_generator(local):
    assert await local.union(local.parallelize([i]) for i in range(3)).collect() == [0, 1, 2]


async def test_a_path_of_pathlib(local, tmp_path):
    (tmp_path / "lines").write_text("a\nb\n")
    assert await local.textFile(tmp_path / "lines").collect() == ["a", "b"]


async def test_seeds_and_fractions_of_numpy(local):
    np = pytest.importorskip("numpy")
    rdd = local.parallelize(range(100), 2)
    one = await rdd.sample(False, np.float32(0.5), np.int64(3)).collect()
    assert one == await rdd.sample(False, 0.5, 3).collect()
    assert await rdd.takeSample(False, 5, np.int64(3)) == await rdd.takeSample(False, 5, 3)


async def test_a_number_may_be_one_of_numpy(sc):
    np = pytest.importorskip("numpy")
    two = np.int64(2)
    rdd = sc.parallelize([3, 1, 2, 4], two)
    assert await rdd.getNumPartitions() == 2
    assert await rdd.take(two) == [3, 1]
    assert await rdd.top(two) == [4, 3]
    assert await rdd.takeOrdered(np.uint8(2)) == [1, 2]
    assert len(await rdd.takeSample(False, two)) == 2
    assert await rdd.repartition(two).getNumPartitions() == 2
    assert await rdd.coalesce(np.int32(1)).glom().collect() == [[3, 1, 2, 4]]
    assert await rdd.distinct(two).getNumPartitions() == 2
    assert await rdd.map(lambda x: (x, x)).sortByKey(True, two).keys().collect() == [1, 2, 3, 4]
    assert await rdd.treeReduce(max, two) == 4
    assert (await rdd.histogram(two))[1] == [2, 2]
    assert await sc.range(np.int64(1), np.int64(7), two, two).collect() == [1, 3, 5]
    assert await sc.range(two).collect() == [0, 1]
    assert await sc.runJob(rdd, list, [np.int64(1)]) == [2, 4]


async def test_a_wrong_number_is_named_with_its_operation(local):
    rdd = local.parallelize([1])
    with pytest.raises(ArgumentError, match=r"^repartition: numPartitions = 0: expected a whole number, 1 or more$"):
        rdd.repartition(0)
    with pytest.raises(ArgumentError, match=r"^parallelize: numSlices = -1: expected a whole number, 1 or more$"):
        local.parallelize([1], -1)
    with pytest.raises(ArgumentTypeError, match=r"^take: num = True of type bool: expected a whole number$"):
        await rdd.take(True)


async def test_an_exhausted_generator_is_refused(local):
    numbers = (x for x in range(3))
    assert await local.parallelize(numbers).count() == 3
    with pytest.raises(ArgumentError, match="already exhausted"):
        local.parallelize(numbers)


async def test_rdds_of_two_contexts_do_not_mix(local):
    async with SparkContext("inline") as other:
        with pytest.raises(ArgumentError, match="another SparkContext"):
            local.parallelize([1]).union(other.parallelize([1]))
        with pytest.raises(ArgumentError, match=r"union: rdds\[1\] = .*: it belongs to another SparkContext"):
            local.union([local.parallelize([1]), other.parallelize([1])])
        with pytest.raises(ArgumentError, match=r"union: rdds\[0\] = .*: it belongs to another SparkContext"):
            local.union([other.parallelize([1])])
        with pytest.raises(ArgumentError, match="runJob: rdd = .*: it belongs to another SparkContext"):
            await local.runJob(other.parallelize([1]), list)


async def test_a_union_says_which_of_its_elements_is_no_rdd(local):
    with pytest.raises(ArgumentTypeError, match=r"union: rdds\[2\] = 5 of type int: expected an RDD"):
        local.union([local.parallelize([1]), local.parallelize([2]), 5])
    with pytest.raises(ArgumentTypeError, match=r"runJob: rdd = \[1\] of type list: expected an RDD"):
        await local.runJob([1], list)


# ------------------------------------------------------------------------------------- wrong functions, data


def stopping(*_):
    raise StopIteration


ELEMENTWISE = {
    "map": lambda rdd, f: rdd.map(f),
    "flatMap": lambda rdd, f: rdd.flatMap(f),
    "filter": lambda rdd, f: rdd.filter(f),
    "keyBy": lambda rdd, f: rdd.keyBy(f),
    "mapValues": lambda rdd, f: rdd.map(lambda x: (x, x)).mapValues(f),
    "flatMapValues": lambda rdd, f: rdd.map(lambda x: (x, x)).flatMapValues(f),
    "sortBy": lambda rdd, f: rdd.sortBy(f, numPartitions=1),
    "sortBy 2": lambda rdd, f: rdd.sortBy(f, numPartitions=2),
    "sortByKey": lambda rdd, f: rdd.map(lambda x: (x, x)).sortByKey(True, 2, f),
    "groupBy": lambda rdd, f: rdd.groupBy(f),
    "partitionBy": lambda rdd, f: rdd.map(lambda x: (x, x)).partitionBy(2, f),
    "map below a shuffle": lambda rdd, f: rdd.map(f).map(lambda x: (x, x)).partitionBy(2),
    "map below a union": lambda rdd, f: rdd.map(f).union(rdd),
    "map below a coalesce": lambda rdd, f: rdd.map(f).coalesce(1),
    "map below a zip": lambda rdd, f: rdd.map(f).zip(rdd.map(f)),
    "map below a cartesian": lambda rdd, f: rdd.cartesian(rdd.map(f)),
    "map that is cached": lambda rdd, f: rdd.map(f).cache(),
    "map below mapPartitions": lambda rdd, f: rdd.map(f).mapPartitions(list),
    "map below glom": lambda rdd, f: rdd.map(f).glom(),
}
ENDS = {
    "collect": lambda rdd: rdd.collect(),
    "count": lambda rdd: rdd.count(),
    "take": lambda rdd: rdd.take(100),
    "runJob": lambda rdd: rdd.context.runJob(rdd, list),
    "foreachPartition": lambda rdd: rdd.foreachPartition(lambda elements: [x for x in elements]),
    "iteration": lambda rdd: iterated(rdd),
}


async def iterated(rdd):
    return [x async for x in rdd]


@pytest.mark.parametrize("at", [0, 2, 5], ids=["first", "in the middle", "last"])
@pytest.mark.parametrize("operation", ELEMENTWISE.values(), ids=ELEMENTWISE)
async def test_a_stopiteration_that_escapes_a_function_is_an_error(local, operation, at):
    """It would end the partition silently."""

    def f(x):
        if x == at:
            raise StopIteration
        return [x] if operation is ELEMENTWISE["flatMap"] or operation is ELEMENTWISE["flatMapValues"] else x

    with pytest.raises(AsparkleError, match="StopIteration") as error:
        await operation(local.parallelize(range(6), 1), f).collect()
    assert isinstance(error.value.__cause__, RuntimeError | StopIteration)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("data", [range(6), list(range(6))], ids=["range", "list"])
async def test_a_stopiteration_is_an_error_for_every_action(sc, end, data):
    with pytest.raises(JobFailed, match="StopIteration"):
        await end(sc.parallelize(data, 1).map(lambda x: x if x < 5 else next(iter(()))))


@pytest.mark.parametrize(
    "action",
    [
        lambda rdd: rdd.reduce(stopping),
        lambda rdd: rdd.fold(0, stopping),
        lambda rdd: rdd.aggregate(0, stopping, stopping),
        lambda rdd: rdd.aggregate(0, lambda a, b: a, stopping),
        lambda rdd: rdd.treeReduce(stopping),
        lambda rdd: rdd.foreach(stopping),
        lambda rdd: rdd.foreachPartition(stopping),
        lambda rdd: rdd.takeOrdered(2, stopping),
        lambda rdd: rdd.map(lambda x: (1, x)).reduceByKeyLocally(stopping),
        lambda rdd: rdd.map(lambda x: (1, x)).reduceByKey(stopping).collect(),
        lambda rdd: rdd.map(lambda x: (x, x)).combineByKey(stopping, stopping, stopping).collect(),
        lambda rdd: rdd.mapPartitions(stopping).collect(),
        lambda rdd: rdd.zipPartitions(rdd, stopping).collect(),
    ],
)
@pytest.mark.parametrize("slices", [1, 4])
async def test_a_stopiteration_in_a_reducing_function_is_an_error(local, action, slices):
    with pytest.raises(AsparkleError) as error:
        await action(local.parallelize(range(4), slices))
    assert "StopIteration" in str(error.value)


async def test_one_in_the_driver_alone_is_an_error_too(local):
    rdd = local.parallelize([1, 2], 2)
    for action in (
        lambda: rdd.reduce(stopping),
        lambda: rdd.map(lambda x: (1, x)).reduceByKeyLocally(stopping),
    ):
        with anyio.fail_after(5), pytest.raises(JobFailed, match="StopIteration") as error:
            await action()
        assert isinstance(cause(error), UserFunctionError)


def dividing(a, b):
    return a // 0


class Unaddable:
    def __init__(self, number):
        self.number = number

    def __radd__(self, other):
        return self

    def __add__(self, other):
        raise LookupError("can't be added")


@pytest.mark.parametrize(
    ("data", "action", "kind"),
    [
        ([0, 1], lambda rdd: rdd.reduce(dividing), ZeroDivisionError),
        ([0, 1], lambda rdd: rdd.treeReduce(dividing), ZeroDivisionError),
        ([0, 1], lambda rdd: rdd.aggregate(0, lambda a, b: b, dividing), ZeroDivisionError),
        ([0, 1], lambda rdd: rdd.treeAggregate(0, lambda a, b: b, dividing), ZeroDivisionError),
        ([("a", 0), ("a", 1)], lambda rdd: rdd.reduceByKeyLocally(dividing), ZeroDivisionError),
        ([1, "a"], lambda rdd: rdd.max(), TypeError),
        ([1, "a"], lambda rdd: rdd.min(), TypeError),
        ([1, "a"], lambda rdd: rdd.top(2), TypeError),
        ([1, "a"], lambda rdd: rdd.takeOrdered(2), TypeError),
        ([1, "a"], lambda rdd: rdd.histogram(2), TypeError),
        ([1, 2], lambda rdd: rdd.map(Unaddable).sum(), LookupError),
        ([1, (2, 3)], lambda rdd: rdd.collectAsMap(), UserFunctionError),
        ([({}, 1), (1, 2)], lambda rdd: rdd.collectAsMap(), TypeError),
        ([(1, 1), ("a", 2)], lambda rdd: rdd.sortByKey(True, 2).collect(), TypeError),
        ([(1, 1)], lambda rdd: rdd.partitionBy(2, lambda k: k // 0).lookup(1), ZeroDivisionError),
        ([(1, 1)], lambda rdd: rdd.partitionBy(2, lambda k: "a").lookup(1), UserFunctionError),
    ],
)
async def test_what_users_code_and_data_raise_in_the_driver_fails_the_job_as_in_a_task(local, data, action, kind):
    with pytest.raises(JobFailed, match=rf"^{kind.__name__}: .") as error:
        await action(local.parallelize(data, 2))
    assert isinstance(cause(error), kind)
    if kind is ZeroDivisionError:
        assert "test_operations.py" in error.value.frames
        assert "asparkle/core" not in error.value.frames


async def test_the_drivers_part_of_collectasmap_shows_what_is_no_pair(local):
    with pytest.raises(JobFailed, match=r"collectAsMap needs \(key, value\) pairs, and got 17 of type int"):
        await local.parallelize([17]).collectAsMap()


async def test_errors_of_asparkles_own_pass_through_the_drivers_part(local):
    with pytest.raises(KeyHashError):
        await local.parallelize([(1, 1)]).partitionBy(2).lookup({})
    with pytest.raises(ArgumentTypeError, match="equal buckets"):
        await local.parallelize(["a", "b"], 2).histogram(2)
    with pytest.raises(ArgumentTypeError, match=r"buckets = \['a', 1\]: expected bounds that can be compared"):
        await local.parallelize([1, 2], 2).histogram(["a", 1])


async def test_an_iterator_that_ends_is_no_error(sc):
    assert await sc.parallelize(["ab", "", "c"], 1).flatMap(iter).collect() == ["a", "b", "c"]
    assert await sc.parallelize(range(4), 2).mapPartitions(lambda it: [next(it)]).collect() == [0, 2]


@pytest.mark.parametrize("operation", ["mapPartitions", "mapPartitionsWithIndex"])
async def test_a_partition_function_that_returns_no_iterable_is_named(local, operation):
    def number_of_lines(*_):
        return 5

    with pytest.raises(JobFailed, match="number_of_lines returned 5, which is not iterable") as error:
        await getattr(local.parallelize([1]), operation)(number_of_lines).collect()
    assert isinstance(cause(error), UserFunctionError)


async def test_a_flatmap_function_that_returns_no_iterable_is_an_error(sc):
    with pytest.raises(JobFailed, match="not iterable") as error:
        await sc.parallelize([1]).flatMap(lambda x: x).collect()
    assert isinstance(cause(error), TypeError)


@pytest.mark.parametrize(
    "operation",
    [
        lambda rdd: rdd.partitionBy(2),
        lambda rdd: rdd.groupByKey(),
        lambda rdd: rdd.reduceByKey(max),
        lambda rdd: rdd.combineByKey(list, max, max),
        lambda rdd: rdd.sortByKey(True, 2),
        lambda rdd: rdd.join(rdd),
        lambda rdd: rdd.keys(),
        lambda rdd: rdd.values(),
        lambda rdd: rdd.mapValues(str),
        lambda rdd: rdd.flatMapValues(str),
    ],
)
async def test_what_is_not_a_pair_is_shown(local, operation):
    with pytest.raises(JobFailed, match=r"\(key, value\) pairs, and got 17 of type int") as error:
        await operation(local.parallelize([17], 1)).collect()
    assert isinstance(cause(error), UserFunctionError)


async def test_narrow_operations_take_longer_tuples_as_in_pyspark(sc):
    triples = sc.parallelize([("a", 1, True), ("b", 2, False)], 1)
    assert await triples.keys().collect() == ["a", "b"]
    assert await triples.values().collect() == [1, 2]
    assert await triples.mapValues(str).collect() == [("a", "1"), ("b", "2")]
    assert await triples.flatMapValues(range).collect() == [("a", 0), ("b", 0), ("b", 1)]
    assert await triples.countByKey() == {"a": 1, "b": 1}
    assert await triples.lookup("b") == [2]


@pytest.mark.parametrize(
    ("data", "operation", "culprit"),
    [
        ([[1]], lambda rdd: rdd.distinct(), r"\[1\]|list"),
        ([({}, 1)], lambda rdd: rdd.groupByKey(), r"\{\}"),
        ([({}, 1)], lambda rdd: rdd.reduceByKey(max), r"\{\}"),
        ([({1}, 1)], lambda rdd: rdd.partitionBy(2), r"\{1\}"),
        ([(object(), 1)], lambda rdd: rdd.partitionBy(2), "object"),
    ],
)
async def test_a_key_that_cannot_be_one_is_shown(local, data, operation, culprit):
    with pytest.raises(JobFailed, match=culprit) as error:
        await operation(local.parallelize(data, 1)).collect()
    assert isinstance(cause(error), KeyHashError)


async def test_a_partition_function_that_gives_no_number_is_an_error(local):
    with pytest.raises(JobFailed, match="must return an int") as error:
        await local.parallelize([(1, 1)]).partitionBy(2, lambda k: "a").collect()
    assert isinstance(cause(error), UserFunctionError)


async def test_zip_needs_equal_partitions(sc):
    with pytest.raises(ValueError, match="same number of partitions"):
        await sc.parallelize([1, 2], 1).zip(sc.parallelize([1, 2], 2)).collect()
    with pytest.raises(JobFailed, match="same number of elements"):
        await sc.parallelize([1, 2], 1).zip(sc.parallelize([1], 1)).collect()
    with pytest.raises(JobFailed, match="same number of elements"):
        await sc.parallelize([1], 1).zip(sc.parallelize([1, 2], 1)).collect()


async def test_a_users_exception_is_the_cause(sc):
    def divide(x):
        return 1 / x

    with pytest.raises(JobFailed, match="division by zero") as error:
        await sc.parallelize([1, 0], 2).map(divide).collect()
    assert isinstance(cause(error), ZeroDivisionError)
    assert error.value.partition == 1
    assert "in divide" in str(error.value)


async def test_what_cloudpickle_was_told_to_send_by_value_goes_by_value(sc, monkeypatch):
    module = types.ModuleType("known_to_the_driver_only")
    exec("class Point:\n    x = 1\ndef double(x):\n    return 2 * x\n", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    cloudpickle.register_pickle_by_value(module)
    try:
        assert await sc.parallelize([1, 2], 2).map(module.double).collect() == [2, 4]
        assert await sc.parallelize([module.Point()], 1).map(lambda p: p.x).collect() == [1]
    finally:
        cloudpickle.unregister_pickle_by_value(module)


async def test_the_same_program_again_begins_anew(sc):
    for _ in range(3):
        seen: set[int] = set()
        fresh = sc.parallelize([1, 1, 2], 1).filter(lambda x, seen=seen: x not in seen and (seen.add(x) or True))
        assert await fresh.collect() == [1, 2]
        assert await sc.parallelize(range(4), 2).map(abs).collect() == [0, 1, 2, 3]
        assert await sc.parallelize(range(4), 2).map(lambda x: x + 1).collect() == [1, 2, 3, 4]


# ------------------------------------------------------------------------------------- nested use


@pytest.mark.parametrize(
    "make",
    [
        lambda sc, rdd: rdd.map(lambda x: rdd.count()),
        lambda sc, rdd: rdd.map(lambda x: sc.parallelize([x])),
        lambda sc, rdd: rdd.mapPartitions(lambda it: [rdd]),
        lambda sc, rdd: rdd.map(lambda x, y=[rdd]: x),
        lambda sc, rdd: rdd.keyBy(lambda x: x).reduceByKey(lambda a, b: rdd),
    ],
)
async def test_an_rdd_or_a_context_in_a_closure_is_refused(sc, make):
    rdd = sc.parallelize([1, 2], 2)
    with pytest.raises(NestedContextError, match="can't be used inside a task"):
        await make(sc, rdd).collect()
    assert await rdd.count() == 2


class App:
    """What most programs look like that send their context along without knowing it."""

    def __init__(self, sc):
        self.sc = sc
        self.rdd = sc.parallelize([1])
        self.k = 2

    def scale(self, x):
        return x * self.k


async def test_who_captured_a_context_is_named_and_what_to_do_about_it(local):
    app, rdd = App(local), local.parallelize([1])

    async def refused(function):
        with pytest.raises(NestedContextError) as error:
            await rdd.map(function).collect()
        return error.value

    error = await refused(lambda x: x * app.k)
    who = rf"test_who_captured.*<lambda> at {re.escape(__file__)}:\d+"
    assert error.name == "app" and re.fullmatch(f"{who}: app", error.path[0]) and error.path[1:] == (".sc",)
    assert re.fullmatch(
        rf"a function of the job holds <SparkContext .*>, which can't be used inside a task: 'app' "
        rf"\(reached by {who}: app\.sc\); copy what the function needs of app into a local variable first, "
        r"such as k = app\.k, and of an RDD collect\(\) and broadcast the elements",
        str(error),
    )
    assert "(reached by method App.scale: self.sc); copy what the function needs of self" in str(
        await refused(app.scale)
    )
    error = await refused(lambda x: rdd.count())
    assert error.name == "rdd" and re.search(
        rf"holds <RDD \d+: .*>, which .*: 'rdd' \(reached by {who}: rdd\); only the driver starts jobs: join the",
        str(error),
    )
    given = functools.partial(operator.add, rdd)
    assert "(reached by partial: argument 0); only the driver" in str(await refused(given))
    of_app = {"rdd": app.rdd}
    assert re.search(rf"{who}: of_app\['rdd'\]\); only the driver", str(await refused(lambda x: of_app)))


async def test_an_rdd_or_a_context_that_the_program_pickles_is_no_tasks(local):
    for what in (local, local.parallelize([1])):
        for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(NestedContextError, match=r"can't be pickled or copied: .* collect\(\)") as error:
                duplicate(what)
            assert repr(what) in str(error.value) and "task" not in str(error.value)


async def test_what_cannot_be_pickled_is_named(sc):
    guard = threading.Lock()
    with pytest.raises(PicklingFailed, match="guard") as error:
        await sc.parallelize([1]).map(lambda x: guard).collect()
    assert error.value.name == "guard"
    assert error.value.path[0].endswith(": guard")


@pytest.mark.parametrize("make", [lambda table: lambda x: table.value, lambda table: lambda x, t={"table": table}: t])
async def test_a_coroutine_that_was_not_awaited_is_told_where_a_function_uses_it(local, make):
    table = local.broadcast(3)
    expected = (
        r"'table' is the coroutine SparkContext.broadcast\(\), which was not awaited: write `table = await sc.broadc"
    )
    with pytest.raises(PicklingFailed, match=expected) as error:
        await local.parallelize([1]).map(make(table)).collect()
    assert error.value.name == "table" and "a plain function returned it" not in str(error.value)
    table.close()


class Holder:
    def __init__(self, value):
        self.value = value


def nested(depth, innermost):
    for _ in range(depth):
        innermost = [innermost]
    return innermost


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda rdd, x: rdd.map(lambda y: x).collect(), (": x", ".value")),
        (lambda rdd, x: rdd.keyBy(abs).mapValues(lambda y: x).groupByKey().collect(), (": x", ".value")),
        (lambda rdd, x: rdd.keyBy(abs).combineByKey(lambda y: x, max, max).collect(), (": x", ".value")),
        (lambda rdd, x: rdd.keyBy(abs).aggregateByKey([x], max, max).collect(), ("[0]", ".value")),
        (lambda rdd, x: rdd.fold({"a": [x]}, max), ("['a']", "[0]", ".value")),
        (lambda rdd, x: rdd.zipPartitions(rdd, lambda one, other: x).collect(), (": x", ".value")),
        (lambda rdd, x: rdd.context.runJob(rdd, lambda elements: x), (": x", ".value")),
    ],
)
async def test_the_way_to_what_cannot_be_pickled_is_the_users(local, make, path):
    with pytest.raises(PicklingFailed) as error:
        await make(local.parallelize([1]), Holder(threading.Lock()))
    assert len(error.value.path) == len(path)
    for step, expected in zip(error.value.path, path, strict=True):
        assert step.endswith(expected)
    assert error.value.name == "value"


async def test_a_long_way_to_what_cannot_be_pickled_is_told_briefly(local):
    deep, long = nested(50, threading.Lock()), {"k" * 9999: threading.Lock()}
    with pytest.raises(PicklingFailed, match=r": deep\[0\]\[0\]\[0\] -> 43 more -> \[0\]") as error:
        await local.parallelize([1]).map(lambda x: deep).collect()
    assert len(error.value.path) == 51
    with pytest.raises(PicklingFailed) as error:
        await local.parallelize([1]).map(lambda x: long).collect()
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("master", ["local[1]", "processes[1]"])
async def test_what_is_nested_too_deeply_is_told_briefly(master):
    async with SparkContext(master) as sc:
        with pytest.raises(PicklingFailed, match="nested too deeply") as unsent:
            await sc.parallelize([nested(30_000, 1), []]).collect()
        with pytest.raises(JobFailed, match="the task's result: it is nested too deeply") as failed:
            await sc.parallelize([30_000]).map(lambda depth: nested(depth, 1)).collect()
    assert len(str(unsent.value)) < 1000
    assert len(str(failed.value)) < 1000


# ------------------------------------------------------------------------------------- empty RDDs


@pytest.fixture(params=["no partitions", "two empty partitions"])
def empty(request, sc):
    return sc.emptyRDD() if request.param == "no partitions" else sc.parallelize([], 2)


async def test_actions_on_nothing(sc, empty):
    assert await empty.collect() == []
    assert await empty.count() == 0
    assert await empty.isEmpty()
    assert await empty.take(3) == []
    assert await empty.top(3) == await empty.takeOrdered(3) == []
    assert await empty.takeSample(False, 3) == await empty.takeSample(True, 3) == []
    assert await empty.sum() == 0
    assert await empty.fold(7, max) == 7
    assert await empty.aggregate([], list.append, operator.add) == []
    assert await empty.treeAggregate(3, max, max) == 3
    assert await empty.countByValue() == await empty.countByKey() == await empty.collectAsMap() == {}
    assert await empty.reduceByKeyLocally(max) == {}
    assert await empty.lookup(1) == []
    assert await empty.histogram([0, 1, 2]) == ([0, 1, 2], [0, 0])
    assert [x async for x in empty] == []
    await empty.foreach(print)
    await empty.foreachPartition(list)


async def test_actions_that_need_an_element(sc, empty):
    for action in (
        empty.first,
        empty.max,
        empty.min,
        lambda: empty.reduce(max),
        lambda: empty.treeReduce(max),
    ):
        with pytest.raises(EmptyRDDError, match="empty"):
            await action()
    with pytest.raises(EmptyRDDError, match="empty RDD"):
        await empty.histogram(2)


async def test_transformations_of_nothing(sc, empty):
    some = sc.parallelize([(1, 1)], 1)
    n = await empty.getNumPartitions()
    assert await empty.map(str).glom().collect() == [[]] * n
    assert await empty.distinct().collect() == []
    assert await empty.groupByKey().collect() == []
    assert await empty.reduceByKey(max).collect() == []
    assert await empty.sortBy(abs).collect() == []
    assert await empty.sortByKey(numPartitions=3).collect() == []
    assert await empty.repartition(3).glom().collect() == [[], [], []]
    assert await empty.coalesce(1).collect() == []
    assert await empty.union(empty).getNumPartitions() == 2 * n
    assert await empty.union(some).collect() == [(1, 1)]
    assert await empty.cartesian(some).collect() == []
    assert await empty.zip(empty).collect() == []
    assert await empty.zipWithIndex().collect() == []
    assert await empty.join(some).collect() == []
    assert await empty.rightOuterJoin(some).collect() == [(1, (None, 1))]
    assert await some.subtractByKey(empty).collect() == [(1, 1)]
    assert await some.intersection(empty).collect() == []
    assert await empty.sample(True, 2.0).collect() == []
    assert await empty.partitionBy(2).glom().collect() == [[], []]


# ------------------------------------------------------------------------------------- numbers of partitions


async def test_partitions_are_as_in_pyspark(local):
    a, b = local.parallelize(range(7), 3), local.parallelize(range(4), 2)
    pairs, others = a.map(lambda x: (x, x)), b.map(lambda x: (x, x))
    for joined in (
        pairs.join(others),
        pairs.cogroup(others),
        pairs.leftOuterJoin(others),
        pairs.subtractByKey(others),
    ):
        assert await joined.getNumPartitions() == 5
    assert await a.subtract(b).getNumPartitions() == await a.intersection(b).getNumPartitions() == 5
    assert await a.union(b).getNumPartitions() == 5
    assert await a.cartesian(b).getNumPartitions() == 6
    assert await pairs.reduceByKey(max).getNumPartitions() == 3
    assert await pairs.sortByKey().getNumPartitions() == 3
    assert await a.coalesce(10).getNumPartitions() == 3
    assert await a.repartition(10).getNumPartitions() == 10


async def test_co_partitioned_inputs_keep_their_partitions(local):
    left = local.parallelize([(1, 2), (3, 4)], 4).partitionBy(2)
    right = local.parallelize([(1, 5)], 3).partitionBy(2)
    assert await left.join(right).getNumPartitions() == 2
    assert await left.union(right).getNumPartitions() == 2
    assert await left.union(right).partitioner() == await left.partitioner()
    assert await left.reduceByKey(max).getNumPartitions() == 2


async def test_which_operations_keep_the_partitioner(local):
    rdd = local.parallelize([(1, 2), (3, 4)], 2).partitionBy(2)
    partitioner = await rdd.partitioner()
    assert partitioner is not None
    for kept in (rdd.filter(bool), rdd.mapValues(str), rdd.flatMapValues(range), rdd.sample(False, 0.5, 1)):
        assert await kept.partitioner() == partitioner
    assert await rdd.map(lambda kv: kv, preservesPartitioning=True).partitioner() == partitioner
    for lost in (rdd.map(lambda kv: kv), rdd.glom(), rdd.keys(), rdd.coalesce(1), rdd.intersection(rdd)):
        assert await lost.partitioner() is None


async def test_distinct_pairs_are_reduced_by_key_afterwards(sc):
    """The elements of a distinct are dealt by the hash of the whole pair, not by that of their key."""
    pairs = sc.parallelize([(k, v) for k in range(5) for v in range(5)] * 2, 3)
    wanted = [(k, 10) for k in range(5)]
    assert sorted(await pairs.distinct().reduceByKey(operator.add).collect()) == wanted
    assert sorted(await pairs.intersection(pairs).reduceByKey(operator.add).collect()) == wanted
    assert sorted(await pairs.distinct().subtract(pairs.filter(lambda x: x[1] > 0)).reduceByKey(max).collect()) == [
        (k, 0) for k in range(5)
    ]


async def test_distinct_of_partitioned_pairs_keeps_the_pairs(sc):
    counted = sc.parallelize(["a", "b", "a"], 2).map(lambda x: (x, 1)).reduceByKey(operator.add)
    assert sorted(await counted.distinct().collect()) == [("a", 2), ("b", 1)]


async def test_a_join_sees_reduced_values_of_a_co_partitioned_input(sc):
    counted = sc.parallelize("abcab", 3).map(lambda x: (x, 1)).reduceByKey(operator.add, 2)
    other = sc.parallelize([("a", "A"), ("b", "B")], 2).partitionBy(2)
    assert sorted(await counted.join(other).collect()) == [("a", (2, "A")), ("b", (2, "B"))]
    grouped = sc.parallelize([("a", 1), ("a", 2)], 2).groupByKey(2).mapValues(list)
    assert await grouped.join(other).collect() == [("a", ([1, 2], "A"))]


async def test_sortbykey_with_few_keys_leaves_partitions_empty(sc):
    parts = await sc.parallelize([("b", 1), ("a", 2), ("b", 3)], 2).sortByKey(numPartitions=4).glom().collect()
    assert list(itertools.chain(*parts)) == [("a", 2), ("b", 1), ("b", 3)]
    assert len(parts) == 4


async def test_sorting_divides_the_data_evenly(local):
    shuffled = local.parallelize([(x * 7919) % 10_007 for x in range(10_000)], 4)
    parts = await shuffled.sortBy(lambda x: x, numPartitions=5).glom().collect()
    assert list(itertools.chain(*parts)) == sorted(await shuffled.collect())
    assert max(map(len, parts)) < 1.3 * 2000


async def test_a_sort_by_several_directions(sc):
    data = [("b", 2), ("a", 1), ("c", 3), ("a", 0)]
    rdd = sc.parallelize(data, 3)
    assert await rdd.sortBy(lambda kv: kv[1], ascending=False).collect() == sorted(data, key=lambda kv: -kv[1])
    assert await rdd.sortByKey(False).collect() == [("c", 3), ("b", 2), ("a", 1), ("a", 0)]
    assert await rdd.sortByKey(keyfunc=lambda k: -ord(k)).collect() == [
        ("c", 3),
        ("b", 2),
        ("a", 1),
        ("a", 0),
    ]


# ------------------------------------------------------------------------------------- sampling


async def test_a_sample_is_the_same_for_the_same_seed(sc):
    rdd = sc.parallelize(range(1000), 4)
    for replacement in (False, True):
        one, again, other = [await rdd.sample(replacement, 0.3, seed).collect() for seed in (5, 5, 6)]
        assert one == again != other
        assert 200 < len(one) < 400
        assert one == sorted(one)


async def test_a_sample_with_replacement_repeats_elements(local):
    sample = await local.parallelize(range(1000), 4).sample(True, 2.0, 3).collect()
    assert 1800 < len(sample) < 2200
    assert max(Counter(sample).values()) > 3


async def test_the_ends_of_sampling(local):
    rdd = local.parallelize(range(10), 3)
    assert await rdd.sample(False, 0.0).collect() == await rdd.sample(True, 0.0).collect() == []
    assert await rdd.sample(False, 1.0).collect() == list(range(10))
    assert sorted(await rdd.takeSample(False, 99)) == list(range(10))
    assert len(await rdd.takeSample(True, 99, seed=1)) == 99
    assert len(set(await rdd.takeSample(False, 4, seed=1))) == 4
    assert await rdd.takeSample(False, 4, seed=1) == await rdd.takeSample(False, 4, seed=1)
    assert await rdd.takeSample(False, 0) == []


# ------------------------------------------------------------------------------------- actions


async def test_take_computes_no_more_partitions_than_it_needs(sc):
    computed = sc.accumulator(0)

    def count(elements):
        computed.add(1)
        return elements

    rdd = sc.parallelize(range(100), 50).mapPartitions(count)
    assert await rdd.take(1) == [0]
    assert computed.value == 1
    assert await rdd.take(20) == list(range(20))
    assert computed.value < 25


async def test_ranges_longer_than_any_list(sc):
    assert await sc.parallelize(range(10**20), 3).take(2) == [0, 1]
    assert await sc.parallelize(range(10**20, 0, -3), 3).first() == 10**20
    assert await sc.range(2**63 + 5).first() == 0
    firsts = sc.range(0, 10**20, 5, 4).mapPartitions(lambda numbers: [next(numbers)])
    assert await firsts.collect() == [0, 25 * 10**18, 50 * 10**18, 75 * 10**18]


async def test_ranges_without_elements(sc):
    for numbers in (range(0), range(5, 5), range(5, 0), range(0, 5, -1)):
        assert await sc.parallelize(numbers, 3).collect() == []


@pytest.mark.parametrize("many", [2**63 - 1, 2**63, 10**30, 10**400], ids=["most", "more", "many", "no float"])
async def test_as_many_elements_as_there_are(local, many):
    rdd = local.parallelize([3, 1, 2], 3)
    assert await rdd.take(many) == [3, 1, 2]
    assert await rdd.top(many) == [3, 2, 1]
    assert await rdd.takeOrdered(many) == [1, 2, 3]
    with pytest.raises(ArgumentError, match="takeSample: num"):  # as in PySpark
        await rdd.takeSample(False, many)
    assert sorted(await rdd.takeSample(False, 2**62)) == [1, 2, 3]


async def test_a_partition_may_be_endless_for_take(sc):
    with anyio.fail_after(10):
        assert await sc.parallelize([1, 2], 2).mapPartitions(lambda it: itertools.count()).take(3) == [
            0,
            1,
            2,
        ]


async def test_a_mutable_zero_value_is_not_changed(sc):
    zero: list[int] = []
    rdd = sc.parallelize(range(6), 3)
    for _ in range(2):
        assert await rdd.aggregate(zero, lambda a, x: a.append(x) or a, lambda a, b: a.extend(b) or a) == list(range(6))
        assert await rdd.map(lambda x: [x]).fold(zero, lambda a, b: a.extend(b) or a) == list(range(6))
        assert sorted(await rdd.treeAggregate(zero, lambda a, x: a.append(x) or a, operator.iadd)) == list(range(6))
    assert zero == []
    pairs = sc.parallelize([("a", 1), ("b", 2), ("a", 3)], 1)
    assert await pairs.aggregateByKey([], lambda a, x: a.append(x) or a, operator.iadd).collect() == [
        ("a", [1, 3]),
        ("b", [2]),
    ]


async def test_fold_takes_the_zero_value_once_per_partition_and_once_more(sc):
    assert await sc.parallelize([1, 2, 3], 2).fold(10, operator.add) == 36
    folded = sc.parallelize([("a", 1), ("b", 2), ("a", 3)], 2).foldByKey(10, operator.add)
    assert sorted(await folded.collect()) == [("a", 24), ("b", 12)]


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
async def test_a_tree_of_any_depth(local, depth):
    rdd = local.parallelize(range(100), 40)
    assert await rdd.treeReduce(operator.add, depth) == 4950
    assert await rdd.treeAggregate(0, operator.add, operator.add, depth) == 4950


async def test_histograms_are_those_of_pyspark(sc):
    numbers = sc.parallelize([1.0, 2, 3, 10, float("nan"), None], 2)
    assert await numbers.histogram(3) == ([1.0, 4.0, 7.0, 10], [3, 0, 1])
    assert await sc.parallelize([1, 2, 3, 10], 2).histogram(3) == ([1, 4, 7, 10], [3, 0, 1])
    assert await sc.parallelize(range(51)).histogram(2) == ([0, 25, 50], [25, 26])
    assert await sc.parallelize(range(51)).histogram([0, 5, 25, 50]) == ([0, 5, 25, 50], [5, 20, 26])
    assert await sc.parallelize([1, 1]).histogram(3) == ([1, 1], [2])
    assert await sc.parallelize([1, 5, 8]).histogram((0, 5, 10)) == ((0, 5, 10), [1, 2])
    assert await sc.parallelize(["ab", "ac", "b", "bd", "ef"]).histogram(("a", "b", "c")) == (
        ("a", "b", "c"),
        [2, 2],
    )
    with pytest.raises(TypeError):
        await sc.parallelize(["a", "b"]).histogram(2)


async def test_lookup_computes_only_the_keys_partition(sc):
    computed = sc.accumulator(0)

    def count(elements):
        computed.add(1)
        return elements

    rdd = sc.parallelize([(k, str(k)) for k in range(20)], 4).partitionBy(10).mapPartitions(count, True)
    assert await rdd.lookup(7) == ["7"]
    assert computed.value == 1
    assert await rdd.lookup(999) == []
    assert await sc.parallelize([("a", 1), ("b", 2)], 2).sortByKey().lookup("b") == [2]


async def test_counts_are_defaultdicts_as_in_pyspark(local):
    assert (await local.parallelize("aba", 2).countByValue())["z"] == 0
    assert (await local.parallelize([("a", 1)]).countByKey())["z"] == 0


async def test_runjob_gives_the_partitions_in_the_order_asked_for(sc):
    rdd = sc.parallelize(range(4), 2)
    assert await sc.runJob(rdd, lambda it: [sum(it)], [1, 0, 1]) == [5, 1, 5]
    assert await sc.runJob(rdd, lambda it: [sum(it)]) == [1, 5]
    assert await sc.runJob(rdd, lambda it: [sum(it)], []) == []


async def test_leaving_an_iteration_early(sc):
    rdd = sc.parallelize(range(20), 10)
    async for x in rdd:
        if x == 3:
            break
    with pytest.raises(KeyError):
        async for _ in rdd:
            raise KeyError
    assert await rdd.count() == 20


async def test_foreachpartition_runs_generators(sc):
    seen = sc.accumulator(0)

    def add(elements):
        for x in elements:
            seen.add(x)
            yield

    await sc.parallelize(range(5), 2).foreachPartition(add)
    assert seen.value == 10
    await sc.parallelize(range(5), 2).foreachPartition(lambda it: None)


async def test_numbers_of_numpy_stay_numbers_of_numpy(sc):
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(6, dtype="float32")
    rdd = sc.parallelize(array, 4)
    assert [type(x) for x in await rdd.collect()] == [numpy.float32] * 6
    assert await rdd.sum() == 15
    assert type(await rdd.max()) is numpy.float32
    assert (await rdd.stats()).mean() == 2.5
    rows = sc.parallelize(numpy.arange(6).reshape(3, 2), 2)
    assert [row.tolist() for row in await rows.collect()] == [[0, 1], [2, 3], [4, 5]]
    keys = sc.parallelize(numpy.array([1, 2, 1]), 2).map(lambda x: (x, 1)).union(sc.parallelize([(1, 5), (1.0, 6)], 1))
    assert dict(await keys.reduceByKey(operator.add).collect()) == {1: 13, 2: 1}


async def test_equal_keys_of_different_types_are_one_key(sc):
    pairs = sc.parallelize([(1, "a"), (1.0, "b"), (True, "c"), ((1, None), "d"), ((1.0, None), "e")], 5)
    grouped = [(k, "".join(vs)) for k, vs in await pairs.groupByKey(3).collect()]
    assert sorted(grouped, key=repr) == [((1, None), "de"), (1, "abc")]


# ------------------------------------------------------------------------------------- what a task is


async def test_elements_changed_in_a_task_change_nothing_else(sc):
    data = [[1], [2]]
    rdd = sc.parallelize(data, 2)
    changed = rdd.map(lambda x: x.append(0) or x)
    assert await changed.collect() == [[1, 0], [2, 0]]
    assert await changed.collect() == [[1, 0], [2, 0]]
    assert data == [[1], [2]]


@pytest.mark.parametrize("level", [StorageLevel.MEMORY_ONLY, StorageLevel.MEMORY_AND_DISK, StorageLevel.DISK_ONLY])
async def test_elements_changed_in_a_task_do_not_change_a_cached_block(sc, level):
    rdd = sc.parallelize(range(4), 2).map(lambda x: [x]).persist(level)
    changed = rdd.map(lambda x: x.append(0) or x)
    for _ in range(3):
        assert await changed.collect() == [[x, 0] for x in range(4)]
        assert await rdd.collect() == [[x] for x in range(4)]
    for x in await rdd.collect():
        x.append("of the driver")
    assert await rdd.collect() == [[x] for x in range(4)]
    await rdd.unpersist()


async def test_rows_of_a_numpy_array_changed_in_a_task_change_nothing_else(sc):
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros((4, 2))
    rdd = sc.parallelize(array, 2)
    cached = rdd.map(lambda row: row).cache()
    for source in (rdd, cached, rdd, cached):
        changed = await source.map(lambda row: float(row.__iadd__(1).sum())).collect()
        assert changed == [2.0] * 4
    assert not array.any()


async def test_a_captured_object_is_fresh_for_every_attempt(sc):
    seen: list[int] = []
    counter = itertools.count()

    def note(x):
        seen.append(x)
        return (len(seen), next(counter))

    rdd = sc.parallelize(range(6), 3).map(note)
    for _ in range(2):
        assert await rdd.collect() == [(1, 0), (2, 1)] * 3
    assert seen == []
    assert next(counter) == 0


async def test_a_captured_object_is_one_object_within_a_stage(sc):
    """As where both functions travel in one pickle."""
    state = {"n": 0}

    def add(x):
        state["n"] += 1
        return x

    assert await sc.parallelize(range(3), 1).map(add).map(lambda x: state["n"]).collect() == [1, 2, 3]


async def test_what_a_task_knows_about_itself(sc):
    def facts(index, elements):
        context = TaskContext.get()
        yield (
            index,
            context.partitionId(),
            context.attemptNumber(),
            context.stageId(),
            context.taskAttemptId(),
        )

    first = await sc.parallelize(range(3), 3).mapPartitionsWithIndex(facts).collect()
    assert [(i, p, a) for i, p, a, _, _ in first] == [(0, 0, 0), (1, 1, 0), (2, 2, 0)]
    assert len({stage for *_, stage, _ in first}) == 1
    assert len({tid for *_, tid in first}) == 3
    assert TaskContext.get() is None


async def test_local_properties_travel_with_a_job(sc):
    rdd = sc.parallelize([1], 1).map(lambda x: TaskContext.get().getLocalProperty("colour"))
    assert await rdd.collect() == [None]
    sc.setLocalProperty("colour", "green")
    assert await rdd.collect() == ["green"]
    assert await rdd.map(lambda x: (x, 1)).sortByKey(numPartitions=2).keys().collect() == ["green"]

    async def elsewhere():
        sc.setLocalProperty("colour", "blue")
        assert await rdd.collect() == ["blue"]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(elsewhere)
    assert await rdd.collect() == ["green"]
    sc.setLocalProperty("colour", None)
    assert await rdd.collect() == [None]


async def test_preparatory_jobs_have_the_properties_of_their_job(sc):
    sc.setLocalProperty("colour", "red")
    seen = sc.accumulator(0)

    def note(elements):
        seen.add(TaskContext.get().getLocalProperty("colour") == "red")
        return elements

    rdd = sc.parallelize([(2, 2), (1, 1)], 2).mapPartitions(note)
    await rdd.zipWithIndex().collect()
    assert seen.value == 3  # the first partition is counted before
    sc.setLocalProperty("colour", None)


async def test_job_tags(sc):
    sc.addJobTag("a")
    with sc.jobTag("b"):
        assert sc.getJobTags() == {"a", "b"}
    assert sc.getJobTags() == {"a"}
    sc.removeJobTag("a")
    sc.addJobTag("c")
    sc.clearJobTags()
    assert sc.getJobTags() == set()


@pytest.mark.parametrize("by", ["group", "tag"])
async def test_jobs_are_cancelled_by_group_and_tag(by):
    from asparkle.core.errors import JobCancelled

    async with SparkContext("threads[2]") as sc:
        ended = []

        async def run(name):
            if by == "group":
                sc.setJobGroup(name, "a test")
            else:
                sc.addJobTag(name)
            try:
                await sc.parallelize([1], 1).map(slow).collect()
            except JobCancelled:
                ended.append(name)

        def slow(x):
            import time

            for _ in range(1000):
                time.sleep(0.01)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, "one")
            tasks.start_soon(run, "two")
            while len(sc._driver._jobs) < 2:
                await anyio.lowlevel.checkpoint()
            await (sc.cancelJobGroup("one") if by == "group" else sc.cancelJobsWithTag("one"))
            while not ended:
                await anyio.lowlevel.checkpoint()
            assert ended == ["one"]
            await sc.cancelAllJobs()
        assert ended == ["one", "two"]


@pytest.mark.parametrize("group", [None, 5, b"nightly", ["nightly"]])
async def test_a_job_group_is_a_string(local, group):
    with pytest.raises(ArgumentTypeError, match=r"^cancelJobGroup: groupId = .*: expected a string$"):
        await local.cancelJobGroup(group)
    if group is not None:
        with pytest.raises(ArgumentTypeError, match=r"^setJobGroup: groupId = .*: expected a string$"):
            local.setJobGroup(group, "x")


async def test_no_job_group_is_set_with_none(local):
    local.setJobGroup("nightly", "at night")
    local.setJobGroup(None, None)
    assert local.getLocalProperty("spark.jobGroup.id") is None
    assert local.getLocalProperty("spark.job.description") is None


# ------------------------------------------------------------------------------------- shared variables


class Longest(AccumulatorParam):
    def zero(self, value):
        return ""

    def addInPlace(self, one, other):
        return max(one, other, key=len)


class Union(AccumulatorParam):
    def zero(self, value):
        return set()

    def addInPlace(self, one, other):
        one |= other
        return one


async def test_accumulators_of_numbers(sc):
    whole, real = sc.accumulator(5), sc.accumulator(0.5)

    def add(x):
        nonlocal whole
        whole += x
        real.add(x / 2)

    await sc.parallelize(range(10), 4).foreach(add)
    assert (whole.value, real.value) == (50, 23.0)
    await sc.parallelize(range(10), 4).foreach(add)
    assert (whole.value, real.value) == (95, 45.5)
    whole.value = 1
    assert whole.value == 1


async def test_accumulators_of_other_types(sc):
    longest = sc.accumulator("", Longest())
    words = sc.accumulator(set(), Union())

    def add(word):
        longest.add(word)
        words.add({word})
        return word

    assert await sc.parallelize(["a", "ccc", "bb"], 3).map(add).count() == 3
    assert longest.value == "ccc"
    assert words.value == {"a", "bb", "ccc"}


async def test_an_accumulator_counts_a_partition_once(sc):
    """Also where attempts fail, and in a shuffle that several jobs use."""
    seen = sc.accumulator(0)

    def fail_at_first(x):
        seen.add(1)
        if TaskContext.get().attemptNumber() == 0 and x == 2:
            raise ValueError
        return (x % 2, x)

    shuffled = sc.parallelize(range(4), 2).map(fail_at_first).reduceByKey(operator.add, 2)
    assert await shuffled.collect() == [(0, 2), (1, 4)]
    assert await shuffled.count() == 2
    assert seen.value == 4


COUNTED = None


def count_one(x):
    """Travels by name: where tasks run in this process they find COUNTED itself."""
    COUNTED.add(1)
    if TaskContext.get().attemptNumber() == 0:
        raise ValueError


async def test_an_accumulator_of_an_imported_module_is_exact_as_well(local):
    global COUNTED
    COUNTED = local.accumulator(0)
    await local.parallelize(range(3), 3).foreach(count_one)
    assert COUNTED.value == 3


async def test_an_accumulator_is_not_read_in_a_task(sc):
    seen = sc.accumulator(0)
    with pytest.raises(JobFailed, match="can't be read in a task"):
        await sc.parallelize([1]).map(lambda x: seen.value).collect()


async def test_a_broadcast_is_read_in_tasks(sc):
    table = await sc.broadcast({"a": 1})
    assert table.value == {"a": 1}
    rdd = sc.parallelize("aa", 2).map(lambda x: table.value[x])
    assert await rdd.collect() == [1, 1]
    table.unpersist()
    assert await rdd.collect() == [1, 1]


async def test_a_broadcast_is_a_copy(sc):
    value = [1]
    broadcast = await sc.broadcast(value)
    value.append(2)
    assert await sc.parallelize([0], 1).map(lambda x: len(broadcast.value)).collect() == [1]


async def test_a_broadcast_is_gone_once_destroyed(sc):
    broadcast = await sc.broadcast([1])
    rdd = sc.parallelize([0], 1).map(lambda x: broadcast.value)
    broadcast.destroy()
    with pytest.raises(RuntimeError, match="destroyed"):
        broadcast.value  # noqa: B018
    with pytest.raises(RuntimeError, match="destroyed"):
        await rdd.collect()


async def test_a_large_broadcast_of_an_array(sc):
    numpy = pytest.importorskip("numpy")
    broadcast = await sc.broadcast(numpy.arange(100_000))
    assert await sc.parallelize(range(3), 3).map(lambda i: int(broadcast.value[i])).collect() == [0, 1, 2]


async def test_what_cannot_be_broadcast(local):
    with pytest.raises(PicklingFailed):
        await local.broadcast([threading.Lock()])
    with pytest.raises(NestedContextError):
        await local.broadcast(local.parallelize([1]))


# ------------------------------------------------------------------------------------- what is cleaned, what is missing


async def test_shuffles_are_computed_again_after_they_were_cleaned(sc):
    mapped = sc.accumulator(0)

    def note(x):
        mapped.add(1)
        return x % 2, str(x) * 20_000  # too much for a report: a file

    largest = sc.parallelize(range(8), 4).map(note).reduceByKey(max, 2).mapValues(lambda text: text[0])
    expected = {0: "6", 1: "7"}
    assert [await largest.collectAsMap(), await largest.collectAsMap()] == [expected, expected]
    (parent,) = largest._node.parents
    files = Path(sc._application.spec.directories[0], f"shuffle-{parent.shuffle.spec.id}")
    assert len(list(files.iterdir())) == 4
    await largest.cleanShuffleDependencies(blocking=True)
    assert not files.exists()
    assert await largest.collectAsMap() == expected
    assert len(list(files.iterdir())) == 4
    await largest.cleanShuffleDependencies()
    assert await largest.map(list).count() == 2
    assert mapped.value == 24  # computed three times


async def test_what_needs_the_jvm_says_what_to_use(local):
    pairs = local.parallelize([(1, 2)])
    for call in (
        lambda: pairs.saveAsHadoopFile("x", "org.apache.hadoop.mapred.TextOutputFormat"),
        lambda: pairs.saveAsNewAPIHadoopDataset({}),
        lambda: local.newAPIHadoopRDD("a", "b", "c"),
        lambda: local.hadoopFile("x", "a", "b", "c"),
    ):
        with pytest.raises(NotImplementedError, match="no JVM; use"):
            call()


@pytest.mark.parametrize("placed", [False, True], ids=["shuffled", "in place"])
async def test_what_joins_takes_the_first_two_of_longer_records(sc, placed):
    longer = sc.parallelize([(1, 2, 3), (4, 5, 6), [1, "a", None, None]], 2)
    other = sc.parallelize([(1, 7), "1x-"], 2)
    if placed:
        other = other.filter(lambda x: len(x) == 2).partitionBy(2)
    assert sorted(await longer.join(other).collect(), key=repr) == [(1, ("a", 7)), (1, (2, 7))]
    assert await longer.subtractByKey(other).collect() == [(4, 5)]
    assert sorted(await longer.fullOuterJoin(longer).keys().collect()) == [1, 1, 1, 1, 4]
    groups = await longer.groupWith(other, longer).mapValues(lambda lists: list(map(list, lists))).collectAsMap()
    assert groups[4] == [[5], [], [5]]
    if placed:  # as they come, without a shuffle
        whole = sc.parallelize([(1, 2, 3)], 2).mapPartitions(list, preservesPartitioning=True)
        assert await other.join(whole, 2).collect() == [(1, (7, 2))]
    for wrong in ((1,), 5, {"x": 1}):
        with pytest.raises(JobFailed, match="needs .key, value. pairs, and got"):
            await sc.parallelize([(1, 2), wrong], 1).join(other).collect()
    with pytest.raises(JobFailed, match=r"needs .key, value. pairs, and got \(\d, \d, \d\)"):
        await longer.partitionBy(2).collect()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda rdd: rdd.flatMap(lambda x: None), "'NoneType' object is not iterable"),
        (lambda rdd: rdd.map(lambda: 1), "takes 0 positional arguments but 1 was given"),
        (lambda rdd: rdd.mapValues(lambda: 1), "takes 0 positional arguments but 1 was given"),
    ],
)
async def test_the_function_is_named_where_no_frame_of_it_is(sc, make, said):
    with pytest.raises(JobFailed, match=rf"(?s){said}.*in a call of \S*<lambda> \({re.escape(__file__)}:\d+\)"):
        await make(sc.parallelize([(1, 2)], 1)).collect()


async def test_what_can_not_be_counted_is_named(sc):
    with pytest.raises(JobFailed, match=r"KeyHashError: \[2\] can't be a key"):
        await sc.parallelize([1, [2]], 1).countByValue()
    with pytest.raises(JobFailed, match=r"KeyHashError: \[2\] can't be a key"):
        await sc.parallelize([(1, 1), ([2], 1)], 1).countByKey()


async def test_what_pyspark_takes_is_taken(local):
    rdd = local.parallelize([3, 1, 2], "2")
    assert await rdd.getNumPartitions() == 2
    assert await local.range(5, numSlices=2.7).getNumPartitions() == 2
    assert await rdd.take(-1) == await rdd.top(-1) == []
    for fraction in (1.5, float("inf")):
        assert await rdd.sample(False, fraction, 5).collect() == [3, 1, 2]
    for wrong in ("x", "", float("nan"), float("inf")):
        with pytest.raises(ArgumentTypeError, match="range: numSlices = "):
            local.range(5, numSlices=wrong)
    with pytest.raises(ArgumentError, match="sample: fraction = nan"):
        rdd.sample(False, float("nan"))
    for statistic in (local.emptyRDD().mean, local.emptyRDD().stats, local.emptyRDD().sampleVariance):
        with pytest.raises(ValueError, match="empty RDD"):
            await statistic()
    assert await local.parallelize([], 2).mean() == 0.0


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda sc: sc.parallelize(None), "parallelize: c = None of type NoneType: expected a collection"),
        (lambda sc: sc.parallelize(5), "parallelize: c = 5 of type int: expected a collection"),
        (lambda sc: sc.range(1).saveAsTextFile(None), "saveAsTextFile: path = None of type NoneType: expected a path$"),
        (lambda sc: sc.setCheckpointDir(None), "setCheckpointDir: dirName = None of type NoneType: expected a path$"),
        (lambda sc: sc.textFile(None), "textFile: name = None of type NoneType: expected a path, or several"),
        (lambda sc: sc.range(1).map(later, ordered="no"), "map: ordered = 'no' of type str: expected True or False"),
        (lambda sc: sc.submit(sc.range(1).count).result("x"), "result: timeout = 'x' of type str: expected a number"),
    ],
)
async def test_wrong_types_are_named(local, act, said):
    with pytest.raises(ArgumentTypeError, match=said):
        answer = act(local)
        if inspect.isawaitable(answer):
            await answer


async def later(x):
    return x
