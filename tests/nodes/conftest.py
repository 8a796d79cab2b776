from __future__ import annotations

from collections.abc import Iterator

import pytest

from .hosts import Hosts, hosts, missing


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Three hosts."""
    if reason := missing():
        pytest.skip(f"no hosts here: {reason}")
    with hosts(3, tmp_path_factory.mktemp("hosts")) as found:
        yield found


@pytest.fixture
def fresh(tmp_path: object) -> Iterator[Hosts]:
    """Three hosts that a test may do harm to."""
    if reason := missing():
        pytest.skip(f"no hosts here: {reason}")
    with hosts(3, tmp_path) as found:  # type: ignore[arg-type]
        yield found
