"""Run the examples on real PySpark and keep what they print: for developers, with PySpark 4.3, numpy and Java 17.

    cd tests && python -m pyspark_examples.record

Each runs twice, and what differs between the runs is reported and not written.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from .programs import PROGRAMS, RECORDED, Program, arguments, comparable, pyspark_directory, script


def run_on_pyspark(directory: Path, name: str, program: Program) -> str:
    options = ["--master", "local[2]", "--conf", "spark.ui.enabled=false", "--conf", "spark.log.level=OFF"]
    options += ["--conf", "spark.driver.bindAddress=127.0.0.1", "--conf", "spark.driver.host=127.0.0.1"]
    for setting in program.conf:
        options += ["--conf", setting]
    command = [sys.executable, str(script(directory, name)), *arguments(directory, program)]
    # spark-submit itself would mix what the program prints with its errors
    submit = {"PYSPARK_SUBMIT_ARGS": " ".join([*options, "pyspark-shell"])}
    environment = os.environ | submit | {"PYTHONHASHSEED": "0", "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit(f"{name}: exit status {done.returncode}\n{done.stderr}")
    return comparable(name, done.stdout)


def main() -> None:
    import pyspark

    directory = pyspark_directory()
    assert directory is not None
    printed = {}
    for name, program in PROGRAMS.items():
        first, second = (run_on_pyspark(directory, name, program) for _ in range(2))
        if first != second:
            raise SystemExit(f"{name}: differs from run to run:\n{first}\n{second}")
        printed[name] = first
        print(f"{name}: {len(first.splitlines())} lines")
    versions = {"pyspark": pyspark.__version__, "python": platform.python_version()}
    RECORDED.write_text(
        json.dumps({"versions": versions, "printed": printed}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
