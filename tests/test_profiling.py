"""Profiles of tasks: of all stages, on every backend, with Python's profiler or another."""

from __future__ import annotations

import os
import pstats

import pytest
from masters import MASTERS

from asparkle import BasicProfiler, JobFailed, SparkConf, SparkContext
from asparkle.core.errors import ContextError


def profiled(master: str, **more: str) -> SparkConf:
    conf = SparkConf().setMaster(master).set("spark.python.profile", "true")
    return conf.setAll([(key.replace("_", "."), value) for key, value in more.items()])


def slow_square(x):
    return sum(x for _ in range(x))


def key_of(x):
    return x % 2, x


@pytest.mark.parametrize("master", MASTERS)
def test_each_stages_functions_are_in_the_profile_of_its_last_rdd(master, capsys):
    with SparkContext(conf=profiled(master)) as sc:
        squares = sc.parallelize(range(10), 2).map(slow_square)
        assert squares.sum() == 285
        keyed = squares.map(key_of)
        assert keyed.reduceByKey(max).collectAsMap() == {0: 64, 1: 81}
        profiles = dict(sc._context._profilers._profilers)
        calls = {rdd: _calls(profiler.stats()) for rdd, profiler in profiles.items()}
        assert calls[squares.id()]["slow_square"] == 10
        assert calls[keyed.id()]["slow_square"] == calls[keyed.id()]["key_of"] == 10  # the map side of the shuffle
        sc.show_profiles()
        printed = capsys.readouterr().out
        assert f"Profile of RDD<id={squares.id()}>" in printed and "slow_square" in printed
        sc.show_profiles()
        assert capsys.readouterr().out == ""
        assert squares.count() == 10
        assert _calls(profiles[squares.id()].stats())["slow_square"] == 20
    assert capsys.readouterr().out == ""


def _calls(stats: pstats.Stats) -> dict[str, int]:
    return {name: calls for (_, _, name), (_, calls, *_) in stats.stats.items()}


def test_what_nobody_has_seen_is_shown_or_written_in_the_end(tmp_path, capsys):
    with SparkContext(conf=profiled("inline")) as sc:
        rdd = sc.parallelize(range(3), 1).map(slow_square)
        rdd.count()
    assert f"Profile of RDD<id={rdd.id()}>" in capsys.readouterr().out
    with SparkContext(conf=profiled("inline", spark_python_profile_dump=str(tmp_path / "profiles"))) as sc:
        rdd = sc.parallelize(range(3), 1).map(slow_square)
        rdd.count()
    assert os.listdir(tmp_path / "profiles") == [f"rdd_{rdd.id()}.pstats"]
    assert _calls(pstats.Stats(str(tmp_path / "profiles" / f"rdd_{rdd.id()}.pstats")))["slow_square"] == 3
    assert capsys.readouterr().out == ""


def test_profiles_are_written_once(tmp_path):
    with SparkContext(conf=profiled("inline")) as sc:
        sc.parallelize([1], 1).count()
        sc.dump_profiles(str(tmp_path / "first"))
        sc.dump_profiles(str(tmp_path / "second"))
    assert len(os.listdir(tmp_path / "first")) == 1
    assert not (tmp_path / "second").exists()


class Counting(BasicProfiler):
    """Shows how many tasks there were."""

    def __init__(self, ctx):
        super().__init__(ctx)
        self.tasks = ctx.accumulator(0)

    def profile(self, func, *args, **kwargs):
        self.tasks.add(1)
        return func(*args, **kwargs)

    def show(self, id):
        print(f"{self.tasks.value} tasks")


@pytest.mark.parametrize("master", MASTERS)
def test_a_profiler_of_ones_own(master, capsys):
    with SparkContext(conf=profiled(master), profiler_cls=Counting) as sc:
        sc.parallelize(range(10), 5).count()
        sc.show_profiles()
    assert capsys.readouterr().out == "5 tasks\n"


def test_a_failing_task_fails_as_ever():
    with SparkContext(conf=profiled("threads[2]")) as sc:
        with pytest.raises(JobFailed, match="ZeroDivisionError"):
            sc.parallelize([0], 1).map(lambda x: 1 / x).collect()


def test_without_the_setting_nothing_is_profiled():
    with SparkContext("inline") as sc, pytest.raises(ContextError, match=r"spark\.python\.profile"):
        sc.show_profiles()
