from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .disks import disk_of
from .hosts import Hosts, hosts


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Three hosts."""
    with hosts(3, tmp_path_factory.mktemp("hosts")) as found:
        yield found


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Hosts]:
    """Three hosts that a test may do harm to."""
    with hosts(3, tmp_path) as found:
        yield found


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An empty disk, as small as the module's DISK says."""
    with disk_of(request.module.DISK, tmp_path / "disk") as found:
        yield found
