"""Each cell gives what PySpark 4.3 gave (recorded.json), on every built-in backend, through both faces."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from masters import MASTERS

import asparkle
import asparkle.aio
from asparkle import SparkConf, SparkContext, StorageLevel

from .cells import tutorial
from .notebook import Notebook, Outcome, agree, coroutine_methods
from .operations import operations

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))["cells"]
FACES = ("blocking", "asyncio", "trio")
TIMEOUT = 300.0


def configuration(master: str) -> SparkConf:
    # the recording was made on local[4], with the same default
    return SparkConf().setMaster(master).setAppName("tutorial").set("spark.default.parallelism", "4")


def run_blocking(notebook: Notebook, master: str, ns: SimpleNamespace) -> dict[str, Outcome]:
    with SparkContext(conf=configuration(master)) as sc:
        return notebook.run(sc, ns)


async def run_aio(notebook: Notebook, master: str, ns: SimpleNamespace) -> dict[str, Outcome]:
    with anyio.fail_after(TIMEOUT):
        async with asparkle.aio.SparkContext(conf=configuration(master)) as sc:
            return await notebook.run_aio(sc, ns, coroutine_methods(asparkle.aio))


@pytest.fixture(
    scope="module",
    params=[(face, master) for master in MASTERS for face in FACES if face != "trio" or master == "threads[2]"],
    ids="-".join,
)
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    """What all cells showed, run in order in one context per notebook, as a reader would run them."""
    face, master = request.param
    found: dict[str, Outcome] = {}
    for notebook in (tutorial, operations):
        ns = SimpleNamespace(
            SparkConf=SparkConf,
            StorageLevel=StorageLevel,
            directory=str(tmp_path_factory.mktemp("cells")),
            aio=face != "blocking",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # roots of negative numbers, as in the tutorial
            if face == "blocking":
                found |= run_blocking(notebook, master, ns)
            else:
                found |= anyio.run(partial(run_aio, notebook, master, ns), backend=face)
    return found


@pytest.mark.parametrize("name", [cell.name for cell in (*tutorial.cells, *operations.cells)])
def test_cell_gives_what_pyspark_gave(outcomes: Mapping[str, Outcome], name: str) -> None:
    outcome, recorded = outcomes[name], RECORDED[name]
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    differences = [
        f"{label}:\n  got      {outcome.shown[label]}\n  recorded {recorded.get(label)}"
        for label in outcome.shown
        if not (label in recorded and agree(outcome.shown[label], recorded[label]))
    ]
    assert not differences and not outcome.error, "\n".join([*differences, outcome.error])
    assert list(outcome.shown) == list(recorded)


def test_the_recording_has_every_cell() -> None:
    assert list(RECORDED) == [cell.name for cell in (*tutorial.cells, *operations.cells)]
