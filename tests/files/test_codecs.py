"""Compressed files, whoever wrote them; damaged ones are named."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.core.codecs import codec_named, decompressed, load_codec
from asparkle.core.errors import CorruptInput, MissingDependency

lz4_frame = pytest.importorskip("lz4.frame", reason="lz4 is not installed")
zstandard = pytest.importorskip("zstandard")

OTHERS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "deflate": zlib.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "lz4": lz4_frame.compress,
}
# "hello world\n" * 5, which Spark 4.3 saved with Lz4Codec
SPARKS_LZ4 = b"\x00\x00\x00<\x00\x00\x00\x16\xcfhello world\n\x0c\x00\x18Porld\n"


def read(data: bytes, codec: str) -> bytes:
    return b"".join(decompressed(io.BytesIO(data), load_codec(codec_named(codec)), "/the/file"))


def write(content: bytes, codec: str) -> bytes:
    buffer = io.BytesIO()
    with load_codec(codec_named(codec)).write(buffer) as file:
        file.write(content)
    return buffer.getvalue()


@pytest.mark.parametrize("codec", OTHERS)
@given(parts=st.lists(st.binary(max_size=1000), min_size=1, max_size=3), repeat=st.integers(1, 300))
def test_what_is_written_is_read_and_so_are_several_members(codec, parts, repeat):
    whole = b"".join(parts) * repeat
    assert read(write(whole, codec), codec) == whole
    assert read(b"".join(OTHERS[codec](part) for part in parts), codec) == b"".join(parts)


def test_sparks_lz4():
    assert read(SPARKS_LZ4, "lz4") == b"hello world\n" * 5


@pytest.mark.parametrize("codec", OTHERS)
@pytest.mark.parametrize(
    "make", [lambda codec, content: write(content, codec), lambda codec, content: OTHERS[codec](content)]
)
def test_a_file_that_is_cut_off_is_named(codec, make):
    data = make(codec, bytes(range(256)) * 50)
    for end in (len(data) - 1, len(data) // 2, 5):
        with pytest.raises(CorruptInput, match="'/the/file'"):
            read(data[:end], codec)


@pytest.mark.parametrize("codec", OTHERS)
def test_what_is_no_such_file_is_named(codec):
    with pytest.raises(CorruptInput, match="'/the/file'"):
        read(b"\x00\x00\x01\x00plain text, and not compressed at all" * 10, codec)


def test_a_length_that_no_block_has_is_named():
    with pytest.raises(CorruptInput, match="'/the/file'"):
        read(b"\xff\xff\xff\xff\x00\x00\x00\x03\x00\x00\x00", "lz4")


def test_a_package_that_is_not_there_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingDependency, match=r"pip install 'asparkle\[compression\]'"):
        codec_named("org.apache.hadoop.io.compress.ZStandardCodec")
    with pytest.raises(MissingDependency):
        read(OTHERS["zstd"](b"x"), "zstd")


class Interrupted:
    """A file on another machine, which stops answering."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, count: int) -> bytes:
        if not self.data:
            raise TimeoutError("no answer")
        part, self.data = self.data[:count], self.data[count:]
        return part


@pytest.mark.parametrize("codec", OTHERS)
def test_a_connection_that_is_lost_is_not_a_damaged_file(codec):
    data = OTHERS[codec](bytes(range(256)) * 50)
    with pytest.raises(TimeoutError, match="no answer"):
        list(decompressed(Interrupted(data[:-20]), load_codec(codec_named(codec)), "/the/file"))


def test_a_deflate_file_whose_last_bytes_can_not_be_written_is_closed():
    """If not, it would be tried again when the object goes."""

    class Full(io.BytesIO):
        def write(self, data):
            raise OSError("no space left")

    file = load_codec(codec_named("deflate")).write(Full())
    with pytest.raises(OSError, match="no space left"):
        file.close()
    assert file.closed
