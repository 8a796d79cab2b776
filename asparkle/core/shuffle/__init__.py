"""The shuffle: records brought together by key, through files that outlive the tasks that wrote them.

The map side calls `write_map_output`; the reduce side reads each map's piece, in map order, with
`read_reduce_partition` and hands the chained batches to `combine`, `group`, `cogroup`, `distinct` or, as
plain records, to `sort`.  All stay within the memory limit of the task's `SpillSpace`, and all give the same
order whether they spilled or not: keys in order of first appearance, values in the order they came.

Names are imported when they are first used: a driver plans shuffles, and workers do them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asparkle.core.shuffle.aggregator import DISTINCT, GROUP, Aggregator, identity
    from asparkle.core.shuffle.batch import Batch, batches_of, records_of
    from asparkle.core.shuffle.external import cogroup, combine, distinct, group
    from asparkle.core.shuffle.grouped import GroupedValues
    from asparkle.core.shuffle.mapoutput import MapOutputInfo, MapOutputLost, read_reduce_partition
    from asparkle.core.shuffle.sorter import sort
    from asparkle.core.shuffle.spill import SpillSpace
    from asparkle.core.shuffle.writer import write_map_output

__all__ = [
    "DISTINCT",
    "GROUP",
    "Aggregator",
    "Batch",
    "GroupedValues",
    "MapOutputInfo",
    "MapOutputLost",
    "SpillSpace",
    "batches_of",
    "cogroup",
    "combine",
    "distinct",
    "group",
    "identity",
    "read_reduce_partition",
    "records_of",
    "sort",
    "write_map_output",
]

_WHERE = {
    "aggregator": ["DISTINCT", "GROUP", "Aggregator", "identity"],
    "batch": ["Batch", "batches_of", "records_of"],
    "external": ["cogroup", "combine", "distinct", "group"],
    "grouped": ["GroupedValues"],
    "mapoutput": ["MapOutputInfo", "MapOutputLost", "read_reduce_partition"],
    "sorter": ["sort"],
    "spill": ["SpillSpace"],
    "writer": ["write_map_output"],
}


def __getattr__(name: str) -> Any:
    for module, names in _WHERE.items():
        if name in names:
            from importlib import import_module

            value = globals()[name] = getattr(import_module(f"asparkle.core.shuffle.{module}"), name)
            return value
    raise AttributeError(f"module 'asparkle.core.shuffle' has no attribute {name!r}")


def import_all() -> None:
    """For the process that workers are forked from."""
    for name in __all__:
        __getattr__(name)
