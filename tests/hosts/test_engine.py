"""What each operation does, on hosts that share no files: the engine's own tests, once more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FILES = [f"tests/engine/test_{part}.py" for part in ("operations", "sources", "lineage", "sampling")]
OF_ONE_HOST = (  # what they look at lies in the driver's directories, or is called "localhost"
    "tests/engine/test_operations.py::test_shuffles_are_computed_again_after_they_were_cleaned",
)


def test_the_engine_on_hosts_that_share_no_files() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *FILES, "-k", "not trio"]
    command += [f"--deselect={test}[apart://2x2-asyncio]" for test in OF_ONE_HOST]
    environment = {**{key: value for key, value in os.environ.items() if key != "CI"}, "PYTHONPATH": str(ROOT)}
    environment["ASPARKLE_TEST_MASTERS"] = "apart://2x2"
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
