"""Spark's own History Server, from the jars of an installed PySpark."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark_examples.programs import pyspark_directory

OPENED = ("java.lang", "java.lang.invoke", "java.nio", "java.util", "sun.nio.ch")


def jars() -> Path | None:
    """Where they are, if there is a Java to run them."""
    directory = pyspark_directory()
    if directory is None or shutil.which("java") is None or not (directory / "jars").is_dir():
        return None
    return directory / "jars"


class HistoryServer:
    def __init__(self, address: str) -> None:
        self.address = address

    def page(self, path: str) -> str:
        """Raises HTTPError unless it is answered with 200."""
        with urllib.request.urlopen(f"{self.address}/{path}", timeout=60) as answer:
            text: str = answer.read().decode()
        return text

    def rest(self, path: str) -> Any:
        return json.loads(self.page(f"api/v1/{path}"))


@contextmanager
def history_server(logs: Path, output: Path) -> Iterator[HistoryServer]:
    """One that shows what is in ``logs``; what it says goes to ``output``."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    settings = {"fs.logDirectory": f"file:{logs}", "ui.port": f"{port}", "fs.update.interval": "1s"}
    command = ["java", "-Xmx1g", "-cp", f"{jars()}/*"]
    command += [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
    command += [f"-Dspark.history.{key}={value}" for key, value in settings.items()]
    environment = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1"}
    with output.open("w") as file:
        process = subprocess.Popen(
            [*command, "org.apache.spark.deploy.history.HistoryServer"], stdout=file, stderr=file, env=environment
        )
    try:
        server = HistoryServer(f"http://127.0.0.1:{port}")
        wait_until(lambda: process.poll() is not None or _answers(server), "the server to answer")
        assert process.poll() is None, output.read_text()
        yield server
    finally:
        process.kill()
        process.wait()


def _answers(server: HistoryServer) -> bool:
    try:
        server.rest("applications")
    except (urllib.error.URLError, ConnectionError):
        return False
    return True


def wait_until(happened: Callable[[], object], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.1)
