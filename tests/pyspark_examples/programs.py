"""The example programs that come with PySpark, how they are started, and how what they print is compared.

The programs are not in this repository: they are read from an installed PySpark, of which nothing is imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
RECORDED = HERE / "recorded.json"


class Program(NamedTuple):
    """``arguments``: of the program; ``data/`` and ``pyspark/`` in front name files here and in PySpark.

    ``random``: it prints numbers that no seed fixes, so only the text around them is compared.
    ``hashed``: its lines are in the order of strings in several partitions, and where a string goes is, in Spark,
    a matter of Python's hash seed; so the lines are compared in sorted order.
    ``polled``: it prints how far a job is, once in a while, so only which lines come is compared, without the counts.
    """

    arguments: tuple[str, ...] = ()
    conf: tuple[str, ...] = ()
    random: bool = False
    hashed: bool = False
    polled: bool = False


PROGRAMS = {
    "wordcount": Program(("data/words.txt",)),
    "sort": Program(("data/numbers.txt",)),
    "pi": Program(("2",), random=True),
    "kmeans": Program(("pyspark/data/mllib/kmeans_data.txt", "2", "0.01")),
    "pagerank": Program(("pyspark/data/mllib/pagerank_data.txt", "10"), hashed=True),
    "als": Program(),
    "logistic_regression": Program(("data/points.txt", "3"), random=True),
    "transitive_closure": Program(conf=("spark.default.parallelism=2",)),
    "status_api_demo": Program(polled=True),
}


def pyspark_directory() -> Path | None:
    """Where PySpark is installed: in this interpreter, or in ASPARKLE_TEST_PYSPARK; None if it is not."""
    if given := os.environ.get("ASPARKLE_TEST_PYSPARK"):
        return Path(given)
    spec = importlib.util.find_spec("pyspark")
    return Path(spec.origin).parent if spec and spec.origin else None


def script(directory: Path, name: str) -> Path:
    return directory / "examples/src/main/python" / f"{name}.py"


def arguments(directory: Path, program: Program) -> list[str]:
    given = []
    for argument in program.arguments:
        start, _, rest = argument.partition("/")
        given.append(str({"data": HERE / "data", "pyspark": directory}[start] / rest) if rest else argument)
    return given


def comparable(name: str, printed: str) -> str:
    """What must be the same."""
    if PROGRAMS[name].polled:
        # that the job has succeeded is seen only by a look between its end and its result
        lines = {re.sub(r"\(\d+ active, \d+ complete\)", "(...)", line) for line in printed.splitlines(keepends=True)}
        return "".join(sorted(line for line in lines if "SUCCEEDED" not in line))
    if PROGRAMS[name].random:
        printed = re.sub(r"\d+\.\d+", "...", re.sub(r"\[[^\]]*\]", "[...]", printed))
    return "".join(sorted(printed.splitlines(keepends=True))) if PROGRAMS[name].hashed else printed


def recorded() -> dict[str, str]:
    outputs: dict[str, str] = json.loads(RECORDED.read_text(encoding="utf-8"))["printed"]
    return outputs
