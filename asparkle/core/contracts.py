"""What asparkle asks of its plugins: cluster managers, executors, stores, policies, codecs, listeners, sinks.

Abstract base classes, so that a later version may add a method with a default.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import IO, TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from asparkle.core.namedtuple import NamedTuple

if TYPE_CHECKING:
    from asparkle.core.conf import SparkConf
    from asparkle.core.hostfiles import HostFiles
    from asparkle.core.protocol import ToDriver, ToExecutor

Buffer: TypeAlias = bytes | bytearray | memoryview
BlockId: TypeAlias = tuple[int, int]
"""(rdd, partition) of a cached partition.  The scheduler's messages have it too: they import nothing, and workers
do not import them."""


class AppSpec(NamedTuple):
    """What a worker must know of the application: plain data, the same for every executor, but for what says where it
    is (``host``, ``dialer``, ``directories``, ``path``, ``directory``) and what it may keep (``storage_memory``)."""

    app_id: str
    name: str
    master: str  # the whole URL
    directories: tuple[str, ...]  # this application's own, one below each of spark.local.dir
    slots_per_executor: int  # all that the master URL asks for where the executor is the driver's process, else one
    worker_memory: int  # spark.python.worker.memory: bytes before aggregation and sort spill
    storage_memory: int  # bytes of cached blocks that one executor keeps in its heap
    direct_result: int  # larger results go by file
    kill_timeout: float  # spark.task.reaper.killTimeout, seconds
    task_cpus: int  # spark.task.cpus
    environment: dict[str, str]  # spark.executorEnv.*: all workers have it
    path: tuple[str, ...]  # the driver's sys.path, which workers on its host have, too
    directory: str  # and its working directory, likewise; the driver tells them when one of the two changes
    disk_store: str  # "module:Class", loaded in workers: asparkle.store.disk
    shuffle_store: str  # likewise, and in the driver: asparkle.store.shuffle
    cache_policy: str  # likewise: asparkle.cache.policy
    serializer: str  # likewise, in workers and in the driver: asparkle.serializer
    settings: dict[str, str]  # what is set of the keys of the plugins in use: `ConfigKey.read(app.settings)`
    in_process: bool = False  # every executor lives in the driver's process
    task_scopes: tuple[str, ...] = ()  # "module:function", loaded in workers: what surrounds each attempt
    packages: tuple[tuple[str, str], ...] = ()  # (name, version) of the plugins of which workers load something
    host: str = ""  # whose files `directories` are; empty: the driver's, which its worker then shares
    dialer: str = ""  # "module:function", loaded in workers: called with this, it gives a `Dial` to other hosts' files
    fetch_ahead: int = 48 << 20  # spark.reducer.maxSizeInFlight: bytes of other hosts' map outputs that wait for a task
    network_timeout: float = 30.0  # spark.network.timeout, seconds

    @property
    def hash_seed(self) -> str:
        """What all workers have for PYTHONHASHSEED, whenever they are started, so that they agree on keys."""
        wanted = self.environment.get("PYTHONHASHSEED") or os.environ.get("PYTHONHASHSEED", "")
        return wanted if wanted.isdigit() else "0"

    @classmethod
    def from_plain(cls, fields: dict[str, Any]) -> AppSpec:
        """Of ``_asdict()``, as it came through msgpack or JSON, which make tuples lists."""
        return cls(**{name: _tuples(value) for name, value in fields.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


class Connection(Protocol):
    """A stream of bytes to the file server of a host, such as a blocking `socket.socket`.

    It is connected, and both ends know whom they talk to.  One thread at a time uses it, but for `shutdown`.  If it has
    an attribute ``route``, a word, events tell by it how bytes came ("direct" unless it says so).
    """

    def sendall(self, data: Buffer, /) -> object:
        """Send all of it.  Raises OSError: TimeoutError after the time that was set."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Receive at least one byte; 0: the other side has closed it.  Raises as `sendall` does."""

    def settimeout(self, seconds: float, /) -> None:
        """How long each of these calls may do nothing."""

    def shutdown(self, how: int, /) -> None:
        """End it, as `socket.SHUT_RD` and so on say: a thread that waits for the other side waits no more.

        Raises OSError if it has ended already."""

    def close(self) -> None:
        """It is used no more."""


