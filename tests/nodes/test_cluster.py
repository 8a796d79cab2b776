"""A cluster whose nodes are this machine: what takes the place of ssh runs the command here.  Nodes are lost in ways
that a real ssh gives no hold on."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from asparkle import SparkConf
from asparkle.aio import SparkContext
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


def run(main: Callable[[], Any], backend: str) -> None:
    anyio.run(main, backend=backend)
