"""What a user's script may expect of worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def run(directory: Path, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = directory / "script.py"
    path.write_text(textwrap.dedent(script))
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": root, **environment},
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("master", ["inline", "threads[2]", "processes[2]"])
def test_functions_and_classes_of_a_script_go_by_value_and_the_script_runs_once(tmp_path: Path, master: str) -> None:
    script = """
        import sys
        from dataclasses import dataclass
        from asparkle import SparkContext

        print("the script runs")

        @dataclass(frozen=True)
        class Point:
            x: int
            y: int

            def norm(self):
                return scale(self.x * self.x + self.y * self.y)

        FACTOR = 10

        def scale(n):
            return FACTOR * n

        sc = SparkContext(sys.argv[1])
        points = sc.parallelize([Point(1, 2), Point(3, 4)], 2)
        print(points.map(Point.norm).collect())
        back = points.map(lambda p: Point(p.y, p.x)).collect()
        print(back, isinstance(back[0], Point))
        print(points.map(lambda p: (p, 1)).reduceByKey(lambda a, b: a + b).lookup(Point(3, 4)))
        sc.stop()
    """
    expected = ["the script runs", "[50, 250]", "[Point(x=2, y=1), Point(x=4, y=3)] True", "[1]"]
    assert lines(run(tmp_path, script, master)) == expected


def test_workers_see_the_drivers_path_directory_and_environment(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("def double(x):\n    return 2 * x\n")
    later = tmp_path / "later"
    later.mkdir()
    (later / "afterwards.py").write_text("def triple(x):\n    return 3 * x\n")
    script = """
        import os, sys
        import beside
        from asparkle import SparkContext

        sc = SparkContext("processes[1]")
        print(sc.parallelize([1, 2]).map(beside.double).collect())
        print(sc.parallelize([0]).map(lambda x: os.environ["GREETING"]).first())
        sys.path.insert(0, os.path.abspath("later"))
        os.chdir("later")
        import afterwards
        print(sc.parallelize([1, 2]).map(afterwards.triple).collect())
        print(os.path.basename(sc.parallelize([0]).map(lambda x: os.getcwd()).first()))
        sc.stop()
    """
    assert lines(run(tmp_path, script, GREETING="hello")) == ["[2, 4]", "hello", "[3, 6]", "later"]


def test_what_a_task_prints_reaches_the_terminal(tmp_path: Path) -> None:
    script = """
        import sys
        from asparkle import SparkContext
        sc = SparkContext("processes[2]")
        sc.parallelize(range(4), 4).foreach(lambda x: print("task", x))
        sc.stop()
    """
    assert sorted(lines(run(tmp_path, script))) == ["task 0", "task 1", "task 2", "task 3"]


def test_large_results_and_large_closures_go_by_file(tmp_path: Path) -> None:
    script = """
        import os
        from asparkle import SparkContext
        sc = SparkContext("processes[2]")
        big = bytearray(3_000_000)
        assert sc.parallelize(range(4), 4).map(lambda x: len(big) + x).collect() == [3_000_000 + x for x in range(4)]
        parts = sc.parallelize(range(4), 4).map(lambda x: bytes([x]) * 5_000_000).collect()
        assert [(len(p), p[0]) for p in parts] == [(5_000_000, x) for x in range(4)]
        directory = sc._context._application.spec.directories[0]
        print(os.listdir(os.path.join(directory, "results")))
        sc.stop()
    """
    assert lines(run(tmp_path, script)) == ["[]"]


def test_results_above_the_limit_are_an_error_and_leave_the_context_usable(tmp_path: Path) -> None:
    script = """
        from asparkle import SparkConf, SparkContext
        sc = SparkContext(conf=SparkConf().setMaster("processes[2]").set("spark.driver.maxResultSize", "4m"))
        try:
            sc.parallelize(range(8), 8).map(lambda x: bytes(1_000_000)).collect()
        except Exception as error:
            print(type(error).__name__, "spark.driver.maxResultSize" in str(error))
        print(sc.parallelize(range(4)).sum())
        sc.stop()
    """
    assert lines(run(tmp_path, script)) == ["ResultTooLarge True", "6"]


@pytest.mark.parametrize("master", ["inline", "threads[2]", "processes[2]"])
def test_what_can_not_be_pickled_is_named(tmp_path: Path, master: str) -> None:
    script = """
        import sys, threading
        from asparkle import SparkContext

        sc = SparkContext(sys.argv[1])
        guard = threading.Lock()

        class Holder:
            def __init__(self):
                self.connection = guard

        holder = Holder()
        for function in (lambda x: guard, lambda x: holder.connection):
            try:
                sc.parallelize([1]).map(function).collect()
            except Exception as error:
                print(type(error).__name__, "guard" in str(error), "connection" in str(error))
        rdd = sc.parallelize([1])
        for function in (lambda x: rdd.count(), lambda x: sc.parallelize([x])):
            try:
                sc.parallelize([1]).map(function).collect()
            except Exception as error:
                print(type(error).__name__)
        sc.stop()
    """
    expected = [
        "PicklingFailed True False",
        "PicklingFailed False True",
        "NestedContextError",
        "NestedContextError",
    ]
    assert lines(run(tmp_path, script, master)) == expected


def test_a_result_that_can_not_be_pickled_fails_its_job_at_once(tmp_path: Path) -> None:
    script = """
        import threading
        from asparkle import SparkContext
        sc = SparkContext("processes[1]")
        attempts = sc.accumulator(0)
        try:
            sc.parallelize([1], 1).map(lambda x: {"held": threading.Lock()}).collect()
        except Exception as error:
            print(type(error).__name__, error.attempt, "held" in str(error), "lock" in str(error))
        sc.stop()
    """
    assert lines(run(tmp_path, script)) == ["JobFailed 0 True True"]


def test_the_users_frames_come_first_and_the_exception_is_the_cause(tmp_path: Path) -> None:
    script = """
        from asparkle import SparkContext

        class Mine(Exception):
            def __init__(self, code, text):
                super().__init__(code, text)
                self.code = code

        def inner(x):
            raise Mine(x, "no good")

        sc = SparkContext("processes[2]")
        try:
            sc.parallelize([7], 1).map(lambda x: inner(x)).collect()
        except Exception as error:
            print(str(error).splitlines()[0])
            frames = [line for line in str(error).splitlines() if line.lstrip().startswith("File")]
            print(["asparkle" + "/" in frame for frame in frames], "in inner" in frames[-1])
            print(type(error.__cause__) is Mine, error.__cause__.code)
            print(error.partition, error.attempt, error.stage is not None, error.host)
        sc.stop()
    """
    assert lines(run(tmp_path, script)) == [
        "Mine: (7, 'no good')",
        "[False, False] True",
        "True 7",
        "0 3 True localhost",
    ]


def test_a_forked_child_can_not_use_its_parents_context(tmp_path: Path) -> None:
    script = """
        import os, warnings
        warnings.simplefilter("ignore")
        from asparkle import SparkContext
        sc = SparkContext("processes[1]")
        rdd = sc.parallelize(range(4))
        pid = os.fork()
        if pid == 0:
            try:
                rdd.count()
            except Exception as error:
                print(type(error).__name__, flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        print(rdd.count())
        sc.stop()
    """
    assert lines(run(tmp_path, script)) == ["ForkedContextError", "4"]


def test_what_a_forked_child_drops_its_parent_keeps(tmp_path: Path) -> None:
    """Files of elements, of a function and of a broadcast value."""
    script = """
        import gc, os, warnings
        warnings.simplefilter("ignore")
        from asparkle import SparkContext
        sc = SparkContext("processes[1]")
        large = os.urandom(200_000)
        mapped = sc.parallelize([large] * 4, 2).map(lambda x, large=large: x == large)
        shuffled = mapped.map(lambda x: (x, 1)).reduceByKey(lambda a, b: a + b)
        value = sc.broadcast(large)
        print(mapped.count(), shuffled.collect())
        if (pid := os.fork()) == 0:
            del mapped, shuffled, value
            gc.collect()
            os._exit(0)
        os.waitpid(pid, 0)
        print(mapped.count(), shuffled.collect())
        print(sc.parallelize([1], 1).map(lambda x: len(value.value)).collect())
        sc.stop()
    """
    same = "4 [(True, 4)]"
    assert lines(run(tmp_path, script)) == [same, same, "[200000]"]


def test_a_forked_child_has_a_session_of_its_own(tmp_path: Path) -> None:
    script = """
        import os, warnings
        warnings.simplefilter("ignore")
        from asparkle.sql import SparkSession
        with SparkSession.builder.master("inline").getOrCreate() as spark:
            if (pid := os.fork()) == 0:
                print(SparkSession.getActiveSession())
                with SparkSession.builder.master("inline").getOrCreate() as mine:
                    print(mine.sparkContext.parallelize([1, 2]).count(), flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
            print(spark.sparkContext.parallelize([1]).count(), SparkSession.getActiveSession() is spark)
    """
    assert lines(run(tmp_path, script)) == ["None", "2", "1 True"]
