"""What comes with asparkle, through the door that is everybody's.

Functions named and written as a plugin's hooks.  They are not marked ``@hookimpl``: pluggy takes 15 ms to import, for
which the start of an application whose names are all found here need not wait.
"""

from __future__ import annotations

from typing import Any

from asparkle.core.codecs import CODECS
from asparkle.core.conf import EVENT_LOG, EVENTS_JSONLINES, SHOW_PROGRESS, ConfigKey

PLUGINS = {
    "eventlog": "asparkle.plugins.eventlog",
    "jsonlines": "asparkle.plugins.jsonlines",
    "log": "asparkle.plugins.listeners",
    "progress": "asparkle.plugins.progress",
}
"""Plugins by name, as entry points say it: modules with hooks."""

ACTIVATED_BY: dict[str, ConfigKey[Any]] = {
    "eventlog": EVENT_LOG,
    "jsonlines": EVENTS_JSONLINES,
    "progress": SHOW_PROGRESS,
}
"""Keys that activate one of them."""

COMMANDS = ("run", "shell", "plugins", "conf")
RESERVED = {"asparkle_commands": COMMANDS, "asparkle_file_systems": ("file",)}
"""By hook, names that are asparkle's and that no plugin can have: commands of the command line, the local file system.
All other schemes of files are fsspec's, or a plugin's."""


def provided(hook: str) -> dict[str, str]:
    """Names and paths of what asparkle itself provides; no path where it is found in another way."""
    table: dict[str, str] = globals().get(hook, dict)()
    return table | dict.fromkeys(RESERVED.get(hook, ()), "")


def asparkle_cluster_managers() -> dict[str, str]:
    return {
        "inline": "asparkle.backends.inline:InlineManager",
        "threads": "asparkle.backends.threads:ThreadsManager",
        "processes": "asparkle.backends.processes:ProcessesManager",
    }


def asparkle_block_stores() -> dict[str, str]:
    return {"disk": "asparkle.backends.disk:DiskStore"}


def asparkle_cache_policies() -> dict[str, str]:
    return {
        "lru": "asparkle.plugins.cachepolicies:LRU",
        "lfu": "asparkle.plugins.cachepolicies:LFU",
        "fifo": "asparkle.plugins.cachepolicies:FIFO",
        "cost": "asparkle.plugins.cachepolicies:CostAware",
    }


def asparkle_shuffle_stores() -> dict[str, str]:
    return {"files": "asparkle.backends.shufflefiles:FileShuffleStore"}


def asparkle_serializers() -> dict[str, str]:
    return {"pickle": "asparkle.plugins.serializers:Pickle"}


def asparkle_codecs() -> dict[str, str]:
    return dict(CODECS)


def asparkle_scheduling_policies() -> dict[str, str]:
    return {"FIFO": "asparkle.plugins.schedulingpolicies:FIFO", "FAIR": "asparkle.plugins.schedulingpolicies:FAIR"}


def asparkle_metric_sinks() -> dict[str, str]:
    return {"statsd": "asparkle.plugins.statsd:StatsdSink"}
