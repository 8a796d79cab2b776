"""The driver's installed packages on a node: a virtual environment in the node's cache, built when it is not there.

It runs on the node as a process of its own, which the agent starts and the driver talks to, over a channel that the
agent carries.  Messages are msgpack arrays with their length in front::

    driver    ["build", request]        the lock, where the node's files go, and whose packages they are
    node      ["wait"]                  another driver has it built just now
    node      ["send", number, names]   packages of which it wants wheels, and no others any more
    driver    ["wheel", number, name, its file's name], ["data", number, bytes]..., ["end", number];
              or ["lacks", number, name]
    node      ["install", names]        packages that it gets from its index
    node      ["built", environment] or ["refused", reason], and that is the end

The environment's directory is beside asparkle's own code in the node's cache (see `stage0`), and is kept there by the
same rules: it appears whole, whoever uses it holds a lock on its manifest, and it is removed when nobody has used it
for 30 days.  Each line of the manifest has a package and its files.  What other environments have of the same packages
is linked instead of sent, and so is what was there when building one was interrupted.  Where files of an environment
have changed, their packages are built again and put in; the others stay where they are, and are not even read.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import traceback
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from asparkle.backends.ssh import stage0
from asparkle.backends.ssh.archive import canonical
from asparkle.plugins import Platform, Unpacker, pack

DATE: Final = 315532800
"""When all files were changed last: 1980.  One with another date is not as it was."""

_CHUNK: Final = 1 << 20
_PAUSE: Final = 0.1  # seconds

File: TypeAlias = tuple[str, int, str]  # path below the environment, size, SHA-256
Manifest: TypeAlias = dict[str, list[File]]  # by `key_of` a package


class Gone(Exception):
    """The driver, or the agent, is not there any more."""


class Wanted(NamedTuple):
    """A package of the lock."""

    name: str
    version: str
    id: str
    size: int  # bytes, of its files on the driver
    platform: list[Any] | None  # that its compiled modules are for
    portable: bool  # whether its files are all that it needs


class Request(NamedTuple):
    """What is to be built."""

    lock: str  # id
    packages: tuple[Wanted, ...]
    directory: str  # for the node's files

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Request:
        return cls(plain["lock"], tuple(Wanted(*each) for each in plain["packages"]), plain["directory"])


class Driver:
    """The connection to it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._unpacker = Unpacker()
        self._heard: list[list[Any]] = []
        self._asked = 0

    def ask(self, names: Sequence[str]) -> None:
        """For wheels; the answers to what was asked before are not heard any more."""
        self._asked += 1
        self.tell("send", self._asked, names)

    def answer(self) -> list[Any]:
        while True:
            kind, number, *fields = self.hear()
            if number == self._asked:
                return [kind, *fields]

    def tell(self, *message: Any) -> None:
        try:
            self._connection.sendall(pack(message))
        except OSError:
            raise Gone from None

    def hear(self) -> list[Any]:
        while not self._heard:
            try:
                data = self._connection.recv(_CHUNK)
            except OSError:
                data = b""
            if not data:
                raise Gone
            self._heard += self._unpacker.feed(data)
        return self._heard.pop(0)

    def check(self, wait: float = 0.0, *others: Any) -> None:
        """Wait a moment, or until one of ``others`` can be read.  Raises Gone."""
        readable, _, _ = select.select([self._connection, *others], [], [], wait)
        if self._connection in readable and not self._connection.recv(1, socket.MSG_PEEK):
            raise Gone


def main(fd: int) -> None:
    """The whole life of the process.  When the driver is gone, it leaves what it has done to the next one."""
    driver = Driver(socket.socket(fileno=fd))
    with contextlib.suppress(Gone):
        try:
            kind, request = driver.hear()
            assert kind == "build"
            driver.tell("built", built(Request.of(request), driver))
        except stage0.Refused as error:
            driver.tell("refused", str(error))
        except Exception:
            driver.tell("refused", f"its environment can't be built:\n{traceback.format_exc()}")


def built(request: Request, driver: Driver) -> dict[str, Any]:
    """Where the environment is, then, and what its Python has on its path."""
    told = [request.lock, sys.version_info[:2], Platform.here(), base_python()]
    name = f"env-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:40]}"
    roots = [*stage0.caches(request.directory)]
    path = stage0.found(roots, name, lambda path: is_ready(path, request))
    if not path:
        path = stage0.kept(roots, "the driver's packages", lambda root: build(root, name, request, driver))
    return described(path)


