"""asparkle: Spark's resilient distributed datasets as a Python library on asyncio.

    from asparkle import SparkContext

    with SparkContext("local[*]") as sc:
        print(sc.parallelize(range(10)).map(lambda x: x * x).sum())

`asparkle.aio` has the same names for asynchronous programs; `asparkle.errors` has all errors.  Names are
imported when they are first used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from asparkle.core.lazy import lazy
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
    from asparkle.eventstreams import EventStream
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
    "EventStream",
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

__getattr__ = lazy(
    __name__,
    {
        "asparkle.barrier": ["RDDBarrier"],
        "asparkle.context": ["SparkContext"],
        "asparkle.core.accumulators": ["Accumulator", "AccumulatorParam"],
        "asparkle.core.addedfiles": ["SparkFiles"],
        "asparkle.core.barrier": ["BarrierTaskContext", "BarrierTaskInfo"],
        "asparkle.core.broadcast": ["Broadcast"],
        "asparkle.core.conf": ["SparkConf"],
        "asparkle.core.coroutines": ["FailedElement"],
        "asparkle.core.errors": ["AsparkleError", "JobCancelled", "JobFailed"],
        "asparkle.core.inheritablethread": ["InheritableThread", "inheritable_thread_target"],
        "asparkle.core.profiling": ["BasicProfiler", "Profiler"],
        "asparkle.core.resources": ["WorkerResource"],
        "asparkle.core.statcounter": ["StatCounter"],
        "asparkle.core.status": ["SparkExecutorInfo", "SparkJobInfo", "SparkStageInfo", "StatusTracker"],
        "asparkle.core.storagelevel": ["StorageLevel"],
        "asparkle.core.taskcontext": ["TaskContext"],
        "asparkle.eventstreams": ["EventStream"],
        "asparkle.handles": ["JobHandle"],
        "asparkle.rdd": ["RDD"],
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)


if "ASPARKLE_AS_PYSPARK" in os.environ:  # see asparkle.pyspark
    __import__("asparkle.pyspark").pyspark.install()
