"""What a node does before asparkle is there, in real processes: its cache, and what it refuses."""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.backends.ssh import stage0
from asparkle.backends.ssh.archive import Archive
from asparkle.backends.ssh.nodes import Node
from asparkle.errors import NodeError

from .conversation import PYTHON, READY, echoing, is_agent, local, packed

DISK = "600k"  # which holds a few files, and not an archive unpacked


def cached(home: Path) -> Path:
    return home / ".cache" / "asparkle" / echoing().id


def test_asparkle_is_sent_once_and_then_found(tmp_path: Path) -> None:
    with local(tmp_path) as first:
        facts = first.run().facts
        assert is_agent(first)
    assert first.bootstrap.sent_archive
    with local(tmp_path) as second:
        assert second.run().facts == facts
        assert is_agent(second)
    assert not second.bootstrap.sent_archive
    assert facts["code"] == str(cached(tmp_path)) and facts["directory"] == str(tmp_path / "tmp")
    assert facts["executable"] == PYTHON and 1 <= facts["cpus"] <= os.cpu_count() and facts["memory"] > 1 << 20
    assert (tmp_path / ".cache" / "asparkle").stat().st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path / ".cache" / "asparkle") == [echoing().id]
    assert os.listdir(tmp_path / "tmp") == []


def test_the_agent_gets_every_byte_that_follows(tmp_path: Path) -> None:
    for warm in (False, True):
        with local(tmp_path) as conversation:
            conversation.run(b"at once", cached=warm)
            assert conversation.said(len(READY) + 7) == READY + b"at once"


def test_what_lies_in_the_home_is_not_imported(tmp_path: Path) -> None:
    for module in ("os", "json", "tempfile", "anyio", "asparkle"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit(7)")
    with local(tmp_path) as conversation:
        conversation.run()
        assert is_agent(conversation)


def test_a_node_has_an_environment_and_a_directory_of_its_own(tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path / "caches"), "TMPDIR": "/nowhere"}
    node = Node("here", "here", python=PYTHON, environment=environment, directory="~/scratch/deep")
    with local(tmp_path, node) as conversation:
        facts = conversation.run().facts
    assert facts["directory"] == str(tmp_path / "scratch" / "deep")
    assert facts["code"] == str(tmp_path / "caches" / "asparkle" / echoing().id)


# ----------------------------------------------------------------------------------------------------- damaged copies


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def zero(path: Path) -> None:
    """As after a power failure: of the right length."""
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("name", ["anyio/abc/__init__.py", stage0.MANIFEST])
@pytest.mark.parametrize("damage", [cut, zero, Path.unlink])
def test_a_copy_that_is_damaged_is_mended(tmp_path: Path, name: str, damage) -> None:
    with local(tmp_path) as cold:
        cold.run()
    file = cached(tmp_path) / name
    whole = file.read_bytes()
    damage(file)
    with local(tmp_path) as mending:
        mending.run()
        assert is_agent(mending)
    assert mending.bootstrap.sent_archive and file.read_bytes() == whole
    assert os.listdir(tmp_path / ".cache" / "asparkle") == [echoing().id]
    with local(tmp_path) as warm:
        assert not warm.run().sent_archive


def test_an_empty_directory_in_its_place_does_not_matter(tmp_path: Path) -> None:
    cached(tmp_path).mkdir(parents=True)
    cached(tmp_path).parent.chmod(0o700)
    with local(tmp_path) as conversation:
        assert conversation.run().facts["code"] == str(cached(tmp_path))
        assert is_agent(conversation)


