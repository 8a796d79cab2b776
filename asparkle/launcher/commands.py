"""The commands of plugins: found, described, called."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from asparkle.core.conf import PLUGINS_BLOCK, SparkConf
from asparkle.core.errors import AsparkleError, ConfigurationError, PluginError
from asparkle.core.loading import load_function
from asparkle.launcher import settings
from asparkle.launcher.options import parse
from asparkle.plugins.kinds import COMMAND, KINDS
from asparkle.plugins.registry import PluginRegistry
from asparkle.plugins.survey import without_plugins

HOOK = KINDS[COMMAND].hook
Commands = dict[str, tuple[str, str]]


def known() -> tuple[Commands, dict[str, PluginError]]:
    """By name, whose each command is and its ``"module:function"``; and the plugins that can't be used."""
    given = settings.collect(parse([]), os.environ).get(PLUGINS_BLOCK.name, "")
    registry = PluginRegistry(without_plugins(SparkConf(loadDefaults=False).set(PLUGINS_BLOCK.name, given)))
    registry.scan()
    return registry.commands(), registry.broken


def load(name: str, plugin: str, path: str) -> Callable[[list[str]], int]:
    """What runs a command, and returns its exit status.  Raises PluginError, and so does what is returned."""
    function = _imported(name, plugin, path)

    def run(words: list[str]) -> int:
        status = function(words)
        if status is None or isinstance(status, int):
            return status or 0
        raise PluginError(plugin, f"{HOOK}: {path!r} for {name!r} returned {status!r}: expected an exit status")

    return run


def described() -> Iterator[tuple[str, str]]:
    """Each command, and the first line of its function's docstring; or why it can't be run."""
    try:
        commands, _ = known()
    except AsparkleError:  # of a properties file: help is to be had all the same
        return
    for name, (plugin, path) in sorted(commands.items()):
        try:
            text = (_imported(name, plugin, path).__doc__ or "").strip().partition("\n")[0]
        except PluginError as error:
            text = f"broken: {error.problem}"
        yield name, f"{text}  ({plugin})".strip()


def _imported(name: str, plugin: str, path: str) -> Callable[[list[str]], object]:
    try:
        return load_function(path)
    except ConfigurationError as error:
        raise PluginError(plugin, f"{HOOK}: {name!r}: {error}") from error
