"""Configuration, under the path that PySpark has it."""

from __future__ import annotations

from asparkle.core.conf import SparkConf

__all__ = ["SparkConf"]
