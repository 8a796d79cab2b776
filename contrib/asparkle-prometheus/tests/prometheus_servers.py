"""Real servers for tests: Prometheus and its push gateway, on the loopback interface, in processes that tests end."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

SECONDS = 60  # that a busy machine may need


def program(name: str) -> str:
    """Its path, or the test is skipped."""
    path = shutil.which(name)
    if path is None:
        package = "prometheus-pushgateway" if "gateway" in name else "prometheus"
        pytest.skip(f"needs the program {name}: apt-get install {package}")
    return path


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not so after {SECONDS} seconds"
        time.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def text(url: str) -> str:
    with urlopen(url, timeout=SECONDS) as page:
        return page.read().decode()


@contextmanager
def running(command: list[str], ready: str, log: Path) -> Iterator[None]:
    """The server of a command, from when it answers at the URL ``ready``."""
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)

    def answers() -> bool:
        assert server.poll() is None, log.read_text()
        try:
            return bool(text(ready)) or True
        except (URLError, OSError):
            return False

    try:
        wait_until(answers)
        yield
    finally:
        server.terminate()
        try:
            server.wait(SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


class Prometheus:
    """One that scrapes every second what `scrape` was given."""

    def __init__(self, url: str, targets: Path) -> None:
        self.url = url
        self._targets = targets

    def scrape(self, *urls: str) -> None:
        hosts = [url.removeprefix("http://").removesuffix("/metrics") for url in urls]
        new = self._targets.with_suffix(".new")
        new.write_text(json.dumps([{"targets": hosts}]))
        new.rename(self._targets)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series of an expression, as they are now.  Raises HTTPError for one that it does not understand."""
        answer = json.loads(text(f"{self.url}/api/v1/query?{urlencode({'query': query})}"))
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def value(self, query: str) -> float | None:
        """The only value of an expression; None where there is none."""
        found = self.ask(query)
        assert len(found) < 2, found
        return float(found[0]["value"][1]) if found else None

    def wait_for(self, query: str, value: float) -> None:
        found = None
        deadline = time.monotonic() + SECONDS
        while (found := self.value(query)) != value:
            assert time.monotonic() < deadline, f"{query} is {found}, not {value}"
            time.sleep(0.05)


CONFIG = """
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: asparkle
    file_sd_configs: [{files: [targets.json], refresh_interval: 1s}]
"""


@contextmanager
def prometheus(directory: Path) -> Iterator[Prometheus]:
    binary, promtool = program("prometheus"), program("promtool")
    config, targets = directory / "prometheus.yml", directory / "targets.json"
    config.write_text(CONFIG)
    targets.write_text("[]")
    subprocess.run([promtool, "check", "config", str(config)], check=True, capture_output=True)
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]
    with running(command, f"{url}/-/ready", directory / "prometheus.log"):
        yield Prometheus(url, targets)


@contextmanager
def pushgateway(directory: Path) -> Iterator[str]:
    """The host and port of one."""
    address = f"127.0.0.1:{free_port()}"
    command = [program("prometheus-pushgateway"), f"--web.listen-address={address}"]
    with running(command, f"http://{address}/-/ready", directory / "pushgateway.log"):
        yield address
