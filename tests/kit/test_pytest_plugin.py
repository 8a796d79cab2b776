"""pytest's plugin, as another project has it: found by its entry point, and idle until it is asked."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from asparkle.core.events import ApplicationStarted, JobEnded

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def project(tmp_path):
    """``project(tests)``: what pytest says of a module of tests, where asparkle is installed."""
    installed = tmp_path / "installed" / "asparkle_as_installed-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: asparkle-as-installed\nVersion: 0\n")
    points = [f"{name} = {value}" for name, value in PROJECT["entry-points"]["pytest11"].items()]
    (installed / "entry_points.txt").write_text("\n".join(["[pytest11]", *points, ""]))
    (tmp_path / "project").mkdir()

    def run(tests: str, *options: str) -> str:
        (tmp_path / "project" / "test_mine.py").write_text(textwrap.dedent(tests))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "--tb=short", *options],
            cwd=tmp_path / "project",
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(installed.parent)])},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout + done.stderr

    return run


def test_fixtures_are_there(project):
    said = project(
        """
        import anyio
        import pytest
        from asparkle.core.events import JobEnded

        @pytest.mark.usefixtures("no_leaks")
        def test_blocking(spark_context, event_recorder):
            assert spark_context.master == "threads[2]"
            assert spark_context.parallelize(range(10)).sum() == 45
            spark_context.stop()
            assert [event.failure for event in event_recorder.of_type(JobEnded)] == [""]

        def test_asynchronous(no_leaks, async_spark_context):
            async def main():
                async with async_spark_context as sc:
                    return await sc.parallelize(range(10)).sum()

            assert anyio.run(main) == 45

        class TestElsewhere:
            @pytest.fixture
            def asparkle_master(self):
                return "inline"

            def test_it(self, spark_context):
                assert spark_context.master == "inline"
        """
    )
    assert "3 passed" in said


def test_a_leak_fails_the_test(project):
    said = project(
        """
        import subprocess, threading

        left = []

        def test_process(no_leaks):
            left.append(subprocess.Popen(["sleep", "10"]))

        def test_thread(no_leaks):
            threading.Thread(target=threading.Event().wait, name="forgotten", daemon=True).start()

        def test_file(no_leaks, tmp_path):
            left.append(open(tmp_path / "local" / "block", "w"))

        def test_end():
            left[0].kill()
        """
    )
    assert "4 passed, 3 errors" in said
    assert "Leak: left a process (" in said and ": sleep 10)" in said
    assert "Leak: left a thread (forgotten)" in said
    assert "Leak: left a file (" in said and "/local/block); a file descriptor (" in said


def test_it_can_be_left_out(project):
    said = project("def test_it(spark_context): pass", "-p", "no:asparkle.testing.pytest_plugin")
    assert "fixture 'spark_context' not found" in said


def test_it_is_loaded_once_when_it_is_named_too(project):
    assert "1 passed" in project("def test_it(event_recorder): pass", "-p", "asparkle.testing.pytest_plugin")


def test_loading_it_imports_nothing_else():
    script = """
        import sys, pytest
        before = set(sys.modules)
        import asparkle
        own = set(sys.modules)
        import asparkle.testing.pytest_plugin
        print(sorted(set(sys.modules) - own), "anyio" in set(sys.modules) - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "['asparkle.testing', 'asparkle.testing.pytest_plugin'] False\n"


def test_the_recorder_has_all_events_of_the_context(spark_context, event_recorder):
    spark_context.parallelize(range(4)).count()
    spark_context.stop()
    assert isinstance(event_recorder.recorded[0], ApplicationStarted)
    assert len(event_recorder.of_type(JobEnded)) == 1
