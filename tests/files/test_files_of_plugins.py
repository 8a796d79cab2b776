"""File systems and codecs from plugins, in the driver and in workers."""

from __future__ import annotations

import gzip
import sys
import types

import pytest
from masters import MASTERS

from asparkle import SparkConf, SparkContext
from asparkle.core.codecs import CODECS, load_codec
from asparkle.core.contracts import FILE_SYSTEM, Codec
from asparkle.errors import ArgumentError, ConfigurationError, CorruptInput, InputNotFound, JobFailed, PluginError
from asparkle.plugins import hookimpl
from asparkle.plugins.registry import PluginRegistry

MOON = '''
import os

from fsspec.implementations.local import LocalFileSystem

from asparkle.plugins import Codec, hookimpl


class Mirrored(Codec):
    """Every byte inverted, behind a mark."""

    def read(self, file):
        if file.read(4) != b"MOON":
            raise ValueError("it has no mark")
        while chunk := file.read(1 << 16):
            if chunk.endswith(b"cut"):
                raise EOFError
            yield bytes(255 - b for b in chunk)

    def write(self, file):
        return Mirror(file)


class Mirror:
    def __init__(self, file):
        self.file = file
        file.write(b"MOON")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def write(self, data):
        self.file.write(bytes(255 - b for b in data))
        return len(data)

    def close(self):
        pass


class MoonFileSystem(LocalFileSystem):
    """moon://there/file is the file ROOT/there/file, and who opens it is noted in ROOT/.opened."""

    protocol = "moon"
    cachable = False

    def __init__(self, root, **options):
        super().__init__(**options)
        self.root = root

    @classmethod
    def _strip_protocol(cls, path):
        path = path.rpartition("://")[2]
        return path if path.startswith("/") else "/" + path

    def _real(self, path):
        path = self._strip_protocol(path)
        return path if path.startswith(self.root) else self.root + path

    def info(self, path, **options):
        found = super().info(self._real(path), **options)
        return found | {"name": found["name"].removeprefix(self.root)}

    def ls(self, path, detail=False, **options):
        found = [self.info(os.path.join(path, name)) for name in os.listdir(self._real(path))]
        return found if detail else [info["name"] for info in found]

    def exists(self, path, **options):
        return os.path.exists(self._real(path))

    def isdir(self, path):
        return os.path.isdir(self._real(path))

    def _open(self, path, mode="rb", **options):
        with open(self.root + "/.opened", "a") as notes:
            notes.write(f"{os.getpid()} {mode}\\n")
        return open(self._real(path), mode)

    def makedirs(self, path, exist_ok=False):
        os.makedirs(self._real(path), exist_ok=exist_ok)

    def mv(self, source, target, **options):
        os.rename(self._real(source), self._real(target))

    def rm_file(self, path):
        os.remove(self._real(path))

    def rm(self, path, recursive=False, maxdepth=None):
        super().rm(self._real(path), recursive)

    def rmdir(self, path):
        os.rmdir(self._real(path))


@hookimpl
def asparkle_file_systems():
    return {"moon": "moon_files:MoonFileSystem"}


@hookimpl
def asparkle_codecs():
    mirrored = "moon_files:Mirrored"
    return {".moon": mirrored, ".snappy": mirrored, "mirrored": mirrored, "org.moon.MirrorCodec": mirrored}
'''


@pytest.fixture(params=MASTERS)
def moon(request, tmp_path, monkeypatch):
    """A context with the plugin, on each master."""
    (tmp_path / "moon_files.py").write_text(MOON)
    (tmp_path / "root").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "moon_files", raising=False)
    import moon_files

    conf = SparkConf().set("spark.hadoop.fs.moon.root", str(tmp_path / "root"))
    with SparkContext(request.param, conf=conf, plugins=[moon_files]) as sc:
        yield sc


def plugin(**hooks):
    module = types.ModuleType("moon")
    for hook, returned in hooks.items():
        setattr(module, hook, hookimpl(lambda returned=returned: returned))
    return module


# ---------------------------------------------------------------------------------------------- file systems


def opened(tmp_path):
    return [line.split() for line in (tmp_path / "root/.opened").read_text().splitlines()]


