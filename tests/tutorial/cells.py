"""The tutorial, cell by cell: its story in today's Python, with what it prints shown.

Numbers in the names are those of the tutorial's cells.  Random numbers are seeded, so that results can be
compared; the data of two cells is smaller than the tutorial's, to keep the tests quick.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from .notebook import Notebook, Show

tutorial = Notebook()


@tutorial.cell()
def cell_02_configuration(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    conf = ns.SparkConf()
    conf.setMaster("local")
    conf.setAppName("spark_tutorial")
    conf.setIfMissing("spark.cores.max", "4")
    conf.set("spark.executor.memory", "1g")
    conf.setAll([("spark.cores.max", "8"), ("spark.executor.memory", "2g")])
    conf.setIfMissing("spark.cores.max", "16")
    show("master", conf.get("spark.master"))
    show("name", conf.get("spark.app.name"))
    show("cores", conf.get("spark.cores.max"))
    show("memory", conf.get("spark.executor.memory"))
    show("unset", conf.get("spark.nothing.of.the.kind"))
    show("default", conf.get("spark.nothing.of.the.kind", "a default"))
    show("contains", conf.contains("spark.executor.memory"))
    show("chained", conf.set("a", "1").set("b", "2").get("b"))


@tutorial.cell()
def cell_08_distributed_data(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    ns.rdd = sc.parallelize(range(14))
    show("Number of partitions", ns.rdd.getNumPartitions())
    show("glom", ns.rdd.glom().collect())


@tutorial.cell()
def cell_09_lazy(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rddSquared = ns.rdd.map(lambda x: x**2)
    show("squared", rddSquared.collect())

    def squared(x: int) -> int:
        return x**2

    show("squared by a function", ns.rdd.map(squared).collect())


@tutorial.cell()
def cell_10_popular(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rdd = ns.rdd
    func = lambda x: -x
    rdd.map(func)
    rdd.flatMap(func)  # would fail, as its results can't be iterated: but nothing is run
    rdd.filter(func)
    show("sortBy", rdd.sortBy(func).collect())
    show("flatMap", rdd.flatMap(lambda x: [x] * (x % 3)).collect())
    show("filter", rdd.filter(lambda x: x % 5).collect())

    show("reduce", rdd.reduce(lambda x, y: x + y))
    show("count", rdd.count())
    show("collect", rdd.collect())
    show("first", rdd.first())
    show("take", rdd.take(5))
    show("top", rdd.top(3))
    show("takeOrdered", rdd.takeOrdered(7, lambda x: -x))


@tutorial.cell("numpy")
def cell_11_caching(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    import numpy as np

    np.random.seed(11)
    NUM_SAMPLES = int(1e5)
    rddBig = ns.rddBig = sc.parallelize(np.random.random(NUM_SAMPLES))
    show("elements are numpy's", rddBig.map(lambda x: type(x).__name__).take(2))
    show("head", rddBig.take(3))

    # not cached: computed anew each time round the loop
    rddBigTrans = rddBig.map(lambda x: (x**2 - 0.1) ** 0.5)
    show("level", str(rddBigTrans.getStorageLevel()))
    for threshold in (0.2, 0.4, 0.6, 0.8):
        show(f"at least {threshold}", rddBigTrans.filter(lambda x: x >= threshold).count())
    show("nan", rddBigTrans.filter(lambda x: x != x).count())

    rddBigTrans_c = rddBig.map(lambda x: (x**2 - 0.1) ** 0.5).cache()
    show("cached level", str(rddBigTrans_c.getStorageLevel()))
    show("is cached", (rddBigTrans.is_cached, rddBigTrans_c.is_cached))
    for threshold in (0.2, 0.4, 0.6, 0.8):
        show(f"cached, at least {threshold}", rddBigTrans_c.filter(lambda x: x >= threshold).count())

    show("unpersisted level", str(rddBigTrans_c.unpersist().getStorageLevel()))
    show("is cached no more", rddBigTrans_c.is_cached)
    level = ns.StorageLevel.MEMORY_AND_DISK
    show("persisted level", str(rddBigTrans.persist(level).getStorageLevel()))
    show("persisted count", rddBigTrans.count())
    rddBigTrans.unpersist()


@tutorial.cell()
def cell_11_storage_levels(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    for name in (
        "NONE",
        "DISK_ONLY",
        "DISK_ONLY_2",
        "DISK_ONLY_3",
        "MEMORY_ONLY",
        "MEMORY_ONLY_2",
        "MEMORY_AND_DISK",
        "MEMORY_AND_DISK_2",
        "MEMORY_AND_DISK_DESER",
        "OFF_HEAP",
    ):
        show(name, str(getattr(ns.StorageLevel, name)))
        show(f"repr of {name}", repr(getattr(ns.StorageLevel, name)))
    for name in ("MEMORY_ONLY", "DISK_ONLY", "MEMORY_AND_DISK"):
        persisted = sc.parallelize(range(5)).persist(getattr(ns.StorageLevel, name))
        show(f"persisted {name}", (str(persisted.getStorageLevel()), persisted.sum(), persisted.count()))
        persisted.unpersist()
    show("default persist", str(sc.parallelize([1]).persist().getStorageLevel()))


@tutorial.cell()
def cell_12_pairs(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rdd = ns.rdd
    rddP1 = rdd.map(lambda x: (x % 2 == 0, x))
    show("pairs", rddP1.collect())
    rddP1 = ns.rddP1 = rdd.keyBy(lambda x: x % 2 == 0)
    show("keyed", rddP1.collect())
    show("Zipped", rdd.zip(rdd).collect())
    show("Keys", rddP1.keys().collect())
    show("Values", rddP1.values().collect())
    show("map", rddP1.map(lambda x: (x[0], x[1] ** 2)).collect())
    show("mapValues", rddP1.mapValues(lambda x: x**2).collect())
    show("flatMapValues", rddP1.flatMapValues(lambda x: range(x % 3)).collect())
    show("dropped", rddP1.map(lambda x: x[1] ** 2).collect())


@tutorial.cell()
def cell_13_by_key(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rddP1 = ns.rddP1
    show.bag("Sum per key", rddP1.reduceByKey(lambda x, y: x + y).collect())
    show.parts("where", rddP1.reduceByKey(lambda x, y: x + y).glom().collect())
    show("sortByKey", [key for key, _ in rddP1.sortByKey().collect()])
    show("countByKey", rddP1.countByKey())


@tutorial.cell()
def cell_14_joining(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rddP1 = ns.rddP1
    rddP2 = ns.rddP2 = sc.parallelize(range(0, 28, 2)).map(lambda x: (x % 2 == 0, x))
    show.bag("Join", rddP1.join(rddP2).collect())
    show.bag("leftOuterJoin", rddP1.leftOuterJoin(rddP2).collect())
    show.bag("rightOuterJoin", rddP1.rightOuterJoin(rddP2).collect())
    show.bag("fullOuterJoin", rddP1.fullOuterJoin(rddP2).collect())
    show.bag("Cogroup", rddP1.cogroup(rddP2).collect())
    show.bag("groupWith", rddP1.groupWith(rddP2, rddP2).collect())
    show.parts("After groupByKey", rddP1.groupByKey().glom().collect())


@tutorial.cell()
def cell_15_text(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    path = os.path.join(ns.directory, "poem.txt")
    with open(path, "w", encoding="utf-8", newline="") as file:
        for i in range(40):
            file.write(f"line {i}: the spark that lights {i % 7} fires, «{'ü' * (i % 4)}»\r\n" + "\n" * (i % 3))
    rddT = sc.textFile(path)
    show("head", rddT.take(5))
    show("count", rddT.count())
    show("all", rddT.collect())
    show("partitions of 3", sc.textFile(path, 3).glom().collect())
    counts = rddT.flatMap(lambda line: line.split()).map(lambda word: (word, 1)).reduceByKey(lambda x, y: x + y)
    show.bag("words", counts.collect())
    show("most frequent", counts.takeOrdered(4, key=lambda pair: (-pair[1], pair[0])))


@tutorial.cell()
def cell_16_statistics(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rdd = ns.rdd
    show("stats", str(rdd.stats()))
    show("count", rdd.count())
    show("sum", rdd.sum())
    show("mean", rdd.mean())
    show.close("stdev", (rdd.stdev(), rdd.sampleStdev()))
    show("variance", (rdd.variance(), rdd.sampleVariance()))
    show("extremes", (rdd.min(), rdd.max()))
    show("histogram", rdd.histogram(5))


@tutorial.cell()
def cell_17_sets(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rdd = ns.rdd
    rddB = sc.parallelize(range(0, 26, 2))
    show("union", rdd.union(rddB).collect())
    show("plus", (rdd + rddB).collect())
    show("partitions of the union", rdd.union(rddB).glom().collect())
    show.bag("distinct", rdd.union(rddB).distinct().collect())
    show.bag("intersection", rdd.intersection(rddB).collect())
    show.bag("subtract", rdd.subtract(rddB).collect())
    # asparkle's cartesian is in lexicographic order on purpose: only partition by partition it is Spark's
    show.parts("cartesian", rdd.cartesian(rddB).glom().collect())


@tutorial.cell()
def cell_18_shared_variables(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    broadcastVar = sc.broadcast({"CA": "California", "NL": "Netherlands"})
    show("broadcast", broadcastVar.value)
    show("in tasks", sc.parallelize(["NL", "CA", "NL"]).map(lambda c: broadcastVar.value[c]).collect())
    accu = sc.accumulator(0)
    ns.rdd.foreach(lambda x: accu.add(x))
    show("accumulator", accu.value)
    broadcastVar.unpersist()
    show("after unpersist", sc.parallelize(["CA"]).map(lambda c: broadcastVar.value[c]).collect())
    broadcastVar.destroy()


@tutorial.cell()
def cell_19_partitioning(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rdd, rddP1 = ns.rdd, ns.rddP1
    sc.setLocalProperty("defaultMinPartitions", "4")
    sc.setLocalProperty("defaultParallelism", "4")
    show("local property", sc.getLocalProperty("defaultParallelism"))
    show.parts("reduceByKey in 10", rddP1.reduceByKey(lambda x, y: x + y, 10).glom().collect())

    rddRepart = rdd.partitionBy(100)  # not of pairs: Spark does not notice before an action
    show("partitionBy", rddRepart.getNumPartitions())
    try:
        rddRepart.count()
        show("partitionBy of no pairs", "worked")
    except Exception:
        show("partitionBy of no pairs", "failed")

    show("coalesce", rdd.coalesce(2).glom().collect())
    rddRepart = rdd.repartition(10)
    show("repartition", rddRepart.getNumPartitions())
    show.bag("repartitioned", rddRepart.collect())


@tutorial.cell()
def cell_20_same_partitioning(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rddP1 = ns.rddP1 = sc.parallelize(range(14)).map(lambda x: (x % 2 == 0, x)).partitionBy(2)
    rddP2 = ns.rddP2 = sc.parallelize(range(0, 28, 2)).map(lambda x: (x % 2 == 0, x)).partitionBy(2)
    show.parts("rddP1", rddP1.glom().collect())
    show.parts("rddP2", rddP2.glom().collect())
    rddJ = rddP1.join(rddP2)
    rddJ = rddJ.partitionBy(2)
    show.parts("rddJ", rddJ.glom().collect())


@tutorial.cell("numpy")
def cell_21_pitfall_not_caching(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rddBig = ns.rddBig
    accu = sc.accumulator(0)

    def transform(x: Any) -> Any:
        accu.add(1)
        return (x**2 - 0.1) ** 0.5

    rddBigTrans = rddBig.map(transform)
    for threshold in (0.2, 0.4, 0.6, 0.8):
        show(f"not so great {threshold}", rddBigTrans.filter(lambda x: x >= threshold).count())
    show("calls without cache", accu.value)
    before = accu.value
    rddBigTrans_c = rddBig.map(transform).cache()
    for threshold in (0.2, 0.4, 0.6, 0.8):
        show(f"better {threshold}", rddBigTrans_c.filter(lambda x: x >= threshold).count())
    show("calls with cache", accu.value - before)
    rddBigTrans_c.unpersist()


@tutorial.cell()
def cell_22_pitfall_transfer(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    show.bag("groupByKey", ns.rddP1.groupByKey().mapValues(lambda x: sum(x)).collect())
    show.bag("reduceByKey", ns.rddP1.reduceByKey(lambda x, y: x + y).collect())


@tutorial.cell()
def cell_23_pitfall_partitions(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rdd = ns.rdd
    rddF = rdd.filter(lambda x: x < 0.1).map(lambda x: x**2)
    show("many empty", rddF.glom().collect())
    rddF = rdd.filter(lambda x: x < 3).coalesce(10).map(lambda x: x**2)
    show("coalesced to more", rddF.glom().collect())
    many = sc.parallelize(range(2000), 1000).filter(lambda x: x < 30)
    show("coalesced", [len(part) for part in many.coalesce(10).glom().collect()])


@tutorial.cell()
def cell_24_pitfall_overhead(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    rdd = ns.rdd
    opened = sc.accumulator(0)

    def db_operation(x: int) -> int:
        opened.add(1)
        return -x

    def vectorized_db_operation(elements: Any) -> Any:
        opened.add(1)
        return [-x for x in elements]

    show("one by one", rdd.map(db_operation).collect())
    show("connections", opened.value)
    show("by partition", rdd.mapPartitions(vectorized_db_operation).collect())
    show("connections in all", opened.value)


@tutorial.cell("numpy")
def cell_26_pitfall_big_closure(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    import numpy as np

    np.random.seed(26)
    bigData = np.random.random(int(1e6))

    def myFunc(x: int) -> Any:
        return x * bigData[x * 1000]

    show("captured", ns.rdd.map(myFunc).collect())
    bigDataBC = sc.broadcast(bigData)
    show("broadcast", ns.rdd.map(lambda x: x * bigDataBC.value[x * 1000]).collect())
    bigDataBC.unpersist()


@tutorial.cell("numpy", "sklearn")
def cell_27_scikit_learn(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    from sklearn import pipeline
    from sklearn.datasets import make_regression
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import ShuffleSplit, train_test_split
    from sklearn.preprocessing import StandardScaler

    N = 10000  # number of data points
    D = 100  # number of dimensions
    X, y = make_regression(
        n_samples=N,
        n_features=D,
        n_informative=int(D * 0.1),
        n_targets=1,
        bias=-6.0,
        noise=50.0,
        random_state=42,
    )
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=7)

    # random subsamples, one per partition
    samples = sc.parallelize(ShuffleSplit(n_splits=8, random_state=3).split(X_train))
    show("subsamples", samples.map(lambda t: (len(t[0]), len(t[1]), int(t[0][0]))).collect())
    reg_model = pipeline.Pipeline([("scaler", StandardScaler()), ("ridge", Ridge())])
    # a model is trained on each subsample and scored on the test set
    scores = samples.map(lambda t: reg_model.fit(X[t[0]], y[t[0]]).score(X_test, y_test))
    show.close("scores", scores.collect())
    show.close("mean_rsq", scores.mean())


@tutorial.cell("numpy", "sklearn")
def cell_28_gradient_descent(sc: Any, ns: SimpleNamespace, show: Show) -> None:
    import copy

    import numpy as np
    from sklearn import linear_model as lm

    N = 400  # number of data points
    D = 10  # number of dimensions
    ITERATIONS = 5
    np.random.seed(seed=42)

    def generate_data(N: int) -> list[Any]:
        return [[[1] if np.random.rand() < 0.5 else [0], np.random.randn(D)] for _ in range(N)]

    def train(iterator: Any, sgd: Any) -> Any:
        for x in iterator:
            sgd.partial_fit(x[1].reshape(1, -1), x[0], classes=np.array([0, 1]))
        yield sgd

    def merge(left: Any, right: Any) -> Any:
        new = copy.deepcopy(left)
        new.coef_ += right.coef_
        new.intercept_ += right.intercept_
        return new

    def avg_model(sgd: Any, slices: int) -> Any:
        sgd.coef_ /= slices
        sgd.intercept_ /= slices
        return sgd

    slices = 4
    data = generate_data(N)
    show("size", len(data))
    # Each partition is a mini-batch that starts from the model of the round before, as every task has a copy
    # of its own of what its function captured; the weights are averaged between the rounds.
    sgd = lm.SGDClassifier(loss="log_loss", random_state=5)
    for ii in range(ITERATIONS):
        sgd = (
            sc.parallelize(data, numSlices=slices)
            .mapPartitions(lambda x: train(x, sgd))
            .reduce(lambda x, y: merge(x, y))
        )
        sgd = avg_model(sgd, slices)
        show.close(f"Iteration {ii + 1}: coef_", sgd.coef_)
        show.close(f"Iteration {ii + 1}: intercept_", sgd.intercept_)
