"""``SparkConf`` and the table of the configuration keys that asparkle understands.

``SparkConf`` is a bag of strings, as in PySpark: any key may be set and unknown ones are kept.  The table
gives meaning to the known ones: a type, a default, a sentence.  Nothing is parsed when it is set;
:func:`check_conf` parses every known key once, when a context is made, so that a bad value fails there.

This module is on the start-up path: it imports next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from asparkle.core.errors import ArgumentError, ArgumentTypeError, ConfigurationError

if TYPE_CHECKING:
    import re

    from asparkle.core.contracts import SchedulingPolicy
    from asparkle.core.scheduler.messages import SchedulerConf

T = TypeVar("T")

system_properties: dict[str, str] = {}
"""What a new conf starts with, as with a JVM's: the launcher's settings, and what `setSystemProperty` was given."""


class SparkConf:
    """The configuration of one application: string keys, string values.  Setters return ``self``.

    A context copies the conf that it is given, so later changes have no effect on it.  Unless ``loadDefaults`` is
    False, a new conf has what ``asparkle run`` or ``asparkle shell`` were told, if one of these started the program,
    and the ``spark.`` and ``asparkle.`` keys that `SparkContext.setSystemProperty` was given.

    >>> SparkConf().setMaster("local[2]").setAppName("words").get("spark.master")
    'local[2]'
    """

    def __init__(self, loadDefaults: bool = True) -> None:
        self._values: dict[str, str] = {}
        if loadDefaults:
            self._values |= {k: v for k, v in system_properties.items() if k.startswith(("spark.", "asparkle."))}

    def set(self, key: str, value: object) -> SparkConf:
        """Sets ``key`` to ``str(value)``.  Raises ArgumentTypeError for a None or a key that is no string."""
        if not isinstance(key, str):
            raise ArgumentTypeError(f"a configuration key is a string, not {key!r}")
        if value is None:
            raise ArgumentTypeError(f"{key} = None: a configuration value is a string; leave the key out instead")
        self._values[key] = str(value)
        return self

    def setIfMissing(self, key: str, value: object) -> SparkConf:
        """Sets ``key`` unless it has a value."""
        return self if key in self._values else self.set(key, value)

    def setMaster(self, value: str) -> SparkConf:
        """Sets ``spark.master``, where tasks run: ``local[*]``, ``threads[4]``, ..."""
        return self.set("spark.master", value)

    def setAppName(self, value: str) -> SparkConf:
        """Sets ``spark.app.name``."""
        return self.set("spark.app.name", value)

    def setSparkHome(self, value: str) -> SparkConf:
        """Sets ``spark.home``, which asparkle does not need."""
        return self.set("spark.home", value)

    def setExecutorEnv(
        self,
        key: str | None = None,
        value: str | None = None,
        pairs: Iterable[tuple[str, str]] | None = None,
    ) -> SparkConf:
        """Sets one environment variable of the executors (``key``, ``value``), or several (``pairs``)."""
        if (key is None) == (pairs is None):
            raise ArgumentError("setExecutorEnv takes either key and value, or pairs")
        for name, text in [(key, value)] if pairs is None else _pairs(pairs, "setExecutorEnv"):
            self.set(f"{EXECUTOR_ENV}{name}", text)
        return self

    def setAll(self, pairs: Iterable[tuple[str, object]]) -> SparkConf:
        """Sets each (key, value) of ``pairs``, in order.  Raises ArgumentTypeError for what is no such pairs."""
        for key, value in _pairs(pairs, "setAll"):
            self.set(key, value)
        return self

    @overload
    def get(self, key: str, defaultValue: None = None) -> str | None: ...

    @overload
    def get(self, key: str, defaultValue: str) -> str: ...

    def get(self, key: str, defaultValue: str | None = None) -> str | None:
        """The value that was set for ``key``, else ``defaultValue``; the table's defaults play no part."""
        return self._values.get(key, defaultValue)

    def getAll(self) -> list[tuple[str, str]]:
        """All (key, value) pairs, in the order in which the keys were first set."""
        return list(self._values.items())

    def contains(self, key: str) -> bool:
        """Whether ``key`` was set."""
        return key in self._values

    def toDebugString(self) -> str:
        """One ``key=value`` per line, sorted by key."""
        return "\n".join(f"{key}={value}" for key, value in sorted(self._values.items()))

    def clone(self) -> SparkConf:
        """A copy that shares nothing with this one."""
        return SparkConf(loadDefaults=False).setAll(self._values.items())


