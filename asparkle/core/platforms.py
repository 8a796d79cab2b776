"""What compiled modules are made for."""

from __future__ import annotations

import platform
import sysconfig
from functools import cache


@cache
def platform_tag() -> str:
    """Python's ABI, processor and C library of this process: where the three are the same, so are compiled modules."""
    abi = sysconfig.get_config_var("SOABI") or sysconfig.get_platform()
    return ", ".join(filter(None, [abi, platform.machine(), platform.libc_ver()[0]]))
