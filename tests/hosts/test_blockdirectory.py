"""Which executor is asked for a cached partition, and which gets a replica, by hosts."""

from __future__ import annotations

from typing import Any

import pytest

from asparkle.core import protocol
from asparkle.core.blockdirectory import BlockDirectory
from asparkle.core.protocol import FileRef

BLOCK = (7, 0)


class Directory(BlockDirectory):
    """Of executors a and b on host h0, c and d on h1."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.removed: list[FileRef] = []
        super().__init__(lambda executor, message: self.sent.append((executor, message)), self.removed.append)
        for executor, host in (("a", "h0"), ("b", "h0"), ("c", "h1"), ("d", "h1")):
            self.executor_added(executor, host)

    def can_fetch(self) -> str:
        """Those who could only get it from another executor."""
        return "".join(executor for executor in sorted(self._hosts) if self.elsewhere([BLOCK], executor))

    def asked(self, reader: str) -> str:
        """Who is asked for it."""
        self.sent.clear()
        self.wanted(reader, protocol.WantBlock(*BLOCK, 1))
        ((executor, message),) = self.sent
        assert isinstance(message, protocol.Export if executor != reader else protocol.TakeBlock)
        return executor

    def targets(self, owner: str, copies: int) -> list[str]:
        self.sent.clear()
        self.replicate(BLOCK, owner, copies, (False, True, False, True, 1 + copies))
        assert all(executor == owner for executor, _ in self.sent)
        return [self._wanted[message.request][1] for _, message in self.sent]


@pytest.fixture
def directory() -> Directory:
    return Directory()


def test_a_block_in_a_heap(directory):
    assert directory.can_fetch() == ""
    directory.changed("a", [BLOCK], [], "worker")
    assert directory.can_fetch() == "bcd"
    assert directory.asked("d") == "a"
    directory.executor_lost("a")
    assert directory.can_fetch() == ""
    assert directory.asked("d") == "d"  # is told that there is none


def test_a_block_on_a_disk_is_there_for_all_of_its_host(directory):
    directory.changed("a", [BLOCK], [], "host")
    assert directory.can_fetch() == "cd"
    directory.executor_lost("a", survive=True)
    assert directory.asked("c") == "b"
    directory.executor_lost("b", survive=True)
    assert directory.can_fetch() == ""  # nobody is there to give it
    directory.executor_added("e", "h0")
    assert directory.asked("c") == "e"
    directory.changed("e", [], [BLOCK], "host")  # the file is damaged
    assert directory.can_fetch() == ""


def test_a_block_on_a_disk_that_goes_with_its_host(directory):
    directory.changed("a", [BLOCK], [], "host")
    directory.changed("c", [BLOCK], [], "host")
    directory.executor_lost("a", survive=False)
    directory.executor_lost("b", survive=False)
    assert directory.can_fetch() == ""
    directory.executor_added("e", "h2")
    assert directory.asked("e") in "cd"


def test_a_host_that_came_back_without_what_was_on_its_disk(directory):
    directory.executor_added("e", "h2")
    directory.changed("a", [BLOCK], [], "host")
    directory.changed("c", [BLOCK], [], "host")
    directory.executor_lost("a")  # its host lives, and is lost later, when nobody of those who wrote is there
    assert directory.can_fetch() == "bcde"  # h0 and h1 look at their disks first
    assert directory.asked("e") == "b"
    (request,) = directory._wanted
    directory.exported(protocol.Exported(*BLOCK, request, None))
    assert directory.sent[-1][0] == "c"
    (request,) = directory._wanted
    directory.exported(protocol.Exported(*BLOCK, request, None))
    assert directory.sent[-1] == ("e", protocol.TakeBlock(*BLOCK, 1, None))
    assert directory.can_fetch() == "" and not directory.holders(BLOCK)


def test_who_is_near_is_asked_first(directory):
    directory.changed("a", [BLOCK], [], "worker")
    directory.changed("c", [BLOCK], [], "worker")
    assert (directory.asked("b"), directory.asked("d")) == ("a", "c")


def test_replicas_go_to_other_hosts_first(directory):
    directory.changed("a", [BLOCK], [], "worker")
    assert directory.targets("a", 1)[0] in "cd"
    assert len({*directory.targets("a", 3)} - {"a"}) == 3
    assert sorted(directory.targets("a", 9)) == ["b", "c", "d"]


def test_replicas_go_to_the_least_laden(directory):
    directory.changed("a", [BLOCK], [], "worker")
    directory.changed("c", [(8, 0)], [], "worker")
    assert directory.targets("a", 1) == ["d"]


def test_what_was_exported_for_who_is_gone_is_removed(directory):
    directory.changed("a", [BLOCK], [], "worker")
    assert directory.asked("c") == "a"
    ((_, message),) = directory.sent
    directory.executor_lost("c")
    directory.exported(protocol.Exported(*BLOCK, message.request, ("/x", 5, "h0")))
    assert directory.removed == [FileRef("/x", 5, "h0")]


def test_replicas_are_under_way_until_they_are_there_or_can_not_be(directory):
    directory.changed("a", [BLOCK], [], "worker")
    targets = directory.targets("a", 2)
    assert directory.replicating == {(BLOCK, target) for target in targets}
    directory.replicated(BLOCK, targets[0])
    assert directory.replicating == {(BLOCK, targets[1])}
    directory.executor_lost(targets[1])
    assert directory.replicating == set()


def test_a_replica_whose_source_is_lost_is_refused(directory):
    directory.changed("a", [BLOCK], [], "worker")
    (target,) = directory.targets("a", 1)
    directory.sent.clear()
    directory.executor_lost("a")
    ((executor, message),) = directory.sent
    assert executor == target and message.ref is None and message.request == -1
    assert directory.replicating == {(BLOCK, target)}  # until the target has answered
