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
_CHECK = """Connect to all nodes of a master URL as an application does: what each is like, how they reach each other,
and what is wrong.  The exit status is 1 where a node can't be used."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: that of the program, 1 if it raised, 2 for what is wrong with the command line."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    command = ""  # known to be one
    try:
        if words and words[0][:1] != "-" and words[0] not in COMMANDS:
            command = words[0]
            return _run_plugins(command, words[1:])
        is_help = words[:1] in (["-h"], ["--help"])
        options = _parser(words[0] if words else "", with_plugins=is_help).parse_args(words)
        command = options.command
        return _START[command](options)
    except AsparkleError as error:
        print(f"{f'asparkle {command}'.strip()}: {error}", file=sys.stderr)
        return 2


def _parser(command: str | None = None, *, with_plugins: bool = False) -> Parser:
    """``command``: the one whose options are needed; None: those of all.  ``with_plugins``: their commands are
    described, too."""
    parser = Parser(
        prog="asparkle",
        description="RDDs without a JVM.",
        epilog=_plugins_commands() if with_plugins else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"asparkle {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar=" | ".join(COMMANDS), required=True)
    for name, (meaning, description, add) in _COMMANDS.items():
        of_command = commands.add_parser(name, help=meaning, description=description, allow_abbrev=False)
        if command in (None, name):
            add(of_command)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("--pyspark", action="store_true", help="what the program imports as pyspark is asparkle")
    parser.add_argument("script", help="the program: a Python file, or what has a __main__.py")
    rest = parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the program's own arguments")
    rest.required = False  # before Python 3.13 its absence is said to be an error


def _add_shell(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("--pyspark", action="store_true", help="what is imported as pyspark is asparkle")


def _add_plugins(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="for programs: a list of objects")


def _add_conf(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("prefix", nargs="?", default="", help="only keys that begin so, such as spark.eventLog")
    parser.add_argument("--set", action="store_true", help="only keys that are set")
    parser.add_argument("--json", action="store_true", help="for programs: a list of objects")


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="check", required=True)
    check = actions.add_parser("check", help="what nodes are like", description=_CHECK, allow_abbrev=False)
    add_options(check)
    check.add_argument("url", nargs="?", help="such as ssh:nodes.toml; --master, if it is not given")
    check.add_argument("--pairs", action="store_true", help="measure all pairs of nodes, however many they are")
    check.add_argument("--json", action="store_true", help="for programs: an object")


_COMMANDS: dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], None]]] = {
    "run": ("run a program", _RUN, _add_run),
    "shell": ("a prompt with a context", "A prompt with a context, sc.", _add_shell),
    "plugins": ("what is installed", _PLUGINS, _add_plugins),
    "conf": ("what is configured, and where", _CONF, _add_conf),
    "cluster": ("what nodes are like", "About nodes.", _add_cluster),
}
"""By name, what each is, in a line and in a paragraph, and what adds its options to a parser."""


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


def _cluster_check(options: argparse.Namespace) -> int:
    from asparkle.launcher.clustercheck import show

    if options.url is not None:
        options.master = options.url
    return _printed(show, _conf_of(options), all_pairs=options.pairs, as_json=options.json)


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
    "cluster": _cluster_check,
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
