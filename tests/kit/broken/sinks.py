"""Metric sinks that are broken on purpose, each in one way.  Run by `test_broken`."""

from __future__ import annotations

import socket
import threading

from asparkle.errors import ConfigurationError
from asparkle.plugins import MetricSink
from asparkle.testing import MetricSinkConformance


class Sink(MetricSink):
    """Sends a line by TCP, and is told that it has arrived, or not for a second."""

    timeout = 1.0

    def __init__(self, conf):
        host, _, port = conf.get("test.address", "").rpartition(":")
        self.address = (host, self.number(port)) if port else None

    def number(self, port):
        if not port.isdigit():
            raise ConfigurationError(f"test.address: {port!r} is no port")
        return int(port)

    def report(self, metrics):
        if self.address is not None:
            with socket.create_connection(self.address, self.timeout) as connection:
                connection.sendall(self.line(metrics))
                connection.recv(1)

    def line(self, metrics):
        return metrics.name.encode() + b"\n"


class Kit(MetricSinkConformance):
    bad_settings = [{"test.address": "localhost:http"}]
    sink = Sink

    def make(self, conf):
        return self.sink(conf)

    def towards(self, host, port):
        return {"test.address": f"{host}:{port}"}


class TestGood(Kit):
    """Not broken: what the others derive from."""


class WaitsForEver(Sink):
    timeout = None


class TestWaitsForEver(Kit):
    sink = WaitsForEver


class LeavesAThread(Sink):
    def open(self, read):
        threading.Thread(target=threading.Event().wait, name="asker", daemon=True).start()


class TestLeavesAThread(Kit):
    sink = LeavesAThread


class LeavesAPort(Sink):
    servers = []

    def open(self, read):
        self.servers.append(socket.create_server(("127.0.0.1", 0)))


class TestLeavesAPort(Kit):
    sink = LeavesAPort


class OpensAtOnce(Sink):
    def __init__(self, conf):
        super().__init__(conf)
        self.server = socket.create_server(("127.0.0.1", 0))

    def close(self):
        self.server.close()


class TestOpensAtOnce(Kit):
    sink = OpensAtOnce


class RaisesValueError(Sink):
    def number(self, port):
        return int(port)


class TestRaisesValueError(Kit):
    sink = RaisesValueError


class AcceptsAnything(Sink):
    def number(self, port):
        return int(port) if port.isdigit() else 8125


class TestAcceptsAnything(Kit):
    sink = AcceptsAnything


class OnePort(Sink):
    """There may be but one in a process."""

    lock = threading.Lock()

    def open(self, read):
        if not self.lock.acquire(blocking=False):
            raise OSError("the port is taken")

    def close(self):
        self.lock.release()


class TestOnePort(Kit):
    sink = OnePort


class PlainNames(Sink):
    def report(self, metrics):
        metrics.name.encode("ascii")


class TestPlainNames(Kit):
    sink = PlainNames
