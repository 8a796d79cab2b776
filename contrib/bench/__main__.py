"""Run the benchmarks: see ``python -m contrib.bench --help``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from contrib.bench.workloads import WORKLOADS, text_file

CHECKOUT = Path(__file__).parents[2]
HERE = Path(__file__).parent
MODULE_OF = {
    "plain": "json",
    "pool": "multiprocessing",
    "asparkle": "asparkle",
    "asparkle-threads": "asparkle",
    "asparkle-inline": "asparkle",
    "pyspark": "pyspark",
    "dask": "distributed",
    "ray": "ray",
}
DEFAULT_ENGINES = [name for name in MODULE_OF if name != "asparkle-inline"]
IN_PROCESS = {"plain", "asparkle-threads", "asparkle-inline"}
FIRST_CHECK = sum(x**2 for x in range(14))


class Bench:
    """The figures of a run: seconds by workload and engine, one per round, and what went wrong."""

    def __init__(self, cores: int, pythons: dict[str, str], timeout: float) -> None:
        self.cores = cores
        self.pythons = pythons
        self.timeout = timeout
        self.seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.checks: dict[str, dict[str, Any]] = defaultdict(dict)
        self.versions: dict[str, str] = {}
        self.problems: list[str] = []

    def installed(self, engine: str) -> bool:
        command = [
            self.python(engine),
            "-c",
            f"import importlib.util as u; exit(not u.find_spec({MODULE_OF[engine]!r}))",
        ]
        return subprocess.run(command, cwd=CHECKOUT, env=self._environment()).returncode == 0

    def compile(self, engine: str) -> None:
        """Bytecode for what the checkout provides: installed packages have theirs."""
        command = [self.python(engine), "-m", "compileall", "-q", "asparkle", "contrib/bench"]
        subprocess.run(command, cwd=CHECKOUT, env=self._environment(), check=True)

    def first_result(self, engine: str) -> None:
        start = time.perf_counter()
        process = self._start(engine, "first.py", [])
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            seconds = time.perf_counter() - start
            process.communicate(timeout=self.timeout)
        except subprocess.TimeoutExpired:
            self.problems.append(f"{engine}: first_result: not ended after {self.timeout:g} s")
        finally:
            _end(process)
        match line.split():
            case [check, elsewhere] if elsewhere == str(engine not in IN_PROCESS):
                self._add(engine, "first_result", seconds, int(check))
            case _:
                self.problems.append(f"{engine}: first_result: printed {line!r}")

    def workloads(self, engine: str, names: list[str]) -> None:
        process = self._start(engine, "session.py", names)
        try:
            output, _ = process.communicate(timeout=self.timeout)
        except subprocess.TimeoutExpired as expired:
            output = (expired.stdout or b"").decode()
            self.problems.append(f"{engine}: not ended after {self.timeout:g} s")
        finally:
            _end(process)
        if process.returncode and process.returncode > 0:
            self.problems.append(f"{engine}: exit code {process.returncode}")
        for line in output.splitlines():
            if not line.startswith("{"):
                continue
            said = json.loads(line)
            if "version" in said:
                self.versions[engine] = said["version"]
            elif "error" in said:
                self.problems.append(f"{engine}: {said['name']}: {said['error'].strip()}")
            else:
                self._add(engine, said["name"], said["seconds"], said["check"])

    def _add(self, engine: str, name: str, seconds: float, check: Any) -> None:
        self.seconds[name][engine].append(seconds)
        self.checks[name][engine] = check

    def python(self, engine: str) -> str:
        return self.pythons.get(engine) or self.pythons.get(engine.split("-")[0]) or sys.executable

    def _environment(self) -> dict[str, str]:
        paths = [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return kept | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONHASHSEED": "0"}

    def _start(self, engine: str, script: str, arguments: list[str]) -> subprocess.Popen[str]:
        command = [self.python(engine), "-P", str(HERE / script), engine, str(self.cores), *arguments]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if engine == "pyspark" else None,
            text=True,
            env=self._environment(),
            start_new_session=True,
        )

    def disagreements(self) -> list[str]:
        return [
            f"{name}: the engines do not agree: {checks}"
            for name, checks in self.checks.items()
            if len(set(checks.values())) > 1
        ]

    def medians(self) -> dict[str, dict[str, float]]:
        return {
            name: {engine: statistics.median(values) for engine, values in self.seconds[name].items()}
            for name in WORKLOADS
            if name in self.seconds
        }


def _end(process: subprocess.Popen[str]) -> None:
    """Nothing that an engine started outlives its part."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpuinfo.exists():
        model = next((line.split(":")[1].strip() for line in cpuinfo.open() if line.startswith("model name")), model)
    memory = f", {int(meminfo.read_text().split()[1]) >> 20} GB" if meminfo.exists() else ""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.release()}"
    return f"{model}, {usable} processors{memory}, {system}, load {os.getloadavg()[0]:.1f}"


