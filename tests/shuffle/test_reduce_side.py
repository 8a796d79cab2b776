"""combine, distinct, group, cogroup and sort against plain Python, with and without enough memory.

Order is part of every comparison: dicts are compared as lists of items.
"""

from __future__ import annotations

import gc
import itertools
import operator
import os
import pickle
import random
from collections import Counter

import memory_check
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shuffling import ROOMY, TIGHT, grouped, read, write

from asparkle.core.shuffle import (
    DISTINCT,
    GROUP,
    Aggregator,
    Batch,
    GroupedValues,
    SpillSpace,
    batches_of,
    cogroup,
    combine,
    distinct,
    group,
    identity,
    join,
    sort,
)
from asparkle.core.shuffle.aggregator import Aggregator as AggregatorType

LIMITS = pytest.mark.parametrize("limit", [ROOMY, 100_000, 20_000], ids=["roomy", "100K", "20K"])
keys = st.one_of(
    st.integers(-20, 20),
    st.text(max_size=2),
    st.none(),
    st.booleans(),
    st.tuples(st.integers(0, 3), st.text(max_size=1)),
)
pairs = st.lists(st.tuples(keys, st.integers()), max_size=300)
CONCAT = Aggregator(lambda v: [v], lambda c, v: [*c, v], operator.add)


@pytest.fixture
def space(tmp_path):
    dirs = [tmp_path / "a", tmp_path / "b"]
    for d in dirs:
        d.mkdir()

    def make(limit):
        return SpillSpace([str(d) for d in dirs], limit)

    yield make
    gc.collect()
    assert [os.listdir(d) for d in dirs] == [[], []]


@pytest.fixture(scope="session")
def spill_directory(tmp_path_factory):
    return str(tmp_path_factory.mktemp("spill"))


def records(n, different, seed=0):
    rnd = random.Random(seed)
    return [
        (rnd.choice((f"key {k}", k, (k, "x"))), rnd.randrange(100))
        for k in (rnd.randrange(different) for _ in range(n))
    ]


def batches(pairs, size=50):
    return batches_of(pairs, size)


# --------------------------------------------------------------------------------------------- models


@settings(deadline=None)
@given(pairs, st.sampled_from([ROOMY, TIGHT, 1]))
def test_combine_is_a_loop_over_a_dict(spill_directory, records, limit):
    with SpillSpace([spill_directory], limit) as space:
        assert list(combine(batches(records), CONCAT, space)) == list(grouped(records).items())


@settings(deadline=None)
@given(pairs, st.sampled_from([ROOMY, TIGHT, 1]))
def test_group_is_a_dict_of_lists(spill_directory, records, limit):
    with SpillSpace([spill_directory], limit) as space:
        assert list(group(batches(records), space)) == list(grouped(records).items())


@settings(deadline=None)
@given(st.lists(pairs, min_size=1, max_size=4), st.sampled_from([ROOMY, TIGHT, 1]))
def test_cogroup_has_a_list_for_each_input(spill_directory, inputs, limit):
    groups = [grouped(records) for records in inputs]
    order = dict.fromkeys(itertools.chain(*groups))
    expected = [(k, tuple(g.get(k, []) for g in groups)) for k in order]
    with SpillSpace([spill_directory], limit) as space:
        assert list(cogroup([batches(records) for records in inputs], space)) == expected


@settings(deadline=None)
@given(pairs, pairs, st.integers(0, 1), st.booleans(), st.sampled_from([ROOMY, TIGHT, 1]))
def test_a_join_streams_one_input_through_a_table_of_the_other(spill_directory, left, right, streamed, outer, limit):
    stream, table = (right, grouped(left)) if streamed else (left, grouped(right))
    found = ((k, v, other) for k, v in stream for other in table.get(k, [None] if outer else []))
    expected = [(k, (other, v) if streamed else (v, other)) for k, v, other in found]

    def joined():
        with SpillSpace([spill_directory], limit) as space:
            inputs = [batches(left), batches(right)]
            return list(join(inputs, space, streamed=streamed, outer=outer)), space.bytes_spilled

    found, spilled = joined()
    assert Counter(found) == Counter(expected)
    assert joined() == (found, spilled)
    if not spilled:
        assert list(map(repr, found)) == list(map(repr, expected))


