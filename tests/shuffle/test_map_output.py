"""Map outputs: written whole or not at all, read as they were written or lost."""

from __future__ import annotations

import gc
import itertools
import operator
import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shuffling import ROOMY, TIGHT, grouped, read, read_reduce_partition, write

from asparkle.backends.shufflefiles import FileWriter
from asparkle.core.errors import KeyHashError, PicklingFailed, StorageError, UserFunctionError
from asparkle.core.hashing import portable_hash
from asparkle.core.shuffle import (
    DISTINCT,
    GROUP,
    Aggregator,
    MapOutputLost,
    SpillSpace,
    batches_of,
    identity,
    records_of,
    write_map_output,
)

keys = st.one_of(st.integers(-5, 5), st.sampled_from(["a", "b\0c", "", "é"]), st.none(), st.tuples(st.integers(0, 2)))
pairs = st.lists(st.tuples(keys, st.one_of(st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2))))


@settings(deadline=None)
@given(pairs, st.integers(1, 5), st.sampled_from([ROOMY, TIGHT]), st.sampled_from([0, 4096]))
def test_every_record_reaches_its_reducer_in_order(tmp_path_factory, records, n, limit, inline_limit):
    directory = tmp_path_factory.mktemp("out")
    info = write(records, directory, n, limit=limit, inline_limit=inline_limit)
    for reducer in range(n):
        expected = [(k, v) for k, v in records if portable_hash(k) % n == reducer]
        assert list(records_of(read([info], reducer))) == expected
        assert (info.sizes[reducer] > 0) == bool(expected)
    assert info.records == len(records)
    assert os.listdir(directory) == ([] if info.inline is not None else [os.path.basename(info.location)])


@settings(deadline=None)
@given(pairs, st.integers(1, 4), st.sampled_from([ROOMY, TIGHT]))
def test_values_are_combined_before_they_are_written(tmp_path_factory, records, n, limit):
    append = Aggregator(lambda v: [v], lambda c, v: [*c, v], operator.add)
    info = write(records, tmp_path_factory.mktemp("out"), n, append, limit)
    for reducer in range(n):
        expected = grouped((k, v) for k, v in records if portable_hash(k) % n == reducer)
        found = {}
        for k, c in records_of(read([info], reducer)):
            found[k] = found.get(k, []) + c
        assert list(found.items()) == list(expected.items())
        if limit == ROOMY:
            assert sum(len(b.keys) for b in read([info], reducer)) == len(expected)


def test_distinct_takes_elements_instead_of_pairs(tmp_path):
    info = write(["a", "b", "a", (1, 2), "b"], tmp_path, 1, DISTINCT)
    assert [k for batch in read([info]) for k in batch.keys] == ["a", "b", (1, 2)]


@pytest.mark.parametrize("different", [3, 2000, 100_000])
def test_groups_are_made_where_keys_repeat_and_are_complete_in_any_case(tmp_path, different):
    records = [(i % different, i) for i in range(20_000)]
    info = write(records, tmp_path, 2, GROUP)
    found = {}
    for reducer in range(2):
        for batch in read([info], reducer):
            for k, v in batch.pairs():
                found.setdefault(k, []).extend(v if batch.combined else [v])
    assert found == grouped(records)
    assert info.records < len(records) or different == 100_000


def test_batches_tell_columns_apart(tmp_path):
    columns = [["a", "b"], ["", ""], ["x\0y", "z"], ["one"], ["\ud800", "b"], [1, "b"], [["a"], "b"]]
    for column in columns:
        records = list(zip(column, reversed(column), strict=True))
        if column != [["a"], "b"]:
            assert list(records_of(read([write(records, tmp_path)]))) == records
        records = [(i, x) for i, x in enumerate(column)]
        assert list(records_of(read([write(records, tmp_path)]))) == records


def test_small_output_makes_no_file(tmp_path):
    info = write([(1, "a")], tmp_path, 3, inline_limit=4096)
    assert info.location is None and info.inline and os.listdir(tmp_path) == []
    copy = pickle.loads(pickle.dumps(info))
    assert list(records_of(read_reduce_partition(copy, 1))) == [(1, "a")]


def test_a_reducer_without_records_opens_nothing(tmp_path):
    info = write([(1, "a")], tmp_path, 3)
    os.unlink(info.location)
    assert list(read_reduce_partition(info, 0)) == []


