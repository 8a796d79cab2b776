"""An agent, spoken to as its driver does: what it starts, what it says, and that it leaves nothing however it ends."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asparkle import SparkConf
from asparkle.backends.ssh.dialing import CONNECTING, Peers, door_of, knock, reachable
from asparkle.backends.ssh.mux import CONTROL, Arrived, Closed, Mux, Opened
from asparkle.newapplication import new_application
from asparkle.plugins import Authority, MessageReader, PeerServer, Unpacker, pack

BEAT = 0.05


class Driver:
    """The driver's end of an agent's stream, without an event loop."""

    def __init__(self, root: Path, patience: int = 1000, identity: list[str] | None = None) -> None:
        self.root = root
        self.mux = Mux(driver=True)
        self.messages = Unpacker()
        self.told: list[list[Any]] = []
        self.arrived: dict[int, bytes] = {}
        self.opened: dict[int, list[Any]] = {}
        self.closed: set[int] = set()
        self.ended = False
        facts = {"directory": str(root), "memory": 1 << 33, "cpus": 2}
        code = f"from asparkle.backends.ssh.agent import main; main({facts!r})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin.fileno(), self.process.stdout.fileno()
        app = new_application(None, None, SparkConf().setMaster("processes[2]").setAppName("agent"), ()).spec
        options = {"beat": BEAT, "patience": patience, "host": "here", "slots": 2, "identity": identity}
        self.tell(["app", app._asdict(), options])
        self.wait(lambda: self.told)
        self.facts: dict[str, Any] = self.told[0][1]

    def tell(self, message: list[Any]) -> None:
        self.mux.send(CONTROL, pack(message))
        self.write()

    def send(self, channel: int, data: bytes) -> None:
        self.mux.send(channel, data)
        self.write()

    def open(self, *purpose: Any) -> int:
        channel = self.mux.open(pack(list(purpose)))
        self.write()
        return channel

    def write(self) -> None:
        while out := self.mux.outgoing():
            os.write(self.stdin, out)

    def wait(self, until: Callable[[], object], seconds: float = 20) -> None:
        """Read until something is so."""
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, (self.told, self.arrived.keys(), self.closed)
            if self.ended:
                time.sleep(0.01)
            elif select.select([self.stdout], [], [], 0.1)[0]:
                self.read()

    def read(self) -> None:
        data = os.read(self.stdout, 1 << 16)
        self.ended = not data
        for event in self.mux.feed(data):
            if isinstance(event, Arrived):
                self.mux.taken(event.channel, len(event.data))
                if event.channel == CONTROL:
                    self.told += self.messages.feed(event.data)
                else:
                    self.arrived[event.channel] = self.arrived.get(event.channel, b"") + event.data
            elif isinstance(event, Opened):
                self.opened[event.channel] = Unpacker().feed(event.purpose)[0]
            elif isinstance(event, Closed):
                self.closed.add(event.channel)
        self.write()

    def worker(self, executor: str) -> tuple[int, int]:
        """Start one; its channel and its pid."""
        channel = self.open("worker", executor)
        self.wait(lambda: channel in self.arrived)
        (ready,) = MessageReader().feed(self.arrived[channel])
        return channel, ready.pid

    def relay(self, connection: socket.socket, most: int = 1 << 30) -> bytes:
        """What arrives at a socket until its end, while the driver reads, too."""
        received = b""
        connection.settimeout(20)
        while len(received) < most:
            readable, _, _ = select.select([connection, self.stdout], [], [], 20)
            if self.stdout in readable:
                self.read()
            if connection in readable:
                data = connection.recv(1 << 16)
                received += data
                if not data:
                    break
        return received

    @property
    def directories(self) -> list[str]:
        return [name for name in os.listdir(self.root) if name.startswith("asparkle-")]

    def gone(self) -> bool:
        """Whether the agent has ended, and nothing of the application is there."""
        return self.process.poll() is not None and not self.directories

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    made = Driver(tmp_path)
    yield made
    made.close()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_runs_until_its_channel_is_closed(driver: Driver) -> None:
    channel, pid = driver.worker("w")
    assert driver.told[0][0] == "ready" and len(driver.directories) == 1
    driver.mux.close(channel)
    driver.write()
    driver.wait(lambda: ["ended", "w", 0, []] in driver.told)
    assert not is_alive(pid)


def test_how_a_worker_ended_is_told_and_then_its_channel_closed(driver: Driver) -> None:
    channel, pid = driver.worker("w")
    os.kill(pid, signal.SIGSEGV)
    driver.wait(lambda: channel in driver.closed and ["ended", "w", -signal.SIGSEGV, []] in driver.told)


def test_a_worker_is_killed_on_demand(driver: Driver) -> None:
    channel, pid = driver.worker("w")
    driver.tell(["kill", "w"])
    driver.wait(lambda: channel in driver.closed and not is_alive(pid))
    driver.tell(["kill", "w"])  # it is gone, and nobody minds
    driver.worker("next")


def test_a_frozen_worker_is_ended(tmp_path: Path) -> None:
    driver = Driver(tmp_path, patience=10)
    try:
        _, pid = driver.worker("w")
        os.kill(pid, signal.SIGSTOP)

        def heard() -> bool:
            driver.tell(["beat"])
            return ["ended", "w", -signal.SIGKILL, []] in driver.told

        driver.wait(heard)
    finally:
        driver.close()


def test_a_worker_that_is_slowed_down_by_signals_lives(tmp_path: Path) -> None:
    driver = Driver(tmp_path, patience=5)
    try:
        _, pid = driver.worker("w")
        ended = time.monotonic() + 40 * BEAT
        while time.monotonic() < ended:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(BEAT / 2)
            os.kill(pid, signal.SIGCONT)
            driver.tell(["beat"])
            while select.select([driver.stdout], [], [], 0)[0]:
                driver.read()
        assert is_alive(pid) and not any(kind == "ended" for kind, *_ in driver.told)
    finally:
        driver.close()


def test_workers_outlive_the_zygote_and_new_ones_can_be_started(driver: Driver) -> None:
    _, pid = driver.worker("w")
    zygote = zygote_of(pid)
    os.kill(zygote, signal.SIGKILL)
    driver.wait(lambda: not is_alive(zygote))
    time.sleep(2 * BEAT)  # until the agent has started another
    driver.worker("next")
    assert is_alive(pid)
    driver.close()
    driver.wait(lambda: not is_alive(pid))


def zygote_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("how", ["kill", "close"])
def test_a_worker_that_has_outlived_its_zygote_is_ended_by_force(how: str, driver: Driver) -> None:
    channel, pid = driver.worker("w")
    zygote = zygote_of(pid)
    os.kill(zygote, signal.SIGKILL)
    driver.wait(lambda: not is_alive(zygote))
    driver.worker("next")
    os.kill(pid, signal.SIGSTOP)
    try:
        if how == "kill":
            driver.tell(["kill", "w"])
            driver.wait(lambda: channel in driver.closed)
        else:
            driver.close()
        driver.wait(lambda: not is_alive(pid))
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_a_frozen_zygote_is_replaced(tmp_path: Path) -> None:
    driver = Driver(tmp_path, patience=10)
    try:
        _, pid = driver.worker("w")
        zygote = zygote_of(pid)
        os.kill(zygote, signal.SIGSTOP)
        waiting = driver.open("worker", "waiting")

        def heard() -> bool:
            driver.tell(["beat"])
            return waiting in driver.closed

        driver.wait(heard)  # then the driver has another one started
        driver.worker("next")
        assert is_alive(pid) and not is_alive(zygote)
    finally:
        driver.close()


@pytest.mark.parametrize("how", ["closed", "SIGTERM", "SIGHUP", "silence", "garbage"])
def test_nothing_is_left_however_it_ends(how: str, tmp_path: Path) -> None:
    driver = Driver(tmp_path, patience=10 if how == "silence" else 1000)
    try:
        pids = [driver.worker(name)[1] for name in "ab"]
        if how == "closed":
            assert driver.process.stdin is not None
            driver.process.stdin.close()
        elif how.startswith("SIG"):
            driver.process.send_signal(signal.Signals[how])
        elif how == "garbage":
            os.write(driver.stdin, b"GET / HTTP/1.1\r\n\r\n")
        driver.wait(driver.gone)
        assert not any(map(is_alive, pids))
        assert driver.process.stderr is not None
        said = driver.process.stderr.read().decode()
        expected = {
            "closed": "the driver has closed the connection",
            "SIGTERM": "it was ended by SIGTERM",
            "SIGHUP": "it was ended by SIGHUP",
            "silence": "the driver has said nothing for",
            "garbage": "is not what an asparkle of this version sends",
        }
        assert expected[how] in said and "Traceback" not in said
    finally:
        driver.close()


def test_a_zygote_that_can_not_start_is_not_started_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "node").mkdir()
    tries = tmp_path / "tries"
    fails = tmp_path / "path" / "sitecustomize.py"
    fails.write_text(
        "import os, sys\n"
        f"if 'backends.zygote' in str(sys.orig_argv):\n    open({str(tries)!r}, 'a').write('x')\n    os._exit(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"), prepend=os.pathsep)
    monkeypatch.setattr(sys.modules[__name__], "BEAT", 0.5)
    driver = Driver(tmp_path / "node")
    try:
        driver.wait(lambda: driver.told.count(["beat"]) == 4)
        assert 1 < len(tries.read_text()) <= 7
        channel = driver.open("worker", "w")
        driver.wait(lambda: channel in driver.closed)
        fails.unlink()
        driver.wait(lambda: driver.told.count(["beat"]) == 7)
        driver.worker("next")
    finally:
        driver.close()


def test_it_has_more_descriptors_than_systems_give(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        driver = Driver(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        assert resource.prlimit(driver.process.pid, resource.RLIMIT_NOFILE)[0] == min(hard, 8192)
    finally:
        driver.close()


def test_nothing_is_left_when_it_is_killed(driver: Driver) -> None:
    _, pid = driver.worker("w")
    driver.process.kill()
    driver.wait(driver.gone)
    driver.wait(lambda: not is_alive(pid))


def test_it_says_that_it_lives_while_nothing_else_is_said(driver: Driver) -> None:
    driver.wait(lambda: driver.told.count(["beat"]) >= 5)


def test_a_directory_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    driver = Driver(tmp_path / "file")
    try:
        (kind, reason) = driver.told[0]
        assert kind == "refused" and str(tmp_path / "file") in reason
    finally:
        driver.close()


def test_workers_knock_to_reach_other_hosts(driver: Driver) -> None:
    (directory,) = driver.facts["directories"]
    connection = knock(directory, "elsewhere")
    assert isinstance(connection, socket.socket)
    with connection:
        driver.wait(lambda: driver.opened)
        ((channel, purpose),) = driver.opened.items()
        assert purpose == ["files", "elsewhere"]
        connection.sendall(b"a question" * 100_000)
        driver.wait(lambda: len(driver.arrived.get(channel, b"")) == 1_000_000)
        driver.send(channel, b"an answer" * 200_000)
        driver.mux.close(channel)
        driver.write()
        assert driver.relay(connection) == b"an answer" * 200_000


def test_who_knocks_and_says_nothing_or_goes_away_harms_nobody(driver: Driver) -> None:
    (directory,) = driver.facts["directories"]
    connections = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for connection in connections:
        with reachable(door_of(directory)) as path:
            connection.connect(path)
    for connection in connections[:10]:
        connection.send(b"\x05ab")
        connection.close()
    driver.worker("w")
    for connection in connections[10:]:
        connection.close()
    driver.worker("another")
    assert not driver.opened


def test_without_descriptors_it_refuses_what_is_new_and_serves_on(driver: Driver) -> None:
    (directory,) = driver.facts["directories"]
    kept, _ = driver.worker("w")
    pid = driver.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")), before[1]))
    refused = {driver.open("worker", "another"), driver.open("files"), driver.open("environment")}
    driver.wait(lambda: refused <= driver.closed)
    assert ["ended", "another", os.EX_OSERR, []] in driver.told
    with knock(directory, "elsewhere") as connection:  # type: ignore[attr-defined]
        spent = sum(cpu_times(pid))
        beats = driver.told.count(["beat"])
        driver.wait(lambda: driver.told.count(["beat"]) >= beats + 20)
        assert sum(cpu_times(pid)) - spent < 10 * BEAT  # it does not ask again and again
        assert not driver.opened
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        driver.wait(lambda: driver.opened)
        driver.worker("one more")
        assert kept not in driver.closed
        connection.close()


def cpu_times(pid: int) -> tuple[float, float]:
    """Seconds that a process has spent in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / ticks, int(fields[12]) / ticks