@settings(deadline=None)
@given(st.lists(keys, max_size=300), st.sampled_from([ROOMY, TIGHT, 1]))
def test_distinct_keeps_the_first_of_equal_elements(spill_directory, elements, limit):
    split = [Batch(elements[i : i + 40], None, True) for i in range(0, len(elements), 40)]
    with SpillSpace([spill_directory], limit) as space:
        found = list(distinct(split, space))
    assert list(map(repr, found)) == list(map(repr, dict.fromkeys(elements)))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers())), st.booleans(), st.sampled_from([ROOMY, TIGHT, 1]))
def test_sort_is_sorted(spill_directory, rows, reverse, limit):
    with SpillSpace([spill_directory], limit) as space:
        expected = sorted(rows, key=operator.itemgetter(0), reverse=reverse)
        assert list(sort(rows, operator.itemgetter(0), reverse, space)) == expected
        assert list(sort(rows, None, reverse, space)) == sorted(rows, reverse=reverse)


# ------------------------------------------------------------------------- spilled or not: the same


@LIMITS
@pytest.mark.parametrize("different", [1, 10, 3000])
def test_larger_data_in_every_operation(space, limit, different):
    data = records(10_000, different)
    expected = list(grouped(data).items())
    with space(limit) as s:
        assert list(group(batches(data, 500), s)) == expected
        assert s.bytes_spilled > 0 or limit == ROOMY
        assert list(combine(batches(data, 500), CONCAT, s)) == expected
        total = Aggregator(identity, operator.add, operator.add)
        assert list(combine(batches(data, 500), total, s)) == [(k, sum(v)) for k, v in expected]
        assert s.used == 0


@LIMITS
@pytest.mark.parametrize("aggregator", [GROUP, None])
def test_a_whole_shuffle(space, tmp_path, limit, aggregator):
    parts = [records(4000, 500, seed) for seed in range(3)]
    infos = [write(part, tmp_path, 1, aggregator, limit) for part in parts]
    for info in infos:
        assert info.location
    with space(limit) as s:
        assert list(group(read(infos), s)) == list(grouped(itertools.chain(*parts)).items())
    for info in infos:
        os.unlink(info.location)


@LIMITS
def test_a_whole_distinct(space, tmp_path, limit):
    parts = [[k for k, _ in records(4000, 500, seed)] for seed in range(3)]
    infos = [write(part, tmp_path, 1, DISTINCT, limit) for part in parts]
    with space(limit) as s:
        assert list(distinct(read(infos), s)) == list(dict.fromkeys(itertools.chain(*parts)))


@LIMITS
def test_keys_are_those_of_a_dict(space, limit):
    nan = float("nan")
    data = [
        (1, "a"),
        (True, "b"),
        (1.0, "c"),
        (0.0, "d"),
        (-0.0, "e"),
        (nan, "f"),
        (nan, "g"),
        ("1", "h"),
    ] * 20
    with space(limit) as s:
        found = list(group(batches([*data[:-1]], 7), s))
    assert [repr(k) for k, _ in found if k == k] == ["1", "0.0", "'1'"]
    assert sum(len(v) for _, v in found) == len(data) - 1


class SameHash:
    def __init__(self, i):
        self.i = i

    def __eq__(self, other):
        return self.i == other.i

    def __hash__(self):
        return 7

    def __repr__(self):
        return f"K{self.i}"


def test_keys_that_all_have_one_hash_and_no_order(space):
    data = [(SameHash(i % 40), i) for i in range(1000)]
    with space(TIGHT) as s:
        assert list(group(batches(data), s)) == list(grouped(data).items())


