"""Finds what a name stands for: a cluster manager, a store, a cache policy, a serializer, a codec, a listener, a
metric sink.

Built-ins come from a static table.  Plugins are looked at only when a name is not in it, or when the
context activates some; until then neither pluggy nor any entry point is touched.  Each context has a
registry of its own: there is no process-wide state.

    installed    has an entry point in the group ``asparkle``.  A master URL or a configuration key that
                 uses a name of it finds it; it does nothing otherwise.
    activated    named in ``asparkle.plugins``, or given as ``plugins=[...]``: its listeners run too, and its file
                 systems and codecs are used.
    blocked      named in ``asparkle.plugins.block`` or ASPARKLE_PLUGINS_BLOCK: never even imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from asparkle.core.conf import METRIC_SINKS, PLUGINS, PLUGINS_BLOCK, ConfigKey, SparkConf
from asparkle.core.contracts import ClusterManager, Listener, MetricSink, SchedulingPolicy
from asparkle.core.errors import AsparkleError, ConfigurationError, MissingDependency, PluginError
from asparkle.core.masters import Master, unknown_master
from asparkle.core.namedtuple import NamedTuple
from asparkle.plugins import builtin
from asparkle.plugins.checks import family_of, listeners_of, names_of, properties_of, scopes_of
from asparkle.plugins.entrypoints import EntryPoints
from asparkle.plugins.kinds import ALL, COMMAND, JOB_PROPERTIES, KINDS, LISTENERS, TASK_SCOPES

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from asparkle.plugins.registered import Registered

BLOCK_VARIABLE = "ASPARKLE_PLUGINS_BLOCK"


class Provided(NamedTuple):
    """What a name stands for: a class or its path, a `ConfigKey`, a command's path.  ``plugin``: whose it is; empty for
    asparkle's own."""

    plugin: str
    target: Any


def blocked(conf: SparkConf) -> dict[str, str]:
    """What blocks a plugin, by its name."""
    names = filter(None, map(str.strip, os.environ.get(BLOCK_VARIABLE, "").split(",")))
    return dict.fromkeys(names, BLOCK_VARIABLE) | dict.fromkeys(PLUGINS_BLOCK.read(conf), PLUGINS_BLOCK.name)


