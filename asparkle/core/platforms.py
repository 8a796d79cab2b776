"""What compiled modules are made for."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Sequence

from asparkle.core.namedtuple import NamedTuple


class Platform(NamedTuple):
    """What compiled modules are for, or what a Python can load."""

    abi: str  # of the Python, and with it, on Linux, the C library: cpython-311-x86_64-linux-gnu
    machine: str
    version: tuple[int, ...]  # of the C library, or of macOS: at least; () if that is not known

    @classmethod
    def here(cls) -> Platform:
        """This Python's."""
        if sys.platform == "darwin":
            import platform

            version = platform.mac_ver()[0]
        else:
            try:
                version = os.confstr("CS_GNU_LIBC_VERSION") or ""
            except (ValueError, OSError):  # not glibc
                version = ""
        abi = sysconfig.get_config_var("SOABI") or sysconfig.get_platform()
        return cls(abi, os.uname().machine, tuple(map(int, re.findall(r"\d+", version)[:2])))

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