def test_a_mixture_of_raw_and_combined_batches(space):
    raw = Batch(["a", "b", "a"], [1, 2, 3], False)
    combined = Batch(["b", "c"], [[20, 21], [30]], True)
    with space(ROOMY) as s:
        assert dict(group([raw, combined], s)) == {"a": [1, 3], "b": [2, 20, 21], "c": [30]}
        combined = Batch(["b", "c"], [[20, 21], [30]], True)
        assert dict(combine([raw, combined], CONCAT, s)) == {"a": [1, 3], "b": [2, 20, 21], "c": [30]}


@pytest.mark.parametrize("limit", [ROOMY, TIGHT])
def test_nothing_is_read_before_the_first_result(space, limit):
    read = []

    def lazily():
        read.append(1)
        yield Batch([1], [2])

    with space(limit) as s:
        for operation in (
            lambda: group(lazily(), s),
            lambda: combine(lazily(), CONCAT, s),
            lambda: cogroup([lazily()], s),
            lambda: sort((b for b in lazily()), None, False, s),
        ):
            iterator = operation()
            assert not read
            next(iterator)
            assert read
            read.clear()


# ------------------------------------------------------------------------------------------ hot keys


@pytest.fixture
def hot(space):
    data = [("hot", i) if i % 10 else (f"cold {i % 70}", i) for i in range(20_000)]
    with space(50_000) as s:
        yield grouped(data), dict(group(batches(data, 500), s))


def test_a_hot_key_has_all_its_values_in_order_as_often_as_wanted(hot):
    expected, found = hot
    values = found["hot"]
    assert isinstance(values, GroupedValues)
    assert len(values) == len(expected["hot"])
    assert list(values) == list(values) == expected["hot"] == values
    assert {k: list(v) for k, v in found.items()} == expected


def test_the_values_of_a_hot_key_are_a_sequence(hot):
    expected, found = hot
    values, model = found["hot"], expected["hot"]
    for i in (0, 5, 9_000, -1, len(model) - 1):
        assert values[i] == model[i]
    with pytest.raises(IndexError):
        values[len(model)]
    for cut in (
        slice(None),
        slice(10),
        slice(-5, None),
        slice(None, None, -1),
        slice(3, 17_000, 1234),
        slice(9000, 10, -7),
        slice(5, 5),
    ):
        assert values[cut] == model[cut]
    assert model[17] in values and values.index(model[17]) == 17 and -1 not in values
    assert list(reversed(values))[:3] == model[:-4:-1]
    assert repr(values).startswith("[1, 2, 3") and repr(values).endswith(", ...]")
    assert values != model[:-1] and values != "x"


def test_the_values_of_a_hot_key_are_a_list_when_sent_on(hot):
    expected, found = hot
    copy = pickle.loads(pickle.dumps(found["hot"], 5))
    assert type(copy) is list and copy == expected["hot"]


def test_hot_and_cold_in_a_cogroup(space):
    left = [("hot", i) for i in range(5000)] + [(i % 300, i) for i in range(3000)]
    right = [(i % 300, -i) for i in range(3000)] + [("hot", -i) for i in range(5000)] + [("right", 1)]
    a, b = grouped(left), grouped(right)
    with space(60_000) as s:
        found = list(cogroup([batches(left, 100), batches(right, 100)], s))
        assert found == [(k, (a.get(k, []), b.get(k, []))) for k in dict.fromkeys([*a, *b])]
        assert s.bytes_spilled


def test_a_key_that_gets_hot_after_it_was_spilled(space):
    rnd = random.Random(5)
    data = [(rnd.randrange(2000), i) for i in range(8000)] + [(7, i) for i in range(20_000)]
    data += [(rnd.randrange(2000), i) for i in range(8000)] + [(9, i) for i in range(20_000)] + [(7, 0)]
    with space(200_000) as s:
        assert list(group(batches(data, 300), s)) == list(grouped(data).items())


# ------------------------------------------------------------------------------------------- sorting


