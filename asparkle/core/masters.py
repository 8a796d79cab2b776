"""Master URLs, and how much of the machine this process may use.

    local, local[N], local[*]        N-way parallel Python: processes, or threads without the GIL
    local[N,F], local[*,F]           likewise; a job fails when one task has failed F times
    inline                           in the driver's process, one task at a time
    threads[N], processes[N]         N or * of either kind; without brackets: 1
    scheme://rest, scheme:rest       any other cluster manager: a plugin's

``*`` and the default memory count what this process may use, not what the machine has: the CPU
affinity, and the quotas of its control group and of every group above it (cgroup versions 1 and 2).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator

from asparkle.core.errors import ConfigurationError
from asparkle.core.namedtuple import NamedTuple

_OWN = ("local", "inline", "threads", "processes")
_LOCAL_FORMS = "local, local[N], local[*], local[N,F], inline, threads[N], processes[N]"


class Master(NamedTuple):
    """A parsed master URL.

    ``scheme``: the cluster manager's name; for ``local...`` already 'processes' or 'threads'.
    ``slots``: slots asked for; None for ``scheme://rest`` and ``scheme:rest``, whose ``rest`` the plugin parses;
    ``separator`` is what stands between the two.  ``max_failures``: F of ``local[N,F]``, else None."""

    scheme: str
    slots: int | None = None
    max_failures: int | None = None
    rest: str = ""
    separator: str = "://"


def parse_master(url: str) -> Master:
    """Parses ``url``.  Raises ConfigurationError, naming the URL and the forms that are known.

    Whether a plugin provides the scheme of a URL is not asked here."""
    text = url.strip() if isinstance(url, str) else ""
    separator = "://" if "://" in text else ":"
    scheme, found, rest = text.partition(separator)
    if found:
        if not is_scheme(scheme.lower()) or scheme.lower() in _OWN:
            raise unknown_master(url)
        return Master(scheme.lower(), rest=rest, separator=separator)
    name, bracket, arguments = text.partition("[")
    if name not in _OWN or (bracket and not arguments.endswith("]")):
        raise unknown_master(url)
    if name == "inline":
        if bracket:
            raise ConfigurationError(f"master {url!r}: inline runs one task at a time and takes no number")
        return Master("inline", 1)
    count, failures = _arguments(url, arguments[:-1]) if bracket else (1, None)
    if failures is not None and name != "local":
        raise ConfigurationError(f"master {url!r}: only local[N,F] takes F; set spark.task.maxFailures instead")
    return Master(local_scheme() if name == "local" else name, count, failures)


def is_scheme(text: str) -> bool:
    """Whether a master URL may begin with ``text://`` or ``text:``, once it is in lower case."""
    return text == text.lower() and text.replace("+", "").replace("-", "").replace(".", "").isalnum()


def unknown_master(url: str, known: Collection[str] = ()) -> ConfigurationError:
    """The error for a URL that nobody provides; ``known``: further schemes, from plugins."""
    forms = ", ".join([_LOCAL_FORMS, *(f"{scheme}://..." for scheme in sorted(known))])
    return ConfigurationError(f"unknown master {url!r}: expected one of {forms}; or install a plugin for it")


def local_scheme() -> str:
    """What ``local...`` means to this interpreter: 'processes', or 'threads' where there is no GIL."""
    gil_enabled = getattr(sys, "_is_gil_enabled", None)  # from Python 3.13
    return "processes" if gil_enabled is None or gil_enabled() else "threads"


def _arguments(url: str, text: str) -> tuple[int, int | None]:
    """N and F of ``[N]``, ``[*]``, ``[N,F]``."""
    count, comma, failures = (part.strip() for part in text.partition(","))
    slots = available_cpus() if count == "*" else _positive(url, "the number of slots", count)
    return slots, _positive(url, "the number of failures", failures) if comma else None


def _positive(url: str, what: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ConfigurationError(f"master {url!r}: {what} is {text!r}: expected a whole number, 1 or more")
    return int(text)


# ------------------------------------------------------------------------- what this process may use


def available_cpus() -> int:
    """CPUs that this process may use at once: its affinity, capped by the control groups' quota, which
    is rounded up; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:  # macOS
        cpus = os.cpu_count() or 1
    quota = cgroup_cpus()
    return cpus if quota is None else max(1, min(cpus, -int(-quota // 1)))


def default_memory() -> int:
    """Bytes of memory that this process and its children may use: the machine's, or the control groups'
    limit where that is less."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        memory = 4 << 30
    limit = cgroup_memory()
    return memory if limit is None else min(memory, limit)


def cgroup_cpus(root: str = "/") -> float | None:
    """The least CPU quota, in CPUs, of this process's control groups; None: none is set.

    ``root``: where ``proc`` and ``sys`` are mounted."""
    quotas = []
    for directory in _cgroup_directories("cpu", root):
        words = _words(directory, "cpu.max")  # version 2; the next two are version 1
        words = words or _words(directory, "cpu.cfs_quota_us") + _words(directory, "cpu.cfs_period_us")
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def cgroup_memory(root: str = "/") -> int | None:
    """The least memory limit, in bytes, of this process's control groups; None: none is set."""
    limits = []
    for directory in _cgroup_directories("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            for word in _words(directory, name):
                if word.isdigit() and int(word) < 1 << 60:  # version 1 says "no limit" by a huge number
                    limits.append(int(word))
    return min(limits, default=None)


def _words(directory: str, name: str) -> list[str]:
    """The words of a control file, none where there is no such file."""
    try:
        with open(os.path.join(directory, name)) as file:
            return file.read().split()
    except OSError:
        return []


def _cgroup_directories(controller: str, root: str) -> Iterator[str]:
    """This process's control group for ``controller``, in either version's hierarchy, and those above it.

    Inside a container the path in /proc may be the host's; then only the mount's top exists, and is it."""
    try:
        with open(os.path.join(root, "proc/self/cgroup")) as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = os.path.join(root, "sys/fs/cgroup", controllers and controller)
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield os.path.join(mount, *parts[:depth])
