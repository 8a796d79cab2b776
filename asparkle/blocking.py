"""What the blocking context has besides the generated methods: how it starts, stops, and is the only one."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from asparkle.core.conf import system_properties
from asparkle.core.driveronly import DriverOnly
from asparkle.core.errors import ArgumentError, ContextActive, ContextStopped, ForkedContextError, NestedContextError
from asparkle.core.taskcontext import TaskContext
from asparkle.jvm import JVM
from asparkle.newapplication import new_application, own_conf
from asparkle.portal import Portal

if TYPE_CHECKING:
    from typing import Self

    from asparkle.core.conf import SparkConf
    from asparkle.core.profiling import Profiler
    from asparkle.core.status import StatusTracker
    from asparkle.eventstreams import EventStream
    from asparkle.handles import JobHandle

T = TypeVar("T")


class _ActiveContext:
    """PySpark's name for the active context, on the class: None if there is none."""

    def __get__(self, instance: object, owner: type) -> BlockingContext | None:
        return _alive(BlockingContext._active)


class BlockingContext(DriverOnly):
    """A context whose event loop runs in a background thread.  One may be active at a time."""

    _active: ClassVar[weakref.ref[BlockingContext] | None] = None
    _active_lock: ClassVar[threading.RLock] = threading.RLock()

    # Not public in PySpark, and widely used.
    _active_spark_context = _ActiveContext()
    _jsc = JVM()
    _jvm = JVM()
    _gateway = JVM()

    @property
    def _conf(self) -> SparkConf:
        return self._context._conf

    def __init__(
        self,
        master: str | None = None,
        appName: str | None = None,
        sparkHome: str | None = None,
        pyFiles: Iterable[str] | None = None,
        environment: dict[str, str] | None = None,
        batchSize: int = 0,
        serializer: object = None,
        conf: SparkConf | None = None,
        *,
        plugins: Iterable[object] = (),
        profiler_cls: type[Profiler] | None = None,
    ) -> None:
        """Start executors; the context is ready when this returns.

        ``master``: where tasks run, such as ``local[4]``; ``appName``: the application's name.  Both go before
        what ``conf``, which is copied, says.  ``environment``: environment variables of the executors.
        ``plugins``: plugins and listeners of this context alone.  ``profiler_cls``: what profiles tasks if
        ``spark.python.profile`` is set.

        ``pyFiles``: paths to add with `addPyFile`.  ``sparkHome`` and ``batchSize`` are PySpark's and are ignored.
        ``serializer`` is refused: pickle is all there is.

        Raises ArgumentError for that, InputNotFound for a module that is not there, ConfigurationError for a bad
        key or master URL, PluginError for a plugin that can't be used, StorageError if nothing can be written in
        ``spark.local.dir``, and ContextActive if another context is active; then nothing is left running.

        >>> sc.stop()
        >>> with SparkContext("threads[2]", "sums") as mine:
        ...     mine.parallelize(range(4)).sum()
        6
        """
        if TaskContext.get() is not None:
            raise NestedContextError
        _refuse(serializer)
        conf = own_conf(conf)
        for name, value in (environment or {}).items():
            conf.setExecutorEnv(name, value)
        with BlockingContext._active_lock:
            active = _alive(BlockingContext._active)
            if active is not None:
                raise ContextActive(
                    f"there is an active context already: {active!r}; stop() it first, or use getOrCreate()"
                )
            application = new_application(master, appName, conf, plugins)
            self._pid = os.getpid()
            application.begin()
            try:
                self._portal = Portal(application, profiler_cls)
                self._portal.start()
            except BaseException:
                application.end()
                raise
            self._context = self._portal.context
            self._finalizer = weakref.finalize(self, _stop, self._portal, self._pid)
            try:
                for path in [pyFiles] if isinstance(pyFiles, str) else pyFiles or ():
                    self._call(self._context.addPyFile, path)
            except BaseException:
                self._finalizer()
                raise
            BlockingContext._active = weakref.ref(self)

    PACKAGE_EXTENSIONS: ClassVar[Iterable[str]] = (".zip", ".egg", ".jar")
    """Of the files that `addPyFile` takes for packages."""

    @classmethod
    def setSystemProperty(cls, key: str, value: str) -> None:
        """Set a key for the `SparkConf` of contexts to come, in this process.

        >>> SparkContext.setSystemProperty("spark.example.color", "blue")
        >>> SparkConf().get("spark.example.color")
        'blue'
        >>> SparkContext.getSystemProperty("spark.example.color")
        'blue'
        """
        system_properties[key] = value

    @classmethod
    def getSystemProperty(cls, key: str) -> str | None:
        """What `setSystemProperty` set; None if nothing did.

        >>> print(SparkContext.getSystemProperty("no.such.key"))
        None
        """
        return system_properties.get(key)

    @classmethod
    def getOrCreate(cls, conf: SparkConf | None = None) -> Self:
        """The active context, or a new one with ``conf``.

        >>> SparkContext.getOrCreate() is sc
        True
        """
        with BlockingContext._active_lock:
            active = _alive(BlockingContext._active)
            if active is not None:
                return active  # type: ignore[return-value]
            return cls(conf=conf)

    def stop(self, *, drain: float = 0.0) -> None:
        """End all executors and remove all files.  Jobs of other threads fail with `ContextStopped`.

        ``drain``: wait so many seconds at most for the jobs that run or wait for their turn; meanwhile new ones are
        refused with `ContextStopped`, but for those of actions that have begun.

        May be called again.

        >>> sc.stop(drain=10)
        >>> sc.stop()  # once more does no harm
        """
        if drain and self._finalizer.alive:
            self._call(self._context._drain, drain)
        self._finalizer()
        with BlockingContext._active_lock:
            if BlockingContext._active is not None and BlockingContext._active() is self:
                BlockingContext._active = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _is_alive(self) -> bool:
        """Whether it is this process's, and nobody has stopped it."""
        return self._finalizer.alive and self._pid == os.getpid()

    def _call(self, function: Callable[..., Awaitable[T]], *arguments: Any, **keywords: Any) -> T:
        """Run a coroutine function on the context's loop, and wait for it."""
        if os.getpid() != self._pid:
            raise ForkedContextError
        if not self._finalizer.alive:
            raise ContextStopped
        return self._portal.call(function, *arguments, **keywords)

    def _ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a plain function on the context's loop."""

        async def called() -> T:
            return function(*arguments)

        return self._call(called)

    def _tracker(self) -> StatusTracker:
        from asparkle.core.status import StatusTracker

        return StatusTracker(self._context._driver, self._ask)

    def _events(self, events: tuple[type, ...]) -> EventStream[Any]:
        from asparkle.core.eventstreams import ThreadFeed
        from asparkle.eventstreams import EventStream

        return EventStream(self._ask(self._context._reads, ThreadFeed, events))

    def _submit(self, action: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobHandle[Any]:
        from asparkle.handles import JobHandle, asynchronous

        coroutine = asynchronous(action, args, kwargs)
        return JobHandle(self, self._ask(lambda: self._context.submit(coroutine)))


def _refuse(serializer: object) -> None:
    """What can't be done is refused here, not discovered in a task."""
    if serializer is not None:
        raise ArgumentError(
            f"serializer = {serializer!r}: PySpark's serializers are not asparkle's, which a plugin brings and "
            "asparkle.serializer names; leave the argument out: pickle, with cloudpickle for functions, does them all"
        )


def _alive(reference: weakref.ref[BlockingContext] | None) -> BlockingContext | None:
    context = reference() if reference is not None else None
    return context if context is not None and context._is_alive else None


def _stop(portal: Portal, pid: int) -> None:
    if os.getpid() == pid:
        portal.stop()
