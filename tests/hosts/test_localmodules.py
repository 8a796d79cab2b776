"""Which modules of the driver's go to hosts that lack them, and what of them."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path

import pytest

from asparkle.core import localmodules
from asparkle.core.bundles import unbundle
from asparkle.core.localmodules import LocalModules
from asparkle.core.platforms import Platform
from asparkle.core.protocol import TakeModule


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on ``sys.path``."""
    (tmp_path / "script").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "script")
    return tmp_path / "script"


@pytest.fixture
def find(tmp_path: Path) -> Callable[[str], TakeModule]:
    (tmp_path / "data").mkdir()
    return LocalModules(lambda: sys.path, lambda path: "others" in path, str(tmp_path / "data")).find


def files(found: TakeModule) -> dict[str, str]:
    """What was packed: path and content, which is "/" for a directory."""
    assert found.ref is not None, found.reason
    assert os.path.getsize(found.ref.path) == found.ref.length
    with tarfile.open(found.ref.path) as packed:
        contents = {member.name: packed.extractfile(member) for member in packed}
        return {name: content.read().decode() if content else "/" for name, content in contents.items()}


def write(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)


def test_a_module_is_a_file(script, find):
    write(script, "lm_one.py", "lm_one_more.py")
    found = find("lm_one")
    assert (found.place, found.compiled, found.platform, files(found)) == (
        "lm_one.py",
        "",
        None,
        {"lm_one.py": "lm_one.py"},
    )


def test_a_package_is_all_that_is_in_its_directory_but_what_is_made_there_again_or_hidden(script, find, tmp_path):
    write(script, "lm_pack/__init__.py", "lm_pack/deep/er/words.txt", "lm_pack/.name")
    write(script, "lm_pack/__pycache__/x.pyc", "lm_pack/deep/.git/config", "lm_pack/env/pyvenv.cfg", "lm_pack/env/x.py")
    write(tmp_path, "elsewhere/linked.txt")
    (script / "lm_pack" / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(script / "lm_pack" / "pipe")
    found = find("lm_pack")
    assert found.place == "lm_pack"
    assert {name for name, content in files(found).items() if content != "/"} == {
        "lm_pack/__init__.py",
        "lm_pack/deep/er/words.txt",
        "lm_pack/.name",
        "lm_pack/link/linked.txt",
    }


def test_what_is_read_only_can_be_moved_and_deleted_where_it_is_unpacked(script, find, tmp_path):
    write(script, "lm_read_only/deep/x.py")
    (script / "lm_read_only" / "deep" / "x.py").chmod(0o444)
    for directory in ("deep", "."):
        (script / "lm_read_only" / directory).chmod(0o555)
    found = find("lm_read_only")
    assert found.ref is not None
    unbundle(found.ref.path, str(tmp_path / "unpacked"))
    unpacked = [
        tmp_path / "unpacked" / name for name in ("lm_read_only", "lm_read_only/deep", "lm_read_only/deep/x.py")
    ]
    assert [stat.S_IMODE(path.stat().st_mode) for path in unpacked] == [0o755, 0o755, 0o444]
    for directory in (".", "deep"):
        (script / "lm_read_only" / directory).chmod(0o755)


def test_a_namespace_has_parts_in_several_directories(script, find, tmp_path, monkeypatch):
    (tmp_path / "second").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "second")
    write(script, "lm_space/a.py", "lm_space/both.py")
    write(tmp_path / "second", "lm_space/both.py", "lm_space/inner/__init__.py", "lm_space/inner/b.py")
    (script / "lm_space" / "both.py").write_text("the second that an import would find")
    assert files(find("lm_space")) == {
        "lm_space": "/",
        "lm_space/a.py": "lm_space/a.py",
        "lm_space/both.py": "lm_space/both.py",
        "lm_space/inner": "/",
        "lm_space/inner/__init__.py": "lm_space/inner/__init__.py",
        "lm_space/inner/b.py": "lm_space/inner/b.py",
    }
    inner = find("lm_space.inner")
    assert (inner.place, "lm_space/a.py" in files(inner), len(files(inner))) == ("lm_space/inner", False, 3)
    assert find("lm_space.a").place == "lm_space/a.py"
    assert find("lm_space.c").reason == "where the driver runs, there is none, either"
    assert find("lm_space.a.c").reason == "where the driver runs, there is none, either"


