"""What `RDD.pipe` starts ends: with its task, its context and its driver, and with all that it has started itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from scripts import ENVIRONMENT, run_script
from waiting import SECONDS, until, wait_until

from asparkle.aio import SparkContext
from asparkle.core.piping import Process
from asparkle.errors import ContextStopped

pytestmark = pytest.mark.anyio
MASTERS = ["threads[2]", "processes[2]"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


STRAY = """
import os, signal, sys, time
os.setsid()
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # it ends when nobody reads the named pipe any more
if "silent" in sys.argv:
    os.close(1)
pipe = os.open(sys.argv[1], os.O_WRONLY)
while True:
    os.write(pipe, b".")
    time.sleep(0.01)
"""


class Started:
    """Processes of `command`, and their children: how many have begun, and whether all have ended.

    Each has one end of a named pipe open for as long as it lives, whoever its parent is.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._begun = 0
        self.command = f"sh -c 'exec 3>{path}; sleep 1000 <&- >&- & echo . >&3; sleep 1000; true'"

    def begun(self) -> int:
        self._read()
        return self._begun

    def ended(self) -> bool:
        return self._read()

    def _read(self) -> bool:
        """Whether nobody has the other end."""
        try:
            while data := os.read(self._fd, 1 << 16):
                self._begun += data.count(b".")
            return True
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    with closing(Started(tmp_path / "pipe")) as started:
        yield started


@pytest.mark.parametrize("master", MASTERS)
async def test_they_end_when_the_job_is_cancelled_and_leave_their_slots(master: str, started: Started) -> None:
    async with SparkContext(master) as sc:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sc.parallelize(range(2), 2).pipe(started.command).collect)
            await until(lambda: started.begun() == 2)
            tasks.cancel_scope.cancel()
        await until(started.ended)
        assert await sc.parallelize(range(2), 2).pipe("cat").collect() == ["0", "1"]


@pytest.mark.parametrize("master", ["threads[1]", "processes[1]"])
@pytest.mark.parametrize(
    ("command", "survives"),
    [("{stray}", False), ("{stray} silent", False), ("sh -c '{stray} & exit 0'", True)],
    ids=["command", "command without output", "its child"],
)
async def test_what_leaves_their_group_keeps_no_slot(
    master: str, command: str, survives: bool, started: Started, tmp_path: Path
) -> None:
    script = tmp_path / "stray.py"
    script.write_text(STRAY)
    command = command.format(stray=f"{sys.executable} {script} {started.path}")
    async with SparkContext(master) as sc:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sc.parallelize([1], 1).pipe(command).collect)
            await until(started.begun)
            tasks.cancel_scope.cancel()
        with anyio.fail_after(SECONDS):
            assert await sc.parallelize([1], 1).pipe("cat").collect() == ["1"]
        if survives:
            before = started.begun()
            await until(lambda: started.begun() > before)
        else:
            await until(started.ended)


@pytest.mark.parametrize("master", MASTERS)
async def test_they_end_when_the_context_is_stopped(master: str, started: Started) -> None:
    async with SparkContext(master) as sc:
        job = sc.submit(sc.parallelize(range(2), 2).pipe(started.command).collect)
        await until(lambda: started.begun() == 2)
    with pytest.raises(ContextStopped):
        await job
    await until(started.ended)


@pytest.mark.parametrize("master", MASTERS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_they_end_when_the_driver_is_killed(master: str, number: int, started: Started) -> None:
    script = """
        import signal, sys
        from asparkle import SparkContext
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may be started where it is ignored
        SparkContext(sys.argv[1]).parallelize(range(2), 2).pipe(sys.argv[2]).collect()
    """
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), master, started.command], env=ENVIRONMENT)
    wait_until(lambda: started.begun() == 2)
    driver.send_signal(number)
    driver.wait()
    wait_until(started.ended)


async def test_they_end_when_the_job_is_cancelled_while_they_are_started(started: Started, tmp_path: Path) -> None:
    starting = tmp_path / "starting"

    def start_slowly(elements: Iterator[int]) -> Iterator[int]:
        """The interrupt comes when there is a process, and nobody has it yet."""
        import asparkle.core.worker.task as task

        start, environment = subprocess.Popen.__init__, task.current_environment()

        def wait_for_interrupt(*arguments: object, **options: object) -> None:
            start(*arguments, **options)
            if "sleep" in str(arguments):
                starting.touch()
                while environment.task.tid not in environment.worker.killing:
                    time.sleep(0.001)
                time.sleep(0.1)  # it strikes right after

        subprocess.Popen.__init__ = wait_for_interrupt
        return elements

    async with SparkContext("processes[1]") as sc:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sc.parallelize([1], 1).mapPartitions(start_slowly).pipe(started.command).collect)
            await until(starting.exists)
            tasks.cancel_scope.cancel()
        await until(started.ended)


def test_what_a_command_leaves_running_ends_with_it(started: Started) -> None:
    in_background = f"{started.command.removesuffix('; sleep 1000; true' + chr(39))}'"
    with closing(Process(in_background, {})) as process:
        assert list(process.lines(iter([]))) == []
        wait_until(lambda: started.begun() == 1)
        assert not started.ended()
    wait_until(started.ended)


def test_a_command_that_can_not_be_started_leaves_nothing() -> None:
    script = """
        import os
        from asparkle.core.piping import Process
        try:
            Process("no_such_command", {})
        except FileNotFoundError:
            print("not found")
        os.waitpid(-1, os.WNOHANG)
    """
    done = run_script(script)
    assert (done.stdout, done.stderr.splitlines()[-1][:17]) == ("not found\n", "ChildProcessError")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_may_end_its_own_group(number: signal.Signals) -> None:
    """Scripts end their children with `kill 0`."""
    with closing(Process(f"sh -c 'sleep 1000 & echo a; kill -{number} 0'", {})) as process:
        assert list(process.lines(iter([]))) == ["a"]
        assert process.status == -number


def test_output_goes_on_when_the_group_has_been_killed() -> None:
    code = "import os, sys; group = os.getpgrp(); os.setsid(); os.killpg(group, 9); print(sys.stdin.read().split())"
    with closing(Process(f'{sys.executable} -c "{code}"', {})) as process:
        assert list(process.lines(iter([1, 2]))) == ["['1', '2']"]
        assert process.status == 0
