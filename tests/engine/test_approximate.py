"""Estimates: exact when all is there, bounded when something is missing, close when they are sketches."""

from __future__ import annotations

import pickle
import statistics
import time
from math import inf, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.aio import SparkContext
from asparkle.core.approximate import BoundedFloat, student_quantile
from asparkle.core.errors import ArgumentError, ArgumentTypeError
from asparkle.core.hyperloglog import HyperLogLog


async def test_what_is_done_in_time_is_exact(sc):
    rdd = sc.parallelize(range(1000), 10)
    assert await rdd.countApprox(60_000) == 1000
    for estimate, exact in (await rdd.sumApprox(60_000), 499_500), (await rdd.meanApprox(60_000), 499.5):
        assert (estimate, estimate.low, estimate.high, estimate.confidence) == (exact, exact, exact, 1.0)
    assert await sc.emptyRDD().countApprox(60_000) == 0


def sleep_in_last(partition, elements):
    if partition == 9:
        time.sleep(60)
    return elements


async def test_what_is_missing_is_estimated_and_its_job_cancelled():
    async with SparkContext("processes[2]") as sc:
        rdd = sc.parallelize(range(1000), 10).mapPartitionsWithIndex(sleep_in_last)
        for timeout in (1000, 4000, 16_000, 64_000):  # a busy machine may need more to have nine of ten partitions
            total = await rdd.sumApprox(timeout)
            mean = await rdd.meanApprox(timeout)
            if mean == 449.5 and total == 449_500:
                break
        assert total.confidence == 0.95
        assert total.low < 404_550 < total < 499_500 < total.high
        assert mean == 449.5
        assert mean.high - mean.low == pytest.approx(2 * 1.96 * sqrt((900**2 - 1) / 12 / 900), rel=1e-3)
        nothing = await sc.parallelize([1], 1).map(lambda x: time.sleep(60)).sumApprox(200)
        assert (nothing, nothing.low, nothing.high) == (0, -inf, inf)
        assert await sc.parallelize(range(4)).sum() == 6


@pytest.mark.parametrize("operation", ["countApprox", "sumApprox", "meanApprox"])
async def test_arguments_are_checked(local, operation):
    estimate = getattr(local.parallelize([1]), operation)
    with pytest.raises(ArgumentError, match=f"{operation}: confidence = 2: expected a number from 0 to 1"):
        await estimate(1000, 2)
    with pytest.raises(ArgumentTypeError, match=f"{operation}: confidence = 'y' of type str"):
        await estimate(1000, "y")
    with pytest.raises(ArgumentTypeError, match=f"{operation}: timeout = 'x' of type str: expected a whole number"):
        await estimate("x")
    with pytest.raises(ArgumentError, match=f"{operation}: timeout = -1"):
        await estimate(-1)


def test_a_bounded_float_is_a_float_with_bounds():
    value = BoundedFloat(1.5, 0.9, 1.0, 2.0)
    assert value + 1 == 2.5
    for same in (value, pickle.loads(pickle.dumps(value))):
        assert (same, same.confidence, same.low, same.high) == (1.5, 0.9, 1.0, 2.0)


@pytest.mark.parametrize(
    ("p", "n", "expected"),
    [  # from scipy.stats.t.ppf
        (0.975, 1, 12.706205),
        (0.975, 2, 4.302653),
        (0.975, 3, 3.182446),
        (0.9, 4, 1.533206),
        (0.995, 10, 3.169273),
        (0.6, 30, 0.255605),
        (0.5, 7, 0.0),
    ],
)
def test_students_quantiles(p, n, expected):
    assert student_quantile(p, n) == pytest.approx(expected, rel=1e-5)


# ------------------------------------------------------------------------------------- how many different ones


def sketch(elements, error=0.05):
    made = HyperLogLog.within(error)
    made.add(elements)
    return made


@pytest.mark.parametrize("count", [0, 1, 10, 200, 1300, 20_000])
@pytest.mark.parametrize("error", [0.2, 0.05, 0.01])
def test_the_error_is_within_bounds(count, error):
    off = [(sketch(range(i * count, (i + 1) * count), error).estimate() - count) / max(1, count) for i in range(6)]
    assert statistics.mean(off) == pytest.approx(0, abs=2 * error)
    assert statistics.pstdev(off) < 1.6 * error


@given(st.lists(st.one_of(st.integers(), st.text(), st.tuples(st.integers(), st.text()))), st.lists(st.integers()))
def test_sketches_of_parts_make_the_sketch_of_all(first, second):
    merged = sketch(first)
    merged.merge(bytes(sketch(second).registers))
    assert merged.registers == sketch(first + second + first).registers


async def test_count_approx_distinct(sc):
    rdd = sc.parallelize(range(20_000), 4).map(lambda x: str(x % 5000))
    assert await rdd.countApproxDistinct() == pytest.approx(5000, rel=0.15)
    assert await rdd.countApproxDistinct(0.01) == pytest.approx(5000, rel=0.03)
    for wrong in (0.000017, 0, -1, 1, float("nan")):
        with pytest.raises(ArgumentError, match="relativeSD"):
            await rdd.countApproxDistinct(wrong)
    with pytest.raises(ArgumentTypeError, match="countApproxDistinct: relativeSD = 'x' of type str"):
        await rdd.countApproxDistinct("x")
