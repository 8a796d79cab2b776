"""Peak memory of a sort, a join, a groupByKey, and one with a hot key, of more data than workers may hold.

    python -m contrib.bench.memory --gigabytes 2 --limit 512m

The records are made inside the tasks.  Each job runs in a process of its own; its resident memory and that
of each of its descendants is sampled from outside until it ends.  Shown are the peaks: all resident pages,
and those that are not mapped from files (which the system could drop).  Results are checked.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
RECORD = 1000
PARTITIONS = 16
HOT_SHARE = 0.5


# ------------------------------------------------------------------------- the jobs, in the child


def generator(records: int, key: Callable[[random.Random, int], Any]) -> Callable[[int], Iterator[Any]]:
    """A function from a partition number to its pairs; the same pairs each time it is called."""

    def pairs(partition: int) -> Iterator[Any]:
        rng = random.Random(partition)
        start, end = records * partition // PARTITIONS, records * (partition + 1) // PARTITIONS
        for i in range(start, end):
            yield key(rng, i), rng.randbytes(RECORD)

    return pairs


def sort(sc: Any, records: int) -> str:
    pairs = generator(records, lambda rng, i: rng.getrandbits(60))

    def summary(part: Iterator[Any]) -> Iterator[Any]:
        count, first, last = 0, None, None
        for key, _ in part:
            if count == 0:
                first = key
            elif key < last:
                raise ValueError("not sorted")
            count, last = count + 1, key
        if count:
            yield first, last, count

    parts = sc.parallelize(range(PARTITIONS), PARTITIONS).flatMap(pairs).sortByKey().mapPartitions(summary).collect()
    bounds = [bound for first, last, _ in parts for bound in (first, last)]
    assert bounds == sorted(bounds), "the partitions are not in order"
    return _counted(sum(count for _, _, count in parts), records)


def group(sc: Any, records: int) -> str:
    pairs = generator(records, lambda rng, i: i % (records // 100))
    return _grouped(sc, records, pairs)


def hot(sc: Any, records: int) -> str:
    pairs = generator(records, lambda rng, i: -1 if rng.random() < HOT_SHARE else i % (records // 100))
    return _grouped(sc, records, pairs)


def _grouped(sc: Any, records: int, pairs: Callable[[int], Iterator[Any]]) -> str:
    rdd = sc.parallelize(range(PARTITIONS), PARTITIONS).flatMap(pairs).groupByKey()
    sizes = rdd.mapValues(lambda values: sum(1 for _ in values)).collect()
    largest = max(size for _, size in sizes)
    assert len({key for key, _ in sizes}) == len(sizes), "a key was grouped twice"
    return f"{_counted(sum(size for _, size in sizes), records)}, {len(sizes)} groups, the largest of {largest}"


def join(sc: Any, records: int) -> str:
    """Two inputs of half of the records each, in which each key is once."""
    left, right = (
        sc.parallelize(range(PARTITIONS), PARTITIONS).flatMap(generator(records // 2, key))
        for key in (lambda rng, i: i, lambda rng, i: records // 2 - 1 - i)
    )
    lengths = left.join(right).map(lambda pair: len(pair[1][0]) + len(pair[1][1]))
    count, total = lengths.aggregate((0, 0), lambda a, x: (a[0] + 1, a[1] + x), lambda a, b: (a[0] + b[0], a[1] + b[1]))
    assert total == 2 * RECORD * count, "something else was joined"
    return _counted(2 * count, records // 2 * 2)


def _counted(count: int, records: int) -> str:
    assert count == records, f"{count} records of {records}"
    return f"{count} records"


JOBS = {"sort": sort, "group": group, "hot": hot, "join": join}


def run(job: str, gigabytes: float, master: str, limit: str, engine: str) -> None:
    records = int(gigabytes * 2**30 / (RECORD + 40))
    if engine == "pyspark":
        from pyspark import SparkConf, SparkContext
    else:
        from asparkle import SparkConf, SparkContext
    conf = SparkConf().setMaster(master).setAppName(job).set("spark.python.worker.memory", limit)
    conf.set("spark.default.parallelism", str(PARTITIONS))
    sc = SparkContext(conf=conf)
    start = time.perf_counter()
    result = JOBS[job](sc, records)
    print(f"{job}: {result}, {time.perf_counter() - start:.1f} s", flush=True)
    sc.stop()


# ------------------------------------------------------------------ the sampler, in the parent


@dataclass
class Peaks:
    """Megabytes at their highest: of the driver, of the largest other process, and of all together."""

    resident: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    unmapped: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    processes: int = 0

    def take(self, sample: dict[int, tuple[float, float]], driver: int) -> None:
        for peaks, index in ((self.resident, 0), (self.unmapped, 1)):
            others = [memory[index] for pid, memory in sample.items() if pid != driver]
            own = sample.get(driver, (0.0, 0.0))[index]
            for name, value in (
                ("driver", own),
                ("worker", max(others, default=0)),
                ("all", own + sum(others)),
            ):
                peaks[name] = max(peaks[name], value)
        self.processes = max(self.processes, len(sample))

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {self.resident[name]:.0f} MB ({self.unmapped[name]:.0f} not of files)"
            for name in ("driver", "worker", "all")
        )


def memory_of_tree(root: int) -> dict[int, tuple[float, float]]:
    """Resident and anonymous megabytes of a process and its descendants."""
    parents, memory = {}, {}
    for pid, parent, resident, anonymous in _proc() if Path("/proc/self/status").exists() else _ps():
        parents[pid], memory[pid] = parent, (resident / 1024, anonymous / 1024)
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return {pid: memory[pid] for pid in family if pid in memory}


def _proc() -> Iterator[tuple[int, int, int, int]]:
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except (OSError, ValueError):  # it has ended meanwhile
            continue
        if "VmRSS" in fields:
            sizes = [int(fields[name].split()[0]) for name in ("VmRSS", "RssAnon")]
            yield int(status.parent.name), int(fields["PPid"]), sizes[0], sizes[1]


def _ps() -> Iterator[tuple[int, int, int, int]]:
    lines = subprocess.run(["ps", "-axo", "pid=,ppid=,rss="], capture_output=True, text=True).stdout
    for line in lines.splitlines():
        pid, parent, resident = map(int, line.split())
        yield pid, parent, resident, resident


def watch(command: list[str]) -> tuple[Peaks, int]:
    peaks = Peaks()
    process = subprocess.Popen(command, cwd=CHECKOUT)
    while process.poll() is None:
        peaks.take(memory_of_tree(process.pid), process.pid)
        time.sleep(0.05)
    return peaks, process.returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m contrib.bench.memory", description=__doc__.split("\n")[0])
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"of {', '.join(JOBS)} (default: all)")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of pickled data (default: 2)")
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--limit", default="512m", help="spark.python.worker.memory (default: 512m)")
    parser.add_argument("--engine", choices=["asparkle", "pyspark"], default="asparkle")
    parser.add_argument("--python", default=sys.executable, help="the interpreter to use")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.jobs) - set(JOBS):
        parser.error(f"unknown jobs: {', '.join(sorted(unknown))}")
    if options.child:
        [job] = options.jobs
        run(job, options.gigabytes, options.master, options.limit, options.engine)
        return 0
    failed = 0
    for job in options.jobs or JOBS:
        command = [options.python, "-m", "contrib.bench.memory", job, "--child", "--master", options.master]
        command += [
            "--gigabytes",
            str(options.gigabytes),
            "--limit",
            options.limit,
            "--engine",
            options.engine,
        ]
        peaks, code = watch(command)
        print(f"{job}: peaks of {peaks.processes} processes: {peaks}")
        if code:
            print(f"{job}: FAILED with exit code {code}")
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
