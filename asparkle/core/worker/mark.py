"""Eight bytes that a worker shares with its driver: which attempt runs in it, still readable after a crash."""

from __future__ import annotations

import mmap
import os

from asparkle.core.contracts import AppSpec

NO_TASK = bytes(8)


def mark_of(tid: int) -> bytes:
    """What is written while attempt ``tid`` runs."""
    return (tid + 1).to_bytes(8, "little")


def make_mark(app: AppSpec, executor: str) -> mmap.mmap:
    """The worker's end."""
    with open(_path(app, executor), "w+b", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        file.write(NO_TASK)
        file.flush()
        return mmap.mmap(file.fileno(), len(NO_TASK))


def running_task(app: AppSpec, executor: str) -> list[int] | None:
    """The attempts that ran in a worker when it ended; None where that can't be known."""
    try:
        with open(_path(app, executor), "rb") as file:
            tid = int.from_bytes(file.read(8), "little")
    except OSError:
        return None
    return [tid - 1] if tid else []


def _path(app: AppSpec, executor: str) -> str:
    return os.path.join(app.directories[0], f"running-{executor}")
