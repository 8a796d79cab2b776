"""The cache policy ``mru``: what was used last goes first.

For programs that go through more than the cache holds, over and over in one order.  What they have just read is what
they will need last of all, so that LRU never has the next block, and MRU most of them: Chou and DeWitt, "An Evaluation
of Buffer Management Strategies for Relational Database Systems", 1985.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from asparkle.plugins import AppSpec, BlockId, CachePolicy, hookimpl


class MRU(CachePolicy):
    """The block that was stored or read last goes first."""

    def __init__(self, app: AppSpec) -> None:
        super().__init__(app)
        self._used: dict[BlockId, None] = {}  # in order, the last one behind

    def touch(self, block: BlockId) -> None:
        self._used.pop(block, None)
        self._used[block] = None

    def forget(self, block: BlockId) -> None:
        self._used.pop(block, None)

    def victims(self) -> Iterable[BlockId]:
        return list(reversed(self._used))


@hookimpl
def asparkle_cache_policies() -> Mapping[str, type[CachePolicy]]:
    return {"mru": MRU}
