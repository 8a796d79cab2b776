"""The progress bar: what it shows, and that it is gone when the job is."""

from __future__ import annotations

import io
import os
import pty
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle import SparkConf, SparkContext
from asparkle.core.events import JobEnded, JobStarted, StageInfo, StageSubmitted, TaskEnded, TaskStarted
from asparkle.plugins import progress
from asparkle.plugins.progress import PlainBar, ProgressListener, RichBar, Stage, line


class Terminal:
    """Our end of a pseudo-terminal, and a text file for the other end."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self.file = os.fdopen(theirs, "w")
        self._shown: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 4096):
                self._shown.append(data)
        except OSError:  # the other end is closed
            return

    @property
    def shown(self) -> str:
        return b"".join(self._shown).decode()

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 60
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            time.sleep(0.01)

    def close(self) -> None:
        self.file.close()
        self._reader.join()
        os.close(self._ours)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture(params=["plain", "rich"])
def bars(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(progress, "new_bar", PlainBar)
    else:
        pytest.importorskip("rich")
    return request.param


def wait(x: int, file: str) -> int:
    while not os.path.exists(file):
        time.sleep(0.01)
    return x


def test_a_long_job_shows_its_stages_and_leaves_nothing(terminal, bars, tmp_path):
    with SparkContext("processes[2]", plugins=[ProgressListener(terminal.file)]) as sc:
        gate = str(tmp_path / "open")
        rdd = sc.parallelize(range(4), 4).map(lambda x: wait(x, gate) if x > 1 else x)
        sums: list[int] = []
        job = threading.Thread(target=lambda: sums.append(rdd.sum()))
        job.start()
        terminal.wait_for("(2 + 2) / 4")
        assert "Stage 0" in terminal.shown
        (tmp_path / "open").touch()
        job.join()
    assert sums == [6]
    end = "\r\x1b[K" if bars == "plain" else "\x1b[?25h"  # the line is cleared; the cursor is shown again
    assert end in terminal.shown[terminal.shown.rindex("(2 + 2) / 4") :] or terminal.shown.endswith(end)


def test_a_job_shows_nothing_until_it_has_lasted(terminal, bars, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 3600.0)
    monkeypatch.setattr(progress, "INTERVAL", 0.01)
    with SparkContext("threads[2]", plugins=[ProgressListener(terminal.file)]) as sc:
        sc.parallelize(range(2), 2).foreach(lambda x: time.sleep(0.3))
    assert terminal.shown == ""


def test_what_is_no_terminal_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    output = io.StringIO()
    with SparkContext("threads[2]", plugins=[ProgressListener(output)]) as sc:
        sc.parallelize(range(2), 2).foreach(lambda x: time.sleep(0.3))
    assert output.getvalue() == ""


def test_the_setting_brings_the_bar_once(monkeypatch):
    made = []
    monkeypatch.setattr(ProgressListener, "__init__", lambda self: made.append(self))
    monkeypatch.setattr(ProgressListener, "on_event", lambda self, event: None)
    monkeypatch.setattr(ProgressListener, "close", lambda self: None)
    conf = SparkConf().set("spark.ui.showConsoleProgress", "true").set("asparkle.plugins", "progress")
    with SparkContext("threads[1]", conf=conf):
        pass
    with SparkContext("threads[1]"):
        pass
    assert len(made) == 1


def test_settling_takes_the_bar_away_before_the_end_is_heard_of(terminal, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "new_bar", PlainBar)
    listener = ProgressListener(terminal.file)
    listener.on_event(JobStarted(0.0, 7, "sum", (StageInfo(3, 2),), 2))
    listener.on_event(StageSubmitted(0.0, 3, 0, "map", 2))
    listener.on_event(TaskStarted(0.0, 1, 3, 0, 0, 0, "0", "localhost"))
    listener.on_event(TaskStarted(0.0, 2, 3, 0, 1, 0, "1", "localhost"))
    listener.on_event(TaskEnded(0.0, 1, 3, 0, 0, 0, "0", "localhost", "success"))
    terminal.wait_for("(1 + 1) / 2]")
    progress.settle()
    terminal.wait_for("\r\x1b[K")
    listener.on_event(JobEnded(0.0, 7))  # late, and of no matter
    length = len(terminal.shown)
    listener.on_event(TaskEnded(0.0, 2, 3, 0, 1, 0, "1", "localhost", "success"))
    assert len(terminal.shown) == length


def test_what_a_program_prints_goes_above_the_bar(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal.file)
    bar = PlainBar(terminal.file)
    stage = Stage(0, "map", 4, 1, 1)
    bar.draw([stage])
    print("hel", end="", flush=True)
    bar.draw([stage])  # not now: it would overwrite the half line
    print("lo", flush=True)
    bar.draw([stage])
    bar.erase()
    terminal.wait_for("\r\x1b[Khello\r\n\r[Stage 0")
    assert sys.stdout is terminal.file


def test_richs_bar_follows_the_stages(terminal):
    pytest.importorskip("rich")
    bar = RichBar(terminal.file)
    bar.draw([Stage(0, "map", 4, 1, 1)])
    bar.draw([Stage(1, "sum", 2, 2, 0)])
    bar.erase()
    terminal.wait_for("Stage 1: sum")


stages = st.lists(
    st.builds(
        Stage,
        st.integers(0, 999),
        st.text("abc", max_size=12),
        st.integers(0, 9999),
        st.integers(0, 99),
        st.integers(0, 9999),
    ),
    min_size=1,
    max_size=3,
)


@given(stages, st.integers(2, 300))
def test_a_line_fits_its_terminal(stages, width):
    text = line(stages, width)
    assert len(text) < width and "\n" not in text


def test_a_line():
    assert line([Stage(3, "map", 100, 4, 50)], 51) == "[Stage 3: map ==========>          (50 + 4) / 100]"
