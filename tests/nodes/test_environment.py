"""What builds the driver's packages on a node, a real process, spoken to as the driver does."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from asparkle.backends.ssh import stage0
from asparkle.backends.ssh.environment import DATE, read_manifest
from asparkle.backends.ssh.wheels import Package, installed, installer, lock
from asparkle.plugins import Platform, Unpacker, pack

from .packages import install, wheel_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DISK = "3m"
HERE = Platform.here()
ELSEWHERE = HERE._replace(machine="pdp11", abi="cpython-311-pdp11-unix")


class Refused(Exception):
    """What the builder says."""


class Building:
    """The driver's end of a conversation; the process is `over` when the block is left."""

    def __init__(self, home: Path, packages: list[Package], lock: str = "lock", **environment: str) -> None:
        self.asked: list[list[str]] = []
        self.heard: list[str] = []
        self.number = 0  # of the last request
        self._packages = {package.name: package for package in packages}
        self._unpacker = Unpacker()
        self._messages: list[list[Any]] = []
        self.connection, theirs = socket.socketpair()
        self.connection.settimeout(60)
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        variables = {"PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home / "tmp"), "PYTHONPATH": str(ROOT)}
        code = f"from asparkle.backends.ssh.environment import main; main({theirs.fileno()})"
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                env=variables | {"PIP_CONFIG_FILE": os.devnull} | environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        plain = [[p.name, p.version, p.id, p.size, p.platform, p.portable] for p in packages]
        self.tell("build", {"lock": lock, "packages": plain, "directory": str(home / "tmp")})

    def tell(self, *message: Any) -> None:
        self.connection.sendall(pack(message))

    def hear(self) -> list[Any]:
        while not self._messages:
            data = self.connection.recv(1 << 16)
            if not data:
                raise EOFError
            self._messages = self._unpacker.feed(data)
        message = self._messages.pop(0)
        if message[0] == "send":
            self.number = message.pop(1)
        return message

    def send(self, name: str, most: int | None = None) -> None:
        """A package's wheel, or so many bytes of it."""
        package = self._packages.get(name) or (installer() if name == "pip" else None)
        if package is None:
            self.tell("lacks", self.number, name)
            return
        with tempfile.TemporaryDirectory() as directory:
            wheel = wheel_of(package, Path(directory))
            data = wheel.read_bytes()
        self.tell("wheel", self.number, name, wheel.name)
        self.tell("data", self.number, data[:most])
        if most is None:
            self.tell("end", self.number)

    def run(self) -> dict[str, Any]:
        """To its end.  Raises Refused."""
        while True:
            kind, *fields = self.hear()
            self.heard.append(kind)
            if kind == "send":
                self.asked.append(fields[0])
                for name in fields[0]:
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it refuses, in the middle
                        self.send(name)
            elif kind == "built":
                return dict(fields[0])
            elif kind == "refused":
                raise Refused(fields[0])

    def end(self) -> Path:
        """The environment."""
        return Path(self.run()["manifest"]).parent


@contextlib.contextmanager
def building(home: Path, packages: list[Package], lock: str = "lock", **environment: str) -> Iterator[Building]:
    found = Building(home, packages, lock, **environment)
    try:
        yield found
    finally:
        found.connection.close()
        found.process.wait(30)


def built(home: Path, packages: list[Package], lock: str = "lock", **environment: str) -> tuple[Path, list[list[str]]]:
    """The environment, and what was asked for."""
    with building(home, packages, lock, **environment) as found:
        return found.end(), found.asked


def refused(home: Path, packages: list[Package], **environment: str) -> str:
    with building(home, packages, **environment) as found, pytest.raises(Refused) as caught:
        found.run()
    return str(caught.value)


def run(environment: Path, program: str) -> str:
    return subprocess.check_output([environment / "bin" / "python3", "-c", program], text=True).strip()


def cache(home: Path) -> Path:
    return home / ".cache" / "asparkle"


@pytest.fixture
def packages(tmp_path: Path) -> list[Package]:
    """One with parts of its own, one with a bit more, and one that is compiled."""
    site = tmp_path / "site"
    install(site, "moon", {"moon/__init__.py": "PHASE = 3", "moon/run.sh": "#!/bin/sh\n", "shared.txt": "same"})
    (site / "moon" / "run.sh").chmod(0o755)
    install(
        site, "tides", {"tides.py": "HIGH = 2", "tides-nspkg.pth": "import sys; sys.tides = 1\n", "shared.txt": "same"}
    )
    return [*lock([str(site)]).packages, installed(distribution("msgpack"))]


def is_right(environment: Path) -> bool:
    told = run(
        environment,
        "import moon, tides, msgpack, sys, shutil, importlib.metadata as m; "
        "print(moon.PHASE, tides.HIGH, sys.tides, m.version('moon'), msgpack.Packer.__module__, msgpack.__file__)",
    )
    path = shutil.which("run.sh", path=str(next(environment.glob("lib/python3*/site-packages/moon"))))
    return told.startswith(f"3 2 1 1.5 msgpack._cmsgpack {environment}") and path is not None


# -------------------------------------------------------------------------------------------------------- cold and warm


def test_packages_are_sent_once_and_then_found(tmp_path: Path, packages: list[Package]) -> None:
    environment, asked = built(tmp_path, packages)
    assert asked == [["moon", "tides", "msgpack"]] and is_right(environment)
    assert environment.parent == cache(tmp_path) and os.listdir(cache(tmp_path)) == [environment.name]
    assert cache(tmp_path).stat().st_mode & 0o777 == 0o700
    os.utime(environment, (0, 0))
    assert built(tmp_path, packages) == (environment, [])
    assert environment.stat().st_mtime > 0


def test_a_driver_without_packages_has_an_environment_too(tmp_path: Path) -> None:
    path, _ = built(tmp_path, [])
    assert (path / stage0.MANIFEST).read_bytes() == b""
    assert built(tmp_path, []) == (path, [])


def test_its_python_is_the_nodes_and_looks_for_the_nodes_packages_behind(tmp_path: Path) -> None:
    with building(tmp_path, []) as found:
        told = found.run()
    assert os.path.realpath(told["python"]) == os.path.realpath(sys.executable)
    site = str(next(Path(told["manifest"]).parent.glob("lib/python3*/site-packages")))
    assert told["path"].index(site) > told["path"].index(sysconfig.get_path("stdlib"))
    assert not any("site-packages" in path for path in told["path"][: told["path"].index(site)])
    own = "true" if sys.prefix == sys.base_prefix else "false"
    assert f"include-system-site-packages = {own}" in Path(told["manifest"]).with_name("pyvenv.cfg").read_text()


def test_another_environment_is_sent_what_none_has_yet(tmp_path: Path, packages: list[Package]) -> None:
    first, _ = built(tmp_path, packages[:2])
    second, asked = built(tmp_path, packages, "another")
    assert asked == [["tides", "msgpack"]] and is_right(second) and first != second  # both have one file: sent again
    place = next(first.glob("lib/python3*/site-packages/moon/__init__.py")).relative_to(first)
    assert (first / place).stat().st_ino == (second / place).stat().st_ino
    third, asked = built(tmp_path, packages[::2], "one less")
    assert asked == [] and run(third, "import moon; print(moon.PHASE)") == "3"
    shutil.rmtree(first)
    assert is_right(second)


def test_what_is_not_used_is_removed(tmp_path: Path, packages: list[Package]) -> None:
    old, _ = built(tmp_path, packages[:1])
    with building(tmp_path, packages[1:2], "in use") as using:
        used = using.end()
        with (used / stage0.MANIFEST).open() as manifest:
            stage0.fcntl.flock(manifest, stage0.fcntl.LOCK_SH)
            for directory in (old, used):
                os.utime(directory, (0, 0))
            new, _ = built(tmp_path, packages[2:], "new")
    assert {*cache(tmp_path).iterdir()} == {used, new}


# -------------------------------------------------------------------------------------------------------------- damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("lib/python*/site-packages/moon/__init__.py", [["moon"]]),
        ("lib/python*/site-packages/msgpack/_cmsgpack*.so", [["msgpack"]]),
        ("lib/python*/site-packages/tides*/METADATA", [["tides"]]),
    ],
)
def test_what_is_damaged_is_sent_again_and_nothing_else(
    tmp_path: Path, packages: list[Package], name: str, asked: list[list[str]], damage: Callable[[Path], None]
) -> None:
    alone = [packages[0]._replace(id="0"), *packages[1:]]  # no file of it is another's
    environment, _ = built(tmp_path, alone)
    (file,) = environment.glob(name)
    whole = file.read_bytes()
    damage(file)
    again, found = built(tmp_path, alone)
    assert again == environment and is_right(environment) and file.read_bytes() == whole
    assert found == asked
    assert os.listdir(cache(tmp_path)) == [environment.name]
    assert built(tmp_path, alone) == (environment, [])


