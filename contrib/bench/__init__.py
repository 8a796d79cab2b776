"""Benchmarks: the same work on asparkle and on its peers, side by side in one run.

    python -m contrib.bench                                    every engine that is installed, every workload
    python -m contrib.bench -e plain asparkle -w cpu_primes wordcount --rounds 5
    python -m contrib.bench --python pyspark=/venvs/spark/bin/python --json figures.json
    python -m contrib.bench.memory                             peak memory of sorts and groupings

`workloads` says what is measured; each engine has a module that does it the way its own experts would.
"""