def test_arrays_are_written_without_a_copy_and_read_writable(tmp_path):
    np = pytest.importorskip("numpy")
    arrays = [np.full(n, n, dtype="f8") for n in (10, 1000, 200_000)]
    for inline_limit in (0, 1 << 30):
        info = write(enumerate(arrays), tmp_path, 1, inline_limit=inline_limit)
        for array, (_, back) in zip(arrays, records_of(read([info])), strict=True):
            assert (array == back).all()
            back += 1
        for array, (_, back) in zip(arrays, records_of(read([info])), strict=True):
            assert (array == back).all(), "writing to what was read changes nothing for the next reader"


def test_records_may_be_any_pair_that_unpacks(tmp_path):
    assert list(records_of(read([write([[1, 2], iter((1, 3)), "ab"], tmp_path)]))) == [
        (1, 2),
        (1, 3),
        ("a", "b"),
    ]


def test_strings_with_lone_surrogates_are_keys_too(tmp_path):
    records = [("\ud800", 1), ("a", 2)] * 3
    infos = write(records, tmp_path, 2)
    assert sorted(records, key=repr) == sorted((r for i in range(2) for r in records_of(read([infos], i))), key=repr)


# ---------------------------------------------------------------------------------------- what goes wrong

SUM = Aggregator(identity, operator.add, operator.add)
LIST = Aggregator(lambda v: [v], lambda c, v: [*c, v], operator.add)
ALL = pytest.mark.parametrize("aggregator", [None, SUM, LIST, GROUP], ids=["none", "sum", "list", "group"])


@ALL
@pytest.mark.parametrize("bad", [5, (1, 2, 3), (), "abc", None])
@pytest.mark.parametrize("func", [portable_hash, hash])
def test_a_record_that_is_no_pair_is_named(tmp_path, aggregator, bad, func):
    with pytest.raises(UserFunctionError) as raised:
        write([(1, 1)] * 100 + [bad, (1, 1)], tmp_path, 2, aggregator, func=func)
    assert repr(bad) in str(raised.value)
    assert os.listdir(tmp_path) == []


@ALL
def test_a_key_that_cannot_be_hashed_is_named(tmp_path, aggregator):
    with pytest.raises(KeyHashError, match=r"\[7\]"):
        write([(1, 1), ([7], 2)], tmp_path, 2, aggregator)
    with pytest.raises(KeyHashError, match="object"):
        write([(1, 1), (object(), 2)], tmp_path, 2, aggregator)


def test_distinct_of_what_cannot_be_hashed(tmp_path):
    with pytest.raises(KeyHashError, match="list"):
        write([1, []], tmp_path, 2, DISTINCT)


@ALL
def test_an_error_of_the_users_passes_through_and_leaves_nothing(tmp_path, aggregator):
    def records():
        for i in range(5000):
            yield i, "x" * 100
        raise TypeError("the user's own")

    with pytest.raises(TypeError, match="the user's own"):
        write(records(), tmp_path, 2, aggregator, TIGHT)
    assert os.listdir(tmp_path) == []


def test_errors_in_user_functions_are_theirs(tmp_path):
    bad = Aggregator(identity, lambda a, b: a + b, operator.add)
    with pytest.raises(TypeError, match="unsupported operand"):
        write([(1, 1), (1, "x")], tmp_path, 2, bad)


def test_a_record_that_cannot_be_pickled_is_named(tmp_path):
    with pytest.raises(PicklingFailed, match="generator"):
        write([(1, 1), (2, (i for i in ()))], tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StorageError, match="gone") as raised:
        write([(1, "x" * 10_000)], tmp_path / "gone")
    assert raised.value.directory == str(tmp_path / "gone")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_to_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match=tmp_path.name):
        write([(1, "x" * 10_000)], tmp_path)


FULL = """
import resource, signal, sys
sys.path.insert(0, {here!r})
from shuffling import write, TIGHT
from asparkle.core.errors import StorageError
from asparkle.core.shuffle import SpillSpace, sort, group, batches_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
space = SpillSpace([{directory!r}], 10_000)
for attempt in (
    lambda: write(((i, "x" * 100) for i in range(5000)), {directory!r}),
    lambda: write(((i, "x" * 100) for i in range(5000)), {directory!r}, limit=TIGHT),
    lambda: list(sort((str(i) for i in range(50_000)), None, False, space)),
    lambda: list(group(batches_of((i, str(i)) for i in range(50_000)), space)),
):
    try:
        attempt()
    except StorageError as error:
        assert error.directory == {directory!r}, error
        print("said so")
"""


