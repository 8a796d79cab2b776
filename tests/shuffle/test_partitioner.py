"""Partitioners: PySpark's rules."""

from __future__ import annotations

import bisect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.core.errors import ArgumentError, KeyHashError, UserFunctionError
from asparkle.core.partitioner import Partitioner, RangePartitioner, bounds_from_samples


def test_hash_partitioning_is_the_default():
    assert [Partitioner(3)(k) for k in (0, 1, 2, 3, -1, None)] == [0, 1, 2, 0, hash(-1) % 3, 0]


@pytest.mark.parametrize("result", [-7, 10**30, True, 5])
def test_any_int_of_the_users_function_is_taken_modulo(result):
    assert Partitioner(4, lambda k: result)("key") == result % 4


def test_an_int_of_numpy_is_an_int():
    np = pytest.importorskip("numpy")
    assert Partitioner(4, lambda k: np.int64(-1)).partitions([1, 2]) == [3, 3]


@pytest.mark.parametrize("result", [1.0, None, "1"])
def test_anything_else_is_an_error_that_names_function_key_and_result(result):
    def by_name(key):
        return result

    with pytest.raises(UserFunctionError) as raised:
        Partitioner(4, by_name)("some key")
    assert all(part in str(raised.value) for part in ("by_name", "some key", repr(result)))


def test_errors_of_the_users_function_pass_through():
    with pytest.raises(ZeroDivisionError):
        Partitioner(4, lambda k: 1 // 0)(1)


def test_bad_keys_are_errors_even_with_one_partition():
    with pytest.raises(KeyHashError):
        Partitioner(1)([])


@pytest.mark.parametrize("n", [0, -1])
def test_at_least_one_partition(n):
    with pytest.raises(ArgumentError):
        Partitioner(n)


def test_equality_is_that_of_number_and_function():
    f = lambda k: 0
    assert Partitioner(3) == Partitioner(3) != Partitioner(4)
    assert Partitioner(3, f) == Partitioner(3, f) != Partitioner(3)
    assert hash(Partitioner(3, f)) == hash(Partitioner(3, f))
    assert RangePartitioner([1, 2]) == RangePartitioner([1, 2]) != RangePartitioner([1, 3])
    assert RangePartitioner([1, 2]) != RangePartitioner([1, 2], ascending=False)
    assert Partitioner(3) != RangePartitioner([1, 2]) != Partitioner(3)


@pytest.mark.parametrize("partitioner", [Partitioner(3), RangePartitioner([1, 5], False, abs)])
def test_partitioners_survive_pickling(partitioner):
    copy = pickle.loads(pickle.dumps(partitioner))
    assert copy == partitioner and copy.partitions([1, 3, 9]) == partitioner.partitions([1, 3, 9])


def pyspark_range(k, bounds, ascending, keyfunc, n):
    p = bisect.bisect_left(bounds, keyfunc(k))
    return p if ascending else n - 1 - p


@given(st.lists(st.integers(-50, 50)), st.integers(1, 9), st.booleans(), st.lists(st.integers(-60, 60)))
def test_range_partitioning_is_that_of_sortbykey(samples, n, ascending, keys):
    bounds = bounds_from_samples(samples, n, abs)
    partitioner = RangePartitioner(bounds, ascending, abs, n)
    ordered = sorted(samples, key=abs)
    if samples:
        assert bounds == [abs(ordered[int(len(ordered) * (i + 1) / n)]) for i in range(n - 1)]
    assert partitioner.partitions(keys) == [pyspark_range(k, bounds, ascending, abs, n) for k in keys]
    assert all(0 <= p < n for p in partitioner.partitions(keys))
    assert (
        [partitioner(k) for k in keys] == [partitioner.partitionFunc(k) for k in keys] == partitioner.partitions(keys)
    )


def test_more_bounds_than_partitions_are_an_error():
    with pytest.raises(ArgumentError):
        RangePartitioner([1, 2, 3], num_partitions=3)