@pytest.fixture
def spy(tmp_path: Path) -> Callable[[], set[str]]:
    """Beside asparkle on the builder's path: notes each file that it opens or links."""
    log = tmp_path / "spy" / "log"
    log.parent.mkdir()
    log.with_name("sitecustomize.py").write_text(
        f"""import os, sys
log = os.open({str(log)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(event, args):
    if event in ("open", "os.link"):
        os.write(log, f"{{args[0]}}\\n".encode())
sys.addaudithook(note)
"""
    )

    def names() -> set[str]:
        """Of the files in packages, since it was asked last."""
        found = {Path(line).name for line in log.read_text().splitlines() if "/.cache/asparkle/" in line}
        log.write_text("")
        return found

    return names


def test_what_is_not_damaged_is_neither_read_nor_linked(
    tmp_path: Path, packages: list[Package], spy: Callable[[], set[str]]
) -> None:
    spied = {"PYTHONPATH": f"{tmp_path / 'spy'}:{ROOT}"}
    environment, _ = built(tmp_path, packages, **spied)
    (library,) = environment.glob("lib/python*/site-packages/msgpack/_cmsgpack*.so")
    (file,) = environment.glob("lib/python*/site-packages/tides.py")
    others = {"__init__.py", "run.sh", library.name}
    assert spy() >= {"tides.py", *others}
    cut(file)
    inode = library.stat().st_ino
    assert built(tmp_path, packages, **spied) == (environment, [["tides"]])
    opened = spy()
    assert "tides.py" in opened and not opened & others
    assert is_right(environment) and library.stat().st_ino == inode


