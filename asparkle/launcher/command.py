"""The command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from asparkle.core.conf import SparkConf, check_conf
from asparkle.core.errors import AsparkleError, ConfigurationError
from asparkle.core.masters import parse_master
from asparkle.core.version import VERSION
from asparkle.launcher import settings
from asparkle.launcher.options import Parser, add_options

_RUN = """Run a Python program with asparkle's settings.  What stands behind the script is the program's own.
Settings come, the first that has one, from the command line, PYSPARK_SUBMIT_ARGS, the properties file and MASTER."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: that of the program, 1 if it raised, 2 for what is wrong with the command line."""
    parser = _parser()
    options: argparse.Namespace | None = None
    try:
        options = parser.parse_args(arguments)
        return _start(options)
    except AsparkleError as error:
        command = f"asparkle {options.command}" if options and options.command else "asparkle"
        print(f"{command}: {error}", file=sys.stderr)
        return 2


def _parser() -> Parser:
    parser = Parser(prog="asparkle", description="RDDs without a JVM.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"asparkle {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="run | shell", required=True)
    run = commands.add_parser("run", help="run a program", description=_RUN, allow_abbrev=False)
    add_options(run)
    run.add_argument("--pyspark", action="store_true", help="what the program imports as pyspark is asparkle")
    run.add_argument("script", help="the program: a Python file, or what has a __main__.py")
    rest = run.add_argument("arguments", nargs=argparse.REMAINDER, help="the program's own arguments")
    rest.required = False  # before Python 3.13 its absence is said to be an error
    shell = commands.add_parser("shell", help="a prompt with a context", description="A prompt with a context, sc.")
    add_options(shell)
    shell.add_argument("--pyspark", action="store_true", help="what is imported as pyspark is asparkle")
    return parser


def _start(options: argparse.Namespace) -> int:
    is_shell = options.command == "shell"
    name = "asparkle shell" if is_shell else os.path.basename(os.path.abspath(options.script))
    values = {"spark.app.name": name} | settings.collect(options, os.environ)
    _check(values)
    settings.check_python(values, os.environ)
    settings.use(values)
    if options.verbose:
        for key, value in sorted(values.items()):
            print(f"{key}={value}", file=sys.stderr)
    if options.pyspark:
        from asparkle.pyspark import install

        install()
    if is_shell:
        from asparkle.launcher.shell import run_shell

        return run_shell()
    from asparkle.launcher.script import run_script

    return run_script(options.script, options.arguments)


def _check(values: dict[str, str]) -> None:
    """Raises ConfigurationError now, with one line, for what a context would refuse later, with a traceback."""
    check_conf(SparkConf(loadDefaults=False).setAll(values.items()))
    if master := values.get("spark.master"):
        if master == "yarn" or master.startswith(("spark://", "k8s://", "mesos://", "local-cluster")):
            raise ConfigurationError(
                f"master {master!r}: asparkle does not run on a Spark or Hadoop cluster; use local[N], local[*], or a "
                "master of a plugin"
            )
        parse_master(master)
