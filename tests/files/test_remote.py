"""Files of other file systems than the local one: memory, zip, a real HTTP server and a real S3 server.

The S3 server is moto's, in a virtual environment of its own: it and s3fs want different versions of botocore.
The environment is made once, in pytest's cache; where that can't be done the tests of S3 say so.
"""

from __future__ import annotations

import functools
import gzip
import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from asparkle import SparkConf, SparkContext
from asparkle.core.errors import (
    ArgumentError,
    InputNotFound,
    JobFailed,
    MissingDependency,
    OutputExists,
    RemoteFileError,
)
from asparkle.core.filesystems import file_system
from asparkle.core.remotefiles import RemoteFileSystem, fsspec_url

pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'asparkle[fs]'")
LINES = [f"line {i}" for i in range(1000)]
MANY = [f"{i} " + "x" * 1000 for i in range(5000)]

# ------------------------------------------------------------------------------------------------- HTTP


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A server that sends parts of files, as most do."""

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, end = (int(wanted[1]), int(wanted[2] or len(data) - 1)) if wanted else (0, len(data) - 1)
        part = data[start : end + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if body:
            self.wfile.write(part)


class Whole(http.server.SimpleHTTPRequestHandler):
    """Python's own, which sends files from front to back only."""

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(params=[Ranges, Whole])
def server(request, tmp_path) -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    (tmp_path / "lines.txt").write_text("\n".join(MANY))
    (tmp_path / "records").write_bytes(bytes(5_000_000))
    (tmp_path / "lines.gz").write_bytes(gzip.compress(b"x\ny\n", mtime=0))
    handler = functools.partial(request.param, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_http(sc, server, request):
    rdd = sc.textFile(f"{server}/lines.txt", 3)
    assert rdd.collect() == MANY
    parts = rdd.getNumPartitions()
    assert parts >= 3 if request.node.callspec.params["server"] is Ranges else parts == 1
    assert sc.textFile(f"{server}/lines.gz").collect() == ["x", "y"]
    assert sc.wholeTextFiles(f"{server}/lines.gz").collect() == [(f"{server}/lines.gz", "x\ny\n")]
    assert sc.binaryRecords(f"{server}/records", 1000).count() == 5000
    with pytest.raises(InputNotFound, match="nowhere"):
        sc.textFile(f"{server}/nowhere").collect()
    with pytest.raises(ArgumentError, match="nothing can be written there"):
        sc.parallelize([1]).saveAsTextFile(f"{server}/out")


# ----------------------------------------------------------------------------------------- zip and memory


def test_zip(sc, tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("in/1.txt", "in/2.txt", "top.txt"):
            archive.writestr(name, f"{name}\n")
    assert sc.textFile(f"zip://in/*.txt::{tmp_path}/in.zip").collect() == ["in/1.txt", "in/2.txt"]
    assert sc.textFile(f"zip://top.txt::file://{tmp_path}/in.zip").collect() == ["top.txt"]
    assert dict(sc.wholeTextFiles(f"zip://in::{tmp_path}/in.zip").collect()) == {
        f"zip://in/{i}.txt::{tmp_path}/in.zip": f"in/{i}.txt\n" for i in (1, 2)
    }


def test_memory(threads):
    name = os.urandom(4).hex()
    threads.parallelize(LINES, 3).saveAsTextFile(f"memory://{name}/out")
    assert threads.textFile(f"memory://{name}/out").collect() == LINES
    assert threads.textFile(f"memory://{name}/*/part-0000{{0,2}}").collect() == LINES[:333] + LINES[666:]
    assert threads.wholeTextFiles(f"memory://{name}/out").keys().first() == f"memory://{name}/out/part-00000"
    with pytest.raises(OutputExists):
        threads.parallelize([1]).saveAsTextFile(f"memory://{name}/out")
    with pytest.raises(JobFailed):
        threads.parallelize([1, 0], 2).map(lambda x: 1 / x).saveAsTextFile(f"memory://{name}/failed")
    fs, path = file_system(f"memory://{name}", ())
    assert fs.names(path) == ["out"]
    assert sorted(fs.names(f"{path}/out")) == ["_SUCCESS", *(f"part-{i:05d}" for i in range(3))]


@pytest.fixture(params=["memory", "local"])
def empty(request, tmp_path) -> str:
    """A URL below which nothing is: where directories are no more than parts of names, and where they are real."""
    return f"memory://{os.urandom(4).hex()}" if request.param == "memory" else f"local://{tmp_path}"


@pytest.mark.parametrize("name", ["run*", "run?", "run[1]", "[", "a[b]/c*"])
def test_a_name_is_no_pattern_where_something_is_written(threads, empty, name):
    threads.parallelize(LINES, 2).saveAsTextFile(f"{empty}/run1")
    threads.parallelize(["mine"], 2).saveAsTextFile(f"{empty}/{name}")
    fs, path = file_system(f"{empty}/{name}", ())
    assert sorted(fs.names(path)) == ["_SUCCESS", "part-00000", "part-00001"]
    with fs.open(f"{path}/part-00001") as part:
        assert part.read() == b"mine\n"
    with pytest.raises(JobFailed):
        threads.parallelize([1, 0], 2).map(lambda x: 1 // x).saveAsTextFile(f"{empty}/{name} too")
    assert not fs.exists(f"{path} too") and len(fs.names(path)) == 3
    assert threads.textFile(f"{empty}/run1").collect() == LINES


def test_a_commit_that_fails_removes_nobody_elses_files(threads, empty, monkeypatch):
    threads.parallelize(LINES, 2).saveAsTextFile(f"{empty}/run1")
    rename = RemoteFileSystem.rename
    published = threading.Event()

    def fails(self, source, target):
        if target.endswith("part-00001"):
            assert published.wait(30)
            raise OSError("the network fails")
        rename(self, source, target)
        published.set()

    monkeypatch.setattr(RemoteFileSystem, "rename", fails)
    with pytest.raises(OSError, match="the network fails"):
        threads.parallelize(range(3), 2).saveAsTextFile(f"{empty}/run?")
    fs, path = file_system(empty, ())
    assert fs.names(path) == ["run1"]
    assert threads.textFile(f"{empty}/run1").collect() == LINES


@pytest.mark.parametrize("name", ["out", "out*"])
def test_a_directory_is_removed_while_somebody_else_removes_what_is_in_it(empty, name, monkeypatch):
    """As attempts do that end meanwhile."""
    fs, path = file_system(f"{empty}/{name}", ())
    fs.make_directory(path)
    for i in range(3):
        fs.create(f"{path}/{i}").close()
    listed = type(fs.fs).find

    def find(self, *arguments, **options):
        found = listed(self, *arguments, **options)
        if fs.exists(f"{path}/1"):
            fs.fs.rm_file(f"{path}/1")
        return found

    monkeypatch.setattr(type(fs.fs), "find", find)
    fs.remove(path)
    assert not fs.exists(path)
    fs.remove(path)


def test_memory_is_no_place_for_other_processes():
    with SparkContext("processes[1]") as sc:
        with pytest.raises(ArgumentError, match="the memory of one process"):
            sc.parallelize([1]).saveAsTextFile("memory://out")
        with pytest.raises(ArgumentError, match="the memory of one process"):
            sc.textFile("memory://out")


# -------------------------------------------------------------------------------------------------- S3


@pytest.fixture(scope="session")
def moto(request, tmp_path_factory) -> Iterator[str]:
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    place = request.config.cache.mkdir("moto") / f"venv-{sys.version_info.major}.{sys.version_info.minor}"
    program = place / "bin" / "moto_server"
    if not program.exists():
        venv.create(place, with_pip=True)
        done = subprocess.run([place / "bin/pip", "install", "-q", "moto[server]>=5"], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"moto can't be installed: {done.stderr.strip().splitlines()[-1]}")
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("w") as output:
        running = subprocess.Popen(
            [place / "bin/python", program, "-H", "127.0.0.1", "-p", "0"], stderr=output, stdout=output
        )
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"http://(127\.0\.0\.1:\d+)", log.read_text())):
            assert running.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield found[1]
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(30)


@pytest.fixture
def bucket(moto) -> str:
    name = f"bucket-{os.urandom(4).hex()}"
    urllib.request.urlopen(urllib.request.Request(f"http://{moto}/{name}", method="PUT")).close()
    return name


@pytest.fixture(params=["threads[2]", "processes[2]"])
def s3(request, moto) -> Iterator[SparkContext]:
    conf = SparkConf().setAll(
        [
            ("spark.hadoop.fs.s3a.access.key", "key"),
            ("spark.hadoop.fs.s3a.secret.key", "secret"),
            ("spark.hadoop.fs.s3a.endpoint", moto),
            ("spark.hadoop.fs.s3a.connection.ssl.enabled", "false"),
            ("spark.hadoop.fs.s3a.path.style.access", "true"),
        ]
    )
    with SparkContext(request.param, conf=conf) as sc:
        yield sc


def keys(moto: str, bucket: str) -> list[str]:
    with urllib.request.urlopen(f"http://{moto}/{bucket}?list-type=2") as answer:
        return re.findall(r"<Key>(.*?)</Key>", answer.read().decode())


def test_s3(s3, moto, bucket):
    s3.parallelize(LINES, 3).saveAsTextFile(f"s3a://{bucket}/to/out")
    assert keys(moto, bucket) == ["to/out/_SUCCESS", *(f"to/out/part-{i:05d}" for i in range(3))]
    assert s3.textFile(f"s3a://{bucket}/to/out", 6).collect() == LINES
    assert s3.textFile(f"s3n://{bucket}/t?/*/part-*[12]").collect() == LINES[333:]
    assert s3.wholeTextFiles(f"s3://{bucket}/to/out/").keys().first() == f"s3://{bucket}/to/out/part-00000"
    s3.parallelize(range(100), 2).saveAsPickleFile(f"s3a://{bucket}/pickles")
    assert s3.pickleFile(f"s3a://{bucket}/pickles").collect() == list(range(100))
    s3.addFile(f"s3a://{bucket}/to/out/part-00000")
    assert s3.listFiles == [f"s3a://{bucket}/to/out/part-00000"]


def test_what_is_in_s3_is_left_alone_and_nothing_is_left_there(s3, moto, bucket):
    s3.parallelize(LINES, 2).saveAsTextFile(f"s3a://{bucket}/out")
    before = keys(moto, bucket)
    with pytest.raises(OutputExists, match=f"s3a://{bucket}/out"):
        s3.parallelize([1]).saveAsTextFile(f"s3a://{bucket}/out")
    with pytest.raises(JobFailed):
        s3.parallelize([1, 0], 2).map(lambda x: 1 / x).saveAsTextFile(f"s3a://{bucket}/failed")
    with pytest.raises(InputNotFound):
        s3.textFile(f"s3a://{bucket}/nowhere").collect()
    with pytest.raises(InputNotFound):
        s3.textFile(f"s3a://{bucket}-not-there/x").collect()
    assert keys(moto, bucket) == before


def test_a_killed_worker_leaves_one_result_in_s3(moto, bucket, tmp_path):
    first = tmp_path / "first"

    def dying(partition, elements):
        yield from elements
        if partition == 1 and not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    conf = SparkConf().setAll(
        [
            (f"spark.hadoop.fs.s3a.bucket.{bucket}.endpoint", f"http://{moto}"),
            ("spark.hadoop.fs.s3a.access.key", "key"),
            ("spark.hadoop.fs.s3a.secret.key", "secret"),
        ]
    )
    with SparkContext("processes[2]", conf=conf) as sc:
        sc.parallelize(LINES, 3).mapPartitionsWithIndex(dying).saveAsTextFile(f"s3a://{bucket}/out")
        assert first.exists()
        assert sc.textFile(f"s3a://{bucket}/out").collect() == LINES
    assert keys(moto, bucket) == ["out/_SUCCESS", *(f"out/part-{i:05d}" for i in range(3))]


# ------------------------------------------------------------------------------- names, settings, what is missing

ACCOUNT = "mine.dfs.core.windows.net"


@pytest.mark.parametrize(
    ("url", "settings", "known", "options"),
    [
        ("s3a://b/k", {}, "s3://b/k", {}),
        ("s3n://b/k", {"fs.s3n.awsAccessKeyId": "me"}, "s3://b/k", {"key": "me"}),
        (
            "s3a://b/k",
            {"fs.s3a.bucket.b.access.key": "mine", "fs.s3a.access.key": "all's", "fs.s3a.endpoint": "host:1"},
            "s3://b/k",
            {"key": "mine", "endpoint_url": "https://host:1"},
        ),
        (
            "s3a://b/k",
            {
                "fs.s3a.aws.credentials.provider": "org.apache.hadoop.fs.s3a.AnonymousAWSCredentialsProvider",
                "fs.s3a.endpoint.region": "eu-west-1",
            },
            "s3://b/k",
            {"anon": True, "client_kwargs": {"region_name": "eu-west-1"}},
        ),
        (
            f"abfss://box@{ACCOUNT}/k",
            {f"fs.azure.account.key.{ACCOUNT}": "42"},
            "abfs://box/k",
            {"account_name": "mine", "account_key": "42"},
        ),
        (
            "wasbs://box@mine.blob.core.windows.net/k",
            {"fs.azure.sas.box.mine.blob.core.windows.net": "sas"},
            "abfs://box/k",
            {"account_name": "mine", "sas_token": "sas"},
        ),
        ("gs://b/k", {"fs.gs.project.id": "p"}, "gs://b/k", {"project": "p"}),
        ("hdfs://node:8020/k", {}, "hdfs://node:8020/k", {}),
        ("zip://a::s3a://b/k", {"fs.s3a.access.key": "me"}, "zip://a::s3://b/k", {"s3": {"key": "me"}}),
    ],
)
def test_hadoops_names_and_settings(url, settings, known, options):
    assert fsspec_url(url, settings) == (known, options)


def test_a_server_that_is_not_there(threads):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(RemoteFileError, match=r"/x': ClientConnectorError: Cannot connect to host 127\.0\.0\.1"):
        threads.textFile(f"http://127.0.0.1:{port}/x").collect()
    with pytest.raises(RemoteFileError, match=r"^'ftp://127\.0\.0\.1:\d+/x': ConnectionRefusedError: .*credentials"):
        threads.textFile(f"ftp://127.0.0.1:{port}/x").collect()
    with pytest.raises(RemoteFileError, match="ConnectionRefusedError"):
        threads.parallelize([1]).saveAsTextFile(f"ftp://127.0.0.1:{port}/x")


@pytest.mark.parametrize("server", [Ranges], indirect=True)
def test_a_cache_in_front(threads, server):
    assert threads.textFile(f"simplecache::{server}/lines.txt").collect() == MANY


class Failing(http.server.SimpleHTTPRequestHandler):
    """One that has other things to say than that a file is not there."""

    def do_GET(self):
        self.send_error(int(self.path.strip("/")))

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("server", [Failing], indirect=True)
def test_a_server_that_fails_is_not_a_missing_file(threads, server):
    with pytest.raises(InputNotFound):
        threads.textFile(f"{server}/404").collect()
    for status in (403, 500):
        with pytest.raises(RemoteFileError, match=f"{status}, message="):
            threads.textFile(f"{server}/{status}").collect()


def test_what_is_not_installed_is_named(threads, monkeypatch):
    with pytest.raises(ArgumentError, match="nosuch://"):
        threads.textFile("nosuch://x").collect()
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingDependency, match=r"pip install 'asparkle\[fs\]'"):
        threads.textFile("memory://x").collect()
