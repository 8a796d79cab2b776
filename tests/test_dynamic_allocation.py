"""Dynamic allocation with real processes: they come with the work and go without it, and nothing is lost unawares."""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from waiting import until

from asparkle import SparkConf, StorageLevel
from asparkle.aio import RDD, SparkContext
from asparkle.core.allocationconf import allocation_conf
from asparkle.core.application import Application
from asparkle.core.events import ExecutorAdded, ExecutorRemoved, TaskEnded
from asparkle.errors import ConfigurationError, ContextStopped
from asparkle.newapplication import new_application
from asparkle.plugins.listeners import EventRecorder

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


def elastic(master: str = "processes[4]", *, backlog: str = "50ms", idle: str = "300ms", **more: object) -> SparkConf:
    conf = SparkConf().setMaster(master).set("spark.dynamicAllocation.enabled", "true")
    conf.set("spark.dynamicAllocation.schedulerBacklogTimeout", backlog)
    conf.set("spark.dynamicAllocation.executorIdleTimeout", idle)
    for key, value in more.items():
        conf.set(f"spark.dynamicAllocation.{key.replace('_', '.')}", value)
    return conf


def alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def workers(sc: SparkContext) -> int:
    return len(sc.statusTracker().getExecutorInfos())


def slow_tasks(sc: SparkContext, count: int) -> RDD[int]:
    """Their workers' pids, from tasks that take a moment."""

    def slowly(_: int) -> int:  # in here, so that new workers need not import this module first
        time.sleep(0.1)
        return os.getpid()

    return sc.parallelize(range(count), count).map(slowly)


async def all_at_work(sc: SparkContext, count: int) -> set[int]:
    """The pids of so many workers, which one job brings."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(slow_tasks(sc, 200).count)
        await until(lambda: workers(sc) == count)
        tasks.cancel_scope.cancel()
    return {remote.executor.info.pid or 0 for remote in sc._driver._remotes.values()}


# ------------------------------------------------------------------------------------------ growing and shrinking


async def test_workers_come_with_the_work_and_go_without_it() -> None:
    async with SparkContext(conf=elastic()) as sc:
        assert workers(sc) == 0
        recorder = EventRecorder()
        sc.addListener(recorder)
        pids = await all_at_work(sc, 4)
        assert len(pids) == 4 and all(map(alive, pids))
        await until(lambda: not any(map(alive, pids)))
        assert workers(sc) == 0
        assert await sc.parallelize(range(100), 10).sum() == 4950  # and they come again
        await until(lambda: workers(sc) == 0)
    assert len(recorder.of_type(ExecutorAdded)) == len(recorder.of_type(ExecutorRemoved)) > 4
    reasons = {event.reason.rsplit(" ", 2)[0] for event in recorder.of_type(ExecutorRemoved)}
    assert reasons == {"released: idle for"}
    assert all(event.released for event in recorder.of_type(ExecutorRemoved))
    outcomes = {event.outcome for event in recorder.of_type(TaskEnded)}
    assert not outcomes & {"failed", "fetch failed", "executor lost"}


async def test_between_the_least_and_the_most() -> None:
    conf = elastic("processes[2]", minExecutors=1, maxExecutors=3, initialExecutors=2)
    async with SparkContext(conf=conf) as sc:
        await until(lambda: workers(sc) == 2)
        pids = await all_at_work(sc, 3)
        await until(lambda: workers(sc) == 1)
        await until(lambda: sum(map(alive, pids)) == 1)


async def test_one_that_dies_while_nobody_needs_it_stays_dead() -> None:
    async with SparkContext(conf=elastic(idle="60s")) as sc:
        recorder = EventRecorder()
        sc.addListener(recorder)
        pids = await all_at_work(sc, 4)
        os.kill(min(pids), signal.SIGKILL)
        await until(lambda: workers(sc) == 3)
        assert await sc.parallelize(range(9), 3).count() == 9
        assert workers(sc) == 3
    assert len(recorder.of_type(ExecutorAdded)) == 4


async def test_a_barrier_stage_gets_its_slots() -> None:
    async with SparkContext(conf=elastic()) as sc:
        assert await sc.parallelize(range(4), 4).barrier().mapPartitions(lambda part: [sum(part)]).collect() == [
            0,
            1,
            2,
            3,
        ]


async def test_several_jobs_at_once_of_which_one_may_run() -> None:
    conf = elastic().set("asparkle.scheduler.maxConcurrentJobs", 1)
    async with SparkContext(conf=conf) as sc:
        sums: list[int] = []

        async def add() -> None:
            sums.append(await sc.parallelize(range(10), 5).sum())

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(add)
        assert sums == [45] * 5


# ---------------------------------------------------------------------------------------------- what is not lost


class Calls:
    """Counts the partitions that are computed: a file gets a line for each."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def counted(self, rdd: RDD[int]) -> RDD[int]:
        path = str(self.path)

        def count(partition: int, elements: Iterable[int]) -> Iterable[int]:
            with open(path, "a") as file:
                file.write(f"{partition}\n")
            return elements

        return rdd.mapPartitionsWithIndex(count)

    def take(self) -> Counter[str]:
        text = self.path.read_text() if self.path.exists() else ""
        self.path.unlink(missing_ok=True)
        return Counter(text.split())


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path / "calls")