def test_nodes_that_can_not_be_reached_are_tried_together(tmp_path: Path) -> None:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(10)]  # which never shake hands
    driver = Driver(tmp_path, identity=list(Authority("an application").identity("here")))
    try:
        driver.tell(["peers", {f"n{i}": listener.getsockname() for i, listener in enumerate(listeners)}])
        seconds = 4 * CONNECTING  # one after the other, it would be ten times CONNECTING
        driver.wait(lambda: len(routes(driver)) == 10, seconds)
        assert routes(driver) == {f"n{i}": "driver" for i in range(10)}
    finally:
        driver.close()
        for listener in listeners:
            listener.close()


def test_a_node_that_can_be_reached_is_known_while_others_are_tried(tmp_path: Path) -> None:
    authority = Authority("an application")
    silent = socket.create_server(("127.0.0.1", 0))  # which never shakes hands
    there = PeerServer(authority.identity("there"), lambda connection: None, address="127.0.0.1")
    driver = Driver(tmp_path, identity=list(authority.identity("here")))
    try:
        driver.tell(["peers", {"silent": silent.getsockname(), "there": ("127.0.0.1", there.port)}])
        driver.wait(lambda: routes(driver))
        assert routes(driver) == {"there": "direct"}
        (directory,) = driver.facts["directories"]
        assert Peers(directory).addresses() == {"there": ("127.0.0.1", there.port)}
        driver.wait(lambda: len(routes(driver)) == 2)
        assert routes(driver)["silent"] == "driver"
    finally:
        driver.close()
        there.close()
        silent.close()


