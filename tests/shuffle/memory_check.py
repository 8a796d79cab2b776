"""Peak memory of shuffles that exceed their limit: tests/shuffle/memory_check.py [MB of data] [MB limit].

Each case runs in a process of its own, map side and reduce side one after the other, and prints its time,
the peak of its resident memory, the base it started from, and what it spilled.  The tests run it with less.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any

MB = 1 << 20
CASES = ("sort", "sort_strings", "group_many_keys", "group_hot_key", "combine_distinct_keys", "cogroup")


def case(name: str, megabytes: int, limit: int, directory: str) -> dict[str, Any]:
    """Run one case here; what it took."""
    from asparkle.backends.shufflefiles import FileReader, FileWriter
    from asparkle.core.partitioner import Partitioner
    from asparkle.core.shuffle import (
        GROUP,
        Aggregator,
        SpillSpace,
        cogroup,
        combine,
        group,
        read_reduce_partition,
        records_of,
        sort,
        write_map_output,
    )

    base = peak_memory()
    started = time.perf_counter()
    space = SpillSpace([directory], limit * MB, limit * MB)
    aggregators = {
        "group_many_keys": GROUP,
        "group_hot_key": GROUP,
        "combine_distinct_keys": Aggregator(_one, _add, _add),
    }
    maps = 8
    count = megabytes * MB // RECORD_BYTES[name]
    expected = 0
    infos = []
    for m in range(maps):
        path = os.path.join(directory, f"map-{m}")
        records = RECORDS[name](count // maps, m)
        infos.append(
            write_map_output(
                records,
                partitioner=Partitioner(1),
                begin=partial(FileWriter, path, 1),
                space=space,
                aggregator=aggregators.get(name),
            )
        )
        expected += count // maps
    map_peak = peak_memory()
    batches = chain.from_iterable(read_reduce_partition(i, 0, FileReader) for i in infos)
    if name.startswith("sort"):
        seen = check_sorted(sort(records_of(batches), itemgetter(0), False, space))
    elif name == "combine_distinct_keys":
        seen = sum(c for _, c in combine(batches, aggregators[name], space))
    elif name == "cogroup":
        seen = sum(len(vs) + len(ws) for _, (vs, ws) in cogroup([batches, iter(())], space))
    else:
        seen = sum(sum(1 for _ in values) for _, values in group(batches, space))
    assert seen == expected, (seen, expected)
    return {
        "case": name,
        "seconds": round(time.perf_counter() - started, 1),
        "base": base // MB,
        "map_peak": map_peak // MB,
        "peak": peak_memory() // MB,
        "spilled": space.bytes_spilled // MB,
        "written": sum(sum(i.sizes) for i in infos) // MB,
    }


def peak_memory() -> int:
    try:
        with open("/proc/self/status") as file:  # the peak of getrusage may be that of who started us
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def check_sorted(pairs: Iterator[tuple[Any, Any]]) -> int:
    seen = 0
    last = None
    for key, _ in pairs:
        assert last is None or last <= key
        last = key
        seen += 1
    return seen


def _one(_: Any) -> int:
    return 1


def _add(a: int, b: int) -> int:
    return a + (b if isinstance(b, int) else 1)


def _ints(n: int, m: int) -> Iterator[tuple[int, int]]:
    rnd = random.Random(m)
    return ((rnd.getrandbits(40), 1 << 40) for _ in range(n))


def _strings(n: int, m: int) -> Iterator[tuple[str, bytes]]:
    rnd = random.Random(m)
    return ((f"{rnd.getrandbits(60):020d}", rnd.randbytes(100)) for _ in range(n))


def _many_keys(n: int, m: int) -> Iterator[tuple[int, str]]:
    rnd = random.Random(m)
    return ((i % 5000, f"{rnd.getrandbits(60):020d}") for i in range(n))


def _hot_key(n: int, m: int) -> Iterator[tuple[str, str]]:
    rnd = random.Random(m)
    return (("hot" if i % 10 else f"cold {i % 70}", f"{rnd.getrandbits(60):020d}") for i in range(n))


def _distinct_keys(n: int, m: int) -> Iterator[tuple[str, str]]:
    return ((f"{m}-{i:018d}", "") for i in range(n))


RECORDS: dict[str, Callable[[int, int], Iterator[tuple[Any, Any]]]] = {
    "sort": _ints,
    "sort_strings": _strings,
    "group_many_keys": _many_keys,
    "group_hot_key": _hot_key,
    "combine_distinct_keys": _distinct_keys,
    "cogroup": _many_keys,
}
# In memory, as plain Python would hold them: pairs in a list, or lists in a dict.
RECORD_BYTES = {
    "sort": 130,
    "sort_strings": 270,
    "group_many_keys": 80,
    "group_hot_key": 80,
    "combine_distinct_keys": 190,
    "cogroup": 80,
}


def measure(name: str, megabytes: int, limit: int) -> dict[str, Any]:
    """Run one case in a new process."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__, "--case", name, str(megabytes), str(limit), directory]
        result = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    measured: dict[str, Any] = json.loads(result.stdout)
    return measured


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        print(json.dumps(case(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])))
    else:
        numbers = [int(a) for a in sys.argv[1:] if a.isdigit()]
        size, memory = [*numbers, 1024, 512][:2] if len(numbers) != 1 else (numbers[0], 512)
        for name in [a for a in sys.argv[1:] if a in CASES] or CASES:
            print(json.dumps(measure(name, size, memory)), flush=True)
