"""Every error that asparkle raises on purpose: one tree under :class:`AsparkleError`.

Where a Python programmer would expect a built-in type (a bad value, a wrong type, a call at the wrong
moment) the error is that too, so ``except ValueError`` works.  All errors survive pickling with their
attributes; ``__cause__`` does not travel, as with any Python exception.  :class:`TaskKilled` stands
outside the tree on purpose: ``except Exception`` in a user's function must not swallow it.
"""

from __future__ import annotations

from _pickle import PicklingError  # pickle.PicklingError, without the time that importing pickle takes

from asparkle.core.shown import NOT_AWAITED, shown


def rebuild(cls: type[BaseException], args: tuple[object, ...], state: dict[str, object]) -> BaseException:
    """Unpickle without ``__init__``, whose signature differs from ``args``."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class AsparkleError(Exception):
    """The root: catches every error that asparkle itself raises, and nothing else."""

    def __reduce__(self) -> tuple[object, ...]:
        # an OSError keeps its filename outside of __dict__; BaseException.__setstate__ sets it
        elsewhere = {"filename": self.filename} if isinstance(self, OSError) else None
        return rebuild, (type(self), self.args, self.__dict__), elsewhere


# ------------------------------------------------------------------- kinds, as PySpark has them


PySparkException = AsparkleError


class PySparkValueError(AsparkleError, ValueError):
    """A value is not what it may be: PySpark's name for these errors, and their base."""


class PySparkTypeError(AsparkleError, TypeError):
    """A type is not what it may be: PySpark's name for these errors, and their base."""


class PySparkRuntimeError(AsparkleError, RuntimeError):
    """Something can't be done here, or now: PySpark's name for these errors, and their base."""


class PySparkAttributeError(AsparkleError, AttributeError):
    """A name is not there: PySpark's name for these errors, and their base."""


class PySparkImportError(AsparkleError, ImportError):
    """A module is not there: PySpark's name for these errors, and their base."""


class PySparkNotImplementedError(AsparkleError, NotImplementedError):
    """Something is not to be had: PySpark's name for these errors, and their base."""


class PySparkPicklingError(AsparkleError, PicklingError):
    """Something can't be pickled: PySpark's name for these errors, and their base."""


class AnalysisException(AsparkleError):
    """What is asked for is not there: PySpark's name for `InputNotFound`, and its base."""


# ------------------------------------------------------------------------------ what the caller gave


class ConfigurationError(PySparkValueError):
    """A configuration key has a value that its type does not allow, or a master URL is unknown or
    malformed.  Raised when the context is made, before anything is started."""


class ArgumentError(PySparkValueError):
    """An argument's value is out of range (0 partitions, a negative fraction).  Raised at the call,
    not at the action."""


class ArgumentTypeError(PySparkTypeError):
    """An argument has a type that the operation can't use.  Raised at the call, not at the action."""


class PluginError(AsparkleError):
    """A plugin can't be used: it failed to import, claims a name that is taken, is blocked, was written
    for another API version, or a hook or a backend of it raised or returned what its contract does not allow.

    ``plugin``: its name; ``problem``: the message without it."""

    def __init__(self, plugin: str, problem: str) -> None:
        super().__init__(f"plugin {plugin!r}: {problem}")
        self.plugin = plugin
        self.problem = problem


class NotSupported(PySparkAttributeError):
    """PySpark has this name, and asparkle does not: it is SQL's, or rests on the JVM.  The message says what to
    use.  As with any attribute that is missing, ``hasattr`` says so."""


class ModuleNotSupported(PySparkImportError, ModuleNotFoundError):
    """PySpark has this module, and asparkle does not.  ``except ImportError`` catches it."""


# ------------------------------------------------------------------- a context used at the wrong place


class ContextError(PySparkRuntimeError):
    """A context can't be used here or now; the subclasses say why."""


class ContextActive(ContextError, PySparkValueError):
    """There is an active context, and there may be one: `stop` it, or use `getOrCreate`.  In `asparkle.aio` there may
    be several."""


class ContextStopped(ContextError):
    """The context was stopped, or was never entered; also what jobs get that a stop interrupted."""

    def __init__(self, message: str = "this SparkContext is stopped; make a new one") -> None:
        super().__init__(message)


class ForkedContextError(ContextError):
    """A context was used in a forked child of the process that made it.  The child can't share its
    parent's executors: make a context in the child, or start it with the 'spawn' method."""

    def __init__(
        self,
        message: str = "this SparkContext belongs to the parent process; a forked child must make its own",
    ) -> None:
        super().__init__(message)