def test_a_full_disk_is_an_error_that_names_the_directory_and_leaves_nothing(tmp_path):
    script = FULL.format(here=os.path.dirname(__file__), directory=str(tmp_path))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert result.stdout.split("\n")[:-1] == ["said so"] * 4, result.stderr
    assert os.listdir(tmp_path) == []


def test_the_file_appears_when_it_is_whole(tmp_path):
    seen = []

    def records():
        for i in range(3000):
            yield i, "x" * 100
            if i % 500 == 499:
                seen.append([name for name in os.listdir(tmp_path) if not name.endswith(".tmp")])

    info = write(records(), tmp_path, limit=TIGHT)
    assert seen == [[]] * 6
    assert os.listdir(tmp_path) == [os.path.basename(info.location)]
    assert os.stat(info.location).st_mode & 0o077 == 0


# ----------------------------------------------------------------------------------------- what is lost


@pytest.fixture
def output(tmp_path):
    return write([(i, f"value {i}") for i in range(40)], tmp_path, 2, limit=TIGHT)


def everything(path):
    return [list(records_of(read_reduce_partition(path, r))) for r in range(2)]


def test_a_missing_file_is_lost(output):
    os.unlink(output.location)
    with pytest.raises(MapOutputLost, match="No such file") as raised:
        next(read_reduce_partition(output, 0))
    assert raised.value.location == output.location
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_a_file_cut_anywhere_is_lost(output, tmp_path):
    with open(output.location, "rb") as file:
        raw = file.read()
    cut = str(tmp_path / "cut")
    for n in range(len(raw)):
        with open(cut, "wb") as file:
            file.write(raw[:n])
        with pytest.raises(MapOutputLost):
            everything(cut)


def test_no_changed_byte_gives_wrong_records(output, tmp_path):
    with open(output.location, "rb") as file:
        raw = bytearray(file.read())
    expected = everything(output.location)
    changed = str(tmp_path / "changed")
    lost = 0
    for i in range(len(raw)):
        raw[i] ^= 0x41
        with open(changed, "wb") as file:
            file.write(raw)
        try:
            assert everything(changed) == expected, i
        except MapOutputLost:
            lost += 1
        raw[i] ^= 0x41
    assert lost > len(raw) // 2, "only padding may change unseen"


@pytest.mark.parametrize("garbage", [b"", b"x", bytes(48), bytes(10_000), b"ASM1" * 100])
def test_garbage_is_lost(tmp_path, garbage):
    path = tmp_path / "garbage"
    path.write_bytes(garbage)
    with pytest.raises(MapOutputLost):
        list(read_reduce_partition(str(path), 0))


def test_a_directory_is_lost(tmp_path):
    with pytest.raises(MapOutputLost):
        list(read_reduce_partition(str(tmp_path), 0))


def test_a_file_with_other_reducers_is_lost(output):
    with pytest.raises(MapOutputLost, match="partitions"):
        list(read_reduce_partition(output.location, 2))


def test_readers_leave_no_file_open(output):
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    half_read = read_reduce_partition(output, 0)
    next(half_read)
    del half_read
    everything(output.location)
    gc.collect()
    assert before == 0 or len(os.listdir("/proc/self/fd")) == before


def test_reading_is_lazy(tmp_path):
    info = write([(i, f"{i:01000}") for i in range(20_000)], tmp_path)
    batches = read_reduce_partition(info, 0)
    assert len(next(batches).keys) < 10_000


def test_one_long_string_many_times_is_written_once_in_a_while(tmp_path):
    text = "x" * 10_000
    info = write([(text, text) for _ in range(10_000)], tmp_path)
    assert sum(info.sizes) < 2_000_000


def test_memory_is_given_back_to_the_space(tmp_path):
    space = SpillSpace([str(tmp_path)], ROOMY)
    from asparkle.core.partitioner import Partitioner

    for aggregator in (None, SUM, GROUP):
        records = zip(itertools.count(), range(10_000))
        write_map_output(
            records,
            partitioner=Partitioner(3),
            begin=lambda: FileWriter(str(tmp_path / "f"), 3),
            space=space,
            aggregator=aggregator,
        )
        assert space.used == 0


def test_batches_of_records_that_were_not_shuffled():
    batches = list(batches_of(((i, -i) for i in range(10)), 4))
    assert [len(b.keys) for b in batches] == [4, 4, 2]
    assert list(records_of(batches)) == [(i, -i) for i in range(10)]
    with pytest.raises(UserFunctionError, match="7"):
        list(batches_of([(1, 2), 7]))
