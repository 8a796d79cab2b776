"""``SparkFiles`` under the module path that PySpark has for it."""

from __future__ import annotations

from asparkle.core.addedfiles import SparkFiles

__all__ = ["SparkFiles"]
