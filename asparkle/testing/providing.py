"""A plugin that provides one class, so that a context finds it by a name."""

from __future__ import annotations

from typing import Any

from asparkle.plugins import builtin
from asparkle.plugins.hookspecs import hookimpl
from asparkle.plugins.kinds import KINDS

NAME = "under-test"


def providing(contract: type, kind: type, name: str = NAME) -> tuple[list[object], str]:
    """The plugins that a context needs, and the name by which it finds ``kind`` then: its own if it is built in.

    A ``name`` with a dot in front is a codec's extension; only for one of these another is found."""
    hook = KINDS[contract].hook
    path = f"{kind.__module__}:{kind.__qualname__}"
    for known, where in builtin.provided(hook).items():
        if where == path and known.startswith(".") == name.startswith("."):
            return [], known

    def provide(self: object) -> dict[str, Any]:
        return {name: kind}

    provide.__name__ = hook
    return [type("Provider", (), {hook: hookimpl(provide)})()], name