Dial: TypeAlias = Callable[[str], Connection]
"""Connects to the file server of the host with this name ("": the driver's).  Blocks, for a bounded time; called in any
thread.  Raises OSError where that host can't be reached: at once, if that is known."""


class ExecutorInfo(NamedTuple):
    """``epoch``: no two executors have it and the ``id``; a later one of that id has a greater one.  ``host``: tasks
    prefer it for blocks that lie there; executors with one host share its files; it is also the `AppSpec.host` of a
    worker that does not share the driver's files.  ``slots``: how many tasks it runs at once.  ``pid``: its process, as
    it knows it, where that is known.  ``labels``: texts by text, such as ``{"accelerator": "a100"}``, for those who
    read events and logs; nothing else depends on them."""

    id: str
    epoch: int
    host: str
    slots: int
    pid: int | None = None
    labels: Mapping[str, str] = {}


class Lost(NamedTuple):
    """Why an executor is gone.

    ``reason``: in words, for messages.  ``blame``: whether what ran there may have brought it about, and so counts as
    failed: not where the executor was released, or `Executor.kill` was called.  ``running``: the attempts that ran,
    where that is known.  ``blocks_survive``: what it wrote to disk can still be read by others on its host.
    """

    reason: str
    blame: bool = True
    running: Collection[int] | None = None
    blocks_survive: bool = True


class Executor(ABC):
    """One ordered duplex channel to a worker runtime.

    Messages arrive in the order in which they were sent, each at most once, of any size.  None is left out while
    the executor lives; what was under way when it is lost may not arrive at all.
    """

    info: ExecutorInfo

    @abstractmethod
    def send(self, messages: Sequence[ToExecutor]) -> None:
        """Hand messages over.  Never blocks and never fails: to an executor that is gone, nothing is sent."""

    @abstractmethod
    async def receive(self) -> Sequence[ToDriver] | Lost:
        """The next reports, at least one; or, once and last, that the executor is lost and why.

        Cancelled, it loses nothing.
        """

    @abstractmethod
    def kill(self) -> bool:
        """End the worker by force, now; `receive` then says so.  False where that can't be done (a thread).

        Does nothing to a worker that is gone.
        """


class Cluster(ABC):
    """The executors of one application.

    ``blocks_survive``: what an executor has written (shuffle files, blocks on disk) can still be read once it is
    released.  If not, dynamic allocation keeps executors whose files are needed.
    ``shares_files``: all executors see the driver's files.  If not, those that don't have an `AppSpec.host`, and `dial`
    is how the driver reaches what lies there.
    """

    blocks_survive = True
    shares_files = True

    @abstractmethod
    async def added(self) -> Executor:
        """The next executor that is ready to be sent tasks.  Waits for ever when there will be none.

        Each is returned once: of two with one id, the later has the greater epoch.  Raises `errors.NoExecutors` when
        executors can't be started, so that jobs fail instead of waiting.
        """

    @abstractmethod
    async def set_target(self, executors: int) -> None:
        """How many executors, of ``AppSpec.slots_per_executor`` slots each, the application would like.

        Called before any is asked for by `added`, and again whenever the number changes, as it does under dynamic
        allocation; with 1 where the manager is ``in_process``.  Does not wait for them.  A smaller number ends none of
        those there are: see `release`.
        """

    def lost(self, executor: str) -> None:
        """The driver has taken note that an executor is lost: bring another, if the target asks for it."""

    @abstractmethod
    async def release(self, ids: Collection[str]) -> None:
        """Give executors back: they run nothing, and are sent nothing any more.  The target sinks by as many.

        Each is to end in a moment, by itself or by force, and its `Executor.receive` to say so.  An id that is not
        known, or was lost meanwhile, only lowers the target.
        """

    def dial(self, host: str) -> Connection:
        """A connection to the file server of a host whose executors do not share the driver's files: a `Dial`, the
        driver's.  Optional: only a cluster that has `shares_files` = False needs it."""
        raise OSError(f"host {host!r} can't be reached: {type(self).__qualname__} has no dial()")


