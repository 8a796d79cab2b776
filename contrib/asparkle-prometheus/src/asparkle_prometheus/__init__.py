"""asparkle's metrics for Prometheus: see `PrometheusSink`."""

from asparkle_prometheus.sink import PrometheusSink

__all__ = ["PrometheusSink"]
