"""Checkpoints: an RDD's lineage cut short, its partitions kept in files or, for the context's life, by its executors.

An RDD is marked; the first job that needs it is followed by one that saves it.  Then its node becomes a
`Checkpointed` one, which reads what was saved: its children need not know, and what it was computed from is forgotten.
"""

from __future__ import annotations

import os
import uuid
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import anyio

from asparkle.core.errors import ArgumentError, AsparkleError, CheckpointLost, ContextError, StorageError
from asparkle.core.filesystems import is_remote, local_path
from asparkle.core.lineage import Node, OneToOne, Source
from asparkle.core.loop import in_thread
from asparkle.core.output import OutputDirectory, part_name
from asparkle.core.payloads import map_ref
from asparkle.core.program import Apply, SourceStep, Step, Transform
from asparkle.core.protocol import FileRef, Live
from asparkle.core.serializer import dumps, pack_frame, read_frames
from asparkle.core.storagelevel import StorageLevel
from asparkle.core.transforms import Count, Sink

if TYPE_CHECKING:
    from asparkle.core.plan import Planner, StageBuilder
    from asparkle.core.worker.task import TaskEnvironment

RunJob: TypeAlias = Callable[[Node, Sink], Awaitable[list[Any]]]

_BATCH = 1024  # elements to a frame


