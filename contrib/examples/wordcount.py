"""Count the words of text files: python wordcount.py [PATH ...]; without a path, of asparkle's own texts.

The master is ``local[*]``, all CPUs that this process may use, or what ASPARKLE_MASTER says.
"""

import operator
import os
import re
import sys
import time
from pathlib import Path

from asparkle import SparkContext

HERE = Path(__file__).resolve().parents[2]
paths = sys.argv[1:] or [f"{HERE}/LICENSE", f"{HERE}/README.md", f"{HERE}/docs/*.md"]

began = time.perf_counter()
with SparkContext(os.environ.get("ASPARKLE_MASTER", "local[*]"), "wordcount") as sc:
    lines = sc.textFile(",".join(paths))
    words = lines.flatMap(lambda line: re.findall(r"[a-z']+", line.lower()))
    counts = words.map(lambda word: (word, 1)).reduceByKey(operator.add).cache()
    for word, count in counts.takeOrdered(10, key=lambda pair: (-pair[1], pair[0])):
        print(f"{count:8}  {word}")
    print(f"{counts.values().sum()} words, {counts.count()} different, on {sc.master}", end="")
print(f", {time.perf_counter() - began:.2f} s from start to stop")
