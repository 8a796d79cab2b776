"""Cache policies: each against a plain model of it, in a store, and deciding what a worker computes again."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asparkle import SparkConf, SparkContext, StorageLevel
from asparkle.backends.disk import DiskStore
from asparkle.core.contracts import BlockFacts, BlockId, CachePolicy
from asparkle.core.errors import ConfigurationError, StoreFull
from asparkle.core.payloads import frame
from asparkle.core.program import Cached
from asparkle.core.serializer import load_elements
from asparkle.core.worker.blocks import BlockManager
from asparkle.core.worker.memory import MemoryStore
from asparkle.plugins.cachepolicies import FIFO, LFU, LRU, READ_BACK, CostAware
from asparkle.testing import sample_app

APP = sample_app()

# ---------------------------------------------------------------------------------------------- models


@dataclass
class Model:
    """What a policy's blocks have gone through, as plainly as can be."""

    now: int = 0
    stored: dict[BlockId, int] = field(default_factory=dict)
    touched: dict[BlockId, int] = field(default_factory=dict)
    reads: dict[BlockId, int] = field(default_factory=dict)
    worth: dict[BlockId, float] = field(default_factory=dict)
    rank: dict[BlockId, float] = field(default_factory=dict)
    floor: float = 0.0

    def store(self, block: BlockId, facts: BlockFacts) -> None:
        self.stored.setdefault(block, self.now)
        self.worth[block] = facts.seconds / facts.size
        self.reads.setdefault(block, -1)
        self.read(block)

    def read(self, block: BlockId) -> None:
        self.now += 1
        self.touched[block] = self.now
        self.reads[block] += 1
        self.rank[block] = self.floor + self.worth[block]

    def forget(self, block: BlockId) -> None:
        self.floor = min(self.rank.values())
        for table in (self.stored, self.touched, self.reads, self.worth, self.rank):
            del table[block]


ORDERS = {
    LRU: lambda model, block: model.touched[block],
    FIFO: lambda model, block: model.stored[block],
    LFU: lambda model, block: (model.reads[block], model.touched[block]),
    CostAware: lambda model, block: (model.rank[block], model.touched[block]),
}
POLICIES = list(ORDERS)
blocks = st.tuples(st.integers(0, 3), st.integers(0, 2))
facts = st.builds(BlockFacts, st.integers(1, 4), st.integers(0, 8).map(float), st.just(False))
steps = st.lists(st.tuples(st.sampled_from(["store", "read", "forget"]), blocks, facts), max_size=60)


@pytest.mark.parametrize("policy_class", POLICIES)
@given(steps=steps)
def test_a_policys_order_is_its_models(policy_class, steps):
    policy, model = policy_class(APP), Model()
    for step, block, known in steps:
        if step == "store":
            policy.stored(block, known)
            model.store(block, known)
        elif block in model.stored:
            (policy.touch if step == "read" else policy.forget)(block)
            getattr(model, step)(block)
        assert list(policy.victims()) == sorted(model.stored, key=lambda block: ORDERS[policy_class](model, block))


@pytest.mark.parametrize("policy_class", POLICIES)
def test_what_is_read_over_and_over_leaves_nothing_behind(policy_class):
    policy = policy_class(APP)
    for round in range(2000):
        for block in [(1, 0), (2, 0), (3, round)]:
            policy.touch(block)
        policy.forget((3, round))
    assert set(policy.victims()) == {(1, 0), (2, 0)}
    assert all(len(table) < 100 for table in vars(policy).values() if isinstance(table, list | dict))


@pytest.mark.parametrize("policy_class", POLICIES)
def test_the_first_victims_of_many_blocks_are_found_without_looking_at_all(policy_class):
    class Watched(tuple):
        """A block that counts how often any of its kind is compared."""

        compared = 0
        __slots__ = ()

        def __hash__(self):
            Watched.compared += 1
            return tuple.__hash__(self)

        __eq__ = tuple.__eq__

    policy = policy_class(APP)
    for i in range(10_000):
        policy.touch(Watched((i, 0)))
    Watched.compared = 0
    found = [block for block, _ in zip(policy.victims(), range(5), strict=False)]
    assert found == [(i, 0) for i in range(5)]
    assert Watched.compared < 100


# ------------------------------------------------------------------------------------------- in a store


@settings(max_examples=200)
@given(
    requests=st.lists(
        st.tuples(st.integers(0, 8), st.integers(1, 5), st.integers(0, 9).map(float)), min_size=1, max_size=60
    )
)
def test_cost_in_a_store_is_the_papers_algorithm(requests):
    """As GreedyDual-Size is written down: what is missing is fetched, while the lowest H goes, which L becomes."""
    store = MemoryStore(12, CostAware(APP))
    held: dict[int, tuple[float, int, int, float]] = {}  # rdd: (H, when, size, cost)
    inflation = 0.0
    known: dict[int, tuple[int, float]] = {}
    for now, (rdd, size, cost) in enumerate(requests):
        size, cost = known.setdefault(rdd, (size, cost))
        if store.get((rdd, 0)) is None:
            assert rdd not in held
            store.put((rdd, 0), object(), BlockFacts(size, cost))
            while sum(s for _, _, s, _ in held.values()) + size > 12:
                lowest = min(held, key=held.__getitem__)
                inflation = held.pop(lowest)[0]
        held[rdd] = (inflation + cost / size, now, size, cost)
        assert {block[0] for block in store._blocks} == set(held)


