"""What plugin authors import: `hookimpl` marks a hook's implementation, `API_VERSION` is what they write
against.  The hooks are in `asparkle.plugins.hookspecs`; pluggy is imported with the first `hookimpl`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asparkle.core.lazy import lazy

if TYPE_CHECKING:
    from asparkle.plugins.hookspecs import hookimpl

__all__ = ["API_VERSION", "hookimpl"]

API_VERSION = 1
"""Grows when a hook changes so that older plugins no longer work.  A plugin module says which one it was
written for by ``ASPARKLE_API_VERSION = 1``; one that says nothing is taken to fit."""

__getattr__ = lazy(__name__, {"asparkle.plugins.hookspecs": ["hookimpl"]})
