"""What nodes are sent: all that asparkle needs, little else, and the same bytes each time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zlib
from hashlib import sha256
from pathlib import Path

import pytest

from asparkle.backends.ssh import stage0
from asparkle.backends.ssh.archive import Archive, _made, archive
from asparkle.errors import MissingDependency

from .conversation import PYTHON

ROOT = Path(__file__).parents[2]
ASPARKLE = {file.relative_to(ROOT).as_posix() for file in (ROOT / "asparkle").rglob("*.py")}


def unpack(made: Archive, directory: Path) -> set[str]:
    files = stage0.unpacked(made.data, made.id)
    del files[stage0.MANIFEST]
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    return set(files)


def run(directory: Path, program: str) -> str:
    """What a program prints, in a Python that finds nothing but its own library and that directory."""
    code = f"import sys; sys.path.insert(0, {str(directory)!r}); {program}"
    done = subprocess.run([PYTHON, "-ISc", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_python_that_has_nothing_runs_all_of_asparkle_with_it(tmp_path: Path) -> None:
    unpack(archive(), tmp_path)
    modules = ["asparkle", "asparkle.aio", "asparkle.backends.zygote", "asparkle.backends.ssh.agent", "structlog"]
    assert run(tmp_path, f"import {', '.join(modules)}; print(asparkle.__file__)") == f"{tmp_path}/asparkle/__init__.py"
    program = "from asparkle import SparkContext; print(SparkContext('local[2]').range(10).map(str).count())"
    assert run(tmp_path, program) == "10"
    program = "from importlib.metadata import version; print(version('asparkle'), version('typing-extensions'))"
    assert re.fullmatch(r"\d\S+ \d\S+", run(tmp_path, program))


def test_it_has_what_is_needed_and_little_else(tmp_path: Path) -> None:
    files = unpack(archive(), tmp_path)
    assert files >= ASPARKLE
    packages = {path.partition("/")[0] for path in files if ".dist-info" not in path}
    assert packages >= {"asparkle", "anyio", "cloudpickle", "idna", "msgpack", "pluggy", "structlog"}
    assert packages & {"pytest", "numpy", "trio", "hypothesis", "tests"} == set()  # extras' are no requirements
    other = [path for path in files if not path.endswith((".py", ".so", ".dist-info/METADATA"))]
    assert other == []
    assert len(archive().data) < 1_500_000


def test_the_same_files_give_the_same_bytes() -> None:
    program = "from zlib import crc32; from asparkle.backends.ssh.archive import archive as made; "
    program += "print(made().id, crc32(made().data))"
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert told == {f"{archive().id} {zlib.crc32(archive().data)}\n"}
    assert archive() is archive([])


def test_its_name_is_that_of_all_its_bytes() -> None:
    whole = zlib.decompress(archive().data)
    start = 8 + int(whole[:8], 16)
    assert sha256(whole[8:start]).hexdigest() == archive().id
    for _, size, digest in json.loads(whole[8:start]):
        assert sha256(whole[start : start + size]).hexdigest() == digest
        start += size
    assert start == len(whole)


@pytest.mark.parametrize(
    "damage",
    [
        lambda code: b"",
        lambda code: code[:100],
        lambda code: code[:18] + b"\xb7\x00" + code[20:],  # e_machine: AArch64
        lambda code: code[:4] + b"\x01" + code[5:],  # of a machine of 32 bits
        lambda code: code.replace(b"libc.so.6", b"libc.so.0"),  # another C library
        lambda code: code.replace(b"GLIBC_2.", b"GLIBC_9."),  # a later one
        lambda code: code.replace(b"PyInit__cmsgpack", b"PyInit__cmsgpock"),
    ],
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ELF is Linux's")
def test_msgpack_does_without_its_compiled_module_where_that_can_not_be_loaded(tmp_path: Path, damage) -> None:
    unpack(archive(), tmp_path)
    (compiled,) = (tmp_path / "msgpack").glob("*.so")
    program = "import msgpack; print(msgpack.Packer.__module__); assert msgpack.unpackb(msgpack.packb([1])) == [1]"
    assert run(tmp_path, program) == "msgpack._cmsgpack"
    code = compiled.read_bytes()
    changed = damage(code)
    assert changed != code
    compiled.unlink()
    compiled.write_bytes(changed)
    assert run(tmp_path, program) == "msgpack.fallback"


# ------------------------------------------------------------------------------------------------- plugins' packages


def installed(site: Path, name: str, files: dict[str, str], requires: tuple[str, ...] = (), entry: str = "") -> None:
    """A package as pip installs it; with an entry point in place of files, as it installs a link to where they are."""
    info = site / f"{name.replace('-', '_')}-1.5.dist-info"
    info.mkdir(parents=True)
    required = "".join(f"Requires-Dist: {text}\n" for text in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n{required}")
    if entry:
        (info / "entry_points.txt").write_text(f"[asparkle]\nx = {entry}\n")
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in files if not entry))
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    _made.cache_clear()
    return tmp_path / "site"


def test_packages_of_plugins_go_along_with_what_they_require(site: Path, tmp_path: Path) -> None:
    files = {
        "moon/__init__.py": "PHASE = 3",
        "moon/data/tides.csv": "1",
        "moon/tests/test_x.py": "",
        "moon/py.typed": "",
    }
    installed(
        site, "asparkle-moon", files, ("tides (>=1.0)", "msgpack>=1", "sun; extra == 'day'", "mars; os_name == 'x'")
    )
    installed(site, "tides", {"tides.py": "HIGH = 2", "tests/__init__.py": ""})
    made = archive(["Asparkle_Moon"])
    assert made.id != archive().id and made is archive(["Asparkle_Moon"])
    more = unpack(made, tmp_path / "all") - unpack(archive(), tmp_path / "own")
    metadata = {"asparkle_moon-1.5.dist-info/METADATA", "tides-1.5.dist-info/METADATA"}
    assert more == {"moon/__init__.py", "moon/data/tides.csv", "tides.py", *metadata}
    program = "import moon, tides; from importlib.metadata import version; print(moon.PHASE, version('asparkle-moon'))"
    assert run(tmp_path / "all", program) == "3 1.5"


def test_a_package_that_is_a_link_to_its_sources_is_found_by_its_entry_points(site: Path, tmp_path: Path) -> None:
    installed(site, "asparkle-moon", {"luna/__init__.py": ""}, entry="luna.manager:Manager")
    assert "luna/__init__.py" in unpack(archive(["asparkle-moon"]), tmp_path / "all")


def test_of_a_namespace_only_the_packages_own_modules_go_along(site: Path, tmp_path: Path) -> None:
    installed(site, "planets-mars", {"planets/mars.py": "MOONS = 2"})
    installed(site, "planets-venus", {"planets/venus.py": "MOONS = 0"})
    found = unpack(archive(["planets-mars"]), tmp_path / "all")
    assert "planets/mars.py" in found and "planets/venus.py" not in found


def test_a_compiled_requirement_stays_behind_but_not_what_was_named(site: Path, tmp_path: Path) -> None:
    installed(site, "asparkle-moon", {"moon/__init__.py": "", "moon/fast.so": ""}, ("heavy",))
    installed(site, "heavy", {"heavy/__init__.py": "", "heavy/core.so": ""})
    found = unpack(archive(["asparkle-moon"]), tmp_path / "all")
    assert "moon/fast.so" in found and not any(path.startswith("heavy") for path in found)


def test_a_package_that_is_not_here_is_named(site: Path) -> None:
    with pytest.raises(
        MissingDependency, match="nodes need the package 'asparkle-moon', .*pip install 'asparkle-moon'"
    ):
        archive(["asparkle-moon"])
    installed(site, "asparkle-moon", {"moon.py": ""}, ("tides>=2",))
    with pytest.raises(MissingDependency, match="'tides'"):
        archive(["asparkle-moon"])
