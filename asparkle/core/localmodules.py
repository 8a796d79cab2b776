"""The driver's own modules, for workers on hosts that do not have them.

A module is the driver's own unless it is Python's or was installed: what lies next to the script, in the working
directory or anywhere else on ``sys.path``, what is installed in place (``pip install -e``), and in archives.  It is
looked up by its name, as an import would, but nothing is imported.  A package goes as a whole, with its data files.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder, all_suffixes
from typing import Final

from asparkle.core.bundles import Member, bundle
from asparkle.core.platforms import Platform
from asparkle.core.protocol import TakeModule

MOST: Final = 64 << 20
"""Bytes that a package's directory may have: what is larger is no code."""

_INSTALLED: Final = ("site-packages", "dist-packages")
_COMPILED: Final = (*EXTENSION_SUFFIXES, ".so", ".dylib")
_HEADER: Final = 512  # bytes that a file takes in a bundle besides its own


class _Refused(Exception):
    """Why a module of the driver's can't be sent."""


class LocalModules:
    """One per driver.  For one thread at a time.

    ``path``: the application's own ``sys.path``, now.  ``directory``: where what is packed goes.
    """

    def __init__(self, path: Callable[[], Sequence[str]], is_others: Callable[[str], bool], directory: str) -> None:
        self._path = path
        self._is_others = is_others
        self._directory = directory
        self._packed = 0
        self._known: dict[str, TakeModule] = {}  # once sent, it stays as it was: for all hosts alike

    def find(self, name: str, missing: bool = True) -> TakeModule:
        """The module, or why it can't be had: never raises.  ``missing``: whether somebody wants to know why."""
        if name in self._known:
            return self._known[name]
        try:
            answer = self._find(name, missing)
        except _Refused as refused:
            return _no(str(refused), refused=True)
        except Exception as error:  # other packages' finders may fail in any way, and files may go meanwhile
            return _no(f"{type(error).__name__}: {error}", refused=True)
        if answer != _NOWHERE:
            self._known[name] = answer
        return answer

    def _find(self, name: str, missing: bool) -> TakeModule:
        if not all(part.isidentifier() for part in name.split(".")):
            return _no("it is no module's name")
        spec = self._spec(name)
        if spec is None or name == "__main__":
            return _NOWHERE
        places = _places(spec)
        own = [place for place in places if is_own(place)]
        if not own:
            if not missing:  # it takes a while to find out to what it belongs
                return _NOWHERE
            return _no(f"where the driver runs, it {_belongs(name, places)}")
        place = name.replace(".", "/") + _suffix(spec)
        members = list(_bounded(own[0], _below_all(own, place) if _is_package(spec) else _file(own[0], place)))
        compiled = next((member.name for member in members if member.name.endswith(_COMPILED)), "")
        ref = bundle(members, os.path.join(self._directory, f"module-{self._packed}"))
        self._packed += 1
        platform = Platform.here()._replace(version=()) if compiled else None  # nobody knows what they need at least
        return TakeModule(-1, ref, place, compiled, platform)

    def _spec(self, name: str) -> ModuleSpec | None:
        """As an import of the module would find it."""
        parent, _, _ = name.rpartition(".")
        places: Sequence[str] | None = None
        if parent:
            above = self._spec(parent)
            if above is None or above.submodule_search_locations is None:
                return None
            places = list(above.submodule_search_locations)
        loaded: ModuleSpec | None = getattr(sys.modules.get(name), "__spec__", None)
        if loaded is not None and not any(map(self._is_others, _places(loaded))):
            return loaded
        for finder in list(sys.meta_path):
            if finder is PathFinder:
                spec = PathFinder.find_spec(name, self._path() if places is None else places)
            else:
                spec = finder.find_spec(name, places)
            if spec is not None:
                return spec
        return None


def _no(reason: str, *, refused: bool = False) -> TakeModule:
    return TakeModule(-1, reason=reason, refused=refused)


_NOWHERE: Final = _no("where the driver runs, there is none, either")


def _is_package(spec: ModuleSpec) -> bool:
    return spec.submodule_search_locations is not None


def _places(spec: ModuleSpec) -> list[str]:
    """The directories of a package, or the file of a module, wherever an archive is; none of what is built in."""
    if spec.submodule_search_locations is not None:
        return list(spec.submodule_search_locations)
    return [spec.origin] if spec.origin is not None and spec.has_location else []


