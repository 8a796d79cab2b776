"""Dask's bag on a local cluster of processes: data placed once, foldby rather than groupby."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .workloads import (
    PRIMES,
    THRESHOLDS,
    Prepare,
    candidate,
    floats,
    integers,
    is_prime,
    square,
    text_file,
    transform,
)


@contextmanager
def session(engine: str, cores: int) -> Iterator[dict[str, Prepare]]:
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=cores, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.submit(square, 3).result()
        yield workloads(client)


def workloads(client: Any) -> dict[str, Prepare]:
    import dask.bag as db
    import numpy as np
    from dask import delayed

    def placed(parts: Sequence[Any]) -> Any:
        bag = db.from_delayed([delayed(list)(part) for part in client.scatter(parts)])
        bag.count().compute()
        return bag

    def numbers() -> Any:
        data = integers()
        return placed([data[i::4] for i in range(4)])

    def small_job():
        return lambda: sum(db.from_sequence(range(14), npartitions=2).map(square).compute())

    def tasks():
        return lambda: db.from_sequence(range(2000), npartitions=2000).map(lambda x: x).count().compute()

    def cpu_primes():
        return lambda: db.from_sequence(PRIMES, npartitions=8).map(candidate).filter(is_prime).count().compute()

    def filter_uncached():
        transformed = placed(np.array_split(floats(), 4)).map(transform)
        return lambda: sum(
            transformed.filter(lambda x, least=least: x >= least).count().compute() for least in THRESHOLDS
        )

    def filter_cached():
        big = placed(np.array_split(floats(), 4))

        def run() -> int:
            kept = big.map(transform).persist()
            return sum(kept.filter(lambda x, least=least: x >= least).count().compute() for least in THRESHOLDS)

        return run

    def wordcount():
        path = text_file()

        def run() -> int:
            words = db.read_text(path, blocksize="15MiB").map(lambda line: line.split()).flatten()
            return words.frequencies(split_every=4).topk(5, key=lambda kv: kv[1]).compute()[0][1]

        return run

    def group_by_key():
        pairs = numbers().map(lambda x: (x % 1000, x))

        def run() -> int:
            counts = pairs.foldby(lambda kv: kv[0], lambda n, _: n + 1, 0, operator.add, 0)
            return sum(count for _, count in counts.compute())

        return run

    def distinct():
        base = numbers()
        return lambda: base.map(lambda x: x % 100_000).distinct().count().compute()

    return {
        "small_job": small_job,
        "2000_tasks": tasks,
        "cpu_primes": cpu_primes,
        "filter_uncached": filter_uncached,
        "filter_cached": filter_cached,
        "wordcount": wordcount,
        "group_by_key": group_by_key,
        "distinct": distinct,
    }
