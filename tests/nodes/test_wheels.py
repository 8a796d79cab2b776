"""What is installed here, told and packed: a lock that is the same for the same packages, and wheels that pip takes."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest

from asparkle.backends.ssh.wheels import bundled_installer, installed, installer, lock, needed_version, wheel_name
from asparkle.plugins import Platform

from .packages import copy_installed, install, pip_install, wheel_of

pytestmark = pytest.mark.slow

HERE = Platform.here()


# ------------------------------------------------------------------------------------------------------------ the lock


@pytest.fixture
def site(tmp_path: Path) -> Path:
    found = tmp_path / "site"
    install(found, "moon", {"moon/__init__.py": "PHASE = 3"})
    install(found, "Tide-Tables", {"tides.py": "HIGH = 2"}, "0.1+local.2")
    return found


def told(site: Path) -> list[tuple[str, str]]:
    return [(package.name, package.version) for package in lock([str(site)]).packages]


def test_it_has_what_is_installed_by_name(site: Path) -> None:
    assert told(site) == [("moon", "1.5"), ("Tide-Tables", "0.1+local.2")]
    found = lock([str(site)])
    assert all(package.platform is None and package.portable for package in found.packages)
    metadata = (site / "moon-1.5.dist-info" / "METADATA").stat().st_size
    wheel = (site / "moon-1.5.dist-info" / "WHEEL").stat().st_size
    assert found.packages[0].size == len("PHASE = 3") + metadata + wheel


def test_another_process_tells_the_same_of_the_same_packages() -> None:
    program = "from asparkle.backends.ssh.wheels import lock; found = lock(); print(found.id, len(found.packages))"
    found = {
        subprocess.check_output([sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": seed}, text=True)
        for seed in "12"
    }
    assert found == {f"{lock().id} {len(lock().packages)}\n"}


def test_of_two_installations_with_the_same_files_the_lock_is_the_same(site: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    install(other, "Tide-Tables", {"tides.py": "HIGH = 2"}, "0.1+local.2", by="uv")
    install(other, "moon", {"moon/__init__.py": "PHASE = 3"})
    (other / "moon" / "__pycache__").mkdir()
    with (other / "moon-1.5.dist-info" / "RECORD").open("a") as record:
        record.write("../../../bin/moon,sha256=x,3\nmoon/__pycache__/__init__.cpython-311.pyc,,\n")
    assert lock([str(other)]).id == lock([str(site)]).id


@pytest.mark.parametrize(
    "other", [("moon", {"moon/__init__.py": "PHASE = 4"}), ("moon", {"moon/__init__.py": "PHASE = 3"}, "1.6")]
)
def test_another_version_and_other_files_make_another_lock(
    site: Path, tmp_path: Path, other: tuple[object, ...]
) -> None:
    install(tmp_path / "other", *other)
    install(tmp_path / "other", "Tide-Tables", {"tides.py": "HIGH = 2"}, "0.1+local.2")
    assert lock([str(tmp_path / "other")]).id != lock([str(site)]).id


def test_what_nodes_have_and_what_is_developed_here_is_left_out(site: Path) -> None:
    for name in ("asparkle", "anyio", "Typing_Extensions", "pip", "uv"):
        install(site, name, {f"{name}.py": ""})
    install(site, "mine", {"_editable_impl_mine.pth": "/home/me/mine/src"})
    (site / "mine-1.5.dist-info" / "direct_url.json").write_text(
        '{"url": "file:///me", "dir_info": {"editable": true}}'
    )
    install(site, "built-from-sources", {"sources.py": ""})
    (site / "built_from_sources-1.5.dist-info" / "direct_url.json").write_text('{"url": "file:///me", "dir_info": {}}')
    assert [name for name, _ in told(site)] == ["built-from-sources", "moon", "Tide-Tables"]


def test_the_first_on_the_path_counts(site: Path, tmp_path: Path) -> None:
    install(tmp_path / "other", "moon", {"moon.py": ""}, "2.0")
    paths = [str(tmp_path / "other"), str(site)]
    assert [package.version for package in lock(paths).packages] == ["2.0", "0.1+local.2"]
    assert [package.version for package in lock(paths[::-1]).packages] == ["1.5", "0.1+local.2"]


def test_what_the_system_has_installed_is_told_apart(site: Path) -> None:
    info = site / "python_apt-2.6.0.egg-info"
    info.write_text("Metadata-Version: 2.1\nName: python-apt\nVersion: 2.6.0\n")
    found = lock([str(site)])
    assert found.left_out == ("python-apt",) and len(found.packages) == 2


def test_compiled_packages_have_a_platform(site: Path) -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    install(site, "fast", {f"fast{suffix}": b"\x7fELF"}, tag="cp311-cp311-manylinux2014_x86_64")
    install(site, "mislabelled", {"m/a.so": b"\x7fELF"})
    install(site, "program", {"program.py": ""}, tag="py3-none-linux_x86_64")
    install(site, "condas", {f"c{suffix}": b"\x7fELF"}, by="conda")
    install(site, "condas-pure", {"p.py": b""}, by="conda")
    found = {package.name: package for package in lock([str(site)]).packages}
    assert found["fast"].platform == HERE._replace(version=(2, 17))
    assert found["mislabelled"].platform == found["program"].platform == HERE
    assert found["moon"].platform is None
    assert {name for name, package in found.items() if not package.portable} == {"condas"}


@pytest.mark.parametrize(
    ("tags", "version"),
    [
        (["py3-none-any"], (2, 40)),
        (["cp311-cp311-linux_x86_64"], (2, 40)),
        (["cp311-cp311-manylinux_2_28_x86_64", "cp311-cp311-manylinux_2_27_x86_64"], (2, 27)),
        (["cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64"], (2, 17)),
        (["cp39-abi3-manylinux1_i686"], (2, 5)),
        (["cp311-cp311-musllinux_1_2_aarch64"], (1, 2)),
        (["cp311-cp311-macosx_11_0_arm64"], (11, 0)),
    ],
)
def test_the_tags_tell_the_oldest_c_library(tags: list[str], version: tuple[int, ...]) -> None:
    assert needed_version(tags, (2, 40)) == version


@pytest.mark.parametrize(
    ("compiled", "loads"),
    [
        (("abi", "x86_64", (2, 17)), True),
        (("abi", "x86_64", (2, 36)), True),
        (("abi", "x86_64", (2, 9)), True),
        (("abi", "x86_64", (2, 37)), False),
        (("abi", "aarch64", (2, 17)), False),
        (("other", "x86_64", (2, 17)), False),
    ],
)
def test_a_node_loads_what_is_for_it_and_for_no_later_c_library(compiled: tuple[object, ...], loads: bool) -> None:
    assert Platform("abi", "x86_64", (2, 36)).loads(Platform.of(compiled)) == loads
    assert Platform("abi", "x86_64", ()).loads(Platform.of(compiled)) == (compiled[:2] == ("abi", "x86_64"))


# -------------------------------------------------------------------------------------------------------------- wheels


def contents(site: Path, name: str) -> dict[str, tuple[bytes, bool]]:
    """What a package's files are, and whether they are programs."""
    left_out = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"}
    (found,) = distributions(name=name, path=[str(site)])
    paths = [file for file in found.files or () if "__pycache__" not in file.parts and ".." not in file.parts]
    return {
        str(file): (file.read_binary(), os.access(str(file.locate()), os.X_OK))
        for file in paths
        if not (file.parts[0].endswith(".dist-info") and file.name in left_out)
    }


