"""The events of a log of JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from asparkle.core.codecs import codec_of, decompressed, load_codec
from asparkle.core.events import Event, from_plain
from asparkle.core.logs import log


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
        for chunk in decompressed(file, load_codec(codec), path):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
        if rest:
            yield rest


def _tuples(value: Any) -> Any:
    """What JSON makes lists was tuples."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    return {key: _tuples(part) for key, part in value.items()} if isinstance(value, dict) else value
