"""Files that an application brings along: where they lie, and how driver and tasks find them.

They are copied once, when they are added, into a directory of the application that all executors of this host
see, and that goes with it.  Each appears there under its own name in one step, so a task finds it whole or not
at all.  Modules (`SparkContext.addPyFile`) are found through the driver's ``sys.path``, which workers are sent
(`Shipping`), but for what other contexts of the process have put there.  Executors of other hosts bring what was
added to a directory of theirs, before their next task (`worker.provisions`).
"""

from __future__ import annotations

import importlib
import os
import stat
import sys
import threading
from typing import TYPE_CHECKING, Final

from asparkle.core.directories import added_files, files_below
from asparkle.core.errors import ArgumentError, ContextError, CorruptInput, InputNotFound, MissingDependency
from asparkle.core.filesystems import CHUNK, LOCAL, FileSystem, Options, file_system, is_remote
from asparkle.core.protocol import AddedFile, FileRef
from asparkle.core.taskcontext import TaskContext

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES: Final = (".zip", ".egg", ".jar")
"""Archives that Python imports from where they lie."""

_ARCHIVES: Final = (".zip", ".jar", ".tar", ".tar.gz", ".tgz")


class SparkFiles:
    """Where the files are that `SparkContext.addFile`, `addPyFile` and `addArchive` have added.

    In tasks and in the driver alike.  There are no instances.
    """

    def __init__(self) -> None:
        raise NotImplementedError("SparkFiles has class methods only: SparkFiles.get(name)")

    @classmethod
    def get(cls, filename: str) -> str:
        """The absolute path of an added file, directory or archive, by its name; it need not be there."""
        return os.path.abspath(os.path.join(cls.getRootDirectory(), filename))

    @classmethod
    def getRootDirectory(cls) -> str:
        """The directory that has all added files.

        Raises ContextError in a driver that has no running context, or several.
        """
        context = TaskContext.get()
        if context is not None:
            return files_below(context._environment.worker.app.directories)
        roots = list(added_files.values())
        if len(roots) != 1:
            problem = "no SparkContext is running" if not roots else f"{len(roots)} contexts are running"
            raise ContextError(f"SparkFiles: {problem} in this process; ask inside a task, whose context is known")
        return roots[0]


class AddedFiles:
    """The driver's list of one context.  Methods that copy block, and may be called from different threads."""

    def __init__(self, root: str, options: Options) -> None:
        self.root = root
        self.version = 0  # of what can be imported
        self._options = options
        self._lock = threading.Lock()
        self._files: dict[str, None] = {}
        self._archives: dict[str, None] = {}
        self._paths: list[str] = []
        self._names: dict[str, None] = {}
        self._sent: dict[str, AddedFile] = {}  # what other hosts are told, by name

    @property
    def files(self) -> list[str]:
        return list(self._files)

    @property
    def archives(self) -> list[str]:
        return list(self._archives)

    def add_file(self, path: str, recursive: bool = False) -> str:
        """Copy a file, or with ``recursive`` a directory, and return its name.  One that is there already, of the
        same path, is left alone.

        Raises InputNotFound, and ArgumentError for a directory, for what is neither, and for a name that another file
        has.
        """
        with self._lock:
            fs, source = file_system(path, self._options)
            name = _name_of(source, path)
            try:
                is_directory = fs.status(source).is_directory
            except FileNotFoundError:
                raise InputNotFound("no such file or directory", path) from None
            if is_directory and not recursive:
                raise ArgumentError(f"addFile: {path!r} is a directory: add it with recursive=True")
            url = path if is_remote(path) else fs.url(source) + ("/" if is_directory else "")
            if url not in self._files:
                self._install(name, path, lambda target: _copy(fs, source, target, is_directory))
                self._files[url] = None
            return name

    def add_module(self, path: str) -> None:
        """Add a file that can be imported from: a module, or an archive of modules."""
        name = self.add_file(path)
        with self._lock:
            self._import_from(self.root)
            if os.path.splitext(name)[1].lower() in PACKAGES:
                self._import_from(os.path.join(self.root, name))
            self.version += 1
            importlib.invalidate_caches()

    def _import_from(self, directory: str) -> None:
        if directory not in self._paths:
            self._paths.append(directory)
            sys.path.insert(1, directory)

    def add_archive(self, path: str) -> None:
        """Unpack an archive into a directory of its name, or of the name behind ``#``.

        Raises InputNotFound, CorruptInput, and ArgumentError for what is no archive.
        """
        with self._lock:
            place, _, name = path.partition("#")
            fs, source = file_system(place, self._options)
            if not source.lower().endswith(_ARCHIVES):
                raise ArgumentError(f"addArchive: {path!r}: known are {', '.join(_ARCHIVES)}")
            url = path if is_remote(path) else f"{fs.url(source)}#{name}".rstrip("#")
            if url in self._archives:
                return
            name = _name_of(name or source, path)

            def unpack(target: str) -> None:
                packed = f"{target}{os.path.splitext(source)[1]}"
                try:
                    _copy(fs, source, packed, False)
                    _unpack(packed, source, target)
                except FileNotFoundError:
                    raise InputNotFound("no such file", path) from None
                finally:
                    LOCAL.remove(packed)

            self._install(name, path, unpack)
            self._archives[url] = None

    def _install(self, name: str, path: str, make: Callable[[str], None]) -> None:
        """Make what will be ``name``, and give it that name; or see that it is what has the name already."""
        incoming = os.path.join(os.path.dirname(self.root), "incoming", os.urandom(8).hex())
        os.makedirs(os.path.dirname(incoming), mode=0o700, exist_ok=True)
        target = os.path.join(self.root, name)
        try:
            make(incoming)
            if os.path.lexists(target):
                if not _same(incoming, target):
                    raise ArgumentError(f"{path!r}: another file was added under the name {name!r}; rename one")
                return
            os.rename(incoming, target)
            self._names[name] = None
        finally:
            LOCAL.remove(incoming)

    @property
    def imports(self) -> list[str]:
        """What modules are imported from, the first first: names, or, for the directory that has all, ""."""
        return [path[len(self.root) + 1 :] for path in reversed(self._paths)]

    def for_other_hosts(self) -> list[AddedFile]:
        """All that was added, as files: a directory is packed, once."""
        with self._lock:
            for name in self._names:
                if name not in self._sent:
                    self._sent[name] = self._as_file(name, os.path.join(self.root, name))
            return list(self._sent.values())

    def _as_file(self, name: str, path: str) -> AddedFile:
        if not os.path.isdir(path):
            status = os.stat(path)
            return AddedFile(name, FileRef(path, status.st_size), stat.S_IMODE(status.st_mode))
        from asparkle.core.bundles import bundle, everything_in

        packed = os.path.join(os.path.dirname(self.root), "data", f"added-{len(self._sent)}")
        return AddedFile(name, bundle(everything_in(path, name), packed), None)

    def close(self) -> None:
        """Take what was added to ``sys.path`` away again."""
        with self._lock:
            for directory in self._paths:
                if directory in sys.path:
                    sys.path.remove(directory)
            self._paths.clear()


