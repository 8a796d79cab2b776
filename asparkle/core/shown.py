"""Users' values and functions in error messages: briefly, and without failing."""

from __future__ import annotations

from reprlib import Repr
from typing import Any

LENGTH = 200

NOT_AWAITED = "give the operation the coroutine function itself, or write the function with `async def`"
"""What to do where a plain function returned a coroutine."""

_brief = Repr()
_brief.maxlevel = 4
_brief.maxlist = _brief.maxtuple = _brief.maxset = _brief.maxfrozenset = _brief.maxdict = _brief.maxdeque = 12
_brief.maxarray = 12
_brief.maxstring = _brief.maxlong = _brief.maxother = LENGTH


def shown(value: object) -> str:
    """``repr(value)``, or about that: at most 200 characters, however large or deeply nested ``value`` is.

    Never raises, whatever its ``__repr__`` does.
    """
    try:
        text = _brief.repr(value)
    except Exception:  # a user's __repr__ may do anything
        text = f"<{type(value).__qualname__} object>"
    return text if len(text) <= LENGTH else text[: LENGTH - 3] + "..."


def name_of(function: Any) -> str:
    """What a function is called; how it is shown if it has no name."""
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else shown(function)
