"""The nodes of one application, as the driver sees them: connected, lost, connected again; and their workers."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import anyio
from anyio.abc import TaskGroup

from asparkle.backends.launch import how_it_ended
from asparkle.backends.ssh.archive import archive
from asparkle.backends.ssh.bootstrap import Bootstrap, ssh_command
from asparkle.backends.ssh.link import BEAT, Link, LinkChannel
from asparkle.backends.ssh.nodes import Node, least_slots
from asparkle.backends.ssh.process import SshProcess
from asparkle.backends.ssh.relay import connect, join, receive, send_all
from asparkle.backends.ssh.sync import Sync
from asparkle.errors import MissingDependency, NodeError
from asparkle.plugins import (
    KEYS,
    AppSpec,
    Authority,
    ChannelExecutor,
    Connection,
    Copies,
    ExecutorInfo,
    Identity,
    Lost,
    WorkerCluster,
    in_thread,
    log,
    loop_caller,
    serve_files,
)

_FIRST_PAUSE: Final = 0.5  # seconds before a node that is not there is tried again; twice as many each time
_LONGEST_PAUSE: Final = 30.0
_TOLD: Final = 10  # nodes that are not there, in an error
_GATHERING: Final = 0.1  # seconds in which nodes that become ready are introduced together


class Settings(NamedTuple):
    """What is said of all nodes; times are in seconds."""

    given: Mapping[str, str]  # `asparkle.ssh.command` and the like
    connecting: float  # until an agent must be there
    timeout: float  # without a word, after which a node is lost for the driver, or the driver for the node
    patience: float  # without any node, after which jobs fail
    direct: bool  # whether nodes may connect to each other
    env: str  # "sync" where nodes are to have the driver's installed packages

    @staticmethod
    def of(app: AppSpec) -> Settings:
        """As the application's configuration says.  Raises ConfigurationError."""
        return Settings(
            app.settings,
            KEYS["asparkle.ssh.connect.timeout"].read(app.settings),
            app.network_timeout,
            KEYS["asparkle.ssh.patience"].read(app.settings),
            KEYS["asparkle.ssh.direct"].read(app.settings),
            KEYS["asparkle.ssh.env"].read(app.settings),
        )


class NodeExecutor(ChannelExecutor):
    """A worker on a node."""

    def __init__(self, connected: ConnectedNode, info: ExecutorInfo) -> None:
        super().__init__(
            connected.app,
            info,
            connected.link.open(["worker", info.id]),
            ended=lambda: connected.end_of(info.id),
            end=lambda: connected.link.tell(["kill", info.id]),
        )
        self._node = connected
        connected.executors.add(info.id)

    def loss(self, reason: str, blame: bool) -> Lost:
        _, running = self._node.release(self.info.id)
        return Lost(reason, blame=blame, running=running, blocks_survive=not self._node.link.ended)


class ConnectedNode:
    """One node's agent, from when it is spoken to until it is lost."""

    def __init__(self, cluster: SshCluster, node: Node, ssh: SshProcess, facts: Mapping[str, Any], rest: bytes) -> None:
        self.node = node
        self.facts = facts
        self.app = cluster.app  # as it is there
        self.slots: int = node.slots or facts["cpus"]
        self.executors: set[str] = set()  # that take up its slots
        self.ends: dict[str, tuple[int, list[int] | None]] = {}  # of workers: exit status, attempts that ran
        self.lost = ""  # why, once it is
        self.address: tuple[str, int] = ("", 0)  # where other nodes find it; port 0: nowhere
        self.link = Link(ssh.stream, cluster.tasks, self._told, self._opened, rest)
        self._cluster = cluster
        self._ssh = ssh
        self._answers: dict[int, tuple[Any, str]] = {}
        self._asked = itertools.count()
        self._ended = anyio.Event()  # a worker, or what is waited for otherwise

    @property
    def free(self) -> int:
        return self.slots - len(self.executors)

    async def run(self) -> str:
        """Serve the application until the node is lost; returns why."""
        patience = max(1, round(self._cluster.settings.timeout / BEAT))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, patience)
            tasks.start_soon(self._begin, patience)
            reason = await self.link.run()
            self._cluster.left(self)
            tasks.cancel_scope.cancel()
        if not self.lost:
            _, words = await self._ssh.end()
            self.lost = words.decode(errors="replace").strip() or reason
        self._wake()
        return self.lost

    async def _begin(self, patience: int) -> None:
        """Tell it of the application, once it has all that this needs there."""
        options: dict[str, Any] = {"beat": BEAT, "patience": patience, "host": self.node.name, "slots": self.slots}
        options["identity"] = await in_thread(self._cluster.identity, self.node)
        try:
            options["environment"] = await self._cluster.environment(self)
        except NodeError as error:
            self.fail(error.reason)
        else:
            self.link.tell(["app", self.app._asdict(), options])

    async def _watch(self, patience: int) -> None:
        """Give it up when it says nothing for too long.  Beats are counted, not seconds: this event loop may have been
        busy, and what has arrived not been read."""
        while self.link.silence < patience:
            await anyio.sleep(BEAT)
            self.link.silence += 1
        self.fail(f"it has said nothing for {patience * BEAT:g} s")

    def fail(self, reason: str) -> None:
        """Give the node up: from now on nothing is started there, whoever learns first that its workers are gone."""
        self.lost = self.lost or reason
        self._cluster.left(self)
        self.link.end()

    def release(self, executor: str) -> tuple[int, list[int] | None]:
        """A worker is gone, its slot free; returns how it ended, as far as that is known."""
        self.executors.discard(executor)
        self._cluster.changed()
        return self.ends.pop(executor, (0, None))

    def _told(self, message: list[Any]) -> None:
        kind, *fields = message
        if kind == "ready":
            self.app = self.app._replace(directories=tuple(fields[0]["directories"]))
            self.address = fields[0]["address"]
            self._ssh.passes_on = True
            self._cluster.arrived(self)
        elif kind == "refused":
            self.fail(fields[0])
        elif kind == "routes":
            log().debug("how other nodes are reached", node=self.node.name, routes=fields[0])
        elif kind == "answer":
            number, found, problem = fields
            self._answers[number] = (found, problem)
            self._wake()
        elif kind == "ended":
            executor, status, running = fields
            self.ends[executor] = (status, running)
            self._wake()

    def _opened(self, channel: LinkChannel, purpose: list[Any]) -> None:
        """A worker there wants to speak to another host's file server."""
        _, host = purpose
        self._cluster.relay(channel, host)

    def _wake(self) -> None:
        self._ended.set()
        self._ended = anyio.Event()

    async def ask(self, *question: Any) -> Any:
        """What the agent finds out; see `probe`.  Raises NodeError where it can't, or the node is lost."""
        number = next(self._asked)
        self.link.tell(["ask", number, question])
        while number not in self._answers:
            if self.lost:
                raise NodeError(self.node.name, f"it was lost: {self.lost}")
            await self._ended.wait()
        found, problem = self._answers.pop(number)
        if problem:
            raise NodeError(self.node.name, problem)
        return found

    async def end_of(self, executor: str) -> str:
        """How a worker's process ended, or its node."""
        while executor not in self.ends:
            if self.lost:
                return f"its node {self.node.name} is lost: {self.lost}"
            await self._ended.wait()
        status, _ = self.ends[executor]
        return f"its process {how_it_ended(status)}"


