"""The plugins that are installed: entry points of the group ``asparkle``."""

from __future__ import annotations

from functools import cached_property
from itertools import groupby
from types import ModuleType
from typing import TYPE_CHECKING

from asparkle.core.errors import PluginError
from asparkle.plugins import builtin

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "asparkle"


class EntryPoints:
    """Looked up once, when they are first asked for."""

    @cached_property
    def by_name(self) -> dict[str, list[EntryPoint]]:
        """Several with one name are an error, of whoever uses it; one that is found twice is one."""
        from importlib.metadata import entry_points  # which takes as long as all else of a look-up

        found = sorted(set(entry_points(group=GROUP)), key=lambda entry: (entry.name, entry.value))
        return {name: list(entries) for name, entries in groupby(found, key=lambda entry: entry.name)}

    def find(self, name: str) -> EntryPoint:
        """Raises PluginError where there is none, or more than one."""
        entries = self.by_name.get(name)
        if not entries:
            known = ", ".join(sorted({*self.by_name, *builtin.PLUGINS}))
            raise PluginError(name, f"is not installed: no entry point of group {GROUP!r} has its name; known: {known}")
        if len(entries) > 1:
            owners = " and ".join(f"{entry.dist.name if entry.dist else '?'} ({entry.value})" for entry in entries)
            raise PluginError(name, f"is the name of several entry points: {owners}; uninstall all but one")
        return entries[0]

    def of(self, plugin: object) -> EntryPoint | None:
        """The one that a plugin which was given comes from: a module, or an object whose class is defined below it."""
        home = plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__
        entries = [entry for entries in self.by_name.values() for entry in entries]
        return next((entry for entry in entries if f"{home}.".startswith(f"{entry.module}.")), None)
