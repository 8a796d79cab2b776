"""What an RDD shows at a prompt and in a notebook; nothing runs for it."""

from __future__ import annotations

import pytest
from waiting import wait_until

from asparkle import SparkContext, StorageLevel
from asparkle.core.events import StageSubmitted
from asparkle.core.picture import html, text


@pytest.fixture
def sc():
    with SparkContext("threads[2]") as context:
        yield context


def shown(rdd) -> str:
    """Without the numbers of RDDs, which depend on the tests before."""
    first = rdd._rdd._node
    while first.parents:
        first = first.parents[0]
    lines = text(rdd._rdd._node)
    for number in range(first.id, rdd.id() + 1):
        lines = lines.replace(f"RDD {number}", f"RDD {number - first.id}").replace(
            f") {number} ", f") {number - first.id} "
        )
    return lines


def test_what_is_known_without_running_anything(sc):
    rdd = sc.parallelize(range(10), 4).map(lambda x: 1 / 0).filter(bool).setName("none")
    assert shown(rdd) == "RDD 2 'none': 4 partitions, not kept\n(4) 2 filter 'none'\n(4) 1 map\n(4) 0 range"


def test_what_a_job_has_found_out_is_shown_afterwards(sc):
    rdd = sc.parallelize([(1, 2)], 3).reduceByKey(lambda a, b: a + b, 2).persist(StorageLevel.DISK_ONLY)
    assert shown(rdd).startswith("RDD 1: partitions not known yet, kept: Disk Serialized 1x Replicated\n(?) 1 shuffled")
    rdd.count()
    assert shown(rdd) == (
        "RDD 1: 2 partitions, kept: Disk Serialized 1x Replicated\n"
        "+-(2) 1 shuffled, kept: Disk Serialized 1x Replicated\n"
        "  (3) 0 collection"
    )


@pytest.mark.parametrize(
    ("derived", "step"),
    [
        (lambda rdd: rdd.map(str), "map"),
        (lambda rdd: rdd.zipWithIndex(), "withIndex"),
        (lambda rdd: rdd.zipWithUniqueId(), "withUniqueId"),
        (lambda rdd: rdd.union(rdd), "union"),
    ],
)
def test_a_step_has_one_name_wherever_it_is_shown(sc, derived, step):
    stages = []
    sc.addListener(lambda event: stages.append(event.name), StageSubmitted)
    rdd = derived(sc.parallelize(range(4), 2))
    for when in ("before it is computed", "afterwards"):
        assert f" {rdd.id()} {step}\n" in text(rdd._rdd._node), when
        assert repr(rdd) == f"<RDD {rdd.id()}: {step}>", when
        assert f" {step}[{rdd.id()}] []\n" in rdd.toDebugString().decode(), when
        rdd.count()
    wait_until(lambda: f"{step} {rdd.id()}" in stages)


def test_files_are_not_looked_for(sc):
    assert "partitions not known yet" in text(sc.textFile("/does/not/exist")._rdd._node)


def test_a_lineage_with_several_inputs_and_one_seen_twice(sc):
    one = sc.parallelize([1], 1)
    assert shown(one.union(one.map(str))) == (
        "RDD 2: partitions not known yet, not kept\n"
        "(?) 2 union\n  (1) 0 collection\n  (1) 1 map\n  (1) 0 collection (see above)"
    )


def test_a_long_lineage_is_cut(sc):
    rdd = sc.parallelize([1], 1)
    for _ in range(5000):
        rdd = rdd.map(str)
    assert len(text(rdd._rdd._node).splitlines()) == 32
    assert text(rdd._rdd._node).endswith("...")


def test_notebooks_get_html(sc):
    rdd = sc.parallelize([1], 1).setName("<b>")
    page = rdd._repr_html_()
    assert page == rdd._rdd._repr_html_() == html(rdd._rdd._node)
    assert "&lt;b&gt;" in page and "(1) " in page


def test_ipython_prints_the_text(sc):
    pretty = pytest.importorskip("IPython.lib.pretty")
    rdd = sc.parallelize([1], 1)
    assert pretty.pretty(rdd) == pretty.pretty(rdd._rdd) == text(rdd._rdd._node)
