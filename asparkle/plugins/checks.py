"""What hooks return, checked: errors name the plugin, the hook and what was expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from asparkle.core.conf import KEYS, PREFIXES, ConfigKey
from asparkle.core.contracts import ClusterManager, Listener
from asparkle.core.errors import ConfigurationError, PluginError
from asparkle.core.masters import is_scheme
from asparkle.plugins.kinds import COMMAND


def names_of(plugin: str, contract: type | str, hook: str, returned: object) -> dict[str, Any]:
    """What a hook provides, by name: classes or their paths, keys, or commands' paths."""
    if returned is None:
        return {}
    if contract is ConfigKey:
        return _keys_of(plugin, hook, returned)
    one, many = ("'module:function'",) * 2 if contract == COMMAND else ("a class or 'module:Class'", "classes")
    if not isinstance(returned, Mapping):
        raise PluginError(plugin, f"{hook} returned {returned!r}: expected a dict of names to {many}")
    for name, target in returned.items():
        is_class = isinstance(target, type) and contract != COMMAND
        if not isinstance(name, str) or not (is_class or is_path(target)):
            raise PluginError(plugin, f"{hook} returned {{{name!r}: {target!r}}}: expected a name and {one}")
        if contract is ClusterManager and not is_scheme(name):
            problem = f"{name!r} is no scheme: expected lower-case letters and digits, without ://"
            raise PluginError(plugin, f"{hook}: {problem}")
        if contract == COMMAND and (not name or name[0] == "-" or not name.isprintable() or " " in name):
            raise PluginError(plugin, f"{hook}: {name!r} can't be the name of a command: use letters, digits and -")
    return dict(returned)


def is_path(target: object) -> bool:
    return isinstance(target, str) and all(target.partition(":"))


def listeners_of(plugin: str, returned: object) -> list[Listener]:
    if returned is None:
        return []
    if not isinstance(returned, list | tuple) or not all(isinstance(item, Listener) for item in returned):
        raise PluginError(plugin, f"asparkle_listeners returned {returned!r}: expected a list of Listener objects")
    return list(returned)


def properties_of(plugin: str, function: object) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
    """``function``, whose errors, and wrong results, say whose they are."""
    if not callable(function):
        raise PluginError(
            plugin, f"asparkle_job_properties returned {function!r}: expected a function of a job's properties"
        )

    def properties(before: Mapping[str, str]) -> Mapping[str, str]:
        try:
            returned = function(before)
        except (Exception, SystemExit) as error:
            problem = f"the function of asparkle_job_properties raised {type(error).__name__}: {error}"
            raise PluginError(plugin, problem) from error
        if not isinstance(returned, Mapping) or not all(isinstance(text, str) for text in sum(returned.items(), ())):
            problem = f"the function of asparkle_job_properties returned {returned!r}: expected a dict of strings"
            raise PluginError(plugin, problem)
        return returned

    return properties


def scopes_of(plugin: str, returned: object) -> list[str]:
    if returned is None:
        return []
    if not isinstance(returned, list | tuple) or not all(is_path(item) for item in returned):
        raise PluginError(plugin, f"asparkle_task_scopes returned {returned!r}: expected a list of 'module:function'")
    return list(returned)


def _keys_of(plugin: str, hook: str, returned: object) -> dict[str, ConfigKey[Any]]:
    """The keys by name, each of which is a plugin's to declare."""
    if not isinstance(returned, list | tuple) or not all(isinstance(key, ConfigKey) for key in returned):
        raise PluginError(plugin, f"{hook} returned {returned!r}: expected a list of ConfigKey objects")
    for key in returned:
        if not key.name.startswith(("asparkle.", "spark.")):
            problem = (
                f"{key.name!r} begins with neither asparkle. nor spark., as settings do; call it asparkle.{key.name}"
            )
            raise PluginError(plugin, f"{hook}: {problem}")
        if key.name in KEYS or key.name.startswith(tuple(PREFIXES)):
            raise PluginError(plugin, f"{hook}: {key.name!r} is a key of asparkle itself")
        if key.default is not None:
            try:
                key.parsed(key.default)
            except ConfigurationError as error:
                raise PluginError(plugin, f"{hook}: the default of a key is bad: {error}") from error
    return {key.name: key for key in returned}


def family_of(key: str) -> str:
    """``asparkle.moon.`` of ``asparkle.moon.phase``; empty where asparkle itself has keys that begin so."""
    family = ".".join(key.split(".")[:2]) + "."
    return "" if any(name.startswith(family) for name in KEYS) else family
