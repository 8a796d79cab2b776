"""A seed picks what it picks in PySpark: the values here are those of PySpark 4.3 on ``local[2]``."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.core.errors import ArgumentError, ArgumentTypeError, JobFailed
from asparkle.core.sampling import Split


async def test_samples_are_pysparks(sc):
    rdd = sc.parallelize(range(40), 3)
    assert await rdd.sample(False, 0.3, 7).collect() == [0, 2, 4, 9, 11, 12, 13, 19, 22, 28, 29, 32, 36, 39]
    replaced = [6, 14, 17, 19, 20, 21, 23, 23, 26, 29, 31, 32, 33, 35, 36, 36]
    assert await rdd.sample(True, 0.5, 7).collect() == replaced
    many = sc.parallelize(range(3), 2).sample(True, 25.0, 3)
    assert Counter(await many.collect()) == {0: 20, 1: 12, 2: 23}


async def test_samples_by_key_are_pysparks(sc):
    pairs = sc.parallelize(range(40), 3).map(lambda x: (x % 3, x))
    once = [1, 2, 5, 6, 8, 10, 11, 14, 16, 17, 20, 23, 25, 26, 28, 29, 30, 35, 37, 38]
    assert await pairs.sampleByKey(False, {0: 0.2, 1: 0.5, 2: 0.9}, 5).collect() == [(x % 3, x) for x in once]
    several = [0, 4, 7, 13, 16, 18, 19, 22, 24, 24, 25, 25, 28, 31, 31, 31, 37, 37]
    assert await pairs.sampleByKey(True, {0: 0.2, 1: 1.5, 2: 0}, 5).values().collect() == several


async def test_samples_of_a_size_are_pysparks(sc):
    rdd = sc.parallelize(range(40), 3)
    assert await rdd.takeSample(False, 6, 9) == [8, 27, 7, 22, 9, 14]
    assert await rdd.takeSample(True, 6, 9) == [23, 4, 21, 32, 7, 27]
    assert (await rdd.takeSample(False, 50, 9))[:8] == [25, 16, 34, 3, 35, 26, 24, 4]


async def test_splits_are_pysparks(sc):
    splits = sc.parallelize(range(40), 3).randomSplit([1, 2, 1], 11)
    first, second, third = [await split.collect() for split in splits]
    assert first == [0, 11, 12, 15, 18, 28, 33, 34, 35]
    assert third == [2, 10, 16, 17, 19, 37, 39]
    assert sorted(first + second + third) == list(range(40))


@given(
    st.lists(st.floats(0.01, 10), min_size=1, max_size=5),
    st.integers(0, 2**40),
    st.lists(st.integers(), max_size=50),
)
def test_each_element_is_in_one_split(weights, seed, elements):
    from asparkle.core.arguments import cumulated

    bounds = cumulated(weights, "randomSplit", "weights")
    bounds[-1] = max(bounds[-1], 1.0)  # rounding may leave a gap at the end, of some 1e-16
    parts = [list(Split(low, high, seed)(0, iter(enumerate(elements)))) for low, high in itertools.pairwise(bounds)]
    assert sorted(x for part in parts for x in part) == list(enumerate(elements))


async def test_what_is_no_weight_or_fraction(local):
    rdd = local.parallelize([(1, 1)])
    for weights in ([], [0, 0], [-1, 2], [float("inf")]):
        with pytest.raises(ArgumentError):
            rdd.randomSplit(weights)
    for weights in (["a"], 3, [True]):
        with pytest.raises(ArgumentTypeError):
            rdd.randomSplit(weights)
    with pytest.raises(ArgumentError, match=r"fractions\['a'\] = -1"):
        rdd.sampleByKey(False, {"a": -1})
    with pytest.raises(ArgumentTypeError, match="expected a dict"):
        rdd.sampleByKey(False, 0.5)
    with pytest.raises(ArgumentError, match="at most"):
        await rdd.takeSample(True, 2**63)


async def test_a_key_without_a_fraction_is_named(sc):
    with pytest.raises(JobFailed, match="no fraction for the key 'b'"):
        await sc.parallelize([("a", 1), ("b", 1)]).sampleByKey(False, {"a": 0.5}).collect()
