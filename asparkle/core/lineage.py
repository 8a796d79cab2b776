"""Lineage: RDDs as five properties.

A `Node` is its partitions, its dependencies, a way to compute a partition (the `Step` it builds for
workers), a partitioner if it has one, and preferred locations.  Everything else about RDDs is made of
these.  The properties of some nodes are known only after I/O or a job (the files that a glob names, the
bounds of a sort), so a node is *prepared* by the planner before they are read: transformations
stay lazy and never block.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from asparkle.core.closures import Fixed, fixed
from asparkle.core.partitioner import Partitioner
from asparkle.core.program import Apply, Cached, Cartesian, Combine, Concatenate, Select, Step, Transform
from asparkle.core.scheduler.messages import Determinism
from asparkle.core.shuffle.steps import CoGroupStep, Join, JoinStep, ShuffleRead, ShuffleSpec
from asparkle.core.storagelevel import StorageLevel

if TYPE_CHECKING:
    from asparkle.core.checkpoints import Checkpoint
    from asparkle.core.plan import Planner, StageBuilder
    from asparkle.core.shipping import ShippedStage

_ids = itertools.count()


class Dependency:
    """How a node's partitions come from those of ``parent``."""

    __slots__ = ("parent",)

    def __init__(self, parent: Node) -> None:
        self.parent = parent


class OneToOne(Dependency):
    """Narrow: partition i comes from the parent's partition i."""

    __slots__ = ()


class Narrow(Dependency):
    """Narrow: each partition comes from a few whole partitions of the parent."""

    __slots__ = ()


class Shuffle(Dependency):
    """Wide: each partition comes from pieces of all partitions of the parent, through shuffle ``spec.id``."""

    __slots__ = ("__weakref__", "shipped", "spec", "stage")

    def __init__(self, parent: Node, spec: ShuffleSpec, stage: int) -> None:
        super().__init__(parent)
        self.spec = spec
        self.stage = stage
        self.shipped: ShippedStage | None = None  # the stage that writes it, ready to be launched again


class Node(ABC):
    """One RDD in the lineage graph.

    ``parents`` is known at once; ``num_partitions``, ``dependencies`` and ``partitioner`` once
    `prepare` has run, which the planner does parents first, and once.
    """

    parents: tuple[Node, ...] = ()
    num_partitions: int
    dependencies: tuple[Dependency, ...] = ()
    partitioner: Partitioner | None = None
    determinism: Determinism = Determinism.DETERMINATE
    read_once: bool = False  # whether `prepare` can't be begun again when it was cut short
    former: Source | None = None  # of a source that was checkpointed: itself, for jobs that were planned before

    def __init__(self, parents: Iterable[Node] = ()) -> None:
        self.id = next(_ids)
        self.parents = tuple(parents)
        self.name: str | None = None
        self.storage_level = StorageLevel.NONE
        self.prepared = False
        self.barrier = False
        self.checkpoint: Checkpoint | None = None

    @abstractmethod
    async def prepare(self, planner: Planner) -> None:
        """Set ``num_partitions``, ``dependencies`` and ``partitioner``; the parents are prepared."""

    @abstractmethod
    def build(self, builder: StageBuilder) -> Step:
        """The step that computes this node, its narrow inputs already in ``builder``."""

    def preferred_hosts(self, partition: int) -> Sequence[str]:
        """Hosts near the partition's data; only sources know."""
        return ()

    def inputs_of(self, partition: int) -> Sequence[tuple[Node, int]]:
        """The narrow parents' partitions which ``partition`` is computed from."""
        return [(d.parent, partition) for d in self.dependencies if not isinstance(d, Shuffle)]

    @property
    def cached(self) -> Cached | None:
        level = self.storage_level
        if not (level.useDisk or level.useMemory):
            return None
        return Cached(
            self.id, (level.useDisk, level.useMemory, level.useOffHeap, level.deserialized, level.replication)
        )

    def set_prepared(
        self,
        num_partitions: int,
        dependencies: Iterable[Dependency] = (),
        partitioner: Partitioner | None = None,
    ) -> None:
        dependencies = tuple(dependencies)
        self.num_partitions = num_partitions
        self.dependencies = dependencies
        self.partitioner = partitioner
        self.determinism = max((d.parent.determinism for d in dependencies), default=Determinism.DETERMINATE)