def test_a_package_that_changes_itself_at_every_start_is_all_that_is_sent(
    tmp_path: Path, packages: list[Package], spy: Callable[[], set[str]]
) -> None:
    change = "import os, sys; open(os.path.join(sys._getframe(1).f_locals['sitedir'], 'uses.txt'), 'a').write('x')"
    install(tmp_path / "busy", "busy", {"busy.pth": change + "\n", "uses.txt": "", "busy.py": ""})
    everything = [*packages, *lock([str(tmp_path / "busy")]).packages]
    spied = {"PYTHONPATH": f"{tmp_path / 'spy'}:{ROOT}"}
    environment, _ = built(tmp_path, everything, **spied)
    for _ in range(2):
        spy()
        assert built(tmp_path, everything, **spied) == (environment, [["busy"]])
        assert not spy() & {"__init__.py", "run.sh", "tides.py"}
    assert len(read_manifest(str(environment))) == 4


@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(bytes(path.stat().st_size)), Path.unlink])
def test_a_damaged_manifest_is_written_again(
    tmp_path: Path, packages: list[Package], damage: Callable[[Path], None]
) -> None:
    environment, _ = built(tmp_path, packages)
    damage(environment / stage0.MANIFEST)
    assert built(tmp_path, packages)[0] == environment and is_right(environment)
    assert len(read_manifest(str(environment))) == 3
    assert built(tmp_path, packages) == (environment, [])


def test_an_environment_without_its_python_gets_one(tmp_path: Path, packages: list[Package]) -> None:
    environment, _ = built(tmp_path, packages)
    (environment / "bin" / "python3").unlink()
    (environment / "bin" / "python3").symlink_to("/usr/bin/python-that-was-removed")
    assert built(tmp_path, packages)[0] == environment and is_right(environment)


def test_a_file_with_the_right_size_and_date_and_wrong_content_is_not_passed_on(
    tmp_path: Path, packages: list[Package]
) -> None:
    environment, _ = built(tmp_path, packages[:1])
    (file,) = environment.glob("lib/python*/site-packages/moon/__init__.py")
    flip(file)
    os.utime(file, (DATE, DATE))
    other, asked = built(tmp_path, packages, "another")
    assert "moon" in asked[0] and is_right(other)


# ------------------------------------------------------------------------------------------------- ended in the middle


