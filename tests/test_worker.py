"""``python -m asparkle.worker``: it takes no work from a driver that is not like it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from asparkle import SparkConf
from asparkle.core.application import Application
from asparkle.core.contracts import AppSpec
from asparkle.core.protocol import Hello, MessageReader, Ready, Refused, Shutdown, encode
from asparkle.core.version import PYTHON, VERSION
from asparkle.plugins.registry import PluginRegistry


@pytest.fixture
def app(tmp_path: Path) -> AppSpec:
    (tmp_path / "results").mkdir()
    conf = SparkConf().setMaster("processes[1]").setAppName("worker")
    return Application(conf, PluginRegistry(conf)).spec._replace(directories=(str(tmp_path),))


def answer(app: AppSpec, /, **changes: Any) -> Any:
    """What a worker says first, of itself."""
    worker = subprocess.Popen([sys.executable, "-m", "asparkle.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with worker:
        assert worker.stdin is not None and worker.stdout is not None
        hello = Hello(VERSION, PYTHON, app._asdict(), "0")._replace(**changes)
        worker.stdin.write(encode([hello]))
        worker.stdin.flush()
        first = MessageReader().feed(os.read(worker.stdout.fileno(), 1 << 16))[0]
        worker.stdin.write(encode([Shutdown()]))
    return first


def test_a_worker_of_the_same_versions_is_ready(app: AppSpec) -> None:
    app = app._replace(packages=(("cloudpickle", version("cloudpickle")),))
    assert isinstance(answer(app), Ready)


def test_a_worker_of_other_versions_refuses(app: AppSpec) -> None:
    assert answer(app, python="2.7") == Refused(
        f"its Python is {PYTHON}, the driver's 2.7: functions go from one to the other as bytecode"
    )
    assert answer(app, version="9.9", app={"unheard": "of"}) == Refused(f"its asparkle is {VERSION}, the driver's 9.9")


def test_a_worker_that_cannot_do_what_is_asked_of_it_refuses(app: AppSpec) -> None:
    assert answer(app, app=app._replace(cache_policy="not_here:Policy")._asdict()) == Refused(
        "'not_here:Policy' can't be imported here: ModuleNotFoundError: No module named 'not_here'"
    )
    refused = answer(app, app=app._replace(directories=("/no/such/directory",))._asdict())
    assert "No such file or directory: '/no/such/directory" in refused.reason


def test_a_worker_without_a_plugin_of_the_same_version_refuses(app: AppSpec) -> None:
    there = version("cloudpickle")
    assert answer(app._replace(packages=(("cloudpickle", "0.1"),))) == Refused(
        f"its cloudpickle is {there}, the driver's 0.1: install the same version"
    )
    assert answer(app._replace(packages=(("asparkle-moon", "1.0"),))) == Refused(
        "its asparkle-moon is not installed, the driver's 1.0: install the same version"
    )
