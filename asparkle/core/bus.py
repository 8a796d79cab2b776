"""The bus: every event, to every listener, each at its own pace.

`Bus.post` puts an event into the queue of each listener that cares for it and returns.  A coroutine
listener is driven by a task of its own on the bus's event loop, a plain function by a daemon thread of its
own, so that neither its speed nor its failure is felt by jobs or by other listeners.  A queue has a limit:
what a listener misses is counted (`Feed.dropped`) and logged.  A listener may ask to be called `at_once` instead; then
its failure is not felt, but its speed is.  A queue that the program reads itself is a `Feed`, too: see `eventstreams`.

The bus lives on one event loop, asyncio or trio; its methods are called there, or before it is entered.  Only `soon`
may be called in any thread, also while objects are destroyed: so a feed may leave in the midst of any other call, and
`_feeds` and `_routes` are replaced, never changed.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from math import inf
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel

from asparkle.core.contracts import Listener
from asparkle.core.errors import ArgumentTypeError
from asparkle.core.logs import log, logging_again, logging_for_nobody
from asparkle.core.loop import LoopCaller, cancel_detached, loop_caller, start_detached
from asparkle.core.shown import shown

Handler: TypeAlias = "Callable[[Any], Awaitable[None] | None]"
_END = object()  # behind the last event in a thread's queue
_MOMENT = 0.5  # seconds that a coroutine has for what it does when it is cancelled
_BATCH = 32  # events that a coroutine gets before others have their turn on the loop


class Feed:
    """One listener's queue, and the count of what went wrong with it."""

    def __init__(self, bus: Bus, name: str, events: tuple[type, ...]) -> None:
        if not isinstance(events, tuple) or not all(isinstance(kind, type) for kind in events):
            raise ArgumentTypeError(f"listener {name}: events = {shown(events)}: expected classes, as in (JobEnded,)")
        self.name = name
        self.events = events
        self.dropped = 0
        """Events that the listener did not get because it was too slow."""
        self.errors = 0
        """Events at which the listener raised."""
        self._bus = bus
        self._ended = False

    def wants(self, event_type: type) -> bool:
        return not self.events or issubclass(event_type, self.events)

    def put(self, event: object) -> None:
        """Queue ``event``, or count it as dropped.  Never blocks."""
        if self._ended:  # from another thread, which may not touch the bus
            self._bus.remove(self)
        elif self._backlog() >= self._bus.queue_size:
            self._drop(1)
        else:
            self._append(event)

    def end(self) -> None:
        """Nothing more will be put; what is queued is still delivered."""
        self._ended = True

    def _drop(self, events: int) -> None:
        self.dropped += events
        self._bus.count_dropped(self.name, events)

    def _backlog(self) -> int:
        raise NotImplementedError

    def _append(self, event: object) -> None:
        raise NotImplementedError


class Failures:
    """What happens when a listener fails or is too slow, whichever way it is called."""

    def __init__(self, feed: Feed, listener: Listener | Handler | None = None) -> None:
        self._feed = feed
        self._said_dropped = 0
        self._leaves = isinstance(listener, Listener) and listener.on_error == "remove"

    def failed(self, error: BaseException, at: str) -> bool:
        """Counts, logs the first failure, and says whether the listener is to be removed."""
        self._feed.errors += 1
        if self._feed.errors == 1:
            then = "it is removed" if self._leaves else "it stays; more of its errors are only counted"
            log().error("listener failed", listener=self._feed.name, at=at, then=then, exc_info=error)
        return self._leaves

    def say_dropped(self, *, last: bool = False) -> None:
        """Logs when events were dropped for the first time, and at the end how many there were."""
        dropped = self._feed.dropped
        if dropped > self._said_dropped and (last or not self._said_dropped):
            self._said_dropped = dropped
            log().warning("listener is too slow", listener=self._feed.name, events_dropped=dropped)