@pytest.mark.parametrize("end", ["the builder is killed", "the driver is gone"])
def test_what_was_begun_is_gone_on_with(tmp_path: Path, packages: list[Package], end: str) -> None:
    with building(tmp_path, packages) as begun:
        assert begun.hear() == ["send", ["moon", "tides", "msgpack"]]
        begun.send("moon")
        begun.send("tides", most=100)
        (work,) = cache(tmp_path).iterdir()
        while not (manifest := [*work.glob(f"tree-*/{stage0.MANIFEST}")]) or not manifest[0].stat().st_size:
            assert begun.process.poll() is None
        if end == "the builder is killed":
            begun.process.send_signal(signal.SIGKILL)
        else:
            begun.connection.close()
        begun.process.wait(30)
    assert [path.name for path in cache(tmp_path).iterdir()] == [work.name]  # nothing that looks like an environment
    environment, asked = built(tmp_path, packages)
    assert asked == [["tides", "msgpack"]] and is_right(environment)
    assert [*cache(tmp_path).iterdir()] == [environment]


def test_of_two_drivers_one_builds_and_the_other_waits(tmp_path: Path, packages: list[Package]) -> None:
    with building(tmp_path, packages) as first, building(tmp_path, packages) as second:
        told = [first.hear(), second.hear()]
        sending, waiting = (first, second) if told[0][0] == "send" else (second, first)
        assert sorted(told) == [["send", ["moon", "tides", "msgpack"]], ["wait"]]
        for name in ("moon", "tides", "msgpack"):
            sending.send(name)
        environment = sending.end()
        assert waiting.end() == environment and waiting.asked == [] and is_right(environment)
    assert os.listdir(cache(tmp_path)) == [environment.name]


def test_who_waits_goes_on_when_who_builds_is_killed(tmp_path: Path, packages: list[Package]) -> None:
    with building(tmp_path, packages) as first:
        assert first.hear()[0] == "send"
        with building(tmp_path, packages) as second:
            assert second.hear() == ["wait"]
            first.process.kill()
            assert is_right(second.end()) and second.asked == [["moon", "tides", "msgpack"]]


def test_who_waits_ends_with_its_driver(tmp_path: Path, packages: list[Package]) -> None:
    with building(tmp_path, packages) as first:
        assert first.hear()[0] == "send"
        with building(tmp_path, packages) as second:
            assert second.hear() == ["wait"]
        assert second.process.returncode == 0


# -------------------------------------------------------------------------------------------------------- no room


def large(tmp_path: Path, **more: Any) -> list[Package]:
    install(tmp_path / "large", "large", {f"large/{i}": os.urandom(1 << 20) for i in range(8)})
    return [package._replace(**more) for package in lock([str(tmp_path / "large")]).packages]


def test_a_full_disk_is_named_before_anything_is_sent(disk: Path, tmp_path: Path) -> None:
    with building(disk, large(tmp_path)) as found, pytest.raises(Refused) as caught:
        found.run()
    reason = str(caught.value)
    assert reason.startswith(f"the driver's packages can't be kept: {cache(disk)}: No space left on device: 8 MB are")
    assert "free space in one of them, or give the node another `directory`" in reason and found.asked == []
    assert os.listdir(cache(disk)) == []


def test_of_a_disk_that_fills_up_meanwhile_nothing_half_is_left(disk: Path, tmp_path: Path) -> None:
    reason = refused(disk, large(tmp_path, size=0))  # as under a quota
    assert f"{cache(disk)}: No space left on device" in reason
    assert os.listdir(cache(disk)) == [] and os.listdir(disk / "tmp" / f"asparkle-cache-{os.getuid()}") == []


def test_where_the_home_is_full_the_nodes_directory_is_taken(disk: Path, tmp_path: Path) -> None:
    (disk / "home").mkdir()
    with building(tmp_path, large(tmp_path), XDG_CACHE_HOME=str(disk / "home")) as found:
        assert str(found.end()).startswith(f"{tmp_path}/tmp/asparkle-cache-")
    assert os.listdir(disk / "home" / "asparkle") == []


def test_a_cache_that_others_may_write_is_not_trusted(tmp_path: Path, packages: list[Package]) -> None:
    cache(tmp_path).mkdir(parents=True)
    cache(tmp_path).chmod(0o770)
    environment, _ = built(tmp_path, packages)
    assert environment.is_relative_to(tmp_path / "tmp")


