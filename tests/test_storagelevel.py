"""Storage levels have PySpark's names, values and printed forms."""

from __future__ import annotations

import pickle

import pytest

from asparkle.core.errors import ArgumentError
from asparkle.core.storagelevel import StorageLevel

PYSPARK = [  # name, repr and str as PySpark 4.3.0 prints them
    ("DISK_ONLY", "StorageLevel(True, False, False, False, 1)", "Disk Serialized 1x Replicated"),
    ("DISK_ONLY_2", "StorageLevel(True, False, False, False, 2)", "Disk Serialized 2x Replicated"),
    ("DISK_ONLY_3", "StorageLevel(True, False, False, False, 3)", "Disk Serialized 3x Replicated"),
    ("MEMORY_AND_DISK", "StorageLevel(True, True, False, False, 1)", "Disk Memory Serialized 1x Replicated"),
    (
        "MEMORY_AND_DISK_2",
        "StorageLevel(True, True, False, False, 2)",
        "Disk Memory Serialized 2x Replicated",
    ),
    (
        "MEMORY_AND_DISK_DESER",
        "StorageLevel(True, True, False, True, 1)",
        "Disk Memory Deserialized 1x Replicated",
    ),
    ("MEMORY_ONLY", "StorageLevel(False, True, False, False, 1)", "Memory Serialized 1x Replicated"),
    ("MEMORY_ONLY_2", "StorageLevel(False, True, False, False, 2)", "Memory Serialized 2x Replicated"),
    ("NONE", "StorageLevel(False, False, False, False, 1)", "Serialized 1x Replicated"),
    ("OFF_HEAP", "StorageLevel(True, True, True, False, 1)", "Disk Memory OffHeap Serialized 1x Replicated"),
]
OLDER = ["MEMORY_ONLY_SER", "MEMORY_ONLY_SER_2", "MEMORY_AND_DISK_SER", "MEMORY_AND_DISK_SER_2"]


@pytest.mark.parametrize(("name", "representation", "text"), PYSPARK)
def test_constants_print_as_in_pyspark(name, representation, text):
    level = getattr(StorageLevel, name)
    assert (repr(level), str(level)) == (representation, text)


def test_there_are_no_other_constants():
    names = [name for name, _, _ in PYSPARK]
    assert sorted(name for name in vars(StorageLevel) if name.isupper()) == sorted(OLDER + names)


@pytest.mark.parametrize("name", OLDER)
def test_older_names_are_the_newer_ones(name):
    assert getattr(StorageLevel, name) is getattr(StorageLevel, name.replace("_SER", ""))


def test_levels_are_equal_by_value_and_hashable():
    assert StorageLevel(False, True, False, False) == StorageLevel.MEMORY_ONLY
    assert len({StorageLevel(False, True, False, False), StorageLevel.MEMORY_ONLY}) == 1
    assert StorageLevel.MEMORY_ONLY != StorageLevel.MEMORY_ONLY_2
    assert StorageLevel.MEMORY_ONLY != "MEMORY_ONLY"


def test_levels_pickle_and_cannot_be_changed():
    assert pickle.loads(pickle.dumps(StorageLevel.DISK_ONLY_3)) == StorageLevel.DISK_ONLY_3
    with pytest.raises(AttributeError, match="can.t be changed"):
        StorageLevel.DISK_ONLY.replication = 2


@pytest.mark.parametrize("replication", [0, -1, 40, 1.5])
def test_replication_has_limits(replication):
    with pytest.raises(ArgumentError, match=f"replication = {replication}: expected a whole number"):
        StorageLevel(False, True, False, False, replication)
