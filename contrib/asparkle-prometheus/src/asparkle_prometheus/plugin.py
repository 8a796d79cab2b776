"""What asparkle finds by the entry point `prometheus`."""

from __future__ import annotations

from typing import Any

from asparkle.plugins import ConfigKey, hookimpl
from asparkle_prometheus.settings import KEYS

ASPARKLE_API_VERSION = 1


@hookimpl
def asparkle_metric_sinks() -> dict[str, str]:
    return {"prometheus": "asparkle_prometheus.sink:PrometheusSink"}


@hookimpl
def asparkle_configuration() -> list[ConfigKey[Any]]:
    return KEYS
