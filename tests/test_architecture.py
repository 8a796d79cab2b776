"""What keeps the frame in shape: imports point one way, start-up is lean, and the reference is complete."""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import importlib.util
import inspect
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import asparkle
from asparkle.core import contracts, events
from asparkle.core.conf import KEYS, PREFIXES
from asparkle.core.events import Event, event_types
from asparkle.launcher.command import _parser
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
    "asparkle.core.certificates": {"cryptography"},
    "asparkle.core.compression": {"lz4", "zstandard"},
    "asparkle.plugins.eventlog.files": {"lz4", "zstandard"},
    **{module: {"pytest"} for module in MODULES if module.startswith("asparkle.testing.")},  # others' tests import it
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
    return imports_in(MODULES[module].read_text(), module, types=types, functions=functions)


def imports_in(source: str, module: str, *, types: bool, functions: bool = True) -> set[str]:
    nodes = list(nodes_of(ast.parse(source), types=types, functions=functions))
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


def wrong_way(module: str, source: str) -> set[str]:
    """What a module imports, anywhere in it, from a part that is not below its own; in `core`, what it names as well,
    to have it imported."""
    own = module.split(".")[1:2]
    imported = {name for name in imports_in(source, module, types=True) if name.startswith("asparkle.")}
    found = {
        name
        for name in imported
        if name.split(".")[1:2] != own and not layer(name) < layer(module) and layer(module) != 4
    }
    if own == ["core"]:
        texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
        names = [text for text in texts if isinstance(text, str) and re.fullmatch(r"asparkle(\.\w+)+(:\w+)?", text)]
        found |= {name for name in names if name.startswith(("asparkle.plugins.", "asparkle.backends."))}
    return found - KEYS.keys()  # some of which begin in the same way


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    assert wrong_way(module, MODULES[module].read_text()) == set()


@pytest.mark.parametrize(
    "source",
    [
        "import asparkle.plugins.registry",
        "from asparkle.plugins import registry",
        "from asparkle.backends.threads import ThreadsManager",
        "import asparkle.blocking",
        "def f():\n    from asparkle.plugins import registry",
        "class C:\n    async def f(self):\n        if True:\n            import asparkle.backends.inline",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from asparkle.plugins import hookspecs",
        "from importlib import import_module\ndef f():\n    import_module('asparkle.plugins.registry')",
        "DISK = 'asparkle.backends.disk:DiskStore'",
    ],
)
def test_an_import_of_the_core_that_points_up_is_found_wherever_it_is(source):
    assert len(wrong_way("asparkle.core.anything", source)) >= 1
    assert wrong_way("asparkle.anything", source) == set()  # the faces may


PUBLIC = {"asparkle.conf", "asparkle.errors", "asparkle.events", "asparkle.plugins", "asparkle.plugins.hookspecs"}
MACHINERY = {
    "builtin",
    "checks",
    "entrypoints",
    "guards",
    "hookspecs",
    "kinds",
    "metrics",
    "reading",
    "registered",
    "registry",
    "replaying",
    "sinks",
    "survey",
}
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


CONTRIBUTED = sorted((ROOT / "contrib").glob("**/src/**/*.py"))
FACES = {"asparkle", "asparkle.aio", "asparkle.testing"}


def private_names(source: str) -> set[str]:
    """What a module imports of asparkle that is not public."""
    found = set()
    for node in nodes_of(ast.parse(source), types=True, functions=True):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("asparkle.")} - PUBLIC - FACES
        elif isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "asparkle":
            known = node.module in PUBLIC | FACES
            public = {*getattr(importlib.import_module(node.module), "__all__", ["hookimpl"])} if known else set()
            names = {f"{node.module}.{alias.name}" for alias in node.names if alias.name not in public}
            found |= names - PUBLIC - FACES
    return found


@pytest.mark.parametrize("file", CONTRIBUTED, ids=[str(file.relative_to(ROOT)) for file in CONTRIBUTED])
def test_packages_beside_asparkle_import_public_names_alone(file):
    assert private_names(file.read_text()) == set()


@pytest.mark.parametrize(
    "source",
    [
        "import asparkle.core.conf",
        "from asparkle.core.conf import SparkConf",
        "from asparkle.plugins import builtin",
        "from asparkle.plugins.registry import PluginRegistry",
        "def f():\n    from asparkle import core",
    ],
)
def test_a_private_name_is_found_wherever_it_is_imported(source):
    assert len(private_names(source)) == 1


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
                pure = ("asparkle.core.namedtuple", "asparkle.core.events", "asparkle.core.contracts")
                own = imported.startswith(("asparkle.core.scheduler", *pure))
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


@functools.cache
def generator() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "generate.py"))


def test_the_generated_parts_of_the_reference_are_up_to_date():
    rewritten = generator()["rewritten"]
    for page in (ROOT / "docs").rglob("*.md"):
        assert rewritten(page.read_text()) == page.read_text(), f"{page.name}: run python docs/generate.py"


@pytest.mark.parametrize("name", sorted(set(asparkle.__all__) - {"__version__"}))
def test_every_public_name_has_a_section(name):
    pages = [page.read_text() for page in (ROOT / "docs/reference").glob("*.md")]
    assert any(re.search(rf"^##+ `?{name}`?$", page, re.MULTILINE) for page in pages)


