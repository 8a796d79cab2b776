"""Programs that tests run in an interpreter of their own: how they end, and what they leave."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the text of a program, and return its status, output and errors."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=ENVIRONMENT,
    )