class ClusterManager(ABC):
    """Brings executors, in which tasks give what they give anywhere.  Leaving the context ends them all, and leaves
    nothing behind on any path.

    The class is called without arguments, and starts nothing: what it must know is in the `AppSpec` that `open` gets.
    The event loop may be asyncio's or trio's.
    ``in_process``: its executors live in the driver's process, and are handed objects as they are.
    """

    in_process = False

    @abstractmethod
    def open(self, app: AppSpec) -> AbstractAsyncContextManager[Cluster]:
        """The application's cluster, for as long as the context lives.

        Entering it does not wait for executors.  Leaving it, however that comes about (an error, a cancelled task),
        ends all of them, waits until they are gone, and deletes what they have left.
        """

    def executors(self, url: str) -> int:
        """How many executors the master ``url`` asks for; ``spark.executor.instances``, where it is set, goes first.

        Raises `errors.ConfigurationError` for a URL that can't be understood, naming it and the form that is expected:
        called when the context is made, before anything is started.
        """
        return 1

    def prestart(self, app: AppSpec, executors: int) -> None:
        """Begin what takes time and needs no event loop (starting processes), before `open`.  Optional.

        ``executors``: the first target of the cluster that `open` will give.
        """

    def abandon(self) -> None:
        """Undo `prestart` when `open` will not follow."""


class BlockFacts(NamedTuple):
    """What a cache policy may know of a block that is stored."""

    size: int  # bytes that it takes of the store's memory
    seconds: float = 0.0  # that computing it took; 0 where it is a copy of what another executor has
    on_disk: bool = False  # it goes to disk when it leaves: to have it back is to read it, not to compute it


class CachePolicy(ABC):
    """Which blocks leave a full store first.  Called under the store's lock; must be quick, with many blocks, too.

    The class is called with the application's `AppSpec`, once in each worker.  A policy is told of every block of the
    store, and of no other; it says in which order they should leave, and the store which of them do: never one for
    another of the same RDD, and no more than must.
    """

    def __init__(self, app: AppSpec) -> None:
        self.app = app

    @abstractmethod
    def touch(self, block: BlockId) -> None:
        """``block`` was stored or read."""

    def stored(self, block: BlockId, facts: BlockFacts) -> None:
        """``block`` was stored, and this is known of it.  Calls `touch`, for policies that need not know."""
        self.touch(block)

    @abstractmethod
    def forget(self, block: BlockId) -> None:
        """``block`` has left the store, or was never there.  The policy keeps nothing of it."""

    @abstractmethod
    def victims(self) -> Iterable[BlockId]:
        """The blocks of the store, each once, and no others; the one to go first in front.

        Asking changes nothing.  It may be left before its end; until then no other method is called.  Mostly no more
        than the first few are read: an iterator that finds them one by one is better than a list.
        """


class TaskSetFacts(NamedTuple):
    """What a scheduling policy may know of a task set: the tasks of one stage that are still to be done."""

    stage: int  # its number
    name: str  # and its name
    pool: str  # of its job, as the local property `spark.scheduler.pool` said
    submission: int  # of its job: lower than that of all later ones
    properties: Mapping[str, str]  # local properties of its job
    tasks: int  # that the stage was started with
    left: int  # of these, that have not succeeded yet
    running: int  # attempts at them that are presumed to run


