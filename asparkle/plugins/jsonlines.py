"""The listener `jsonlines`: every event as a line of JSON, in a file; and the events of such a file.

Set ``asparkle.events.jsonlines.path``.  Applications that name one file append to it one after another::

    {"type": "JobStarted", "version": 1, "time": 12.5, "job": 0, "name": "count", ...}
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress

from asparkle.conf import SparkConf
from asparkle.errors import ConfigurationError
from asparkle.events import Event, to_plain
from asparkle.plugins import KEYS, Listener, hookimpl

PATH = KEYS["asparkle.events.jsonlines.path"]


@hookimpl
def asparkle_listeners(conf: SparkConf) -> Sequence[Listener]:
    """Raises ConfigurationError where there is no path, or it can't be that of a file."""
    path = PATH.read(conf)
    if not path:
        raise ConfigurationError(f"the listener jsonlines needs {PATH.name}: the file to write to")
    directory = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise ConfigurationError(f"{PATH.name} = {path!r} is a directory: expected a file")
    if not os.path.isdir(directory):
        raise ConfigurationError(f"{PATH.name} = {path!r}: there is no directory {directory!r}: make it")
    return [JsonLinesListener(path)]


class JsonLinesListener(Listener):
    """Appends events to the file ``path``, each as soon as it comes: a program that is killed leaves all but the last.

    An event that can't be written (the disk is full) is left out, as a whole; the first such error is logged.
    """

    name = "jsonlines"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        self._file = -1

    def on_event(self, event: Event) -> None:
        self._write(json.dumps(to_plain(event)).encode() + b"\n")

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, line: bytes) -> None:
        try:
            if self._file < 0:
                self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
                self._end_torn_line()
            written = os.write(self._file, line)
            if written < len(line):
                try:
                    os.write(self._file, line[written:])  # says why not all of it could be written
                except OSError:
                    self._take_back(written)
                    raise
        except OSError as error:
            raise OSError(error.errno, f"events can't be written: {error.strerror}", self.path) from None

    def _end_torn_line(self) -> None:
        """What a killed program has left of a line stays a line of its own."""
        with suppress(OSError):  # nothing to read: a pipe, a device
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")

    def _take_back(self, written: int) -> None:
        with suppress(OSError):
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
