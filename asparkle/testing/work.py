"""What the conformance classes have workers do.  Imported there: nothing but the standard library and asparkle."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from asparkle.core.contracts import AppSpec, BlockId, BlockStore, Buffer, MapOutputId
from asparkle.core.errors import CorruptBlock
from asparkle.core.worker.task import current_environment


class Call:
    """A stage's program that calls one function."""

    profiler = None

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function = function
        self.arguments = arguments

    def run(self, partition: int, sink: object, task: object) -> Any:
        return self.function(*self.arguments)

    def pickled(self) -> bytes:
        """As a stage's binary: a program and a sink."""
        return pickle.dumps((self, None), protocol=5)


def whoami() -> tuple[str, int]:
    """The host and the process that this runs in."""
    return socket.gethostname(), os.getpid()


class Found(NamedTuple):
    """What a worker has of its application."""

    app: dict[str, Any]  # the `AppSpec`
    hashed: int
    environment: dict[str, str]
    path: Sequence[str]
    directory: str


def look_around(key: str) -> Found:
    """``key``: what is hashed."""
    app = current_environment().worker.app._asdict()
    return Found(app, hash(key), dict(os.environ), list(sys.path), os.getcwd())


BLOCK: Final[BlockId] = (1_000_003, 1)
OUTPUT: Final[MapOutputId] = (1_000_003, 1, 1)
DATA: Final = b"written by one worker, for others"


def put_block() -> int:
    """Put a block into the worker's store; returns the worker's process."""
    current_environment().worker.blocks.disk.put(BLOCK, [DATA])
    return os.getpid()


def get_block() -> bytes | None:
    found = current_environment().worker.blocks.disk.get(BLOCK)
    return None if found is None else bytes(found)


def write_output() -> tuple[int, Any]:
    """Commit a map output; returns the worker's process, and where it lies."""
    writer = current_environment().worker.shuffles.begin(OUTPUT, 1)
    writer.write([(0, [DATA])])
    return os.getpid(), writer.commit()


def read_output(location: Any) -> bytes | None:
    """None if it is not there."""
    try:
        reader = current_environment().worker.shuffles.open(location, 0)
        try:
            return bytes(reader.read(0, 2 * len(DATA)))
        finally:
            reader.close()
    except (OSError, CorruptBlock):
        return None


def echo(data: bytes) -> bytes:
    return data


def interval(seconds: float) -> tuple[float, float]:
    """When this began and ended, by a clock that all processes of a host have in common."""
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()


def sleeps(started: str, seconds: float = 600.0) -> None:
    """Says that it runs, by a file, and goes on for long."""
    Path(started).touch()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.01)


def dies(status: int) -> None:
    os._exit(status)


class DiesOnce:
    """A user's function that ends its process, the first time that it is called anywhere."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __call__(self, x: int) -> int:
        try:
            os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return x
        os._exit(7)


def identity(x: Any) -> Any:
    return x


def by_rest(x: int) -> tuple[int, int]:
    return x % 7, x


def plus(a: int, b: int) -> int:
    return a + b


def fails_at_13(x: int) -> int:
    if x == 13:
        raise ValueError("thirteen")
    return x


def naps(x: int) -> int:
    time.sleep(0.2)
    return x


class StuckStore(BlockStore):
    """A worker that makes one is never ready."""

    def __init__(self, app: AppSpec) -> None:
        time.sleep(600)

    def put(self, block: BlockId, chunks: Sequence[Buffer]) -> int:  # type: ignore[override]
        raise NotImplementedError

    def get(self, block: BlockId) -> memoryview | None:
        raise NotImplementedError

    def remove(self, block: BlockId) -> bool:
        raise NotImplementedError


class BrokenStore(StuckStore):
    """A worker that makes one ends before it is ready."""

    def __init__(self, app: AppSpec) -> None:
        raise OSError("this is a test of workers that can't start")
