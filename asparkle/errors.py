"""The errors that asparkle raises on purpose, for `except` clauses; all but TaskKilled are an AsparkleError.

``pyspark.errors`` is this module: the kinds of errors have PySpark's names, `PySparkValueError` and so on.
"""

from __future__ import annotations

from typing import Any

from asparkle.core.errors import (
    AnalysisException,
    ArgumentError,
    ArgumentTypeError,
    AsparkleError,
    BarrierStageError,
    BroadcastDestroyed,
    CheckpointLost,
    CommitDenied,
    ConfigurationError,
    ContextActive,
    ContextError,
    ContextStopped,
    CorruptBlock,
    CorruptInput,
    DeadlockError,
    EmptyRDDError,
    ForkedContextError,
    HostUnreachable,
    InputIsDirectory,
    InputNotFound,
    JobCancelled,
    JobDeadlineExceeded,
    JobFailed,
    KeyHashError,
    MissingDependency,
    ModuleNotSupported,
    NeedsJVM,
    NestedContextError,
    NodeError,
    NoExecutors,
    NotSupported,
    OutputExists,
    PicklingFailed,
    PluginError,
    PySparkAttributeError,
    PySparkException,
    PySparkImportError,
    PySparkNotImplementedError,
    PySparkPicklingError,
    PySparkRuntimeError,
    PySparkTypeError,
    PySparkValueError,
    RemoteFileError,
    ResultTooLarge,
    StorageError,
    StoreFull,
    TaskKilled,
    TooManyJobs,
    UserFunctionError,
)

__all__ = [
    "AnalysisException",
    "ArgumentError",
    "ArgumentTypeError",
    "AsparkleError",
    "BarrierStageError",
    "BroadcastDestroyed",
    "CheckpointLost",
    "CommitDenied",
    "ConfigurationError",
    "ContextActive",
    "ContextError",
    "ContextStopped",
    "CorruptBlock",
    "CorruptInput",
    "DeadlockError",
    "EmptyRDDError",
    "ForkedContextError",
    "HostUnreachable",
    "InputIsDirectory",
    "InputNotFound",
    "JobCancelled",
    "JobDeadlineExceeded",
    "JobFailed",
    "KeyHashError",
    "MissingDependency",
    "ModuleNotSupported",
    "NeedsJVM",
    "NestedContextError",
    "NoExecutors",
    "NodeError",
    "NotSupported",
    "OutputExists",
    "PicklingFailed",
    "PluginError",
    "PySparkAttributeError",
    "PySparkException",
    "PySparkImportError",
    "PySparkNotImplementedError",
    "PySparkPicklingError",
    "PySparkRuntimeError",
    "PySparkTypeError",
    "PySparkValueError",
    "RemoteFileError",
    "ResultTooLarge",
    "StorageError",
    "StoreFull",
    "TaskKilled",
    "TooManyJobs",
    "UserFunctionError",
]

__path__: list[str] = []  # a package under the name of pyspark.errors, whose modules are this one

_NEVER_RAISED = {
    *("ArithmeticException", "ArrayIndexOutOfBoundsException", "DateTimeException", "IllegalArgumentException"),
    *("NumberFormatException", "ParseException", "PickleException", "PySparkAssertionError", "PySparkIndexError"),
    *("PySparkKeyError", "PythonException", "QueryExecutionException", "SessionNotSameException"),
    *("SparkNoSuchElementException", "SparkRuntimeException", "SparkUpgradeException", "StreamingQueryException"),
    *("TempTableAlreadyExistsException", "UnknownException", "UnsupportedOperationException"),
}
"""Of PySpark's errors, those of SQL and of the JVM: programs may name them in `except` clauses."""


def __getattr__(name: str) -> Any:
    if name not in _NEVER_RAISED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = kind = type(name, (AsparkleError,), {"__doc__": "PySpark's.  Nothing here raises it."})
    return kind
