"""Which executor keeps which cached partition, and how a copy of one gets to another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any

from asparkle.core import protocol
from asparkle.core.protocol import FileRef
from asparkle.core.scheduler.messages import BlockId


class BlockDirectory:
    """The driver's view of cached blocks.

    ``send``: puts a message in an executor's outbox.  ``remove``: deletes a file of any host."""

    def __init__(self, send: Callable[[str, Any], None], remove: Callable[[FileRef], None]) -> None:
        self._send = send
        self._remove = remove
        self._holders: dict[BlockId, dict[str, str]] = {}
        self._requests = itertools.count()
        self._wanted: dict[int, tuple[str, str, protocol.TakeBlock]] = {}  # holder, target, answer

    def changed(self, executor: str, added: Collection[BlockId], removed: Collection[BlockId], scope: str) -> None:
        for block in added:
            self._holders.setdefault(block, {})[executor] = scope
        for block in removed:
            holders = self._holders.get(block)
            if holders is not None:
                holders.pop(executor, None)
                if not holders:
                    del self._holders[block]

    def executor_lost(self, executor: str) -> None:
        """What was in that executor's heap is gone; its files are not."""
        gone = [block for block, holders in self._holders.items() if holders.get(executor) == "worker"]
        self.changed(executor, (), gone, "worker")
        for request, (holder, target, answer) in list(self._wanted.items()):
            if executor in (holder, target):
                del self._wanted[request]
            if executor == holder and target != executor:
                self._ask(target, answer)

    def unpersisted(self, rdd: int) -> None:
        for block in [b for b in self._holders if b[0] == rdd]:
            del self._holders[block]

    def holders(self, block: BlockId) -> Collection[str]:
        return self._holders.get(block, {}).keys()

    def in_other_heaps(self, blocks: Collection[BlockId], executor: str) -> list[BlockId]:
        """Those of ``blocks`` that ``executor`` could only get from another executor's heap."""
        return [
            block
            for block in blocks
            if (held := self._holders.get(block)) and executor not in held and "host" not in held.values()
        ]

    def replicate(
        self, block: BlockId, owner: str, copies: int, level: Sequence[Any], executors: Collection[str]
    ) -> None:
        """Bring ``copies`` copies of a block to executors that lack it, the least laden first."""
        held = self._holders.get(block, {})
        laden = dict.fromkeys(executors, 0)
        for holders in self._holders.values():
            for executor in holders:
                if executor in laden:
                    laden[executor] += 1
        targets = sorted((e for e in executors if e not in held), key=laden.__getitem__)
        for target in targets[:copies]:
            self._export(owner, target, protocol.TakeBlock(*block, -1, None, tuple(level)))

    def wanted(self, executor: str, ask: protocol.WantBlock) -> None:
        """``executor`` asks for a block of another one."""
        self._ask(executor, protocol.TakeBlock(ask.rdd, ask.partition, ask.request, None))

    def _ask(self, target: str, answer: protocol.TakeBlock) -> None:
        """Have some other holder export the block; where there is none, say so."""
        holder = next((e for e in self.holders((answer.rdd, answer.partition)) if e != target), None)
        if holder is None:
            self._send(target, answer)
        else:
            self._export(holder, target, answer)

    def _export(self, holder: str, target: str, answer: protocol.TakeBlock) -> None:
        request = next(self._requests)
        self._wanted[request] = (holder, target, answer)
        self._send(holder, protocol.Export(answer.rdd, answer.partition, request))

    def exported(self, report: protocol.Exported) -> None:
        ref = FileRef(*report.ref) if report.ref is not None else None
        wanted = self._wanted.pop(report.request, None)
        if wanted is not None:
            _, target, answer = wanted
            self._send(target, answer._replace(ref=ref))
        elif ref is not None:
            self._remove(ref)
