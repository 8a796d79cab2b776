"""Where cached blocks and shuffle outputs lie, and so where a partition would like to be computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from asparkle.core.scheduler.fleet import Fleet
from asparkle.core.scheduler.messages import BlockId
from asparkle.core.scheduler.records import Executor, Stage
from asparkle.core.scheduler.tasksets import Places

SHUFFLE_SHARE = 0.2  # of a reduce partition's bytes, that makes a host near (Spark's REDUCER_PREF_LOCS_FRACTION)
SHUFFLE_LIMIT = 16384  # maps * reducers: adding up more sizes would hold up the loop


class Blocks:
    """Cached blocks: in executors' heaps, and on hosts.  Shared ones are near to nobody."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._heaps: dict[BlockId, dict[Executor, None]] = {}
        self._hosts: dict[BlockId, dict[str, Executor]] = {}  # host: who wrote it
        self._rdds: dict[int, set[BlockId]] = {}

    def __len__(self) -> int:
        return len(self._heaps) + len(self._hosts)

    def add(self, executor: Executor, blocks: Sequence[BlockId], scope: str) -> None:
        for block in blocks:
            if scope == "worker":
                self._heaps.setdefault(block, {})[executor] = None
                executor.blocks.add(block)
            elif scope == "host":
                self._hosts.setdefault(block, {})[executor.host.name] = executor
                executor.host_blocks.add(block)
            else:
                continue
            self._rdds.setdefault(block[0], set()).add(block)

    def remove(self, executor: Executor, blocks: Sequence[BlockId], scope: str) -> None:
        for block in blocks:
            if scope == "worker":
                executor.blocks.discard(block)
                self._heaps.get(block, {}).pop(executor, None)
            elif scope == "host":
                self._hosts.get(block, {}).pop(executor.host.name, None)
            self._tidy(block)

    def lose(self, executor: Executor, survive: bool) -> list[BlockId]:
        """Returns the blocks that its host has lost with it."""
        gone = []
        for block in executor.blocks:
            self._heaps.get(block, {}).pop(executor, None)
            self._tidy(block)
        if not survive:
            for block in executor.host_blocks:
                if self._hosts.get(block, {}).get(executor.host.name) is executor:
                    del self._hosts[block][executor.host.name]
                    self._tidy(block)
                    gone.append(block)
        executor.blocks.clear()
        executor.host_blocks.clear()
        return gone

    def only_on(self, executor: Executor) -> int:
        """How many cached partitions would be lost if it were released."""
        return sum(not self._elsewhere(block, executor) for block in executor.blocks | executor.host_blocks)

    def _elsewhere(self, block: BlockId, executor: Executor) -> bool:
        if any(other is not executor for other in self._heaps.get(block, ())):
            return True
        return any(writer is not executor or writer.blocks_survive for writer in self._hosts.get(block, {}).values())

    def unpersist(self, rdd: int) -> None:
        for block in self._rdds.pop(rdd, ()):
            for executor in self._heaps.pop(block, ()):
                executor.blocks.discard(block)
            for executor in self._hosts.pop(block, {}).values():
                executor.host_blocks.discard(block)

    def _tidy(self, block: BlockId) -> None:
        """Forget a block that is nowhere."""
        for table in (self._heaps, self._hosts):
            if not table.get(block, True):
                del table[block]
        if block not in self._heaps and block not in self._hosts and block[0] in self._rdds:
            self._rdds[block[0]].discard(block)
            if not self._rdds[block[0]]:
                del self._rdds[block[0]]

    # ----------------------------------------------------------------------------------- places

    def finder(self, stage: Stage) -> Callable[[int], Places] | None:
        """By partition: where its input is.  Cached blocks count before preferred hosts, and these before
        shuffle outputs.  None if nothing is known."""
        spec = stage.spec
        blocks = spec.blocks if self._rdds else None
        hosts = spec.hosts
        near = self._near_outputs(stage)
        if blocks is None and hosts is None and not near:
            return None

        def places(partition: int) -> Places:
            if blocks is not None:
                for block in blocks[partition]:
                    cached = self._cached(block)
                    if cached is not None:
                        return cached
            names = hosts[partition] if hosts is not None else ()
            return (), [self._fleet.host(name) for name in names or near.get(partition, ())]

        return places

    def _cached(self, block: BlockId) -> Places | None:
        executors = list(self._heaps.get(block, ()))
        on_hosts = [self._fleet.hosts[name] for name in self._hosts.get(block, ()) if name in self._fleet.hosts]
        on_hosts = [host for host in on_hosts if host.executors]
        return (executors, on_hosts) if executors or on_hosts else None

    def _near_outputs(self, stage: Stage) -> dict[int, list[str]]:
        """Hosts with a good part of each partition's shuffle input.  Only where task i reads reduce
        partition i of each parent, as far as the numbers tell."""
        if not stage.parents or self._fleet.occupied < 2:
            return {}
        tables = [parent.outputs for parent in stage.parents]
        if sum(map(len, tables)) * stage.size > SHUFFLE_LIMIT:
            return {}
        totals = [0] * stage.size
        by_host: dict[str, list[int]] = {}
        for writer, sizes in ((w, s) for table in tables for w, s in zip(table.writers, table.sizes, strict=True)):
            if writer is None or sizes is None or len(sizes) != stage.size:
                return {}
            amounts = by_host.setdefault(writer.host.name, [0] * stage.size)
            for partition, size in enumerate(sizes):
                amounts[partition] += size
                totals[partition] += size
        near: dict[int, list[str]] = {}
        for host, amounts in by_host.items():
            for partition, amount in enumerate(amounts):
                if amount and amount >= SHUFFLE_SHARE * totals[partition]:
                    near.setdefault(partition, []).append(host)
        return near
