"""Hosts that share no files, on one machine and without any network: ``apart://HxW`` is W workers on each of H hosts.

A host is a directory of its own, a process that serves the files in it over a Unix socket, and workers, in which an
audit hook makes sure that they open nothing of the driver's and of other hosts' directories.  They have asparkle and
what is installed here; the driver's own modules, those of the tests above all, are not there for them.
"""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio

import asparkle
from asparkle.core.localmodules import is_own
from asparkle.errors import ConfigurationError
from asparkle.plugins import (
    AppSpec,
    Cluster,
    ClusterManager,
    Connection,
    Copies,
    Dial,
    ExecutorInfo,
    Lost,
    SocketExecutor,
    WorkerCluster,
    hookimpl,
    in_thread,
    remove_tree,
    serve_files,
)

PARTS = ("blocks", "data", "files", "results", "spill")
DRIVER = "driver"
TOUCHES = ("open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate")


# ------------------------------------------------------------------------------------------- in workers


def dialer(app: AppSpec) -> Dial:
    """As `AppSpec.dialer` names it."""
    root = os.path.dirname(os.path.dirname(app.directories[0]))
    return lambda host: connect(root, host)


def connect(root: str, host: str) -> Connection:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    try:
        connection.connect(os.path.join(root, f"{host or DRIVER}.sock"))
    except BaseException:
        connection.close()
        raise
    return connection


