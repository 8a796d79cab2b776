"""Starting a fresh interpreter that is ours alone: no fork of this process, no file of it but one socket."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any, Final

from asparkle.plugins import AppSpec

AHEAD: Final = 64  # workers that are asked for before anybody listens: as many as surely fit the socket's buffer


def start_python(module: str, function: str, channel: socket.socket, app: AppSpec, python: str = "") -> int:
    """Start ``module.function(fd)`` in a new interpreter which has ``channel`` as its ``fd``; returns its pid.

    It sees this process's environment and working directory, the application's ``sys.path``, this process's
    output and its errors, but not its standard input, and is in a process group of its own, so that the
    terminal's Ctrl-C does not reach it.  ``python``: the interpreter, this process's own unless said.
    """
    fd = 3 if channel.fileno() != 3 else 4
    code = f"import sys; sys.path[:] = {list(app.path)!r}; from {module} import {function}; {function}({fd})"
    environment = {**os.environ, **app.environment, "PYTHONHASHSEED": app.hash_seed}
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.posix_spawn(
            python or sys.executable,
            [python or sys.executable, *_flags(), "-c", code],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, channel.fileno(), fd),
            ],
            setpgroup=0,
        )
    finally:
        os.close(null)


def _flags() -> list[str]:
    """The interpreter's own options that change what code does."""
    flags = ["-O"] * min(sys.flags.optimize, 2)
    if sys.flags.dont_write_bytecode:
        flags.append("-B")
    flags += [f"-W{w}" for w in sys.warnoptions]
    flags += [f"-X{name}" if value is True else f"-X{name}={value}" for name, value in sys._xoptions.items()]
    return [f for f in flags if not f.startswith(("-Xfrozen", "-Ximporttime"))]


class ZygoteProcess:
    """The driver's end of the process that starts workers (see `asparkle.backends.zygote`).

    It is told at once to start the first ``ahead`` workers, named "0", "1" and so on: they come up while the
    driver still imports what it needs to talk to them.
    """

    def __init__(self, app: AppSpec, ahead: int = 0, python: str = "") -> None:
        self.control, theirs = socket.socketpair()
        try:
            self.pid = start_python("asparkle.backends.zygote", "main", theirs, app, python)
        finally:
            theirs.close()
        self._ahead: dict[str, socket.socket] = {}
        try:
            self.tell(["app", app._asdict()])
            for executor in map(str, range(min(ahead, AHEAD))):
                self._ahead[executor] = self._start(executor)
        except BaseException:  # Ctrl-C, or no more sockets
            self.close()
            reap(self.pid)
            raise
        self.control.setblocking(False)

    def worker(self, executor: str) -> socket.socket:
        """The driver's end of the channel to this worker, which is started unless that was done ahead."""
        return self._ahead.pop(executor, None) or self._start(executor)

    def _start(self, executor: str) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            self.tell(["start", executor], theirs)
        return ours

    def tell(self, message: list[Any], passing: socket.socket | None = None) -> None:
        """Send a message, and with it a socket for a worker."""
        from asparkle.plugins import pack  # late: the process that this one starts need not wait for it

        try:
            if passing is not None:
                socket.send_fds(self.control, [pack(message)], [passing.fileno()])
            else:
                self.control.sendall(pack(message))
        except OSError as error:  # who listens to it, or to the worker, finds out
            from asparkle.plugins import log

            log().warning("the process that starts workers is gone", error=str(error))

    def close(self) -> None:
        """Let go of it: it ends its workers and itself."""
        for connection in self._ahead.values():
            connection.close()
        self.control.close()


def how_it_ended(status: int) -> str:
    """Of a process, by its exit status, negative for a signal's number: to be said of it."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def reap(pid: int) -> None:
    """Wait for a process of ours to end."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return  # somebody else waits for all children of this process
