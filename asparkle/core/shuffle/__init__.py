"""The shuffle: records brought together by key, through files that outlive the tasks that wrote them.

The map side calls `write_map_output`; the reduce side reads each map's piece, in map order, with
`read_reduce_partition` and hands the chained batches to `combine`, `group`, `cogroup`, `join`, `distinct` or, as
plain records, to `sort`.  All stay within the memory limit of the task's `SpillSpace`, and all give the same
order in each run: keys in order of first appearance, values in the order they came.

Names are imported when they are first used: a driver plans shuffles, and workers do them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asparkle.core.lazy import lazy

if TYPE_CHECKING:
    from asparkle.core.shuffle.aggregator import DISTINCT, GROUP, Aggregator, identity
    from asparkle.core.shuffle.batch import Batch, batches_of, records_of
    from asparkle.core.shuffle.external import cogroup, combine, distinct, group
    from asparkle.core.shuffle.grouped import GroupedValues
    from asparkle.core.shuffle.joining import join
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
    "join",
    "read_reduce_partition",
    "records_of",
    "sort",
    "write_map_output",
]

__getattr__ = lazy(
    __name__,
    {
        "asparkle.core.shuffle.aggregator": ["DISTINCT", "GROUP", "Aggregator", "identity"],
        "asparkle.core.shuffle.batch": ["Batch", "batches_of", "records_of"],
        "asparkle.core.shuffle.external": ["cogroup", "combine", "distinct", "group"],
        "asparkle.core.shuffle.grouped": ["GroupedValues"],
        "asparkle.core.shuffle.joining": ["join"],
        "asparkle.core.shuffle.mapoutput": ["MapOutputInfo", "MapOutputLost", "read_reduce_partition"],
        "asparkle.core.shuffle.sorter": ["sort"],
        "asparkle.core.shuffle.spill": ["SpillSpace"],
        "asparkle.core.shuffle.writer": ["write_map_output"],
    },
)


def import_all() -> None:
    """For the process that workers are forked from."""
    for name in __all__:
        __getattr__(name)
