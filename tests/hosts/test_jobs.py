"""Whole jobs on hosts that share no files: the same results as anywhere, and nothing is left on any host."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Iterator
from operator import add

import pytest
from apart import ApartCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_until

from asparkle import AccumulatorParam, SparkContext
from hosts.contexts import MB, context, driver_files, here, on_disk

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[SparkContext, ApartCluster]]:
    """For tests that hurt nobody."""
    with context("apart://2x2", asparkle_result_direct_max="10k") as running:
        yield running


# ------------------------------------------------------------------------------ what travels between hosts


def test_results_of_any_size(shared):
    sc, cluster = shared
    for size in (10, 9_000, 11_000, 5 * MB):
        data = sc.parallelize(range(6), 6).map(lambda i: bytes([i]) * size).collect()
        assert data == [bytes([i]) * size for i in range(6)]
    assert on_disk(cluster) == [] and driver_files(cluster, "results") == []


def test_updates_of_accumulators_of_any_size(shared):
    sc, cluster = shared

    class Lists(AccumulatorParam):
        def zero(self, value):
            return []

        def addInPlace(self, a, b):
            return a + b

    seen = sc.accumulator([], Lists())
    data = sc.parallelize(range(8), 8).map(lambda i: (seen.add([bytes([i]) * 100_000]), bytes(50_000))[1]).collect()
    assert data == [bytes(50_000)] * 8
    assert sorted(seen.value) == [bytes([i]) * 100_000 for i in range(8)]
    assert on_disk(cluster) == [] and driver_files(cluster, "results") == []


def test_collections_of_the_driver(shared):
    sc, _ = shared
    data = [os.urandom(100_000) for _ in range(80)]
    assert sc.parallelize(data, 8).map(len).sum() == 8_000_000
    assert sc.parallelize(data, 3).collect() == data


def test_arrays_that_are_fetched_are_the_tasks_own(shared):
    numpy = pytest.importorskip("numpy")
    sc, _ = shared
    array = numpy.arange(1_000_000)
    rdd = sc.parallelize([array, array + 1], 2)

    def change(a):
        a += 1
        return int(a.sum())

    for _ in range(2):
        assert rdd.map(change).collect() == [int(array.sum()) + 1_000_000, int(array.sum()) + 2_000_000]


def test_functions_that_hold_much(shared):
    """Their binary is fetched once for each host, made anew for each task, and goes with the stage."""
    sc, cluster = shared
    model = {"counts": list(range(200_000)), "calls": 0}

    def use(i):
        model["calls"] += 1
        return model["calls"], len(model["counts"]), here()

    found = sc.parallelize(range(12), 12).map(use).collect()
    assert {(calls, size) for calls, size, _ in found} == {(1, 200_000)}
    del found, use
    gc.collect()
    sc.parallelize([1], 1).count()
    wait_until(lambda: sc.parallelize(range(8), 8).count() and on_disk(cluster) == [])


def test_broadcasts(shared):
    """Are fetched once for each host, dropped and fetched again, and destroyed."""
    sc, cluster = shared
    value = sc.broadcast([os.urandom(1000) for _ in range(3000)])
    wanted = value.value[7]
    rdd = sc.parallelize(range(16), 16)
    assert set(rdd.map(lambda _: (time.sleep(0.01), value.value[7])[1]).collect()) == {wanted}
    assert sorted(map(os.path.basename, on_disk(cluster))) == ["broadcast-0"] * len(cluster.hosts)
    value.unpersist()
    wait_until(lambda: on_disk(cluster) == [])
    assert set(rdd.map(lambda _: value.value[7]).collect()) == {wanted}
    value.destroy()
    wait_until(lambda: on_disk(cluster) == [])


def test_shuffles_leave_nothing(shared):
    sc, cluster = shared
    pairs = sc.parallelize(range(20_000), 6).map(lambda i: (i % 7, os.urandom(100)))
    grouped = pairs.groupByKey(5).mapValues(len)
    assert dict(grouped.collect()) == {k: len(range(k, 20_000, 7)) for k in range(7)}
    assert any("shuffle-" in path for path in on_disk(cluster))
    del pairs, grouped
    gc.collect()
    wait_until(lambda: on_disk(cluster) == [])


@settings(max_examples=25, deadline=None)
@given(
    data=st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=3000)), max_size=60),
    parts=st.integers(1, 5),
    reducers=st.integers(1, 4),
)
def test_programs_give_what_python_does(shared, data, parts, reducers):
    sc, _ = shared
    rdd = sc.parallelize(data, parts)
    groups: dict[int, list[bytes]] = {}
    for key, value in data:
        groups.setdefault(key, []).append(value)
    assert {k: list(v) for k, v in rdd.groupByKey(reducers).collect()} == groups
    sums = {k: sum(map(len, v)) for k, v in groups.items()}
    assert dict(rdd.mapValues(len).reduceByKey(add, reducers).collect()) == sums
    assert rdd.sortBy(lambda pair: pair[1], numPartitions=reducers).values().collect() == sorted(v for _, v in data)
    joined = rdd.join(rdd.mapValues(len), reducers).count()
    assert joined == sum(len(v) ** 2 for v in groups.values())
    assert Counter(rdd.repartition(reducers).collect()) == Counter(data)
