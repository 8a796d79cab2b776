"""Saving an RDD as a directory of files, one for each partition: what users save, and checkpoints.

Nothing of an output is seen under its name before it is whole, and all of it or nothing is there at the end:

1. The driver makes the directory, which must not exist, and in it one for what is being written.
2. Each attempt at a partition writes there under a name that no other attempt has.  When it is done it asks
   the scheduler, which allows one attempt for each partition to go on; the others take back what they wrote.
3. The results of the tasks are the job's manifest: the one accepted attempt of each partition.  The driver
   publishes these as ``part-00000`` and so on, removes the rest, and last of all writes ``_SUCCESS``.

A job that fails or is cancelled leaves nothing behind.  One whose driver dies leaves no ``_SUCCESS``.  Where files of
the same names may be replaced, ``_SUCCESS`` goes before the first one is, and none that was replaced comes back.
How an attempt's file is kept until it is published is the file system's business: where there are renames, under
a name that begins with ``_``, which no reader looks at.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

import anyio

from asparkle.core.codecs import extension_of, load_codec
from asparkle.core.errors import ArgumentError, CommitDenied, OutputExists
from asparkle.core.filesystems import (
    FileSystem,
    Options,
    check_shared,
    file_system,
    hadoop_flag,
    is_remote,
    local_path,
)
from asparkle.core.logs import log
from asparkle.core.loop import clean_up, in_thread
from asparkle.core.metrics import count_output
from asparkle.core.taskcontext import TaskContext
from asparkle.core.textfiles import valid
from asparkle.core.transforms import Sink

if TYPE_CHECKING:
    from asparkle.core.rdd import RDD

_BATCH = 1024  # elements encoded at once


class WriteText:
    """Elements as lines of UTF-8: strings as they are, bytes where they are valid, else what ``str`` says."""

    def __init__(self, codec: str | None, options: Options) -> None:
        self.codec = codec
        self.extension = extension_of(codec, options)

    def __call__(self, elements: Iterable[Any], file: IO[bytes]) -> None:
        if self.codec is None:
            self._write(iter(elements), file)
            return
        with load_codec(self.codec).write(file) as compressed:
            self._write(iter(elements), compressed)

    def _write(self, elements: Iterator[Any], file: IO[bytes]) -> None:
        while batch := list(islice(elements, _BATCH)):
            try:
                data = "\n".join(batch).encode()
            except TypeError:
                data = b"\n".join(map(_line, batch))
            file.write(data + b"\n")


def _line(element: Any) -> bytes:
    if isinstance(element, bytes):
        return valid(element)
    return (element if isinstance(element, str) else str(element)).encode()


class Save(Sink):
    """One attempt at a partition's file: ``write(elements, file)``, then the question whether it may stay."""

    __slots__ = ("directory", "options", "staging", "write")

    def __init__(self, write: Any, directory: str, staging: str, options: Options) -> None:
        self.write = write
        self.directory = directory
        self.staging = staging
        self.options = options

    def __call__(self, partition: int, elements: Iterator[Any]) -> Any:
        context = TaskContext.get()
        assert context is not None and context._request_commit is not None
        fs, directory = file_system(self.directory, self.options)
        name = part_name(partition, self.write.extension)
        attempt = fs.begin(
            os.path.join(directory, name), os.path.join(directory, self.staging, f"{name}-{context.taskAttemptId()}")
        )
        try:
            self.write(count_output(elements), attempt.file)
            context._counters.output_bytes += attempt.file.tell()
            token = attempt.finish()
            if not context._request_commit():
                raise CommitDenied(f"another attempt writes {name}")
        except BaseException:
            attempt.discard()
            raise
        return token

    def __reduce__(self) -> tuple[Any, ...]:
        return (Save, (self.write, self.directory, self.staging, self.options))


def part_name(partition: int, extension: str) -> str:
    return f"part-{partition:05d}{extension}"


class OutputDirectory:
    """The driver's side.  All but `fill` block, and may be called from different threads."""

    def __init__(self, url: str, options: Options, replace: bool) -> None:
        self.url = url
        self._options = options
        self._replace = replace
        self.staging = f"_temporary-{os.urandom(8).hex()}"
        self._lock = threading.Lock()
        self._fs: FileSystem
        self._path = ""
        self._begun = self._made = self._over = False
        self._added: list[str] = []

    async def fill(self, write: Any, run: Callable[[Sink], Awaitable[Sequence[Any]]]) -> None:
        """Have ``run`` run the job that writes, one file for each partition, and see it through to the end."""
        try:
            await in_thread(self.begin)
            tokens = await run(Save(write, self.url, self.staging, self._options))
            with anyio.CancelScope(shield=True):
                await in_thread(self.commit, tokens, write.extension)
        except BaseException:
            await clean_up(self.abort)
            raise

    def begin(self) -> None:
        """Make the directories.  Raises OutputExists, or ArgumentError where nothing can be written."""
        with self._lock:
            if self._over:
                return
            self._fs, self._path = file_system(self.url, self._options)
            try:
                self._fs.make_directory(self._path)
                self._made = True
            except FileExistsError:
                if not self._replace:
                    raise OutputExists(self._fs.url(self._path)) from None
            self._begun = True
            self._fs.begin_staging(os.path.join(self._path, self.staging))

    def commit(self, tokens: Sequence[Any], extension: str) -> None:
        """Publish one file for each partition, and say that all is there."""
        with self._lock:
            from concurrent.futures import ThreadPoolExecutor

            def publish(partition: int, token: Any) -> None:
                target = os.path.join(self._path, part_name(partition, extension))
                replaces = not self._made and self._fs.exists(target)
                self._fs.publish(token, target)
                if not replaces:
                    self._added.append(target)

            success = os.path.join(self._path, "_SUCCESS")
            if not self._made:
                self._fs.remove(success)  # it says that all parts belong together
            with ThreadPoolExecutor(self._fs.at_once, "asparkle-commit") as pool:
                for _ in pool.map(publish, range(len(tokens)), tokens):
                    pass
            self._clear(self._fs.end_staging, os.path.join(self._path, self.staging))
            self._fs.create(success).close()
            self._over = True

    def abort(self) -> None:
        """Take everything back, unless all is published; nothing can be begun after it.

        What has replaced a file stays, as that file is gone.  What can't be removed is logged."""
        with self._lock:
            if self._over:
                return
            self._over = True
            if not self._begun:
                return
            self._clear(self._fs.end_staging, os.path.join(self._path, self.staging))
            for path in self._added:
                self._clear(self._fs.remove, path)
            if self._made:
                self._clear(self._fs.remove_empty, self._path)

    def _clear(self, remove: Callable[[str], None], path: str) -> None:
        try:
            remove(path)
        except Exception as error:  # whether the job has succeeded, and with which error not, is decided
            log().warning("could not remove what a job has written", path=self._fs.url(path), error=str(error))


async def save(rdd: RDD[Any], path: str, write: Any) -> None:
    """Run the job that saves an RDD, and see it through to the end."""
    context = rdd._context
    options = context._application.file_options
    check_shared(path, context._application.spec.in_process)
    output = OutputDirectory(_absolute(path), options, replace=not hadoop_flag(options, "validateOutputSpecs", True))
    with context._admission.inside():  # until all is published
        await output.fill(write, rdd._run)


def _absolute(path: str) -> str:
    if not path:
        raise ArgumentError("an empty path: name a directory that does not exist yet")
    return path if is_remote(path) else os.path.abspath(local_path(path))
