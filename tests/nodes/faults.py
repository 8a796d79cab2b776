"""Faults that are done to nodes while a job runs: what each is, and how it is undone.

``python -m nodes.faults`` (in ``tests``) does each of them to a job on three nodes, and prints what it cost.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asparkle import SparkConf, SparkContext, StorageLevel
from asparkle.events import TaskEnded
from asparkle.plugins import Listener

from .conversation import PYTHON
from .hosts import Host, Hosts

PARTITIONS = 12
RECORDS = 24_000
BEFORE = 8  # tasks of the job that end before the fault


def conf(made: Hosts, *, count: int = 3, python: str = PYTHON, **settings: object) -> SparkConf:
    """Of an application on so many of the hosts, two slots each, that takes what says nothing for 4 s for lost."""
    nodes = made.directory / f"nodes{count}.toml"
    names = ", ".join(f'"{host.name}*2"' for host in made.hosts[:count])
    nodes.write_text(f'nodes = [{names}]\n[defaults]\npython = "{python}"\n')
    found = SparkConf().setMaster(f"ssh:{nodes}").setAppName("nodes")
    found.set("asparkle.ssh.options", f"-F {made.config}").set("spark.network.timeout", "4s")
    for name, value in settings.items():
        found.set(name.replace("__", "."), str(value))
    return found


def worker_pids(host: Host) -> list[int]:
    """The workers of a host: the children of the zygote, which is the agent's."""
    return [pid for pid in host.processes() if _is_python(pid) and _depth(host, pid) == 2]


def zygote_pids(host: Host) -> list[int]:
    return [pid for pid in host.processes() if _is_python(pid) and _depth(host, pid) == 1]


def agent_pids(host: Host) -> list[int]:
    return [pid for pid in host.processes() if _is_python(pid) and _depth(host, pid) == 0]


