"""The examples in PySpark's own docstrings, run against asparkle: python contrib/dev/pyspark_doctests.py [MASTER ...].

Needs an installed PySpark (``pip install pyspark``), of which only the sources are read.  Each example of EXPECTED may
fail, for the reason that stands there; the command fails if another one does, or if one of EXPECTED passes by now.
"""

from __future__ import annotations

import argparse
import ast
import doctest
import importlib.util
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODULES = [
    "core/rdd.py",
    "core/context.py",
    "core/broadcast.py",
    "core/files.py",
    "core/status.py",
    "accumulators.py",
    "conf.py",
    "profiler.py",
    "resultiterable.py",
    "statcounter.py",
    "storagelevel.py",
    "taskcontext.py",
    "util.py",
]
EXPECTED: dict[str, str] = {}  # a docstring's name: why some of its examples fail


def pyspark() -> Path:
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        sys.exit("PySpark is not installed here: pip install pyspark")
    return Path(spec.origin).parent


def docstrings(file: Path) -> Iterator[tuple[str, str, int]]:
    """(name, docstring, line) of a module's classes, methods and functions."""

    def walk(node: Any, prefix: str) -> Iterator[tuple[str, str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
                name = f"{prefix}.{child.name}"
                doc = ast.get_docstring(child, clean=False)
                if doc and ">>>" in doc:
                    yield name, doc, child.lineno
                yield from walk(child, name)

    yield from walk(ast.parse(file.read_text()), file.stem)


def run(root: Path, module: str, master: str, verbose: bool) -> tuple[int, dict[str, int]]:
    """How many examples there are, and how many of each docstring fail."""
    import pyspark  # asparkle

    names = vars(importlib.import_module(f"pyspark.{module.removesuffix('.py').replace('/', '.')}"))
    parser, failed, total = doctest.DocTestParser(), {}, 0
    for name, doc, line in docstrings(root / module):
        context = pyspark.SparkContext(master, "PythonTest")
        globs = {**names, "sc": context, "spark": pyspark.sql.SparkSession.builder.getOrCreate(), "tempfile": tempfile}
        test = parser.get_doctest(doc, globs, name, str(root / module), line)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        try:
            result = runner.run(test, out=None if verbose else lambda text: None)
        finally:
            active = pyspark.SparkContext.getOrCreate()
            active.stop()
            context.stop()
        total += result.attempted
        if result.failed:
            failed[name] = result.failed
    return total, failed


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("master", nargs="*", default=["processes[2]", "threads[2]"])
    options.add_argument("-m", "--module", action="append", help="such as core/rdd.py")
    options.add_argument("-v", "--verbose", action="store_true", help="show what fails, expected or not")
    arguments = options.parse_args()
    root = pyspark()
    from asparkle.pyspark import install

    install()
    warnings.simplefilter("ignore", FutureWarning)
    os.chdir(tempfile.mkdtemp())
    bad = 0
    for master in arguments.master:
        passed = expected = 0
        left = {name: reason for name, reason in EXPECTED.items()}
        for module in arguments.module or MODULES:
            total, failed = run(root, module, master, arguments.verbose)
            passed += total - sum(failed.values())
            for name, count in failed.items():
                if left.pop(name, None) is None:
                    bad += 1
                    print(f"{master}: {count} examples of {name} fail")
                else:
                    expected += count
        if not arguments.module:
            for name in left:
                bad += 1
                print(f"{master}: the examples of {name} are expected to fail, and pass")
        print(f"{master}: {passed} examples pass, {expected} fail as expected")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
