"""Compressed files: by which extension they are known, and how they are read and written.

gzip, bzip2, xz and deflate come with Python; zstd and lz4 are there where their packages are.  Spark's own lz4
files are Hadoop's: blocks, each with its lengths in front.  These are written; frames, which the ``lz4``
command writes, are read as well.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, Final, Literal, cast, get_args

from asparkle.core.errors import ArgumentError, CorruptInput, MissingDependency
from asparkle.core.filesystems import CHUNK

Codec = Literal["gzip", "bzip2", "deflate", "xz", "zstd", "lz4"]
_EXTENSIONS: Final[dict[str, Codec]] = {
    ".gz": "gzip",
    ".bz2": "bzip2",
    ".deflate": "deflate",
    ".xz": "xz",
    ".zst": "zstd",
    ".lz4": "lz4",
}
_UNKNOWN: Final = {".snappy": "Snappy", ".lzo": "LZO", ".lzo_deflate": "LZO"}
CLASSES: Final[dict[str, Codec]] = {
    "GzipCodec": "gzip",
    "BZip2Codec": "bzip2",
    "DefaultCodec": "deflate",
    "DeflateCodec": "deflate",
    "ZStandardCodec": "zstd",
    "Lz4Codec": "lz4",
}
PACKAGE: Final = "org.apache.hadoop.io.compress."

_COMPRESSED: Final = 1 << 14  # bytes decompressed at once where the result's length can't be limited
# What codecs raise for damaged data, by name, as not all are installed.
_DAMAGE: Final = ("error", "LZMAError", "ZstdError", "RuntimeError", "LZ4BlockError", "OverflowError")
_LZ4_FRAME: Final = b"\x04\x22\x4d\x18"
_LZ4_BLOCK: Final = 1 << 16


def codec_named(name: str) -> Codec:
    """The codec that Hadoop's class ``name`` stands for; asparkle's own short names will do, too.

    Raises ArgumentError for another one, MissingDependency where its package is not installed.

    >>> codec_named("org.apache.hadoop.io.compress.GzipCodec")
    'gzip'
    """
    codec = CLASSES.get(name.removeprefix(PACKAGE), cast(Codec, name))
    if codec not in get_args(Codec):
        known = ", ".join([*(PACKAGE + c for c in CLASSES), "xz"])
        raise ArgumentError(f"compressionCodecClass = {name!r}: known are {known}")
    if codec == "zstd":
        _zstd("can't be written")
    elif codec == "lz4":
        _lz4("can't be written")
    return codec


def codec_of(path: str) -> Codec | None:
    """The codec that a file's name says it is compressed with; None for no such name.

    Raises ArgumentError where it is one of Hadoop's that asparkle lacks."""
    extension = os.path.splitext(path)[1].lower()
    if extension in _UNKNOWN:
        raise ArgumentError(f"{path!r}: {_UNKNOWN[extension]} files can't be read; compress it anew, with zstd, say")
    return _EXTENSIONS.get(extension)


def extension_of(codec: Codec | None) -> str:
    """What file names end with; nothing without a codec."""
    return next((extension for extension, name in _EXTENSIONS.items() if name == codec), "")


# ---------------------------------------------------------------------------------------------- reading


