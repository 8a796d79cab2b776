"""Block stores that are broken on purpose, each in one way.  Run by `test_broken`."""

from __future__ import annotations

import os
import tempfile
import threading

from asparkle.backends.disk import DiskStore
from asparkle.testing import BlockStoreConformance, small_disk


class Broken(BlockStoreConformance):
    def full(self, store):
        return small_disk(1 << 20)


class ForgetsTheFirstChunk(DiskStore):
    def put(self, block, chunks):
        first, *rest = [*chunks, b""]
        return super().put(block, rest or [first]) + len(first)


class TestForgetsTheFirstChunk(Broken):
    def make(self, app):
        return ForgetsTheFirstChunk(app)


class CountsElements(DiskStore):
    """Takes the length of a view for its size."""

    def put(self, block, chunks):
        chunks = list(chunks)
        super().put(block, chunks)
        return sum(map(len, chunks))


class TestCountsElements(Broken):
    def make(self, app):
        return CountsElements(app)


class WritesInPlace(DiskStore):
    """A reader sees what is written so far."""

    def put(self, block, chunks):
        with open(self._path(block), "wb", buffering=0) as file:
            return sum(map(file.write, chunks))

    def get(self, block):
        try:
            with open(self._path(block), "rb") as file:
                return memoryview(file.read())
        except FileNotFoundError:
            return None


class TestWritesInPlace(Broken):
    def make(self, app):
        return WritesInPlace(app)


class ReusesItsBuffer(DiskStore):
    """Two readers have one buffer."""

    buffers = threading.local()

    def get(self, block):
        found = super().get(block)
        if found is None:
            return None
        buffer = self.buffers.__dict__.setdefault("buffer", bytearray(10 << 20))
        buffer[: len(found)] = found
        return memoryview(buffer)[: len(found)]


class TestReusesItsBuffer(Broken):
    def make(self, app):
        return ReusesItsBuffer(app)


class KeepsToItself(DiskStore):
    def __init__(self, app):
        self.blocks = {}

    def put(self, block, chunks):
        self.blocks[block] = b"".join(map(bytes, chunks))
        return len(self.blocks[block])

    def get(self, block):
        found = self.blocks.get(block)
        return None if found is None else memoryview(found)

    def remove(self, block):
        return self.blocks.pop(block, None) is not None


class TestKeepsToItself(BlockStoreConformance):
    def make(self, app):
        return KeepsToItself(app)


class LivesInTheHeap(KeepsToItself):
    """Of one process: all stores that are made there find the block, and no other worker does."""

    blocks = {}

    def __init__(self, app):
        self.directory = app.directories[0]

    def put(self, block, chunks):
        return super().put((self.directory, block), chunks)

    def get(self, block):
        return super().get((self.directory, block))

    def remove(self, block):
        return super().remove((self.directory, block))


class TestLivesInTheHeap(BlockStoreConformance):
    def make(self, app):
        return LivesInTheHeap(app)


class RaisesKeyError(DiskStore):
    def get(self, block):
        found = super().get(block)
        if found is None:
            raise KeyError(block)
        return found


class TestRaisesKeyError(Broken):
    def make(self, app):
        return RaisesKeyError(app)


class RemoveLies(DiskStore):
    def remove(self, block):
        super().remove(block)
        return True


class TestRemoveLies(Broken):
    def make(self, app):
        return RemoveLies(app)


class RemovesNothing(DiskStore):
    def remove(self, block):
        return os.path.exists(self._path(block))


class TestRemovesNothing(Broken):
    def make(self, app):
        return RemovesNothing(app)


class OneTemporaryName(DiskStore):
    """Of two threads that put at the same time, one renames what the other writes."""

    def put(self, block, chunks):
        partial = self._path((0, 0)) + ".partial"
        with open(partial, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
                file.flush()
            size = file.tell()
        os.rename(partial, self._path(block))
        return size


class TestOneTemporaryName(Broken):
    def make(self, app):
        return OneTemporaryName(app)


class KeepsFilesOpen(DiskStore):
    opened = []

    def get(self, block):
        found = super().get(block)
        if found is not None:
            self.opened.append(os.open(os.devnull, os.O_RDONLY))
        return found


class TestKeepsFilesOpen(Broken):
    def make(self, app):
        return KeepsFilesOpen(app)


class RaisesOSError(DiskStore):
    def put(self, block, chunks):
        partial = self._path(block) + f".{os.urandom(4).hex()}"
        try:
            with open(partial, "wb") as file:
                file.writelines(chunks)
                size = file.tell()
            os.rename(partial, self._path(block))
        except BaseException:
            os.unlink(partial)
            raise
        return size


class TestRaisesOSError(Broken):
    def make(self, app):
        return RaisesOSError(app)


class WritesElsewhere(DiskStore):
    def put(self, block, chunks):
        with open(os.path.join(tempfile.gettempdir(), "last-block"), "w") as file:
            file.write(str(block))
        return super().put(block, chunks)


class TestWritesElsewhere(Broken):
    def make(self, app):
        return WritesElsewhere(app)