class Source(Node):
    """A node without parents, whose partitions come from outside.

    ``payload(partition)`` is what a task needs to compute it and the stage's binary does not hold:
    plain picklable data, or a `Live` one.
    """

    def payload(self, partition: int) -> object:
        return None


class Mapped(Node):
    """``transform`` over each partition of one parent."""

    def __init__(
        self,
        parent: Node,
        transform: Transform | Callable[..., Iterable[Any]],
        *,
        preserves_partitioning: bool = False,
        barrier: bool = False,
        determinism: Determinism = Determinism.DETERMINATE,
    ) -> None:
        super().__init__((parent,))
        self.transform = transform
        self.fixed = False  # see `fix`
        self.preserves_partitioning = preserves_partitioning
        self.barrier = barrier
        self.least_determinism = determinism

    async def prepare(self, planner: Planner) -> None:
        (parent,) = self.parents
        keep = parent.partitioner if self.preserves_partitioning else None
        self.set_prepared(parent.num_partitions, (OneToOne(parent),), keep)
        self.determinism = max(self.determinism, self.least_determinism)

    def build(self, builder: StageBuilder) -> Step:
        return Apply(builder.index(self.parents[0]), self.transform)


def fix(nodes: Iterable[Node]) -> None:
    """Have ``nodes``, and all that they are mapped from, compute with their functions as these are now.

    What the functions refer to may change before a job needs them, or needs them again.  As in PySpark, this is done
    where an RDD is persisted, or its elements are brought together with others.
    """
    found: dict[int, Mapped] = {}
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if isinstance(node, Mapped) and not node.fixed and node.id not in found:
            found[node.id] = node
            stack += node.parents
    for node, transform in zip(found.values(), fixed(*(node.transform for node in found.values())), strict=True):
        node.transform = transform
        node.fixed = True


def step_name(node: Node) -> str:
    """What users see of it: the operation's name, or that of the kind of node."""
    transform = node.transform if isinstance(node, Mapped) else node
    name = (transform.kind if isinstance(transform, Fixed) else type(transform)).__name__
    return name[0].lower() + name[1:]


class Indexed(Mapped):
    """A `Mapped` whose transform needs to know how many elements each partition of the parent has."""

    def __init__(self, parent: Node, make: Callable[[Sequence[int]], Transform]) -> None:
        super().__init__(parent, make([0]))  # until it is prepared
        self.make = make

    async def prepare(self, planner: Planner) -> None:
        await super().prepare(planner)
        counts: Sequence[int] = ()
        if self.num_partitions > 1:
            counts = await planner.count_partitions(self.parents[0], range(self.num_partitions - 1))
        self.transform = self.make([0, *itertools.accumulate(counts)])


class MappedByWidth(Mapped):
    """A `Mapped` whose transform needs to know how many partitions there are."""

    def __init__(self, parent: Node, make: Callable[[int], Transform]) -> None:
        super().__init__(parent, make(1))  # until it is prepared
        self.make = make

    async def prepare(self, planner: Planner) -> None:
        await super().prepare(planner)
        self.transform = self.make(self.num_partitions)