def test_files_are_saved_and_read_on_a_file_system_from_a_plugin(moon, tmp_path):
    pytest.importorskip("fsspec")
    moon.parallelize(["a", "b", "c"], 3).saveAsTextFile("moon://there/out")
    names = sorted(path.name for path in (tmp_path / "root/there/out").iterdir())
    assert names == ["_SUCCESS", "part-00000", "part-00001", "part-00002"]
    assert moon.textFile("moon://there/out").collect() == ["a", "b", "c"]
    assert moon.textFile("moon://there/out/part-0000[12]").collect() == ["b", "c"]
    assert moon.wholeTextFiles("moon://there/out/part-00000").collect() == [("moon://there/out/part-00000", "a\n")]
    assert moon.binaryFiles("MOON://there/out").values().collect() == [b"a\n", b"b\n", b"c\n"]
    moon.parallelize([("k", 1)], 1).saveAsSequenceFile("moon://there/pairs")
    assert moon.sequenceFile("moon://there/pairs").collect() == [("k", 1)]
    with pytest.raises(InputNotFound, match="moon://there/none"):
        moon.textFile("moon://there/none").collect()


def test_workers_open_the_files(moon, tmp_path):
    pytest.importorskip("fsspec")
    driver = moon.parallelize([0], 1).map(lambda _: __import__("os").getpid()).first()
    (tmp_path / "root/x.txt").write_text("x")
    assert moon.textFile("moon:///x.txt").collect() == ["x"]
    readers = {pid for pid, mode in opened(tmp_path) if mode == "rb"}
    if moon.master.startswith(("inline", "threads")):
        assert readers == {str(driver)}
    else:
        assert str(__import__("os").getpid()) not in readers


def test_a_file_is_added_from_there(moon, tmp_path):
    pytest.importorskip("fsspec")
    (tmp_path / "root/factor.txt").write_text("7")
    moon.addFile("moon:///factor.txt")

    def scaled(x):
        from asparkle import SparkFiles

        with open(SparkFiles.get("factor.txt")) as file:
            return x * int(file.read())

    assert moon.parallelize([1, 2], 2).map(scaled).collect() == [7, 14]


def test_a_scheme_goes_to_the_plugin_before_fsspec(tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    (tmp_path / "moon_files.py").write_text(MOON)
    (tmp_path / "x.txt").write_text("from the plugin")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "moon_files", raising=False)
    conf = SparkConf().set("spark.hadoop.fs.github.root", str(tmp_path))
    other = plugin(asparkle_file_systems={"github": "moon_files:MoonFileSystem"})
    assert "github" in fsspec.available_protocols()
    with SparkContext("threads[1]", conf=conf, plugins=[other]) as sc:
        assert sc.textFile("github:///x.txt").collect() == ["from the plugin"]
        with pytest.raises(ArgumentError, match="github:// is a plugin's, and can't be part of a chain"):
            sc.textFile("zip://x.txt::github:///x.zip").collect()


def test_a_scheme_that_nobody_has_says_what_would(threads):
    pytest.importorskip("fsspec")
    with pytest.raises(ArgumentError, match=r"no file system is known for moon:// .* in asparkle\.plugins"):
        threads.textFile("moon://there").collect()


def test_a_class_that_is_no_file_system_is_named():
    pytest.importorskip("fsspec")
    with pytest.raises(PluginError, match="'moon': <class 'dict'> is not a class derived from AbstractFileSystem"):
        PluginRegistry(SparkConf(), [plugin(asparkle_file_systems={"moon": dict})]).activated_paths(FILE_SYSTEM)
    bad = plugin(asparkle_file_systems={"moon": "collections:OrderedDict"})
    with SparkContext("inline", plugins=[bad]) as sc:
        with pytest.raises(ConfigurationError, match="'collections:OrderedDict': .* derived from AbstractFileSystem"):
            sc.textFile("moon://there").collect()


# --------------------------------------------------------------------------------------------------- codecs


@pytest.mark.parametrize("name", ["mirrored", "org.moon.MirrorCodec"])
def test_files_are_compressed_by_a_codec_from_a_plugin(moon, tmp_path, name):
    moon.parallelize(["tiger", "burning"], 2).saveAsTextFile(str(tmp_path / "out"), name)
    assert (tmp_path / "out/part-00001.moon").read_bytes() == b"MOON" + bytes(255 - b for b in b"burning\n")
    assert moon.textFile(str(tmp_path / "out")).collect() == ["tiger", "burning"]
    assert [text for _, text in moon.wholeTextFiles(str(tmp_path / "out")).collect()] == ["tiger\n", "burning\n"]
    assert moon.textFile(str(tmp_path / "out"), 10).getNumPartitions() == 2  # a compressed file is not cut


