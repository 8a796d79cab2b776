"""Storage levels: where a persisted RDD's partitions are kept, and on how many executors."""

from __future__ import annotations

from typing import ClassVar

from asparkle.core.errors import ArgumentError, ArgumentTypeError
from asparkle.core.shown import shown


class StorageLevel:
    """Flags and a replication count, as in PySpark; immutable, equal by value, hashable.

    ``useMemory`` and ``useDisk`` together: in memory, and on disk what does not fit.  ``useOffHeap`` and
    ``deserialized`` are the JVM's; they are kept and printed, and change nothing here.  A partition is
    kept on ``replication`` executors, or on all of them where there are fewer.

    >>> print(StorageLevel.MEMORY_AND_DISK)
    Disk Memory Serialized 1x Replicated

    Raises ArgumentError when ``replication`` is not from 1 to 39, Spark's limits, and
    ArgumentTypeError for a flag that is no bool.
    """

    # A plain class: a dataclass would double the time in which the package is imported.
    __slots__ = ("deserialized", "replication", "useDisk", "useMemory", "useOffHeap")

    useDisk: bool
    useMemory: bool
    useOffHeap: bool
    deserialized: bool
    replication: int

    NONE: ClassVar[StorageLevel]
    DISK_ONLY: ClassVar[StorageLevel]
    DISK_ONLY_2: ClassVar[StorageLevel]
    DISK_ONLY_3: ClassVar[StorageLevel]
    MEMORY_ONLY: ClassVar[StorageLevel]
    MEMORY_ONLY_2: ClassVar[StorageLevel]
    MEMORY_AND_DISK: ClassVar[StorageLevel]
    MEMORY_AND_DISK_2: ClassVar[StorageLevel]
    MEMORY_AND_DISK_DESER: ClassVar[StorageLevel]
    OFF_HEAP: ClassVar[StorageLevel]
    # What PySpark before 2.0 called four of them; tutorials still do.
    MEMORY_ONLY_SER: ClassVar[StorageLevel]
    MEMORY_ONLY_SER_2: ClassVar[StorageLevel]
    MEMORY_AND_DISK_SER: ClassVar[StorageLevel]
    MEMORY_AND_DISK_SER_2: ClassVar[StorageLevel]

    def __init__(
        self, useDisk: bool, useMemory: bool, useOffHeap: bool, deserialized: bool, replication: int = 1
    ) -> None:
        flags = {"useDisk": useDisk, "useMemory": useMemory, "useOffHeap": useOffHeap, "deserialized": deserialized}
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise ArgumentTypeError(f"StorageLevel: {name} = {shown(flag)}: expected True or False")
        if not isinstance(replication, int) or isinstance(replication, bool) or not 1 <= replication < 40:
            raise ArgumentError(f"replication = {shown(replication)}: expected a whole number from 1 to 39")
        assign = object.__setattr__
        assign(self, "useDisk", useDisk)
        assign(self, "useMemory", useMemory)
        assign(self, "useOffHeap", useOffHeap)
        assign(self, "deserialized", deserialized)
        assign(self, "replication", replication)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a StorageLevel can't be changed; make another one with its own {name}")

    def _flags(self) -> tuple[bool, bool, bool, bool, int]:
        return self.useDisk, self.useMemory, self.useOffHeap, self.deserialized, self.replication

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorageLevel) and self._flags() == other._flags()

    def __hash__(self) -> int:
        return hash(self._flags())

    def __reduce__(self) -> tuple[type[StorageLevel], tuple[bool, bool, bool, bool, int]]:
        return StorageLevel, self._flags()

    def __repr__(self) -> str:
        return (
            f"StorageLevel({self.useDisk}, {self.useMemory}, {self.useOffHeap}, "
            f"{self.deserialized}, {self.replication})"
        )

    def __str__(self) -> str:
        disk = "Disk " if self.useDisk else ""
        memory = "Memory " if self.useMemory else ""
        off_heap = "OffHeap " if self.useOffHeap else ""
        form = "Deserialized" if self.deserialized else "Serialized"
        return f"{disk}{memory}{off_heap}{form} {self.replication}x Replicated"


StorageLevel.NONE = StorageLevel(False, False, False, False)
StorageLevel.DISK_ONLY = StorageLevel(True, False, False, False)
StorageLevel.DISK_ONLY_2 = StorageLevel(True, False, False, False, 2)
StorageLevel.DISK_ONLY_3 = StorageLevel(True, False, False, False, 3)
StorageLevel.MEMORY_ONLY = StorageLevel(False, True, False, False)
StorageLevel.MEMORY_ONLY_2 = StorageLevel(False, True, False, False, 2)
StorageLevel.MEMORY_AND_DISK = StorageLevel(True, True, False, False)
StorageLevel.MEMORY_AND_DISK_2 = StorageLevel(True, True, False, False, 2)
StorageLevel.MEMORY_AND_DISK_DESER = StorageLevel(True, True, False, True)
StorageLevel.OFF_HEAP = StorageLevel(True, True, True, False)
StorageLevel.MEMORY_ONLY_SER = StorageLevel.MEMORY_ONLY
StorageLevel.MEMORY_ONLY_SER_2 = StorageLevel.MEMORY_ONLY_2
StorageLevel.MEMORY_AND_DISK_SER = StorageLevel.MEMORY_AND_DISK
StorageLevel.MEMORY_AND_DISK_SER_2 = StorageLevel.MEMORY_AND_DISK_2