def _pairs(pairs: Any, method: str) -> list[tuple[Any, Any]]:
    try:
        if not isinstance(pairs, dict):
            return [(key, value) for key, value in pairs]
    except (TypeError, ValueError):
        pass
    raise ArgumentTypeError(f"{method}: pairs = {pairs!r}: expected (key, value) pairs, such as items() of a dict")


# ------------------------------------------------------------------------------ types of values, parsed

_BYTES = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
_BYTES |= {unit + "b": size for unit, size in _BYTES.items() if unit != "b"}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def _number_and_unit(text: str) -> tuple[int, str]:
    text = text.strip().lower()
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(number), text[len(number) :]


def parse_bytes(text: str, unit: str = "b") -> int:
    """A size in bytes: '512m', '1g', '64kb'; a bare number counts ``unit``.  Powers of 1024, as in Spark.

    Raises ValueError."""
    number, given = _number_and_unit(text)
    if number < 0 or (given or unit) not in _BYTES:
        raise ValueError(text)
    return number * _BYTES[given or unit]


def parse_seconds(text: str, unit: str = "ms") -> float:
    """A duration in seconds: '3s', '100ms', '5min', '1h'; a bare number counts ``unit``.

    Raises ValueError, also for a negative one."""
    number, given = _number_and_unit(text)
    if number < 0 or (given or unit) not in _SECONDS:
        raise ValueError(text)
    return number * _SECONDS[given or unit]


def parse_address(text: str) -> tuple[str, int]:
    """A host, and a port from 1 to 65535: 'localhost:8125', '[::1]:8125'.  Raises ValueError."""
    host, _, port = text.strip().rpartition(":")
    if not host or not 1 <= int(port) <= 65535 or (":" in host and not (host[0] == "[" and host[-1] == "]")):
        raise ValueError(text)
    return host.strip("[]"), int(port)


def _parse_bool(text: str) -> bool:
    return {"true": True, "false": False}[text.strip().lower()]


def _parse_pattern(text: str) -> re.Pattern[str]:
    import re

    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(text) from error


def _parse_mode(text: str) -> str:
    """Spark's own modes in any case, others as their plugins call them."""
    mode = text.strip()
    return mode.upper() if mode.upper() in ("FIFO", "FAIR") else mode


def _parse_list(text: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, text.split(","))))


class ConfigKey(Generic[T]):
    """One known key: how its text is parsed, what holds when it is not set, and what it is for.

    ``default`` is text as a user would write it; None: no value, ``read`` gives None.  ``expected`` ends
    the sentence "expected ..." of the error for a bad value.
    """

    __slots__ = ("default", "doc", "expected", "name", "parse", "type")

    def __init__(
        self, name: str, type: str, expected: str, parse: Callable[[str], T], default: str | None, doc: str
    ) -> None:
        self.name = name
        self.type = type
        self.expected = expected
        self.parse = parse
        self.default = default
        self.doc = doc

    def read(self, conf: SparkConf | Mapping[str, str]) -> T:
        """The parsed value in ``conf``, or the default; in workers, of `AppSpec.settings`.  Raises ConfigurationError."""
        text = conf.get(self.name)
        if text is None:
            text = self.default
        if text is None:
            return None  # type: ignore[return-value]  # such a key is declared as ConfigKey[... | None]
        return self.parsed(text)

    def parsed(self, text: str) -> T:
        """The value that ``text`` stands for.  Raises ConfigurationError."""
        try:
            return self.parse(text)
        except (ValueError, KeyError, OverflowError):
            raise ConfigurationError(f"{self.name} = {text!r}: expected {self.expected}") from None


