"""What a plugin does in workers, on nodes where it is not installed: the package of contrib's cache policy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conversation import PYTHON
from .faults import conf, left_behind
from .hosts import Hosts
from .packages import install

ROOT = Path(__file__).parents[2]
MRU = ROOT / "contrib" / "examples" / "asparkle-mru" / "src" / "asparkle_mru.py"

SCANS = """
import sys
from asparkle import SparkConf, SparkContext

conf = SparkConf().setAll([pair.split("=", 1) for pair in sys.argv[1:]]).setAppName("scans")
with SparkContext(conf=conf) as sc:
    count = sc.accumulator(0)

    def block(x):
        count.add(1)
        return bytes(2_000_000)

    rdds = [sc.parallelize([0], 1).map(block).cache() for _ in range(3)]
    for _ in range(3):
        for rdd in rdds:
            assert rdd.count() == 1
    print(count.value, rdds[0].map(lambda _: sys.modules["asparkle_mru"].__file__ if POLICY == "mru" else "").first())
"""


@pytest.mark.parametrize(("policy", "computed"), [("lru", 9), ("mru", 6)])
def test_a_cache_policy(policy: str, computed: int, made: Hosts, tmp_path: Path) -> None:
    """Three RDDs, room for two, read in one order three times: LRU never has the next one."""
    info = "asparkle_mru-1.5.dist-info"
    entry = "[asparkle]\nmru = asparkle_mru\n"
    install(tmp_path / "site", "asparkle-mru", {MRU.name: MRU.read_bytes(), f"{info}/entry_points.txt": entry})
    nodes = made.directory / "one.toml"
    nodes.write_text(f'nodes = ["node1*1"]\n[defaults]\npython = "{PYTHON}"\n')
    settings = dict(conf(made).getAll()) | {
        "spark.master": f"ssh:{nodes}",
        "asparkle.cache.policy": policy,
        "spark.memory.fraction": "1",
        "spark.executor.memory": "5m",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCANS.replace("POLICY", repr(policy)), *(f"{k}={v}" for k, v in settings.items())],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path / 'site'}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    count, _, place = done.stdout.strip().partition(" ")
    assert int(count) == computed
    if policy == "mru":
        assert place.startswith(str(made[0].directory))
    assert left_behind(made) == []
