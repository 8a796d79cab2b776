"""`RDD.pipe`: partitions through processes, whatever these read and write, and when."""

from __future__ import annotations

import os
import sys
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.core.errors import ArgumentTypeError, JobFailed
from asparkle.core.piping import Process
from asparkle.core.taskcontext import TaskContext


def lines_of(command, elements):
    with closing(Process(command, {})) as process:
        return list(process.lines(iter(elements)))


@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=20), max_size=300))
def test_cat_gives_the_lines_back(lines):
    assert lines_of("cat", lines) == lines


def test_more_than_pipes_hold_goes_through():
    lines = ["x" * 1000 + str(i) for i in range(5000)]
    assert lines_of("cat", lines) == lines


def test_a_line_may_be_as_long_as_all_of_the_output():
    """Seconds, where each piece of it is looked at once; minutes, where it is looked at again with each."""
    (line,) = lines_of(f"head -c {64 << 20} /dev/zero", [])
    assert len(line) == 64 << 20


def test_a_line_that_ends_in_newlines_has_one():
    assert lines_of("cat", ["a\n", "b\n\n", 3]) == ["a", "b", "3"]


def test_elements_are_asked_for_as_the_command_takes_them():
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield taken[-1]

    assert lines_of("head -n 3", endless()) == ["0", "1", "2"]
    assert len(taken) < 1_000_000


def test_a_command_that_closes_its_output_first_reads_on(tmp_path):
    copy = tmp_path / "copy"
    code = f"import os, sys; os.close(1); open({str(copy)!r}, 'w').write(sys.stdin.read())"
    assert lines_of(f'{sys.executable} -c "{code}"', range(50_000)) == []
    assert copy.read_text().split() == [str(i) for i in range(50_000)]


async def test_each_partition_is_a_process(sc):
    assert await sc.parallelize([3, 1, 2, 5, 4], 2).pipe("sort -n").glom().collect() == [["1", "3"], ["2", "4", "5"]]


async def test_the_environment_is_what_is_given(sc):
    rdd = sc.parallelize([1], 1)
    assert await rdd.pipe("env").collect() == []
    assert await rdd.pipe("env", {"TIGER": "burning"}).collect() == ["TIGER=burning"]


async def test_a_bad_exit_fails_the_job_if_asked_for(sc):
    rdd = sc.parallelize([1], 1)
    assert await rdd.pipe("grep 2").collect() == []
    with pytest.raises(JobFailed, match="'grep 2' ended with exit status 1"):
        await rdd.pipe("grep 2", checkCode=True).collect()
    with pytest.raises(JobFailed, match="no_such_command"):
        await rdd.pipe("no_such_command").collect()


async def test_what_comes_before_runs_in_the_task(sc):
    partitions = sc.parallelize(range(4), 2).map(lambda x: TaskContext.get().partitionId()).pipe("cat")
    assert await partitions.collect() == ["0", "0", "1", "1"]
    with pytest.raises(JobFailed, match="ZeroDivisionError"):
        await sc.parallelize([0], 1).map(lambda x: 1 / x).pipe("cat").collect()


async def test_who_takes_a_few_lines_ends_the_process(sc, tmp_path):
    pid = tmp_path / "pid"
    command = f"sh -c 'echo $$ >{pid}; exec yes'"
    assert await sc.parallelize([1], 1).pipe(command).take(3) == ["y", "y", "y"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


async def test_a_command_is_a_string(local):
    with pytest.raises(ArgumentTypeError, match="pipe: command"):
        local.parallelize([1]).pipe(["cat"])