async def test_a_shuffle_outlives_those_who_wrote_it(calls: Calls) -> None:
    async with SparkContext(conf=elastic()) as sc:
        pairs = calls.counted(sc.parallelize(range(40), 8)).map(lambda x: (x % 5, x))
        sums = pairs.reduceByKey(lambda a, b: a + b, 4)
        first = sorted(await sums.collect())
        assert sum(calls.take().values()) == 8
        await until(lambda: workers(sc) == 0)
        recorder = EventRecorder()
        sc.addListener(recorder)
        assert sorted(await sums.collect()) == first == [(k, sum(range(k, 40, 5))) for k in range(5)]
    assert calls.take() == Counter()
    assert [event.outcome for event in recorder.of_type(TaskEnded)] == ["success"] * 4


@pytest.mark.parametrize("level", ["DISK_ONLY", "MEMORY_ONLY"])
async def test_cached_partitions_are_still_there(level: str, calls: Calls) -> None:
    """On disk, where the workers have gone; in the memory of those that stay."""
    async with SparkContext(conf=elastic(minExecutors=0)) as sc:
        pids = await all_at_work(sc, 4)
        cached = calls.counted(sc.parallelize(range(40), 4)).persist(getattr(StorageLevel, level))
        assert await cached.sum() == 780
        holders = len({e for p in range(4) for e in sc._driver.blocks.holders((cached.id(), p))})
        await until(lambda: workers(sc) == (holders if level == "MEMORY_ONLY" else 0))
        await until(lambda: sum(map(alive, pids)) == workers(sc))
        assert await cached.sum() == 780
        assert calls.take() == Counter({str(p): 1 for p in range(4)})  # each once
        await cached.unpersist()
        await until(lambda: workers(sc) == 0)


