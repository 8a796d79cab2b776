"""What stands between asparkle and a plugin that it calls in the midst of things."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from asparkle.core.contracts import PoolFacts, Rank, SchedulingPolicy, TaskSetFacts
from asparkle.core.errors import PluginError
from asparkle.core.logs import log

F = TypeVar("F")


class GuardedPolicy(SchedulingPolicy):
    """A plugin's scheduling policy, until it fails; from then on jobs go in the order of their submission, and pools by
    what runs of them for their weight.

    A rank has one more number in front, so that what the policy has ranked before it failed goes first: later jobs
    come behind it, as in that order.
    """

    def __init__(self, policy: SchedulingPolicy, plugin: str, name: str) -> None:
        self.pools = bool(policy.pools)
        self.fixed = bool(policy.fixed)
        self._policy = policy
        self._plugin = plugin
        self._name = name
        self._failed = False

    def rank(self, tasks: TaskSetFacts) -> Rank:
        rank = self._rank("rank", self._policy.rank, tasks)
        return (1,) if rank is None else (0, *rank)

    def rank_pool(self, pool: PoolFacts) -> Rank:
        rank = self._rank("rank_pool", self._policy.rank_pool, pool)
        return (1, pool.running / pool.weight) if rank is None else (0, *rank)

    def _rank(self, method: str, ranked_by: Callable[[F], object], facts: F) -> Rank | None:
        if self._failed:
            return None
        try:
            rank = ranked_by(facts)
            if _is_rank(rank):
                return rank  # type: ignore[return-value]
            problem = f"returned {rank!r}: expected a tuple of numbers"
        except Exception as error:
            problem = f"raised {type(error).__name__}: {error}"
        self._failed = True
        told = PluginError(self._plugin, f"scheduling policy {self._name!r}: {method}({facts!r}) {problem}")
        log().error("from now on jobs are scheduled in the order of their submission", reason=str(told))
        return None


def _is_rank(rank: object) -> bool:
    """Numbers that can be compared: no NaN."""
    return isinstance(rank, tuple) and all(isinstance(part, int | float) and part == part for part in rank)
