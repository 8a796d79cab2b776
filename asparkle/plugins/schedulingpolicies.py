"""Scheduling policies that come with asparkle."""

from __future__ import annotations

from asparkle.plugins import PoolFacts, Rank, SchedulingPolicy, TaskSetFacts


class FIFO(SchedulingPolicy):
    """In the order of the jobs' submission, then of their stages."""

    fixed = True

    def rank(self, tasks: TaskSetFacts) -> Rank:
        return ()


class FAIR(SchedulingPolicy):
    """Spark's FairSchedulingAlgorithm.

    Who runs less than its minimum share goes first, the one with the smaller part of it before the others; then who
    runs less for its weight.  A task set has no minimum share, and weight 1.
    """

    pools = True

    def rank(self, tasks: TaskSetFacts) -> Rank:
        return (tasks.running,)

    def rank_pool(self, pool: PoolFacts) -> Rank:
        if pool.running < pool.min_share:
            return (0, pool.running / pool.min_share)
        return (1, pool.running / pool.weight)
