"""Scheduling policies that are broken on purpose, each in one way.  Run by `test_broken`."""

from __future__ import annotations

import time

from asparkle.plugins.schedulingpolicies import FAIR, FIFO
from asparkle.testing import SchedulingPolicyConformance


class ReturnsANumber(FIFO):
    fixed = False

    def rank(self, tasks):
        return tasks.left


class TestReturnsANumber(SchedulingPolicyConformance):
    def make(self, conf):
        return ReturnsANumber(conf)


class RanksByName(FIFO):
    """By the name of the stage, which can't be compared with a number."""

    def rank(self, tasks):
        return (tasks.name,)


class TestRanksByName(SchedulingPolicyConformance):
    def make(self, conf):
        return RanksByName(conf)


class DividesByWhatRuns(FIFO):
    """Takes it for granted that something runs."""

    fixed = False

    def rank(self, tasks):
        return (tasks.left / tasks.running,)


class TestDividesByWhatRuns(SchedulingPolicyConformance):
    def make(self, conf):
        return DividesByWhatRuns(conf)


class NotANumber(FIFO):
    fixed = False

    def rank(self, tasks):
        return (float("nan") if tasks.left == 0 else 1.0,)


class TestNotANumber(SchedulingPolicyConformance):
    def make(self, conf):
        return NotANumber(conf)


class SaysFixed(FIFO):
    """By what runs, which is not fixed."""

    def rank(self, tasks):
        return (tasks.running,)


class TestSaysFixed(SchedulingPolicyConformance):
    def make(self, conf):
        return SaysFixed(conf)


class NeedsAShare(FAIR):
    def rank_pool(self, pool):
        return (pool.running / pool.min_share,)


class TestNeedsAShare(SchedulingPolicyConformance):
    def make(self, conf):
        return NeedsAShare(conf)


class WantsAProperty(FIFO):
    def rank(self, tasks):
        return (int(tasks.properties["mine"]),)


class TestWantsAProperty(SchedulingPolicyConformance):
    def make(self, conf):
        return WantsAProperty(conf)


class TakesNotes(FIFO):
    def rank(self, tasks):
        tasks.properties["seen"] = "yes"
        return ()


class TestTakesNotes(SchedulingPolicyConformance):
    def make(self, conf):
        return TakesNotes(conf)


class AsksSomebody(FIFO):
    """Waits for an answer each time."""

    def rank(self, tasks):
        time.sleep(0.001)
        return ()


class TestAsksSomebody(SchedulingPolicyConformance):
    def make(self, conf):
        return AsksSomebody(conf)


class KeepsAll(FIFO):
    """Looks through all stages that there have ever been."""

    def __init__(self, conf):
        super().__init__(conf)
        self.stages = []

    def rank(self, tasks):
        if not any(stage == tasks.stage for stage in self.stages):
            self.stages.append(tasks.stage)
        return (0,)


class TestKeepsAll(SchedulingPolicyConformance):
    def make(self, conf):
        return KeepsAll(conf)


class WantsALimit(FIFO):
    def __init__(self, conf, limit):
        super().__init__(conf)
        self.limit = limit


class TestWantsALimit(SchedulingPolicyConformance):
    def make(self, conf):
        return WantsALimit(conf, 3)
