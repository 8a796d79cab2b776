"""The values of one key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any, Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


class ResultIterable(Iterable[T_co], Generic[T_co]):
    """An iterable, with a length, over the values of one key; it may be iterated over many times.

    ``data``: what holds the values; where they were too many for memory, that reads them from disk.
    """

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data

    def __iter__(self) -> Iterator[T_co]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    @property
    def maxindex(self) -> int:
        """The number of values."""
        return len(self.data)

    def __reduce__(self) -> tuple[Any, ...]:
        return (ResultIterable, (self.data,))


Sized.register(ResultIterable)