NO_JOBS = "only the driver starts jobs: join the two RDDs, or collect() the small one first and broadcast it"
"""Why tasks have no contexts and RDDs, and what to do."""


class NestedContextError(ContextError):
    """A context or an RDD was used inside a task, captured by a function that is sent to tasks, or pickled.

    Transformations and actions belong to the driver: collect or broadcast what the function needs, or copy it into a
    local variable where the function captured an object that has a context.

    If it was captured, ``name`` is the variable of the function that leads to it, and ``path`` the way, as in
    `PicklingFailed`."""

    def __init__(
        self,
        message: str = f"a SparkContext or RDD can't be used inside a task: {NO_JOBS}",
        name: str = "",
        path: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.name = name
        self.path: tuple[str, ...] = path


class NoExecutors(ContextError):
    """No executor could be started, however often that was tried; the message says why."""


class NodeError(PySparkRuntimeError):
    """A node can't be reached, or can't run asparkle: ssh fails, its Python is another one, it has no room for files.

    ``node``: its name; ``reason``: the message without it, in ssh's or the node's own words, and what to do."""

    def __init__(self, node: str, reason: str) -> None:
        super().__init__(f"node {node!r}: {reason}")
        self.node = node
        self.reason = reason


class DeadlockError(ContextError):
    """A blocking call was made where waiting could never end: on the context's own loop thread."""


# ------------------------------------------------------------------------------------ data and functions


def place(name: str, path: tuple[str, ...]) -> str:
    """Which variable, and the way to it, as messages tell it."""
    at = f": {shown(name)}" if name else ""
    if len(path) > 8:
        path = (*path[:4], f" -> {len(path) - 8} more -> ", *path[-4:])
    way = "".join(step if step.startswith((".", "[", " ")) else f" -> {step}" for step in path)
    return f"{at} (reached by {way.removeprefix(' -> ')})" if path else at


class PicklingFailed(PySparkPicklingError):
    """A function, an element, a result or a broadcast value can't be pickled.

    ``name``: the variable that holds the culprit, as the user wrote it; ``path``: the way to it from what
    was being pickled, outermost first, e.g. ``('lambda at job.py:7', 'self', 'connection')``.  The
    message names both, of a long path the ends; ``__cause__`` is what pickle itself said."""

    def __init__(self, what: str, name: str = "", path: tuple[str, ...] = (), reason: str = "") -> None:
        why = f": {reason}" if reason else ""
        if "'coroutine' object" in reason:
            why += f"; where a plain function returned it, {NOT_AWAITED}"
        super().__init__(f"can't pickle {what}{place(name, path)}{why}")
        self.name = name
        self.path: tuple[str, ...] = path


class KeyHashError(PySparkTypeError):
    """A key can't be put into a partition the same way in every process: it can't be hashed, or it is
    hashed by its identity only."""


class UserFunctionError(PySparkRuntimeError):
    """A user's function broke the rules of the operation that called it: a ``StopIteration`` escaped it,
    it returned something that can't be iterated, it gave a non-pair to an operation on pairs."""


class EmptyRDDError(PySparkValueError):
    """An action needs at least one element, and the RDD has none."""


class BarrierStageError(PySparkValueError):
    """A barrier stage was to compute what is not its own partitions, one in each task."""

    def __init__(self, tasks: int, other: int) -> None:
        self.tasks = tasks
        self.other = other
        super().__init__(
            "a barrier stage has one task for each partition of every RDD in it, and runs all of them: here are "
            f"{tasks} and {other}. What changes the number (coalesce, union, cartesian) or asks for some partitions "
            "only (take, first) has to come after a shuffle, or after collect()"
        )


class NeedsJVM(PySparkNotImplementedError):
    """An operation of PySpark's that runs Java classes, and there is no JVM here; says what to use."""

    def __init__(self, operation: str, instead: str) -> None:
        self.operation = operation
        super().__init__(f"{operation} runs Java classes, and asparkle has no JVM; use {instead}")


class InputNotFound(AnalysisException, FileNotFoundError):
    """A path does not exist, or a pattern matches no file.  ``filename`` is the path as it was given."""

    filename: str

    def __init__(self, problem: str, path: str) -> None:
        super().__init__(f"{problem}: {path!r}")
        self.filename = path

    def __str__(self) -> str:  # OSError's own wants an errno
        return str(self.args[0])


class InputIsDirectory(AsparkleError, IsADirectoryError):
    """A directory in an input directory, where files are expected.  ``filename`` is the one inside.

    The pattern ``input/*`` stands for the files of ``input`` and of the directories in it; for those of all levels set
    ``spark.hadoop.mapreduce.input.fileinputformat.input.dir.recursive`` to true."""

    filename: str

    def __init__(self, path: str, outer: str) -> None:
        super().__init__(
            f"{path!r} is no file but a directory in the input {outer!r}: read {outer.rstrip('/') + '/*'!r}, or all "
            "levels with spark.hadoop.mapreduce.input.fileinputformat.input.dir.recursive=true"
        )
        self.filename = path

    def __str__(self) -> str:
        return str(self.args[0])


class RemoteFileError(AsparkleError, OSError):
    """A file system elsewhere can't be reached, or refuses what was asked of it.  ``filename`` is the URL as it was
    given, ``__cause__`` what the file system's package said."""

    filename: str

    def __init__(self, url: str, cause: BaseException) -> None:
        super().__init__(
            f"{url!r}: {type(cause).__name__}: {cause}; check address, credentials and permissions "
            "(spark.hadoop.fs.*, or the environment)"
        )
        self.filename = url

    def __str__(self) -> str:
        return str(self.args[0])


class CorruptInput(AsparkleError, OSError):
    """A file is cut off, damaged, or not what it should be: a compressed file, a SequenceFile or pickle file, records
    of one length, an archive.  ``filename`` is the file."""

    filename: str

    def __init__(self, problem: str, path: str) -> None:
        super().__init__(f"{path!r}: {problem}")
        self.filename = path

    def __str__(self) -> str:
        return str(self.args[0])


class OutputExists(AsparkleError, FileExistsError):
    """There is something already where a job was to save its output; nothing was written.  ``filename`` is the
    path.

    Save under another name, or remove what is there; or set ``spark.hadoop.validateOutputSpecs`` to false,
    which replaces files of the same names and leaves the others."""

    filename: str

    def __init__(self, path: str) -> None:
        super().__init__(
            f"output directory {path} already exists: save under another name or remove it, "
            "or set spark.hadoop.validateOutputSpecs=false to write into it"
        )
        self.filename = path

    def __str__(self) -> str:
        return str(self.args[0])


class MissingDependency(PySparkImportError):
    """A package that is not installed is needed for what was asked; ``install`` is what to install."""

    def __init__(self, problem: str, install: str = "") -> None:
        super().__init__(f"{problem}: pip install '{install}'" if install else problem)
        self.install = install


class CommitDenied(PySparkRuntimeError):
    """Another attempt at the partition writes its output.  The attempt that gets this is not to blame, and not
    counted among failures; no job fails with it."""


class BroadcastDestroyed(PySparkRuntimeError):
    """A broadcast variable was used after its ``destroy()``."""

    def __init__(self, broadcast: int) -> None:
        super().__init__(f"broadcast {broadcast} was destroyed and can't be used any more")
        self.broadcast = broadcast


# ---------------------------------------------------------------------------------------------- storage


class StorageError(AsparkleError):
    """Blocks can't be written or read in ``directory``: the disk is full, read-only or gone.

    ``__cause__`` is the operating system's error."""

    def __init__(
        self,
        directory: str,
        problem: str | OSError,
        remedy: str = "free space there, or name other directories: in spark.local.dir, or on nodes by `directory`",
    ) -> None:
        reason = (problem.strerror or str(problem)) if isinstance(problem, OSError) else problem
        super().__init__(f"storage directory {directory!r}: {reason}; {remedy}")
        self.directory = directory


class HostUnreachable(AsparkleError, OSError):
    """The files of another host of the cluster can't be read: it is gone, or does not answer in time
    (``spark.network.timeout``).  Map outputs, results and cached partitions that lie there are computed again."""

    def __init__(self, host: str, problem: str) -> None:
        super().__init__(f"the files of {f'host {host!r}' if host else 'the driver'} can't be reached: {problem}")
        self.host = host


class CheckpointLost(AsparkleError):
    """A partition of a locally checkpointed RDD is lost with the executor that kept it, or was unpersisted, and there
    is nothing left to compute it from.  `RDD.checkpoint` keeps partitions in files."""

    def __init__(self, partition: int) -> None:
        super().__init__(
            f"partition {partition} of a locally checkpointed RDD is lost with the executor that kept it, or was "
            "unpersisted, and its lineage is forgotten: compute the RDD anew, or use checkpoint(), which keeps files"
        )
        self.partition = partition


class CorruptBlock(AsparkleError):
    """Bytes that should be a block are not one, or not the one that was written: truncated, torn or overwritten.
    Nothing of them has been unpickled.  Of a map output, or a cached partition, it means that it is computed again."""


class StoreFull(AsparkleError):
    """A block store has no room for a block, and nothing left that it may evict.  Raised by
    ``BlockStore.put``, which then has kept nothing of the block."""

    def __init__(self, store: str, needed: int, limit: int) -> None:
        super().__init__(f"{store} is full: a block needs {needed} bytes, the limit is {limit}")
        self.store = store
        self.needed = needed
        self.limit = limit


# ------------------------------------------------------------------------------------------------- jobs


class JobFailed(AsparkleError):
    """A job ended without a result.

    The message opens with the user's own exception (type and text), then the user's frames, then where
    it happened.  ``__cause__`` is the user's original exception where it could be carried over.

    ``kind``: 'task' (an attempt failed for the last time), 'fetch', 'indeterminate', 'excluded',
    'barrier', 'cancelled', 'deadline', 'refused' or 'result'.  ``job``, ``stage``, ``stage_name``, ``partition``,
    ``attempt`` (from 0), ``host`` and ``executor`` are None (or empty) where the failure has no such place.
    """

    kind = "task"

    def __init__(
        self,
        reason: str,
        *,
        frames: str = "",
        kind: str | None = None,
        job: int | None = None,
        stage: int | None = None,
        stage_name: str = "",
        partition: int | None = None,
        attempt: int | None = None,
        host: str | None = None,
        executor: str | None = None,
    ) -> None:
        self.reason = reason
        self.frames = frames
        if kind is not None:
            self.kind = kind
        self.job = job
        self.stage = stage
        self.stage_name = stage_name
        self.partition = partition
        self.attempt = attempt
        self.host = host
        self.executor = executor
        super().__init__("\n".join(filter(None, (reason.rstrip(), frames.rstrip(), self.where))))

    @property
    def where(self) -> str:
        """One line: partition, stage, job, attempt, executor and host, as far as they are known."""
        parts = []
        if self.partition is not None:
            parts.append(f"partition {self.partition}")
        if self.stage is not None:
            name = f" ({self.stage_name})" if self.stage_name else ""
            parts.append(f"stage {self.stage}{name}")
        if self.job is not None:
            parts.append(f"job {self.job}")
        line = "in " + " of ".join(parts) if parts else ""
        if self.attempt is not None:
            line += f", attempt {self.attempt}"
        if self.executor is not None:
            line += f", on executor {self.executor}"
        if self.host is not None:
            line += f" at {self.host}"
        return line.lstrip(", ")


class JobCancelled(JobFailed):
    """The job was cancelled: by its group, a tag, its id, Ctrl-C, or because its context stopped."""

    kind = "cancelled"


class JobDeadlineExceeded(JobCancelled, TimeoutError):
    """A job was not done within ``asparkle.job.deadline``, as configured or as `SparkContext.jobDeadline` says."""

    kind = "deadline"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the job took longer than its deadline of {seconds:g} s, waiting for its turn included; "
            "raise asparkle.job.deadline, or jobDeadline() around the action"
        )
        self.seconds = seconds


class TooManyJobs(JobFailed):
    """As many jobs wait for their turn as ``asparkle.scheduler.maxQueuedJobs`` allows; none was started."""

    kind = "refused"

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(
            f"{waiting} jobs wait for their turn, and asparkle.scheduler.maxQueuedJobs is {limit}: "
            "try again later, or raise it or asparkle.scheduler.maxConcurrentJobs"
        )
        self.waiting = waiting
        self.limit = limit


class ResultTooLarge(JobFailed):
    """The results of one job together exceed ``spark.driver.maxResultSize``; nothing more is fetched."""

    kind = "result"

    def __init__(self, size: int, limit: int, *, job: int | None = None) -> None:
        super().__init__(
            f"the job's results take {size} bytes so far, more than spark.driver.maxResultSize ({limit}): "
            "aggregate first, take() a part, iterate with toLocalIterator(), or raise the limit",
            job=job,
        )
        self.size = size
        self.limit = limit


class TaskKilled(BaseException):
    """Raised inside a running task to end it, because nobody wants its result any more.

    Not an ``Exception``: a user's ``except Exception`` lets it pass.  Never reaches the driver's caller."""
