"""Backends that are broken on purpose, each in one way: what the docs make, with one fault.  Run by `test_broken`."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from asparkle_nice import NiceCluster, NiceManager

from asparkle.errors import NoExecutors
from asparkle.plugins import AppSpec, Lost, SocketExecutor
from asparkle.testing import ExecutorBackendConformance


class Workers(NiceCluster):
    executor = SocketExecutor

    async def start(self, info):
        executor = await super().start(info)
        executor.__class__ = self.executor
        return executor


class Manager(NiceManager):
    cluster = Workers

    def open(self, app):
        return self.cluster.opened(app)


class Broken(ExecutorBackendConformance):
    master = "nice://2"
    patience = 4.0
    loops = ("asyncio",)
    manager_type = Manager

    def __init_subclass__(cls, executor=SocketExecutor, cluster=Workers, manager=Manager):
        cluster = type(f"{cls.__name__}Cluster", (cluster,), {"executor": executor})
        cls.manager_type = type(cls.__name__.removeprefix("Test"), (manager,), {"cluster": cluster})
        cls.manager_type.__module__ = __name__
        cls.manager_type.__qualname__ = f"{cls.__name__}.manager_type"

    def make(self):
        return self.manager_type()


# ------------------------------------------------------------------------------------------------ executors


class LosesMessages(SocketExecutor):
    sent = 0

    def send(self, messages):
        self.sent += 1
        if self.sent % 50:
            super().send(messages)


class TestLosesMessages(Broken, executor=LosesMessages):
    pass


class Reorders(SocketExecutor):
    def send(self, messages):
        super().send(messages[::-1])


class TestReorders(Broken, executor=Reorders):
    pass


class Duplicates(SocketExecutor):
    async def receive(self):
        received = await super().receive()
        return received if isinstance(received, Lost) else [*received, received[-1]]


class TestDuplicates(Broken, executor=Duplicates):
    pass


class ForgetsWhenCancelled(SocketExecutor):
    async def receive(self):
        received = await super().receive()
        await anyio.sleep(0.001)
        return received


class TestForgetsWhenCancelled(Broken, executor=ForgetsWhenCancelled):
    pass


class NeverReportsLoss(SocketExecutor):
    async def receive(self):
        received = await super().receive()
        if isinstance(received, Lost):
            await anyio.sleep_forever()
        return received


class TestNeverReportsLoss(Broken, executor=NeverReportsLoss):
    pass


class GoesOnAfterItsLoss(SocketExecutor):
    last = None
    is_lost = False

    async def receive(self):
        if self.is_lost:
            return self.last
        received = await super().receive()
        self.is_lost = isinstance(received, Lost)
        self.last = self.last if self.is_lost else received
        return received


class TestGoesOnAfterItsLoss(Broken, executor=GoesOnAfterItsLoss):
    pass


class BlocksInSend(SocketExecutor):
    def send(self, messages):
        if not self._gone:
            self._channel._socket.setblocking(True)
            try:
                super().send(messages)
            finally:
                self._channel._socket.setblocking(False)


class TestBlocksInSend(Broken, executor=BlocksInSend):
    pass


class RaisesInSend(SocketExecutor):
    def send(self, messages):
        if self._gone:
            raise BrokenPipeError("the executor is gone")
        super().send(messages)


class TestRaisesInSend(Broken, executor=RaisesInSend):
    pass


class ReturnsNothing(SocketExecutor):
    """Once it is ready."""

    async def receive(self):
        return [] if self.info.pid else await super().receive()


class TestReturnsNothing(Broken, executor=ReturnsNothing):
    pass


class KillsNobody(SocketExecutor):
    def kill(self):
        return True


class TestKillsNobody(Broken, executor=KillsNobody):
    pass


class BlamesNobody(SocketExecutor):
    async def receive(self):
        received = await super().receive()
        return received._replace(blame=False) if isinstance(received, Lost) else received


class TestBlamesNobody(Broken, executor=BlamesNobody):
    pass


class ForgetsWhatRan(SocketExecutor):
    async def receive(self):
        received = await super().receive()
        return received._replace(running=[]) if isinstance(received, Lost) else received


class TestForgetsWhatRan(Broken, executor=ForgetsWhatRan):
    pass


class GivesNoReason(SocketExecutor):
    async def receive(self):
        received = await super().receive()
        return received._replace(reason="") if isinstance(received, Lost) else received


class TestGivesNoReason(Broken, executor=GivesNoReason):
    pass


class StaysWhereItIs(SocketExecutor):
    def send(self, messages):
        super().send([message for message in messages if type(message).__name__ != "Surroundings"])


class TestStaysWhereItIs(Broken, executor=StaysWhereItIs):
    pass


# ------------------------------------------------------------------------------------------------- clusters


class Seedless(AppSpec):
    hash_seed = "random"


class HashesAtRandom(Workers):
    async def start(self, info):
        self.app = Seedless(*self.app)
        return await super().start(info)


class TestHashesAtRandom(Broken, cluster=HashesAtRandom):
    pass


class CountsBackwards(Workers):
    async def start(self, info):
        return await super().start(info._replace(id=f"of slot {int(info.id) % 2}", epoch=-info.epoch))

    def lost(self, executor):
        super().lost(next((id for id, it in self._live.items() if it.info.id == executor), executor))


class TestCountsBackwards(Broken, cluster=CountsBackwards):
    pass


class LabelsWithNumbers(Workers):
    async def start(self, info):
        return await super().start(info._replace(labels={"gpus": 2}))


class TestLabelsWithNumbers(Broken, cluster=LabelsWithNumbers):
    pass


class HasMoreSlots(Workers):
    async def start(self, info):
        return await super().start(info._replace(slots=2))


class TestHasMoreSlots(Broken, cluster=HasMoreSlots):
    pass


class DeletesWhatItWrote(Workers):
    def delete(self):
        for directory in self.app.directories:
            for path in Path(directory).rglob("*"):
                if path.is_file() and not path.name.startswith("running-"):
                    path.unlink()


class DeletesWhatTheLostWrote(DeletesWhatItWrote):
    def lost(self, executor):
        self.delete()
        super().lost(executor)


class TestDeletesWhatTheLostWrote(Broken, cluster=DeletesWhatTheLostWrote):
    pass


class DeletesWhatTheReleasedWrote(DeletesWhatItWrote):
    async def release(self, ids):
        await super().release(ids)
        self.delete()


class TestDeletesWhatTheReleasedWrote(Broken, cluster=DeletesWhatTheReleasedWrote):
    pass


class ReleasesNobody(Workers):
    async def release(self, ids):
        self.target -= len(ids)


class TestReleasesNobody(Broken, cluster=ReleasesNobody):
    pass


class ReplacesTheReleased(Workers):
    async def release(self, ids):
        target = self.target
        await super().release(ids)
        self.target = target


class TestReplacesTheReleased(Broken, cluster=ReplacesTheReleased):
    pass


class ReplacesNobody(Workers):
    def lost(self, executor):
        pass


class TestReplacesNobody(Broken, cluster=ReplacesNobody):
    pass


class ReturnsOneTwice(Workers):
    last = None

    async def added(self):
        if self.last is not None:
            last, self.last = self.last, None
            return last
        self.last = await super().added()
        return self.last


class TestReturnsOneTwice(Broken, cluster=ReturnsOneTwice):
    pass


class BringsOneMore(Workers):
    async def set_target(self, executors):
        await super().set_target(executors + 1)


class TestBringsOneMore(Broken, cluster=BringsOneMore):
    pass


class ShrinksByForce(Workers):
    async def set_target(self, executors):
        await super().set_target(executors)
        for executor in self.executors()[executors:]:
            executor.kill()


class TestShrinksByForce(Broken, cluster=ShrinksByForce):
    pass


class WaitsForItsTarget(Workers):
    async def set_target(self, executors):
        await super().set_target(executors)
        while len(self._live) < executors:
            await anyio.sleep(0.01)


class TestWaitsForItsTarget(Broken, cluster=WaitsForItsTarget):
    pass


class NeverGivesUp(Workers):
    async def added(self):
        try:
            return await super().added()
        except NoExecutors:
            await anyio.sleep_forever()


class TestNeverGivesUp(Broken, cluster=NeverGivesUp):
    pass


class LeavesAProcess(Workers):
    helpers = []

    async def set_target(self, executors):
        if not self.target:
            helper = await anyio.open_process(["sleep", "20"], stdin=None, stdout=None, stderr=None)
            self.helpers.append(helper)
        await super().set_target(executors)


class TestLeavesAProcess(Broken, cluster=LeavesAProcess):
    pass


class LeavesDescriptors(Workers):
    async def start(self, info):
        executor = await super().start(info)
        os.dup(executor._channel._socket.fileno())
        return executor


class TestLeavesDescriptors(Broken, cluster=LeavesDescriptors):
    pass


class LeavesFiles(Workers):
    async def start(self, info):
        with open(os.path.join(tempfile.gettempdir(), f"worker-{info.id}.pid"), "w"):
            return await super().start(info)


class TestLeavesFiles(Broken, cluster=LeavesFiles):
    pass


class DialsNobody(Workers):
    shares_files = False

    def dial(self, host):
        return socket.socketpair()[0]


class TestDialsNobody(Broken, cluster=DialsNobody):
    pass


# ------------------------------------------------------------------------------------------------- managers


class KeepsItsPath(Manager):
    def open(self, app):
        return self.cluster.opened(app._replace(path=tuple(sys.path)))


class TestKeepsItsPath(Broken, manager=KeepsItsPath):
    pass


class KeepsItsEnvironment(Manager):
    def open(self, app):
        return self.cluster.opened(app._replace(environment={"PYTHONHASHSEED": app.hash_seed}))


class TestKeepsItsEnvironment(Broken, manager=KeepsItsEnvironment):
    pass


class IsMoreGenerous(Manager):
    def open(self, app):
        return self.cluster.opened(app._replace(worker_memory=2 * app.worker_memory))


class TestIsMoreGenerous(Broken, manager=IsMoreGenerous):
    pass


class WaitsInOpen(Manager):
    @asynccontextmanager
    async def open(self, app):
        async with self.cluster.opened(app) as cluster:
            cluster.target = 1
            cluster.fill()
            while not cluster._live:
                await anyio.sleep(0.01)
            yield cluster


class TestWaitsInOpen(Broken, manager=WaitsInOpen):
    pass


class RaisesValueError(Manager):
    def executors(self, url):
        return int(url.partition("://")[2])


class TestRaisesValueError(Broken, manager=RaisesValueError):
    bad_masters = ["nice://many"]


class NamesNothing(Manager):
    def executors(self, url):
        try:
            return super().executors(url)
        except ValueError as error:
            raise type(error)("expected a number") from None


class TestNamesNothing(Broken, manager=NamesNothing):
    bad_masters = ["nice://many"]


class CantAbandon(Manager):
    def prestart(self, app, executors):
        self.log = open(os.path.join(app.directories[0], "log"), "w")  # noqa: SIM115
        opened.append(self.log)


opened = []


class TestCantAbandon(Broken, manager=CantAbandon):
    pass
