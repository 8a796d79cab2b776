"""RDDs: lazy, partitioned collections, and what can be done with them.

Transformations add a node to the lineage and return at once; actions are coroutines that run a job.  The
blocking face (`asparkle.rdd`) is generated from this file's signatures and docstrings.
"""

from __future__ import annotations

import functools
import heapq
import operator
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from asparkle.core import reductions as r
from asparkle.core import transforms as t
from asparkle.core.errors import ArgumentError, ArgumentTypeError, NestedContextError
from asparkle.core.hashing import portable_hash
from asparkle.core.iteration import local_iterator
from asparkle.core.lineage import (
    CartesianProduct,
    Coalesced,
    CoGrouped,
    DefaultHash,
    Indexed,
    Mapped,
    Node,
    PartitionerPlan,
    Shuffled,
    Union,
    Zipped,
)
from asparkle.core.partitioner import Partitioner
from asparkle.core.shuffle import steps
from asparkle.core.shuffle.steps import ShuffleSpec
from asparkle.core.sorting import SampledRange
from asparkle.core.statcounter import StatCounter
from asparkle.core.storagelevel import StorageLevel

if TYPE_CHECKING:
    from asparkle.core.context import SparkContext
    from asparkle.core.resultiterable import ResultIterable

__all__ = ["RDD"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
W = TypeVar("W")
V1 = TypeVar("V1")
V2 = TypeVar("V2")
V3 = TypeVar("V3")


class RDD(Generic[T_co]):
    """A lazy, partitioned, immutable collection that is computed from its lineage when an action needs it."""

    def __init__(self, node: Node, context: SparkContext) -> None:
        self._node = node
        self._context = context

    def __reduce__(self) -> Any:
        raise NestedContextError(f"an RDD ({self!r})")

    def __repr__(self) -> str:
        name = f" {self._node.name!r}" if self._node.name else ""
        return f"<RDD {self._node.id}{name}: {type(self._node).__name__}>"

    def _derive(self, node: Node) -> RDD[Any]:
        return RDD(node, self._context)

    def _map_pipe(self, transform: t.Transform, preserves: bool = False) -> RDD[Any]:
        return self._derive(Mapped(self._node, transform, preserves_partitioning=preserves))

    # ------------------------------------------------------------------------- facts

    @property
    def context(self) -> SparkContext:
        """The context that made this RDD."""
        return self._context

    @property
    def ctx(self) -> SparkContext:
        """The context that made this RDD."""
        return self._context

    @property
    def is_cached(self) -> bool:
        """Whether the RDD is marked to be kept once it has been computed."""
        return self._node.cached is not None

    def id(self) -> int:
        """A number that no other RDD of this process has."""
        return self._node.id

    def name(self) -> str | None:
        """The name that was given with `setName`."""
        return self._node.name

    def setName(self, name: str) -> RDD[T_co]:
        """Give the RDD a name, which events and errors show.  Returns the RDD itself."""
        self._node.name = name
        return self

    async def getNumPartitions(self) -> int:
        """How many partitions the RDD has.  May have to list files or to sample."""
        await self._context._driver.planner.prepare(self._node)
        return self._node.num_partitions

    async def partitioner(self) -> Partitioner | None:
        """How keys were assigned to partitions, if they were."""
        await self._context._driver.planner.prepare(self._node)
        return self._node.partitioner

    # ------------------------------------------------------------------------- caching

    def cache(self) -> RDD[T_co]:
        """Keep the partitions in memory once they are computed.  Returns the RDD itself."""
        return self.persist(StorageLevel.MEMORY_ONLY)

    def persist(self, storageLevel: StorageLevel = StorageLevel.MEMORY_ONLY) -> RDD[T_co]:
        """Keep the partitions, as ``storageLevel`` says, once they are computed.  Returns the RDD itself.

        Raises ArgumentError if the RDD has another level already.
        """
        if not isinstance(storageLevel, StorageLevel):
            raise ArgumentTypeError(
                f"storageLevel = {storageLevel!r} of type {type(storageLevel).__name__}: "
                "expected a StorageLevel, such as StorageLevel.MEMORY_ONLY"
            )
        if self.is_cached and self._node.storage_level != storageLevel:
            raise ArgumentError(
                f"the RDD is persisted as {self._node.storage_level} already; unpersist it before it gets another level"
            )
        self._node.storage_level = storageLevel
        self._context._persist(self._node)
        return self

    async def unpersist(self, blocking: bool = False) -> RDD[T_co]:
        """Forget the kept partitions.  Returns the RDD itself; with ``blocking``, once every executor has
        been told."""
        self._node.storage_level = StorageLevel.NONE
        self._context._unpersist(self._node)
        return self

    def getStorageLevel(self) -> StorageLevel:
        """Where the RDD is kept; ``StorageLevel.NONE`` if it is not."""
        return self._node.storage_level

    # ------------------------------------------------------------------------- one element at a time

    def map(self, f: Callable[[T_co], U], preservesPartitioning: bool = False) -> RDD[U]:
        """``f`` of each element, in order.

        ``preservesPartitioning``: ``f`` keeps keys as they are, so the partitioner stays valid.
        """
        return self._map_pipe(t.Map(_function(f, "map")), preservesPartitioning)

    def flatMap(self, f: Callable[[T_co], Iterable[U]], preservesPartitioning: bool = False) -> RDD[U]:
        """The elements of ``f`` of each element, in order."""
        return self._map_pipe(t.FlatMap(_function(f, "flatMap")), preservesPartitioning)

    def filter(self, f: Callable[[T_co], Any]) -> RDD[T_co]:
        """The elements for which ``f`` is true, in order."""
        return self._map_pipe(t.Filter(_function(f, "filter")), True)

    def keyBy(self, f: Callable[[T_co], K]) -> RDD[tuple[K, T_co]]:
        """Pairs ``(f(x), x)``."""
        return self._map_pipe(t.KeyBy(_function(f, "keyBy")))

    # ------------------------------------------------------------------------- one partition at a time

    def mapPartitions(
        self, f: Callable[[Iterator[T_co]], Iterable[U]], preservesPartitioning: bool = False
    ) -> RDD[U]:
        """The elements of ``f`` of each partition's iterator."""
        return self._map_pipe(t.MapPartitions(_function(f, "mapPartitions")), preservesPartitioning)

    def mapPartitionsWithIndex(
        self, f: Callable[[int, Iterator[T_co]], Iterable[U]], preservesPartitioning: bool = False
    ) -> RDD[U]:
        """The elements of ``f`` of each partition's number and iterator."""
        return self._map_pipe(
            t.MapPartitionsWithIndex(_function(f, "mapPartitionsWithIndex")), preservesPartitioning
        )

    def glom(self) -> RDD[list[T_co]]:
        """Each partition as one list."""
        return self._map_pipe(t.Glom())

    def sample(self, withReplacement: bool, fraction: float, seed: int | None = None) -> RDD[T_co]:
        """A random part of the elements, in order.

        ``fraction``: the chance of each element to be in it or, with replacement, how often it is in it on
        average.  The same seed gives the same sample of the same RDD.  Raises ArgumentError for a
        negative ``fraction``, or one above 1 without replacement.
        """
        if not fraction >= 0 or (fraction > 1 and not withReplacement):
            raise ArgumentError(f"fraction = {fraction!r}: expected a number from 0 to 1, or above with replacement")
        if seed is None:
            seed = random.getrandbits(62)
        return self._map_pipe(t.Sample(withReplacement, fraction, seed), True)

    def zipWithIndex(self) -> RDD[tuple[T_co, int]]:
        """Pairs ``(x, i)`` with i counting over all partitions.  Counts all but the last when it is computed."""
        return self._derive(Indexed(self._node, t.WithIndex))

    # ------------------------------------------------------------------------- two RDDs

    def union(self, other: RDD[U]) -> RDD[T_co | U]:
        """The elements of both, duplicates included; this RDD's partitions first."""
        return self._derive(Union((self._node, self._other(other, "union")._node)))

    def __add__(self, other: RDD[T_co]) -> RDD[T_co]:
        """The same as `union`."""
        if not isinstance(other, RDD):
            return NotImplemented
        return self.union(other)

    def cartesian(self, other: RDD[U]) -> RDD[tuple[T_co, U]]:
        """All pairs of an element of this RDD and one of the other, in lexicographic order of partitions."""
        return self._derive(CartesianProduct(self._node, self._other(other, "cartesian")._node))

    def zip(self, other: RDD[U]) -> RDD[tuple[T_co, U]]:
        """Pairs of the elements that have the same place in both.

        Both need equally many partitions, and equally many elements in each; anything else is an error
        when it is computed.
        """
        return self._derive(Zipped((self._node, self._other(other, "zip")._node), r.zip_partitions, "zip"))

    def zipPartitions(self, other: RDD[U], f: Callable[[Iterator[T_co], Iterator[U]], Iterable[V]]) -> RDD[V]:
        """The elements of ``f`` of the iterators of each two partitions with the same number."""
        function = r.ZipFunction(_function(f, "zipPartitions"))
        return self._derive(Zipped((self._node, self._other(other, "zipPartitions")._node), function, "zipPartitions"))

    def intersection(self, other: RDD[T]) -> RDD[T_co]:
        """The elements that are in both, each once; in order of first appearance in this RDD per partition."""
        pairs = cast("RDD[tuple[Any, None]]", self._map_pipe(t.Map(r.with_none)))
        others = cast("RDD[tuple[Any, None]]", self._other(other, "intersection")._map_pipe(t.Map(r.with_none)))
        return pairs._cogroup_with((others,), None, r.in_both, operation="intersection", keyed=False)

    def subtract(self, other: RDD[T], numPartitions: int | None = None) -> RDD[T_co]:
        """The elements of this RDD, duplicates included, that are not in the other."""
        pairs = cast("RDD[tuple[Any, None]]", self._map_pipe(t.Map(r.with_none)))
        others = cast("RDD[tuple[Any, None]]", self._other(other, "subtract")._map_pipe(t.Map(r.with_none)))
        return pairs._cogroup_with((others,), numPartitions, r.only_left_keys, operation="subtract", keyed=False)

    def _other(self, other: Any, operation: str) -> RDD[Any]:
        if not isinstance(other, RDD):
            raise ArgumentTypeError(f"{operation} needs another RDD, not {other!r} of type {type(other).__name__}")
        if other._context is not self._context:
            raise ArgumentError(f"{operation}: the two RDDs belong to different contexts")
        return other

    # ------------------------------------------------------------------------- partitions

    def coalesce(self, numPartitions: int, shuffle: bool = False) -> RDD[T_co]:
        """At most ``numPartitions`` partitions, each made of neighbouring ones, without moving data.

        With ``shuffle``, as `repartition`: elements are dealt out evenly, and there may be more partitions
        than before.
        """
        n = _partitions(numPartitions, "coalesce")
        return self.repartition(n) if shuffle else self._derive(Coalesced(self._node, n))

    def repartition(self, numPartitions: int) -> RDD[T_co]:
        """Exactly ``numPartitions`` partitions of nearly equal length; all data moves."""
        n = _partitions(numPartitions, "repartition")
        dealt = Mapped(self._node, r.Deal(n))
        node = Shuffled(dealt, Partitioner(n, r.dealt_to), steps.RecordsSpec)
        return self._derive(Mapped(node, t.Values()))

    def partitionBy(
        self: RDD[tuple[K, V]], numPartitions: int | None, partitionFunc: Callable[[K], int] = portable_hash
    ) -> RDD[tuple[K, V]]:
        """The pairs, each in partition ``partitionFunc(key) % numPartitions``.

        Two RDDs that are partitioned alike (the same number and function) are joined without moving data.
        """
        n = _optional_partitions(numPartitions, "partitionBy")
        plan = DefaultHash(n, partitionFunc)
        return self._derive(Shuffled(self._node, plan, steps.RecordsSpec))

    def repartitionAndSortWithinPartitions(
        self: RDD[tuple[K, V]],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
        ascending: bool = True,
        keyfunc: Callable[[Any], Any] | None = None,
    ) -> RDD[tuple[K, V]]:
        """As `partitionBy`, with each partition sorted by ``keyfunc(key)``; equal keys stay in map order."""
        n = _optional_partitions(numPartitions, "repartitionAndSortWithinPartitions")
        spec = functools.partial(steps.SortSpec, ascending=ascending, key_func=keyfunc)
        return self._derive(Shuffled(self._node, DefaultHash(n, partitionFunc), spec))

    # ------------------------------------------------------------------------- sorting

    def sortByKey(
        self: RDD[tuple[K, V]],
        ascending: bool = True,
        numPartitions: int | None = None,
        keyfunc: Callable[[Any], Any] | None = None,
    ) -> RDD[tuple[K, V]]:
        """The pairs sorted by ``keyfunc(key)`` over all partitions; equal keys stay in their order.

        The bounds of the partitions come from a sample, which a job takes when this is first computed.
        """
        n = _optional_partitions(numPartitions, "sortByKey")
        plan = SampledRange(n, ascending, keyfunc)
        spec = functools.partial(steps.SortSpec, ascending=ascending, key_func=keyfunc)
        return self._derive(Shuffled(self._node, plan, spec))

    def sortBy(
        self, keyfunc: Callable[[T_co], Any], ascending: bool = True, numPartitions: int | None = None
    ) -> RDD[T_co]:
        """The elements sorted by ``keyfunc`` over all partitions; equal keys stay in their order."""
        keyed = cast("RDD[tuple[Any, T_co]]", self._map_pipe(t.KeyBy(_function(keyfunc, "sortBy"))))
        return keyed.sortByKey(ascending, numPartitions).values()

    # ------------------------------------------------------------------------- pairs

    def keys(self: RDD[tuple[K, V]]) -> RDD[K]:
        """The first of each pair."""
        return self._map_pipe(t.Keys())

    def values(self: RDD[tuple[K, V]]) -> RDD[V]:
        """The second of each pair."""
        return self._map_pipe(t.Values())

    def mapValues(self: RDD[tuple[K, V]], f: Callable[[V], U]) -> RDD[tuple[K, U]]:
        """Pairs ``(k, f(v))``; the partitioner is kept."""
        return self._map_pipe(t.MapValues(_function(f, "mapValues")), True)

    def flatMapValues(self: RDD[tuple[K, V]], f: Callable[[V], Iterable[U]]) -> RDD[tuple[K, U]]:
        """A pair ``(k, u)`` for each u in ``f(v)``; the partitioner is kept."""
        return self._map_pipe(t.FlatMapValues(_function(f, "flatMapValues")), True)

    def combineByKey(
        self: RDD[tuple[K, V]],
        createCombiner: Callable[[V], U],
        mergeValue: Callable[[U, V], U],
        mergeCombiners: Callable[[U, U], U],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, U]]:
        """One pair per key: its values combined, in map order, with three functions.

        ``createCombiner(v)`` starts with a key's first value, ``mergeValue(c, v)`` adds another,
        ``mergeCombiners(c, d)`` joins what two partitions made; both may change their first argument.
        Keys are in order of first appearance.
        """
        n = _optional_partitions(numPartitions, "combineByKey")
        spec = functools.partial(
            steps.CombineSpec, create=createCombiner, merge_value=mergeValue, merge_combiners=mergeCombiners
        )
        return self._derive(Shuffled(self._node, DefaultHash(n, partitionFunc), spec))

    def reduceByKey(
        self: RDD[tuple[K, V]],
        func: Callable[[V, V], V],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, V]]:
        """One pair per key, its values reduced with an associative function; combined before the shuffle."""
        return self.combineByKey(steps.identity, _function(func, "reduceByKey"), func, numPartitions, partitionFunc)

    def aggregateByKey(
        self: RDD[tuple[K, V]],
        zeroValue: U,
        seqFunc: Callable[[U, V], U],
        combFunc: Callable[[U, U], U],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, U]]:
        """One pair per key, folded from a copy of ``zeroValue`` per key and partition with ``seqFunc``, and
        joined with ``combFunc``."""
        start = r.FoldFirst(zeroValue, seqFunc)
        return self.combineByKey(start, seqFunc, combFunc, numPartitions, partitionFunc)

    def foldByKey(
        self: RDD[tuple[K, V]],
        zeroValue: V,
        func: Callable[[V, V], V],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, V]]:
        """As `aggregateByKey` with one function for both."""
        return self.combineByKey(r.FoldFirst(zeroValue, func), func, func, numPartitions, partitionFunc)

    def groupByKey(
        self: RDD[tuple[K, V]], numPartitions: int | None = None, partitionFunc: Callable[[K], int] = portable_hash
    ) -> RDD[tuple[K, ResultIterable[V]]]:
        """One pair per key with all its values, in map order.  To reduce them, `reduceByKey` moves less."""
        n = _optional_partitions(numPartitions, "groupByKey")
        return self._derive(Shuffled(self._node, DefaultHash(n, partitionFunc), steps.GroupSpec))

    def groupBy(
        self, f: Callable[[T_co], K], numPartitions: int | None = None, partitionFunc: Callable[[K], int] = portable_hash
    ) -> RDD[tuple[K, ResultIterable[T_co]]]:
        """One pair per value of ``f`` with all its elements, in map order."""
        return self.keyBy(f).groupByKey(numPartitions, partitionFunc)

    def distinct(self, numPartitions: int | None = None) -> RDD[T_co]:
        """Each different element once, in order of first appearance per partition."""
        n = _optional_partitions(numPartitions, "distinct")
        return self._derive(Shuffled(self._node, DefaultHash(n, portable_hash), steps.DistinctSpec, keyed=False))

    # ------------------------------------------------------------------------- joining pairs

    def _cogroup_with(
        self,
        others: Sequence[RDD[Any]],
        numPartitions: int | None,
        function: Callable[..., Iterable[Any]],
        *,
        operation: str = "cogroup",
        keyed: bool = True,
    ) -> RDD[Any]:
        n = _optional_partitions(numPartitions, operation)
        nodes = [self._node, *(self._other(o, operation)._node for o in others)]
        plan: PartitionerPlan = DefaultHash(n, portable_hash)
        return self._derive(CoGrouped(nodes, plan, steps.RecordsSpec, function, keyed=keyed))

    def cogroup(
        self: RDD[tuple[K, V]], other: RDD[tuple[K, U]], numPartitions: int | None = None
    ) -> RDD[tuple[K, tuple[ResultIterable[V], ResultIterable[U]]]]:
        """For each key of either, its values in this RDD and its values in the other."""
        return self._cogroup_with((other,), numPartitions, r.cogroup)

    def groupWith(self: RDD[tuple[K, V]], other: RDD[Any], *others: RDD[Any]) -> RDD[tuple[K, tuple[Any, ...]]]:
        """`cogroup` of any number of RDDs."""
        return self._cogroup_with((other, *others), None, r.cogroup, operation="groupWith")

    def join(
        self: RDD[tuple[K, V]], other: RDD[tuple[K, U]], numPartitions: int | None = None
    ) -> RDD[tuple[K, tuple[V, U]]]:
        """``(k, (v, u))`` for each pair of values that the two RDDs have for a key."""
        return self._cogroup_with((other,), numPartitions, r.inner_join, operation="join")

    def leftOuterJoin(
        self: RDD[tuple[K, V]], other: RDD[tuple[K, U]], numPartitions: int | None = None
    ) -> RDD[tuple[K, tuple[V, U | None]]]:
        """As `join`, and ``(k, (v, None))`` for keys that the other lacks."""
        return self._cogroup_with((other,), numPartitions, r.left_join, operation="leftOuterJoin")

    def rightOuterJoin(
        self: RDD[tuple[K, V]], other: RDD[tuple[K, U]], numPartitions: int | None = None
    ) -> RDD[tuple[K, tuple[V | None, U]]]:
        """As `join`, and ``(k, (None, u))`` for keys that only the other has."""
        return self._cogroup_with((other,), numPartitions, r.right_join, operation="rightOuterJoin")

    def fullOuterJoin(
        self: RDD[tuple[K, V]], other: RDD[tuple[K, U]], numPartitions: int | None = None
    ) -> RDD[tuple[K, tuple[V | None, U | None]]]:
        """As `join`, and None in place of the value for keys that one of the two lacks."""
        return self._cogroup_with((other,), numPartitions, r.full_join, operation="fullOuterJoin")

    def subtractByKey(
        self: RDD[tuple[K, V]], other: RDD[tuple[K, Any]], numPartitions: int | None = None
    ) -> RDD[tuple[K, V]]:
        """The pairs of this RDD whose key the other does not have."""
        return self._cogroup_with((other,), numPartitions, r.only_left, operation="subtractByKey")

    # ------------------------------------------------------------------------- actions: elements

    async def _run(self, sink: t.Sink, partitions: Sequence[int] | None = None) -> list[Any]:
        return await self._context._run(self._node, sink, partitions)

    async def collect(self) -> list[T_co]:
        """All elements, in order of partitions.  They must fit into the driver's memory."""
        parts = await self._run(t.CollectList())
        return r.concatenated(parts)

    async def toLocalIterator(self, prefetchPartitions: bool = False) -> AsyncIterator[T_co]:
        """The elements, one partition in the driver's memory at a time.

        ``prefetchPartitions``: compute the next partition while this one is being read.
        """
        return local_iterator(self, prefetchPartitions)

    def __aiter__(self) -> AsyncIterator[T_co]:
        """``async for x in rdd``: as `toLocalIterator`, computing one partition ahead."""
        return local_iterator(self, True)

    async def first(self) -> T_co:
        """The first element.  Raises ValueError if there is none."""
        found = await self.take(1)
        if not found:
            raise ValueError("RDD is empty")
        return found[0]

    async def take(self, num: int) -> list[T_co]:
        """The first ``num`` elements.  Computes one partition first, and more as long as they are too few."""
        num = _count(num, "take")
        total = await self.getNumPartitions()
        taken: list[T_co] = []
        tried = 0
        while len(taken) < num and tried < total:
            width = 1
            if tried:
                needed = num - len(taken)
                width = tried * 4 if not taken else min(max(int(1.5 * needed * tried / len(taken)), 1), tried * 4)
            partitions = range(tried, min(tried + width, total))
            for part in await self._run(t.TakeFirst(num - len(taken)), partitions):
                taken += part[: num - len(taken)]
            tried += len(partitions)
        return taken

    async def isEmpty(self) -> bool:
        """Whether there is no element."""
        return not await self.take(1)

    async def takeOrdered(self, num: int, key: Callable[[T_co], Any] | None = None) -> list[T_co]:
        """The ``num`` smallest elements by ``key``, in ascending order."""
        num = _count(num, "takeOrdered")
        if not num:
            return []
        parts = await self._run(t.CallToEnd(r.Smallest(num, key)))
        return heapq.nsmallest(num, r.concatenated(parts), key)

    async def top(self, num: int, key: Callable[[T_co], Any] | None = None) -> list[T_co]:
        """The ``num`` largest elements by ``key``, in descending order."""
        num = _count(num, "top")
        if not num:
            return []
        parts = await self._run(t.CallToEnd(r.Largest(num, key)))
        return heapq.nlargest(num, r.concatenated(parts), key)

    async def takeSample(self, withReplacement: bool, num: int, seed: int | None = None) -> list[T_co]:
        """``num`` elements at random, in random order; all of them, without replacement, if there are fewer."""
        num = _count(num, "takeSample")
        count = await self.count() if num else 0
        if not count:
            return []
        rng = random.Random(seed)
        if not withReplacement and num >= count:
            everything = await self.collect()
            rng.shuffle(everything)
            return everything
        fraction = r.sample_fraction(num, count, withReplacement)
        while True:
            samples = await self.sample(withReplacement, fraction, rng.getrandbits(62)).collect()
            if len(samples) >= num:
                rng.shuffle(samples)
                return samples[:num]

    async def foreach(self, f: Callable[[T_co], Any]) -> None:
        """Call ``f`` with each element, for what it does."""
        await self._run(t.CallToEnd(r.ForEach(_function(f, "foreach"))))

    async def foreachPartition(self, f: Callable[[Iterator[T_co]], Any]) -> None:
        """Call ``f`` with each partition's iterator, for what it does."""
        await self._run(t.Call(r.ForPartition(_function(f, "foreachPartition"))))

    # ------------------------------------------------------------------------- actions: reductions

    async def count(self) -> int:
        """How many elements there are."""
        return sum(await self._run(t.Count()))

    async def reduce(self, f: Callable[[T_co, T_co], T_co]) -> T_co:
        """The elements reduced with an associative function, in order.  Raises ValueError for an empty RDD."""
        parts = await self._run(t.CallToEnd(r.Reduce(_function(f, "reduce"))))
        values = r.concatenated(parts)
        if not values:
            raise ValueError("Can not reduce() empty RDD")
        return await self._context._in_thread(functools.reduce, f, values)

    async def treeReduce(self, f: Callable[[T_co, T_co], T_co], depth: int = 2) -> T_co:
        """As `reduce`, joining the partitions' results in a tree of ``depth`` levels on the executors."""
        _depth(depth)
        parts = self.mapPartitions(r.Reduce(_function(f, "treeReduce")))
        found = await parts._tree(r.MaybeReduce(f), depth)
        if not found:
            raise ValueError("Cannot reduce empty RDD.")
        return cast(T_co, found[0])

    async def fold(self, zeroValue: T, op: Callable[[Any, Any], T]) -> T:
        """The elements folded with ``op`` from ``zeroValue``, in each partition and then over the partitions."""
        parts = await self._run(t.CallToEnd(r.Fold(zeroValue, _function(op, "fold"))))
        return await self._context._in_thread(functools.reduce, op, parts, zeroValue)

    async def aggregate(self, zeroValue: U, seqOp: Callable[[U, T_co], U], combOp: Callable[[U, U], U]) -> U:
        """The elements folded with ``seqOp`` from ``zeroValue`` in each partition, the results with ``combOp``."""
        parts = await self._run(t.CallToEnd(r.Fold(zeroValue, _function(seqOp, "aggregate"))))
        return await self._context._in_thread(functools.reduce, combOp, parts, zeroValue)

    async def treeAggregate(
        self, zeroValue: U, seqOp: Callable[[U, T_co], U], combOp: Callable[[U, U], U], depth: int = 2
    ) -> U:
        """As `aggregate`, joining the partitions' results in a tree of ``depth`` levels on the executors."""
        _depth(depth)
        if await self.getNumPartitions() == 0:
            return zeroValue
        folded = self.mapPartitions(r.FoldOne(zeroValue, _function(seqOp, "treeAggregate")))
        found = await folded._tree(r.MaybeReduce(combOp), depth)
        return cast(U, found[0])

    async def _tree(self, merge: Callable[[Iterable[Any]], list[Any]], depth: int) -> list[Any]:
        """Merge one-element partitions in rounds; each round moves whole partitions to fewer executors."""
        node: RDD[Any] = self
        width = await self.getNumPartitions()
        scale = max(int(-(-(width ** (1.0 / depth)) // 1)), 2)
        while width > scale + width / scale:
            width = int(width / scale)
            keyed = node.mapPartitionsWithIndex(r.ToGroup(width))
            moved = Shuffled(keyed._node, Partitioner(width, r.dealt_to), steps.RecordsSpec)
            node = node._derive(moved).values().mapPartitions(merge)
        parts = await node._run(t.CollectList())
        return merge(r.concatenated(parts))

    async def sum(self) -> Any:
        """The sum of the elements; 0 for none."""
        return sum(await self._run(t.CallToEnd(sum)))

    async def max(self, key: Callable[[T_co], Any] | None = None) -> T_co:
        """The largest element by ``key``; the first of several.  Raises ValueError for an empty RDD."""
        return await self.reduce(max if key is None else r.Extreme(max, key))

    async def min(self, key: Callable[[T_co], Any] | None = None) -> T_co:
        """The smallest element by ``key``; the first of several.  Raises ValueError for an empty RDD."""
        return await self.reduce(min if key is None else r.Extreme(min, key))

    # ------------------------------------------------------------------------- actions: statistics

    async def stats(self) -> StatCounter:
        """Count, mean, variance, maximum and minimum in one pass, numerically stable."""
        parts = await self._run(t.CallToEnd(StatCounter))
        return functools.reduce(StatCounter.mergeStats, parts, StatCounter())

    async def mean(self) -> float:
        """The mean of the elements."""
        return (await self.stats()).mean()

    async def variance(self) -> float:
        """The variance, dividing by the count."""
        return (await self.stats()).variance()

    async def stdev(self) -> float:
        """The standard deviation, dividing by the count."""
        return (await self.stats()).stdev()

    async def sampleStdev(self) -> float:
        """The standard deviation, dividing by the count less one."""
        return (await self.stats()).sampleStdev()

    async def sampleVariance(self) -> float:
        """The variance, dividing by the count less one."""
        return (await self.stats()).sampleVariance()

    async def histogram(self, buckets: int | Sequence[Any]) -> tuple[Sequence[Any], list[int]]:
        """How many elements lie in each bucket: (the bounds, the counts).

        ``buckets``: sorted bounds, or a number of equal buckets between minimum and maximum.  A bucket
        holds its lower bound and not its upper one, but the last holds both.
        """
        from asparkle.core import histograms

        bounds, even = await histograms.bounds_of(self, buckets)
        if isinstance(bounds, histograms.Trivial):
            return bounds.buckets, [await self.filter(histograms.Within(bounds)).count()]
        parts = await self._run(t.CallToEnd(histograms.Counts(bounds, even)))
        return bounds, [sum(column) for column in zip([0] * (len(bounds) - 1), *parts, strict=True)]

    # ------------------------------------------------------------------------- actions: pairs

    async def countByKey(self: RDD[tuple[K, V]]) -> dict[K, int]:
        """How many pairs each key has."""
        return r.added_up(await self._run(t.CallToEnd(r.count_keys)))

    async def countByValue(self: RDD[K]) -> dict[K, int]:
        """How often each element occurs."""
        return r.added_up(await self._run(t.CallToEnd(r.count_values)))

    async def collectAsMap(self: RDD[tuple[K, V]]) -> dict[K, V]:
        """The pairs as a dict; of several with one key, the last."""
        return dict(await self.collect())

    async def reduceByKeyLocally(self: RDD[tuple[K, V]], func: Callable[[V, V], V]) -> dict[K, V]:
        """As `reduceByKey`, as a dict in the driver."""
        parts = await self._run(t.CallToEnd(r.ReduceKeys(_function(func, "reduceByKeyLocally"))))
        return await self._context._in_thread(r.merged_dicts, func, parts)

    async def lookup(self: RDD[tuple[K, V]], key: K) -> list[V]:
        """The values of a key.  Where the RDD has a partitioner, only one partition is computed."""
        partitioner = await self.partitioner()
        partitions = None if partitioner is None else [partitioner(key)]
        return r.concatenated(await self._run(t.CallToEnd(r.ValuesOf(key)), partitions))


def _function(f: Any, operation: str) -> Any:
    if not callable(f):
        raise ArgumentTypeError(f"{operation} needs a function, not {f!r} of type {type(f).__name__}")
    return f


def _partitions(n: Any, operation: str) -> int:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ArgumentError(f"{operation}: numPartitions = {n!r}: expected a whole number, 1 or more")
    return n


def _optional_partitions(n: Any, operation: str) -> int | None:
    return None if n is None else _partitions(n, operation)


def _count(n: Any, operation: str) -> int:
    try:
        number = operator.index(n)
    except TypeError:
        raise ArgumentTypeError(f"{operation}: num = {n!r}: expected a whole number") from None
    if number < 0:
        raise ArgumentError(f"{operation}: num = {n!r}: expected 0 or more")
    return number


def _depth(depth: int) -> None:
    if depth < 1:
        raise ArgumentError(f"depth = {depth!r}: expected 1 or more")
