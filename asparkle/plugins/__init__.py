"""What plugin authors import: the contracts, what helps to meet them, and `hookimpl`, which marks a hook's
implementation.  The hooks are in `asparkle.plugins.hookspecs`.

`API_VERSION` is what a plugin is written against; see there.  Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asparkle.core.lazy import lazy
from asparkle.core.version import API_VERSION

if TYPE_CHECKING:
    from asparkle.core.contracts import (
        AppSpec,
        BlockId,
        BlockStore,
        Buffer,
        CachePolicy,
        Cluster,
        ClusterManager,
        Executor,
        ExecutorInfo,
        Listener,
        Lost,
        Metric,
        Metrics,
        MetricSink,
    )
    from asparkle.core.workercluster import SocketExecutor, WorkerCluster, worker_command
    from asparkle.plugins.hookspecs import hookimpl

__all__ = [
    "API_VERSION",
    "AppSpec",
    "BlockId",
    "BlockStore",
    "Buffer",
    "CachePolicy",
    "Cluster",
    "ClusterManager",
    "Executor",
    "ExecutorInfo",
    "Listener",
    "Lost",
    "Metric",
    "MetricSink",
    "Metrics",
    "SocketExecutor",
    "WorkerCluster",
    "hookimpl",
    "worker_command",
]

__getattr__ = lazy(
    __name__,
    {
        "asparkle.core.contracts": [
            "AppSpec",
            "BlockId",
            "BlockStore",
            "Buffer",
            "CachePolicy",
            "Cluster",
            "ClusterManager",
            "Executor",
            "ExecutorInfo",
            "Listener",
            "Lost",
            "Metric",
            "MetricSink",
            "Metrics",
        ],
        "asparkle.core.workercluster": ["SocketExecutor", "WorkerCluster", "worker_command"],
        "asparkle.plugins.hookspecs": ["hookimpl"],
    },
)
