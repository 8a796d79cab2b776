"""The backend as it is installed: found by its entry point, with real workers."""

from __future__ import annotations

import os
import signal
from importlib.metadata import entry_points

import asparkle_nice
import pytest

from asparkle import SparkContext
from asparkle.errors import ConfigurationError
from asparkle.testing import ExecutorBackendConformance


def test_its_entry_point_is_found():
    (entry,) = entry_points(group="asparkle", name="nice")
    assert entry.load() is asparkle_nice


def test_workers_are_as_nice_as_the_url_says():
    with SparkContext("nice://2/19", "nice") as sc:
        assert sc.defaultParallelism == 2
        assert sc.parallelize(range(4), 4).map(lambda x: os.nice(0)).distinct().collect() == [19]


def test_jobs_of_the_tutorial():
    with SparkContext("nice://2", "tutorial") as sc:
        lines = sc.parallelize(["to be or not to be", "that is the question"], 2)
        words = lines.flatMap(str.split).cache()
        assert words.count() == 10
        counts = words.map(lambda word: (word, 1)).reduceByKey(lambda a, b: a + b)
        assert sorted(counts.filter(lambda pair: pair[1] > 1).collect()) == [("be", 2), ("to", 2)]
        total, weights = sc.accumulator(0), sc.broadcast({"be": 3})
        words.foreach(lambda word: total.add(weights.value.get(word, 1)))
        assert total.value == 14
        assert words.map(lambda word: (len(word), word)).sortByKey().values().first() == "to"


def test_a_worker_that_is_killed_is_replaced():
    def pid(x: int) -> int:
        return os.getpid()

    with SparkContext("nice://2", "killed") as sc:
        pairs = sc.parallelize(range(1000), 4).map(lambda x: (x % 10, x)).reduceByKey(lambda a, b: a + b).cache()
        before = pairs.collect()
        victim = sc.parallelize(range(2), 2).map(pid).first()
        os.kill(victim, signal.SIGKILL)
        assert sorted(pairs.collect()) == sorted(before)
        assert victim not in sc.parallelize(range(20), 20).map(pid).collect()


@pytest.mark.parametrize("url", ["nice://", "nice://0", "nice://two", "nice://2/20", "nice://2/-5"])
def test_other_urls_are_refused(url):
    with pytest.raises(ConfigurationError, match=f"master = '{url}': expected nice://N or nice://N/LEVEL"):
        SparkContext(url, "refused")


class TestPromises(ExecutorBackendConformance):
    master = "nice://2"
    bad_masters = ("nice://", "nice://many", "nice://2/20")

    def make(self):
        return asparkle_nice.NiceManager()