def test_modules_in_archives(script, find, monkeypatch):
    with zipfile.ZipFile(script / "lm.zip", "w") as archive:
        for name in ("lm_zipped.py", "inner/lm_packed/__init__.py", "inner/lm_packed/words.txt", "inner/lm_packed2/x"):
            archive.writestr(name, name)
    monkeypatch.syspath_prepend(script / "lm.zip")
    monkeypatch.syspath_prepend(script / "lm.zip" / "inner")
    assert files(find("lm_zipped")) == {"lm_zipped.py": "lm_zipped.py"}
    found = find("lm_packed")
    assert (found.place, set(files(found))) == ("lm_packed", {"lm_packed/__init__.py", "lm_packed/words.txt"})


def test_what_is_installed_in_place_is_the_drivers_own(tmp_path, find, monkeypatch):
    """By a finder, as setuptools does: the name is another one than the directory's."""
    write(tmp_path, "src/main/__init__.py", "src/main/words.txt")

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
            if name != "lm_editable":
                return None
            return spec_from_file_location(name, tmp_path / "src/main/__init__.py")

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert files(find("lm_editable")) == {
        "lm_editable": "/",
        "lm_editable/__init__.py": "src/main/__init__.py",
        "lm_editable/words.txt": "src/main/words.txt",
    }


def test_nothing_is_imported(script, find):
    (script / "lm_loud.py").write_text("raise SystemExit")
    write(script, "lm_outer/__init__.py")
    (script / "lm_outer" / "__init__.py").write_text("raise SystemExit")
    assert find("lm_loud").ref and find("lm_outer").ref and find("lm_outer.inner").ref is None
    assert not [name for name in sys.modules if name.startswith("lm_")]


def test_what_was_imported_is_what_goes(script, find, tmp_path, monkeypatch):
    write(tmp_path, "gone/lm_imported.py")
    (tmp_path / "gone" / "lm_imported.py").write_text("")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path / "gone")
        import lm_imported  # noqa: F401
    assert files(find("lm_imported")) == {"lm_imported.py": ""}


def test_what_another_context_has_added_is_not_found(script, find, tmp_path, monkeypatch):
    write(tmp_path, "others/lm_theirs.py")
    (tmp_path / "others" / "lm_theirs.py").write_text("")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path / "others")
        import lm_theirs  # noqa: F401
    assert find("lm_theirs").ref is None
    write(script, "lm_theirs.py")
    assert files(find("lm_theirs")) == {"lm_theirs.py": "lm_theirs.py"}


def test_once_sent_it_stays_as_it_was(script, find):
    write(script, "lm_edited.py")
    found = find("lm_edited")
    (script / "lm_edited.py").write_text("another content")
    assert find("lm_edited") == found
    assert files(found) == {"lm_edited.py": "lm_edited.py"}


def test_the_name_of_a_file_is_no_modules_name(script, find, tmp_path):
    write(tmp_path, "secret.py")
    write(script, "lm-dash.py")
    for name in ("../secret", "secret/../lm", "lm-dash", "", ".", "a..b", "\0"):
        assert (find(name).ref, find(name).reason) == (None, "it is no module's name")


def test_pythons_own_and_the_main_module_do_not_go(find):
    for name in ("json", "sys", "_thread", "encodings"):
        assert find(name) == TakeModule(-1, reason="where the driver runs, it is part of Python")
    assert find("__main__").ref is None