@LIMITS
@pytest.mark.parametrize("reverse", [False, True])
def test_sorting_is_stable_whether_it_spills_or_not(space, limit, reverse):
    rnd = random.Random(1)
    rows = [(rnd.randrange(10), i) for i in range(20_000)]
    with space(limit) as s:
        assert list(sort(iter(rows), operator.itemgetter(0), reverse, s)) == sorted(
            rows, key=operator.itemgetter(0), reverse=reverse
        )


@pytest.mark.parametrize("rows", [[], [1], list("banana"), [(1,), (1, 2), ()], [[3], [1, 2]], [{"a": 1}, {"a": 0}]])
def test_sorting_any_rows(space, rows):
    key = str
    for limit in (ROOMY, 1):
        with space(limit) as s:
            assert list(sort(rows * 50, key, False, s)) == sorted(rows * 50, key=key)


def test_sorting_needs_only_less_than(space):
    class Version:
        def __init__(self, i):
            self.i = i

        def __lt__(self, other):
            return self.i < other.i

        __eq__ = __gt__ = __le__ = __ge__ = None

        def __reduce__(self):
            return Version, (self.i,)

    Version.__module__ = "__main__"  # sent by value
    with space(TIGHT) as s:
        found = [v.i for v in sort([Version(i * 7 % 100) for i in range(300)], None, True, s)]
    assert found == sorted((i * 7 % 100 for i in range(300)), reverse=True)


def test_what_cannot_be_compared_is_an_error_of_the_users(space):
    with space(ROOMY) as s, pytest.raises(TypeError, match="not supported"):
        list(sort([1, "a"], None, False, s))


# ------------------------------------------------------------------------------------------- cleanup


def descriptors():
    return len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0


OPERATIONS = {
    "sort": lambda s: sort((str(i) for i in range(5000)), None, False, s),
    "group": lambda s: group(batches((str(i), i) for i in range(5000)), s),
    "combine": lambda s: combine(batches((str(i), i) for i in range(5000)), CONCAT, s),
    "cogroup": lambda s: cogroup([batches((str(i), i) for i in range(5000))], s),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("how", ["finished", "dropped", "closed"])
def test_no_file_stays_open(space, name, how):
    before = descriptors()
    s = space(10_000)
    iterator = OPERATIONS[name](s)
    next(iterator)
    assert s.bytes_spilled
    if how == "finished":
        list(iterator)
    elif how == "closed":
        s.close()
    if how != "closed":
        del iterator
        gc.collect()
    assert descriptors() == before


def test_after_its_task_spilled_data_is_gone_and_says_so(space):
    with space(10_000) as s:
        (_, values), *_ = group(batches(("hot", i) for i in range(5000)), s)
    with pytest.raises(ValueError, match="task"):
        list(values)


def test_an_error_in_the_input_frees_everything(space):
    def failing():
        yield from batches((str(i), i) for i in range(5000))
        raise RuntimeError("from upstream")

    before = descriptors()
    s = space(10_000)
    with pytest.raises(RuntimeError, match="from upstream"):
        list(group(failing(), s))
    gc.collect()
    assert descriptors() == before and s.used == 0


def test_spilling_uses_all_directories(tmp_path):
    dirs = [str(tmp_path), "/dev/null/none"]
    from asparkle.core.errors import StorageError

    with SpillSpace(dirs, 10_000) as s, pytest.raises(StorageError, match="none"):
        list(OPERATIONS["sort"](s))


# -------------------------------------------------------------------------------------------- memory


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
@pytest.mark.parametrize("case", memory_check.CASES)
def test_memory_stays_near_the_limit(case):
    measured = memory_check.measure(case, megabytes=100, limit=30)
    assert measured["spilled"] > 0
    assert measured["peak"] < 30 + 45, measured


def test_the_sum_is_that_of_operator_add(space):
    lists = Aggregator(identity, operator.add, operator.add)
    assert isinstance(lists, AggregatorType)
    first = [1]
    with space(ROOMY) as s:
        assert dict(combine([Batch(["a", "a"], [first, [2]])], lists, s)) == {"a": [1, 2]}
    assert first == [1], "not +=, which would change the user's value"
