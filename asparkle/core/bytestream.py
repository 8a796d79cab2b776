"""Messages on a byte stream: each is plain data as msgpack, with its length in front."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import msgpack

_LENGTH = struct.Struct("<I")
_MOST = 1 << 31


def pack(message: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """``message`` as bytes; ``default`` as msgpack has it."""
    body: bytes = msgpack.packb(message, default=default)
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Cuts a byte stream into messages: `feed` what was received, and take what is whole."""

    most: int | None = None
    """Bytes that a message may have; None: any number."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """Raises ValueError for what is no message."""
        messages = []
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        while end - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            body = start + _LENGTH.size
            if self.most is not None and length > self.most:
                raise ValueError(f"{bytes(buffer[start : start + 40])!r}")
            if end - body < length:
                break
            with memoryview(buffer) as view, view[body : body + length] as whole:
                messages.append(msgpack.unpackb(whole, strict_map_key=False, max_bin_len=_MOST, max_str_len=_MOST))
            start = body + length
        if start:
            del buffer[:start]
        return messages
