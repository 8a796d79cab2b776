"""What is installed in the driver's environment, as nodes get it: a lock, and wheels made of the installed files.

A wheel is a zip of a package's files and of what is told of it; pip installs the ones that are made here, as it does
those of an index.  The files are those that pip's ``RECORD`` lists; scripts are left out, as their first line names the
driver's Python, and so are compiled ``.pyc`` files.
"""

from __future__ import annotations

import csv
import json
import os
import re
import site
import sys
import sysconfig
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from email.parser import HeaderParser
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from asparkle.backends.ssh.archive import canonical, required
from asparkle.plugins import Platform

LEVEL: Final = 1
"""Of compression: 6 takes three times as long and saves a tenth."""

INSTALLERS: Final = frozenset({"pip", "uv"})  # whoever needs one on a node has it sent

_STEP: Final = 1 << 22  # bytes
_OF_INSTALLING = frozenset({"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"})


class Package(NamedTuple):
    """One that is installed, by pip or uv or what else keeps to their standards."""

    name: str  # as it calls itself
    version: str
    id: str  # the same for the same files
    size: int  # bytes, of its files
    platform: Platform | None  # that its compiled modules are for; None: it has none
    portable: bool  # whether its files are all that it needs
    distribution: Distribution

    @property
    def stem(self) -> str:
        """What the names of its wheel and of directories in it begin with."""
        return f"{canonical(self.name)}-{self.version.replace('-', '_')}"


class Lock(NamedTuple):
    """All that a node gets."""

    id: str  # of all packages, and of the driver's Python
    packages: tuple[Package, ...]  # by name
    left_out: tuple[str, ...]  # names of those that can't be told from the rest of the system


def lock(path: Iterable[str] | None = None) -> Lock:
    """What is installed in the directories of ``path``, sys.path unless given; that takes some tenths of a second.

    Without asparkle and what it requires, which nodes have, and without packages that are links to where they are
    developed: these are no part of the environment.
    """
    found: dict[str, Distribution] = {}
    for package in distributions(path=[*path]) if path is not None else distributions():
        if package.name:
            found.setdefault(canonical(package.name), package)  # of two, the first is imported
    for key in {*required(["asparkle"]), *INSTALLERS}:
        found.pop(key, None)
    listed = {key: package for key, package in found.items() if not _is_link(package)}
    packages = tuple(installed(listed[key]) for key in sorted(listed) if _record(listed[key]))
    left_out = tuple(sorted(package.name for package in listed.values() if not _record(package)))
    told = [Platform.here(), *([p.name, p.version, p.id] for p in packages)]
    return Lock(sha256(json.dumps(told).encode()).hexdigest(), packages, left_out)


def installer() -> Package | None:
    """pip, as it is installed here."""
    try:
        package = distribution("pip")
    except PackageNotFoundError:
        return None
    return installed(package) if _record(package) else None


def bundled_installer() -> Path | None:
    """The wheel of pip that comes with Python, unless a distribution of Python leaves it out."""
    spec = find_spec("ensurepip")
    places = spec.submodule_search_locations if spec is not None else None
    found = [wheel for place in places or () for wheel in Path(place, "_bundled").glob("pip-*-py3-none-any.whl")]
    return found[0] if found else None


def _is_link(package: Distribution) -> bool:
    """Whether it is installed as a link (pip's ``-e``); its modules are where its author works on them."""
    try:
        told = json.loads(package.read_text("direct_url.json") or "{}")
    except ValueError:
        return False
    return bool(told.get("dir_info", {}).get("editable"))


def _record(package: Distribution) -> str:
    """Its list of files.  Without one it belongs to the system, whose package manager knows its files, or it is no
    more than a directory with sources that happens to be on the path."""
    return package.read_text("RECORD") or ""


def installed(package: Distribution) -> Package:
    rows = [row for row in _rows(package) if _in_wheel(row[0], package)]
    told = HeaderParser().parsestr(package.read_text("WHEEL") or "")
    tags = [*(told.get_all("Tag") or ())]
    compiled = any(path.endswith(tuple(EXTENSION_SUFFIXES)) for path, _, _ in rows) or any(
        not tag.endswith("-any") for tag in tags
    )
    here, metadata = Platform.here(), package.metadata
    return Package(
        metadata["Name"],
        metadata["Version"],
        sha256(json.dumps([sorted(rows), sorted(tags)]).encode()).hexdigest(),
        sum(size for _, _, size in rows),
        here._replace(version=needed_version(tags, here.version)) if compiled else None,
        (package.read_text("INSTALLER") or "").strip() != "conda" or not compiled,  # conda's use conda's libraries
        package,
    )


