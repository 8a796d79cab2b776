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
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from itertools import chain, count, groupby
from typing import TYPE_CHECKING, Any

from asparkle.core.conf import METRIC_SINKS, PLUGINS, PLUGINS_BLOCK, ConfigKey, SparkConf
from asparkle.core.contracts import (
    FILE_SYSTEM,
    BlockStore,
    CachePolicy,
    ClusterManager,
    Codec,
    Listener,
    MetricSink,
    SchedulingPolicy,
    Serializer,
    ShuffleStore,
)
from asparkle.core.errors import ConfigurationError, MissingDependency, PluginError
from asparkle.core.masters import Master, is_scheme, unknown_master
from asparkle.core.namedtuple import NamedTuple
from asparkle.plugins import API_VERSION, builtin
from asparkle.plugins.checks import (
    commands_of,
    family_of,
    is_path,
    keys_of,
    listeners_of,
    properties_of,
    scopes_of,
    table_of,
)

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pluggy import PluginManager

GROUP = "asparkle"
BLOCK_VARIABLE = "ASPARKLE_PLUGINS_BLOCK"
LISTENERS = "asparkle_listeners"
JOB_PROPERTIES, TASK_SCOPES = "asparkle_job_properties", "asparkle_task_scopes"
CONFIGURATION, COMMANDS = "asparkle_configuration", "asparkle_commands"


class Kind(NamedTuple):
    """What is found by a name: the hook that provides it, and what the name is one of."""

    hook: str
    what: str


KINDS: dict[type | str, Kind] = {
    ClusterManager: Kind("asparkle_cluster_managers", "cluster manager"),
    BlockStore: Kind("asparkle_block_stores", "block store"),
    CachePolicy: Kind("asparkle_cache_policies", "cache policy"),
    ShuffleStore: Kind("asparkle_shuffle_stores", "shuffle store"),
    Serializer: Kind("asparkle_serializers", "serializer"),
    Codec: Kind("asparkle_codecs", "codec"),
    FILE_SYSTEM: Kind("asparkle_file_systems", "file system"),
    SchedulingPolicy: Kind("asparkle_scheduling_policies", "scheduling policy"),
    MetricSink: Kind("asparkle_metric_sinks", "metric sink"),
}
"""By contract, or its path where another package defines it.  A hook of these gives names for classes that meet it."""


