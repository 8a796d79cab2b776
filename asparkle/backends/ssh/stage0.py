"""What a node runs first: it gets asparkle, from its cache or from the driver, and becomes the agent.

The driver sends this file as text: it imports nothing but the standard library until asparkle is there.  Standard input
and output are the channel.  No byte is read beyond what belongs to the conversation::

    driver    a request: archive, its size, directory, environment
    node      {"send": true}, where the archive is not in its cache
    driver    the archive
    node      {"facts": {...}}, or {"refused": why}, and that is the end

What the driver sends has its length in front, 8 hexadecimal digits, but for the archive; what the node says is a line
of JSON.  `asparkle.backends.ssh.archive` tells what an archive is.

The cache is ``$XDG_CACHE_HOME/asparkle`` or ``~/.cache/asparkle``; where that can't be written, ``asparkle-cache-UID``
in the node's directory.  A directory in it is an archive, unpacked, with its manifest, or an environment (see
`asparkle.backends.ssh.environment`).  It appears there whole, is checked before it is used, and mended.  A process that
uses one holds a lock on its manifest; what nobody has used for 30 days is removed when another is added.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

MANIFEST = "asparkle-manifest.json"
UNPACKING = "unpacking-"
DAY = 24 * 60 * 60


class Refused(Exception):
    """Why the node can't take part, and what would help."""


def main() -> None:
    request = json.loads(take(int(take(8), 16)))
    os.environ.update(request["environment"])
    try:
        directory = working_directory(request["directory"])
        code = installed(request["archive"], request["size"], directory)
        sys.path.insert(0, code)
        facts = facts_of(directory, code)
    except Refused as error:
        say({"refused": str(error)})
        sys.exit(1)
    say({"facts": facts})
    from asparkle.backends.ssh.agent import main as agent

    agent(facts)


# -------------------------------------------------------------------------------------------------- the conversation


def take(count: int) -> bytes:
    """So many bytes of standard input.  Ends the process if the driver is gone."""
    parts = []
    while count:
        part = os.read(0, min(count, 1 << 20))
        if not part:
            sys.exit(1)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def say(message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]


def facts_of(directory: str, code: str) -> dict[str, Any]:
    from asparkle.plugins import available_cpus, default_memory

    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "executable": sys.executable,
        "cpus": available_cpus(),  # that this process may use
        "memory": default_memory(),  # likewise, bytes
        "directory": directory,  # for files
        "code": code,  # asparkle's, on sys.path
    }


def working_directory(named: str) -> str:
    """Where the node's files go, made if need be."""
    try:
        directory = os.path.expanduser(named) or tempfile.gettempdir()
        os.makedirs(directory, exist_ok=True)
        os.rmdir(tempfile.mkdtemp(prefix="asparkle-", dir=directory))
    except OSError as error:
        problem = f"directory {named!r}" if named else "temporary directory"
        remedy = "let its user write there, or give the node another `directory`"
        raise Refused(f"{problem}: {error.strerror}; {remedy}") from error
    return directory


# --------------------------------------------------------------------------------------------------------- the cache


def installed(archive: str, size: int, directory: str) -> str:
    """Where the archive is unpacked, asked for if need be."""
    roots = [*caches(directory)]
    if path := found(roots, archive, is_whole):
        return path
    say({"send": True})
    files = unpacked(take(size), archive)
    return kept(roots, "asparkle's code", lambda root: install(files, root, archive))


def caches(directory: str) -> Iterator[str]:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(home):
        yield os.path.join(home, "asparkle")
    yield os.path.join(directory, f"asparkle-cache-{os.getuid()}")


def found(roots: list[str], name: str, is_whole: Callable[[str], bool]) -> str:
    """Where one of the caches has it, whole: from now on it is in use, and is not old.  Empty if none has."""
    for root in roots:
        path = os.path.join(root, name)
        if is_private(root) and in_use(path) and is_whole(path):
            with contextlib.suppress(OSError):  # it may be read only
                os.utime(path)
            return path
    return ""


