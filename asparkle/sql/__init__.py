"""As much of ``pyspark.sql`` as programs with RDDs use: a session, its context, and rows to and from RDDs.

There is no SQL and no optimizer: a `DataFrame` is an RDD of `Row` with names for its columns.
"""

from __future__ import annotations

from typing import Any

from asparkle.core.errors import ModuleNotSupported
from asparkle.sql.dataframe import DataFrame
from asparkle.sql.session import SparkSession
from asparkle.sql.types import Row

__all__ = ["DataFrame", "Row", "SparkSession"]


def __getattr__(name: str) -> Any:
    """Raises an ImportError, for ``from pyspark.sql import functions`` is how this is met."""
    if name.startswith("_"):
        raise AttributeError(name)
    raise ModuleNotSupported(
        f"asparkle has no pyspark.sql.{name}: it has RDDs, and of pyspark.sql {', '.join(__all__)}"
    )