class PoolFacts(NamedTuple):
    """What a scheduling policy may know of a pool that has task sets."""

    name: str
    weight: int  # as the pools' file says; 1 unless said
    min_share: int  # likewise; 0 unless said
    running: int  # attempts of all its task sets that are presumed to run


Rank: TypeAlias = tuple[float, ...]


class SchedulingPolicy(ABC):
    """Which jobs get free slots first.  Called on the event loop; must be quick.

    The class is called with the context's `SparkConf`, once for ``spark.scheduler.mode``, and once for each pool whose
    ``schedulingMode`` it is in the file of pools.  A free slot goes to the task set of the lowest rank that can use
    it, whatever runs already; of those with one rank, to the one whose job was submitted first.  What it is told is not
    its to change.

    A policy of a plugin that raises, or returns what is no rank, is not asked again: an error is logged that names it,
    and jobs that come later get slots in the order of their submission, after those that the policy has ranked.
    """

    pools: bool = False
    """Whether, as the mode of a context, it shares slots between pools, by `rank_pool`; the task sets of a pool are
    then ranked by the pool's own mode, FIFO unless the file of pools says otherwise.  If not, there are no pools: all
    task sets are ranked together."""
    fixed: bool = False
    """Whether ranks depend on nothing that changes while tasks run (``left``, ``running``).  Then each is asked for
    once, which is quicker."""

    def __init__(self, conf: SparkConf | None = None) -> None:
        from asparkle.core.conf import SparkConf

        self.conf = SparkConf() if conf is None else conf

    @abstractmethod
    def rank(self, tasks: TaskSetFacts) -> Rank:
        """What the task set is compared by, the lowest first: a tuple of numbers, which may be empty."""

    def rank_pool(self, pool: PoolFacts) -> Rank:
        """The same, of a pool.  Pools of one rank come in the order of their names."""
        return ()


class BlockStore(ABC):
    """Keeps serialized cached partitions, on the host's disk or beyond.  Thread-safe; called off the event loop.

    The class is called with the application's `AppSpec`, once in each worker.  Below each of ``AppSpec.directories`` is
    a directory ``blocks`` for it to use.  They are the same for all of the host's workers, and are deleted with what is
    in them when the application ends; what a store keeps elsewhere is its own to delete.  A block outlives the worker
    that put it: every worker of the host finds it, under the same `BlockId`.

    Uses no more descriptors and threads the more blocks there have been.
    """

    def __init__(self, app: AppSpec) -> None:
        self.app = app

    @abstractmethod
    def put(self, block: BlockId, chunks: Iterable[Buffer]) -> int:
        """Keep the bytes, those of all chunks in order; returns how many.

        What was put before under the same id is replaced.  A block is seen as a whole or not at all, by whoever asks
        for it meanwhile.  Raises `errors.StoreFull` or `errors.StorageError`, having kept nothing of it.  What
        ``chunks`` raises is passed on, likewise: they are computed as they are asked for.
        """

    @abstractmethod
    def get(self, block: BlockId) -> memoryview | None:
        """The bytes that were put, as one view (a memory map, say), or None where there is no such block.

        The view stays as it is when the block is removed or put again, or others are read.
        """

    @abstractmethod
    def remove(self, block: BlockId) -> bool:
        """Forget ``block``; says whether it was there."""


MapOutputId: TypeAlias = tuple[int, int, int]
"""(shuffle, partition, attempt) of what one attempt at a map task writes.  Attempts of one application are numbered as
they are launched, so no two outputs have the same."""


