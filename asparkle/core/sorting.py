"""Range bounds for a sort, from a sample of the keys that a job takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from asparkle.core.failure import in_driver
from asparkle.core.lineage import Mapped, Node, PartitionerPlan, default_partitions
from asparkle.core.loop import in_thread
from asparkle.core.partitioner import Partitioner, RangePartitioner, bounds_from_samples
from asparkle.core.program import Transform
from asparkle.core.reductions import SampleKeys
from asparkle.core.source_steps import length_of
from asparkle.core.sources import Collection, Range
from asparkle.core.transforms import CallToEnd

if TYPE_CHECKING:
    from asparkle.core.plan import Planner

_SAMPLES = 2000  # keys in all, at least; Spark takes 20 for each partition of the result
_PER_PARTITION = 20


class SampledRange(PartitionerPlan):
    """Range partitioning into ``n`` partitions of nearly equal length.

    Keys are sampled systematically: every k-th of each partition, in one pass over the parent, in
    which k doubles as the partition turns out longer; partitions weigh in the bounds by their length.
    Where the parent is a driver's collection seen through functions of single elements, only the sampled
    elements are computed, not all.
    """

    def __init__(self, n: int | None, ascending: bool, key_func: Callable[[Any], Any] | None) -> None:
        self.n = n
        self.ascending = ascending
        self.key_func = key_func

    async def choose(self, planner: Planner, parents: Sequence[Node]) -> Partitioner:
        n = self.n or default_partitions(planner, parents)
        if n == 1:
            return RangePartitioner([], self.ascending, self.key_func, 1)
        (parent,) = parents
        wanted = max(_SAMPLES, _PER_PARTITION * n)
        thinned = _thinned(parent, wanted)
        if thinned is not None:
            await planner.prepare(thinned)
            parent = thinned
        least = -(-wanted // max(parent.num_partitions, 1))
        sampled = await planner.collect(parent, CallToEnd(SampleKeys(least)))
        bounds = await in_thread(in_driver, bounds_from_samples, _weighed(sampled), n, self.key_func)
        return RangePartitioner(bounds, self.ascending, self.key_func, n)


def _weighed(sampled: Sequence[tuple[list[Any], int]]) -> Iterator[Any]:
    """All sampled keys, each as often as the partition that it stands for is longer than the shortest."""
    finest = min((stride for sample, stride in sampled if sample), default=1)
    for sample, stride in sampled:
        for _ in range(stride // finest):
            yield from sample


def _thinned(node: Node, wanted: int) -> Node | None:
    """``node`` over about ``wanted`` elements of its source, where that can be had."""
    transforms: list[Transform | Callable[..., Any]] = []
    while isinstance(node, Mapped):
        transform = node.transform
        if node.cached is not None or not isinstance(transform, Transform) or not transform.per_element:
            return None  # what is to be cached may as well be computed now
        transforms.append(transform)
        (node,) = node.parents
    if node.cached is not None:
        return None
    source: Node
    if type(node) is Collection and len(node.data) > 2 * wanted:
        source = Collection(node.data[:: len(node.data) // wanted], 1)
    elif type(node) is Range and (length := length_of(node.whole)) > 2 * wanted:
        source = Range(node.whole[:: length // wanted], 1)
    else:
        return None
    for transform in reversed(transforms):
        source = Mapped(source, transform)
    return source
