"""Run all cells on PySpark and keep what they show: for developers, with PySpark 4.3 and Java 17.

    cd tests && python -m tutorial.record

The cells run twice, in two contexts, and what differs between the runs is reported and not written: such
a cell needs a weaker comparison (see `notebook.Show`).
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from .cells import tutorial
from .notebook import Outcome, agree
from .operations import operations

RECORDED = Path(__file__).with_name("recorded.json")
PARALLELISM = "4"


def run_on_pyspark() -> dict[str, Outcome]:
    from pyspark import SparkConf, SparkContext, StorageLevel

    conf = SparkConf().setMaster("local[4]").setAppName("record").set("spark.ui.enabled", "false")
    conf.set("spark.driver.bindAddress", "127.0.0.1").set("spark.driver.host", "127.0.0.1")
    conf.set("spark.default.parallelism", PARALLELISM)
    with SparkContext(conf=conf) as sc, tempfile.TemporaryDirectory() as directory:
        sc.setLogLevel("OFF")
        ns = SimpleNamespace(SparkConf=SparkConf, StorageLevel=StorageLevel, directory=directory, aio=False)
        return tutorial.run(sc, ns) | operations.run(sc, ns)


def main() -> None:
    import pyspark

    if os.environ.get("PYTHONHASHSEED") != "0":  # PySpark hashes no string in a driver that lacks it
        environment = {
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": str(Path(__file__).parents[1]),  # where Spark's workers find this package
            "PYSPARK_PYTHON": sys.executable,
        }
        os.execve(sys.executable, [sys.executable, "-m", "tutorial.record"], os.environ | environment)
    first, second = run_on_pyspark(), run_on_pyspark()
    problems = []
    for name, outcome in first.items():
        if outcome.error or outcome.skipped:
            problems.append(f"{name}: {outcome.error or outcome.skipped}")
        for label, value in outcome.shown.items():
            if not agree(second[name].shown.get(label), value):
                problems.append(f"{name}: {label}: differs from run to run:\n{value}\n{second[name].shown[label]}")
    if problems:
        raise SystemExit("\n".join(problems))
    recorded = {
        "versions": {"pyspark": pyspark.__version__, "python": platform.python_version()},
        "cells": {name: outcome.shown for name, outcome in first.items()},
    }
    RECORDED.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(first)} cells, {sum(len(o.shown) for o in first.values())} values -> {RECORDED}")


if __name__ == "__main__":
    main()
