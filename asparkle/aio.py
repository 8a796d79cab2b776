"""asparkle for asynchronous programs: the same names as in `asparkle`, with coroutines for actions.

async with SparkContext(master="local[*]") as sc:
    print(await sc.parallelize(range(10)).map(lambda x: x * x).sum())
"""

from __future__ import annotations

from collections.abc import Iterable

from asparkle.core.accumulators import Accumulator, AccumulatorParam
from asparkle.core.addedfiles import SparkFiles
from asparkle.core.barrier import BarrierTaskContext, BarrierTaskInfo, RDDBarrier
from asparkle.core.broadcast import Broadcast
from asparkle.core.conf import SparkConf
from asparkle.core.context import SparkContext as _SparkContext
from asparkle.core.coroutines import FailedElement
from asparkle.core.errors import AsparkleError, JobCancelled, JobFailed
from asparkle.core.eventstreams import EventStream
from asparkle.core.handles import JobHandle
from asparkle.core.inheritablethread import InheritableThread, inheritable_thread_target
from asparkle.core.profiling import BasicProfiler, Profiler
from asparkle.core.rdd import RDD
from asparkle.core.resources import WorkerResource
from asparkle.core.statcounter import StatCounter
from asparkle.core.status import SparkExecutorInfo, SparkJobInfo, SparkStageInfo, StatusTracker
from asparkle.core.storagelevel import StorageLevel
from asparkle.core.taskcontext import TaskContext

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
    "inheritable_thread_target",
]


class SparkContext(_SparkContext):
    __doc__ = _SparkContext.__doc__
    _face = "asparkle.aio"

    def __init__(
        self,
        master: str | None = None,
        appName: str | None = None,
        *,
        conf: SparkConf | None = None,
        plugins: Iterable[object] = (),
        profiler_cls: type[Profiler] | None = None,
    ) -> None:
        """A context that starts its executors when it is entered with ``async with``.

        ``master``: where tasks run, such as ``local[4]``; ``appName``: the application's name.  Both go before
        what ``conf``, which is copied, says.  ``plugins``: plugins and listeners of this context alone.
        ``profiler_cls``: what profiles tasks if ``spark.python.profile`` is set.

        Raises ConfigurationError for a bad key or master URL, PluginError for a plugin that can't be used, and
        StorageError if nothing can be written in ``spark.local.dir``; then nothing was started.
        """
        from asparkle.newapplication import new_application

        super().__init__(new_application(master, appName, conf, plugins), profiler_cls)
