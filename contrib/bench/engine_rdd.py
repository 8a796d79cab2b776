"""The workloads in the RDD's own words: the same code for PySpark and for asparkle."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .workloads import (
    PRIMES,
    THRESHOLDS,
    Prepare,
    array,
    candidate,
    floats,
    integers,
    is_prime,
    square,
    text_file,
    transform,
)

MASTERS = {
    "asparkle": "local[{}]",
    "asparkle-processes": "processes[{}]",
    "asparkle-threads": "threads[{}]",
    "asparkle-inline": "inline",
}


def context(engine: str, cores: int) -> Any:
    """A SparkContext of ``engine``, as the bench wants it."""
    if engine == "pyspark":
        os.environ["PYSPARK_PYTHON"] = sys.executable
        from pyspark import SparkConf, SparkContext

        conf = SparkConf().setMaster(f"local[{cores}]").setAppName("bench").set("spark.ui.enabled", "false")
        conf.set("spark.driver.memory", "6g").set("spark.ui.showConsoleProgress", "false")
        conf.set("spark.driver.bindAddress", "127.0.0.1").set("spark.driver.host", "127.0.0.1")
        sc = SparkContext(conf=conf)
        sc.setLogLevel("ERROR")
        return sc
    import asparkle

    conf = asparkle.SparkConf().setMaster(MASTERS[engine].format(cores)).setAppName("bench")
    return asparkle.SparkContext(conf=conf)


@contextmanager
def session(engine: str, cores: int) -> Iterator[dict[str, Prepare]]:
    sc = context(engine, cores)
    try:
        sc.parallelize(range(100), cores).map(square).sum()
        yield workloads(sc)
    finally:
        sc.stop()


def workloads(sc: Any) -> dict[str, Prepare]:
    def small_job():
        return lambda: sum(sc.parallelize(range(14), 2).map(square).collect())

    def tasks():
        return lambda: sc.parallelize(range(2000), 2000).map(lambda x: x).count()

    def cpu_primes():
        return lambda: sc.parallelize(PRIMES, 8).map(candidate).filter(is_prime).count()

    def filter_uncached():
        transformed = sc.parallelize(floats(), 4).map(transform)
        return lambda: sum(transformed.filter(lambda x, least=least: x >= least).count() for least in THRESHOLDS)

    def filter_cached():
        big = sc.parallelize(floats(), 4)

        def run() -> int:
            transformed = big.map(transform).cache()
            return sum(transformed.filter(lambda x, least=least: x >= least).count() for least in THRESHOLDS)

        return run

    def wordcount():
        path = text_file()

        def run() -> int:
            pairs = sc.textFile(path, 4).flatMap(lambda line: line.split()).map(lambda word: (word, 1))
            return pairs.reduceByKey(operator.add, 4).takeOrdered(5, key=lambda kv: -kv[1])[0][1]

        return run

    def sort():
        base = sc.parallelize(integers(), 4)

        def run() -> int:
            least = base.map(lambda x: (x, 1)).sortByKey(numPartitions=4).keys().take(1)[0]
            return least + base.sortBy(lambda x: x, numPartitions=4).count()

        return run

    def join():
        many = sc.parallelize(integers(), 4).map(lambda x: (x % 200_000, x))
        few = sc.parallelize(range(200_000), 4).map(lambda x: (x, x))
        return lambda: many.join(few, 4).count()

    def group_by_key():
        pairs = sc.parallelize(integers(), 4).map(lambda x: (x % 1000, x))
        return lambda: pairs.groupByKey(4).mapValues(len).map(lambda kv: kv[1]).sum()

    def distinct():
        base = sc.parallelize(integers(), 4)
        return lambda: base.map(lambda x: x % 100_000).distinct(4).count()

    def shuffle_numpy():
        arrays = sc.parallelize(range(64), 8).map(lambda i: (i % 16, array(i)))
        return lambda: arrays.partitionBy(4).map(lambda kv: float(kv[1][0])).sum()

    return {
        "small_job": small_job,
        "2000_tasks": tasks,
        "cpu_primes": cpu_primes,
        "filter_uncached": filter_uncached,
        "filter_cached": filter_cached,
        "wordcount": wordcount,
        "sort": sort,
        "join": join,
        "group_by_key": group_by_key,
        "distinct": distinct,
        "shuffle_numpy": shuffle_numpy,
    }
