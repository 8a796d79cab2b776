"""Listeners that are broken on purpose, each in one way.  Run by `test_broken`."""

from __future__ import annotations

import threading
import time

from asparkle.core.events import ApplicationEnded, JobEnded, JobStarted, TaskEnded, event_types
from asparkle.plugins import Listener
from asparkle.testing import ListenerConformance


class KnowsAllTypes(Listener):
    def on_event(self, event):
        return {kind: None for kind in event_types().values()}[type(event)]


class TestKnowsAllTypes(ListenerConformance):
    def make(self):
        return KnowsAllTypes()


class WasThereFromTheBeginning(Listener):
    events = (JobStarted, JobEnded)

    def __init__(self):
        self.jobs = {}

    async def on_event(self, event):
        if isinstance(event, JobStarted):
            self.jobs[event.job] = event
        else:
            del self.jobs[event.job]


class TestWasThereFromTheBeginning(ListenerConformance):
    def make(self):
        return WasThereFromTheBeginning()


class BlocksAtOnce(Listener):
    events = (JobEnded,)
    at_once = True

    def on_event(self, event):
        time.sleep(0.1)


class TestBlocksAtOnce(ListenerConformance):
    def make(self):
        return BlocksAtOnce()


class BlocksTheLoop(Listener):
    """Sends a report, say."""

    events = (ApplicationEnded,)

    async def on_event(self, event):
        time.sleep(0.4)


class TestBlocksTheLoop(ListenerConformance):
    def make(self):
        return BlocksTheLoop()


class IsTooSlow(Listener):
    events = (TaskEnded,)

    def on_event(self, event):
        time.sleep(0.02)


class TestIsTooSlow(ListenerConformance):
    def make(self):
        return IsTooSlow()


class ClosesOtherwise(Listener):
    async def on_event(self, event):
        pass

    def close(self):
        pass


class TestClosesOtherwise(ListenerConformance):
    def make(self):
        return ClosesOtherwise()


class NamesItsEvents(Listener):
    events = ("JobEnded",)

    def on_event(self, event):
        pass


class TestNamesItsEvents(ListenerConformance):
    def make(self):
        return NamesItsEvents()


class LeavesAThread(Listener):
    def __init__(self):
        self.thread = None

    def on_event(self, event):
        if self.thread is None:
            self.thread = threading.Thread(target=threading.Event().wait, name="writer", daemon=True)
            self.thread.start()


class TestLeavesAThread(ListenerConformance):
    def make(self):
        return LeavesAThread()


class LeavesAFileOpen(Listener):
    opened = []

    def __init__(self, path):
        self.path = path
        self.file = None

    def on_event(self, event):
        if self.file is None:
            self.file = open(self.path, "a")  # noqa: SIM115
            self.opened.append(self.file)


class TestLeavesAFileOpen(ListenerConformance):
    def make(self):
        return LeavesAFileOpen(self.directory / "events")