def work() -> None:
    """Be a worker that sees its own host's files only; what it tries to see besides, it is noted for."""
    root, host, driver, *scripts = sys.argv[1:]
    sys.modules["apart"] = sys.modules[__name__]
    hidden = tuple(os.path.join(directory, "") for directory in scripts)
    installed = tuple(os.path.join(prefix, "") for prefix in (sys.prefix, sys.base_prefix))  # perhaps in one of these

    def is_hidden(path: str) -> bool:
        return path in scripts or (path.startswith(hidden) and not path.startswith(installed))

    sys.path[:] = [entry for entry in sys.path if not is_hidden(os.path.join(entry, ""))]
    others = [os.path.join(root, name) for name in os.listdir(root) if name.startswith("h") and name != host]
    forbidden = tuple(os.path.join(directory, "") for directory in (driver, *others))

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event not in TOUCHES or not isinstance(arguments[0], str):
            return
        if is_hidden(arguments[0]):
            raise FileNotFoundError(errno.ENOENT, "there is no such file on this host", arguments[0])
        if arguments[0].startswith(forbidden):
            fd = os.open(os.path.join(root, "seen"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(fd, f"{host}: {event} {arguments[0]}\n".encode())
            os.close(fd)
            raise PermissionError(f"{arguments[0]} is another host's")

    from asparkle.worker import main

    sys.addaudithook(watch)
    del sys.argv[1:]

    main()


# ------------------------------------------------------------------------------------------ file servers


def serve(listener: socket.socket, directories: Sequence[str], fault: str, copies: Copies | None = None) -> None:
    """Serve all who connect; if there is a file ``fault``, the next of them as its content says."""
    while True:
        connection, _ = listener.accept()
        served: object = connection
        if os.path.exists(fault):
            served = Wrong(connection, FAULTS[Path(fault).read_text()])
            os.unlink(fault)
        threading.Thread(target=serve_files, args=(served, directories, copies), daemon=True).start()


class Wrong:
    """A connection over which answers come wrong: what ``change`` makes of them, None to send nothing any more."""

    def __init__(self, connection: socket.socket, change: Callable[[bytes], bytes | None]) -> None:
        self._connection = connection
        self._change = change
        self._ended = threading.Event()
        self.settimeout = connection.settimeout
        self.recv_into = connection.recv_into
        self.close = connection.close

    def sendall(self, data: bytes) -> None:
        changed = self._change(bytes(data))
        if changed is None:
            self._ended.wait()
        self._connection.sendall(changed)
        if len(changed) < len(data):
            raise ConnectionResetError("cut off")


FAULTS: dict[str, Callable[[bytes], bytes | None]] = {
    "stalls": lambda data: None,
    "garbage": lambda data: random.randbytes(len(data)),
    "short": lambda data: data[: len(data) // 2],
    "damaged": lambda data: data[:9] + bytes(byte ^ 0x55 for byte in data[9:]),  # the header is right
}
"""What `ApartCluster.fault` makes of answers."""


def listening(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)
    return listener


def server_main() -> None:
    root, host, *directories = sys.argv[1:]
    serve(listening(os.path.join(root, f"{host}.sock")), directories, os.path.join(root, f"{host}.fault"))


# -------------------------------------------------------------------------------------------- the backend


class ApartExecutor(SocketExecutor):
    cluster: ApartCluster

    def loss(self, reason: str, blame: bool) -> Lost:
        return super().loss(reason, blame)._replace(blocks_survive=self.info.host not in self.cluster.dead)


class ApartCluster(WorkerCluster):
    shares_files = False

    def __init__(self, app: AppSpec, tasks: anyio.abc.TaskGroup, hosts: int, root: str) -> None:
        super().__init__(app, tasks)
        self.root = root
        os.mkdir(os.path.join(root, "code"))
        os.symlink(asparkle.__path__[0], os.path.join(root, "code", "asparkle"))
        self.hosts = {f"h{i}": self._make_host(f"h{i}") for i in range(hosts)}
        self.servers = {host: self._serve(host) for host in self.hosts}
        self.dead: set[str] = set()
        self.pids: dict[str, list[int]] = {host: [] for host in self.hosts}
        self.workers = dict.fromkeys(self.hosts, 0)  # those included that are being started
        self._listener = listening(os.path.join(root, f"{DRIVER}.sock"))
        fault = os.path.join(root, f"{DRIVER}.fault")
        threading.Thread(target=self._serve_driver, args=(app.directories, fault), daemon=True).start()
        clusters.append(self)

    def _serve_driver(self, directories: Sequence[str], fault: str) -> None:
        try:
            serve(self._listener, directories, fault, Copies())
        except OSError:
            return  # closed

    def _make_host(self, host: str) -> tuple[str, ...]:
        directories = tuple(os.path.join(self.root, host, name) for name in "ab")
        for directory in directories:
            for part in PARTS:
                os.makedirs(os.path.join(directory, part), mode=0o700)
        os.mkdir(os.path.join(self.root, host, "work"))
        return directories

    def _serve(self, host: str) -> subprocess.Popen[bytes]:
        code = "import apart; apart.server_main()"
        command = [sys.executable, "-c", code, self.root, host, *self.hosts_directories(host)]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
        while not os.path.exists(os.path.join(self.root, f"{host}.sock")):
            assert process.poll() is None, "the file server has ended"
            time.sleep(0.01)
        return process

    def hosts_directories(self, host: str) -> tuple[str, ...]:
        return tuple(os.path.join(self.root, host, name) for name in "ab")

    async def start(self, info: ExecutorInfo) -> SocketExecutor:
        alive = [host for host in self.hosts if host not in self.dead]
        host = min(alive, key=self.workers.__getitem__)
        self.workers[host] += 1
        app = self.app._replace(
            directories=self.hosts[host],
            host=host,
            dialer="apart:dialer",
        )
        ours, theirs = socket.socketpair()
        environment = {
            **os.environ,
            "APART_HOST": host,
            "PYTHONHASHSEED": app.hash_seed,
            "PYTHONPATH": os.path.join(self.root, "code"),
        }
        driver = os.path.commonpath(self.app.directories)
        scripts = {os.path.abspath(entry) for entry in sys.path if is_own(entry)}
        with theirs:
            process = await anyio.open_process(
                [sys.executable, __file__, self.root, host, driver, *scripts],
                stdin=theirs, stdout=theirs, stderr=None, env=environment, cwd=os.path.join(self.root, host, "work"),
            )  # fmt: skip
        self.pids[host].append(process.pid)

        async def ended() -> str:
            status = await process.wait()
            self.pids[host].remove(process.pid)
            self.workers[host] -= 1
            return f"its process ended with exit status {status}"

        executor = ApartExecutor(app, info._replace(host=host), ours, self.tasks, ended=ended, end=process.kill)
        executor.cluster = self
        executor.hello()
        return executor

    def dial(self, host: str) -> Connection:
        return connect(self.root, host)

    def kill_host(self, host: str) -> None:
        """All of it at once: its workers, its file server, its files."""
        self.dead.add(host)
        self.servers[host].kill()
        self.servers[host].wait()
        for pid in self.pids[host]:
            os.kill(pid, signal.SIGKILL)
        for directory in self.hosts[host]:
            remove_tree(directory)

    def fault(self, host: str, what: str) -> None:
        Path(self.root, f"{host or DRIVER}.fault").write_text(what)

    def files(self, host: str) -> list[str]:
        """What lies in a host's directories, without the marks of its workers."""
        # os.walk bears directories that go meanwhile, and Path.rglob does not.
        walks = (walk for directory in self.hosts[host] for walk in os.walk(directory))
        return [os.path.join(at, name) for at, _, names in walks for name in names if not name.startswith("running-")]

    def seen(self) -> list[str]:
        """Files of others that workers have tried to see."""
        path = Path(self.root, "seen")
        return path.read_text().splitlines() if path.exists() else []

    async def close(self) -> None:
        await super().close()
        for server in self.servers.values():
            server.kill()
            await in_thread(server.wait)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


clusters: list[ApartCluster] = []
"""Of this process, the latest last."""


class ApartManager(ClusterManager):
    def executors(self, url: str) -> int:
        hosts, workers = _parsed(url)
        return hosts * workers

    def open(self, app: AppSpec) -> AbstractAsyncContextManager[Cluster]:
        return self._open(app)

    @asynccontextmanager
    async def _open(self, app: AppSpec) -> AsyncIterator[Cluster]:
        root = tempfile.mkdtemp(prefix="apart-", dir="/tmp")  # names of sockets may not be long
        try:
            async with ApartCluster.opened(app, _parsed(app.master)[0], root) as cluster:
                yield cluster
            assert not cluster.seen(), cluster.seen()
        finally:
            remove_tree(root)


def _parsed(url: str) -> tuple[int, int]:
    found = re.fullmatch(r"apart://(\d+)x(\d+)", url)
    if found is None:
        raise ConfigurationError(f"master URL {url!r}: expected apart://HxW")
    return int(found[1]), int(found[2])


class Apart:
    """The plugin."""

    @hookimpl
    def asparkle_cluster_managers(self) -> dict[str, type[ClusterManager]]:
        return {"apart": ApartManager}


if __name__ == "__main__":
    work()
