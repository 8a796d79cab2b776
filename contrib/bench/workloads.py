"""What is measured: the names, the data, and the functions that all engines share.

An engine module has a ``session(cores)`` context manager that gives a dictionary from a workload's name to
a function that prepares it (places its data, say: not timed) and returns the function to be timed.  What
that one returns is the check value, on which all engines must agree.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

Prepare = Callable[[], Callable[[], Any]]
Session = AbstractContextManager[dict[str, Prepare]]

WORKLOADS = {
    "first_result": "from starting the interpreter to a result printed, computed in a worker",
    "small_job": "a job of two tasks that do nothing much (median of 60)",
    "2000_tasks": "one job of 2,000 tasks of one element",
    "cpu_primes": "primality of 60,000 numbers by trial division: only the processor counts",
    "filter_uncached": "a million numbers, transformed anew for each of four counts",
    "filter_cached": "the same, with the transformed numbers cached",
    "wordcount": "60 MB of text, 50,000 different words",
    "sort": "a million integers, as keys with the least taken and as values with all counted",
    "join": "a million pairs with 200,000",
    "group_by_key": "a million pairs in 1,000 groups",
    "distinct": "a million integers, 100,000 different ones",
    "shuffle_numpy": "64 arrays of 2 MB repartitioned",
}
REPEATS = {"small_job": 60}
THRESHOLDS = (0.2, 0.4, 0.6, 0.8)
PRIMES = range(60_000)


def square(x: int) -> int:
    return x**2


def is_prime(n: int) -> bool:
    if n < 2:
        return False
    i = 2
    while i * i <= n:
        if n % i == 0:
            return False
        i += 1
    return True


def candidate(i: int) -> int:
    return i * 7 + 1_000_003


def transform(x: float) -> float:
    return (x**2 - 0.1) ** 0.5 if x * x >= 0.1 else 0.0


def floats() -> Any:
    """A numpy array of a million numbers between 0 and 1."""
    import numpy as np

    return np.random.RandomState(0).random(1_000_000)


def integers() -> list[int]:
    rng = random.Random(3)
    return [rng.getrandbits(40) for _ in range(1_000_000)]


def array(i: int) -> Any:
    import numpy as np

    return np.full(250_000, i, dtype="f8")


def text_file(megabytes: int = 60) -> str:
    """A text whose words are distributed as in natural language (Zipf); made once, then kept."""
    directory = os.environ.get("BENCH_DIR") or os.path.join(tempfile.gettempdir(), "bench-data")
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, f"words-{megabytes}.txt")
    if not os.path.exists(path):
        rng = random.Random(7)
        letters = "abcdefghijklmnopqrstuvwxyz"
        vocabulary = ["".join(rng.choices(letters, k=rng.randint(2, 10))) for _ in range(50_000)]
        weights = [0.0]
        for rank in range(len(vocabulary)):
            weights.append(weights[-1] + 1 / (rank + 1))
        with open(f"{path}.{os.getpid()}", "w") as file:
            size = 0
            while size < megabytes * 1_000_000:
                size += file.write(" ".join(rng.choices(vocabulary, cum_weights=weights[1:], k=12)) + "\n")
        os.replace(file.name, path)
    return path
