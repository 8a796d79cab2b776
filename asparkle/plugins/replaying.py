"""Events of the past, given to listeners as if they happened now."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import anyio

from asparkle.core.bus import Bus
from asparkle.core.conf import EVENTS_JSONLINES, LISTENER_FLUSH_TIMEOUT, SparkConf, check_conf
from asparkle.core.errors import ArgumentError
from asparkle.core.events import ApplicationStarted, Event
from asparkle.core.loop import in_thread
from asparkle.core.namedtuple import NamedTuple
from asparkle.plugins.reading import events_by_line
from asparkle.plugins.registry import PluginRegistry

_BATCH: Final = 500  # events that are read, and posted, at a time


class Replayed(NamedTuple):
    """What `replay` has done."""

    events: int  # given to listeners
    skipped: int  # lines that were no events


async def replay(
    log: str | os.PathLike[str] | Iterable[Event],
    *,
    plugins: Iterable[object] = (),
    conf: SparkConf | None = None,
    application: str | None = None,
) -> Replayed:
    """Give the events of ``log`` to listeners, as a context would: on asyncio or trio, without one.

    ``log``: a file of JSON lines, compressed or not, or events.  ``plugins``: `Listener` and `MetricSink` objects,
    plugins and names of plugins, as a `SparkContext` takes them.  ``conf``: what else it activates
    (``spark.eventLog.enabled``, ``asparkle.metrics.sinks``, ...); nothing, if not given.  ``application``: the id of
    the one whose events are meant, where the log has several.

    Listeners are called as they are live: each at its own pace and in order, or at once; its first error is logged, it
    is removed where its policy says so, and closed at the end.  But nothing is dropped: the slowest is waited for.
    Times are those of the events.  An event of a type that this version does not know is an `UnknownEvent`.  A line
    that is no event (the last, of a program that was killed) is skipped, counted and logged.

    Raises OSError for a file that can't be read; ArgumentError for an application that is not there, and, when the
    events of the first were given, where there are several and none is named; PluginError and ConfigurationError as a
    context does.
    """
    conf = SparkConf(loadDefaults=False) if conf is None else conf
    check_conf(conf)
    registry = PluginRegistry(conf, plugins)
    found = _Found(log, conf, application)
    bus = Bus(queue_size=2 * _BATCH, flush_timeout=LISTENER_FLUSH_TIMEOUT.read(conf))
    for listener in registry.listeners(bus.dropped):
        bus.add(listener)
    async with bus:
        while batch := await found.batch():
            for event in batch:
                bus.post(event)
            await _caught_up(bus, _BATCH)
        await _caught_up(bus, 0)
    return Replayed(found.events, found.skipped)


async def _caught_up(bus: Bus, events: int) -> None:
    """Waits until at most so many are in any queue."""
    while bus.backlog() > events:
        await anyio.sleep(0.001)


class _Found:
    """The events of one application, batch by batch, and their number."""

    def __init__(self, log: str | os.PathLike[str] | Iterable[Event], conf: SparkConf, application: str | None) -> None:
        self.events = self.skipped = 0
        self._is_file = isinstance(log, str | os.PathLike)
        self._application = application
        all_events = _of_file(log, conf) if isinstance(log, str | os.PathLike) else log
        self._chosen = self._choose(all_events)

    async def batch(self) -> list[Event]:
        """The next ones; none at the end.  A file is read in a thread."""
        taken = await in_thread(self._take) if self._is_file else self._take()
        self.events += len(taken)
        return taken

    def _take(self) -> list[Event]:
        return list(islice(self._chosen, _BATCH))

    def _choose(self, events: Iterable[Event | None]) -> Iterator[Event]:
        seen: list[str] = []
        for event in events:
            if event is None:
                self.skipped += 1
                continue
            if isinstance(event, ApplicationStarted):
                seen.append(event.application)
                if self._application is None and len(seen) > 1:
                    raise ArgumentError(
                        f"replay: the log has events of several applications, {seen[0]!r} and {seen[1]!r} among them: "
                        "say which is meant, as in application='...'"
                    )
            if self._application is None or seen[-1:] == [self._application]:
                yield event
        if self._application is not None and self._application not in seen:
            raise ArgumentError(f"replay: application = {self._application!r}: the log has {', '.join(seen) or 'none'}")


def _of_file(path: str | os.PathLike[str], conf: SparkConf) -> Iterator[Event | None]:
    written = EVENTS_JSONLINES.read(conf)
    if written and os.path.exists(written) and os.path.samefile(path, written):
        raise ArgumentError(
            f"replay: {EVENTS_JSONLINES.name} = {written!r} is the log that is read: it would never end"
        )
    return events_by_line(path)
