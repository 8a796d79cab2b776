"""The entry point: a connection to the executors, and the way to RDDs and shared variables."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, ParamSpec, TypeVar, overload

import anyio

from asparkle.core import arguments, sources
from asparkle.core.accumulators import Accumulator, AccumulatorParam, default_param, live_accumulators
from asparkle.core.admission import Admission
from asparkle.core.application import Application
from asparkle.core.broadcast import Broadcast, file_name
from asparkle.core.bus import Bus
from asparkle.core.conf import ARCHIVES, FILES, PROFILE, PROFILE_DUMP
from asparkle.core.contracts import Listener
from asparkle.core.directories import added_files, files_below
from asparkle.core.driver import Driver
from asparkle.core.driveronly import DriverOnly
from asparkle.core.errors import (
    ArgumentError,
    ArgumentTypeError,
    ContextError,
    ContextStopped,
    ForkedContextError,
    NeedsJVM,
    NestedContextError,
)
from asparkle.core.lineage import Node, Union, fix
from asparkle.core.localproperties import DEADLINE, DESCRIPTION, GROUP, INTERRUPT, TAGS, LocalProperties
from asparkle.core.logs import logging_for
from asparkle.core.loop import clean_up, current_loop, in_thread, loop_caller, start_detached
from asparkle.core.payloads import write_file
from asparkle.core.plan import Planner
from asparkle.core.rdd import RDD
from asparkle.core.serializer import dumps, pack_frame
from asparkle.core.shown import shown
from asparkle.core.taskcontext import TaskContext
from asparkle.core.transforms import Call, Sink

if TYPE_CHECKING:
    from typing import Self

    from asparkle.core.addedfiles import AddedFiles
    from asparkle.core.checkpoints import Checkpoints
    from asparkle.core.conf import SparkConf
    from asparkle.core.events import Event
    from asparkle.core.eventstreams import EventStream, ReadFeed
    from asparkle.core.filesystems import Options
    from asparkle.core.handles import JobHandle
    from asparkle.core.inputfiles import InputFile
    from asparkle.core.jobs import JobOptions
    from asparkle.core.profiling import Profiler, Profilers
    from asparkle.core.status import StatusTracker
    from asparkle.core.wishedevents import WishedEvents

T = TypeVar("T")
U = TypeVar("U")
P = ParamSpec("P")
E = TypeVar("E")
F = TypeVar("F", bound="ReadFeed")
_READERS = "textFile, or mapPartitions over file names with a Python library for the format"  # not Java's input formats


class SparkContext(DriverOnly):
    """A connection to executors, for asynchronous programs.

    Used with ``async with``; leaving the block ends all executors and removes all files, whatever went
    wrong inside.  Everything that may do I/O or run a job is a coroutine.  There may be many contexts at
    once, on asyncio or trio.

    Job groups, tags, descriptions and local properties are context variables: they belong to the task
    that sets them and to the tasks it starts afterwards, and go with each job that these submit.
    """

    _face: ClassVar[str] = "asparkle"  # whose it is; that of asparkle.aio says so

    def __init__(self, application: Application, profiler_cls: type[Profiler] | None = None) -> None:
        self._application = application
        self._scheduler_conf = application.scheduler  # read now: what is wrong with it is said at once
        self._conf = application.conf
        self._properties = LocalProperties(application.spec.app_id, application.job_properties)
        self._pid = os.getpid()
        self._driver_or_none: Driver | None = None
        self._home: object = None  # the event loop that it was entered on
        self._life: object = None  # its own task there
        self._stopped = False
        self._wished: WishedEvents | None = None  # once somebody listens
        self._error: Exception | None = None  # why it ended, if nobody stopped it
        self._broadcast_ids = itertools.count()
        self._checkpoints: Checkpoints | None = None  # once somebody asked for one
        self._added_or_none: AddedFiles | None = None
        self._profilers: Profilers | None = None
        if PROFILE.read(self._conf):
            from asparkle.core.profiling import BasicProfiler, Profilers

            self._profilers = Profilers(profiler_cls or BasicProfiler, self)
        self._admission = Admission(
            application.max_concurrent_jobs, application.max_queued_jobs, application.job_deadline
        )
        self._bus = Bus(queue_size=application.listener_queue_size, flush_timeout=application.flush_timeout)

    # ------------------------------------------------------------------------- life

    async def __aenter__(self) -> Self:
        if self._stopped or self._life is not None:
            raise ContextStopped("a SparkContext is entered once; make a new one")
        self._home = current_loop()
        self._ready, self._stopping, self._ended = anyio.Event(), anyio.Event(), anyio.Event()
        self._life = start_detached(self._live, f"asparkle {self.applicationId}", self._over)
        try:
            await self._ready.wait()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        self._raise_error()
        return self

    async def _live(self) -> None:
        """From entering to the end, in a task of its own: who entered and who stops may be different tasks."""
        logging_for(self._bus)
        stack = AsyncExitStack()
        try:
            try:
                await self._open(stack)
                self._ready.set()
                await self._stopping.wait()
            finally:
                self._stopped = True
                if self._driver_or_none is not None:
                    self._driver_or_none.stop()
                    with anyio.CancelScope(shield=True):
                        await self._driver_or_none.loops_closed()
                    if self._driver_or_none.scheduler.listening:
                        from asparkle.core.applicationevents import application_ended

                        self._driver_or_none.tell(application_ended())
                    self._bus.on_change = None
                    if self._wished is not None:
                        self._wished.stop()
                    self._driver_or_none.emit_to(None)  # that was the last event
                await stack.aclose()
        except Exception as error:
            self._error = error

    async def _open(self, stack: AsyncExitStack) -> None:
        application = self._application
        call = loop_caller()
        stack.push_async_callback(clean_up, application.end)
        if not application.begun:
            await in_thread(application.begin)
        await stack.enter_async_context(self._bus)
        stack.push_async_callback(clean_up, self._forget_outputs)
        cluster = await stack.enter_async_context(application.manager.open(application.spec))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        driver = Driver(application.spec, self._scheduler_conf, call, tasks, max_result=application.max_result)
        planner = Planner(driver, application.default_reduce_partitions, self.defaultMinPartitions)
        driver.planner = planner
        driver.redacted = application.redacted
        planner.options = self._properties.options
        planner.profilers = self._profilers
        self._driver_or_none = driver
        self._bus.on_change = self._tell_driver
        added_files[self.applicationId] = files_below(application.spec.directories)
        stack.callback(self._forget_files)
        stack.callback(self._leave_profiles)
        for listener in application.listeners(self._bus.dropped):
            self.addListener(listener)
        if driver.scheduler.listening:
            from asparkle.core.applicationevents import application_started

            driver.tell(application_started(application, self.sparkUser()))
        await driver.start(cluster, application.first_executors)
        for path in FILES.read(self._conf):
            await self.addFile(path)
        for path in ARCHIVES.read(self._conf):
            await self.addArchive(path)

    def _leave_profiles(self) -> None:
        """What was profiled and nobody has seen is shown, or written to where the configuration says."""
        directory = PROFILE_DUMP.read(self._conf)
        if self._profilers is not None and directory:
            self._profilers.dump(directory)
        elif self._profilers is not None:
            self._profilers.show()

    @property
    def _added(self) -> AddedFiles:
        if self._added_or_none is None:
            self._check_usable()
            spec = self._application.spec
            from asparkle.core.addedfiles import AddedFiles

            self._added_or_none = AddedFiles(files_below(spec.directories), self._application.file_options)
        return self._added_or_none

    def _forget_outputs(self) -> None:
        if self._driver_or_none is not None:
            self._driver_or_none.forget_outputs()

    def _forget_files(self) -> None:
        if self._added_or_none is not None:
            self._added_or_none.close()
        added_files.pop(self.applicationId, None)  # last: until then other contexts know whose they are

    def _over(self) -> None:
        """The task is no more; perhaps it never took its first step."""
        self._stopped = True
        self._application.end()
        self._ready.set()
        self._ended.set()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.stop()

    async def stop(self, *, drain: float = 0.0) -> None:
        """End all executors and remove all files.  Jobs that run fail with `ContextStopped`.

        ``drain``: wait so many seconds at most for the jobs that run or wait for their turn; meanwhile new ones are
        refused with `ContextStopped`, but for those of actions that have begun.

        In any task of the event loop that the context was entered on.  May be called again.

        >>> await sc.stop(drain=10)
        >>> await sc.stop()  # once more does no harm
        """
        if self._life is not None and self._home != current_loop():
            raise ContextError("a SparkContext is stopped on the event loop that it was entered on")
        if drain:
            await self._drain(drain)
        self._stopped = True
        if self._life is not None:
            self._stopping.set()
            await self._ended.wait()
            self._raise_error()

    async def _drain(self, seconds: float) -> None:
        arguments.seconds(seconds, "stop", "drain")
        await self._admission.drain(seconds)

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    @property
    def _driver(self) -> Driver:
        self._check_usable()
        assert self._driver_or_none is not None
        return self._driver_or_none

    def _check_usable(self) -> None:
        if TaskContext.get() is not None:
            raise NestedContextError
        if os.getpid() != self._pid:
            raise ForkedContextError
        if self._stopped:
            raise ContextStopped from self._error
        if self._driver_or_none is None:
            raise ContextStopped("this SparkContext was not entered yet: use it with `async with`")

    def _check_loop(self) -> None:
        if self._home != current_loop():
            raise ContextError("this SparkContext belongs to another event loop: await its methods there")

    # ------------------------------------------------------------------------- facts

    @property
    def applicationId(self) -> str:
        """A name for this application that no other one has.

        >>> sc.applicationId
        'local-...'
        """
        return self._application.spec.app_id

    @property
    def appName(self) -> str:
        """The application's name, as configured.

        >>> sc.appName
        'asparkle'
        """
        return self._application.spec.name

    @property
    def master(self) -> str:
        """The master URL.

        >>> sc.master
        'threads[2]'
        """
        return self._application.master_url

    @property
    def startTime(self) -> int:
        """When the context was made, in milliseconds since the epoch.

        >>> import time
        >>> sc.startTime <= time.time() * 1000
        True
        """
        return self._application.start_time

    @property
    def version(self) -> str:
        """asparkle's version.

        >>> import asparkle
        >>> sc.version == asparkle.__version__
        True
        """
        from asparkle.core.version import VERSION

        return VERSION

    @property
    def pythonVer(self) -> str:
        """The Python version of driver and workers, as in '3.11'.

        >>> sc.pythonVer
        '3...'
        """
        import sys

        return f"{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def defaultParallelism(self) -> int:
        """Partitions where none are asked for: ``spark.default.parallelism``, else the number of slots.

        >>> sc.defaultParallelism
        2
        """
        return self._application.default_parallelism

    @property
    def defaultMinPartitions(self) -> int:
        """The least partitions of a text file where none are asked for: the default parallelism, at most 2.

        >>> sc.defaultMinPartitions
        2
        """
        return min(self.defaultParallelism, 2)

    def getConf(self) -> SparkConf:
        """A copy of the configuration.

        >>> sc.getConf().get("spark.master")
        'threads[2]'
        """
        return self._conf.clone()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that executors were given, besides the driver's own.

        >>> sc.environment
        {'PYTHONHASHSEED': '0'}
        """
        seed = {"PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0")}
        return seed | dict(self._application.spec.environment)

    @property
    def sparkHome(self) -> str | None:
        """The ``spark.home`` of the configuration, which nothing here needs.

        >>> print(sc.sparkHome)
        None
        """
        return self._conf.get("spark.home")

    def sparkUser(self) -> str:
        """Who runs this program: the ``SPARK_USER`` of the environment, or the user's name.

        >>> bool(sc.sparkUser())
        True
        """
        import getpass

        return os.environ.get("SPARK_USER") or getpass.getuser()

    @property
    def uiWebUrl(self) -> str | None:
        """Where the web UI is; None while there is none.

        >>> print(sc.uiWebUrl)
        None
        """
        return None

    @property
    def resources(self) -> dict[str, Any]:
        """Resources of the driver, such as GPUs: none here.

        >>> sc.resources
        {}
        """
        return {}

    def setLogLevel(self, logLevel: str) -> None:
        """Set the level of asparkle's own log messages: ALL, DEBUG, INFO, WARN, ERROR, FATAL or OFF.

        >>> sc.setLogLevel("WARN")
        """
        from asparkle.core.logs import set_level

        set_level(logLevel)

    def __repr__(self) -> str:
        return f"<SparkContext master={self.master} appName={self.appName}>"

    # ------------------------------------------------------------------------- RDDs

    def parallelize(self, c: Iterable[T] | AsyncIterable[T], numSlices: int | None = None) -> RDD[T]:
        """An RDD of the elements of ``c``, in order, in ``numSlices`` partitions.

        The partitions of a ``range`` differ by one element at most.  Other collections are dealt in batches of
        up to 1,024 elements, as PySpark deals them, so that partitions may differ by a batch.

        The elements of a list or a numpy array are copied here; those of a list should themselves not be changed before
        the first job has begun.  Any other iterable is read into a list.  ``numSlices`` defaults to the default
        parallelism.  Raises ArgumentError for ``numSlices`` below 1 and for a generator that is already exhausted.

        An asynchronous iterable is read into a list when a job first needs it, on the context's event loop, once.
        What it raises is that job's failure.  If that job is cancelled, so is the reading: the next job begins
        anew, or fails with ArgumentError where that can't be done, as with an asynchronous generator.

        >>> await sc.parallelize("abcde", 2).glom().collect()
        [['a', 'b'], ['c', 'd', 'e']]
        """
        slices = self._slices(numSlices, "parallelize")
        if type(c) is range:
            return self._rdd(sources.Range(c, slices))
        if isinstance(c, AsyncIterable):
            return self._rdd(sources.AsyncCollection(c, slices))
        return self._rdd(sources.Collection(sources.sliceable(c), slices))

    def range(self, start: int, end: int | None = None, step: int = 1, numSlices: int | None = None) -> RDD[int]:
        """An RDD of the ints from ``start`` to ``end`` (excluded) by ``step``; from 0 to ``start`` without ``end``.

        >>> await sc.range(1, 10, 3).collect()
        [1, 4, 7]
        >>> await sc.range(10, step=5).collect()
        [0, 5]
        """
        start = arguments.whole_number(start, "range", "start")
        if end is None:
            start, end = 0, start
        end, step = arguments.whole_number(end, "range", "end"), arguments.whole_number(step, "range", "step")
        if not step:
            raise ArgumentError("range: step = 0: expected another whole number")
        return self._rdd(sources.Range(range(start, end, step), self._slices(numSlices, "range")))

    def emptyRDD(self) -> RDD[Any]:
        """An RDD without partitions and elements.

        >>> await sc.emptyRDD().isEmpty()
        True
        """
        return self._rdd(sources.Empty())

    @overload
    def textFile(
        self, name: str | os.PathLike[str], minPartitions: int | None = None, use_unicode: Literal[True] = True
    ) -> RDD[str]: ...

    @overload
    def textFile(
        self, name: str | os.PathLike[str], minPartitions: int | None, use_unicode: Literal[False]
    ) -> RDD[bytes]: ...

    @overload
    def textFile(
        self, name: str | os.PathLike[str], minPartitions: int | None = None, *, use_unicode: Literal[False]
    ) -> RDD[bytes]: ...

    @overload
    def textFile(
        self, name: str | os.PathLike[str], minPartitions: int | None = None, use_unicode: bool = True
    ) -> RDD[str | bytes]: ...

    def textFile(
        self, name: str | os.PathLike[str], minPartitions: int | None = None, use_unicode: bool = True
    ) -> RDD[Any]:
        """The lines of text files, without their ends; UTF-8.

        ``name``: a path, a directory, a glob, a URL that fsspec knows (with ``asparkle[fs]``), or several of these
        separated by commas.  A directory inside a directory is an InputIsDirectory, unless
        ``spark.hadoop.mapreduce.input.fileinputformat.input.dir.recursive`` is true: then it is read, too.  Large files
        are split by byte range into about ``minPartitions`` partitions; compressed files (gzip, bz2, xz, deflate, and
        zstd and lz4 with ``asparkle[compression]``) are one partition each.  The files are looked for when a job needs
        them, not here.
        ``use_unicode=False``: lines as bytes.  Raises ArgumentTypeError for what is no path.

        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = pathlib.Path(directory, "1.txt").write_text("tiger tiger")
        ...     _ = pathlib.Path(directory, "2.txt").write_text("burning bright")
        ...     await sc.textFile(directory).collect()
        ['tiger tiger', 'burning bright']
        """
        from asparkle.core.inputfiles import plan_splits
        from asparkle.core.textfiles import read_lines

        path = arguments.paths(name, "textFile", "name")
        return self._files("textFile", path, minPartitions, plan_splits, read_lines, use_unicode)

    @overload
    def wholeTextFiles(
        self, path: str | os.PathLike[str], minPartitions: int | None = None, use_unicode: Literal[True] = True
    ) -> RDD[tuple[str, str]]: ...

    @overload
    def wholeTextFiles(
        self, path: str | os.PathLike[str], minPartitions: int | None, use_unicode: Literal[False]
    ) -> RDD[tuple[bytes, bytes]]: ...

    @overload
    def wholeTextFiles(
        self, path: str | os.PathLike[str], minPartitions: int | None = None, *, use_unicode: Literal[False]
    ) -> RDD[tuple[bytes, bytes]]: ...

    @overload
    def wholeTextFiles(
        self, path: str | os.PathLike[str], minPartitions: int | None = None, use_unicode: bool = True
    ) -> RDD[tuple[str, str] | tuple[bytes, bytes]]: ...

    def wholeTextFiles(
        self, path: str | os.PathLike[str], minPartitions: int | None = None, use_unicode: bool = True
    ) -> RDD[Any]:
        """Each text file as one pair: (its URL, its text), in the order of names.

        ``path``: as for `textFile`; directories inside a directory are left out, unless
        ``spark.hadoop.mapreduce.input.fileinputformat.input.dir.recursive`` is true: then they are read, too.  Small
        files share partitions, of which there are about ``minPartitions``.  Compressed files are decompressed.
        ``use_unicode=False``: both as UTF-8 bytes.  Each file must fit into memory.

        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = pathlib.Path(directory, "1.txt").write_text("tiger")
        ...     await sc.wholeTextFiles(directory).collect()
        [('file:/.../1.txt', 'tiger')]
        """
        from asparkle.core.wholefiles import group_texts, read_texts

        path = arguments.paths(path, "wholeTextFiles", "path")
        return self._files(
            "wholeTextFiles", path, minPartitions, group_texts, read_texts, use_unicode, skip_directories=True
        )

    def binaryFiles(self, path: str | os.PathLike[str], minPartitions: int | None = None) -> RDD[tuple[str, bytes]]:
        """Each file as one pair: (its URL, its content), in the order of names.

        ``path``: as for `wholeTextFiles`.  Nothing is decompressed.  Small files share partitions.  Each file must
        fit into memory.

        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = pathlib.Path(directory, "1.bin").write_bytes(b"tiger")
        ...     await sc.binaryFiles(directory).values().collect()
        [b'tiger']
        """
        from asparkle.core.wholefiles import group_binaries, read_binaries

        path = arguments.paths(path, "binaryFiles", "path")
        group = partial(group_binaries, parallelism=self.defaultParallelism)
        return self._files("binaryFiles", path, minPartitions, group, read_binaries, skip_directories=True)

    def binaryRecords(self, path: str | os.PathLike[str], recordLength: int) -> RDD[bytes]:
        """The records of files in which each has ``recordLength`` bytes, in order.

        ``path``: as for `textFile`.  Large files are split between records.  A file that ends inside a record
        fails the job with CorruptInput.

        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = pathlib.Path(directory, "1.bin").write_bytes(b"onetwosix")
        ...     await sc.binaryRecords(directory, 3).collect()
        [b'one', b'two', b'six']
        """
        from asparkle.core.wholefiles import plan_records, read_records

        path = arguments.paths(path, "binaryRecords", "path")
        length = arguments.whole_number(recordLength, "binaryRecords", "recordLength", 1)
        return self._files(
            "binaryRecords",
            path,
            None,
            lambda files, least, options: plan_records(files, length, options),  # as many as there are records for
            read_records,
            length,
            skip_directories=True,
        )

    def pickleFile(self, name: str | os.PathLike[str], minPartitions: int | None = None) -> RDD[Any]:
        """The elements that `RDD.saveAsPickleFile` has saved, here or in PySpark.

        ``name``: as for `textFile`.  Unpickling runs code that the file names: read only files of people whom you
        would let run code on your machines.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     await sc.parallelize([1, "a", (2, None)]).saveAsPickleFile(f"{directory}/saved")
        ...     await sc.pickleFile(f"{directory}/saved").collect()
        [1, 'a', (2, None)]
        """
        from asparkle.core.picklefiles import read_pickles
        from asparkle.core.sequencefiles import plan_sequences

        path = arguments.paths(name, "pickleFile", "name")
        return self._files("pickleFile", path, minPartitions, plan_sequences, read_pickles)

    def sequenceFile(
        self,
        path: str | os.PathLike[str],
        keyClass: str | None = None,
        valueClass: str | None = None,
        keyConverter: str | None = None,
        valueConverter: str | None = None,
        minSplits: int | None = None,
        batchSize: int = 0,
    ) -> RDD[tuple[Any, Any]]:
        """The pairs of Hadoop's SequenceFiles: plain ones, and those whose values or blocks are compressed.

        ``path``: as for `textFile`.  Text, Int, Long, Float, Double, Boolean, Bytes and Null become str, int,
        float, bool, bytearray and None; other classes fail the job with CorruptInput.  ``keyClass`` and
        ``valueClass``: what the files must have; ``minSplits``: as ``minPartitions``.  ``batchSize`` is ignored.
        Raises NeedsJVM for converters, which are Java classes: map the RDD.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     await sc.parallelize([(1, "a"), (2, "b")]).saveAsSequenceFile(f"{directory}/saved")
        ...     await sc.sequenceFile(f"{directory}/saved").collect()
        [(1, 'a'), (2, 'b')]
        """
        from asparkle.core.sequencefiles import plan_sequences, read_pairs

        path = arguments.paths(path, "sequenceFile", "path")
        if converter := keyConverter or valueConverter:
            raise NeedsJVM(f"sequenceFile: the converter {converter!r}", "map")
        return self._files("sequenceFile", path, minSplits, plan_sequences, read_pairs, keyClass, valueClass)

    def _files(
        self,
        operation: str,
        paths: str,
        min_partitions: int | None,
        cut: Callable[[Sequence[InputFile], int, Options], Sequence[object]],
        read: Callable[..., Iterator[Any]],
        *more: Any,
        skip_directories: bool = False,
    ) -> RDD[Any]:
        from asparkle.core.filesystems import check_shared

        if min_partitions is not None:
            min_partitions = arguments.whole_number(min_partitions, operation, "minPartitions", 1)
        check_shared(paths, self._application.spec.in_process)
        options = self._application.file_options
        node = sources.Files(paths, options, cut, read, more, min_partitions, skip_directories=skip_directories)
        return self._rdd(node)

    def union(self, rdds: Iterable[RDD[T]]) -> RDD[T]:
        """All elements of all of ``rdds``, one RDD's partitions after another's.

        Raises ArgumentError for none at all and for an RDD of another context, ArgumentTypeError for what is
        no RDD.

        >>> await sc.union([sc.parallelize([1, 2]), sc.parallelize([2]), sc.parallelize([3])]).collect()
        [1, 2, 2, 3]
        """
        rdds = arguments.elements(rdds, "union", "rdds", "a list of RDDs")
        if not rdds:
            raise ArgumentError("union needs at least one RDD; use emptyRDD() for none")
        for i, rdd in enumerate(rdds):
            self._own(rdd, f"union: rdds[{i}]")
        nodes = [rdd._node for rdd in rdds]
        if len(nodes) > 1:
            fix(nodes)
        return self._rdd(Union(nodes)) if len(nodes) > 1 else rdds[0]

    def _own(self, rdd: Any, where: str) -> RDD[Any]:
        inner = getattr(rdd, "_rdd", rdd)
        if isinstance(inner, RDD):
            face = rdd._context._face if inner is rdd else SparkContext._face
            if face != self._face:
                raise ArgumentTypeError(
                    f"{where} = {shown(rdd)}: it is an RDD of {face}, not of {self._face}; make both with one context"
                )
        if not isinstance(rdd, RDD):
            raise ArgumentTypeError(
                f"{where} = {shown(rdd)} of type {type(rdd).__name__}: expected an RDD of this context"
            )
        if rdd._context is not self:
            raise ArgumentError(f"{where} = {rdd!r}: it belongs to another SparkContext, {rdd._context!r}")
        return rdd

    def _rdd(self, node: Node) -> RDD[Any]:
        return RDD(node, self)

    def _slices(self, n: int | None, operation: str) -> int:
        return self.defaultParallelism if n is None else arguments.slices(n, operation)

    # ------------------------------------------------------------------------- jobs

    async def runJob(
        self,
        rdd: RDD[T],
        partitionFunc: Callable[[Iterator[T]], Iterable[U]],
        partitions: Sequence[int] | None = None,
        allowLocal: bool = False,
    ) -> list[U]:
        """``partitionFunc`` of each partition's iterator, all results in one list, in order of ``partitions``.

        ``partitions`` defaults to all; ``allowLocal`` is ignored, as in Spark since 2.0.

        >>> await sc.runJob(sc.parallelize(range(6), 3), lambda elements: [sum(elements)], [0, 2])
        [1, 9]
        """
        self._own(rdd, "runJob: rdd")
        arguments.function(partitionFunc, "runJob", "partitionFunc")
        if partitions is not None:
            partitions = arguments.elements(partitions, "runJob", "partitions", "a list of partitions' numbers")
            partitions = [arguments.whole_number(p, "runJob", "partition") for p in partitions]
            count = await rdd.getNumPartitions()
            for p in partitions:
                if not 0 <= p < count:
                    raise ArgumentError(f"partition {p} does not exist: the RDD has {count}")
        parts = await self._run(rdd._node, Call(_ListOf(partitionFunc)), partitions)
        return list(itertools.chain.from_iterable(parts))

    async def _run(self, node: Node, sink: Sink, partitions: Sequence[int] | None = None) -> list[Any]:
        with self._admission.inside():
            results = await self._run_job(node, sink, partitions)
            if self._checkpoints is not None:
                await self._checkpoints.after_job(node, self._run_job)
            return results

    async def _run_job(self, node: Node, sink: Sink, partitions: Sequence[int] | None = None) -> list[Any]:
        driver = self._driver
        return await self._limited(lambda options: driver.run_job(node, sink, partitions, options))

    async def _run_for(self, seconds: float, node: Node, sink: Sink) -> tuple[list[Any], int]:
        driver = self._driver
        return await self._limited(lambda options: driver.run_job_for(seconds, node, sink, options))

    async def _limited(self, job: Callable[[JobOptions], Awaitable[T]]) -> T:
        """Run a job when its turn has come, unless the context is about to stop, and for as long as it may take."""
        self._check_loop()
        return await self._admission.run(job, self._properties.options())

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run the driver's part of an action; off the event loop, which it might hold up."""
        with self._admission.inside():
            return await in_thread(function, *arguments)

    def submit(self, action: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> JobHandle[T]:
        """Begin an action, and return a handle: to wait for its result, look at its progress, or cancel it.

        ``action``: a method of an RDD or of this context, such as ``rdd.count``, which is called with the other
        arguments.  Its jobs have the job group, tags and properties that are set here.  A context that stops
        ends it.  Raises ArgumentTypeError for what can't be called; the handle raises it for what can't be awaited.

        >>> job = sc.submit(sc.parallelize(range(100), 4).count)
        >>> await job.result()
        100
        >>> job.progress()
        JobProgress(jobs=1, tasks=4, completed=4, running=0, failed=0)
        """
        from asparkle.core.handles import JobHandle

        self._check_loop()
        arguments.function(action, "submit", "action", takes_async=True)
        owner = getattr(action.func if isinstance(action, partial) else action, "__self__", None)
        if isinstance(owner, RDD):
            fix([owner._node])  # the job begins later
        return JobHandle(self._driver, partial(action, *args, **kwargs), self._admission)

    def statusTracker(self) -> StatusTracker:
        """What is known of the context's jobs, stages and executors, by number.

        >>> sc.statusTracker().getActiveJobsIds()
        []
        """
        from asparkle.core.status import StatusTracker

        return StatusTracker(self._driver, lambda function, *arguments: function(*arguments))

    async def cancelJobGroup(self, groupId: str) -> None:
        """Cancel the jobs of a group that run or wait.  Their callers get JobCancelled.

        Raises ArgumentTypeError for what is no string.

        >>> await sc.cancelJobGroup("nightly")  # from another task than the one that waits for it
        """
        groupId = arguments.text(groupId, "cancelJobGroup", "groupId")
        reason = f"job group {groupId!r} was cancelled"
        self._driver.cancel_jobs(group=groupId, reason=reason)
        self._admission.cancel(lambda job: job.group == groupId, reason)

    async def cancelJobsWithTag(self, tag: str) -> None:
        """Cancel the jobs that have a tag, and run or wait.  Their callers get JobCancelled.

        >>> await sc.cancelJobsWithTag("report")
        """
        reason = f"jobs with the tag {tag!r} were cancelled"
        self._driver.cancel_jobs(tag=arguments.job_tag(tag), reason=reason)
        self._admission.cancel(lambda job: tag in job.tags, reason)

    async def cancelAllJobs(self) -> None:
        """Cancel every job that runs or waits.  Their callers get JobCancelled.

        >>> await sc.cancelAllJobs()
        """
        reason = "all jobs were cancelled"
        self._driver.cancel_jobs(reason=reason)
        self._admission.cancel(lambda job: True, reason)

    # ------------------------------------------------------------------------- properties of jobs

    def setLocalProperty(self, key: str, value: str | None) -> None:
        """Set a property of the jobs that this task submits from now on; None removes it.

        >>> sc.setLocalProperty("spark.scheduler.pool", "reports")
        >>> sc.getLocalProperty("spark.scheduler.pool")
        'reports'
        """
        self._properties.put(key, value)

    def getLocalProperty(self, key: str) -> str | None:
        """A property set here or where this task was started; None if unset.

        >>> print(sc.getLocalProperty("spark.scheduler.pool"))
        None
        """
        return self._properties.get(key)

    def setJobGroup(self, groupId: str | None, description: str | None, interruptOnCancel: bool = False) -> None:
        """Put the jobs submitted from here on into a group, by which they can be cancelled together.

        None for both: into no group, as in PySpark.  Raises ArgumentTypeError for a group that is no string.
        ``interruptOnCancel`` is accepted; running tasks of a cancelled job are always interrupted.

        >>> sc.setJobGroup("nightly", "what runs at night")
        >>> sc.getLocalProperty("spark.jobGroup.id")
        'nightly'
        """
        self.setLocalProperty(GROUP, None if groupId is None else arguments.text(groupId, "setJobGroup", "groupId"))
        self.setLocalProperty(DESCRIPTION, description)

    def setJobDescription(self, value: str | None) -> None:
        """Say in words what the jobs submitted from here on do.

        >>> sc.setJobDescription("counting sheep")
        >>> sc.getLocalProperty("spark.job.description")
        'counting sheep'
        """
        self.setLocalProperty(DESCRIPTION, value)

    def setInterruptOnCancel(self, interruptOnCancel: bool) -> None:
        """PySpark's switch for interrupting the running tasks of a cancelled job.  Here they always are.

        >>> sc.setInterruptOnCancel(True)
        """
        self.setLocalProperty(INTERRUPT, str(bool(interruptOnCancel)).lower())

    def addJobTag(self, tag: str) -> None:
        """Give the jobs submitted from here on a tag, by which they can be cancelled.

        >>> sc.addJobTag("report")
        >>> sc.getJobTags()
        {'report'}
        """
        self._properties.tags |= {arguments.job_tag(tag)}

    def removeJobTag(self, tag: str) -> None:
        """Take a tag away again.

        >>> sc.addJobTag("report")
        >>> sc.removeJobTag("report")
        >>> sc.getJobTags()
        set()
        """
        self._properties.tags -= {arguments.job_tag(tag)}

    def clearJobTags(self) -> None:
        """Take all tags away.

        >>> sc.addJobTag("report")
        >>> sc.clearJobTags()
        >>> sc.getJobTags()
        set()
        """
        self._properties.tags = set()

    def getJobTags(self) -> set[str]:
        """The tags that jobs submitted now would have.

        >>> sc.getJobTags()
        set()
        """
        return self._properties.tags

    @contextmanager
    def jobTag(self, tag: str) -> Iterator[None]:
        """``with sc.jobTag("x"):`` tags the jobs submitted inside.

        >>> with sc.jobTag("report"):
        ...     sc.getJobTags()
        {'report'}
        >>> sc.getJobTags()
        set()
        """
        with self._properties.kept(TAGS):
            self.addJobTag(tag)
            yield

    @contextmanager
    def jobDeadline(self, seconds: float) -> Iterator[None]:
        """``with sc.jobDeadline(30):`` gives each job submitted inside so many seconds, from its submission.

        A job that takes longer, waiting for its turn included, is cancelled, and its caller gets
        JobDeadlineExceeded, which is a TimeoutError.  Raises ArgumentError for a number that is not positive.

        >>> with sc.jobDeadline(30):
        ...     await sc.parallelize(range(10)).count()
        10
        """
        seconds = arguments.seconds(seconds, "jobDeadline", "seconds")
        with self._properties.kept(DEADLINE):
            self.setLocalProperty(DEADLINE, f"{max(round(seconds * 1e6), 1)}us")
            yield

    # ------------------------------------------------------------------------- checkpoints

    async def setCheckpointDir(self, dirName: str) -> None:
        """Say where `RDD.checkpoint` keeps RDDs: in a new directory in ``dirName``, which is made if need be.

        A path or a ``file:`` URL that all executors see.  Files in it stay after the context has ended.  Raises
        StorageError if it can't be made, and ArgumentError for a URL of another kind.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     await sc.setCheckpointDir(directory)
        ...     sc.getCheckpointDir().startswith(directory)
        True
        """
        await in_thread(self._checkpointing().set_directory, arguments.path(dirName, "setCheckpointDir", "dirName"))

    def getCheckpointDir(self) -> str | None:
        """The directory that `setCheckpointDir` made; None before.

        >>> print(sc.getCheckpointDir())
        None
        """
        return self._checkpoints.directory if self._checkpoints is not None else None

    def _checkpointing(self) -> Checkpoints:
        if self._checkpoints is None:
            from asparkle.core.checkpoints import Checkpoints

            self._checkpoints = Checkpoints()
        return self._checkpoints

    # ------------------------------------------------------------------------- persisted RDDs

    def _persist(self, node: Node) -> None:
        self._driver.cleaner.watch_rdd(node)

    async def _unpersist(self, node: Node) -> None:
        cleaner = self._driver.cleaner
        cleaner.unpersist(node.id)
        await in_thread(cleaner.remove_blocks, node.id)

    # ------------------------------------------------------------------------- shared variables

    async def broadcast(self, value: T) -> Broadcast[T]:
        """A read-only variable that tasks read as ``.value``: pickled once, here, and read once per worker.

        Raises PicklingFailed, naming the part, if the value can't be pickled.

        >>> names = await sc.broadcast({"a": "Ann", "b": "Bob"})
        >>> await sc.parallelize("ba").map(lambda key: names.value[key]).collect()
        ['Bob', 'Ann']
        """
        driver = self._driver
        identity = next(self._broadcast_ids)
        path = os.path.join(self._application.spec.directories[0], "data", file_name(identity))
        ref = await in_thread(lambda: write_file(pack_frame(dumps(value)), path))
        if driver.scheduler.listening:
            from asparkle.core.events import BroadcastCreated

            driver.tell(BroadcastCreated(time.monotonic(), identity, ref.length))
        return Broadcast(value, identity, self.applicationId, ref, driver.cleaner)

    def accumulator(self, value: T, accum_param: AccumulatorParam[T] | None = None) -> Accumulator[T]:
        """A variable that tasks add to and the driver reads, starting at ``value``.

        ``accum_param`` says how values add up; numbers need none.  Raises ArgumentTypeError for other values
        without one, and for what is no `AccumulatorParam`.

        >>> total = sc.accumulator(0)
        >>> await sc.parallelize(range(5)).foreach(total.add)
        >>> total.value
        10
        """
        self._check_usable()
        if accum_param is None:
            accum_param = default_param(value)
        elif not isinstance(accum_param, AccumulatorParam):
            raise ArgumentTypeError(f"accumulator: accum_param = {shown(accum_param)}: expected an AccumulatorParam")
        accumulator: Accumulator[T] = Accumulator(value, accum_param)
        live_accumulators[accumulator.aid] = accumulator
        return accumulator

    # ------------------------------------------------------------------------- files for tasks

    async def addFile(self, path: str | os.PathLike[str], recursive: bool = False) -> None:
        """Copy a file to where all tasks of this application find it: under ``SparkFiles.get(name)``.

        ``path``: a path or a URL that fsspec knows; a directory with ``recursive``.  It is copied now: what
        changes afterwards nobody sees.  Adding the same path again does nothing.  Raises InputNotFound, and
        ArgumentError for a directory without ``recursive`` and for another file of a name that was added.

        >>> import pathlib, tempfile
        >>> from asparkle import SparkFiles
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = pathlib.Path(directory, "words.txt").write_text("tiger")
        ...     await sc.addFile(f"{directory}/words.txt")
        >>> await sc.parallelize([1]).map(lambda x: open(SparkFiles.get("words.txt")).read()).collect()
        ['tiger']
        """
        path = arguments.path(path, "addFile", "path")
        await in_thread(self._added.add_file, path, recursive)

    async def addPyFile(self, path: str | os.PathLike[str]) -> None:
        """Add a module, or a zip, egg or jar of modules, which driver and tasks can import from now on.

        Tasks find what their own context has added.  The driver finds what all contexts of the process have, the
        latest first; tasks on threads do, too, as they share its modules.
        ``path``, errors and copying: as for `addFile`.

        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = pathlib.Path(directory, "doubling.py").write_text("def double(x): return 2 * x")
        ...     await sc.addPyFile(f"{directory}/doubling.py")
        >>> def double(x):
        ...     import doubling
        ...
        ...     return doubling.double(x)
        >>> await sc.parallelize([1, 2]).map(double).collect()
        [2, 4]
        """
        path = arguments.path(path, "addPyFile", "path")
        added = self._added
        await in_thread(added.add_module, path)
        self._driver.modules_added(added.version)

    async def addArchive(self, path: str | os.PathLike[str]) -> None:
        """Unpack an archive to where all tasks find it: a directory ``SparkFiles.get(name)``.

        ``path``: a ``.zip``, ``.jar``, ``.tar``, ``.tar.gz`` or ``.tgz``, local or a URL that fsspec knows; with
        ``#name`` behind it the directory has that name, else the archive's.  Adding the same path again does
        nothing.  Raises InputNotFound, CorruptInput, and ArgumentError for what is no archive.

        >>> import os, tempfile, zipfile
        >>> from asparkle import SparkFiles
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     with zipfile.ZipFile(f"{directory}/data.zip", "w") as archive:
        ...         archive.writestr("words.txt", "tiger")
        ...     await sc.addArchive(f"{directory}/data.zip#data")
        >>> await sc.parallelize([1]).map(lambda x: os.listdir(SparkFiles.get("data"))).collect()
        [['words.txt']]
        """
        await in_thread(self._added.add_archive, arguments.path(path, "addArchive", "path"))

    @property
    def listFiles(self) -> list[str]:
        """The URLs of what `addFile` and `addPyFile` have added.

        >>> sc.listFiles
        []
        """
        return self._added.files

    @property
    def listArchives(self) -> list[str]:
        """The URLs of what `addArchive` has added.

        >>> sc.listArchives
        []
        """
        return self._added.archives

    # ------------------------------------------------------------------------- events and profiles

    def addListener(self, listener: Listener | Callable[[Any], Any], *events: type) -> None:
        """Send ``listener`` what happens from now on: events of the types ``events``, or all.

        A `Listener`, or a function of an event, plain or ``async``.  A slow or failing listener never holds
        up or fails a job; what it misses is counted and logged.  Raises ArgumentTypeError for what is no such
        thing, and for a type of events that is no class.

        >>> from asparkle.core.events import JobEnded
        >>> ended = []
        >>> sc.addListener(ended.append, JobEnded)
        >>> await sc.parallelize([1]).count()
        1
        >>> await sc.stop()  # listeners get what waits for them before this returns
        >>> ended
        [JobEnded(...)]
        """
        self._check_usable()
        self._bus.add(listener, *events)

    @overload
    def events(self) -> EventStream[Event]: ...

    @overload
    def events(self, *events: type[E]) -> EventStream[E]: ...

    def events(self, *events: type[Any]) -> EventStream[Any]:
        """What happens from this call on, for a loop of your own: events of the types ``events``, or all.

        They come in order, until the context stops.  What comes while ``asparkle.listener.queue.size`` of them wait is
        lost; the stream's ``dropped`` counts it, and it is logged.  Leaving the loop leaves nothing on the bus.
        Raises ArgumentTypeError for a type of events that is no class.

        >>> from asparkle.core.events import JobEnded
        >>> ended = sc.events(JobEnded)
        >>> await sc.parallelize([1]).count()
        1
        >>> await sc.stop()
        >>> [event.job async for event in ended]
        [0]
        """
        from asparkle.core.eventstreams import EventStream, LoopFeed

        self._check_usable()
        self._check_loop()
        return EventStream(self._reads(LoopFeed, events))

    def _reads(self, kind: type[F], events: tuple[type, ...]) -> F:
        self._check_usable()
        feed = kind(self._bus, events)
        self._bus.attach(feed)
        return feed

    def _tell_driver(self) -> None:
        """Who listens has changed."""
        driver, bus = self._driver_or_none, self._bus
        if driver is None:
            return
        if self._wished is None and bus.active:
            from asparkle.core.wishedevents import WishedEvents

            self._wished = WishedEvents(bus, driver.scheduler, driver.tasks, self._application.progress_interval)
        post = self._wished.update() if self._wished is not None else None
        driver.emit_to(post if bus.active else None)

    def show_profiles(self) -> None:
        """Print the profiles of tasks so far, one for each RDD that a stage ended with; each is shown once.

        Raises ContextError unless ``spark.python.profile`` is set.

        >>> sc.show_profiles()
        Traceback (most recent call last):
            ...
        asparkle.core.errors.ContextError: nothing was profiled: set spark.python.profile to true before the ...
        """
        self._profiled().show()

    def dump_profiles(self, path: str) -> None:
        """Write the profiles of tasks into the directory ``path``, for `pstats`, as ``rdd_5.pstats``; and forget them.

        Raises ContextError unless ``spark.python.profile`` is set.

        >>> sc.dump_profiles("profiles")
        Traceback (most recent call last):
            ...
        asparkle.core.errors.ContextError: nothing was profiled: set spark.python.profile to true before the ...
        """
        self._profiled().dump(arguments.path(path, "dump_profiles", "path"))

    def _profiled(self) -> Profilers:
        if self._profilers is None:
            from asparkle.core.profiling import not_profiled

            raise not_profiled()
        return self._profilers

    # ------------------------------------------------------------------------- of the JVM

    def hadoopFile(
        self,
        path: str,
        inputFormatClass: str,
        keyClass: str,
        valueClass: str,
        keyConverter: str | None = None,
        valueConverter: str | None = None,
        conf: Mapping[str, str] | None = None,
        batchSize: int = 0,
    ) -> RDD[Any]:
        """Raises NeedsJVM: input formats are Java classes.

        Read text with `textFile`, and other formats with a Python library in ``mapPartitions``, over file names.
        """
        raise NeedsJVM("hadoopFile", _READERS)

    def newAPIHadoopFile(
        self,
        path: str,
        inputFormatClass: str,
        keyClass: str,
        valueClass: str,
        keyConverter: str | None = None,
        valueConverter: str | None = None,
        conf: Mapping[str, str] | None = None,
        batchSize: int = 0,
    ) -> RDD[Any]:
        """Raises NeedsJVM, as `hadoopFile`."""
        raise NeedsJVM("newAPIHadoopFile", _READERS)

    def hadoopRDD(
        self,
        inputFormatClass: str,
        keyClass: str,
        valueClass: str,
        keyConverter: str | None = None,
        valueConverter: str | None = None,
        conf: Mapping[str, str] | None = None,
        batchSize: int = 0,
    ) -> RDD[Any]:
        """Raises NeedsJVM, as `hadoopFile`."""
        raise NeedsJVM("hadoopRDD", _READERS)

    def newAPIHadoopRDD(
        self,
        inputFormatClass: str,
        keyClass: str,
        valueClass: str,
        keyConverter: str | None = None,
        valueConverter: str | None = None,
        conf: Mapping[str, str] | None = None,
        batchSize: int = 0,
    ) -> RDD[Any]:
        """Raises NeedsJVM, as `hadoopFile`."""
        raise NeedsJVM("newAPIHadoopRDD", _READERS)


class _ListOf:
    """The list of what a function returns for a partition's iterator."""

    def __init__(self, function: Callable[[Iterator[Any]], Iterable[Any]]) -> None:
        self.function = function

    def __call__(self, elements: Iterator[Any]) -> list[Any]:
        return list(self.function(elements))
