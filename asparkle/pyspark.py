"""asparkle under the name of ``pyspark``, for programs that were written for PySpark.

``import pyspark`` gives this module after `install`, which ``asparkle run --pyspark`` calls, and
``pyspark.rdd``, ``pyspark.sql.types``, ... give asparkle's modules of these names, whether or not PySpark is
installed or on ``sys.path``.  Workers do the same: they find it in their environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import asparkle
from asparkle.core.errors import ModuleNotSupported

__all__: list[str] = [*asparkle.__all__]  # what ``from pyspark import *`` gives

__version__ = "4.3.0"
"""The PySpark whose interface this is."""

__path__: list[str] = []  # a package, all of whose modules the finder knows

VARIABLE = "ASPARKLE_AS_PYSPARK"
"""Set in the environment of a process that is to see asparkle as pyspark, and so of those that it starts."""

_MODULES = (
    {"accumulators", "broadcast", "conf", "context", "errors", "files", "profiler", "rdd", "resource", "resultiterable"}
    | {"serializers", "statcounter", "status", "storagelevel", "taskcontext", "util"}
    | {"sql", "sql.dataframe", "sql.session", "sql.types"}
)
"""The modules of PySpark that programs with RDDs import, as far as asparkle has them."""

_PART_OF = {
    **{f"resource.{name}": "resource" for name in ("information", "profile", "requests")},
    **{f"errors.{name}": "errors" for name in ("exceptions", "exceptions.base", "exceptions.captured")},
    "version": "",
}
"""Modules whose contents are in another one here."""

_SCOPE = "it has RDDs, and of pyspark.sql what goes with these, SparkSession, DataFrame and Row"


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    return getattr(asparkle, name) if name in asparkle.__all__ else import_module(target(f"pyspark.{name}"))


def __dir__() -> list[str]:
    return sorted({*asparkle.__all__, "__version__"})


def install() -> None:
    """From now on, ``pyspark`` is asparkle: in this process, and in workers that it starts afterwards.

    May be called again.  What was imported from a real PySpark before stays what it is.
    """
    os.environ[VARIABLE] = "1"
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def target(name: str) -> str:
    """The module of asparkle that stands for PySpark's module ``name``.

    Raises ModuleNotSupported where there is none.
    """
    path = name.removeprefix("pyspark").removeprefix(".core").lstrip(".")  # pyspark.core.rdd is pyspark.rdd, too
    path = _PART_OF.get(path, path)
    if not path:
        return "asparkle.pyspark"
    if path == "cloudpickle" or path.startswith("cloudpickle."):  # PySpark has a copy of its own
        return path
    if path in _MODULES:
        from importlib.util import find_spec

        if find_spec(f"asparkle.{path}") is not None:
            return f"asparkle.{path}"
    raise ModuleNotSupported(f"asparkle has no {name}: {_SCOPE}")


class _Finder(MetaPathFinder, Loader):
    """Finds ``pyspark`` and what is below it, before anybody else is asked."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "pyspark":
            return None
        return ModuleSpec(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        # What is in sys.modules when this returns is what the import gives: the same module under two names.
        sys.modules[module.__name__] = import_module(target(module.__name__))