@pytest.mark.parametrize("before", [False, True], ids=["nothing", "a damaged copy"])
def test_several_drivers_at_once(tmp_path: Path, before: bool) -> None:
    if before:
        with local(tmp_path) as cold:
            cold.run()
        zero(cached(tmp_path) / "pluggy/__init__.py")
    with contextlib.ExitStack() as stack:
        conversations = [stack.enter_context(local(tmp_path)) for _ in range(4)]
        archives = [b""] * len(conversations)
        for i, conversation in enumerate(conversations):
            while not conversation.bootstrap.sent_archive:
                data = conversation.hear()
                if conversation.bootstrap.sent_archive:
                    archives[i] = data  # until all want it
                else:
                    conversation.send(data)
        for conversation, data in zip(conversations, archives, strict=True):
            conversation.send(data)
        for conversation in conversations:
            conversation.run()
            assert is_agent(conversation)
    assert os.listdir(tmp_path / ".cache" / "asparkle") == [echoing().id]
    assert stage0.is_whole(str(cached(tmp_path)))


def test_nothing_half_is_left_by_a_driver_that_goes_away(tmp_path: Path) -> None:
    for part in (0, 4, 20_000, 600_000):
        with local(tmp_path) as conversation:
            while not conversation.bootstrap.sent_archive:
                data = conversation.hear()
                if part == 4 or conversation.bootstrap.sent_archive:
                    conversation.send(data[:part])
                    break
                conversation.send(data)
        assert conversation.process.returncode in (0, 1)
        assert not (tmp_path / ".cache").exists() and os.listdir(tmp_path / "tmp") == []


# ----------------------------------------------------------------------------------------------------------- old copies


@contextlib.contextmanager
def used(directory: Path) -> Iterator[None]:
    with (directory / stage0.MANIFEST).open("rb") as manifest:
        fcntl.flock(manifest, fcntl.LOCK_SH)
        yield


def test_copies_that_nobody_has_used_for_30_days_are_removed(tmp_path: Path) -> None:
    root = cached(tmp_path).parent
    root.mkdir(parents=True, mode=0o700)
    now = cached(tmp_path).parent.stat().st_mtime
    ages = {"old": 31, "recent": 29, "in-use": 400, "unpacking-a": 2, "unpacking-b": 0, "torn": 31}
    for name, days in ages.items():
        (root / name / "anyio").mkdir(parents=True)
        if name != "torn":
            (root / name / stage0.MANIFEST).touch()
        os.utime(root / name, (now, now - days * stage0.DAY))
    with used(root / "in-use"), local(tmp_path) as conversation:
        conversation.run()
    assert {*os.listdir(root)} == {"recent", "in-use", "unpacking-b", echoing().id}


def test_a_copy_that_is_used_is_not_old_and_not_removed_while_it_is(tmp_path: Path) -> None:
    with local(tmp_path) as cold:
        cold.run()
    os.utime(cached(tmp_path), (0, 0))
    with local(tmp_path) as warm:
        assert not warm.run().sent_archive
        assert cached(tmp_path).stat().st_mtime > 0
        os.utime(cached(tmp_path), (0, 0))
        stage0.remove_old(str(cached(tmp_path).parent))
        assert cached(tmp_path).exists()
    stage0.remove_old(str(cached(tmp_path).parent))
    assert not cached(tmp_path).exists()


# ------------------------------------------------------------------------------------------------------ what is refused


def refused(home: Path, node: Node | None = None, **more) -> str:
    with pytest.raises(NodeError) as caught, local(home, node, **more) as conversation:
        conversation.run()
    assert caught.value.node == "here"
    return caught.value.reason


def test_where_the_home_can_not_be_written_the_nodes_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / ".cache").write_text("no directory")
    for sent in (True, False):
        with local(tmp_path) as conversation:
            assert conversation.run().sent_archive == sent
            expected = tmp_path / "tmp" / f"asparkle-cache-{os.getuid()}" / echoing().id
            assert conversation.bootstrap.facts["code"] == str(expected)
            assert is_agent(conversation)
    assert expected.parent.stat().st_mode & 0o777 == 0o700


