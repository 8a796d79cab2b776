"""Pickle files, in PySpark's form: SequenceFiles whose values are Java-serialized arrays of pickled batches.

A record holds ten batches, each the pickle of a list of elements (SPARK: RDD.saveAsObjectFile).  The Java form of
a ``byte[][]`` is a fixed prefix, and before each array one of two markers (Java Object Serialization
Specification, 6.4.2).
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import IO, Any, Final

from asparkle.core.errors import CorruptInput
from asparkle.core.filesystems import Options
from asparkle.core.inputfiles import FileSplit
from asparkle.core.metrics import count_input
from asparkle.core.sequencefiles import BYTES, NULL, SequenceWriter, read_raw
from asparkle.core.serializer import dumps

_ARRAYS: Final = b"\xac\xed\x00\x05ur\x00\x03[[BK\xfd\x19\x15gg\xdb7\x02\x00\x00xp"
_FIRST: Final = b"ur\x00\x02[B\xac\xf3\x17\xf8\x06\x08T\xe0\x02\x00\x00xp"
_NEXT: Final = b"uq\x00~\x00\x02"
_TOGETHER: Final = 10
_BEST_SIZE: Final = 1 << 16


def to_java(batches: Iterable[bytes]) -> bytes:
    """A ``byte[][]`` as Java serializes it."""
    batches = list(batches)
    marks = chain((_FIRST,), (_NEXT for _ in batches))
    parts = [part for mark, batch in zip(marks, batches, strict=False) for part in (mark, _length(batch), batch)]
    return b"".join([_ARRAYS, _length(batches), *parts])


def _length(value: Any) -> bytes:
    return struct.pack(">i", len(value))


def from_java(data: bytes) -> list[bytes]:
    """The inverse.  Raises ValueError for anything else."""
    if not data.startswith(_ARRAYS):
        raise ValueError
    at = len(_ARRAYS)
    try:
        (count,) = struct.unpack_from(">i", data, at)
        at += 4
        batches = []
        for i in range(count):
            mark = _NEXT if i else _FIRST
            if not data.startswith(mark, at):
                raise ValueError
            at += len(mark)
            (length,) = struct.unpack_from(">i", data, at)
            at += 4 + length
            if length < 0 or at > len(data):
                raise ValueError
            batches.append(data[at - length : at])
    except struct.error:
        raise ValueError from None
    return batches


class WritePickles:
    """Elements in pickled batches of ``batch_size``; 0: of some 64 KB, -1: all in one."""

    extension = ""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def __call__(self, elements: Iterable[Any], file: IO[bytes]) -> None:
        writer = SequenceWriter(file, NULL, BYTES, None)
        batches = self._batches(iter(elements))
        while together := list(islice(batches, _TOGETHER)):
            value = to_java(together)
            writer.append(b"", _length(value) + value)
        writer.close()

    def _batches(self, elements: Iterator[Any]) -> Iterator[bytes]:
        size = 1 if self.batch_size == 0 else self.batch_size
        while batch := list(elements if size < 0 else islice(elements, size)):
            data = _pickled(batch)
            yield data
            if self.batch_size == 0:
                if len(data) < _BEST_SIZE:
                    size *= 2
                elif len(data) > _BEST_SIZE * 10 and size > 1:
                    size //= 2


def _pickled(batch: list[Any]) -> bytes:
    chunks = dumps(batch)
    if len(chunks) == 1:
        return bytes(chunks[0])
    import cloudpickle  # large buffers are there; in a file they are part of the pickle

    return bytes(cloudpickle.dumps(batch, protocol=5))


def read_pickles(split: FileSplit, options: Options) -> Iterator[Any]:
    """The elements of a piece of a file, which is trusted as code is."""
    for header, _, value in read_raw(split, options):
        try:
            if header.value_class != BYTES:
                raise ValueError
            batches = from_java(value[4:])
        except ValueError:
            raise CorruptInput("it is a SequenceFile, but no pickle file", split.path) from None
        for elements in count_input(map(pickle.loads, batches)):
            yield from elements
