"""How soon the caller of a job whose tasks sleep in C is back once it cancels; in milliseconds.

    python -m contrib.bench.cancelling [MASTER ...]

The tasks sleep on: a process is killed in the end, a thread can't be.  What is measured is the caller alone,
from the cancellation until its ``await`` has ended.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import anyio

from asparkle import SparkConf
from asparkle.aio import SparkContext

ROUNDS = 20
MASTERS = ["inline", "threads[2]", "processes[2]"]


async def seconds(master: str, asleep: Path) -> float:
    """From the cancellation of one job until its caller is back."""
    nap = 60 if master.startswith("processes") else 1

    def sleep(x: int) -> None:
        asleep.touch()
        time.sleep(nap)

    async with SparkContext(conf=SparkConf().setMaster(master)) as sc:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sc.parallelize(range(8), 8).map(sleep).count)
            while not asleep.exists():
                await anyio.sleep(0.01)
            asked = time.perf_counter()
            tasks.cancel_scope.cancel()
        return time.perf_counter() - asked


def main() -> None:
    print(f"{'caller back after cancel, ms':30} {'median':>8} {'worst':>8}")
    for master in sys.argv[1:] or MASTERS:
        with tempfile.TemporaryDirectory() as directory:
            times = [1000 * anyio.run(seconds, master, Path(directory, f"asleep-{i}")) for i in range(ROUNDS)]
        print(f"{master:30} {statistics.median(times):8.2f} {max(times):8.2f}")


if __name__ == "__main__":
    main()
