"""Threads that inherit local properties, under the path that PySpark has them."""

from __future__ import annotations

from asparkle.core.inheritablethread import InheritableThread, inheritable_thread_target

__all__ = ["InheritableThread", "inheritable_thread_target"]
