"""Files and directories as one file, for their way to another host."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import NamedTuple

from asparkle.core.errors import StorageError
from asparkle.core.payloads import remove_file
from asparkle.core.protocol import FileRef


class Member(NamedTuple):
    """``name``: its path in the bundle.  ``file``: where it is, or, of a file, what is in it."""

    name: str
    file: str | bytes


def bundle(members: Iterable[Member], path: str) -> FileRef:
    """A new file at ``path`` of all ``members``: content, permissions, times; links as what they are.  Directories are
    their owner's to change.

    Raises OSError: a member can't be read, or there is no room.
    """
    try:
        with open(path, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as packed:
                for member in members:
                    _add(packed, member)
            return FileRef(path, file.tell())
    except BaseException:
        remove_file(path)
        raise


def _add(packed: tarfile.TarFile, member: Member) -> None:
    if isinstance(member.file, bytes):
        info = tarfile.TarInfo(member.name)
        info.size = len(member.file)
        packed.addfile(info, BytesIO(member.file))
        return
    info = packed.gettarinfo(member.file, member.name)
    info.uid = info.gid = 0  # they belong to who unpacks them, who can move and delete them, too
    info.uname = info.gname = ""
    if info.isdir():
        info.mode |= 0o700
    if info.isreg():
        with open(member.file, "rb") as content:
            packed.addfile(info, content)
    else:
        packed.addfile(info)


def everything_in(directory: str, name: str) -> Iterator[Member]:
    """A directory, as ``name``, and all that is in it."""
    yield Member(name, directory)
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from everything_in(entry.path, f"{name}/{entry.name}")
        else:
            yield Member(f"{name}/{entry.name}", entry.path)


def unbundle(path: str, directory: str) -> None:
    """Unpack what `bundle` has made, in the driver of this application, into a new ``directory``.

    Raises StorageError if there is no room.
    """
    try:
        os.mkdir(directory, 0o700)
        with tarfile.open(path) as packed:
            packed.extraction_filter = lambda member, path: member  # it is trusted as all code is that comes from there
            packed.extractall(directory)
    except OSError as error:
        raise StorageError(directory, error) from error
