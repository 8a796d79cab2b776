"""What people write who extend asparkle: listeners, plugins, profilers, accumulators.  Nothing here is ever run."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, assert_type

import asparkle
import asparkle.aio
from asparkle import AccumulatorParam, BasicProfiler, Profiler, SparkConf
from asparkle.events import Event, JobEnded, JobStarted, StageInfo, TaskEnded, unpack
from asparkle.plugins import (
    API_VERSION,
    AppSpec,
    BlockId,
    BlockStore,
    Buffer,
    CachePolicy,
    Cluster,
    ClusterManager,
    Executor,
    ExecutorInfo,
    Listener,
    Lost,
    ToDriver,
    ToExecutor,
    hookimpl,
)

T = TypeVar("T")


class Plain(Listener):
    name = "plain"
    events = (JobStarted, JobEnded)
    on_error = "remove"

    def on_event(self, event: JobStarted | JobEnded) -> None:
        if isinstance(event, JobStarted):
            assert_type(event.stages, tuple[StageInfo, ...])
            assert_type(event.group, str | None)
        else:
            assert_type(event.failure, str)
        assert_type(event.time, float)
        assert_type(event.job, int)

    def close(self) -> None:
        print("closed")


class Asynchronous(Listener):
    def __init__(self, url: str) -> None:
        self.url = url

    async def on_event(self, event: Event) -> None:
        if isinstance(event, TaskEnded):
            assert_type(event.outcome, str)
            assert_type(event.seconds, float)

    async def close(self) -> None:
        print(self.url)


def listening() -> None:
    sc = asparkle.SparkContext("local", plugins=[Plain(), Asynchronous("http://example.org"), "progress"])
    sc.addListener(Plain())
    sc.addListener(Asynchronous("http://example.org"), TaskEnded)
    asparkle.aio.SparkContext("local", plugins=[Plain()]).addListener(Plain(), JobStarted, JobEnded)
    assert_type(unpack(b""), Event)


class Newest(CachePolicy):
    def __init__(self, app: AppSpec) -> None:
        super().__init__(app)
        self._blocks: list[BlockId] = []

    def touch(self, block: BlockId) -> None:
        assert_type(block, tuple[int, int])
        self._blocks.append(block)

    def forget(self, block: BlockId) -> None:
        self._blocks.remove(block)

    def victims(self) -> Iterable[BlockId]:
        return reversed(self._blocks)


class InMemory(BlockStore):
    def __init__(self, app: AppSpec) -> None:
        super().__init__(app)
        assert_type(app.settings, dict[str, str])
        self._blocks: dict[BlockId, bytes] = {}

    def put(self, block: BlockId, chunks: Iterable[Buffer]) -> int:
        self._blocks[block] = b"".join(chunks)
        return len(self._blocks[block])

    def get(self, block: BlockId) -> memoryview | None:
        found = self._blocks.get(block)
        return None if found is None else memoryview(found)

    def remove(self, block: BlockId) -> bool:
        return self._blocks.pop(block, None) is not None


class Remote(Executor):
    def __init__(self, info: ExecutorInfo) -> None:
        self.info = info

    def send(self, messages: Sequence[ToExecutor]) -> None:
        assert_type(self.info.slots, int)

    async def receive(self) -> Sequence[ToDriver] | Lost:
        return Lost("the host is gone", blame=False)

    def kill(self) -> bool:
        return False


class Hosts(Cluster):
    async def added(self) -> Executor:
        return Remote(ExecutorInfo("1", 0, "host", 4))

    async def set_target(self, executors: int) -> None:
        print(executors)

    async def release(self, ids: Collection[str]) -> None:
        print(ids)


class Manager(ClusterManager):
    def open(self, app: AppSpec) -> AbstractAsyncContextManager[Cluster]:
        assert_type(app.master, str)
        assert_type(app.environment, dict[str, str])
        raise NotImplementedError


@hookimpl
def asparkle_cluster_managers() -> Mapping[str, type[ClusterManager] | str]:
    return {"hosts": Manager, "other": "other.manager:Manager"}


@hookimpl
def asparkle_block_stores() -> Mapping[str, type[BlockStore] | str]:
    return {"memory": InMemory}


@hookimpl
def asparkle_cache_policies() -> Mapping[str, type[CachePolicy] | str]:
    return {"newest": Newest}


@hookimpl
def asparkle_listeners(conf: SparkConf) -> Sequence[Listener]:
    return [Asynchronous(conf.get("example.url", "http://example.org"))]


version: int = API_VERSION
assert_type(asparkle_listeners(SparkConf()), Sequence[Listener])  # what is marked keeps its type


class Vector(AccumulatorParam[list[float]]):
    def zero(self, value: list[float]) -> list[float]:
        return [0.0] * len(value)

    def addInPlace(self, value1: list[float], value2: list[float]) -> list[float]:
        return [a + b for a, b in zip(value1, value2, strict=True)]


class Quiet(BasicProfiler):
    def show(self, id: int) -> None:
        print(id)


class Counting(Profiler):
    def profile(self, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return func(*args, **kwargs)

    def stats(self) -> int:
        return 0

    def show(self, id: int) -> None:
        print(id)

    def dump(self, id: int, path: str) -> None:
        print(id, path)


profiled = [asparkle.SparkContext(profiler_cls=Quiet), asparkle.SparkContext(profiler_cls=Counting)]
profiled_too = asparkle.aio.SparkContext(profiler_cls=Counting)
