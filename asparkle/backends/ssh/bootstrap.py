"""From an ssh connection to an agent: the driver's side of the conversation that `asparkle.backends.ssh.stage0` has.

Nothing is asked of a node but an OpenSSH server, any login shell, and Python.  The shell is given a line that shells
and Pythons of all kinds understand; it says which Python it is.  If that will do, it is sent `stage0`.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from asparkle.backends.launch import how_it_ended
from asparkle.backends.ssh.archive import Archive
from asparkle.backends.ssh.nodes import Node
from asparkle.errors import NodeError
from asparkle.plugins import KEYS

MAGIC: Final = b"asparkle-node "
"""What the greeting begins with; a login shell may print before."""

MOST: Final = 1 << 16
"""Bytes that a login shell may print, and of one answer."""

GREETING: Final = (
    "import sys;sys.path[:]=filter(None,sys.path);import os;v=sys.version_info;"
    'i=getattr(getattr(sys,"implementation",None),"name","cpython");'
    'os.write(1,("asparkle"+"-node %d %d %d %s"%(v[0],v[1],v[2],i)+chr(10)).encode());'
    'r=lambda n:b"".join(os.read(0,1)for _ in range(n));'
    'exec(compile(r(int(r(8)or"0",16)),"stage0","exec"))'
)
"""What Python is given on the command line: say who you are, and run the text that comes.

It has no quote, backslash, exclamation mark and line end, so that any shell takes it in quotes; nor `MAGIC`, in case
one prints the command.  In `ps` it can be read.  It does not import what lies in the node's home directory.
"""

_VERSION: Final = f"{sys.version_info[0]}.{sys.version_info[1]}"
_INSTALL: Final = f"install Python {_VERSION} there, or name one that there is: `python` in a file of nodes"

_OPTIONS: Final = (
    "-T",
    *("-x", "-a"),  # this connection needs neither the user's display nor keys
    *("-o", "BatchMode=yes"),  # nobody is there to answer questions
    *("-o", "ClearAllForwardings=yes"),  # those of the user's configuration are for other connections, as for scp
    *("-o", "RemoteCommand=none"),
    *("-o", "PermitLocalCommand=no"),
    *("-o", "ControlMaster=no"),  # use a connection that there is, but leave none behind
)


def ssh_command(node: Node, settings: Mapping[str, str]) -> list[str]:
    """The OpenSSH client's command line, with what runs on the node.

    The user's options come first, and of an option that is there twice the first counts.  Nothing else changes which
    hosts and keys ssh trusts.
    """
    return [*_users_words(node, settings), *_OPTIONS, "--", node.host, *command(node)]


def _users_words(node: Node, settings: Mapping[str, str]) -> list[str]:
    """The part of it that the user gives."""
    port = ["-p", str(node.port)] if node.port is not None else []
    return [KEYS["asparkle.ssh.command"].read(settings), *port, *KEYS["asparkle.ssh.options"].read(settings)]


def command(node: Node) -> list[str]:
    """What the node's login shell is given, in words that ssh joins with spaces."""
    home, path = re.fullmatch(r"(~/)?(.*)", node.python, re.DOTALL).groups("")  # type: ignore[union-attr]
    return [home + (path if re.fullmatch(r"[\w./~+-]*", path) else f"'{path}'"), "-c", f"'{GREETING}'"]


@functools.cache
def _stage0() -> bytes:
    return Path(__file__).with_name("stage0.py").read_bytes()


def _framed(data: bytes) -> bytes:
    return b"%08x" % len(data) + data


