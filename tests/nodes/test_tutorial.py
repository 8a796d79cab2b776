"""The tutorial on SSH nodes: each cell gives what PySpark gave."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import pytest
from tutorial.notebook import Outcome
from tutorial.running import NAMES, check, outcomes_of

from .faults import conf, left_behind
from .hosts import Hosts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["blocking", "asyncio", "trio"])
def outcomes(
    request: pytest.FixtureRequest, made: Hosts, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Outcome]:
    # two cells need numpy and scikit-learn, which this environment's Python has
    return outcomes_of(conf(made, python=sys.executable), request.param, tmp_path_factory)


@pytest.mark.parametrize("name", NAMES)
def test_cell_gives_what_pyspark_gave(outcomes: Mapping[str, Outcome], name: str) -> None:
    check(name, outcomes[name])


def test_nothing_is_left(made: Hosts) -> None:
    assert left_behind(made) == []
