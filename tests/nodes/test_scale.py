"""The driver of many simulated nodes: that what measures it speaks to the driver as agents do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_jobs_run_on_simulated_nodes() -> None:
    command = [sys.executable, "-m", "contrib.bench.nodes_scale", "--nodes", "3", "--slots", "2"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 nodes x 2 slots: first job of 6 tasks")
    assert [int(tasks) for tasks in re.findall(r"^ *(\d+) +\d+ +[\d.]+ +[\d.]+ +[\d.]+$", done.stdout, re.M)] == [
        1,
        6,
        60,
    ]