class Union(Node):
    """All partitions of all parents, one after the other; or, when all parents share one partitioner,
    partition i of each parent joined into one, which keeps that partitioner.

    A union of unions that are not cached depends on the inputs of these, or a loop that adds one RDD after
    another would make partitions that are thousands of nodes away from their data.
    """

    def __init__(self, parents: Iterable[Node]) -> None:
        self._aligned: tuple[Dependency, ...] = ()
        self._inputs: list[Node] = []
        self._starts: list[int] = []
        super().__init__(parents)

    async def prepare(self, planner: Planner) -> None:
        parents = self.parents
        first = parents[0].partitioner
        if first is not None and all(p.partitioner == first for p in parents[1:]):
            self.set_prepared(parents[0].num_partitions, [OneToOne(p) for p in parents], first)
        else:
            self.set_prepared(sum(p.num_partitions for p in parents))
        self.determinism = max(p.determinism for p in parents)

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        if self._aligned:
            return self._aligned
        self._look_up()
        return tuple(map(Narrow, self._inputs))

    @dependencies.setter
    def dependencies(self, dependencies: tuple[Dependency, ...]) -> None:
        self._aligned = dependencies

    def _look_up(self) -> None:
        """Bring ``_inputs`` up to date: whether parents are cached may change from job to job."""
        self._inputs = []
        stack = list(self.parents)[::-1]
        while stack:
            node = stack.pop()
            if isinstance(node, Union) and not node._aligned and node.cached is None:
                stack += node.parents[::-1]
            else:
                self._inputs.append(node)
        self._starts = list(itertools.accumulate((n.num_partitions for n in self._inputs), initial=0))[:-1]

    def inputs_of(self, partition: int) -> Sequence[tuple[Node, int]]:
        if self._aligned:
            return super().inputs_of(partition)
        which = bisect_right(self._starts, partition) - 1
        return ((self._inputs[which], partition - self._starts[which]),)

    def build(self, builder: StageBuilder) -> Step:
        if self._aligned:
            return Combine([builder.index(p) for p in self.parents], _chain_inputs)
        return Select([builder.index(n) for n in self._inputs], self._starts)


def _chain_inputs(partition: int, inputs: Sequence[Any]) -> Iterable[Any]:
    return itertools.chain.from_iterable(inputs)


