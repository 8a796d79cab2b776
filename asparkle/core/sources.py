"""Where RDDs come from: collections in the driver, ranges, files."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from asparkle.core.arguments import wrong_type
from asparkle.core.errors import ArgumentError
from asparkle.core.failure import job_failed, told
from asparkle.core.lineage import Source
from asparkle.core.program import Step
from asparkle.core.protocol import Live, Payload
from asparkle.core.source_steps import CollectionStep, FileStep, RangeStep

if TYPE_CHECKING:
    from asparkle.core.filesystems import Options
    from asparkle.core.inputfiles import InputFile
    from asparkle.core.plan import Planner, StageBuilder


def slice_bounds(length: int, slices: int) -> list[tuple[int, int]]:
    """Where each of ``slices`` slices of a collection starts and ends.

    As PySpark deals them: whole batches of at most 1,024 elements, so slices may differ by a batch.
    """
    batch = max(1, min(length // slices, 1024))
    batches = -(-length // batch)
    ends = [min(i * batches // slices * batch, length) for i in range(slices + 1)]
    return list(itertools.pairwise(ends))


class Range(Source):
    """A ``range``: workers get three numbers and make their part of it."""

    def __init__(self, whole: range, slices: int) -> None:
        super().__init__()
        self.whole = whole
        self.slices = slices
        self.num_partitions = slices

    async def prepare(self, planner: Planner) -> None:
        self.set_prepared(self.slices)

    def build(self, builder: StageBuilder) -> Step:
        return RangeStep(self.whole, self.slices)


class Empty(Source):
    """No partitions at all."""

    async def prepare(self, planner: Planner) -> None:
        self.set_prepared(0)

    def build(self, builder: StageBuilder) -> Step:
        return RangeStep(range(0), 1)


class Collection(Source):
    """A sequence of the driver's, sliced lazily and kept in kind: a slice of an array is an array.

    What a task is sent is made once per partition and context, when a task first needs it: a short
    pickle, or a file of the application for large slices.  Elements that can't be changed are handed
    to threads of this process as they are.
    """

    def __init__(self, data: Sequence[Any], slices: int) -> None:
        super().__init__()
        self.data = data
        self.bounds = slice_bounds(len(data), slices)
        self.num_partitions = slices
        self.payloads: dict[int, Payload] = {}
        self.immutable: bool | None = None
        self.lock = threading.Lock()

    async def prepare(self, planner: Planner) -> None:
        self.set_prepared(len(self.bounds))

    def slice(self, partition: int) -> Sequence[Any]:
        start, stop = self.bounds[partition]
        return self.data[start:stop]

    def is_light(self) -> bool:
        """Whether all slices together are surely quick to pickle."""
        data = self.data
        return len(data) <= 256 and type(data) is list and _NUMBERS.issuperset(map(type, data))

    def build(self, builder: StageBuilder) -> Step:
        return CollectionStep()


class AsyncCollection(Collection):
    """An asynchronous iterable of the driver's, read as a whole when a job first needs it."""

    read_once = True

    def __init__(self, elements: AsyncIterable[Any], slices: int) -> None:
        super().__init__((), slices)
        if getattr(elements, "ag_frame", elements) is None:
            raise exhausted(elements)
        self.elements: AsyncIterable[Any] | None = elements
        self.slices = slices
        self.begun = False

    async def prepare(self, planner: Planner) -> None:
        assert self.elements is not None
        elements = self.elements.__aiter__()
        if self.begun and elements is self.elements:
            raise ArgumentError(
                f"{elements!r} was read in part when the jobs that waited for it failed or were cancelled, and can't "
                "be read again; make a new RDD of a new one, or give parallelize a list"
            )
        self.begun = True
        try:
            self.data = [element async for element in elements]
        except Exception as error:
            raise job_failed(told(error)) from error
        self.elements = None
        self.bounds = slice_bounds(len(self.data), self.slices)
        await super().prepare(planner)


_NUMBERS = frozenset({int, float, bool, type(None)})


def sliceable(elements: Iterable[Any]) -> Sequence[Any]:
    """The elements as something that can be sliced, and that nobody else changes: a tuple, an array, or a list.

    Raises ArgumentError for a generator that has nothing left to give, which is hardly meant, and ArgumentTypeError
    for what can't be iterated over.
    """
    if isinstance(elements, tuple):
        return elements
    if _is_array(elements):
        return elements.copy()  # type: ignore[attr-defined, no-any-return]
    if isinstance(elements, GeneratorType) and elements.gi_frame is None:
        raise exhausted(elements)
    try:
        iterator = iter(elements)
    except TypeError:
        raise wrong_type(elements, "parallelize", "c", "a collection, or anything else to iterate over") from None
    return list(iterator)


def exhausted(generator: object) -> ArgumentError:
    return ArgumentError(
        f"{generator!r} is a generator that is already exhausted; make a new one, or a list to use it twice"
    )


def _is_array(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray) and value.ndim > 0


class Files(Source):
    """Files, which are looked for and cut into pieces when a job is planned, and read in tasks.

    ``paths``: as for `inputfiles.expand`, relative to where this was made.  ``cut(files, least, options)``: the pieces,
    which become the partitions, for at least ``least`` of them.  ``read(piece, options, *more)``: the elements; a
    function that workers import.
    """

    def __init__(
        self,
        paths: str,
        options: Options,
        cut: Callable[[Sequence[InputFile], int, Options], Sequence[object]],
        read: Callable[..., Iterator[Any]],
        more: tuple[Any, ...] = (),
        min_partitions: int | None = None,
        *,
        skip_directories: bool = False,
    ) -> None:
        super().__init__()
        self.name = paths
        self.paths = paths
        self.options = options
        self.cut = cut
        self.read = read
        self.more = more
        self.min_partitions = min_partitions
        self.skip_directories = skip_directories
        self.directory = os.getcwd()

    async def prepare(self, planner: Planner) -> None:
        from asparkle.core.loop import in_thread

        least = planner.default_min_partitions if self.min_partitions is None else self.min_partitions
        self.pieces = await in_thread(self._pieces, least)
        self.set_prepared(len(self.pieces))

    def _pieces(self, least: int) -> Sequence[object]:
        from asparkle.core.inputfiles import expand

        files = expand(self.paths, self.directory, self.options, skip_directories=self.skip_directories)
        return self.cut(files, least, self.options)

    def payload(self, partition: int) -> object:
        return Live(self.pieces[partition])

    def build(self, builder: StageBuilder) -> Step:
        return FileStep(self.read, (self.options, *self.more))
