"""Cached partitions as files that every executor of the host can read."""

from __future__ import annotations

import os
from collections.abc import Iterable

from asparkle.plugins import AppSpec, BlockId, BlockStore, Buffer, map_file, remove_file, write_file


class DiskStore(BlockStore):
    """One file a block, written under another name and then renamed: a file that is there is whole.

    Survives the worker that wrote it; another worker's block is found under the same name.
    """

    def __init__(self, app: AppSpec) -> None:
        super().__init__(app)
        self._directories = [os.path.join(directory, "blocks") for directory in app.directories]

    def _path(self, block: BlockId) -> str:
        rdd, partition = block
        return os.path.join(self._directories[partition % len(self._directories)], f"rdd-{rdd}-{partition}")

    def put(self, block: BlockId, chunks: Iterable[Buffer]) -> int:
        return write_file(chunks, self._path(block)).length

    def get(self, block: BlockId) -> memoryview | None:
        try:
            return map_file(self._path(block))
        except FileNotFoundError:
            return None

    def remove(self, block: BlockId) -> bool:
        return remove_file(self._path(block))
