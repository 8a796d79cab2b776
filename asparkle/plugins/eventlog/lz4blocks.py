"""The stream of LZ4 blocks that Spark's ``lz4`` stands for: lz4-java's LZ4BlockOutputStream, not LZ4's own frames.

A block: the magic, a byte for method and size, the lengths compressed and not, and a checksum of the content, all
little-endian; an empty one ends the stream.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

BLOCK: Final = 1 << 16
_SIZE: Final = 6  # in a block's head: log2 of BLOCK, less 10
_RAW, _LZ4 = 0x10 | _SIZE, 0x20 | _SIZE
_HEAD: Final = struct.Struct("<8sBIII")
_MAGIC: Final = b"LZ4Block"
_SEED: Final = 0x9747B28C
_PRIMES: Final = 2654435761, 2246822519, 3266489917, 668265263, 374761393


class Lz4Blocks:
    """``compress(data, store_size=False)`` makes one block's content: `lz4.block.compress`."""

    def __init__(self, compress: Callable[..., bytes]) -> None:
        self._compress = compress
        self._waiting = b""

    def compress(self, data: bytes) -> bytes:
        """The blocks that are full; the rest waits."""
        data = self._waiting + data
        full = len(data) // BLOCK * BLOCK
        self._waiting = data[full:]
        return b"".join(self._block(data[i : i + BLOCK]) for i in range(0, full, BLOCK))

    def flush(self) -> bytes:
        data, self._waiting = self._waiting, b""
        return self._block(data) if data else b""

    def finish(self) -> bytes:
        return self.flush() + _HEAD.pack(_MAGIC, _RAW, 0, 0, 0)

    def _block(self, data: bytes) -> bytes:
        method, content = _LZ4, self._compress(data, store_size=False)
        if len(content) >= len(data):
            method, content = _RAW, data
        # lz4-java's checksums have 28 bits
        return _HEAD.pack(_MAGIC, method, len(content), len(data), xxh32(data, _SEED) & 0x0FFFFFFF) + content


def xxh32(data: bytes, seed: int = 0) -> int:
    """XXH32, as Yann Collet's specification of xxHash has it."""
    p1, p2, p3, p4, p5 = _PRIMES
    mask = 0xFFFFFFFF
    length = len(data)
    stripes = length & ~15
    if stripes:
        a, b, c, d = (seed + p1 + p2) & mask, (seed + p2) & mask, seed & mask, (seed - p1) & mask
        for i, j, k, m in struct.iter_unpack("<4I", memoryview(data)[:stripes]):
            a = (a + i * p2) & mask
            a = ((a << 13 | a >> 19) * p1) & mask
            b = (b + j * p2) & mask
            b = ((b << 13 | b >> 19) * p1) & mask
            c = (c + k * p2) & mask
            c = ((c << 13 | c >> 19) * p1) & mask
            d = (d + m * p2) & mask
            d = ((d << 13 | d >> 19) * p1) & mask
        total = (a << 1 | a >> 31) + (b << 7 | b >> 25) + (c << 12 | c >> 20) + (d << 18 | d >> 14)
    else:
        total = seed + p5
    total = (total + length) & mask
    words = length & ~3
    for (word,) in struct.iter_unpack("<I", memoryview(data)[stripes:words]):
        total = (total + word * p3) & mask
        total = ((total << 17 | total >> 15) * p4) & mask
    for byte in data[words:]:
        total = (total + byte * p5) & mask
        total = ((total << 11 | total >> 21) * p1) & mask
    total = ((total ^ total >> 15) * p2) & mask
    total = ((total ^ total >> 13) * p3) & mask
    return total ^ total >> 16
