"""The hosts that tests of several machines run on: what they do to a host happens to it, and to no other."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .hosts import Hosts, hosts, run


def ssh(made: Hosts, host: str, command: str, *, wait: int = 10) -> str:
    """What a command prints on a host; empty if the host can't be reached."""
    options = ["-F", str(made.config), "-o", "BatchMode=yes", "-o", f"ConnectTimeout={wait}"]
    return subprocess.run(["ssh", *options, host, command], capture_output=True, text=True).stdout.strip()


def test_hosts_have_names_homes_and_networks_of_their_own(tmp_path: Path) -> None:
    with hosts(2, tmp_path) as made:
        for host in made:
            told = ssh(made, host.name, "hostname; echo $HOME; echo $TMPDIR; ip -4 -brief address show eth0")
            name, home, temporary, link = told.split("\n")
            assert name == host.name
            assert (home, temporary) == (f"{host.directory}/home", f"{host.directory}/tmp")
            assert f"{host.address}/24" in link
        first, second = made
        assert (
            ssh(made, first.name, f"touch $TMPDIR/mine; timeout 5 bash -c '</dev/tcp/{second.address}/22' && echo met")
            == "met"
        )
        assert (first.left(), second.left()) == (["mine"], [])


def test_a_host_that_is_cut_off_or_switched_off_can_not_be_reached(tmp_path: Path) -> None:
    with hosts(2, tmp_path) as made:
        first, second = made
        first.disconnect()
        assert ssh(made, first.name, "hostname", wait=1) == ""
        first.connect()
        assert ssh(made, first.name, "hostname") == "node1"
        ssh(made, second.name, "nohup sleep 1000 > /dev/null 2>&1 < /dev/null &")
        assert len(second.processes()) == 1
        second.power_off()
        assert second.processes() == []
        assert ssh(made, second.name, "hostname", wait=1) == ""
        assert ssh(made, first.name, "hostname") == "node1"


def test_directories_can_be_hidden_from_them_and_space_be_limited(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").touch()
    with hosts(1, tmp_path, hidden=[tmp_path / "secret"], space={"node1": "64k"}) as made:
        assert ssh(made, "node1", f"ls {tmp_path}/secret; head -c 100000 /dev/zero > $TMPDIR/x || echo full") == "full"
        assert [path.name for path in (tmp_path / "secret").iterdir()] == ["file"]
        assert made[0].left() == ["x"]
        assert list((made[0].directory / "tmp").iterdir()) == []


def test_nothing_is_left_of_them(tmp_path: Path) -> None:
    def around() -> list[str]:
        return [run("ip", "netns"), run("ip", "link")]

    with hosts(1, tmp_path) as made:
        (host,) = made
        namespaces, links = around()
        assert host.namespace in namespaces and host.link in links
    namespaces, links = around()
    assert host.namespace not in namespaces and host.link not in links
