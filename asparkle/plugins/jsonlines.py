"""The listener `jsonlines`: every event as a line of JSON, in a file; and the events of such a file.

Set ``asparkle.events.jsonlines.path``.  Applications that name one file append to it one after another::

    {"type": "JobStarted", "version": 1, "time": 12.5, "job": 0, "name": "count", ...}
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from asparkle.conf import SparkConf
from asparkle.core.codecs import codec_of, decompressed
from asparkle.errors import ConfigurationError
from asparkle.events import Event, from_plain, to_plain
from asparkle.plugins import KEYS, Listener, hookimpl, log

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


def read_events(path: str | os.PathLike[str]) -> Iterator[Event]:
    """The events of a file that the listener `jsonlines` has written, in order; compressed or not, by its name.

    A line that is no event is skipped, with a warning in the log: a killed program may leave half a line.
    Raises OSError for a file that can't be read; CorruptInput, which is one, for a compressed one that is cut off or
    damaged, when all before that was read.
    """
    return (event for event in events_by_line(path) if event is not None)


def events_by_line(path: str | os.PathLike[str]) -> Iterator[Event | None]:
    """The same, with None for each line that is skipped."""
    for number, line in enumerate(_lines(os.fspath(path)), 1):
        event = None
        try:
            event = from_plain(_tuples(json.loads(line)))
        except ValueError as error:
            log().warning("a line that is no event is skipped", file=os.fspath(path), line=number, error=str(error))
        yield event


def _lines(path: str) -> Iterator[bytes]:
    codec = codec_of(path)
    with open(path, "rb") as file:
        if codec is None:
            yield from file
            return
        rest = b""
        for chunk in decompressed(file, codec, path):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
        if rest:
            yield rest


def _tuples(value: Any) -> Any:
    """What JSON makes lists was tuples."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    return {key: _tuples(part) for key, part in value.items()} if isinstance(value, dict) else value
