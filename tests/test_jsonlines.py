"""The listener `jsonlines`, and reading back what it has written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

from asparkle import SparkContext
from asparkle.core.conf import SparkConf
from asparkle.core.errors import ConfigurationError
from asparkle.core.events import ExecutorRemoved, JobEnded, JobStarted, StageInfo, UnknownEvent
from asparkle.plugins import read_events
from asparkle.plugins.jsonlines import JsonLinesListener
from asparkle.plugins.listeners import EventRecorder


def conf(path) -> SparkConf:
    return SparkConf().set("asparkle.events.jsonlines.path", path)


def test_every_event_is_read_back_as_it_was(tmp_path):
    recorder, path = EventRecorder(), tmp_path / "events.jsonl"
    with SparkContext("processes[2]", conf=conf(path).set("text", "grüße\n"), plugins=[recorder]) as sc:
        sc.parallelize(range(10), 3).map(lambda x: (x % 2, 1)).reduceByKey(lambda a, b: a + b).persist().collect()
    assert list(read_events(path)) == recorder.recorded
    lines = path.read_text().splitlines()
    assert json.loads(lines[0])["type"] == "ApplicationStarted"
    assert json.loads(lines[-1])["type"] == "ApplicationEnded"
    assert {*json.loads(lines[0])["conf"]} >= {"spark.master", "text"}


def test_a_second_application_appends(tmp_path):
    path = tmp_path / "events.jsonl"
    for _ in range(2):
        with SparkContext("threads[1]", conf=conf(path)) as sc:
            sc.parallelize([1]).count()
    assert [type(event) for event in read_events(path) if isinstance(event, JobEnded)] == [JobEnded, JobEnded]


KILLED = """
import sys, time
from asparkle import SparkContext
from asparkle.core.conf import SparkConf
sc = SparkContext("threads[1]", conf=SparkConf().set("asparkle.events.jsonlines.path", sys.argv[1]))
while True:
    sc.parallelize([1]).count()
"""


def test_a_program_that_is_killed_leaves_its_events(tmp_path):
    path = tmp_path / "events.jsonl"
    program = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], env=os.environ)
    try:
        wait_until(lambda: path.exists() and path.stat().st_size > 10_000)
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()
    assert sum(isinstance(event, JobEnded) for event in read_events(path)) > 3


def test_half_a_line_is_skipped_with_a_warning_and_what_follows_is_not_lost(tmp_path, caplog):
    path = tmp_path / "events.jsonl"
    listener = JsonLinesListener(path)
    listener.on_event(JobEnded(1.0, 0))
    listener.on_event(JobEnded(2.0, 1))
    listener.close()
    os.truncate(path, path.stat().st_size - 20)
    assert list(read_events(path)) == [JobEnded(1.0, 0)]
    assert f"a line that is no event is skipped: file='{path}' line=2" in caplog.text
    listener = JsonLinesListener(path)
    listener.on_event(JobEnded(3.0, 2))
    listener.close()
    assert list(read_events(path)) == [JobEnded(1.0, 0), JobEnded(3.0, 2)]


@pytest.mark.parametrize("line", ["5", "[]", "{}", '{"type": "JobEnded", "version": 1, "time": 1.0}', "", "\udcff"])
def test_what_is_json_and_no_event_is_skipped_too(tmp_path, line, caplog):
    path = tmp_path / "events.jsonl"
    path.write_bytes(line.encode(errors="surrogateescape") + b"\n")
    assert list(read_events(path)) == []
    assert len(caplog.messages) == 1


def test_events_of_another_version_are_understood_as_far_as_can_be(tmp_path):
    path = tmp_path / "events.jsonl"
    stages = '[{"stage": 1, "tasks": 2, "parents": [3, 4], "new": 5}]'
    path.write_text(
        '{"type": "New", "version": 9, "time": 1.5, "parts": [1, [2]]}\n'
        '{"type": "JobStarted", "version": 9, "time": 2.5, "job": 0, "name": "x", '
        f'"stages": {stages}, "partitions": 1}}\n'
    )
    assert list(read_events(path)) == [
        UnknownEvent(1.5, "New", 9, {"parts": (1, (2,))}),
        JobStarted(2.5, 0, "x", (StageInfo(1, 2, parents=(3, 4)),), 1),
    ]


def test_what_an_earlier_version_did_not_say_is_what_was_so_then(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text(
        '{"type": "ExecutorRemoved", "version": 1, "time": 1.5, "executor": "0", "epoch": 1, "host": "h", '
        '"reason": "it ended"}\n'
    )
    assert list(read_events(path)) == [ExecutorRemoved(1.5, "0", 1, "h", "it ended", released=False)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here: needs Linux, as in /proc")
def test_a_full_disk_is_logged_once_and_fails_no_job(caplog):
    with SparkContext("threads[1]", conf=conf("/dev/full")) as sc:
        assert sc.parallelize(range(3), 3).count() == 3
    (message,) = caplog.messages
    assert message.startswith("listener failed: listener='jsonlines' at='ApplicationStarted' then='it stays")
    assert "events can't be written: No space left on device: '/dev/full'" in message


FULL = """
import resource, signal, sys
from asparkle.core.events import JobEnded
from asparkle.plugins.jsonlines import JsonLinesListener
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
listener, refused = JsonLinesListener(sys.argv[1]), 0
for job in range(50):
    try:
        listener.on_event(JobEnded(1.0, job))
    except OSError:
        refused += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
listener.on_event(JobEnded(2.0, 99))
print(refused)
"""


def test_an_event_that_fits_only_in_part_is_left_out_as_a_whole(tmp_path, caplog):
    path = tmp_path / "events.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], check=True, capture_output=True, text=True)
    jobs = [event.job for event in read_events(path)]
    refused = int(done.stdout)
    assert 0 < refused < 50
    assert jobs == [*range(50 - refused), 99]
    assert not caplog.messages  # no line is torn


def test_a_path_that_cannot_be_a_file_is_refused_when_the_context_is_made(tmp_path):
    with pytest.raises(ConfigurationError, match="is a directory: expected a file"):
        SparkContext("threads[1]", conf=conf(tmp_path))
    with pytest.raises(ConfigurationError, match="there is no directory .*/none': make it"):
        SparkContext("threads[1]", conf=conf(tmp_path / "none" / "events.jsonl"))
    with pytest.raises(ConfigurationError, match="the listener jsonlines needs asparkle.events.jsonlines.path"):
        SparkContext("threads[1]", conf=SparkConf().set("asparkle.plugins", "jsonlines"))
