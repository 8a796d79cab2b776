"""The settings that a program is started with: from the command line, the environment and properties files.

New `SparkConf` objects of the program begin with them, so that what the program itself sets goes first.
"""

from __future__ import annotations

import argparse
import glob
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping

from asparkle.core.conf import SparkConf, system_properties
from asparkle.core.errors import ConfigurationError
from asparkle.launcher.options import chosen, is_setting, parse

SUBMIT_ARGS = "PYSPARK_SUBMIT_ARGS"
_LISTS = ("spark.submit.pyFiles", "spark.files", "spark.archives")
_PYTHONS = ("spark.pyspark.python", "spark.pyspark.driver.python")


def collect(options: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, str]:
    """All settings.

    Raises ConfigurationError for a bad option or properties file, or a file that does not exist.
    """
    values: dict[str, str] = {}
    for _, given in sources(options, environment):
        values |= given
    for key in _LISTS:
        if key in values:
            values[key] = ",".join(_existing(values[key], key))
    _choose_master(values)
    return values


def sources(options: argparse.Namespace, environment: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    """Where settings come from, and which; a later one goes before.  Raises ConfigurationError."""
    found = []
    if "MASTER" in environment:
        found.append(("MASTER", {"spark.master": environment["MASTER"]}))
    submit_args = submitted(environment)
    found += [(file, read_properties(file)) for file in _properties_files(options, environment)]
    return [*found, (SUBMIT_ARGS, submit_args), ("command line", chosen(options))]


def submitted(environment: Mapping[str, str]) -> dict[str, str]:
    """What PYSPARK_SUBMIT_ARGS sets.  Raises ConfigurationError."""
    try:
        words = shlex.split(environment.get(SUBMIT_ARGS, ""))
    except ValueError as error:
        raise ConfigurationError(f"{SUBMIT_ARGS} = {environment[SUBMIT_ARGS]!r}: {error}") from None
    options = parse([word for word in words if word != "pyspark-shell"])
    values = read_properties(options.properties_file) if options.properties_file else {}
    return values | chosen(options)


def use(values: Mapping[str, str]) -> None:
    """Let new confs of this process begin with ``values``, and its imports find ``spark.submit.pyFiles``."""
    global _heeded
    _heeded = os.environ.get(SUBMIT_ARGS, "")
    system_properties.update(values)
    add_to_path(values.get("spark.submit.pyFiles", ""))


_heeded: str | None = None  # the PYSPARK_SUBMIT_ARGS that the launcher has seen; None if it did not start this program


def heed_environment(conf: SparkConf) -> None:
    """Give a context's conf what the environment says by now, where the program itself has set nothing.

    Programs set PYSPARK_SUBMIT_ARGS before they make their context, as notebooks do.  In one that the launcher has not
    started, and that has asparkle as pyspark, the properties file and MASTER count, too.
    """
    if _heeded is None and "ASPARKLE_AS_PYSPARK" in os.environ:
        values = collect(parse([]), os.environ)
    elif _heeded is not None and os.environ.get(SUBMIT_ARGS, "") != _heeded:
        values = submitted(os.environ)
    else:
        return
    for key, value in values.items():
        if conf.get(key) == system_properties.get(key):
            conf.set(key, value)
    add_to_path(values.get("spark.submit.pyFiles", ""))


def add_to_path(files: str) -> None:
    """Let imports find what ``files``, with commas, names, behind the script's directory: zip files and packages
    as they are, of a Python file the directory.  Workers get the driver's path."""
    for position, file in enumerate(filter(None, files.split(",")), start=1):
        entry = os.path.dirname(file) if file.endswith(".py") else file
        if entry not in sys.path:
            sys.path.insert(position, entry)


def check_python(values: Mapping[str, str], environment: Mapping[str, str]) -> None:
    """Raises ConfigurationError if workers are to run on another Python than this one."""
    asked = {key: values.get(key) for key in _PYTHONS} | {"PYSPARK_PYTHON": environment.get("PYSPARK_PYTHON")}
    for key, python in asked.items():
        found = shutil.which(python) if python else sys.executable
        if found is None or _python(found) != _python(sys.executable):
            raise ConfigurationError(
                f"{key} = {python!r}: driver and workers run on the Python that started asparkle, {sys.executable}; "
                f"leave it out, or say {python} -m asparkle"
            )


def _python(path: str) -> tuple[str, str]:
    """An interpreter, and the virtual environment that it is of: two of these may have one interpreter."""
    directory = os.path.dirname(os.path.dirname(os.path.abspath(path)))
    is_virtual = os.path.exists(os.path.join(directory, "pyvenv.cfg"))
    return os.path.realpath(path), os.path.realpath(directory) if is_virtual else ""


# ------------------------------------------------------------------------------------------ properties files


def _properties_files(options: argparse.Namespace, environment: Mapping[str, str]) -> Iterator[str]:
    """The files to read, what a later one says going before."""
    if options.properties_file is None or options.load_spark_defaults:
        directory = environment.get("SPARK_CONF_DIR")
        if directory is None and "SPARK_HOME" in environment:
            directory = os.path.join(environment["SPARK_HOME"], "conf")
        defaults = os.path.join(directory or "", "spark-defaults.conf")
        if directory and os.path.exists(defaults):
            yield defaults
    if options.properties_file is not None:
        yield options.properties_file


def read_properties(path: str) -> dict[str, str]:
    """The settings of a properties file: ``key value``, ``key=value`` or ``key: value``, ``#`` or ``!`` for comments,
    a backslash at the end for more on the next line.

    Keys that begin with neither ``spark.`` nor ``asparkle.`` are said to be left out, on stderr.  Raises
    ConfigurationError if the file can't be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"properties file {path!r}: {error}") from error
    values = {}
    for line in re.sub(r"(?<!\\)((?:\\\\)*)\\\n\s*", r"\1", text).splitlines():
        line = line.strip()
        if not line or line[0] in "#!":
            continue
        parts = re.fullmatch(r"((?:\\.|[^\s=:\\])+)\s*[=:]?\s*(.*)", line)
        key, value = map(_unescaped, parts.groups()) if parts else (line, "")
        if is_setting(key, path):
            values[key] = value
    return values


def _unescaped(text: str) -> str:
    escapes = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
    return re.sub(
        r"\\(u[0-9a-fA-F]{4}|.)",
        lambda m: escapes.get(m[1]) or (m[1] if len(m[1]) == 1 else chr(int(m[1][1:], 16))),
        text,
    )


# --------------------------------------------------------------------------------------------- what follows


def _existing(files: str, key: str) -> Iterator[str]:
    """Absolute paths of local files, of a pattern those that it matches.  Raises ConfigurationError for one that does
    not exist."""
    for given in filter(None, map(str.strip, files.split(","))):
        path, hash_mark, name = given.removeprefix("file://"), "", ""
        if not os.path.exists(path):
            path, hash_mark, name = path.partition("#")
        if "://" in path:
            raise ConfigurationError(f"{key}: {given!r}: only local files can be sent; download it first")
        if hash_mark and key != "spark.archives":
            raise ConfigurationError(f"{key}: {given!r}: only archives get a name behind #; rename the file")
        found = [path] if os.path.exists(path) else [] if hash_mark else sorted(glob.glob(path))
        if not found:
            raise ConfigurationError(f"{key}: {given!r}: no such file")
        for path in found:
            yield os.path.abspath(path) + hash_mark + name


def _choose_master(values: dict[str, str]) -> None:
    """Where no master is named, the executors and cores that are asked for make one; under dynamic allocation they are
    only the first ones."""
    if "spark.master" in values or values.get("spark.dynamicAllocation.enabled", "").strip().lower() == "true":
        return
    executors, cores, most = (
        _count(values, key) for key in ("spark.executor.instances", "spark.executor.cores", "spark.cores.max")
    )
    if executors or cores:
        slots = (executors or 1) * (cores or 1)
        values["spark.master"] = f"local[{min(slots, most or slots)}]"
    elif most:
        values["spark.master"] = f"local[{most}]"


def _count(values: Mapping[str, str], key: str) -> int | None:
    text = values.get(key)
    if text is not None and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ConfigurationError(f"{key} = {text!r}: expected a whole number, 1 or more")
    return None if text is None else int(text)
