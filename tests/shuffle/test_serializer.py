"""Frames: what was written comes back, or CorruptBlock."""

from __future__ import annotations

import gc
import io
import os
import pickle
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.core.errors import PicklingFailed
from asparkle.core.serializer import (
    CorruptBlock,
    dumps,
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
