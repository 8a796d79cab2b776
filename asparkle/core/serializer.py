"""Data as bytes: pickle protocol 5 with out-of-band buffers, and the frames that files are made of.

A *frame* is one object in a file or a message::

    header   32 bytes: magic, checksum of table and pickle, length of the pickle, whole length,
             number of buffers, the header's own checksum
    table    16 bytes per out-of-band buffer: length, checksum
    pickle   and zeros up to a multiple of 64
    buffers  each padded to a multiple of 64

so that frames which follow each other from an aligned start keep every buffer aligned, and an array read
from a memory map needs no copy.  Which checksum: zlib.crc32 runs at 3.5 GB/s on the machines this was
tuned on (adler32: 2.6, blake2b: 0.7), which is nothing beside unpickling, so headers, tables and pickles are
checked in full.  128 MB of arrays, however, would cost 37 ms to write and again to read, half of what
moving them costs; a buffer above `FULL_CHECK` bytes is therefore checked by its length and by
`SAMPLES` blocks of 4 KB spread evenly over it, first and last included.  That finds truncated, torn and
overwritten files; a flipped bit in the middle of a large array is left to the disk's own checksums.
"""

from __future__ import annotations

import mmap
import os
import pickle
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias
from zlib import crc32

from asparkle.core.contracts import Buffer
from asparkle.core.errors import AsparkleError, CorruptBlock, PicklingFailed, TaskKilled
from asparkle.core.shown import shown

if TYPE_CHECKING:
    from asparkle.core.contracts import AppSpec, Serializer

ALIGNMENT = 64
OUT_OF_BAND = 4096  # smaller buffers stay in the pickle: an entry, padding and a view cost more than a copy
FULL_CHECK = 256 * 1024
SAMPLES = 16
SAMPLE_BYTES = 4096

HEADER = struct.Struct("<4sIQQII")
HEADER_CHECKED = struct.Struct("<4sIQQI")
ENTRY = struct.Struct("<QII")
MAGIC = b"ASF1"
MAX_BUFFERS = 1 << 24
IOV_MAX = 1024
_ZEROS = bytes(ALIGNMENT)
_MAIN = {"__main__"}


Dumps: TypeAlias = Callable[[Any], Sequence[Buffer]]
Loads: TypeAlias = Callable[[Sequence[Buffer]], Any]


# --------------------------------------------------------------------------------------------- pickling


def dumps(obj: object) -> list[Buffer]:
    """``[pickle, *buffers]``: buffers of 4 KB and more (numpy arrays, ...) are views, not copies.

    Plain pickle, which is quick; what it can't do (lambdas, instances of classes that live where workers
    can't import them: see `goes_by_value`) goes through cloudpickle.  Raises `PicklingFailed` if neither can.
    """
    buffers: list[Buffer] = []
    keep = _out_of_band(buffers)
    try:
        data = pickle.dumps(obj, protocol=5, buffer_callback=keep)
    except (pickle.PicklingError, AttributeError, TypeError, RecursionError):
        data = None
    if data is None or any(name.encode() in data for name in _modules_by_value()):
        buffers.clear()
        data = _cloud_dumps(obj, keep)
    return [data, *buffers]


def goes_by_value(module: str | None) -> bool:
    """Whether functions and classes of a module are sent as they are, because workers could not import them:
    those of ``__main__``, of no module, and of those named to `cloudpickle.register_pickle_by_value`."""
    if module is None:
        return True
    return any(module == name or module.startswith(f"{name}.") for name in _modules_by_value())


def _modules_by_value() -> Iterable[str]:
    cloudpickle = sys.modules.get("cloudpickle")
    return _MAIN if cloudpickle is None else _MAIN | cloudpickle.list_registry_pickle_by_value()


def loads(buffers: Sequence[Buffer]) -> Any:
    """The inverse of `dumps`; arrays are views of the buffers and as writable as those."""
    return pickle.loads(buffers[0], buffers=buffers[1:])


class Elements:
    """How a context's elements become bytes: its serializer, whose errors name what it could not do."""

    __slots__ = ("_dumps", "is_pickle", "loads")

    def __init__(self, serializer: Serializer) -> None:
        self._dumps = serializer.dumps
        self.loads = serializer.loads
        self.is_pickle = serializer.is_pickle

    def dumps(self, value: Any) -> Sequence[Buffer]:
        """The serializer's.  Raises `PicklingFailed` where that raises anything."""
        try:
            return self._dumps(value)
        except (AsparkleError, TaskKilled):
            raise
        except Exception as error:
            raise PicklingFailed(f"{shown(value)}, with {_owner(self._dumps)}", reason=str(error)) from error


def _owner(method: Any) -> str:
    return type(getattr(method, "__self__", method)).__qualname__


def load_elements(app: AppSpec) -> Elements:
    """Those of the application's serializer.  Raises ConfigurationError for one that can't be used."""
    from asparkle.core.contracts import Serializer
    from asparkle.core.loading import made

    return Elements(made(app.serializer, Serializer, app))


def _out_of_band(buffers: list[Buffer]) -> Callable[[pickle.PickleBuffer], bool]:
    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < OUT_OF_BAND or len(buffers) >= MAX_BUFFERS:
            return True  # in band
        buffers.append(raw)
        return False

    return keep


def _cloud_dumps(obj: object, keep: Callable[[pickle.PickleBuffer], bool]) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(obj, protocol=5, buffer_callback=keep))
    except Exception as error:
        raise PicklingFailed(_describe_culprit(obj), reason=str(error)) from error