def described(path: str) -> dict[str, Any]:
    """An environment; its Python has looked for its packages itself, as ``.pth`` files may have a say in that."""
    python = python_in(path)
    program = "import json, sys; print(json.dumps([p for p in sys.path if p]))"
    try:
        done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
    except (OSError, ValueError, LookupError, subprocess.CalledProcessError) as error:
        words = (getattr(error, "stderr", None) or str(error)).strip()
        raise stage0.Refused(f"the Python of the environment that was built in {path} does not run: {words}") from error
    return {"manifest": os.path.join(path, stage0.MANIFEST), "python": python, "path": found}


# -------------------------------------------------------------------------------------------------- what there is


def is_ready(path: str, request: Request) -> bool:
    """Whether an environment has all packages, and their files are as they were."""
    return has_all(path, intact(path), request)


def has_all(path: str, packages: Manifest, request: Request) -> bool:
    return os.path.exists(python_in(path)) and all(key_of(package) in packages for package in request.packages)


def intact(path: str) -> Manifest:
    """The packages of an environment whose files are all as they were."""
    return {key: files for key, files in read_manifest(path).items() if all(is_as_it_was(path, file) for file in files)}


def fits(package: Wanted) -> bool:
    """Whether the driver's files can be used here."""
    platform = package.platform
    return package.portable and (platform is None or Platform.here().loads(Platform.of(platform)))


def key_of(package: Wanted) -> str:
    """A package's name in a manifest: the same for the same files, also where nodes of several kinds share a home."""
    return package.id if fits(package) else f"{package.id} {Platform.here()}"


def is_as_it_was(root: str, file: File) -> bool:
    """By size and date: nobody writes there."""
    try:
        found = os.lstat(os.path.join(root, file[0]))
    except OSError:
        return False
    return found.st_size == file[1] and found.st_mtime == DATE


def read_manifest(path: str) -> Manifest:
    """Nothing of what can't be read: it is built again."""
    manifest: Manifest = {}
    with (
        contextlib.suppress(OSError, ValueError, TypeError),
        open(os.path.join(path, stage0.MANIFEST), encoding="utf-8") as lines,
    ):
        for line in lines:
            package, files = json.loads(line)
            manifest[package] = [(str(name), int(size), str(digest)) for name, size, digest in files]
    return manifest


def python_in(path: str) -> str:
    return os.path.join(path, "bin", "python3")


def base_python() -> str:
    """This Python, without the virtual environment that it may be in."""
    return str(getattr(sys, "_base_executable", sys.executable))


# -------------------------------------------------------------------------------------------------------- building


def build(root: str, name: str, request: Request, driver: Driver) -> str:
    """The environment in a cache: whole, or not there.  Raises OSError."""
    path = os.path.join(root, name)
    work = os.path.join(root, stage0.UNPACKING + name)
    with alone_in(work, driver):
        try:
            kept = intact(path) if (there := stage0.in_use(path)) else {}
            if not (there and has_all(path, kept, request)):  # it may have been built while this one waited
                tree = Tree(work)
                tree.fill(request, driver, kept, sources(path, work, tree))
                os.sync()  # or a power failure could leave empty files of the right length
                put(tree, path, kept)
                stage0.in_use(path)
        except BaseException as error:
            if not isinstance(error, Gone):
                shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(work, ignore_errors=True)
    return path


@contextlib.contextmanager
def alone_in(work: str, driver: Driver) -> Iterator[None]:
    """With a directory in which nobody else builds, now: of several drivers, one builds, and the others wait."""
    said = False
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkdir(work, 0o700)
        try:
            fd = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not said:
                    driver.tell("wait")
                    said = True
                driver.check(_PAUSE)
                continue
            except OSError:  # a file system without locks
                pass
            if not is_at(work, fd):  # whoever had it has removed it
                continue
            yield
            return
        finally:
            os.close(fd)


def is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except OSError:
        return False


def sources(path: str, work: str, tree: Tree) -> list[str]:
    """Where some of the packages may be: what is damaged, other environments, and what was begun and not ended."""
    beside = [os.path.join(root, name) for root in (os.path.dirname(path), work) for name in os.listdir(root)]
    begun = [each for each in beside if os.path.basename(each).startswith(("env-", "tree-"))]
    return sorted({path, *begun} - {tree.path}, key=lambda each: each != path)


