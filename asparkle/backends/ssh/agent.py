"""What a node's process becomes once asparkle is there: for now, something that says who it is and echoes."""

from __future__ import annotations

import json
import os
from typing import Any


def main(facts: dict[str, Any]) -> None:
    os.write(1, json.dumps({"agent": facts["pid"]}).encode() + b"\n")
    while data := os.read(0, 1 << 16):
        os.write(1, data)
