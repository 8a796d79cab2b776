"""How much memory the data of an operation takes: by sample, at a cost that vanishes beside the work.

sys.getsizeof of each record would cost more than combining it; a handful in every few thousand tell enough.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from asparkle.core.elements import estimate_size
from asparkle.core.shuffle.aggregator import GROUP, Aggregator, Table
from asparkle.core.shuffle.spill import SpillSpace

FIRST_STEP = 16
MAX_STEP = 2048  # records between two looks at the memory: if they get bigger all at once, so many must fit
MAX_STEP_COMBINED = 1 << 14
MAX_STEP_DISTINCT = 1 << 17  # each of them goes into a table of its own first: the more, the more of them are repeated
FRAME_BYTES = 1 << 20  # in memory; a merge holds one frame of every run
FRAME_ROWS = 1 << 14
SAMPLE = 8
POINTER = 9  # bytes: of a reference in a list that grows
EMPTY_LIST = 88  # bytes, with room for its first few elements
DICT_ENTRY = 104  # bytes: entry, hash table slot, and the room that a growing dict keeps


def average_size(items: list[Any]) -> int:
    """Bytes that one of ``items`` takes, on average."""
    return estimate_size(items) // len(items) if items else 0


def next_step(step: int, record_size: int, space: SpillSpace, most: int = MAX_STEP) -> int:
    """How many records to take before the next look at the memory: soon more, if they are small."""
    return max(1, min(step * 4, most, space.memory_limit // 32 // max(record_size, 1)))


class Scales:
    """Weighs the table of an aggregator by sample, as it grows.

    Grouped values are counted as they come, since one key may have nearly all of them; combiners are taken
    to be like those of the first keys (often the frequent ones) and of the newest."""

    def __init__(self, aggregator: Aggregator) -> None:
        self._grouping = aggregator is GROUP
        self._keys = 0
        self.total = 0
        self.growth = 0
        self.value_size = POINTER

    def __call__(self, table: Table, values: int = 0) -> int:
        """Bytes in ``table``, into which ``values`` have been grouped since the last call."""
        first = list(islice(table, SAMPLE))
        last = list(islice(reversed(table), SAMPLE))
        key_size = DICT_ENTRY + average_size(last)
        if self._grouping:
            sample = [v for k in (*first, *last) for v in table[k][-2:]]
            new = len(table) - self._keys
            self.value_size = POINTER + average_size(sample)
            total = self.total + new * (key_size + EMPTY_LIST) + values * self.value_size
        else:
            head = sum([estimate_size([table[k]]) for k in first])
            total = len(table) * (key_size + average_size([table[k] for k in last])) + head
        self.growth = max(total - self.total, 0)
        self._keys = len(table)
        self.total = total
        return total

    def shrink(self, nbytes: int) -> int:
        """``nbytes`` have left the table; what is in it now."""
        self.total = max(self.total - nbytes, 0)
        return self.total


def rows_per_frame(size: int) -> int:
    """How many rows of ``size`` bytes make a frame: enough to hide its cost, few enough to hold many."""
    return max(1, min(FRAME_ROWS, FRAME_BYTES // max(size, 1)))
