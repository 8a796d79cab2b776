"""Names of a module that are imported when they are first asked for: importing the module is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any


def lazy(module: str, modules: Mapping[str, Collection[str]]) -> Callable[[str], Any]:
    """The ``__getattr__`` of ``module``, which finds each name in the one of ``modules`` that lists it."""
    where = {name: imported for imported, names in modules.items() for name in names}

    def find(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(where[name]), name)
        setattr(sys.modules[module], name, value)
        return value

    return find
