"""What a task computes: the steps of one stage, and the way from a partition number to an iterator.

A stage's lineage is cut out of the graph as a flat list of `Step` objects in topological order, so that
pickling it is neither recursive nor quadratic, however deep the lineage is.  A step names its inputs by
their position in the list.  `Program.iterator` walks from the last step down to a source in a loop and
then applies the transforms upwards: a chain of a thousand `map` is a loop of a thousand rounds here, and
a nest of C iterators at run time, with no Python frame of ours per element.

This file is imported by workers: it knows nothing of the driver.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from asparkle.core.errors import AsparkleError, UserFunctionError
from asparkle.core.shown import NOT_AWAITED, name_of

if TYPE_CHECKING:
    from asparkle.core.profiling import Profiler
    from asparkle.core.worker.task import TaskEnvironment

# How deep iterators may be nested.  Generators that pull from one another count towards the interpreter's
# limit of a thousand frames, some two or three for each step, and users' functions need some, too; C
# iterators take C stack.
C_ITERATOR: Final = 1
GENERATOR: Final = 16
MAX_NESTING: Final = 125 * GENERATOR


class Step:
    """One node of a stage's lineage as workers see it.

    ``cached`` says under which identity and storage level its partitions are kept, if they are.
    ``nesting``: by how much it deepens the nest of iterators (see `MAX_NESTING`).
    """

    __slots__ = ("cached",)
    cached: Cached | None
    nesting: int = 0

    def compute(self, program: Program, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        """The elements of ``partition``, computed from the step's inputs."""
        raise NotImplementedError

    def inputs_of(self, partition: int) -> Sequence[tuple[int, int]]:
        """Which (step, partition) pairs ``partition`` is computed from, within this stage."""
        return ()

    def input_steps(self) -> Sequence[int]:
        """Which steps of this stage it is computed from."""
        return ()


class SourceStep(Step):
    """A step without inputs; ``index`` is its own position, by which it finds what its task was given."""

    __slots__ = ("index",)
    index: int


class Cached:
    """Which persisted RDD, and its ``level``: (disk, memory, off heap, deserialized, copies)."""

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

    __slots__ = ("input", "transform")

    def __init__(self, input: int, transform: Callable[[int, Iterator[Any]], Iterable[Any]]) -> None:
        self.cached = None
        self.input = input
        self.transform = transform

    @property
    def nesting(self) -> int:  # type: ignore[override]
        return C_ITERATOR if isinstance(self.transform, Transform) and self.transform.elementwise else GENERATOR

    def inputs_of(self, partition: int) -> Sequence[tuple[int, int]]:
        return ((self.input, partition),)

    def input_steps(self) -> Sequence[int]:
        return (self.input,)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_apply, (self.input, self.transform, self.cached))


def _apply(input: int, transform: Any, cached: Cached | None) -> Apply:
    step = Apply(input, transform)
    step.cached = cached
    return step


class Select(Step):
    """The partitions of several inputs, one input's after another's (a union).

    ``starts[i]``: where input i's partitions begin.
    """

    __slots__ = ("inputs", "starts")

    def __init__(self, inputs: Sequence[int], starts: Sequence[int]) -> None:
        self.cached = None
        self.inputs = inputs
        self.starts = starts

    def chosen(self, partition: int) -> tuple[int, int]:
        """The (step, partition) that ``partition`` is."""
        which = bisect_right(self.starts, partition) - 1
        return self.inputs[which], partition - self.starts[which]

    def inputs_of(self, partition: int) -> Sequence[tuple[int, int]]:
        return (self.chosen(partition),)

    def input_steps(self) -> Sequence[int]:
        return self.inputs


