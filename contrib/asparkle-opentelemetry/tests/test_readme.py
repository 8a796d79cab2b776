"""What the README shows is run, and gives what it says; and it names all keys and metrics."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from asparkle_opentelemetry import settings
from asparkle_opentelemetry.measurements import Measurements
from opentelemetry.metrics import NoOpMeter

README = Path(__file__).parents[1] / "README.md"
RUNNER = README.parents[2] / "tests" / "test_docs.py"


def test_the_examples_of_the_readme_do_what_it_says(tmp_path):
    command = [sys.executable, str(RUNNER), str(README)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_key_and_every_metric_is_documented():
    class Meter(NoOpMeter):
        def __getattribute__(self, name):
            if name.startswith("create_"):
                return lambda metric, *rest: named.append(metric)
            return super().__getattribute__(name)

    named = [key.name for key in settings.KEYS]
    Measurements(Meter("test"))
    assert len(named) > 8
    for name in named:
        assert f"`{name}`" in README.read_text()
