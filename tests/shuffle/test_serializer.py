"""Frames: what was written comes back, or CorruptBlock."""

from __future__ import annotations

import datetime
import decimal
import gc
import io
import os
import pathlib
import pickle
import sys
import threading
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.core.errors import PicklingFailed
from asparkle.core.serializer import (
    CorruptBlock,
    dumps,
    estimate_size,
    is_immutable,
    loads,
    map_file,
    pack_frame,
    read_frame,
    read_frames,
    write_all,
)


def frame(obj):
    return bytearray(b"".join(pack_frame(dumps(obj))))


data = st.recursive(
    st.one_of(st.none(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner), st.tuples(inner, inner)),
)


@given(data)
def test_a_frame_gives_back_what_was_put_in(obj):
    raw = frame(obj)
    assert read_frame(memoryview(raw)) == (obj, len(raw))
    assert len(raw) % 64 == 0
    assert loads(dumps(obj)) == obj


def test_frames_follow_each_other():
    raw = memoryview(frame([1]) + frame("x" * 1000) + frame(None))
    assert list(read_frames(raw, 0, len(raw))) == [[1], "x" * 1000, None]


def write_frame(fd, obj):
    return write_all(fd, pack_frame(dumps(obj)))


def test_frames_are_written_to_files_and_mapped(tmp_path):
    np = pytest.importorskip("numpy")
    path = tmp_path / "block"
    arrays = [np.arange(n, dtype="f8") for n in (3, 1000, 100_000)]
    with open(path, "wb", buffering=0) as file:
        n = write_frame(file.fileno(), arrays)
        n += write_frame(file.fileno(), "next")
    assert path.stat().st_size == n
    view = map_file(str(path))
    back, offset = read_frame(view)
    assert read_frame(view, offset) == ("next", n)
    for a, b in zip(arrays, back, strict=True):
        assert (a == b).all() and b.flags.writeable and b.ctypes.data % (64 if a.nbytes >= 4096 else 1) == 0
        b[:] = -1
    assert (read_frame(map_file(str(path)))[0][2] == arrays[2]).all(), "copy-on-write: the file is as it was"
    del view
    gc.collect()
    assert back[1].sum() == -1000, "the map lives as long as an array in it"


def test_large_buffers_are_not_copied():
    np = pytest.importorskip("numpy")
    array = np.zeros(100_000)
    chunks = dumps({"a": array})
    assert len(chunks[0]) < 1000
    array[5] = 7
    assert loads(chunks)["a"][5] == 7


def test_many_buffers_are_gathered_in_pieces(tmp_path):
    np = pytest.importorskip("numpy")
    arrays = [np.full(600, i, dtype="f8") for i in range(3000)]
    with open(tmp_path / "many", "wb") as file:
        write_frame(file.fileno(), arrays)
    back, _ = read_frame(map_file(str(tmp_path / "many")))
    assert all((a == b).all() for a, b in zip(arrays, back, strict=True))


def test_partial_writes_are_completed():
    read_end, write_end = os.pipe()
    got = io.BytesIO()
    reader = threading.Thread(target=lambda: [got.write(b) for b in iter(lambda: os.read(read_end, 7000), b"")])
    reader.start()
    payload = ["x" * 50_000, b"y" * 1_000_000]
    write_frame(write_end, payload)
    os.close(write_end)
    reader.join()
    os.close(read_end)
    assert read_frame(memoryview(got.getvalue()))[0] == payload


@pytest.mark.parametrize("obj", [[1, 2.5, "text", None], {"k": list(range(50))}, []])
def test_a_frame_cut_anywhere_is_corrupt(obj):
    raw = frame(obj)
    for n in range(len(raw)):
        with pytest.raises(CorruptBlock):
            read_frame(memoryview(raw)[:n])


@pytest.mark.parametrize("with_array", [False, True])
def test_no_flipped_byte_gives_a_wrong_object(with_array):
    obj = ["some text", list(range(30))]
    if with_array:
        np = pytest.importorskip("numpy")
        obj.append(np.arange(600, dtype="i8"))
    raw = frame(obj)
    expected = pickle.dumps(obj)
    for i in range(len(raw)):
        for bit in (1, 128):
            raw[i] ^= bit
            try:
                found, _ = read_frame(memoryview(bytearray(raw)))
            except CorruptBlock:
                pass
            else:
                assert pickle.dumps(found) == expected, f"byte {i}: only padding may change unseen"
            raw[i] ^= bit


def test_a_large_buffer_that_was_overwritten_or_zeroed_is_corrupt():
    np = pytest.importorskip("numpy")
    raw = frame(np.arange(200_000, dtype="i8") + 1)
    for start, end in ((len(raw) - 4096, len(raw)), (len(raw) // 2, len(raw)), (8192, 400_000)):
        torn = bytearray(raw)
        torn[start:end] = bytes(end - start)
        with pytest.raises(CorruptBlock):
            read_frame(memoryview(torn))


@given(st.binary(max_size=300))
def test_garbage_is_corrupt(garbage):
    with pytest.raises(CorruptBlock):
        read_frame(memoryview(garbage))


def test_a_record_may_hold_a_lambda():
    (double,) = loads(dumps([lambda x: 2 * x]))
    assert double(4) == 8


def test_an_instance_of_a_class_of_main_goes_by_value(monkeypatch):
    main = sys.modules["__main__"]
    kind = type(
        "OfMain",
        (),
        {"__module__": "__main__", "__eq__": lambda self, o: type(self).__name__ == type(o).__name__},
    )
    monkeypatch.setattr(main, "OfMain", kind, raising=False)
    chunks = dumps([kind()])
    monkeypatch.delattr(main, "OfMain")
    assert loads(chunks) == [kind()]


def test_text_that_mentions_main_is_text():
    assert loads(dumps(["__main__"])) == ["__main__"]


def test_what_cannot_be_pickled_is_named():
    with pytest.raises(PicklingFailed, match=r"lock.*record \('k'|record \('k'.*lock"):
        dumps(([("j", 1), ("k", threading.Lock())],))


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
