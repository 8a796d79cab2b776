"""RDDs: lazy, partitioned collections, and what can be done with them.

Transformations add a node to the lineage and return at once; actions are coroutines that run a job.  The
blocking face (`asparkle.rdd`) is generated from this file's signatures and docstrings.

It is one long class because Spark's RDD is: users, their editors and the generator look for all operations
in one place.  So it holds nothing but signatures, docstrings and, for each, a few lines over nodes.  What takes
more is elsewhere: what runs in tasks in `transforms` and `reductions`, longer actions in `actions`.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    Never,
    Protocol,
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    cast,
    overload,
)

from asparkle.core import arguments
from asparkle.core import reductions as r
from asparkle.core import transforms as t
from asparkle.core.closures import fixed
from asparkle.core.driveronly import DriverOnly
from asparkle.core.errors import ArgumentError, ArgumentTypeError, EmptyRDDError, NeedsJVM
from asparkle.core.failure import in_driver
from asparkle.core.hashing import portable_hash
from asparkle.core.iteration import local_iterator
from asparkle.core.lineage import (
    CartesianProduct,
    Coalesced,
    CoGrouped,
    DefaultHash,
    Indexed,
    Mapped,
    MappedByWidth,
    Node,
    PartitionerPlan,
    Shuffled,
    Union,
    Zipped,
    fix,
    step_name,
)
from asparkle.core.partitioner import Partitioner
from asparkle.core.program import Transform
from asparkle.core.scheduler.messages import Determinism
from asparkle.core.shown import shown
from asparkle.core.shuffle import steps
from asparkle.core.shuffle.aggregator import identity
from asparkle.core.sorting import SampledRange
from asparkle.core.statcounter import StatCounter
from asparkle.core.storagelevel import StorageLevel

if TYPE_CHECKING:
    from asparkle.core.approximate import BoundedFloat
    from asparkle.core.barrier import RDDBarrier
    from asparkle.core.context import SparkContext
    from asparkle.core.coroutines import Calls, FailedElement, OnError
    from asparkle.core.resourceprofiles import ResourceProfile
    from asparkle.core.resultiterable import ResultIterable

    class _NamedTuple(Protocol):
        def _asdict(self) -> dict[str, Any]: ...

    class _Row(Protocol):
        def asDict(self) -> dict[str, Any]: ...

    class _TakesFloats(Protocol):
        def __sub__(self, other: float, /) -> Any: ...

    Number: TypeAlias = float | _TakesFloats
    """Numbers that go with floats: those of numpy and fractions do, Decimals don't."""

    Named: TypeAlias = _NamedTuple | _Row
    """Tuples of a class of their own, which an RDD of them keeps."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
W = TypeVar("W")
X = TypeVar("X")
B = TypeVar("B", bound="list[Any] | tuple[Any, ...]")
R = TypeVar("R", bound="Named")
# Other tuples have overloads of their own, with tuple[*Ts]: as a plain U pyright takes the ("a", 1) of a lambda for
# tuple[str, Literal[1]], and then refuses to add to it.
Ts = TypeVarTuple("Ts")
_WRITERS = "saveAsTextFile, or foreachPartition with a Python library for the format"  # not Java's output formats


class RDD(DriverOnly, Generic[T_co]):
    """A lazy, partitioned, immutable collection that is computed from its lineage when an action needs it."""

    def __init__(self, node: Node, context: SparkContext) -> None:
        self._node = node
        self._context = context
        self._resource_profile: ResourceProfile | None = None

    def __repr__(self) -> str:
        name = f" {self._node.name!r}" if self._node.name else ""
        return f"<RDD {self._node.id}{name}: {step_name(self._node)}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What IPython shows in a terminal: partitions, storage level and lineage; runs nothing."""
        from asparkle.core.picture import text

        printer.text(text(self._node))

    def _repr_html_(self) -> str:
        """What Jupyter shows; runs nothing."""
        from asparkle.core.picture import html

        return html(self._node)

    def _derive(self, node: Node) -> RDD[Any]:
        if not isinstance(node, Mapped):
            fix(node.parents)
        return RDD(node, self._context)

    def _map_pipe(self, transform: Transform, preserves: bool = False) -> RDD[Any]:
        return self._derive(Mapped(self._node, transform, preserves_partitioning=preserves))

    # ------------------------------------------------------------------------- facts

    @property
    def context(self) -> SparkContext:
        """The context that made this RDD.

        >>> sc.parallelize([1]).context is sc
        True
        """
        return self._context

    @property
    def ctx(self) -> SparkContext:
        """The context that made this RDD.

        >>> sc.parallelize([1]).ctx is sc
        True
        """
        return self._context

    @property
    def is_cached(self) -> bool:
        """Whether the RDD is marked to be kept once it has been computed.

        >>> sc.parallelize([1]).cache().is_cached
        True
        """
        return self._node.cached is not None

    def id(self) -> int:
        """A number that no other RDD of this process has.

        >>> sc.parallelize([1]).id() < sc.parallelize([1]).id()
        True
        """
        return self._node.id

    def name(self) -> str | None:
        """The name that was given with `setName`.

        >>> sc.parallelize([1]).setName("ones").name()
        'ones'
        """
        return self._node.name

    def setName(self, name: str) -> RDD[T_co]:
        """Give the RDD a name, which events and errors show.  Returns the RDD itself.

        >>> ones = sc.parallelize([1]).setName("ones")
        >>> ones.name()
        'ones'
        """
        self._node.name = name
        return self

    async def getNumPartitions(self) -> int:
        """How many partitions the RDD has.  May have to list files or to sample.

        >>> await sc.parallelize(range(10), 4).getNumPartitions()
        4
        """
        await self._context._driver.planner.prepare(self._node)
        return self._node.num_partitions

    async def partitioner(self) -> Partitioner | None:
        """How keys were assigned to partitions, if they were.

        >>> await sc.parallelize([("a", 1)]).partitionBy(3).partitioner()
        Partitioner(3, portable_hash)
        """
        await self._context._driver.planner.prepare(self._node)
        return self._node.partitioner

    async def toDebugString(self) -> bytes:
        """The lineage, one line for each RDD: its number of partitions, its kind and number, how it is kept.

        >>> counts = sc.parallelize(["a", "b"], 2).map(lambda word: (word, 1)).reduceByKey(lambda a, b: a + b)
        >>> print((await counts.toDebugString()).decode())  # doctest: +ELLIPSIS
        (2) shuffled[...] []
         +-(2) map[...] []
            |  collection[...] []
        """
        from asparkle.core.debugstring import debug_string

        await self._context._driver.planner.prepare(self._node)
        return debug_string(self._node).encode()

    # ------------------------------------------------------------------------- caching

    def cache(self) -> RDD[T_co]:
        """Keep the partitions in memory once they are computed.  Returns the RDD itself.

        >>> squares = sc.parallelize(range(4)).map(lambda x: x * x).cache()
        >>> await squares.sum()  # computes and keeps them
        14
        >>> await squares.max()  # reads them
        9
        """
        return self.persist(StorageLevel.MEMORY_ONLY)

    def persist(self, storageLevel: StorageLevel = StorageLevel.MEMORY_ONLY) -> RDD[T_co]:
        """Keep the partitions, as ``storageLevel`` says, once they are computed.  Returns the RDD itself.

        Raises ArgumentError if the RDD has another level already.

        >>> from asparkle import StorageLevel
        >>> rdd = sc.parallelize(range(4)).persist(StorageLevel.DISK_ONLY)
        >>> print(rdd.getStorageLevel())
        Disk Serialized 1x Replicated
        """
        if not isinstance(storageLevel, StorageLevel):
            raise ArgumentTypeError(
                f"storageLevel = {shown(storageLevel)} of type {type(storageLevel).__name__}: "
                "expected a StorageLevel, such as StorageLevel.MEMORY_ONLY"
            )
        if self.is_cached and self._node.storage_level != storageLevel:
            raise ArgumentError(
                f"the RDD is persisted as {self._node.storage_level} already; unpersist it before it gets another level"
            )
        fix([self._node])
        self._node.storage_level = storageLevel
        self._context._persist(self._node)
        return self

    async def unpersist(self, blocking: bool = False) -> RDD[T_co]:
        """Forget the kept partitions.  Returns the RDD itself; with ``blocking``, once every executor has
        been told.

        >>> rdd = sc.parallelize(range(4)).cache()
        >>> (await rdd.unpersist()).is_cached
        False
        """
        self._node.storage_level = StorageLevel.NONE
        await self._context._unpersist(self._node)
        return self

    async def cleanShuffleDependencies(self, blocking: bool = False) -> None:
        """Delete the files of the shuffles that this RDD is computed from, up to what is persisted.

        A job that needs them computes them again.  With ``blocking``, returns once they are deleted.

        >>> counts = sc.parallelize(["a", "b", "a"]).map(lambda word: (word, 1)).reduceByKey(lambda a, b: a + b)
        >>> sorted(await counts.collect())
        [('a', 2), ('b', 1)]
        >>> await counts.cleanShuffleDependencies()
        >>> sorted(await counts.collect())
        [('a', 2), ('b', 1)]
        """
        await self._context._driver.cleaner.clean_shuffles(self._node, blocking)

    def getStorageLevel(self) -> StorageLevel:
        """Where the RDD is kept; ``StorageLevel.NONE`` if it is not.

        >>> print(sc.parallelize([1]).cache().getStorageLevel())
        Memory Serialized 1x Replicated
        """
        return self._node.storage_level

    def withResources(self, profile: ResourceProfile) -> RDD[T_co]:
        """Say what the RDD's tasks and their executors are to have.  Returns the RDD itself.

        Executors are started once, the same for all RDDs; so, as in Spark without a cluster that could start others, a
        profile that asks for anything but ``spark.task.cpus`` slots for a task raises ArgumentError.

        >>> from asparkle.resource import ResourceProfileBuilder, TaskResourceRequests
        >>> profile = ResourceProfileBuilder().require(TaskResourceRequests().cpus(1)).build
        >>> await sc.parallelize([1, 2]).withResources(profile).sum()
        3
        """
        from asparkle.core.resourceprofiles import surely_granted

        self._resource_profile = surely_granted(profile, self._context._conf)
        return self

    def getResourceProfile(self) -> ResourceProfile | None:
        """What `withResources` gave the RDD; None if nothing.

        >>> sc.parallelize([1]).getResourceProfile() is None
        True
        """
        return self._resource_profile

    def checkpoint(self) -> None:
        """Keep the RDD in files of the directory that `SparkContext.setCheckpointDir` named, and forget its lineage.

        This happens after the first job that needs the RDD, and computes it once more unless it is persisted.  If the
        files can't be written the action fails, as in Spark, even though its result was there; the next job tries
        again.  Raises ContextError if no directory is set.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     await sc.setCheckpointDir(directory)
        ...     squares = sc.parallelize(range(4)).map(lambda x: x * x)
        ...     squares.checkpoint()
        ...     (squares.isCheckpointed(), await squares.sum(), squares.isCheckpointed())
        (False, 14, True)
        """
        fix([self._node])
        self._context._checkpointing().request(self._node)

    def localCheckpoint(self) -> None:
        """Have executors keep the RDD, as `persist` does, after the first job that needs it, and forget its lineage.

        Quicker than `checkpoint`, and not safe: a job fails that needs a partition which was lost with its executor.

        >>> squares = sc.parallelize(range(4)).map(lambda x: x * x)
        >>> squares.localCheckpoint()
        >>> (await squares.sum(), squares.isLocallyCheckpointed())
        (14, True)
        """
        from asparkle.core.checkpoints import local_level

        fix([self._node])
        self._node.storage_level = local_level(self._node.storage_level)
        self._context._persist(self._node)
        self._context._checkpointing().request_local(self._node)

    def isCheckpointed(self) -> bool:
        """Whether the RDD is saved by `checkpoint` or `localCheckpoint`, and its lineage forgotten.

        >>> sc.parallelize([1]).isCheckpointed()
        False
        """
        return self._node.checkpoint is not None and self._node.checkpoint.done

    @property
    def is_checkpointed(self) -> bool:
        """Whether `checkpoint` was called, saved or not.

        >>> sc.parallelize([1]).is_checkpointed
        False
        """
        return self._node.checkpoint is not None and self._node.checkpoint.path is not None

    def isLocallyCheckpointed(self) -> bool:
        """Whether the RDD is marked by `localCheckpoint`.

        >>> sc.parallelize([1]).isLocallyCheckpointed()
        False
        """
        return self._node.checkpoint is not None and self._node.checkpoint.path is None

    def getCheckpointFile(self) -> str | None:
        """The directory that holds the RDD's checkpoint; None if it is not saved there yet.

        >>> print(sc.parallelize([1]).getCheckpointFile())
        None
        """
        return self._node.checkpoint.path if self._node.checkpoint is not None and self.isCheckpointed() else None

    # ------------------------------------------------------------------------- one element at a time

    @overload
    def map(
        self,
        f: Callable[[T_co], Awaitable[U]],
        preservesPartitioning: bool = False,
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: Literal["collect"],
    ) -> RDD[U | FailedElement[T_co]]: ...

    @overload
    def map(
        self,
        f: Callable[[T_co], Awaitable[U]],
        preservesPartitioning: bool = False,
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> RDD[U]: ...

    @overload
    def map(
        self,
        f: Callable[[T_co], R],
        preservesPartitioning: bool = False,
    ) -> RDD[R]: ...

    @overload
    def map(
        self,
        f: Callable[[T_co], tuple[*Ts]],
        preservesPartitioning: bool = False,
    ) -> RDD[tuple[*Ts]]: ...

    @overload
    def map(
        self,
        f: Callable[[T_co], U],
        preservesPartitioning: bool = False,
    ) -> RDD[U]: ...

    def map(
        self,
        f: Callable[..., Any],
        preservesPartitioning: bool = False,
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: OnError = "raise",
    ) -> RDD[U]:
        """``f`` of each element, in order.

        ``preservesPartitioning``: ``f`` keeps keys as they are, so the partitioner stays valid.

        ``f`` may be a coroutine function, which workers call for many elements at once, on an asyncio event loop
        that each worker keeps.  The parameters from ``concurrency`` on are for these alone:

        - ``concurrency``: calls under way in one task, 32 if not given.  No more than four times as many elements
          are in a task at once, calls that wait for one before them included.
        - ``ordered=False``: results in the order in which they come.
        - ``timeout``: seconds that one attempt at an element may take; then it is cancelled, and fails with
          TimeoutError.
        - ``retries``: attempts after the first one that failed, with a growing random wait before each, or with the
          wait that the exception asks for (``retry_after``, or Retry-After in ``response.headers``) and up to a
          tenth more.
        - ``rate``: attempts per time, such as ``"50/s"`` or ``"100/min"``, of all workers together.
        - ``on_error``: what an element does whose last attempt failed.  ``"raise"``: the task fails, and its other
          calls are cancelled; ``"skip"``: it is left out, which is logged; ``"collect"``: a `FailedElement` takes
          its result's place.

        Raises ArgumentError and ArgumentTypeError for what these can't be, or where ``f`` is a plain function.

        >>> await sc.parallelize([1, 2, 3]).map(lambda x: x * x).collect()
        [1, 4, 9]
        >>> async def square(x):
        ...     return x * x
        >>> await sc.parallelize(range(5)).map(square, concurrency=100, retries=2).collect()
        [0, 1, 4, 9, 16]
        """
        calls = _calls(f, "map", concurrency, ordered, timeout, retries, rate, on_error)
        if calls is not None:
            return self._awaited("AsyncMap", f, calls, preservesPartitioning)
        return self._map_pipe(t.Map(f), preservesPartitioning)

    @overload
    def flatMap(
        self,
        f: Callable[[T_co], Awaitable[Iterable[U]]],
        preservesPartitioning: bool = False,
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: Literal["collect"],
    ) -> RDD[U | FailedElement[T_co]]: ...

    @overload
    def flatMap(
        self,
        f: Callable[[T_co], AsyncIterator[U]],
        preservesPartitioning: bool = False,
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: Literal["collect"],
    ) -> RDD[U | FailedElement[T_co]]: ...

    @overload
    def flatMap(
        self,
        f: Callable[[T_co], Awaitable[Iterable[U]]],
        preservesPartitioning: bool = False,
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> RDD[U]: ...

    @overload
    def flatMap(
        self,
        f: Callable[[T_co], AsyncIterator[U]],
        preservesPartitioning: bool = False,
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> RDD[U]: ...

    @overload
    def flatMap(
        self,
        f: Callable[[T_co], Iterable[U]],
        preservesPartitioning: bool = False,
    ) -> RDD[U]: ...

    def flatMap(
        self,
        f: Callable[..., Any],
        preservesPartitioning: bool = False,
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: OnError = "raise",
    ) -> RDD[U]:
        """The elements of ``f`` of each element, in order.

        ``f`` may be a coroutine function that returns an iterable, or an asynchronous generator; for these, and for
        the parameters from ``concurrency`` on, see `map`.

        >>> await sc.parallelize(["a b", "c"]).flatMap(str.split).collect()
        ['a', 'b', 'c']
        >>> async def pages(n):
        ...     for i in range(n):
        ...         yield f"page {i} of {n}"
        >>> await sc.parallelize([2, 1]).flatMap(pages).collect()
        ['page 0 of 2', 'page 1 of 2', 'page 0 of 1']
        """
        calls = _calls(f, "flatMap", concurrency, ordered, timeout, retries, rate, on_error)
        if calls is not None:
            return self._awaited("AsyncFlatMap", f, calls, preservesPartitioning)
        return self._map_pipe(t.FlatMap(f), preservesPartitioning)

    @overload
    def filter(
        self,
        f: Callable[[T_co], Awaitable[Any]],
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: Literal["collect"],
    ) -> RDD[T_co | FailedElement[T_co]]: ...

    @overload
    def filter(
        self,
        f: Callable[[T_co], Any],
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> RDD[T_co]: ...

    def filter(
        self,
        f: Callable[[T_co], Any],
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: OnError = "raise",
    ) -> RDD[Any]:
        """The elements for which ``f`` is true, in order.

        ``f`` may be a coroutine function; for these, and for the parameters from ``concurrency`` on, see `map`.

        >>> await sc.parallelize(range(6)).filter(lambda x: x % 2).collect()
        [1, 3, 5]
        >>> async def is_allowed(x):
        ...     return x < 4
        >>> await sc.parallelize(range(6)).filter(is_allowed).collect()
        [0, 1, 2, 3]
        """
        calls = _calls(f, "filter", concurrency, ordered, timeout, retries, rate, on_error)
        if calls is not None:
            return self._awaited("AsyncFilter", f, calls, True)
        return self._map_pipe(t.Filter(f), True)

    def _awaited(self, kind: str, f: Any, calls: Calls, preserves: bool) -> RDD[Any]:
        from asparkle.core import coroutines

        order = Determinism.DETERMINATE if calls.ordered else Determinism.UNORDERED
        transform = getattr(coroutines, kind)(f, calls)
        return self._derive(Mapped(self._node, transform, preserves_partitioning=preserves, determinism=order))

    def keyBy(self, f: Callable[[T_co], U]) -> RDD[tuple[U, T_co]]:
        """Pairs ``(f(x), x)``.

        >>> await sc.parallelize(["a", "bb"]).keyBy(len).collect()
        [(1, 'a'), (2, 'bb')]
        """
        return self._map_pipe(t.KeyBy(arguments.function(f, "keyBy", "f")))

    # ------------------------------------------------------------------------- one partition at a time

    @overload
    def mapPartitions(
        self,
        f: Callable[[Iterator[T_co]], Iterable[U]],
        preservesPartitioning: bool = False,
    ) -> RDD[U]: ...

    @overload
    def mapPartitions(
        self,
        f: Callable[[AsyncIterator[T_co]], AsyncIterator[U]],
        preservesPartitioning: bool = False,
    ) -> RDD[U]: ...

    @overload
    def mapPartitions(
        self,
        f: Callable[[AsyncIterator[T_co]], Awaitable[Iterable[U]]],
        preservesPartitioning: bool = False,
    ) -> RDD[U]: ...

    def mapPartitions(
        self,
        f: Callable[..., Any],
        preservesPartitioning: bool = False,
    ) -> RDD[U]:
        """The elements of ``f`` of each partition's iterator.

        ``f`` may be an asynchronous generator, or a coroutine function that returns an iterable.  It gets an
        asynchronous iterator, runs on the worker's event loop, and is closed whatever happens, so that it may hold
        a connection for as long as its partition takes.  What reads it never falls behind by more than 64 elements.

        >>> await sc.parallelize(range(5), 2).mapPartitions(lambda xs: [sum(xs)]).collect()
        [1, 9]
        >>> async def doubled(xs):
        ...     async for x in xs:
        ...         yield 2 * x
        >>> await sc.parallelize(range(5), 2).mapPartitions(doubled).collect()
        [0, 2, 4, 6, 8]
        """
        if self._is_async(f, "mapPartitions"):
            from asparkle.core.coroutines import AsyncMapPartitions

            return self._map_pipe(AsyncMapPartitions(f, "mapPartitions"), preservesPartitioning)
        return self._map_pipe(t.MapPartitions(f), preservesPartitioning)

    @staticmethod
    def _is_async(f: Any, operation: str) -> bool:
        arguments.function(f, operation, "f", takes_async=True)
        if arguments.surely_plain(f):
            return False
        from asparkle.core.coroutines import is_async

        return is_async(f)

    @overload
    def mapPartitionsWithIndex(
        self,
        f: Callable[[int, Iterator[T_co]], Iterable[U]],
        preservesPartitioning: bool = False,
    ) -> RDD[U]: ...

    @overload
    def mapPartitionsWithIndex(
        self,
        f: Callable[[int, AsyncIterator[T_co]], AsyncIterator[U]],
        preservesPartitioning: bool = False,
    ) -> RDD[U]: ...

    @overload
    def mapPartitionsWithIndex(
        self,
        f: Callable[[int, AsyncIterator[T_co]], Awaitable[Iterable[U]]],
        preservesPartitioning: bool = False,
    ) -> RDD[U]: ...

    def mapPartitionsWithIndex(
        self,
        f: Callable[..., Any],
        preservesPartitioning: bool = False,
    ) -> RDD[U]:
        """The elements of ``f`` of each partition's number and iterator.

        ``f`` may be asynchronous, as in `mapPartitions`.

        >>> rdd = sc.parallelize(range(4), 2)
        >>> await rdd.mapPartitionsWithIndex(lambda i, xs: ((i, x) for x in xs)).collect()
        [(0, 0), (0, 1), (1, 2), (1, 3)]
        """
        if self._is_async(f, "mapPartitionsWithIndex"):
            from asparkle.core.coroutines import AsyncMapPartitionsWithIndex

            return self._map_pipe(AsyncMapPartitionsWithIndex(f, "mapPartitionsWithIndex"), preservesPartitioning)
        return self._map_pipe(t.MapPartitionsWithIndex(f), preservesPartitioning)

    def mapPartitionsWithSplit(
        self, f: Callable[[int, Iterator[T_co]], Iterable[U]], preservesPartitioning: bool = False
    ) -> RDD[U]:
        """The old name of `mapPartitionsWithIndex`; warns.

        >>> import warnings
        >>> warnings.simplefilter("ignore", FutureWarning)
        >>> await sc.parallelize([1, 2], 2).mapPartitionsWithSplit(lambda i, xs: [i]).collect()
        [0, 1]
        """
        _deprecated("mapPartitionsWithSplit", "use mapPartitionsWithIndex")
        return self.mapPartitionsWithIndex(f, preservesPartitioning)

    def barrier(self) -> RDDBarrier[T_co]:
        """This RDD, whose next step starts all its tasks together: in them, `BarrierTaskContext` lets them wait for
        each other and exchange messages.

        >>> from asparkle import BarrierTaskContext
        >>> def gather(elements):
        ...     return [BarrierTaskContext.get().allGather(str(sum(elements)))]
        >>> rdd = sc.parallelize([1, 2, 3], sc.defaultParallelism)
        >>> len(set(map(tuple, await rdd.barrier().mapPartitions(gather).collect())))
        1
        """
        from asparkle.core.barrier import RDDBarrier

        return RDDBarrier(self)

    def glom(self) -> RDD[list[T_co]]:
        """Each partition as one list.

        >>> await sc.parallelize(range(4), 2).glom().collect()
        [[0, 1], [2, 3]]
        """
        return self._map_pipe(t.Glom())

    def sample(self, withReplacement: bool, fraction: float, seed: int | None = None) -> RDD[T_co]:
        """A random part of the elements, in order.

        ``fraction``: the chance of each element to be in it or, with replacement, how often it is in it on
        average.  The same seed gives the same sample of the same RDD.  Raises ArgumentError for a
        negative ``fraction``, or an infinite one with replacement.

        >>> rdd = sc.parallelize(range(1000), 2)
        >>> await rdd.sample(False, 0.1, seed=1).collect() == await rdd.sample(False, 0.1, seed=1).collect()
        True
        """
        from asparkle.core.sampling import Sample

        fraction = arguments.fraction(fraction, "sample", withReplacement)
        seed = _seed(seed, "sample")
        return self._map_pipe(Sample(withReplacement, fraction, seed), True)

    def randomSplit(self, weights: Sequence[float], seed: int | None = None) -> list[RDD[T_co]]:
        """The elements, each in one of as many RDDs as there are ``weights``, at random, in order.

        ``weights``: how much goes into each, relative to their sum.  The same seed splits the same RDD in the same
        way.  Raises ArgumentError for a negative weight, or if all are 0.

        >>> first, second = sc.parallelize(range(500), 1).randomSplit([2, 3], seed=17)
        >>> await first.count() + await second.count()
        500
        """
        from asparkle.core.sampling import Split

        bounds = arguments.cumulated(weights, "randomSplit", "weights")
        seed = _seed(seed, "randomSplit")
        return [self._map_pipe(Split(low, high, seed), True) for low, high in itertools.pairwise(bounds)]

    def zipWithUniqueId(self) -> RDD[tuple[T_co, int]]:
        """Pairs ``(x, i)``: partition k of n has the numbers k, n + k, 2n + k and so on.  Runs no job.

        >>> await sc.parallelize(["a", "b", "c", "d", "e"], 3).zipWithUniqueId().collect()
        [('a', 0), ('b', 1), ('c', 4), ('d', 2), ('e', 5)]
        """
        return self._derive(MappedByWidth(self._node, t.WithUniqueId))

    def pipe(self, command: str, env: Mapping[str, str] | None = None, checkCode: bool = False) -> RDD[str]:
        """The lines that a process of ``command`` writes for each partition, given the elements as lines.

        ``command`` is split as the shell would, but not run by one.  ``env``: all of its environment, as in PySpark;
        nothing unless given.  With ``checkCode`` an exit status other than 0 fails the job with a
        UserFunctionError.  Lines are UTF-8, without their ends.

        The process, and what it has started, ends at the latest when its task ends or is cancelled, on threads too,
        or its worker dies; only what it has started in a session or a process group of its own is left alone, and
        keeps no task waiting that is cancelled.

        >>> await sc.parallelize(["b", "a", "c"], 1).pipe("sort").collect()
        ['a', 'b', 'c']
        """
        from asparkle.core.piping import Pipe

        return self._map_pipe(Pipe(arguments.text(command, "pipe", "command"), env or {}, checkCode))

    def zipWithIndex(self) -> RDD[tuple[T_co, int]]:
        """Pairs ``(x, i)`` with i counting over all partitions.  Counts all but the last when it is computed.

        >>> await sc.parallelize(["a", "b", "c"], 2).zipWithIndex().collect()
        [('a', 0), ('b', 1), ('c', 2)]
        """
        return self._derive(Indexed(self._node, t.WithIndex))

    # ------------------------------------------------------------------------- two RDDs

    def union(self, other: RDD[U]) -> RDD[T_co | U]:
        """The elements of both, duplicates included; this RDD's partitions first.

        >>> await sc.parallelize([1, 2]).union(sc.parallelize([2, 3])).collect()
        [1, 2, 2, 3]
        """
        return self._derive(Union((self._node, self._other(other, "union")._node)))

    def __add__(self, other: RDD[U]) -> RDD[T_co | U]:
        """The same as `union`.

        >>> await (sc.parallelize([1]) + sc.parallelize([2])).collect()
        [1, 2]
        """
        if not isinstance(other, RDD):
            return NotImplemented
        return self.union(other)

    def cartesian(self, other: RDD[U]) -> RDD[tuple[T_co, U]]:
        """All pairs of an element of this RDD and one of the other, in lexicographic order of partitions.

        >>> await sc.parallelize([1, 2]).cartesian(sc.parallelize("ab")).collect()
        [(1, 'a'), (1, 'b'), (2, 'a'), (2, 'b')]
        """
        return self._derive(CartesianProduct(self._node, self._other(other, "cartesian")._node))

    def zip(self, other: RDD[U]) -> RDD[tuple[T_co, U]]:
        """Pairs of the elements that have the same place in both.

        Both need equally many partitions, and equally many elements in each; anything else is an error
        when it is computed.

        >>> await sc.parallelize([1, 2], 2).zip(sc.parallelize("ab", 2)).collect()
        [(1, 'a'), (2, 'b')]
        """
        return self._derive(Zipped((self._node, self._other(other, "zip")._node), r.zip_partitions, "zip"))

    def zipPartitions(self, other: RDD[U], f: Callable[[Iterator[T_co], Iterator[U]], Iterable[V]]) -> RDD[V]:
        """The elements of ``f`` of the iterators of each two partitions with the same number.

        >>> a, b = sc.parallelize(range(4), 2), sc.parallelize("xyz", 2)
        >>> await a.zipPartitions(b, lambda xs, ys: [(sum(xs), "".join(ys))]).collect()
        [(1, 'x'), (5, 'yz')]
        """
        (function,) = fixed(r.ZipFunction(arguments.function(f, "zipPartitions", "f")))
        return self._derive(Zipped((self._node, self._other(other, "zipPartitions")._node), function, "zipPartitions"))

    def intersection(self, other: RDD[T]) -> RDD[T_co]:
        """The elements that are in both, each once; in order of first appearance in this RDD per partition.

        >>> sorted(await sc.parallelize([1, 2, 2, 3]).intersection(sc.parallelize([2, 3, 4])).collect())
        [2, 3]
        """
        pairs = cast("RDD[tuple[Any, None]]", self._map_pipe(t.Map(r.with_none)))
        others = cast("RDD[tuple[Any, None]]", self._other(other, "intersection")._map_pipe(t.Map(r.with_none)))
        return pairs._cogroup_with((others,), None, r.in_both, operation="intersection", keyed=False)

    def subtract(self, other: RDD[T], numPartitions: int | None = None) -> RDD[T_co]:
        """The elements of this RDD, duplicates included, that are not in the other.

        >>> sorted(await sc.parallelize([1, 1, 2, 3]).subtract(sc.parallelize([2])).collect())
        [1, 1, 3]
        """
        pairs = cast("RDD[tuple[Any, None]]", self._map_pipe(t.Map(r.with_none)))
        others = cast("RDD[tuple[Any, None]]", self._other(other, "subtract")._map_pipe(t.Map(r.with_none)))
        return pairs._cogroup_with((others,), numPartitions, r.only_left_keys, operation="subtract", keyed=False)

    def _other(self, other: Any, operation: str) -> RDD[Any]:
        return self._context._own(other, f"{operation}: other")

    # ------------------------------------------------------------------------- partitions

    def coalesce(self, numPartitions: int, shuffle: bool = False) -> RDD[T_co]:
        """At most ``numPartitions`` partitions, each made of neighbouring ones, without moving data.

        With ``shuffle``, as `repartition`: elements are dealt out evenly, and there may be more partitions
        than before.

        >>> await sc.parallelize(range(4), 4).coalesce(2).glom().collect()
        [[0, 1], [2, 3]]
        """
        n = arguments.partitions(numPartitions, "coalesce")
        return self.repartition(n) if shuffle else self._derive(Coalesced(self._node, n))

    def repartition(self, numPartitions: int) -> RDD[T_co]:
        """Exactly ``numPartitions`` partitions of nearly equal length; all data moves.

        >>> await sc.parallelize(range(6), 1).repartition(3).glom().collect()
        [[0, 3], [1, 4], [2, 5]]
        """
        n = arguments.partitions(numPartitions, "repartition")
        dealt = Mapped(self._node, r.Deal(n))
        moved = self._derive(Shuffled(dealt, Partitioner(n, r.dealt_to), steps.RecordsSpec))
        return moved._map_pipe(t.Unnumbered())

    def partitionBy(
        self: RDD[tuple[K, V]], numPartitions: int | None, partitionFunc: Callable[[K], int] = portable_hash
    ) -> RDD[tuple[K, V]]:
        """The pairs, each in partition ``partitionFunc(key) % numPartitions``.

        Two RDDs that are partitioned alike (the same number and function) are joined without moving data.

        >>> await sc.parallelize(range(4), 1).map(lambda x: (x, x)).partitionBy(2).keys().glom().collect()
        [[0, 2], [1, 3]]
        """
        plan = _hashed(numPartitions, partitionFunc, "partitionBy")
        return self._derive(Shuffled(self._node, plan, steps.RecordsSpec))

    def repartitionAndSortWithinPartitions(
        self: RDD[tuple[K, V]],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
        ascending: bool = True,
        keyfunc: Callable[[K], Any] | None = None,
    ) -> RDD[tuple[K, V]]:
        """As `partitionBy`, with each partition sorted by ``keyfunc(key)``; equal keys stay in map order.

        >>> rdd = sc.parallelize([(3, "c"), (0, "a"), (2, "b"), (1, "d")])
        >>> await rdd.repartitionAndSortWithinPartitions(2).glom().collect()
        [[(0, 'a'), (2, 'b')], [(1, 'd'), (3, 'c')]]
        """
        operation = "repartitionAndSortWithinPartitions"
        plan = _hashed(numPartitions, partitionFunc, operation)
        (key_func,) = fixed(arguments.optional_function(keyfunc, operation, "keyfunc"))
        spec = functools.partial(steps.SortSpec, ascending=ascending, key_func=key_func)
        return self._derive(Shuffled(self._node, plan, spec))

    # ------------------------------------------------------------------------- sorting

    def sortByKey(
        self: RDD[tuple[T, V]],
        ascending: bool = True,
        numPartitions: int | None = None,
        keyfunc: Callable[[T], Any] | None = None,
    ) -> RDD[tuple[T, V]]:
        """The pairs sorted by ``keyfunc(key)`` over all partitions; equal keys stay in their order.

        The bounds of the partitions come from a sample, which a job takes when this is first computed.

        >>> await sc.parallelize([("b", 1), ("a", 2), ("b", 0)]).sortByKey().collect()
        [('a', 2), ('b', 1), ('b', 0)]
        """
        return self._sorted("sortByKey", ascending, numPartitions, keyfunc)

    def _sorted(
        self, operation: str, ascending: bool, numPartitions: int | None, keyfunc: Callable[[Any], Any] | None = None
    ) -> RDD[Any]:
        n = arguments.optional_partitions(numPartitions, operation)
        (key_func,) = fixed(arguments.optional_function(keyfunc, operation, "keyfunc"))
        spec = functools.partial(steps.SortSpec, ascending=ascending, key_func=key_func)
        return self._derive(Shuffled(self._node, SampledRange(n, ascending, key_func), spec))

    def sortBy(
        self, keyfunc: Callable[[T_co], Any], ascending: bool = True, numPartitions: int | None = None
    ) -> RDD[T_co]:
        """The elements sorted by ``keyfunc`` over all partitions; equal keys stay in their order.

        >>> await sc.parallelize(["ccc", "a", "bb"]).sortBy(len, ascending=False).collect()
        ['ccc', 'bb', 'a']
        """
        keyed = self._map_pipe(t.KeyBy(arguments.function(keyfunc, "sortBy", "keyfunc")))
        return keyed._sorted("sortBy", ascending, numPartitions)._map_pipe(t.Unnumbered())

    # ------------------------------------------------------------------------- pairs

    def keys(self: RDD[tuple[T, Any]]) -> RDD[T]:
        """The first of each pair.

        >>> await sc.parallelize([("a", 1), ("b", 2)]).keys().collect()
        ['a', 'b']
        """
        return self._map_pipe(t.Keys())

    def values(self: RDD[tuple[Any, V]]) -> RDD[V]:
        """The second of each pair.

        >>> await sc.parallelize([("a", 1), ("b", 2)]).values().collect()
        [1, 2]
        """
        return self._map_pipe(t.Values())

    @overload
    def mapValues(
        self: RDD[tuple[T, V]],
        f: Callable[[V], Awaitable[U]],
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: Literal["collect"],
    ) -> RDD[tuple[T, U | FailedElement[V]]]: ...

    @overload
    def mapValues(
        self: RDD[tuple[T, V]],
        f: Callable[[V], Awaitable[U]],
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> RDD[tuple[T, U]]: ...

    @overload
    def mapValues(
        self: RDD[tuple[T, V]],
        f: Callable[[V], R],
    ) -> RDD[tuple[T, R]]: ...

    @overload
    def mapValues(
        self: RDD[tuple[T, V]],
        f: Callable[[V], tuple[*Ts]],
    ) -> RDD[tuple[T, tuple[*Ts]]]: ...

    @overload
    def mapValues(
        self: RDD[tuple[T, V]],
        f: Callable[[V], U],
    ) -> RDD[tuple[T, U]]: ...

    def mapValues(
        self: RDD[tuple[T, V]],
        f: Callable[..., Any],
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: OnError = "raise",
    ) -> RDD[tuple[T, U]]:
        """Pairs ``(k, f(v))``; the partitioner is kept.

        ``f`` may be a coroutine function; for these, and for the parameters from ``concurrency`` on, see `map`.

        >>> await sc.parallelize([("a", [1, 2]), ("b", [])]).mapValues(len).collect()
        [('a', 2), ('b', 0)]
        """
        calls = _calls(f, "mapValues", concurrency, ordered, timeout, retries, rate, on_error)
        if calls is not None:
            return self._awaited("AsyncMapValues", f, calls, True)
        return self._map_pipe(t.MapValues(f), True)

    def flatMapValues(self: RDD[tuple[T, V]], f: Callable[[V], Iterable[U]]) -> RDD[tuple[T, U]]:
        """A pair ``(k, u)`` for each u in ``f(v)``; the partitioner is kept.

        >>> await sc.parallelize([("a", [1, 2]), ("b", [])]).flatMapValues(lambda v: v).collect()
        [('a', 1), ('a', 2)]
        """
        return self._map_pipe(t.FlatMapValues(arguments.function(f, "flatMapValues", "f")), True)

    @overload
    def combineByKey(
        self: RDD[tuple[K, V]],
        createCombiner: Callable[[V], R],
        mergeValue: Callable[[R, V], R],
        mergeCombiners: Callable[[R, R], R],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, R]]: ...

    @overload
    def combineByKey(
        self: RDD[tuple[K, V]],
        createCombiner: Callable[[V], tuple[*Ts]],
        mergeValue: Callable[[tuple[*Ts], V], tuple[*Ts]],
        mergeCombiners: Callable[[tuple[*Ts], tuple[*Ts]], tuple[*Ts]],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, tuple[*Ts]]]: ...

    @overload
    def combineByKey(
        self: RDD[tuple[K, V]],
        createCombiner: Callable[[V], U],
        mergeValue: Callable[[U, V], U],
        mergeCombiners: Callable[[U, U], U],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, U]]: ...

    def combineByKey(
        self: RDD[tuple[K, V]],
        createCombiner: Callable[[V], Any],
        mergeValue: Callable[[Any, V], Any],
        mergeCombiners: Callable[[Any, Any], Any],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, Any]]:
        """One pair per key: its values combined, in map order, with three functions.

        ``createCombiner(v)`` starts with a key's first value, ``mergeValue(c, v)`` adds another,
        ``mergeCombiners(c, d)`` joins what two partitions made; both may change their first argument.
        Keys are in order of first appearance.

        >>> rdd = sc.parallelize([("a", 1), ("b", 5), ("a", 3)])
        >>> counted = rdd.combineByKey(
        ...     lambda v: (v, 1), lambda c, v: (c[0] + v, c[1] + 1), lambda c, d: (c[0] + d[0], c[1] + d[1])
        ... )
        >>> sorted(await counted.mapValues(lambda c: c[0] / c[1]).collect())
        [('a', 2.0), ('b', 5.0)]
        """
        return self._combined(
            _hashed(numPartitions, partitionFunc, "combineByKey"),
            arguments.function(createCombiner, "combineByKey", "createCombiner"),
            arguments.function(mergeValue, "combineByKey", "mergeValue"),
            arguments.function(mergeCombiners, "combineByKey", "mergeCombiners"),
        )

    def _combined(
        self,
        plan: PartitionerPlan,
        create: Callable[[Any], Any],
        merge_value: Callable[[Any, Any], Any],
        merge_combiners: Callable[[Any, Any], Any],
    ) -> RDD[Any]:
        create, merge_value, merge_combiners = fixed(create, merge_value, merge_combiners)
        spec = functools.partial(
            steps.CombineSpec, create=create, merge_value=merge_value, merge_combiners=merge_combiners
        )
        return self._derive(Shuffled(self._node, plan, spec))

    def reduceByKey(
        self: RDD[tuple[K, V]],
        func: Callable[[V, V], V],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, V]]:
        """One pair per key, its values reduced with an associative function; combined before the shuffle.

        >>> from operator import add
        >>> sorted(await sc.parallelize([("a", 1), ("b", 1), ("a", 1)]).reduceByKey(add).collect())
        [('a', 2), ('b', 1)]
        """
        function = arguments.function(func, "reduceByKey", "func")
        return self._combined(_hashed(numPartitions, partitionFunc, "reduceByKey"), identity, function, function)

    @overload
    def aggregateByKey(
        self: RDD[tuple[K, V]],
        zeroValue: R,
        seqFunc: Callable[[R, V], R],
        combFunc: Callable[[R, R], R],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, R]]: ...

    @overload
    def aggregateByKey(
        self: RDD[tuple[K, V]],
        zeroValue: tuple[*Ts],
        seqFunc: Callable[[tuple[*Ts], V], tuple[*Ts]],
        combFunc: Callable[[tuple[*Ts], tuple[*Ts]], tuple[*Ts]],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, tuple[*Ts]]]: ...

    @overload
    def aggregateByKey(
        self: RDD[tuple[K, V]],
        zeroValue: U,
        seqFunc: Callable[[U, V], U],
        combFunc: Callable[[U, U], U],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, U]]: ...

    def aggregateByKey(
        self: RDD[tuple[K, V]],
        zeroValue: Any,
        seqFunc: Callable[[Any, V], Any],
        combFunc: Callable[[Any, Any], Any],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, Any]]:
        """One pair per key, folded from a copy of ``zeroValue`` per key and partition with ``seqFunc``, and
        joined with ``combFunc``.

        >>> rdd = sc.parallelize([("a", 1), ("b", 2), ("a", 3)])
        >>> sorted(await rdd.aggregateByKey(0, lambda n, v: n + 1, lambda n, m: n + m).collect())
        [('a', 2), ('b', 1)]
        """
        merge_value = arguments.function(seqFunc, "aggregateByKey", "seqFunc")
        merge = arguments.function(combFunc, "aggregateByKey", "combFunc")
        plan = _hashed(numPartitions, partitionFunc, "aggregateByKey")
        return self._combined(plan, r.FoldFirst(zeroValue, merge_value), merge_value, merge)

    def foldByKey(
        self: RDD[tuple[K, V]],
        zeroValue: V,
        func: Callable[[V, V], V],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, V]]:
        """As `aggregateByKey` with one function for both.

        >>> from operator import mul
        >>> sorted(await sc.parallelize([("a", 2), ("b", 3), ("a", 5)]).foldByKey(1, mul).collect())
        [('a', 10), ('b', 3)]
        """
        function = arguments.function(func, "foldByKey", "func")
        plan = _hashed(numPartitions, partitionFunc, "foldByKey")
        return self._combined(plan, r.FoldFirst(zeroValue, function), function, function)

    def groupByKey(
        self: RDD[tuple[K, V]],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, ResultIterable[V]]]:
        """One pair per key with all its values, in map order.  To reduce them, `reduceByKey` moves less.

        >>> rdd = sc.parallelize([("a", 1), ("b", 2), ("a", 3)])
        >>> sorted(await rdd.groupByKey().mapValues(list).collect())
        [('a', [1, 3]), ('b', [2])]
        """
        return self._derive(Shuffled(self._node, _hashed(numPartitions, partitionFunc, "groupByKey"), steps.GroupSpec))

    def groupBy(
        self,
        f: Callable[[T_co], K],
        numPartitions: int | None = None,
        partitionFunc: Callable[[K], int] = portable_hash,
    ) -> RDD[tuple[K, ResultIterable[T_co]]]:
        """One pair per value of ``f`` with all its elements, in map order.

        >>> sorted(await sc.parallelize(range(5)).groupBy(lambda x: x % 2).mapValues(list).collect())
        [(0, [0, 2, 4]), (1, [1, 3])]
        """
        keyed = Mapped(self._node, t.KeyBy(arguments.function(f, "groupBy", "f")))
        return self._derive(Shuffled(keyed, _hashed(numPartitions, partitionFunc, "groupBy"), steps.GroupSpec))

    def distinct(self, numPartitions: int | None = None) -> RDD[T_co]:
        """Each different element once, in order of first appearance per partition.

        >>> sorted(await sc.parallelize([3, 1, 3, 2, 1]).distinct().collect())
        [1, 2, 3]
        """
        n = arguments.optional_partitions(numPartitions, "distinct")
        return self._derive(Shuffled(self._node, DefaultHash(n, portable_hash), steps.DistinctSpec, keyed=False))

    # ------------------------------------------------------------------------- joining pairs

    def _cogroup_with(
        self,
        others: Sequence[RDD[Any]],
        numPartitions: int | None,
        function: Callable[..., Iterable[Any]] | steps.Join,
        *,
        operation: str = "cogroup",
        keyed: bool = True,
    ) -> RDD[Any]:
        n = arguments.optional_partitions(numPartitions, operation)
        nodes = [self._node, *(self._other(o, operation)._node for o in others)]
        plan: PartitionerPlan = DefaultHash(n, portable_hash)
        return self._derive(CoGrouped(nodes, plan, steps.LongerRecordsSpec, function, keyed=keyed))

    def cogroup(
        self: RDD[tuple[K, V]], other: RDD[tuple[K, U]], numPartitions: int | None = None
    ) -> RDD[tuple[K, tuple[ResultIterable[V], ResultIterable[U]]]]:
        """For each key of either, its values in this RDD and its values in the other.

        >>> grouped = sc.parallelize([("a", 1), ("b", 2)]).cogroup(sc.parallelize([("a", 3)]))
        >>> sorted(await grouped.mapValues(lambda lists: [list(values) for values in lists]).collect())
        [('a', [[1], [3]]), ('b', [[2], []])]
        """
        return self._cogroup_with((other,), numPartitions, r.cogroup)

    @overload
    def groupWith(
        self: RDD[tuple[K, V]], other: RDD[tuple[K, U]]
    ) -> RDD[tuple[K, tuple[ResultIterable[V], ResultIterable[U]]]]: ...

    @overload
    def groupWith(
        self: RDD[tuple[K, V]], other: RDD[tuple[K, U]], other2: RDD[tuple[K, W]], /
    ) -> RDD[tuple[K, tuple[ResultIterable[V], ResultIterable[U], ResultIterable[W]]]]: ...

    @overload
    def groupWith(
        self: RDD[tuple[K, V]], other: RDD[tuple[K, U]], other2: RDD[tuple[K, W]], other3: RDD[tuple[K, X]], /
    ) -> RDD[tuple[K, tuple[ResultIterable[V], ResultIterable[U], ResultIterable[W], ResultIterable[X]]]]: ...

    @overload
    def groupWith(
        self: RDD[tuple[K, Any]], other: RDD[tuple[K, Any]], *others: RDD[tuple[K, Any]]
    ) -> RDD[tuple[K, tuple[ResultIterable[Any], ...]]]: ...

    def groupWith(self: RDD[tuple[K, Any]], other: RDD[Any], *others: RDD[Any]) -> RDD[Any]:
        """`cogroup` of any number of RDDs.

        >>> a, b, c = (sc.parallelize([("x", i)]) for i in range(3))
        >>> await a.groupWith(b, c).mapValues(lambda lists: [list(values) for values in lists]).collect()
        [('x', [[0], [1], [2]])]
        """
        return self._cogroup_with((other, *others), None, r.cogroup, operation="groupWith")

    def join(
        self: RDD[tuple[K, V]], other: RDD[tuple[K, U]], numPartitions: int | None = None
    ) -> RDD[tuple[K, tuple[V, U]]]:
        """``(k, (v, u))`` for each pair of values that the two RDDs have for a key.

        Where the other's part of a partition fits into half of a task's memory, this RDD's streams through it, and
        the pairs are in this RDD's order; else both are grouped.  So the other should be the smaller one.

        >>> one, other = sc.parallelize([("a", 1), ("b", 2)]), sc.parallelize([("a", 3), ("a", 4)])
        >>> sorted(await one.join(other).collect())
        [('a', (1, 3)), ('a', (1, 4))]
        """
        return self._cogroup_with((other,), numPartitions, steps.Join(), operation="join")

    def leftOuterJoin(
        self: RDD[tuple[K, V]], other: RDD[tuple[K, U]], numPartitions: int | None = None
    ) -> RDD[tuple[K, tuple[V, U | None]]]:
        """As `join`, and ``(k, (v, None))`` for keys that the other lacks.

        >>> one, other = sc.parallelize([("a", 1), ("b", 2)]), sc.parallelize([("a", 3)])
        >>> sorted(await one.leftOuterJoin(other).collect())
        [('a', (1, 3)), ('b', (2, None))]
        """
        return self._cogroup_with((other,), numPartitions, steps.Join(outer=True), operation="leftOuterJoin")

    def rightOuterJoin(
        self: RDD[tuple[K, V]], other: RDD[tuple[K, U]], numPartitions: int | None = None
    ) -> RDD[tuple[K, tuple[V | None, U]]]:
        """As `join`, and ``(k, (None, u))`` for keys that only the other has.  Here the other's streams, in its order.

        >>> one, other = sc.parallelize([("a", 1)]), sc.parallelize([("a", 3), ("c", 4)])
        >>> sorted(await one.rightOuterJoin(other).collect())
        [('a', (1, 3)), ('c', (None, 4))]
        """
        return self._cogroup_with(
            (other,), numPartitions, steps.Join(streamed=1, outer=True), operation="rightOuterJoin"
        )

    def fullOuterJoin(
        self: RDD[tuple[K, V]], other: RDD[tuple[K, U]], numPartitions: int | None = None
    ) -> RDD[tuple[K, tuple[V | None, U | None]]]:
        """As `join`, and None in place of the value for keys that one of the two lacks.

        >>> one, other = sc.parallelize([("a", 1), ("b", 2)]), sc.parallelize([("b", 3)])
        >>> sorted(await one.fullOuterJoin(other).collect())
        [('a', (1, None)), ('b', (2, 3))]
        """
        return self._cogroup_with((other,), numPartitions, r.full_join, operation="fullOuterJoin")

    def sampleByKey(
        self: RDD[tuple[K, V]], withReplacement: bool, fractions: Mapping[K, float], seed: int | None = None
    ) -> RDD[tuple[K, V]]:
        """A random part of the pairs, as `sample`, with a fraction for each key.

        A pair whose key has none fails the job with a UserFunctionError.  Raises ArgumentError for a negative
        fraction.

        >>> pairs = sc.parallelize([(x % 2, x) for x in range(1000)], 2)
        >>> sampled = await pairs.sampleByKey(False, {0: 0.0, 1: 1.0}, seed=2).countByKey()
        >>> sorted(sampled.items())
        [(1, 500)]
        """
        from asparkle.core.sampling import SampleByKey

        fractions = arguments.fractions(fractions, "sampleByKey")
        seed = _seed(seed, "sampleByKey")
        return self._map_pipe(SampleByKey(withReplacement, fractions, seed), True)

    def subtractByKey(
        self: RDD[tuple[K, V]], other: RDD[tuple[K, Any]], numPartitions: int | None = None
    ) -> RDD[tuple[K, V]]:
        """The pairs of this RDD whose key the other does not have.

        >>> await sc.parallelize([("a", 1), ("b", 2)]).subtractByKey(sc.parallelize([("a", 9)])).collect()
        [('b', 2)]
        """
        return self._cogroup_with((other,), numPartitions, r.only_left, operation="subtractByKey")

    # ------------------------------------------------------------------------- actions: elements

    async def _run(self, sink: t.Sink, partitions: Sequence[int] | None = None) -> list[Any]:
        return await self._context._run(self._node, sink, partitions)

    async def _in_driver(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The last step of an action, with users' functions or data: off the event loop, which it might hold up."""
        return await self._context._in_thread(in_driver, function, *arguments)

    async def collect(self) -> list[T_co]:
        """All elements, in order of partitions.  They must fit into the driver's memory.

        >>> await sc.parallelize(range(3)).collect()
        [0, 1, 2]
        """
        parts = await self._run(t.CollectList())
        return r.concatenated(parts)

    async def collectWithJobGroup(self, groupId: str, description: str, interruptOnCancel: bool = False) -> list[T_co]:
        """As `setJobGroup` and then `collect`; warns, as PySpark does.

        >>> import warnings
        >>> warnings.simplefilter("ignore", FutureWarning)
        >>> await sc.parallelize([1, 2]).collectWithJobGroup("nightly", "what runs at night")
        [1, 2]
        """
        _deprecated("collectWithJobGroup", "use setJobGroup, which belongs to the task or thread that calls it")
        self._context.setJobGroup(groupId, description, interruptOnCancel)
        return await self.collect()

    async def toLocalIterator(self, prefetchPartitions: bool = False) -> AsyncIterator[T_co]:
        """The elements, one partition in the driver's memory at a time.

        ``prefetchPartitions``: compute the next partition while this one is being read.

        >>> elements = await sc.parallelize(range(1000), 10).toLocalIterator()  # for `async for` or `for`
        """
        fix([self._node])
        return local_iterator(self, prefetchPartitions)

    def __aiter__(self) -> AsyncIterator[T_co]:
        """``async for x in rdd``: as `toLocalIterator`, computing one partition ahead."""
        fix([self._node])
        return local_iterator(self, True)

    async def first(self) -> T_co:
        """The first element.  Raises ValueError if there is none.

        >>> await sc.parallelize([5, 6]).first()
        5
        """
        found = await self.take(1)
        if not found:
            raise EmptyRDDError("RDD is empty")
        return found[0]

    async def take(self, num: int) -> list[T_co]:
        """The first ``num`` elements.  Computes one partition first, and more as long as they are too few.

        >>> await sc.parallelize(range(100), 10).take(3)
        [0, 1, 2]
        """
        from asparkle.core import actions

        num = max(arguments.whole_number(num, "take", "num"), 0)
        return await actions.take(self, min(num, sys.maxsize))  # which is what islice takes

    async def isEmpty(self) -> bool:
        """Whether there is no element.

        >>> await sc.parallelize(range(3)).filter(lambda x: x > 5).isEmpty()
        True
        """
        return not await self.take(1)

    async def takeOrdered(self, num: int, key: Callable[[T_co], Any] | None = None) -> list[T_co]:
        """The ``num`` smallest elements by ``key``, in ascending order.

        >>> await sc.parallelize([5, 2, 9, 1]).takeOrdered(2)
        [1, 2]
        >>> await sc.parallelize([5, 2, 9, 1]).takeOrdered(2, key=lambda x: -x)
        [9, 5]
        """
        num = arguments.whole_number(num, "takeOrdered", "num", 0)
        arguments.optional_function(key, "takeOrdered", "key")
        if not num:
            return []
        parts = await self._run(t.CallToEnd(r.Smallest(num, key)))
        return cast("list[T_co]", await self._in_driver(r.smallest, num, parts, key))

    async def top(self, num: int, key: Callable[[T_co], Any] | None = None) -> list[T_co]:
        """The ``num`` largest elements by ``key``, in descending order.

        >>> await sc.parallelize([5, 2, 9, 1]).top(2)
        [9, 5]
        """
        num = max(arguments.whole_number(num, "top", "num"), 0)
        arguments.optional_function(key, "top", "key")
        if not num:
            return []
        parts = await self._run(t.CallToEnd(r.Largest(num, key)))
        return cast("list[T_co]", await self._in_driver(r.largest, num, parts, key))

    async def takeSample(self, withReplacement: bool, num: int, seed: int | None = None) -> list[T_co]:
        """``num`` elements at random, in random order; all of them, without replacement, if there are fewer.

        >>> len(await sc.parallelize(range(100)).takeSample(False, 5))
        5
        """
        from asparkle.core import actions

        num = arguments.sample_size(num)
        return await actions.take_sample(self, withReplacement, num, arguments.seed(seed, "takeSample"))

    @overload
    async def foreach(
        self,
        f: Callable[[T_co], Awaitable[Any]],
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: Literal["collect"],
    ) -> list[FailedElement[T_co]]: ...

    @overload
    async def foreach(
        self,
        f: Callable[[T_co], Any],
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None: ...

    async def foreach(
        self,
        f: Callable[[T_co], Any],
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        rate: str | None = None,
        on_error: OnError = "raise",
    ) -> list[FailedElement[T_co]] | None:
        """Call ``f`` with each element, for what it does.

        ``f`` may be a coroutine function; for these, and for the parameters from ``concurrency`` on, see `map`.
        Returns None; with ``on_error="collect"``, the elements that failed.

        >>> total = sc.accumulator(0)
        >>> await sc.parallelize([1, 2, 3]).foreach(total.add)
        >>> total.value
        6
        """
        calls = _calls(f, "foreach", concurrency, ordered, timeout, retries, rate, on_error)
        if calls is None:
            await self._run(t.CallToEnd(r.ForEach(f)))
            return None
        failed: list[FailedElement[T_co]] = await self._awaited("AsyncForEach", f, calls, False).collect()
        return failed if calls.on_error == "collect" else None

    @overload
    async def foreachPartition(self, f: Callable[[Iterator[T_co]], Any]) -> None: ...

    @overload
    async def foreachPartition(self, f: Callable[[AsyncIterator[T_co]], Any]) -> None: ...

    async def foreachPartition(self, f: Callable[..., Any]) -> None:
        """Call ``f`` with each partition's iterator, for what it does.

        ``f`` may be asynchronous, as in `mapPartitions`.

        >>> batches = sc.accumulator(0)
        >>> await sc.parallelize(range(10), 3).foreachPartition(lambda xs: batches.add(1))
        >>> batches.value
        3
        """
        if self._is_async(f, "foreachPartition"):
            from asparkle.core.coroutines import AsyncForPartition

            await self._map_pipe(AsyncForPartition(f, "foreachPartition"))._run(t.CollectList())
        else:
            await self._run(t.Call(r.ForPartition(f)))

    # ------------------------------------------------------------------------- actions: files

    async def saveAsTextFile(self, path: str | os.PathLike[str], compressionCodecClass: str | None = None) -> None:
        """Write the elements as lines of text, one file for each partition: ``part-00000`` and so on, UTF-8.

        ``path``: a directory that does not exist yet, or a URL that fsspec knows (with ``asparkle[fs]``).  Strings
        are written as they are, bytes where they are valid UTF-8, other elements as ``str`` shows them.
        ``compressionCodecClass``: a codec, by the name of Hadoop's class, such as
        ``org.apache.hadoop.io.compress.GzipCodec``, or ``xz``.

        Files appear when all have been written, and then ``_SUCCESS``; a job that fails or is cancelled leaves
        nothing behind.  Of several attempts at a partition one is kept.  Raises OutputExists for what is there
        already, unless ``spark.hadoop.validateOutputSpecs`` is false, and ArgumentError for an unknown codec.

        >>> import os, pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     await sc.parallelize(["a", 1, None], 2).saveAsTextFile(f"{directory}/lines")
        ...     sorted(os.listdir(f"{directory}/lines"))
        ...     pathlib.Path(directory, "lines/part-00001").read_text().split()
        ['_SUCCESS', 'part-00000', 'part-00001']
        ['1', 'None']
        """
        from asparkle.core.codecs import codec_named
        from asparkle.core.output import WriteText, save

        path = arguments.path(path, "saveAsTextFile", "path")
        options = self._context._application.file_options
        codec = None
        if compressionCodecClass is not None:
            name = arguments.text(compressionCodecClass, "saveAsTextFile", "compressionCodecClass")
            codec = codec_named(name, options)
        await save(self, path, WriteText(codec, options))

    async def saveAsPickleFile(self, path: str | os.PathLike[str], batchSize: int = 10) -> None:
        """Write the elements as pickles, for `SparkContext.pickleFile`, here or in PySpark.

        ``path``: as for `saveAsTextFile`, as are the guarantees.  ``batchSize``: elements that are pickled
        together; 0: as many as make some 64 KB, -1: a partition's.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     await sc.parallelize([{"a": 1}, None]).saveAsPickleFile(f"{directory}/saved")
        ...     await sc.pickleFile(f"{directory}/saved").collect()
        [{'a': 1}, None]
        """
        from asparkle.core.output import save
        from asparkle.core.picklefiles import WritePickles

        path = arguments.path(path, "saveAsPickleFile", "path")
        await save(self, path, WritePickles(arguments.whole_number(batchSize, "saveAsPickleFile", "batchSize", -1)))

    async def saveAsSequenceFile(
        self: RDD[tuple[Any, Any]], path: str | os.PathLike[str], compressionCodecClass: str | None = None
    ) -> None:
        """Write the pairs as Hadoop's SequenceFiles, which Spark reads.

        Keys and values are str, int, float, bool, bytes or None, of the types that the first pair has: another
        one fails the job.  ``path``: as for `saveAsTextFile`, as are the guarantees.  ``compressionCodecClass``: a
        codec, by the name of Hadoop's class, which compresses blocks of pairs.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     await sc.parallelize([("a", 1), ("b", 2)]).saveAsSequenceFile(f"{directory}/saved")
        ...     await sc.sequenceFile(f"{directory}/saved").collect()
        [('a', 1), ('b', 2)]
        """
        from asparkle.core.codecs import class_name
        from asparkle.core.output import save
        from asparkle.core.sequencefiles import WritePairs, pair_classes

        path = arguments.path(path, "saveAsSequenceFile", "path")
        options = self._context._application.file_options
        codec = None
        if compressionCodecClass is not None:
            name = arguments.text(compressionCodecClass, "saveAsSequenceFile", "compressionCodecClass")
            codec = class_name(name, options)
        key_class, value_class = await self._in_driver(pair_classes, await self.take(1))
        await save(self, path, WritePairs(key_class, value_class, codec, options))

    # ------------------------------------------------------------------------- actions: reductions

    async def count(self) -> int:
        """How many elements there are.

        >>> await sc.parallelize("abc").count()
        3
        """
        return sum(await self._run(t.Count()))

    async def reduce(self, f: Callable[[T_co, T_co], T_co]) -> T_co:
        """The elements reduced with an associative function, in order.  Raises ValueError for an empty RDD.

        >>> await sc.parallelize(["a", "b", "c"]).reduce(lambda a, b: a + b)
        'abc'
        """
        parts = await self._run(t.CallToEnd(r.Reduce(arguments.function(f, "reduce", "f"))))
        values = r.concatenated(parts)
        if not values:
            raise EmptyRDDError("Can not reduce() empty RDD")
        return cast(T_co, await self._in_driver(functools.reduce, f, values))

    async def treeReduce(self, f: Callable[[T_co, T_co], T_co], depth: int = 2) -> T_co:
        """As `reduce`, joining the partitions' results in a tree of ``depth`` levels on the executors.

        >>> from operator import add
        >>> await sc.parallelize(range(100), 20).treeReduce(add)
        4950
        """
        from asparkle.core import actions

        depth = arguments.whole_number(depth, "treeReduce", "depth", 1)
        parts = self.mapPartitions(r.Reduce(arguments.function(f, "treeReduce", "f")))
        found = await actions.merged_in_tree(parts, r.Reduce(f), depth)
        if not found:
            raise EmptyRDDError("Cannot reduce empty RDD.")
        return cast(T_co, found[0])

    async def fold(self: RDD[T], zeroValue: T, op: Callable[[T, T], T]) -> T:
        """The elements folded with ``op`` from ``zeroValue``, in each partition and then over the partitions.

        >>> from operator import add
        >>> await sc.parallelize([1, 2, 3]).fold(0, add)
        6
        """
        parts = await self._run(t.CallToEnd(r.Fold(zeroValue, arguments.function(op, "fold", "op"))))
        return cast(T, await self._in_driver(r.folded, op, parts, zeroValue))

    @overload
    async def aggregate(self, zeroValue: R, seqOp: Callable[[R, T_co], R], combOp: Callable[[R, R], R]) -> R: ...

    @overload
    async def aggregate(
        self,
        zeroValue: tuple[*Ts],
        seqOp: Callable[[tuple[*Ts], T_co], tuple[*Ts]],
        combOp: Callable[[tuple[*Ts], tuple[*Ts]], tuple[*Ts]],
    ) -> tuple[*Ts]: ...

    @overload
    async def aggregate(self, zeroValue: U, seqOp: Callable[[U, T_co], U], combOp: Callable[[U, U], U]) -> U: ...

    async def aggregate(
        self, zeroValue: Any, seqOp: Callable[[Any, T_co], Any], combOp: Callable[[Any, Any], Any]
    ) -> Any:
        """The elements folded with ``seqOp`` from ``zeroValue`` in each partition, and these with ``combOp``.

        >>> words = sc.parallelize(["a", "bb", "ccc"])
        >>> await words.aggregate(0, lambda n, word: n + len(word), lambda n, m: n + m)
        6
        """
        arguments.function(combOp, "aggregate", "combOp")
        parts = await self._run(t.CallToEnd(r.Fold(zeroValue, arguments.function(seqOp, "aggregate", "seqOp"))))
        return await self._in_driver(r.folded, combOp, parts, zeroValue)

    @overload
    async def treeAggregate(
        self, zeroValue: R, seqOp: Callable[[R, T_co], R], combOp: Callable[[R, R], R], depth: int = 2
    ) -> R: ...

    @overload
    async def treeAggregate(
        self,
        zeroValue: tuple[*Ts],
        seqOp: Callable[[tuple[*Ts], T_co], tuple[*Ts]],
        combOp: Callable[[tuple[*Ts], tuple[*Ts]], tuple[*Ts]],
        depth: int = 2,
    ) -> tuple[*Ts]: ...

    @overload
    async def treeAggregate(
        self, zeroValue: U, seqOp: Callable[[U, T_co], U], combOp: Callable[[U, U], U], depth: int = 2
    ) -> U: ...

    async def treeAggregate(
        self, zeroValue: Any, seqOp: Callable[[Any, T_co], Any], combOp: Callable[[Any, Any], Any], depth: int = 2
    ) -> Any:
        """As `aggregate`, joining the partitions' results in a tree of ``depth`` levels on the executors.

        >>> from operator import add
        >>> await sc.parallelize(["a", "bb", "ccc"], 3).treeAggregate(0, lambda n, word: n + len(word), add)
        6
        """
        from asparkle.core import actions

        depth = arguments.whole_number(depth, "treeAggregate", "depth", 1)
        arguments.function(seqOp, "treeAggregate", "seqOp")
        arguments.function(combOp, "treeAggregate", "combOp")
        if await self.getNumPartitions() == 0:
            return zeroValue
        folded = self.mapPartitions(r.FoldOne(zeroValue, seqOp))
        found = await actions.merged_in_tree(folded, r.Reduce(combOp), depth)
        return found[0]

    @overload
    async def sum(self: RDD[Never]) -> Any: ...  # an RDD[Any]'s

    @overload
    async def sum(self: RDD[int]) -> int: ...

    @overload
    async def sum(self: RDD[float]) -> float: ...

    @overload
    async def sum(self) -> Any: ...

    async def sum(self) -> Any:
        """The sum of the elements; 0 for none.

        >>> await sc.parallelize([1, 2, 3]).sum()
        6
        """
        return in_driver(sum, await self._run(t.CallToEnd(sum)))

    async def max(self, key: Callable[[T_co], Any] | None = None) -> T_co:
        """The largest element by ``key``; the first of several.  Raises ValueError for an empty RDD.

        >>> await sc.parallelize(["a", "ccc", "bb"]).max(key=len)
        'ccc'
        """
        arguments.optional_function(key, "max", "key")
        return await self.reduce(cast("Callable[[Any, Any], T_co]", max if key is None else r.Extreme(max, key)))

    async def min(self, key: Callable[[T_co], Any] | None = None) -> T_co:
        """The smallest element by ``key``; the first of several.  Raises ValueError for an empty RDD.

        >>> await sc.parallelize([3, 1, 2]).min()
        1
        """
        arguments.optional_function(key, "min", "key")
        return await self.reduce(cast("Callable[[Any, Any], T_co]", min if key is None else r.Extreme(min, key)))

    # ------------------------------------------------------------------------- actions: statistics

    async def stats(self: RDD[Number]) -> StatCounter:
        """Count, mean, variance, maximum and minimum in one pass, numerically stable.

        Raises EmptyRDDError if there are no partitions; without elements the mean is 0 and the variance NaN.

        >>> await sc.parallelize([1, 2, 3]).stats()
        (count: 3, mean: 2.0, stdev: 0.816496580927726, max: 3.0, min: 1.0)
        """
        parts = await self._run(t.CallToEnd(StatCounter))
        if not parts:
            raise EmptyRDDError("Can not reduce() empty RDD")
        merged: StatCounter = in_driver(functools.reduce, StatCounter.mergeStats, parts, StatCounter())
        return merged

    async def mean(self: RDD[Number]) -> float:
        """The mean of the elements.

        >>> await sc.parallelize([1, 2, 3]).mean()
        2.0
        """
        return (await self.stats()).mean()

    async def variance(self: RDD[Number]) -> float:
        """The variance, dividing by the count.

        >>> await sc.parallelize([1, 3]).variance()
        1.0
        """
        return (await self.stats()).variance()

    async def stdev(self: RDD[Number]) -> float:
        """The standard deviation, dividing by the count.

        >>> await sc.parallelize([1, 3]).stdev()
        1.0
        """
        return (await self.stats()).stdev()

    async def sampleStdev(self: RDD[Number]) -> float:
        """The standard deviation, dividing by the count less one.

        >>> await sc.parallelize([1, 2, 3]).sampleStdev()
        1.0
        """
        return (await self.stats()).sampleStdev()

    async def sampleVariance(self: RDD[Number]) -> float:
        """The variance, dividing by the count less one.

        >>> await sc.parallelize([1, 2, 3]).sampleVariance()
        1.0
        """
        return (await self.stats()).sampleVariance()

    @overload
    async def histogram(self: RDD[float], buckets: int) -> tuple[list[float], list[int]]: ...

    @overload
    async def histogram(self, buckets: int) -> tuple[list[T_co], list[int]]: ...

    @overload
    async def histogram(self, buckets: B) -> tuple[B, list[int]]: ...

    async def histogram(self, buckets: Any) -> tuple[Any, list[int]]:
        """How many elements lie in each bucket: (the bounds, the counts).

        ``buckets``: sorted bounds, or a number of equal buckets between minimum and maximum.  A bucket
        holds its lower bound and not its upper one, but the last holds both.

        >>> await sc.parallelize(range(51)).histogram(2)
        ([0, 25, 50], [25, 26])
        >>> await sc.parallelize(range(51)).histogram([0, 5, 25, 50])
        ([0, 5, 25, 50], [5, 20, 26])
        """
        from asparkle.core import histograms

        return await histograms.histogram(self, buckets)

    # ------------------------------------------------------------------------- actions: about

    async def countApprox(self, timeout: int, confidence: float = 0.95) -> int:
        """About how many elements there are, from what is counted within ``timeout`` milliseconds.

        Exact if all partitions are done in time.  ``confidence`` is that of the bounds which `sumApprox` gives.

        >>> await sc.parallelize(range(1000), 10).countApprox(10_000)
        1000
        """
        from asparkle.core import approximate

        counts = self._map_pipe(t.MapPartitions(r.counted))
        return int(await approximate.sum_approx(counts, "countApprox", timeout, confidence))

    async def sumApprox(self: RDD[float], timeout: int, confidence: float = 0.95) -> BoundedFloat:
        """About the sum, from what is done within ``timeout`` milliseconds: a float with ``low`` and ``high``.

        The sum lies between these with probability ``confidence``, if the partitions that are missing are like the
        others.  Exact if all are done in time.  The job is cancelled then.

        >>> estimate = await sc.parallelize(range(1000), 10).sumApprox(10_000)
        >>> estimate, estimate.low, estimate.high
        (499500.0, 499500.0, 499500.0)
        """
        from asparkle.core import approximate

        sums = self._map_pipe(t.MapPartitions(r.summed))
        return await approximate.sum_approx(sums, "sumApprox", timeout, confidence)

    async def meanApprox(self: RDD[float], timeout: int, confidence: float = 0.95) -> BoundedFloat:
        """About the mean, as `sumApprox`.

        >>> await sc.parallelize(range(1000), 10).meanApprox(10_000)
        499.5
        """
        from asparkle.core import approximate

        return await approximate.mean_approx(self, "meanApprox", timeout, confidence)

    async def countApproxDistinct(self: RDD[K], relativeSD: float = 0.05) -> int:
        """About how many different elements there are, in little memory (HyperLogLog).

        ``relativeSD``: the standard deviation of the result, relative to it; above 0.000017, and half of it takes four
        times as much memory.

        >>> 900 < await sc.parallelize(range(10_000)).map(lambda x: x % 1000).countApproxDistinct() < 1100
        True
        """
        from asparkle.core import actions

        return await actions.count_approx_distinct(self, relativeSD)

    # ------------------------------------------------------------------------- actions: pairs

    async def countByKey(self: RDD[tuple[K, V]]) -> dict[K, int]:
        """How many pairs each key has.

        >>> sorted((await sc.parallelize([("a", 1), ("b", 1), ("a", 1)]).countByKey()).items())
        [('a', 2), ('b', 1)]
        """
        parts = await self._run(t.CallToEnd(r.count_keys))
        return cast("dict[K, int]", await self._in_driver(r.added_up, parts))

    async def countByValue(self: RDD[K]) -> dict[K, int]:
        """How often each element occurs.

        >>> sorted((await sc.parallelize([1, 2, 1]).countByValue()).items())
        [(1, 2), (2, 1)]
        """
        parts = await self._run(t.CallToEnd(r.count_values))
        return cast("dict[K, int]", await self._in_driver(r.added_up, parts))

    async def collectAsMap(self: RDD[tuple[K, V]]) -> dict[K, V]:
        """The pairs as a dict; of several with one key, the last.

        >>> await sc.parallelize([("a", 1), ("b", 2)]).collectAsMap()
        {'a': 1, 'b': 2}
        """
        parts = await self._run(t.CollectList())
        return cast("dict[K, V]", await self._in_driver(r.as_dict, parts))

    async def reduceByKeyLocally(self: RDD[tuple[K, V]], func: Callable[[V, V], V]) -> dict[K, V]:
        """As `reduceByKey`, as a dict in the driver.

        >>> from operator import add
        >>> await sc.parallelize([("a", 1), ("b", 1), ("a", 1)]).reduceByKeyLocally(add)
        {'a': 2, 'b': 1}
        """
        parts = await self._run(t.CallToEnd(r.ReduceKeys(arguments.function(func, "reduceByKeyLocally", "func"))))
        return cast("dict[K, V]", await self._in_driver(r.merged_dicts, func, parts))

    async def lookup(self: RDD[tuple[K, V]], key: K) -> list[V]:
        """The values of a key.  Where the RDD has a partitioner, only one partition is computed.

        >>> await sc.parallelize([("a", 1), ("b", 2), ("a", 3)]).lookup("a")
        [1, 3]
        """
        partitioner = await self.partitioner()
        partitions = None if partitioner is None else [await self._in_driver(partitioner, key)]
        return r.concatenated(await self._run(t.CallToEnd(r.ValuesOf(key)), partitions))

    # ------------------------------------------------------------------------- of the JVM

    def saveAsHadoopFile(
        self: RDD[tuple[Any, Any]],
        path: str,
        outputFormatClass: str,
        keyClass: str | None = None,
        valueClass: str | None = None,
        keyConverter: str | None = None,
        valueConverter: str | None = None,
        conf: Mapping[str, str] | None = None,
        compressionCodecClass: str | None = None,
    ) -> None:
        """Raises NeedsJVM: output formats are Java classes.

        Write text with ``saveAsTextFile``, and other formats with a Python library in `foreachPartition`.
        """
        raise NeedsJVM("saveAsHadoopFile", _WRITERS)

    def saveAsNewAPIHadoopFile(
        self: RDD[tuple[Any, Any]],
        path: str,
        outputFormatClass: str,
        keyClass: str | None = None,
        valueClass: str | None = None,
        keyConverter: str | None = None,
        valueConverter: str | None = None,
        conf: Mapping[str, str] | None = None,
    ) -> None:
        """Raises NeedsJVM, as `saveAsHadoopFile`."""
        raise NeedsJVM("saveAsNewAPIHadoopFile", _WRITERS)

    def saveAsHadoopDataset(
        self: RDD[tuple[Any, Any]],
        conf: Mapping[str, str],
        keyConverter: str | None = None,
        valueConverter: str | None = None,
    ) -> None:
        """Raises NeedsJVM, as `saveAsHadoopFile`."""
        raise NeedsJVM("saveAsHadoopDataset", _WRITERS)

    def saveAsNewAPIHadoopDataset(
        self: RDD[tuple[Any, Any]],
        conf: Mapping[str, str],
        keyConverter: str | None = None,
        valueConverter: str | None = None,
    ) -> None:
        """Raises NeedsJVM, as `saveAsHadoopFile`."""
        raise NeedsJVM("saveAsNewAPIHadoopDataset", _WRITERS)


_NO_PARAMETERS = (None, True, None, 0, None, "raise")


def _calls(f: Any, operation: str, *parameters: Any) -> Calls | None:
    """How a coroutine function is to be called; None for a plain one, and then ``parameters`` are not given."""
    if parameters == _NO_PARAMETERS and arguments.surely_plain(f):
        return None
    from asparkle.core.coroutines import calls

    return calls(f, operation, *parameters)


def _hashed(numPartitions: int | None, partitionFunc: Callable[[Any], int], operation: str) -> PartitionerPlan:
    n = arguments.optional_partitions(numPartitions, operation)
    (function,) = fixed(arguments.function(partitionFunc, operation, "partitionFunc"))
    return DefaultHash(n, function)


def _deprecated(name: str, instead: str) -> None:
    warnings.warn(f"{name} is deprecated; {instead}", FutureWarning, stacklevel=3)


def _seed(given: int | None, operation: str) -> int:
    """The seed that was given, or a new one."""
    seed = arguments.seed(given, operation)
    if seed is None:
        import random  # late: it is not needed to start

        seed = random.getrandbits(62)  # of those that `random.seed` repeats
    return seed