def _suffix(spec: ModuleSpec) -> str:
    """Of a module's file; raises `_Refused` if it is none of Python's."""
    if spec.submodule_search_locations is not None:
        return ""
    found = [suffix for suffix in all_suffixes() if str(spec.origin).endswith(suffix)]
    if not found:
        raise _Refused(f"{spec.origin} is no file of Python's")
    return max(found, key=len)


def is_own(path: str) -> bool:
    """Whether what is there is neither Python's nor installed."""
    path = os.path.join(os.path.abspath(path), "")
    return not any(f"{os.sep}{name}{os.sep}" in path for name in _INSTALLED) and not path.startswith(_pythons())


def is_installed(spec: ModuleSpec) -> bool:
    """Whether no part of a module is anybody's own."""
    return not any(map(is_own, _places(spec)))


@cache
def _pythons() -> tuple[str, ...]:
    found = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(os.path.join(each, "") for path in found for each in (path, os.path.realpath(path)))


def _belongs(name: str, places: Sequence[str]) -> str:
    """To what an installed module belongs, and what to do."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return "is part of Python"
    names = _distributions(tuple(sys.path)).get(top, ())
    distributions = [metadata.distribution(each) for each in dict.fromkeys(names)]
    if len(distributions) > 1:  # they share a namespace
        inner = name.replace(".", "/")
        distributions = [d for d in distributions if _has(d, inner)] or distributions
    if distributions:
        named = " or ".join(f"{d.name} {d.version}" for d in distributions)
        return f"belongs to {named}: install that on the host, too; asparkle.ssh.env=sync brings it to SSH nodes"
    return f"is in {places[0]}, where packages are installed" if places else "is built in"


@cache
def _distributions(path: tuple[str, ...]) -> Mapping[str, Sequence[str]]:
    """By top-level module.  It takes a while, as all that is installed is looked at."""
    return metadata.packages_distributions()


def _has(distribution: metadata.Distribution, inner: str) -> bool:
    return any(str(file).startswith((f"{inner}/", f"{inner}.")) for file in distribution.files or ())


# ------------------------------------------------------------------------------------------- what is in it


def _file(path: str, name: str) -> Iterator[Member]:
    archive, inside = _in_archive(path)
    if archive:
        with zipfile.ZipFile(archive) as packed:
            yield Member(name, packed.read(inside))
    else:
        yield Member(name, os.path.realpath(path))


def _below_all(directories: Sequence[str], name: str) -> Iterator[Member]:
    """What a package has in its directories: of two files with one name, an import finds the first."""
    seen: set[str] = set()
    for directory in directories:
        archive, inside = _in_archive(directory)
        for member in _zipped(archive, inside, name) if archive else _below(directory, name, ()):
            if member.name not in seen:
                seen.add(member.name)
                yield member


def _below(directory: str, name: str, above: tuple[str, ...]) -> Iterator[Member]:
    real = os.path.realpath(directory)
    if real in above:
        raise _Refused(f"{directory} is a link to {real}, in which it lies")
    yield Member(name, real)
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.is_dir():
            if not _is_left_out(entry):
                yield from _below(entry.path, f"{name}/{entry.name}", (*above, real))
        elif entry.is_file():
            yield Member(f"{name}/{entry.name}", os.path.realpath(entry.path))


def _is_left_out(entry: os.DirEntry[str]) -> bool:
    hidden = entry.name.startswith(".") or entry.name == "__pycache__"
    return hidden or os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))


def _in_archive(path: str) -> tuple[str, str]:
    """The archive and the name in it, if the path leads into one."""
    archive = path
    while archive and not os.path.lexists(archive):
        archive, _, _ = archive.rpartition(os.sep)
    if archive != path and os.path.isfile(archive):
        return archive, path[len(archive) + 1 :].replace(os.sep, "/")
    return "", ""


def _zipped(archive: str, inside: str, name: str) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            if info.filename.startswith(f"{inside}/") and not info.is_dir():
                yield Member(name + info.filename[len(inside) :], packed.read(info))


def _bounded(place: str, members: Iterable[Member]) -> Iterator[Member]:
    total = 0
    for member in members:
        total += _HEADER + (len(member.file) if isinstance(member.file, bytes) else os.path.getsize(member.file))
        if total > MOST:
            raise _Refused(
                f"there are more than {MOST >> 20} MB of files in {place}: keep data elsewhere (SparkContext.addFile "
                "brings it), or install the package on the host"
            )
        yield member
