"""The kit quotes the contracts: each promise that it names stands in the docstring of what it names."""

from __future__ import annotations

import ast
import inspect
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import asparkle.testing
from asparkle.core import contracts
from asparkle.testing import Conformance, PromiseBroken, expect

KIT = sorted(Path(asparkle.testing.__file__).parent.glob("*.py"))
METHODS = {"promised": 2, "ends": 2, "call": 2}  # calls whose first two arguments are a contract and a promise


def constants(tree: ast.Module) -> dict[str, str]:
    """The texts that a module names, as the calls use them."""
    found = {}
    for node in ast.walk(tree):
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        if isinstance(target, ast.Name) and isinstance(getattr(node, "value", None), ast.Constant):
            found[target.id] = node.value.value
    return found


def promises() -> Iterator[tuple[str, str]]:
    for file in KIT:
        tree = ast.parse(file.read_text())
        texts = constants(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
                values = [
                    a.value if isinstance(a, ast.Constant) else texts.get(getattr(a, "id", "")) for a in node.args[:2]
                ]
                if len(values) == 2 and isinstance(values[0], str) and hasattr(contracts, values[0].split(".")[0]):
                    assert isinstance(values[1], str), f"{file.name}, line {node.lineno}: which promise?"
                    yield values[0], values[1]


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(("contract", "promise"), sorted(set(promises())))
def test_a_promise_stands_in_the_contract(contract: str, promise: str) -> None:
    name, _, member = contract.partition(".")
    cls = getattr(contracts, name)
    documented = vars(cls)[member] if member in methods_of(cls) else None
    source = inspect.getdoc(documented) if documented else inspect.getsource(cls)  # attributes have theirs in the class
    assert words(promise) in words(source or "")
    assert not member or member in {*methods_of(cls), *attributes_of(cls)}


def methods_of(cls: type) -> set[str]:
    return {name for name, value in vars(cls).items() if inspect.isfunction(value) or isinstance(value, property)}


def attributes_of(cls: type) -> set[str]:
    """What it has besides methods: annotated or set in its body."""
    (body,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(body, ast.ClassDef)
    targets = [
        node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        for node in body.body
        if isinstance(node, ast.AnnAssign | ast.Assign)
    ]
    return {target.id for target in targets if isinstance(target, ast.Name)}


CONTRACTS = [
    "ClusterManager",
    "Cluster",
    "Executor",
    "BlockStore",
    "CachePolicy",
    "Codec",
    "Listener",
    "MetricSink",
    "SchedulingPolicy",
    "Serializer",
    "ShuffleStore",
    "MapOutputWriter",
    "MapOutputReader",
]
WHAT_PLUGINS_MAKE = ["ExecutorInfo", "Lost"]
WHAT_WORKERS_HAVE = {"AppSpec.environment", "AppSpec.path", "AppSpec.directory", "AppSpec.hash_seed"}
"""What a backend sees to.  All of an `AppSpec` is also compared with what the worker has."""


@pytest.mark.parametrize("contract", [*CONTRACTS, *WHAT_PLUGINS_MAKE])
def test_every_member_of_a_contract_has_a_tested_promise(contract: str) -> None:
    """Methods, attributes and fields."""
    cls = getattr(contracts, contract)
    members = {f"{contract}.{name}" for name in {*methods_of(cls), *attributes_of(cls)} if not name.startswith("_")}
    assert members <= {name for name, _ in promises()}


def test_what_workers_must_have_of_their_application_is_tested() -> None:
    tested = {name for name, _ in promises()}
    assert tested >= WHAT_WORKERS_HAVE
    assert "AppSpec" in tested


@pytest.mark.parametrize("name", asparkle.testing.__all__)
def test_every_public_name_is_in_the_guide(name: str) -> None:
    assert getattr(asparkle.testing, name)
    assert name in (Path(__file__).parents[2] / "docs" / "testing.md").read_text()


# ------------------------------------------------------------------------------ how a broken promise is told


class Subject(Conformance):
    patience = 0.2

    def subject(self) -> str:
        return "MyStore"


def told(function, *arguments) -> str:
    with pytest.raises(PromiseBroken) as raised:
        function(*arguments)
    return str(raised.value)


def test_an_expectation_that_is_not_met():
    def broken():
        with Subject().promised("BlockStore.get", "a promise"):
            expect(1 == 2, "returned 2")

    assert told(broken) == 'BlockStore.get: "a promise": MyStore returned 2'


def test_an_exception():
    def broken():
        with Subject().promised("BlockStore.get", "a promise"):
            raise KeyError((3, 1))

    assert told(broken) == 'BlockStore.get: "a promise": MyStore raised KeyError: (3, 1)'


def test_the_innermost_promise_is_the_broken_one():
    def broken():
        with Subject().promised("BlockStore", "outer"), Subject().promised("BlockStore.put", "inner"):
            expect(False, "did it")

    assert told(broken) == 'BlockStore.put: "inner": MyStore did it'


def test_a_broken_promise_in_a_task_of_a_group_is_told_like_any():
    async def main():
        async def task():
            with Subject().promised("Executor.send", "inner"):
                expect(False, "did it")

        with Subject().promised("Executor", "outer"):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(task)

    assert told(anyio.run, main) == 'Executor.send: "inner": MyStore did it'


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_wait_without_end_is_a_broken_promise(loop):
    async def main():
        with Subject().promised("Executor.receive", "a promise"):
            await anyio.sleep_forever()

    assert told(lambda: anyio.run(main, backend=loop)) == (
        'Executor.receive: "a promise": MyStore had not done so after 0.2 seconds'
    )


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_what_blocks_is_interrupted(on_a_loop):
    def blocks():
        with Subject().promised("Executor.send", "Never blocks"):
            time.sleep(60)

    async def main():
        blocks()

    began = time.monotonic()
    said = told(anyio.run, main) if on_a_loop else told(blocks)
    assert said == ('Executor.send: "Never blocks": MyStore held up everything for 0.2 seconds, and had not returned')
    assert time.monotonic() - began < 10
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_caller_that_is_cancelled_breaks_no_promise():
    async def main():
        with anyio.move_on_after(0.05) as scope:
            with Subject().promised("Executor.receive", "a promise"):
                await anyio.sleep_forever()
        assert scope.cancelled_caught

    anyio.run(main)