EXECUTOR_ENV, HADOOP = "spark.executorEnv.", "spark.hadoop."
PREFIXES = {
    EXECUTOR_ENV: "An environment variable of every executor, named after the last dot.",
    HADOOP: "A setting of Hadoop's for files: credentials and endpoints (`fs.s3a.access.key`, ...), `validateOutputSpecs`, "
    "`mapreduce.input.fileinputformat.input.dir.recursive`.",
}
"""Families of keys: any key that begins so is known."""


def _text(name: str, default: str, doc: str) -> ConfigKey[str]:
    return ConfigKey(name, "text", "text", str, default, doc)


def _list(name: str, doc: str) -> ConfigKey[tuple[str, ...]]:
    return ConfigKey(name, "list", "a list with commas", _parse_list, "", doc)


def _bool(name: str, default: str, doc: str) -> ConfigKey[bool]:
    return ConfigKey(name, "boolean", "true or false", _parse_bool, default, doc)


def _choice(name: str, choices: tuple[str, ...], default: str, doc: str) -> ConfigKey[str]:
    def parse(text: str) -> str:
        return {choice.upper(): choice for choice in choices}[text.strip().upper()]

    return ConfigKey(name, " or ".join(choices), " or ".join(choices), parse, default, doc)


def _at_least(number: Callable[[str], T], least: float, most: float = float("inf")) -> Callable[[str], T]:
    def parse(text: str) -> T:
        value = number(text)
        if not least <= value <= most:  # type: ignore[operator]
            raise ValueError(text)
        return value

    return parse


def _int(name: str, default: str, doc: str, least: int = 1) -> ConfigKey[int]:
    return ConfigKey(name, "int", f"a whole number, {least} or more", _at_least(int, least), default, doc)


def _optional_int(name: str, doc: str, least: int = 1) -> ConfigKey[int | None]:
    expected = f"a whole number, {least} or more"
    return ConfigKey[int | None](name, "int", expected, _at_least(int, least), None, doc)


def _fraction(name: str, default: str, doc: str) -> ConfigKey[float]:
    return ConfigKey(name, "fraction", "a number from 0 to 1", _at_least(float, 0, 1), default, doc)


_UNIT_NAMES = {"b": "bytes", "m": "MiB", "ms": "milliseconds", "s": "seconds"}


def _bytes(name: str, default: str, doc: str, unit: str = "b", least: str = "0") -> ConfigKey[int]:
    expected = f"a size such as 512m or 1g (a bare number: {_UNIT_NAMES[unit]})"
    if least != "0":
        expected += f", {least} or more"
    parse = _at_least(lambda text: parse_bytes(text, unit), parse_bytes(least))
    return ConfigKey(name, "bytes", expected, parse, default, doc)


def _seconds(name: str, default: str, doc: str, unit: str = "ms") -> ConfigKey[float]:
    expected = f"a duration such as 3s or 100ms (a bare number: {_UNIT_NAMES[unit]})"
    return ConfigKey(name, "duration", expected, lambda text: parse_seconds(text, unit), default, doc)


def _optional_seconds(name: str, doc: str, unit: str = "ms") -> ConfigKey[float | None]:
    expected = f"a duration such as 3s or 100ms (a bare number: {_UNIT_NAMES[unit]})"
    return ConfigKey[float | None](name, "duration", expected, lambda text: parse_seconds(text, unit), None, doc)


_parse_positive_seconds = _at_least(lambda text: parse_seconds(text, "s"), 1e-6)
_POSITIVE_SECONDS = "a duration of more than 0, such as 1s or 500ms (a bare number: seconds)"


def _optional_bytes(name: str, doc: str, unit: str) -> ConfigKey[int | None]:
    expected = f"a size such as 512m or 1g (a bare number: {_UNIT_NAMES[unit]})"
    return ConfigKey[int | None](name, "bytes", expected, lambda text: parse_bytes(text, unit), None, doc)


# -------------------------------------------------------------------------------------------- the table