class MapOutputWriter(ABC):
    """One attempt's map output on its way into a `ShuffleStore`.  Used by one thread."""

    @abstractmethod
    def write(self, pieces: Sequence[tuple[int, Sequence[Buffer]]]) -> None:
        """Append pieces, some megabytes of them or one: each is a partition and its next bytes, in chunks.

        Called in rounds, in each of which partitions rise; there is one round unless the task's memory was short.  The
        chunks are views of the task's data: write or copy them before returning.  Raises `errors.StorageError` where
        there is no room or the store can't be reached: the attempt has failed.
        """

    @abstractmethod
    def commit(self) -> Any:
        """All is written: the output can be read from now on, by everybody, whole.

        Returns where it lies, for `ShuffleStore.open`: plain data that msgpack carries, not None, and small, as every
        worker that reads the shuffle gets those of all outputs.

        Called once at most, and last.  Raises as `write` does, having made nothing readable.
        """

    @abstractmethod
    def abort(self) -> None:
        """The attempt has failed, perhaps in `write` or `commit`: leave nothing.  Called last, if it is called."""


class MapOutputReader(ABC):
    """One partition of one map output, as one string of bytes: its pieces, joined.  Used by one thread."""

    @abstractmethod
    def read(self, offset: int, count: int) -> memoryview:
        """The ``count`` bytes from ``offset``; fewer where a piece ends, none at the end of the partition.

        The memory is the caller's: writable, nobody else's (a map copy-on-write will do), and valid as long as there is
        a view of it.  ``offset`` mostly rises.  Raises `errors.CorruptBlock` or OSError for what is not there as it was
        written: see `ShuffleStore.open`.
        """

    def close(self) -> None:
        """Nothing more is read; memory that was given out stays valid."""
        return None


class ShuffleStore(ABC):
    """Keeps map outputs: what map tasks write for the tasks of the next stage.  Thread-safe; called off the event loop.

    The class is called with the application's `AppSpec`, once in each worker and in the driver, when that needs it.
    An output of a few kilobytes never gets here: it travels in messages.  asparkle checks what it reads, each piece and
    how long they are together, so a store need not.  ``AppSpec.directories`` are for it to use, on this host, and are
    deleted at the end; what it keeps elsewhere is its own to delete, by `remove` and `close`.

    Uses no more descriptors and threads the more outputs there have been.
    """

    scope: Literal["worker", "host", "shared"] = "host"
    """What an output outlives: ``worker``, nothing but the attempt: it is lost with the worker that wrote it;
    ``host``, that worker, unless the cluster manager says that the host's blocks have gone, too; ``shared``, worker and
    host.  Map tasks whose outputs are lost run again before anybody asks for them."""

    def __init__(self, app: AppSpec) -> None:
        self.app = app

    @abstractmethod
    def begin(self, output: MapOutputId, partitions: int) -> MapOutputWriter:
        """Where an attempt writes.  Several attempts at one partition may write at once; each output is kept until it
        is removed, and what was not committed is never read.  Raises as `MapOutputWriter.write` does."""

    @abstractmethod
    def open(self, location: Any, partition: int) -> MapOutputReader:
        """A partition of the output that `MapOutputWriter.commit` put at ``location``, in this worker or another.

        Only asked of partitions in which something was written.  Raises OSError where the output is not there or can't
        be reached, and `errors.CorruptBlock` where it is not what was written: the map task then runs again, and the
        reader after it.  So what may pass, such as a connection that is refused, a store tries again by itself.
        Anything else fails the attempt.
        """

    def open_all(self, pieces: Sequence[tuple[Any, int, Sequence[int]]]) -> Iterator[MapOutputReader]:
        """Readers of several outputs, one for each of ``pieces``: (location, partition, how many bytes were written for
        each partition of that output), in this order.

        A reader is asked for when the one before it is closed, and may be the last that is: then the iterator is closed
        (it is a generator, or has a ``close``).  So a store that reads over a network can ask for many pieces at once,
        and read ahead; it holds a bounded amount, say ``AppSpec.fetch_ahead``.  Raises as `open` does, for the piece
        that is next, and gives no more then.  Calls `open` for each, unless a store does better.
        """
        for location, partition, _ in pieces:
            yield self.open(location, partition)

    def has(self, location: Any) -> bool:
        """Whether the output may be there: False where it surely is not.  Quick: asked of all outputs of a shuffle when
        one of them is lost, so that all those map tasks run again at once."""
        return True

    @abstractmethod
    def remove(self, shuffle: int, before: int) -> None:
        """Forget the shuffle's outputs whose attempts have smaller numbers than ``before``; later ones may be written
        meanwhile.  Called in the driver; for a store of scope ``host`` also in workers that do not share the driver's
        files (`AppSpec.host`), to forget what is on theirs.  It is no error if there are none, or another removes them
        at the same time."""

    def use(self, files: HostFiles) -> None:
        """How this process reads other hosts' files.  Called once, before anything else."""
        return None

    def close(self) -> None:
        """The application ends, and all its workers have: forget all its outputs.  Called in the driver."""
        return None


