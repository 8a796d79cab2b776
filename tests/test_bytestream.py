"""Messages on a byte stream come out whole and in order, however the stream is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asparkle.core.bytestream import Unpacker, pack

messages = st.lists(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.integers(0, 9) | st.text(), inner),
    )
)


@given(messages, st.integers(1, 50))
def test_any_stream_cut_anywhere(sent, step):
    stream = b"".join(map(pack, sent))
    unpacker = Unpacker()
    got = [m for start in range(0, len(stream), step) for m in unpacker.feed(stream[start : start + step])]
    assert got == sent


def test_nothing_comes_out_before_it_is_whole():
    stream = pack(["start", "0"])
    unpacker = Unpacker()
    assert [unpacker.feed(bytes([byte])) for byte in stream[:-1]] == [[]] * (len(stream) - 1)
    assert unpacker.feed(stream[-1:] + pack([1])) == [["start", "0"], [1]]