def test_what_is_installed_does_not_go(script, find, monkeypatch):
    """Its distribution is named, with its version, also where several share a namespace."""
    site = script / "lib" / "site-packages"
    for name, module in (("Nump-Y", "lm_numpy"), ("spaced-a", "lm_spaced/a"), ("spaced-b", "lm_spaced/b")):
        write(site, f"{module}/__init__.py")
        information = site / f"{name.replace('-', '_')}-1.26.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.26\n")
        (information / "RECORD").write_text(f"{module}/__init__.py,,\n")
    write(site, "lm_nobodys.py")
    monkeypatch.syspath_prepend(site)
    found = find("lm_numpy")
    assert (found.ref, found.refused) == (None, False)
    with monkeypatch.context() as patch:  # every worker asks: it is looked up once
        patch.delattr(localmodules, "_distributions")
        assert find("lm_numpy") == found
    remedy = "install that on the host, too; asparkle.ssh.env=sync brings it to SSH nodes"
    assert found.reason == f"where the driver runs, it belongs to Nump-Y 1.26: {remedy}"
    assert find("lm_spaced.b").reason == f"where the driver runs, it belongs to spaced-b 1.26: {remedy}"
    assert (
        find("lm_nobodys").reason
        == f"where the driver runs, it is in {site}/lm_nobodys.py, where packages are installed"
    )


def test_a_part_of_a_namespace_that_is_not_installed_goes_without_the_others(script, find, monkeypatch):
    write(script, "site-packages/lm_mixed/installed.py", "lm_mixed/own.py")
    monkeypatch.syspath_prepend(script / "site-packages")
    assert files(find("lm_mixed")) == {"lm_mixed": "/", "lm_mixed/own.py": "lm_mixed/own.py"}


def test_compiled_files_are_for_one_platform(script, find):
    original = find_spec("msgpack._cmsgpack")
    assert original is not None and original.origin is not None
    file = os.path.basename(original.origin)
    shutil.copy(original.origin, script)
    write(script, "lm_fast/__init__.py", "lm_fast/deep/libfast.so")
    here = Platform.here()._replace(version=())
    found = find("_cmsgpack")
    assert (found.place, found.compiled, found.platform) == (file, file, here)
    found = find("lm_fast")
    assert (found.place, found.compiled, found.platform) == ("lm_fast", "lm_fast/deep/libfast.so", here)
    assert f"python-{sys.version_info[0]}" in here.abi and here.machine == os.uname().machine


def test_what_is_too_large_is_refused(script, find, monkeypatch):
    monkeypatch.setattr(localmodules, "MOST", 4 << 20)
    write(script, "lm_large/__init__.py")
    with (script / "lm_large" / "table.bin").open("wb") as file:
        file.truncate(4 << 20)
    found = find("lm_large")
    assert (found.ref, found.refused) == (None, True)
    assert f"more than 4 MB of files in {script}/lm_large: keep data elsewhere" in found.reason
    (script / "lm_large" / "table.bin").write_bytes(b"")
    assert find("lm_large").ref  # it is looked at again
    monkeypatch.setattr(localmodules, "MOST", 4000)
    write(script, *(f"lm_many/{i}.py" for i in range(8)))
    assert "more than" in find("lm_many").reason  # each file counts, if there is nothing in it


def test_what_can_not_be_read_is_refused_and_nothing_stays_of_it(script, find, tmp_path, monkeypatch):
    write(script, "lm_loop/__init__.py", "lm_loop/deep/x.py")
    (script / "lm_loop" / "deep" / "again").symlink_to(script / "lm_loop")
    assert "is a link to" in find("lm_loop").reason
    write(script, "lm_dangling/__init__.py")
    original = localmodules._below

    def with_one_that_goes(*arguments):
        yield from original(*arguments)
        (script / "lm_dangling" / "__init__.py").unlink()

    monkeypatch.setattr(localmodules, "_bounded", lambda place, members: with_one_that_goes(place, "lm_dangling", ()))
    found = find("lm_dangling")
    assert found.refused and found.reason.startswith("FileNotFoundError: ")
    assert os.listdir(tmp_path / "data") == []


def test_a_finder_that_fails_is_no_end_of_it(find, monkeypatch):
    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            raise RuntimeError("out of order")

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert (find("lm_any").refused, find("lm_any").reason) == (True, "RuntimeError: out of order")


def test_a_module_of_a_kind_that_only_its_finder_knows_is_refused(find, monkeypatch):
    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
            return spec_from_file_location(name, "/a/page.html", loader=Finder()) if name == "lm_odd" else None  # type: ignore[arg-type]

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert find("lm_odd").reason == "/a/page.html is no file of Python's"
