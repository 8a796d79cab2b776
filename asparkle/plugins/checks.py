"""What hooks return, checked: errors name the plugin, the hook and what was expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from asparkle.core.conf import KEYS, PREFIXES, ConfigKey
from asparkle.core.contracts import Listener
from asparkle.core.errors import ConfigurationError, PluginError


def table_of(plugin: str, hook: str, returned: object) -> dict[str, Any]:
    if returned is None:
        return {}
    if not isinstance(returned, Mapping):
        raise PluginError(plugin, f"{hook} returned {returned!r}: expected a dict of names to classes")
    for name, target in returned.items():
        if not isinstance(name, str) or not (isinstance(target, type) or is_path(target)):
            problem = f"{hook} returned {{{name!r}: {target!r}}}: expected a name and a class or 'module:Class'"
            raise PluginError(plugin, problem)
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
        except Exception as error:
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


def keys_of(plugin: str, returned: object) -> dict[str, ConfigKey[Any]]:
    """The keys by name, each of which is a plugin's to declare."""
    hook = "asparkle_configuration"
    if returned is None:
        return {}
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


def commands_of(plugin: str, returned: object) -> dict[str, str]:
    hook = "asparkle_commands"
    if returned is None:
        return {}
    if not isinstance(returned, Mapping):
        raise PluginError(plugin, f"{hook} returned {returned!r}: expected a dict of names to 'module:function'")
    for name, path in returned.items():
        if not isinstance(name, str) or not is_path(path):
            raise PluginError(plugin, f"{hook} returned {{{name!r}: {path!r}}}: expected a name and 'module:function'")
        if not name or name[0] == "-" or not name.isprintable() or " " in name:
            raise PluginError(plugin, f"{hook}: {name!r} can't be the name of a command: use letters, digits and -")
    return dict(returned)