def test_a_default_is_shown_by_its_name_of_today():
    """Several names of a storage level mean the same."""
    assert "### `persist(storageLevel=StorageLevel.MEMORY_ONLY)`\n" in (ROOT / "docs/reference/rdd.md").read_text()


# Each of these says what is missing for one thing; a test asks for all there are, and one at the end for what is not
# documented, to show that it would be found.


def reference(page: str) -> str:
    return (ROOT / "docs" / f"{page}.md").read_text()


def lacks_key(key: str) -> list[str]:
    name = f"{key}*" if key in PREFIXES else key
    return [] if f"\n| `{name}` |" in reference("reference/configuration") else ["a row in the table of keys"]


def lacks_hook(hook: str, specification: object) -> list[str]:
    page, doc = reference("reference/plugins"), inspect.getdoc(specification) or ""
    there = {
        "a section": re.search(rf"^### `{hook}\(.*?\)`\n", page, re.MULTILINE),
        "an example on the page": f"def {hook}(" in page,
        "an example in its docstring": "Example::" in doc and f"def {hook}(" in doc,
    }
    return [what for what, found in there.items() if not found]


def lacks_event(kind: type) -> list[str]:
    doc, page = kind.__doc__ or "", reference("reference/events")
    documented = generator()["documented_fields"](kind)
    row = re.search(rf"^\| `{kind.__name__}` \| [^|]", page, re.MULTILINE) or f"\n### {kind.__name__}\n" in page
    lacks = [] if row else ["a row in the table of events"]
    lacks += [] if doc and not doc.startswith(f"{kind.__name__}(") else ["when it comes: a docstring"]
    lacks += [f"what {name} is" for name, _, meaning in documented if not meaning]
    lacks += [
        f"the unit of {name}" for name, type_, meaning in documented if type_ == "float" and "seconds" not in meaning
    ]
    own = {name for name in vars(kind).get("__annotations__", ()) if name.islower()}
    return lacks + [f"a line of its own for {name}" for name in own - {name for name, _, _ in documented}]


def lacks_option(option: str) -> list[str]:
    return [] if re.search(rf"`{re.escape(option)}\b", reference("launcher")) else ["a word on the launcher's page"]


def lacks_command(command: str) -> list[str]:
    pages = [page.read_text() for page in (ROOT / "docs").rglob("*.md")]
    return [] if any(re.search(rf"\basparkle {command}\b", page) for page in pages) else ["a word in the docs"]


def lacks_master(scheme: str) -> list[str]:
    row = re.search(rf"^\| `{re.escape(scheme)}\b", reference("reference/configuration"), re.MULTILINE)
    return [] if row else ["a row in the table of master URLs"]


@pytest.mark.parametrize("key", [*KEYS, *PREFIXES])
def test_every_configuration_key_is_documented(key):
    assert lacks_key(key) == []
    assert key in PREFIXES or KEYS[key].doc.endswith(".")


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
    assert lacks_hook(hook, getattr(hookspecs, hook)) == []


@pytest.mark.parametrize("kind", [*event_types().values(), events.Event, events.UnknownEvent, *events.PARTS.values()])
def test_every_event_is_documented_with_all_its_fields(kind):
    page = [] if kind is not events.Event else ["a row in the table of events"]  # where it is called "every event"
    assert lacks_event(kind) == page


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def options() -> set[str]:
    parsers = [_parser(), *commands().values()]
    actions = [action for parser in parsers for action in parser._actions if action.dest != "help"]
    return {option for action in actions for option in action.option_strings if option.startswith("--")}


@pytest.mark.parametrize("command", sorted({*commands(), *builtin.COMMANDS}))
def test_every_command_is_documented(command):
    assert lacks_command(command) == []


@pytest.mark.parametrize("option", sorted(options()))
def test_every_option_of_the_commands_is_documented(option):
    assert lacks_option(option) == []


def test_the_modules_that_the_architecture_names_exist():
    named = re.findall(r"`([\w/]+\.py)`", (ROOT / "docs/architecture.md").read_text())
    assert named
    for path in named:
        assert (PACKAGE / "core" / path).exists(), path


@pytest.mark.parametrize("scheme", [*builtin.asparkle_cluster_managers(), "local"])
def test_every_master_url_is_documented(scheme):
    assert lacks_master(scheme) == []


@dataclass(frozen=True, slots=True)
class Undocumented(Event):
    something: int
    lasted: float  # how long it was


def asparkle_undocumented():
    """A hook without an example."""


@pytest.mark.parametrize(
    ("lacks", "missing"),
    [
        (lambda: lacks_key("asparkle.undocumented"), ["a row in the table of keys"]),
        (lambda: lacks_key("spark.maste"), ["a row in the table of keys"]),
        (
            lambda: lacks_hook("asparkle_undocumented", asparkle_undocumented),
            ["a section", "an example on the page", "an example in its docstring"],
        ),
        (
            lambda: lacks_event(Undocumented),
            ["a row in the table of events", "when it comes: a docstring", "what something is", "the unit of lasted"],
        ),
        (lambda: lacks_command("undocumented"), ["a word in the docs"]),
        (lambda: lacks_option("--undocumented"), ["a word on the launcher's page"]),
        (lambda: lacks_master("undocumented"), ["a row in the table of master URLs"]),
    ],
)
def test_what_is_not_documented_is_found(lacks, missing):
    assert lacks() == missing


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
