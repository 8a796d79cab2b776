"""The policy as it is installed: found by its entry point, in workers."""

from __future__ import annotations

from importlib.metadata import entry_points

import asparkle_mru
import pytest
from asparkle_mru import MRU

from asparkle import SparkConf, SparkContext
from asparkle.testing import CachePolicyConformance, sample_app


def test_its_entry_point_is_found():
    (entry,) = entry_points(group="asparkle", name="mru")
    assert entry.load() is asparkle_mru


def test_what_was_used_last_goes_first():
    policy = MRU(sample_app())
    for block in [(1, 0), (2, 0), (3, 0), (1, 0)]:
        policy.touch(block)
    policy.forget((3, 0))
    assert list(policy.victims()) == [(1, 0), (2, 0)]


@pytest.mark.parametrize(("policy", "computed"), [("lru", 9), ("mru", 6)])
def test_scans_over_more_than_the_cache_holds(policy, computed):
    """Three RDDs, room for two, read in one order three times: LRU never has the next one."""
    conf = SparkConf().set("asparkle.cache.policy", policy).set("spark.memory.fraction", "1")
    conf.set("spark.executor.memory", "5m")
    with SparkContext("processes[1]", "scans", conf=conf) as sc:
        count = sc.accumulator(0)

        def block(x: int) -> bytes:
            count.add(1)
            return bytes(2_000_000)

        rdds = [sc.parallelize([0], 1).map(block).cache() for _ in range(3)]
        for _ in range(3):
            for rdd in rdds:
                assert rdd.map(len).sum() == 2_000_000
        assert count.value == computed


class TestPromises(CachePolicyConformance):
    def make(self, app):
        return MRU(app)
