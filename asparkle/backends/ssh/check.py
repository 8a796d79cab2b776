"""What nodes are like, and how they reach each other: `asparkle cluster check`.

Nodes are connected to as by an application, but once, and each is waited for for a bounded time.  When it is known of
all of them whether they are there, what they send is measured: between the driver and one node at a time; then directly
between nodes, in rounds in which each has one partner; last, one at a time, what goes from node to node through the
driver.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

import anyio
from anyio.abc import TaskGroup

from asparkle.backends.ssh.cluster import ConnectedNode, NodeExecutor, Settings, SshCluster
from asparkle.backends.ssh.dialing import DIRECT, RELAYED
from asparkle.backends.ssh.nodes import Node, parse_nodes
from asparkle.backends.ssh.probe import bandwidth, probe_file, room
from asparkle.errors import NodeError, StorageError
from asparkle.plugins import AppSpec, ExecutorInfo, in_thread

T = TypeVar("T")
_TOGETHER: Final = 32  # nodes that are connected to at once
_PATIENCE: Final = 10.0  # seconds in which a node that is there answers
_CLOCKS: Final = 5  # times that a node is asked what time it is
_TIMED: Final = 8  # nodes that are asked so at once
_MOST: Final = 8 << 20  # bytes of one transfer, and
_SECONDS: Final = 0.25  # that all of one direction take; less, where there are
_ALTOGETHER: Final = 8.0  # seconds' worth of those that are made one at a time,
_LEAST: Final = 0.05  # down to this
_ALL_PAIRS: Final = 16  # nodes, of which each is measured with all others; with more, each
_SAMPLE: Final = 8  # with so many others
_SKEW: Final = 1.0  # seconds that a clock may be off
_SCARCE: Final = 1 << 30  # bytes of free disk


class Clock(NamedTuple):
    """``offset``: seconds that a clock is ahead of the driver's, give or take ``uncertainty``; ``round_trip``: seconds
    from a question to its answer."""

    offset: float
    uncertainty: float
    round_trip: float

    @staticmethod
    def of(times: Iterable[tuple[float, float, float]]) -> Clock:
        """From when the driver asked, what the node answered, and when the driver had the answer: the quickest of them
        says most.  The node's clock was read at any time between the two."""
        asked, there, answered = min(times, key=lambda each: each[2] - each[0])
        round_trip = max(0.0, answered - asked)
        return Clock(there - (asked + answered) / 2, round_trip / 2, round_trip)


@dataclass
class CheckedNode:
    """A node; None and the empty text for what is not known of it.  Memory and disk are in bytes, times in seconds,
    bandwidths in bytes per second."""

    name: str
    problem: str = ""  # why it can't be used, and what to do
    notes: list[str] = field(default_factory=list)  # what might be better
    python: str = ""
    executable: str = ""
    slots: int | None = None
    cpus: int | None = None
    memory: int | None = None
    directory: str = ""
    free_disk: int | None = None
    clock: float | None = None  # ahead of the driver's
    clock_uncertainty: float | None = None
    round_trip: float | None = None
    from_driver: float | None = None
    to_driver: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass
class CheckedPair:
    """How ``reader`` reads the files of ``holder``.  ``reason``: why not directly, or, without a route, not at all."""

    reader: str
    holder: str
    route: str = ""
    bandwidth: float | None = None  # bytes per second
    reason: str = ""


@dataclass
class Report:
    """``sampled``: not all pairs of nodes were measured."""

    nodes: list[CheckedNode]
    pairs: list[CheckedPair]
    sampled: bool

    @property
    def usable(self) -> bool:
        return not any(node.problem for node in self.nodes)


async def check(app: AppSpec, *, all_pairs: bool = False) -> Report:
    """The nodes of an application's master URL, each with each other where ``all_pairs`` says so or they are few.

    Raises ConfigurationError for what is wrong with the settings, and StorageError where there is no room for files on
    the driver; what is wrong with nodes is in the report.
    """
    nodes, settings = parse_nodes(app.master), Settings.of(app)
    try:
        await in_thread(room, app)
    except OSError as error:
        raise StorageError(app.directories[0], error) from error
    async with _Checked.opened(app, nodes, settings) as cluster:
        return await cluster.report(all_pairs)


