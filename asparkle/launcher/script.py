"""Running a program as Python would: as ``__main__``, with its own arguments and its directory to import from."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pkgutil import get_importer
from types import CodeType, ModuleType
from typing import Any

from asparkle.core.errors import ConfigurationError


def run_script(path: str, arguments: Sequence[str]) -> int:
    """Run the program, a Python file, or a directory or zip file with a ``__main__.py``; the exit status: 0, or 1 if it
    raised, which is printed without the frames of ours, or 130 after Ctrl-C.

    SystemExit is the caller's.  Raises ConfigurationError if the program can't be read.
    """
    home = os.path.abspath(path)
    importer = get_importer(home)  # of directories and zip files
    compiled, facts = _file(path) if importer is None else _application(path, importer)
    sys.argv = [path, *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = home if importer else os.path.dirname(home)
    elif importer:  # as with python -P
        sys.path.insert(0, home)
    module = new_main()
    module.__dict__.update(facts)
    try:
        exec(compiled(), module.__dict__)
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


def _file(path: str) -> tuple[Callable[[], CodeType], dict[str, Any]]:
    """How to compile the program, which may raise, and what its module has."""
    if path == "-":
        raise ConfigurationError("script '-': a program is not read from standard input so; name a file, or /dev/stdin")
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        raise ConfigurationError(f"script {path!r}: {error.strerror}") from error
    return partial(compile, source, path, "exec"), {"__file__": path}


def _application(path: str, importer: Any) -> tuple[Callable[[], CodeType], dict[str, Any]]:
    """The same, of what is in a directory or a zip file."""
    spec = importer.find_spec("__main__")
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"script {path!r}: it has no __main__.py; add one, or name the Python file to run")
    facts = {"__file__": spec.origin, "__spec__": spec, "__loader__": spec.loader, "__package__": ""}
    return partial(spec.loader.get_code, "__main__"), facts
