"""``asparkle shell``: a prompt with a context.  IPython's where it is installed, else Python's own."""

from __future__ import annotations

import ast
import asyncio
import builtins
import code
import inspect
import os
import sys
from types import CodeType, FunctionType
from typing import Any

from asparkle.context import SparkContext
from asparkle.core import rdd as core
from asparkle.core.conf import SparkConf
from asparkle.core.errors import ConfigurationError
from asparkle.core.version import VERSION
from asparkle.launcher.script import new_main
from asparkle.plugins.progress import settle
from asparkle.rdd import RDD
from asparkle.sql import SparkSession


def run_shell() -> int:
    """A prompt until end of file or ``exit()``; the exit status.

    Raises ConfigurationError where IPython is asked for and not installed, and what starting a context raises.
    """
    use_ipython = _use_ipython()
    conf = SparkConf().setIfMissing("spark.ui.showConsoleProgress", "true")
    with SparkContext(conf=conf) as sc:
        namespace = {"sc": sc, "spark": SparkSession.builder.getOrCreate(), "SparkContext": SparkContext}
        return _ipython(namespace, banner(sc)) if use_ipython else _plain(namespace, banner(sc))


def banner(sc: SparkContext) -> str:
    python = ".".join(map(str, sys.version_info[:3]))
    slots = f"{sc.defaultParallelism} partition{'s' * (sc.defaultParallelism != 1)} by default"
    return (
        f"asparkle {VERSION} on Python {python}, master {sc.master}, {slots}\n"
        "sc is the SparkContext, spark the SparkSession.  await works here; Ctrl-C cancels the job that runs.\n"
    )


def _use_ipython() -> bool:
    """IPYTHON=1, or PYSPARK_DRIVER_PYTHON=ipython, asks for it; IPYTHON=0 refuses it."""
    driver = os.path.basename(os.environ.get("PYSPARK_DRIVER_PYTHON", ""))
    if driver.startswith("jupyter"):
        raise ConfigurationError(
            f"PYSPARK_DRIVER_PYTHON = {driver!r}: asparkle shell is for terminals; start {driver}, and there use "
            "asparkle.SparkContext"
        )
    wish = os.environ.get("IPYTHON")
    if wish == "0":
        return False
    from importlib.util import find_spec

    if find_spec("IPython") is not None:
        return True
    if wish or driver.startswith("ipython"):
        raise ConfigurationError("IPYTHON: IPython is not installed: pip install 'asparkle[shell]'")
    return False


# ------------------------------------------------------------------------------------------------ IPython


def _ipython(namespace: dict[str, Any], text: str) -> int:
    from IPython.terminal.ipapp import TerminalIPythonApp
    from traitlets.config import Config

    config = Config()
    config.TerminalInteractiveShell.banner1 = text
    kind: Any = TerminalIPythonApp
    app = kind.instance(config=config, user_ns=namespace)
    app.initialize([])
    app.shell.events.register("post_run_cell", lambda _: settle())  # before the next prompt
    app.shell.set_custom_exc((KeyboardInterrupt,), _interrupted)
    app.start()
    return 0


def _interrupted(*_: object, **__: object) -> None:
    """In place of a traceback, which would show where asparkle waited."""
    settle()
    print("KeyboardInterrupt", file=sys.stderr)


# ------------------------------------------------------------------------------------------ Python's own


def _plain(namespace: dict[str, Any], text: str) -> int:
    main = new_main()
    main.__dict__.update(namespace)
    _edit_lines(main.__dict__)
    sys.displayhook = _display
    with asyncio.Runner() as runner:
        try:
            Console(main.__dict__, runner).interact(banner=text, exitmsg="")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0


class Console(code.InteractiveConsole):
    """Python's prompt, with ``await``: what awaits runs on a loop of the prompt's own."""

    def __init__(self, namespace: dict[str, Any], runner: asyncio.Runner) -> None:
        super().__init__(namespace)
        self._namespace = namespace
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._runner = runner

    def runcode(self, code: CodeType) -> None:
        try:
            self._run(code)
        except SystemExit:
            raise
        except KeyboardInterrupt:
            self.write("KeyboardInterrupt\n")
        except BaseException:
            self.showtraceback()

    def _run(self, code: CodeType) -> None:
        try:
            result = FunctionType(code, self._namespace)()
            if code.co_flags & inspect.CO_COROUTINE:
                self._runner.run(result)
        finally:
            settle()


def _display(value: object) -> None:
    """As Python's own, but RDDs show partitions, storage level and lineage."""
    if isinstance(value, RDD | core.RDD):
        from asparkle.core.picture import text

        print(text(value._rdd._node if isinstance(value, RDD) else value._node))
        builtins.__dict__["_"] = value
    else:
        sys.__displayhook__(value)


def _edit_lines(namespace: dict[str, Any]) -> None:
    """History and completion, as in Python's own prompt, where Python has readline."""
    try:
        import readline
        import rlcompleter
    except ImportError:
        return
    if hook := getattr(sys, "__interactivehook__", None):
        hook()
    readline.set_completer(rlcompleter.Completer(namespace).complete)