def put(tree: Tree, path: str, kept: Manifest) -> None:
    """Move it to where it belongs.  Beside packages that are kept there it goes file by file: they may be in use."""
    if not kept:
        try:
            os.rename(tree.path, path)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    os.utime(path)  # it is not old any more
    theirs = {file[0]: file for files in kept.values() for file in files}  # of two packages' file there is one only
    new = {key: [theirs.get(file[0], file) for file in files] for key, files in tree.manifest.items()}
    for file in (file for files in new.values() for file in files):
        if not is_unchanged(path, file):
            replace(tree.path, path, file[0])
    Path(tree.path, stage0.MANIFEST).write_bytes(b"")
    for key, files in (new | kept).items():
        tree.record(key, files)
    for own in ("pyvenv.cfg", os.path.join("bin", "python3"), stage0.MANIFEST):
        replace(tree.path, path, own)


def replace(tree: str, path: str, name: str) -> None:
    target = os.path.join(path, name)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.replace(os.path.join(tree, name), target)


class Tree:
    """A virtual environment that is being built."""

    def __init__(self, work: str) -> None:
        self.path = tempfile.mkdtemp(prefix="tree-", dir=work)
        self.manifest: Manifest = {}
        self._work = work
        self._site = sysconfig.get_path("purelib", "venv", {"base": self.path, "installed_base": self.path})
        os.makedirs(self._site)
        os.makedirs(os.path.join(self.path, "bin"))
        Path(self.path, stage0.MANIFEST).touch()
        os.symlink(base_python(), python_in(self.path))
        self._configure(alone=True)  # while pip and uv look at it, they see nothing else

    def _configure(self, *, alone: bool) -> None:
        """Behind its packages are those of the node's Python, unless that is in an environment of its own."""
        behind = "false" if alone or sys.prefix != sys.base_prefix else "true"
        home = os.path.dirname(base_python())
        Path(self.path, "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = {behind}\n")

    def fill(self, request: Request, driver: Driver, kept: Manifest, sources: Iterable[str]) -> None:
        """Put all packages in that are not kept.  Raises OSError, and Refused for a package that can't be had."""
        missing = {key: package for package in request.packages if (key := key_of(package)) not in kept}
        for source in sources:
            for key, files in read_manifest(source).items() if missing else ():
                if key in missing and self._link(source, files):
                    self.record(key, files)
                    del missing[key]
        self._need(sum(package.size for package in missing.values()))
        fitting = [package for package in missing.values() if fits(package)]
        other = [package for package in missing.values() if not fits(package)]
        if other:
            driver.tell("install", [package.name for package in other])
            self._install(other, driver)
        if fitting:
            self._unpack_all(fitting, driver)
        self._configure(alone=False)

    def _need(self, size: int) -> None:
        free = shutil.disk_usage(self._work).free
        if free < size:
            raise OSError(
                errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {size >> 20} MB are needed, {free >> 20} MB free"
            )

    def record(self, key: str, files: Sequence[File]) -> None:
        self.manifest[key] = [*files]
        with open(os.path.join(self.path, stage0.MANIFEST), "a", encoding="utf-8") as manifest:
            manifest.write(json.dumps([key, files]) + "\n")

    # ------------------------------------------------------------------------- from the node itself

    def _link(self, source: str, files: Sequence[File]) -> bool:
        """Take a package's files from another environment, if they are all as they were, to the last byte."""
        targets = [os.path.join(self.path, name) for name, _, _ in files]
        if any(map(os.path.lexists, targets)) or not all(is_as_it_was(source, file) for file in files):
            return False  # without a look into any of them
        if not all(is_unchanged(source, file) for file in files):
            return False
        for (name, _, _), target in zip(files, targets, strict=True):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            try:
                os.link(os.path.join(source, name), target)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                shutil.copy2(os.path.join(source, name), target)  # a file system without links, or with no more
        return True

    # ------------------------------------------------------------------------- from the driver

    def _unpack_all(self, packages: Sequence[Wanted], driver: Driver) -> None:
        keys = {package.name: key_of(package) for package in packages}
        for name, wheel in self._sent([*keys], driver):
            if wheel is None:
                raise stage0.Refused(f"the driver does not have {name} any more; start the application again")
            self._unpack(keys[name], wheel)

    def _sent(self, names: Sequence[str], driver: Driver) -> Iterator[tuple[str, str | None]]:
        """Packages' wheels, one after the other: files that are removed when the next one is asked for."""
        driver.ask(names)
        for _ in names:
            kind, name, *rest = driver.answer()
            if kind == "lacks":
                yield name, None
                continue
            wheel = os.path.join(self._work, rest[0])
            with open(wheel, "wb") as file:
                while (message := driver.answer())[0] == "data":
                    file.write(message[1])
            yield name, wheel
            os.unlink(wheel)

    def _unpack(self, key: str, wheel: str) -> None:
        files = []
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                target = self._place(info.filename)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                if not os.path.lexists(target):  # or two packages have one file, which is the same on the driver, too
                    with archive.open(info) as source, open(target, "wb") as file:
                        shutil.copyfileobj(source, file, _CHUNK)
                    if info.external_attr >> 16 & 0o100:
                        os.chmod(target, 0o755)
                files.append(self._dated(target))
        self.record(key, files)

    def _dated(self, target: str) -> File:
        os.utime(target, (DATE, DATE))
        return os.path.relpath(target, self.path), os.path.getsize(target), digest_of(target)

    def _place(self, name: str) -> str:
        """Where a file of a wheel belongs."""
        top, _, rest = name.partition("/")
        if top.endswith(".data") and rest.startswith("data/"):
            return os.path.join(self.path, rest.removeprefix("data/"))
        return os.path.join(self._site, name)

    # ------------------------------------------------------------------------- from an index

    def _install(self, packages: Sequence[Wanted], driver: Driver) -> None:
        """By uv where there is one; else by pip, the driver's own or the node's."""
        python = python_in(self.path)
        if uv := shutil.which("uv", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_USERS])):
            self._install_by([uv, "pip", "install", "--python", python, *_UV], packages, driver)
            return
        for _, wheel in self._sent(["pip"], driver):
            if wheel is not None:
                self._install_by([python, f"{wheel}/pip", "install", *_PIP], packages, driver)
            elif find_spec("pip"):
                self._install_by([sys.executable, "-m", "pip", "--python", python, "install", *_PIP], packages, driver)
            else:
                remedy = "install pip where the driver runs, or uv or pip on the node"
                raise stage0.Refused(f"{cannot(packages[0])}; and there is neither uv nor pip: {remedy}")

    def _install_by(self, command: Sequence[str], packages: Sequence[Wanted], driver: Driver) -> None:
        if run([*command, *map(pinned, packages)], driver):
            for package in packages:  # which one is it?
                if words := run([*command, pinned(package)], driver):
                    remedy = (
                        "let the node reach an index that has it (PIP_INDEX_URL, or UV_INDEX_URL for uv, in its "
                        "`environment` in a file of nodes), or give it the package by hand and leave its `env` empty"
                    )
                    raise stage0.Refused(f"{cannot(package)}, and does not get it from an index: {words}; {remedy}")
        keys = {canonical(package.name): key_of(package) for package in packages}
        for found in distributions(path=[self._site]):
            if key := keys.get(canonical(found.name)):
                paths = [os.path.normpath(str(found.locate_file(file))) for file in found.files or ()]
                self.record(key, [self._dated(path) for path in paths if self._stays(path)])
        for script in {*os.listdir(os.path.join(self.path, "bin"))} - {"python3"}:
            os.unlink(os.path.join(self.path, "bin", script))

    def _stays(self, path: str) -> bool:
        """Whether it is a file that is wanted: scripts name the directory in which this is built."""
        return os.path.isfile(path) and os.path.dirname(path) != os.path.join(self.path, "bin")


