"""Threads and job groups: what a thread inherits, and that it is its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from asparkle import InheritableThread, SparkConf, SparkContext, inheritable_thread_target
from asparkle.core.conf import system_properties


def test_what_a_thread_sets_is_its_own():
    with SparkContext("inline") as sc:
        sc.setJobGroup("outer", "of the main thread")
        seen = {}

        def work(name, *, group):
            seen[name, "before"] = sc.getLocalProperty("spark.jobGroup.id")
            sc.setJobGroup(group, "")
            sc.parallelize([1]).count()
            seen[name, "after"] = sc.getLocalProperty("spark.jobGroup.id")

        threads = [
            InheritableThread(target=work, args=("a",), kwargs={"group": "inner"}, name="mine"),
            threading.Thread(target=work, args=("b",), kwargs={"group": "inner"}),
        ]
        for thread in threads:
            thread.start()
            thread.join()
        assert threads[0].name == "mine"
        assert seen["a", "before"] == "outer"
        assert seen["a", "after"] == seen["b", "after"] == "inner"
        assert sc.getLocalProperty("spark.jobGroup.id") == "outer"


def test_a_function_for_a_pool_may_run_in_several_threads_at_once():
    with SparkContext("inline") as sc, ThreadPoolExecutor(4) as pool:
        sc.setLocalProperty("color", "green")
        together = threading.Barrier(4)

        @inheritable_thread_target
        def color(i):
            together.wait(30)
            mine = sc.getLocalProperty("color")
            sc.setLocalProperty("color", str(i))
            return mine, sc.getLocalProperty("color")

        sc.setLocalProperty("color", "red")
        assert list(pool.map(color, range(4))) == [("green", str(i)) for i in range(4)]


def test_system_properties_are_defaults_of_a_conf(monkeypatch):
    monkeypatch.setitem(system_properties, "spark.example.answer", "")  # and taken back in the end
    monkeypatch.setitem(system_properties, "other.answer", "")
    SparkContext.setSystemProperty("spark.example.answer", "42")
    SparkContext.setSystemProperty("other.answer", "43")
    assert SparkConf().get("spark.example.answer") == "42"
    assert SparkConf().get("other.answer") is None
    assert SparkConf(loadDefaults=False).get("spark.example.answer") is None
    assert SparkConf(loadDefaults=False).clone().get("spark.example.answer") is None
