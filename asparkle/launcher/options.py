"""The options of spark-submit, and what becomes of each: a setting, or a reason why not."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from asparkle.core.errors import ConfigurationError

_NO_JVM = "there is no JVM"

SETTINGS = {
    "--master": ("spark.master", "URL", "where tasks run: local[4], threads[2], ssh://HOST,HOST, ssh:FILE, ..."),
    "--name": ("spark.app.name", "NAME", "the application's name; the script's, if there is none"),
    "--py-files": ("spark.submit.pyFiles", "FILES", "modules and zip files for the import path, with commas"),
    "--files": ("spark.files", "FILES", "files that every task finds, with commas"),
    "--archives": ("spark.archives", "FILES", "archives, likewise"),
    "--executor-memory": ("spark.executor.memory", "SIZE", "memory per executor"),
    "--executor-cores": ("spark.executor.cores", "N", "cores per executor; see --num-executors"),
    "--total-executor-cores": ("spark.cores.max", "N", "cores of all executors at most"),
    "--num-executors": ("spark.executor.instances", "N", "with no master: local[executors * cores]"),
    "--driver-memory": ("spark.driver.memory", "SIZE", f"no effect: {_NO_JVM}, and Python takes what it needs"),
    "--driver-cores": ("spark.driver.cores", "N", "no effect: the driver is this process"),
}
"""Option -> the configuration key that it sets, the name of its value, and what it is for."""

REFUSED = {
    "--class": f"{_NO_JVM} to run a class; give a Python file",
    "--jars": f"{_NO_JVM} to load jars; Python packages are installed with pip, or given with --py-files",
    "--packages": f"{_NO_JVM} to load Maven packages; Python packages are installed with pip",
    "--exclude-packages": f"{_NO_JVM} to load Maven packages",
    "--repositories": f"{_NO_JVM} to load Maven packages",
    "--driver-java-options": f"{_NO_JVM}; leave it out",
    "--driver-library-path": f"{_NO_JVM}; leave it out",
    "--driver-class-path": f"{_NO_JVM}; leave it out",
    "--remote": "there is no Spark Connect; name a --master",
    "--proxy-user": "tasks run as the user who starts them; start it as that user",
    "--principal": "there is no Kerberos login; leave it out",
    "--keytab": "there is no Kerberos login; leave it out",
    "--queue": "there is no YARN; leave it out",
    "--supervise": "there is no cluster that would restart the driver; let systemd or the like do so",
    "--kill": "drivers are processes; end this one with kill",
    "--status": "drivers are processes; look for this one with ps",
}
"""Option -> why it can't be had, and what to do instead."""


class Parser(argparse.ArgumentParser):
    """Raises ConfigurationError for what is wrong with the options, as for the settings in files."""

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message}; see {self.prog} --help")


class _Refuse(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> NoReturn:
        raise ConfigurationError(f"{option} is not supported: {REFUSED[option or '']}")


class _DeployMode(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        if values != "client":
            raise ConfigurationError(f"{option} {values} is not supported: the driver is this process, as in client")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add spark-submit's options to ``parser``.  What they set is to be had from `chosen`."""
    for option, (_, value, meaning) in SETTINGS.items():
        parser.add_argument(option, metavar=value, help=meaning)
    parser.add_argument("--conf", "-c", metavar="KEY=VALUE", action="append", default=[], help="any setting")
    parser.add_argument("--properties-file", metavar="FILE", help="settings; if not given, spark-defaults.conf")
    parser.add_argument("--load-spark-defaults", action="store_true", help="read spark-defaults.conf beside it, too")
    parser.add_argument("--deploy-mode", metavar="client", action=_DeployMode, help="client is all there is")
    parser.add_argument("--verbose", "-v", action="store_true", help="print the settings, on stderr")
    for option in REFUSED:
        parser.add_argument(option, nargs="?", action=_Refuse, help=argparse.SUPPRESS)


def chosen(options: argparse.Namespace) -> dict[str, str]:
    """The settings that the options make.

    Keys of ``--conf`` that are no settings are said to be left out, on stderr.  Raises ConfigurationError for one
    without ``=``."""
    values = {}
    for setting in options.conf:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigurationError(f"--conf {setting}: expected KEY=VALUE")
        if is_setting(key.strip(), "--conf"):
            values[key.strip()] = value
    for option, (key, _, _) in SETTINGS.items():
        value = getattr(options, option.strip("-").replace("-", "_"))
        if value is not None:
            values[key] = value
    return values


def is_setting(key: str, where: str) -> bool:
    """Whether ``key`` begins as settings do; if not, says on stderr that it is left out."""
    if key.startswith(("spark.", "asparkle.")):
        return True
    print(f"asparkle: {where}: {key!r} is left out: a setting begins with spark. or asparkle.", file=sys.stderr)
    return False


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Options that stand in the environment.  Raises ConfigurationError."""
    parser = Parser(prog="PYSPARK_SUBMIT_ARGS", add_help=False, allow_abbrev=False)
    add_options(parser)
    return parser.parse_args(words)