def keep(policy, *requests, limit=100):
    """The blocks that a store has in the end; a request is (rdd, size, seconds), or an rdd to read."""
    store = MemoryStore(limit, policy)
    for request in requests:
        if isinstance(request, int):
            assert store.get((request, 0)) is not None
        else:
            rdd, size, seconds = request
            store.put((rdd, 0), rdd, BlockFacts(size, seconds))
    return sorted(rdd for rdd, _ in store._blocks)


EXPENSIVE, SCAN = (1, 10, 30.0), [(rdd, 45, 0.01) for rdd in range(2, 8)]


def test_cost_keeps_an_expensive_small_block_where_lru_drops_it():
    assert 1 in keep(CostAware(APP), EXPENSIVE, *SCAN)
    assert 1 not in keep(LRU(APP), EXPENSIVE, *SCAN)


def test_an_expensive_block_that_nobody_reads_ages():
    moderate = [(rdd, 45, 30.0) for rdd in range(2, 20)]
    assert 1 not in keep(CostAware(APP), EXPENSIVE, *moderate)
    assert 1 in keep(CostAware(APP), EXPENSIVE, *moderate[:6])


def test_what_is_unpersisted_makes_nothing_older_than_it_is():
    policy = CostAware(APP)
    policy.stored((1, 0), BlockFacts(1, 1.0))
    policy.stored((2, 0), BlockFacts(1, 1000.0))
    policy.forget((2, 0))
    policy.stored((3, 0), BlockFacts(1, 0.5))
    assert list(policy.victims())[-1] == (3, 0)  # at 1 + 0.5, not at 1000.5
    policy.stored((4, 0), BlockFacts(1, 0.1))
    assert list(policy.victims()) == [(1, 0), (4, 0), (3, 0)]


def test_a_block_that_goes_to_disk_is_worth_reading_it_back_at_most():
    policy = CostAware(APP)
    size = int(READ_BACK)
    policy.stored((1, 0), BlockFacts(size, 60.0, on_disk=True))
    policy.stored((2, 0), BlockFacts(size, 2.0))
    policy.stored((3, 0), BlockFacts(size, 0.5, on_disk=True))
    assert list(policy.victims()) == [(3, 0), (1, 0), (2, 0)]


def test_fifo_heeds_no_reads_and_lfu_counts_them():
    three = [(1, 40, 0.0), (2, 40, 0.0)]
    assert keep(FIFO(APP), *three, 1, 1, (3, 40, 0.0)) == [2, 3]
    assert keep(LFU(APP), *three, 1, 1, 2, (3, 40, 0.0)) == [1, 3]
    assert keep(LRU(APP), *three, 1, 1, 2, (3, 40, 0.0)) == [2, 3]


def test_a_block_that_is_stored_again_begins_anew():
    assert keep(FIFO(APP), (1, 40, 0.0), (2, 40, 0.0), (1, 40, 0.0), (3, 40, 0.0)) == [1, 3]


class Simple(CachePolicy):
    """Three methods are enough."""

    def __init__(self, app):
        self.blocks = []

    def touch(self, block):
        self.blocks.append(block)

    def forget(self, block):
        self.blocks = [other for other in self.blocks if other != block]

    def victims(self):
        return self.blocks


class Lying(Simple):
    def victims(self):
        return [(7, 3), *self.blocks]


def test_a_policy_of_three_methods_is_told_of_what_is_stored():
    assert keep(Simple(APP), (1, 40, 0.0), (2, 40, 0.0), (3, 40, 0.0)) == [2, 3]


def test_a_victim_that_is_named_twice_makes_room_once():
    policy = Simple(APP)
    assert keep(policy, (1, 40, 0.0), 1, 1, (2, 40, 0.0), (3, 80, 0.0)) == [3]
    store = MemoryStore(100, policy := Simple(APP))
    store.put((1, 0), 1, BlockFacts(40))
    store.get((1, 0))
    with pytest.raises(StoreFull, match="needs 120 bytes"):
        store.put((2, 0), 2, BlockFacts(120))
    assert store.used == 40


def test_a_victim_that_is_no_block_is_named_with_the_policy():
    store = MemoryStore(100, Lying(APP))
    store.put((1, 0), 1, BlockFacts(60))
    with pytest.raises(ConfigurationError, match=r"Lying: victims\(\) named \(7, 3\), which is not in the store"):
        store.put((2, 0), 2, BlockFacts(60))
    assert store.used == 60


# ------------------------------------------------------------------------------- what computing a block takes


