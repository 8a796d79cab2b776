"""Contexts whose executors are on hosts that share no files.

At the end of each, its backend checks that no worker has tried to see another host's files, or the driver's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from apart import Apart, ApartCluster, clusters
from waiting import wait_until

from asparkle import SparkConf, SparkContext

MB = 1 << 20


@contextmanager
def context(master: str, listener: object = None, **settings: object) -> Iterator[tuple[SparkContext, ApartCluster]]:
    conf = SparkConf().setMaster(master)
    conf.setAll([(key.replace("_", "."), str(value)) for key, value in settings.items()])
    with SparkContext(conf=conf, plugins=[Apart()]) as sc:
        if listener is not None:
            sc.addListener(listener)
        wait_until(lambda: len(set(pids(sc))) == sc.defaultParallelism)
        yield sc, clusters[-1]


def pids(sc: SparkContext) -> list[int]:
    tasks = 2 * sc.defaultParallelism
    return sc.parallelize(range(tasks), tasks).map(lambda _: (time.sleep(0.02), os.getpid())[1]).collect()


def here() -> str:
    return os.environ["APART_HOST"]


def on_disk(cluster: ApartCluster) -> list[str]:
    """What lies in all hosts' directories."""
    return [path for host in cluster.hosts for path in cluster.files(host)]


def driver_files(cluster: ApartCluster, part: str) -> list[str]:
    return os.listdir(os.path.join(cluster.app.directories[0], part))