class Serializer(ABC):
    """How elements become bytes: those of shuffles, spills, cached partitions and results, in batches.

    Functions, broadcast values, what the driver has of a collection and what asparkle says to its workers are pickled,
    whatever the serializer.  The class is called with the application's `AppSpec`, once in each worker and in the
    driver.  Its methods are called often, also at once in several threads.
    """

    is_pickle: bool = False
    """Whether one chunk alone is a pickle, of protocol 5, that `pickle.loads` reads: it then goes to the driver as it
    is, not in a frame."""

    def __init__(self, app: AppSpec) -> None:
        self.app = app

    @abstractmethod
    def dumps(self, value: Any) -> Sequence[Buffer]:
        """``value`` as bytes: one chunk at least, each of single bytes.

        ``value`` is a list of elements, or what a task returns; or, in shuffles and spills, tuples of such lists, whose
        keys and values may be anything: keys that are strings come joined into one.  It is not to be changed.  Chunks
        are not copied before they are written, and stay what they are, whatever is serialized meanwhile; where they are
        read, they lie multiples of 64 bytes apart: an array may be a chunk of its own.  Raises anything for a value
        that can't be serialized: the job fails with `errors.PicklingFailed`, which names it, at once.
        """

    @abstractmethod
    def loads(self, chunks: Sequence[Buffer]) -> Any:
        """What `dumps` was given: equal to it and of the same types, tuples and lists told apart; new each time.

        ``chunks``: views, as many, and as long, as `dumps` gave, checked against what was written; `dumps` may have
        been another object's, in another process.  They are memory that nobody else uses, mostly writable, and stay
        valid as long as anything refers to them: an array may be a view.
        """


class Codec(ABC):
    """One way to compress files.  Both methods are streams: they hold a bounded part of a file in memory.

    The class is called without arguments, in the driver and in workers, where a file is read or written; it raises
    `errors.MissingDependency` where a package that it needs is not installed.  An object has no state: it serves any
    number of files, also at once and in several threads.  What is written can be read again, also where several such
    files are joined to one.  A compressed file is one partition, as nothing is said of where else it could be begun.
    """

    name: str = ""
    """What errors call it; the class's name unless set."""

    @abstractmethod
    def read(self, file: IO[bytes]) -> Iterator[bytes]:
        """The content of a compressed ``file``, in chunks of some megabytes at most; none is empty.

        Reads ``file`` from front to back, by ``file.read(count)`` alone, which may give less than ``count`` before the
        end, and leaves it open.  Raises EOFError if the file ends too early and ValueError if it is damaged, which
        users get as `errors.CorruptInput`, with its path; what ``file`` raises passes.
        """

    @abstractmethod
    def write(self, file: IO[bytes]) -> IO[bytes]:
        """A file to write to, whose content goes to ``file`` compressed, by ``file.write(data)`` alone.

        Closing it, or leaving it as a context manager, writes what is left and leaves ``file`` open.  What ``file``
        raises passes, while it is written to or when it is closed.
        """


FILE_SYSTEM: Final = "fsspec:AbstractFileSystem"
"""The contract of file systems, which is fsspec's own; by its path, as fsspec is an extra."""


