"""Serializers from plugins: for the records of shuffles, spills, cached partitions and results."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from asparkle import JobFailed, SparkConf, SparkContext, StorageLevel
from asparkle.core.contracts import Serializer
from asparkle.core.serializer import load_elements
from asparkle.errors import ConfigurationError, PicklingFailed, PluginError
from asparkle.plugins import builtin, hookimpl
from asparkle.plugins.registry import PluginRegistry
from asparkle.testing import sample_app

MOON = '''
import pickle

from asparkle.plugins import Serializer, hookimpl


def inverted(data):
    return bytes(data).translate(bytes(range(255, -1, -1)))


class Inverted(Serializer):
    """Pickles that nobody else reads: all bytes are inverted, in two chunks and a mark."""

    def dumps(self, value):
        data = inverted(pickle.dumps(value))
        if inverted(b"refused") in data:
            raise ValueError("it is refused")
        return [b"MOON", data[:100], memoryview(data)[100:]]

    def loads(self, chunks):
        mark, *parts = chunks
        assert mark == b"MOON" and len(parts) == 2
        return pickle.loads(inverted(b"".join(parts)))


@hookimpl
def asparkle_serializers():
    return {"inverted": "moon_serializer:Inverted"}
'''


@pytest.fixture
def conf(tmp_path, monkeypatch):
    (tmp_path / "moon_serializer.py").write_text(MOON)
    (tmp_path / "local").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "moon_serializer", raising=False)
    settings = {
        "asparkle.serializer": "inverted",
        "spark.local.dir": str(tmp_path / "local"),
        "spark.python.worker.memory": "100k",
    }
    return SparkConf().setAll(settings.items())


@pytest.fixture(params=["inline", "threads[2]", "processes[2]"])
def sc(request, conf):
    import moon_serializer

    with SparkContext(request.param, conf=conf, plugins=[moon_serializer]) as context:
        yield context


def files(conf: SparkConf, part: str) -> list[bytes]:
    return [file.read_bytes() for file in Path(conf.get("spark.local.dir", "")).glob(f"*/{part}/*") if file.is_file()]


def test_records_go_through_a_shuffle_and_spills(sc, conf):
    """100 KB hold a few thousand: aggregation, grouping and sort all spill."""
    words = sc.parallelize(range(40_000), 4).map(lambda x: (f"k{x % 5000}", (x, [x], {"a": None})))
    assert words.mapValues(lambda v: v[0]).reduceByKey(lambda a, b: a + b, 3).count() == 5000
    grouped = dict(words.groupByKey(3).mapValues(list).collect())
    assert grouped["k7"] == [(x, [x], {"a": None}) for x in range(7, 40_000, 5000)]
    assert sc.parallelize(range(40_000), 4).map(lambda x: (x * 7919 % 40_000, x)).sortByKey().keys().take(3) == [
        0,
        1,
        2,
    ]
    shuffled = files(conf, "shuffle-*")
    assert shuffled and all(b"MOON" in data for data in shuffled)


@pytest.mark.parametrize("level", ["MEMORY_ONLY", "DISK_ONLY", "MEMORY_AND_DISK"])
def test_cached_partitions(sc, conf, level):
    kept = sc.parallelize(range(2000), 2).map(lambda x: [x, {"b": (x,)}]).persist(getattr(StorageLevel, level))
    first = kept.collect()
    assert first == kept.collect() == [[x, {"b": (x,)}] for x in range(2000)]
    blocks = files(conf, "blocks")
    assert len(blocks) == (2 if level == "DISK_ONLY" else 0)
    assert all(b"MOON" in block for block in blocks)


def test_results_small_and_large(sc):
    assert sc.parallelize(range(4), 2).map(lambda x: (x, None)).collect() == [(x, None) for x in range(4)]
    large = sc.parallelize([0], 1).map(lambda _: b"x" * (2 << 20)).collect()  # in a file
    assert large == [b"x" * (2 << 20)]
    assert sc.parallelize([], 1).collect() == []
    assert sc.parallelize(range(100), 2).sum() == 4950


def refused(_: object) -> str:
    return "refu" + "sed"


WHERE = {
    "shuffle": lambda rdd: rdd.map(lambda x: (x, refused(x))).groupByKey(2).count(),
    "cache": lambda rdd: rdd.map(lambda x: [refused(x)]).persist(StorageLevel.DISK_ONLY).count(),
    "spill": lambda rdd: rdd.flatMap(lambda _: range(20_000)).map(lambda x: (x, refused(x))).sortBy(str).count(),
    "result": lambda rdd: rdd.map(refused).collect(),
}


@pytest.mark.parametrize("where", WHERE)
def test_what_a_serializer_refuses_fails_the_job_at_once_and_is_named(sc, where):
    if where == "result" and not sc.master.startswith("processes"):  # handed over as it is
        assert WHERE[where](sc.parallelize([1], 1)) == ["refused"]
        return
    with pytest.raises(JobFailed) as failed:
        WHERE[where](sc.parallelize([1], 1))
    assert isinstance(failed.value.__cause__, PicklingFailed)
    assert "it is refused" in str(failed.value) and "Inverted" in str(failed.value)
    assert sc.parallelize([1], 1).map(str).collect() == ["1"]


@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
def test_arrays_are_chunks_and_come_back_as_views_that_can_be_written(master, tmp_path):
    numpy = pytest.importorskip("numpy")

    def written(pair):
        key, array = pair
        assert array.flags.writeable and not array.flags.owndata
        array += 1
        return key, float(array.sum())

    with SparkContext(master) as sc:
        pairs = sc.parallelize(range(4), 2).map(lambda x: (x, numpy.full(10_000, float(x))))
        assert sorted(pairs.partitionBy(2).map(written).collect()) == [(x, (x + 1) * 10_000.0) for x in range(4)]


def test_pickle_is_a_serializer_like_others():
    elements = load_elements(sample_app()._replace(serializer=builtin.asparkle_serializers()["pickle"]))
    value = [(1, "a", [None]), {2.5: b"x" * 10_000}]
    chunks = elements.dumps(value)
    assert elements.loads(chunks) == value
    assert elements.is_pickle and pickle.loads(chunks[0]) == value
    with pytest.raises(PicklingFailed):
        elements.dumps(sys._getframe())


def test_an_unknown_serializer_is_named(conf):
    with pytest.raises(ConfigurationError, match="unknown serializer 'inverted': known are pickle"):
        SparkContext("inline", conf=conf)


class Half(Serializer):
    def dumps(self, value):
        return [b""]


def test_a_serializer_that_does_not_meet_its_contract_is_named():
    class Plugin:
        @hookimpl
        def asparkle_serializers(self):
            return {"half": Half}

    registry = PluginRegistry(SparkConf(), [Plugin()])
    with pytest.raises(PluginError, match=r"asparkle_serializers: 'half': Half lacks Serializer\.loads\(chunks\)"):
        registry.path(Serializer, "half")
    assert registry.path(Serializer, "pickle") == "asparkle.plugins.serializers:Pickle"
