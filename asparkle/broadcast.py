"""Broadcast variables, under the path that PySpark has them."""

from __future__ import annotations

from asparkle.core.broadcast import Broadcast

__all__ = ["Broadcast"]
