"""What is installed, what it provides, and what becomes of it under a configuration: for ``asparkle plugins``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from asparkle.core.conf import PLUGINS, PLUGINS_BLOCK, ConfigKey, SparkConf
from asparkle.core.namedtuple import NamedTuple
from asparkle.core.version import VERSION
from asparkle.plugins import builtin
from asparkle.plugins.manager import BLOCK_VARIABLE, KINDS, PluginRegistry, installed

ACTIVATED_BY_NAME = ("asparkle_listeners", "asparkle_job_properties", "asparkle_task_scopes")
"""Hooks that are asked only of plugins which a context activates."""
NAMED_BY = {
    "asparkle_cluster_managers": "spark.master",
    "asparkle_block_stores": "asparkle.store.disk",
    "asparkle_cache_policies": "asparkle.cache.policy",
    "asparkle_scheduling_policies": "spark.scheduler.mode",
    "asparkle_metric_sinks": "asparkle.metrics.sinks",
}
"""The key by which a name of a hook's is chosen."""


class Found(NamedTuple):
    """One plugin.

    ``state``: 'own', 'active', 'used' (a setting has a name that it provides), 'installed', 'blocked', 'broken' or
    'missing' (it is to be activated, and not installed).  ``why``: the setting, or what is wrong.
    """

    name: str
    package: str
    version: str
    state: str
    why: str
    provides: dict[str, list[str]]  # by hook: names, keys, commands


class Survey:
    """All plugins, looked at once under ``conf``; nothing of it is activated."""

    def __init__(self, conf: SparkConf) -> None:
        self._conf = conf
        self._registry = PluginRegistry(without_plugins(conf))
        self._registry.scan()
        self._entries = installed()

    def keys(self) -> dict[str, tuple[str, ConfigKey[Any]]]:
        """The keys of all usable plugins by name: whose, and the key."""
        return self._registry.keys

    def plugins(self) -> list[Found]:
        """asparkle's own, then all others by name."""
        asked = PLUGINS.read(self._conf)
        known = {*self._entries, *builtin.PLUGINS}
        missing = [
            Found(name, "", "", "missing", "asparkle.plugins names it, and it is not installed", {})
            for name in dict.fromkeys(asked)
            if name not in known
        ]
        return [*self._own(), *map(self._installed, self._entries), *missing]

    @property
    def refused(self) -> list[str]:
        """What ``asparkle.plugins`` names, and can't be activated."""
        unusable = [plugin.name for plugin in self.plugins() if plugin.state in ("blocked", "broken", "missing")]
        return [name for name in PLUGINS.read(self._conf) if name in unusable]

    def _own(self) -> Iterator[Found]:
        tables = {kind.hook: sorted(getattr(builtin, kind.hook)()) for kind in KINDS.values()}
        yield Found("asparkle", "asparkle", VERSION, "own", "", tables)
        for name, module in builtin.PLUGINS.items():
            hooks: dict[str, list[str]] = {
                hook: [] for hook in sorted(vars(import_module(module))) if hook.startswith("asparkle_")
            }
            yield Found(name, "asparkle", VERSION, *self._state(name, hooks), hooks)

    def _installed(self, name: str) -> Found:
        entry = self._entries[name]
        package, version = (entry.dist.name, entry.dist.version) if entry.dist is not None else ("", "")
        provides = self._registry.provided_by(name)
        return Found(name, package, version, *self._state(name, provides), provides)

    def _state(self, name: str, provides: dict[str, list[str]]) -> tuple[str, str]:
        if name in PLUGINS_BLOCK.read(self._conf):
            return "blocked", "asparkle.plugins.block"
        if name in map(str.strip, os.environ.get(BLOCK_VARIABLE, "").split(",")):
            return "blocked", BLOCK_VARIABLE
        if error := self._registry.broken.get(name):
            return "broken", error.problem
        if name in PLUGINS.read(self._conf):
            return "active", "asparkle.plugins"
        key = builtin.ACTIVATED_BY.get(name)
        if key is not None and key.read(self._conf):
            return "active", key.name
        for hook, setting in NAMED_BY.items():
            value = self._conf.get(setting, "")
            names = {value.partition("://")[0]} if setting == "spark.master" else {*map(str.strip, value.split(","))}
            if names & {*provides.get(hook, ())}:
                return "used", setting
        if key is not None:
            return "installed", f"{key.name} activates it"
        settings = [setting for hook, setting in NAMED_BY.items() if hook in provides]
        settings += ["asparkle.plugins"] * any(hook in provides for hook in ACTIVATED_BY_NAME)
        return "installed", f"{' or '.join(settings)} activates it" if settings else ""


def without_plugins(conf: SparkConf) -> SparkConf:
    """Of ``conf`` what blocks plugins: a registry under it activates none."""
    return SparkConf(loadDefaults=False).set(PLUGINS_BLOCK.name, conf.get(PLUGINS_BLOCK.name, ""))