def kept(roots: list[str], what: str, keep: Callable[[str], str]) -> str:
    """What ``keep`` returns, called with the first of the caches in which that raises no OSError."""
    problems: dict[str, OSError] = {}
    for root in roots:
        try:
            os.makedirs(root, 0o700, exist_ok=True)
            if not is_private(root):
                raise PermissionError(errno.EACCES, "others may write there, too")
            path = keep(root)
        except OSError as error:
            problems[root] = error
        else:
            remove_old(root)
            return path
    told = "; ".join(f"{root}: {error.strerror}" for root, error in problems.items())
    full = any(error.errno in (errno.ENOSPC, errno.EDQUOT) for error in problems.values())
    remedy = "free space" if full else "let its user write"
    raise Refused(f"{what} can't be kept: {told}; {remedy} in one of them, or give the node another `directory`")


def is_private(root: str) -> bool:
    """Whether nobody else could have written there."""
    try:
        found = os.lstat(root)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def in_use(path: str) -> bool:
    """Lock an unpacked archive for as long as this process lives; False if there is none, or it is being removed."""
    try:
        fd = os.open(os.path.join(path, MANIFEST), os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError, BlockingIOError):
        return False
    except OSError:  # a file system without locks
        return True
    return True


def is_whole(path: str) -> bool:
    """Whether an unpacked archive has all of its files, as they were."""
    manifest = content(os.path.join(path, MANIFEST))
    return digest(manifest) == os.path.basename(path) and all(
        digest(content(os.path.join(path, file))) == wanted for file, _, wanted in json.loads(manifest)
    )


def content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def unpacked(data: bytes, archive: str) -> dict[str, bytes]:
    """The files of an archive, and its manifest."""
    try:
        whole = zlib.decompress(data)
        start = 8 + int(whole[:8], 16)
    except (zlib.error, ValueError):
        whole, start = b"", 0
    manifest = whole[8:start]
    files = {MANIFEST: manifest}
    intact = digest(manifest) == archive
    for path, size, wanted in json.loads(manifest) if intact else ():
        files[path] = whole[start : start + size]
        intact = intact and digest(files[path]) == wanted
        start += size
    if not intact:
        raise Refused("asparkle's code was damaged on its way there; try again")
    return files


def install(files: dict[str, bytes], root: str, archive: str) -> str:
    """Where the files are, then: all of them, or none."""
    path, fresh = os.path.join(root, archive), tempfile.mkdtemp(prefix=UNPACKING, dir=root)
    try:
        for name, data in files.items():
            os.makedirs(os.path.dirname(os.path.join(fresh, name)), exist_ok=True)
            with open(os.path.join(fresh, name), "wb") as file:
                file.write(data)
        try:
            os.rename(fresh, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            mend(path, files, fresh)  # what is there is damaged, unless another driver was quicker
        in_use(path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return path


def mend(path: str, files: dict[str, bytes], fresh: str) -> None:
    """Replace the files that are not as they should be; several processes may do so at once."""
    os.utime(path)  # it is not old any more
    for name, data in files.items():
        if content(os.path.join(path, name)) != data:
            os.makedirs(os.path.dirname(os.path.join(path, name)), exist_ok=True)
            os.replace(os.path.join(fresh, name), os.path.join(path, name))


def remove_old(root: str) -> None:
    """Archives that nobody has used for 30 days, and what was left by a process that died unpacking one."""
    for entry in os.scandir(root):
        days = 1 if entry.name.startswith(UNPACKING) else 30
        with contextlib.suppress(OSError), contextlib.ExitStack() as locks:  # in use, or removed by another just now
            if time.time() - entry.stat().st_mtime > days * DAY:
                with contextlib.suppress(FileNotFoundError):
                    manifest = locks.enter_context(open(os.path.join(entry.path, MANIFEST), "r+b"))
                    fcntl.flock(manifest, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry.path)


if __name__ == "__main__":
    main()
