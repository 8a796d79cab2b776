"""What events cost: a job of 2,000 empty tasks, without the bus, without listeners, and with some.

    python -m contrib.bench.listeners [--rounds N] [MASTER ...]

Each variant lives in a process of its own, with one context, and they take turns, job by job: a machine that is slower
for a while is so for all of them; and they begin anew every ten rounds, as two processes of one program are not
equally fast, either.  A job's wall time ends with its result; its CPU time is that of the driver's
process, until the listener has heard of the job's end, too.  Both are medians; a ratio is the median of the rounds'
ratios to the first variant, in the same round.

    no bus       asparkle as it would be without it: wherever the code asks whether anybody listens (or whether a task
                 is to be metered), the question is taken out of its syntax tree as it is imported, with what it guards
    again        the same once more, to see what a ratio of 1 looks like on this machine
    no listener  asparkle as it is
    async        with a coroutine that gets every event and does nothing
    metrics      with a metric sink that does nothing: what it costs to count
"""

from __future__ import annotations

import argparse
import ast
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any

import anyio

TASKS = 2000
PER_PROCESS = 10
VARIANTS = ["no bus", "again", "no listener", "async", "metrics"]
QUESTIONS = {"listening", "metered"}
CHECKOUT = Path(__file__).parents[2]


class Cut(ast.NodeTransformer):
    """Answers every question with a constant no; the compiler drops what is guarded by it."""

    found = 0

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if node.attr in QUESTIONS and isinstance(node.ctx, ast.Load):
            Cut.found += 1
            return ast.copy_location(ast.Constant(False), node)
        self.generic_visit(node)
        return node


class Cutter(SourceFileLoader):
    def path_stats(self, path: str) -> Any:
        raise OSError("neither reads bytecode nor writes any")

    def source_to_code(self, data: Any, path: Any, *arguments: Any, **options: Any) -> Any:
        return compile(Cut().visit(ast.parse(data)), path, "exec", dont_inherit=True)


class CutFinder:
    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name.startswith("asparkle.core.") else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Cutter(spec.loader.name, spec.loader.path)
        return spec


# -------------------------------------------------------------------------------------- in a variant's process


async def run(variant: str, master: str) -> None:
    if variant in ("no bus", "again"):
        sys.meta_path.insert(0, CutFinder)  # type: ignore[arg-type]
    from asparkle import SparkConf
    from asparkle.aio import SparkContext
    from asparkle.core.events import JobEnded
    from asparkle.plugins import Listener, MetricSink

    ended = 0

    class Listens(Listener):
        async def on_event(self, event: object) -> None:
            nonlocal ended
            ended += type(event) is JobEnded

    class Sink(MetricSink):
        def report(self, metrics: object) -> None:
            pass

    plugins = {"async": [Listens()], "metrics": [Sink()]}.get(variant, [])
    async with SparkContext(conf=SparkConf().setMaster(master), plugins=plugins) as sc:
        empty = sc.parallelize([], TASKS)
        for line in sys.stdin:
            cpu, wall, before = time.process_time(), time.perf_counter(), ended
            assert await empty.count() == 0
            wall = time.perf_counter() - wall
            while variant == "async" and ended == before:
                await anyio.sleep(0)
            print(wall, time.process_time() - cpu, Cut.found, flush=True)
            if line == "end\n":
                break


# ---------------------------------------------------------------------------------------------- the comparison


def measured(master: str, rounds: int) -> None:
    wall: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    cpu: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    cuts = 0
    for first in range(0, rounds, PER_PROCESS):
        for variant, seconds, driver, found in jobs(master, min(PER_PROCESS, rounds - first)):
            wall[variant].append(seconds)
            cpu[variant].append(driver)
            cuts = max(cuts, found)
    print(f"\n{master}, {TASKS} empty tasks, {rounds} rounds; 'no bus' is without {cuts} questions")
    print(f"{'':14}{'wall, ms':>10}{'ratio':>8}{'CPU, ms':>10}{'ratio':>8}{'CPU, us/task':>15}")
    for variant in VARIANTS:
        cells = [f"{variant:14}"]
        for times in (wall, cpu):
            ratio = statistics.median(a / b for a, b in zip(times[variant], times["no bus"], strict=True))
            cells.append(f"{statistics.median(times[variant]) * 1000:10.1f}{ratio:8.3f}")
        cells.append(f"{statistics.median(cpu[variant]) / TASKS * 1e6:15.1f}")
        print("".join(cells))


def jobs(master: str, rounds: int) -> Iterator[tuple[str, float, float, int]]:
    """Variant, wall time, CPU time, and questions that were cut, of each job; in processes of their own."""
    command = [sys.executable, "-m", "contrib.bench.listeners", "--variant"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": CHECKOUT}
    children = {variant: subprocess.Popen([*command, variant, master], **pipes) for variant in VARIANTS}
    for number in range(-2, rounds):  # two to warm up
        start = number % len(VARIANTS)
        for variant in VARIANTS[start:] + VARIANTS[:start]:
            child = children[variant]
            child.stdin.write("end\n" if number == rounds - 1 else "go\n")
            child.stdin.flush()
            seconds, driver, found = child.stdout.readline().split()
            if number >= 0:
                yield variant, float(seconds), float(driver), int(found)
    for child in children.values():
        child.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description="What events cost.")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("masters", nargs="*", default=["inline", "processes[2]"])
    options = parser.parse_args()
    if options.variant:
        anyio.run(run, options.variant, options.masters[0])
        return
    for master in options.masters:
        measured(master, options.rounds)


if __name__ == "__main__":
    main()
