"""One engine's turn, in a process and an interpreter of its own: python session.py ENGINE CORES NAME...

Prints one JSON line per workload: its name with ``seconds`` and ``check``, or with ``error``; and before that
one with the engine's version.
"""

from __future__ import annotations

import gc
import importlib
import json
import statistics
import sys
import time
import traceback
from importlib import metadata
from typing import Any

from contrib.bench.workloads import REPEATS

MODULES = {"plain": "plain", "pool": "pool", "dask": "dask", "ray": "ray"}
PACKAGES = {"pyspark": "pyspark", "dask": "distributed", "ray": "ray"}


def say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


def version(engine: str) -> str:
    python = f"Python {sys.version.split()[0]}"
    if engine in ("plain", "pool"):
        return python
    if engine in PACKAGES:
        return f"{PACKAGES[engine]} {metadata.version(PACKAGES[engine])}, {python}"
    import asparkle

    return f"asparkle {getattr(asparkle, '__version__', '(checkout)')}, {python}"


def main() -> None:
    engine, cores, *names = sys.argv[1:]
    say(version=version(engine))
    module = importlib.import_module(f"contrib.bench.engine_{MODULES.get(engine, 'rdd')}")
    with module.session(engine, int(cores)) as workloads:
        for name in names:
            if name not in workloads:
                continue
            try:
                run = workloads[name]()
                gc.collect()
                times = []
                for _ in range(REPEATS.get(name, 1)):
                    start = time.perf_counter()
                    check = run()
                    times.append(time.perf_counter() - start)
                check = check.item() if hasattr(check, "item") else check
                say(name=name, seconds=statistics.median(times), check=check)
            except Exception:
                say(name=name, error=traceback.format_exc())


if __name__ == "__main__":
    main()
