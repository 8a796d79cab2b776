"""The status tracker, under the path that PySpark has it."""

from __future__ import annotations

from asparkle.core.status import SparkExecutorInfo, SparkJobInfo, SparkStageInfo, StatusTracker

__all__ = ["SparkExecutorInfo", "SparkJobInfo", "SparkStageInfo", "StatusTracker"]
