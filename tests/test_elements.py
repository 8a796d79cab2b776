"""Looking at elements: what can't change, and how large things are."""

from __future__ import annotations

import datetime
import decimal
import pathlib
import sys
import uuid

import pytest

from asparkle.core.elements import estimate_size, is_immutable

# ------------------------------------------------------------------------------------ is_immutable


class SubStr(str):
    pass


IMMUTABLE = [
    None,
    True,
    1,
    1.5,
    1j,
    "s",
    b"b",
    decimal.Decimal(1),
    datetime.date.today(),
    datetime.datetime.now(),
]
IMMUTABLE += [
    datetime.timedelta(1),
    datetime.time(1),
    uuid.UUID(int=1),
    pathlib.Path("x"),
    (1, ("a", frozenset([2]))),
    (),
    range(3),
]


@pytest.mark.parametrize("x", IMMUTABLE, ids=repr)
def test_immutable(x):
    assert is_immutable([x]) and is_immutable([1, (x,), "a"])


@pytest.mark.parametrize(
    "x", [[], {}, set(), bytearray(), SubStr("a"), object(), ([],), (1, (2, {})), iter(())], ids=repr
)
def test_not_immutable(x):
    assert not is_immutable([x]) and not is_immutable([1, (x,), "a"])


def test_numpy_scalars_are_immutable_and_arrays_are_not():
    np = pytest.importorskip("numpy")
    assert is_immutable([np.float64(1), np.int8(2), np.str_("a"), (np.bool_(True),), np.datetime64(1, "s")])
    assert not is_immutable([np.zeros(3)])
    assert not is_immutable([np.zeros(1, dtype=[("a", "i4")])[0]]), "a structured scalar can be assigned to"


def test_deep_nesting_is_in_doubt():
    nested = ()
    for _ in range(100):
        nested = (nested,)
    assert not is_immutable([nested])


# ----------------------------------------------------------------------------------- estimate_size


def exact(obj, seen=None):
    seen = set() if seen is None else seen
    if id(obj) in seen:
        return 0
    seen.add(id(obj))
    size = sys.getsizeof(obj)
    if isinstance(obj, dict):
        return size + sum(exact(k, seen) + exact(v, seen) for k, v in obj.items())
    if isinstance(obj, (list, tuple, set, frozenset)):
        return size + sum(exact(x, seen) for x in obj)
    if hasattr(obj, "__dict__"):
        return size + exact(obj.__dict__, seen)
    return size


class Plain:
    def __init__(self, i):
        self.i, self.name = i, f"name {i}"


@pytest.mark.parametrize(
    "elements",
    [
        [i + 1000 for i in range(10_000)],
        [i / 7 for i in range(10_000)],
        [f"text number {i}" for i in range(10_000)],
        [f"{i}" * (i % 50) for i in range(10_000)],
        [(i + 1000, f"v{i}") for i in range(10_000)],
        [{"id": i + 1000, "tags": [f"t{i}", f"u{i}"]} for i in range(2_000)],
        [list(range(1000, 1000 + i % 200)) for i in range(1000)],
        [Plain(i + 1000) for i in range(1000)],
        [b"x" * 100_000 + b"%d" % i for i in range(10)],
        [[f"s{i}" for i in range(100_000)]],
        {i + 1000: f"v{i}" for i in range(10_000)},
    ],
    ids=["ints", "floats", "strs", "uneven", "pairs", "dicts", "lists", "objects", "big", "one_list", "dict"],
)
def test_the_estimate_is_within_a_factor_of_two(elements):
    assert exact(elements) / 2 < estimate_size(elements) < exact(elements) * 2


def test_estimates_of_arrays_count_their_data():
    np = pytest.importorskip("numpy")
    assert estimate_size(np.zeros(10**6)) == pytest.approx(8 * 10**6, rel=0.01)
    assert estimate_size([(i, np.zeros(1000)) for i in range(1000)]) == pytest.approx(8_000_000, rel=0.1)


def test_estimates_end_on_anything():
    loop = []
    loop.append(loop)
    assert estimate_size(loop) > 0
    assert estimate_size([]) > 0

    class Liar:
        def __sizeof__(self):
            raise RuntimeError

        def __getattr__(self, name):
            raise RuntimeError(name)

    assert estimate_size([Liar()]) > 0
