"""The plugins that a context has looked at."""

from __future__ import annotations

from itertools import chain, count
from typing import Any

import pluggy

from asparkle.core.errors import ConfigurationError, MissingDependency, PluginError
from asparkle.core.version import API_VERSION
from asparkle.plugins import hookspecs


class Registered:
    """Modules and objects with hooks, by name: pluggy's part of it."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("asparkle")
        self._manager.add_hookspecs(hookspecs)

    def name_of(self, plugin: object) -> str | None:
        """Under which it is here already."""
        return self._manager.get_name(plugin)

    def plugin(self, name: str) -> Any:
        return self._manager.get_plugin(name)

    def free_name(self, name: str) -> str:
        """``name``, or with a number behind it where another plugin has it."""
        names = chain([name], (f"{name} {number}" for number in count(2)))
        return next(free for free in names if self._manager.get_plugin(free) is None)

    def add(self, plugin: object, name: str) -> None:
        """Raises PluginError for what is no plugin, or one of another version, or for a name that is taken."""
        if isinstance(plugin, type):
            raise PluginError(name, "is a class: give an instance, or the module")
        try:
            version = getattr(plugin, "ASPARKLE_API_VERSION", API_VERSION)
        except (Exception, SystemExit) as error:  # a module's own __getattr__
            problem = f"can't be asked for its ASPARKLE_API_VERSION: {type(error).__name__}: {error}"
            raise PluginError(name, problem) from error
        if version != API_VERSION:
            raise PluginError(name, f"was written for API version {version!r}, this is {API_VERSION}: upgrade one")
        if (other := self._manager.get_plugin(name)) is not None:
            raise PluginError(name, f"has the name of another plugin, {other!r}: block one of them")
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            self.remove(name)
            raise PluginError(name, " ".join(str(error).split())) from error
        if not self.hooks(name):
            self.remove(name)
            raise PluginError(name, "has no hook: mark its functions with asparkle.plugins.hookimpl")

    def remove(self, name: str) -> None:
        if self._manager.has_plugin(name):
            self._manager.unregister(name=name)

    def hooks(self, name: str) -> list[str]:
        """The hooks that a plugin implements; none where it is not here."""
        callers = self._manager.get_hookcallers(self._manager.get_plugin(name)) or []
        return [caller.name for caller in callers]

    def ask(self, name: str, hook: str, **arguments: object) -> Any:
        """What a plugin's hook returns; None when it has no such hook."""
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            if implementation.plugin_name == name:
                try:
                    return implementation.function(*(arguments[name] for name in implementation.argnames))
                except (ConfigurationError, MissingDependency):
                    raise  # says what is to be done
                except (Exception, SystemExit) as error:
                    raise PluginError(name, f"{hook} raised {type(error).__name__}: {error}") from error
        return None