class Bootstrap:
    """The driver's part of the conversation with one node: takes what the node has said, gives what to send.

    Begins with nothing to send, and has no deadline: that is the caller's.  `feed` raises `NodeError` when the node
    can't become an agent; end ssh then, as its shell may go on to print.  When the connection ends before it is
    `done`, `ended` says why.
    """

    def __init__(self, node: Node, archive: Archive, settings: Mapping[str, str] = {}) -> None:
        self.node = node
        self.done = False
        """Whether the agent runs."""
        self.facts: dict[str, Any] = {}
        """What it says of its node, when it does; see ``facts_of`` in `asparkle.backends.ssh.stage0`."""
        self.rest = b""
        """What it has said, beyond the conversation, when it is done."""
        self.sent_archive = False
        """Whether the node had to be sent asparkle: it was not in its cache."""
        self._archive = archive
        self._settings = settings
        self._received = bytearray()
        self._greeted = False

    def feed(self, data: bytes) -> bytes:
        """What to send upon these bytes of the node's standard output.  Not to be called when it is done."""
        self._received += data
        send = b""
        while not self.done and (line := self._line()) is not None:
            send += self._answer(line)
        if self.done:
            self.rest = bytes(self._received)
        return send

    def _line(self) -> bytes | None:
        start = 0 if self._greeted else self._received.find(MAGIC)
        end = self._received.find(b"\n", start) if start >= 0 else -1
        if end >= 0:
            line = bytes(self._received[start:end])
            del self._received[: end + 1]
            return line
        if len(self._received) <= MOST:
            return None
        if self._greeted:
            raise self._no_answer(self._received)
        raise self._error(f"asparkle's greeting is not among the first {MOST} bytes that come{self._printed()}")

    def _answer(self, line: bytes) -> bytes:
        if not self._greeted:
            return self._meet(line)
        try:
            answer = dict(json.loads(line))
        except (ValueError, TypeError):
            raise self._no_answer(line) from None
        if "refused" in answer:
            raise self._error(str(answer["refused"]))
        if answer.get("send") is True and not self.sent_archive:
            self.sent_archive = True
            return self._archive.data
        if not isinstance(answer.get("facts"), dict):
            raise self._no_answer(line)
        self.facts, self.done = answer["facts"], True
        return b""

    def _meet(self, line: bytes) -> bytes:
        major, minor, micro, implementation, *_ = [*line.decode(errors="replace").split()[1:], *"????"]
        if [major, minor, implementation] != [*map(str, sys.version_info[:2]), sys.implementation.name]:
            found = f"its {self.node.python} is {implementation} {major}.{minor}.{micro}"
            raise self._error(f"{found}, the driver's {sys.implementation.name} {_VERSION}: {_INSTALL}")
        self._greeted = True
        request = {
            "archive": self._archive.id,
            "size": len(self._archive.data),
            "directory": self.node.directory,
            "environment": dict(self.node.environment),
        }
        return _framed(_stage0()) + _framed(json.dumps(request).encode())

    def ended(self, status: int, stderr: bytes) -> NodeError:
        """Why the connection ended before it was done: by ssh's exit status, and what came on its standard error."""
        words = _readable(stderr)
        if status == 255:
            return self._error(f"ssh failed: {words.rstrip('.') or 'it does not say why'}; {self._remedy()}")
        if not self._greeted and (status in (126, 127) or "not found" in words.lower()):
            return self._error(f"{self.node.python} can't be run there: {words}; {_INSTALL}")
        why = words or "it does not say why"
        return self._error(f"{how_it_ended(status)} before asparkle ran there: {why}{self._printed()}")

    def late(self, seconds: float) -> NodeError:
        """Why it is given up when it is not done after so many seconds."""
        if self._greeted:
            return self._error(f"it was not ready within {seconds:g} s; is the machine or the network overloaded?")
        return self._error(
            f"no Python has answered within {seconds:g} s{self._printed()}; is it up, and {self._remedy()}"
        )

    def _remedy(self) -> str:
        return (
            f"does `{shlex.join([*_users_words(self.node, self._settings), self.node.host])}` work, without a password?"
        )

    def _printed(self) -> str:
        if self._greeted or not self._received:
            return ""
        return f"; its login shell printed {bytes(self._received[:200])!r}"

    def _no_answer(self, data: bytes | bytearray) -> NodeError:
        return self._error(f"says {bytes(data[:200])!r} in place of an answer")

    def _error(self, reason: str) -> NodeError:
        return NodeError(self.node.name, reason)


def _readable(stderr: bytes) -> str:
    """The last of it, without what would steer a terminal."""
    text = stderr.decode(errors="replace").replace("\r\n", "\n").strip()[-2000:]
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
