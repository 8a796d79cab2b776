"""Running a program as Python would: as ``__main__``, with its own arguments and its directory to import from."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from asparkle.core.errors import ConfigurationError


def run_script(path: str, arguments: Sequence[str]) -> int:
    """Run the program; the exit status: 0, or 1 if it raised, which is printed without the frames of ours, or 130
    after Ctrl-C.

    SystemExit is the caller's.  Raises ConfigurationError if the program can't be read.
    """
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        raise ConfigurationError(f"script {path!r}: {error.strerror}") from error
    sys.argv = [path, *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.abspath(path))
    module = new_main()
    module.__file__ = path
    try:
        exec(compile(source, path, "exec"), module.__dict__)
    except (Exception, KeyboardInterrupt) as error:
        ours = error.__traceback__
        error.__traceback__ = ours and ours.tb_next
        sys.excepthook(type(error), error, error.__traceback__)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def new_main() -> ModuleType:
    """An empty module in the place of ``__main__``, whose functions are pickled as such."""
    module = sys.modules["__main__"] = ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    return module