# fmt: off
# ruff: noqa: E501  (one key, one line)
# The application and its executors
MASTER = _text("spark.master", "local[*]", "Where tasks run: a master URL.")
APP_NAME = _text("spark.app.name", "asparkle", "The application's name, in events and logs.")
DEFAULT_PARALLELISM = _optional_int("spark.default.parallelism", "Partitions where none are asked for; not set: the number of slots.")
TASK_CPUS = _int("spark.task.cpus", "1", "Slots that one task takes; the master must have as many.")
EXECUTOR_INSTANCES = _optional_int("spark.executor.instances", "Executors, where the master is a plugin's; not set: what its URL asks for.  With no master, the launcher makes `local[N]` of it.")
EXECUTOR_CORES = _int("spark.executor.cores", "1", "Cores of each, likewise: so many executors of one slot take its place.")
ALLOCATION = _bool("spark.dynamicAllocation.enabled", "false", "Whether there are as many executors as there is work for: see [Dynamic allocation](../embedding.md#dynamic-allocation).  Has no effect where tasks run in the driver's process.")
ALLOCATION_MIN = _int("spark.dynamicAllocation.minExecutors", "0", "Executors that there always are.", 0)
ALLOCATION_MAX = _optional_int("spark.dynamicAllocation.maxExecutors", "Executors that there are at most; not set: as many as the master asks for.")
ALLOCATION_INITIAL = _optional_int("spark.dynamicAllocation.initialExecutors", "Executors that there are at first; not set: the least.  `spark.executor.instances` goes first if it is more.", 0)
ALLOCATION_BACKLOG = ConfigKey("spark.dynamicAllocation.schedulerBacklogTimeout", "duration", _POSITIVE_SECONDS, _parse_positive_seconds, "1s", "How long tasks wait for a slot before more executors are asked for.")
ALLOCATION_SUSTAINED = ConfigKey[float | None]("spark.dynamicAllocation.sustainedSchedulerBacklogTimeout", "duration", _POSITIVE_SECONDS, _parse_positive_seconds, None, "And then, each time, before yet more are; not set: as long.")
ALLOCATION_RATIO = ConfigKey("spark.dynamicAllocation.executorAllocationRatio", "fraction", "a number above 0, up to 1", _at_least(float, 1e-9, 1), "1", "Executors for each slot that tasks could use at once.")
ALLOCATION_IDLE = _seconds("spark.dynamicAllocation.executorIdleTimeout", "60s", "How long an executor has nothing to do before it is released.", "s")
ALLOCATION_CACHED_IDLE = _optional_seconds("spark.dynamicAllocation.cachedExecutorIdleTimeout", "The same, where cached partitions would be lost with it; not set: it is kept.", "s")
ALLOCATION_SHUFFLE_TRACKING = _bool("spark.dynamicAllocation.shuffleTracking.enabled", "true", "Whether an executor is kept while map outputs would be lost with it.  On one machine none are.")
ALLOCATION_SHUFFLE_IDLE = _optional_seconds("spark.dynamicAllocation.shuffleTracking.timeout", "How long it is kept then while it has nothing to do and no job needs them; not set: until nobody can use them.", "ms")
EXECUTOR_MEMORY = _optional_bytes("spark.executor.memory", "Memory per executor for cached blocks and operations; not set: its share of what the machine or the control group allows.", "m")
MEMORY_FRACTION = _fraction("spark.memory.fraction", "0.6", "The part of the executor's memory that blocks and operations may fill.")
PYTHON_WORKER_MEMORY = _bytes("spark.python.worker.memory", "512m", "What one task's aggregation, grouping or sort may hold before it spills to disk.", "m")
LOCAL_DIR = _list("spark.local.dir", "Directories for shuffle files, spills and disk blocks; not set: the system's temporary directory.")
FILES = _list("spark.files", "Files, paths or URLs, that every task finds with `SparkFiles.get`: as with `addFile`, when the context starts.")
ARCHIVES = _list("spark.archives", "Archives, likewise: as with `addArchive`.")
PROFILE = _bool("spark.python.profile", "false", "Whether tasks are profiled: see `show_profiles`.")
PROFILE_DUMP = _text("spark.python.profile.dump", "", "A directory that profiles are written to when the context stops; not set: they are printed then, unless that was done.")
SHOW_PROGRESS = _bool("spark.ui.showConsoleProgress", "false", "Whether jobs of more than half a second show a progress bar, where stderr is a terminal; the shell sets it.")

