"""Where compiled modules can be loaded."""

from __future__ import annotations

import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Platform(NamedTuple):
    """What a compiled module is for, or what a Python can load."""

    abi: str  # of the Python, and with it, on Linux, the C library: cpython-311-x86_64-linux-gnu
    machine: str
    version: tuple[int, ...]  # of the C library, or of macOS: at least; () if that is not known

    @classmethod
    def here(cls) -> Platform:
        if sys.platform == "darwin":
            version = platform.mac_ver()[0]
        else:
            try:
                version = os.confstr("CS_GNU_LIBC_VERSION") or ""
            except (ValueError, OSError):  # not glibc
                version = ""
        numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
        return cls(str(sysconfig.get_config_var("SOABI")), os.uname().machine, numbers)

    @classmethod
    def of(cls, plain: Sequence[object]) -> Platform:
        """What came through msgpack."""
        abi, machine, version = plain
        assert isinstance(version, list | tuple)
        return cls(str(abi), str(machine), tuple(version))

    def loads(self, compiled: Platform) -> bool:
        """Whether modules that were compiled for the other can be loaded here."""
        return self[:2] == compiled[:2] and (not self.version or self.version >= compiled.version)

    def __str__(self) -> str:
        return " ".join([self.abi, self.machine, ".".join(map(str, self.version))]).strip()


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
