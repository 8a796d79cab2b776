"""The driver's packages on nodes over real ssh: jobs that import what no node has."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from asparkle.backends.ssh import stage0

from .conversation import PYTHON
from .disks import disk_of
from .faults import conf, left_behind
from .hosts import Host, Hosts, hosts
from .packages import NEEDED, copy_installed, install

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DEBIANS = "/usr/bin/python3"

PROGRAM = """
import json, logging, os, sys, time
from asparkle import SparkConf

logging.basicConfig(level=logging.INFO)
settings, function, partitions, nodes = json.loads(sys.argv[1])
conf = SparkConf().setAppName("sync").setAll(list(settings.items()))
names = {}
exec(function, names)
"""

BLOCKING = f"""{PROGRAM}
from asparkle import SparkContext

def where(_):
    time.sleep(0.05)
    return os.uname().nodename

with SparkContext(conf=conf) as context:
    while context.parallelize(range(8), 8).map(where).distinct().count() < nodes:
        pass
    print(json.dumps(context.parallelize(range(partitions), partitions).map(names["f"]).collect()))
"""

ON_TRIO = f"""{PROGRAM}
import anyio
from asparkle.aio import SparkContext

async def main():
    async with SparkContext(conf=conf) as context:
        print(json.dumps(await context.parallelize(range(partitions), partitions).map(names["f"]).collect()))

anyio.run(main, backend="trio")
"""

TELL = """
def f(i):
    import os, sys
    import moon, numpy
    total = int(numpy.arange(i + 1).sum())
    return total, moon.PHASE, numpy.__file__, moon.__file__, sys.executable, os.uname().nodename
"""

MOON = """
def f(i):
    import moon
    return moon.PHASE