class _Checked(SshCluster):
    """Nodes that are connected to once, and not told of each other."""

    def __init__(self, app: AppSpec, tasks: TaskGroup, nodes: Sequence[Node], settings: Settings) -> None:
        self._turn = anyio.Semaphore(_TOGETHER)
        self._settled = {node.name: anyio.Event() for node in nodes}
        self._checked = {node.name: CheckedNode(node.name, labels=node.labels) for node in nodes}
        self._there: dict[str, ConnectedNode] = {}  # those that were, and may be lost by now
        self._waits: dict[str, anyio.CancelScope] = {}  # for nodes that are being connected to
        super().__init__(app, tasks, nodes, settings)

    # ------------------------------------------------------------------------- which are there

    async def _keep(self, node: Node) -> None:
        async with self._turn:
            self.tasks.start_soon(self._hold, node)
            with anyio.move_on_after(self.settings.connecting + _PATIENCE) as waiting:
                self._waits[node.name] = waiting
                await self._settled[node.name].wait()
        if waiting.cancelled_caught:
            self._settle(node, f"asparkle runs there, but says nothing for {_PATIENCE:g} s: is the machine overloaded?")

    async def _hold(self, node: Node) -> None:
        self._settle(node, await self._connected(node))

    async def environment(self, connected: ConnectedNode) -> dict[str, Any] | None:
        """It takes the time that it needs: a node that falls silent meanwhile is lost, as in an application."""
        waiting = self._waits[connected.node.name]
        waiting.deadline = math.inf
        try:
            return await super().environment(connected)
        finally:
            waiting.deadline = anyio.current_time() + _PATIENCE

    def arrived(self, connected: ConnectedNode) -> None:
        super().arrived(connected)
        self._there[connected.node.name] = connected
        self._settled[connected.node.name].set()

    def _introduce_soon(self) -> None:
        """Nobody needs to: what nodes reach is found out here."""

    def _settle(self, node: Node, problem: str) -> None:
        self._checked[node.name].problem = self._checked[node.name].problem or problem
        self._settled[node.name].set()

    # ------------------------------------------------------------------------- what they are like

    async def report(self, all_pairs: bool) -> Report:
        for settled in self._settled.values():
            await settled.wait()
        await self._each(self._look_at, _TOGETHER)
        await self._each(self._compare_clocks, _TIMED)
        await self._each(self._measure, 1)
        names = [name for name, checked in self._checked.items() if not checked.problem]
        sampled = len(names) > _ALL_PAIRS and not all_pairs
        pairs = await self._pairs(rounds(names)[: _SAMPLE if sampled else None])
        for name in self._there.keys() - self.connected.keys():
            self._checked[name].problem = self._checked[name].problem or f"it was lost: {self._there[name].lost}"
        return Report([*self._checked.values()], pairs, sampled)

    async def _each(self, examine: Callable[[ConnectedNode, CheckedNode], Awaitable[None]], together: int) -> None:
        """Examine all nodes that can be used, so many at once: who can't be examined can't be used."""
        limit = anyio.Semaphore(together)

        async def one(checked: CheckedNode) -> None:
            async with limit:
                if checked.problem:
                    return
                try:
                    await _in_time(checked.name, examine(self._there[checked.name], checked))
                except NodeError as error:
                    checked.problem = error.reason

        async with anyio.create_task_group() as tasks:
            for checked in self._checked.values():
                tasks.start_soon(one, checked)

    async def _look_at(self, connected: ConnectedNode, checked: CheckedNode) -> None:
        facts = connected.facts
        checked.python, checked.executable = facts["python"], facts["executable"]
        checked.slots, checked.cpus, checked.memory = connected.slots, facts["cpus"], facts["memory"]
        checked.directory = facts["directory"]
        remedy = "free space there, or give the node another `directory`"
        try:
            free = checked.free_disk = await connected.ask("room")
        except NodeError as error:
            raise NodeError(checked.name, f"{checked.directory}: {error.reason}; {remedy}") from None
        if free < _SCARCE:
            note = f"only {free >> 20} MB are free in {checked.directory}, for map outputs and cached partitions"
            checked.notes.append(f"{note}: {remedy}")
        worker = NodeExecutor(connected, ExecutorInfo("check", 0, checked.name, 1))
        if (lost := await worker.ready()) is not None:
            raise NodeError(checked.name, f"no worker can be started there: {lost.reason}")
        await worker.end()

    async def _compare_clocks(self, connected: ConnectedNode, checked: CheckedNode) -> None:
        times = []
        for _ in range(_CLOCKS):
            asked = time.time()
            there = await connected.ask("clock")
            times.append((asked, there, time.time()))
        checked.clock, checked.clock_uncertainty, checked.round_trip = clock = Clock.of(times)
        if abs(clock.offset) - clock.uncertainty > _SKEW:
            how = "ahead of" if clock.offset > 0 else "behind"
            note = (
                f"its clock is {abs(clock.offset):.0f} s {how} the driver's, and so are the times of its logs and files"
            )
            checked.notes.append(f"{note}: let both be set by NTP")

    async def _measure(self, connected: ConnectedNode, checked: CheckedNode) -> None:
        seconds = _share(2 * len(self.nodes))
        ours, theirs = probe_file(self.app.directories[0]), probe_file(connected.app.directories[0])
        checked.from_driver = await connected.ask("fetch", "", None, ours, _MOST, seconds)
        try:
            checked.to_driver = await in_thread(bandwidth, self.app, self.dial, checked.name, theirs, _MOST, seconds)
        except OSError as error:
            raise NodeError(checked.name, f"its files can't be read: {error}") from None

    # ------------------------------------------------------------------------- how they reach each other

    async def _pairs(self, drawn: Sequence[Sequence[tuple[str, str]]]) -> list[CheckedPair]:
        made = [[(CheckedPair(one, other), CheckedPair(other, one)) for one, other in pairs] for pairs in drawn]
        for start in range(0, len(made), _SAMPLE):
            await _all(
                self._find_route, [pair for pairs in made[start : start + _SAMPLE] for both in pairs for pair in both]
            )
        for pairs in made:
            await _all(self._transfer_directly, pairs)
        flat = [pair for pairs in made for both in pairs for pair in both]
        relayed = [pair for pair in flat if pair.route == RELAYED]
        for pair in relayed:
            await self._transfer(pair, None, _share(len(relayed)))
        return flat

    async def _find_route(self, pair: CheckedPair) -> None:
        address, port = self._there[pair.holder].address
        if self.indirect:
            pair.reason = self.indirect
        elif not port:
            pair.reason = f"{pair.holder} can't listen for others"
        else:
            question = self._there[pair.reader].ask("reach", pair.holder, (address, port))
            try:
                why = await _in_time(pair.reader, question)
            except NodeError as error:
                pair.reason = str(error)
                return
            pair.reason = why and f"{pair.reader} can't connect to {address}, port {port}: {why}"
        pair.route = RELAYED if pair.reason else DIRECT

    async def _transfer_directly(self, both: Iterable[CheckedPair]) -> None:
        for pair in both:
            if pair.route == DIRECT:
                await self._transfer(pair, self._there[pair.holder].address, _SECONDS)

    async def _transfer(self, pair: CheckedPair, address: tuple[str, int] | None, seconds: float) -> None:
        path = probe_file(self._there[pair.holder].app.directories[0])
        question = self._there[pair.reader].ask("fetch", pair.holder, address, path, _MOST, seconds)
        try:
            pair.bandwidth = await _in_time(pair.reader, question)
        except NodeError as error:
            pair.route, pair.reason = "", str(error)


def rounds(names: Sequence[str]) -> list[list[tuple[str, str]]]:
    """All pairs, in rounds in which each has one partner, or none: the first stays, the others move on by one place."""
    circle: list[str | None] = [*names, *([None] if len(names) % 2 else [])]
    drawn = []
    for _ in range(len(circle) - 1):
        half = len(circle) // 2
        pairs = zip(circle[:half], reversed(circle[half:]), strict=True)
        drawn.append([(one, other) for one, other in pairs if one is not None and other is not None])
        circle.insert(1, circle.pop())
    return drawn


def _share(transfers: int) -> float:
    """Seconds for each of so many transfers that are made one at a time."""
    return max(_LEAST, min(_SECONDS, _ALTOGETHER / max(1, transfers)))


async def _all(function: Callable[[T], Coroutine[Any, Any, None]], items: Iterable[T]) -> None:
    async with anyio.create_task_group() as tasks:
        for item in items:
            tasks.start_soon(function, item)


async def _in_time(node: str, answer: Awaitable[Any]) -> Any:
    try:
        with anyio.fail_after(_PATIENCE):
            return await answer
    except TimeoutError:
        raise NodeError(node, f"it has not answered within {_PATIENCE:g} s: is the machine overloaded?") from None
