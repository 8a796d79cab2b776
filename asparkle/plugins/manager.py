"""Finds what a name stands for: a cluster manager, a block store, a cache policy, a listener, a metric sink.

Built-ins come from a static table.  Plugins are looked at only when a name is not in it, or when the
context activates some; until then neither pluggy nor any entry point is touched.  Each context has a
registry of its own: there is no process-wide state.

    installed    has an entry point in the group ``asparkle``.  A master URL or a configuration key that
                 uses a name of it finds it; it does nothing otherwise.
    activated    named in ``asparkle.plugins``, or given as ``plugins=[...]``: its listeners run too.
    blocked      named in ``asparkle.plugins.block`` or ASPARKLE_PLUGINS_BLOCK: never even imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from asparkle.core.conf import (
    EVENT_LOG,
    EVENTS_JSONLINES,
    METRIC_SINKS,
    PLUGINS,
    PLUGINS_BLOCK,
    SHOW_PROGRESS,
    SparkConf,
)
from asparkle.core.contracts import Listener, MetricSink
from asparkle.core.errors import ConfigurationError, MissingDependency, PluginError
from asparkle.core.masters import Master, unknown_master
from asparkle.plugins import API_VERSION

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pluggy import PluginManager

    from asparkle.core.contracts import ClusterManager

GROUP = "asparkle"

MANAGERS, STORES, POLICIES = "asparkle_cluster_managers", "asparkle_block_stores", "asparkle_cache_policies"
SINKS, LISTENERS = "asparkle_metric_sinks", "asparkle_listeners"
JOB_PROPERTIES, TASK_SCOPES = "asparkle_job_properties", "asparkle_task_scopes"

BUILTIN: dict[str, dict[str, str]] = {
    MANAGERS: {
        "inline": "asparkle.backends.inline:InlineManager",
        "threads": "asparkle.backends.threads:ThreadsManager",
        "processes": "asparkle.backends.processes:ProcessesManager",
    },
    STORES: {"disk": "asparkle.backends.disk:DiskStore"},
    POLICIES: {"lru": "asparkle.core.worker.memory:LRU"},
    SINKS: {"statsd": "asparkle.plugins.statsd:StatsdSink"},
    LISTENERS: {
        "jsonlines": "asparkle.plugins.jsonlines:from_conf",
        "log": "asparkle.plugins.listeners:LogListener",
        "progress": "asparkle.plugins.progress:ProgressListener",
        "eventlog": "asparkle.plugins.eventlog",  # a module: its hook is asked, as that of others' plugins
    },
}
_CONTRACTS = {MANAGERS: "ClusterManager", STORES: "BlockStore", POLICIES: "CachePolicy", SINKS: "MetricSink"}


class PluginRegistry:
    """The plugins of one context.

    ``plugins``: modules or objects with hooks, names of entry points, `Listener` or `MetricSink` objects, in addition
    to what ``asparkle.plugins`` and ``asparkle.metrics.sinks`` name.  Raises PluginError or ConfigurationError at once
    for one of these that can't be used.
    """

    def __init__(self, conf: SparkConf, plugins: Iterable[object] = ()) -> None:
        self._conf = conf
        blocked = os.environ.get("ASPARKLE_PLUGINS_BLOCK", "")
        self._blocked = {*PLUGINS_BLOCK.read(conf), *map(str.strip, blocked.split(","))}
        self._listeners: list[Listener] = []
        self._sinks: list[MetricSink] = []
        self._active: list[str] = []
        self._tables: dict[str, dict[str, Any]] = {hook: dict(BUILTIN[hook]) for hook in _CONTRACTS}
        self._owners: dict[tuple[str, str], str] = {}
        self._manager: PluginManager | None = None
        self._scanned = False
        self.broken: dict[str, PluginError] = {}
        """Installed plugins that can't be used, and why; filled when a name makes us look at them."""
        implied = {
            "progress": SHOW_PROGRESS.read(conf),
            "jsonlines": EVENTS_JSONLINES.read(conf),
            "eventlog": EVENT_LOG.read(conf),
        }
        named = dict.fromkeys((*PLUGINS.read(conf), *(name for name, wanted in implied.items() if wanted)))
        for plugin in (*named, *plugins):
            self._activate(plugin)
        for name in dict.fromkeys(METRIC_SINKS.read(conf)):
            self._sinks.append(self._metric_sink(name))

    # ------------------------------------------------------------------------------------- look-ups

    def cluster_manager(self, master: Master) -> ClusterManager:
        """A new manager for this master.  Raises ConfigurationError when nobody provides its scheme."""
        target = self._find(MANAGERS, master.scheme)
        if target is None:
            url = f"{master.scheme}://{master.rest}"
            raise self._with_broken(unknown_master(url, self.names(MANAGERS) - BUILTIN[MANAGERS].keys()))
        manager: ClusterManager = self._load(MANAGERS, master.scheme, target)()
        return manager

    def block_store(self, name: str) -> str:
        """``"module:Class"`` of a block store, for workers.  Raises ConfigurationError for an unknown one."""
        return self._path(STORES, name, "block store")

    def cache_policy(self, name: str) -> str:
        """``"module:Class"`` of a cache policy, likewise."""
        return self._path(POLICIES, name, "cache policy")

    def listeners(self, dropped: Callable[[], Mapping[str, int]] = dict) -> list[Listener]:
        """The listeners of the activated plugins, in the order in which those were named; before them those that
        metrics are made by, where there are sinks.

        ``dropped``: how many events each listener of the context has missed so far.
        """
        found = list(self._listeners)
        if self._sinks:
            from asparkle.plugins.metrics import metrics_for

            found = [*metrics_for(self._sinks, self._conf, dropped), *found]
        for plugin in self._active:
            found += _checked_listeners(plugin, self._ask(plugin, LISTENERS, conf=self._conf))
        return found

    def _metric_sink(self, name: str) -> MetricSink:
        target = self._find(SINKS, name)
        if target is None:
            raise self._unknown(SINKS, name, "metric sink")
        sink: MetricSink = self._load(SINKS, name, target)(self._conf)
        return sink

    def job_properties(self) -> list[Callable[[Mapping[str, str]], Mapping[str, str]]]:
        """The activated plugins' functions that give each job more local properties."""
        found = [(plugin, self._ask(plugin, JOB_PROPERTIES, conf=self._conf)) for plugin in self._active]
        return [_checked_properties(plugin, function) for plugin, function in found if function is not None]

    def task_scopes(self) -> list[str]:
        """``"module:function"`` of what surrounds each task attempt, the outermost first."""
        scopes: list[str] = []
        for plugin in self._active:
            scopes += _checked_scopes(plugin, self._ask(plugin, TASK_SCOPES))
        return scopes

    def names(self, hook: str) -> set[str]:
        """Every name that a hook provides, from built-ins and from all usable plugins."""
        self._scan()
        return set(self._tables[hook])

    # ---------------------------------------------------------------------------------- finding names

    def _find(self, hook: str, name: str) -> Any:
        """The class or its path; None when nobody provides it.  Looks no further than it must."""
        if name not in self._tables[hook]:
            self._scan()
        return self._tables[hook].get(name)

    def _path(self, hook: str, name: str, what: str) -> str:
        target = self._find(hook, name)
        if target is None:
            raise self._unknown(hook, name, what)
        if isinstance(target, str):
            return target  # imported, and checked, where it is used: in workers
        self._check(hook, name, target)
        if "." in target.__qualname__:
            problem = (
                f"{hook}: {target!r} for {name!r} can't be imported by workers: define it at its module's top level"
            )
            raise PluginError(self._owner(hook, name), problem)
        return f"{target.__module__}:{target.__qualname__}"

    def _unknown(self, hook: str, name: str, what: str) -> ConfigurationError:
        known = ", ".join(sorted(self._tables[hook]))
        return self._with_broken(ConfigurationError(f"unknown {what} {name!r}: known are {known}"))

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
        """Adds the names that a plugin provides: all, or none when one is taken."""
        additions = {hook: _checked_table(plugin, hook, self._ask(plugin, hook)) for hook in _CONTRACTS}
        for hook, table in additions.items():
            for name in table:
                if name in self._tables[hook]:
                    owner = self._owners.get((hook, name), "asparkle itself")
                    raise PluginError(plugin, f"{hook}: {name!r} is already provided by {owner}")
        for hook, table in additions.items():
            self._tables[hook] |= table
            self._owners |= dict.fromkeys(((hook, name) for name in table), plugin)

    def _load(self, hook: str, name: str, target: object) -> Any:
        """The class that ``target`` is or names.  Raises PluginError unless it meets the hook's contract."""
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            try:
                target = getattr(import_module(module), attribute)
            except (ImportError, AttributeError) as error:
                problem = f"{hook}: can't import {target!r} for {name!r}: {error}"
                raise PluginError(self._owner(hook, name), problem) from error
        self._check(hook, name, target)
        return target

    def _check(self, hook: str, name: str, target: object) -> None:
        """Raises PluginError unless ``target`` meets the hook's contract."""
        contract = getattr(import_module("asparkle.core.contracts"), _CONTRACTS[hook])
        if not (isinstance(target, type) and issubclass(target, contract)):
            problem = f"{hook}: {target!r} for {name!r} is not a class derived from {_CONTRACTS[hook]}"
            raise PluginError(self._owner(hook, name), problem)

    def _owner(self, hook: str, name: str) -> str:
        return self._owners.get((hook, name), "asparkle")

    # ----------------------------------------------------------------------------- registering plugins

    def _activate(self, plugin: object) -> None:
        if isinstance(plugin, Listener):
            self._listeners.append(plugin)
        elif isinstance(plugin, MetricSink):
            self._sinks.append(plugin)
        elif isinstance(plugin, str):
            self._activate_by_name(plugin)
        else:
            name = getattr(plugin, "__name__", type(plugin).__qualname__)
            self._active.append(self._register(plugin, name))

    def _activate_by_name(self, name: str) -> None:
        if name in self._blocked:
            raise PluginError(name, "is blocked, by asparkle.plugins.block or ASPARKLE_PLUGINS_BLOCK")
        if path := BUILTIN[LISTENERS].get(name):
            module, _, attribute = path.partition(":")
            if attribute:
                make = getattr(import_module(module), attribute)
                self._listeners.append(make() if isinstance(make, type) else make(self._conf))
            else:
                self._active.append(self._register(import_module(module), name))
            return
        entries = {entry.name: entry for entry in _entry_points()}
        if name not in entries:
            known = ", ".join(sorted({*entries, *BUILTIN[LISTENERS]}))
            raise PluginError(name, f"is not installed: no entry point of group {GROUP!r} has its name; known: {known}")
        if name not in self._active:
            self._active.append(self._register_entry(entries[name]))

    def _scan(self) -> None:
        """Loads every installed plugin that is not blocked.  A broken one is noted, not raised."""
        if self._scanned:
            return
        self._scanned = True
        for entry in _entry_points():
            if entry.name in self._blocked or entry.name in self._active:
                continue
            try:
                self._register_entry(entry)
            except PluginError as error:
                self.broken[entry.name] = error

    def _register_entry(self, entry: EntryPoint) -> str:
        try:
            plugin = entry.load()
        except Exception as error:
            problem = f"failed to import {entry.value!r}: {type(error).__name__}: {error}"
            raise PluginError(entry.name, problem) from error
        return self._register(plugin, entry.name)

    def _register(self, plugin: object, name: str) -> str:
        """Registers a plugin once, under ``name`` or the name that it already has."""
        if isinstance(plugin, type):
            raise PluginError(name, "is a class: give an instance, or the module")
        version = getattr(plugin, "ASPARKLE_API_VERSION", API_VERSION)
        if version != API_VERSION:
            raise PluginError(name, f"was written for API version {version!r}, this is {API_VERSION}: upgrade one")
        manager = self._plugin_manager()
        if (registered := manager.get_name(plugin)) is not None:
            return registered
        import pluggy

        try:
            manager.register(plugin, name)
            manager.check_pending()
            if not manager.get_hookcallers(plugin):
                raise PluginError(name, "has no hook: mark its functions with asparkle.plugins.hookimpl")
            self._take_tables(name)
        except (pluggy.PluginValidationError, ValueError) as error:
            self._forget(name)
            raise PluginError(name, " ".join(str(error).split())) from error
        except PluginError:
            self._forget(name)
            raise
        return name

    def _forget(self, name: str) -> None:
        manager = self._plugin_manager()
        if manager.has_plugin(name):
            manager.unregister(name=name)

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
        hints += [f"plugin {name!r} is blocked" for name in sorted(self._blocked & _installed_names())]
        return ConfigurationError("; ".join([str(error), *hints]))