_USERS: Final = tuple(map(os.path.expanduser, ("~/.local/bin", "~/.cargo/bin")))  # ssh may have no PATH to these
_UV: Final = ("--no-deps", "--link-mode=copy", "--no-progress", "--quiet")
_PIP: Final = ("--no-deps", "--no-compile", "--no-input", "--retries=1", "--disable-pip-version-check", "--quiet")


def pinned(package: Wanted) -> str:
    return f"{package.name}=={package.version}"


def cannot(package: Wanted) -> str:
    """Why an index has to have a package."""
    if not package.portable:
        why = "is conda's, and uses libraries that only conda has"
    else:
        why = f"is for {Platform.of(package.platform or ())}, and this node is {Platform.here()}"
    return f"it can't use the driver's {package.name} {package.version}, which {why}"


def run(command: Sequence[str], driver: Driver) -> str:
    """Run a program to its end, or that of the driver; what it says if it fails."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0
    )
    words = b""
    assert process.stdout is not None
    try:
        with process.stdout as output:
            while True:
                driver.check(1.0, output)
                if select.select([output], [], [], 0)[0]:
                    data = os.read(output.fileno(), _CHUNK)
                    words = (words + data)[-2000:]
                    if not data:
                        break
        status = process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return "" if status == 0 else " ".join(words.decode(errors="replace").split()) or f"exit status {status}"


def is_unchanged(root: str, file: File) -> bool:
    try:
        return is_as_it_was(root, file) and digest_of(os.path.join(root, file[0])) == file[2]
    except OSError:
        return False


def digest_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