def _describe_culprit(obj: object) -> str:
    """Name the smallest part of ``obj`` that can't be pickled, looking into plain containers."""
    import cloudpickle

    parts: Iterable[object] = ()
    if isinstance(obj, dict):
        parts = chain(obj.keys(), obj.values())
    elif isinstance(obj, (list, tuple, set, frozenset)):
        parts = obj
    for part in parts:
        try:
            cloudpickle.dumps(part)
        except Exception:
            inner = _describe_culprit(part)
            whole = isinstance(obj, tuple) and not inner.startswith("the record")
            return f"the record {shown(obj)}, which holds {inner}" if whole else inner
    return f"{shown(obj)} of type {type(obj).__module__}.{type(obj).__qualname__}"


# ----------------------------------------------------------------------------------------------- frames


def pack_frame(chunks: Sequence[Buffer]) -> list[Buffer]:
    """The frame that holds ``chunks`` (as from `dumps`), as buffers to write one after the other: views
    of the chunks, headers and padding.  Together they are a multiple of 64 bytes long."""
    data = chunks[0]
    nbytes = len(data)
    buffers = [memoryview(b).cast("B") for b in chunks[1:]]
    table = b"".join([ENTRY.pack(len(b), _buffer_checksum(b), 0) for b in buffers])
    head = HEADER.size + len(table) + nbytes
    total = _aligned(head) + sum([_aligned(len(b)) for b in buffers])
    body_checksum = crc32(data, crc32(table))
    checked = HEADER_CHECKED.pack(MAGIC, body_checksum, nbytes, total, len(buffers))
    header = checked + crc32(checked).to_bytes(4, "little")
    packed: list[Buffer] = [header + table, data, _ZEROS[: -head % ALIGNMENT]]
    for b in buffers:
        packed += (b, _ZEROS[: -len(b) % ALIGNMENT])
    return packed


def write_all(fd: int, parts: Sequence[Buffer]) -> int:
    """Write all of ``parts`` to ``fd``, gathered; go on after partial writes.  The bytes written."""
    views = [memoryview(p).cast("B") for p in parts if len(p)]
    total = sum(map(len, views))
    start = 0
    while start < len(views):
        written = os.writev(fd, views[start : start + IOV_MAX])
        while start < len(views) and written >= len(views[start]):
            written -= len(views[start])
            start += 1
        if written:
            views[start] = views[start][written:]
    return total


def read_frame(view: memoryview, offset: int = 0, load: Loads = loads) -> tuple[Any, int]:
    """The object of the frame at ``offset`` (a multiple of 64), and the offset after it.

    ``load``: makes it of the chunks that `pack_frame` was given.

    No copy is made: arrays are views of ``view``, writable where ``view`` is (`map_file` makes it so,
    copy-on-write).  Raises `CorruptBlock` if the frame is not whole and as it was written.
    """
    chunks, end = _unpack_frame(view, offset)
    return load(chunks), end


def read_frames(view: memoryview, offset: int, end: int, load: Loads = loads) -> Iterable[Any]:
    """The objects of all frames from ``offset`` to ``end``, lazily; `CorruptBlock` as for `read_frame`."""
    while offset < end:
        obj, offset = read_frame(view, offset, load)
        yield obj
    if offset != end:
        raise CorruptBlock(f"frames end at {offset}, {end} expected")


def frame_length(header: Buffer) -> int:
    """The whole length of the frame that begins with ``header`` (at least `HEADER.size` bytes)."""
    return _parse_header(memoryview(header), 0)[3]


def _parse_header(view: memoryview, offset: int) -> tuple[int, int, int, int]:
    """Checksum of table and pickle, length of the pickle, number of buffers, length of the frame."""
    if len(view) - offset < HEADER.size:
        raise CorruptBlock(f"a frame is cut off in its header, {len(view) - offset} bytes from the end")
    magic, checksum, nbytes, total, count, own = HEADER.unpack_from(view, offset)
    if magic != MAGIC or crc32(view[offset : offset + HEADER_CHECKED.size]) != own:
        raise CorruptBlock(f"no frame at offset {offset}: its header is damaged")
    return checksum, nbytes, count, total


def _unpack_frame(view: memoryview, offset: int) -> tuple[list[Buffer], int]:
    checksum, nbytes, count, total = _parse_header(view, offset)
    if total > len(view) - offset:
        raise CorruptBlock(f"the frame at offset {offset} has {total} bytes, {len(view) - offset} are there")
    table = offset + HEADER.size
    data = table + ENTRY.size * count
    end = data + nbytes
    if crc32(view[table:end]) != checksum:
        raise CorruptBlock(f"the frame at offset {offset} has a wrong checksum")
    chunks: list[Buffer] = [view[data:end]]
    position = offset + _aligned(end - offset)
    for length, expected, _ in ENTRY.iter_unpack(view[table:data]):
        buffer = view[position : position + length]
        if _buffer_checksum(buffer) != expected:
            raise CorruptBlock(f"a buffer of {length} bytes at offset {position} has a wrong checksum")
        chunks.append(buffer)
        position += _aligned(length)
    return chunks, offset + total


def _aligned(n: int) -> int:
    return (n + ALIGNMENT - 1) & -ALIGNMENT


def _buffer_checksum(view: memoryview) -> int:
    n = len(view)
    if n <= FULL_CHECK:
        return crc32(view)
    checksum = n & 0xFFFFFFFF
    last = n - SAMPLE_BYTES
    for i in range(SAMPLES):
        at = last * i // (SAMPLES - 1)
        checksum = crc32(view[at : at + SAMPLE_BYTES], checksum)
    return checksum


def map_file(path: str) -> memoryview:
    """The whole of the file at ``path``, mapped copy-on-write: writing to it changes this process's view,
    never the file.  Empty for an empty file.  The map lives as long as a view of it does.

    The caller must not let the file be truncated while it is mapped (files are published whole, by
    rename, and deleted, never cut); what was cut before fails the checks of `read_frame`.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) if size else b"")