class Told(LRU):
    def __init__(self, app):
        super().__init__(app)
        self.facts = {}

    def stored(self, block, facts):
        self.facts[block] = facts
        super().stored(block, facts)


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A block manager whose clock, ``manager.now``, stands still unless a test moves it."""
    manager = BlockManager(
        MemoryStore(1 << 20, Told(APP)),
        DiskStore(APP._replace(directories=(str(tmp_path),))),
        lambda changed: None,
        load_elements(APP._replace(serializer="asparkle.plugins.serializers:Pickle")),
    )
    manager.now = 0.0
    monkeypatch.setattr("asparkle.core.worker.blocks.perf_counter", lambda: manager.now)
    return manager


MEMORY, MEMORY_AND_DISK = (False, True, False, False, 1), (True, True, False, False, 1)


def keep_block(manager, cached, partition, elements):
    return manager.keep(cached, partition, elements, manager.started())


def slow(manager, elements, seconds):
    for element in elements:
        manager.now += seconds
        yield element


def test_a_policy_is_told_what_computing_a_block_took(manager):
    keep_block(manager, Cached(1, MEMORY), 0, slow(manager, range(3), 2.0))
    keep_block(manager, Cached(2, MEMORY_AND_DISK), 5, slow(manager, range(1000), 0.001))
    first, second = manager.memory._policy.facts.values()
    assert (first.seconds, first.on_disk) == (6.0, False)
    assert (round(second.seconds, 6), second.on_disk) == (1.0, True)
    assert 0 < first.size < second.size == manager.memory.used - first.size


def test_the_time_of_blocks_that_are_stored_on_the_way_is_theirs_alone(manager):
    def inner(partition):
        yield from keep_block(manager, Cached(1, MEMORY), partition, slow(manager, range(3), 2.0))

    def outer():
        manager.now += 1.0
        for partition in (0, 1):
            yield from slow(manager, inner(partition), 0.5)

    keep_block(manager, Cached(2, MEMORY), 0, outer())
    assert manager.memory._policy.facts[1, 0].seconds == manager.memory._policy.facts[1, 1].seconds == 6.0
    assert manager.memory._policy.facts[2, 0].seconds == 1.0 + 6 * 0.5


def test_the_time_of_blocks_below_in_one_chain_is_theirs_alone(manager):
    """There both begin before either is stored: the upper one finds that it is missing first."""
    upper = manager.started()
    lower = manager.started()
    manager.now += 2.0  # a function of the lower one's that returns all at once
    elements = manager.keep(Cached(1, MEMORY), 0, iter(range(3)), lower)
    manager.keep(Cached(2, MEMORY), 0, slow(manager, elements, 1.0), upper)
    facts = manager.memory._policy.facts
    assert (facts[1, 0].seconds, facts[2, 0].seconds) == (2.0, 3.0)


def test_the_time_of_blocks_that_found_no_room_is_with_those_that_need_them(manager):
    def outer():
        yield from keep_block(manager, Cached(1, MEMORY), 0, slow(manager, [b"x" * (2 << 20)], 4.0))

    keep_block(manager, Cached(2, MEMORY), 0, (len(element) for element in outer()))
    assert manager.memory._policy.facts.keys() == {(2, 0)}
    assert manager.memory._policy.facts[2, 0].seconds == 4.0


def test_a_copy_of_what_another_executor_has_costs_nothing(manager):
    manager.adopt((1, 0), (False, True, False, False, 2), memoryview(frame([1, 2, 3])))
    assert manager.memory._policy.facts[1, 0].seconds == 0.0


# ------------------------------------------------------------------------------------------ from end to end


def computed_again(policy: str, tmp_path, level=StorageLevel.MEMORY_ONLY) -> list[str]:
    """Which of three RDDs a worker computes again: an expensive one, stored and read first; a cheap one that is read
    often; and a cheap one of which nobody knows, for which one of the others had to leave."""
    log = tmp_path / "computed"

    def compute(name, seconds, size):
        def partition(_):
            import time

            with open(log, "a") as file:
                file.write(f"{name} ")
            time.sleep(seconds)
            return range(size)

        return partition

    conf = SparkConf().setMaster("processes[1]").set("asparkle.cache.policy", policy)
    conf.set("spark.executor.memory", "5m").set("spark.memory.fraction", "0.6")
    with SparkContext(conf=conf) as sc:

        def rdd(name, seconds, size):
            return sc.parallelize([0], 1).mapPartitions(compute(name, seconds, size)).persist(level)

        expensive, read, last = rdd("expensive", 1.0, 10_000), rdd("read", 0, 60_000), rdd("last", 0, 60_000)
        expensive.count()
        read.count()
        for _ in range(3):
            expensive.count()
        read.count()
        last.count()
        log.write_text("")
        for each in (last, expensive, read):
            each.count()
        again = log.read_text().split()
    return again[:1]


@pytest.mark.parametrize(
    "policy, again", [("lru", "expensive"), ("fifo", "expensive"), ("lfu", "read"), ("cost", "read")]
)
def test_the_policy_that_is_chosen_decides_what_is_computed_again(policy, again, tmp_path):
    assert computed_again(policy, tmp_path) == [again]
