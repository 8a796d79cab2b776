"""pytest's plugin: fixtures for tests that need a context, the events of one, or proof that nothing is left behind.

pytest loads it where asparkle is installed; then it costs an import of this module, and nothing until a fixture is
asked for.  Override ``asparkle_master`` or ``asparkle_conf`` to have other contexts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from asparkle import SparkConf, SparkContext
    from asparkle.aio import SparkContext as AsyncSparkContext
    from asparkle.testing import EventRecorder


@pytest.fixture
def asparkle_master() -> str:
    """The master of `spark_context` and `async_spark_context`: threads[2] unless a test module says otherwise."""
    return "threads[2]"


@pytest.fixture
def asparkle_conf(asparkle_master: str, tmp_path_factory: pytest.TempPathFactory) -> SparkConf:
    """Their settings: the master, and directories of the test's own."""
    from asparkle import SparkConf

    local = tmp_path_factory.mktemp("asparkle")
    return SparkConf().setMaster(asparkle_master).set("spark.local.dir", str(local))


@pytest.fixture
def event_recorder() -> EventRecorder:
    """A listener of these contexts that keeps all events; complete when they are stopped."""
    from asparkle.testing import EventRecorder

    return EventRecorder()


@pytest.fixture
def asparkle_plugins(event_recorder: EventRecorder) -> list[object]:
    """Their plugins: the recorder.  Override it to add yours."""
    return [event_recorder]


@pytest.fixture
def spark_context(asparkle_conf: SparkConf, asparkle_plugins: list[object]) -> Iterator[SparkContext]:
    """A context of the test's own, in the blocking form; stopped at its end."""
    from asparkle import SparkContext

    with SparkContext(conf=asparkle_conf, plugins=asparkle_plugins) as sc:
        yield sc


@pytest.fixture
def async_spark_context(asparkle_conf: SparkConf, asparkle_plugins: list[object]) -> AsyncSparkContext:
    """A context for an asynchronous test, which enters it: ``async with async_spark_context as sc``.

    It does not matter which plugin runs the test, nor on which event loop."""
    from asparkle.aio import SparkContext

    return SparkContext(conf=asparkle_conf, plugins=asparkle_plugins)


@pytest.fixture
def no_leaks(tmp_path: Path) -> Iterator[None]:
    """The test fails if it leaves a process, a thread, a file descriptor, or a file below ``tmp_path / "local"``.

    For all tests of a module: ``pytestmark = pytest.mark.usefixtures("no_leaks")``."""
    from asparkle.testing.leaks import no_leaks

    local = tmp_path / "local"
    local.mkdir(exist_ok=True)
    with no_leaks(local):
        yield
