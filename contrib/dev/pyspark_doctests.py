"""The examples in PySpark's own docstrings, run against asparkle: python contrib/dev/pyspark_doctests.py [MASTER ...].

Needs an installed PySpark (``pip install pyspark``), of which only the sources are read.  Each example of EXPECTED may
fail, for the reason that stands there; the command fails if another one does, or if one of EXPECTED passes by now.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import doctest
import importlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyspark_names import pyspark_directory

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
    "resource/profile.py",
    "statcounter.py",
    "storagelevel.py",
    "taskcontext.py",
]
_NO_HADOOP = "needs Hadoop's Java classes"
_TO_FILE = "how PySpark hands a value to its workers"
EXPECTED: dict[str, str] = {  # a docstring's name, and for which masters if not for all: why some of its examples fail
    "accumulators.Accumulator": "expects an error of py4j",
    "broadcast.Broadcast.dump": _TO_FILE,
    "broadcast.Broadcast.load": _TO_FILE,
    "broadcast.Broadcast.load_from_path": _TO_FILE,
    "conf.SparkConf": "expects the name of PySpark's module, and asks the JVM's SparkConf",
    "context.SparkContext": "one context is active, which PySpark's own run of it stops before",
    "context.SparkContext.emptyRDD": "expects the name of a Scala class",
    "context.SparkContext.getSystemProperty": "expects a property of spark-submit's JVM",
    "context.SparkContext.hadoopFile": _NO_HADOOP,
    "context.SparkContext.hadoopRDD": _NO_HADOOP,
    "context.SparkContext.newAPIHadoopFile": _NO_HADOOP,
    "context.SparkContext.newAPIHadoopRDD": _NO_HADOOP,
    "context.SparkContext.sequenceFile": "writes what it reads with Hadoop's Java classes",
    "context.SparkContext.uiWebUrl": "there is no web UI yet",
    "profiler.Profiler": "prints numbers of RDDs, which PySpark counts by context, and asparkle by process",
    "rdd.RDD.foreach threads": "on threads what a task prints is what the program prints",
    "rdd.RDD.foreachPartition threads": "on threads what a task prints is what the program prints",
    "rdd.RDD.persist": "expects an error of py4j",
    "rdd.RDD.saveAsHadoopDataset": _NO_HADOOP,
    "rdd.RDD.saveAsHadoopFile": _NO_HADOOP,
    "rdd.RDD.saveAsNewAPIHadoopDataset": _NO_HADOOP,
    "rdd.RDD.saveAsNewAPIHadoopFile": _NO_HADOOP,
    "rdd.RDD.toDebugString": "expects the names of Scala classes",
    "profile.ResourceProfile": "asks for executors with GPUs",
    "statcounter.StatCounter.asDict": "expects a number of Python 2",
    "taskcontext.BarrierTaskContext.getTaskInfos": "expects a port behind the host, and executors have none",
    "taskcontext.TaskContext": "ends with user-defined functions of SQL, which asparkle does not have yet",
    "rdd.RDDBarrier.mapPartitions": "expects the name of PySpark's module",
    "rdd.RDDBarrier.mapPartitionsWithIndex": "expects the name of PySpark's module, and four slots at once",
}


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


class Checker(doctest.OutputChecker):
    """An error is right if it is one of the expected class or of a subclass: asparkle says more in its messages."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if super().check_output(want, got, optionflags):
            return True
        wanted, raised = re.match(r"(\w+): ", want), re.match(r"(asparkle\.[\w.]+)\.(\w+): ", got)
        if wanted is None or raised is None:
            return False
        kind = getattr(builtins, wanted[1], None)
        error = getattr(importlib.import_module(raised[1]), raised[2])
        return isinstance(kind, type) and issubclass(error, kind)


def run(root: Path, module: str, master: str, verbose: bool) -> tuple[int, dict[str, int]]:
    """How many examples there are, and how many of each docstring fail."""
    import pyspark  # asparkle

    try:
        ours = importlib.import_module(f"pyspark.{module.removesuffix('.py').replace('/', '.')}")
    except ModuleNotFoundError as error:
        print(error)
        failed = {name: doc.count(">>>") for name, doc, _ in docstrings(root / module)}
        return sum(failed.values()), failed
    classes = [node.name for node in ast.parse((root / module).read_text()).body if isinstance(node, ast.ClassDef)]
    names = vars(ours) | {name: getattr(ours, name) for name in classes if hasattr(ours, name)}
    parser, total = doctest.DocTestParser(), 0
    failed = {}
    for name, doc, line in docstrings(root / module):
        globs = {**names, "tempfile": tempfile}
        if module not in ("conf.py", "profiler.py"):  # whose examples make their own
            globs["sc"] = pyspark.SparkContext(master, "PythonTest")
            globs["sc"].setCheckpointDir(tempfile.mkdtemp())
            globs["spark"] = pyspark.sql.SparkSession.builder.getOrCreate()
        test = parser.get_doctest(doc, globs, name, str(root / module), line)
        runner = doctest.DocTestRunner(Checker(), optionflags=doctest.ELLIPSIS)
        try:
            result = runner.run(test, out=None if verbose else lambda text: None)
        finally:
            pyspark.SparkContext.getOrCreate().stop()
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
    if os.environ.get("PYTHONHASHSEED") != "0":  # some examples print sets, as they are under this one
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    root = pyspark_directory()
    from asparkle.pyspark import install

    install()
    warnings.simplefilter("ignore", FutureWarning)
    os.chdir(tempfile.mkdtemp())
    bad = 0
    for master in arguments.master:
        passed = expected = 0
        left = {name.partition(" ")[0] for name in EXPECTED if name.partition(" ")[2] in master}
        for module in arguments.module or MODULES:
            total, failed = run(root, module, master, arguments.verbose)
            passed += total - sum(failed.values())
            for name, count in failed.items():
                if name in left:
                    left.discard(name)
                    expected += count
                else:
                    bad += 1
                    print(f"{master}: {count} examples of {name} fail")
        if not arguments.module:
            for name in left:
                bad += 1
                print(f"{master}: the examples of {name} are expected to fail, and pass")
        print(f"{master}: {passed} examples pass, {expected} fail as expected")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
