"""An application's directories: one below each of ``spark.local.dir``, its owner's alone, removed at the end.

The driver holds a lock on each for as long as it lives.  Directories whose lock is free belong to a
driver that crashed: the next application that starts removes them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress

from asparkle.core.errors import StorageError

_PREFIX = "asparkle-"
_PARTS = ("blocks", "data", "files", "results", "spill")
added_files: dict[str, str] = {}
"""Where `SparkFiles` finds what was added: by context of this process, or for the application whose worker it is."""


def files_below(directories: Sequence[str]) -> str:
    """Where the added files of an application with these directories are."""
    return os.path.join(directories[0], "files")


class ApplicationDirectories:
    """Made at once; `remove` takes them away.  Raises `StorageError` for a root that can't be written to."""

    def __init__(self, roots: Sequence[str], app_id: str) -> None:
        self.paths: list[str] = []
        self._locks: list[int] = []
        try:
            for root in roots or (temporary_directory(),):
                self._make(os.path.abspath(root), app_id)
        except BaseException:
            self.remove()
            raise

    def _make(self, root: str, app_id: str) -> None:
        try:
            os.makedirs(root, exist_ok=True)
            remove_abandoned(root)
            name = f"{_PREFIX}{app_id}-{os.urandom(4).hex()}"
            path, new = os.path.join(root, name), os.path.join(root, f".{name}")
            os.mkdir(new, 0o700)
            self.paths.append(new)
            lock = os.open(os.path.join(new, "lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            self._locks.append(lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            for part in _PARTS:
                os.mkdir(os.path.join(new, part), 0o700)
            os.rename(new, path)  # under its name it was never without its lock: nobody takes it for abandoned
            self.paths[-1] = path
        except OSError as error:
            raise StorageError(root, error) from error

    def remove(self) -> None:
        """Delete everything.  May be called twice, and from a thread."""
        paths, self.paths = self.paths, []
        for path in paths:
            remove_tree(path)
        locks, self._locks = self._locks, []
        for lock in locks:
            os.close(lock)


def remove_abandoned(root: str) -> None:
    """Delete directories of applications below ``root`` whose driver is no more."""
    for entry in os.scandir(root):
        if not entry.name.startswith(_PREFIX):
            continue
        try:
            if entry.stat(follow_symlinks=False).st_uid != os.getuid():
                continue
            lock = os.open(os.path.join(entry.path, "lock"), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # being removed by its owner
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(entry.path)
        except BlockingIOError:
            continue  # its driver is alive
        finally:
            os.close(lock)


def remove_blocks(directories: Sequence[str], rdd: int) -> None:
    """Delete an RDD's partitions on this host's disk, whoever has written them."""
    for directory in directories:
        blocks = os.path.join(directory, "blocks")
        with suppress(FileNotFoundError):
            for name in os.listdir(blocks):
                if name.startswith(f"rdd-{rdd}-") and "." not in name:  # or its writer still looks after it
                    with suppress(FileNotFoundError):
                        os.unlink(os.path.join(blocks, name))


def remove_tree(path: str) -> None:
    """Delete a directory of ours, as far as that goes."""
    import shutil  # late: it is not needed to start

    shutil.rmtree(path, ignore_errors=True)


def temporary_directory() -> str:
    """What `tempfile.gettempdir` says; without importing it where TMPDIR or /tmp will do."""
    path = os.environ.get("TMPDIR") or "/tmp"
    if os.access(path, os.W_OK | os.X_OK):
        return path
    import tempfile

    return tempfile.gettempdir()
