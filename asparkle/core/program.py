"""What a task computes: the steps of one stage, and the way from a partition number to an iterator.

A stage's lineage is cut out of the graph as a flat list of `Step` objects in topological order, so that
pickling it is neither recursive nor quadratic, however deep the lineage is.  A step names its inputs by
their position in the list.  `Program.iterator` walks from the last step down to a source in a loop and
then applies the transforms upwards: a chain of a thousand `map` is a loop of a thousand rounds here, and
a nest of C iterators at run time, with no Python frame of ours per element.

This file is imported by workers: it knows nothing of the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asparkle.core.worker.task import TaskEnvironment

__all__ = ["Cached", "Program", "Step", "Transform"]


class Step:
    """One node of a stage's lineage as workers see it.

    ``cached`` says under which identity and storage level its partitions are kept, if they are.
    """

    __slots__ = ("cached",)
    cached: Cached | None

    def compute(self, program: Program, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        """The elements of ``partition``, computed from the step's inputs."""
        raise NotImplementedError

    def inputs_of(self, partition: int) -> Sequence[tuple[int, int]]:
        """Which (step, partition) pairs ``partition`` is computed from, within this stage."""
        return ()


class SourceStep(Step):
    """A step without inputs; ``index`` is its own position, by which it finds what the task was given for it."""

    __slots__ = ("index",)
    index: int


class Cached:
    """The identity and level of a persisted RDD; ``level`` is (disk, memory, off heap, deserialized, copies)."""

    __slots__ = ("level", "rdd")

    def __init__(self, rdd: int, level: tuple[bool, bool, bool, bool, int]) -> None:
        self.rdd = rdd
        self.level = level

    def __reduce__(self) -> tuple[Any, ...]:
        return (Cached, (self.rdd, self.level))


class Transform:
    """A narrow operation on one partition: called with its number and its elements.

    ``elementwise`` says that it is made of C iterators which call a user's function per element (`map`,
    `filter`, ...).  There an escaping StopIteration would end the partition silently, so a run of
    such transforms is guarded (see `EndGuard`).

    ``per_element`` says that what it makes of an element depends on nothing else, so that a part of the
    input gives a part of the output.
    """

    __slots__ = ()
    elementwise: bool = False
    per_element: bool = False

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        raise NotImplementedError

    def functions(self) -> Sequence[Callable[..., Any]]:
        """The user's functions in it, for error messages."""
        return ()


class Apply(Step):
    """``transform`` over the same partition of one input."""

    __slots__ = ("source", "transform")

    def __init__(self, source: int, transform: Callable[[int, Iterator[Any]], Iterable[Any]]) -> None:
        self.cached = None
        self.source = source
        self.transform = transform

    def inputs_of(self, partition: int) -> Sequence[tuple[int, int]]:
        return ((self.source, partition),)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_apply, (self.source, self.transform, self.cached))


def _apply(source: int, transform: Any, cached: Cached | None) -> Apply:
    step = Apply(source, transform)
    step.cached = cached
    return step


class Select(Step):
    """Each partition is one whole partition of one of the inputs (a union, a choice of partitions)."""

    __slots__ = ("choice",)

    def __init__(self, choice: Sequence[tuple[int, int]]) -> None:
        self.cached = None
        self.choice = choice

    def inputs_of(self, partition: int) -> Sequence[tuple[int, int]]:
        return (self.choice[partition],)


