"""What stands between asparkle and a plugin that it calls in the midst of things: what breaks a promise is told with
the plugin's name, the method, and what was expected."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from types import TracebackType
from typing import Any, Final, TypeVar, get_args

from asparkle.core.contracts import (
    AppSpec,
    Cluster,
    ClusterManager,
    Connection,
    Executor,
    ExecutorInfo,
    Lost,
    PoolFacts,
    Rank,
    SchedulingPolicy,
    TaskSetFacts,
)
from asparkle.core.errors import AsparkleError, NoExecutors, PluginError
from asparkle.core.logs import log
from asparkle.core.protocol import Ready, Refused, ToDriver
from asparkle.core.shown import shown
from asparkle.core.unmet import unmet

F = TypeVar("F")
_REPORTS: Final = frozenset(get_args(ToDriver)) - {Ready, Refused}  # these come before an executor is given


class _Promises:
    """Of one object of a plugin's, by the contract that it is to meet."""

    def __init__(self, plugin: str, contract: type, target: object) -> None:
        self.plugin = plugin
        self._contract = contract.__name__
        self._class = type(target).__qualname__

    def broken(self, method: str, problem: str) -> PluginError:
        return PluginError(self.plugin, f"{self._contract}.{method}: {self._class} {problem}")

    @contextmanager
    def kept(self, method: str, allowed: type[Exception] = PluginError) -> Iterator[None]:
        """What is raised within is a broken promise, unless it is ``allowed``."""
        try:
            yield
        except (allowed, PluginError):
            raise
        except (Exception, SystemExit) as error:
            raise self.broken(method, f"raised {_told(error)}") from error

    async def result(self, method: str, returned: object) -> Any:
        """Of a coroutine method; called within `kept`."""
        if not isinstance(returned, Awaitable):
            raise self.broken(method, f"returned {shown(returned)}: expected a coroutine, as of 'async def {method}'")
        return await returned


def _told(error: BaseException) -> str:
    """What is in a group of one is what happened."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


class GuardedManager(ClusterManager):
    """A plugin's cluster manager.  Whatever of its promises is broken, jobs fail with a PluginError that says which."""

    def __init__(self, manager: ClusterManager, plugin: str) -> None:
        self.in_process = bool(manager.in_process)
        self.manager = manager
        self._promises = _Promises(plugin, ClusterManager, manager)

    def executors(self, url: str) -> int:
        with self._promises.kept("executors", AsparkleError):
            asked = self.manager.executors(url)
        if not isinstance(asked, int) or asked < 1:
            problem = f"returned {shown(asked)} for {url!r}: expected a whole number, 1 or more"
            raise self._promises.broken("executors", problem)
        return asked

    def prestart(self, app: AppSpec, executors: int) -> None:
        with self._promises.kept("prestart", AsparkleError):
            self.manager.prestart(app, executors)

    def abandon(self) -> None:
        try:
            self.manager.abandon()
        except (Exception, SystemExit) as error:  # the rest is cleaned up all the same
            log().error(str(self._promises.broken("abandon", f"raised {_told(error)}")), exc_info=error)

    def open(self, app: AppSpec) -> AbstractAsyncContextManager[Cluster]:
        with self._promises.kept("open", AsparkleError):
            opened: object = self.manager.open(app)
        if not isinstance(opened, AbstractAsyncContextManager):
            if inspect.iscoroutine(opened):
                opened.close()
            problem = f"returned {shown(opened)}: expected an asynchronous context manager of a Cluster"
            raise self._promises.broken("open", problem)
        return _Opened(opened, self._promises)


class _Opened(AbstractAsyncContextManager[Cluster]):
    """What a plugin's manager opened."""

    def __init__(self, opened: AbstractAsyncContextManager[Cluster], promises: _Promises) -> None:
        self._opened = opened
        self._promises = promises

    async def __aenter__(self) -> Cluster:
        with self._promises.kept("open", AsparkleError):
            cluster = await self._opened.__aenter__()
        if problem := unmet(type(cluster), Cluster):
            await self._opened.__aexit__(None, None, None)
            raise self._promises.broken("open", f"gave {shown(cluster)}: {problem}")
        return _GuardedCluster(cluster, self._promises.plugin)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if isinstance(error, Exception):  # somebody else's, which may come out of it in a group
            return await self._opened.__aexit__(kind, error, traceback)
        with self._promises.kept("open", AsparkleError):
            return await self._opened.__aexit__(kind, error, traceback)


