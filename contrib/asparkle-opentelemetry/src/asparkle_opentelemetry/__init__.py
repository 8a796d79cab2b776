"""Traces and metrics of asparkle's jobs, through OpenTelemetry.

`OpenTelemetry` is the plugin: ``asparkle.plugins = opentelemetry`` activates it, or ``plugins=[OpenTelemetry(...)]``.
`task_span` and `current_context` are for functions that tasks call; workers import no more than they need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asparkle_opentelemetry.tasks import current_context, task_span

if TYPE_CHECKING:
    from asparkle_opentelemetry.plugin import OpenTelemetry, OpenTelemetryListener

__all__ = ["OpenTelemetry", "OpenTelemetryListener", "current_context", "task_span"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from asparkle_opentelemetry import plugin

    return getattr(plugin, name)
