"""What outlives jobs (shuffle files, cached partitions, broadcast values), freed once nobody can use it any more.

Spark's ContextCleaner.  Garbage is collected in whatever thread that happens, so a finalizer only posts what is
to be done to the driver's loop; at the end of the interpreter, and once the driver is gone, it does nothing, as
then the application's directories are removed as a whole.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from asparkle.core import protocol
from asparkle.core.directories import remove_blocks
from asparkle.core.lineage import Shuffle
from asparkle.core.logs import log
from asparkle.core.loop import in_thread
from asparkle.core.payloads import remove_file
from asparkle.core.scheduler import messages as m

if TYPE_CHECKING:
    from asparkle.core.driver import Driver
    from asparkle.core.lineage import Node


class Cleaner:
    """One per driver, and as long-lived."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._watched: set[int] = set()
        self.has_shuffles = False

    # ------------------------------------------------------------------------- what is watched

    def watch_shuffle(self, shuffle: Shuffle) -> None:
        """Remove a shuffle's outputs once nobody can read them any more."""
        self.has_shuffles = True
        self.when_gone(shuffle, Cleaner.remove_shuffle, shuffle.spec.id)

    def watch_rdd(self, node: Node) -> None:
        """Drop a persisted RDD's partitions once nobody can use it any more."""
        if node.id not in self._watched:
            self._watched.add(node.id)
            self.when_gone(node, Cleaner._forget_rdd, node.id)

    def when_gone(self, thing: object, action: Callable[..., None], *arguments: Any) -> weakref.finalize[Any, Any]:
        """Once ``thing`` is garbage, call ``action(cleaner, *arguments)`` on the driver's loop."""
        return when_gone(thing, _post, weakref.ref(self), action, arguments)

    def post(self, action: Callable[..., None], *arguments: Any) -> None:
        """Call ``action(cleaner, *arguments)`` on the driver's loop.  From any thread."""
        self._driver.post(lambda: action(self, *arguments))

    # ------------------------------------------------------------------------- what is done

    def remove_shuffle(self, shuffle: int) -> None:
        """Forget a shuffle everywhere, and delete its outputs."""
        driver = self._driver
        if driver.stopped:
            return
        driver.handle(m.ShuffleRemoved(shuffle))
        driver.drop_table(shuffle)
        driver.in_thread(self._remove_outputs, [shuffle], driver.scheduler.attempts)

    async def clean_shuffles(self, final: Node, blocking: bool) -> None:
        """Remove the shuffles that ``final`` is computed from, up to persisted RDDs."""
        shuffles = list(_shuffles_of(final))
        for shuffle in shuffles:
            self._driver.handle(m.ShuffleRemoved(shuffle))
            self._driver.drop_table(shuffle)
        before = self._driver.scheduler.attempts  # the next job may write them anew at once
        if blocking:
            await in_thread(self._remove_outputs, shuffles, before)
        else:
            self._driver.in_thread(self._remove_outputs, shuffles, before)

    def _remove_outputs(self, shuffles: Sequence[int], before: int) -> None:
        for shuffle in shuffles:
            try:
                self._driver.shuffles.remove(shuffle, before)
            except Exception as error:  # a store's; nobody waits for it who could do anything about it
                log("asparkle.driver").error("map outputs could not be removed", shuffle=shuffle, exc_info=error)

    def unpersist(self, rdd: int) -> None:
        """Drop an RDD's cached partitions everywhere."""
        driver = self._driver
        if driver.stopped:
            return
        driver.blocks.unpersisted(rdd)
        driver.handle(m.RddUnpersisted(rdd))
        driver.tell_all(protocol.DropRdd(rdd))

    def _forget_rdd(self, rdd: int) -> None:
        self._watched.discard(rdd)
        self.unpersist(rdd)

    def remove_blocks(self, rdd: int) -> None:
        """Delete what is left of an RDD's partitions on disk: those of workers that have died since, and which
        nobody else deletes.  Called in a thread."""
        remove_blocks(self._driver.app.directories, rdd)

    def drop_broadcast(self, identity: int, path: str = "") -> None:
        """Drop the workers' copies of a broadcast value, and with ``path`` its file."""
        driver = self._driver
        if driver.stopped:
            return
        if path:
            driver.in_thread(remove_file, path)
        driver.tell_all(protocol.DropBroadcast(identity))
        if driver.scheduler.listening:
            from asparkle.core.events import BroadcastRemoved

            driver.tell(BroadcastRemoved(time.monotonic(), identity, bool(path)))


def when_gone(thing: object, function: Callable[..., object], *arguments: Any) -> weakref.finalize[Any, Any]:
    """Call ``function(*arguments)`` once ``thing`` is garbage, in whatever thread that happens; not at the
    interpreter's end, and not in a forked child, which has a copy of ``thing`` and nothing that goes with it."""
    finalizer = weakref.finalize(thing, _here, os.getpid(), function, arguments)
    finalizer.atexit = False
    return finalizer


def _here(pid: int, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    if os.getpid() == pid:
        function(*arguments)


def _post(cleaner: weakref.ref[Cleaner], action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Something was garbage-collected, in whatever thread that happened."""
    alive = cleaner()
    if alive is not None:
        alive.post(action, *arguments)


def _shuffles_of(final: Node) -> Iterator[int]:
    """The shuffles that ``final`` is computed from, none behind a persisted RDD."""
    seen: set[int] = set()
    stack = [final]
    while stack:
        for dependency in stack.pop().dependencies:
            if isinstance(dependency, Shuffle):
                yield dependency.spec.id
            parent = dependency.parent
            if parent.id not in seen and parent.cached is None:
                seen.add(parent.id)
                stack.append(parent)