def table(medians: dict[str, dict[str, float]], engines: list[str], baseline: str | None) -> str:
    """Seconds; or, with a ``baseline``, how many times faster than it each engine is."""
    rows = [["" if baseline is None else f"x {baseline}", *engines]]
    for name, row in medians.items():
        if baseline is None:
            rows.append([name, *(_seconds(row.get(engine)) for engine in engines)])
        elif baseline in row:
            ratios = (row[baseline] / row[engine] if engine in row else None for engine in engines)
            rows.append([name, *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}" if value < 0.01 else f"{value:.3f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m contrib.bench",
        description="Time the same work on asparkle and its peers, side by side; medians of several rounds.",
        epilog="workloads: " + "; ".join(f"{name}: {text}" for name, text in WORKLOADS.items()),
    )
    parser.add_argument(
        "-e", "--engines", nargs="+", choices=list(MODULE_OF), default=DEFAULT_ENGINES, metavar="ENGINE"
    )
    parser.add_argument(
        "-w", "--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS), metavar="NAME"
    )
    parser.add_argument("-n", "--cores", type=int, default=2, help="parallel tasks of each engine (default: 2)")
    parser.add_argument("-r", "--rounds", type=int, default=3, help="each engine has its turn in each (default: 3)")
    parser.add_argument("--python", action="append", default=[], metavar="ENGINE=PATH", help="an engine's interpreter")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one engine's turn (default: 900)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    return parser.parse_args()


def main() -> int:
    options = _arguments()
    bench = Bench(options.cores, dict(pair.split("=", 1) for pair in options.python), options.timeout)
    engines = [engine for engine in options.engines if bench.installed(engine)]
    for engine in options.engines:
        if engine not in engines:
            print(f"{engine}: left out, {MODULE_OF[engine]} is not installed for {bench.python(engine)}")
    if "wordcount" in options.workloads:
        text_file()
    for engine in engines:
        bench.compile(engine)
    print(machine())
    timed = [name for name in options.workloads if name != "first_result"]
    for number in range(options.rounds):
        for engine in engines if number % 2 == 0 else reversed(engines):  # no engine always has the warmer machine
            print(f"round {number + 1}: {engine}", file=sys.stderr, flush=True)
            if "first_result" in options.workloads:
                bench.first_result(engine)
            if timed:
                bench.workloads(engine, timed)
    medians = bench.medians()
    for engine in engines:
        print(f"{engine}: {bench.versions.get(engine, '')}")
    print(f"\nSeconds, medians of {options.rounds} rounds on {options.cores} cores")
    print(table(medians, engines, None))
    for baseline in ("plain", "pyspark"):
        if baseline in engines and len(engines) > 1:
            print(f"\nTimes faster than {baseline}\n{table(medians, engines, baseline)}")
    problems = bench.problems + bench.disagreements()
    for problem in problems:
        print(f"\nPROBLEM {problem}")
    if options.json:
        figures = {"machine": machine(), "cores": options.cores, "versions": bench.versions}
        figures |= {
            "seconds": bench.seconds,
            "medians": medians,
            "checks": bench.checks,
            "problems": problems,
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