class PluginRegistry:
    """The plugins of one context.

    ``plugins``: modules or objects with hooks, names of entry points, `Listener` or `MetricSink` objects, in addition
    to what ``asparkle.plugins`` and ``asparkle.metrics.sinks`` name.  Raises PluginError or ConfigurationError at once
    for one of these that can't be used.
    """

    def __init__(self, conf: SparkConf, plugins: Iterable[object] = ()) -> None:
        self._conf = conf
        self.blocked = blocked(conf)
        self.installed = EntryPoints()
        self._active: list[str | Listener] = []  # plugins by name, and listeners that were given
        self._sinks: list[MetricSink] = []
        self._provided: dict[type | str, dict[str, Provided]] = {
            contract: {name: Provided("", target) for name, target in builtin.provided(kind.hook).items()}
            for contract, kind in KINDS.items()
        }
        self._declared: dict[str, list[ConfigKey[Any]]] = {}  # by plugin: keys may be shared
        self._used: set[str] = set()  # plugins whose keys were checked
        self._entries: dict[str, EntryPoint] = {}  # of the plugins that were loaded by theirs
        self._in_workers: set[str] = set()  # plugins of which workers load something
        self._scanned = False
        self.broken: dict[str, PluginError] = {}
        """Installed plugins that can't be used, and why; filled when a name makes us look at them."""
        implied = [name for name, key in builtin.ACTIVATED_BY.items() if key.read(conf)]
        named = dict.fromkeys((*PLUGINS.read(conf), *implied))
        for plugin in (*named, *plugins):
            self._activate(plugin)
        for name in self._activated:
            self._use(name)
        for name in dict.fromkeys(METRIC_SINKS.read(conf)):
            self._sinks.append(self._made(MetricSink, name, conf))

    # ------------------------------------------------------------------------------------- look-ups

    def cluster_manager(self, master: Master) -> ClusterManager:
        """A new manager for this master; one of a plugin says so when it breaks its contract.  Raises
        ConfigurationError when nobody provides its scheme."""
        if self._find(ClusterManager, master.scheme) is None:
            url = f"{master.scheme}://{master.rest}"
            others = {name for name, provided in self._provided[ClusterManager].items() if provided.plugin}
            raise self._with_broken(unknown_master(url, others))
        manager: ClusterManager = self._made(ClusterManager, master.scheme)
        if owner := self._provided[ClusterManager][master.scheme].plugin:
            from asparkle.plugins.guards import GuardedManager

            return GuardedManager(manager, owner)
        return manager

    def scheduling_policy(self, name: str) -> SchedulingPolicy:
        """A new policy; one of a plugin does no harm when it fails.  Raises ConfigurationError for an unknown name."""
        policy: SchedulingPolicy = self._made(SchedulingPolicy, name, self._conf)
        if owner := self._provided[SchedulingPolicy][name].plugin:
            from asparkle.plugins.guards import GuardedPolicy

            return GuardedPolicy(policy, owner, name)
        return policy

    def path(self, contract: type | str, name: str) -> str:
        """``"module:Class"`` of what meets ``contract`` and is loaded in workers.

        Raises ConfigurationError for an unknown name.
        """
        plugin, target = self._found(contract, name)
        self._in_workers.add(plugin)
        if isinstance(target, str):
            return target  # imported, and checked, where it is used: in workers
        self._check(contract, name, target)
        if "." in target.__qualname__:
            problem = f"{target!r} for {name!r} can't be imported by workers: define it at its module's top level"
            raise self._error(contract, name, problem)
        return f"{target.__module__}:{target.__qualname__}"

    def activated_paths(self, contract: type | str) -> dict[str, str]:
        """`path` by name, of all that activated plugins provide for ``contract``."""
        active = self._activated
        names = [name for name, provided in self._provided[contract].items() if provided.plugin in active]
        return {name: self.path(contract, name) for name in names}

    def listeners(self, dropped: Callable[[], Mapping[str, int]] = dict) -> list[Listener]:
        """Those of the activated plugins, and those given, in the order of their naming; before them those that
        metrics are made by, where there are sinks.

        ``dropped``: how many events each listener of the context has missed so far.
        """
        found: list[Listener] = []
        if self._sinks:
            from asparkle.plugins.sinks import metrics_for

            found += metrics_for(self._sinks, self._conf, dropped)
        for plugin in self._active:
            if isinstance(plugin, Listener):
                found.append(plugin)
            else:
                found += listeners_of(plugin, self._registered.ask(plugin, LISTENERS.hook, conf=self._conf))
        return found

    def job_properties(self) -> list[Callable[[Mapping[str, str]], Mapping[str, str]]]:
        """The activated plugins' functions that give each job more local properties."""
        asked = [(name, self._registered.ask(name, JOB_PROPERTIES.hook, conf=self._conf)) for name in self._activated]
        return [properties_of(name, function) for name, function in asked if function is not None]

    def task_scopes(self) -> list[str]:
        """``"module:function"`` of what surrounds each task attempt, the outermost first."""
        scopes: list[str] = []
        for plugin in self._activated:
            found = scopes_of(plugin, self._registered.ask(plugin, TASK_SCOPES.hook))
            scopes += found
            if found:
                self._in_workers.add(plugin)
        return scopes

    def packages(self) -> tuple[tuple[str, str], ...]:
        """Names and versions of the installed packages from which workers will load what `path` and `task_scopes`
        have given."""
        named = [name for name in self._in_workers if name]
        entries = [self._entries.get(name) or self.installed.of(self._registered.plugin(name)) for name in named]
        return tuple(sorted({(entry.dist.name, entry.dist.version) for entry in entries if entry and entry.dist}))

    def settings(self) -> dict[str, str]:
        """What the configuration says of the keys of all plugins that were used so far, as it is set."""
        names = [key.name for plugin in self._used for key in self._declared[plugin]]
        return {name: value for name in sorted(names) if (value := self._conf.get(name)) is not None}

    def keys(self) -> dict[str, tuple[str, ConfigKey[Any]]]:
        """The keys of the plugins that were looked at, by name: which plugin's, and the key."""
        return {name: (plugin, key) for name, (plugin, key) in self._provided[ConfigKey].items()}

    def commands(self) -> dict[str, tuple[str, str]]:
        """The commands of the plugins that were looked at, by name: which plugin's, and ``"module:function"``."""
        return {name: (plugin, path) for name, (plugin, path) in self._provided[COMMAND].items() if plugin}

    def provided_by(self, plugin: str) -> dict[str, list[str]]:
        """By hook, what a plugin that was looked at provides: names, keys, commands; none for what has no names.
        Those of asparkle itself, where ``plugin`` is empty."""
        found: dict[str, list[str]] = {}
        if plugin in self._declared:
            found = {hook: [] for hook in self._registered.hooks(plugin)}
        for contract, table in self._provided.items():
            if names := sorted(name for name, provided in table.items() if provided.plugin == plugin):
                found[KINDS[contract].hook] = names
        return {kind.hook: found[kind.hook] for kind in ALL if kind.hook in found}

    @property
    def _activated(self) -> list[str]:
        return [plugin for plugin in self._active if isinstance(plugin, str)]

    # ---------------------------------------------------------------------------------- finding names

    def _find(self, contract: type | str, name: str) -> Provided | None:
        """None when nobody provides it.  Looks no further than it must."""
        if name not in self._provided[contract]:
            self.scan()
        found = self._provided[contract].get(name)
        if found is not None:
            self._use(found.plugin)
        return found

    def _found(self, contract: type | str, name: str) -> Provided:
        """The same.  Raises ConfigurationError for an unknown name."""
        found = self._find(contract, name)
        if found is None:
            known = ", ".join(sorted(self._provided[contract]))
            raise self._with_broken(ConfigurationError(f"unknown {KINDS[contract].what} {name!r}: known are {known}"))
        return found

    def _use(self, plugin: str) -> None:
        """Checks what is set of a plugin's keys.  Raises ConfigurationError."""
        if plugin in self._used or not plugin:
            return
        self._used.add(plugin)
        own = {key.name: key for key in self._declared[plugin]}
        for key in own.values():
            key.read(self._conf)
        families = tuple(filter(None, map(family_of, own)))
        for name, _ in self._conf.getAll():
            if families and name.startswith(families) and name not in self._provided[ConfigKey]:
                raise ConfigurationError(f"unknown key {name} of plugin {plugin!r}: known are {', '.join(sorted(own))}")

    def _made(self, contract: type, name: str, *arguments: object) -> Any:
        """A new object of the class that meets ``contract``.

        Raises ConfigurationError for an unknown name, and PluginError where the class does not meet the contract, or
        can't be called so; what it says of the configuration stays as it is."""
        from asparkle.core.loading import imported

        _, target = self._found(contract, name)
        if isinstance(target, str):
            try:
                target = imported(target)
            except ConfigurationError as error:
                raise self._error(contract, name, f"{name!r}: {error}") from error
        self._check(contract, name, target)
        try:
            return target(*arguments)
        except (ConfigurationError, MissingDependency):
            raise  # says what is to be done
        except (Exception, SystemExit) as error:
            problem = f"{name!r}: {target.__qualname__} could not be made: {type(error).__name__}: {error}"
            raise self._error(contract, name, problem) from error

    def _check(self, contract: type | str, name: str, target: object) -> None:
        if self._provided[contract][name].plugin:  # asparkle's own are checked by its tests
            from asparkle.core.loading import contract_of
            from asparkle.core.unmet import unmet

            if problem := unmet(target, contract_of(contract)):
                raise self._error(contract, name, f"{name!r}: {problem}")

    def _error(self, contract: type | str, name: str, problem: str) -> PluginError:
        return PluginError(self._provided[contract][name].plugin or "asparkle", f"{KINDS[contract].hook}: {problem}")

    def _with_broken(self, error: ConfigurationError) -> ConfigurationError:
        """Adds what might have provided the unknown name, had it been usable."""
        hints = [str(problem) for problem in self.broken.values()]
        hints += [f"plugin {name!r} is blocked" for name in sorted(self.blocked.keys() & self.installed.by_name)]
        return ConfigurationError("; ".join([str(error), *hints]))

    # ----------------------------------------------------------------------------- registering plugins

    @cached_property
    def _registered(self) -> Registered:
        from asparkle.plugins.registered import Registered  # and pluggy, which takes 15 ms

        return Registered()

    def scan(self) -> None:
        """Loads every installed plugin that is not blocked.  A broken one is noted, not raised."""
        if self._scanned:
            return
        self._scanned = True
        for name in self.installed.by_name:
            if name not in self.blocked and name not in self._active:
                try:
                    self._load(name)
                except AsparkleError as error:
                    self.broken[name] = error if isinstance(error, PluginError) else PluginError(name, str(error))

    def _activate(self, plugin: object) -> None:
        if isinstance(plugin, str):
            self._add_active(self._load(plugin))
            return
        name = str(getattr(plugin, "__name__", type(plugin).__qualname__))
        self._refuse_blocked(name, plugin)
        if isinstance(plugin, MetricSink) and not any(plugin is known for known in self._sinks):
            self._sinks.append(plugin)
        if isinstance(plugin, Listener):
            self._add_active(plugin)
        if not isinstance(plugin, Listener | MetricSink) or _has_hooks(plugin):
            self._add_active(self._register(plugin, self._registered.free_name(name)))

    def _add_active(self, plugin: str | Listener) -> None:
        if not any(plugin is known or plugin == known for known in self._active):
            self._active.append(plugin)

    def _refuse_blocked(self, name: str, plugin: object = None) -> None:
        """Raises PluginError for a plugin that is blocked by its name or, where it is given, by that of the installed
        plugin that it comes from."""
        names = [name]
        if plugin is not None and self.blocked:
            home = getattr(plugin, "__name__", "")
            names += [known for known, module in builtin.PLUGINS.items() if module == home]
            names += [entry.name for entry in [self.installed.of(plugin)] if entry]
        for blocked in names:
            if blocked in self.blocked:
                raise PluginError(blocked, f"is blocked, by {self.blocked[blocked]}")

    def _load(self, name: str) -> str:
        """Registers a plugin that is named; returns its name, which is another one where it was given before."""
        self._refuse_blocked(name)
        if module := builtin.PLUGINS.get(name):
            return self._register(import_module(module), name)
        entry = self.installed.find(name)
        try:
            plugin = entry.load()
        except (Exception, SystemExit) as error:
            problem = f"failed to import {entry.value!r}: {type(error).__name__}: {error}"
            raise PluginError(name, problem) from error
        name = self._register(plugin, name)
        self._entries[name] = entry
        return name

    def _register(self, plugin: object, name: str) -> str:
        """Registers a plugin, if it is not yet; returns its name."""
        if (known := self._registered.name_of(plugin)) is not None:
            return known
        self._registered.add(plugin, name)
        try:
            self._take(name)
        except AsparkleError:
            self._registered.remove(name)
            raise
        return name

    def _take(self, plugin: str) -> None:
        """Adds the names that a plugin provides: all, or none when one is taken."""
        additions = {}
        for contract, kind in KINDS.items():
            names = names_of(plugin, contract, kind.hook, self._registered.ask(plugin, kind.hook))
            additions[contract] = {name: Provided(plugin, target) for name, target in names.items()}
            for name in names.keys() & self._provided[contract]:
                taken = self._provided[contract][name]
                if contract is ConfigKey and taken.target is names[name]:
                    additions[contract][name] = taken  # a package's plugins share its keys
                else:
                    problem = f"{name!r} is already provided by {taken.plugin or 'asparkle itself'}"
                    raise PluginError(plugin, f"{kind.hook}: {problem}")
        self._declared[plugin] = [key for _, key in additions[ConfigKey].values()]
        for contract, table in additions.items():
            self._provided[contract] |= table


def _has_hooks(plugin: object) -> bool:
    return any(name.startswith("asparkle_") for name in dir(type(plugin)))
