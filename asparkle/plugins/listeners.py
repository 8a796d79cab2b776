"""Listeners that come with asparkle."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

from asparkle.conf import SparkConf
from asparkle.events import LogWritten
from asparkle.plugins import Listener, hookimpl, log

E = TypeVar("E")


class EventRecorder(Listener):
    """Keeps every event in a list: for tests, and for a look at what a job does.

    ``SparkContext(plugins=[recorder := EventRecorder()])``; complete once the context has stopped.
    """

    def __init__(self, *events: type) -> None:
        self.events = events
        self.recorded: list[Any] = []

    async def on_event(self, event: Any) -> None:
        self.recorded.append(event)

    def of_type(self, event_type: type[E]) -> list[E]:
        """The recorded events of one type, subclasses included, in order."""
        return [event for event in self.recorded if isinstance(event, event_type)]


class LogListener(Listener):
    """Logs every event at level info, through asparkle's logger: its type, and its fields by name.  What was logged
    already (`LogWritten`) is not logged again.

    Activated by name: ``asparkle.plugins = log``.
    """

    name = "log"

    def on_event(self, event: Any) -> None:  # in a thread: the host's log handlers may block
        if not isinstance(event, LogWritten):
            names = [field.name for field in dataclasses.fields(event)]
            log().info(type(event).__name__, **{name: getattr(event, name) for name in names})


@hookimpl
def asparkle_listeners(conf: SparkConf) -> Sequence[Listener]:
    return [LogListener()]
