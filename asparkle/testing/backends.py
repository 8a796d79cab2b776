"""What every backend is tested for: its cluster manager, its cluster, its executors.

Real workers run real tasks: through a real context, and, where a promise is about the channel itself, by messages
that are sent to one executor.  `Fleet` is the driver of such tests.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
import tempfile
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import anyio
import pytest
from anyio.abc import TaskGroup

from asparkle.core import protocol
from asparkle.core.application import Application
from asparkle.core.conf import SparkConf
from asparkle.core.contracts import AppSpec, Cluster, ClusterManager, Dial, Executor, ExecutorInfo, Lost
from asparkle.core.directories import ApplicationDirectories
from asparkle.core.errors import ConfigurationError, JobFailed, NoExecutors
from asparkle.core.fileclient import Broken, FileConnection
from asparkle.core.loop import in_thread
from asparkle.core.masters import parse_master
from asparkle.core.payloads import load
from asparkle.core.shown import shown
from asparkle.plugins.registry import PluginRegistry
from asparkle.testing import work
from asparkle.testing.leaks import Census, census, grown
from asparkle.testing.promises import Conformance, expect
from asparkle.testing.providing import providing
from asparkle.testing.work import Call

T = TypeVar("T")
SOON: Final = 0.3  # seconds in which what must not happen is given time to happen
MB: Final = 1 << 20

BRINGS: Final = "How many executors, of ``AppSpec.slots_per_executor`` slots each, the application would like"
LEAVING: Final = "ends all of them, waits until they are gone, and deletes what they have left"
NEVER_BLOCKS: Final = "Never blocks and never fails"
LAST: Final = "once and last, that the executor is lost and why"
KEY: Final = "a key"
OF_A_HOST: Final = {"directories", "path", "directory", "host", "dialer", "storage_memory", "environment"}
"""What is another for workers on a host that does not share the driver's files."""


class Seat:
    """One executor, and all that it has said."""

    def __init__(self, fleet: Fleet, executor: Executor) -> None:
        self.fleet = fleet
        self.executor = executor
        self.id = executor.info.id
        self.reports: list[Any] = []
        self.lost: Lost | None = None

    async def listen(self) -> None:
        while self.lost is None:
            received = await self.executor.receive()
            if isinstance(received, Lost):
                self.lost = received
            else:
                with self.fleet.kit.promised("Executor.receive", "The next reports, at least one"):
                    expect(len(received) > 0, f"returned {shown(received)}")
                self.reports += received

    def of(self, kind: type[T]) -> list[T]:
        return [report for report in self.reports if type(report) is kind]

    def send(self, *messages: Any, within: float = 2.0) -> None:
        with self.fleet.kit.promised("Executor.send", NEVER_BLOCKS, within=within):
            self.executor.send(messages)

    def ping(self, numbers: Sequence[int]) -> None:
        """Ask for something that every worker answers at once: for blocks that are not there."""
        self.send(*(protocol.Export(-1, -1, number) for number in numbers))

    @property
    def pongs(self) -> list[int]:
        """The numbers of the answers, as they came."""
        return [report.request for report in self.of(protocol.Exported)]

    def begin(self, function: Callable[..., Any], *arguments: Any) -> int:
        """Send a task; returns its number."""
        tid = next(self.fleet.tids)
        install = protocol.Install(tid, Call(function, *arguments).pickled(), False)
        self.send(install, protocol.Run(tid, [protocol.RunTask(tid, 0, 0, 0)], {}))
        return tid

    def result(self, tid: int) -> protocol.Succeeded | None:
        """How a task succeeded, if it has."""
        ended = [r for r in self.reports if type(r) in (protocol.Succeeded, protocol.Failed) and r.tid == tid]
        if ended and type(ended[0]) is protocol.Failed:
            error = load(protocol.payload(ended[0].error))
            expect(False, f"failed a task that can't fail: {shown(error)}")
        return ended[0] if ended else None

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function returns in the worker."""
        tid = self.begin(function, *arguments)
        with self.fleet.kit.promised("Executor", "One ordered duplex channel to a worker runtime"):
            await until(lambda: self.result(tid) or self.lost)
            done = self.result(tid)
            expect(done, f"was lost while it ran a harmless task: {self.lost.reason if self.lost else ''}")
            assert done is not None
            return load(protocol.payload(done.result))

    async def ends(self, contract: str, promise: str) -> Lost:
        """That the loss is reported."""
        with self.fleet.kit.promised(contract, promise):
            await until(lambda: self.lost is not None)
            assert self.lost is not None
        with self.fleet.kit.promised("Lost.reason", "in words, for messages"):
            expect(isinstance(self.lost.reason, str) and self.lost.reason, f"gave no reason: {self.lost!r}")
        return self.lost


class Fleet:
    """The executors of one cluster."""

    def __init__(self, kit: AnyBackendConformance, app: AppSpec, tasks: TaskGroup) -> None:
        self.kit = kit
        self.app = app
        self.tasks = tasks
        self.tids = itertools.count(1)
        self.seats: list[Seat] = []
        self.error: BaseException | None = None
        self.starting = 0.0  # seconds that executors took to come
        self.cluster: Cluster
        self._entered, self._leave, self._left = anyio.Event(), anyio.Event(), anyio.Event()
        self._scope = anyio.CancelScope()
        self._fails = False

    async def live(self, manager: ClusterManager) -> None:
        """The task that has the cluster's context open."""
        try:
            with self._scope:
                async with manager.open(self.app) as self.cluster:
                    self._entered.set()
                    await self._leave.wait()
                    if self._fails:
                        raise _OnPurpose
        except* _OnPurpose:
            pass  # in a group, if the cluster has a group of tasks
        finally:
            self._left.set()

    async def enter(self, manager: ClusterManager) -> None:
        self.tasks.start_soon(self.live, manager)
        with self.kit.promised("ClusterManager.open", "Entering it does not wait for executors"):
            await self._entered.wait()
        self.tasks.start_soon(self._admit)

    async def leave(self, how: str = "normally") -> None:
        self._fails = how == "by an error"
        if how == "cancelled":
            self._scope.cancel()
        self._leave.set()
        with self.kit.promised("ClusterManager.open", LEAVING):
            await self._left.wait()

    async def _admit(self) -> None:
        while True:
            try:
                executor = await self.cluster.added()
            except NoExecutors as error:
                self.error = error
                return
            with self.kit.promised("Cluster.added", "Each is returned once"):
                known = [seat.executor for seat in self.seats]
                expect(all(executor is not other for other in known), f"returned {executor.info} twice")
            with self.kit.promised("ExecutorInfo.id", "no two executors have it and the ``id``"):
                names = [(other.info.id, other.info.epoch) for other in known]
                name = (executor.info.id, executor.info.epoch)
                expect(name not in names, f"returned two executors with the id and epoch {name}")
            with self.kit.promised("ExecutorInfo.epoch", "a later one of that id has a greater one"):
                before = max((epoch for id, epoch in names if id == executor.info.id), default=executor.info.epoch - 1)
                said = f"gave an executor the epoch {executor.info.epoch}, when an earlier one of its id had {before}"
                expect(executor.info.epoch > before, said)
            seat = Seat(self, executor)
            self.seats.append(seat)
            self.tasks.start_soon(seat.listen)

    @property
    def live_seats(self) -> list[Seat]:
        return [seat for seat in self.seats if seat.lost is None]

    async def target(self, executors: int) -> None:
        with self.kit.promised("Cluster.set_target", "Does not wait for them", within=self.kit.patience / 2):
            await self.cluster.set_target(executors)

    async def bring(self, executors: int) -> list[Seat]:
        """As many executors as that, and no more."""
        began = time.monotonic()
        await self.target(executors)
        with self.kit.promised("Cluster.set_target", BRINGS):
            enough = await within(self.kit.patience - 1, lambda: len(self.live_seats) >= executors or self.error)
            expect(self.error is None, f"said that there are none to be had: {self.error}")
            expect(enough, f"brought {len(self.live_seats)} executors in {self.kit.patience - 1:g} s, not {executors}")
            expect(len(self.live_seats) == executors, f"brought {len(self.live_seats)} executors, not {executors}")
        self.starting = max(self.starting, time.monotonic() - began)
        return self.live_seats

    async def long_enough(self) -> None:
        """Give executors time to come that should not."""
        await anyio.sleep(SOON + min(1.5 * self.starting, self.kit.patience / 2))


