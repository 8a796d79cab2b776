"""Each fault happens in the middle of a job of three stages over a cached input: the result is right, accumulators are
exact, and nothing is left on any node."""

from __future__ import annotations

from pathlib import Path

import pytest

from asparkle.events import SpeculativeTaskSubmitted, TaskEnded

from .faults import FAULTS, FULL_DISK, RECORDS, SLOW_WITH_SPECULATION, SPACE, expected, left_behind, under
from .hosts import hosts

pytestmark = pytest.mark.slow

OFF = {"node powered off", "node powered off, and on again"}  # what such a node leaves, its next application removes


@pytest.mark.parametrize("name", [None, *FAULTS])
def test_the_job_gives_what_it_gives_without_the_fault(name: str | None, tmp_path: Path) -> None:
    with hosts(3, tmp_path, space=SPACE) as made:
        outcome = under(made, name)
        assert outcome.result == expected()
        assert outcome.accumulated == (RECORDS, 600)
        speculated = any(isinstance(event, SpeculativeTaskSubmitted) for event in outcome.events)
        assert speculated == (name == SLOW_WITH_SPECULATION)
        ended = [event for event in outcome.events if isinstance(event, TaskEnded)]
        failed = {event.host for event in ended if event.outcome == "failed"}
        assert failed <= ({"node1"} if name == FULL_DISK else set())  # a page that is begun may have room for an output
        found = left_behind(made)
        if name in OFF:
            found = [what for what in found if not what.startswith(made[0].name)]
        assert found == []
