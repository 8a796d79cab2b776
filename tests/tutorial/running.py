"""Running all cells, as a reader would, and comparing what they show with what PySpark 4.3 showed (recorded.json)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest

import asparkle
import asparkle.aio
from asparkle import SparkConf, SparkContext, StorageLevel

from .cells import tutorial
from .notebook import Notebook, Outcome, agree, coroutine_methods
from .operations import operations

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))["cells"]
NAMES = [cell.name for cell in (*tutorial.cells, *operations.cells)]
TIMEOUT = 300.0


def outcomes_of(conf: SparkConf, face: str, directories: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    """What all cells show, run in order in one context per notebook.  ``face``: 'blocking', 'asyncio' or 'trio'."""
    # the recording was made on local[4], with the same default
    conf.setAppName("tutorial").set("spark.default.parallelism", "4")
    found: dict[str, Outcome] = {}
    for notebook in (tutorial, operations):
        ns = SimpleNamespace(
            SparkConf=SparkConf,
            StorageLevel=StorageLevel,
            directory=str(directories.mktemp("cells")),
            aio=face != "blocking",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # roots of negative numbers, as in the tutorial
            if face == "blocking":
                found |= _run_blocking(notebook, conf, ns)
            else:
                found |= anyio.run(partial(_run_aio, notebook, conf, ns), backend=face)
    return found


def _run_blocking(notebook: Notebook, conf: SparkConf, ns: SimpleNamespace) -> dict[str, Outcome]:
    with SparkContext(conf=conf) as sc:
        return notebook.run(sc, ns)


async def _run_aio(notebook: Notebook, conf: SparkConf, ns: SimpleNamespace) -> dict[str, Outcome]:
    with anyio.fail_after(TIMEOUT):
        async with asparkle.aio.SparkContext(conf=conf) as sc:
            return await notebook.run_aio(sc, ns, coroutine_methods(asparkle.aio))


def check(name: str, outcome: Outcome) -> None:
    """Fail unless a cell showed what was recorded."""
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    recorded = RECORDED[name]
    differences = [
        f"{label}:\n  got      {outcome.shown[label]}\n  recorded {recorded.get(label)}"
        for label in outcome.shown
        if not (label in recorded and agree(outcome.shown[label], recorded[label]))
    ]
    assert not differences and not outcome.error, "\n".join([*differences, outcome.error])
    assert list(outcome.shown) == list(recorded)
