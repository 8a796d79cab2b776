"""asparkle: Spark's resilient distributed datasets as a Python library on asyncio.

    from asparkle import SparkContext

    with SparkContext("local[*]") as sc:
        print(sc.parallelize(range(10)).map(lambda x: x * x).sum())

`asparkle.aio` has the same names for asynchronous programs; `asparkle.errors` has all errors.  Names are
imported when they are first used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from asparkle.core.version import VERSION as __version__

if TYPE_CHECKING:
    from asparkle.barrier import BarrierTaskContext, BarrierTaskInfo, RDDBarrier
    from asparkle.context import SparkContext
    from asparkle.core.accumulators import Accumulator, AccumulatorParam
    from asparkle.core.addedfiles import SparkFiles
    from asparkle.core.broadcast import Broadcast
    from asparkle.core.conf import SparkConf
    from asparkle.core.coroutines import FailedElement
    from asparkle.core.errors import AsparkleError, JobCancelled, JobFailed
    from asparkle.core.inheritablethread import InheritableThread, inheritable_thread_target
    from asparkle.core.profiling import BasicProfiler, Profiler
    from asparkle.core.resources import WorkerResource
    from asparkle.core.statcounter import StatCounter
    from asparkle.core.status import SparkExecutorInfo, SparkJobInfo, SparkStageInfo, StatusTracker
    from asparkle.core.storagelevel import StorageLevel
    from asparkle.core.taskcontext import TaskContext
    from asparkle.handles import JobHandle
    from asparkle.rdd import RDD

__all__ = [
    "RDD",
    "Accumulator",
    "AccumulatorParam",
    "AsparkleError",
    "BarrierTaskContext",
    "BarrierTaskInfo",
    "BasicProfiler",
    "Broadcast",
    "FailedElement",
    "InheritableThread",
    "JobCancelled",
    "JobFailed",
    "JobHandle",
    "Profiler",
    "RDDBarrier",
    "SparkConf",
    "SparkContext",
    "SparkExecutorInfo",
    "SparkFiles",
    "SparkJobInfo",
    "SparkStageInfo",
    "StatCounter",
    "StatusTracker",
    "StorageLevel",
    "TaskContext",
    "WorkerResource",
    "__version__",
    "inheritable_thread_target",
]

_WHERE = {
    "RDD": "asparkle.rdd",
    "Accumulator": "asparkle.core.accumulators",
    "AccumulatorParam": "asparkle.core.accumulators",
    "AsparkleError": "asparkle.core.errors",
    "BarrierTaskContext": "asparkle.core.barrier",
    "BarrierTaskInfo": "asparkle.core.barrier",
    "BasicProfiler": "asparkle.core.profiling",
    "Broadcast": "asparkle.core.broadcast",
    "InheritableThread": "asparkle.core.inheritablethread",
    "FailedElement": "asparkle.core.coroutines",
    "JobCancelled": "asparkle.core.errors",
    "JobHandle": "asparkle.handles",
    "JobFailed": "asparkle.core.errors",
    "Profiler": "asparkle.core.profiling",
    "RDDBarrier": "asparkle.barrier",
    "SparkConf": "asparkle.core.conf",
    "SparkContext": "asparkle.context",
    "SparkFiles": "asparkle.core.addedfiles",
    "StatCounter": "asparkle.core.statcounter",
    "SparkExecutorInfo": "asparkle.core.status",
    "SparkJobInfo": "asparkle.core.status",
    "SparkStageInfo": "asparkle.core.status",
    "StatusTracker": "asparkle.core.status",
    "StorageLevel": "asparkle.core.storagelevel",
    "TaskContext": "asparkle.core.taskcontext",
    "inheritable_thread_target": "asparkle.core.inheritablethread",
    "WorkerResource": "asparkle.core.resources",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'asparkle' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if "ASPARKLE_AS_PYSPARK" in os.environ:  # see asparkle.pyspark
    __import__("asparkle.pyspark").pyspark.install()
