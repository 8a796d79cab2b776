"""Accumulators, under the path that PySpark has them."""

from __future__ import annotations

from asparkle.core.accumulators import Accumulator, AccumulatorParam

__all__ = ["Accumulator", "AccumulatorParam"]