def routes(driver: Driver) -> dict[str, str]:
    return {host: route for kind, *rest in driver.told if kind == "routes" for host, route in rest[0].items()}


def test_a_reader_that_does_not_read_holds_up_nobody(driver: Driver) -> None:
    (directory,) = driver.facts["directories"]
    with knock(directory, "elsewhere") as connection:  # type: ignore[attr-defined]
        driver.wait(lambda: driver.opened)
        (channel,) = driver.opened
        driver.send(channel, bytes(8 << 20))  # more than sockets hold
        driver.worker("w")
        assert driver.relay(connection, 8 << 20) == bytes(8 << 20)


def test_it_tells_of_its_node_what_it_is_asked(driver: Driver) -> None:
    driver.tell(["ask", 7, ["clock"]])
    driver.tell(["ask", 8, ["room"]])
    driver.tell(["ask", 9, ["fetch", "nowhere", ["127.0.0.1", 1], "/etc/passwd", 1 << 20, 0.1]])
    driver.wait(lambda: len(answers(driver)) == 3)
    found = answers(driver)
    assert found[7][1] == "" and abs(found[7][0] - time.time()) < 20
    assert found[8][1] == "" and found[8][0] > 0
    assert found[9] == [None, "No such file or directory"]  # it has no identity


def answers(driver: Driver) -> dict[int, list[Any]]:
    return {message[1]: message[2:] for message in driver.told if message[0] == "answer"}
