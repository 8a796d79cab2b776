"""The example service: a real server process, and real clients, some of which go away."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import wait_until

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

EXAMPLES = Path(__file__).parents[1] / "contrib" / "examples"


class Service:
    """The server's process, and its port."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "service:app"]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), "--log-level", "warning"],
            env=os.environ | {"ASPARKLE_MASTER": "processes[2]", "PYTHONPATH": str(EXAMPLES.parents[1])},
        )
        wait_until(self.is_up)

    def is_up(self) -> bool:
        assert self.process.poll() is None
        try:
            return self.get("/jobs") == (200, [])
        except ConnectionRefusedError:
            return False

    def get(self, path: str) -> tuple[int, object]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def ask(self, path: str) -> socket.socket:
        """Send a request, and do not wait for its answer."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return connection

    def running(self) -> int:
        _, jobs = self.get("/jobs")
        assert isinstance(jobs, list)
        return len(jobs)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.process.send_signal(signal.SIGTERM)
    try:
        assert made.process.wait(60) in (0, -signal.SIGTERM)
    finally:
        made.process.kill()


def test_a_request_is_a_job(service):
    status, answer = service.get("/primes/100")
    assert (status, answer["result"]) == (200, 25)


def test_a_client_that_goes_away_takes_its_job_along_and_no_others(service):
    stays = service.ask("/primes/2000000")
    goes = service.ask("/primes/1000000000")
    wait_until(lambda: service.running() == 2)
    goes.close()
    wait_until(lambda: service.running() == 1)
    stays.close()
    wait_until(lambda: service.running() == 0)
    assert service.get("/primes/100")[0] == 200
