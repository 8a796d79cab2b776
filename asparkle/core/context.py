"""The entry point: a connection to the executors, and the way to RDDs and shared variables."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import anyio
from anyio import to_thread

from asparkle.core import arguments, sources
from asparkle.core.accumulators import Accumulator, AccumulatorParam, default_param, live_accumulators
from asparkle.core.application import Application
from asparkle.core.broadcast import Broadcast
from asparkle.core.bus import Bus
from asparkle.core.conf import JOB_DEADLINE
from asparkle.core.contracts import Listener
from asparkle.core.driver import Driver
from asparkle.core.errors import (
    ArgumentError,
    ArgumentTypeError,
    ContextError,
    ContextStopped,
    ForkedContextError,
    JobDeadlineExceeded,
    NestedContextError,
)
from asparkle.core.handles import submission
from asparkle.core.jobs import JobGate, JobOptions
from asparkle.core.lineage import Node, Union
from asparkle.core.loop import clean_up, current_loop, current_task, loop_caller, start_detached
from asparkle.core.payloads import write_file
from asparkle.core.plan import Planner
from asparkle.core.rdd import RDD
from asparkle.core.serializer import dumps, pack_frame
from asparkle.core.shown import shown
from asparkle.core.taskcontext import TaskContext
from asparkle.core.transforms import Call, Sink

if TYPE_CHECKING:
    from asparkle.core.conf import SparkConf
    from asparkle.core.handles import JobHandle
    from asparkle.core.status import StatusTracker

T = TypeVar("T")
P = ParamSpec("P")

# Each context keeps its properties under its own id, so that contexts don't see each other's.
_properties: ContextVar[Mapping[str, Mapping[str, str]]] = ContextVar(
    "asparkle_properties", default=MappingProxyType({})
)

GROUP, DESCRIPTION, TAGS, POOL = (
    "spark.jobGroup.id",
    "spark.job.description",
    "spark.job.tags",
    "spark.scheduler.pool",
)
DEADLINE = JOB_DEADLINE.name


class SparkContext:
    """A connection to executors, for asynchronous programs.

    Used with ``async with``; leaving the block ends all executors and removes all files, whatever went
    wrong inside.  Everything that may do I/O or run a job is a coroutine.  There may be many contexts at
    once, on asyncio or trio.

    Job groups, tags, descriptions and local properties are context variables: they belong to the task
    that sets them and to the tasks it starts afterwards, and go with each job that these submit.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._scheduler_conf = application.scheduler  # read now: what is wrong with it is said at once
        self._conf = application.conf
        self._pid = os.getpid()
        self._driver_or_none: Driver | None = None
        self._home: object = None  # the event loop that it was entered on
        self._life: object = None  # its own task there
        self._stopped = False
        self._error: Exception | None = None  # why it ended, if nobody stopped it
        self._callers: set[object] = set()  # tasks that wait for jobs
        self._admitted: frozenset[object] | None = None  # while it is drained: those that may still submit some
        self._no_callers: anyio.Event | None = None
        self._broadcast_ids = itertools.count()
        running, queued = application.max_concurrent_jobs, application.max_queued_jobs
        self._gate = JobGate(running, queued) if running else None
        self._bus = Bus(queue_size=application.listener_queue_size, flush_timeout=application.flush_timeout)

    # ------------------------------------------------------------------------- life

    async def __aenter__(self) -> SparkContext:
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
                await stack.aclose()
        except Exception as error:
            self._error = error

    async def _open(self, stack: AsyncExitStack) -> None:
        application = self._application
        call = loop_caller()
        stack.push_async_callback(clean_up, application.end)
        if not application.begun:
            await to_thread.run_sync(application.begin)
        await stack.enter_async_context(self._bus)
        cluster = await stack.enter_async_context(application.manager.open(application.spec))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        driver = Driver(application.spec, self._scheduler_conf, call, tasks, max_result=application.max_result)
        planner = Planner(driver, application.default_reduce_partitions, self.defaultMinPartitions)
        driver.planner = planner
        planner.options = self._options
        self._driver_or_none = driver
        for listener in application.listeners():
            self.addListener(listener)
        await driver.start(cluster, application.executors)

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

    async def stop(self, drain: float = 0.0) -> None:
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
        """Let no new caller in, and wait for those who are inside."""
        arguments.seconds(seconds, "stop", "drain")
        self._admitted = frozenset(self._callers)
        with anyio.move_on_after(seconds):
            while self._callers:
                self._no_callers = anyio.Event()
                await self._no_callers.wait()

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

    def __reduce__(self) -> Any:
        raise NestedContextError("a SparkContext")

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

    def __repr__(self) -> str:
        return f"<SparkContext master={self.master} appName={self.appName}>"

    # ------------------------------------------------------------------------- RDDs

    def parallelize(self, c: Iterable[T] | AsyncIterable[T], numSlices: int | None = None) -> RDD[T]:
        """An RDD of the elements of ``c``, in order, in ``numSlices`` partitions.

        The partitions of a ``range`` differ by one element at most.  Other collections are dealt in batches of
        up to 1,024 elements, as PySpark deals them, so that partitions may differ by a batch.

        A ``range``, a list or a numpy array is kept in kind and sliced when a task needs it; any other
        iterable is read into a list here.  ``numSlices`` defaults to the default parallelism.
        Raises ArgumentError for ``numSlices`` below 1 and for a generator that is already exhausted.

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
        """An RDD of the ints from ``start`` to ``end`` (excluded) by ``step``; of ``range(start)`` without ``end``.

        >>> await sc.range(1, 10, 3).collect()
        [1, 4, 7]
        """
        start = arguments.whole_number(start, "range", "start")
        if end is None:
            start, end, step = 0, start, 1
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

    def textFile(
        self, name: str | os.PathLike[str], minPartitions: int | None = None, use_unicode: bool = True
    ) -> RDD[str]:
        """The lines of text files, without their ends; UTF-8.

        ``name``: a path, a directory, a glob, or several of these separated by commas.  Large files are
        split by byte range into about ``minPartitions`` partitions; gzip and bz2 files are one
        partition each.  The files are looked for when a job needs them, not here.
        ``use_unicode=False``: lines as bytes.  Raises ArgumentTypeError for what is no path.

        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = pathlib.Path(directory, "1.txt").write_text("tiger tiger")
        ...     _ = pathlib.Path(directory, "2.txt").write_text("burning bright")
        ...     await sc.textFile(directory).collect()
        ['tiger tiger', 'burning bright']
        """
        if minPartitions is not None:
            minPartitions = arguments.whole_number(minPartitions, "textFile", "minPartitions", 1)
        return self._rdd(sources.TextFiles(arguments.path(name, "textFile", "name"), minPartitions, use_unicode))

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
        return self._rdd(Union([rdd._node for rdd in rdds])) if len(rdds) > 1 else rdds[0]

    def _own(self, rdd: Any, where: str) -> RDD[Any]:
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
        return self.defaultParallelism if n is None else arguments.whole_number(n, operation, "numSlices", 1)

    async def runJob(
        self,
        rdd: RDD[T],
        partitionFunc: Callable[[Iterator[T]], Iterable[Any]],
        partitions: Sequence[int] | None = None,
        allowLocal: bool = False,
    ) -> list[Any]:
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
        driver = self._driver
        self._check_loop()
        caller = current_task()
        if self._admitted is not None and caller not in self._admitted:
            raise ContextStopped("this SparkContext is about to stop, and takes no new jobs")
        options = self._options()
        deadline = self._application.job_deadline if options.deadline is None else options.deadline
        self._callers.add(caller)
        try:
            if self._gate is None and deadline is None:
                return await driver.run_job(node, sink, partitions, options)
            with anyio.move_on_after(deadline):
                async with self._gate.passed() if self._gate is not None else nullcontext():
                    return await driver.run_job(node, sink, partitions, options)
            assert deadline is not None
            raise JobDeadlineExceeded(deadline)
        finally:
            self._callers.discard(caller)
            if self._no_callers is not None and not self._callers:
                self._no_callers.set()

    def _check_loop(self) -> None:
        if self._home != current_loop():
            raise ContextError("this SparkContext belongs to another event loop: await its methods there")

    def submit(self, action: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> JobHandle[T]:
        """Begin an action, and return a handle: to wait for its result, look at its progress, or cancel it.

        ``action``: a method of an RDD or of this context, such as ``rdd.count``, which is called with the other
        arguments.  Its jobs have the job group, tags and properties that are set here.  A context that stops
        ends it.  Raises ArgumentTypeError for what can't be called.

        >>> job = sc.submit(sc.parallelize(range(100), 4).count)
        >>> await job.result()
        100
        >>> job.progress()
        JobProgress(jobs=1, tasks=4, completed=4, running=0, failed=0)
        """
        from asparkle.core.handles import JobHandle

        self._check_loop()
        arguments.function(action, "submit", "action", takes_async=True)
        return JobHandle(self._driver, lambda: action(*args, **kwargs))

    def statusTracker(self) -> StatusTracker:
        """What is known of the context's jobs, stages and executors, by number.

        >>> sc.statusTracker().getActiveJobsIds()
        []
        """
        from asparkle.core.status import StatusTracker

        return StatusTracker(self._driver, lambda function, *arguments: function(*arguments))

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
        path = os.path.join(self._application.spec.directories[0], "data", f"broadcast-{identity}")
        ref = await to_thread.run_sync(lambda: write_file(pack_frame(dumps(value)), path))
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

    # ------------------------------------------------------------------------- properties of jobs

    def setLocalProperty(self, key: str, value: str | None) -> None:
        """Set a property of the jobs that this task submits from now on; None removes it.

        >>> sc.setLocalProperty("spark.scheduler.pool", "reports")
        >>> sc.getLocalProperty("spark.scheduler.pool")
        'reports'
        """
        mine = dict(self._local())
        if value is None:
            mine.pop(key, None)
        else:
            mine[key] = str(value)
        _properties.set({**_properties.get(), self.applicationId: mine})

    def getLocalProperty(self, key: str) -> str | None:
        """A property set here or where this task was started; None if unset.

        >>> print(sc.getLocalProperty("spark.scheduler.pool"))
        None
        """
        return self._local().get(key)

    def _local(self) -> Mapping[str, str]:
        return _properties.get().get(self.applicationId, {})

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

    def addJobTag(self, tag: str) -> None:
        """Give the jobs submitted from here on a tag, by which they can be cancelled.

        >>> sc.addJobTag("report")
        >>> sc.getJobTags()
        {'report'}
        """
        self._set_tags(self.getJobTags() | {arguments.job_tag(tag)})

    def removeJobTag(self, tag: str) -> None:
        """Take a tag away again.

        >>> sc.addJobTag("report")
        >>> sc.removeJobTag("report")
        >>> sc.getJobTags()
        set()
        """
        self._set_tags(self.getJobTags() - {arguments.job_tag(tag)})

    def clearJobTags(self) -> None:
        """Take all tags away.

        >>> sc.addJobTag("report")
        >>> sc.clearJobTags()
        >>> sc.getJobTags()
        set()
        """
        self._set_tags(set())

    def getJobTags(self) -> set[str]:
        """The tags that jobs submitted now would have.

        >>> sc.getJobTags()
        set()
        """
        return set(filter(None, (self.getLocalProperty(TAGS) or "").split(",")))

    def _set_tags(self, tags: Collection[str]) -> None:
        self.setLocalProperty(TAGS, ",".join(sorted(tags)) or None)

    @contextmanager
    def jobTag(self, tag: str) -> Iterator[None]:
        """``with sc.jobTag("x"):`` tags the jobs submitted inside.

        >>> with sc.jobTag("report"):
        ...     sc.getJobTags()
        {'report'}
        >>> sc.getJobTags()
        set()
        """
        before = self.getLocalProperty(TAGS)
        self.addJobTag(tag)
        try:
            yield
        finally:
            self.setLocalProperty(TAGS, before)

    @contextmanager
    def jobDeadline(self, seconds: float) -> Iterator[None]:
        """``with sc.jobDeadline(30):`` gives each job submitted inside so many seconds, from its submission.

        A job that takes longer, waiting for its turn included, is cancelled, and its caller gets
        JobDeadlineExceeded, which is a TimeoutError.  Raises ArgumentError for what is no positive number.

        >>> with sc.jobDeadline(30):
        ...     await sc.parallelize(range(10)).count()
        10
        """
        seconds = arguments.seconds(seconds, "jobDeadline", "seconds")
        before = self.getLocalProperty(DEADLINE)
        self.setLocalProperty(DEADLINE, f"{max(round(seconds * 1e6), 1)}us")
        try:
            yield
        finally:
            self.setLocalProperty(DEADLINE, before)

    def _options(self) -> JobOptions:
        mine = self._local()
        handle = submission.get()
        if not mine and handle is None:
            return _NO_OPTIONS
        deadline = mine.get(DEADLINE)
        return JobOptions(
            pool=mine.get(POOL, "default"),
            group=mine.get(GROUP),
            tags=frozenset(self.getJobTags()),
            description=mine.get(DESCRIPTION, ""),
            properties=dict(mine),
            deadline=None if deadline is None else JOB_DEADLINE.parsed(deadline),
            submission=handle,
        )

    async def cancelJobGroup(self, groupId: str) -> None:
        """Cancel the jobs of a group that run or wait.  Their callers get JobCancelled.

        Raises ArgumentTypeError for what is no string.

        >>> await sc.cancelJobGroup("nightly")  # from another task than the one that waits for it
        """
        groupId = arguments.text(groupId, "cancelJobGroup", "groupId")
        self._driver.cancel_jobs(group=groupId, reason=f"job group {groupId!r} was cancelled")

    async def cancelJobsWithTag(self, tag: str) -> None:
        """Cancel the jobs that have a tag.

        >>> await sc.cancelJobsWithTag("report")
        """
        self._driver.cancel_jobs(tag=arguments.job_tag(tag), reason=f"jobs with the tag {tag!r} were cancelled")

    async def cancelAllJobs(self) -> None:
        """Cancel every job.

        >>> await sc.cancelAllJobs()
        """
        self._driver.cancel_jobs(reason="all jobs were cancelled")

    def setLogLevel(self, logLevel: str) -> None:
        """Set the level of asparkle's own log messages: ALL, DEBUG, INFO, WARN, ERROR, FATAL or OFF.

        >>> sc.setLogLevel("WARN")
        """
        from asparkle.core.logs import set_level

        set_level(logLevel)

    @staticmethod
    async def _in_thread(function: Callable[..., T], *arguments: Any) -> T:
        """Run a user's function of the driver's; off the event loop, which it might hold up."""
        return await to_thread.run_sync(function, *arguments)

    # ------------------------------------------------------------------------- events

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
        self._bus.add(listener, *events)
        self._driver.emit_to(self._bus.post)

    # ------------------------------------------------------------------------- persisted RDDs

    def _persist(self, node: Node) -> None:
        self._driver.cleaner.watch_rdd(node)

    async def _unpersist(self, node: Node) -> None:
        cleaner = self._driver.cleaner
        cleaner.unpersist(node.id)
        await to_thread.run_sync(cleaner.remove_blocks, node.id)


_NO_OPTIONS = JobOptions()


class _ListOf:
    """The list of what a function returns for a partition's iterator."""

    def __init__(self, function: Callable[[Iterator[Any]], Iterable[Any]]) -> None:
        self.function = function

    def __call__(self, elements: Iterator[Any]) -> list[Any]:
        return list(self.function(elements))
