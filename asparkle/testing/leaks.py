"""What a program has and may leave behind: processes, threads, file descriptors, files."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

KEPT: Final = ("AnyIO worker thread", "Trio thread", "pydevd")  # threads that wait for more work, and end by themselves


class Census(NamedTuple):
    """What there was at one moment, each by what it is called in messages.

    Processes and descriptors are counted where there is /proc.
    """

    processes: dict[int, str]
    threads: dict[int, str]
    descriptors: dict[int, str]
    files: dict[str, str]


def census(*directories: str | os.PathLike[str]) -> Census:
    """What this process has now: its descendants, threads, descriptors, and what is in ``directories``."""
    threads = {id(t): t.name for t in threading.enumerate() if not t.name.startswith(KEPT)}
    files = {str(path): str(path) for directory in directories for path in sorted(Path(directory).rglob("*"))}
    return Census(_children(), threads, _descriptors(), files)


def grown(before: Census, *directories: str | os.PathLike[str], patience: float = 5.0) -> str:
    """In words, what there is more of than ``before``, if that is still so after a while; empty if nothing.

    Less is no leak: something from before may have ended.
    """
    deadline = time.monotonic() + patience
    while True:
        more = _difference(before, census(*directories))
        if not more or time.monotonic() > deadline:
            return more
        gc.collect()  # slow
        time.sleep(0.02)


def _difference(before: Census, now: Census) -> str:
    found = [
        _named(kind, [name for key, name in there.items() if key not in known])
        for kind, there, known in (
            ("process", now.processes, before.processes),
            ("thread", now.threads, before.threads),
            ("file", now.files, before.files),
        )
    ]
    if len(now.descriptors) > len(before.descriptors):  # a number that is free is used again: only more of them counts
        new = [name for number, name in now.descriptors.items() if before.descriptors.get(number) != name]
        found.append(_named("file descriptor", new))
    return "; ".join(filter(None, found))


def _named(kind: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    plural = f"{kind}{'es' if kind.endswith('s') else 's'}" if len(names) > 1 else f"a {kind}"
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names) if len(names) > 1 else ''} {plural} ({shown})".strip()


class Leak(AssertionError):
    """Something was left behind."""


@contextmanager
def no_leaks(*directories: str | os.PathLike[str], patience: float = 5.0) -> Iterator[None]:
    """Raises `Leak` when what happens inside leaves a process, a thread, a file descriptor, or a file in one of
    ``directories``, and it is still there after ``patience`` seconds."""
    __tracebackhide__ = True
    before = census(*directories)
    yield
    if more := grown(before, *directories, patience=patience):
        raise Leak(f"left {more}")


def _children() -> dict[int, str]:
    """Processes that descend from this one, and their commands."""
    found: dict[int, str] = {}
    parents = {os.getpid()}
    with suppress(FileNotFoundError):
        for number in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
            with suppress(FileNotFoundError, ProcessLookupError):
                state, parent = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[:2]
                if int(parent) in parents:
                    parents.add(number)
                    command = Path(f"/proc/{number}/cmdline").read_text(errors="replace").replace("\0", " ").strip()
                    found[number] = f"{number}: {'a zombie' if state == 'Z' else command[:80]}"
    return found


def _descriptors() -> dict[int, str]:
    found: dict[int, str] = {}
    with suppress(FileNotFoundError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):
                found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found