class Coalesced(Node):
    """At most ``n`` partitions, each several neighbouring ones of the parent: no data crosses partitions."""

    def __init__(self, parent: Node, n: int) -> None:
        super().__init__((parent,))
        self.n = n

    async def prepare(self, planner: Planner) -> None:
        (parent,) = self.parents
        many = parent.num_partitions
        n = min(self.n, many)
        self.groups = [range(i * many // n, (i + 1) * many // n) for i in range(n)]
        self.set_prepared(n, (Narrow(parent),))

    def inputs_of(self, partition: int) -> Sequence[tuple[Node, int]]:
        return [(self.parents[0], p) for p in self.groups[partition]]

    def build(self, builder: StageBuilder) -> Step:
        return Concatenate(builder.index(self.parents[0]), self.groups)


class CartesianProduct(Node):
    """Partition (i, j) pairs the left parent's partition i with the right parent's partition j."""

    def __init__(self, left: Node, right: Node) -> None:
        super().__init__((left, right))

    async def prepare(self, planner: Planner) -> None:
        left, right = self.parents
        self.set_prepared(left.num_partitions * right.num_partitions, (Narrow(left), Narrow(right)))

    def inputs_of(self, partition: int) -> Sequence[tuple[Node, int]]:
        left, right = self.parents
        i, j = divmod(partition, right.num_partitions)
        return ((left, i), (right, j))

    def build(self, builder: StageBuilder) -> Step:
        left, right = self.parents
        return Cartesian(builder.index(left), builder.index(right), right.num_partitions)


class Zipped(Node):
    """``function(partition, iterators)`` over equal partitions of several parents."""

    def __init__(self, parents: Iterable[Node], function: Callable[..., Iterable[Any]], operation: str) -> None:
        super().__init__(parents)
        self.function = function
        self.operation = operation

    async def prepare(self, planner: Planner) -> None:
        counts = [p.num_partitions for p in self.parents]
        if len(set(counts)) > 1:
            from asparkle.core.errors import ArgumentError

            raise ArgumentError(
                f"{self.operation} needs RDDs with the same number of partitions, and these have {counts}; "
                "repartition one of them"
            )
        self.set_prepared(counts[0], [OneToOne(p) for p in self.parents])

    def build(self, builder: StageBuilder) -> Step:
        return Combine([builder.index(p) for p in self.parents], self.function)


class Shuffled(Node):
    """Pairs of the parent brought together by key: partition i holds the keys that the partitioner
    sends to i.  Where the parent is already partitioned so, the work is done without a shuffle.

    ``wanted``: the partitioner, or a way to make it in the planner (a number of partitions that depends
    on the parent, range bounds that a sample gives).  ``keyed``: the result is pairs with the same keys;
    else (the elements of a distinct were keys as a whole) a shuffle leaves no partitioner behind.
    """

    def __init__(
        self,
        parent: Node,
        wanted: Partitioner | PartitionerPlan,
        spec: Callable[[Partitioner], ShuffleSpec],
        *,
        keyed: bool = True,
    ) -> None:
        super().__init__((parent,))
        self.wanted = wanted
        self.make_spec = spec
        self.keyed = keyed
        self.shuffle: Shuffle | None = None

    async def prepare(self, planner: Planner) -> None:
        (parent,) = self.parents
        wanted = self.wanted
        partitioner = wanted if isinstance(wanted, Partitioner) else await wanted.choose(planner, (parent,))
        self.spec = self.make_spec(partitioner)
        if parent.partitioner == partitioner:
            self.set_prepared(parent.num_partitions, (OneToOne(parent),), partitioner)
            return
        self.shuffle = planner.new_shuffle(parent, self.spec)
        self.set_prepared(partitioner.numPartitions, (self.shuffle,), partitioner if self.keyed else None)

    def build(self, builder: StageBuilder) -> Step:
        if self.shuffle is None:
            return self.spec.local_step(builder.index(self.parents[0]))
        return ShuffleRead(self.spec)


class CoGrouped(Node):
    """``function`` of the groups that the parents have for each key; co-partitioned parents are not shuffled.

    ``keyed``: as in `Shuffled`.
    """

    def __init__(
        self,
        parents: Iterable[Node],
        wanted: Partitioner | PartitionerPlan,
        spec: Callable[[Partitioner], ShuffleSpec],
        function: Callable[..., Iterable[Any]] | Join,
        *,
        keyed: bool = True,
    ) -> None:
        super().__init__(parents)
        self.wanted = wanted
        self.make_spec = spec
        self.function = function
        self.keyed = keyed

    async def prepare(self, planner: Planner) -> None:
        wanted = self.wanted
        partitioner = wanted if isinstance(wanted, Partitioner) else await wanted.choose(planner, self.parents)
        dependencies: list[Dependency] = []
        self.inputs: list[ShuffleSpec | None] = []
        for parent in self.parents:
            if parent.partitioner == partitioner:
                dependencies.append(OneToOne(parent))
                self.inputs.append(None)
            else:
                spec = self.make_spec(partitioner)
                dependencies.append(planner.new_shuffle(parent, spec))
                self.inputs.append(spec)
        self.set_prepared(partitioner.numPartitions, dependencies, partitioner if self.keyed else None)

    def build(self, builder: StageBuilder) -> Step:
        indexes = [
            builder.index(parent) if spec is None else builder.add(ShuffleRead(spec))
            for parent, spec in zip(self.parents, self.inputs, strict=True)
        ]
        if isinstance(self.function, Join):
            return JoinStep(indexes, self.function)
        return CoGroupStep(indexes, self.function)


class PartitionerPlan(ABC):
    """A partitioner that is chosen when the job is planned."""

    @abstractmethod
    async def choose(self, planner: Planner, parents: Sequence[Node]) -> Partitioner: ...


class DefaultHash(PartitionerPlan):
    """Hash partitioning into ``n`` partitions, or, for None, into as many as Spark's rule says.

    ``func``: the partition function, which must be equal for two RDDs to count as partitioned alike.
    """

    def __init__(self, n: int | None, func: Callable[[Any], int]) -> None:
        self.n = n
        self.func = func

    async def choose(self, planner: Planner, parents: Sequence[Node]) -> Partitioner:
        return Partitioner(self.n or default_partitions(planner, parents), self.func)


def default_partitions(planner: Planner, parents: Sequence[Node]) -> int:
    """``spark.default.parallelism`` if that is set, else as many partitions as the parents' union has: what
    PySpark gives every operation by key."""
    if planner.default_reduce_partitions:
        return planner.default_reduce_partitions
    first = parents[0].partitioner
    if first is not None and all(p.partitioner == first for p in parents):
        return first.numPartitions
    return sum(p.num_partitions for p in parents) or 1
