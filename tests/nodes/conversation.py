"""The driver's end of a conversation with a node, whose Python is a process of this machine or behind an ssh."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from asparkle.backends.ssh import stage0
from asparkle.backends.ssh.archive import Archive, archive
from asparkle.backends.ssh.bootstrap import Bootstrap, command
from asparkle.backends.ssh.nodes import Node

PYTHON = os.path.realpath(sys.executable)
"""The interpreter without the packages of a virtual environment."""


READY = b"agent\n"
ECHO = b"""
import os

def main(facts):
    os.write(1, b"agent\\n")
    while data := os.read(0, 1 << 16):
        os.write(1, data)
"""


def packed(files: dict[str, bytes]) -> Archive:
    """An archive of these files."""
    manifest = [[path, len(content), sha256(content).hexdigest()] for path, content in files.items()]
    head = json.dumps(manifest).encode()
    return Archive(sha256(head).hexdigest(), zlib.compress(b"".join([b"%08x" % len(head), head, *files.values()]), 1))


@functools.cache
def echoing() -> Archive:
    """asparkle's, with an agent that says what it is, and then what it hears."""
    files = stage0.unpacked(archive().data, archive().id)
    del files[stage0.MANIFEST]
    return packed(files | {"asparkle/backends/ssh/agent.py": ECHO})


class Conversation:
    """What runs is `ended` when the block is left."""

    def __init__(
        self, node: Node, command: Sequence[str], sent: Archive | None = None, env: dict[str, str] | None = None
    ) -> None:
        self.bootstrap = Bootstrap(node, sent or echoing())
        self.process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=env and env["HOME"],
        )
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.stdin, self.stdout, self.stderr = self.process.stdin, self.process.stdout, self.process.stderr
        self._said = b""

    def hear(self) -> bytes:
        """What to send upon what the node has said next.  Raises `NodeError`."""
        if data := os.read(self.stdout.fileno(), 1 << 16):
            return self.bootstrap.feed(data)
        words = self.stderr.read()
        raise self.bootstrap.ended(self.process.wait(), words)

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.stdin.fileno(), view) :]

    def run(self, then: bytes = b"", *, cached: bool = False) -> Bootstrap:
        """To its end; ``then`` is sent with the last of it, so that nobody but the agent may read it."""
        while not self.bootstrap.done:
            if data := self.hear():
                self.send(data + then if cached or self.bootstrap.sent_archive else data)
        return self.bootstrap

    def said(self, count: int) -> bytes:
        """So many bytes of the agent's."""
        said = self.bootstrap.rest + self._said
        while len(said) < count and (data := os.read(self.stdout.fileno(), count - len(said))):
            self._said += data
            said += data
        return said


def is_agent(conversation: Conversation) -> bool:
    """Whether the agent runs, and is heard, and hears."""
    conversation.send(b"hello")
    return conversation.said(len(READY) + 5) == READY + b"hello"


@contextlib.contextmanager
def ended(conversation: Conversation) -> Iterator[Conversation]:
    try:
        yield conversation
    finally:
        for stream in (conversation.stdin, conversation.stdout, conversation.stderr):
            stream.close()
        conversation.process.wait(30)


def environment(home: Path) -> dict[str, str]:
    """Of a node whose home and temporary directory are in ``home``."""
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    return {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home / "tmp")}


def local(
    home: Path, node: Node | None = None, *, shell: str = "sh", sent: Archive | None = None, **variables: str
) -> contextlib.AbstractContextManager[Conversation]:
    """With a process of this machine, whose home is ``home``."""
    node = node or Node("here", "here", python=PYTHON)
    env = environment(home) | variables
    return ended(Conversation(node, [shell, "-c", " ".join(command(node))], sent, env))
