"""One Python process and a loop: what all the machinery has to beat."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

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
    yield {
        "small_job": small_job,
        "cpu_primes": cpu_primes,
        "filter_uncached": filter_uncached,
        "filter_cached": filter_cached,
        "wordcount": wordcount,
        "sort": sort,
        "join": join,
        "group_by_key": group_by_key,
        "distinct": distinct,
    }


def small_job():
    return lambda: sum(map(square, range(14)))


def cpu_primes():
    return lambda: sum(1 for _ in filter(is_prime, map(candidate, PRIMES)))


def filter_uncached():
    data = list(floats())
    return lambda: sum(sum(1 for _ in filter(lambda x: x >= least, map(transform, data))) for least in THRESHOLDS)


def filter_cached():
    data = list(floats())

    def run() -> int:
        kept = list(map(transform, data))
        return sum(sum(1 for _ in filter(lambda x: x >= least, kept)) for least in THRESHOLDS)

    return run


def wordcount():
    path = text_file()

    def run() -> int:
        counts: dict[str, int] = {}
        with open(path) as file:
            words = chain.from_iterable(map(lambda line: line.split(), file))
            for word, one in map(lambda word: (word, 1), words):
                counts[word] = operator.add(counts[word], one) if word in counts else one
        return sorted(counts.items(), key=lambda kv: -kv[1])[0][1]

    return run


def sort():
    numbers = integers()
    return lambda: (
        sorted(map(lambda x: (x, 1), numbers), key=lambda kv: kv[0])[0][0] + len(sorted(numbers, key=lambda x: x))
    )


def join():
    numbers = integers()

    def run() -> int:
        few: dict[int, list[int]] = {}
        for key, value in map(lambda x: (x, x), range(200_000)):
            few.setdefault(key, []).append(value)
        many = map(lambda x: (x % 200_000, x), numbers)
        return sum(1 for key, _ in many for _ in few.get(key, ()))

    return run


def group_by_key():
    numbers = integers()

    def run() -> int:
        groups: dict[int, list[int]] = {}
        for key, value in map(lambda x: (x % 1000, x), numbers):
            groups.setdefault(key, []).append(value)
        return sum(map(len, groups.values()))

    return run


def distinct():
    numbers = integers()
    return lambda: len(set(map(lambda x: x % 100_000, numbers)))
