"""Every ```python block of README and docs is run, and gives what the page says.

The blocks of one page run in order, in one namespace, in a process of their own.  What a page promises:

    expression  # -> text       its repr, or what it prints, is this text; also on the next line
    # raises Name: text         after a statement: it raises this; ``...`` stands for anything
    a ```text block             right after a block: what that block prints, ``...`` as above
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import linecache
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOR_LINKS = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "contrib").glob("*/README.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def with_code(page: Path) -> bool:
    return "```python\n" in page.read_text()


@pytest.mark.parametrize("page", [*filter(with_code, PAGES)], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_do_what_it_says(page, tmp_path):
    done = subprocess.run(
        [sys.executable, __file__, str(page)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", [*PAGES, *FOR_LINKS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [*PAGES, *FOR_LINKS], ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page):
    for named in re.findall(r"\b((?:asparkle|contrib|docs|tests)/[\w/-]+(?:\.\w+)?)", page.read_text()):
        assert (ROOT / named).exists(), named


def test_the_tutorial_on_backends_shows_the_package_as_it_is():
    blocks = [code for kind, code in FENCE.findall((ROOT / "docs/backend.md").read_text()) if kind == "python"]
    package = (ROOT / "contrib/examples/asparkle-nice/src/asparkle_nice.py").read_text()
    assert "\n\n\n".join(code.strip() for code in blocks[:3]) == package.strip()
    assert len(package.splitlines()) <= 60
    policy = (ROOT / "contrib/examples/asparkle-mru/src/asparkle_mru.py").read_text()
    assert blocks[4] == policy[policy.index("from __future__") :]
    assert blocks[5] == (ROOT / "contrib/examples/asparkle-stragglers/src/asparkle_stragglers.py").read_text()


def test_the_tutorial_on_backends_shows_the_rest_of_the_package():
    blocks = dict(FENCE.findall((ROOT / "docs/backend.md").read_text()))
    package = ROOT / "contrib/examples/asparkle-nice"
    assert (package / "pyproject.toml").read_text().startswith(blocks["toml"])
    imports, tests = blocks["py"].split("\n\n\n")
    shown = (package / "tests/test_nice.py").read_text()
    assert shown.endswith(tests)
    assert all(line in shown.splitlines() for line in imports.splitlines())


def test_the_sample_of_installed_plugins_is_what_is_printed():
    """Of asparkle's own: others are made up."""
    sample = (ROOT / "docs/launcher.md").read_text().partition("asparkle plugins\n```\n\n```text\n")[2]
    done = subprocess.run(
        [sys.executable, "-m", "asparkle", "plugins"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    expected, got = sample.partition("\n\n")[0].splitlines(), done.stdout.partition("\n\n")[0].splitlines()
    for line, printed in zip(expected, got, strict=True):
        check(line, printed, "docs/launcher.md")


# ------------------------------------------------------------------------------------------- running a page


def run_page(page: Path) -> None:
    text = page.read_text()
    namespace: dict[str, object] = {"__name__": "__main__"}
    fences = list(FENCE.finditer(text))
    for fence, following in zip(fences, [*fences[1:], None], strict=True):
        if fence[1] != "python":
            continue
        expected = None
        if following and following[1] == "text" and not text[fence.end() : following.start()].strip():
            expected = following[2]
        line = text.count("\n", 0, fence.start()) + 2
        run_block(fence[2], f"{page.name}, line {line}", namespace, expected)


def run_block(source: str, name: str, namespace: dict[str, object], expected: str | None) -> None:
    lines = source.splitlines(keepends=True)
    linecache.cache[name] = (len(source), None, lines, name)
    printed = ""
    for statement in ast.parse(source).body:
        answer, raises = promises(lines, statement)
        output = io.StringIO()
        with contextlib.redirect_stdout(output), expecting(raises, f"{name} + {statement.lineno - 1}"):
            value = run_statement(statement, name, namespace)
        printed += output.getvalue()
        if answer is not None:
            got = repr(value) if value is not None else output.getvalue().rstrip()
            check(answer, got, f"{name} + {statement.lineno - 1}")
    if expected is not None:
        check(expected, printed, name)


def run_statement(statement: ast.stmt, name: str, namespace: dict[str, object]) -> object:
    if isinstance(statement, ast.Expr):
        return eval(compile(ast.Expression(statement.value), name, "eval"), namespace)
    exec(compile(ast.Module([statement], []), name, "exec"), namespace)
    return None


def promises(lines: list[str], statement: ast.stmt) -> tuple[str | None, str | None]:
    """What the comment behind a statement, or under it, says that it gives or raises."""
    assert statement.end_lineno is not None
    comments = [lines[statement.end_lineno - 1][statement.end_col_offset or 0 :].strip()]
    for line in lines[statement.end_lineno :]:
        if not line.startswith("#"):
            break
        comments.append(line.strip())
    for comment in comments:
        if comment.startswith("# -> "):
            return comment[5:], None
        if comment.startswith("# raises "):
            return None, comment[9:]
    return None, None


@contextlib.contextmanager
def expecting(raises: str | None, where: str):
    if raises is None:
        yield
        return
    try:
        yield
    except Exception as error:
        check(raises, f"{type(error).__name__}: {error}".splitlines()[0], where)
    else:
        raise AssertionError(f"{where}: raised nothing, expected {raises}")


def check(expected: str, got: str, where: str) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if not doctest.OutputChecker().check_output(expected.rstrip() + "\n", got.rstrip() + "\n", flags):
        raise AssertionError(f"{where}:\nexpected {expected.rstrip()}\ngot      {got.rstrip()}")


if __name__ == "__main__":
    run_page(Path(sys.argv[1]))
