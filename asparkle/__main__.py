"""``python -m asparkle`` is the command ``asparkle``."""

import sys

from asparkle.launcher.command import main

if __name__ == "__main__":
    sys.exit(main())
