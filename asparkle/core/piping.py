"""An RDD's elements through a command of the shell's: each partition is one process.

The process is fed and read by turns, as its pipes take and give, in the task's own thread: what comes before it in
the lineage runs where it always runs, and a task that ends early ends its process.
"""

from __future__ import annotations

import os
import selectors
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, Final

from asparkle.core.errors import UserFunctionError
from asparkle.core.program import Transform

_CHUNK: Final = 1 << 16
_BATCH: Final = 256  # elements that become one write


class Pipe(Transform):
    """The lines that ``command`` writes, given the elements as lines."""

    __slots__ = ("check_code", "command", "environment")

    def __init__(self, command: str, environment: Mapping[str, str], check_code: bool) -> None:
        self.command = command
        self.environment = dict(environment)
        self.check_code = check_code

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[str]:
        process = subprocess.Popen(
            shlex.split(self.command), env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            yield from _lines(_output(process, elements))
            if process.wait() and self.check_code:
                raise UserFunctionError(f"pipe: {self.command!r} ended with exit status {process.returncode}")
        finally:
            process.kill()
            process.__exit__(None, None, None)  # closes the pipes, and reaps

    def __reduce__(self) -> tuple[Any, ...]:
        return (Pipe, (self.command, self.environment, self.check_code))


def _output(process: subprocess.Popen[bytes], elements: Iterator[Any]) -> Iterator[bytes]:
    """What the process writes, chunk by chunk, while it is fed the elements."""
    assert process.stdin is not None and process.stdout is not None
    stdin, stdout = process.stdin.fileno(), process.stdout.fileno()
    os.set_blocking(stdin, False)  # what a pipe takes at once may be less than a batch
    unwritten = memoryview(b"")
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        selector.register(stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            for key, _ in selector.select():
                if key.fd == stdout:
                    data = os.read(stdout, _CHUNK)
                    if data:
                        yield data
                    else:
                        selector.unregister(stdout)
                    continue
                unwritten = unwritten or memoryview(_as_lines(islice(elements, _BATCH)))
                written = _write(stdin, unwritten)
                unwritten = unwritten[written:]
                if not written:  # there is no more, or nobody to read it
                    selector.unregister(stdin)
                    with suppress(BrokenPipeError):
                        process.stdin.close()


def _write(fd: int, data: memoryview) -> int:
    """How many bytes were written; 0 if the other end is closed, as `head` does."""
    try:
        return os.write(fd, data) if data else 0
    except BrokenPipeError:
        return 0


def _as_lines(elements: Iterable[Any]) -> bytes:
    return "".join([str(element).rstrip("\n") + "\n" for element in elements]).encode()


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode()
    if rest:
        yield rest.decode()