def _entry_points() -> Sequence[EntryPoint]:
    from importlib.metadata import entry_points

    return sorted(set(entry_points(group=GROUP)), key=lambda entry: entry.name)


def _installed_names() -> set[str]:
    return {entry.name for entry in _entry_points()}


def _checked_table(plugin: str, hook: str, returned: object) -> dict[str, Any]:
    if returned is None:
        return {}
    if not isinstance(returned, Mapping):
        raise PluginError(plugin, f"{hook} returned {returned!r}: expected a dict of names to classes")
    for name, target in returned.items():
        if not isinstance(name, str) or not (isinstance(target, type) or _is_path(target)):
            problem = f"{hook} returned {{{name!r}: {target!r}}}: expected a name and a class or 'module:Class'"
            raise PluginError(plugin, problem)
    return dict(returned)


def _is_path(target: object) -> bool:
    return isinstance(target, str) and all(target.partition(":"))


def _checked_listeners(plugin: str, returned: object) -> list[Listener]:
    if returned is None:
        return []
    if not isinstance(returned, list | tuple) or not all(isinstance(item, Listener) for item in returned):
        raise PluginError(plugin, f"{LISTENERS} returned {returned!r}: expected a list of Listener objects")
    return list(returned)


def _checked_properties(plugin: str, function: object) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
    """``function``, whose errors, and wrong results, say whose they are."""
    if not callable(function):
        raise PluginError(plugin, f"{JOB_PROPERTIES} returned {function!r}: expected a function of a job's properties")

    def properties(before: Mapping[str, str]) -> Mapping[str, str]:
        try:
            returned = function(before)
        except Exception as error:
            problem = f"the function of {JOB_PROPERTIES} raised {type(error).__name__}: {error}"
            raise PluginError(plugin, problem) from error
        if not isinstance(returned, Mapping) or not all(isinstance(text, str) for text in sum(returned.items(), ())):
            problem = f"the function of {JOB_PROPERTIES} returned {returned!r}: expected a dict of strings"
            raise PluginError(plugin, problem)
        return returned

    return properties


def _checked_scopes(plugin: str, returned: object) -> list[str]:
    if returned is None:
        return []
    if not isinstance(returned, list | tuple) or not all(_is_path(item) for item in returned):
        raise PluginError(plugin, f"{TASK_SCOPES} returned {returned!r}: expected a list of 'module:function'")
    return list(returned)