EVENT_LOG = _bool("spark.eventLog.enabled", "false", "Whether what the application does is logged for Spark's History Server.")
EVENT_LOG_DIR = _text("spark.eventLog.dir", "file:/tmp/spark-events", "The local directory of event logs, which must exist.")
EVENT_LOG_COMPRESS = _bool("spark.eventLog.compress", "false", "Whether they are compressed; needs `asparkle[compression]`.")
EVENT_LOG_CODEC = _choice("spark.eventLog.compression.codec", ("zstd", "lz4"), "zstd", "How.")
EVENT_LOG_ROLLING = _bool("spark.eventLog.rolling.enabled", "true", "Whether a log is a directory of files of limited size, or one file.")
EVENT_LOG_ROLL_SIZE = _bytes("spark.eventLog.rolling.maxFileSize", "128m", "What one of these files may hold, before it is compressed.", least="10m")
EVENT_LOG_BLOCK_UPDATES = _bool("spark.eventLog.logBlockUpdates.enabled", "false", "Whether a log tells which partitions are cached: without, the History Server's storage page is empty.")
EVENT_LOG_OVERWRITE = _bool("spark.eventLog.overwrite", "false", "Whether a log may replace one of the same name.")

REDACTION = ConfigKey("spark.redaction.regex", "regular expression", "a regular expression", _parse_pattern, "(?i)secret|password|token|access[.]?key", "Settings, and local properties of jobs, in whose key or value it is found are told to no listener and no log.")

# Tasks, stages and jobs
TASK_MAX_FAILURES = _int("spark.task.maxFailures", "4", "Attempts at one task before its job fails.")
STAGE_MAX_ATTEMPTS = _int("spark.stage.maxConsecutiveAttempts", "4", "Attempts at one stage that in succession end with a lost shuffle, before its jobs fail.")
LOCALITY_WAIT = _seconds("spark.locality.wait", "3s", "The longest time a task waits for a slot near its data.")
SCHEDULER_MODE = ConfigKey("spark.scheduler.mode", "text", "text", _parse_mode, "FIFO", "How jobs that run at once share the slots: `FIFO`, `FAIR`, or the name of a plugin's scheduling policy.")
ALLOCATION_FILE = ConfigKey[str | None]("spark.scheduler.allocation.file", "path", "a path", str, None, "A TOML file with the FAIR scheduler's pools.")
REDUCER_MAX_IN_FLIGHT = _bytes("spark.reducer.maxSizeInFlight", "48m", "Map outputs of other hosts that a task holds in memory before it needs them (a bare number: MiB).", "m", least="1m")
NETWORK_TIMEOUT = ConfigKey("spark.network.timeout", "duration", _POSITIVE_SECONDS, _parse_positive_seconds, "30s", "How long another host may keep a reader of its files waiting before it is taken for lost.")
REAPER_KILL_TIMEOUT = _seconds("spark.task.reaper.killTimeout", "2s", "How long a cancelled task may go on before its worker process is killed.")
MAX_RESULT_SIZE = _bytes("spark.driver.maxResultSize", "1g", "The most that the results of one job may take in all; 0: no limit.  What tasks in the driver's own process return is not copied, and not counted.")
BARRIER_SYNC_TIMEOUT = _seconds("spark.barrier.sync.timeout", "365d", "How long a barrier task waits for its stage's others.", "s")
SPECULATION = _bool("spark.speculation", "false", "Whether a second attempt is launched at slow tasks.")
SPECULATION_INTERVAL = _seconds("spark.speculation.interval", "100ms", "How often slow tasks are looked for.")
SPECULATION_MULTIPLIER = ConfigKey("spark.speculation.multiplier", "number", "a number, 1 or more", _at_least(float, 1), "3", "How many times the median a task must have run to be slow.")
SPECULATION_QUANTILE = _fraction("spark.speculation.quantile", "0.9", "The part of a stage's tasks that must have finished before any is called slow.")
SPECULATION_MIN_RUNTIME = _seconds("spark.speculation.minTaskRuntime", "100ms", "A task that has run for less is never slow.")
EXCLUDE = _bool("spark.excludeOnFailure.enabled", "false", "Whether executors and hosts on which tasks keep failing are left out.")
EXCLUDE_TIMEOUT = _seconds("spark.excludeOnFailure.timeout", "1h", "How long an executor or host is left out by the whole application.")
EXCLUDE_TASK_EXECUTOR = _int("spark.excludeOnFailure.task.maxTaskAttemptsPerExecutor", "1", "Failed attempts at one task on one executor before that task avoids it.")
EXCLUDE_TASK_NODE = _int("spark.excludeOnFailure.task.maxTaskAttemptsPerNode", "2", "Failed attempts at one task on one host before that task avoids it.")
EXCLUDE_STAGE_EXECUTOR = _int("spark.excludeOnFailure.stage.maxFailedTasksPerExecutor", "2", "Tasks of one stage that failed on one executor before that stage avoids it.")
EXCLUDE_STAGE_NODE = _int("spark.excludeOnFailure.stage.maxFailedExecutorsPerNode", "2", "Executors of one host that a stage avoids before it avoids the host.")
EXCLUDE_APPLICATION_EXECUTOR = _int("spark.excludeOnFailure.application.maxFailedTasksPerExecutor", "2", "Tasks that failed on one executor before the application avoids it.")
EXCLUDE_APPLICATION_NODE = _int("spark.excludeOnFailure.application.maxFailedExecutorsPerNode", "2", "Executors of one host that the application avoids before it avoids the host.")

