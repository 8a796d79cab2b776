"""What asparkle finds by the entry point `prometheus`."""

from __future__ import annotations

from asparkle.plugins import hookimpl

ASPARKLE_API_VERSION = 1


@hookimpl
def asparkle_metric_sinks() -> dict[str, str]:
    return {"prometheus": "asparkle_prometheus.sink:PrometheusSink"}
