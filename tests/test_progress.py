"""The progress bar: what it shows, and that it is gone when the job is."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle import JobFailed, SparkConf, SparkContext
from asparkle.core.events import JobEnded, JobStarted, StageInfo, StageSubmitted, TaskEnded, TaskStarted
from asparkle.plugins import progress
from asparkle.plugins.progress import ProgressListener, Stage, _tqdm_segment, line, plain_segment


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


@pytest.fixture(params=["plain", "tqdm"])
def wording(request, monkeypatch) -> str:
    """Whether tqdm words the line: as if it were not installed, or as it is."""
    if request.param == "plain":
        monkeypatch.setitem(sys.modules, "tqdm", None)
    return request.param


def wait(x: int, file: str) -> int:
    while not os.path.exists(file):
        time.sleep(0.01)
    return x


def test_a_long_job_shows_its_stages_and_leaves_nothing(terminal, tmp_path, wording):
    with SparkContext("processes[2]", plugins=[ProgressListener(terminal.file)]) as sc:
        gate = str(tmp_path / "open")
        rdd = sc.parallelize(range(4), 4).map(lambda x: wait(x, gate) if x > 1 else x)
        sums: list[int] = []
        job = threading.Thread(target=lambda: sums.append(rdd.sum()))
        job.start()
        terminal.wait_for("(2 + 2) / 4" if wording == "plain" else "2 running]")
        assert "Stage 0" in terminal.shown
        (tmp_path / "open").touch()
        job.join()
    assert sums == [6]
    terminal.wait_for("\r\x1b[K")
    assert terminal.shown.endswith("\r\x1b[K")


def test_a_job_shows_nothing_until_it_has_lasted(terminal, monkeypatch):
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


def test_settling_takes_the_bar_away_though_the_job_goes_on(terminal, monkeypatch, wording):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    listener = ProgressListener(terminal.file)
    listener.on_event(JobStarted(0.0, 7, "sum", (StageInfo(3, 2),), 2))
    listener.on_event(StageSubmitted(0.0, 3, 0, "map", 2))
    listener.on_event(TaskStarted(0.0, 1, 3, 0, 0, 0, "0", "localhost"))
    listener.on_event(TaskStarted(0.0, 2, 3, 0, 1, 0, "1", "localhost"))
    listener.on_event(TaskEnded(0.0, 1, 3, 0, 0, 0, "0", "localhost", "success"))
    terminal.wait_for("(1 + 1) / 2]" if wording == "plain" else "| 1/2 ")
    progress.settle()
    terminal.wait_for("\r\x1b[K")
    listener.on_event(JobEnded(0.0, 7))  # late, and of no matter
    length = len(terminal.shown)
    listener.on_event(TaskEnded(0.0, 2, 3, 0, 1, 0, "1", "localhost", "success"))
    assert len(terminal.shown) == length


def test_the_bar_is_gone_before_the_result_is_there(terminal, monkeypatch, wording):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "INTERVAL", 0.001)
    output = sys.stdout
    with SparkContext("threads[2]", plugins=[ProgressListener(terminal.file)]) as sc:
        rdd = sc.parallelize(range(4), 4).map(lambda x: time.sleep(0.01))
        for i in range(25):
            rdd.count()
            print("result", i, file=terminal.file, flush=True)
            assert sys.stdout is output
        with pytest.raises(JobFailed):
            rdd.map(lambda x: 1 / 0).count()
        print("failed", file=terminal.file, flush=True)
    terminal.wait_for("failed")
    assert "Stage 0: " in terminal.shown
    assert screen(terminal.shown) == [*(f"result {i}" for i in range(25)), "failed", ""]


def screen(shown: str) -> list[str]:
    """What a terminal that is wide enough shows."""
    lines, column = [""], 0
    for piece in re.split(r"(\r|\n|\x1b\[K)", shown):
        if piece == "\n":
            lines.append("")
        elif piece == "\x1b[K":
            lines[-1] = lines[-1][:column]
        elif piece != "\r":
            lines[-1] = lines[-1][:column] + piece + lines[-1][column + len(piece) :]
        column = column + len(piece) if piece not in ("\r", "\n", "\x1b[K") else column * (piece == "\x1b[K")
    return lines


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


@pytest.mark.parametrize("segment", [plain_segment, _tqdm_segment(sys.__stderr__)], ids=["plain", "tqdm"])
@given(stages=stages, width=st.integers(2, 300))
def test_a_line_fits_its_terminal(stages, width, segment):
    text = line(stages, width, segment)
    assert len(text) < width and "\n" not in text


def test_a_line():
    stage = Stage(3, "map", 100, 4, 50)
    assert line([stage], 51, plain_segment) == "[Stage 3: map ==========>          (50 + 4) / 100]"


def test_a_line_of_tqdm():
    stage = Stage(3, "map", 100, 4, 50, time.monotonic() - 10)
    with io.TextIOWrapper(io.BytesIO(), encoding="ascii") as terminal:
        text = line([stage], 80, _tqdm_segment(terminal))
    assert re.fullmatch(r"Stage 3: map:  50%\|#+ +\| 50/100 \[00:10<00:1\d, +[45]\.\d\d tasks/s, 4 running\]", text), (
        text
    )
    assert len(text) == 79


def test_without_tqdm_lines_are_plain(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert _tqdm_segment(sys.__stderr__) is None