class SshCluster(WorkerCluster):
    """Workers on nodes."""

    shares_files = False

    def __init__(self, app: AppSpec, tasks: TaskGroup, nodes: Sequence[Node], settings: Settings) -> None:
        super().__init__(app, tasks)
        self.nodes = nodes
        self.settings = settings
        self.indirect = (
            "" if settings.direct else "asparkle.ssh.direct is false"
        )  # why nodes can't connect to each other
        self._sync = Sync(app.directories)
        self._links: set[Link] = set()
        self.connected: dict[str, ConnectedNode] = {}  # by node, those that are there
        self.problems: dict[str, str] = {}  # why the others are not, as far as they were tried
        self._last_seen = float("-inf")  # when there was a node
        self._changed = anyio.Event()
        self._all = True  # whether as many executors are wanted as there are slots
        self._more = 0  # slots of nodes of which the master URL does not say how many they have, beyond one each
        self._counted: set[str] = set()  # these nodes
        self._introducing = False
        self._copies = Copies()
        self._authority: Authority | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._call = loop_caller()
        threading.Thread(target=self._beat, name="asparkle-ssh-beats", daemon=True).start()
        for node in nodes:
            tasks.start_soon(self._keep, node)

    # ------------------------------------------------------------------------- workers

    async def set_target(self, executors: int) -> None:
        """All that the master URL asks for are as many as nodes turn out to have slots, where it does not say; another
        number is that number."""
        self._all = executors == least_slots(self.nodes)
        await super().set_target(executors + self._more * self._all)

    async def start(self, info: ExecutorInfo) -> ChannelExecutor:
        connected = await self._with_free_slot()
        return NodeExecutor(connected, info._replace(host=connected.node.name, labels=connected.node.labels))

    async def _with_free_slot(self) -> ConnectedNode:
        """The node with most free slots, once there is one.  Raises OSError when no node is there, nor will be."""
        while True:
            connected = max(self.connected.values(), key=lambda connected: connected.free, default=None)
            if connected is not None and connected.free > 0:
                return connected
            if connected is None and len(self.problems) == len(self.nodes) and self._patience_is_over():
                raise OSError("no node is there. " + _some([f"{node}: {why}" for node, why in self.problems.items()]))
            with anyio.move_on_after(1.0):
                await self._changed.wait()

    def _patience_is_over(self) -> bool:
        return time.monotonic() - self._last_seen > self.settings.patience

    def changed(self) -> None:
        """Who waits for a slot looks again."""
        self._changed.set()
        self._changed = anyio.Event()

    # ------------------------------------------------------------------------- nodes

    def arrived(self, connected: ConnectedNode) -> None:
        """A node is ready for workers."""
        self.connected[connected.node.name] = connected
        self.problems.pop(connected.node.name, None)
        if connected.node.slots is None and connected.node.name not in self._counted:
            self._counted.add(connected.node.name)
            self._more += connected.slots - 1
            self.target += (connected.slots - 1) * self._all
            self.fill()
        self.changed()
        self._introduce_soon()

    async def _introduce(self) -> None:
        """Tell nodes of each other; of those that come one after the other, at once."""
        await anyio.sleep(_GATHERING)
        self._introducing = False
        addresses = {name: connected.address for name, connected in self.connected.items() if connected.address[1]}
        for name, connected in self.connected.items():
            connected.link.tell(["peers", {other: address for other, address in addresses.items() if other != name}])

    def identity(self, node: Node) -> Identity | None:
        """What a node shows to others; None where they can't connect directly.  Blocks."""
        with self._lock:
            if self._authority is None and not self.indirect:
                try:
                    self._authority = Authority(self.app.app_id)
                except MissingDependency as error:
                    log().warning("what nodes send each other goes through the driver", reason=str(error))
                    self.indirect = str(error)
            return self._authority.identity(node.name) if self._authority is not None else None

    async def environment(self, connected: ConnectedNode) -> dict[str, Any] | None:
        """The driver's installed packages on a node, built if need be, where it is to have them.  Raises NodeError."""
        if not (self.settings.env if connected.node.env is None else connected.node.env):
            return None
        self.problems.pop(connected.node.name, None)  # it is there, and takes the time that it needs
        return await self._sync.bring(
            connected.node, connected.link.open(["environment"]), connected.facts["directory"]
        )

    def left(self, connected: ConnectedNode) -> None:
        """A node is lost, if it was ready."""
        if self.connected.get(connected.node.name) is connected:
            del self.connected[connected.node.name]
            self._last_seen = time.monotonic()
            self._introduce_soon()

    def _introduce_soon(self) -> None:
        if not self._introducing:
            self._introducing = True
            self.tasks.start_soon(self._introduce)

    async def _keep(self, node: Node) -> None:
        """Connect to a node, and again whenever it is lost."""
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            problem = await self._connected(node)
            if self._last_seen > began:  # it was there
                pause = _FIRST_PAUSE
            if problem != self.problems.get(node.name):
                log().warning("a node is not there", node=node.name, reason=problem)
            self.problems[node.name] = problem
            self.changed()
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _connected(self, node: Node) -> str:
        """Connect to a node, and serve it as long as it is there; returns why it is not, or not any more."""
        try:
            async with SshProcess.started(ssh_command(node, self.settings.given)) as ssh:
                return await self._served(node, ssh)
        except OSError as error:
            return f"ssh can't be started: {error}"

    async def _served(self, node: Node, ssh: SshProcess) -> str:
        packed = await in_thread(archive, [name for name, _ in self.app.packages])
        bootstrap = Bootstrap(node, packed, self.settings.given)
        try:
            with anyio.move_on_after(self.settings.connecting) as waiting:
                await _converse(bootstrap, ssh)
        except NodeError as error:
            return error.reason
        if waiting.cancelled_caught:
            return bootstrap.late(self.settings.connecting).reason
        connected = ConnectedNode(self, node, ssh, bootstrap.facts, bootstrap.rest)
        self._links.add(connected.link)
        try:
            return await connected.run()
        finally:
            self._links.discard(connected.link)

    # ------------------------------------------------------------------------- files of other hosts

    def relay(self, channel: LinkChannel, host: str) -> None:
        """Lead a node's channel to another host's file server."""
        if not host:
            try:
                ours, theirs = socket.socketpair()
            except OSError as error:  # too many open files
                log().warning("a node can't be served files", reason=str(error))
                channel.close()
                return
            threading.Thread(target=serve_files, args=(theirs, self.app.directories, self._copies), daemon=True).start()
            self.tasks.start_soon(connect, channel, ours)
        elif host in self.connected:
            self.tasks.start_soon(join, channel, self.connected[host].link.open(["files"]))
        else:
            channel.close()

    def dial(self, host: str) -> Connection:
        """The driver's own way to a node's file server."""
        connected = self.connected.get(host)
        if connected is None:
            raise ConnectionError(f"node {host!r} is not connected")
        ours, theirs = socket.socketpair()
        self._call(lambda: self.tasks.start_soon(connect, connected.link.open(["files"]), theirs))
        return ours

    # ------------------------------------------------------------------------- beats

    def _beat(self) -> None:
        while not self._closing.wait(BEAT):
            for link in list(self._links):
                link.beat()

    async def close(self) -> None:
        self._closing.set()


def _some(problems: Collection[str]) -> str:
    told = "; ".join(itertools.islice(problems, _TOLD))
    return told if len(problems) <= _TOLD else f"{told}; and {len(problems) - _TOLD} others: the log tells of each"


async def _converse(bootstrap: Bootstrap, ssh: SshProcess) -> None:
    """Until there is an agent.  Raises NodeError."""
    while not bootstrap.done:
        data = await receive(ssh.stream)
        if not data:
            raise bootstrap.ended(*await ssh.end())
        ssh.answered = True
        with suppress(OSError):  # it has ended: what it said before is still read
            await send_all(ssh.stream, bootstrap.feed(data))
