"""What keeps the frame in shape: imports point one way, start-up is lean, and the reference is complete."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import asparkle
from asparkle.core import contracts
from asparkle.core.conf import KEYS, PREFIXES
from asparkle.plugins import builtin, hookspecs

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "asparkle"
MODULES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
}
RUNTIME_DEPENDENCIES = {"anyio", "cloudpickle", "pluggy", "msgpack", "structlog"}
OPTIONAL = {
    "asparkle.core.loop": {"trio"},  # only when it is what runs
    # only where they are installed, or asked for
    "asparkle.launcher.shell": {"IPython", "traitlets"},
    "asparkle.sql.dataframe": {"pandas"},
    "asparkle.plugins.progress": {"tqdm"},
    "asparkle.core.remotefiles": {"fsspec"},  # extras, imported when a file needs them
    "asparkle.core.codecs": {"lz4", "zstandard"},
    "asparkle.plugins.eventlog.files": {"lz4", "zstandard"},
}
CIRCLES = {  # through imports inside functions
    ("asparkle.core.filesystems", "asparkle.core.remotefiles"),  # a file system, and those that a package brings
    ("asparkle.blocking", "asparkle.context", "asparkle.handles"),  # each makes the others' objects
}
LAYERS = {"core": 0, "conf": 1, "errors": 1, "events": 1, "plugins": 2, "backends": 3}  # the faces are above


def nodes_of(tree: ast.AST, *, types: bool, functions: bool) -> Iterator[ast.AST]:
    """All of a module; what only type checkers see, and what is inside functions, as asked for."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not types:
            node = ast.Module(node.orelse, [])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not functions:
            continue
        yield node
        yield from nodes_of(node, types=types, functions=functions)


@functools.cache
def imports_of(module: str, *, types: bool = False, functions: bool = True) -> set[str]:
    """Absolute names of the modules that ``module`` imports."""
    nodes = list(nodes_of(ast.parse(MODULES[module].read_text()), types=types, functions=functions))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
    return names


def own_class(value: object, module: object) -> bool:
    """Whether ``value`` is a class that ``module`` defines itself."""
    return isinstance(value, type) and value.__module__ == module.__name__


def layer(module: str) -> int:
    part = module.split(".")[1:2]
    return LAYERS.get(part[0], 4) if part else 4


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    own = module.split(".")[1:2]
    for imported in imports_of(module, types=True):
        if imported.split(".")[0] == "asparkle" and imported != "asparkle":
            same_part = imported.split(".")[1:2] == own
            assert same_part or layer(imported) < layer(module) or layer(module) == 4, f"imports {imported}"


PUBLIC = {"asparkle.conf", "asparkle.errors", "asparkle.events", "asparkle.plugins", "asparkle.plugins.hookspecs"}
MACHINERY = {"builtin", "checks", "hookspecs", "manager", "metrics"}  # of the plugins; all others are some
OWN_PLUGINS = [
    module
    for module in MODULES
    if module.startswith(("asparkle.backends.", "asparkle.plugins.")) and module.split(".")[2] not in MACHINERY
]


@pytest.mark.parametrize("module", OWN_PLUGINS)
def test_what_comes_with_asparkle_has_no_private_access(module):
    """Its backends, stores, policies, sinks and listeners import what a third party's may."""
    own_package = {name for name in OWN_PLUGINS if name.split(".")[:3] == module.split(".")[:3]}
    own_package |= {name for name in OWN_PLUGINS if module.startswith("asparkle.backends") and "backends" in name}
    for node in nodes_of(ast.parse(MODULES[module].read_text()), types=True, functions=True):
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith("asparkle")]
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("asparkle"):
            if node.module == "asparkle":
                assert {f"asparkle.{alias.name}" for alias in node.names} <= PUBLIC
            elif node.module not in own_package:
                assert node.module in PUBLIC
                public = getattr(importlib.import_module(node.module), "__all__", ["hookimpl"])
                assert {alias.name for alias in node.names} <= set(public)


def circles(*, functions: bool) -> set[tuple[str, ...]]:
    """Modules that import one another, over however many steps."""

    def reached_from(module: str) -> set[str]:
        reached, new = set(), {module}
        while new:
            new = {name for known in new for name in imports_of(known, functions=functions) & MODULES.keys()} - reached
            reached |= new
        return reached

    reached = {module: reached_from(module) for module in MODULES}
    found = {tuple(m for m in reached[module] if module in reached[m]) for module in MODULES}
    return {tuple(sorted(circle)) for circle in found if circle}


def test_no_modules_import_one_another():
    assert circles(functions=False) == set()
    assert circles(functions=True) == CIRCLES


@pytest.mark.parametrize("module", MODULES)
def test_only_the_five_dependencies_are_imported(module):
    allowed = RUNTIME_DEPENDENCIES | sys.stdlib_module_names | {"asparkle"} | OPTIONAL.get(module, set())
    outside = {name.split(".")[0] for name in imports_of(module)} - allowed
    # numpy's own values are recognised where the user has imported it: sys.modules, not import
    assert not outside


