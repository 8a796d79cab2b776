"""Instructions that the hot paths take, counted by cachegrind: the same number in each run, on any machine's bad day.

    python -m contrib.bench.instructions [PATH ...] [--save FILE] [--compare FILE]

Each path (see `hotpaths`) is run in a process of its own for its number of things and for twice that; what the second
takes more than the first, divided by the number, is what one of them takes.  ``--compare`` with the file of another
commit adds a column, and exits with 1 where a path takes more than a twentieth more.  Needs valgrind.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from contrib.bench.hotpaths import PATHS

TOLERANCE = 0.05


def instructions(name: str, count: int) -> int:
    """That a process takes which does the thing so many times."""
    program = f"from contrib.bench.hotpaths import PATHS; PATHS[{name!r}][0]({count})"
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*command, sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    return int(found[1].replace(",", ""))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", default=list(PATHS), metavar="PATH", help=", ".join(PATHS))
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="with those that are there")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed: apt-get install valgrind")
    before = json.loads(options.compare.read_text()) if options.compare else {}
    found: dict[str, float] = {}
    worse = 0
    print(f"{'instructions for each':32} {'now':>12} {'before' if before else '':>12}")
    for name in options.paths:
        count = PATHS[name][1]
        found[name] = (instructions(name, 2 * count) - instructions(name, count)) / count
        change = ""
        if name in before:
            ratio = found[name] / before[name] - 1
            worse += ratio > TOLERANCE
            change = f"{before[name]:12,.0f} {ratio:+7.1%}"
        print(f"{name:32} {found[name]:12,.0f} {change}", flush=True)
    if options.save:
        options.save.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
