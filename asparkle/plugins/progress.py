"""A progress bar for jobs that last longer than half a second: stages and their tasks, on a terminal's last line.

Active where ``spark.ui.showConsoleProgress`` says so and stderr is a terminal; with rich installed the bars are
rich's.  The listener counts what the events tell; a thread of its own draws, ten times a second, and only while a
job runs.  What the program prints meanwhile goes above the bar.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from asparkle.core.contracts import Listener
from asparkle.core.events import JobEnded, JobStarted, StageCompleted, StageSubmitted, TaskEnded, TaskStarted

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE = 0.5  # seconds that a job takes before anything is shown
INTERVAL = 0.1
_SHOWN_STAGES = 3  # of those that run at once

_live: weakref.WeakSet[ProgressListener] = weakref.WeakSet()


@dataclass
class Stage:
    """One that runs: how many of its tasks there are, run and are done."""

    number: int
    name: str
    tasks: int
    running: int = 0
    done: int = 0


class Bar(Protocol):
    """Something on the terminal that can be drawn again and taken away.  Called by one thread at a time."""

    def draw(self, stages: Sequence[Stage]) -> None: ...

    def erase(self) -> None: ...


class ProgressListener(Listener):
    """Draws the jobs of one context on ``stream``, stderr by default; does nothing if that is no terminal."""

    name = "progress"
    events = (JobStarted, JobEnded, StageSubmitted, StageCompleted, TaskStarted, TaskEnded)

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream is not None and self._stream.isatty()
        self._lock = threading.Lock()
        self._jobs: dict[int, tuple[float, set[int]]] = {}  # when each began, and its stages
        self._stages: dict[int, Stage] = {}
        self._bar: Bar | None = None  # while it is on the terminal
        self._drawer: threading.Thread | None = None
        self._idle = threading.Event()
        _live.add(self)

    def on_event(self, event: Any) -> None:
        if not self._is_terminal:
            return
        with self._lock:
            match event:
                case JobStarted():
                    self._jobs[event.job] = time.monotonic(), {info.stage for info in event.stages}
                    self._start_drawing()
                case JobEnded():
                    self._end(event.job)
                case StageSubmitted():
                    self._stages[event.stage] = Stage(event.stage, event.name, event.tasks)
                case StageCompleted():
                    self._stages.pop(event.stage, None)
                case TaskStarted() if event.stage in self._stages:
                    self._stages[event.stage].running += 1
                case TaskEnded() if event.stage in self._stages:
                    stage = self._stages[event.stage]
                    stage.running -= 1
                    stage.done += event.outcome == "success"

    def close(self) -> None:
        self.settle()

    def settle(self) -> None:
        """Take the bar away now: who asked for the jobs so far is back, though their end may not be heard of yet."""
        with self._lock:
            for job in list(self._jobs):
                self._end(job)

    def _end(self, job: int) -> None:
        _, stages = self._jobs.pop(job, (0.0, set()))
        for stage in stages.difference(*(others for _, others in self._jobs.values())):
            self._stages.pop(stage, None)
        if not self._jobs:
            self._idle.set()
            self._erase()

    def _start_drawing(self) -> None:
        self._idle.clear()
        if self._drawer is None:
            self._drawer = threading.Thread(target=self._draw, name="asparkle-progress", daemon=True)
            self._drawer.start()

    def _draw(self) -> None:
        while True:
            self._idle.wait(INTERVAL)
            with self._lock:
                if not self._jobs:
                    self._drawer = None
                    return
                oldest = min(began for began, _ in self._jobs.values())
                if time.monotonic() - oldest >= PATIENCE and self._stages:
                    self._bar = self._bar or new_bar(self._stream)
                    self._bar.draw([self._stages[number] for number in sorted(self._stages)][:_SHOWN_STAGES])

    def _erase(self) -> None:
        if self._bar is not None:
            self._bar.erase()
            self._bar = None


def settle() -> None:
    """Clear the terminal of all bars: for a prompt that is about to be shown."""
    for listener in list(_live):
        listener.settle()


def new_bar(stream: TextIO) -> Bar:
    """rich's where it is installed, else a plain one."""
    try:
        return RichBar(stream)
    except ImportError:
        return PlainBar(stream)


class PlainBar:
    """One line, ``[Stage 3: map =====>   (12 + 4) / 100]`` for each stage: done, running and all tasks."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn = False
        self._output = sys.stdout
        self._above = _Above(self._output, self) if self._output is not None and self._output.isatty() else None
        if self._above is not None:
            sys.stdout = self._above

    def draw(self, stages: Sequence[Stage]) -> None:
        if self._above is None or self._above.at_line_start:
            self._write(f"\r{line(stages, _width(self._stream))}\x1b[K\r")
            self._drawn = True

    def clear(self) -> None:
        """Make room for what the program prints."""
        if self._drawn:
            self._drawn = False
            self._write("\r\x1b[K")

    def erase(self) -> None:
        self.clear()
        if sys.stdout is self._above:
            sys.stdout = self._output

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class _Above:
    """The program's output while a bar is shown: the bar makes room, and stays away until a line is complete."""

    def __init__(self, output: TextIO, bar: PlainBar) -> None:
        self._output = output
        self._bar = bar
        self.at_line_start = True

    def write(self, text: str) -> int:
        self._bar.clear()
        if text:
            self.at_line_start = text.endswith("\n")
        return self._output.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)


class RichBar:
    """A bar of rich's for each stage.  Raises ImportError where rich is not installed."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[counts]}"))
        self._progress = Progress(
            *columns, TimeElapsedColumn(), console=Console(file=stream), transient=True, auto_refresh=False
        )
        self._rows: dict[int, Any] = {}
        self._progress.start()

    def draw(self, stages: Sequence[Stage]) -> None:
        for number in self._rows.keys() - {stage.number for stage in stages}:
            self._progress.remove_task(self._rows.pop(number))
        for stage in stages:
            if stage.number not in self._rows:
                self._rows[stage.number] = self._progress.add_task(_title(stage), counts="")
            counts = f"({stage.done} + {stage.running}) / {stage.tasks}"
            self._progress.update(
                self._rows[stage.number], total=stage.tasks, completed=stage.done, counts=counts, refresh=False
            )
        self._progress.refresh()

    def erase(self) -> None:
        self._progress.stop()


def line(stages: Sequence[Stage], width: int) -> str:
    """The plain bar: at most ``width`` - 1 characters."""
    share = (width - 1) // max(1, len(stages))
    return "".join(_segment(stage, share) for stage in stages)


def _segment(stage: Stage, width: int) -> str:
    head, tail = f"[{_title(stage)} ", f" ({stage.done} + {stage.running}) / {stage.tasks}]"
    room = width - len(head) - len(tail)
    if room < 1:
        return f"{head.strip()}{tail}"[:width]
    filled = min(room, room * stage.done // max(1, stage.tasks))
    return f"{head}{('=' * filled + '>')[:room].ljust(room)}{tail}"


def _title(stage: Stage) -> str:
    return f"Stage {stage.number}: {stage.name}" if stage.name else f"Stage {stage.number}"


def _width(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