"""


@dataclass
class Driver:
    """A program that runs where asparkle, and what is in ``site``, is installed, and nothing else."""

    made: Hosts
    site: Path
    python: str  # of the nodes
    program: str = BLOCKING

    def start(
        self, function: str, count: int = 1, partitions: int = 2, at_once: int = 1, **settings: str
    ) -> subprocess.Popen[str]:
        """``at_once``: nodes that there must be before the job begins."""
        found = conf(self.made, count=count, python=self.python, **{"asparkle__ssh__env": "sync", **settings})
        return subprocess.Popen(
            [PYTHON, "-S", "-c", self.program, json.dumps([dict(found.getAll()), function, partitions, at_once])],
            env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": f"{ROOT}:{self.site}"},
            cwd=self.made.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, function: str, *arguments: Any, **settings: str) -> tuple[list[Any], str]:
        """What the job gives, and what the driver says besides."""
        process = self.start(function, *arguments, **settings)
        out, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        return json.loads(out), said


def environments(host: Host) -> list[Path]:
    return sorted((host.directory / "home" / ".cache" / "asparkle").glob("env-*"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A driver's packages: numpy, and a small one."""
    found = tmp_path_factory.mktemp("driver") / "site-packages"
    copy_installed(found, [*NEEDED, "pip", "numpy", "trio", "outcome", "attrs", "sortedcontainers"])
    install(found, "moon", {"moon/__init__.py": "PHASE = 3"})
    (told,) = Path(str(distribution("asparkle").locate_file(""))).glob("asparkle-*.dist-info")
    shutil.copytree(told, found / told.name)
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python without any packages."""
    directory = tmp_path_factory.mktemp("bare")
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", directory], check=True)
    return str(directory / "bin" / "python3")


@pytest.fixture
def driver(tmp_path: Path, site: Path, bare: str) -> Iterator[Driver]:
    with hosts(2, tmp_path) as made:
        found = Driver(made, site, bare)
        yield found
        assert left_behind(made) == []


def versions_match() -> bool:
    if not os.path.exists(DEBIANS):
        return False
    told = subprocess.check_output([DEBIANS, "-c", "import sys; print(*sys.version_info[:2])"], text=True)
    return told.split() == [str(part) for part in sys.version_info[:2]]


@pytest.mark.parametrize("python", ["a Python without packages", "Debian's"])
def test_a_job_imports_what_its_nodes_never_had(driver: Driver, python: str) -> None:
    if python == "Debian's" and versions_match():  # another build than the driver's, with packages of its own
        driver.python = DEBIANS
    for module in ("numpy", "moon"):
        told = driver.made[0].execute(driver.python, "-c", f"import {module}", check=False)
        with pytest.raises(AssertionError, match=f"No module named '{module}'"):
            driver.made[0].execute(driver.python, "-c", f"import {module}")
        assert told == ""
    found, said = driver.run(TELL, 2, 8, 2)
    assert [total for total, *_ in found] == [0, 1, 3, 6, 10, 15, 21, 28]
    assert {name for *_, name in found} == {"node1", "node2"}
    for host in driver.made:
        (environment,) = environments(host)
        (packages,) = environment.glob("lib/python3*/site-packages")
        assert {tuple(told) for _, *told, name in found if name == host.name} == {
            (3, f"{packages}/numpy/__init__.py", f"{packages}/moon/__init__.py", f"{environment}/bin/python3")
        }
    assert said.count("the environment is there") == 2
    shutil.move(driver.site / "numpy", driver.site / "numpy-away")  # nothing is packed, and nothing sent, any more
    try:
        again, _ = driver.run(TELL, 1, 8)
    finally:
        shutil.move(driver.site / "numpy-away", driver.site / "numpy")
    assert [told[0] for told in again] == [told[0] for told in found]
    assert {told[2] for told in again} == {told[2] for told in found if told[-1] == "node1"}


def test_on_trio(driver: Driver) -> None:
    driver.program = ON_TRIO
    found, _ = driver.run(TELL)
    assert [told[0] for told in found] == [0, 1] and len(environments(driver.made[0])) == 1


def test_without_sync_the_node_has_its_own(driver: Driver) -> None:
    process = driver.start(MOON, asparkle__ssh__env="", spark__task__maxFailures="1")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and "no module named 'moon' on host 'node1'" in said
    assert environments(driver.made[0]) == []


def test_a_file_of_nodes_may_say_so_of_each(driver: Driver) -> None:
    nodes = driver.made.directory / "each.toml"
    for env, key in (("sync", ""), ("", "sync")):
        nodes.write_text(f'[[nodes]]\nhost = "node1"\npython = "{driver.python}"\nenv = "{env}"\n')
        process = driver.start(MOON, spark__master=f"ssh:{nodes}", asparkle__ssh__env=key)
        out, said = process.communicate(timeout=60)
        assert (process.returncode == 0) == (env == "sync"), said
        assert len(environments(driver.made[0])) == 1


def test_two_drivers_at_once(driver: Driver) -> None:
    processes = [driver.start(TELL) for _ in range(2)]
    told = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert len(environments(driver.made[0])) == 1
    assert json.loads(told[0][0]) == json.loads(told[1][0])


# ---------------------------------------------------------------------------------------------------------- faults


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    return found


def begun(host: Host) -> list[Path]:
    """What is being built there."""
    return [
        *(host.directory / "home" / ".cache" / "asparkle").glob(f"{stage0.UNPACKING}env-*/tree-*/{stage0.MANIFEST}")
    ]


def builders(host: Host) -> list[int]:
    return [pid for pid in host.processes() if b"ssh.environment" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.parametrize("who", ["builder", "all"])
def test_who_is_killed_while_it_builds_leaves_what_the_next_one_goes_on_with(driver: Driver, who: str) -> None:
    process = driver.start(TELL)
    (host, _) = driver.made
    until(lambda: begun(host), process)
    for pid in builders(host) if who == "builder" else host.processes():
        os.kill(pid, signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1 and "NoExecutors" in said and "node1: " in said
    assert ("the process that builds its environment was ended" in said) == (who == "builder")
    assert left_behind(driver.made) == [] and environments(host) == []
    found, _ = driver.run(TELL)
    assert [total for total, *_ in found] == [0, 1] and len(environments(host)) == 1 and begun(host) == []


def test_while_one_node_is_built_another_works(driver: Driver) -> None:
    driver.run(MOON)
    found, said = driver.run(MOON, 2, 4)
    assert found == [3] * 4
    assert left_behind(driver.made) == []


def test_a_driver_that_is_killed_meanwhile_leaves_no_process(driver: Driver) -> None:
    process = driver.start(TELL)
    (host, _) = driver.made
    until(lambda: begun(host), process)
    process.kill()
    process.communicate()
    assert left_behind(driver.made) == [] and environments(host) == []
    found, _ = driver.run(TELL)
    assert [total for total, *_ in found] == [0, 1] and len(environments(host)) == 1


def test_a_slow_build_is_not_taken_for_a_lost_node(driver: Driver) -> None:
    """It takes longer than a node may say nothing, and than one may take to be there."""
    process = driver.start(TELL, asparkle__ssh__connect__timeout="3s")
    (host, _) = driver.made
    (builder,) = until(lambda: begun(host) and builders(host), process)
    os.kill(builder, signal.SIGSTOP)
    time.sleep(6)  # being slow is what it is there for
    os.kill(builder, signal.SIGCONT)
    out, said = process.communicate(timeout=120)
    assert process.returncode == 0 and "a node is not there" not in said, said


@pytest.fixture
def small(driver: Driver) -> Iterator[Path]:
    """A disk of 12 MB, on which the first node's home is."""
    host = driver.made[0]
    with disk_of("12m", host.directory / "home") as home:
        host.power_off()  # what runs there sees the mounts that there were when it was started
        host.connect()
        host.start()
        ssh = ["ssh", "-F", str(driver.made.config), "-o", "BatchMode=yes", host.name, f"df -k {home}"]
        wait_until(lambda: "12288" in subprocess.run(ssh, capture_output=True, text=True).stdout)
        yield home


def test_a_disk_that_fills_up_meanwhile_is_no_obstacle_where_there_is_another(driver: Driver, small: Path) -> None:
    record = next(driver.site.glob("numpy-*.dist-info")) / "RECORD"
    whole = record.read_text()
    record.write_text("".join(f"{line.rpartition(',')[0]},\n" for line in whole.splitlines()))  # as if it were small
    try:
        found, said = driver.run(TELL)
    finally:
        record.write_text(whole)
    caches = driver.made[0].directory / "tmp" / f"asparkle-cache-{os.getuid()}"
    assert all(file.startswith(f"{caches}/env-") for _, _, file, *_ in found), found
    assert environments(driver.made[0]) == [] and begun(driver.made[0]) == []
    shutil.rmtree(caches)


def test_a_full_disk_is_an_error_that_names_the_node(driver: Driver, small: Path) -> None:
    nodes = driver.made.directory / "full.toml"
    nodes.write_text(
        f'[[nodes]]\nhost = "node1"\npython = "{driver.python}"\ndirectory = "{small}/files"\n'
        f'environment = {{ XDG_CACHE_HOME = "{small}/cache" }}\n'
    )
    process = driver.start(TELL, spark__master=f"ssh:{nodes}")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "node1: the driver's packages can't be kept" in said and "No space left on device" in said
    assert "free space in one of them, or give the node another `directory`" in said
    assert [*small.rglob("env-*")] == [] and [*small.rglob("unpacking-*")] == []
