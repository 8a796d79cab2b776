"""What nobody wants to know costs nothing: no event is made, nothing is measured, where there is no listener."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from asparkle import JobFailed, SparkContext
from asparkle.core import driver, protocol
from asparkle.core.events import PARTS, event_types
from asparkle.plugins.listeners import EventRecorder

pytestmark = pytest.mark.parametrize("master", ["inline", "threads[2]", "processes[2]"])
REPORTS = (protocol.Succeeded, protocol.Failed)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many events, and parts of them, have been made, by type; and how many reports of attempts had metrics."""
    counted: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **keywords: Any) -> Any:
            counted[name] += 1
            return function(*arguments, **keywords)

        return wrapper

    def looking(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(self: object, executor: object, report: Any) -> Any:
            counted["reports"] += 1
            counted["metrics"] += report.metrics is not None
            return function(self, executor, report)

        return wrapper

    for name, kind in {**event_types(), **{kind.__name__: kind for kind in PARTS.values()}}.items():
        monkeypatch.setattr(kind, "__init__", counting(name, kind.__init__))
    for report in REPORTS:
        monkeypatch.setitem(driver._REPORTS, report, looking(driver._REPORTS[report]))
    return counted


def use(sc: SparkContext) -> None:
    """Everything that there are events of: jobs, stages, tasks that fail, blocks, broadcasts, accumulators."""
    total, word = sc.accumulator(0), sc.broadcast("word")
    pairs = sc.parallelize(range(20), 4).map(lambda x: (x % 3, word.value)).cache()
    assert pairs.reduceByKey(lambda a, b: a + b).count() == 3
    assert pairs.groupByKey().count() == 3
    pairs.foreach(lambda pair: total.add(1))
    pairs.unpersist(blocking=True)
    word.destroy(blocking=True)
    with pytest.raises(JobFailed):
        sc.parallelize([0], 1).map(lambda x: 1 / x).collect()


def test_without_a_listener_no_event_is_made_and_nothing_is_measured(master, made):
    with SparkContext(master) as sc:
        use(sc)
    assert made.pop("reports") > 16
    assert +made == Counter()


def test_with_one_there_are(master, made):
    with SparkContext(master, plugins=[EventRecorder()]) as sc:
        use(sc)
    assert made["metrics"] == made["reports"] > 16
    assert made["TaskEnded"] >= made["reports"]
    assert +made > Counter(("JobStarted", "StageSubmitted", "StageInfo", "BlockUpdated", "BroadcastRemoved"))
