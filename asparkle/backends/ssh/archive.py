"""What a node is sent: asparkle, the packages that it needs, and those of plugins, as this process has them.

One archive, the same for all nodes and for all applications with the same code::

    zlib:   length of the manifest, 8 hexadecimal digits
            manifest: JSON, a list of [path, size, sha256], by path
            the files, one after the other

Its name is the SHA-256 of its manifest, by which each byte of it, and of what a node has kept of it, can be checked.
Compiled modules go along: msgpack uses its own where the node can load it, and does without elsewhere.
"""

from __future__ import annotations

import functools
import json
import os
import re
import threading
import zlib
from collections.abc import Iterable, Iterator
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from typing import Final, NamedTuple

from asparkle.errors import MissingDependency

LEVEL: Final = 4
"""Of compression: 6 takes twice the time and saves a twentieth."""

_LEFT_OUT = frozenset({"__pycache__", "docs", "test", "tests"})
_NOT_NEEDED = (".c", ".h", ".md", ".pxd", ".pyc", ".pyi", ".pyx", ".rst", "py.typed")


class Archive(NamedTuple):
    """``id``: the same for the same files.  ``data``: what is sent."""

    id: str
    data: bytes


def archive(extra_packages: Iterable[str] = ()) -> Archive:
    """The archive, made when it is first asked for and kept; that takes a tenth of a second: call it in a thread.

    ``extra_packages``: installed packages that go along, by name, with what they require; but a requirement with
    compiled modules has to be on the nodes.  Raises MissingDependency for a package that is not here.
    """
    with _lock:
        return _made(tuple(sorted({*extra_packages})))


_lock = threading.Lock()


@functools.cache
def _made(extra: tuple[str, ...]) -> Archive:
    own = required(["asparkle"])
    files = [each for package in own.values() for each in _files(package)]
    for key, package in required(extra).items():
        found = [] if key in own else [*_files(package)]
        named = key in map(canonical, extra)
        if named or not any(path.endswith(tuple(EXTENSION_SUFFIXES)) for path, _ in found):
            files += found
    files = sorted(dict(files).items())
    manifest = json.dumps([[path, len(content), sha256(content).hexdigest()] for path, content in files]).encode()
    whole = b"".join([b"%08x" % len(manifest), manifest, *(content for _, content in files)])
    return Archive(sha256(manifest).hexdigest(), zlib.compress(whole, LEVEL))


def required(names: Iterable[str]) -> dict[str, Distribution]:
    """Packages, and all that they require: what an extra is for is left out, and what only other systems need."""
    found: dict[str, Distribution] = {}
    waiting = [(name, "") for name in names]
    while waiting:
        name, marker = waiting.pop()
        if canonical(name) in found:
            continue
        try:
            found[canonical(name)] = package = distribution(name)
        except PackageNotFoundError:
            if marker:  # that of another Python or platform; if it holds here, the package is installed
                continue
            raise MissingDependency(f"nodes need the package {name!r}, which is not installed here", name) from None
        for requirement in package.requires or ():
            required, _, marker = requirement.partition(";")
            if not re.search(r"\bextra\b", marker):
                waiting.append((re.split(r"[^\w.-]", required.strip(), maxsplit=1)[0], marker))
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _files(package: Distribution) -> Iterator[tuple[str, bytes]]:
    """Path below a directory of ``sys.path``, and content, of what a package's modules consist of, however it is
    installed; and the few lines that tell its version."""
    metadata = f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {package.version}\n"
    yield f"{canonical(package.name)}-{package.version}.dist-info/METADATA", metadata.encode()
    for module in sorted(_modules(package)):
        spec = find_spec(module)
        if spec is None:
            continue
        if spec.origin is None:  # a namespace, where others' modules may be, too
            for file in package.files or ():
                if file.parts[0] == module and _is_needed(file.parts):
                    yield file.as_posix(), file.read_binary()
        elif spec.submodule_search_locations:
            yield from _below(spec.submodule_search_locations[0], module)
        else:
            yield _read(spec.origin, os.path.basename(spec.origin))


def _modules(package: Distribution) -> set[str]:
    """The top-level modules: its files tell, or, where it is installed by a link to them, its entry points and name."""
    suffixes = (".py", *EXTENSION_SUFFIXES)
    names = {str(file.parts[0]) for file in package.files or () if file.name.endswith(suffixes)}
    names |= {entry.module for entry in package.entry_points}
    modules = {name.partition(".")[0] for name in names} | {canonical(package.name)}
    return {name for name in modules - _LEFT_OUT if name.isidentifier() and not name.startswith("__editable__")}


def _below(directory: str, path: str) -> Iterator[tuple[str, bytes]]:
    for entry in os.scandir(directory):
        inner = f"{path}/{entry.name}"
        if not _is_needed((entry.name,)):
            continue
        if entry.is_dir():
            yield from _below(entry.path, inner)
        elif entry.is_file():
            yield _read(entry.path, inner)


def _is_needed(parts: Iterable[str]) -> bool:
    return not any(part in _LEFT_OUT or part.startswith(".") or part.endswith(_NOT_NEEDED) for part in parts)


def _read(file: str, path: str) -> tuple[str, bytes]:
    with open(file, "rb") as opened:
        return path, opened.read()
