"""portable_hash: the same in every process, for equal keys, and as PySpark has it where that is defined."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import os
import pathlib
import subprocess
import sys
import uuid
from collections import Counter, namedtuple
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.core.errors import KeyHashError
from asparkle.core.hashing import partitions_of, portable_hash


class Color(enum.Enum):
    RED = "red"
    GREEN = 2


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.Flag):
    R = enum.auto()
    W = enum.auto()


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    name: str
    note: str = dataclasses.field(default="", compare=False)


Pair = namedtuple("Pair", "a b")


class ByIdentity:
    pass


class OwnHash:
    def __eq__(self, other):
        return isinstance(other, OwnHash)

    def __hash__(self):
        return 77


def pyspark_portable_hash(x):
    """pyspark/core/rdd.py, without its check of PYTHONHASHSEED."""
    if x is None:
        return 0
    if isinstance(x, tuple):
        h = 0x345678
        for i in x:
            h ^= pyspark_portable_hash(i)
            h *= 1000003
            h &= sys.maxsize
        h ^= len(x)
        if h == -1:
            h = -2
        return int(h)
    return hash(x)


numeric = st.one_of(st.none(), st.integers(), st.booleans(), st.floats(allow_nan=False))


@given(st.recursive(numeric, lambda inner: st.lists(inner, max_size=4).map(tuple)))
def test_none_numbers_and_tuples_of_them_hash_as_in_pyspark(key):
    assert portable_hash(key) == pyspark_portable_hash(key)


@given(
    st.lists(st.one_of(st.integers(), st.text(), st.floats(), st.tuples(st.integers(), st.text()))),
    st.integers(1, 50),
)
def test_the_batch_gives_what_single_keys_give(keys, n):
    assert partitions_of(keys, n) == [portable_hash(k) % n for k in keys]


@pytest.mark.parametrize(
    "keys",
    [
        [2**61 - 1, -1, -2, 2**200, 0],
        ["", "é", "\ud800", "a\0b"],
        [1.5, float("nan"), float("inf"), -0.0],
        [(1, "a"), (2, "b")],
        [(1,), (2, 3)],
        [(), ()],
        [True, False],
        [None, None],
        [b"x", b""],
    ],
    ids=repr,
)
def test_batches_of_one_type(keys):
    assert partitions_of(keys, 7) == [portable_hash(k) % 7 for k in keys]


EQUAL = [
    (1, 1.0, True, Decimal(1), Fraction(1), 1 + 0j, Level.LOW),
    (0.0, -0.0, 0, False),
    ("red", type("Sub", (str,), {})("red")),
    (b"ab", memoryview(b"ab")),
    ((1, "a"), Pair(1, "a")),
    (frozenset("abc"), frozenset("cba")),
    (Point(1, "a", "x"), Point(1, "a", "y")),
    (
        dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC),
        dt.datetime(2024, 1, 1, 14, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    ),
    (dt.datetime(2024, 1, 1, 12), dt.datetime(2024, 1, 1, 12, fold=1)),
    (dt.time(12, tzinfo=dt.UTC), dt.time(14, tzinfo=dt.timezone(dt.timedelta(hours=2)))),
    (pathlib.PurePosixPath("a/b"), pathlib.PurePosixPath("a//b"), pathlib.PosixPath("a/b")),
    (pathlib.PureWindowsPath("A/b"), pathlib.PureWindowsPath("a\\B")),
    (range(0), range(3, 1)),
    (range(0, 3, 2), range(0, 4, 2)),
    (dt.timedelta(days=1), dt.timedelta(hours=24)),
]


@pytest.mark.parametrize("keys", EQUAL, ids=lambda ks: type(ks[0]).__name__)
def test_equal_keys_hash_alike(keys):
    assert all(k == keys[0] for k in keys)
    assert len({portable_hash(k) for k in keys}) == 1


def test_different_keys_of_each_type_usually_differ():
    keys = [
        1,
        "a",
        b"b",
        (1, 2),
        (2, 1),
        frozenset([1, 2]),
        frozenset([0, 3]),
        dt.date(2024, 1, 1),
        dt.date(2024, 1, 2),
    ]
    keys += [
        uuid.UUID(int=5),
        pathlib.Path("x"),
        Color.RED,
        Color.GREEN,
        Mode.R,
        Mode.R | Mode.W,
        Point(1, "a"),
        Point(1, "b"),
    ]
    assert len({portable_hash(k) for k in keys}) == len(keys)


def test_every_nan_is_in_one_partition():
    assert {portable_hash(x) for x in (float("nan"), Decimal("nan"), complex("nan"), -float("nan"))} == {0}


def test_numpy_scalars_hash_as_what_they_equal():
    np = pytest.importorskip("numpy")
    for scalar in (np.int64(5), np.uint8(5), np.float32(5), np.float64(5), np.complex128(5)):
        assert portable_hash(scalar) == portable_hash(5)
    assert portable_hash(np.float32(0.1)) == portable_hash(float(np.float32(0.1)))
    assert portable_hash(np.str_("a")) == portable_hash("a")
    assert portable_hash(np.bytes_(b"a")) == portable_hash(b"a")
    assert portable_hash(np.bool_(True)) == portable_hash(True)
    assert portable_hash(np.float64("nan")) == portable_hash(np.datetime64("NaT")) == 0
    assert portable_hash(np.datetime64("2024-01-01")) == portable_hash(np.datetime64("2024-01-01T00:00:00"))
    assert portable_hash(np.timedelta64(1, "D")) == portable_hash(np.timedelta64(24, "h"))
    for kind in (np.int32, np.float32, np.float64, np.bool_, np.uint64):
        keys = [kind(i) for i in range(5)]
        assert (
            partitions_of(keys, 3)
            == [portable_hash(k) % 3 for k in keys]
            == partitions_of(list(map(int, map(bool, keys))) if kind is np.bool_ else list(range(5)), 3)
        )


def test_a_hash_of_the_users_own_is_used():
    assert portable_hash(OwnHash()) == 77


def test_a_str_subclass_with_its_own_hash_keeps_it():
    class Folded(str):
        def __eq__(self, other):
            return self.lower() == other.lower()

        def __hash__(self):
            return hash(len(self))

    assert portable_hash(Folded("ABC")) == portable_hash(Folded("abc")) == hash(3)


@pytest.mark.parametrize(
    "key",
    [ByIdentity(), object(), print, ByIdentity().__init__, ByIdentity, lambda: 0],
    ids=lambda k: type(k).__name__,
)
def test_a_key_with_identity_hashing_only_is_an_error_that_names_its_type(key):
    with pytest.raises(KeyHashError, match=type(key).__qualname__) as raised:
        portable_hash(key)
    assert "__hash__" in str(raised.value)


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ([1], "tuple"),
        ({1: 2}, "tuple"),
        ({1}, "frozenset"),
        (bytearray(b"x"), "bytes"),
        (memoryview(bytearray(b"x")), "hash"),
    ],
)
def test_an_unhashable_key_is_an_error_with_a_remedy(key, remedy):
    with pytest.raises(KeyHashError, match=remedy):
        portable_hash(key)
    with pytest.raises(KeyHashError, match=remedy):
        portable_hash((1, key))


def test_the_memory_of_rules_is_bounded():
    from asparkle.core import hashing

    for i in range(2000):
        portable_hash(type(f"K{i}", (), {"__hash__": lambda self: 1, "__eq__": lambda self, o: True})())
    assert len(hashing._RULES) < 600
    assert portable_hash(Decimal(3)) == 3


@pytest.mark.parametrize("n", [2, 3, 4, 7, 8, 16, 32, 100, 200])
@pytest.mark.parametrize(
    "make",
    [
        lambda i: f"user_{i}",
        lambda i: f"{i:08d}",
        lambda i: f"{2000 + i % 30}-{i // 30 % 12 + 1:02d}-{i // 360 % 28 + 1:02d}",
        lambda i: str(uuid.UUID(int=i * 0x9E3779B97F4A7C15F39CC0605CEDC834 % 2**128)),
        lambda i: f"https://example.org/items/{i}?q=1",
        lambda i: "a" * (i % 100) + "b" * (i // 100),
        lambda i: i,
    ],
    ids=["user", "zeros", "dates", "uuid", "url", "repeats", "int"],
)
def test_partitions_are_even(make, n):
    keys = sorted({make(i) for i in range(10_000)}, key=str)
    sizes = Counter(partitions_of(keys, n))
    mean = len(keys) / n
    assert len(sizes) == n
    assert max(sizes.values()) < mean + 6 * mean**0.5


SCRIPT = """
import sys; sys.path.insert(0, {directory!r})
from test_hashing import *
keys = [None, 1, 2.5, "a", b"b", (1, "x"), frozenset(["a", "b", 3]), dt.date(2024, 1, 1), dt.time(1, 2),
        dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.timedelta(1),
        Decimal("1.5"), uuid.UUID(int=9),
        pathlib.Path("a/b"), Color.RED, Mode.R | Mode.W, Level.LOW, Point(1, "a"), Pair("p", None),
        range(3), float("nan")]
print([portable_hash(k) for k in keys], partitions_of(["a", "b"], 5))
"""


def test_the_hash_does_not_depend_on_pythonhashseed():
    script = SCRIPT.format(directory=os.path.dirname(__file__))
    outputs = set()
    for seed in ("0", "1", "4242"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        outputs.add(subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, check=True).stdout)
    assert len(outputs) == 1