class PluginRegistry:
    """The plugins of one context.

    ``plugins``: modules or objects with hooks, names of entry points, `Listener` or `MetricSink` objects, in addition
    to what ``asparkle.plugins`` and ``asparkle.metrics.sinks`` name.  Raises PluginError or ConfigurationError at once
    for one of these that can't be used.
    """

    def __init__(self, conf: SparkConf, plugins: Iterable[object] = ()) -> None:
        self._conf = conf
        blocked = os.environ.get(BLOCK_VARIABLE, "")
        self._blocked = {*PLUGINS_BLOCK.read(conf), *map(str.strip, blocked.split(","))}
        self._active: list[str | Listener] = []  # plugins by name, and listeners that were given
        self._sinks: list[MetricSink] = []
        self._tables: dict[type | str, dict[str, Any]] = {
            contract: getattr(builtin, kind.hook)() for contract, kind in KINDS.items()
        }
        self._owners: dict[tuple[type | str, str], str] = {}  # of all that is not asparkle's own
        self.keys: dict[str, tuple[str, ConfigKey[Any]]] = {}
        """Keys of the plugins that were looked at, by name: which plugin's, and the key."""
        self.commands: dict[str, tuple[str, str]] = {}
        """Commands of theirs, likewise: which plugin's, and ``"module:function"``."""
        self._used: set[str] = set()  # plugins whose keys were checked
        self._packages: dict[str, tuple[str, str]] = {}  # name and version of what has a plugin's entry point
        self._in_workers: set[str] = set()  # plugins of which workers load something
        self._manager: PluginManager | None = None
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
        """A new manager for this master.  Raises ConfigurationError when nobody provides its scheme."""
        if self._find(ClusterManager, master.scheme) is None:
            url = f"{master.scheme}://{master.rest}"
            others = {name for contract, name in self._owners if contract is ClusterManager}
            raise self._with_broken(unknown_master(url, others))
        manager: ClusterManager = self._made(ClusterManager, master.scheme)
        owner = self._owners.get((ClusterManager, master.scheme))
        if owner is None:
            return manager
        from asparkle.plugins.guards import GuardedManager

        return GuardedManager(manager, owner)

    def scheduling_policy(self, name: str) -> SchedulingPolicy:
        """A new policy; one of a plugin does no harm when it fails.  Raises ConfigurationError for an unknown name."""
        policy_class = self._class(SchedulingPolicy, name)
        owner = self._owners.get((SchedulingPolicy, name))
        if owner is None:
            policy: SchedulingPolicy = policy_class()
            return policy
        from asparkle.plugins.guards import GuardedPolicy

        try:
            return GuardedPolicy(policy_class(), owner, name)
        except Exception as error:
            problem = f"{policy_class.__qualname__}() raised {type(error).__name__}: {error}"
            raise self._error(SchedulingPolicy, name, problem) from error

    def path(self, contract: type | str, name: str) -> str:
        """``"module:Class"`` of what meets ``contract`` and is loaded in workers.

        Raises ConfigurationError for an unknown name.
        """
        target = self._find(contract, name)
        if target is None:
            raise self._unknown(contract, name)
        self._in_workers.add(self._owners.get((contract, name), ""))
        if isinstance(target, str):
            return target  # imported, and checked, where it is used: in workers
        self._check(contract, name, target)
        if "." in target.__qualname__:
            problem = f"{target!r} for {name!r} can't be imported by workers: define it at its module's top level"
            raise self._error(contract, name, problem)
        return f"{target.__module__}:{target.__qualname__}"

    def activated_paths(self, contract: type | str) -> dict[str, str]:
        """`path` by name, of all that activated plugins provide for ``contract``."""
        active = {name for (kind, name), owner in self._owners.items() if kind == contract and owner in self._activated}
        return {name: self.path(contract, name) for name in self._tables[contract] if name in active}

    def listeners(self, dropped: Callable[[], Mapping[str, int]] = dict) -> list[Listener]:
        """Those of the activated plugins, and those given, in the order of their naming; before them those that
        metrics are made by, where there are sinks.

        ``dropped``: how many events each listener of the context has missed so far.
        """
        found: list[Listener] = []
        if self._sinks:
            from asparkle.plugins.metrics import metrics_for

            found += metrics_for(self._sinks, self._conf, dropped)
        for plugin in self._active:
            if isinstance(plugin, Listener):
                found.append(plugin)
            else:
                found += listeners_of(plugin, self._ask(plugin, LISTENERS, conf=self._conf))
        return found

    def job_properties(self) -> list[Callable[[Mapping[str, str]], Mapping[str, str]]]:
        """The activated plugins' functions that give each job more local properties."""
        found = [(plugin, self._ask(plugin, JOB_PROPERTIES, conf=self._conf)) for plugin in self._activated]
        return [properties_of(plugin, function) for plugin, function in found if function is not None]

    def task_scopes(self) -> list[str]:
        """``"module:function"`` of what surrounds each task attempt, the outermost first."""
        scopes: list[str] = []
        for plugin in self._activated:
            found = scopes_of(plugin, self._ask(plugin, TASK_SCOPES))
            scopes += found
            if found:
                self._in_workers.add(plugin)
        return scopes

    def packages(self) -> tuple[tuple[str, str], ...]:
        """Names and versions of the installed packages from which workers will load what `path` and `task_scopes`
        have given."""
        return tuple(sorted({self._packages[plugin] for plugin in self._in_workers & self._packages.keys()}))

    @property
    def _activated(self) -> list[str]:
        return [plugin for plugin in self._active if isinstance(plugin, str)]

    def names(self, contract: type | str) -> set[str]:
        """Every name that stands for what meets ``contract``, from asparkle and from all usable plugins."""
        self.scan()
        return set(self._tables[contract])

    def provided_by(self, plugin: str) -> dict[str, list[str]]:
        """By hook, what a plugin that was looked at provides: names, keys, commands; none for what has no names."""
        if self._manager is None or not self._manager.has_plugin(plugin):
            return {}
        callers = self._manager.get_hookcallers(self._manager.get_plugin(plugin)) or []
        names: dict[str, list[str]] = {caller.name: [] for caller in callers}
        for (contract, name), owner in self._owners.items():
            if owner == plugin:
                names[KINDS[contract].hook].append(name)
        for hook, table in ((CONFIGURATION, self.keys), (COMMANDS, self.commands)):
            if hook in names:
                names[hook] = [name for name, (owner, _) in table.items() if owner == plugin]
        return {hook: sorted(found) for hook, found in sorted(names.items())}

    # ---------------------------------------------------------------------------------- finding names

    def _find(self, contract: type | str, name: str) -> Any:
        """The class or its path; None when nobody provides it.  Looks no further than it must."""
        if name not in self._tables[contract]:
            self.scan()
        if owner := self._owners.get((contract, name)):
            self._use(owner)
        return self._tables[contract].get(name)

    def _use(self, plugin: str) -> None:
        """Checks what is set of a plugin's keys.  Raises ConfigurationError."""
        if plugin in self._used:
            return
        self._used.add(plugin)
        own = {name: key for name, (owner, key) in self.keys.items() if owner == plugin}
        for key in own.values():
            key.read(self._conf)
        families = tuple(filter(None, map(family_of, own)))
        for name, _ in self._conf.getAll():
            if families and name.startswith(families) and name not in self.keys:
                raise ConfigurationError(f"unknown key {name} of plugin {plugin!r}: known are {', '.join(sorted(own))}")

    def _class(self, contract: type | str, name: str) -> Any:
        """The class that meets ``contract``.  Raises PluginError for one that does not, ConfigurationError for none."""
        target = self._find(contract, name)
        if target is None:
            raise self._unknown(contract, name)
        if is_path(target):
            module, _, attribute = target.partition(":")
            try:
                target = getattr(import_module(module), attribute)
            except (Exception, SystemExit) as error:
                problem = f"can't import {target!r} for {name!r}: {type(error).__name__}: {error}"
                raise self._error(contract, name, problem) from error
        self._check(contract, name, target)
        return target

    def _made(self, contract: type | str, name: str, *arguments: object) -> Any:
        """A new object of the class that meets ``contract``.  Raises what `_class` does, and PluginError where the
        class can't be called so; what it says of the configuration stays as it is."""
        made = self._class(contract, name)
        try:
            return made(*arguments)
        except (ConfigurationError, MissingDependency):
            raise  # says what is to be done
        except Exception as error:
            problem = f"{name!r}: {made.__qualname__} could not be made: {type(error).__name__}: {error}"
            raise self._error(contract, name, problem) from error

    def _check(self, contract: type | str, name: str, target: object) -> None:
        if (contract, name) in self._owners:  # asparkle's own are checked by its tests
            from asparkle.core.loading import contract_of
            from asparkle.core.unmet import unmet

            if problem := unmet(target, contract_of(contract)):
                raise self._error(contract, name, f"{name!r}: {problem}")

    def _unknown(self, contract: type | str, name: str) -> ConfigurationError:
        known = ", ".join(sorted(self._tables[contract]))
        return self._with_broken(ConfigurationError(f"unknown {KINDS[contract].what} {name!r}: known are {known}"))

    def _error(self, contract: type | str, name: str, problem: str) -> PluginError:
        owner = self._owners.get((contract, name), "asparkle")
        return PluginError(owner, f"{KINDS[contract].hook}: {problem}")

    def _ask(self, plugin: str, hook: str, **arguments: object) -> Any:
        """What a plugin's hook returns; None when it has no such hook."""
        assert self._manager is not None
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            if implementation.plugin_name == plugin:
                try:
                    return implementation.function(*(arguments[name] for name in implementation.argnames))
                except (ConfigurationError, MissingDependency):
                    raise  # says what is to be done
                except Exception as error:
                    raise PluginError(plugin, f"{hook} raised {type(error).__name__}: {error}") from error
        return None

    def _take_tables(self, plugin: str) -> None:
        """Adds the names, keys and commands that a plugin provides: all, or none when one is taken."""
        additions = {
            contract: table_of(plugin, kind.hook, self._ask(plugin, kind.hook)) for contract, kind in KINDS.items()
        }
        for contract, table in additions.items():
            for name in table:
                if contract is ClusterManager and not is_scheme(name):
                    problem = f"{name!r} is no scheme: expected lower-case letters and digits, without ://"
                    raise PluginError(plugin, f"{KINDS[contract].hook}: {problem}")
                if name in self._tables[contract]:
                    owner = self._owners.get((contract, name), "asparkle itself")
                    raise PluginError(plugin, f"{KINDS[contract].hook}: {name!r} is already provided by {owner}")
        declared = keys_of(plugin, self._ask(plugin, CONFIGURATION))
        commands = commands_of(plugin, self._ask(plugin, COMMANDS))
        taken = dict.fromkeys(builtin.COMMANDS, "asparkle itself")
        taken |= {name: owner for name, (owner, _) in (self.keys | self.commands).items()}
        # an object of a package's may be given beside what its entry point names: they share the package's keys
        keys = {name: key for name, key in declared.items() if (self.keys.get(name) or ("", None))[1] is not key}
        for hook, name in [*((CONFIGURATION, name) for name in keys), *((COMMANDS, name) for name in commands)]:
            if name in taken:
                raise PluginError(plugin, f"{hook}: {name!r} is already provided by {taken[name]}")
        self.keys |= {name: (plugin, key) for name, key in keys.items()}
        self.commands |= {name: (plugin, path) for name, path in commands.items()}
        for contract, table in additions.items():
            self._tables[contract] |= table
            self._owners |= dict.fromkeys(((contract, name) for name in table), plugin)

    # ----------------------------------------------------------------------------- registering plugins

    def _activate(self, plugin: object) -> None:
        if isinstance(plugin, Listener):
            self._active.append(plugin)
        elif isinstance(plugin, MetricSink):
            self._sinks.append(plugin)
        elif (name := self._registered(plugin)) not in self._active:
            self._active.append(name)

    def _registered(self, plugin: object) -> str:
        """The name of a plugin that is given, or named."""
        if isinstance(plugin, str):
            return self._registered_by_name(plugin)
        name = str(getattr(plugin, "__name__", type(plugin).__qualname__))
        return self._register(plugin, self._free_name(plugin, name))

    def _registered_by_name(self, name: str) -> str:
        if name in self._blocked:
            raise PluginError(name, "is blocked, by asparkle.plugins.block or ASPARKLE_PLUGINS_BLOCK")
        if module := builtin.PLUGINS.get(name):
            return self._register(import_module(module), name)
        entries = _entry_points()
        found = [entry for entry in entries if entry.name == name]
        if not found:
            known = ", ".join(sorted({*(entry.name for entry in entries), *builtin.PLUGINS}))
            raise PluginError(name, f"is not installed: no entry point of group {GROUP!r} has its name; known: {known}")
        if len(found) > 1:
            raise _ambiguous(found)
        return self._register_entry(found[0])

    def scan(self) -> None:
        """Loads every installed plugin that is not blocked.  A broken one is noted, not raised."""
        if self._scanned:
            return
        self._scanned = True
        for name, entries in groupby(_entry_points(), key=lambda entry: entry.name):
            if name in self._blocked or name in self._active:
                continue
            try:
                entry, *others = entries
                if others:
                    raise _ambiguous([entry, *others])
                self._register_entry(entry)
            except PluginError as error:
                self.broken[name] = error

    def _register_entry(self, entry: EntryPoint) -> str:
        try:
            plugin = entry.load()
        except (Exception, SystemExit) as error:
            problem = f"failed to import {entry.value!r}: {type(error).__name__}: {error}"
            raise PluginError(entry.name, problem) from error
        name = self._register(plugin, entry.name)
        if entry.dist is not None:
            self._packages[name] = (entry.dist.name, entry.dist.version)
        return name

    def _register(self, plugin: object, name: str) -> str:
        """Registers a plugin once, under ``name`` or the name that it already has."""
        if isinstance(plugin, type):
            raise PluginError(name, "is a class: give an instance, or the module")
        try:
            version = getattr(plugin, "ASPARKLE_API_VERSION", API_VERSION)
        except Exception as error:  # a module's own __getattr__
            problem = f"can't be asked for its ASPARKLE_API_VERSION: {type(error).__name__}: {error}"
            raise PluginError(name, problem) from error
        if version != API_VERSION:
            raise PluginError(name, f"was written for API version {version!r}, this is {API_VERSION}: upgrade one")
        manager = self._plugin_manager()
        if (registered := manager.get_name(plugin)) is not None:
            return registered
        if (other := manager.get_plugin(name)) is not None:
            raise PluginError(name, f"has the name of another plugin, {other!r}: block one of them")
        import pluggy

        try:
            manager.register(plugin, name)
            manager.check_pending()
            if not manager.get_hookcallers(plugin):
                raise PluginError(name, "has no hook: mark its functions with asparkle.plugins.hookimpl")
            self._take_tables(name)
        except (pluggy.PluginValidationError, ValueError) as error:
            self._forget(plugin)
            raise PluginError(name, " ".join(str(error).split())) from error
        except PluginError:
            self._forget(plugin)
            raise
        return name

    def _free_name(self, plugin: object, name: str) -> str:
        """``name``, or with a number behind it where another plugin that was given has it, too."""
        manager = self._plugin_manager()
        names = chain([name], (f"{name} {number}" for number in count(2)))
        return next(free for free in names if manager.get_plugin(free) is None or manager.get_plugin(free) is plugin)

    def _forget(self, plugin: object) -> None:
        manager = self._plugin_manager()
        if manager.is_registered(plugin):
            manager.unregister(plugin)

    def _plugin_manager(self) -> PluginManager:
        if self._manager is None:
            import pluggy

            from asparkle.plugins import hookspecs

            self._manager = pluggy.PluginManager("asparkle")
            self._manager.add_hookspecs(hookspecs)
        return self._manager

    def _with_broken(self, error: ConfigurationError) -> ConfigurationError:
        """Adds what might have provided the unknown name, had it been usable."""
        hints = [str(problem) for problem in self.broken.values()]
        hints += [f"plugin {name!r} is blocked" for name in sorted(self._blocked & installed().keys())]
        return ConfigurationError("; ".join([str(error), *hints]))


def _entry_points() -> Sequence[EntryPoint]:
    """Those of the group, by name; one that is found twice is one."""
    from importlib.metadata import entry_points

    return sorted(set(entry_points(group=GROUP)), key=lambda entry: (entry.name, entry.value))


def _ambiguous(entries: Sequence[EntryPoint]) -> PluginError:
    owners = " and ".join(f"{entry.dist.name if entry.dist else '?'} ({entry.value})" for entry in entries)
    return PluginError(entries[0].name, f"is the name of several entry points: {owners}; uninstall all but one")


def installed() -> dict[str, EntryPoint]:
    """Entry points of plugins, by name."""
    return {entry.name: entry for entry in _entry_points()}
