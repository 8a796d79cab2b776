"""Events that are made only where a listener wants them: what asparkle logs, and how far stages are.

    LogWritten      for each record of asparkle's own log, from any thread; see `logs`
    StageProgress   of each stage that has tasks to run, in turns of ``asparkle.events.progress.interval``, if anything
                    has changed since the last

The other events are the scheduler's and the driver's: these pass through here while somebody wants to know of progress,
since they say which stages run, and what their tasks have read.  No timer runs while no stage does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import anyio
from anyio.abc import TaskGroup

from asparkle.core.bus import Bus
from asparkle.core.events import LogWritten, StageCompleted, StageProgress, StageSubmitted, TaskEnded
from asparkle.core.logs import hear
from asparkle.core.scheduler import Scheduler
from asparkle.core.shown import shown


class WishedEvents:
    """One application's.  Used on the bus's event loop; ``interval`` is in seconds."""

    def __init__(self, bus: Bus, scheduler: Scheduler, tasks: TaskGroup, interval: float) -> None:
        self._bus = bus
        self._progress = ProgressEvents(bus, scheduler, tasks, interval)

    def update(self) -> Callable[[Any], None]:
        """Somebody has begun or ceased to listen.  Returns what all other events are to be given to."""
        hear(self._bus, self._hear if self._bus.wants(LogWritten) else None)
        if self._bus.wants(StageProgress):
            self._progress.begin()
            return self._progress.post
        self._progress.end()
        return self._bus.post

    def stop(self) -> None:
        hear(self._bus, None)
        self._progress.end()

    def _hear(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """In any thread."""
        texts = {name: value if isinstance(value, str) else shown(value) for name, value in fields.items()}
        self._bus.soon(self._bus.post, LogWritten(time.monotonic(), level, message, texts))


class ProgressEvents:
    def __init__(self, bus: Bus, scheduler: Scheduler, tasks: TaskGroup, interval: float) -> None:
        self._bus = bus
        self._scheduler = scheduler
        self._tasks = tasks
        self._interval = interval
        self._records: dict[int, int] = {}  # of each stage that has tasks to run: elements that these have read
        self._told: dict[int, tuple[int, ...]] = {}
        self._wanted = False
        self._reporting = False

    def begin(self) -> None:
        if not self._wanted:
            self._wanted = True
            for view in self._scheduler.stages():
                if view.state == "active":
                    self._stage_submitted(view.stage)

    def end(self) -> None:
        self._wanted = False
        self._records.clear()
        self._told.clear()

    def post(self, event: Any) -> None:
        kind = type(event)
        if kind is TaskEnded:
            if event.metrics is not None and event.outcome == "success" and event.stage in self._records:
                self._records[event.stage] += event.metrics.input_records + event.metrics.shuffle_read_records
        elif kind is StageSubmitted:
            self._stage_submitted(event.stage)
        elif kind is StageCompleted:
            self._records.pop(event.stage, None)
            self._told.pop(event.stage, None)
        self._bus.post(event)

    def _stage_submitted(self, stage: int) -> None:
        self._records[stage] = 0
        if not self._reporting:
            self._reporting = True
            self._tasks.start_soon(self._report)

    async def _report(self) -> None:
        """Ends with the last stage; the next one begins it anew."""
        while self._records:
            await anyio.sleep(self._interval)
            for stage in list(self._records):
                self._tell(stage)
        self._reporting = False

    def _tell(self, stage: int) -> None:
        view = self._scheduler.stage(stage)
        if view is None or stage not in self._records:
            return
        numbers = (view.attempt, view.tasks, view.completed, view.running, view.failures, self._records[stage])
        if numbers != self._told.get(stage):
            self._told[stage] = numbers
            self._bus.post(StageProgress(time.monotonic(), stage, *numbers))
