"""The command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import ParamSpec

from asparkle.core.conf import SparkConf, check_conf
from asparkle.core.errors import AsparkleError, ConfigurationError
from asparkle.core.masters import parse_master
from asparkle.core.version import VERSION
from asparkle.launcher import settings
from asparkle.launcher.options import Parser, add_options
from asparkle.plugins.builtin import COMMANDS

P = ParamSpec("P")
_RUN = """Run a Python program with asparkle's settings.  What stands behind the script is the program's own.
Settings come, the first that has one, from the command line, PYSPARK_SUBMIT_ARGS, the properties file and MASTER."""

_PLUGINS = """What is installed: asparkle's own plugins and all others, what each provides, and whether a program that
is started with these options uses it, would have to name it, or can't use it."""
_CONF = """Every configuration key, with the value that holds for a program that is started with these options, and
where it is set.  What the program sets itself is not known here.  The exit status is 1 where a value is bad."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: that of the program, 1 if it raised, 2 for what is wrong with the command line."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    command = ""  # known to be one
    try:
        if words and words[0][:1] != "-" and words[0] not in COMMANDS:
            command = words[0]
            return _run_plugins(command, words[1:])
        options = _parser(with_plugins=words[:1] in (["-h"], ["--help"])).parse_args(words)
        command = options.command
        return _START[command](options)
    except AsparkleError as error:
        print(f"{f'asparkle {command}'.strip()}: {error}", file=sys.stderr)
        return 2


def _parser(with_plugins: bool = False) -> Parser:
    """``with_plugins``: their commands are described, too."""
    parser = Parser(
        prog="asparkle",
        description="RDDs without a JVM.",
        epilog=_plugins_commands() if with_plugins else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"asparkle {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar=" | ".join(COMMANDS), required=True)
    run = commands.add_parser("run", help="run a program", description=_RUN, allow_abbrev=False)
    add_options(run)
    run.add_argument("--pyspark", action="store_true", help="what the program imports as pyspark is asparkle")
    run.add_argument("script", help="the program: a Python file, or what has a __main__.py")
    rest = run.add_argument("arguments", nargs=argparse.REMAINDER, help="the program's own arguments")
    rest.required = False  # before Python 3.13 its absence is said to be an error
    shell = commands.add_parser("shell", help="a prompt with a context", description="A prompt with a context, sc.")
    add_options(shell)
    shell.add_argument("--pyspark", action="store_true", help="what is imported as pyspark is asparkle")
    plugins = commands.add_parser("plugins", help="what is installed", description=_PLUGINS, allow_abbrev=False)
    add_options(plugins)
    plugins.add_argument("--json", action="store_true", help="for programs: a list of objects")
    conf = commands.add_parser("conf", help="what is configured, and where", description=_CONF, allow_abbrev=False)
    add_options(conf)
    conf.add_argument("prefix", nargs="?", default="", help="only keys that begin so, such as spark.eventLog")
    conf.add_argument("--set", action="store_true", help="only keys that are set")
    conf.add_argument("--json", action="store_true", help="for programs: a list of objects")
    return parser


def _run_plugins(command: str, words: list[str]) -> int:
    """Run a plugin's command.  Raises ConfigurationError for one that nobody has, PluginError for one that can't be
    run."""
    from asparkle.launcher.commands import known, load

    commands, broken = known()
    if command not in commands:
        hints = [str(error) for error in broken.values()]
        names = ", ".join([*COMMANDS, *sorted(commands)])
        raise ConfigurationError("; ".join([f"no such command: known are {names}", *hints]))
    return load(command, *commands[command])(words)


def _plugins_commands() -> str | None:
    from asparkle.launcher.commands import described

    lines = [f"  {name:12} {text}" for name, text in described()]
    return "\n".join(["commands of plugins:", *lines]) if lines else None


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


def _plugins(options: argparse.Namespace) -> int:
    from asparkle.launcher.installed import show

    return _printed(show, _conf_of(options), as_json=options.json)


def _conf(options: argparse.Namespace) -> int:
    from asparkle.launcher.configured import show

    given = settings.sources(options, os.environ)
    return _printed(show, _conf_of(options), given, options.prefix, only_set=options.set, as_json=options.json)


def _printed(show: Callable[P, int], *arguments: P.args, **keywords: P.kwargs) -> int:
    """What ``show`` returns; 0 where whoever reads what it prints has seen enough."""
    try:
        status = show(*arguments, **keywords)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in the buffer
        return 0


def _conf_of(options: argparse.Namespace) -> SparkConf:
    return SparkConf(loadDefaults=False).setAll(settings.collect(options, os.environ).items())


_START: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _start,
    "shell": _start,
    "plugins": _plugins,
    "conf": _conf,
}


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
