"""One key's values when there are too many of them for the memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, SupportsIndex, overload

from asparkle.core.shuffle.spill import Segment, SpillFile, SpillFiles


class HotValues(list[Any]):
    """A key's list whose earlier values are on disk; the list itself is the tail that came after them."""

    __slots__ = ("chunks",)

    def __init__(self, tail: Iterable[Any] = ()) -> None:
        super().__init__(tail)
        self.chunks: list[tuple[SpillFile, Segment]] = []

    def flush(self, files: SpillFiles, rows: int) -> None:
        """Move the tail to disk, ``rows`` values to a frame."""
        file = files.next()
        for at in range(0, len(self), rows):
            chunk = self[at : at + rows]
            self.chunks.append((file, file.append(list(chunk), len(chunk))))
        self.clear()

    def follow(self, later: HotValues, files: SpillFiles, rows: int) -> None:
        """Take all values of ``later`` after these."""
        self.flush(files, rows)
        self.chunks += later.chunks
        self += later


class GroupedValues(Sequence[Any]):
    """The values of one key, in order, most of them on disk: as many as fit there.

    Sized, iterable any number of times (a megabyte at a time is in memory) and indexable; equal to a list
    with the same values, and a list when it is pickled or copied. Valid until its task ends.
    """

    __slots__ = ("_chunks", "_length", "_tail")

    def __init__(self, values: HotValues) -> None:
        self._chunks = values.chunks
        self._tail = list(values)
        self._length = sum(segment.rows for _, segment in values.chunks) + len(values)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return chain(chain.from_iterable(map(_read, self._chunks)), self._tail)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        if isinstance(index, slice):
            places = range(self._length)[index]
            if places.step < 0:
                return self._stretch(places[::-1])[::-1]
            return self._stretch(places)
        place = range(self._length)[index]
        return self._stretch(range(place, place + 1))[0]

    def _stretch(self, places: range) -> list[Any]:
        """The values at increasing ``places``, reading only the chunks that have some of them."""
        found: list[Any] = []
        start = 0
        for chunk in (*self._chunks, None):
            end = start + (chunk[1].rows if chunk else len(self._tail))
            inside = [p - start for p in places if start <= p < end] if len(places) < end - start else None
            if inside is None:
                first = max(0, -(-(start - places.start) // places.step)) if places else 0
                inside = [p - start for p in places[first:] if p < end]
            if inside:
                values = _read(chunk) if chunk else self._tail
                found += [values[i] for i in inside]
            start = end
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, GroupedValues)):
            return NotImplemented
        return len(self) == len(other) and all(map(_equal, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (), None, iter(self)

    def __repr__(self) -> str:
        head = ", ".join(map(repr, self._stretch(range(min(self._length, 10)))))
        return f"[{head}{', ...' if self._length > 10 else ''}]"


def _equal(a: object, b: object) -> bool:
    return a is b or a == b


def _read(chunk: tuple[SpillFile, Segment]) -> list[Any]:
    file, segment = chunk
    values: list[Any] = file.read(segment)
    return values
