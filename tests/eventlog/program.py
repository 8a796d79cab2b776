"""A program of many kinds of events, for asparkle and, unchanged, for PySpark."""

from __future__ import annotations

import threading
import time
from typing import Any

TEXT = ["a b", "b c", "c d", "a a"]
COUNTS = [("a", 3), ("b", 2), ("c", 2), ("d", 1)]


def bad(number: int) -> int:
    if number == 3:
        raise ValueError("three is no number")
    return number


def slow(number: int) -> None:
    time.sleep(60)


def run(sc: Any, directory: str) -> Any:
    """Returns an RDD that is still cached, while anybody holds it."""
    sc.setJobGroup("words", "counts words")
    words = sc.parallelize(TEXT, 2).flatMap(str.split).setName("words of the text").persist()
    counts = words.map(lambda word: (word, 1)).reduceByKey(lambda a, b: a + b, 2)
    assert sorted(counts.collect()) == COUNTS
    sc.setJobGroup("files", "writes and reads")
    counts.saveAsTextFile(f"{directory}/counts")
    assert sc.textFile(f"{directory}/counts").count() == 4
    sc.setJobGroup("others", "fails")
    try:
        sc.parallelize(range(4), 2).map(bad).collect()
    except Exception as error:
        assert "three is no number" in f"{error}{error.__cause__}"
    else:
        raise AssertionError("the job should have failed")
    sc.setJobGroup("others", "is cached, and forgotten")
    cached = sc.parallelize(range(10), 2).persist()
    cached.count()
    cached.unpersist(True)
    total = sc.accumulator(0)
    sc.parallelize(range(10), 2).foreach(lambda number: total.add(number))
    assert total.value == 45
    pairs = sc.parallelize([(2, "b"), (1, "a")], 2)
    assert pairs.join(pairs).sortByKey().keys().collect() == [1, 2]
    return words


def run_and_cancel(sc: Any) -> None:
    """A job whose two tasks run when it is cancelled."""
    seen: list[Exception] = []

    def collect() -> None:
        sc.setJobGroup("slow", "is cancelled", True)
        try:
            sc.parallelize(range(2), 2).foreach(slow)
        except Exception as error:
            seen.append(error)

    thread = threading.Thread(target=collect)
    thread.start()
    tracker = sc.statusTracker()
    while not any(info and info.numActiveTasks == 2 for info in map(tracker.getStageInfo, tracker.getActiveStageIds())):
        time.sleep(0.01)
    sc.cancelJobGroup("slow")
    thread.join()
    assert len(seen) == 1
