"""The values of one key, under the path that PySpark has them."""

from __future__ import annotations

from asparkle.core.resultiterable import ResultIterable

__all__ = ["ResultIterable"]
