"""Ray tasks with a two-stage shuffle by hand: what a Ray user writes for this work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from .engine_pool import count_from, count_primes, count_words
from .workloads import (
    PRIMES,
    THRESHOLDS,
    Prepare,
    array,
    floats,
    integers,
    square,
    text_file,
    transform,
)

PARTS = 4


@contextmanager
def session(engine: str, cores: int) -> Iterator[dict[str, Prepare]]:
    import ray

    ray.init(num_cpus=cores, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        ray.get([ray.remote(square).remote(i) for i in range(2 * cores)])
        yield workloads()
    finally:
        ray.shutdown()


def grouped(*parts: Iterable[tuple[int, Any]]) -> int:
    groups: dict[int, list[Any]] = {}
    for part in parts:
        for key, value in part:
            groups.setdefault(key, []).append(value)
    return sum(map(len, groups.values()))


def joined(*parts: Iterable[tuple[int, tuple[bool, int]]]) -> int:
    few: dict[int, list[int]] = {}
    many = []
    for part in parts:
        for key, (is_few, value) in part:
            if is_few:
                few.setdefault(key, []).append(value)
            else:
                many.append(key)
    return sum(len(few.get(key, ())) for key in many)


def workloads() -> dict[str, Prepare]:
    import os

    import numpy as np
    import ray

    @ray.remote
    def run(function: Callable[..., Any], *parts: Any) -> Any:
        return function(*parts)

    @ray.remote(num_returns=PARTS)
    def buckets(pair: Callable[[Any], tuple[int, Any]], part: Iterable[Any]) -> Any:
        out: list[list[Any]] = [[] for _ in range(PARTS)]
        for kv in map(pair, part):
            out[hash(kv[0]) % PARTS].append(kv)
        return tuple(out)

    def each(parts: Iterable[Any], function: Callable[[Any], Any]) -> Any:
        return ray.get([run.remote(function, part) for part in parts])

    def shuffled(sides: Iterable[tuple[Any, Callable[..., Any]]], reduce: Callable[..., Any]) -> Any:
        columns = zip(*[buckets.remote(pair, part) for parts, pair in sides for part in parts], strict=True)
        return ray.get([run.remote(reduce, *column) for column in columns])

    def numbers() -> list[Any]:
        data = integers()
        return [ray.put(data[i::PARTS]) for i in range(PARTS)]

    def small_job():
        halves = (range(7), range(7, 14))
        return lambda: sum(each(halves, lambda part: sum(map(square, part))))

    def tasks():
        one = ray.remote(lambda part: len(part))
        return lambda: sum(ray.get([one.remote([i]) for i in range(2000)]))

    def cpu_primes():
        return lambda: sum(each([PRIMES[i : i + 7500] for i in range(0, 60_000, 7500)], count_primes))

    def filter_uncached():
        big = [ray.put(part) for part in np.array_split(floats(), PARTS)]
        return lambda: sum(sum(each(big, lambda part, least=least: count_from(part, least))) for least in THRESHOLDS)

    def filter_cached():
        big = [ray.put(part) for part in np.array_split(floats(), PARTS)]

        def timed() -> int:
            kept = [run.remote(lambda part: list(map(transform, part)), part) for part in big]
            return sum(
                sum(each(kept, lambda part, least=least: sum(1 for x in part if x >= least))) for least in THRESHOLDS
            )

        return timed

    def wordcount():
        path = text_file()

        def timed() -> int:
            step = os.path.getsize(path) // PARTS + 1
            counts: Counter[str] = Counter()
            spans = [(path, i * step, (i + 1) * step) for i in range(PARTS)]
            for part in ray.get([run.remote(count_words, *span) for span in spans]):
                counts.update(part)
            return counts.most_common(5)[0][1]

        return timed

    def join():
        many, few = numbers(), [ray.put(list(range(i, 200_000, PARTS))) for i in range(PARTS)]
        sides = [(many, lambda x: (x % 200_000, (False, x))), (few, lambda x: (x, (True, x)))]
        return lambda: sum(shuffled(sides, joined))

    def group_by_key():
        base = numbers()
        return lambda: sum(shuffled([(base, lambda x: (x % 1000, x))], grouped))

    def distinct():
        base = numbers()
        return lambda: sum(
            shuffled(
                [(base, lambda x: (x % 100_000, None))],
                lambda *parts: len({key for part in parts for key, _ in part}),
            )
        )

    def shuffle_numpy():
        ids = [range(i, i + 8) for i in range(0, 64, 8)]
        return lambda: sum(
            shuffled(
                [(ids, lambda i: (i % 16, array(i)))],
                lambda *parts: sum(float(a[0]) for part in parts for _, a in part),
            )
        )

    return {
        "small_job": small_job,
        "2000_tasks": tasks,
        "cpu_primes": cpu_primes,
        "filter_uncached": filter_uncached,
        "filter_cached": filter_cached,
        "wordcount": wordcount,
        "join": join,
        "group_by_key": group_by_key,
        "distinct": distinct,
        "shuffle_numpy": shuffle_numpy,
    }
