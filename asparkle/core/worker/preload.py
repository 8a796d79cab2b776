"""What the programs of tasks are made of, imported before there are any."""

from __future__ import annotations

import importlib
from typing import Final

from asparkle.core import shuffle

_MODULES: Final = (
    "accumulators",
    "broadcast",
    "reductions",
    "shuffle.steps",
    "source_steps",
    "statcounter",
    "textfiles",
)


def preload() -> None:
    """Import what workers will need: a process that forks them does so once, for all."""
    for name in _MODULES:
        importlib.import_module(f"asparkle.core.{name}")
    shuffle.import_all()