class _OnPurpose(Exception):
    """What goes wrong inside a cluster's context."""


async def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition()`` is true: a promise around it says how long."""
    while not condition():
        await anyio.sleep(0.002)


async def within(seconds: float, condition: Callable[[], object]) -> bool:
    """Whether ``condition()`` becomes true in time."""
    with anyio.move_on_after(seconds):
        await until(condition)
        return True
    return False


class AnyBackendConformance(Conformance):
    """What holds for backends of both kinds: see `ExecutorBackendConformance` and `InProcessBackendConformance`."""

    master: ClassVar[str]
    """A master URL of the backend, for two slots or more."""
    bad_masters: ClassVar[Sequence[str]] = ()
    """Master URLs with its scheme that can't be understood."""
    settings: ClassVar[dict[str, str]] = {}
    """More of a context's settings, if the backend needs any."""
    loops: ClassVar[Sequence[str]] = ("asyncio", "trio")
    """The event loops that it supports; trio is tried where it is installed."""
    executors: ClassVar[int] = 2

    @abstractmethod
    def make(self) -> ClusterManager:
        """A new manager, as a context makes it: without arguments."""

    # ------------------------------------------------------------------------------------ what there is

    def subject(self) -> str:
        return type(self.manager).__name__

    def pytest_generate_tests(self, metafunc: Any) -> None:
        if "loop" in metafunc.fixturenames:
            installed = [loop for loop in self.loops if loop != "trio" or find_spec("trio")]
            metafunc.parametrize("loop", installed)

    @pytest.fixture(autouse=True)
    def _in_scratch_directories(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = tmp_path
        self.local, self.temporary = tmp_path / "local", tmp_path / "temporary"
        self.local.mkdir()
        self.temporary.mkdir()
        monkeypatch.setenv("TMPDIR", str(self.temporary))
        monkeypatch.setattr(tempfile, "tempdir", None)
        self.manager = self.make()

    def conf(self, **settings: object) -> SparkConf:
        conf = SparkConf().setAll(list(self.settings.items())).setMaster(self.master)
        conf.set("spark.local.dir", str(self.local))
        return conf.setAll([(key.replace("_", "."), str(value)) for key, value in settings.items()])

    def plugins(self) -> list[object]:
        found, _ = providing(ClusterManager, type(self.manager), parse_master(self.master).scheme)
        return found

    def application(self) -> Application:
        conf = self.conf()
        return Application(conf, PluginRegistry(conf, self.plugins()))

    @asynccontextmanager
    async def fleet(self, *, leave: bool = True, **spec: Any) -> AsyncIterator[Fleet]:
        """A cluster of an application whose spec is changed like this; left at the end, unless a test does that."""
        app = self.application().spec
        directories = ApplicationDirectories([str(self.local)], app.app_id)
        app = app._replace(directories=tuple(directories.paths), **{"direct_result": 1 << 40, **spec})
        try:
            async with anyio.create_task_group() as tasks:
                fleet = Fleet(self, app, tasks)
                await fleet.enter(self.make())
                try:
                    yield fleet
                finally:
                    if leave:
                        with anyio.CancelScope(shield=True):
                            await fleet.leave()
                    tasks.cancel_scope.cancel()
        finally:
            directories.remove()

    def grown(self, before: Census) -> str:
        """What there is more of than before, in words."""
        return grown(before, self.directory, patience=self.patience / 2)

    def run(self, loop: str, function: Callable[[], Awaitable[None]]) -> None:
        """Run a test's coroutine; it has some time for all that it does."""

        async def main() -> None:
            with self.promised("ClusterManager", "Brings executors", within=6 * self.patience):
                await function()

        with self.promised("ClusterManager", "Brings executors", within=7 * self.patience):
            anyio.run(main, backend=loop)

    # ---------------------------------------------------------------- the promises: settings, life, leaving

    def test_the_master_url(self) -> None:
        with self.promised("ClusterManager.executors", "How many executors the master ``url`` asks for"):
            number = self.manager.executors(self.master)
            expect(isinstance(number, int) and number > 0, f"returned {number!r} for {self.master!r}")

    def test_bad_master_urls(self) -> None:
        for url in self.bad_masters:
            with self.promised("ClusterManager.executors", "Raises `errors.ConfigurationError` for a URL"):
                try:
                    expect(False, f"returned {self.manager.executors(url)!r} for {url!r}")
                except ConfigurationError as error:
                    expect(url in str(error), f"raised an error that does not name {url!r}: {error}")

    def test_making_one_starts_nothing(self) -> None:
        before = census(self.directory)
        managers = [self.make() for _ in range(3)]
        with self.promised("ClusterManager", "The class is called without arguments, and starts nothing"):
            type(self.manager)()
            more = grown(before, self.directory, patience=0.0)
            expect(not more, f"was only made, and has {more}")
        del managers

    def test_what_was_begun_is_abandoned(self) -> None:
        self._begin_and_abandon()  # what it imports, it imports now
        before = census(self.directory)
        self._begin_and_abandon()
        with self.promised("ClusterManager.abandon", "Undo `prestart` when `open` will not follow"):
            more = self.grown(before)
            expect(not more, f"left {more}")

    def _begin_and_abandon(self) -> None:
        with self.promised("ClusterManager.prestart", "Begin what takes time and needs no event loop"):
            application = self.application()
            application.begin()
        with self.promised("ClusterManager.abandon", "Undo `prestart` when `open` will not follow"):
            application.end()
            self.make().abandon()  # nothing was begun

    def test_executors_come(self, loop: str) -> None:
        async def test() -> None:
            async with self.fleet() as fleet:
                seats = await fleet.bring(self.executors)
                wanted = self.application().spec.slots_per_executor
                with self.promised("AppSpec.slots_per_executor", "all that the master URL asks for"):
                    slots = [seat.executor.info.slots for seat in seats]
                    expect(slots == [wanted] * len(seats), f"brought executors of {slots} slots, not of {wanted} each")
                for seat in seats:
                    info, (_, pid) = seat.executor.info, await seat.call(work.whoami)
                    with self.promised("Executor.info", "One ordered duplex channel"):
                        expect(isinstance(info, ExecutorInfo), f"has info = {shown(info)}, which is no ExecutorInfo")
                    with self.promised("ExecutorInfo.host", "tasks prefer it for blocks that lie there"):
                        expect(info.host and isinstance(info.host, str), f"has a host without a name: {info}")
                    with self.promised("ExecutorInfo.pid", "its process, as it knows it, where that is known"):
                        expect(info.pid in (None, pid), f"says {info}, whose process is {pid}")
                    with self.promised("ExecutorInfo.labels", "texts by text"):
                        mapping = isinstance(info.labels, Mapping)
                        texts = mapping and all(isinstance(text, str) for each in info.labels.items() for text in each)
                        expect(texts, f"has labels that are no texts by text: {shown(info.labels)}")
                with self.promised("Cluster.set_target", BRINGS):
                    await anyio.sleep(SOON)
                    expect(len(fleet.seats) == self.executors, f"brought {len(fleet.seats)}, not {self.executors}")

        self.run(loop, test)

    @pytest.mark.parametrize("how", ["normally", "by an error", "cancelled"])
    @pytest.mark.parametrize("when", ["starting", "idle"])
    def test_leaving_leaves_nothing(self, how: str, when: str) -> None:
        self.leaves_nothing(self.loops[0], how, when)

    def test_leaving_at_once_leaves_nothing(self, loop: str) -> None:
        self.leaves_nothing(loop, "normally", "at once")

    def leaves_nothing(self, loop: str, how: str, when: str) -> None:
        """``when``: what the executors do when their cluster is left."""
        before = census(self.directory)
        workers: list[tuple[str, int]] = []

        async def test() -> None:
            async with self.fleet(leave=False) as fleet:
                if when == "starting":
                    await fleet.target(self.executors)
                elif when != "at once":
                    for seat in await fleet.bring(self.executors):
                        workers.append(await seat.call(work.whoami))
                        await self.occupy(seat, when)
                await fleet.leave(how)

        self.run(loop, test)
        with self.promised("ClusterManager.open", LEAVING):
            left = still_there(workers)
            expect(not left, f"left workers, the processes {left}, when it was left {how}")
            more = self.grown(before)
            expect(not more, f"left {more}, when it was left {how}, and its executors were {when}")

    async def occupy(self, seat: Seat, when: str) -> None:
        """Have the executor do something, by the name of it."""

    # ------------------------------------------------------------------------- the promises: the channel

    def test_messages_arrive_once_and_in_order(self, loop: str) -> None:
        count = 2000

        async def test() -> None:
            async with self.fleet() as fleet:
                seats = await fleet.bring(self.executors)
                for start in range(0, count, 7):
                    for number, seat in enumerate(seats):
                        seat.ping(range(number * count + start, number * count + min(count, start + 7)))
                    if start % 70 == 0:
                        await anyio.sleep(0)
                await within(self.patience / 2, lambda: all(len(set(seat.pongs)) == count for seat in seats))
                await anyio.sleep(SOON / 3)  # for what comes a second time
                for number, seat in enumerate(seats):
                    self.judge(seat.pongs, list(range(number * count, (number + 1) * count)))

        self.run(loop, test)

    def judge(self, answers: Sequence[int], wanted: Sequence[int]) -> None:
        with self.promised("Executor", "each at most once"):
            twice = [number for number, times in Counter(answers).items() if times > 1]
            expect(not twice, f"brought {len(twice)} of {len(wanted)} messages twice, first number {min(twice or [0])}")
        with self.promised("Executor", "None is left out while the executor lives"):
            missing = sorted(set(wanted) - set(answers))
            expect(not missing, f"lost {len(missing)} of {len(wanted)} messages, first number {min(missing or [0])}")
        with self.promised("Executor", "Messages arrive in the order in which they were sent"):
            foreign = sorted(set(answers) - set(wanted))
            expect(not foreign, f"brought answers of another executor, first number {min(foreign or [0])}")
            at = next((i for i, (a, b) in enumerate(zip(answers, wanted, strict=True)) if a != b), None)
            expect(at is None, f"brought number {answers[at or 0]} in the place of number {wanted[at or 0]}")

    def test_slots_run_at_the_same_time(self) -> None:
        async def test() -> None:
            async with self.fleet() as fleet:
                (seat, *_) = await fleet.bring(self.executors)
                slots = seat.executor.info.slots
                tids = [seat.begin(work.interval, 0.15) for _ in range(3 * slots)]
                with self.promised("ExecutorInfo.slots", "how many tasks it runs at once"):
                    await until(lambda: all(seat.result(tid) for tid in tids))
                    times = [load(protocol.payload(seat.result(tid).result)) for tid in tids]  # type: ignore[union-attr]
                    at_once = max(sum(b <= began < e for b, e in times) for began, _ in times)
                    expect(at_once == slots, f"ran {at_once} tasks at the same time in an executor of {slots} slots")

        self.run(self.loops[0], test)

    def test_a_cancelled_wait_loses_nothing(self) -> None:
        async def test() -> None:
            async with self.fleet() as fleet:
                seats = await fleet.bring(self.executors)
                executor = seats[0].executor
                seats[0].lost = Lost("this test listens instead")
                seats[0].ping([0])
                with anyio.move_on_after(0.5):
                    await executor.receive()  # the one that its seat was in may have had the answer
                pongs: list[int] = []
                with self.promised("Executor.receive", "Cancelled, it loses nothing"):
                    for number in range(1, 60):
                        seats[0].ping([number])
                        while number not in pongs and len(pongs) < 1000:
                            with anyio.move_on_after(0.0005 * (number % 4)):
                                received = await executor.receive()
                                expect(not isinstance(received, Lost), f"lost an executor: {received}")
                                pongs += [r.request for r in received if type(r) is protocol.Exported]
                            await anyio.sleep(0)
                expect(pongs == list(range(1, 60)), f"brought {shown(pongs)}")

        self.run(self.loops[0], test)

    # ------------------------------------------------------------------------------ the promises: whole jobs

    def with_context(self, loop: str, function: Callable[[Any], Awaitable[None]], **settings: object) -> None:
        """Run a coroutine function with a real context, which leaves nothing behind."""
        from asparkle.aio import SparkContext

        async def main() -> None:
            async with SparkContext(conf=self.conf(**settings), plugins=self.plugins()) as sc:
                await function(sc)

        before = census(self.directory)
        with self.promised("ClusterManager", "tasks give what they give anywhere", within=6 * self.patience):
            anyio.run(main, backend=loop)
        with self.promised("ClusterManager.open", LEAVING):
            more = self.grown(before)
            expect(not more, f"left {more}, after jobs")

    def test_jobs_give_right_results(self, loop: str) -> None:
        async def test(sc: Any) -> None:
            numbers = sc.parallelize(range(10_000), 8)
            sums = dict(await numbers.map(work.by_rest).reduceByKey(work.plus, 3).collect())
            expect(sums == {r: sum(range(r, 10_000, 7)) for r in range(7)}, f"made reduceByKey give {sums}")
            cached = numbers.map(work.identity).cache()
            for _ in range(3):
                total = await cached.sum()
                expect(total == 49995000, f"made the sum of a cached RDD {total}")
            ordered = await numbers.sortBy(work.identity, ascending=False, numPartitions=4).take(3)
            expect(ordered == [9999, 9998, 9997], f"made sortBy give {ordered}")
            large = await sc.parallelize([b"x" * MB] * 4, 4).map(work.identity).collect()
            expect(large == [b"x" * MB] * 4, f"made {len(large)} large results differ from what was sent")

        self.with_context(loop, test)

    def test_a_failing_job_disturbs_no_other(self) -> None:
        async def test(sc: Any) -> None:
            try:
                found = await sc.parallelize(range(20), 4).map(work.fails_at_13).collect()
                expect(False, f"made a job return {found}, whose task raised ValueError")
            except JobFailed as error:
                expect("ValueError: thirteen" in str(error), f"made a job fail with {error}")
            total = await sc.parallelize(range(20), 4).sum()
            expect(total == 190, f"made the next job return {total}")

        self.with_context(self.loops[0], test)

    def test_many_jobs_at_once(self) -> None:
        async def test(sc: Any) -> None:
            found: dict[int, int] = {}

            async def job(number: int) -> None:
                found[number] = await sc.parallelize(range(number), 3).map(work.identity).sum()

            async with anyio.create_task_group() as tasks:
                for number in range(1, 40):
                    tasks.start_soon(job, number)
            wrong = {n: total for n, total in found.items() if total != n * (n - 1) // 2}
            expect(not wrong, f"made some of 39 jobs return {wrong}")

        self.with_context(self.loops[0], test)

    def test_a_cancelled_job_disturbs_no_other(self) -> None:
        async def test(sc: Any) -> None:
            began = time.monotonic()
            with anyio.move_on_after(0.1):
                await sc.parallelize(range(4), 4).map(work.naps).collect()
            took = time.monotonic() - began
            expect(took < 1.0, f"held up the caller of a cancelled job for {took:.1f} seconds")
            total = await sc.parallelize(range(20), 4).sum()
            expect(total == 190, f"made the next job return {total}")

        self.with_context(self.loops[0], test)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def still_there(workers: Sequence[tuple[str, int]], patience: float = 2.0) -> list[int]:
    """Those workers' processes that still live on this machine, after a while."""
    deadline = time.monotonic() + patience
    while True:
        here = [pid for host, pid in workers if host == socket.gethostname() and pid != os.getpid() and lives(pid)]
        if not here or time.monotonic() > deadline:
            return here
        time.sleep(0.02)


class InProcessBackendConformance(AnyBackendConformance):
    """Tests a backend whose executors live in the driver's process (`ClusterManager.in_process`).

    class TestMine(InProcessBackendConformance):
        master = "mine[2]"

        def make(self):
            return MyManager()
    """

    executors = 1

    def test_it_says_so(self) -> None:
        with self.promised("ClusterManager.in_process", "its executors live in the driver's process"):
            expect(self.manager.in_process, "has in_process = False: use ExecutorBackendConformance")

        async def test() -> None:
            async with self.fleet() as fleet:
                (seat,) = await fleet.bring(1)
                _, pid = await seat.call(work.whoami)
                with self.promised("ClusterManager.in_process", "its executors live in the driver's process"):
                    expect(pid == os.getpid(), f"ran a task in process {pid}, not in {os.getpid()}")

        self.run(self.loops[0], test)

    def test_it_cant_be_killed(self) -> None:
        async def test() -> None:
            async with self.fleet() as fleet:
                (seat,) = await fleet.bring(1)
                with self.promised("Executor.kill", "False where that can't be done"):
                    killed = seat.executor.kill()
                    expect(killed is False, f"returned {killed!r}, in the driver's own process")
                await seat.call(work.whoami)

        self.run(self.loops[0], test)


class ExecutorBackendConformance(AnyBackendConformance):
    """Tests a backend whose workers are processes, here or elsewhere.

    class TestMine(ExecutorBackendConformance):
        master = "mine://2"
        bad_masters = ("mine://", "mine://many")

        def make(self):
            return MyManager()
    """

    async def occupy(self, seat: Seat, when: str) -> None:
        if when == "busy":
            await self.started(seat)
        elif when == "just killed":
            seat.executor.kill()
        elif when == "given much":
            seat.begin(work.echo, bytes(8 * MB))

    async def started(self, seat: Seat) -> int:
        """A task that runs, and does not end."""
        marker = self.directory / "temporary" / f"started-{seat.id}"
        tid = seat.begin(work.sleeps, str(marker))
        with self.promised("Executor", "One ordered duplex channel to a worker runtime"):
            await until(lambda: marker.exists() or protocol.Started(tid) in seat.reports)
        marker.unlink(missing_ok=True)
        return tid

    def test_it_is_no_in_process_backend(self) -> None:
        with self.promised("ClusterManager.in_process", "its executors live in the driver's process"):
            expect(not self.manager.in_process, "has in_process = True: use InProcessBackendConformance")

    def test_the_files_of_its_hosts(self) -> None:
        """Of a cluster whose executors share the driver's files, there are none to connect to."""

        async def test() -> None:
            async with self.fleet() as fleet:
                (seat,) = await fleet.bring(1)
                host = seat.executor.info.host
                dial = fleet.cluster.dial
                apart = not fleet.cluster.shares_files
                theirs = AppSpec.from_plain(work.Found(*await seat.call(work.look_around, KEY)).app)
                with self.promised("Cluster.shares_files", "all executors see the driver's files"):
                    same = theirs.directories == fleet.app.directories
                    expect(same or apart, f"has a worker whose directories are {theirs.directories}")
                with self.promised("ExecutorInfo.host", "it is also the `AppSpec.host` of a worker"):
                    named = theirs.host in ("", seat.executor.info.host)
                    expect(named, f"named {theirs.host!r} to a worker on {seat.executor.info.host!r}")
                with self.promised("Cluster.dial", "A connection to the file server of a host", within=self.patience):
                    if apart:
                        await in_thread(self._serves_files, dial, host)
                    try:
                        (await in_thread(dial, "no such host")).close()
                        expect(not apart, "gave a connection to a host that there is not")
                    except OSError:
                        pass

        self.run(self.loops[0], test)

    def _serves_files(self, dial: Dial, host: str) -> None:
        connection = dial(host)
        try:
            server = FileConnection(connection, self.patience / 2)
            try:
                server.size("/no/such/file")
                expect(False, "gave a connection to what has a file /no/such/file for the application")
            except PermissionError:
                pass  # it serves an application's files, and that is none
            except Broken as error:
                expect(False, f"gave a connection to what is no file server: {error}")
        finally:
            connection.close()

    def test_opening_does_not_wait_for_executors(self) -> None:
        """Workers of this test are never ready; and leaving ends them all the same."""
        before = census(self.directory)

        async def test() -> None:
            async with self.fleet(disk_store="asparkle.testing.work:StuckStore") as fleet:
                await fleet.target(2)
                await anyio.sleep(SOON)
                with self.promised("Cluster.added", "The next executor that is ready to be sent tasks"):
                    expect(not fleet.seats, "returned an executor that is not ready")

        self.run(self.loops[0], test)
        with self.promised("ClusterManager.open", LEAVING):
            more = self.grown(before)
            expect(not more, f"left {more}, when it was left with workers that were never ready")

    def test_workers_that_cant_start(self) -> None:
        async def test() -> None:
            async with self.fleet(disk_store="asparkle.testing.work:BrokenStore") as fleet:
                await fleet.target(2)
                with self.promised("Cluster.added", "Raises `errors.NoExecutors` when executors can't be started"):
                    await within(3 * self.patience - 1, lambda: fleet.error or fleet.seats)
                    expect(not fleet.seats, "returned an executor whose worker had ended before it was ready")
                    said = f"had said nothing after {3 * self.patience - 1:g} s, when no worker could start"
                    expect(fleet.error is not None, said)

        self.run(self.loops[0], test)

    @pytest.mark.parametrize("when", ["busy", "just killed", "given much"])
    def test_leaving_what_is_not_idle_leaves_nothing(self, when: str) -> None:
        self.leaves_nothing(self.loops[0], "normally", when)

    def test_cancelled_while_busy_leaves_nothing(self, loop: str) -> None:
        self.leaves_nothing(loop, "cancelled", "busy")

    def test_large_messages(self) -> None:
        async def test() -> None:
            async with self.fleet() as fleet:
                data = os.urandom(1 << 16) * (4 * MB >> 16)
                for seat in await fleet.bring(2):
                    seat.ping([1])
                    with self.promised("Executor", "of any size"):
                        found = await seat.call(work.echo, data)
                        expect(found == data, f"brought {len(found)} bytes back, not the {len(data)} that were sent")
                    seat.ping([2])
                    with self.promised("Executor", "None is left out while the executor lives"):
                        await until(lambda seat=seat: seat.pongs == [1, 2])  # type: ignore[misc]

        self.run(self.loops[0], test)

    def test_sending_never_blocks(self, loop: str) -> None:
        """While the worker is stopped, and reads nothing, much is sent to it."""

        async def test() -> None:
            async with self.fleet() as fleet:
                seat, other = await fleet.bring(2)
                pid = await self.pid_here(seat)
                os.kill(pid, signal.SIGSTOP)
                try:
                    tids = [seat.begin(work.echo, bytes(2 * MB)) for _ in range(3)]
                    await other.call(work.whoami)
                finally:
                    os.kill(pid, signal.SIGCONT)
                with self.promised("Executor", "None is left out while the executor lives"):
                    await until(lambda: all(seat.result(tid) for tid in tids))

        self.run(loop, test)

    async def pid_here(self, seat: Seat) -> int:
        """The worker's process; skips the test where that is on another machine."""
        host, pid = await seat.call(work.whoami)
        if host != socket.gethostname():
            pytest.skip("its workers run on other machines")
        return pid  # type: ignore[no-any-return]

    def test_a_worker_that_is_killed(self, loop: str) -> None:
        self.outlives_a_worker(loop, "kill()")

    @pytest.mark.parametrize("how", ["SIGKILL", "os._exit"])
    def test_a_worker_that_dies(self, how: str) -> None:
        self.outlives_a_worker(self.loops[0], how)

    def outlives_a_worker(self, loop: str, how: str) -> None:
        async def test() -> None:
            async with self.fleet() as fleet:
                seat, other = await fleet.bring(2)
                tid = await self.end(seat, how)
                lost = await seat.ends("Executor.receive", LAST)
                with self.promised("Lost.blame", "``blame``: whether what ran there may have brought it about"):
                    expect(lost.blame is (how != "kill()"), f"said blame={lost.blame} after {how}")
                with self.promised("Lost.running", "the attempts that ran, where that is known"):
                    known = lost.running is None or set(lost.running) == {tid}
                    expect(known, f"said running={lost.running} after {how}, when attempt {tid} ran")
                with self.promised("Executor.send", "to an executor that is gone, nothing is sent"):
                    for _ in range(50):
                        seat.send(protocol.Export(-1, -1, 1), protocol.Install(1, bytes(100_000), False))
                with self.promised("Executor.kill", "Does nothing to a worker that is gone"):
                    seat.executor.kill()
                await self.nothing_follows(seat)
                fleet.cluster.lost(seat.id)
                with self.promised("Cluster.lost", "bring another, if the target asks for it"):
                    await until(lambda: len(fleet.live_seats) == 2)
                    await fleet.seats[-1].call(work.whoami)
                    expect(len(fleet.seats) == 3, f"brought {len(fleet.seats) - 2} executors for the one that was lost")
                await other.call(work.whoami)
                with self.promised("Executor.receive", LAST):
                    expect(other.lost is None, f"said that another executor is lost, too: {other.lost}")

        self.run(loop, test)

    async def end(self, seat: Seat, how: str) -> int:
        """End the worker; returns the attempt that runs in it."""
        if how == "os._exit":
            return seat.begin(work.dies, 3)
        pid = await self.pid_here(seat) if how == "SIGKILL" else None
        tid = await self.started(seat)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        else:
            await self.kill(seat)
        return tid

    async def kill(self, seat: Seat) -> None:
        with self.promised("Executor.kill", "End the worker by force, now"):
            killed = seat.executor.kill()
            expect(killed is True, f"returned {killed!r}")

    async def nothing_follows(self, seat: Seat) -> None:
        """What is received after the loss: nothing, or that again."""
        with self.promised("Executor.receive", LAST):
            with anyio.move_on_after(SOON / 3):
                after = await seat.executor.receive()
                expect(isinstance(after, Lost), f"returned {shown(after)} after it had said that the executor is lost")

    def test_what_was_sent_before_a_death_is_received(self) -> None:
        """Reports that a worker has made come before its loss: results are not computed twice for nothing."""

        async def test() -> None:
            async with self.fleet() as fleet:
                (seat,) = await fleet.bring(1)
                tids = [seat.begin(work.echo, b"x" * 1000) for _ in range(50)]
                await until(lambda: seat.result(tids[-1]))
                seat.begin(work.dies, 0)
                await seat.ends("Executor.receive", LAST)
                with self.promised("Executor.receive", LAST):
                    missing = [tid for tid in tids if not seat.result(tid)]
                    expect(not missing, f"lost {len(missing)} reports that came before the loss")

        self.run(self.loops[0], test)

    def test_released_executors_end(self) -> None:
        async def test() -> None:
            async with self.fleet() as fleet:
                seat, other = await fleet.bring(2)
                pid = await self.pid_here(seat)
                with self.promised("Cluster.release", "Give executors back"):
                    await fleet.cluster.release([seat.id])
                lost = await seat.ends("Cluster.release", "Each is to end in a moment")
                with self.promised("Lost.blame", "``blame``: whether what ran there may have brought it about"):
                    expect(lost.blame is False, f"said blame={lost.blame} of an executor that was released")
                with self.promised("Lost.running", "the attempts that ran, where that is known"):
                    expect(not lost.running, f"said running={lost.running} of an executor that was released")
                fleet.cluster.lost(seat.id)
                with self.promised("Cluster.release", "The target sinks by as many"):
                    await fleet.long_enough()
                    expect(len(fleet.seats) == 2, "brought another executor for one that was released")
                with self.promised("Cluster.release", "Each is to end in a moment"):
                    await until(lambda: not lives(pid) or zombie(pid))
                await other.call(work.whoami)

        self.run(self.loops[0], test)

    def test_releasing_what_is_not_there(self) -> None:
        """An executor that was lost meanwhile, and one that never was."""

        async def test() -> None:
            async with self.fleet() as fleet:
                seat, other = await fleet.bring(2)
                seat.executor.kill()
                await seat.ends("Executor.receive", LAST)
                with self.promised("Cluster.release", "only lowers the target"):
                    await fleet.cluster.release([seat.id])
                    fleet.cluster.lost(seat.id)
                    await fleet.long_enough()
                    expect(len(fleet.seats) == 2, "brought another for an executor that was released when it was lost")
                await fleet.target(2)
                with self.promised("Cluster.set_target", BRINGS):
                    await until(lambda: len(fleet.live_seats) == 2)
                with self.promised("Cluster.release", "only lowers the target"):
                    await fleet.cluster.release(["no such executor"])
                    await anyio.sleep(SOON)
                    expect(len(fleet.live_seats) == 2, "ended an executor when an unknown one was released")
                    other.executor.kill()
                    await other.ends("Executor.receive", LAST)
                    fleet.cluster.lost(other.id)
                    await fleet.long_enough()
                    expect(len(fleet.live_seats) == 1, "brought another, when the target had sunk")

        self.run(self.loops[0], test)

    def test_the_target_changes(self) -> None:
        async def test() -> None:
            async with self.fleet() as fleet:
                await fleet.bring(1)
                seats = await fleet.bring(3)
                await fleet.target(1)
                with self.promised("Cluster.set_target", "A smaller number ends none of those there are"):
                    await anyio.sleep(SOON)
                    expect(len(fleet.live_seats) == 3, f"ended {3 - len(fleet.live_seats)} executors")
                for seat in seats:
                    await seat.call(work.whoami)
                seats[0].executor.kill()
                await seats[0].ends("Executor.receive", LAST)
                fleet.cluster.lost(seats[0].id)
                with self.promised("Cluster.lost", "bring another, if the target asks for it"):
                    await fleet.long_enough()
                    expect(len(fleet.seats) == 3, "brought another, when there were more than the target asks for")

        self.run(self.loops[0], test)

    def test_two_applications_at_once(self) -> None:
        async def test() -> None:
            async with self.fleet() as one, self.fleet() as two:
                for fleet in (one, two):
                    await fleet.target(1)
                with self.promised("ClusterManager.open", "The application's cluster"):
                    await until(lambda: one.seats and two.seats)
                    found = [await fleet.seats[0].call(work.whoami) for fleet in (one, two)]
                    expect(found[0] != found[1], "gave two applications one worker")

        self.run(self.loops[0], test)

    # ----------------------------------------------------------------- the promises: what workers are, and leave

    def test_workers_are_what_the_application_says(self) -> None:
        environment = {"PYTHONHASHSEED": "1234", "ASPARKLE_TESTING": "said by the application"}
        path, directory = (*sys.path, str(self.directory / "modules")), str(self.temporary)

        async def test() -> None:
            async with self.fleet(environment=environment, path=path, directory=directory) as fleet:
                seat, other = await fleet.bring(2)
                hashed = {seat.id: await self.looked_around(seat), other.id: await self.looked_around(other)}
                seat.executor.kill()
                await seat.ends("Executor.receive", LAST)
                fleet.cluster.lost(seat.id)
                with self.promised("Cluster.lost", "bring another, if the target asks for it"):
                    await until(lambda: len(fleet.live_seats) == 2)
                later = fleet.seats[-1]
                hashed[later.id] = await self.looked_around(later)
                with self.promised("AppSpec.hash_seed", "What all workers have for PYTHONHASHSEED"):
                    wanted = await hash_with(fleet.app.hash_seed)
                    said = f"has workers whose hashes of one string are {hashed}: with the seed it is {wanted}"
                    expect(set(hashed.values()) == {wanted}, said)

        self.run(self.loops[0], test)

    async def looked_around(self, seat: Seat) -> int:
        """That the worker has what the application says; returns its hash of a string."""
        app = seat.fleet.app
        found = work.Found(*await seat.call(work.look_around, KEY))
        with self.promised("AppSpec.environment", "spark.executorEnv.*: all workers have it"):
            there = {name: found.environment.get(name) for name in app.environment}
            expect(there == app.environment, f"has workers with {there} in their environment, not {app.environment}")
        theirs = AppSpec.from_plain(found.app)
        if theirs.directories == app.directories:  # it is on the driver's host
            with self.promised("AppSpec.path", "the driver's sys.path, which workers on its host have, too"):
                missing = [entry for entry in app.path if entry not in found.path]
                expect(not missing, f"has workers whose sys.path is without {missing}")
            seat.send(protocol.Surroundings(app.path, app.directory, 0))  # as the driver does, first of all
            where = work.Found(*await seat.call(work.look_around, KEY)).directory
            with self.promised("AppSpec.directory", "and its working directory, likewise"):
                expect(where == app.directory, f"has workers in {where}, not in {app.directory}")
        with self.promised("AppSpec", "plain data, the same for every executor, but for what says where it is"):
            other = {name: value for name, value in theirs._asdict().items() if value != getattr(app, name)}
            expect(not other.keys() - OF_A_HOST, f"told a worker something else: {shown(other)}")
        return found.hashed

    @pytest.mark.parametrize("how", ["lost", "released"])
    def test_what_a_worker_has_written_outlives_it(self, how: str) -> None:
        """If the backend says so, of one that is lost or of one that is released."""

        async def test() -> None:
            async with self.fleet() as fleet:
                seat, other = await fleet.bring(2)
                if seat.executor.info.host != other.executor.info.host:
                    pytest.skip("each of its executors is on a host of its own")
                await seat.call(work.put_block)
                _, location = await seat.call(work.write_output)
                with self.promised("ExecutorInfo.host", "executors with one host share its files"):
                    self.finds(await other.call(work.get_block), await other.call(work.read_output, location))
                if how == "lost":
                    await self.kill(seat)
                    lost = await seat.ends("Executor.receive", LAST)
                    promise = self.promised("Lost.blocks_survive", "what it wrote to disk can still be read by others")
                    survive = lost.blocks_survive
                else:
                    await fleet.cluster.release([seat.id])
                    await seat.ends("Cluster.release", "Each is to end in a moment")
                    promise = self.promised("Cluster.blocks_survive", "can still be read once it is released")
                    survive = fleet.cluster.blocks_survive
                fleet.cluster.lost(seat.id)
                await anyio.sleep(SOON)
                if survive:
                    with promise:
                        self.finds(await other.call(work.get_block), await other.call(work.read_output, location))

        self.run(self.loops[0], test)

    def finds(self, block: bytes | None, output: bytes | None) -> None:
        for what, found in (("block on disk", block), ("map output", output)):
            expect(found == work.DATA, f"gave {shown(found)} for a {what} that another worker of the host had written")

    # ------------------------------------------------------------------------------ the promises: whole jobs

    @pytest.mark.parametrize("shuffled", [False, True])
    def test_a_job_survives_a_worker_that_dies(self, shuffled: bool) -> None:
        marker = str(self.directory / "died")

        async def test(sc: Any) -> None:
            numbers = sc.parallelize(range(100), 4).map(work.DiesOnce(marker))
            if shuffled:
                sums = dict(await numbers.map(work.by_rest).reduceByKey(work.plus, 3).collect())
                expect(sums == {r: sum(range(r, 100, 7)) for r in range(7)}, f"made reduceByKey give {sums}")
            else:
                total = await numbers.sum()
                expect(total == 4950, f"made the sum {total}, when a worker had died")
            expect(Path(marker).exists(), "let no task run in a worker")
            Path(marker).unlink()

        self.with_context(self.loops[0], test)

    def test_cached_blocks_of_a_dead_worker_are_computed_again(self) -> None:
        marker = str(self.directory / "died")

        async def test(sc: Any) -> None:
            cached = sc.parallelize(range(100), 4).map(work.identity).cache()
            shuffled = cached.map(work.by_rest).reduceByKey(work.plus, 3).cache()
            wanted = {r: sum(range(r, 100, 7)) for r in range(7)}
            for round in range(3):
                Path(marker).unlink(missing_ok=True)
                await sc.parallelize(range(4), 4).map(work.DiesOnce(marker)).collect()
                sums = dict(await shuffled.collect())
                expect(sums == wanted, f"made reduceByKey give {sums}, when {round + 1} workers had died")
            Path(marker).unlink(missing_ok=True)

        self.with_context(self.loops[0], test)


async def hash_with(seed: str) -> int:
    """The hash of `KEY` in an interpreter of its own that has this seed."""
    command = [sys.executable, "-c", f"print(hash({KEY!r}))"]
    done = await anyio.run_process(command, env={**os.environ, "PYTHONHASHSEED": seed})
    return int(done.stdout)


def zombie(pid: int) -> bool:
    """Whether the process has ended, and its parent has not taken note."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return False