@pytest.mark.parametrize("name", ["mirrored", "org.moon.MirrorCodec"])
def test_sequence_files_name_the_class_of_a_codec(moon, tmp_path, name):
    pairs = [(i, "x" * i) for i in range(20)]
    moon.parallelize(pairs, 2).saveAsSequenceFile(str(tmp_path / "out"), name)
    assert b"org.moon.MirrorCodec" in (tmp_path / "out/part-00000").read_bytes()
    assert moon.sequenceFile(str(tmp_path / "out")).collect() == pairs


def test_what_asparkle_cannot_read_a_plugin_may(moon, tmp_path):
    (tmp_path / "x.snappy").write_bytes(b"MOON" + bytes(255 - b for b in b"line"))
    assert moon.textFile(str(tmp_path / "x.snappy")).collect() == ["line"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"SUN", "the Mirrored file is damaged: it has no mark"), (b"MOON.cut", "the Mirrored file is truncated")],
)
def test_what_a_codec_finds_wrong_is_told_with_the_file(moon, tmp_path, content, problem):
    (tmp_path / "x.moon").write_bytes(content)
    with pytest.raises(JobFailed) as failed:
        moon.textFile(str(tmp_path / "x.moon")).collect()
    assert isinstance(failed.value.__cause__, CorruptInput)
    assert problem in str(failed.value) and "x.moon" in str(failed.value)


def test_an_extension_means_nothing_unless_its_plugin_is_activated(threads, tmp_path):
    (tmp_path / "x.moon").write_text("plain")
    assert threads.textFile(str(tmp_path / "x.moon")).collect() == ["plain"]
    with pytest.raises(ArgumentError, match="compressionCodecClass = 'mirrored': known are .*GzipCodec.* xz"):
        threads.parallelize(["x"]).saveAsTextFile(str(tmp_path / "out"), "mirrored")


def test_an_extension_is_nobodys_second():
    with pytest.raises(PluginError, match=r"asparkle_codecs: '\.gz' is already provided by asparkle itself"):
        PluginRegistry(SparkConf(), [plugin(asparkle_codecs={".gz": "moon_files:Mirrored"})])


def test_a_codec_that_does_not_meet_its_contract_is_named():
    half = type("Half", (Codec,), {"write": lambda self, file: file})
    with pytest.raises(PluginError, match=r"Half lacks Codec\.read\(file\), \"The content of a compressed `?`?file"):
        PluginRegistry(SparkConf(), [plugin(asparkle_codecs={"half": half})]).activated_paths(Codec)


def test_of_files_only_what_is_activated_counts_and_workers_are_told_its_version(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "moon_files.py").write_text(MOON)
    info = tmp_path / "moon-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: moon\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[asparkle]\nmoon = moon_files\n")
    monkeypatch.delitem(sys.modules, "moon_files", raising=False)
    idle = PluginRegistry(SparkConf())
    assert idle.activated_paths(Codec) == {} and idle.packages() == ()
    used = PluginRegistry(SparkConf().set("asparkle.plugins", "moon"))
    assert used.activated_paths(FILE_SYSTEM) == {"moon": "moon_files:MoonFileSystem"}
    assert used.packages() == (("moon", "1.0"),)


@pytest.mark.parametrize("path", sorted(set(CODECS.values())))
def test_what_a_codec_gives_is_bounded(path):
    """96 MB of zeros, which are a few KB compressed, never come in one piece."""
    import io

    try:
        codec = load_codec(path)
    except ArgumentError as missing:
        pytest.skip(str(missing))
    buffer = io.BytesIO()
    with codec.write(buffer) as file:
        for _ in range(96):
            file.write(bytes(1 << 20))
    buffer.seek(0)
    sizes = [len(chunk) for chunk in codec.read(buffer)]
    assert sum(sizes) == 96 << 20
    assert max(sizes) <= 32 << 20 and min(sizes) > 0


def test_gzip_is_read_by_its_path():
    import io

    assert b"".join(load_codec(CODECS[".gz"]).read(io.BytesIO(gzip.compress(b"x")))) == b"x"
