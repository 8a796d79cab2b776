"""Shuffle stores that are broken on purpose, each in one way.  Run by `test_broken`."""

from __future__ import annotations

import os
import shutil
import tempfile

from asparkle.backends.shufflefiles import FileReader, FileShuffleStore, FileWriter
from asparkle.testing import ShuffleStoreConformance, small_disk


class Broken(ShuffleStoreConformance):
    def full(self, store):
        return small_disk(1 << 20)

    def damage(self, location):
        os.truncate(location, os.path.getsize(location) // 2)


def with_writer(writer):
    """A store whose writers are of this class."""

    class Store(FileShuffleStore):
        def _begin(self, directory, path, partitions):
            os.makedirs(directory, exist_ok=True)
            return writer(path, partitions)

    return Store


def with_reader(reader):
    class Store(FileShuffleStore):
        def open(self, location, partition):
            return reader(location, partition)

    return Store


class _LeavesItsFile(FileWriter):
    def abort(self):
        os.close(self._fd)


class LeavesItsFile(with_writer(_LeavesItsFile)):
    pass


class TestLeavesItsFile(Broken):
    def make(self, app):
        return LeavesItsFile(app)


class _OneRound(FileWriter):
    """What is written in a later round replaces the index of the one before."""

    def _end_round(self):
        self._rounds.clear()
        super()._end_round()


class OneRound(with_writer(_OneRound)):
    pass


class TestOneRound(Broken):
    def make(self, app):
        return OneRound(app)


class _WritesLater(FileWriter):
    """Keeps views of the task's memory until the end."""

    def __init__(self, path, partitions):
        super().__init__(path, partitions)
        self.later = []

    def write(self, pieces):
        self.later += pieces

    def commit(self):
        super().write(self.later)
        return super().commit()


class WritesLater(with_writer(_WritesLater)):
    pass


class TestWritesLater(Broken):
    def make(self, app):
        return WritesLater(app)


class _SaysNothing(FileWriter):
    def commit(self):
        super().commit()


class SaysNothing(with_writer(_SaysNothing)):
    pass


class TestSaysNothing(Broken):
    def make(self, app):
        return SaysNothing(app)


class _LivesInTheHeap(FileWriter):
    written = set()

    def commit(self):
        location = super().commit()
        self.written.add(location)
        return location


class LivesInTheHeap(with_writer(_LivesInTheHeap)):
    """Of one process: all stores that are made there find the output, and no other worker does."""

    def open(self, location, partition):
        if location not in _LivesInTheHeap.written:
            raise FileNotFoundError(location)
        return super().open(location, partition)


class TestLivesInTheHeap(Broken):
    def make(self, app):
        return LivesInTheHeap(app)


class _RaisesOSError(FileWriter):
    def _error(self, error):
        return error


class RaisesOSError(with_writer(_RaisesOSError)):
    pass


class TestRaisesOSError(Broken):
    def make(self, app):
        return RaisesOSError(app)


class _ReadOnly(FileReader):
    def read(self, offset, count):
        return memoryview(bytes(super().read(offset, count)))


class ReadOnly(with_reader(_ReadOnly)):
    pass


class TestReadOnly(Broken):
    def make(self, app):
        return ReadOnly(app)


class _ReadsInPages(FileReader):
    """Never more than a page, whatever was asked for."""

    def read(self, offset, count):
        return super().read(offset, min(count, 4096))


class ReadsInPages(with_reader(_ReadsInPages)):
    pass


class TestReadsInPages(Broken):
    def make(self, app):
        return ReadsInPages(app)


class _StaysOpen(FileReader):
    kept = []

    def close(self):
        self.kept.append(os.dup(self._fd))
        super().close()


class StaysOpen(with_reader(_StaysOpen)):
    pass


class TestStaysOpen(Broken):
    def make(self, app):
        return StaysOpen(app)


class RemovesAll(FileShuffleStore):
    """Whoever wrote it, and whoever still writes it."""

    def remove(self, shuffle, before):
        for root in self._directories:
            shutil.rmtree(os.path.join(root, f"shuffle-{shuffle}"), ignore_errors=True)


class TestRemovesAll(Broken):
    def make(self, app):
        return RemovesAll(app)


class RemovesNothing(FileShuffleStore):
    def remove(self, shuffle, before):
        pass


class TestRemovesNothing(Broken):
    def make(self, app):
        return RemovesNothing(app)


class OpensAllAtOnce(FileShuffleStore):
    """And leaves open what is not asked for."""

    def open_all(self, pieces):
        readers = [self.open(location, partition) for location, partition, _ in pieces]
        self.kept = [*getattr(self, "kept", ()), *readers]
        return iter(readers)


class TestOpensAllAtOnce(Broken):
    def make(self, app):
        return OpensAllAtOnce(app)


class LargestFirst(FileShuffleStore):
    """As that takes longest."""

    def open_all(self, pieces):
        return super().open_all(sorted(pieces, key=lambda piece: -sum(piece[2])))


class TestLargestFirst(Broken):
    def make(self, app):
        return LargestFirst(app)


class WantsAnAddress(FileShuffleStore):
    def use(self, files):
        self.address = files.address


class TestWantsAnAddress(Broken):
    def make(self, app):
        return WantsAnAddress(app)


class OneForEach(FileShuffleStore):
    """Takes two attempts at a partition for one."""

    def begin(self, output, partitions):
        shuffle, partition, _ = output
        return super().begin((shuffle, partition, 0), partitions)


class TestOneForEach(Broken):
    def make(self, app):
        return OneForEach(app)


class KeepsElsewhere(FileShuffleStore):
    """And never deletes it."""

    def __init__(self, app):
        super().__init__(app)
        self._directories = (os.path.join(tempfile.gettempdir(), app.app_id),)
        os.makedirs(self._directories[0], exist_ok=True)


class TestKeepsElsewhere(Broken):
    def make(self, app):
        return KeepsElsewhere(app)


class RaisesKeyError(FileShuffleStore):
    """Where there is none."""

    def open(self, location, partition):
        if not self.has(location):
            raise KeyError(location)
        return super().open(location, partition)


class TestRaisesKeyError(Broken):
    def make(self, app):
        return RaisesKeyError(app)


class KnowsItsOwn(FileShuffleStore):
    """Finds what it has written itself."""

    def __init__(self, app):
        super().__init__(app)
        self.known = set()

    def begin(self, output, partitions):
        writer = super().begin(output, partitions)
        self.known.add(writer._path)
        return writer

    def has(self, location):
        return location in self.known and super().has(location)


class TestKnowsItsOwn(Broken):
    def make(self, app):
        return KnowsItsOwn(app)
