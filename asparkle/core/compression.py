"""Codecs that come with asparkle.

gzip, bzip2, xz and deflate are Python's; zstd and lz4 are there where their packages are.  Spark's own lz4 files are
Hadoop's: blocks, each with its lengths in front.  These are written; frames, which the ``lz4`` command writes, are
read as well.
"""

from __future__ import annotations

import io
import struct
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import IO, Any, Final, cast

from asparkle.core.contracts import Codec
from asparkle.core.errors import MissingDependency

_CHUNK: Final = 1 << 20  # bytes given at a time
_COMPRESSED: Final = 1 << 14  # bytes decompressed at once where the result's length can't be limited
_COMPRESSED_ZSTD: Final = 1 << 10  # which may stand for 32 MB: a block of 128 KB that repeats one byte takes four
# What codecs raise for damaged data, by name, as not all are installed.
_DAMAGE: Final = ("error", "LZMAError", "ZstdError", "RuntimeError", "LZ4BlockError", "OverflowError")
_LZ4_FRAME: Final = b"\x04\x22\x4d\x18"
_LZ4_BLOCK: Final = 1 << 16


class _Whole:
    """A file that gives all that it is asked for, unless it ends, as gzip takes it to do.

    ``error``: what reading it has raised."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: Exception | None = None

    def read(self, count: int) -> bytes:
        try:
            data = self._file.read(count)
            while 0 < len(data) < count and (more := self._file.read(count - len(data))):
                data += more
        except Exception as error:
            self.error = error
            raise
        return data


class _Codec(Codec):
    """What a package raises for damaged data, in all its ways, is a ValueError here."""

    @abstractmethod
    def _read(self, file: IO[bytes]) -> Iterator[bytes]: ...

    def read(self, file: IO[bytes]) -> Iterator[bytes]:
        whole = _Whole(file)
        try:
            yield from self._read(cast("IO[bytes]", whole))
        except EOFError:
            raise
        except Exception as error:
            if error is whole.error or not (isinstance(error, OSError) or type(error).__name__ in _DAMAGE):
                raise
            raise ValueError(str(error)) from error


class Gzip(_Codec):
    name = "gzip"

    def _read(self, file: IO[bytes]) -> Iterator[bytes]:
        import gzip

        return _chunks(cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb")))

    def write(self, file: IO[bytes]) -> IO[bytes]:
        import gzip

        return cast("IO[bytes]", gzip.GzipFile("", "wb", fileobj=file, compresslevel=6, mtime=0))


class Bzip2(_Codec):
    name = "bzip2"

    def _read(self, file: IO[bytes]) -> Iterator[bytes]:
        import bz2

        return _chunks(cast("IO[bytes]", bz2.BZ2File(file)))

    def write(self, file: IO[bytes]) -> IO[bytes]:
        import bz2

        return cast("IO[bytes]", bz2.BZ2File(file, "wb"))


class Xz(_Codec):
    name = "xz"

    def _read(self, file: IO[bytes]) -> Iterator[bytes]:
        import lzma

        return _chunks(cast("IO[bytes]", lzma.LZMAFile(file)))

    def write(self, file: IO[bytes]) -> IO[bytes]:
        import lzma

        return cast("IO[bytes]", lzma.LZMAFile(file, "wb"))


class Deflate(_Codec):
    name = "deflate"

    def _read(self, file: IO[bytes]) -> Iterator[bytes]:
        return _members(file, zlib.decompressobj)

    def write(self, file: IO[bytes]) -> IO[bytes]:
        return cast("IO[bytes]", _Deflated(file))


class Zstd(_Codec):
    name = "zstd"

    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise MissingDependency("zstd files take zstandard", "asparkle[compression]") from error
        self._zstd: Any = zstandard

    def _read(self, file: IO[bytes]) -> Iterator[bytes]:
        return _joined(
            _members(
                file, lambda: self._zstd.ZstdDecompressor().decompressobj(write_size=1 << 15), step=_COMPRESSED_ZSTD
            )
        )

    def write(self, file: IO[bytes]) -> IO[bytes]:
        return cast("IO[bytes]", self._zstd.ZstdCompressor().stream_writer(file, closefd=False))


class Lz4(_Codec):
    name = "lz4"

    def __init__(self) -> None:
        try:
            import lz4.block
            import lz4.frame
        except ImportError as error:
            raise MissingDependency("lz4 files take lz4", "asparkle[compression]") from error
        self._lz4: Any = lz4

    def _read(self, file: IO[bytes]) -> Iterator[bytes]:
        start = file.read(4)
        if start == _LZ4_FRAME:
            return _members(file, self._lz4.frame.LZ4FrameDecompressor, start)
        return self._read_blocks(file, start)

    def _read_blocks(self, file: IO[bytes], head: bytes) -> Iterator[bytes]:
        while head:
            (left,) = struct.unpack(">I", _exactly(file, 4 - len(head), head))
            while left:
                (length,) = struct.unpack(">I", _exactly(file, 4))
                content = self._lz4.block.decompress(_exactly(file, length), uncompressed_size=left)
                left -= len(content)
                yield content
            head = file.read(4)

    def write(self, file: IO[bytes]) -> IO[bytes]:
        return cast("IO[bytes]", io.BufferedWriter(_Lz4Blocks(file, self._lz4.block.compress), _LZ4_BLOCK))


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _joined(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same in fewer chunks."""
    waiting, size = [], 0
    for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= _CHUNK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _members(file: IO[bytes], make: Callable[[], Any], data: bytes = b"", step: int = _COMPRESSED) -> Iterator[bytes]:
    """What decompressor objects give for ``step`` bytes at a time, a new one for each member; raises EOFError for one
    that is cut off."""
    decompressor = None
    while data := data or file.read(_COMPRESSED):
        decompressor = decompressor or make()
        part, data = data[:step], data[step:]
        if content := decompressor.decompress(part):
            yield content
        if decompressor.eof:
            data, decompressor = (decompressor.unused_data or b"") + data, None
    if decompressor is not None:
        raise EOFError


def _exactly(file: IO[bytes], count: int, data: bytes = b"") -> bytes:
    while count:
        more = file.read(count)
        if not more:
            raise EOFError
        data += more
        count -= len(more)
    return data


class _Deflated(io.RawIOBase):
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._compressor = zlib.compressobj()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._file.write(self._compressor.compress(data))
        return memoryview(data).nbytes

    def close(self) -> None:
        try:
            if not self.closed:
                self._file.write(self._compressor.flush())
        finally:
            super().close()


class _Lz4Blocks(io.RawIOBase):
    """Hadoop's lz4: each block behind the length of its content and its own."""

    def __init__(self, file: IO[bytes], compress: Callable[..., bytes]) -> None:
        self._file = file
        self._compress = compress

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        taken = bytes(data[:_LZ4_BLOCK])
        block = self._compress(taken, store_size=False)
        self._file.write(struct.pack(">II", len(taken), len(block)) + block)
        return len(taken)