class Checkpoint:
    """What was asked for, and whether it is done; ``path``: where, None for a local one."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.done = False
        self.saving: anyio.Event | None = None


class Checkpoints:
    """One per context: the directory, and the RDDs that wait to be saved."""

    def __init__(self) -> None:
        self.directory: str | None = None
        self._waiting: weakref.WeakSet[Node] = weakref.WeakSet()

    def set_directory(self, parent: str) -> None:
        """Make a new directory in ``parent``.  Raises StorageError, and ArgumentError for what is not local."""
        if is_remote(parent):
            raise ArgumentError(
                f"setCheckpointDir: dirName = {parent!r}: checkpoints are kept in directories that all executors "
                "have mounted; to keep an RDD elsewhere, use saveAsPickleFile"
            )
        directory = os.path.join(os.path.abspath(local_path(parent)), str(uuid.uuid4()))
        with _written_in(directory):
            os.makedirs(directory, mode=0o700)
        self.directory = directory

    def request(self, node: Node) -> None:
        """Save ``node`` in files once a job has needed it.  Raises ContextError if nobody said where."""
        if node.checkpoint is not None and node.checkpoint.path is not None:
            return
        if self.directory is None:
            raise ContextError("checkpoint() needs a directory: call setCheckpointDir first")
        node.checkpoint = Checkpoint(os.path.join(self.directory, f"rdd-{node.id}"))
        self._waiting.add(node)

    def request_local(self, node: Node) -> None:
        """Have the executors keep ``node`` once a job has needed it."""
        if node.checkpoint is None:
            node.checkpoint = Checkpoint(None)
            self._waiting.add(node)

    async def after_job(self, final: Node, run: RunJob) -> None:
        """Save what the job that computed ``final`` needed and is still to be saved, parents first; each by ``run``."""
        if not self._waiting:
            return
        from asparkle.core.plan import parents_first

        for node in list(parents_first(final, lambda node: node.parents)):
            checkpoint = node.checkpoint
            while checkpoint is not None and not checkpoint.done:
                if checkpoint.saving is not None:  # by another job
                    await checkpoint.saving.wait()
                    continue
                checkpoint.saving = anyio.Event()
                try:
                    await self._save(node, checkpoint, run)
                finally:
                    checkpoint.saving.set()
                    checkpoint.saving = None

    async def _save(self, node: Node, checkpoint: Checkpoint, run: RunJob) -> None:
        if checkpoint.path is None:
            await run(node, Count())  # computes those partitions that are not kept yet
            become(node, KeptByExecutors(node.num_partitions))
        else:
            output = OutputDirectory(checkpoint.path, (), replace=True)
            with _written_in(checkpoint.path):
                await output.fill(WriteFrames(), partial(run, node))
                files = await in_thread(_parts, checkpoint.path, node.num_partitions)
            become(node, Saved(files))
        checkpoint.done = True
        self._waiting.discard(node)


@contextmanager
def _written_in(directory: str) -> Iterator[None]:
    try:
        yield
    except AsparkleError:
        raise
    except OSError as error:
        remedy = "free space there, or name another directory in setCheckpointDir"
        raise StorageError(directory, error, remedy) from error


def _parts(directory: str, partitions: int) -> list[FileRef]:
    paths = [os.path.join(directory, part_name(partition, "")) for partition in range(partitions)]
    return [FileRef(path, os.path.getsize(path)) for path in paths]


def become(node: Node, source: Source) -> None:
    """Have ``node``, which is prepared, be read from ``source`` from now on, and forget what it was computed from.

    Jobs that are planned already go on as they are: they hold the steps that they compute, and of the node at most
    what a source has for their tasks.
    """
    source.set_prepared(node.num_partitions)
    source.prepared = True
    new = Checkpointed((source,))
    new.set_prepared(node.num_partitions, (OneToOne(source),), node.partitioner)
    new.prepared = True
    for name in ("id", "name", "storage_level", "checkpoint"):
        setattr(new, name, getattr(node, name))
    if isinstance(node, Source):
        new.former = object.__new__(type(node))
        new.former.__dict__ = node.__dict__
    node.__class__ = Checkpointed
    node.__dict__ = new.__dict__


class Checkpointed(Node):
    """What a node becomes once it is saved."""

    async def prepare(self, planner: Planner) -> None:
        """It is prepared from the beginning."""

    def build(self, builder: StageBuilder) -> Step:
        return Apply(builder.index(self.parents[0]), Same())


class Same(Transform):
    __slots__ = ()
    per_element = True

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        return elements

    def __reduce__(self) -> tuple[Any, ...]:
        return (Same, ())


class Saved(Source):
    """Partitions in files."""

    def __init__(self, files: Sequence[FileRef]) -> None:
        super().__init__()
        self.files = files

    async def prepare(self, planner: Planner) -> None:
        """It is prepared from the beginning."""

    def payload(self, partition: int) -> object:
        return Live(tuple(self.files[partition]))

    def build(self, builder: StageBuilder) -> Step:
        return ReadSaved()


class KeptByExecutors(Source):
    """Partitions that executors keep: to compute one is to find that it is lost."""

    def __init__(self, partitions: int) -> None:
        super().__init__()
        self.partitions = partitions

    async def prepare(self, planner: Planner) -> None:
        """It is prepared from the beginning."""

    def build(self, builder: StageBuilder) -> Step:
        return ReadLost()


class ReadSaved(SourceStep):
    __slots__ = ()

    def __init__(self) -> None:
        self.cached = None

    def compute(self, program: Any, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        view = map_ref(FileRef(*task.data(self.index, partition)))
        return (element for batch in read_frames(view, 0, len(view)) for element in batch)


class ReadLost(Step):
    __slots__ = ()

    def __init__(self) -> None:
        self.cached = None

    def compute(self, program: Any, partition: int, task: TaskEnvironment) -> Iterator[Any]:
        raise CheckpointLost(partition)


class WriteFrames:
    """Elements as frames, each of a list of them."""

    extension = ""

    def __call__(self, elements: Iterator[Any], file: IO[bytes]) -> None:
        while batch := list(islice(elements, _BATCH)):
            file.writelines(pack_frame(dumps(batch)))


def local_level(level: StorageLevel) -> StorageLevel:
    """``level``, or the usual one for none, on disk as well: what does not fit into memory must not be dropped."""
    if not level.useMemory and not level.useDisk:
        return StorageLevel.MEMORY_AND_DISK
    return StorageLevel(True, level.useMemory, level.useOffHeap, level.deserialized, level.replication)