class _GuardedCluster(Cluster):
    def __init__(self, cluster: Cluster, plugin: str) -> None:
        self._cluster = cluster
        self._promises = _Promises(plugin, Cluster, cluster)
        self._epochs: dict[str, int] = {}  # the last of each executor's

    @property
    def blocks_survive(self) -> bool:  # type: ignore[override]
        return bool(self._cluster.blocks_survive)

    @property
    def shares_files(self) -> bool:  # type: ignore[override]
        return bool(self._cluster.shares_files)

    def dial(self, host: str) -> Connection:
        with self._promises.kept("dial", OSError):
            return self._cluster.dial(host)

    async def added(self) -> Executor:
        with self._promises.kept("added", NoExecutors):
            executor = await self._promises.result("added", self._cluster.added())
        if not isinstance(executor, Executor):
            raise self._promises.broken("added", f"returned {shown(executor)}: expected an Executor")
        guarded = _GuardedExecutor(executor, self._promises.plugin)
        name, epoch = guarded.info[:2]
        if epoch <= (last := self._epochs.get(name, epoch - 1)):
            problem = f"returned executor {name!r} of epoch {epoch} after one of epoch {last}: expected a greater one"
            raise self._promises.broken("added", problem)
        self._epochs[name] = epoch
        return guarded

    async def set_target(self, executors: int) -> None:
        with self._promises.kept("set_target"):
            await self._promises.result("set_target", self._cluster.set_target(executors))

    def lost(self, executor: str) -> None:
        with self._promises.kept("lost"):
            self._cluster.lost(executor)

    async def release(self, ids: Collection[str]) -> None:
        with self._promises.kept("release"):
            await self._promises.result("release", self._cluster.release(ids))


class _GuardedExecutor(Executor):
    def __init__(self, executor: Executor, plugin: str) -> None:
        self._executor = executor
        self._promises = _Promises(plugin, Executor, executor)
        self.info = getattr(executor, "info", None)  # type: ignore[assignment]
        if not isinstance(self.info, ExecutorInfo):
            raise self._promises.broken("info", f"has {shown(self.info)} there: expected an ExecutorInfo")
        if problem := unmet(type(executor), Executor):
            raise PluginError(plugin, problem)

    def send(self, messages: Sequence[Any]) -> None:
        with self._promises.kept("send"):
            self._executor.send(messages)

    async def receive(self) -> Sequence[Any] | Lost:
        with self._promises.kept("receive"):
            reports = await self._promises.result("receive", self._executor.receive())
        if isinstance(reports, Lost):
            return reports
        if not isinstance(reports, Sequence) or not reports or any(type(report) not in _REPORTS for report in reports):
            problem = f"returned {shown(reports)}: expected at least one report of a worker's, or Lost"
            raise self._promises.broken("receive", problem)
        return reports

    def kill(self) -> bool:
        try:
            return self._executor.kill()
        except (Exception, SystemExit) as error:
            log().error(str(self._promises.broken("kill", f"raised {_told(error)}")), exc_info=error)
            return False


class GuardedPolicy(SchedulingPolicy):
    """A plugin's scheduling policy, until it fails; from then on jobs go in the order of their submission, and pools by
    what runs of them for their weight.

    A rank has one more number in front, so that what the policy has ranked before it failed goes first: later jobs
    come behind it, as in that order.
    """

    def __init__(self, policy: SchedulingPolicy, plugin: str, name: str) -> None:
        self.pools = bool(policy.pools)
        self.fixed = bool(policy.fixed)
        self._policy = policy
        self._plugin = plugin
        self._name = name
        self._failed = False

    def rank(self, tasks: TaskSetFacts) -> Rank:
        rank = self._rank("rank", self._policy.rank, tasks)
        return (1,) if rank is None else (0, *rank)

    def rank_pool(self, pool: PoolFacts) -> Rank:
        rank = self._rank("rank_pool", self._policy.rank_pool, pool)
        return (1, pool.running / pool.weight) if rank is None else (0, *rank)

    def _rank(self, method: str, ranked_by: Callable[[F], object], facts: F) -> Rank | None:
        if self._failed:
            return None
        try:
            rank = ranked_by(facts)
            if _is_rank(rank):
                return rank  # type: ignore[return-value]
            problem = f"returned {rank!r}: expected a tuple of numbers"
        except (Exception, SystemExit) as error:
            problem = f"raised {type(error).__name__}: {error}"
        self._failed = True
        told = PluginError(self._plugin, f"scheduling policy {self._name!r}: {method}({facts!r}) {problem}")
        log().error("from now on jobs are scheduled in the order of their submission", reason=str(told))
        return None


def _is_rank(rank: object) -> bool:
    """Numbers that can be compared: no NaN."""
    return isinstance(rank, tuple) and all(isinstance(part, int | float) and part == part for part in rank)
