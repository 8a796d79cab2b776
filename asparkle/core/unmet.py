"""Whether a class that a plugin names meets its contract, as far as can be told without calling it."""

from __future__ import annotations

import inspect
from abc import ABCMeta


def unmet(target: object, contract: type) -> str:
    """What of ``contract`` a class does not meet, in words: which method, and what was expected.  Empty if nothing.

    A contract that another package defines, no abstract base class, is met by any class derived from it."""
    if not (isinstance(target, type) and issubclass(target, contract)):
        return f"{target!r} is not a class derived from {contract.__name__}"
    if not isinstance(contract, ABCMeta):
        return ""
    name = target.__qualname__
    for method in sorted(getattr(target, "__abstractmethods__", ())):
        return f"{name} lacks {_told(contract, method)}"
    for method, promised in inspect.getmembers(contract, inspect.isfunction):
        own = getattr(target, method)
        if own is promised or method.startswith("_"):
            continue
        if not callable(own):
            return f"{name}.{method} is {own!r}: expected {_told(contract, method)}"
        if not _takes(own, promised, isinstance(inspect.getattr_static(target, method), staticmethod | classmethod)):
            return f"{name}.{method}{inspect.signature(own)} can't be called as {_told(contract, method)}"
    return ""


def _told(contract: type, method: str) -> str:
    """``CachePolicy.touch(block), "`block` was stored or read."``."""
    function = inspect.unwrap(getattr(contract, method))
    arguments = ", ".join(list(inspect.signature(function).parameters)[1:])
    first = (inspect.getdoc(function) or "").partition("\n\n")[0]
    return f'{contract.__name__}.{method}({arguments}), "{" ".join(first.split())}"'


def _takes(own: object, promised: object, without_self: bool) -> bool:
    """Whether the method can be called with the arguments of the contract's."""
    try:
        signature = inspect.signature(own)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # of a class written in C: not known
        return True
    arguments = [*inspect.signature(promised).parameters.values()][without_self:]  # type: ignore[arg-type]
    try:
        signature.bind(
            *[None for p in arguments if p.kind is not p.KEYWORD_ONLY],
            **{p.name: None for p in arguments if p.kind is p.KEYWORD_ONLY},
        )
    except TypeError:
        return False
    return True
