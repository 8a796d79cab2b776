"""A progress bar for jobs that last longer than half a second: stages and their tasks, on a terminal's last line.

Active where ``spark.ui.showConsoleProgress`` says so and stderr is a terminal.  The listener counts what the events
tell; a thread of its own draws, ten times a second, and only while a job runs.  The bar is gone before the job's caller
has the result: events come at once, and the last one takes it away.

Where tqdm is installed it words the line, which then tells rates and remaining times, too.  The line is
written to the terminal's file descriptor, by us: no object of the program's, ``sys.stdout`` above all, is replaced
or shared, as the program prints in other threads.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from asparkle.conf import SparkConf
from asparkle.events import JobEnded, JobStarted, StageCompleted, StageSubmitted, TaskEnded, TaskStarted
from asparkle.plugins import Listener, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    began: float = field(default_factory=time.monotonic)


class ProgressListener(Listener):
    """Draws the jobs of one context on ``stream``, stderr by default; does nothing if that is no terminal."""

    name = "progress"
    at_once = True
    events = (JobStarted, JobEnded, StageSubmitted, StageCompleted, TaskStarted, TaskEnded)

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream is not None and self._stream.isatty()
        self._lock = threading.Lock()
        self._jobs: dict[int, tuple[float, set[int]]] = {}  # when each began, and its stages
        self._stages: dict[int, Stage] = {}
        self._shown = False  # whether there is a bar on the terminal
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
        """Take the bar away, and show none of the jobs so far any more."""
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
        segment = None
        while True:
            self._idle.wait(INTERVAL)
            with self._lock:
                if not self._jobs:
                    self._drawer = None
                    return
                oldest = min(began for began, _ in self._jobs.values())
                if time.monotonic() - oldest >= PATIENCE and self._stages:
                    stages = [self._stages[number] for number in sorted(self._stages)][:_SHOWN_STAGES]
                    segment = segment or _tqdm_segment(self._stream) or plain_segment
                    self._write(f"\r{line(stages, _width(self._stream), segment)}\x1b[K\r")
                    self._shown = True

    def _erase(self) -> None:
        if self._shown:
            self._shown = False
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the terminal is gone
            os.write(self._stream.fileno(), text.encode(errors="replace"))


def settle() -> None:
    """Clear the terminal of all bars, for a prompt: jobs that go on in the background don't draw over it."""
    for listener in list(_live):
        listener.settle()


def line(stages: Sequence[Stage], width: int, segment: Callable[[Stage, int], str]) -> str:
    """The bar: at most ``width`` - 1 characters, of which each stage's segment gets its share."""
    share = (width - 1) // max(1, len(stages))
    return "".join(segment(stage, share) for stage in stages)


def plain_segment(stage: Stage, width: int) -> str:
    """``[Stage 3: map =====>     (50 + 4) / 100]``: done, running, all; at most ``width`` characters."""
    head, tail = f"[{_title(stage)} ", f" ({stage.done} + {stage.running}) / {stage.tasks}]"
    room = width - len(head) - len(tail)
    if room < 1:
        return f"{head.strip()}{tail}"[:width]
    filled = min(room, room * stage.done // max(1, stage.tasks))
    return f"{head}{('=' * filled + '>')[:room].ljust(room)}{tail}"


def _tqdm_segment(stream: TextIO) -> Callable[[Stage, int], str] | None:
    """What tqdm makes of a stage, where it is installed: only its words; it neither draws nor starts threads."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    ascii_only = not (stream.encoding or "").lower().startswith("utf")

    def segment(stage: Stage, width: int) -> str:
        text: str = tqdm.format_meter(
            stage.done,
            stage.tasks,
            time.monotonic() - stage.began,
            ncols=width,
            prefix=_title(stage),
            ascii=ascii_only,
            unit=" tasks",
            postfix=f"{stage.running} running",
        )
        return text[:width]

    return segment


def _title(stage: Stage) -> str:
    return f"Stage {stage.number}: {stage.name}" if stage.name else f"Stage {stage.number}"


def _width(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


@hookimpl
def asparkle_listeners(conf: SparkConf) -> Sequence[Listener]:
    return [ProgressListener()]
