"""Sorting more than fits into memory: sorted runs on disk, merged lazily.

The merge works on blocks (frames), not on single records: of all runs' current blocks, everything up to
the smallest last key can be given out now.  These pieces, one after the other, are what ``list.sort`` is
quickest at (timsort merges runs that it finds), so the merge costs C comparisons only, a fifth of
heapq.merge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, TypeAlias

from asparkle.core.shuffle.batch import pack_rows, unpack_rows
from asparkle.core.shuffle.spill import Meter, Segment, SpillFile, SpillFiles, SpillSpace
from asparkle.core.shuffle.weighing import FIRST_STEP, POINTER, average_size, next_step, rows_per_frame

Key: TypeAlias = Callable[[Any], Any] | None
KEY_BYTES = 40  # what the list of keys takes for a record while sorting
MAX_RUNS = 128


def sort(records: Iterable[Any], key: Key, reverse: bool, space: SpillSpace) -> Iterator[Any]:
    """``iter(sorted(records, key=key, reverse=reverse))`` in bounded memory: stable, and lazy.

    ``records`` is read when the first element is asked for.  Keeps within ``space.memory_limit``, as
    estimated, and holds about a megabyte for each limit's worth of data while it merges.  Raises what
    comparing and ``key`` raise, `StorageError` if there is no room to spill.
    """
    return chain.from_iterable(_sorted_blocks(iter(records), key, reverse, space))


def _sorted_blocks(records: Iterator[Any], key: Key, reverse: bool, space: SpillSpace) -> Iterator[list[Any]]:
    buffer: list[Any] = []
    runs: list[Run] = []
    files = SpillFiles(space)
    meter = Meter(space)
    step = FIRST_STEP
    size = 0
    extra = POINTER + (0 if key is None else KEY_BYTES)
    while chunk := list(islice(records, step)):
        size = average_size(chunk) + extra
        buffer += chunk
        if meter.add(size * len(chunk)):
            chunk.clear()
            buffer.sort(key=key, reverse=reverse)
            runs.append(Run.write(files.next(), [buffer], rows_per_frame(size)))
            buffer.clear()
            meter.clear(spilled=True)
            if len(runs) == MAX_RUNS:
                runs = [Run.write(files.next(), merge_runs(runs, key, reverse), rows_per_frame(size))]
        step = next_step(step, size, space)
    buffer.sort(key=key, reverse=reverse)
    if runs:
        runs.append(Run.write(files.next(), [buffer], rows_per_frame(size)))
        buffer.clear()
        meter.clear(spilled=True)
        yield from merge_runs(runs, key, reverse)
    else:
        yield buffer


class Run:
    """Sorted rows on disk, in frames."""

    def __init__(self, file: SpillFile, segments: list[Segment]) -> None:
        self._file = file
        self._segments = iter(segments)
        self.block: list[Any] = []
        self.at = 0

    @classmethod
    def write(cls, file: SpillFile, blocks: Iterable[list[Any]], rows: int) -> Run:
        """Rows that come in ``blocks``, ``rows`` to a frame."""
        segments = []
        for block in blocks:
            segments += [file.append(pack_rows(block[at : at + rows])) for at in range(0, len(block), rows)]
        return cls(file, segments)

    def advance(self) -> bool:
        """Load the next block; whether there is one."""
        segment = next(self._segments, None)
        self.block = [] if segment is None else unpack_rows(self._file.read(segment))
        self.at = 0
        return segment is not None

    def take(self, end: int) -> list[Any]:
        """The block's rows up to ``end`` that were not taken yet."""
        rows = self.block[self.at : end]
        self.at = end
        return rows


def merge_runs(runs: Iterable[Run], key: Key, reverse: bool = False) -> Iterator[list[Any]]:
    """Blocks that together are the stable merge of ``runs``; equal rows stay in the order of the runs.

    Invariant: every run in ``open_runs`` has a block with rows left.  ``first`` is the run whose block ends
    first (the earliest of such).  Rows of earlier runs go before its equal ones, so theirs are taken up to
    and including its last key; rows of later runs go after, and the next block of ``first`` may hold more
    equal ones, so theirs are taken up to that key exclusively.
    """
    open_runs = [run for run in runs if run.advance()]
    while len(open_runs) > 1:
        lasts = [run.block[-1] for run in open_runs]
        if key is not None:
            lasts = list(map(key, lasts))
        first = 0
        for i in range(1, len(lasts)):
            if lasts[first] < lasts[i] if reverse else lasts[i] < lasts[first]:
                first = i
        bound = lasts[first]
        rows: list[Any] = []
        for i, run in enumerate(open_runs):
            rows += run.take(len(run.block) if i == first else _cut(run, bound, key, reverse, i < first))
        rows.sort(key=key, reverse=reverse)
        if not open_runs[first].advance():
            del open_runs[first]
        yield rows
    for run in open_runs:
        yield run.take(len(run.block))
        while run.advance():
            yield run.block


def _cut(run: Run, bound: Any, key: Key, reverse: bool, inclusive: bool) -> int:
    """Where the rows of the run's block end that come before ``bound`` (or equal it, if ``inclusive``)."""
    block, low, high = run.block, run.at, len(run.block)
    while low < high:
        middle = (low + high) // 2
        k = block[middle] if key is None else key(block[middle])
        if inclusive:
            before = not (k < bound if reverse else bound < k)
        else:
            before = bound < k if reverse else k < bound
        if before:
            low = middle + 1
        else:
            high = middle
    return low
