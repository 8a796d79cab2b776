"""The messages between a driver and its zygote: msgpack arrays with their length in front."""

from __future__ import annotations

import struct
from typing import Any

import msgpack

_LENGTH = struct.Struct("<I")


def pack(message: list[Any]) -> bytes:
    body: bytes = msgpack.packb(message)
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Cuts the byte stream into messages."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[list[Any]]:
        self._buffer += data
        messages = []
        while len(self._buffer) >= 4:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if len(self._buffer) - 4 < length:
                break
            messages.append(msgpack.unpackb(self._buffer[4 : 4 + length]))
            self._buffer = self._buffer[4 + length :]
        return messages
