"""Spark's bundled examples, unmodified, under ``asparkle run --pyspark``: they print what real PySpark printed.

The programs come with PySpark: where it is not installed, these tests say so and skip themselves.
ASPARKLE_TEST_PYSPARK names the directory of an installed one elsewhere, of which nothing is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .programs import PROGRAMS, arguments, comparable, pyspark_directory, recorded, script

directory = pyspark_directory()


@pytest.mark.skipif(directory is None, reason="needs the programs of an installed PySpark: ASPARKLE_TEST_PYSPARK")
@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_prints_what_pyspark_printed(name, tmp_path):
    assert directory is not None
    pytest.importorskip("numpy")
    settings = [part for setting in PROGRAMS[name].conf for part in ("--conf", setting)]
    command = [sys.executable, "-m", "asparkle", "run", "--pyspark", "--master", "local[2]", *settings]
    done = subprocess.run(
        [*command, str(script(directory, name)), *arguments(directory, PROGRAMS[name])],
        cwd=tmp_path,
        env=os.environ | {"PYTHONHASHSEED": "0", "SPARK_HOME": str(directory)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert comparable(name, done.stdout) == comparable(name, recorded()[name])