async def test_until_their_time_is_over_and_that_is_said(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asparkle")
    async with SparkContext(conf=elastic(cachedExecutorIdleTimeout="1s")) as sc:
        recorder = EventRecorder()
        sc.addListener(recorder)
        cached = calls.counted(sc.parallelize(range(40), 1)).cache()
        assert await cached.sum() == 780
        await until(lambda: workers(sc) == 0)
        assert await cached.sum() == 780
        assert calls.take() == Counter({"0": 2})
    said = ", with 1 cached partitions and 0 map outputs that no other has"
    assert recorder.of_type(ExecutorRemoved)[0].reason.endswith(said)
    assert any("an executor is released" in message and said in message for message in caplog.messages)


async def test_results_are_right_while_workers_come_go_and_die() -> None:
    """A pause after every other job, long enough for all workers to go, and a kill about four times a second."""
    rng = random.Random(4)
    async with SparkContext(conf=elastic(backlog="20ms", idle="100ms", cachedExecutorIdleTimeout="200ms")) as sc:
        recorder = EventRecorder()
        sc.addListener(recorder)
        deaths = 0

        async def kill_at_random() -> None:
            nonlocal deaths
            while True:
                await anyio.sleep(rng.uniform(0.1, 0.4))
                if pids := [remote.executor.info.pid for remote in sc._driver._remotes.values()]:
                    with suppress(ProcessLookupError):
                        os.kill(rng.choice(pids), signal.SIGKILL)
                        deaths += 1

        def visit(pair: tuple[int, int]) -> tuple[int, int]:
            time.sleep(0.001)
            return pair

        cached = sc.parallelize(range(240), 12).map(lambda x: (x % 12, x * x)).cache()
        sums = cached.reduceByKey(lambda a, b: a + b, 6)
        expected = [(key, sum(x * x for x in range(key, 240, 12))) for key in range(12)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill_at_random)
            for round in range(16):
                again = cached.map(visit).reduceByKey(lambda a, b: a + b, 1 + rng.randrange(8))
                assert sorted(await again.collect()) == expected
                assert sorted(await sums.collect()) == expected
                if round % 2:
                    await until(lambda: workers(sc) == 0)
            tasks.cancel_scope.cancel()
    removed = Counter(event.released for event in recorder.of_type(ExecutorRemoved))
    assert deaths > 3 and removed[True] > 8
    assert recorder.of_type(TaskEnded)[-1].outcome == "success"


# ------------------------------------------------------------------------------------------------------ the ends


@pytest.mark.parametrize("after", [0.0, 0.02, 0.06, 0.15, 0.4])
async def test_a_context_that_is_stopped_while_it_grows_leaves_nothing(after: float, tmp_path: Path) -> None:
    conf = elastic("processes[8]", backlog="10ms").set("spark.local.dir", str(tmp_path))
    pids: set[int] = set()
    async with SparkContext(conf=conf) as sc:
        zygote = sc._driver._cluster.zygote.pid  # type: ignore[union-attr]
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                with pytest.raises(ContextStopped):
                    await slow_tasks(sc, 100).count()

            tasks.start_soon(run)
            await anyio.sleep(after)
            children = Path(f"/proc/{zygote}/task/{zygote}/children")
            if children.exists():
                pids = {int(pid) for pid in children.read_text().split()}
            await sc.stop()
    assert not any(map(alive, {zygote, *pids}))
    assert os.listdir(tmp_path) == []


async def test_and_while_it_shrinks() -> None:
    async with SparkContext(conf=elastic(idle="100ms")) as sc:
        pids = await all_at_work(sc, 4)
        await until(lambda: workers(sc) < 4)
    assert not any(map(alive, pids))


async def test_a_cluster_that_cannot_change_fails_no_job(caplog: pytest.LogCaptureFixture) -> None:
    async with SparkContext(conf=elastic(initialExecutors=1)) as sc:
        await until(lambda: workers(sc) == 1)

        async def refuse(executors: int) -> None:
            raise OSError("no room")

        sc._driver._cluster.set_target = refuse  # type: ignore[union-attr, method-assign]
        assert await slow_tasks(sc, 8).count() == 8
    assert any("the number of executors could not be changed" in message for message in caplog.messages)


# ------------------------------------------------------------------------------------------------- configuration


def application(master: str, **settings: object) -> Application:
    conf = SparkConf().setMaster(master).set("spark.dynamicAllocation.enabled", "true")
    for key, value in settings.items():
        conf.set(f"spark.{key.replace('_', '.')}", value)
    return new_application(None, None, conf)


def counts(application: Application) -> tuple[int, int, int, int]:
    """Executors at first, at least, at most; and the default parallelism."""
    conf = application.allocation
    assert conf is not None and application.first_executors == conf.initial and application.executors == conf.most
    return conf.initial, conf.least, conf.most, application.default_parallelism


class TestConfiguration:
    def test_the_most_is_what_the_master_asks_for(self) -> None:
        assert counts(application("processes[8]")) == (0, 0, 8, 8)
        assert counts(application("processes[8]", task_cpus=2)) == (0, 0, 4, 8)

    def test_unless_it_is_said(self) -> None:
        assert counts(application("processes[2]", dynamicAllocation_maxExecutors=6)) == (0, 0, 6, 6)

    def test_or_the_least_or_the_first_are_more(self) -> None:
        assert counts(application("processes[2]", dynamicAllocation_minExecutors=3)) == (3, 3, 3, 3)
        assert counts(application("processes[2]", dynamicAllocation_initialExecutors=3)) == (3, 0, 3, 3)

    def test_the_first_are_the_most_that_anything_says(self) -> None:
        some = {"dynamicAllocation_minExecutors": 1, "dynamicAllocation_initialExecutors": 2}
        assert counts(application("processes[8]", **some, executor_instances=5))[0] == 5
        assert counts(application("processes[8]", **some, executor_instances=1))[0] == 2
        assert counts(application("processes[4]", dynamicAllocation_maxExecutors=3, executor_instances=5))[0] == 3

    def test_where_an_executor_has_several_cores_as_many_take_its_place(self) -> None:
        conf = SparkConf().set("spark.dynamicAllocation.minExecutors", 1).set("spark.dynamicAllocation.maxExecutors", 3)
        found = allocation_conf(conf.set("spark.executor.instances", 2), executors=8, each=4)
        assert (found.initial, found.least, found.most) == (8, 4, 12)

    def test_memory_is_shared_by_as_many_as_there_may_be(self) -> None:
        assert application("processes[8]").spec.storage_memory == pytest.approx(
            application("processes[4]").spec.storage_memory / 2, rel=0.01
        )

    def test_times(self) -> None:
        some = {"schedulerBacklogTimeout": 2, "executorIdleTimeout": "5min", "shuffleTracking_timeout": 500}
        conf = application("local[2]", **{f"dynamicAllocation_{key}": value for key, value in some.items()}).allocation
        assert conf is not None
        assert (conf.backlog_timeout, conf.sustained_timeout) == (2.0, 2.0)
        assert (conf.idle_timeout, conf.cached_timeout, conf.shuffle_timeout) == (300.0, float("inf"), 0.5)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (
                {"minExecutors": 3, "maxExecutors": 2},
                "minExecutors = 3 is more than spark.dynamicAllocation.maxExecutors = 2",
            ),
            ({"initialExecutors": 1, "minExecutors": 2}, "initialExecutors = 1: expected from .*minExecutors = 2 to"),
            (
                {"initialExecutors": 5, "maxExecutors": 4},
                "initialExecutors = 5: expected from .* to .*maxExecutors = 4",
            ),
            ({"maxExecutors": 0}, "maxExecutors = '0': expected a whole number, 1 or more"),
            ({"minExecutors": -1}, "minExecutors = '-1': expected a whole number, 0 or more"),
            ({"schedulerBacklogTimeout": 0}, "schedulerBacklogTimeout = '0': expected a duration of more than 0"),
            (
                {"sustainedSchedulerBacklogTimeout": "0s"},
                "sustainedSchedulerBacklogTimeout = '0s': expected a duration",
            ),
            ({"executorAllocationRatio": 0}, "executorAllocationRatio = '0': expected a number above 0, up to 1"),
            ({"executorAllocationRatio": 1.5}, "executorAllocationRatio = '1.5': expected a number above 0, up to 1"),
            ({"executorIdleTimeout": "soon"}, "executorIdleTimeout = 'soon': expected a duration"),
        ],
    )
    def test_what_can_not_be(self, settings: dict[str, object], message: str) -> None:
        with pytest.raises(ConfigurationError, match=f"spark.dynamicAllocation.{message}"):
            application("processes[8]", **{f"dynamicAllocation_{key}": value for key, value in settings.items()})

    @pytest.mark.parametrize("master", ["threads[3]", "inline"])
    def test_in_the_drivers_process_it_has_no_effect_and_that_is_logged(
        self, master: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        found = application(master, dynamicAllocation_minExecutors=2)
        assert (found.allocation, found.executors, found.first_executors) == (None, 1, 1)
        (message,) = caplog.messages
        assert "spark.dynamicAllocation.enabled has no effect" in message and master in message

    def test_without_it_nothing_is_different(self) -> None:
        conf = SparkConf().setMaster("processes[3]").set("spark.dynamicAllocation.maxExecutors", "9")
        found = new_application(None, None, conf)
        assert (found.allocation, found.executors, found.first_executors, found.slots) == (None, 3, 3, 3)
        assert found.scheduler.allocation is None
