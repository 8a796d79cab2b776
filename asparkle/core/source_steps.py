"""The steps of sources, as workers run them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from asparkle.core.program import SourceStep, Step
from asparkle.core.textfiles import read_lines

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


class TextStep(SourceStep):
    __slots__ = ("use_unicode",)

    def __init__(self, use_unicode: bool) -> None:
        self.cached = None
        self.use_unicode = use_unicode

    def compute(self, program: Any, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        return read_lines(task.data(self.index, partition), self.use_unicode)
