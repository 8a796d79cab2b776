"""A plugin that provides one class, so that a context finds it by a name."""

from __future__ import annotations

from typing import Any

from asparkle.plugins.hookspecs import hookimpl
from asparkle.plugins.manager import BUILTIN

NAME = "under-test"


def providing(hook: str, kind: type, name: str = NAME) -> tuple[list[object], str]:
    """The plugins that a context needs, and the name by which it finds ``kind`` then: its own if it is built in."""
    path = f"{kind.__module__}:{kind.__qualname__}"
    for builtin, where in BUILTIN[hook].items():
        if where == path:
            return [], builtin

    def provide(self: object) -> dict[str, Any]:
        return {name: kind}

    provide.__name__ = hook
    return [type("Provider", (), {hook: hookimpl(provide)})()], name
