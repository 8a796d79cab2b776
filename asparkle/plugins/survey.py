"""What is installed, what it provides, and what becomes of it under a configuration: for ``asparkle plugins``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

from asparkle.core.conf import ALLOCATION_FILE, MASTER, PLUGINS, PLUGINS_BLOCK, SCHEDULER_MODE, ConfigKey, SparkConf
from asparkle.core.errors import ConfigurationError
from asparkle.core.namedtuple import NamedTuple
from asparkle.core.poolfile import read_pools
from asparkle.core.version import VERSION
from asparkle.plugins import builtin
from asparkle.plugins.kinds import ALL
from asparkle.plugins.registry import PluginRegistry


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
        self._named = {
            key.name: _named(conf, key) for key in (kind.used_by for kind in ALL) if key and key is not PLUGINS
        }
        self._named |= {
            ALLOCATION_FILE.name: _modes(conf),
            PLUGINS.name: set(),
        }  # which names plugins, not what is theirs

    def keys(self) -> dict[str, tuple[str, ConfigKey[Any]]]:
        """The keys of all usable plugins by name: whose, and the key."""
        return self._registry.keys()

    def plugins(self) -> list[Found]:
        """asparkle's own, then all others by name."""
        installed = self._registry.installed.by_name
        missing = [
            Found(name, "", "", "missing", f"{PLUGINS.name} names it, and it is not installed", {})
            for name in dict.fromkeys(PLUGINS.read(self._conf))
            if name not in installed and name not in builtin.PLUGINS
        ]
        return [*self._own(), *map(self._installed, installed), *missing]

    @property
    def refused(self) -> list[str]:
        """What ``asparkle.plugins`` names, and can't be activated."""
        unusable = [plugin.name for plugin in self.plugins() if plugin.state in ("blocked", "broken", "missing")]
        return [name for name in PLUGINS.read(self._conf) if name in unusable]

    def _own(self) -> Iterator[Found]:
        yield Found("asparkle", "asparkle", VERSION, "own", "", self._registry.provided_by(""))
        for name, module in builtin.PLUGINS.items():
            hooks: dict[str, list[str]] = {
                hook: [] for hook in sorted(vars(import_module(module))) if hook.startswith("asparkle_")
            }
            yield Found(name, "asparkle", VERSION, *self._state(name, hooks), hooks)

    def _installed(self, name: str) -> Found:
        entry = self._registry.installed.by_name[name][0]
        package, version = (entry.dist.name, entry.dist.version) if entry.dist is not None else ("", "")
        provides = self._registry.provided_by(name)
        return Found(name, package, version, *self._state(name, provides), provides)

    def _state(self, name: str, provides: dict[str, list[str]]) -> tuple[str, str]:
        if name in self._registry.blocked:
            return "blocked", self._registry.blocked[name]
        if error := self._registry.broken.get(name):
            return "broken", error.problem
        if name in PLUGINS.read(self._conf):
            return "active", PLUGINS.name
        key = builtin.ACTIVATED_BY.get(name)
        if key is not None:
            return ("active", key.name) if key.read(self._conf) else ("installed", f"{key.name} activates it")
        settings = [setting for kind in ALL if kind.hook in provides for setting in _settings(kind.used_by)]
        for kind in ALL:
            for setting in _settings(kind.used_by):
                if self._named[setting] & {*provides.get(kind.hook, ())}:
                    return "used", setting
        return "installed", f"{' or '.join(dict.fromkeys(settings))} activates it" if settings else ""


def _settings(used_by: ConfigKey[Any] | None) -> list[str]:
    """Where a name may stand of what ``used_by`` uses."""
    if used_by is None:
        return []
    return [used_by.name, ALLOCATION_FILE.name] if used_by is SCHEDULER_MODE else [used_by.name]


def _named(conf: SparkConf, key: ConfigKey[Any]) -> set[str]:
    """What a setting names; the scheme, of a master URL."""
    value = conf.get(key.name) or ""
    return {value.partition("://")[0]} if key is MASTER else {*map(str.strip, value.split(","))}


def _modes(conf: SparkConf) -> set[str]:
    """The scheduling policies that pools have; none where the file can't be read, which is said where it is used."""
    modes: set[str] = set()

    def note(mode: str) -> Any:
        modes.add(mode)

    if path := ALLOCATION_FILE.read(conf):
        with suppress(ConfigurationError):
            read_pools(path, note)
    return modes


def without_plugins(conf: SparkConf) -> SparkConf:
    """Of ``conf`` what blocks plugins: a registry under it activates none."""
    return SparkConf(loadDefaults=False).set(PLUGINS_BLOCK.name, conf.get(PLUGINS_BLOCK.name, ""))
