"""Statistics of numbers, under the path that PySpark has them."""

from __future__ import annotations

from asparkle.core.statcounter import StatCounter

__all__ = ["StatCounter"]