class _TaskDelivery(Feed):
    """A coroutine listener, in a task on the bus's loop."""

    def __init__(self, bus: Bus, listener: Listener | Handler, events: tuple[type, ...], name: str) -> None:
        super().__init__(bus, name, events)
        self._queue: deque[Any] = deque()
        self._wake: anyio.Event | None = None
        self._handler, self._close = _calls_of(listener)
        self._failures = Failures(self, listener)
        self._task: object = None
        self._done = False
        self._deadline = inf
        self._scope: anyio.CancelScope | None = None

    def _backlog(self) -> int:
        return len(self._queue)

    def _append(self, event: object) -> None:
        self._queue.append(event)
        if self._wake is not None:
            self._wake.set()

    def end(self) -> None:
        super().end()
        if self._wake is not None:
            self._wake.set()

    def start(self) -> None:
        # The event loop's own task, and nobody's child: one that never ends can be left behind.
        self._task = start_detached(self._run, f"listener {self.name}", self._over)

    def _over(self) -> None:
        self._done = True

    def is_over(self) -> bool:
        return self._done

    def end_by(self, deadline: float) -> None:
        """What the listener has not got at ``deadline`` (of the loop's clock) it does not get."""
        self._deadline = deadline
        if self._scope is not None:
            self._scope.deadline = deadline

    async def join(self, deadline: float) -> None:
        """Waits for the task, which is cancelled at the deadline, and has a moment then."""
        with anyio.CancelScope(shield=True):
            while not self._done and anyio.current_time() < deadline + _MOMENT:
                await anyio.sleep(0.001)
        if not self._done:
            self._give_up_queue()
            log().warning("listener did not return in time: its task is left behind", listener=self.name)
            cancel_detached(self._task)

    async def _run(self) -> None:
        logging_for_nobody()
        # Shielded: whoever cancels the bus's host still has the queue flushed, until the deadline.
        try:
            with anyio.CancelScope(shield=True, deadline=self._deadline) as self._scope:
                await self._deliver()
                if self._close is not None:
                    await self._close()  # type: ignore[misc]  # a coroutine, as `on_event`
        except BaseException as error:
            if not _is_its_own(error):
                raise
            self._failures.failed(error, "close")
        finally:
            self._bus.remove(self)
            self._give_up_queue()

    def _give_up_queue(self) -> None:
        self._drop(len(self._queue))
        self._queue.clear()
        self._failures.say_dropped(last=True)

    async def _deliver(self) -> None:
        while await self._filled():
            for _ in range(min(_BATCH, len(self._queue))):
                event = self._queue.popleft()
                try:
                    await self._handler(event)  # type: ignore[misc]  # a coroutine: see `_is_async`
                except BaseException as error:
                    if not _is_its_own(error):
                        raise
                    if self._failures.failed(error, type(event).__name__):
                        self._queue.clear()  # it is removed: what it does not get is not dropped
                        return
            if not self._queue:
                self._failures.say_dropped()

    async def _filled(self) -> bool:
        """Waits until an event is queued, True, or the feed has ended, False."""
        await anyio.lowlevel.checkpoint()
        while not self._queue:
            if self._ended:
                return False
            self._wake = anyio.Event()
            await self._wake.wait()
            self._wake = None
        return True


