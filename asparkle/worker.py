"""``python -m asparkle.worker``: a worker whose standard input and output are the channel to its driver.

It says nothing and does nothing until the driver tells it what it is a worker of.  What tasks print goes to standard
error; what they read is empty.  Backends start it: see `asparkle.plugins.worker_command`.
"""

from __future__ import annotations

import os
import signal
import sys

from asparkle.core.contracts import AppSpec
from asparkle.core.protocol import Hello, MessageReader, Refused, encode
from asparkle.core.version import PYTHON, VERSION


def main() -> None:
    """Be a worker, until the driver says that it is enough, or is gone."""
    incoming, outgoing = _channel()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the driver's
    hello = _hello(incoming)
    if hello is None:
        return
    app = AppSpec.from_plain(hello.app) if hello.version == VERSION else None
    if app is not None:
        os.environ.update(app.environment)
        sys.path[:] = app.path
    problem = _mismatch(hello)
    if app is None or problem:
        os.write(outgoing, encode([Refused(problem)]))
        return
    from asparkle.core.worker.channel import serve

    serve(incoming, outgoing, app, hello.executor)


def _channel() -> tuple[int, int]:
    """The channel's file descriptors, which nothing else uses from now on."""
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return incoming, outgoing


def _hello(incoming: int) -> Hello | None:
    """The first message; None if the driver left without one."""
    reader = MessageReader()
    while data := os.read(incoming, 1 << 16):
        if messages := reader.feed(data):
            hello = messages[0]
            assert isinstance(hello, Hello), hello
            return hello
    return None


def _mismatch(hello: Hello) -> str:
    """Why this can't be a worker of that driver."""
    if hello.python != PYTHON:
        return f"its Python is {PYTHON}, the driver's {hello.python}: functions go from one to the other as bytecode"
    if hello.version != VERSION:
        return f"its asparkle is {VERSION}, the driver's {hello.version}"
    return ""


if __name__ == "__main__":
    main()
