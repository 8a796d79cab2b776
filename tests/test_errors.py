"""Every error says what, where and what to do, and survives pickling."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

import asparkle.aio
import asparkle.errors
from asparkle.core import errors
from asparkle.core.errors import (
    AsparkleError,
    JobCancelled,
    JobFailed,
    PicklingFailed,
    ResultTooLarge,
    TaskKilled,
)

ALL = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__]
EXAMPLES = [
    errors.ArgumentError("numSlices = 0: expected 1 or more"),
    errors.PluginError("mine", "failed to import"),
    errors.ContextStopped(),
    errors.ForkedContextError(),
    errors.NestedContextError("rdd"),
    errors.StorageError("/tmp/x", "No space left on device"),
    errors.CheckpointLost(3),
    errors.StoreFull("memory", 10, 5),
    PicklingFailed("the function of map", "lock", ("lambda", "lock"), "cannot pickle '_thread.lock' object"),
    errors.InputNotFound("no such file or directory", "poem.txt"),
    errors.InputIsDirectory("in/sub", "in"),
    errors.CorruptInput("ends too early", "poem.txt.gz"),
    JobFailed("ValueError: no", frames='  File "a.py"', job=1, stage=2, partition=3, attempt=0, host="h"),
    JobCancelled("group 'g' was cancelled", job=4),
    ResultTooLarge(20, 10, job=5),
    TaskKilled("cancelled"),
]


@pytest.mark.parametrize("cls", ALL)
def test_each_is_documented_and_in_the_tree(cls):
    assert len(inspect.getdoc(cls)) > 40
    assert issubclass(cls, AsparkleError) or cls is TaskKilled


def test_all_are_to_be_had_from_the_public_module():
    assert {getattr(asparkle.errors, name) for name in asparkle.errors.__all__} == set(ALL)
    assert asparkle.JobFailed is asparkle.aio.JobFailed is asparkle.errors.JobFailed


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("duplicate", [lambda error: pickle.loads(pickle.dumps(error, 5)), copy.copy])
def test_pickling_keeps_type_message_and_attributes(error, duplicate):
    twin = duplicate(error)
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert twin.__dict__ == error.__dict__
    assert getattr(twin, "filename", None) == getattr(error, "filename", None)


def test_a_failed_job_says_what_then_who_then_where():
    error = JobFailed(
        "ZeroDivisionError: division by zero",
        frames='  File "job.py", line 7, in <lambda>\n    1 / x',
        job=0,
        stage=2,
        stage_name="map at job.py:7",
        partition=3,
        attempt=3,
        host="node1",
        executor="1",
    )
    assert str(error).splitlines() == [
        "ZeroDivisionError: division by zero",
        '  File "job.py", line 7, in <lambda>',
        "    1 / x",
        "in partition 3 of stage 2 (map at job.py:7) of job 0, attempt 3, on executor 1 at node1",
    ]


def test_a_failed_job_without_a_place_says_no_place():
    assert str(JobFailed("every executor is excluded", kind="excluded")) == "every executor is excluded"


def test_what_cannot_be_pickled_is_named():
    error = PicklingFailed("the function of map", "lock", ("lambda at a.py:3", "self", "lock"), "no locks")
    assert "'lock'" in str(error) and "lambda at a.py:3 -> self -> lock" in str(error)
    assert isinstance(error, pickle.PicklingError)


def test_a_killed_task_passes_except_exception():
    assert not issubclass(TaskKilled, Exception)
