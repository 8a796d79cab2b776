"""Presorting for range partitions gives each reducer what bucketing record by record gives it, sorted."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.core.errors import UserFunctionError
from asparkle.core.partitioner import RangePartitioner
from asparkle.core.shuffle import SpillSpace, read_reduce_partition, records_of, write_map_output


def pieces(records: list[Any], partitioner: RangePartitioner, presort: bool, limit: int = 1 << 20) -> list[list[Any]]:
    with SpillSpace([], limit) as space:
        info = write_map_output(
            records, partitioner=partitioner, path="/nowhere/1", space=space, presort=presort, inline_limit=1 << 30
        )
        return [list(records_of(read_reduce_partition(info, r))) for r in range(partitioner.numPartitions)]


@given(
    st.lists(st.tuples(st.integers(-20, 20), st.integers())),
    st.lists(st.integers(-20, 20), unique=True).map(sorted),
    st.booleans(),
    st.sampled_from([None, lambda k: -k]),
    st.integers(0, 2),
)
def test_each_reducer_gets_the_same_records_stably_sorted(records, bounds, ascending, key, more):
    if key is not None:
        bounds = sorted(map(key, bounds))
    partitioner = RangePartitioner(bounds, ascending, key, len(bounds) + 1 + more)
    order = itemgetter(0) if key is None else lambda kv: key(kv[0])
    expected = [sorted(p, key=order, reverse=not ascending) for p in pieces(records, partitioner, False)]
    assert pieces(records, partitioner, True) == expected


def test_a_record_that_is_not_a_pair_is_named():
    with pytest.raises(UserFunctionError, match="'abc'"):
        pieces([(1, 2), "abc"], RangePartitioner([1]), True)


def test_keys_that_can_not_be_compared_are_pythons_own_error():
    with pytest.raises(TypeError, match="not supported between"):
        pieces([(1, 2), ("a", 2)], RangePartitioner([1]), True)


def test_what_does_not_fit_is_flushed_in_sorted_parts(tmp_path: Path):
    records = [(i * 7919 % 10_007, str(i) * 10) for i in range(10_007)]
    partitioner = RangePartitioner([3000, 6000])
    with SpillSpace([str(tmp_path)], 200_000) as space:
        info = write_map_output(records, partitioner=partitioner, path=str(tmp_path / "o"), space=space, presort=True)
        found = [list(records_of(read_reduce_partition(info, r))) for r in range(3)]
    assert [sorted(p) for p in found] == [
        sorted(r for r in records if r[0] <= 3000),
        sorted(r for r in records if 3000 < r[0] <= 6000),
        sorted(r for r in records if r[0] > 6000),
    ]