def decompressed(file: IO[bytes], codec: Codec, path: str) -> Iterator[bytes]:
    """The content of a compressed file, of all its members one after the other; ``path`` is for errors.

    Raises CorruptInput if the file ends too early or is not what its name says.
    """
    try:
        yield from _READERS[codec](file)
    except EOFError:
        raise CorruptInput(f"the {codec} file is truncated", path) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise CorruptInput(f"the {codec} file is damaged: {error}", path) from error
    except Exception as error:
        if type(error).__name__ not in _DAMAGE:
            raise
        raise CorruptInput(f"the {codec} file is damaged: {error}", path) from error


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _read_gzip(file: IO[bytes]) -> Iterator[bytes]:
    import gzip

    return _chunks(cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb")))


def _read_bzip2(file: IO[bytes]) -> Iterator[bytes]:
    import bz2

    return _chunks(cast("IO[bytes]", bz2.BZ2File(file)))


def _read_xz(file: IO[bytes]) -> Iterator[bytes]:
    import lzma

    return _chunks(cast("IO[bytes]", lzma.LZMAFile(file)))


def _read_deflate(file: IO[bytes]) -> Iterator[bytes]:
    return _members(file, zlib.decompressobj)


def _read_zstd(file: IO[bytes]) -> Iterator[bytes]:
    zstandard = _zstd("can't be read")
    return _members(file, lambda: zstandard.ZstdDecompressor().decompressobj())


def _read_lz4(file: IO[bytes]) -> Iterator[bytes]:
    lz4 = _lz4("can't be read")
    start = file.read(4)
    if start == _LZ4_FRAME:
        return _members(file, lz4.frame.LZ4FrameDecompressor, start)
    return _read_lz4_blocks(file, start, lz4)


def _members(file: IO[bytes], make: Callable[[], Any], data: bytes = b"") -> Iterator[bytes]:
    """What decompressor objects give, a new one for each member; raises EOFError for one that is cut off."""
    decompressor = None
    while data := data or file.read(_COMPRESSED):
        decompressor = decompressor or make()
        if content := decompressor.decompress(data):
            yield content
        data = b""
        if decompressor.eof:
            data, decompressor = decompressor.unused_data or b"", None
    if decompressor is not None:
        raise EOFError


def _read_lz4_blocks(file: IO[bytes], head: bytes, lz4: Any) -> Iterator[bytes]:
    while head:
        (left,) = struct.unpack(">I", _exactly(file, 4 - len(head), head))
        while left:
            (length,) = struct.unpack(">I", _exactly(file, 4))
            content = lz4.block.decompress(_exactly(file, length), uncompressed_size=left)
            left -= len(content)
            yield content
        head = file.read(4)


def _exactly(file: IO[bytes], count: int, data: bytes = b"") -> bytes:
    while count:
        more = file.read(count)
        if not more:
            raise EOFError
        data += more
        count -= len(more)
    return data


_READERS: Final[dict[Codec, Callable[[IO[bytes]], Iterator[bytes]]]] = {
    "gzip": _read_gzip,
    "bzip2": _read_bzip2,
    "deflate": _read_deflate,
    "xz": _read_xz,
    "zstd": _read_zstd,
    "lz4": _read_lz4,
}

# ---------------------------------------------------------------------------------------------- writing


def compressor(file: IO[bytes], codec: Codec) -> IO[bytes]:
    """A file whose content is written to ``file`` compressed.  Closing it ends the compression, not ``file``."""
    if codec == "gzip":
        import gzip

        return cast("IO[bytes]", gzip.GzipFile("", "wb", fileobj=file, compresslevel=6, mtime=0))
    if codec == "bzip2":
        import bz2

        return cast("IO[bytes]", bz2.BZ2File(file, "wb"))
    if codec == "xz":
        import lzma

        return cast("IO[bytes]", lzma.LZMAFile(file, "wb"))
    if codec == "zstd":
        return cast("IO[bytes]", _zstd("can't be written").ZstdCompressor().stream_writer(file, closefd=False))
    if codec == "lz4":
        return cast("IO[bytes]", io.BufferedWriter(_Lz4Blocks(file), _LZ4_BLOCK))
    return cast("IO[bytes]", _Deflated(file))


class _Deflated(io.RawIOBase):
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._compressor = zlib.compressobj()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._file.write(self._compressor.compress(data))
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.write(self._compressor.flush())
        super().close()


class _Lz4Blocks(io.RawIOBase):
    """Hadoop's lz4: each block behind the length of its content and its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lz4 = _lz4("can't be written")

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        taken = bytes(data[:_LZ4_BLOCK])
        block = self._lz4.block.compress(taken, store_size=False)
        self._file.write(struct.pack(">II", len(taken), len(block)) + block)
        return len(taken)


def _zstd(problem: str) -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise MissingDependency(f"zstd files {problem} without zstandard", "asparkle[compression]") from error
    return zstandard


def _lz4(problem: str) -> Any:
    try:
        import lz4.block
        import lz4.frame
    except ImportError as error:
        raise MissingDependency(f"lz4 files {problem} without lz4", "asparkle[compression]") from error
    return lz4