class Listener(ABC):
    """Receives an application's events, one at a time, in the order in which they happened.

    ``on_event`` may be a coroutine or a plain method.  A coroutine runs on the context's event loop and
    must not block it; a plain method runs in a thread of its own and may.  Either gets an event some time after it
    happened; with ``at_once``, a plain method is called on the event loop, before anybody learns of it otherwise.
    An exception is logged once, with the listener's name; then, by ``on_error``, the listener stays (the default)
    or is removed.  A listener keeps up with the events, or misses some: they wait in a queue of its own, of
    ``asparkle.listener.queue.size``.
    """

    name: str = ""
    """What logs call it; the class's name unless set."""
    events: tuple[type, ...] = ()
    """The event types that it wants, subclasses included; none: all."""
    at_once: bool = False
    """Whether jobs wait for ``on_event``, a plain method that must not block and take next to no time: `JobEnded` has
    been handled when the job's caller gets the result."""
    on_error: Literal["stay", "remove"] = "stay"

    @abstractmethod
    def on_event(self, event: Any) -> Awaitable[None] | None:
        """One event.  Called never at once with another call of the same listener.

        Events of later versions may be of other types, and what is added while jobs run has not heard of all that came
        before: a listener passes over what it does not know.
        """

    def close(self) -> Awaitable[None] | None:
        """After the last event: the context stops, or the listener is removed.  A coroutine if, and only
        if, ``on_event`` is one.  Not called when the flush's deadline has passed.

        Gives back what the listener has taken: threads, files, connections.
        """
        return None


class Metric(NamedTuple):
    """What one metric is at one moment.  All of one name have the same kind, help and label names.

    The ``value`` of a counter only grows, that of a gauge is what it is now.  That of a histogram is the sum of what
    was observed; each of its ``buckets`` is (bound, count, sum) of the observations up to that bound and above the one
    before.
    """

    name: str  # 'tasks', 'task_run_seconds', 'cached_bytes': with its unit, unless it is a number of things
    kind: str  # 'counter', 'gauge' or 'histogram'
    help: str  # a sentence
    value: float
    labels: tuple[tuple[str, str], ...] = ()  # names and values: (('outcome', 'success'),)
    buckets: tuple[tuple[float, int, float], ...] = ()  # by rising bound, the last of which is infinite


class Metrics(NamedTuple):
    """All metrics of one application at one moment: plain data that nobody changes any more."""

    application: str  # its id, which no other has
    name: str
    master: str
    metrics: tuple[Metric, ...]  # those of one name follow one another


class MetricSink(ABC):
    """Takes an application's metrics elsewhere: it is pushed what they are, or asks when it wants to know.

    The class is called with the context's `SparkConf`, when the context is made, and raises
    `errors.ConfigurationError` for settings that it can't use; it starts and opens nothing then.  A sink serves
    one context, beside those of other contexts.  Its methods are called one at a time, in a thread of its own: they may
    block, and hold up neither jobs nor other sinks.  Each returns or raises in time, whether or not anybody answers.
    The first exception of each of them is logged, with the sink's name, and fails nothing.  When the context stops, the
    last report and `close` have ``asparkle.listener.flush.timeout``; a sink that has not returned then is left behind,
    and this is logged.
    """

    name: str = ""
    """What logs call it; the class's name unless set."""

    def __init__(self, conf: SparkConf | None = None) -> None:
        from asparkle.core.conf import SparkConf

        self.conf = SparkConf() if conf is None else conf

    def open(self, read: Callable[[], Metrics]) -> None:
        """First of all, when the application starts.  A sink that raises here is given up: nothing else is called.

        ``read``: what the metrics are now; quick, and may be called in any thread, at any time, also after `close`.
        """
        return None

    @abstractmethod
    def report(self, metrics: Metrics) -> None:
        """Every ``asparkle.metrics.interval``, and once more when all has been counted: the application has ended."""

    def close(self) -> None:
        """After the last report: give back what `open` and `report` have taken (threads, ports, connections)."""
        return None
