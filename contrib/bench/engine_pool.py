"""multiprocessing.Pool: what the standard library offers for it, chunk by chunk, with the merging by hand."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .workloads import PRIMES, THRESHOLDS, Prepare, candidate, floats, is_prime, square, text_file, transform


@contextmanager
def session(engine: str, cores: int) -> Iterator[dict[str, Prepare]]:
    with multiprocessing.Pool(cores) as pool:
        pool.map(square, range(100))
        yield workloads(pool)


def workloads(pool: Any) -> dict[str, Prepare]:
    def small_job():
        return lambda: sum(pool.map(square, range(14), 7))

    def tasks():
        return lambda: len(pool.map(same, range(2000), 1))

    def cpu_primes():
        return lambda: sum(pool.map(count_primes, [PRIMES[i : i + 7500] for i in range(0, 60_000, 7500)], 1))

    def filter_uncached():
        data = floats()
        chunks = [data[i : i + 250_000] for i in range(0, 1_000_000, 250_000)]
        return lambda: sum(sum(pool.starmap(count_from, [(chunk, least) for chunk in chunks])) for least in THRESHOLDS)

    def wordcount():
        path = text_file()

        def run() -> int:
            step = os.path.getsize(path) // 4 + 1
            counts: Counter[str] = Counter()
            for part in pool.starmap(count_words, [(path, i * step, (i + 1) * step) for i in range(4)]):
                counts.update(part)
            return counts.most_common(5)[0][1]

        return run

    return {
        "small_job": small_job,
        "2000_tasks": tasks,
        "cpu_primes": cpu_primes,
        "filter_uncached": filter_uncached,
        "wordcount": wordcount,
    }


def same(x: Any) -> Any:
    return x


def count_primes(numbers: range) -> int:
    return sum(1 for i in numbers if is_prime(candidate(i)))


def count_from(chunk: Any, least: float) -> int:
    return sum(1 for x in map(transform, chunk) if x >= least)


def count_words(path: str, start: int, end: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    with open(path, "rb") as file:
        if start:
            file.seek(start - 1)
            file.readline()
        while file.tell() < end and (line := file.readline()):
            counts.update(line.decode().split())
    return counts