class _ThreadDelivery(Feed):
    """A plain listener, in a daemon thread that is started with the first event."""

    def __init__(self, bus: Bus, listener: Listener | Handler, events: tuple[type, ...], name: str) -> None:
        super().__init__(bus, name, events)
        self._queue: SimpleQueue[object] = SimpleQueue()
        self._handler, self._close = _calls_of(listener)
        self._failures = Failures(self, listener)
        self._abandoned = False
        self.thread: threading.Thread | None = None

    def _backlog(self) -> int:
        return self._queue.qsize()

    def _append(self, event: object) -> None:
        self._queue.put(event)
        if self.thread is None:
            self._start()

    def end(self) -> None:
        super().end()
        self._queue.put(_END)
        if self.thread is None and self._close is not None:
            self._start()

    async def join(self, deadline: float) -> None:
        """Waits for the thread.  At the deadline it is left behind: it ends after the event that it is
        at, if it ever returns from that."""
        with anyio.CancelScope(shield=True):
            while not self.is_over() and anyio.current_time() < deadline:
                await anyio.sleep(0.002)  # no thread to wait in: at the interpreter's end none can be started
        if self.is_over():
            return
        self._abandoned = True
        self._drop(max(0, self._queue.qsize() - 1))
        self._failures.say_dropped(last=True)
        log().warning("listener did not return in time: its thread is left behind", listener=self.name)

    def is_over(self) -> bool:
        return self._ended and (self.thread is None or not self.thread.is_alive())

    def _start(self) -> None:
        self.thread = threading.Thread(target=self._run, name=f"listener {self.name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        logging_for_nobody()
        try:
            self._deliver()
            if self._close is not None and not self._abandoned:
                self._close()
        except BaseException as error:
            self._failures.failed(error, "close")
        if not self._abandoned:
            self._failures.say_dropped(last=True)

    def _deliver(self) -> None:
        while (event := self._queue.get()) is not _END and not self._abandoned:
            try:
                answer = self._handler(event)
                if inspect.iscoroutine(answer):
                    answer.close()
                    raise ArgumentTypeError("the listener returned a coroutine: make it an async function")
            except BaseException as error:  # a sys.exit() in a listener ends no job either
                if self._failures.failed(error, type(event).__name__):
                    self._ended = True
                    return
            if self._queue.empty():
                self._failures.say_dropped()


class _DirectFeed(Feed):
    """A plain listener that is called where the event is posted."""

    def __init__(self, bus: Bus, listener: Listener, events: tuple[type, ...], name: str) -> None:
        super().__init__(bus, name, events)
        self._handler, self._close = _calls_of(listener)
        self._failures = Failures(self, listener)

    def _backlog(self) -> int:
        return 0

    def put(self, event: object) -> None:
        whose = logging_for_nobody()
        try:
            self._handler(event)
        except (Exception, SystemExit) as error:  # a sys.exit() in a listener ends no job
            if self._failures.failed(error, type(event).__name__):
                self._bus.remove(self)
        finally:
            logging_again(whose)

    def end(self) -> None:
        super().end()
        try:
            if self._close is not None:
                self._close()
        except (Exception, SystemExit) as error:
            self._failures.failed(error, "close")


class Bus:
    """Carries events to listeners.  ``async with Bus() as bus: ...``

    Leaving it, on any path, delivers what is queued for at most ``flush_timeout`` seconds, and closes the listeners.
    Nothing is left behind but the thread of a plain function which never returns, and the task of a coroutine which
    is not to be cancelled: this is logged.
    """

    active = False
    """Whether anybody listens: while False, events need not even be built."""
    on_change: Callable[[], None] | None = None
    """Called whenever somebody begins or ceases to listen."""

    def __init__(self, *, queue_size: int = 10_000, flush_timeout: float = 5.0) -> None:
        self.queue_size = queue_size
        self.flush_timeout = flush_timeout
        self._feeds: tuple[Feed, ...] = ()
        self._dropped: dict[str, int] = {}
        self._routes: dict[type, tuple[Feed, ...]] = {}
        self._deliveries: list[_TaskDelivery | _ThreadDelivery] = []  # removed ones too, until they have ended
        self._thread = 0  # the event loop's, once there is one
        self._call_in_loop: LoopCaller
        self._closed = False

    def post(self, event: object) -> None:
        """Queue ``event`` for every listener that wants it.  Never blocks, never raises."""
        kind, routes = type(event), self._routes
        feeds = routes.get(kind)
        if feeds is None:
            feeds = routes[kind] = tuple(feed for feed in self._feeds if feed.wants(kind))
        for feed in feeds:
            feed.put(event)

    def add(self, listener: Listener | Handler, *events: type, name: str = "") -> Feed:
        """Add a `Listener`, or a function, plain or coroutine, that takes an event.

        It gets what is posted from now on, of the types ``events``; none: what the listener says, all
        for a function.  Returns its feed, for `remove` and for what it has missed.
        Raises ArgumentTypeError for what can't be called, for a type of events that is no class, for a coroutine that
        is to be called at once, and for a `close` that is not of the kind of `on_event`."""
        handler = listener.on_event if isinstance(listener, Listener) else listener
        if not callable(handler) or _is_listener_class(handler):
            raise ArgumentTypeError(f"a listener is a Listener or a function of an event, not {shown(listener)}")
        events = events or (listener.events if isinstance(listener, Listener) else ())
        name = name or _name_of(listener)
        if isinstance(listener, Listener):
            _check(listener, name)
        feed: _TaskDelivery | _ThreadDelivery
        if isinstance(listener, Listener) and listener.at_once:
            if _is_async(handler):
                raise ArgumentTypeError(f"listener {name}: at_once is for plain methods: on_event is a coroutine")
            direct = _DirectFeed(self, listener, events, name)
            self.attach(direct)
            return direct
        if _is_async(handler):
            feed = _TaskDelivery(self, listener, events, name)
            if self._thread and not self._closed:
                feed.start()
        else:
            feed = _ThreadDelivery(self, listener, events, name)
        if not self._closed:
            self.count_dropped(feed.name, 0)
            self._deliveries = [*(other for other in self._deliveries if not other.is_over()), feed]
        self.attach(feed)
        return feed

    def attach(self, feed: Feed) -> None:
        """It gets what is posted from now on; nothing, if the bus has been left."""
        if not self._closed:
            self._feeds = (*self._feeds, feed)
            self._changed()

    def backlog(self) -> int:
        """How many events wait in the longest queue, of a listener that still takes any."""
        return max((feed._backlog() for feed in self._feeds if not feed._ended), default=0)

    def wants(self, event_type: type) -> bool:
        """Whether anybody would get an event of this type."""
        return any(feed.wants(event_type) for feed in self._feeds)

    def is_here(self) -> bool:
        """Whether the calling thread is that of the bus's event loop."""
        return self._thread == threading.get_ident()

    def soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call ``function`` on the bus's event loop: now, if we are there; soon, from another thread."""
        if not self._thread or self.is_here():
            function(*arguments)
        else:
            self._call_in_loop(lambda: function(*arguments))

    def dropped(self) -> dict[str, int]:
        """How many events each listener that has a queue has missed, by its name.  May be called in any thread."""
        return dict(self._dropped)

    def count_dropped(self, listener: str, events: int) -> None:
        self._dropped[listener] = self._dropped.get(listener, 0) + events

    def remove(self, feed: Feed) -> None:
        """The listener gets nothing that is posted from now on; what is queued is still delivered."""
        if feed in self._feeds:
            self._feeds = tuple(other for other in self._feeds if other is not feed)
            self._changed()
            feed.end()

    def _changed(self) -> None:
        self._routes = {}
        self.active = bool(self._feeds)
        if self.on_change is not None:
            self.on_change()

    async def __aenter__(self) -> Bus:
        self._thread, self._call_in_loop = threading.get_ident(), loop_caller()
        for feed in self._deliveries:
            if isinstance(feed, _TaskDelivery):
                feed.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        for other in self._feeds:
            self.remove(other)
        deadline = anyio.current_time() + self.flush_timeout
        for feed in self._deliveries:
            if isinstance(feed, _TaskDelivery):
                feed.end_by(deadline)
        for feed in self._deliveries:
            await feed.join(deadline)


def _is_listener_class(handler: object) -> bool:
    return isinstance(handler, type) and issubclass(handler, Listener)


def _check(listener: Listener, name: str) -> None:
    if listener.on_error not in ("stay", "remove"):
        raise ArgumentTypeError(f"listener {name}: on_error = {shown(listener.on_error)}: expected 'stay' or 'remove'")
    overridden = type(listener).close is not Listener.close
    if overridden and _is_async(listener.close) != _is_async(listener.on_event):
        raise ArgumentTypeError(f"listener {name}: close is a coroutine if, and only if, on_event is one")


def _is_its_own(error: BaseException) -> bool:
    """Whether a coroutine failed, and was not cancelled: on asyncio, what it waited for may have been."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return isinstance(error, Exception | SystemExit)


def _calls_of(listener: Listener | Handler) -> tuple[Handler, Callable[[], Awaitable[None] | None] | None]:
    """How to give the listener an event, and how to close it, where it asks for that."""
    if not isinstance(listener, Listener):
        return listener, None
    return listener.on_event, None if type(listener).close is Listener.close else listener.close


def _name_of(listener: object) -> str:
    name = getattr(listener, "name", "") or getattr(listener, "__qualname__", "")
    return name if isinstance(name, str) and name else type(listener).__qualname__


def _is_async(handler: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
