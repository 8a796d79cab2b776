"""Records what Spark logs of `program.py`: ``python -m tests.eventlog.record``, where PySpark and Java are installed.

Of each kind of event one is kept, without what is long or tells of the machine.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("spark_4_3.jsonl")
MAPS = ("Properties", "Entries", "Urls")


def kind_of(event: dict[str, Any]) -> str:
    """What it is an example of."""
    details = [event.get("Task Type"), *[event.get(key, {}).get("Reason") for key in ("Task End Reason",)]]
    result = event.get("Job Result", {}).get("Result")
    return " ".join(filter(None, [event["Event"], *details, result]))


def slim(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        entries = list(value.items())
        if key.endswith(MAPS):
            entries = [(k, v) for k, v in entries if "/" not in k + v and v.strip()][:3]
        return {k: slim(v, k) for k, v in entries}
    if isinstance(value, list):
        return [slim(item) for item in value[:2]]
    if isinstance(value, str):
        return re.sub(r"/\S+/", "", value)[-80:]
    return value


def main() -> None:
    from pyspark import SparkConf, SparkContext  # type: ignore[import-not-found]

    from tests.eventlog.program import run

    with tempfile.TemporaryDirectory() as directory:
        conf = SparkConf().setMaster("local-cluster[2,1,1024]").setAppName("recorded")
        conf.set("spark.ui.enabled", "false").set("spark.ui.showConsoleProgress", "false")
        conf.set("spark.executorEnv.PYTHONPATH", os.getcwd())
        conf.set("spark.eventLog.enabled", "true").set("spark.eventLog.dir", f"file:{directory}")
        conf.set("spark.eventLog.compress", "false").set("spark.eventLog.rolling.enabled", "false")
        conf.set("spark.eventLog.logBlockUpdates.enabled", "true")
        with SparkContext(conf=conf) as sc:
            run(sc, f"{directory}/data")
        (log,) = Path(directory).glob("app-*")
        kept: dict[str, str] = {}
        for line in log.read_text().splitlines():
            event = json.loads(line)
            kept.setdefault(kind_of(event), json.dumps(slim(event)))
    RECORDED.write_text("\n".join(kept.values()) + "\n")


if __name__ == "__main__":
    main()
