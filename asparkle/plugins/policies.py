"""Cache policies that come with asparkle."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from asparkle.plugins import BlockId, CachePolicy


class LRU(CachePolicy):
    """The block that was read least recently goes first."""

    def __init__(self) -> None:
        self._order: OrderedDict[BlockId, None] = OrderedDict()

    def touch(self, block: BlockId) -> None:
        self._order[block] = None
        self._order.move_to_end(block)

    def forget(self, block: BlockId) -> None:
        self._order.pop(block, None)

    def victims(self) -> Iterable[BlockId]:
        return list(self._order)
