"""The masters that the tests of whole programs run with: those of the built-in backends.

ASPARKLE_TEST_MASTERS in the environment names others, with commas or spaces between them, to try a new backend.
"""

from __future__ import annotations

import os
import re

_named = os.environ.get("ASPARKLE_TEST_MASTERS", "inline threads[2] processes[2]")
MASTERS = re.findall(r"(?:\[[^]]*\]|[^\s,])+", _named)  # a comma in brackets separates nothing
