"""What the driver's script brings along, on nodes that see nothing of its directory, or of asparkle's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from asparkle import SparkContext, SparkFiles
from asparkle.errors import JobFailed

from .faults import conf
from .hosts import Hosts, hosts

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

SCRIPT = """
import importlib, json, os, sys
from pathlib import Path

import p_numpy
import near
from asparkle import SparkConf, SparkContext, SparkFiles
from shop import Order, read_prices

settings, local = sys.argv[1:]
sc = SparkContext(conf=SparkConf().setAll(json.loads(settings)).set("spark.local.dir", local))
told = {}


def total(order):
    return near.rounded(read_prices()[order.item] * order.count)


orders = sc.parallelize([Order("tea", 2), Order("rice", 3)] * 8, 8)
told["totals"] = orders.map(total).sum()
told["orders"] = sorted(map(str, orders.map(lambda order: order.twice()).distinct().collect()))


def everywhere(function):
    # on each of the four workers: a barrier stage's tasks run at once
    return sc.parallelize(range(4), 4).barrier().mapPartitions(lambda elements: map(function, elements)).collect()


told["nodes"] = sorted(everywhere(lambda x: (os.uname().nodename, os.path.exists(__file__))))

sc.addFile("words.txt")
sc.addFile("tree", recursive=True)
sc.addArchive("packed.tar.gz#packed")
sc.addPyFile("added.py")
sc.addPyFile("zipped.zip")


def added(x):
    import added
    import zipped.inner

    texts = [Path(SparkFiles.get(name)).read_text() for name in ("words.txt", "tree/deep/a.txt", "packed/b.txt")]
    return texts, added.X, zipped.inner.X, os.access(SparkFiles.get("words.txt"), os.X_OK)


told["added"] = everywhere(added)


def failure(function):
    try:
        sc.parallelize([1], 1).map(function).collect()
    except Exception as error:
        return str(error)


told["missing"] = failure(lambda x: p_numpy.__name__)
told["nowhere"] = failure(lambda x: importlib.import_module("nowhere"))
told["failing"] = failure(lambda x: near.rounded("text"))
print(json.dumps(told))
sc.stop()
"""

FILES = {
    "script/main.py": SCRIPT,
    "script/near.py": "def rounded(x):\n    return round(x, 2)  # as written\n",
    "script/shop/__init__.py": "from .order import Order\nfrom .prices import read_prices\n",
    "script/shop/order.py": (
        "from dataclasses import dataclass, replace\n\n"
        "@dataclass(frozen=True)\nclass Order:\n    item: str\n    count: int\n\n"
        "    def twice(self):\n        return replace(self, count=2 * self.count)\n"
    ),
    "script/shop/prices/__init__.py": (
        "import json\nfrom importlib import resources\n\n\n"
        "def read_prices():\n    return json.loads(resources.files(__name__).joinpath('prices.json').read_text())\n"
    ),
    "script/shop/prices/prices.json": '{"tea": 2.5, "rice": 1.25}',
    "script/words.txt": "tiger",
    "script/tree/deep/a.txt": "a",
    "script/added.py": "X = 'added'\n",
    "packed/b.txt": "b",
    "zipped/__init__.py": "",
    "zipped/inner.py": "X = 'zipped'\n",
    "driver/site-packages/p_numpy/__init__.py": "",
    "driver/site-packages/P_NumPy-1.26.dist-info/METADATA": "Name: P_NumPy\nVersion: 1.26\n",
    "driver/site-packages/P_NumPy-1.26.dist-info/RECORD": "p_numpy/__init__.py,,\n",
    "local/.keep": "",
}


def write(directory: Path) -> None:
    for name, content in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content)
    (directory / "script" / "words.txt").chmod(0o755)
    with tarfile.open(directory / "script" / "packed.tar.gz", "w:gz") as packed:
        packed.add(directory / "packed" / "b.txt", "b.txt")
    with zipfile.ZipFile(directory / "script" / "zipped.zip", "w") as zipped:
        for name in ("zipped/__init__.py", "zipped/inner.py"):
            zipped.write(directory / name, name)


def nothing_is_left(made: Hosts) -> bool:
    return all(host.left() == [] and host.processes() == [] for host in made)


def test_a_script_with_modules_packages_and_files(tmp_path: Path) -> None:
    write(tmp_path)
    hidden = [tmp_path / "script", tmp_path / "driver", tmp_path / "local", ROOT]
    with hosts(2, tmp_path, hidden=hidden) as made:
        done = subprocess.run(
            [sys.executable, "main.py", json.dumps(conf(made).getAll()), str(tmp_path / "local")],
            cwd=tmp_path / "script",
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}/driver/site-packages"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["totals"] == 8 * (5.0 + 3.75)
        assert told["orders"] == ["Order(item='rice', count=6)", "Order(item='tea', count=4)"]
        assert told["nodes"] == [["node1", False]] * 2 + [["node2", False]] * 2
        assert told["added"] == [[["tiger", "a", "b"], "added", "zipped", True]] * 4
        assert told["missing"].startswith("ModuleNotFoundError: no module named 'p_numpy' on host 'node")
        assert "it belongs to P_NumPy 1.26: install that on the host, too" in told["missing"]
        assert told["nowhere"].startswith("ModuleNotFoundError: no module named 'nowhere' on host 'node")
        assert "modules/near.py" in told["failing"] and "return round(x, 2)  # as written" in told["failing"]
        assert nothing_is_left(made)


def test_a_full_disk_says_where_and_for_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what fits is brought afterwards."""
    package = tmp_path / "script" / "p_heavy"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("X = 1\n")
    (package / "data").write_bytes(bytes(12 << 20))
    (tmp_path / "large.bin").write_bytes(bytes(12 << 20))
    monkeypatch.syspath_prepend(tmp_path / "script")
    with hosts(1, tmp_path, hidden=[tmp_path / "script"], space={"node1": "8m"}) as made:
        with SparkContext(conf=conf(made)) as sc:
            with pytest.raises(JobFailed) as failed:
                sc.parallelize([1], 1).map(lambda x: __import__("p_heavy").X).collect()
            assert "the driver's module 'p_heavy' can't be brought to host 'node1': storage dire" in str(failed.value)
            assert "No space left on device" in str(failed.value)
            (package / "data").write_bytes(b"")
            sc.addFile(tmp_path / "large.bin")
            with pytest.raises(JobFailed) as failed:
                sc.parallelize([1], 1).collect()
            assert "No space left on device" in str(failed.value)
            assert "'large.bin', which was added, could not be brought to host 'node1'" in str(failed.value)
        with SparkContext(conf=conf(made)) as sc:
            (tmp_path / "small.bin").write_bytes(bytes(1 << 20))
            sc.addFile(tmp_path / "small.bin")
            found = sc.parallelize([1], 1).map(
                lambda x: (os.path.getsize(SparkFiles.get("small.bin")), __import__("p_heavy").X)
            )
            assert found.collect() == [(1 << 20, 1)]
