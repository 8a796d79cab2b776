"""Cached partitions as files that every executor of the host can read."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence

from asparkle.core.contracts import BlockId, BlockStore, Buffer
from asparkle.core.errors import StorageError
from asparkle.core.payloads import remove_file
from asparkle.core.serializer import map_file


class DiskStore(BlockStore):
    """One file a block, written under another name and then renamed: a file that is there is whole.

    Survives the worker that wrote it; another worker's block is found under the same name.
    """

    def __init__(self, directories: Sequence[str]) -> None:
        self._directories = directories

    def _path(self, block: BlockId) -> str:
        rdd, partition = block
        return os.path.join(self._directories[partition % len(self._directories)], f"rdd-{rdd}-{partition}")

    def put(self, block: BlockId, chunks: Iterable[Buffer]) -> int:
        path = self._path(block)
        partial = f"{path}.{os.getpid()}-{threading.get_ident()}"
        written = 0
        try:
            with open(partial, "wb") as file:
                for chunk in chunks:
                    written += file.write(chunk)
            os.rename(partial, path)
        except OSError as error:
            raise StorageError(os.path.dirname(path), error.strerror or str(error)) from error
        finally:
            remove_file(partial)
        return written

    def get(self, block: BlockId) -> memoryview | None:
        try:
            return map_file(self._path(block))
        except FileNotFoundError:
            return None

    def remove(self, block: BlockId) -> bool:
        return remove_file(self._path(block))