def _name_of(source: str, path: str) -> str:
    name = os.path.basename(source.partition("?")[0].rstrip("/") if "://" in source else source.rstrip("/"))
    if name in ("", ".", ".."):
        raise ArgumentError(f"{path!r} has no name under which it could be added")
    return name


def _copy(fs: FileSystem, source: str, target: str, is_directory: bool, above: tuple[str, ...] = ()) -> None:
    import shutil

    if is_directory:
        real = os.path.realpath(source) if fs is LOCAL else source
        if real in above:
            raise ArgumentError(f"{source!r} is a link to {real!r}, in which it lies: remove it")
        try:
            children = fs.children(source)
        except FileNotFoundError as error:
            raise InputNotFound("a link to nothing", error.filename or source) from error
        os.mkdir(target)
        for path, _, is_directory in children:
            _copy(fs, path, os.path.join(target, os.path.basename(path)), is_directory, (*above, real))
        return
    if (
        fs is LOCAL and os.path.exists(source) and not os.path.isfile(source)
    ):  # to read a pipe is to wait for who writes to it
        raise ArgumentError(f"{source!r} is neither a file nor a directory")
    with fs.open(source) as read, open(target, "wb") as write:
        shutil.copyfileobj(read, write, CHUNK)
    if fs is LOCAL:
        shutil.copymode(source, target)


def _unpack(packed: str, source: str, target: str) -> None:
    import lzma
    import tarfile
    import zipfile
    import zlib

    os.mkdir(target)
    try:
        if source.lower().endswith((".zip", ".jar")):
            with zipfile.ZipFile(packed) as archive:
                archive.extractall(target)
        else:
            if not hasattr(tarfile, "data_filter"):
                raise MissingDependency(f"{source!r}: unpacking tar files safely takes Python 3.11.4 or later")
            with tarfile.open(packed) as archive_:
                archive_.extractall(target, filter="data")
                assert archive_.fileobj is not None
                while archive_.fileobj.read(CHUNK):  # behind the last file, at the end, is gzip's checksum
                    pass
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not the archive's
            raise
        raise CorruptInput(f"it can't be unpacked: {error}", source) from error


def _same(a: str, b: str) -> bool:
    """Whether two files, or directories with all that is in them, have the same content."""
    import filecmp

    if os.path.isdir(a) != os.path.isdir(b):
        return False
    if not os.path.isdir(a):
        return filecmp.cmp(a, b, shallow=False)
    names = sorted(os.listdir(a))
    return names == sorted(os.listdir(b)) and all(_same(os.path.join(a, n), os.path.join(b, n)) for n in names)
