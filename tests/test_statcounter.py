"""StatCounter against exact arithmetic, and against what PySpark 4.3 printed."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.core.statcounter import StatCounter

FLOATS = st.lists(st.floats(-1e9, 1e9), max_size=20).flatmap(lambda xs: st.sampled_from([xs, xs * 10]))


@pytest.mark.parametrize(
    ("values", "printed"),
    [
        # printed by PySpark 4.3.0
        ([], "(count: 0, mean: 0.0, stdev: nan, max: -inf, min: inf)"),
        ([5], "(count: 1, mean: 5.0, stdev: 0.0, max: 5.0, min: 5.0)"),
        (range(14), "(count: 14, mean: 6.5, stdev: 4.031128874149275, max: 13.0, min: 0.0)"),
        ([0.1, 0.2, 0.3], "(count: 3, mean: 0.2, stdev: 0.08164965809277258, max: 0.3, min: 0.1)"),
        (
            [1e9, 1e9 + 1, 1e9 + 2],
            "(count: 3, mean: 1000000001.0, stdev: 0.816496580927726, max: 1000000002.0, min: 1000000000.0)",
        ),
        ([math.inf, 1], "(count: 2, mean: nan, stdev: nan, max: inf, min: 1.0)"),
        ([1, math.nan, 3], "(count: 3, mean: nan, stdev: nan, max: nan, min: nan)"),
        ([True, False], "(count: 2, mean: 0.5, stdev: 0.5, max: 1.0, min: 0.0)"),
        ([1e308] * 3, "(count: 3, mean: 1e+308, stdev: 0.0, max: 1e+308, min: 1e+308)"),
    ],
)
def test_prints_what_pyspark_prints(values: list[float], printed: str) -> None:
    assert repr(StatCounter(values)) == printed


def test_as_dict_has_pysparks_meaning_of_sample() -> None:
    stats = StatCounter([1, 2, 3, 4])
    common = {"count": 4, "mean": 2.5, "sum": 10.0, "min": 1.0, "max": 4.0}
    assert stats.asDict() == common | {"stdev": 1.2909944487358056, "variance": 1.6666666666666667}
    assert stats.asDict(sample=True) == common | {"stdev": 1.118033988749895, "variance": 1.25}


def test_too_few_values_have_no_variance() -> None:
    assert math.isnan(StatCounter().variance())
    assert math.isnan(StatCounter([7]).sampleVariance())
    assert math.isnan(StatCounter([7]).sampleStdev())
    assert StatCounter([7]).stdev() == 0


@given(FLOATS.filter(bool))
def test_agrees_with_exact_arithmetic(values: list[float]) -> None:
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    variance = sum((x - mean) ** 2 for x in exact) / len(exact)
    n, scale = len(values), max(map(abs, values))
    stats = StatCounter(values)
    assert stats.mean() == pytest.approx(float(mean), rel=0, abs=n * scale * 1e-15)
    assert stats.variance() == pytest.approx(float(variance), rel=0, abs=n * scale * scale * 1e-14)
    assert (stats.count(), stats.max(), stats.min()) == (n, max(values), min(values))


@given(st.lists(FLOATS, min_size=1, max_size=5))
def test_any_way_of_merging_agrees(parts: list[list[float]]) -> None:
    whole = StatCounter(value for part in parts for value in part)
    joined, single = StatCounter(), StatCounter()
    for part in parts:
        joined.mergeStats(StatCounter(part))
        for value in part:
            single.merge(value)
    for other in (joined, single):
        assert (other.n, other.maxValue, other.minValue) == (whole.n, whole.maxValue, whole.minValue)
        assert other.mu == pytest.approx(whole.mu, rel=1e-9, abs=1e-6)
        assert other.m2 == pytest.approx(whole.m2, rel=1e-9, abs=1e-3)


def test_stable_where_squares_would_cancel() -> None:
    values = [1e9 + x for x in (4, 7, 13, 16)] * 10_000
    assert StatCounter(values).variance() == 22.5
    halves = StatCounter(values[:3]).mergeStats(StatCounter(values[3:]))
    assert halves.variance() == pytest.approx(22.5, rel=1e-9)


def test_merging_leaves_the_other_as_it_is() -> None:
    a, b = StatCounter([1, 2]), StatCounter([3])
    assert a.mergeStats(b) is a
    assert (a.count(), a.mean(), b.count()) == (3, 2.0, 1)
    a.mergeStats(a)
    assert (a.count(), a.mean()) == (6, 2.0)
    c = a.copy().merge(9.0)
    assert (a.count(), c.count(), c.max()) == (6, 7, 9.0)
    assert repr(pickle.loads(pickle.dumps(a))) == repr(a)


@pytest.mark.parametrize("bad", ["1", None, b"1"])
def test_what_is_not_a_number_is_refused(bad: object) -> None:
    with pytest.raises(TypeError):
        StatCounter([bad])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="StatCounter"):
        StatCounter().mergeStats(bad)  # type: ignore[arg-type]


def test_infinities_of_both_signs() -> None:
    stats = StatCounter([math.inf, -math.inf, 1])
    assert math.isnan(stats.mean())
    assert (stats.max(), stats.min()) == (math.inf, -math.inf)


def test_numpy_scalars_give_floats_and_arrays_go_element_by_element() -> None:
    np = pytest.importorskip("numpy")
    for dtype in ("f8", "f4", "i8", "u1"):
        stats = StatCounter(np.arange(5, dtype=dtype))
        many = StatCounter(np.arange(5, dtype=dtype).repeat(100))
        assert repr(many) == "(count: 500, mean: 2.0, stdev: 1.4142135623730951, max: 4.0, min: 0.0)"
        assert repr(stats) == "(count: 5, mean: 2.0, stdev: 1.4142135623730951, max: 4.0, min: 0.0)"
        assert type(stats.merge(np.float32(2)).mean()) is float
    rows = np.arange(6.0).reshape(3, 2)
    for stats in (StatCounter(rows), StatCounter(rows[:1]).mergeStats(StatCounter(rows[1:]))):
        assert stats.mean().tolist() == [2, 3]  # type: ignore[attr-defined]
        assert stats.sampleStdev().tolist() == [2, 2]  # type: ignore[attr-defined]
        assert stats.max().tolist() == [4, 5]  # type: ignore[attr-defined]
        assert stats.min().tolist() == [0, 1]  # type: ignore[attr-defined]


def test_numpy_is_not_imported() -> None:
    code = "import sys; from asparkle.core.statcounter import StatCounter as S; S([1, 2.5]).merge(3).stdev()"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'numpy' not in sys.modules"], check=True)
