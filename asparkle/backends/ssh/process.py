"""One ssh process: a socket that leads through it to a command on a node, and what it says besides."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

import anyio
from anyio import to_thread

from asparkle.plugins import Receiver, clean_up, in_thread

ENDING: Final = 5.0  # seconds that it has once its input is closed: the agent cleans up meanwhile
_KEPT: Final = 4096  # bytes of what it said last, for errors
_LINGER: Final = 1.0  # seconds in which, once the command is gone, ssh has said why


class SshProcess:
    """``stream``: what the command reads and writes.  What it writes to standard error goes to this process's as soon
    as `passes_on` is set.  Until `answered` is set, nothing runs there that would need a moment to end."""

    def __init__(self, process: subprocess.Popen[bytes], stream: socket.socket, said: socket.socket) -> None:
        self.stream = stream
        self.passes_on = False
        self.answered = False
        self._process = process
        self._said = said
        self._words = b""
        self._ended = anyio.Event()

    @staticmethod
    @asynccontextmanager
    async def started(command: Sequence[str]) -> AsyncIterator[SshProcess]:
        """For as long as it is needed; then its input is closed, and it has a moment to end.  Raises OSError where
        there is no such program."""
        stream, its_stream = socket.socketpair()
        said, its_words = socket.socketpair()
        ssh: SshProcess | None = None
        try:
            with its_stream, its_words:
                ssh = SshProcess(await in_thread(_start, command, its_stream, its_words), stream, said)
            stream.setblocking(False)
            said.setblocking(False)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ssh._listen)
                yield ssh
                tasks.cancel_scope.cancel()
        finally:
            stream.close()
            if ssh is not None:
                await clean_up(partial(_end, ssh._process, gently=ssh.answered))
            said.close()

    async def _listen(self) -> None:
        receiver = Receiver(self._said)
        try:
            while data := await receiver.receive():
                self._words = (self._words + data)[-_KEPT:]
                if self.passes_on:
                    await to_thread.run_sync(_print, data, abandon_on_cancel=True)
        finally:
            receiver.stop()
            self._ended.set()

    async def end(self) -> tuple[int, bytes]:
        """Once the stream has ended: its exit status, 255 where it does not end, and what it has said last, which is
        why it could not connect, above all."""
        with anyio.move_on_after(_LINGER):
            await self._ended.wait()
            while self._process.poll() is None:
                await anyio.sleep(0.005)
        status = self._process.poll()
        return 255 if status is None else status, self._words


def _start(command: Sequence[str], stream: socket.socket, words: socket.socket) -> subprocess.Popen[bytes]:
    """In a session of its own, it has no terminal to ask questions on; nor may the ssh of a jump host, which knows
    nothing of ``BatchMode``, have a window opened for them."""
    fd, environment = stream.fileno(), {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}
    return subprocess.Popen(
        command, stdin=fd, stdout=fd, stderr=words.fileno(), env=environment, start_new_session=True
    )


def _print(data: bytes) -> None:
    with suppress(OSError, ValueError):  # nobody reads this process's errors any more, or it has closed them
        print(data.decode(errors="replace"), end="", file=sys.stderr, flush=True)


def _end(process: subprocess.Popen[bytes], gently: bool) -> None:
    ends: tuple[Callable[[], object], ...] = (process.poll, process.terminate, process.kill)
    for end in ends[not gently :]:
        end()
        deadline = time.monotonic() + ENDING
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return
            time.sleep(0.005)
