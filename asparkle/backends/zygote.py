"""A warm process that starts workers: it has imported what they need, has one thread, and forks.

The driver's process has threads and a user's modules and must not be forked; this one is started
afresh.  It is also the workers' parent: it reaps them, says how they ended, and, when the driver goes away
without a word, ends them and removes the application's files.

Messages are msgpack arrays with their length in front, over an inherited socket; a worker's end of its
channel comes along as a file descriptor.  On macOS, where forking is unsafe even here, and where
``ASPARKLE_START_METHOD=spawn`` is in its environment, it starts each worker as a process of its own.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
from typing import Any

from asparkle.plugins import AppSpec, Unpacker, pack, preload, remove_tree, serve

preload()  # once, here, for all workers
for _module in ("backends.disk", "backends.shufflefiles", "plugins.cachepolicies", "plugins.serializers"):
    importlib.import_module(f"asparkle.{_module}")  # what they load by name, unless told otherwise

FORKS = os.environ.get("ASPARKLE_START_METHOD", "spawn" if sys.platform == "darwin" else "fork") != "spawn"


class Zygote:
    """The loop: start a worker, kill a worker, say which one ended."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.app: AppSpec | None = None
        self.children: dict[int, str] = {}
        self.fds: list[int] = []
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)

    def run(self) -> None:
        unpacker = Unpacker()
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.wake_read, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self.wake_read in ready:
                os.read(self.wake_read, 512)
                self.reap()
            if self.control.fileno() in ready:
                try:
                    data, fds, _, _ = socket.recv_fds(self.control, 1 << 16, 16)
                except ConnectionResetError:
                    return
                if not data:
                    return
                self.fds += fds
                for message in unpacker.feed(data):
                    self.handle(message)

    def handle(self, message: list[Any]) -> None:
        kind, *fields = message
        if kind == "app":
            self.app = AppSpec.from_plain(fields[0])
            os.environ.update(self.app.environment)
        elif kind == "start":
            self.start(fields[0])
        elif kind == "kill":
            for pid, executor in self.children.items():
                if executor == fields[0]:
                    os.kill(pid, signal.SIGKILL)

    def start(self, executor: str) -> None:
        fd = self.fds.pop(0)
        assert self.app is not None
        try:
            pid = self.fork(fd, executor) if FORKS else self.spawn(fd, executor)
        except OSError as error:  # no more processes: the driver sees the channel end, and tries again
            print(f"asparkle: a worker could not be started: {error}", file=sys.stderr)
            return
        finally:
            os.close(fd)
        self.children[pid] = executor
        self.tell(["started", executor, pid])

    def fork(self, fd: int, executor: str) -> int:
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for other in (self.control.detach(), self.wake_read, self.wake_write, *self.fds):
                os.close(other)
            assert self.app is not None
            serve(fd, fd, self.app, executor)
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(status)

    def spawn(self, fd: int, executor: str) -> int:
        import json
        import subprocess

        assert self.app is not None
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from asparkle.backends.zygote import worker_main; "
            f"worker_main({fd}, {executor!r}, {json.dumps(self.app._asdict())!r})"
        )
        process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[fd], stdin=subprocess.DEVNULL)
        process.returncode = 0  # reaped below, by pid
        return process.pid

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            executor = self.children.pop(pid, None)
            if executor is not None:
                self.tell(["ended", executor, pid, os.waitstatus_to_exitcode(status)])

    def tell(self, message: list[Any]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # noticed where it is read
            self.control.sendall(pack(message))

    def end_workers(self) -> None:
        """No worker outlives its zygote."""
        for pid in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in self.children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self.children.clear()  # their numbers may be somebody else's now

    def remove_files(self) -> None:
        """The driver has let go, or is gone: nothing of the application stays behind."""
        self.end_workers()  # first, or they would go on writing
        for directory in self.app.directories if self.app else ():
            remove_tree(directory)


def main(fd: int) -> None:
    """The zygote's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the driver's
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]
    zygote = Zygote(socket.socket(fileno=fd))
    gc.collect()
    gc.freeze()  # what workers share stays shared
    try:
        zygote.run()
        zygote.remove_files()  # only then: while the driver lives, the files are its own
    finally:
        zygote.end_workers()


def worker_main(fd: int, executor: str, app: str) -> None:
    """A worker that is a process of its own from the start."""
    import json

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(fd, fd, AppSpec.from_plain(json.loads(app)), executor)
