"""From lineage to stages: an asynchronous step before the scheduler.

The planner prepares the nodes of a job parents first (listing files, running preparatory jobs), cuts the
lineage at its shuffles, and makes one binary per stage.  It walks with its own stack: lineage may be
deeper than Python's recursion limit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from anyio.lowlevel import checkpoint

from asparkle.core.errors import BarrierStageError
from asparkle.core.jobs import JobOptions
from asparkle.core.lineage import Narrow, Node, Shuffle, Source, step_name
from asparkle.core.program import Program, SourceStep, Step
from asparkle.core.scheduler.messages import BlockId, StageSpec
from asparkle.core.shuffle.steps import ShuffleSpec, ShuffleWrite
from asparkle.core.transforms import CollectList, Count, Sink

if TYPE_CHECKING:
    from asparkle.core.driver import Driver
    from asparkle.core.events import RddInfo
    from asparkle.core.profiling import Profiler, Profilers


class StageBuilder:
    """Collects the steps of one stage; nodes are added parents first."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.positions: dict[int, int] = {}
        self.persisted: list[Node] = []

    def add(self, step: Step) -> int:
        if isinstance(step, SourceStep):
            step.index = len(self.steps)
        self.steps.append(step)
        return len(self.steps) - 1

    def add_node(self, node: Node) -> None:
        step = node.build(self)
        step.cached = node.cached
        if step.cached is not None:
            self.persisted.append(node)
        self.positions[node.id] = self.add(step)

    def index(self, node: Node) -> int:
        return self.positions[node.id]


class StagePlan:
    """A stage: what the scheduler is told, and what executors are sent."""

    def __init__(self, final: Node, stage: int, shuffle: Shuffle | None, sink: Sink | ShuffleWrite | None) -> None:
        self.final = final
        self.stage = stage
        self.shuffle = shuffle
        self.sink = sink
        self.parents: list[Shuffle] = []
        self.barrier = False
        self.profiler: Profiler | None = None
        self.simple = True
        self.sources: dict[int, Source] = {}  # by the positions of their steps
        self.builder = StageBuilder()
        self._cut()

    def _cut(self) -> None:
        builder = self.builder
        for node in parents_first(self.final, _within_stage):
            builder.add_node(node)
            self.barrier |= node.barrier
            if isinstance(node, Source):
                self.sources[builder.index(node)] = node
            for dependency in node.dependencies:
                if isinstance(dependency, Shuffle):
                    self.parents.append(dependency)
                elif isinstance(dependency, Narrow) or len(node.dependencies) > 1:
                    self.simple = False

    def check_barrier(self, wanted: int) -> None:
        """Raises BarrierStageError if some task would not be one partition of the barrier stage."""
        widths = [node.num_partitions for node in parents_first(self.final, _within_stage)]
        other = next((width for width in [*widths, wanted] if width != self.tasks), None)
        if other is not None:
            raise BarrierStageError(self.tasks, other)

    @property
    def tasks(self) -> int:
        return self.final.num_partitions

    @property
    def program(self) -> Program:
        return Program(self.builder.steps, self.profiler)

    def leaves(self, partition: int) -> Iterator[tuple[int, Source, int]]:
        """(step, source, source partition) for each piece of outside data that ``partition`` needs."""
        if self.simple:  # one chain: partition i all the way down
            for position, source in self.sources.items():
                yield position, source.former or source, partition
            return
        for position, p in self._nearest(partition, self.sources.__contains__):
            source = self.sources[position]
            yield position, source.former or source, p

    def spec(self, *, described: bool = False) -> StageSpec:
        """``described``: with what listeners are told of its RDDs."""
        blocks, hosts = self._preferences()
        return StageSpec(
            stage=self.stage,
            tasks=self.tasks,
            parents=tuple(dict.fromkeys(d.spec.id for d in self.parents)),
            shuffle=self.shuffle.spec.id if self.shuffle is not None else None,
            determinism=self.final.determinism,
            barrier=self.barrier,
            hosts=hosts,
            blocks=blocks,
            name=self.final.name or f"{step_name(self.final)} {self.final.id}",
            rdds=tuple(map(_described, parents_first(self.final, _within_stage))) if described else (),
        )

    def _preferences(self) -> tuple[Sequence[Sequence[BlockId]] | None, Sequence[Sequence[str]] | None]:
        located = [s for s in self.sources.values() if type(s).preferred_hosts is not Node.preferred_hosts]
        persisted = self.builder.persisted
        if not persisted and not located:
            return None, None
        if self.simple:
            rdds = [n.id for n in reversed(persisted)]
            blocks = [tuple((rdd, p) for rdd in rdds) for p in range(self.tasks)] if rdds else None
        else:
            blocks = [tuple(self.cached_blocks(p)) for p in range(self.tasks)] if persisted else None
        hosts = None
        if located:
            hosts = [
                tuple(h for _, source, p in self.leaves(i) for h in source.preferred_hosts(p))
                for i in range(self.tasks)
            ]
        return blocks, hosts

    def cached_blocks(self, partition: int) -> Iterator[BlockId]:
        """The nearest cached partitions that ``partition`` is computed from."""
        steps = self.builder.steps
        for position, p in self._nearest(partition, lambda position: steps[position].cached is not None):
            cached = steps[position].cached
            assert cached is not None
            yield cached.rdd, p

    def _nearest(self, partition: int, wanted: Callable[[int], bool]) -> Iterator[tuple[int, int]]:
        """The steps that are ``wanted``, by position, and their partitions, on the ways down from ``partition``; none
        beyond.

        Steps, not nodes: these may have been checkpointed since the stage was planned.
        """
        steps = self.builder.steps
        stack: list[tuple[int, int]] = [(len(steps) - 1, partition)]
        seen: set[tuple[int, int]] = set()
        while stack:
            place = stack.pop()
            if place in seen:
                continue
            seen.add(place)
            position, p = place
            if wanted(position):
                yield place
            else:
                stack.extend(steps[position].inputs_of(p))


