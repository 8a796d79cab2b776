"""The steps of sources, as workers run them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from asparkle.core.program import SourceStep, Step

if TYPE_CHECKING:
    from asparkle.core.worker.task import TaskEnvironment


def length_of(whole: range) -> int:
    """``len(whole)``, which fails for more than ``sys.maxsize``."""
    return (whole[-1] - whole[0]) // whole.step + 1 if whole else 0


class RangeStep(Step):
    __slots__ = ("slices", "whole")

    def __init__(self, whole: range, slices: int) -> None:
        self.cached = None
        self.whole = whole
        self.slices = slices

    def compute(self, program: Any, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        n, slices = length_of(self.whole), self.slices
        return iter(self.whole[partition * n // slices : (partition + 1) * n // slices])


class CollectionStep(SourceStep):
    __slots__ = ()

    def __init__(self) -> None:
        self.cached = None

    def compute(self, program: Any, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        elements: Iterator[Any] = iter(task.data(self.index, partition))
        return elements


class FileStep(SourceStep):
    """``read(piece, *arguments)``, a function that workers import; the piece comes with the task."""

    __slots__ = ("arguments", "read")

    def __init__(self, read: Callable[..., Iterator[Any]], arguments: tuple[Any, ...]) -> None:
        self.cached = None
        self.read = read
        self.arguments = arguments

    def compute(self, program: Any, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        return self.read(task.data(self.index, partition), *self.arguments)