def _is_python(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "python" in Path(f"/proc/{pid}/comm").read_text()
    return False


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _depth(host: Host, pid: int) -> int:
    """How many Pythons are above a process."""
    parent = _parent(pid)
    return 1 + _depth(host, parent) if parent and _is_python(parent) and parent in host.processes() else 0


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


# ------------------------------------------------------------------------------------------------ the job


@dataclass
class Outcome:
    """What a job gave, and what it took."""

    result: Any
    accumulated: tuple[int, int]
    seconds: float
    computed: list[int]  # how often each cached partition was
    events: list[Any] = field(repr=False, default_factory=list)


class Trigger(Listener):
    """Calls a function, once, when so many tasks have ended."""

    name = "trigger"

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self._left = 0
        self._function: Callable[[], None] | None = None
        self.error: BaseException | None = None
        self.done = threading.Event()

    def arm(self, tasks: int, function: Callable[[], None]) -> None:
        self._left, self._function = tasks, function

    def on_event(self, event: Any) -> None:
        self.heard.append(event)
        if isinstance(event, TaskEnded) and self._function is not None:
            self._left -= 1
            if self._left <= 0:
                function, self._function = self._function, None
                try:
                    function()
                except BaseException as error:
                    self.error = error
                finally:
                    self.done.set()


def expected() -> list[tuple[int, int]]:
    """What `job` gives, in plain Python."""
    totals: dict[int, int] = {}
    for i in range(RECORDS):
        totals[i % 600 % 10] = totals.get(i % 600 % 10, 0) + i
    return sorted(totals.items())


def job(
    context: SparkContext,
    trigger: Trigger,
    fault: Callable[[], None] | None,
    *,
    level: StorageLevel = StorageLevel.MEMORY_AND_DISK,
    task_seconds: float = 0.15,
) -> Outcome:
    """Three stages over a cached input; ``fault`` happens in the middle."""
    first, second = context.accumulator(0), context.accumulator(0)

    def pairs(i: int) -> tuple[int, int]:
        return i % 600, i

    def slow(elements: Iterator[Any]) -> Iterator[Any]:
        for _ in range(round(task_seconds / 0.01)):  # each step takes longer in a process that is stopped now and then
            time.sleep(0.01)
        yield from elements

    def count_first(pair: tuple[int, int]) -> tuple[int, int]:
        first.add(1)
        return pair

    def count_second(pair: tuple[int, int]) -> tuple[int, int]:
        second.add(1)
        return pair[0] % 10, pair[1]

    cached = context.parallelize(range(RECORDS), PARTITIONS).map(pairs).persist(level)
    assert cached.count() == RECORDS
    if fault is not None:
        trigger.arm(BEFORE, fault)
    began = time.monotonic()
    result = (
        cached.map(count_first)
        .mapPartitions(slow)
        .reduceByKey(lambda a, b: a + b, 6)
        .map(count_second)
        .mapPartitions(slow)
        .reduceByKey(lambda a, b: a + b, 4)
        .mapPartitions(slow)
        .collect()
    )
    seconds = time.monotonic() - began
    if fault is not None:
        assert trigger.done.wait(30)
        if trigger.error is not None:
            raise trigger.error
    return Outcome(sorted(result), (first.value, second.value), seconds, [], trigger.heard)


# ------------------------------------------------------------------------------------------------ the faults


Undo = Callable[[], None]
Fault = Callable[[Hosts], Undo]


def _nothing() -> None:
    return None


def kill_worker(made: Hosts) -> Undo:
    signal_all(worker_pids(made[0])[:1], signal.SIGKILL)
    return _nothing


def kill_agent(made: Hosts) -> Undo:
    signal_all(agent_pids(made[0]), signal.SIGKILL)
    return _nothing


def kill_zygote(made: Hosts) -> Undo:
    signal_all(zygote_pids(made[0]), signal.SIGKILL)
    return _nothing


def power_off(made: Hosts) -> Undo:
    made[0].power_off()
    return _nothing


def power_off_and_on(made: Hosts) -> Undo:
    made[0].power_off()
    made[0].connect()
    made[0].start()
    return _nothing


def lose_packets(made: Hosts) -> Undo:
    rule = ["INPUT", "-m", "statistic", "--mode", "random", "--probability", "0.2", "-j", "DROP"]
    made[0].execute("iptables", "-A", *rule)
    return lambda: made[0].execute("iptables", "-D", *rule, check=False) and None


def link_away_for_a_moment(made: Hosts) -> Undo:
    made[0].disconnect()
    time.sleep(2)
    made[0].connect()
    return _nothing


def link_away_for_long(made: Hosts) -> Undo:
    made[0].disconnect()
    timer = threading.Timer(8, made[0].connect)
    timer.start()

    def undo() -> None:
        timer.join()

    return undo


def freeze_worker(made: Hosts) -> Undo:
    frozen = worker_pids(made[0])[:1]
    signal_all(frozen, signal.SIGSTOP)
    return lambda: signal_all(frozen, signal.SIGCONT)


def freeze_agent(made: Hosts) -> Undo:
    frozen = agent_pids(made[0])
    signal_all(frozen, signal.SIGSTOP)
    return lambda: signal_all(frozen, signal.SIGCONT)


def freeze_node(made: Hosts) -> Undo:
    frozen = made[0].processes()
    signal_all(frozen, signal.SIGSTOP)
    return lambda: signal_all(frozen, signal.SIGCONT)


def ten_times_slower(made: Hosts) -> Undo:
    """Its workers get one tenth of the time."""
    over = threading.Event()

    def throttle() -> None:
        pids = worker_pids(made[0])
        while not over.is_set():
            signal_all(pids, signal.SIGSTOP)
            until = time.monotonic() + 0.09
            now = worker_pids(made[0])  # which takes a while itself
            over.wait(until - time.monotonic())
            signal_all(pids, signal.SIGCONT)
            pids = now
            over.wait(0.01)

    thread = threading.Thread(target=throttle)
    thread.start()

    def undo() -> None:
        over.set()
        thread.join()
        signal_all(worker_pids(made[0]), signal.SIGCONT)

    return undo


def fill_disk(made: Hosts) -> Undo:
    """Nothing more can be written to it."""
    filling = made[0].temporary / "filling"
    with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    return filling.unlink


def come_up(made: Hosts) -> Undo:
    made[0].start()
    return _nothing


FULL_DISK = "disk full"
LATE = "node comes up late"
SLOW_WITH_SPECULATION = "node ten times slower, speculation"
FAULTS: dict[str, Fault] = {
    "worker killed": kill_worker,
    "agent killed": kill_agent,
    "zygote killed": kill_zygote,
    "node powered off": power_off,
    "node powered off, and on again": power_off_and_on,
    "link loses one packet in five": lose_packets,
    "link away for 2 s": link_away_for_a_moment,
    "link away for 8 s": link_away_for_long,
    "worker frozen": freeze_worker,
    "agent frozen": freeze_agent,
    "node frozen": freeze_node,
    FULL_DISK: fill_disk,
    LATE: come_up,
    "node ten times slower": ten_times_slower,
    SLOW_WITH_SPECULATION: ten_times_slower,
}


TASK_SECONDS = {ten_times_slower: 0.5, come_up: 0.5}  # where tasks have to last
SPACE = {"node1": "64m"}  # in the temporary directory of the first host, as `hosts` takes it


def under(made: Hosts, name: str | None, **settings: object) -> Outcome:
    """The job's outcome while a fault happens to the first of the hosts, which have the `SPACE`."""
    trigger = Trigger()
    undo: list[Undo] = []
    if name == SLOW_WITH_SPECULATION:  # from when half of the tasks have ended: a third of the slots is slow
        settings |= {"spark__speculation": "true", "spark__speculation__quantile": "0.5"}
    if name == FULL_DISK:  # where attempts fail at once, and so many are made
        settings |= {"spark__excludeOnFailure__enabled": "true"}
    if name == LATE:
        made[0].power_off()
        made[0].connect()  # who connects is refused at once
    context = SparkContext(conf=conf(made, **settings), plugins=[trigger])
    try:
        if name is None:
            return job(context, trigger, None)
        seconds = TASK_SECONDS.get(FAULTS[name], 0.15)
        return job(context, trigger, lambda: undo.append(FAULTS[name](made)), task_seconds=seconds)
    finally:
        try:
            context.stop()
        finally:
            for one in undo:
                one()


def left_behind(made: Hosts, seconds: float = 10) -> list[str]:
    """Processes and files of hosts that are there after so much time, unless they go before."""
    deadline = time.monotonic() + seconds
    while True:
        found = [f"{host.name}: process {pid}" for host in made for pid in host.processes()]
        found += [f"{host.name}: {path}" for host in made for path in host.left()]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def main() -> None:
    import tempfile

    from .hosts import hosts

    print(f"{'fault':34} {'seconds':>8}")
    with tempfile.TemporaryDirectory() as directory:
        for name in [None, *FAULTS]:
            root = Path(directory) / str(name).replace(" ", "-")
            root.mkdir()
            with hosts(3, root, space=SPACE) as made:
                outcome = under(made, name)
                right = outcome.result == expected() and outcome.accumulated == (RECORDS, 600)
                print(f"{name or 'none':34} {outcome.seconds:8.2f} {'' if right else 'WRONG'}", flush=True)


if __name__ == "__main__":
    main()
