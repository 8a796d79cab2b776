"""The driver's agent on a node: it starts workers, and carries bytes between them and the driver.

Its standard input and output, as `main` finds them, are the stream to the driver (see `mux`).  What travels on
channel 0 are messages, msgpack arrays with their length in front::

    from the driver                                     from the agent
    ["app", AppSpec, options]   the first               ["ready", facts], or ["refused", reason]
    ["kill", executor]                                  ["ended", executor, exit status, attempts that ran]
    ["peers", {node: [address, port]}]                  ["routes", {node: route}]
    ["beat"]                    each second             ["beat"]
    ["ask", number, question]   see `probe`             ["answer", number, what, what went wrong]

The driver opens ``["worker", executor]`` to have one started, ``["files"]`` to speak to the node's file server, and
before all else ``["environment"]`` to have its installed packages brought here (see `environment`);
the agent opens ``["files", host]`` for a worker that wants to speak to another host's, and knocks at the agent's
socket.  One thread does all this, in a loop that never waits for anybody; files are served in others.  Workers are
started by a zygote, as on the driver's machine.  When the driver closes the stream, falls silent or is gone, workers,
files and the agent go, too; and if the agent is killed, its zygote does that in its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from asparkle.backends.launch import ZygoteProcess, reap
from asparkle.backends.ssh.dialing import CONNECTING, DIRECT, RELAYED, Peers, door_of, reachable
from asparkle.backends.ssh.mux import CONTROL, WINDOW, Arrived, BrokenFrames, Closed, Mux, Opened
from asparkle.errors import AsparkleError
from asparkle.plugins import (
    ApplicationDirectories,
    AppSpec,
    Identity,
    PeerServer,
    Unpacker,
    connect_peer,
    pack,
    running_task,
    serve_files,
)

_CHUNK: Final = 1 << 18
_STORAGE: Final = 0.6  # of a node's memory, that its workers may have for cached partitions, whatever the driver says
_TRIED_AT_ONCE: Final = 16  # nodes
_DESCRIPTORS: Final = 8192  # that the agent has, where it may: many systems give 1024, and one peer needs two
_SHORT: Final = 1.0  # seconds: of zygotes that live no longer, one is started in each beat
_LINGER: Final = 5.0  # seconds that the zygote has to end


class Gone(Exception):
    """The driver is not there any more, or somebody has told the agent to end."""


class Pump:
    """A channel's other end on this node: a socket, from which and to which bytes are carried."""

    def __init__(self, agent: Agent, channel: int, connection: socket.socket, executor: str | None = None) -> None:
        self.executor = executor
        connection.setblocking(False)
        self.agent = agent
        self.channel = channel
        self.connection = connection
        self.unsent: deque[memoryview] = deque()
        self.ending = False
        self.mask = 0
        self.watch()

    def watch(self) -> None:
        """Wait for what there is to wait for: nothing is read while the driver does not take what was."""
        wanted = selectors.EVENT_WRITE if self.unsent else 0
        if not self.ending and self.agent.mux.unsent(self.channel) < WINDOW:
            wanted |= selectors.EVENT_READ
        if wanted != self.mask:
            self.agent.watch(self.connection, self.mask, wanted, self.on_event)
            self.mask = wanted

    def on_event(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self.drain()
        if mask & selectors.EVENT_READ and self.mask & selectors.EVENT_READ:
            self.read()

    def read(self) -> None:
        try:
            data = self.connection.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.agent.mux.send(self.channel, data)
            self.watch()
        else:
            self.agent.mux.close(self.channel)
            self.agent.orphans.pop(self.executor, None)
            self.close()

    def write(self, data: bytes) -> None:
        self.unsent.append(memoryview(data))
        self.drain()

    def drain(self) -> None:
        while self.unsent:
            piece = self.unsent[0]
            try:
                sent = self.connection.send(piece)
            except BlockingIOError:
                break
            except OSError:  # reading says that it is gone
                self.unsent.clear()
                break
            self.agent.mux.taken(self.channel, sent)
            if sent < len(piece):
                self.unsent[0] = piece[sent:]
                break
            self.unsent.popleft()
        if self.ending and not self.unsent:
            self.close()
        else:
            self.watch()

    def end(self) -> None:
        """The driver has closed the channel: what it sent before is still written."""
        self.ending = True
        self.drain()

    def close(self) -> None:
        if self.mask:
            self.agent.watch(self.connection, self.mask, 0, self.on_event)
            self.mask = 0
        self.connection.close()
        self.agent.pumps.pop(self.channel, None)


class Knock:
    """A worker of this node that wants to speak to another host's file server: it says its name first, a byte for the
    length in front."""

    def __init__(self, agent: Agent, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.agent = agent
        self.connection = connection
        self.said = b""
        agent.watch(connection, 0, selectors.EVENT_READ, self.on_event)

    def on_event(self, mask: int) -> None:
        missing = 1 if not self.said else 1 + self.said[0] - len(self.said)
        try:
            data = self.connection.recv(missing)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.said += data
        if not data:
            self.agent.watch(self.connection, selectors.EVENT_READ, 0, self.on_event)
            self.connection.close()
        elif len(self.said) == 1 + self.said[0]:
            self.agent.watch(self.connection, selectors.EVENT_READ, 0, self.on_event)
            channel = self.agent.mux.open(pack(["files", self.said[1:].decode(errors="replace")]))
            self.agent.pumps[channel] = Pump(self.agent, channel, self.connection)


class Agent:
    """The loop.  ``incoming``, ``outgoing``: the stream to the driver."""

    def __init__(self, incoming: int, outgoing: int, facts: dict[str, Any]) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.facts = facts
        self.mux = Mux(driver=False)
        self.messages = Unpacker()
        self.selector = selectors.DefaultSelector()
        self.pumps: dict[int, Pump] = {}
        self.unsent = memoryview(b"")
        self.blocked = False  # whether the driver takes no more for now
        self.app: AppSpec | None = None
        self.directories: ApplicationDirectories | None = None
        self.zygote: ZygoteProcess | None = None
        self.python = sys.executable  # in which workers run
        self.builder: tuple[subprocess.Popen[bytes], Pump] | None = None  # of their environment
        self.zygote_began = 0.0
        self.zygote_failures = 0  # in a row: it had hardly begun
        self.zygote_is_missing = False  # until the next beat
        self.zygote_says = Unpacker()
        self.pids: dict[str, int] = {}  # of workers
        self.orphans: dict[str | None, int] = {}  # those of a zygote that is gone, while their channels are open
        self.frozen: dict[int, tuple[int, int]] = {}  # by pid: for how many beats in a row; what `_stopped_after` said
        self.beat = 1.0  # seconds
        self.patience = 30  # beats without a word from the driver
        self.silence = 0
        self.spoke = False
        self.deaf = False  # to workers that knock, until the next beat
        self.server: PeerServer | None = None
        self.known: dict[str, tuple[str, int]] = {}  # other nodes
        self.calls: deque[Callable[[], None]] = deque()
        self.waker, self.woken = socket.socketpair()
        self.waker.setblocking(False)
        self.watch(self.woken, 0, selectors.EVENT_READ, self.called)
        os.set_blocking(outgoing, False)
        self.watch(incoming, 0, selectors.EVENT_READ, self.read)

    def watch(self, file: Any, before: int, wanted: int, call: Callable[[int], None]) -> None:
        """Call ``call`` when a file is ready for what is ``wanted``, which was ``before`` until now."""
        if not before:
            self.selector.register(file, wanted, call)
        elif not wanted:
            self.selector.unregister(file)
        else:
            self.selector.modify(file, wanted, call)

    def run(self) -> None:
        """Until the driver is gone."""
        due = time.monotonic() + self.beat
        while True:
            self.flush()
            for key, mask in self.selector.select(max(0.0, due - time.monotonic())):
                key.data(mask)
            if time.monotonic() >= due:
                due = time.monotonic() + self.beat
                self.tick()

    def tick(self) -> None:
        """Once in each beat.  Beats are counted, not seconds: after a sleep of the machine, the driver may not have had
        its turn yet."""
        self.silence += 1
        if self.silence > self.patience:
            raise Gone(f"the driver has said nothing for {self.silence * self.beat:.0f} s")
        if not self.spoke:
            self.tell(["beat"])
            self.flush()
        self.spoke = False  # or it would speak in every other beat
        self.look_for_frozen()
        if self.deaf:
            self.deaf = False
            self.watch(self.door, 0, selectors.EVENT_READ, self.answer)
        if self.zygote_is_missing:
            self.start_zygote()
        if self.builder is not None and self.builder[0].poll() is not None:
            self.builder = None

    # ------------------------------------------------------------------------- the stream to the driver

    def tell(self, message: list[Any]) -> None:
        self.mux.send(CONTROL, pack(message))

    def flush(self) -> None:
        """Write what can be written."""
        while True:
            if not self.unsent:
                self.unsent = memoryview(self.mux.outgoing())
            if not self.unsent:
                break
            try:
                sent = os.write(self.outgoing, self.unsent)
            except BlockingIOError:
                break
            except OSError as error:
                raise Gone(f"the stream to the driver: {error}") from None
            self.unsent = self.unsent[sent:]
            self.spoke = True
        if self.blocked != bool(self.unsent):
            self.blocked = not self.blocked
            wanted = selectors.EVENT_WRITE if self.blocked else 0
            self.watch(self.outgoing, selectors.EVENT_WRITE - wanted, wanted, lambda mask: None)
        if not self.blocked:
            for pump in self.pumps.values():
                pump.watch()

    def read(self, mask: int) -> None:
        try:
            data = os.read(self.incoming, _CHUNK)
        except OSError as error:
            raise Gone(f"the stream from the driver: {error}") from None
        if not data:
            raise Gone("the driver has closed the connection")
        self.silence = 0
        for event in self.mux.feed(data):
            if isinstance(event, Arrived):
                self.arrived(event.channel, event.data)
            elif isinstance(event, Opened):
                kind, *arguments = Unpacker().feed(event.purpose)[0]
                try:
                    _OPENED[kind](self, event.channel, *arguments)
                except OSError as error:  # no more descriptors, or processes
                    self.refuse(event.channel, error, kind, *arguments)
            elif isinstance(event, Closed) and event.channel in self.pumps:
                self.pumps[event.channel].end()

    def arrived(self, channel: int, data: bytes) -> None:
        if channel == CONTROL:
            self.mux.taken(CONTROL, len(data))
            for kind, *arguments in self.messages.feed(data):
                _TOLD[kind](self, *arguments)
        elif channel in self.pumps:
            self.pumps[channel].write(data)

    def refuse(self, channel: int, error: OSError, kind: str, executor: str = "") -> None:
        """What the driver has opened a channel for can't be had."""
        print(f"asparkle: no {kind} {executor}".rstrip() + f": {error}", file=sys.stderr)
        if kind == "worker":
            self.tell(["ended", executor, os.EX_OSERR, []])
        self.mux.close(channel)

    # ------------------------------------------------------------------------- what the driver says

    def begin(self, app: dict[str, Any], options: dict[str, Any]) -> None:
        """Become the application's: its directories, and its zygote."""
        spec = AppSpec.from_plain(app)
        self.beat, self.patience = options["beat"], options["patience"]
        try:
            self.directories = ApplicationDirectories([self.facts["directory"]], spec.app_id)
            work = os.path.join(self.directories.paths[0], "work")
            os.mkdir(work, 0o700)
            os.chdir(work)
            self.take_up(options.get("environment"))
            self.app = spec._replace(
                directories=tuple(self.directories.paths),
                path=tuple(p for p in sys.path if p),
                directory=work,
                storage_memory=min(spec.storage_memory, int(self.facts["memory"] * _STORAGE / options["slots"])),
                host=options["host"],
                dialer="asparkle.backends.ssh.dialing:dialer",
            )
            self.listen()
            self.start_zygote()
        except (AsparkleError, OSError) as error:
            self.tell(["refused", f"{error}"])
            return
        port = self.serve_peers(options["identity"])
        self.tell(["ready", {**self.facts, "directories": self.directories.paths, "address": [own_address(), port]}])

    def take_up(self, environment: dict[str, Any] | None) -> None:
        """Have workers run in an environment, behind which is what this process has on its path."""
        if environment is not None:
            self.in_use = open(environment["manifest"], "rb")  # noqa: SIM115
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(self.in_use, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self.python = environment["python"]
            sys.path[:] = dict.fromkeys([self.facts["code"], *environment["path"], *sys.path])

    def serve_peers(self, identity: list[str] | None) -> int:
        """Let other nodes connect directly, if there is a key for it; returns the port, or 0."""
        assert self.app is not None
        if identity is None:
            return 0
        directories = self.app.directories
        try:
            self.peers.introduce(Identity(*identity))
            self.server = PeerServer(
                Identity(*identity), lambda connection: serve_files(connection, directories), address=own_address()
            )
        except (AsparkleError, OSError) as error:
            print(f"asparkle: other nodes can't connect directly: {error}", file=sys.stderr)
            return 0
        return self.server.port

    def meet(self, addresses: dict[str, list[Any]]) -> None:
        """There are these other nodes, now: find out which can be reached directly."""
        if self.server is None:
            return
        self.known = {host: (address, port) for host, (address, port) in addresses.items()}
        reached = {host: address for host, address in self.peers.addresses().items() if self.known.get(host) == address}
        self.write_peers(reached)
        untried = deque(self.known.keys() - reached.keys())
        for _ in range(min(len(untried), _TRIED_AT_ONCE)):
            arguments = self.known, untried, self.peers.identity()
            threading.Thread(target=self.try_peers, args=arguments, daemon=True).start()

    def try_peers(self, addresses: dict[str, tuple[str, int]], untried: deque[str], identity: Identity) -> None:
        """In a thread of its own."""
        while addresses is self.known:  # or there is news already
            try:
                host = untried.popleft()
            except IndexError:
                return
            try:
                connect_peer(identity, host, addresses[host], CONNECTING).close()
            except OSError:
                self.call(partial(self.tell, ["routes", {host: RELAYED}]))
            else:
                self.call(partial(self.reached, addresses, host))

    def reached(self, addresses: dict[str, tuple[str, int]], host: str) -> None:
        if addresses is self.known:
            self.write_peers({**self.peers.addresses(), host: addresses[host]})
            self.tell(["routes", {host: DIRECT}])

    def write_peers(self, addresses: dict[str, tuple[str, int]]) -> None:
        try:
            self.peers.write(addresses)
        except AsparkleError as error:  # the disk is full: workers go by what they have
            print(f"asparkle: {error}", file=sys.stderr)

    def call(self, function: Callable[[], None]) -> None:
        """Call a function soon, in the loop.  From any thread."""
        self.calls.append(function)
        with contextlib.suppress(OSError):  # it is full, so the loop will wake, or closed, and nobody is interested
            self.waker.send(b"x")

    def called(self, mask: int) -> None:
        self.woken.recv(4096)
        while self.calls:
            self.calls.popleft()()

    def listen(self) -> None:
        """Let workers knock."""
        assert self.directories is not None
        self.door = socket.socket(socket.AF_UNIX)
        with reachable(door_of(self.directories.paths[0])) as path:
            self.door.bind(path)
        self.door.listen(64)
        self.door.setblocking(False)
        self.watch(self.door, 0, selectors.EVENT_READ, self.answer)

    def answer(self, mask: int) -> None:
        try:
            connection, _ = self.door.accept()
        except (BlockingIOError, ConnectionAbortedError):  # it has gone again
            return
        except OSError:  # there are no more descriptors: workers wait
            self.watch(self.door, selectors.EVENT_READ, 0, self.answer)
            self.deaf = True
            return
        Knock(self, connection)

    def files(self, channel: int) -> None:
        """The driver, or through it another node, wants to speak to this node's file server."""
        assert self.app is not None
        ours, theirs = socket.socketpair()
        threading.Thread(target=serve_files, args=(theirs, self.app.directories), daemon=True).start()
        self.pumps[channel] = Pump(self, channel, ours)

    def environment(self, channel: int) -> None:
        """The driver wants to have its packages brought here."""
        ours, theirs = socket.socketpair()
        code = f"import sys; sys.path[:] = {sys.path!r}; from asparkle.backends.ssh.environment import main; "
        with theirs:
            command = [sys.executable, "-c", f"{code}main({theirs.fileno()})"]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )
        pump = self.pumps[channel] = Pump(self, channel, ours)
        self.builder = process, pump

    def start_zygote(self) -> None:
        assert self.app is not None
        self.zygote = ZygoteProcess(self.app, python=self.python)
        self.zygote_began, self.zygote_is_missing = time.monotonic(), False
        self.zygote_says = Unpacker()
        self.watch(self.zygote.control, 0, selectors.EVENT_READ, self.hear_zygote)

    def worker(self, channel: int, executor: str) -> None:
        assert self.zygote is not None
        self.pumps[channel] = Pump(self, channel, self.zygote.worker(executor), executor)

    def kill(self, executor: str) -> None:
        assert self.zygote is not None
        if executor in self.orphans:
            end_by_force(self.orphans[executor])
        else:
            self.zygote.tell(["kill", executor])

    @property
    def peers(self) -> Peers:
        assert self.directories is not None
        return Peers(self.directories.paths[0])

    def ask(self, number: int, question: list[Any]) -> None:
        """The driver wants to know something of this node: what time it is is told at once."""
        kind, *arguments = question
        if kind == "clock":
            self.tell(["answer", number, time.time(), ""])
        else:
            threading.Thread(target=self.find_out, args=(number, kind, arguments), daemon=True).start()

    def find_out(self, number: int, kind: str, arguments: list[Any]) -> None:
        """In a thread of its own."""
        from asparkle.backends.ssh.probe import QUESTIONS

        found, problem = None, ""
        try:
            found = QUESTIONS[kind](self.app, *arguments)
        except (AsparkleError, OSError) as error:
            problem = getattr(error, "strerror", None) or str(error)
        self.call(lambda: self.tell(["answer", number, found, problem]))

    def driver_lives(self) -> None:
        """Whatever arrives says so."""

    # ------------------------------------------------------------------------- workers

    def hear_zygote(self, mask: int) -> None:
        assert self.zygote is not None
        try:
            data = self.zygote.control.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.replace_zygote()
            return
        for kind, executor, pid, *rest in self.zygote_says.feed(data):
            if kind == "started":
                self.pids[executor] = pid
            elif kind == "ended":
                self.ended(executor, rest[0])

    def ended(self, executor: str, status: int) -> None:
        assert self.app is not None
        self.pids.pop(executor, None)
        self.tell(["ended", executor, status, running_task(self.app, executor)])
        pump = next((p for p in self.pumps.values() if p.executor == executor), None)
        if pump is not None:  # what the worker has forked may hold the channel open
            with contextlib.suppress(OSError):
                pump.connection.shutdown(socket.SHUT_RDWR)

    def replace_zygote(self) -> None:
        """It was killed; the workers that it has started live on, and it is this process that has to end them."""
        assert self.zygote is not None
        for executor in (pump.executor for pump in self.pumps.values() if pump.executor in self.pids):
            self.orphans[executor] = self.pids.pop(executor)
        self.pids.clear()
        self.selector.unregister(self.zygote.control)
        self.zygote.close()
        reap(self.zygote.pid)
        self.zygote_failures = self.zygote_failures + 1 if time.monotonic() - self.zygote_began < _SHORT else 0
        if self.zygote_failures < 2:
            self.start_zygote()
        else:  # not again and again as fast as it can fail: meanwhile channels to workers end as they begin
            self.zygote_is_missing = True

    def look_for_frozen(self) -> None:
        """A process that was stopped (SIGSTOP) and is not continued in time is ended: nobody would ever hear of it."""
        zygote = [self.zygote.pid] if self.zygote is not None else []
        before, self.frozen = self.frozen, {}
        for pid in (*zygote, *self.pids.values(), *self.orphans.values()):
            switches = _stopped_after(pid)
            if switches is None:
                continue
            beats, at = before.get(pid, (0, switches))
            self.frozen[pid] = (beats + 1 if switches == at else 0, switches)
            if self.frozen[pid][0] == self.patience:
                print(f"asparkle: process {pid}, of a worker, was stopped, and is ended", file=sys.stderr)
                end_by_force(pid)

    # ------------------------------------------------------------------------- the end

    def close(self) -> None:
        """Nothing stays behind."""
        if self.server is not None:
            self.server.close()
        if self.builder is not None:
            process, pump = self.builder
            pump.close()
            if not _ends(process.pid, _LINGER):
                process.kill()
        for pid in self.orphans.values():
            end_by_force(pid)
        if self.zygote is not None:
            self.zygote.close()
            if not _ends(self.zygote.pid, _LINGER):
                for pid in (self.zygote.pid, *self.pids.values()):
                    end_by_force(pid)
                _ends(self.zygote.pid, _LINGER)
        if self.directories is not None:
            os.chdir("/")
            self.directories.remove()


_TOLD: dict[str, Callable[..., None]] = {
    "app": Agent.begin,
    "kill": Agent.kill,
    "peers": Agent.meet,
    "ask": Agent.ask,
    "beat": Agent.driver_lives,
}
_OPENED: dict[str, Callable[..., None]] = {
    "worker": Agent.worker,
    "files": Agent.files,
    "environment": Agent.environment,
}


def take_descriptors() -> None:
    """Have as many files open at once as the system lets this process, up to some thousands."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):  # then it makes do
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def own_address() -> str:
    """This node's address, as the driver's ssh has reached it: on the network where other nodes are, most likely."""
    words = os.environ.get("SSH_CONNECTION", "").split()
    return words[2] if len(words) == 4 else "127.0.0.1"


def end_by_force(pid: int) -> None:
    """One that is gone already is left alone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _stopped_after(pid: int) -> int | None:
    """How often a process that is stopped by a signal was given a CPU before; None if it is not, or there is no /proc.

    Where that has grown, it was continued, and stopped again: cpulimit, for one, slows a process down so."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            fields = dict(line.split(b":\t", 1) for line in file.read().splitlines())
    except OSError:
        return None
    if not fields[b"State"].startswith(b"T"):
        return None
    return sum(int(count) for name, count in fields.items() if name.endswith(b"_ctxt_switches"))


def _ends(pid: int, within: float) -> bool:
    """Whether a child process ends within that many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            return True
        time.sleep(0.005)
    return False


def main(facts: dict[str, Any]) -> None:
    """Be the agent.  What it, and the workers, print goes to standard error."""
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    take_descriptors()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def end(number: int, frame: Any) -> None:
        raise Gone(f"it was ended by {signal.Signals(number).name}")

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    agent = Agent(incoming, outgoing, facts)
    try:
        agent.run()
    except (Gone, OSError) as error:
        reason = str(error)
    except BrokenFrames as error:
        reason = f"what came from the driver is not what an asparkle of this version sends: {error}"
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        agent.close()
    with contextlib.suppress(OSError):
        print(f"asparkle: agent ends: {reason}", file=sys.stderr)
