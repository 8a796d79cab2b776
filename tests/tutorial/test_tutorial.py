"""Each cell gives what PySpark gave, on every built-in backend, through both faces."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from masters import MASTERS

from asparkle import SparkConf

from .notebook import Outcome
from .running import NAMES, RECORDED, check, outcomes_of

FACES = ("blocking", "asyncio", "trio")


@pytest.fixture(
    scope="module",
    params=[(face, master) for master in MASTERS for face in FACES if face != "trio" or master == "threads[2]"],
    ids="-".join,
)
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    face, master = request.param
    return outcomes_of(SparkConf().setMaster(master), face, tmp_path_factory)


@pytest.mark.parametrize("name", NAMES)
def test_cell_gives_what_pyspark_gave(outcomes: Mapping[str, Outcome], name: str) -> None:
    check(name, outcomes[name])


def test_the_recording_has_every_cell() -> None:
    assert list(RECORDED) == NAMES
