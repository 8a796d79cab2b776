"""The general operations, each over small data whose result PySpark 4.3 has recorded."""

from __future__ import annotations

import operator
from types import SimpleNamespace
from typing import Any

from .notebook import Notebook, Show

operations = Notebook()

WORDS = "the spark that lights the fire that lights the night".split()


# --------------------------------------------------------------------------------------------- sources


@operations.cell()
def slices_of_ranges_and_lists(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    for n in (0, 1, 3, 10, 14, 23, 1030):
        for slices in (1, 2, 3, 4, 7, 20):
            sizes = [len(part) for part in sc.parallelize(range(n), slices).glom().collect()]
            show(f"range({n}) in {slices}", sizes)
            sizes = [len(part) for part in sc.parallelize(list(range(n)), slices).glom().collect()]
            show(f"list of {n} in {slices}", sizes)
    show("range with a step", sc.parallelize(range(20, -20, -3), 4).glom().collect())
    show("sc.range", sc.range(5).collect())
    show("sc.range with a step", sc.range(10, 0, -3, 3).glom().collect())
    show("sc.range is empty", sc.range(5, 5).collect())


@operations.cell()
def kinds_of_collections(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    show("tuple", sc.parallelize((3, 1, 2), 2).glom().collect())
    show("str", sc.parallelize("spark", 2).glom().collect())
    show("dict", sc.parallelize({"a": 1, "b": 2}, 2).glom().collect())
    show("generator", sc.parallelize((x * x for x in range(5)), 2).glom().collect())
    show("set", sorted(sc.parallelize({3, 1, 2}, 2).collect()))
    show("bytes", sc.parallelize(b"ab", 1).collect())
    show("mixed", sc.parallelize([None, 1, "a", (2, [3]), {"k": {4}}, 2.5, True], 3).glom().collect())
    show("default number", sc.parallelize([1]).getNumPartitions())


@operations.cell("numpy")
def numpy_arrays(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    import numpy as np

    show("floats", sc.parallelize(np.arange(5) / 2, 2).glom().collect())
    show("types", sc.parallelize(np.arange(3, dtype="i4"), 2).map(lambda x: type(x).__name__).collect())
    show("rows", sc.parallelize(np.arange(6).reshape(3, 2), 2).map(lambda row: row.tolist()).glom().collect())
    show("sum", float(sc.parallelize(np.arange(5) / 2, 2).sum()))
    show("max", float(sc.parallelize(np.arange(5) / 2, 2).max()))


@operations.cell()
def empty_and_union(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    empty = sc.emptyRDD()
    show("empty", (empty.collect(), empty.getNumPartitions(), empty.count(), empty.isEmpty()))
    show("empty sum", empty.sum())
    show("empty fold", empty.fold(0, operator.add))
    show("empty take", empty.take(3))
    show("isEmpty", sc.parallelize([], 3).isEmpty())
    show("not isEmpty", sc.parallelize([1], 3).isEmpty())
    a, b = sc.parallelize([1, 2, 3], 2), sc.parallelize([3, 4], 1)
    show("union", sc.union([a, b, a]).glom().collect())
    show("union of one", sc.union([a]).glom().collect())
    show("with empty", a.union(empty).glom().collect())
    try:
        empty.reduce(operator.add)
        show("reduce", "worked")
    except ValueError:
        show("reduce", "ValueError")
    try:
        empty.first()
        show("first", "worked")
    except ValueError:
        show("first", "ValueError")
    try:
        empty.max()
        show("max", "worked")
    except ValueError:
        show("max", "ValueError")


# --------------------------------------------------------------------------------- narrow operations


@operations.cell()
def by_partition(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rdd = sc.parallelize(range(11), 4)
    show("mapPartitions", rdd.mapPartitions(lambda it: [sum(it)]).collect())
    show("with index", rdd.mapPartitionsWithIndex(lambda i, it: ((i, x) for x in it)).collect())
    show("generator", rdd.mapPartitions(lambda it: (x for x in it if x % 2)).glom().collect())
    show("flatMap", rdd.flatMap(lambda x: range(x % 3)).glom().collect())
    show("map of map", rdd.map(lambda x: x + 1).map(lambda x: x * 2).filter(lambda x: x % 3).glom().collect())
    show("glom of glom", rdd.glom().glom().collect())
    show("foreachPartition", rdd.foreachPartition(lambda it: None))
    show("runJob", sc.runJob(rdd, lambda it: [sum(1 for _ in it)]))
    show("runJob of some", sc.runJob(rdd, lambda it: it, [2, 0]))


@operations.cell()
def coalesce_and_repartition(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    for before in (1, 2, 3, 5, 8, 10):
        for after in (1, 2, 3, 4, 7, 12):
            rdd = sc.parallelize(range(20), before)
            show(f"coalesce {before} to {after}", rdd.coalesce(after).glom().collect())
    rdd = sc.parallelize(range(100), 3)
    for after in (1, 2, 7, 10):
        repartitioned = rdd.repartition(after)
        show(f"repartition to {after}", repartitioned.getNumPartitions())
        show.bag(f"repartitioned to {after}", repartitioned.collect())
    show.bag("coalesce with shuffle", rdd.coalesce(5, shuffle=True).collect())
    show("coalesce with shuffle: partitions", rdd.coalesce(5, True).getNumPartitions())


@operations.cell()
def zip_and_cartesian(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    a, b = sc.parallelize(range(10), 3), sc.parallelize("abcdefghij", 3)
    show("zip", a.zip(b).glom().collect())
    show("zip of mapped", a.map(lambda x: -x).zip(a.map(lambda x: x * x)).collect())
    try:
        a.zip(sc.parallelize(range(9), 3)).collect()
        show("other count", "worked")
    except Exception:
        show("other count", "failed")
    try:
        a.zip(sc.parallelize(range(10), 4)).collect()
        show("other partitions", "worked")
    except Exception:
        show("other partitions", "failed")
    small = sc.parallelize([1, 2, 3], 2)
    show.parts("cartesian", small.cartesian(sc.parallelize("xyz", 2)).glom().collect())
    show.bag("cartesian with itself", small.cartesian(small).collect())
    show("cartesian with none", small.cartesian(sc.parallelize([], 1)).collect())
    show("zipWithIndex", sc.parallelize("spark", 3).zipWithIndex().collect())


# ----------------------------------------------------------------------------------- actions


@operations.cell()
def taking(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rdd = sc.parallelize([5, 3, 9, 1, 7, 3, 8, 2], 3)
    show("first", rdd.first())
    show("first beyond empty partitions", sc.parallelize(range(40), 20).filter(lambda x: x > 31).first())
    for n in (0, 1, 3, 8, 20):
        show(f"take {n}", rdd.take(n))
        show(f"top {n}", rdd.top(n))
        show(f"takeOrdered {n}", rdd.takeOrdered(n))
    show("top by key", rdd.top(3, key=lambda x: -x))
    show("takeOrdered by key", rdd.takeOrdered(4, key=lambda x: x % 3))
    show("take over empties", sc.parallelize(range(100), 50).filter(lambda x: x % 30 == 7).take(3))
    show("max by key", rdd.max(key=lambda x: x % 5))
    show("min by key", rdd.min(key=lambda x: x % 5))
    show("max", rdd.max())
    show("min", rdd.min())
    show("toLocalIterator", list(rdd.toLocalIterator()) if not ns.aio else rdd.collect())


@operations.cell()
def folding(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rdd = sc.parallelize([1, 2, 3, 4, 5], 3)
    show("reduce", rdd.reduce(operator.sub))
    show("reduce with empty partitions", sc.parallelize([4, 2], 5).reduce(operator.add))
    show("reduce of lists", sc.parallelize(["a", "b", "c", "d"], 3).reduce(operator.add))
    show("fold", rdd.fold(0, operator.add))
    show("fold with a start", rdd.fold(10, operator.add))
    show("fold of lists", rdd.map(lambda x: [x]).fold([], operator.add))
    seq, comb = (lambda acc, x: (acc[0] + x, acc[1] + 1)), (lambda a, b: (a[0] + b[0], a[1] + b[1]))
    show("aggregate", rdd.aggregate((0, 0), seq, comb))
    show("aggregate with a start", rdd.aggregate((100, 0), seq, comb))
    show("aggregate in place", rdd.aggregate([], lambda acc, x: acc.append(x) or acc, operator.add))
    show("aggregate of nothing", sc.parallelize([], 2).aggregate((0, 0), seq, comb))
    for depth in (1, 2, 3):
        many = sc.parallelize(range(100), 30)
        show(f"treeAggregate {depth}", many.treeAggregate(0, operator.add, operator.add, depth))
        show(f"treeReduce {depth}", many.treeReduce(operator.add, depth))
    show("treeAggregate of tuples", rdd.treeAggregate((0, 0), seq, comb))
    show("treeReduce of few", rdd.treeReduce(operator.add))


@operations.cell()
def counting(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    words = sc.parallelize(WORDS, 3)
    show("count", words.count())
    show("countByValue", words.countByValue())
    show("countByKey", words.map(lambda w: (len(w), w)).countByKey())
    show("sum", sc.parallelize([1, 2.5, 3], 2).sum())
    show("sum of ints", sc.parallelize([2**70, 1], 2).sum())
    show("mean", sc.parallelize([1, 2, 6], 2).mean())


@operations.cell()
def statistics(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rdd = sc.parallelize([1.0, 2.5, -3.0, 8.0, 8.0, 0.25], 4)
    show("stats", str(rdd.stats()))
    show("stats of none", str(sc.parallelize([], 2).stats()))
    show.close("variance", (rdd.variance(), rdd.sampleVariance(), rdd.stdev(), rdd.sampleStdev()))
    show("histogram 1", rdd.histogram(1))
    show("histogram 3", rdd.histogram(3))
    show("histogram of buckets", rdd.histogram([-3, 0, 2, 8]))
    show("histogram of uneven buckets", rdd.histogram((0, 1, 8)))
    show("histogram of ints", sc.parallelize(range(51), 4).histogram(2))
    show("histogram of few ints", sc.parallelize([1, 2, 3, 9], 2).histogram(4))
    show("histogram of equals", sc.parallelize([7, 7, 7], 2).histogram(3))
    show("histogram of words", sc.parallelize(["ab", "ac", "b", "bd", "ef"], 2).histogram(("a", "b", "c")))
    show("histogram of one bucket of words", sc.parallelize(["ab", "ac", "b"], 2).histogram(1))


# ----------------------------------------------------------------------------------- pairs and shuffles


@operations.cell()
def combining_by_key(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    pairs = sc.parallelize([(i % 5, i) for i in range(23)], 3)
    show.parts("reduceByKey", pairs.reduceByKey(operator.add).glom().collect())
    show.parts("reduceByKey in 2", pairs.reduceByKey(operator.add, 2).glom().collect())
    show.parts("foldByKey", pairs.foldByKey(100, operator.add, 2).glom().collect())
    show.parts(
        "combineByKey",
        pairs.combineByKey(str, lambda c, v: c + "", lambda a, b: min(a, b), 3).glom().collect(),
    )
    in_place = pairs.aggregateByKey([], lambda acc, v: acc.append(v) or acc, operator.add, 3)
    show.parts("aggregateByKey", in_place.mapValues(sorted).glom().collect())
    show.parts("groupByKey", pairs.groupByKey(4).glom().collect())
    show.parts("groupByKey sizes", pairs.groupByKey(4).mapValues(len).glom().collect())
    show("reduceByKeyLocally", dict(pairs.reduceByKeyLocally(operator.add)))
    show.bag("collectAsMap", pairs.reduceByKey(max).collectAsMap().items())
    show.bag("words", sc.parallelize(WORDS, 3).map(lambda w: (w, 1)).reduceByKey(operator.add).collect())
    show.parts("groupBy", sc.parallelize(range(10), 3).groupBy(lambda x: x % 3, 2).glom().collect())


@operations.cell()
def where_keys_land(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    keys = [
        0,
        1,
        2,
        7,
        -1,
        -2,
        -7,
        2**31,
        2**61 - 1,
        2**61,
        2**64,
        -(2**63),
        10**30,
        True,
        False,
        1.0,
        -0.0,
        None,
    ]
    for n in (1, 2, 3, 7, 100):
        placed = sc.parallelize(keys, 3).map(lambda k: (k, None)).partitionBy(n)
        indexed = placed.mapPartitionsWithIndex(lambda i, it: ((k, i) for k, _ in it))
        show.bag(f"numbers and None in {n}", indexed.collect())
    tuples = [
        (),
        (0,),
        (1, 2),
        (2, 1),
        (1, (2, 3)),
        (None,),
        (None, 1),
        (-1, -2),
        (2**70, 1),
        (True, 1),
        tuple(range(20)),
    ]
    for n in (2, 3, 7, 100):
        placed = sc.parallelize(tuples, 3).map(lambda k: (k, None)).partitionBy(n)
        indexed = placed.mapPartitionsWithIndex(lambda i, it: ((k, i) for k, _ in it))
        show.bag(f"tuples in {n}", indexed.collect())
    own = sc.parallelize(range(12), 3).map(lambda k: (k, k)).partitionBy(3, lambda k: k // 4)
    show.parts("a function of one's own", own.glom().collect())
    negative = sc.parallelize(range(6), 3).map(lambda k: (k, k)).partitionBy(4, lambda k: -k)
    show.parts("a negative hash", negative.glom().collect())


@operations.cell()
def joining_and_grouping(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    a = sc.parallelize([(1, "a"), (2, "b"), (1, "c"), (None, "n"), (4, "d")], 2)
    b = sc.parallelize([(1, 10), (3, 30), (1, 11), (None, 0), (4, 40)], 3)
    show.parts("join", a.join(b, 3).glom().collect())
    show.parts("leftOuterJoin", a.leftOuterJoin(b, 3).glom().collect())
    show.parts("rightOuterJoin", a.rightOuterJoin(b, 3).glom().collect())
    show.parts("fullOuterJoin", a.fullOuterJoin(b, 3).glom().collect())
    show.parts("cogroup", a.cogroup(b, 3).glom().collect())
    show.parts("groupWith", a.groupWith(b, a).glom().collect())
    show("join: default partitions", a.join(b).getNumPartitions())
    show.parts("subtractByKey", a.subtractByKey(b, 3).glom().collect())
    show.bag(
        "intersection",
        sc.parallelize([1, 1, 2, 3], 2).intersection(sc.parallelize([1, 1, 3, 5], 2)).collect(),
    )
    show.bag("subtract", sc.parallelize([1, 1, 2, 3], 2).subtract(sc.parallelize([3, 5], 2)).collect())
    show.parts("distinct", sc.parallelize([5, 1, 5, 2, 1], 2).distinct(2).glom().collect())


@operations.cell()
def co_partitioned(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    a = sc.parallelize(range(12), 3).map(lambda x: (x % 5, x)).partitionBy(3)
    b = sc.parallelize(range(8), 2).map(lambda x: (x, -x)).partitionBy(3)
    show.parts("join", a.join(b, 3).glom().collect())
    show("union", a.union(b).getNumPartitions())
    show.parts("union of alike", a.union(b).glom().collect())
    show.parts("mapValues", a.mapValues(lambda v: v + 1).reduceByKey(operator.add, 3).glom().collect())
    show("the same again", a.partitionBy(3).glom().collect() == a.glom().collect())


@operations.cell()
def lookups(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    pairs = sc.parallelize([(i % 7, i) for i in range(20)], 4)
    show("lookup", sorted(pairs.lookup(3)))
    show("lookup of none", pairs.lookup(99))
    show("lookup in a partition", sorted(pairs.partitionBy(3).lookup(3)))
    show("lookup of a tuple", sc.parallelize([((1, 2), "x"), ((2, 1), "y")], 2).lookup((1, 2)))


@operations.cell()
def sorting(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    values = [5, 3, 9, -1, 7, 3, 8, 2, 0, 3]
    rdd = sc.parallelize(values, 3)
    show("sortBy", rdd.sortBy(lambda x: x).collect())
    show("descending", rdd.sortBy(lambda x: x, ascending=False).collect())
    show("by a key of it", [x % 4 for x in rdd.sortBy(lambda x: x % 4).collect()])
    show("in one partition", rdd.sortBy(lambda x: (x % 4, x), numPartitions=1).glom().collect())
    show("in more than there are", rdd.sortBy(lambda x: x, numPartitions=20).collect())
    pairs = sc.parallelize(list(zip(WORDS, range(10), strict=True)), 4)
    show("sortByKey", [key for key, _ in pairs.sortByKey().collect()])
    show("sortByKey with keyfunc", [key for key, _ in pairs.sortByKey(True, 2, lambda w: w[::-1]).collect()])
    show(
        "sortByKey descending",
        [key for key, _ in pairs.sortByKey(ascending=False, numPartitions=3).collect()],
    )
    show("of nothing", sc.parallelize([], 3).sortBy(lambda x: x).collect())
    show("of equals", sc.parallelize([1] * 20, 4).sortBy(lambda x: x).collect())


@operations.cell()
def sampling(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rdd = sc.parallelize(range(1000), 4)
    sampled = rdd.sample(False, 0.3, 42)
    show("reproducible", sampled.collect() == sampled.collect())
    show("in order and without repeats", sorted(set(sampled.collect())) == sampled.collect())
    show("about that many", 200 < sampled.count() < 400)
    again = rdd.sample(True, 2.0, 42)
    show("with replacement", 1700 < again.count() < 2300)
    show("all", rdd.sample(False, 1.0, 1).count())
    show("none", rdd.sample(False, 0.0, 1).count())


# ------------------------------------------------------------------------------------- shared variables


@operations.cell()
def accumulators(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    total = sc.accumulator(10)
    real = sc.accumulator(0.5)

    def add(x: int) -> int:
        total.add(x)
        return x

    mapped = sc.parallelize(range(10), 4).map(add)
    show("lazily", total.value)
    show("sum", mapped.sum())
    show("after one action", total.value)
    show("count", mapped.count())
    show("after two", total.value)
    sc.parallelize([1.5, 2.0], 2).foreach(lambda x: real.add(x))
    show("float", real.value)
    total.value = 3
    show("set", total.value)
    total += 4
    show("plus", total.value)


@operations.cell()
def captured_state_is_a_copy(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    seen: list[int] = []
    model = {"weight": 0}

    def remember(x: int) -> int:
        seen.append(x)
        return len(seen)

    def learn(iterator: Any) -> Any:
        for x in iterator:
            model["weight"] += x
        yield dict(model)

    show("a fresh list for each task", sc.parallelize(range(6), 3).map(remember).collect())
    show("the driver's is untouched", seen)
    for _ in range(2):
        model = (
            sc.parallelize(range(8), 4).mapPartitions(learn).reduce(lambda a, b: {"weight": a["weight"] + b["weight"]})
        )
        show(f"round {_}", model)
    data = [[1], [2]]
    show("elements are copies", sc.parallelize(data, 1).map(lambda x: x.append(0) or x).collect())
    show("the driver's elements", data)
