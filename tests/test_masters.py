"""Master URLs are parsed or refused when given; the machine's share honours affinity and control groups."""

from __future__ import annotations

import os

import pytest

from asparkle.core import masters
from asparkle.core.errors import ConfigurationError
from asparkle.core.masters import (
    Master,
    available_cpus,
    cgroup_cpus,
    cgroup_memory,
    default_memory,
    parse_master,
)

LOCAL = masters.local_scheme()


@pytest.mark.parametrize(
    ("url", "master"),
    [
        ("local", Master(LOCAL, 1)),
        ("local[3]", Master(LOCAL, 3)),
        ("local[*]", Master(LOCAL, available_cpus())),
        ("local[2,5]", Master(LOCAL, 2, 5)),
        ("local[ * , 1 ]", Master(LOCAL, available_cpus(), 1)),
        ("inline", Master("inline", 1)),
        ("threads", Master("threads", 1)),
        ("threads[4]", Master("threads", 4)),
        ("processes[*]", Master("processes", available_cpus())),
        ("dask://host:8786", Master("dask", None, None, "host:8786")),
        ("ssh://me@a:22*4,b", Master("ssh", None, None, "me@a:22*4,b")),
        ("ssh:nodes.toml", Master("ssh", None, None, "nodes.toml", ":")),
        ("SSH:/etc/nodes.toml", Master("ssh", None, None, "/etc/nodes.toml", ":")),
        ("slurm:part[1-2]:x", Master("slurm", None, None, "part[1-2]:x", ":")),
        ("ssh://[::1]:22", Master("ssh", None, None, "[::1]:22")),
    ],
)
def test_known_forms(url, master):
    assert parse_master(url) == master


@pytest.mark.parametrize(
    "url",
    [
        "",
        "lokal",
        "locl[2]",
        "local(2)",
        "local[2",
        "local:2",
        "spark",
        "://x",
        ":x",
        "a b://x",
        "a b:x",
        "l[2]:x",
        None,
        3,
    ],
)
def test_unknown_masters_name_the_url_and_what_is_known(url):
    with pytest.raises(ConfigurationError) as caught:
        parse_master(url)
    assert repr(url) in str(caught.value)
    assert "local[N,F]" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "local[0]",
        "local[-1]",
        "local[two]",
        "local[]",
        "local[1,]",
        "local[1,0]",
        "threads[1,2]",
        "inline[2]",
    ],
)
def test_bad_numbers_name_the_url(url):
    with pytest.raises(ConfigurationError) as caught:
        parse_master(url)
    assert repr(url) in str(caught.value)


def test_local_is_threads_only_without_a_gil(monkeypatch):
    monkeypatch.setattr("sys._is_gil_enabled", lambda: False, raising=False)
    assert parse_master("local[2]").scheme == "threads"
    monkeypatch.setattr("sys._is_gil_enabled", lambda: True)
    assert parse_master("local[2]").scheme == "processes"


# ------------------------------------------------------------------------------------------ control groups


def control_groups(root, membership, files):
    """A file system like /proc and /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(membership)
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return str(root)


def test_version_2_takes_the_least_limit_on_the_way_up(tmp_path):
    root = control_groups(
        tmp_path,
        "0::/pod/app\n",
        {
            "pod/cpu.max": "150000 100000\n",
            "pod/app/cpu.max": "max 100000\n",
            "pod/memory.max": "1000000\n",
            "pod/app/memory.max": "max\n",
        },
    )
    assert cgroup_cpus(root) == 1.5
    assert cgroup_memory(root) == 1000000


def test_version_1(tmp_path):
    root = control_groups(
        tmp_path,
        "4:memory:/docker/abc\n2:cpu:/docker/abc\n1:name=systemd:/docker/abc\n",
        {  # in a container the group's own files are at the mount's top
            "cpu/cpu.cfs_quota_us": "50000\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": "2000000\n",
        },
    )
    assert cgroup_cpus(root) == 0.5
    assert cgroup_memory(root) == 2000000


def test_no_limit_is_none(tmp_path):
    files = {
        "cpu/cpu.cfs_quota_us": "-1\n",
        "cpu/cpu.cfs_period_us": "100000\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    root = control_groups(tmp_path, "4:memory:/\n2:cpu:/\n", files)
    assert cgroup_cpus(root) is None
    assert cgroup_memory(root) is None


def test_a_machine_without_control_groups_has_no_limit(tmp_path):
    assert cgroup_cpus(str(tmp_path)) is None
    assert cgroup_memory(str(tmp_path)) is None


@pytest.mark.parametrize(("quota", "cpus"), [(0.5, 1), (1.5, 2), (64.0, 8), (None, 8)])
def test_available_cpus_is_affinity_capped_by_quota(monkeypatch, quota, cpus):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(masters, "cgroup_cpus", lambda: quota)
    assert available_cpus() == cpus


def test_default_memory_is_capped_by_the_limit(monkeypatch):
    monkeypatch.setattr(masters, "cgroup_memory", lambda: 1 << 20)
    assert default_memory() == 1 << 20
    monkeypatch.setattr(masters, "cgroup_memory", lambda: None)
    assert default_memory() > 1 << 20
