"""An RDD's elements through a command of the shell's: each partition is one process.

The process is fed and read by turns, as its pipes take and give, in the task's own thread: what comes before it in
the lineage runs where it always runs, and a task that ends early ends its process.
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from asparkle.core.errors import TaskKilled, UserFunctionError
from asparkle.core.program import Transform

if TYPE_CHECKING:
    from asparkle.core.worker.task import TaskEnvironment

_CHUNK: Final = 1 << 16
_BATCH: Final = 256  # elements that become one write
_GUARD: Final = 'trap "" HUP INT TERM; read -r _; kill -s KILL 0'


class Pipe(Transform):
    """The lines that ``command`` writes, given the elements as lines."""

    __slots__ = ("check_code", "command", "environment")

    def __init__(self, command: str, environment: Mapping[str, str], check_code: bool) -> None:
        self.command = command
        self.environment = dict(environment)
        self.check_code = check_code

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[str]:
        from asparkle.core.worker.task import current_environment

        return self._lines(current_environment(), elements)

    def _lines(self, task: TaskEnvironment, elements: Iterator[Any]) -> Iterator[str]:
        with task.worker.uninterrupted():  # a process that nobody knows of would never end
            process = Process(self.command, self.environment)
            task.context._add_cleanup(process.close)
            task.worker.watch(task.task.tid, process.kill)
        yield from process.lines(elements)
        with task.worker.uninterrupted():
            process.close()
        if process.status and self.check_code:
            raise UserFunctionError(f"pipe: {self.command!r} ended with exit status {process.status}")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Pipe, (self.command, self.environment, self.check_code))


class Process:
    """A process of ``command``, and all that it starts.  They have ended when `close` returns.

    They are a process group whose leader is a shell that does nothing but wait at a pipe. No other process writes to
    that, so it ends when this process does, however it does: then the shell kills the group. Of what leaves the group
    only the command's own process is ended: nobody knows the others. They may hold its output open for long, so who
    waits for that waits for the end of the shell's, too, which no other process holds: it tells of a kill.
    """

    def __init__(self, command: str, environment: Mapping[str, str]) -> None:
        self.status: int | None = None
        self._killed: TaskKilled | None = None
        self._reaping = threading.Lock()  # who is reaped must not be killed: its number may be another's
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD], env={}, stdin=pipe, stdout=pipe, stderr=null, process_group=0
        )
        try:
            self._command = subprocess.Popen(
                shlex.split(command),
                env=environment,
                stdin=pipe,
                stdout=pipe,
                process_group=self._guard.pid,
            )
        except BaseException:
            self._end_group()
            raise

    def lines(self, elements: Iterator[Any]) -> Iterator[str]:
        """What it writes while it is fed the elements, and until it ends; ``status`` is how it ended.

        Raises TaskKilled when it is killed meanwhile.
        """
        yield from _lines(self._output(elements))
        self.status = self._command.wait()
        if self._killed is not None:
            raise self._killed

    def _output(self, elements: Iterator[Any]) -> Iterator[bytes]:
        """What it writes, chunk by chunk."""
        process = self._command
        assert process.stdin is not None and process.stdout is not None and self._guard.stdout is not None
        stdin, stdout, guard = process.stdin.fileno(), process.stdout.fileno(), self._guard.stdout.fileno()
        os.set_blocking(stdin, False)  # what a pipe takes at once may be less than a batch
        unwritten = memoryview(b"")
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            selector.register(stdin, selectors.EVENT_WRITE)
            selector.register(guard, selectors.EVENT_READ)  # ends when the group is killed
            while not selector.get_map().keys() <= {guard}:
                ready = selector.select()
                if self._killed is not None:
                    raise self._killed
                for key, _ in ready:
                    if key.fd != stdin:
                        data = os.read(key.fd, _CHUNK)
                        if data:
                            yield data
                        else:
                            selector.unregister(key.fd)
                        continue
                    unwritten = unwritten or memoryview(_as_lines(islice(elements, _BATCH)))
                    written = _write(stdin, unwritten)
                    unwritten = unwritten[written:]
                    if not written:  # there is no more, or nobody to read it
                        selector.unregister(stdin)
                        with suppress(BrokenPipeError):
                            process.stdin.close()

    def kill(self, why: TaskKilled) -> None:
        """End it, from any thread: who reads its lines gets ``why``."""
        self._killed = why
        self._kill_group()
        self._command.kill()  # it may have left the group; nothing happens once it is reaped

    def close(self) -> None:
        """End it if it runs, close its pipes, and reap it; not while another thread reads its lines."""
        self._end_group()
        self._command.kill()
        self._command.__exit__(None, None, None)

    def _kill_group(self) -> None:
        with self._reaping:
            if self._guard.returncode is None:
                with suppress(PermissionError):  # macOS, of a group that has ended and was not reaped
                    os.killpg(self._guard.pid, signal.SIGKILL)

    def _end_group(self) -> None:
        self._kill_group()
        with self._reaping:
            self._guard.__exit__(None, None, None)


def _write(fd: int, data: memoryview) -> int:
    """How many bytes were written; 0 if the other end is closed, as `head` does."""
    try:
        return os.write(fd, data) if data else 0
    except BrokenPipeError:
        return 0


def _as_lines(elements: Iterable[Any]) -> bytes:
    return "".join([str(element).rstrip("\n") + "\n" for element in elements]).encode()


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest: list[bytes] = []  # of a line that goes on
    for chunk in chunks:
        *lines, last = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join((*rest, lines[0]))
            rest.clear()
            for line in lines:
                yield line.decode()
        if last:
            rest.append(last)
    if rest:
        yield b"".join(rest).decode()