class Concatenate(Step):
    """Each partition is several partitions of one input, one after the other (coalesce)."""

    __slots__ = ("groups", "source")

    def __init__(self, source: int, groups: Sequence[Sequence[int]]) -> None:
        self.cached = None
        self.source = source
        self.groups = groups

    def inputs_of(self, partition: int) -> Sequence[tuple[int, int]]:
        return [(self.source, p) for p in self.groups[partition]]

    def compute(self, program: Program, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        source = self.source
        return chain.from_iterable(program.iterator(source, p, task) for p in self.groups[partition])


class Combine(Step):
    """``function(partition, iterators)`` over the same partition of several inputs (zip, cogroup)."""

    __slots__ = ("function", "sources")

    def __init__(
        self, sources: Sequence[int], function: Callable[[int, Sequence[Iterator[Any]], Any], Iterable[Any]]
    ) -> None:
        self.cached = None
        self.sources = sources
        self.function = function

    def inputs_of(self, partition: int) -> Sequence[tuple[int, int]]:
        return [(source, partition) for source in self.sources]

    def compute(self, program: Program, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        inputs = [program.iterator(source, partition, task) for source in self.sources]
        return iter(self.function(partition, inputs, task))


class Cartesian(Step):
    """Partition ``i * columns + j`` pairs every element of left ``i`` with every element of right ``j``."""

    __slots__ = ("columns", "left", "right")

    def __init__(self, left: int, right: int, columns: int) -> None:
        self.cached = None
        self.left = left
        self.right = right
        self.columns = columns

    def inputs_of(self, partition: int) -> Sequence[tuple[int, int]]:
        i, j = divmod(partition, self.columns)
        return ((self.left, i), (self.right, j))

    def compute(self, program: Program, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        i, j = divmod(partition, self.columns)
        right = task.reusable(program.iterator(self.right, j, task))
        return ((a, b) for a in program.iterator(self.left, i, task) for b in right)


class EndGuard:
    """Tells an iterator that ended from one that a function's StopIteration cut short.

    A run of C iterators ends in silence when a user's function raises StopIteration.  The guard is
    chained behind the run's source; a run that is over without the guard having been reached lost
    elements.
    """

    __slots__ = ("reached", "transforms")

    def __init__(self) -> None:
        self.reached = False
        self.transforms: list[Transform] = []

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.reached = True
        raise StopIteration

    def verify(self) -> None:
        if not self.reached:
            names = ", ".join(_where(f) for t in self.transforms for f in t.functions())
            raise RuntimeError(
                f"a function raised StopIteration, which would have dropped the rest of the partition: one of {names}. "
                "Use next(iterator, default), or catch StopIteration in the function."
            )

    def checked(self, run: Iterator[Any]) -> Iterator[Any]:
        """``run`` followed by the check, for a consumer that is not ours."""
        return chain(run, _Check(self))


class _Check:
    __slots__ = ("guard",)

    def __init__(self, guard: EndGuard) -> None:
        self.guard = guard

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.guard.verify()
        raise StopIteration


def _where(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", repr(function))
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


# A list iterator can say by itself whether it was exhausted, so it needs no guard behind it.
_LIST_ITERATOR: Final[type] = type(iter([]))


class _ListEnd(EndGuard):
    __slots__ = ("source",)

    def __init__(self, source: Iterator[Any]) -> None:
        super().__init__()
        self.source = source

    def verify(self) -> None:
        # An exhausted list iterator has dropped its list: it reduces to iter(()), without an index.
        state = self.source.__reduce__()
        self.reached = not (isinstance(state, tuple) and len(state) > 2)
        super().verify()


class Program:
    """The steps of a stage; the last one is its result."""

    __slots__ = ("steps",)

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps

    def __reduce__(self) -> tuple[Any, ...]:
        return (Program, (self.steps,))

    def run(
        self, partition: int, sink: Callable[[int, Iterator[Any]], Any] | None, task: TaskEnvironment
    ) -> Any:
        """Compute ``partition`` of the last step and give it to ``sink``, which consumes it."""
        guards: list[EndGuard] = []
        elements = self.iterator(len(self.steps) - 1, partition, task, guards)
        if sink is None:
            return elements
        value = sink(partition, elements)
        if guards and getattr(sink, "exhausts", False):
            guards[0].verify()
        return value

    def iterator(
        self, index: int, partition: int, task: TaskEnvironment, open_guard: list[EndGuard] | None = None
    ) -> Iterator[Any]:
        """The elements of ``partition`` of step ``index``.

        ``open_guard`` is given by a caller that verifies the last run of transforms itself.
        """
        above: list[tuple[Callable[[int, Iterator[Any]], Iterable[Any]], int]] = []
        while True:
            step = self.steps[index]
            cached = step.cached
            if cached is not None:
                kept = task.read_block(cached, partition)
                if kept is not None:
                    elements = iter(kept)
                    break
                above.append((_Keep(cached, task), partition))
            if type(step) is Apply:
                above.append((step.transform, partition))
                index = step.source
            elif type(step) is Select:
                index, partition = step.choice[partition]
            else:
                elements = step.compute(self, partition, task)
                break
        return _apply_all(above, elements, open_guard)


class _Keep:
    """Stands in the chain where a persisted step's partition is to be stored as it is computed."""

    __slots__ = ("cached", "task")

    def __init__(self, cached: Cached, task: TaskEnvironment) -> None:
        self.cached = cached
        self.task = task

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        return self.task.keep_block(self.cached, partition, elements)


# Iterators nested deeper than this are cut by a list in between: each level costs C stack.
MAX_NESTING: Final = 2_000


def _apply_all(
    above: list[tuple[Callable[[int, Iterator[Any]], Iterable[Any]], int]],
    elements: Iterator[Any],
    open_guard: list[EndGuard] | None,
) -> Iterator[Any]:
    guard: EndGuard | None = None
    nesting = 0
    for transform, partition in reversed(above):
        if isinstance(transform, Transform) and transform.elementwise:
            if guard is None:
                if type(elements) is _LIST_ITERATOR:
                    guard = _ListEnd(elements)
                else:
                    guard = EndGuard()
                    elements = chain(elements, guard)
            guard.transforms.append(transform)
        elif guard is not None:
            elements = guard.checked(elements)
            guard = None
        elements = iter(transform(partition, elements))
        nesting += 1
        if nesting >= MAX_NESTING:
            if guard is not None:
                elements = guard.checked(elements)
                guard = None
            elements = iter(list(elements))
            nesting = 0
    if guard is not None:
        if open_guard is None:
            return guard.checked(elements)
        open_guard.append(guard)
    return elements