def test_a_cache_that_others_may_write_is_not_trusted(tmp_path: Path) -> None:
    with local(tmp_path) as cold:
        cold.run()
    cached(tmp_path).parent.chmod(0o770)
    with local(tmp_path) as elsewhere:
        assert elsewhere.run().facts["code"].startswith(f"{tmp_path}/tmp/")
    (own,) = (tmp_path / "tmp").iterdir()
    own.rename(tmp_path / "moved")
    own.symlink_to(tmp_path / "moved")
    reason = refused(tmp_path)
    for root in (cached(tmp_path).parent, own):
        assert f"{root}: others may write there, too" in reason
    assert reason.endswith("let its user write in one of them, or give the node another `directory`")


def test_a_directory_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    node = Node("here", "here", python=PYTHON, directory="/dev/null/x")
    reason = refused(tmp_path, node)
    assert reason.startswith("directory '/dev/null/x': Not a directory; let its user write there, or give")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    node = Node("here", "here", python=PYTHON, directory=f"{tmp_path}/locked")
    assert "Permission denied; let its user write there" in refused(tmp_path, node)


def test_a_full_disk_is_named_and_nothing_half_is_left_on_it(disk: Path) -> None:
    reason = refused(disk)
    caches = [disk / ".cache" / "asparkle", disk / "tmp" / f"asparkle-cache-{os.getuid()}"]
    for root in caches:
        assert f"{root}: No space left on device" in reason
        assert os.listdir(root) == []
    assert reason.endswith("free space in one of them, or give the node another `directory`")


def test_a_disk_that_is_too_full_to_mend_a_copy_leaves_it_as_it_is(disk: Path) -> None:
    root = disk / ".cache" / "asparkle" / echoing().id
    root.mkdir(parents=True)
    (root / "kept").touch()
    root.parent.chmod(0o700)
    assert "No space left on device" in refused(disk)
    assert os.listdir(root.parent) == [echoing().id] and os.listdir(root) == ["kept"]


def test_a_full_home_is_no_obstacle_where_there_is_another_directory(disk: Path, tmp_path: Path) -> None:
    node = Node("here", "here", python=PYTHON, directory=f"{tmp_path}/scratch")
    with local(disk, node) as conversation:
        assert conversation.run().facts["code"].startswith(f"{tmp_path}/scratch/asparkle-cache-")
        assert is_agent(conversation)
    assert os.listdir(disk / ".cache" / "asparkle") == []


def test_an_archive_that_is_damaged_on_its_way_is_refused(tmp_path: Path) -> None:
    data = bytearray(echoing().data)
    data[len(data) // 2] ^= 1
    assert refused(tmp_path, sent=Archive(echoing().id, bytes(data))) == (
        "asparkle's code was damaged on its way there; try again"
    )
    assert not (tmp_path / ".cache").exists()


SMALL = packed({"a.py": b"1", "b/c.py": b"22"})


@given(st.integers(0, len(SMALL.data) - 1), st.integers(1, 255))
def test_no_damaged_byte_goes_unnoticed(place: int, change: int) -> None:
    data = bytearray(SMALL.data)
    data[place] ^= change
    try:
        files = stage0.unpacked(bytes(data), SMALL.id)
    except stage0.Refused:
        return
    assert {"a.py": b"1", "b/c.py": b"22"}.items() <= files.items()


@given(st.binary(max_size=200))
def test_any_bytes_are_an_archive_or_refused(data: bytes) -> None:
    for sent in (data, zlib.compress(data)):
        with pytest.raises(stage0.Refused):
            stage0.unpacked(sent, SMALL.id)


def test_code_that_can_not_run_says_why(tmp_path: Path) -> None:
    """An archive without asparkle in it: what the driver sends by mistake is not what the node is blamed for."""
    with pytest.raises(NodeError, match=r"(?s)exit status 1 before asparkle ran there: .*ModuleNotFoundError"):
        with local(tmp_path, sent=packed({"empty.py": b""})) as conversation:
            conversation.run()
