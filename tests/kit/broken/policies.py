"""Cache policies that are broken on purpose, each in one way.  Run by `test_broken`."""

from __future__ import annotations

from collections import Counter

from asparkle.plugins.cachepolicies import LRU
from asparkle.testing import CachePolicyConformance


class NeverForgets(LRU):
    def forget(self, block):
        pass


class TestNeverForgets(CachePolicyConformance):
    def make(self, app):
        return NeverForgets(app)


class NamesTwice(LRU):
    """One entry for each time that a block was read."""

    def __init__(self, app):
        super().__init__(app)
        self.reads = []

    def touch(self, block):
        self.reads.append(block)

    def forget(self, block):
        self.reads = [other for other in self.reads if other != block]

    def victims(self):
        return list(self.reads)


class TestNamesTwice(CachePolicyConformance):
    def make(self, app):
        return NamesTwice(app)


class NamesOthers(LRU):
    """Also the blocks before."""

    def victims(self):
        return [*super().victims(), *((rdd, partition + 1000) for rdd, partition in super().victims())]


class TestNamesOthers(CachePolicyConformance):
    def make(self, app):
        return NamesOthers(app)


class KeepsTheFirst(LRU):
    """Never names the block that came first."""

    def victims(self):
        return list(super().victims())[1:]


class TestKeepsTheFirst(CachePolicyConformance):
    def make(self, app):
        return KeepsTheFirst(app)


class KnowsNoStrangers(LRU):
    def forget(self, block):
        del self._order[block]


class TestKnowsNoStrangers(CachePolicyConformance):
    def make(self, app):
        return KnowsNoStrangers(app)


class Remembers(LRU):
    """Counts reads, also of blocks that have left."""

    def __init__(self, app):
        super().__init__(app)
        self.reads = Counter()

    def touch(self, block):
        super().touch(block)
        self.reads[block] += 1


class TestRemembers(CachePolicyConformance):
    def make(self, app):
        return Remembers(app)


class Searches(LRU):
    """A list that is looked through for each block."""

    def __init__(self, app):
        super().__init__(app)
        self.order = []

    def touch(self, block):
        self.forget(block)
        self.order.append(block)

    def forget(self, block):
        if block in self.order:
            self.order.remove(block)

    def victims(self):
        return list(self.order)


class TestSearches(CachePolicyConformance):
    patience = 1.0

    def make(self, app):
        return Searches(app)


class ForgetsWhatItNames(LRU):
    def victims(self):
        while self._order:
            yield self._order.popitem(last=False)[0]


class TestForgetsWhatItNames(CachePolicyConformance):
    def make(self, app):
        return ForgetsWhatItNames(app)


class Shared(LRU):
    blocks = {}

    def __init__(self, app):
        super().__init__(app)
        self._order = self.blocks

    def touch(self, block):
        self._order.pop(block, None)
        self._order[block] = None


class TestShared(CachePolicyConformance):
    def make(self, app):
        return Shared(app)


class WantsALimit(LRU):
    def __init__(self, app, limit):
        super().__init__(app)


class TestWantsALimit(CachePolicyConformance):
    def make(self, app):
        return WantsALimit(app, 10)


class WantsToKnow(LRU):
    """Takes it for granted that computing a block takes time."""

    def stored(self, block, facts):
        super().stored(block, facts)
        self.worth = facts.size / facts.seconds


class TestWantsToKnow(CachePolicyConformance):
    def make(self, app):
        return WantsToKnow(app)


class OnlyNotes(LRU):
    """Notes what is known of a block, but not that it is there."""

    def stored(self, block, facts):
        self.facts = facts


class TestOnlyNotes(CachePolicyConformance):
    def make(self, app):
        return OnlyNotes(app)