def test_the_scheduler_imports_nothing_that_does_io():
    allowed = {
        "__future__",
        "abc",
        "array",
        "bisect",
        "collections",
        "dataclasses",
        "enum",
        "functools",
        "heapq",
        "types",
    }
    allowed |= {"itertools", "math", "operator", "statistics", "typing"}
    for module in MODULES:
        if module.startswith("asparkle.core.scheduler"):
            for imported in imports_of(module):
                own = imported.startswith(
                    ("asparkle.core.scheduler", "asparkle.core.namedtuple", "asparkle.core.events")
                )
                assert own or imported.split(".")[0] in allowed, f"{module} imports {imported}"


@pytest.mark.parametrize("module", ["asparkle", "asparkle.aio"])
def test_importing_asparkle_is_lean(module):
    heavy = "structlog pluggy numpy trio multiprocessing concurrent.futures.process sqlite3"
    script = f"import sys, {module}; print([name for name in {heavy.split()!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["asparkle", "asparkle.aio", "asparkle.plugins", "asparkle.core.shuffle"])
def test_what_is_imported_late_is_there(module):
    found = importlib.import_module(module)
    assert [name for name in found.__all__ if not hasattr(found, name)] == []
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'no_such_name'"):
        _ = found.no_such_name


# -------------------------------------------------------------------------------------------- the reference


def test_the_generated_parts_of_the_reference_are_up_to_date():
    rewritten = runpy.run_path(str(ROOT / "docs" / "generate.py"))["rewritten"]
    for page in (ROOT / "docs").rglob("*.md"):
        assert rewritten(page.read_text()) == page.read_text(), f"{page.name}: run python docs/generate.py"


@pytest.mark.parametrize("name", sorted(set(asparkle.__all__) - {"__version__"}))
def test_every_public_name_has_a_section(name):
    pages = [page.read_text() for page in (ROOT / "docs/reference").glob("*.md")]
    assert any(re.search(rf"^##+ `?{name}`?$", page, re.MULTILINE) for page in pages)


def test_a_default_is_shown_by_its_name_of_today():
    """Several names of a storage level mean the same."""
    assert "### `persist(storageLevel=StorageLevel.MEMORY_ONLY)`\n" in (ROOT / "docs/reference/rdd.md").read_text()


@pytest.mark.parametrize("key", [*KEYS, *PREFIXES])
def test_every_configuration_key_is_documented(key):
    assert f"| `{key}" in (ROOT / "docs/reference/configuration.md").read_text()


@pytest.mark.parametrize("key", list(KEYS))
def test_every_configuration_key_is_used(key):
    """A key that changes nothing is a false promise."""
    constant = next(name for name, value in vars(sys.modules["asparkle.core.conf"]).items() if value is KEYS[key])
    uses = [module for module, file in MODULES.items() if re.search(rf"\b{constant}\b", file.read_text())]
    uses += [module for module, file in MODULES.items() if f'KEYS["{key}"]' in file.read_text()]
    in_conf = len(re.findall(rf"\b{constant}\b", MODULES["asparkle.core.conf"].read_text()))
    assert len(uses) > 1 or in_conf > 1, f"nobody reads {constant}"


@pytest.mark.parametrize("name", [name for name, value in vars(contracts).items() if own_class(value, contracts)])
def test_every_contract_is_documented(name):
    assert f"\n## {name}\n" in (ROOT / "docs/reference/contracts.md").read_text()


@pytest.mark.parametrize("hook", [name for name in vars(hookspecs) if name.startswith("asparkle_")])
def test_every_hook_is_documented_with_an_example(hook):
    page = (ROOT / "docs/reference/plugins.md").read_text()
    assert re.search(rf"^### `{hook}\(.*?\)`\n", page, re.MULTILINE)
    assert f"def {hook}(" in page
    assert "Example::" in getattr(hookspecs, hook).__doc__


def test_the_modules_that_the_architecture_names_exist():
    named = re.findall(r"`([\w/]+\.py)`", (ROOT / "docs/architecture.md").read_text())
    assert named
    for path in named:
        assert (PACKAGE / "core" / path).exists(), path


@pytest.mark.parametrize("scheme", [*builtin.asparkle_cluster_managers(), "local"])
def test_every_master_url_is_documented(scheme):
    assert re.search(rf"^\| `{scheme}\b", (ROOT / "docs/reference/configuration.md").read_text(), re.MULTILINE)


# ---------------------------------------------------------------------------------------------- the project


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="ruff, which formats it, is not installed")
def test_the_blocking_face_is_up_to_date():
    command = [sys.executable, "contrib/dev/blocking_face.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_has_the_two_commands_that_ci_runs():
    readme = (ROOT / "README.md").read_text()
    for mark in ("main", "test"):
        assert len(re.findall(rf"<!-- ci: {mark} -->\n+```sh\n(.+)\n```", readme)) == 1


def test_the_runtime_dependencies_are_these_five():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[<>=~]", text)[0] for text in project["dependencies"]} == RUNTIME_DEPENDENCIES
