"""The sink keeps the promises of its contract: asparkle's own tests of any sink."""

from __future__ import annotations

from asparkle_prometheus import PrometheusSink

from asparkle.testing import MetricSinkConformance


class TestEndpoint(MetricSinkConformance):
    bad_settings = ({"asparkle.prometheus.port": "http"}, {"asparkle.prometheus.port": "70000"})

    def make(self, conf):
        return PrometheusSink(conf)


class TestPushgateway(MetricSinkConformance):
    bad_settings = tuple(
        {"asparkle.prometheus.pushgateway": bad} for bad in ("no port", "host:http", "ftp://host", ":9091")
    )

    def make(self, conf):
        return PrometheusSink(conf)

    def towards(self, host, port):
        return {"asparkle.prometheus.pushgateway": f"{host}:{port}"}