# asparkle's own
SCHEDULER_PREFETCH = _seconds("asparkle.scheduler.prefetch", "5ms", "Work, by measured task times, that is sent ahead to an executor besides what it runs.")
BARRIER_SLOT_WAIT = _seconds("asparkle.scheduler.barrierSlotWait", "15s", "How long a barrier stage may want more slots than there are before its job fails.")
MAX_CONCURRENT_JOBS = _int("asparkle.scheduler.maxConcurrentJobs", "0", "Jobs that run at once, the others wait their turn; 0: no limit.", 0)
MAX_QUEUED_JOBS = _int("asparkle.scheduler.maxQueuedJobs", "0", "Jobs that may wait for their turn, one more is refused; 0: no limit.", 0)
JOB_DEADLINE = _optional_seconds("asparkle.job.deadline", "How long a job may take, waiting for its turn included, before it is cancelled; also a local property of jobs.  Not set: no limit.", "s")
DIRECT_RESULT_MAX = _bytes("asparkle.result.direct.max", "1m", "A result larger than this comes by block, not through the executor's channel.")
CACHE_POLICY = _text("asparkle.cache.policy", "lru", "Which cached block goes first when memory is short: `lru`, `lfu`, `fifo`, `cost`, or the name of a plugin's cache policy.")
SERIALIZER = _text("asparkle.serializer", "pickle", "How elements become bytes in shuffles, spills, cached partitions and results: the name of a serializer.")
DISK_STORE = _text("asparkle.store.disk", "disk", "Where cached partitions go that are kept on disk: the name of a block store.")
SHUFFLE_STORE = _text("asparkle.store.shuffle", "files", "Where map outputs lie between the stages of a job: the name of a shuffle store.")
PLUGINS = _list("asparkle.plugins", "Installed plugins to activate, by the name of their entry point.")
PLUGINS_BLOCK = _list("asparkle.plugins.block", "Plugins that are never loaded, by name; ASPARKLE_PLUGINS_BLOCK in the environment adds to it.")
LISTENER_QUEUE_SIZE = _int("asparkle.listener.queue.size", "10000", "Events that wait for one listener; what exceeds it is dropped and counted.")
LISTENER_FLUSH_TIMEOUT = _seconds("asparkle.listener.flush.timeout", "5s", "How long stop() lets listeners finish what waits for them.")
EVENTS_JSONLINES = ConfigKey[str | None]("asparkle.events.jsonlines.path", "path", "a path", str, None, "A file that every event is appended to, as a line of JSON.")
EVENTS_PROGRESS = ConfigKey("asparkle.events.progress.interval", "duration", "a duration of at least 10ms, such as 500ms (a bare number: seconds)", _at_least(lambda text: parse_seconds(text, "s"), 0.01), "500ms", "How often listeners are told how far stages are.")
METRIC_SINKS = _list("asparkle.metrics.sinks", "Where metrics go: names of metric sinks.")
METRICS_INTERVAL = ConfigKey("asparkle.metrics.interval", "duration", "a duration of at least 100ms, such as 10s (a bare number: seconds)", _at_least(lambda text: parse_seconds(text, "s"), 0.1), "10s", "How often metrics are reported to sinks.")
STATSD_ADDRESS = ConfigKey("asparkle.metrics.statsd.address", "host:port", "host:port, such as localhost:8125 or [::1]:8125", parse_address, "localhost:8125", "Where the sink `statsd` sends its packets, by UDP.")
STATSD_PREFIX = _text("asparkle.metrics.statsd.prefix", "asparkle", "What the names of its metrics begin with, before a dot and the application's name.")
# fmt: on

