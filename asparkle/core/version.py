"""The versions that two programs compare before they talk to each other."""

import sys

VERSION = "0.1.0"
"""asparkle's: a driver and its workers have the same."""

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
"""The interpreter's: pickled functions are its bytecode."""

API_VERSION = 1
"""The plugins' hooks and contracts: grows when one changes so that older plugins no longer work."""
