"""``asparkle plugins``, ``asparkle conf`` and the commands of plugins: the real command line, in a process."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import asparkle
from asparkle.core.conf import KEYS
from asparkle.core.version import VERSION
from asparkle.plugins import hookspecs
from asparkle.plugins.kinds import ALL

ROOT = Path(asparkle.__file__).parents[1]
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("SPARK_", "PYSPARK_", "ASPARKLE_", "MASTER", "COLUMNS"))
}
MOON = """
from asparkle.plugins import ConfigKey, Listener, MetricSink, hookimpl

PHASE = ConfigKey("asparkle.moon.phase", "int", "a whole number", int, "0", "Days since the moon was new.")
KEY = ConfigKey("asparkle.moon.password", "text", "text", str, None, "What opens the moon.")

class Ears(Listener):
    def on_event(self, event): ...

class Tides(MetricSink):
    def report(self, metrics): ...

@hookimpl
def asparkle_listeners(conf):
    return [Ears()]

@hookimpl
def asparkle_metric_sinks():
    return {"tides": Tides}

@hookimpl
def asparkle_configuration():
    return [PHASE, KEY]

@hookimpl
def asparkle_commands():
    return {
        "tides": "moon_commands:tides",
        "eclipse": "no_such_module:main",
        "orbit": "moon_commands:orbit",
        "dark": "moon_commands:NAME",
    }
"""
COMMANDS = '''
import sys
from asparkle.errors import ConfigurationError

NAME = "dark side"

def tides(words):
    """When the water comes.

    And goes."""
    if words == ["never"]:
        raise ConfigurationError("never is no time")
    print("tides", words)
    return len(words)

def orbit(words):
    return "round"
'''


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A directory with three distributions: one that works, one that does not import, one of another API version."""

    def distribution(name: str, source: str, module: str) -> None:
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{name}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[asparkle]\n{module.partition('_')[0]} = {module}\n")

    distribution("asparkle-moon", MOON, "moon_plugin")
    (tmp_path / "moon_commands.py").write_text(COMMANDS)
    distribution("shards", "import no_such_thing", "broken_plugin")
    distribution("antique", "ASPARKLE_API_VERSION = 0", "old_plugin")
    return tmp_path


def run(directory: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(directory), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "asparkle", *words],
        cwd=directory,
        env=ENVIRONMENT | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def of(done: subprocess.CompletedProcess[str], *, status: int = 0) -> str:
    assert (done.returncode, done.stderr) == (status, ""), done.stderr
    return done.stdout