KEYS: dict[str, ConfigKey[Any]] = {key.name: key for key in [*globals().values()] if isinstance(key, ConfigKey)}
"""Every key of asparkle's own by its name, in the order of the table above."""


def check_conf(conf: SparkConf) -> None:
    """Parses every known key that ``conf`` sets.  Raises ConfigurationError at the first bad value.

    A key that is not known may be a plugin's; one that differs from asparkle's own in a letter or two is mentioned in the log.
    """
    for name, _ in conf.getAll():
        key = KEYS.get(name)
        if key is not None:
            key.read(conf)
        elif name.startswith("asparkle."):
            _mention_misspelt(name)


def _mention_misspelt(name: str) -> None:
    from difflib import get_close_matches

    for meant in get_close_matches(name, KEYS, 1, cutoff=0.92):
        from asparkle.core.logs import log

        log("asparkle.conf").warning("unknown configuration key: misspelt?", key=name, known=meant)


def settings_below(conf: SparkConf, prefix: str) -> dict[str, str]:
    """What ``conf`` sets of a family of keys, one of `PREFIXES`, by what follows the prefix."""
    return {key[len(prefix) :]: value for key, value in conf.getAll() if key.startswith(prefix)}


def scheduler_conf(
    conf: SparkConf, policy: Callable[[str], SchedulingPolicy], *, max_failures: int | None = None
) -> SchedulerConf:
    """The scheduler's settings; reads the pools' file.  ``policy``: what a mode's name stands for.  ``max_failures``:
    from ``local[N,F]``, goes first.

    Raises ConfigurationError, and what ``policy`` raises."""
    from asparkle.core.scheduler.messages import SchedulerConf

    pools = {}
    if path := ALLOCATION_FILE.read(conf):
        from asparkle.core.poolfile import read_pools

        pools = read_pools(path, policy)
    return SchedulerConf(
        max_failures=max_failures or TASK_MAX_FAILURES.read(conf),
        max_stage_attempts=STAGE_MAX_ATTEMPTS.read(conf),
        policy=policy(SCHEDULER_MODE.read(conf)),
        pools=pools,
        locality_wait=LOCALITY_WAIT.read(conf),
        prefetch_horizon=SCHEDULER_PREFETCH.read(conf),
        speculation=SPECULATION.read(conf),
        speculation_interval=SPECULATION_INTERVAL.read(conf),
        speculation_multiplier=SPECULATION_MULTIPLIER.read(conf),
        speculation_quantile=SPECULATION_QUANTILE.read(conf),
        speculation_min_runtime=SPECULATION_MIN_RUNTIME.read(conf),
        exclude=EXCLUDE.read(conf),
        exclude_task_executor=EXCLUDE_TASK_EXECUTOR.read(conf),
        exclude_task_node=EXCLUDE_TASK_NODE.read(conf),
        exclude_stage_executor=EXCLUDE_STAGE_EXECUTOR.read(conf),
        exclude_stage_node=EXCLUDE_STAGE_NODE.read(conf),
        exclude_application_executor=EXCLUDE_APPLICATION_EXECUTOR.read(conf),
        exclude_application_node=EXCLUDE_APPLICATION_NODE.read(conf),
        exclude_timeout=EXCLUDE_TIMEOUT.read(conf),
        barrier_timeout=BARRIER_SYNC_TIMEOUT.read(conf),
        barrier_slot_wait=BARRIER_SLOT_WAIT.read(conf),
    )
