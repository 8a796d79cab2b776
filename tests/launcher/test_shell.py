"""``asparkle shell``, typed at in a pseudo-terminal."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from .test_run import ENVIRONMENT, run

pexpect = pytest.importorskip("pexpect")
IPYTHON = importlib.util.find_spec("IPython") is not None
TIMEOUT = 60
SLOW = "sc.parallelize(range(600), 600).map(lambda x: time.sleep(0.1) or x).sum()"


class Shell:
    """A shell and its terminal."""

    def __init__(self, directory: Any, prompt: str, *words: str, **environment: str) -> None:
        self.prompt = prompt
        self.terminal = pexpect.spawn(
            sys.executable,
            ["-m", "asparkle", "shell", "--master", "processes[2]", *words],
            cwd=str(directory),
            env=ENVIRONMENT | {"TERM": "xterm", "HOME": str(directory), "COLUMNS": "100"} | environment,
            dimensions=(40, 100),
            encoding="utf-8",
            timeout=TIMEOUT,
        )
        self.banner = self.read()

    def read(self) -> str:
        self.terminal.expect(self.prompt)
        return self.terminal.before.replace("\r\n", "\n")

    def type(self, line: str) -> str:
        """What is shown after a line, up to the next prompt."""
        self.terminal.send(line + "\r")
        return self.read()

    def end(self) -> int:
        self.terminal.send("exit()\r")
        self.terminal.expect(pexpect.EOF)
        self.terminal.close()
        return self.terminal.exitstatus


@pytest.fixture
def plain(tmp_path) -> Iterator[Shell]:
    shell = Shell(tmp_path, ">>> ", IPYTHON="0")
    yield shell
    shell.terminal.close(force=True)


def test_a_prompt_with_a_context(plain):
    assert "asparkle " in plain.banner and "master processes[2]" in plain.banner
    assert "45\n" in plain.type("sc.parallelize(range(10)).sum()")
    assert "[Row(a=1)]\n" in plain.type("spark.createDataFrame([(1,)], ['a']).collect()")
    assert "[0, 2]\n" in plain.type("sc.parallelize(range(2)).map(lambda x: 2 * x).collect()")
    assert plain.end() == 0


def test_functions_typed_at_the_prompt_go_to_workers(plain):
    plain.prompt = r"\.\.\. "
    plain.type("def double(x):")
    plain.type("    return 2 * x")
    plain.prompt = ">>> "
    plain.type("")
    assert "[0, 2, 4]\n" in plain.type("sc.parallelize(range(3)).map(double).collect()")


def test_await_at_the_prompt(plain):
    plain.type("import asyncio")
    assert "42\n" in plain.type("await asyncio.sleep(0, 42)")
    plain.type("from asparkle import aio")
    plain.type("asc = await aio.SparkContext('threads[2]').__aenter__()")
    assert "6\n" in plain.type("await asc.parallelize(range(4)).sum()")
    plain.type("await asc.stop()")
    assert "ZeroDivisionError" in plain.type("await asyncio.sleep(1 / 0)")
    assert plain.end() == 0


def test_ctrl_c_cancels_the_job_and_not_the_shell(plain):
    plain.type("import time")
    plain.terminal.send(SLOW + "\r")
    plain.terminal.expect("Stage 0: ")  # the bar is drawn: the job runs
    plain.terminal.sendintr()
    assert "KeyboardInterrupt" in plain.read()
    assert "45\n" in plain.type("sc.parallelize(range(10)).sum()")
    plain.type("import asyncio")
    plain.terminal.send("print('begun'); await asyncio.sleep(600)\r")
    plain.terminal.expect("\nbegun")
    plain.terminal.sendintr()
    assert "KeyboardInterrupt" in plain.read()
    assert plain.end() == 0


def test_a_long_job_shows_a_bar_and_takes_it_away(plain):
    plain.type("import time")
    shown = plain.type("print(sc.parallelize(range(20), 20).map(lambda x: time.sleep(0.1) or x).sum(), 'elements')")
    assert "Stage 0: " in shown and "/20 [" in shown
    assert shown.rpartition("\x1b[K")[2].strip() == "190 elements" or "\r\x1b[K190 elements" in shown
    assert "[Stage" not in plain.type("sc.parallelize(range(10)).sum()")


def test_no_bar_where_it_is_not_wanted(tmp_path):
    shell = Shell(tmp_path, ">>> ", "--conf", "spark.ui.showConsoleProgress=false", IPYTHON="0")
    shell.type("import time")
    assert "Stage" not in shell.type("sc.parallelize(range(10), 10).map(lambda x: time.sleep(0.2) or x).sum()")
    assert shell.end() == 0


def test_rdds_show_what_they_are_and_run_nothing(plain):
    plain.type("r = sc.parallelize(range(4), 3).map(lambda x: 1 / 0).setName('ratios').cache()")
    assert plain.type("r").partition("\n")[2] == (
        "RDD 1 'ratios': 3 partitions, kept: Memory Serialized 1x Replicated\n"
        "(3) 1 map 'ratios', kept: Memory Serialized 1x Replicated\n"
        "(3) 0 range\n"
    )


def test_tab_completes_methods(plain):
    plain.type("r = sc.parallelize([])")
    plain.terminal.send("r.coalesc\t")
    plain.terminal.expect_exact("r.coalesce")


def test_a_pipe_is_no_terminal(tmp_path):
    source = "import time\nsc.parallelize(range(8), 8).map(lambda x: time.sleep(0.2) or x).sum()\n"
    done = subprocess.run(
        [sys.executable, "-m", "asparkle", "shell", "--master", "processes[2]"],
        input=source,
        env=ENVIRONMENT | {"IPYTHON": "0"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0 and "28" in done.stdout
    assert "Stage" not in done.stdout + done.stderr


def test_jupyter_is_not_a_terminal_and_is_refused(tmp_path):
    done = run(tmp_path, command="shell", PYSPARK_DRIVER_PYTHON="jupyter")
    assert done.returncode == 2 and "asparkle shell is for terminals" in done.stderr


@pytest.mark.skipif(IPYTHON, reason="IPython is installed")
def test_without_ipython_the_error_names_the_extra(tmp_path):
    done = run(tmp_path, command="shell", IPYTHON="1")
    assert done.returncode == 2 and "pip install 'asparkle[shell]'" in done.stderr


@pytest.mark.skipif(not IPYTHON, reason="needs IPython")
def test_ipython(tmp_path):
    simple = {"IPY_TEST_SIMPLE_PROMPT": "1", "NO_COLOR": "1"}  # without the escapes that a test would have to parse
    shell = Shell(tmp_path, r"In \[\d+\]: ", "--pyspark", IPYTHON="1", IPYTHONDIR=str(tmp_path), **simple)
    assert "master processes[2]" in shell.banner
    shell.terminal.send("import time, asyncio, pyspark; print('asked', pyspark.__name__)\r")
    shell.terminal.expect("asked asparkle.pyspark")
    shell.terminal.send("r = sc.parallelize(range(4), 3); r\r")
    shell.terminal.expect("RDD 0: 3 partitions, not kept")
    shell.terminal.send("await asyncio.sleep(0, 4242)\r")
    shell.terminal.expect(r"Out\S*\[.*4242")
    shell.terminal.send(SLOW + "\r")
    shell.terminal.expect("Stage 0: ")
    shell.terminal.sendintr()
    shell.terminal.expect("KeyboardInterrupt\r")
    shell.terminal.send("r.count() + 4000\r")
    shell.terminal.expect(r"4004")
    assert shell.end() == 0