def in_terminal(directory: Path, columns: int, *words: str) -> list[str]:
    """The lines that a terminal so wide is given."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "asparkle", *words],
        cwd=directory,
        env=ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(directory), str(ROOT)])},
        stdout=theirs,
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            chunk = os.read(ours, 1 << 16)
        except OSError:  # nobody writes any more
            break
        if not chunk:
            break
        text += chunk
    os.close(ours)
    assert process.wait(60) == 0
    return text.decode().splitlines()


# ------------------------------------------------------------------------------------------------ plugins


def plugins(directory: Path, *words: str, status: int = 0, **environment: str) -> dict[str, dict[str, object]]:
    listed = json.loads(of(run(directory, "plugins", "--json", *words, **environment), status=status))
    return {plugin["name"]: plugin for plugin in listed}


def test_all_plugins_are_listed_with_what_they_provide(installed):
    found = plugins(installed)
    assert found["asparkle"]["version"] == VERSION
    assert found["asparkle"]["provides"]["asparkle_cache_policies"] == ["cost", "fifo", "lfu", "lru"]
    moon = found["moon"]
    assert (moon["package"], moon["version"], moon["state"]) == ("asparkle-moon", "1.5", "installed")
    assert moon["why"] == "asparkle.metrics.sinks or asparkle.plugins activates it"
    assert moon["provides"] == {
        "asparkle_commands": ["dark", "eclipse", "orbit", "tides"],
        "asparkle_configuration": ["asparkle.moon.password", "asparkle.moon.phase"],
        "asparkle_listeners": [],
        "asparkle_metric_sinks": ["tides"],
    }
    broken = found["broken"]
    assert (broken["state"], broken["package"], broken["version"]) == ("broken", "shards", "1.5")
    assert broken["why"].startswith("failed to import 'broken_plugin': ModuleNotFoundError: No module named 'no_such")
    assert found["old"]["why"] == "was written for API version 0, this is 1: upgrade one"


@pytest.mark.parametrize(
    "words, environment, name, state, why",
    [
        (["--conf", "asparkle.plugins=moon"], {}, "moon", "active", "asparkle.plugins"),
        (["--conf", "asparkle.metrics.sinks=statsd, tides"], {}, "moon", "used", "asparkle.metrics.sinks"),
        (["--conf", "asparkle.plugins.block=moon"], {}, "moon", "blocked", "asparkle.plugins.block"),
        ([], {"ASPARKLE_PLUGINS_BLOCK": "x, moon"}, "moon", "blocked", "ASPARKLE_PLUGINS_BLOCK"),
        (["--conf", "spark.eventLog.enabled=true"], {}, "eventlog", "active", "spark.eventLog.enabled"),
        ([], {}, "eventlog", "installed", "spark.eventLog.enabled activates it"),
    ],
)
def test_what_becomes_of_a_plugin_is_said_with_the_setting(installed, words, environment, name, state, why):
    found = plugins(installed, *words, **environment)[name]
    assert (found["state"], found["why"]) == (state, why)


def test_what_uses_a_plugin_is_known_of_each_hook():
    hooks = [name for name in vars(hookspecs) if name.startswith("asparkle_")]
    assert sorted(kind.hook for kind in ALL) == sorted(hooks)
    without = {kind.hook for kind in ALL if kind.used_by is None}
    assert without == {"asparkle_configuration", "asparkle_commands"}
    assert all(kind.used_by is KEYS[kind.used_by.name] for kind in ALL if kind.used_by is not None)


@pytest.mark.parametrize(
    "hook, name, words, used",
    [
        ("shuffle_stores", "far", ["asparkle.store.shuffle=far"], "asparkle.store.shuffle"),
        ("serializers", "dry", ["asparkle.serializer=dry"], "asparkle.serializer"),
        ("scheduling_policies", "ODD", ["spark.scheduler.mode=ODD"], "spark.scheduler.mode"),
        ("scheduling_policies", "ODD", ["spark.scheduler.allocation.file=pools"], "spark.scheduler.allocation.file"),
        ("codecs", ".br", ["asparkle.plugins=moon"], "asparkle.plugins"),
        ("file_systems", "vault", ["asparkle.plugins=moon"], "asparkle.plugins"),
    ],
)
def test_what_is_found_by_a_name_is_used_where_a_setting_has_it(installed, hook, name, words, used):
    (installed / "moon_plugin.py").write_text(
        f"from asparkle.plugins import hookimpl\n@hookimpl\ndef asparkle_{hook}(): return {{'{name}': 'x:Y'}}\n"
    )
    (installed / "pools").write_text("[pool.odd]\nschedulingMode = 'ODD'\n")
    found = plugins(installed)["moon"]
    assert found["state"] == "installed" and used in found["why"]
    found = plugins(installed, "--conf", *words)["moon"]
    assert (found["state"], found["why"]) == ("active" if used == "asparkle.plugins" else "used", used)


@pytest.mark.parametrize("words", [["plugins", "--json"], ["conf"]])
def test_who_reads_it_may_stop_anywhere(installed, words):
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "asparkle", *words], env=ENVIRONMENT, cwd=ROOT, stdout=theirs, stderr=subprocess.PIPE
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_plugin_that_exits_ends_no_command(installed):
    (installed / "broken_plugin.py").write_text(
        "from asparkle.plugins import hookimpl\n@hookimpl\ndef asparkle_commands(): raise SystemExit(3)"
    )
    (installed / "no_such_module.py").write_text("raise SystemExit(3)")
    assert plugins(installed)["broken"]["why"] == "asparkle_commands raised SystemExit: 3"
    assert "'no_such_module:main' can't be imported here: SystemExit: 3" in of(run(installed, "--help"))


def test_a_blocked_plugin_is_not_imported(installed):
    (installed / "moon_plugin.py").write_text("print('imported')")
    done = run(installed, "plugins", ASPARKLE_PLUGINS_BLOCK="moon")
    assert "imported" not in of(done) and "moon  asparkle-moon 1.5  [BLOCKED by ASPARKLE_PLUGINS_BLOCK]" in done.stdout


def test_a_plugin_that_is_to_be_activated_and_cannot_be_is_a_failure(installed):
    found = plugins(installed, "--conf", "asparkle.plugins=mon,broken", status=1)
    assert (found["mon"]["state"], found["broken"]["state"]) == ("missing", "broken")
    text = of(run(installed, "plugins", "--conf", "asparkle.plugins=mon"), status=1)
    assert "mon  [MISSING]\n    asparkle.plugins names it, and it is not installed" in text


def test_plugins_are_listed_for_people(installed):
    lines = in_terminal(installed, 80, "plugins")
    assert max(map(len, lines)) <= 80
    start = lines.index("moon  asparkle-moon 1.5")  # the rest would not fit beside it
    assert lines[start + 1] == "    [not active: asparkle.metrics.sinks or asparkle.plugins activates it]"
    wide = "moon  asparkle-moon 1.5  [not active: asparkle.metrics.sinks or asparkle.plugins activates it]"
    assert wide in in_terminal(installed, 200, "plugins")
    assert "    commands: dark, eclipse, orbit, tides" in lines
    assert "broken  shards 1.5  [BROKEN]" in lines


# --------------------------------------------------------------------------------------------------- conf


def conf(directory: Path, *words: str, status: int = 0, **environment: str) -> dict[str, dict[str, object]]:
    rows = json.loads(of(run(directory, "conf", "--json", *words, **environment), status=status))
    return {row["key"]: row for row in rows}


def test_every_key_is_listed_with_its_default(installed):
    found = conf(installed)
    assert list(found) == [*KEYS, "asparkle.moon.phase", "asparkle.moon.password"]
    assert found["spark.scheduler.mode"] == {
        "key": "spark.scheduler.mode",
        "value": "FIFO",
        "where": "",
        "type": "text",
        "default": "FIFO",
        "meaning": KEYS["spark.scheduler.mode"].doc,
        "plugin": "",
        "problem": "",
    }
    assert found["asparkle.moon.phase"]["plugin"] == "moon"
    assert found["asparkle.moon.phase"]["meaning"] == "Days since the moon was new."


def test_the_value_that_holds_is_shown_with_where_it_is_set(installed):
    (installed / "spark-defaults.conf").write_text(
        "spark.master threads[1]\nspark.task.maxFailures 7\nspark.app.name defaults\nspark.speculation true\n"
    )
    (installed / "mine.conf").write_text("spark.app.name mine\n")
    found = conf(
        installed,
        *["--set", "--load-spark-defaults", "--properties-file", "mine.conf", "--conf", "spark.speculation=false"],
        SPARK_CONF_DIR=str(installed),
        MASTER="inline",
        PYSPARK_SUBMIT_ARGS="--conf spark.task.cpus=1 --conf spark.speculation=true pyspark-shell",
    )
    assert {key: (row["value"], row["where"]) for key, row in found.items()} == {
        "spark.master": ("threads[1]", f"{installed}/spark-defaults.conf"),
        "spark.app.name": ("mine", "mine.conf"),
        "spark.task.cpus": ("1", "PYSPARK_SUBMIT_ARGS"),
        "spark.task.maxFailures": ("7", f"{installed}/spark-defaults.conf"),
        "spark.speculation": ("false", "command line"),
    }
    assert conf(installed, "--set", MASTER="inline")["spark.master"]["where"] == "MASTER"


def test_what_conf_shows_is_what_a_program_gets(installed):
    (installed / "script.py").write_text(
        "from asparkle import SparkConf; import json; print(json.dumps(dict(SparkConf().getAll())))"
    )
    options = ["--num-executors", "2", "--conf", "spark.task.cpus=1", "--name", "x"]
    (installed / "spark-defaults.conf").write_text("spark.speculation=true")
    program = json.loads(of(run(installed, "run", *options, "script.py", SPARK_CONF_DIR=str(installed))))
    found = conf(installed, "--set", *options, SPARK_CONF_DIR=str(installed))
    assert {key: row["value"] for key, row in found.items()} == program
    assert found["spark.master"]["where"] == "spark.executor.* and spark.cores.max"


def test_a_prefix_chooses(installed):
    assert list(conf(installed, "spark.eventLog.roll")) == [
        "spark.eventLog.rolling.enabled",
        "spark.eventLog.rolling.maxFileSize",
    ]
    done = run(installed, "conf", "spark.evenLog.enabled")
    assert done.returncode == 2
    assert (
        done.stderr == "asparkle conf: no key begins with 'spark.evenLog.enabled'; is spark.eventLog.enabled meant?\n"
    )
    assert of(run(installed, "conf", "--set", "spark.x")) == "no key that begins with spark.x is set\n"


def test_secrets_are_not_shown(installed):
    options = [
        *["--conf", "asparkle.moon.password=sesame", "--conf", "spark.hadoop.fs.s3a.access.key=AKIA"],
        *["--conf", "spark.app.name=my-token-7", "--conf", "spark.executorEnv.PIN=1234"],
    ]
    for words in ([], ["--json"], ["--set"]):
        text = of(run(installed, "conf", *words, *options))
        assert not [secret for secret in ("sesame", "AKIA", "my-token-7") if secret in text]
        assert text.count("*********(redacted)") == 3 and "1234" in text
    text = of(run(installed, "conf", "--set", *options, "--conf", "spark.redaction.regex=PIN"))
    assert "1234" not in text and "sesame" in text and "spark.redaction.regex" in text
    done = run(installed, "conf", "--set", *options, "--conf", "spark.redaction.regex=(")
    assert done.returncode == 1 and "sesame" not in done.stdout and "1234" not in done.stdout


def test_bad_values_and_unknown_keys_are_said(installed):
    options = ["--conf", "spark.locality.wait=soon", "--conf", "asparkle.moon.phase=full"]
    found = conf(installed, "--set", *options, "--conf", "spark.specluation=true", status=1)
    assert found["spark.locality.wait"]["problem"].startswith("expected a duration such as 3s")
    assert found["asparkle.moon.phase"]["problem"] == "expected a whole number"
    unknown = "Not a key that is known here, and without effect; is spark.speculation meant?"
    assert found["spark.specluation"]["meaning"] == unknown
    assert "BAD VALUE: expected a whole number." in of(run(installed, "conf", *options), status=1)


def test_a_bad_secret_value_is_not_shown_with_its_problem(installed):
    (installed / "moon_plugin.py").write_text(MOON.replace('"text", "text", str', '"int", "a whole number", int'))
    done = run(installed, "conf", "--set", "--conf", "asparkle.moon.password=sesame")
    assert done.returncode == 1 and "sesame" not in done.stdout + done.stderr
    assert "BAD VALUE: expected a whole number" in done.stdout


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_conf_fits_the_terminal(installed, columns):
    lines = in_terminal(installed, columns, "conf")
    unbroken = max(len(word) for line in lines for word in line.split()) + 4
    assert max(map(len, lines)) <= max(columns, unbroken)
    is_table = lines[0].split() == ["KEY", "VALUE", "SET", "IN", "TYPE", "MEANING"]
    assert is_table == (columns == 200)


def test_for_a_pipe_each_key_is_one_line(installed):
    lines = of(run(installed, "conf")).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [*KEYS, "asparkle.moon.phase", "asparkle.moon.password"]


# ----------------------------------------------------------------------------------------------- commands


def test_a_plugins_command_runs_with_its_words_and_gives_its_status(installed):
    done = run(installed, "tides", "high", "-h", "--version")
    assert (done.returncode, done.stdout) == (3, "tides ['high', '-h', '--version']\n")
    done = run(installed, "tides", "never")
    assert (done.returncode, done.stderr) == (2, "asparkle tides: never is no time\n")


def test_commands_are_listed_with_what_they_do(installed):
    text = of(run(installed, "--help"))
    assert "  tides        When the water comes.  (moon)\n" in text
    assert "  eclipse      broken: asparkle_commands: 'eclipse': 'no_such_module:main' can't be imported" in text


@pytest.mark.parametrize(
    "command, problem",
    [
        (
            "eclipse",
            "plugin 'moon': asparkle_commands: 'eclipse': 'no_such_module:main' can't be imported here: ModuleNot",
        ),
        (
            "orbit",
            "plugin 'moon': asparkle_commands: 'moon_commands:orbit' for 'orbit' returned 'round': expected an ex",
        ),
        (
            "dark",
            "plugin 'moon': asparkle_commands: 'dark': 'moon_commands:NAME' is 'dark side': expected a function",
        ),
        (
            "tidse",
            "no such command: known are run, shell, plugins, conf, dark, eclipse, orbit, tides; plugin 'broken': fa",
        ),
    ],
)
def test_a_command_that_cannot_be_run_says_why(installed, command, problem):
    done = run(installed, command)
    assert done.returncode == 2 and done.stderr.startswith(f"asparkle {command}: {problem}"), done.stderr


def test_a_blocked_plugins_command_is_unknown(installed):
    (installed / "spark-defaults.conf").write_text("asparkle.plugins.block moon")
    for environment in ({"ASPARKLE_PLUGINS_BLOCK": "moon"}, {"SPARK_CONF_DIR": str(installed)}):
        done = run(installed, "tides", **environment)
        assert done.returncode == 2 and "no such command: known are run, shell, plugins, conf;" in done.stderr


def test_running_a_program_looks_at_no_plugin(installed):
    (installed / "moon_plugin.py").write_text("print('imported')")
    (installed / "script.py").write_text("print('ran')")
    assert of(run(installed, "run", "script.py")) == "ran\n"


def test_only_the_command_that_is_invoked_is_imported(installed):
    (installed / "moon_commands.py").write_text("print('imported')")
    assert "imported" not in of(run(installed, "plugins")) + of(run(installed, "conf"))


def test_a_package_that_pip_has_installed_is_found(tmp_path):
    """In a virtual environment of its own."""
    wheel = tmp_path / "asparkle_moon-2.5-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("moon_plugin.py", MOON)
        file.writestr("moon_commands.py", COMMANDS)
        info = "asparkle_moon-2.5.dist-info"
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: asparkle-moon\nVersion: 2.5\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/entry_points.txt", "[asparkle]\nmoon = moon_plugin\n")
        file.writestr(f"{info}/RECORD", "")
    venv.create(tmp_path / "venv", with_pip=False)
    python = str(tmp_path / "venv/bin/python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, timeout=300)
    paths = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])  # asparkle, and what it needs

    def asparkle(*words: str) -> str:
        command = [python, "-m", "asparkle", *words]
        environment = ENVIRONMENT | {"PYTHONPATH": paths}
        return of(subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120))

    assert "moon  asparkle-moon 2.5  [active: asparkle.plugins]" in asparkle(
        "plugins", "--conf", "asparkle.plugins=moon"
    )
    assert asparkle("conf", "asparkle.moon.phase").split()[6:9] == ["asparkle.moon.phase", "0", "default"]
    assert asparkle("tides") == "tides []\n"