# ------------------------------------------------------------------------------------------ from the node's own index


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """The URL of an index that has these packages, and no others."""
    root = tmp_path / "index"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    def serve(*packages: Package) -> str:
        for package in packages:
            wheel = wheel_of(package, root / package.name.lower())
            (wheel.parent / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
        return f"http://127.0.0.1:{server.server_address[1]}/"

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield serve
        server.shutdown()
        thread.join()


def foreign(package: Package) -> Package:
    """As a driver on another kind of machine has it."""
    return package._replace(platform=ELSEWHERE)


UV = shutil.which("uv")


def installers() -> list[Any]:
    missing = pytest.mark.skipif(UV is None, reason="is not installed: pip install 'asparkle[dev]'")
    return [pytest.param("/usr/bin:/bin", id="pip"), pytest.param(os.path.dirname(UV or ""), id="uv", marks=missing)]


@pytest.mark.parametrize("path", installers())
def test_what_was_compiled_for_another_platform_comes_from_an_index(
    tmp_path: Path, packages: list[Package], index: Callable[..., str], path: str
) -> None:
    moon, tides, msgpack = packages
    url = index(msgpack)
    variables = {"PIP_INDEX_URL": url, "UV_DEFAULT_INDEX": url, "PATH": path}
    with building(tmp_path, [moon, tides, foreign(msgpack)], **variables) as found:
        environment = found.end()
    assert found.heard[0] == "install" and is_right(environment)
    assert found.asked == [*([["pip"]] if "uv" not in path and path == "/usr/bin:/bin" else []), ["moon", "tides"]]
    assert os.listdir(environment / "bin") == ["python3"]
    assert built(tmp_path, [moon, tides, foreign(msgpack)], **variables) == (environment, [])
    other, asked = built(tmp_path, [foreign(msgpack)], "another")  # no index any more, and none is needed
    assert asked == [] and run(other, "import msgpack; print(msgpack.packb(1))") == "b'\\x01'"
    native, asked = built(tmp_path, [msgpack], "native")  # which would not be the same files
    assert asked == [["msgpack"]]


@pytest.mark.parametrize("path", installers())
def test_packages_that_have_one_file_do_not_change_each_other_for_ever(
    tmp_path: Path, index: Callable[..., str], path: str
) -> None:
    for name in ("left", "right"):
        install(tmp_path / name, name, {f"{name}.py": "SIDE = 1", "tests.py": f"of = {name!r}"})
    packages = [foreign(lock([str(tmp_path / name)]).packages[0]) for name in ("left", "right")]
    url = index(*packages)
    variables = {"PIP_INDEX_URL": url, "UV_DEFAULT_INDEX": url, "PATH": path}
    environment, _ = built(tmp_path, packages, **variables)
    for name in ("left", "right"):
        (file,) = environment.glob(f"lib/python*/site-packages/{name}.py")
        cut(file)
        assert built(tmp_path, packages, **variables)[0] == environment and file.read_text() == "SIDE = 1"
        assert built(tmp_path, packages, PIP_NO_INDEX="1") == (environment, [])  # nothing is wanted any more


@pytest.mark.parametrize("path", installers())
def test_a_package_that_can_not_be_had_is_named_with_what_helps(
    tmp_path: Path, packages: list[Package], index: Callable[..., str], path: str
) -> None:
    moon, tides, msgpack = packages
    url = index(msgpack)
    reason = refused(tmp_path, [foreign(msgpack), foreign(moon)], PIP_INDEX_URL=url, UV_DEFAULT_INDEX=url, PATH=path)
    assert reason.startswith(f"it can't use the driver's moon 1.5, which is for {ELSEWHERE}, and this node is {HERE}, ")
    assert "does not get it from an index:" in reason and "moon==1.5" in reason and "PIP_INDEX_URL" in reason
    assert os.listdir(cache(tmp_path)) == []


def test_condas_compiled_packages_come_from_an_index(
    tmp_path: Path, packages: list[Package], index: Callable[..., str]
) -> None:
    moon, tides, msgpack = packages
    environment, _ = built(tmp_path, [moon, tides, msgpack._replace(portable=False)], PIP_INDEX_URL=index(msgpack))
    assert is_right(environment)
    reason = refused(tmp_path, [moon._replace(portable=False)], PIP_INDEX_URL=index())
    assert reason.startswith(
        "it can't use the driver's moon 1.5, which is conda's, and uses libraries that only conda has"
    )


def test_a_driver_that_is_gone_ends_pip_too(tmp_path: Path, packages: list[Package]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with building(tmp_path, [foreign(packages[0])], PIP_INDEX_URL=url, PIP_TIMEOUT="600") as found:
            assert [found.hear(), found.hear()] == [["install", ["moon"]], ["send", ["pip"]]]
            found.send("pip")
            silent.settimeout(60)
            connection, _ = silent.accept()  # pip waits for an answer that never comes
        assert found.process.returncode == 0
        with connection:
            connection.settimeout(30)
            while connection.recv(1 << 16):  # it has let go
                pass
