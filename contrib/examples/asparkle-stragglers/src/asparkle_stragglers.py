"""The listener ``stragglers``: when a stage is complete, it logs the tasks that took much longer than the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

from asparkle.conf import SparkConf
from asparkle.events import Event, StageCompleted, TaskEnded
from asparkle.plugins import ConfigKey, Listener, hookimpl, log

FACTOR = ConfigKey(
    "asparkle.stragglers.factor",
    type="float",
    expected="a number, such as 2.5",
    parse=float,
    default="3",
    doc="How many times the stage's median a task must have taken to be named.",
)


class Stragglers(Listener):
    """``factor``: how many times the stage's median a task must have taken to be named."""

    name = "stragglers"
    events = (TaskEnded, StageCompleted)

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self._ended: defaultdict[int, list[TaskEnded]] = defaultdict(list)  # by stage

    def on_event(self, event: Event) -> None:  # in a thread of its own: it may take its time, and block
        if isinstance(event, TaskEnded) and event.outcome == "success":
            self._ended[event.stage].append(event)
        elif isinstance(event, StageCompleted):
            self._tell(event, self._ended.pop(event.stage, []))

    def _tell(self, stage: StageCompleted, tasks: list[TaskEnded]) -> None:
        usual = median(task.seconds for task in tasks) if tasks else 0.0
        for task in tasks:
            if task.seconds > self.factor * usual:
                log().warning(
                    "a task took much longer than others of its stage",
                    stage=stage.stage,
                    name=stage.name,
                    partition=task.partition,
                    executor=task.executor,
                    seconds=task.seconds,
                    usual=usual,
                )


@hookimpl
def asparkle_listeners(conf: SparkConf) -> Sequence[Listener]:
    return [Stragglers(FACTOR.read(conf))]


@hookimpl
def asparkle_configuration() -> Sequence[ConfigKey[Any]]:
    return [FACTOR]
