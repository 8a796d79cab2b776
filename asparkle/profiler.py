"""Profilers, under the path that PySpark has them."""

from __future__ import annotations

from asparkle.core.profiling import BasicProfiler, Profiler, PStatsParam

__all__ = ["BasicProfiler", "PStatsParam", "Profiler"]
