"""One ssh process: a socket that leads through it to a command on a node, and what it says besides."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio

from asparkle.plugins import Receiver, clean_up, in_thread

ENDING: Final = 5.0  # seconds that it has once its input is closed: the agent cleans up meanwhile
_KEPT: Final = 2048  # characters of what it said last, for errors
_LINGER: Final = 1.0  # seconds in which, once the command is gone, ssh has said why


class SshProcess:
    """``stream``: what the command reads and writes.  What it writes to standard error goes to this process's as soon
    as `passes_on` is set; before, it is kept for `last_words`."""

    def __init__(self, stream: socket.socket, said: socket.socket) -> None:
        self.stream = stream
        self.passes_on = False
        self._said = said
        self._words = ""
        self._ended = anyio.Event()

    @staticmethod
    @asynccontextmanager
    async def started(command: Sequence[str]) -> AsyncIterator[SshProcess]:
        """For as long as it is needed; then its input is closed, and it has a moment to end.  Raises OSError where
        there is no such program."""
        stream, its_stream = socket.socketpair()
        said, its_words = socket.socketpair()
        process: subprocess.Popen[bytes] | None = None
        try:
            with its_stream, its_words:
                process = await in_thread(_start, command, its_stream, its_words)
            stream.setblocking(False)
            said.setblocking(False)
            ssh = SshProcess(stream, said)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ssh._listen)
                yield ssh
                tasks.cancel_scope.cancel()
        finally:
            stream.close()
            if process is not None:
                await clean_up(lambda: _end(process))
            said.close()

    async def _listen(self) -> None:
        receiver = Receiver(self._said)
        try:
            while data := await receiver.receive():
                text = data.decode(errors="replace")
                self._words = (self._words + text)[-_KEPT:]
                if self.passes_on:
                    await in_thread(_print, text)
        finally:
            receiver.stop()
            self._ended.set()

    async def last_words(self) -> str:
        """What it has said, at its end: why it could not connect, above all."""
        with anyio.move_on_after(_LINGER):
            await self._ended.wait()
        return self._words.strip()


def _start(command: Sequence[str], stream: socket.socket, words: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=stream, stdout=stream, stderr=words, start_new_session=True)


def _print(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    for end in (lambda: None, process.terminate, process.kill):
        end()
        deadline = time.monotonic() + ENDING
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return
            time.sleep(0.005)
