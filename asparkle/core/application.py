"""What a context is made of before there is an event loop: settings, directories, a cluster manager.

Everything that can be wrong with a configuration is found when the application is made, before anything is
started.  `Application.begin` makes the directories, and lets the manager start what takes time (a process)
while the rest of the program is still being imported.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol

from asparkle.core import conf as keys
from asparkle.core.conf import EXECUTOR_ENV, SparkConf, check_conf, scheduler_conf, settings_below
from asparkle.core.contracts import (
    FILE_SYSTEM,
    AppSpec,
    BlockStore,
    CachePolicy,
    ClusterManager,
    Codec,
    Serializer,
    ShuffleStore,
)
from asparkle.core.directories import ApplicationDirectories
from asparkle.core.errors import ConfigurationError, ContextStopped
from asparkle.core.masters import Master, default_memory, parse_master

if TYPE_CHECKING:
    import re

    from asparkle.core.contracts import Listener, SchedulingPolicy
    from asparkle.core.filesystems import Options
    from asparkle.core.scheduler import SchedulerConf
    from asparkle.core.scheduler.messages import AllocationConf

_numbers = itertools.count()
REDACTED: Final = "*********(redacted)"
"""What stands in the place of secrets, as in Spark."""


class Extensions(Protocol):
    """Where an application finds what a name stands for; see `asparkle.plugins`."""

    def cluster_manager(self, master: Master) -> ClusterManager: ...

    def path(self, contract: type | str, name: str) -> str: ...

    def activated_paths(self, contract: type | str) -> Mapping[str, str]: ...

    def scheduling_policy(self, name: str) -> SchedulingPolicy: ...

    def listeners(self, dropped: Callable[[], Mapping[str, int]] = ...) -> list[Listener]: ...

    def job_properties(self) -> list[Callable[[Mapping[str, str]], Mapping[str, str]]]: ...

    def task_scopes(self) -> list[str]: ...

    def packages(self) -> tuple[tuple[str, str], ...]: ...

    def settings(self) -> dict[str, str]: ...


class Application:
    """One application's settings and surroundings.

    Raises ConfigurationError for a bad key, value or master URL.  Nothing is started, and nothing is on disk,
    before `begin`.
    """

    def __init__(self, conf: SparkConf, extensions: Extensions) -> None:
        check_conf(conf)
        self.conf = conf
        self.start_time = int(time.time() * 1000)
        self.master_url = keys.MASTER.read(conf)
        master = parse_master(self.master_url)
        self.manager = extensions.cluster_manager(master)
        self.listeners = extensions.listeners
        self._scheduling_policy = extensions.scheduling_policy
        self.job_properties = extensions.job_properties()
        self.listener_queue_size = keys.LISTENER_QUEUE_SIZE.read(conf)
        self.progress_interval = keys.EVENTS_PROGRESS.read(conf)
        self.flush_timeout = keys.LISTENER_FLUSH_TIMEOUT.read(conf)
        self.max_concurrent_jobs = keys.MAX_CONCURRENT_JOBS.read(conf)
        self.max_queued_jobs = keys.MAX_QUEUED_JOBS.read(conf)
        self.job_deadline = keys.JOB_DEADLINE.read(conf)
        self.max_result = keys.MAX_RESULT_SIZE.read(conf)
        cores = master.slots or self._cores(conf)
        task_cpus = keys.TASK_CPUS.read(conf)
        self.slots = _tasks_at_once(cores, self.master_url, task_cpus)
        parallelism = keys.DEFAULT_PARALLELISM.read(conf)
        self.default_parallelism = parallelism or cores
        self.default_reduce_partitions = parallelism
        self.executors = 1 if self.manager.in_process else self.slots  # at most, under dynamic allocation
        self.allocation = self._allocation(conf, task_cpus, plugin=master.slots is None)
        if self.allocation is not None:
            self.executors = self.slots = self.allocation.most
            self.default_parallelism = parallelism or self.slots * task_cpus
        self.first_executors = self.executors if self.allocation is None else self.allocation.initial
        disk_store = extensions.path(BlockStore, keys.DISK_STORE.read(conf))
        shuffle_store = extensions.path(ShuffleStore, keys.SHUFFLE_STORE.read(conf))
        policy = extensions.path(CachePolicy, keys.CACHE_POLICY.read(conf))
        serializer = extensions.path(Serializer, keys.SERIALIZER.read(conf))
        kind = "app" if master.slots is None else "local"
        app_id = f"{kind}-{self.start_time}-{os.getpid()}-{next(_numbers)}"
        memory = keys.EXECUTOR_MEMORY.read(conf) or default_memory() // self.executors
        self._plugins_files = (extensions.activated_paths(FILE_SYSTEM), extensions.activated_paths(Codec))
        self._roots = keys.LOCAL_DIR.read(conf)
        self._directories: ApplicationDirectories | None = None
        self._lock = threading.Lock()  # `begin` may still run in its thread when who awaited it was cancelled
        self._ended = False
        self._max_failures = master.max_failures
        self.spec = AppSpec(
            app_id=app_id,
            name=keys.APP_NAME.read(conf),
            master=self.master_url,
            directories=(),  # known from `begin` on
            slots_per_executor=self.slots // self.executors,
            worker_memory=keys.PYTHON_WORKER_MEMORY.read(conf),
            storage_memory=int(memory * keys.MEMORY_FRACTION.read(conf)),
            direct_result=keys.DIRECT_RESULT_MAX.read(conf),
            kill_timeout=keys.REAPER_KILL_TIMEOUT.read(conf),
            task_cpus=task_cpus,
            environment=settings_below(conf, EXECUTOR_ENV),
            path=tuple(sys.path),
            directory=os.getcwd(),
            disk_store=disk_store,
            shuffle_store=shuffle_store,
            cache_policy=policy,
            serializer=serializer,
            settings=extensions.settings(),
            in_process=self.manager.in_process,
            task_scopes=tuple(extensions.task_scopes()),
            packages=extensions.packages(),
            fetch_ahead=keys.REDUCER_MAX_IN_FLIGHT.read(conf),
            network_timeout=keys.NETWORK_TIMEOUT.read(conf),
        )

    def _cores(self, conf: SparkConf) -> int:
        """Those of all executors, where the master URL is a plugin's."""
        asked = self.manager.executors(self.master_url)
        executors = keys.EXECUTOR_INSTANCES.read(conf) or asked
        return executors * keys.EXECUTOR_CORES.read(conf)

    def _allocation(self, conf: SparkConf, task_cpus: int, *, plugin: bool) -> AllocationConf | None:
        """The settings of dynamic allocation, if that is wanted and possible.  Raises ConfigurationError."""
        if not keys.ALLOCATION.read(conf):
            return None
        if self.manager.in_process:
            from asparkle.core.logs import log

            log().warning(f"{keys.ALLOCATION.name} has no effect: tasks run in this process", master=self.master_url)
            return None
        from asparkle.core.allocationconf import allocation_conf

        each = max(1, keys.EXECUTOR_CORES.read(conf) // task_cpus) if plugin else 1
        return allocation_conf(conf, self.executors, each)

    @cached_property
    def scheduler(self) -> SchedulerConf:
        """The scheduler's settings; raises ConfigurationError.

        Not read at once: the whole scheduler is imported for them, which a process that `begin` has started need
        not wait for.
        """
        return scheduler_conf(self.conf, self._scheduling_policy, max_failures=self._max_failures)._replace(
            allocation=self.allocation
        )

    @cached_property
    def file_options(self) -> Options:
        """What is said of files: Hadoop's settings, and the file systems and codecs of plugins."""
        from asparkle.core.filesystems import file_options

        return file_options(self.conf, *self._plugins_files)

    def redacted(self, settings: Mapping[str, str]) -> dict[str, str]:
        """``settings`` as listeners are told them: without what looks secret (`spark.redaction.regex`)."""
        secret = self._secret.search
        return {key: REDACTED if secret(key) or secret(value) else value for key, value in settings.items()}

    @cached_property
    def _secret(self) -> re.Pattern[str]:
        return keys.REDACTION.read(self.conf)

    @property
    def begun(self) -> bool:
        return self._directories is not None

    def begin(self) -> None:
        """Make the directories, and let the manager start what takes time.

        Raises StorageError for a local directory that can't be written to; then nothing is left.
        """
        with self._lock:
            if self._ended:
                raise ContextStopped
            self._directories = ApplicationDirectories(self._roots, self.spec.app_id)
            try:
                self.spec = self.spec._replace(directories=tuple(self._directories.paths))
                self.manager.prestart(self.spec, self.first_executors)
            except BaseException:
                self._undo()
                raise

    def end(self) -> None:
        """Undo `begin`, once no executor is left; and there is no `begin` after it.

        May be called twice, and from a thread.
        """
        with self._lock:
            self._ended = True
            self._undo()

    def _undo(self) -> None:
        self.manager.abandon()
        if self._directories is not None:
            self._directories.remove()


def _tasks_at_once(cores: int, url: str, task_cpus: int) -> int:
    """How many tasks the master's slots are for; raises ConfigurationError if none could run."""
    if task_cpus > cores:
        raise ConfigurationError(
            f"{keys.TASK_CPUS.name} = {task_cpus}: no task could run, as master {url!r} has {cores} "
            f"slot{'s' * (cores != 1)}; give tasks fewer, or use a master of more, such as local[{task_cpus}]"
        )
    return cores // task_cpus
