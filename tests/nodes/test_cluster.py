"""A cluster whose nodes are this machine: what takes the place of ssh runs the command here.  Nodes are lost in ways
that a real ssh gives no hold on."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from asparkle import SparkConf
from asparkle.aio import SparkContext
from asparkle.backends.ssh import sync
from asparkle.errors import NoExecutors

from .conversation import PYTHON, environment

LOCAL = """#!/bin/sh
while [ "$1" != "--" ]; do shift; done
shift 2
exec sh -c "$*"
"""
GOES_AWAY = f"""#!{sys.executable}
import os, sys
def take(count):
    return b"".join(os.read(0, 1) for _ in range(count))
os.write(1, b"asparkle-node %d %d %d cpython\\n" % sys.version_info[:3])
for _ in range(2):
    take(int(take(8), 16))
os.write(1, b'{{"send": true}}\\n')
take(1000)  # of the archive
"""


def conf(directory: Path, ssh: str, *nodes: str, **settings: str) -> SparkConf:
    program = directory / "ssh"
    program.write_text(ssh)
    program.chmod(0o700)
    inventory = directory / "nodes.toml"
    variables = ", ".join(f'{name} = "{value}"' for name, value in environment(directory / "home").items())
    names = ", ".join(f'"{node}"' for node in nodes)
    inventory.write_text(f'nodes = [{names}]\n[defaults]\npython = "{PYTHON}"\nenvironment = {{ {variables} }}\n')
    found = SparkConf().setMaster(f"ssh:{inventory}").setAppName("cluster")
    found.set("asparkle.ssh.command", str(program))
    for name, value in settings.items():
        found.set(name.replace("__", "."), value)
    return found


def agent_of_worker(_: int) -> tuple[int, int]:
    time.sleep(0.05)

    def parent(pid: int) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    return os.getpid(), parent(os.getppid())


async def agents(context: SparkContext, workers: int) -> dict[int, int]:
    """The agent of each worker, once there are so many."""
    with anyio.fail_after(30):
        while True:
            found = dict(await context.parallelize(range(workers * 2), workers * 2).map(agent_of_worker).collect())
            if len(found) == workers:
                return found


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_node_that_was_silent_gets_its_workers_back(tmp_path: Path, backend: str) -> None:
    async def main() -> None:
        async with SparkContext(conf=conf(tmp_path, LOCAL, "a*2", "b*2", spark__network__timeout="2s")) as context:
            for _ in range(2):
                frozen = next(iter((await agents(context, 4)).values()))
                os.kill(frozen, signal.SIGSTOP)
                try:
                    await anyio.sleep(3.5)
                finally:
                    os.kill(frozen, signal.SIGCONT)
            await agents(context, 4)

    run(main, backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_connection_that_breaks_while_asparkle_is_sent_is_that_nodes_problem(tmp_path: Path, backend: str) -> None:
    async def main() -> None:
        async with SparkContext(conf=conf(tmp_path, GOES_AWAY, "a*2")) as context:
            with pytest.raises(NoExecutors, match="a: ended with exit status 0 before asparkle ran there"):
                await context.parallelize(range(4), 4).sum()

    run(main, backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_installed_packages_that_can_not_be_packed(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged() -> None:
        raise ValueError("no version in METADATA")

    async def main() -> None:
        settings = {"asparkle.ssh.env": "sync"}
        async with SparkContext(conf=conf(tmp_path, LOCAL, "a*2", **settings)) as context:
            with pytest.raises(
                NoExecutors, match="a: the driver can't pack its installed packages: ValueError: no ver"
            ):
                await context.parallelize(range(4), 4).sum()

    monkeypatch.setattr(sync, "lock", damaged)
    run(main, backend)


@pytest.mark.parametrize("how", ["gone", "paused"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_nobody_reads_what_nodes_print(tmp_path: Path, backend: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    printed, over = threading.Event(), threading.Event()

    class Errors:
        def write(self, text: str) -> None:
            printed.set()
            if how == "gone":
                raise BrokenPipeError
            over.wait()

        def flush(self) -> None:
            return None

    def loud(element: int) -> int:
        print("here", file=sys.stderr, flush=True)
        return element

    async def main() -> None:
        async with SparkContext(conf=conf(tmp_path, LOCAL, "a*2")) as context:
            monkeypatch.setattr(sys, "stderr", Errors())
            assert await context.parallelize(range(4), 4).map(loud).sum() == 6
            assert await anyio.to_thread.run_sync(printed.wait, 30)
            assert await context.parallelize(range(4), 4).sum() == 6

    try:
        run(main, backend)
    finally:
        over.set()


def run(main: Callable[[], Any], backend: str) -> None:
    anyio.run(main, backend=backend)
