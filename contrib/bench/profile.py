"""Where the time of a workload goes, in the driver and in the workers.

    python -m contrib.bench.profile WORKLOAD [--master URL] [--seconds N] [--flame FILE]

First a time line of tasks, from their events: for each stage, what its attempts waited for the driver, what they took
between driver and worker, and what the worker did with them. Then what py-spy saw, driver and workers apart: the
functions with most samples of their own. ``--native`` has the functions of C extensions, too; ``--flame`` draws a flame
graph instead (SVG). The workloads are those of ``python -m contrib.bench``.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from asparkle import SparkConf, SparkContext
from asparkle.events import JobStarted, StageSubmitted, TaskEnded, TaskStarted
from asparkle.plugins import Listener
from contrib.bench.engine_rdd import workloads
from contrib.bench.workloads import WORKLOADS, square

NAMES = [name for name in WORKLOADS if name != "first_result"]
COLUMNS = ("queue", "wire", "load", "run", "read", "write", "gc", "result")


class TimeLine(Listener):
    """Seconds of attempts by stage, of the jobs that began after `begin`."""

    name = "time line"

    def __init__(self) -> None:
        self.jobs = 0
        self._listening = False
        self._submitted: dict[tuple[int, int], StageSubmitted] = {}
        self._started: dict[int, TaskStarted] = {}
        self.stages: dict[str, list[tuple[float, ...]]] = defaultdict(list)
        self._order: dict[int, int] = {}

    def begin(self) -> None:
        self._listening = True

    def on_event(self, event: Any) -> None:
        if not self._listening:
            return
        match event:
            case JobStarted():
                self.jobs += 1
                self._order.clear()
            case StageSubmitted():
                self._submitted[event.stage, event.attempt] = event
                self._order.setdefault(event.stage, len(self._order))
            case TaskStarted():
                self._started[event.tid] = event
            case TaskEnded(outcome="success", metrics=metrics) if metrics is not None:
                started = self._started.pop(event.tid, None)
                stage = self._submitted.get((event.stage, event.stage_attempt))
                if started is None or stage is None:
                    return
                inside = metrics.deserialize_seconds + metrics.run_seconds + metrics.result_seconds
                row = (
                    started.time - stage.time,
                    max(0.0, event.time - started.time - inside),
                    metrics.deserialize_seconds,
                    metrics.run_seconds,
                    metrics.shuffle_read_seconds,
                    metrics.shuffle_write_seconds,
                    metrics.gc_seconds,
                    metrics.result_seconds,
                    metrics.cpu_seconds,
                )
                name = stage.name.rpartition(" ")[0]  # without the number of its RDD, which is another one in each run
                self.stages[f"{self._order.get(event.stage, 0)} {name}"].append(row)

    def report(self, runs: int) -> str:
        lines = [
            "Milliseconds of an attempt, medians; cpu: seconds of all attempts in one run of the workload.",
            "queue: from its stage's submission until it is sent; wire: there and back, and waiting for the worker;",
            "load: of the stage's functions; run: the work, in which read and write (of shuffles) and gc are.",
            "",
            f"{'stage':32} {'tasks':>6} {'cpu':>8} " + " ".join(f"{column:>8}" for column in COLUMNS),
        ]
        for name, rows in sorted(self.stages.items()):
            columns = list(zip(*rows, strict=True))
            medians = " ".join(f"{1000 * median(column):8.2f}" for column in columns[:-1])
            lines.append(f"{name[:32]:32} {len(rows) // runs:6} {sum(columns[-1]) / runs:8.3f} {medians}")
        return "\n".join(lines)


def run(name: str, master: str, seconds: float, timed: bool) -> None:
    """The workload, again and again for so long; ``timed``: with a time line of its tasks."""
    line = TimeLine()
    conf = SparkConf().setMaster(master).setAppName("profile")
    with SparkContext(conf=conf, plugins=[line] if timed else []) as sc:
        sc.parallelize(range(100), 2).map(square).sum()
        work = workloads(sc)[name]()
        work()
        gc.collect()
        line.begin()
        times: list[float] = []
        began = time.perf_counter()
        while not times or time.perf_counter() - began < seconds:
            at = time.perf_counter()
            work()
            times.append(time.perf_counter() - at)
    if timed:
        print(f"{name} on {master}: {len(times)} runs, median {median(times):.4f} s, least {min(times):.4f} s\n")
        print(line.report(len(times)), flush=True)


def sample(arguments: list[str], *options: str, output: Path) -> None:
    """What py-spy sees of a run, in its own process."""
    rate = "50" if "--native" in options else "200"  # each sample stops the process, and native ones for long
    command = ["py-spy", "record", "--subprocesses", "--rate", rate, "--output", str(output), *options, "--"]
    command += [sys.executable, "-m", "contrib.bench.profile", *arguments, "--sampled"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if not output.exists():
        raise SystemExit(f"py-spy could not sample: {done.stderr.strip()}")


def table(folded: Path, rows: int) -> str:
    """The functions with most samples of their own, of driver and workers."""
    own: dict[str, Counter[str]] = defaultdict(Counter)
    within: dict[str, Counter[str]] = defaultdict(Counter)
    driver = None
    for text in folded.read_text().splitlines():
        stack, _, count = text.rpartition(" ")
        frames = [frame for frame in stack.split(";") if not frame.startswith("thread ")]
        processes = [frame for frame in frames if frame.startswith("process ")]
        driver = driver or processes[0]
        role = "driver" if len(processes) == 1 else "workers"
        names = [_short(frame) for frame in frames if not frame.startswith("process ")]
        if names:
            own[role][names[-1]] += int(count)
            for name in set(names):
                within[role][name] += int(count)
    lines = []
    for role in ("driver", "workers"):
        total = own[role].total()
        lines += ["", f"{role}: {total} samples", f"{'own %':>6} {'all %':>6}  function"]
        for name, count in own[role].most_common(rows):
            lines.append(f"{100 * count / total:6.1f} {100 * within[role][name] / total:6.1f}  {name}")
    return "\n".join(lines)


def _short(frame: str) -> str:
    """``function (path/file.py:line)`` without the line and most of the path."""
    name, _, place = frame.partition(" (")
    file = "/".join(place.rstrip(")").rpartition(":")[0].split("/")[-2:])
    return f"{name} ({file})" if file else name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", choices=NAMES, metavar="WORKLOAD", help=", ".join(NAMES))
    parser.add_argument("--master", default="local[2]")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="how long the workload is run, each time (default: 5)"
    )
    parser.add_argument("--rows", type=int, default=20, help="functions of each role (default: 20)")
    parser.add_argument("--native", action="store_true", help="C functions, too")
    parser.add_argument("--flame", type=Path, metavar="FILE", help="a flame graph, instead of the table of functions")
    parser.add_argument("--sampled", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    run(options.workload, options.master, options.seconds, timed=not options.sampled)
    if options.sampled:
        return
    arguments = [options.workload, "--master", options.master, "--seconds", str(options.seconds)]
    native = ["--native"] if options.native else []
    if options.flame:
        sample(arguments, "--format", "flamegraph", *native, output=options.flame)
        print(f"\n{options.flame}: a flame graph")
        return
    with tempfile.TemporaryDirectory() as directory:
        folded = Path(directory, "folded")
        sample(arguments, "--format", "raw", *native, output=folded)
        print(table(folded, options.rows))


if __name__ == "__main__":
    main()
