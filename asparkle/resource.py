"""Resource profiles, under the path that PySpark has them."""

from __future__ import annotations

from asparkle.core.resourceprofiles import (
    ExecutorResourceRequest,
    ExecutorResourceRequests,
    ResourceInformation,
    ResourceProfile,
    ResourceProfileBuilder,
    TaskResourceRequest,
    TaskResourceRequests,
)

__path__: list[str] = []  # PySpark's is a package: as pyspark, its modules are all this one

__all__ = [
    "ExecutorResourceRequest",
    "ExecutorResourceRequests",
    "ResourceInformation",
    "ResourceProfile",
    "ResourceProfileBuilder",
    "TaskResourceRequest",
    "TaskResourceRequests",
]