def _rows(package: Distribution) -> Iterator[tuple[str, str, int]]:
    """Path, hash and size of each of a package's files, as far as they are recorded."""
    for path, digest, size, *_ in csv.reader(f"{line},," for line in _record(package).splitlines() if line):
        yield path, digest, int(size) if size.isdigit() else 0


def _in_wheel(path: str, package: Distribution) -> str:
    """Where in a wheel a file is; "" if it does not belong there."""
    parts = path.split("/")
    if "__pycache__" in parts or (parts[0].endswith(".dist-info") and parts[-1] in _OF_INSTALLING):
        return ""
    if parts[0] != ".." and not os.path.isabs(path):
        return path
    place = os.path.normpath(os.path.join(str(package.locate_file("")), path))
    for base in (sys.prefix, sysconfig.get_path("data"), site.getuserbase()):
        if place.startswith(base + os.sep):
            inner = os.path.relpath(place, base)
            stem = f"{canonical(package.name)}-{package.version.replace('-', '_')}"
            return "" if inner.startswith(("bin/", "Scripts/")) else f"{stem}.data/data/{inner}"
    return ""


_LEGACY = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}


def needed_version(tags: Iterable[str], here: tuple[int, ...]) -> tuple[int, ...]:
    """The oldest version of the C library, or of macOS, with which a wheel of these tags can be used: where they do not
    say it, as it was built on this machine, the one that is here."""
    platforms = [part for tag in tags for part in tag.rpartition("-")[2].split(".")]
    told = [_LEGACY[part.partition("_")[0]] for part in platforms if part.partition("_")[0] in _LEGACY]
    for part in platforms:
        if found := re.match(r"(?:manylinux|musllinux|macosx)_(\d+)_(\d+)_", part):
            told.append((int(found[1]), int(found[2])))
    return min(told, default=here)


# --------------------------------------------------------------------------------------------------------------- wheels


def wheel_name(package: Package) -> str:
    told = HeaderParser().parsestr(package.distribution.read_text("WHEEL") or "")
    tags = [tag.split("-") for tag in told.get_all("Tag") or () if tag.count("-") == 2] or [["py3", "none", "any"]]
    parts = [".".join(sorted({tag[i] for tag in tags})) for i in range(3)]
    build = [told["Build"]] if told["Build"] else []
    return "-".join([package.stem, *build, *parts]) + ".whl"


def write_wheel(package: Package, path: Path) -> Iterator[None]:
    """Make a wheel, step by step; the same files give the same bytes.  Raises OSError.

    A file that is not as pip has recorded it goes along as it is now, and one that is gone does not.
    """
    record = []
    info = ""
    unreported = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as wheel:
        for recorded, _, size in sorted(_rows(package.distribution), key=_metadata_last):
            if not (name := _in_wheel(recorded, package.distribution)):
                continue
            if name.endswith(".dist-info/METADATA"):
                info = name.rpartition("/")[0]
            file = Path(str(package.distribution.locate_file(recorded)))
            if not file.is_file():
                continue
            digest, length = sha256(), 0
            with file.open("rb") as source, wheel.open(name, "w", force_zip64=size > zipfile.ZIP64_LIMIT // 2) as into:
                while data := source.read(_STEP):
                    digest.update(data)
                    into.write(data)
                    length += len(data)
                    if (unreported := unreported + len(data)) >= _STEP:
                        unreported = 0
                        yield
            wheel.getinfo(name).external_attr = (0o100755 if os.access(file, os.X_OK) else 0o100644) << 16
            record.append((name, f"sha256={urlsafe_b64encode(digest.digest()).decode().rstrip('=')}", str(length)))
        if f"{info}/WHEEL" not in wheel.namelist():
            wheel.writestr(zipfile.ZipInfo(f"{info}/WHEEL"), "Wheel-Version: 1.0\nTag: py3-none-any\n")
            record.append((f"{info}/WHEEL", "", ""))
        record.append((f"{info}/RECORD", "", ""))
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "".join(f"{_row(each)}\n" for each in record))


def _metadata_last(row: tuple[str, str, int]) -> tuple[bool, str]:
    return ".dist-info/" in row[0], row[0]


def _row(fields: tuple[str, str, str]) -> str:
    path, digest, size = fields
    quoted = '"{}"'.format(path.replace('"', '""')) if re.search('[,"]', path) else path
    return f"{quoted},{digest},{size}"