class JobPlan:
    """The stages of a job, parents first; the last is the result stage."""

    def __init__(self, stages: list[StagePlan], partitions: Sequence[int]) -> None:
        self.stages = stages
        self.partitions = partitions


def parents_first(final: Node, below: Callable[[Node], Sequence[Node]]) -> Iterator[Node]:
    """``final`` and all that is ``below`` it, each once, after what is below it."""
    done: set[int] = set()
    stack: list[tuple[Node, bool]] = [(final, False)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            yield node
        elif node.id not in done:
            done.add(node.id)
            stack.append((node, True))
            stack.extend((parent, False) for parent in reversed(below(node)) if parent.id not in done)


def _described(node: Node) -> RddInfo:
    from asparkle.core.events import RddInfo

    level = node.storage_level
    return RddInfo(
        node.id,
        step_name(node),
        node.name or "",
        node.num_partitions,
        tuple(parent.id for parent in node.parents),
        (level.useDisk, level.useMemory, level.useOffHeap, level.deserialized, level.replication),
        node.barrier,
        node.determinism.name,
    )


def _within_stage(node: Node) -> Sequence[Node]:
    return [d.parent for d in node.dependencies if not isinstance(d, Shuffle)]


def _unprepared(node: Node) -> Sequence[Node]:
    return [parent for parent in node.parents if not parent.prepared]  # below a prepared node all are


class Planner:
    """Prepares nodes and cuts jobs into stages.  One per context."""

    def __init__(self, driver: Driver, default_reduce_partitions: int | None, default_min_partitions: int) -> None:
        self.driver = driver
        self.default_reduce_partitions = default_reduce_partitions
        self.default_min_partitions = default_min_partitions
        self.options: Callable[[], JobOptions] = JobOptions  # of the jobs that the running task submits
        self.profilers: Profilers | None = None
        self._shuffle_ids = itertools.count()
        self._stage_ids = itertools.count()

    def new_shuffle(self, parent: Node, spec: ShuffleSpec) -> Shuffle:
        spec.id = next(self._shuffle_ids)
        shuffle = Shuffle(parent, spec, next(self._stage_ids))
        self.driver.cleaner.watch_shuffle(shuffle)
        return shuffle

    async def prepare(self, final: Node) -> None:
        """Prepare ``final`` and all that it rests on.

        Preparing may run jobs; two jobs planned at once may both prepare a node, so each node has a
        lock for as long as that takes.
        """
        if final.prepared:
            return
        for i, node in enumerate(list(parents_first(final, _unprepared))):
            if i % 100 == 99:
                await checkpoint()  # others have their turn on the event loop
            if not node.prepared:
                await self.driver.prepare_once(node, self)

    async def count_partitions(self, node: Node, partitions: Sequence[int]) -> list[int]:
        """A preparatory job: the number of elements of some partitions."""
        counts: list[int] = await self.driver.run_job(node, Count(), partitions, self.options())
        return counts

    async def collect(self, node: Node, sink: Sink | None = None) -> list[Any]:
        """A preparatory job: what ``sink`` makes of each partition."""
        values: list[Any] = await self.driver.run_job(node, sink or CollectList(), None, self.options())
        return values

    async def plan(self, final: Node, sink: Sink, partitions: Sequence[int] | None) -> JobPlan:
        await self.prepare(final)
        wanted = range(final.num_partitions) if partitions is None else partitions
        stages: list[StagePlan] = []
        # Depth first, parents before children, with an explicit stack; a stage may be pushed several
        # times before it is expanded, by each of its children.
        stack: list[tuple[StagePlan, bool]] = [(StagePlan(final, next(self._stage_ids), None, sink), False)]
        expanded: set[int] = set()
        while stack:
            stage, done = stack.pop()
            if done:
                stages.append(stage)
            elif stage.stage not in expanded:
                expanded.add(stage.stage)
                stack.append((stage, True))
                for shuffle in stage.parents:
                    if shuffle.stage not in expanded:
                        stack.append(
                            (
                                StagePlan(shuffle.parent, shuffle.stage, shuffle, ShuffleWrite(shuffle.spec)),
                                False,
                            )
                        )
        for stage in stages:
            if self.profilers is not None:
                stage.profiler = self.profilers.of(stage.final.id)
            if stage.barrier:
                stage.check_barrier(len(wanted) if stage is stages[-1] else stage.tasks)
        return JobPlan(stages, wanted)
