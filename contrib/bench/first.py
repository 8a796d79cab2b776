"""The smallest program on an engine: python first.py ENGINE CORES.

Prints the result, and whether it was computed in other processes.

Timed from outside, from the start of the interpreter to the printed line; so it imports nothing that it
could do without.
"""

import os
import sys

engine, cores = sys.argv[1], int(sys.argv[2])


def work(x):
    return x**2, os.getpid()


if __name__ == "__main__":
    close = None
    if engine == "plain":
        results = list(map(work, range(14)))
    elif engine == "pool":
        import multiprocessing

        pool = multiprocessing.Pool(cores)
        results, close = pool.map(work, range(14)), pool.terminate
    elif engine == "dask":
        import dask.bag
        from dask.distributed import Client, LocalCluster

        cluster = LocalCluster(n_workers=cores, threads_per_worker=1, dashboard_address=None)
        client = Client(cluster)
        results = dask.bag.from_sequence(range(14), npartitions=2).map(work).compute()
        close = cluster.close
    elif engine == "ray":
        import ray

        ray.init(num_cpus=cores, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
        results, close = ray.get([ray.remote(work).remote(x) for x in range(14)]), ray.shutdown
    else:
        if engine == "pyspark":
            from contrib.bench.engine_rdd import context

            sc = context(engine, cores)
        else:
            from asparkle import SparkContext

            master = {"asparkle": "local[%d]", "asparkle-inline": "inline"}.get(engine, engine[9:] + "[%d]")
            sc = SparkContext(master % cores if "%" in master else master, "first")
        results, close = sc.parallelize(range(14)).map(work).collect(), sc.stop
    print(sum(square for square, _ in results), os.getpid() not in {pid for _, pid in results}, flush=True)
    if close:
        close()
