"""Between which hosts a job's bytes go, and by which route, as events tell it."""

from __future__ import annotations

import pytest

from .faults import conf, left_behind
from .hosts import Hosts
from .wordcount import Counted, Input, count_words, keep_apart, write_input


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Input:
    return write_input(tmp_path_factory.mktemp("input") / "text.txt", 8)


def routes(counted: Counted) -> dict[tuple[str, str], str]:
    assert all(size > 0 for size in counted.traffic.values())
    found = {(source, target): route for source, target, route in counted.traffic}
    assert len(found) == len(counted.traffic)  # one for each pair
    return found


def test_by_the_direct_route_where_nodes_can_connect_and_else_through_the_driver(text: Input, fresh: Hosts) -> None:
    keep_apart(fresh[0], fresh[1])
    counted = count_words(conf(fresh), text)
    assert counted.counts == text.counts
    apart = {"node1", "node2"}
    pairs = {pair: "driver" if set(pair) == apart else "direct" for pair in routes(counted)}
    assert routes(counted) == pairs and {"direct", "driver"} <= set(pairs.values())
    assert left_behind(fresh) == []


def test_through_the_driver_where_the_configuration_says_so(text: Input, made: Hosts) -> None:
    counted = count_words(conf(made, asparkle__ssh__direct="false"), text)
    assert counted.counts == text.counts
    assert set(routes(counted).values()) == {"driver"}
