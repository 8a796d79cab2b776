"""Names, parameters and defaults of PySpark's public classes, against asparkle's: python contrib/dev/pyspark_names.py.

Needs an installed PySpark (``pip install pyspark``), but neither imports nor runs it: its sources are parsed.  Prints
what is missing or different and is not in EXPECTED, and fails if there is any; also if something of EXPECTED is there
by now.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path

CLASSES = {  # PySpark's module and class: where asparkle has it
    "core/rdd.py:RDD": "asparkle.RDD",
    "core/rdd.py:RDDBarrier": "asparkle.RDDBarrier",
    "core/context.py:SparkContext": "asparkle.SparkContext",
    "core/broadcast.py:Broadcast": "asparkle.Broadcast",
    "core/files.py:SparkFiles": "asparkle.SparkFiles",
    "core/status.py:StatusTracker": "asparkle.status.StatusTracker",
    "accumulators.py:Accumulator": "asparkle.Accumulator",
    "accumulators.py:AccumulatorParam": "asparkle.AccumulatorParam",
    "conf.py:SparkConf": "asparkle.SparkConf",
    "profiler.py:Profiler": "asparkle.Profiler",
    "profiler.py:BasicProfiler": "asparkle.BasicProfiler",
    "resource/information.py:ResourceInformation": "asparkle.resource.ResourceInformation",
    "resource/profile.py:ResourceProfile": "asparkle.resource.ResourceProfile",
    "resource/profile.py:ResourceProfileBuilder": "asparkle.resource.ResourceProfileBuilder",
    "resource/requests.py:ExecutorResourceRequest": "asparkle.resource.ExecutorResourceRequest",
    "resource/requests.py:ExecutorResourceRequests": "asparkle.resource.ExecutorResourceRequests",
    "resource/requests.py:TaskResourceRequest": "asparkle.resource.TaskResourceRequest",
    "resource/requests.py:TaskResourceRequests": "asparkle.resource.TaskResourceRequests",
    "resultiterable.py:ResultIterable": "asparkle.core.resultiterable.ResultIterable",
    "statcounter.py:StatCounter": "asparkle.StatCounter",
    "storagelevel.py:StorageLevel": "asparkle.StorageLevel",
    "taskcontext.py:BarrierTaskContext": "asparkle.BarrierTaskContext",
    "taskcontext.py:BarrierTaskInfo": "asparkle.BarrierTaskInfo",
    "taskcontext.py:TaskContext": "asparkle.TaskContext",
    "util.py:InheritableThread": "asparkle.InheritableThread",
}
EXPECTED: dict[str, str] = {  # what differs, and why
    "Broadcast.__init__": "made by SparkContext.broadcast alone; PySpark's takes a pickle registry and a path",
    "Broadcast.dump": "how PySpark writes the value to a file for its workers",
    "Broadcast.load": "how PySpark reads that file",
    "Broadcast.load_from_path": "how PySpark reads that file",
    "RDDBarrier.__init__": "made by RDD.barrier alone",
    "SparkContext.serializer": "there is one serializer",
    "RDD.__init__": "PySpark's wraps an RDD of the JVM",
    "SparkContext.profiler_collector": "where PySpark keeps profiles; show_profiles and dump_profiles are there",
    "SparkConf.__init__": "PySpark's also takes a JVM and its SparkConf",
    "SparkContext.__init__": "PySpark's also takes a gateway to the JVM, and classes of profilers",
    "StatusTracker.__init__": "PySpark's wraps one of the JVM",
    "TaskContext.__init__": "tasks are given theirs",
    "TaskContext.from_json": "how PySpark's workers are told",
    "BarrierTaskContext.from_json": "how PySpark's workers are told",
    "ExecutorResourceRequests.__init__": "PySpark's wraps one of the JVM",
    "ResourceProfile.__init__": "made by ResourceProfileBuilder alone; PySpark's wraps one of the JVM",
    "TaskResourceRequests.__init__": "PySpark's wraps one of the JVM",
    "Accumulator.__init__": "made by SparkContext.accumulator alone",
}


def pyspark_directory() -> Path:
    """Of the installed one; it is not imported."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        sys.exit("PySpark is not installed here: pip install pyspark")
    return Path(spec.origin).parent


def members(file: Path, name: str) -> dict[str, ast.FunctionDef | None]:
    """The public methods of a class, and its other public attributes."""
    tree = ast.parse(file.read_text())
    cls = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    found: dict[str, ast.FunctionDef | None] = {}
    for node in cls.body:
        if isinstance(node, ast.FunctionDef):
            if not any(ast.unparse(d) == "overload" for d in node.decorator_list):
                is_property = any(ast.unparse(d) == "property" for d in node.decorator_list)
                found[node.name] = None if is_property else node
        else:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            found |= {target.id: None for target in targets if isinstance(target, ast.Name)}
    return {name: node for name, node in found.items() if not name.startswith("_") or name == "__init__"}


def parameters_of(function: ast.FunctionDef) -> list[tuple[str, str]]:
    """(name, default) of each, but for self."""
    args = function.args
    positional = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    pairs = [(a.arg, ast.unparse(d) if d is not None else "") for a, d in zip(positional, defaults, strict=True)]
    if args.vararg:
        pairs.append((f"*{args.vararg.arg}", ""))
    return pairs[1:] if pairs and pairs[0][0] in ("self", "cls") else pairs


def ours(function: object) -> list[tuple[str, str]]:
    pairs = []
    for parameter in inspect.signature(function).parameters.values():  # type: ignore[arg-type]
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD) or parameter.name == "self":
            continue  # what asparkle adds is by keyword
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        default = "" if parameter.default is parameter.empty else _shown(parameter.default)
        pairs.append((star + parameter.name, default))
    return pairs


def _shown(default: object) -> str:
    if callable(default):
        return getattr(default, "__name__", repr(default))
    return "StorageLevel.MEMORY_ONLY" if type(default).__name__ == "StorageLevel" else repr(default)


def same(theirs: tuple[str, str], mine: tuple[str, str]) -> bool:
    """Whether a parameter is the same; a default that is a lambda (the identity) may be None."""
    return theirs == mine or (theirs[0] == mine[0] and theirs[1].startswith("lambda x: x") and mine[1] == "None")


def find(path: str) -> object:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name, None)


def differences(root: Path) -> dict[str, str]:

    importlib.import_module("asparkle.sql.session")  # gives RDDs toDF
    found = {}
    for where, path in CLASSES.items():
        file, _, name = where.partition(":")
        cls = find(path)
        if cls is None:
            found[name] = "missing"
            continue
        for member, function in members(root / file, name).items():
            key = f"{name}.{member}"
            if not hasattr(cls, member):
                found[key] = "missing"
            elif function is not None and callable(value := cls if member == "__init__" else getattr(cls, member)):
                theirs, mine = parameters_of(function), ours(value)
                if len(theirs) != len(mine) or not all(map(same, theirs, mine)):
                    found[key] = f"PySpark: {theirs}; asparkle: {mine}"
    return found


def main() -> int:
    found = differences(pyspark_directory())
    unexpected = {key: text for key, text in found.items() if key not in EXPECTED}
    for key, text in unexpected.items():
        print(f"{key}: {text}")
    gone = [key for key in EXPECTED if key not in found]
    for key in gone:
        print(f"{key}: is expected to differ, and does not")
    print(f"{len(found)} differences, {len(unexpected)} unexpected")
    return 1 if unexpected or gone else 0


if __name__ == "__main__":
    sys.exit(main())