@pytest.mark.parametrize("name", ["numpy", "msgpack", "pytest", "python-dateutil", "structlog"])
def test_what_pip_installs_from_a_wheel_is_what_it_was_made_of(name: str, tmp_path: Path) -> None:
    found = distribution(name)
    wheel = wheel_of(installed(found), tmp_path)
    pip_install(tmp_path / "site", [wheel])
    original = contents(Path(str(found.locate_file(""))), name)
    assert contents(tmp_path / "site", name) == original and len(original) > 3
    (again,) = distributions(name=name, path=[str(tmp_path / "site")])
    assert again.version == found.version and again.requires == found.requires
    assert [*again.entry_points] == [*found.entry_points]
    assert installed(again).id == installed(found).id


def test_the_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    package = installed(distribution("msgpack"))
    first, second = wheel_of(package, tmp_path / "a"), wheel_of(package, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes() and first.name == second.name == wheel_name(package)


def test_programs_data_and_odd_names_are_packed_and_scripts_are_not(tmp_path: Path) -> None:
    site = tmp_path / "lib" / "site"
    install(
        site, "moon", {"moon/run me, please.sh": "#!/bin/sh\n", 'moon/say "x".txt': "x", "nspkg.pth": "import sys\n"}
    )
    (site / "moon" / "run me, please.sh").chmod(0o755)
    record = site / "moon-1.5.dist-info" / "RECORD"
    rows = record.read_text().replace("moon/run me, please.sh,", '"moon/run me, please.sh",')
    record.write_text(rows.replace('moon/say "x".txt,', '"moon/say ""x"".txt",'))
    original = contents(site, "moon")
    with record.open("a") as more:
        more.write(f"{os.path.relpath(os.path.join(sys.prefix, 'bin', 'moon'), site)},,\n/etc/moon,,\nmoon/gone,,\n")
    (package,) = lock([str(site)]).packages
    with zipfile.ZipFile(wheel_of(package, tmp_path)) as wheel:
        assert {*wheel.namelist()} == {*original, "moon-1.5.dist-info/RECORD"}
    pip_install(tmp_path / "again", [tmp_path / wheel_name(package)])
    assert contents(tmp_path / "again", "moon") == original and "moon/run me, please.sh" in original


def test_data_files_go_where_pip_has_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = tmp_path / "prefix"
    site = prefix / "lib" / "python3" / "site-packages"
    monkeypatch.setattr(sys, "prefix", str(prefix))
    install(site, "moon", {"moon.py": "", "../../../share/moon/map.txt": "here be dragons", "../../../bin/moon": "#!"})
    (package,) = lock([str(site)]).packages
    with zipfile.ZipFile(wheel_of(package, tmp_path)) as wheel:
        assert wheel.read("moon-1.5.data/data/share/moon/map.txt") == b"here be dragons"
        assert not any("bin" in name for name in wheel.namelist())


def test_a_file_that_was_changed_goes_along_as_it_is(tmp_path: Path) -> None:
    install(tmp_path / "site", "moon", {"moon.py": "PHASE = 3"})
    (tmp_path / "site" / "moon.py").write_text("PHASE = 4; # patched")
    (package,) = lock([str(tmp_path / "site")]).packages
    pip_install(tmp_path / "again", [wheel_of(package, tmp_path)])
    assert (tmp_path / "again" / "moon.py").read_text() == "PHASE = 4; # patched"


def test_pip_is_there_for_nodes_that_have_none(tmp_path: Path) -> None:
    package = installer()
    found = wheel_of(package, tmp_path) if package is not None else bundled_installer()
    assert found is not None
    told = subprocess.check_output([sys.executable, "-I", f"{found}/pip", "--version"], text=True)
    assert told.startswith("pip ") and str(found) in told


def test_packages_are_copied_whole(tmp_path: Path) -> None:
    copy_installed(tmp_path / "site", ["idna", "msgpack"])
    assert [p.id for p in lock([str(tmp_path / "site")]).packages] == []  # asparkle's own needs
    program = "import idna, msgpack; print(msgpack.__file__)"
    told = subprocess.check_output(
        [sys.executable, "-ISc", f"import sys; sys.path[0:0] = [{str(tmp_path / 'site')!r}]; {program}"]
    )
    assert told.decode().startswith(str(tmp_path / "site"))
