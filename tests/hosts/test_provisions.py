"""What the driver has, and workers of other hosts need: modules that lie next to the script, and added files."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import stat
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apart import Apart, clusters
from waiting import wait_until

from asparkle import SparkConf, SparkContext, SparkFiles
from asparkle.core import localmodules
from asparkle.core.errors import ContextStopped, JobCancelled, JobFailed
from asparkle.core.localmodules import LocalModules
from asparkle.core.platforms import Platform
from asparkle.core.protocol import TakeModule

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory on ``sys.path``, where the driver's script would be: no worker sees anything below it."""
    directory = tmp_path_factory.mktemp("script")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        yield directory


def context(hosts: str = "2x2", **settings: object) -> SparkContext:
    conf = SparkConf().setMaster(f"apart://{hosts}")
    for name, value in settings.items():
        conf.set(name.replace("__", "."), str(value))
    return SparkContext(conf=conf, plugins=[Apart()])


@pytest.fixture(scope="module")
def shared(script: Path) -> Iterator[SparkContext]:
    with context() as sc:
        yield sc


@pytest.fixture
def sc(shared: SparkContext) -> SparkContext:
    """Two hosts with two workers each; one context for all tests that do not spoil it: their modules differ in name."""
    return shared


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that workers ask for."""
    names: list[str] = []
    original = LocalModules.find

    def find(self: LocalModules, name: str, missing: bool = True) -> TakeModule:
        if name.startswith("p_"):  # not this module itself
            names.append(name)
        return original(self, name, missing)

    monkeypatch.setattr(LocalModules, "find", find)
    return names


def write(directory: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content)


def everywhere(sc: SparkContext, function: Callable[[], Any]) -> list[Any]:
    """What ``function`` returns on each worker of two hosts."""

    def run(index: int, elements: Any) -> Any:
        from asparkle import BarrierTaskContext

        BarrierTaskContext.get().barrier()  # so each has one of the tasks
        return [function()]

    return sc.parallelize(range(4), 4).barrier().mapPartitionsWithIndex(run).collect()


def imported(name: str) -> Callable[[], str]:
    """A function that imports a module, and returns where it lies."""

    def function() -> str:
        module = importlib.import_module(name)
        return module.__file__ or "nowhere"

    return function


# ------------------------------------------------------ with a context of their own: first, as there is one at a time


def test_a_worker_that_comes_later_finds_it_there(script, asked):
    write(script, {"p_later.py": ""})
    with context("1x1") as sc:
        import p_later  # noqa: F401

        first = sc.parallelize([1], 1).map(lambda x: (imported("p_later")(), os.getpid())).collect()
        assert asked == ["p_later"]
        os.kill(first[0][1], signal.SIGKILL)
        later = sc.parallelize([1], 1).map(lambda x: (imported("p_later")(), os.getpid())).collect()
        assert (later[0][0], later[0][1] != first[0][1]) == (first[0][0], True)
        assert asked == ["p_later"]


def test_what_is_added_is_found_where_it_was_not(script, tmp_path, asked):
    write(tmp_path, {"p_added.py": "X = 1\n"})

    def is_there():
        return importlib.util.find_spec("p_added") is not None

    with context() as sc:
        assert everywhere(sc, is_there) == [False] * 4
        sc.addPyFile(tmp_path / "p_added.py")
        assert everywhere(sc, is_there) == [True] * 4


def test_what_can_not_be_brought_is_imported_from_where_the_host_has_it(script, monkeypatch, capfd):
    """And the log says so."""
    original = LocalModules.find

    def find(self, name, missing=True):
        no = TakeModule(-1, reason="it is too large", refused=True)
        return no if name == "p_too_large" else original(self, name, missing)

    monkeypatch.setattr(LocalModules, "find", find)

    def function(x):
        install({"p_too_large.py": "X = 1\n"})
        return importlib.import_module("p_too_large").X

    with context("1x1") as sc:
        assert sc.parallelize([1], 1).map(function).collect() == [1]
    assert "'p_too_large' can't be brought to host 'h0': it is too large" in capfd.readouterr().err


def test_a_driver_that_does_not_answer_is_waited_for_for_a_bounded_time(script, monkeypatch):
    goes_on = threading.Event()
    original = LocalModules.find

    def find(self, name, missing=True):
        if name == "p_slow":
            goes_on.wait()
        return original(self, name, missing)

    monkeypatch.setattr(LocalModules, "find", find)
    write(script, {"p_slow.py": ""})
    try:
        with context("1x1", spark__network__timeout="1s", spark__task__maxFailures="1") as sc:
            with pytest.raises(
                JobFailed, match="'p_slow' can't be brought to host 'h0': the driver did not say in 1 s"
            ):
                sc.parallelize([1], 1).map(lambda x: imported("p_slow")()).collect()
            goes_on.set()
            assert sc.parallelize([1], 1).map(lambda x: imported("p_slow")()).first().endswith("p_slow.py")
    finally:
        goes_on.set()


def test_a_job_that_is_cancelled_while_a_module_is_brought(script, monkeypatch):
    begun, goes_on = threading.Event(), threading.Event()
    original = LocalModules.find

    def find(self, name, missing=True):
        begun.set()
        goes_on.wait()
        return original(self, name, missing)

    monkeypatch.setattr(LocalModules, "find", find)
    write(script, {"p_killed.py": "X = 1\n"})
    errors = []
    try:
        with context("1x1") as sc:

            def job():
                with pytest.raises((JobCancelled, JobFailed)) as raised:
                    sc.setJobGroup("waits", "")
                    sc.parallelize([1], 1).map(lambda x: importlib.import_module("p_killed").X).collect()
                errors.append(raised.value)

            thread = threading.Thread(target=job)
            thread.start()
            begun.wait(60)
            sc.cancelJobGroup("waits")
            thread.join(60)
            assert len(errors) == 1
            goes_on.set()
            assert sc.parallelize([1], 1).map(lambda x: importlib.import_module("p_killed").X).collect() == [1]
    finally:
        goes_on.set()


def test_a_context_that_stops_while_a_module_is_brought_leaves_nothing(script, monkeypatch):
    begun, goes_on = threading.Event(), threading.Event()

    def find(self, name, missing=True):
        begun.set()
        goes_on.wait()
        return TakeModule(-1)

    monkeypatch.setattr(LocalModules, "find", find)
    sc = context("1x1")
    errors = []

    def job():
        with pytest.raises(ContextStopped) as raised:
            sc.parallelize([1], 1).map(lambda x: importlib.import_module("p_stops").X).collect()
        errors.append(raised.value)
        goes_on.set()

    thread = threading.Thread(target=job)
    thread.start()
    try:
        begun.wait(60)
        sc.stop()
        thread.join(60)
    finally:
        goes_on.set()
    assert len(errors) == 1
    assert not os.path.exists(clusters[-1].root)


def test_the_root_has_what_was_added_and_nothing_else(script, tmp_path):
    write(tmp_path, {"words.txt": "tiger", "p_listed.py": "", "tree/a.txt": "a"})
    with context() as sc:
        assert everywhere(sc, lambda: os.listdir(SparkFiles.getRootDirectory())) == [[]] * 4
        sc.addFile(tmp_path / "words.txt")
        sc.addFile(tmp_path / "tree", recursive=True)
        sc.addPyFile(tmp_path / "p_listed.py")
        import p_listed  # noqa: F401 - the driver leaves its __pycache__ there

        names = ["p_listed.py", "tree", "words.txt"]
        assert everywhere(sc, lambda: sorted(os.listdir(SparkFiles.getRootDirectory()))) == [names] * 4


def test_a_file_that_is_added_during_a_job_is_there_for_its_next_task(script, tmp_path):
    write(tmp_path, {"late.txt": "late"})
    marks = tmp_path / "marks"
    marks.mkdir()

    def function(x):
        if x == 0:
            Path(marks, "begun").touch()
            while not Path(marks, "added").exists():
                threading.Event().wait(0.01)
            return ""
        return Path(SparkFiles.get("late.txt")).read_text()

    with context("1x1") as sc:
        result = []
        thread = threading.Thread(target=lambda: result.append(sc.parallelize([0, 1], 2).map(function).collect()))
        thread.start()
        wait_until(lambda: (marks / "begun").exists())
        sc.addFile(tmp_path / "late.txt")
        (marks / "added").touch()
        thread.join(60)
        assert result == [["", "late"]]


def test_modules_that_are_added(script, tmp_path):
    """Before those of the host, the latest first, as on the driver's own."""
    write(tmp_path, {"p_plain.py": "X = 'plain'\n", "p_both.py": "X = 'plain'\n"})
    for name in ("first.zip", "second.egg"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("p_packed/__init__.py", f"from .inner import X\nNAME = {name!r}\n")
            archive.writestr("p_packed/inner.py", f"X = {name!r}\n")
            archive.writestr("p_both.py", f"X = {name!r}\n")

    def function():
        return [importlib.import_module(name).X for name in ("p_plain", "p_packed", "p_both")]

    with context() as sc:
        for name in ("p_plain.py", "first.zip", "p_both.py", "second.egg"):
            sc.addPyFile(tmp_path / name)
        here = function()
        assert here == ["plain", "second.egg", "second.egg"]
        assert everywhere(sc, function) == [here] * 4
    for name in ("p_plain", "p_packed", "p_packed.inner", "p_both"):
        sys.modules.pop(name, None)


def test_what_the_context_begins_with(script, tmp_path):
    write(tmp_path, {"words.txt": "tiger", "p_begins.py": "X = 1\n"})
    conf = SparkConf().setMaster("apart://1x1").set("spark.files", str(tmp_path / "words.txt"))
    with SparkContext(conf=conf, plugins=[Apart()], pyFiles=[str(tmp_path / "p_begins.py")]) as sc:
        found = sc.parallelize([1], 1).map(
            lambda x: (Path(SparkFiles.get("words.txt")).read_text(), importlib.import_module("p_begins").X)
        )
        assert found.collect() == [("tiger", 1)]


def test_what_is_gone_from_the_driver_says_what_and_where(script, tmp_path):
    write(tmp_path, {"words.txt": "tiger"})
    with context("1x1") as sc:
        sc.addFile(tmp_path / "words.txt")
        os.unlink(SparkFiles.get("words.txt"))
        with pytest.raises(JobFailed) as failed:
            sc.parallelize([1], 1).collect()
        assert "words.txt is gone\n'words.txt', which was added, could not be brought to host 'h0'" in str(failed.value)


def test_a_driver_that_can_not_be_reached_says_so(script, tmp_path):
    write(tmp_path, {"words.txt": "tiger"})
    write(script, {"p_unreached.py": ""})
    with context("1x1", spark__network__timeout="1s", spark__task__maxFailures="1") as sc:
        clusters[-1].fault("", "stalls")
        with pytest.raises(
            JobFailed, match="'p_unreached' can't be brought to host 'h0': the files of the driver can't be"
        ):
            sc.parallelize([1], 1).map(lambda x: importlib.import_module("p_unreached")).collect()
        sc.addFile(tmp_path / "words.txt")
        clusters[-1].fault("", "stalls")
        with pytest.raises(
            JobFailed, match="the files of the driver can't be reached(.*\n)'words.txt', which was added, "
        ):
            sc.parallelize([1], 1).collect()


def test_nothing_of_it_stays(script, tmp_path):
    write(tmp_path, {"words.txt": "tiger", "tree/a.txt": "a"})
    write(script, {"p_stays/__init__.py": ""})
    with context() as sc:
        sc.addFile(tmp_path / "words.txt")
        sc.addFile(tmp_path / "tree", recursive=True)
        everywhere(sc, imported("p_stays"))
        cluster = clusters[-1]
        for host in cluster.hosts:
            left = [file for file in cluster.files(host) if "/incoming/" in file]
            assert left == []
    assert not os.path.exists(cluster.root)


# --------------------------------------------------------------------------------------------------- with one for all


def test_a_module_next_to_the_script(sc, script):
    write(script, {"p_one.py": "import p_two\ndef f(x):\n    return p_two.doubled(x)\n"})
    write(script, {"p_two.py": "def doubled(x):\n    return 2 * x\n"})
    import p_one

    assert sc.parallelize(range(8), 8).map(p_one.f).collect() == [2 * x for x in range(8)]


def test_it_is_brought_once_to_each_host(sc, script, asked):
    write(script, {"p_once.py": ""})
    found = everywhere(sc, lambda: (imported("p_once")(), os.stat(imported("p_once")()).st_ino))
    assert len(set(found)) == 2  # hosts
    assert all(path.endswith("/a/modules/p_once.py") for path, _ in found)
    assert set(asked) == {"p_once"}


def test_a_package_with_data_and_relative_imports(sc, script):
    write(
        script,
        {
            "p_pack/__init__.py": "from .inner.deep import word, Word\n",
            "p_pack/inner/__init__.py": "",
            "p_pack/inner/deep.py": (
                "from importlib import resources\nfrom .. import beside\n"
                "def word():\n"
                "    return resources.files('p_pack').joinpath('data/words.txt').read_text() + beside.MARK\n"
                "class Word:\n    def __init__(self, text):\n        self.text = text\n"
            ),
            "p_pack/beside.py": "MARK = '!'\n",
            "p_pack/data/words.txt": "tiger",
        },
    )
    import p_pack

    (found,) = {
        w.text: w for w in sc.parallelize(range(4), 4).map(lambda x: p_pack.Word(p_pack.word())).collect()
    }.values()
    assert type(found) is p_pack.Word  # it is pickled by reference, both ways
    assert found.text == "tiger!"


def test_a_part_of_a_namespace_that_the_host_has_too(sc, script):
    write(script, {"p_space/own.py": "X = 1\n"})

    def function():
        write(Path.cwd(), {"p_space/hosts.py": "Y = 2\n"})
        sys.path.insert(0, os.getcwd())
        try:
            import p_space.hosts
            import p_space.own
        finally:
            sys.path.pop(0)
        return p_space.own.X, p_space.hosts.Y, importlib.import_module("p_space.own") is p_space.own

    assert sc.parallelize([1], 1).map(lambda x: function()).collect() == [(1, 2, True)]


def install(files: dict[str, str]) -> None:
    """Have them where packages are installed on the host of this worker, from now on."""
    site = Path.cwd() / "site-packages"
    write(site, files)
    if str(site) not in sys.path:
        sys.path.insert(0, str(site))
    importlib.invalidate_caches()


def test_the_drivers_own_modules_go_before_what_is_installed_on_the_host(sc, script):
    write(script, {"p_clash.py": "X = 'own'\n", "p_clashes/__init__.py": "", "p_clashes/part.py": "X = 'own'\n"})
    installed = {"p_clash.py": "X = 1\n", "p_clashes/__init__.py": "", "p_clashes/part.py": "X = 1\n"}

    def function():
        install(installed)
        import p_clash
        import p_clashes.part

        return p_clash.X, p_clashes.part.X

    assert everywhere(sc, function) == [("own", "own")] * 4


def test_what_is_installed_on_the_host_is_imported_where_the_driver_has_nothing_of_its_own(sc, asked):
    def function():
        install({"p_hosts.py": "X = 1\n"})
        importlib.import_module("p_hosts")
        del sys.modules["p_hosts"]
        return importlib.import_module("p_hosts").X

    assert everywhere(sc, function) == [1] * 4
    assert asked == ["p_hosts"] * 4  # each worker, once


def test_what_a_task_puts_on_the_path_goes_before_the_drivers_own(sc, script, asked):
    write(script, {"p_put.py": "X = 'own'\n"})

    def function(x):
        write(Path.cwd() / "mine", {"p_put.py": "X = 'mine'\n"})
        sys.path.insert(0, str(Path.cwd() / "mine"))
        return importlib.import_module("p_put").X

    assert sc.parallelize([1], 1).map(function).collect() == ["mine"]
    assert asked == []


def test_a_traceback_shows_its_lines(sc, script):
    write(script, {"p_failing.py": "def fail(x):\n    return x / 0  # as written\n"})
    import p_failing

    with pytest.raises(JobFailed, match=r"modules/p_failing\.py.*, line 2, in fail\n    return x / 0  # as written"):
        sc.parallelize([1], 1).map(p_failing.fail).collect()


def test_a_module_is_on_a_host_as_it_was_first_brought(sc, script):
    write(script, {"p_edited.py": "X = 1\n"})
    assert everywhere(sc, lambda: importlib.import_module("p_edited").X) == [1] * 4
    write(script, {"p_edited.py": "X = 2\n"})
    assert everywhere(sc, lambda: importlib.import_module("p_edited").X) == [1] * 4


@pytest.mark.parametrize("where", ["thread", "coroutine"])
def test_it_may_be_imported_anywhere_in_a_worker(sc, script, where):
    name = f"p_in_{where}"
    write(script, {f"{name}.py": "X = 1\n"})

    def in_a_thread(x):
        found = []
        thread = threading.Thread(target=lambda: found.append(importlib.import_module(name).X))
        thread.start()
        thread.join()
        return found

    async def in_a_coroutine(x):
        await asyncio.sleep(0)
        return [importlib.import_module(name).X]

    function = in_a_thread if where == "thread" else in_a_coroutine
    assert sc.parallelize([1, 2], 2).map(function).collect() == [[1], [1]]


def test_a_process_that_a_task_forks_does_not_ask(sc, script):
    write(script, {"p_forked.py": ""})

    def function(x):
        read, written = os.pipe()
        if not (pid := os.fork()):
            try:
                importlib.import_module("p_forked")
                os.write(written, b"found")
            except BaseException as error:
                os.write(written, type(error).__name__.encode())
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        return os.read(read, 100).decode()

    assert sc.parallelize([1], 1).map(function).collect() == ["ModuleNotFoundError"]


def test_the_hosts_path_and_directory_are_its_own(sc, script):
    for directory, path in everywhere(sc, lambda: (os.getcwd(), sys.path)):
        assert directory.endswith("/work")
        assert not [entry for entry in path if entry.startswith(str(script)) or entry == os.getcwd()]


def test_what_is_nowhere_is_not_found_and_asked_for_once(sc, script, asked):
    def optional():
        found = importlib.util.find_spec("p_nowhere")
        for _ in range(100):
            try:
                import p_nowhere  # noqa: F401
            except ModuleNotFoundError as error:
                assert (error.name, str(error)) == ("p_nowhere", "No module named 'p_nowhere'")
        return found

    assert everywhere(sc, optional) == [None] * 4
    assert asked == ["p_nowhere"] * 4  # each worker
    with pytest.raises(
        JobFailed, match="no module named 'p_nowhere' on host 'h[01]': where the driver runs, there is none"
    ) as failed:
        everywhere(sc, imported("p_nowhere"))
    assert isinstance(failed.value.__cause__, ModuleNotFoundError)
    assert failed.value.__cause__.name == "p_nowhere"


def test_pythons_own_and_parts_of_packages_are_not_asked_for(sc, script, asked):
    write(script, {"p_whole/__init__.py": ""})

    def function():
        import p_whole  # noqa: F401

        for name in ("_winreg", "msilib", "p_whole.part", "asparkle.nothing"):
            assert importlib.util.find_spec(name) is None

    everywhere(sc, function)
    assert set(asked) == {"p_whole"}


def test_what_is_installed_for_the_driver_only_is_named_with_its_version(sc, script, monkeypatch):
    site = script / "site-packages"
    write(site, {"p_numpy/__init__.py": "", "P_NumPy-1.26.dist-info/METADATA": "Name: P_NumPy\nVersion: 1.26\n"})
    write(site, {"P_NumPy-1.26.dist-info/RECORD": "p_numpy/__init__.py,,\n"})
    monkeypatch.syspath_prepend(site)
    import p_numpy

    with pytest.raises(JobFailed) as failed:
        sc.parallelize([1], 1).map(lambda x: p_numpy.__name__).collect()
    assert str(failed.value).startswith("ModuleNotFoundError: no module named 'p_numpy' on host 'h")
    assert "it belongs to P_NumPy 1.26: install that on the host, too" in str(failed.value)


def test_the_cause_of_an_error_is_explained_too(sc, script):
    def function(x):
        try:
            import p_cause  # noqa: F401
        except ImportError as error:
            raise RuntimeError("p_cause is needed") from error

    with pytest.raises(JobFailed, match="caused by:\n(.*\n)*ModuleNotFoundError: no module named 'p_cause' on host 'h"):
        sc.parallelize([1], 1).map(function).collect()


@pytest.mark.parametrize("job", ["textFile", "saveAsTextFile", "checkpoint", "open"])
def test_a_file_of_the_drivers_that_a_host_does_not_have(sc, script, job):
    """The error says on which host, and what to do."""
    path = script / f"{job}.txt"
    if job in ("textFile", "open"):
        path.write_text("a\nb\n")
    numbers = sc.parallelize([1, 2], 2)
    with pytest.raises(JobFailed, match=r"FileNotFoundError: .*\nhost 'h[01]' does not see the driver's files: .*NFS"):
        if job == "textFile":
            sc.textFile(str(path)).collect()
        elif job == "saveAsTextFile":
            numbers.saveAsTextFile(str(path))
        elif job == "checkpoint":
            sc.setCheckpointDir(str(path))
            numbers.checkpoint()
            numbers.count()
        else:
            numbers.map(lambda x: path.read_text()).collect()


def test_what_is_too_large_says_so(sc, script, monkeypatch):
    monkeypatch.setattr(localmodules, "MOST", 1 << 20)
    write(script, {"p_large/__init__.py": "", "p_large/data.csv": "x" * (1 << 20)})
    where = f"there are more than 1 MB of files in {script}/p_large"
    with pytest.raises(
        JobFailed, match=f"ImportError: the driver's module 'p_large' can't be brought to host 'h.': {where}"
    ):
        everywhere(sc, imported("p_large"))


def test_compiled_files_for_another_platform_say_so(sc, script, monkeypatch):
    original = importlib.util.find_spec("msgpack._cmsgpack")
    assert original is not None and original.origin is not None
    suffix = os.path.basename(original.origin).partition(".")[2]
    for package in ("p_fast", "p_foreign"):
        write(script, {f"{package}/__init__.py": ""})
        (script / package / f"_cmsgpack.{suffix}").write_bytes(Path(original.origin).read_bytes())
    here = Platform.here()
    assert everywhere(sc, lambda: importlib.import_module("p_fast._cmsgpack").__name__) == ["p_fast._cmsgpack"] * 4
    monkeypatch.setattr(Platform, "here", classmethod(lambda cls: cls("cpython-311-sparc", "sparc64", (1, 2))))
    with pytest.raises(JobFailed) as failed:
        everywhere(sc, imported("p_foreign"))
    reason = f"p_foreign/_cmsgpack.{suffix} is compiled for cpython-311-sparc sparc64, and the host is {here}"
    assert reason in str(failed.value)


def test_files_are_there_with_their_permissions(sc, tmp_path):
    write(tmp_path, {"words.txt": "tiger", "run.sh": "#!/bin/sh\necho tiger\n", "empty": ""})
    (tmp_path / "run.sh").chmod(0o750)
    (tmp_path / "words.txt").chmod(0o440)
    for name in ("words.txt", "run.sh", "empty"):
        sc.addFile(tmp_path / name)

    def function():
        found = os.stat(SparkFiles.get("words.txt"))
        content = Path(SparkFiles.get("words.txt")).read_text()
        return content, stat.S_IMODE(found.st_mode), found.st_ino, os.popen(SparkFiles.get("run.sh")).read()

    found = everywhere(sc, function)
    assert {(content, mode, output) for content, mode, _, output in found} == {("tiger", 0o440, "tiger\n")}
    assert len({inode for _, _, inode, _ in found}) == 2  # each host has one
    assert everywhere(sc, lambda: os.path.getsize(SparkFiles.get("empty"))) == [0] * 4


def test_directories_and_archives(sc, tmp_path):
    write(tmp_path, {"tree/a.txt": "a", "tree/deep/er/b.txt": "b", "packed/c.txt": "c"})
    (tmp_path / "tree" / "empty").mkdir()
    with tarfile.open(tmp_path / "some.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "packed", "packed")
        link = tarfile.TarInfo("packed/link")
        link.type, link.linkname = tarfile.SYMTYPE, "c.txt"
        packed.addfile(link)
    sc.addFile(tmp_path / "tree", recursive=True)
    sc.addArchive(f"{tmp_path / 'some.tar.gz'}#unpacked")

    def function():
        tree = Path(SparkFiles.get("tree"))
        linked = Path(SparkFiles.get("unpacked")) / "packed" / "link"
        return (tree / "deep/er/b.txt").read_text(), (tree / "empty").is_dir(), os.readlink(linked), linked.read_text()

    assert everywhere(sc, function) == [("b", True, "c.txt", "c")] * 4
