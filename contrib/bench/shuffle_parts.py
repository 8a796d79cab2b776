"""CPU seconds that the parts of a shuffle take in one process, without the rest of the engine.

    python -m contrib.bench.shuffle_parts [NAME ...]

The workloads are those of the bench.  Map and reduce sides run one after the other here, so divide by the
number of workers to compare.
"""

from __future__ import annotations

import operator
import os
import random
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, count
from typing import Any

from asparkle.backends.shufflefiles import FileReader, FileWriter
from asparkle.core.partitioner import Partitioner, RangePartitioner, bounds_from_samples
from asparkle.core.serializer import dumps, loads
from asparkle.core.shuffle import (
    DISTINCT,
    GROUP,
    Aggregator,
    MapOutputInfo,
    SpillSpace,
    combine,
    distinct,
    group,
    identity,
    join,
    read_reduce_partition,
    records_of,
    sort,
    write_map_output,
)

REDUCERS = 4
_numbers = count()


class Bench:
    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.space = SpillSpace([directory], 512 << 20)
        rnd = random.Random(3)
        self.nums = [rnd.getrandbits(40) for _ in range(1_000_000)]
        quarter = len(self.nums) // 4
        self.parts = [dumps(self.nums[i * quarter : (i + 1) * quarter]) for i in range(4)]

    def base(self) -> Iterator[list[int]]:
        return map(loads, self.parts)

    def write(
        self, records: Iterable[Any], aggregator: Aggregator | None = None, partitioner: Any = None
    ) -> MapOutputInfo:
        path = os.path.join(self.directory, f"m{next(_numbers)}")
        return write_map_output(
            records,
            partitioner=partitioner or Partitioner(REDUCERS),
            begin=lambda: FileWriter(path, (partitioner or Partitioner(REDUCERS)).numPartitions),
            space=self.space,
            aggregator=aggregator,
        )

    def read(self, infos: list[MapOutputInfo], reducer: int) -> Iterator[Any]:
        return chain.from_iterable(read_reduce_partition(i, reducer, FileReader) for i in infos)

    def measure(
        self,
        name: str,
        maps: Callable[[], list[MapOutputInfo]],
        reduces: Callable[[list[MapOutputInfo], int], Any],
    ) -> None:
        best = (9e9, 0.0, 0.0)
        for _ in range(4):
            t0 = time.process_time()
            infos = maps()
            t1 = time.process_time()
            for r in range(REDUCERS):
                reduces(infos, r)
            t2 = time.process_time()
            size = sum(sum(i.sizes) for i in infos)
            for i in infos:
                if i.location:
                    os.unlink(i.location)
            best = min(best, (t2 - t0, t1 - t0, t2 - t1))
        print(f"{name:20} total {best[0]:.3f}  map {best[1]:.3f}  reduce {best[2]:.3f}  {size / 1e6:.1f} MB")


def drain(iterator: Iterable[Any]) -> None:
    deque(iterator, maxlen=0)


def run(bench: Bench, wanted: set[str]) -> None:
    b = bench
    add = Aggregator(identity, operator.add, operator.add)
    lam = Aggregator(identity, lambda a, b: a + b, lambda a, b: a + b)

    def go(name: str, maps: Any, reduces: Any) -> None:
        if not wanted or name in wanted:
            b.measure(name, maps, reduces)

    def words() -> list[list[str]]:
        rnd = random.Random(7)
        vocab = ["".join(rnd.choices("abcdefghijklmnopqrstuvwxyz", k=rnd.randint(2, 10))) for _ in range(50_000)]
        weights = [1 / (i + 1) for i in range(len(vocab))]
        return [[" ".join(rnd.choices(vocab, weights, k=12)) for _ in range(20_000)] for _ in range(4)]

    lines = words() if not wanted or "wordcount" in wanted or "wordcount_lambda" in wanted else []
    pairs = lambda part: map(lambda w: (w, 1), chain.from_iterable(map(str.split, part)))
    for name, agg in (("wordcount", add), ("wordcount_lambda", lam)):
        go(
            name,
            lambda agg=agg: [b.write(pairs(p), agg) for p in lines],
            lambda i, r, agg=agg: drain(combine(b.read(i, r), agg, b.space)),
        )
    go(
        "groupByKey_1M",
        lambda: [b.write(map(lambda x: (x % 1000, x), p), GROUP) for p in b.base()],
        lambda i, r: drain(map(lambda kv: len(kv[1]), group(b.read(i, r), b.space))),
    )
    go(
        "distinct_1M",
        lambda: [b.write(map(lambda x: x % 100_000, p), DISTINCT) for p in b.base()],
        lambda i, r: drain(distinct(b.read(i, r), b.space)),
    )

    def joined(infos: list[MapOutputInfo], r: int) -> None:
        drain(join([b.read(infos[:4], r), b.read(infos[4:], r)], b.space, streamed=0, outer=False))

    go(
        "join_1Mx200k",
        lambda: (
            [b.write(map(lambda x: (x % 200_000, x), p)) for p in b.base()]
            + [b.write(map(lambda x: (x, x), range(i, i + 50_000))) for i in range(0, 200_000, 50_000)]
        ),
        joined,
    )
    bounds = bounds_from_samples(b.nums[:100], 4)
    go(
        "sortByKey_1M",
        lambda: [b.write(map(lambda x: (x, 1), p), None, RangePartitioner(bounds)) for p in b.base()],
        lambda i, r: drain(sort(records_of(b.read(i, r)), operator.itemgetter(0), False, b.space)),
    )
    go(
        "partitionBy_str",
        lambda: [b.write(map(lambda x: (str(x), x), p)) for p in b.base()],
        lambda i, r: drain(records_of(b.read(i, r))),
    )
    go(
        "partitionBy_tuple",
        lambda: [b.write(map(lambda x: ((x % 7, x), x), p)) for p in b.base()],
        lambda i, r: drain(records_of(b.read(i, r))),
    )
    import numpy as np

    go(
        "numpy_128MB",
        lambda: [b.write((i % 16, np.full(250_000, i, dtype="f8")) for i in range(j, j + 8)) for j in range(0, 64, 8)],
        lambda i, r: drain(float(v[0]) for _, v in records_of(b.read(i, r))),
    )
    go("tiny", lambda: [b.write([(i, i)]) for i in range(1000)], lambda i, r: drain(records_of(b.read(i, r))))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        run(Bench(directory), set(sys.argv[1:]))
