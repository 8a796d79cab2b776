"""Which executor keeps which cached partition, and how a copy of one gets to another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain
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
        self._hosts: dict[str, str] = {}  # by executor, of those that live
        self._heaps: dict[BlockId, dict[str, None]] = {}  # executors that have it in their heaps
        self._files: dict[BlockId, dict[str, str]] = {}  # executors that wrote it to their host's disk, and that host
        self._requests = itertools.count()
        self._wanted: dict[int, tuple[str, str, protocol.TakeBlock]] = {}  # holder, target, answer
        self.replicating: set[tuple[BlockId, str]] = set()  # replicas on their way, and where to

    def executor_added(self, executor: str, host: str) -> None:
        """Executors of one host have one disk."""
        self._hosts[executor] = host

    def changed(self, executor: str, added: Collection[BlockId], removed: Collection[BlockId], scope: str) -> None:
        """Blocks have come to be in an executor's heap (``scope`` "worker") or on its host, or are there no more."""
        host = self._hosts[executor]
        for block in added:
            if scope == "worker":
                self._heaps.setdefault(block, {})[executor] = None
            else:
                self._files.setdefault(block, {})[executor] = host
        for block in removed:
            if scope == "worker":
                self._forget(executor, [block])
            elif block in self._files:
                self._keep(block, {e: where for e, where in self._files[block].items() if where != host})

    def executor_lost(self, executor: str, survive: bool = True) -> None:
        """What was in that executor's heap is gone; what it wrote to disk, unless that is said to ``survive``."""
        self._hosts.pop(executor, None)
        self.replicating = {(block, target) for block, target in self.replicating if target != executor}
        self._forget(executor, [block for block, executors in self._heaps.items() if executor in executors])
        if not survive:
            for block in [block for block, writers in self._files.items() if executor in writers]:
                self._keep(block, {e: where for e, where in self._files[block].items() if e != executor})
        for request, (holder, target, answer) in list(self._wanted.items()):
            if executor in (holder, target):
                del self._wanted[request]
            if executor == holder and target != executor:
                self._ask(target, answer)

    def _forget(self, executor: str, blocks: Collection[BlockId]) -> None:
        for block in blocks:
            executors = self._heaps.get(block, {})
            executors.pop(executor, None)
            if not executors:
                self._heaps.pop(block, None)

    def _keep(self, block: BlockId, writers: dict[str, str]) -> None:
        if writers:
            self._files[block] = writers
        else:
            del self._files[block]

    def unpersisted(self, rdd: int) -> None:
        for table in (self._heaps, self._files):
            for block in [b for b in table if b[0] == rdd]:
                del table[block]

    def holders(self, block: BlockId) -> Collection[str]:
        """The executors that have it, or wrote it."""
        return {**self._heaps.get(block, {}), **self._files.get(block, {})}.keys()

    def elsewhere(self, blocks: Collection[BlockId], executor: str) -> list[BlockId]:
        """Those of ``blocks`` that ``executor`` can only get from another executor, for sure, or if what was said to be
        on its host is not there any more."""
        host = self._hosts.get(executor)
        return [
            block
            for block in blocks
            if executor not in self._heaps.get(block, ()) and any(True for _ in self._givers(block, host))
        ]

    def _givers(self, block: BlockId, but: str | None = None) -> Iterator[str]:
        """The executors that can give it: those that have it in their heaps, and those on whose host it is, if that is
        not the one that is named."""
        yield from self._heaps.get(block, ())
        files = self._files.get(block)
        if files is not None:
            hosts = {*files.values()} - {but}
            yield from (executor for executor, host in self._hosts.items() if host in hosts) if hosts else ()

    def replicate(self, block: BlockId, owner: str, copies: int, level: Sequence[Any]) -> None:
        """Bring ``copies`` copies of a block to executors that lack it, the least laden first, and before all those of
        hosts that lack it."""
        held = self.holders(block)
        hosts = {self._hosts.get(executor) for executor in held} | set(self._files.get(block, {}).values())
        laden = dict.fromkeys(self._hosts, 0)
        for executor in chain(*self._heaps.values(), *self._files.values()):
            if executor in laden:
                laden[executor] += 1
        targets = [executor for executor in self._hosts if executor not in held]
        for _ in range(min(copies, len(targets))):
            target = min(targets, key=lambda executor: (self._hosts[executor] in hosts, laden[executor]))
            targets.remove(target)
            hosts.add(self._hosts[target])
            self.replicating.add((block, target))
            self._export(owner, target, protocol.TakeBlock(*block, -1, None, tuple(level)))

    def replicated(self, block: BlockId, target: str) -> None:
        """A replica is there, or can't be."""
        self.replicating.discard((block, target))

    def wanted(self, executor: str, ask: protocol.WantBlock) -> None:
        """``executor`` asks for a block of another one."""
        self._ask(executor, protocol.TakeBlock(ask.rdd, ask.partition, ask.request, None))

    def _ask(self, target: str, answer: protocol.TakeBlock) -> None:
        """Have some other holder export the block; where there is none, say so."""
        givers = [executor for executor in self._givers((answer.rdd, answer.partition)) if executor != target]
        near = [executor for executor in givers if self._hosts.get(executor) == self._hosts.get(target)]
        holder = next(iter(near or givers), None)
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
            holder, target, answer = wanted
            if ref is None and answer.request >= 0:
                self._lacks(holder, (answer.rdd, answer.partition))
                self._ask(target, answer)
            else:
                self._send(target, answer._replace(ref=ref))
        elif ref is not None:
            self._remove(ref)

    def _lacks(self, executor: str, block: BlockId) -> None:
        """It is not there any more: it was evicted, or the host was lost and came back."""
        self._forget(executor, [block])
        if block in self._files:
            host = self._hosts.get(executor)
            self._keep(block, {e: where for e, where in self._files[block].items() if where != host})
