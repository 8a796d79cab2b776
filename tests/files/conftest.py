"""Contexts for the tests of files: one for each master."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from masters import MASTERS

from asparkle import SparkContext


@pytest.fixture(params=MASTERS)
def sc(request: pytest.FixtureRequest) -> Iterator[SparkContext]:
    with SparkContext(request.param) as context:
        yield context


@pytest.fixture
def threads() -> Iterator[SparkContext]:
    """For what no backend changes."""
    with SparkContext("threads[2]") as context:
        yield context
