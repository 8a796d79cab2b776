"""Each fault happens in the middle of a job of three stages over a cached input: the result is right, accumulators are
exact, and nothing is left on any node."""

from __future__ import annotations

import pytest

from asparkle.events import SpeculativeTaskSubmitted

from .faults import FAULTS, RECORDS, SLOW_WITH_SPECULATION, expected, left_behind, under
from .hosts import Hosts

pytestmark = pytest.mark.slow

OFF = {"node powered off", "node powered off, and on again"}  # what such a node leaves, its next application removes


@pytest.mark.parametrize("name", [None, *FAULTS])
def test_the_job_gives_what_it_gives_without_the_fault(name: str | None, fresh: Hosts) -> None:
    outcome = under(fresh, name)
    assert outcome.result == expected()
    assert outcome.accumulated == (RECORDS, 600)
    speculated = any(isinstance(event, SpeculativeTaskSubmitted) for event in outcome.events)
    assert speculated == (name == SLOW_WITH_SPECULATION)
    found = left_behind(fresh)
    if name in OFF:
        found = [what for what in found if not what.startswith(fresh[0].name)]
    assert found == []
