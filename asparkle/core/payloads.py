"""Objects on their way between processes: in the message when small, in a file when large."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from asparkle.core.contracts import Buffer
from asparkle.core.errors import CorruptBlock, StorageError
from asparkle.core.protocol import FileRef, Live, Payload
from asparkle.core.serializer import Dumps, Loads, dumps, loads, map_file, pack_frame, read_frame

Map: TypeAlias = Callable[[FileRef], memoryview]
_PICKLE = b"\x80\x05"  # what a pickle of protocol 5 starts with, and a frame does not


def frame(value: Any, dump: Dumps = dumps) -> bytes:
    """``value`` as one frame."""
    return b"".join(pack_frame(dump(value)))


def load_frame(data: bytes, load: Loads = loads) -> Any:
    """The object of a frame; arrays in it are writable, and nobody else's."""
    return read_frame(memoryview(bytearray(data)), 0, load)[0]


def pack(chunks: Sequence[Buffer], limit: int, path: str, *, is_pickle: bool = True, host: str = "") -> Payload:
    """A pickle and its buffers (`serializer.dumps`) as a message field: bytes up to ``limit``, else a file.

    Not ``is_pickle``: what another serializer gave.  ``host``: whose file it is."""
    size = sum(memoryview(c).nbytes for c in chunks)
    if size > limit:
        return write_file(pack_frame(chunks), path, host)
    return bytes(chunks[0]) if is_pickle and len(chunks) == 1 else b"".join(pack_frame(chunks))


def write_file(pieces: Iterable[Buffer], path: str, host: str = "") -> FileRef:
    """Write ``pieces``, each as it comes, to a new file at ``path`` of this ``host``, which no one sees before it is
    whole, and nobody but its owner ever.

    Of two that write to one path, the file is what the later one wrote.  Raises StorageError."""
    partial = f"{path}.{os.getpid()}-{threading.get_ident()}"
    try:
        try:
            with open(partial, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.writelines(pieces)
                length = file.tell()
            os.rename(partial, path)
        except BaseException:
            remove_file(partial)
            raise
    except OSError as error:
        raise StorageError(os.path.dirname(path), error) from error
    return FileRef(path, length, host)


def remove_file(path: str) -> bool:
    """Delete a file; says whether it was there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def map_ref(ref: FileRef) -> memoryview:
    """The file, mapped copy-on-write.  Raises `CorruptBlock` if it is not as long as it was written."""
    try:
        view = map_file(ref.path)
    except FileNotFoundError:
        raise CorruptBlock(f"{ref.path} is gone") from None
    if len(view) != ref.length:
        raise CorruptBlock(f"{ref.path} has {len(view)} bytes, {ref.length} were written")
    return view


def load(payload: Any, load_chunks: Loads = loads, map: Map = map_ref) -> Any:
    """The object, made anew (except a `Live` one).

    ``load_chunks``: of the serializer that it was packed by.  ``map``: of the process's `HostFiles`, where it is sent
    other hosts' files."""
    kind = type(payload)
    if kind is Live:
        return payload.value
    if kind is bytes:
        return pickle.loads(payload) if payload[:2] == _PICKLE else load_frame(payload, load_chunks)
    return read_frame(map(FileRef(*payload)), 0, load_chunks)[0]
