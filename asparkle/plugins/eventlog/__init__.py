"""Spark's event log: what an application did, in the files that Spark's History Server shows.

`sparkjson` makes Spark's JSON of asparkle's events; `files` says which files that goes into, and how they are
compressed.  The listener puts the two together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from asparkle.conf import SparkConf
from asparkle.events import BlockUpdated, TaskEnded, TaskStarted
from asparkle.plugins import KEYS, Listener, hookimpl, log
from asparkle.plugins.eventlog.files import LogFiles, log_files
from asparkle.plugins.eventlog.sparkjson import Translation

FLUSH_INTERVAL: Final = 1.0  # seconds
_MANY = (TaskStarted, TaskEnded, BlockUpdated)  # not worth a flush each


class EventLogListener(Listener):
    """Writes an application's events to ``files``.

    What a job, a stage or an executor brings about is on disk at once, what tasks bring about a second later, at the
    next event: so a driver that is killed leaves a log that can be read.  When a file can't be written, that is
    logged, once, and nothing more is written: what has a hole in it would tell wrong numbers.
    """

    name = "eventlog"

    def __init__(self, files: LogFiles, *, block_updates: bool = False) -> None:
        self._files = files
        self._translation = Translation(block_updates=block_updates)
        self._flush_at = 0.0
        self._broken = False

    def on_event(self, event: Any) -> None:
        if self._broken:
            return
        try:
            self._write(event)
        except OSError as error:
            self._give_up(error)

    def _write(self, event: Any) -> None:
        lines = self._translation.lines(event)
        if not self._files.opened:
            if not lines:
                return  # nobody knows yet which application it is
            self._files.open(self._translation.application)
        for line in lines:
            self._files.write(line)
        now = time.monotonic()
        if now >= self._flush_at or not isinstance(event, _MANY):
            self._files.flush()
            self._flush_at = now + FLUSH_INTERVAL

    def close(self) -> None:
        if self._files.opened and not self._broken:
            try:
                self._files.finish()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._broken = True
        self._files.abandon()
        then = "it is not written any further"
        log().error("the event log can't be written", path=self._files.path, error=str(error), then=then)


@hookimpl
def asparkle_listeners(conf: SparkConf) -> Sequence[Listener]:
    """Raises ConfigurationError for a directory that is not there, MissingDependency for a codec that is not."""
    return [EventLogListener(log_files(conf), block_updates=KEYS["spark.eventLog.logBlockUpdates.enabled"].read(conf))]
