"""The types that users see, as mypy and pyright tell them: the files beside this one are checked, not run.

`both_faces.py`, `asynchronous_face.py`, `blocking_face.py` and `extending.py` say with ``assert_type`` what is so;
no checker may find anything.  In the files that begin with ``wrong_``, each line that ends with ``# error`` must be
found, and no other.  What is the same in both faces is written once, for the asynchronous one; the blocking one's
file is made of it here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RIGHT = ["both_faces.py", "both_faces_blocking.py", "asynchronous_face.py", "blocking_face.py", "extending.py"]
WRONG = [
    "wrong_in_both_faces.py",
    "wrong_in_both_faces_blocking.py",
    "wrong_in_asynchronous_face.py",
    "wrong_in_blocking_face.py",
]
REVEALING = "asynchronous_face.py"


@dataclass
class Report:
    """What a checker says: of each file, its errors and the types it reveals, by line."""

    checker: str
    errors: Mapping[str, Mapping[int, list[str]]]
    revealed: Mapping[str, Mapping[int, str]]


def blocking(source: str) -> str:
    """A file for the asynchronous face as one for the blocking face, line for line."""
    source = source.replace("asparkle.aio", "asparkle").replace("await ", "")
    return re.sub(r"^async def (?=\w+\(\s*sc: )", "def ", source, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("sources")
    for name in {name.replace("_blocking.py", ".py") for name in RIGHT + WRONG}:
        source = (HERE / name).read_text()
        (directory / name).write_text(source)
        if (other := name.replace(".py", "_blocking.py")) in RIGHT + WRONG:
            (directory / other).write_text(blocking(source))
    return directory


def by_mypy(sources: Path) -> Report:
    """Strict, and as asparkle itself is checked."""
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--output", "json"]
    command += ["--cache-dir", str(sources / "cache"), *RIGHT, *WRONG]
    done = subprocess.run(
        command, cwd=sources, env=os.environ | {"MYPYPATH": str(ROOT)}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return report("mypy", ((Path(one["file"]).name, one["line"], one["severity"], one["message"]) for one in found))


def by_pyright(sources: Path) -> Report:
    """In its standard mode."""
    configuration = {"typeCheckingMode": "standard", "extraPaths": [str(ROOT)], "include": [*RIGHT, *WRONG]}
    (sources / "pyrightconfig.json").write_text(json.dumps(configuration))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run([*command, "-p", "."], cwd=sources, capture_output=True, text=True, timeout=600)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["summary"]["filesAnalyzed"] == len(RIGHT + WRONG)
    diagnostics = (
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1, one["severity"], one["message"])
        for one in found["generalDiagnostics"]
    )
    return report("pyright", diagnostics)


def report(checker, found) -> Report:
    errors, revealed = {}, {}
    for file, line, severity, message in found:
        if severity == "error":
            errors.setdefault(file, {}).setdefault(line, []).append(message)
        elif told := re.fullmatch(r'Revealed type is "(.*)"|Type of ".*" is "(.*)"', message):
            revealed.setdefault(file, {})[line] = told[1] or told[2]
    return Report(checker, errors, revealed)


@pytest.fixture(scope="module", params=[("mypy", by_mypy), ("basedpyright", by_pyright)], ids=["mypy", "pyright"])
def checked(request, sources) -> Report:
    package, check = request.param
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install 'asparkle[dev]'")
    return check(sources)


@pytest.mark.parametrize("name", RIGHT)
def test_users_see_these_types(checked, name):
    assert checked.errors.get(name, {}) == {}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_uses_are_reported_and_nothing_else(checked, sources, name):
    lines = (sources / name).read_text().splitlines()
    marks = ("# error", f"# error by {checked.checker}")
    marked = {number for number, line in enumerate(lines, 1) if line.endswith(marks)}
    found = checked.errors.get(name, {})
    assert {number: lines[number - 1] for number in marked - found.keys()} == {}, "not reported"
    assert {number: found[number] for number in found.keys() - marked} == {}, "reported, too"


def test_what_the_checkers_name_differently(checked):
    lines = (HERE / REVEALING).read_text().splitlines()
    expected = {
        number: line.split("# reveals: ")[1]
        for number, line in enumerate(lines, 1)
        if "reveal_type(" in line and "# reveals: " in line
    }
    revealed = checked.revealed[REVEALING]
    assert revealed.keys() == expected.keys()
    short = {number: re.sub(r"\b(?:\w+\.)+(?=\w)", "", told) for number, told in revealed.items()}
    assert [(told, expected[line]) for line, told in short.items() if not re.fullmatch(expected[line], told)] == []