class Concatenate(Step):
    """Each partition is several partitions of one input, one after the other (coalesce)."""

    __slots__ = ("groups", "input")
    nesting = C_ITERATOR

    def __init__(self, input: int, groups: Sequence[Sequence[int]]) -> None:
        self.cached = None
        self.input = input
        self.groups = groups

    def inputs_of(self, partition: int) -> Sequence[tuple[int, int]]:
        return [(self.input, p) for p in self.groups[partition]]

    def input_steps(self) -> Sequence[int]:
        return (self.input,)

    def compute(self, program: Program, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        return chain.from_iterable(program.iterator(self.input, p, task) for p in self.groups[partition])


class Combine(Step):
    """``function(partition, iterators)`` over the same partition of several inputs (zip, cogroup)."""

    __slots__ = ("function", "inputs")
    nesting = 3 * GENERATOR

    def __init__(
        self, inputs: Sequence[int], function: Callable[[int, Sequence[Iterator[Any]]], Iterable[Any]]
    ) -> None:
        self.cached = None
        self.inputs = inputs
        self.function = function

    def inputs_of(self, partition: int) -> Sequence[tuple[int, int]]:
        return [(step, partition) for step in self.inputs]

    def input_steps(self) -> Sequence[int]:
        return self.inputs

    def compute(self, program: Program, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        inputs = [program.iterator(step, partition, task) for step in self.inputs]
        return iter(self.function(partition, inputs))


class Cartesian(Step):
    """Partition ``i * columns + j`` pairs every element of left ``i`` with every element of right ``j``."""

    __slots__ = ("columns", "left", "right")
    nesting = 3 * GENERATOR

    def __init__(self, left: int, right: int, columns: int) -> None:
        self.cached = None
        self.left = left
        self.right = right
        self.columns = columns

    def inputs_of(self, partition: int) -> Sequence[tuple[int, int]]:
        i, j = divmod(partition, self.columns)
        return ((self.left, i), (self.right, j))

    def input_steps(self) -> Sequence[int]:
        return (self.left, self.right)

    def compute(self, program: Program, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        i, j = divmod(partition, self.columns)
        right = list(program.iterator(self.right, j, task))
        return ((a, b) for a in program.iterator(self.left, i, task) for b in right)


class EndGuard:
    """Tells an iterator that ended from one that a function's StopIteration cut short.

    A run of C iterators ends in silence when a user's function raises StopIteration.  The guard is
    chained behind the run's input; a run that is over without the guard having been reached lost
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
            raise _stopped(f for t in self.transforms for f in t.functions())

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


def _stopped(functions: Iterable[Callable[..., Any]]) -> UserFunctionError:
    names = ", ".join(map(_where, functions))
    suspects = f", one of {names}," if names else ""
    return UserFunctionError(
        f"a function{suspects} raised StopIteration, which elsewhere means that there are no more elements. "
        "Use next(iterator, default), or catch StopIteration in the function."
    )


def _explain(error: TypeError, functions: Iterable[Callable[..., Any]]) -> None:
    """Note whose call, or whose result, it was that Python refused: no frame of the user's says so."""
    from asparkle.core.failure import user_frames

    names = ", ".join(map(_where, functions))
    if names and not user_frames(error.__traceback__):
        error.add_note(f"in a call of {names}, or with what it returned")
    if "'coroutine'" in str(error):
        error.add_note(f"a plain function returned a coroutine, which nothing awaits: {NOT_AWAITED}")


def _where(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    name = name_of(function)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


# A list iterator can say by itself whether it was exhausted, so it needs no guard behind it.
_LIST_ITERATOR: Final[type] = type(iter([]))


class _ListEnd(EndGuard):
    __slots__ = ("elements",)

    def __init__(self, elements: Iterator[Any]) -> None:
        super().__init__()
        self.elements = elements

    def verify(self) -> None:
        # An exhausted list iterator has dropped its list: it reduces to iter(()), without an index.
        state = self.elements.__reduce__()
        self.reached = not (isinstance(state, tuple) and len(state) > 2)
        super().verify()


class Program:
    """The steps of a stage; the last one is its result.

    Where steps are nested too deeply for one nest of iterators, some are *cut*: computed into a list before
    those which need them are begun.
    """

    __slots__ = ("_cuts", "profiler", "steps")

    def __init__(self, steps: list[Step], profiler: Profiler | None = None) -> None:
        self.steps = steps
        self.profiler = profiler  # of its tasks, if they are profiled
        self._cuts: frozenset[int] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (Program, (self.steps,) if self.profiler is None else (self.steps, self.profiler))

    def run(self, partition: int, sink: Callable[[int, Iterator[Any]], Any], task: TaskEnvironment) -> Any:
        """Compute ``partition`` of the last step and give it to ``sink``, which consumes it."""
        guards: list[EndGuard] | None = [] if getattr(sink, "exhausts", False) else None
        try:
            value = sink(partition, self.result(partition, task, guards))
        except StopIteration as error:
            raise _stopped(self.functions()) from error
        except RuntimeError as error:
            if isinstance(error.__cause__, StopIteration):  # it came through a generator
                raise _stopped(self.functions()) from error.__cause__
            raise
        except TypeError as error:
            if not isinstance(error, AsparkleError):
                _explain(error, self.functions())
            raise
        if guards:
            guards[0].verify()
        return value

    def functions(self) -> Iterator[Callable[..., Any]]:
        """The users' functions in it, as far as they are known."""
        for step in self.steps:
            if isinstance(step, Apply) and isinstance(step.transform, Transform):
                yield from step.transform.functions()

    def result(self, partition: int, task: TaskEnvironment, open_guard: list[EndGuard] | None = None) -> Iterator[Any]:
        """The elements of ``partition`` of the last step.

        ``open_guard`` is given by a caller that reads to the end, and verifies the last run of transforms.
        """
        last = len(self.steps) - 1
        if self._cuts is None:
            self._cuts = frozenset(_cuts(self.steps))
        if self._cuts:
            self._compute_cuts(self._cuts, last, partition, task)
        return self.iterator(last, partition, task, open_guard)

    def _compute_cuts(self, cuts: frozenset[int], index: int, partition: int, task: TaskEnvironment) -> None:
        """Compute, deepest first, what `iterator` needs of ``cuts``; each is dropped after its last use."""
        goal = (index, partition)
        needs: dict[tuple[int, int], list[tuple[int, int]]] = {}
        order: list[tuple[int, int]] = []
        stack = [(goal, False)]
        while stack:
            place, expanded = stack.pop()
            if expanded:
                order.append(place)
            elif place not in needs:
                needs[place] = self._cuts_below(cuts, place, task)
                stack.append((place, True))
                stack += [(below, False) for below in needs[place]]
        uses = Counter(chain.from_iterable(needs.values()))
        for place in order[:-1]:
            task.computed[place] = list(self.iterator(*place, task))
            for below in needs[place]:
                uses[below] -= 1
                if not uses[below]:
                    del task.computed[below]

    def _cuts_below(self, cuts: frozenset[int], place: tuple[int, int], task: TaskEnvironment) -> list[tuple[int, int]]:
        """The nearest (step, partition) pairs in ``cuts`` that ``place`` is computed from."""
        found: list[tuple[int, int]] = []
        stack, seen = [place], {place}
        while stack:
            index, partition = stack.pop()
            cached = self.steps[index].cached
            if cached is not None and task.has_block(cached, partition):
                continue
            for below in self.steps[index].inputs_of(partition):
                if below not in seen:
                    seen.add(below)
                    (found if below[0] in cuts else stack).append(below)
        return found

    def iterator(
        self, index: int, partition: int, task: TaskEnvironment, open_guard: list[EndGuard] | None = None
    ) -> Iterator[Any]:
        """The elements of ``partition`` of step ``index``.

        ``open_guard`` is given by a caller that verifies the last run of transforms itself.
        """
        above: list[tuple[Callable[[int, Iterator[Any]], Iterable[Any]], int]] = []
        computed = task.computed
        while True:
            if computed and (index, partition) in computed:
                elements = iter(computed[index, partition])
                break
            step = self.steps[index]
            cached = step.cached
            if cached is not None:
                kept = task.read_block(cached, partition)
                if kept is not None:
                    elements = iter(kept)
                    break
                above.append((task.block_keeper(cached), partition))
            if type(step) is Apply:
                above.append((step.transform, partition))
                index = step.input
            elif type(step) is Select:
                index, partition = step.chosen(partition)
            else:
                elements = step.compute(self, partition, task)
                break
        return _apply_all(above, elements, open_guard)


def _cuts(steps: Sequence[Step]) -> Iterator[int]:
    """The steps to be computed into lists, so that no nest of iterators between them is too deep."""
    if len(steps) * 3 * GENERATOR < MAX_NESTING:
        return
    depths: list[int] = []
    for index, step in enumerate(steps):
        depth = max((depths[below] for below in step.input_steps()), default=0) + step.nesting
        if depth >= MAX_NESTING:
            yield index
            depth = 0
        depths.append(depth)


def _apply_all(
    above: list[tuple[Callable[[int, Iterator[Any]], Iterable[Any]], int]],
    elements: Iterator[Any],
    open_guard: list[EndGuard] | None,
) -> Iterator[Any]:
    guard: EndGuard | None = None
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
    if guard is not None:
        if open_guard is None:
            return guard.checked(elements)
        open_guard.append(guard)
    return elements
