"""Storage levels, under the path that PySpark has them."""

from __future__ import annotations

from asparkle.core.storagelevel import StorageLevel

__all__ = ["StorageLevel"]
