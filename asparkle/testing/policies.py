"""What every cache policy is tested for."""

from __future__ import annotations

import random
import tracemalloc
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

import pytest

from asparkle.core.contracts import AppSpec, BlockFacts, BlockId, CachePolicy
from asparkle.core.shown import shown
from asparkle.testing.promises import Conformance, expect
from asparkle.testing.providing import providing
from asparkle.testing.samples import sample_app
from asparkle.testing.work import identity

VICTIMS: Final = "The blocks of the store, each once, and no others"
QUICK: Final = "must be quick"
MANY: Final = 20_000


class CachePolicyConformance(Conformance):
    """Tests a `CachePolicy`: derive from it, name the class ``Test...``, and say how a policy is made.

        class TestMyPolicy(CachePolicyConformance):
            def make(self, app):
                return MyPolicy(app)

    Which block goes first is the policy's own business, and tested by its author.
    """

    @abstractmethod
    def make(self, app: AppSpec) -> CachePolicy:
        """A new policy, as a worker makes it."""

    # ------------------------------------------------------------------------------------ what there is

    @pytest.fixture(autouse=True)
    def _with_a_policy(self) -> None:
        self.app = sample_app()
        self.policy = self.make(self.app)
        self.there: set[BlockId] = set()

    def subject(self) -> str:
        return type(self.policy).__name__

    def stored(self, *blocks: BlockId) -> None:
        """The blocks are stored, or read where they are there already: as a store tells it."""
        for block in blocks:
            if block in self.there:
                with self.promised("CachePolicy.touch", "``block`` was stored or read"):
                    self.policy.touch(block)
            else:
                with self.promised("CachePolicy.stored", "``block`` was stored, and this is known of it"):
                    self.policy.stored(block, facts(block))
        self.there.update(blocks)

    def forgotten(self, *blocks: BlockId) -> None:
        self.there.difference_update(blocks)
        with self.promised("CachePolicy.forget", "``block`` has left the store, or was never there"):
            for block in blocks:
                self.policy.forget(block)

    def agrees(self, expected: Iterable[BlockId]) -> None:
        """That the victims are ``expected``, in whatever order."""
        with self.promised("CachePolicy.victims", VICTIMS):
            found, wanted = Counter(self.policy.victims()), Counter(expected)
            twice = next((block for block, count in found.items() if count > 1), None)
            expect(twice is None, f"named {twice} {found[twice or (0, 0)]} times")
            expect(not wanted - found, f"did not name {next(iter(wanted - found), None)}, which is in the store")
            expect(not found - wanted, f"named {next(iter(found - wanted), None)}, which is not in the store")

    # -------------------------------------------------------------------------------------- the promises

    def test_the_class_is_called_with_the_application(self) -> None:
        with self.promised("CachePolicy", "The class is called with the application's `AppSpec`"):
            kind: Callable[[AppSpec], CachePolicy] = type(self.policy)
            expect(isinstance(kind(self.app), CachePolicy), "is not a class derived from CachePolicy")

    def test_an_empty_store_has_no_victims(self) -> None:
        self.agrees([])

    def test_a_stored_block_is_a_victim_once_however_often_it_is_read(self) -> None:
        self.stored((1, 0), (1, 1), (1, 0), (1, 0), (2, 0), (1, 1))
        self.agrees([(1, 0), (1, 1), (2, 0)])

    def test_facts_are_told_before_a_block_is_read(self) -> None:
        """Whatever they are: a block of no bytes, one that took no time, one that is known already."""
        told = [BlockFacts(0), BlockFacts(1 << 40, 1e9, True), BlockFacts(1, 0.0, True), BlockFacts(100, 1e-9)]
        blocks = [(1, i) for i in range(len(told))]
        with self.promised("CachePolicy.stored", "``block`` was stored, and this is known of it"):
            for block, known in zip(blocks, told, strict=True):
                self.policy.stored(block, known)
        self.agrees(blocks)
        with self.promised("CachePolicy.touch", "``block`` was stored or read"):
            for block in blocks:
                self.policy.touch(block)
        self.agrees(blocks)
        with self.promised("CachePolicy.stored", "``block`` was stored, and this is known of it"):
            for block, known in zip(blocks, reversed(told), strict=True):
                self.policy.stored(block, known)
        self.agrees(blocks)

    def test_a_block_of_which_nothing_is_known(self) -> None:
        with self.promised("CachePolicy.touch", "``block`` was stored or read"):
            self.policy.touch((1, 0))
        self.agrees([(1, 0)])

    def test_a_forgotten_block_is_no_victim(self) -> None:
        self.stored((1, 0), (1, 1), (2, 0))
        self.forgotten((1, 1))
        self.agrees([(1, 0), (2, 0)])
        self.stored((1, 1))
        self.agrees([(1, 0), (1, 1), (2, 0)])

    def test_forgetting_what_was_never_stored_changes_nothing(self) -> None:
        """A store forgets a block before it stores it: there may be an older one."""
        self.forgotten((9, 9))
        self.stored((1, 0))
        self.forgotten((9, 9), (1, 1))
        self.agrees([(1, 0)])

    @pytest.mark.parametrize("seed", range(5))
    def test_any_history(self, seed: int) -> None:
        """Blocks come, are read and go at random; after each step the victims are those that are there."""
        rng = random.Random(seed)
        blocks = [(rdd, partition) for rdd in range(3) for partition in range(8)]
        there: set[BlockId] = set()
        for _ in range(300):
            block = rng.choice(blocks)
            if rng.random() < 0.65:
                self.stored(block)
                there.add(block)
            else:
                self.forgotten(block)
                there.discard(block)
            self.agrees(there)

    def test_asking_changes_nothing(self) -> None:
        self.stored(*((1, i) for i in range(20)))
        with self.promised("CachePolicy.victims", "Asking changes nothing"):
            first, second = list(self.policy.victims()), list(self.policy.victims())
            expect(sorted(first) == sorted(second), f"named {len(second)} blocks when asked again, {len(first)} before")

    def test_not_all_need_be_taken(self) -> None:
        """A store takes as many as it needs room for, and then forgets them."""
        self.stored(*((1, i) for i in range(20)))
        with self.promised("CachePolicy.victims", "Mostly no more than the first few are read"):
            leaving = list(islice(self.policy.victims(), 5))
        self.forgotten(*leaving)
        self.stored((2, 0))
        self.agrees([*({(1, i) for i in range(20)} - set(leaving)), (2, 0)])

    def test_policies_know_nothing_of_each_other(self) -> None:
        """Contexts on threads have one each in one process."""
        self.stored((1, 0))
        with self.promised("CachePolicy", "once in each worker"):
            found = list(self.make(self.app).victims())
            expect(not found, f"named {shown(found)} in a store that is new and empty")

    def test_nothing_is_remembered_of_what_was_forgotten(self) -> None:
        def come_and_go(first: int) -> None:
            for partition in range(first, first + 2000):
                self.policy.stored((1, partition), facts((1, partition)))
            for partition in range(first, first + 2000):
                self.policy.forget((1, partition))

        with self.promised("CachePolicy.forget", "The policy keeps nothing of it", within=30.0):
            come_and_go(0)
            tracemalloc.start()
            try:
                come_and_go(2000)
                before, _ = tracemalloc.get_traced_memory()
                for start in range(4000, 14000, 2000):
                    come_and_go(start)
                after, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            expect(after - before < 100_000, f"held {after - before} bytes more when 10000 blocks had come and gone")

    def test_it_is_quick(self) -> None:
        with self.promised("CachePolicy", QUICK):
            for partition in range(MANY):
                self.policy.stored((1, partition), facts((1, partition)))
            for partition in range(MANY):
                self.policy.touch((1, partition * 7 % MANY))
            expect(len(list(islice(self.policy.victims(), 10))) == 10, "named fewer than 10 victims of 20000 blocks")
            for partition in range(MANY):
                self.policy.forget((1, partition))

    def test_a_job_uses_it(self) -> None:
        """Blocks of a real job leave a store that is too small, and the job's results are right."""
        from asparkle import SparkConf, SparkContext

        plugins, name = providing(CachePolicy, type(self.policy))
        conf = SparkConf().set("asparkle.cache.policy", name).set("spark.executor.memory", "2m")
        conf.set("spark.local.dir", str(self.directory))
        with (
            self.promised("CachePolicy", "Which blocks leave a full store first", within=30.0),
            SparkContext("threads[2]", conf=conf, plugins=plugins) as sc,
        ):
            cached = [sc.parallelize(range(i, 20_000 + i), 2).map(identity).cache() for i in range(6)]
            for _ in range(2):
                for i, rdd in enumerate(cached):
                    total, wanted = rdd.sum(), 199990000 + 20_000 * i
                    expect(total == wanted, f"made a job return {total}, not {wanted}")


def facts(block: BlockId) -> BlockFacts:
    """What may be known of a block: of some it is that they were copied, of some that they go to disk."""
    rdd, partition = block
    return BlockFacts(1000 * (partition % 17 + 1), partition % 5 / 10, rdd % 2 == 0)
