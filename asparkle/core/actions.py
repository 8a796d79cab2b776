"""Actions that take more than one job, or more than a line: coroutine functions over an RDD."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from asparkle.core import arguments
from asparkle.core import reductions as r
from asparkle.core import transforms as t
from asparkle.core.lineage import Shuffled
from asparkle.core.partitioner import Partitioner
from asparkle.core.sampling import sufficient_fraction
from asparkle.core.shuffle import steps

if TYPE_CHECKING:
    from asparkle.core.rdd import RDD


async def take(rdd: RDD[Any], num: int) -> list[Any]:
    """The first ``num`` elements: of one partition, then of up to four times as many as were tried before."""
    total = await rdd.getNumPartitions()
    taken: list[Any] = []
    tried = 0
    while len(taken) < num and tried < total:
        width = 1
        if tried:
            needed = num - len(taken)
            width = tried * 4 if not taken else min(max(int(1.5 * needed * tried / len(taken)), 1), tried * 4)
        partitions = range(tried, min(tried + width, total))
        for part in await rdd._run(t.TakeFirst(num - len(taken)), partitions):
            taken += part[: num - len(taken)]
        tried += len(partitions)
    return taken


async def take_sample(rdd: RDD[Any], with_replacement: bool, num: int, seed: int | None) -> list[Any]:
    """``num`` elements at random, in random order; without replacement all of them if there are fewer."""
    count = await rdd.count() if num else 0
    if not count:
        return []
    rng = random.Random(seed)  # its draws are PySpark's, so that a seed picks what it picks there
    if not with_replacement and num >= count:
        everything = await rdd.collect()
        rng.shuffle(everything)
        return everything
    fraction = sufficient_fraction(num, count, with_replacement)
    samples = await rdd.sample(with_replacement, fraction, seed).collect()
    while len(samples) < num:
        samples = await rdd.sample(with_replacement, fraction, rng.randint(0, sys.maxsize)).collect()
    rng.shuffle(samples)
    return samples[:num]


async def count_approx_distinct(rdd: RDD[Any], relative_error: float) -> int:
    """The estimate of one sketch that all partitions' sketches are merged into."""
    from asparkle.core.hyperloglog import LEAST_ERROR, HyperLogLog

    expected = f"a number above {LEAST_ERROR:f} and below 1"
    relative_error = arguments.number(
        relative_error, "countApproxDistinct", "relativeSD", expected, lambda x: LEAST_ERROR < x < 1
    )
    sketch = HyperLogLog.within(relative_error)
    for registers in await rdd._run(t.CallToEnd(r.Registers(sketch.precision))):
        sketch.merge(registers)
    return sketch.estimate()


async def merged_in_tree(rdd: RDD[Any], merge: Callable[[Iterable[Any]], list[Any]], depth: int) -> list[Any]:
    """Merge one-element partitions in rounds; each round moves whole partitions to fewer executors."""
    width = await rdd.getNumPartitions()
    scale = max(int(-(-(width ** (1.0 / depth)) // 1)), 2)
    while width > scale + width / scale:
        width = int(width / scale)
        keyed = rdd.mapPartitionsWithIndex(r.ToGroup(width))
        moved = Shuffled(keyed._node, Partitioner(width, r.dealt_to), steps.RecordsSpec)
        rdd = rdd._derive(moved)._map_pipe(t.Unnumbered()).mapPartitions(merge)
    parts = await rdd._run(t.CollectList())
    return cast("list[Any]", await rdd._in_driver(merge, r.concatenated(parts)))
