"""The files of the event log: names, compression, rolling, and what happens when the disk says no."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asparkle import SparkConf, SparkContext
from asparkle.core import events as e
from asparkle.core.errors import ConfigurationError, MissingDependency
from asparkle.plugins.eventlog import EventLogListener
from asparkle.plugins.eventlog.files import LogFiles, log_files
from asparkle.plugins.eventlog.lz4blocks import BLOCK, Lz4Blocks, xxh32

START = e.ApplicationStarted(100.0, "app-1", "name", "local", "me", 1000.0, "0.1", {}, {})


def conf_for(directory: object, **settings: str) -> SparkConf:
    conf = SparkConf().setMaster("threads[2]").setAppName("logged")
    conf.set("spark.eventLog.enabled", "true").set("spark.eventLog.dir", f"{directory}")
    return conf.setAll([("spark.eventLog." + key.replace("_", "."), value) for key, value in settings.items()])


def ran(conf: SparkConf) -> str:
    with SparkContext(conf=conf) as sc:
        assert sc.parallelize(range(10), 4).count() == 10
        return sc.applicationId


def kinds(text: str) -> list[str]:
    return [json.loads(line)["Event"] for line in text.splitlines()]


def unzstd(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()


def unlz4(data: bytes) -> bytes:
    """lz4-java's stream, read as its documentation says."""
    lz4_block = pytest.importorskip("lz4.block")
    content, position = b"", 0
    while position < len(data):
        magic, token, packed, length, checksum = struct.unpack_from("<8sBIII", data, position)
        assert magic == b"LZ4Block" and 1 << (10 + (token & 15)) >= length
        block = data[position + 21 : position + 21 + packed]
        plain = block if token >> 4 == 1 else lz4_block.decompress(block, uncompressed_size=length)
        assert checksum == (xxh32(plain, 0x9747B28C) & 0x0FFFFFFF if length else 0)
        content, position = content + plain, position + 21 + packed
    return content


class TestNames:
    def test_one_file(self, tmp_path: Path) -> None:
        application = ran(conf_for(f"file:{tmp_path}", rolling_enabled="false"))
        assert [path.name for path in tmp_path.iterdir()] == [application]
        told = kinds((tmp_path / application).read_text())
        assert told[0] == "SparkListenerLogStart" and told[-1] == "SparkListenerApplicationEnd"
        assert told.count("SparkListenerTaskEnd") == 4

    def test_by_default_a_directory_of_files_of_limited_size_as_in_spark(self, tmp_path: Path) -> None:
        application = ran(conf_for(tmp_path))
        (directory,) = tmp_path.iterdir()
        assert directory.name == f"eventlog_v2_{application}"
        names = sorted(path.name for path in directory.iterdir())
        assert names == [f"appstatus_{application}", f"events_1_{application}"]
        assert (directory / names[0]).read_bytes() == b""

    @pytest.mark.parametrize("codec, read", [("zstd", unzstd), ("lz4", unlz4), ("LZ4", unlz4)])
    def test_compressed(self, tmp_path: Path, codec: str, read) -> None:
        conf = conf_for(tmp_path, compress="true", rolling_enabled="false", compression_codec=codec)
        application = ran(conf)
        (log,) = tmp_path.iterdir()
        assert log.name == f"{application}.{codec.lower()}"
        assert kinds(read(log.read_bytes()).decode())[-1] == "SparkListenerApplicationEnd"

    def test_nothing_is_written_unless_it_is_asked_for(self, tmp_path: Path) -> None:
        ran(conf_for(tmp_path, enabled="false"))
        assert list(tmp_path.iterdir()) == []

    def test_while_it_is_written(self, tmp_path: Path) -> None:
        listener = EventLogListener(LogFiles(str(tmp_path)))
        listener.on_event(START)
        (log,) = tmp_path.iterdir()
        assert log.name == "app-1.inprogress" and len(kinds(log.read_text())) == 4
        assert log.stat().st_mode & 0o777 == 0o660
        listener.close()
        assert [path.name for path in tmp_path.iterdir()] == ["app-1"]


class TestRolling:
    def test_files_end_where_lines_exceed_their_size(self, tmp_path: Path) -> None:
        files = LogFiles(str(tmp_path), roll_at=100)
        files.open("app-1")
        lines = [f"{n:030}" for n in range(10)]
        for line in [*lines, "x" * 300]:
            files.write(line)
        assert (tmp_path / "eventlog_v2_app-1/appstatus_app-1.inprogress").exists()
        files.finish()
        directory = tmp_path / "eventlog_v2_app-1"
        assert (directory / "appstatus_app-1").exists()
        logs = [directory / f"events_{n}_app-1" for n in range(1, 6)]
        assert sorted(directory.glob("events_*")) == logs
        assert [len(log.read_text().splitlines()) for log in logs] == [3, 3, 3, 1, 1]
        assert "".join(log.read_text() for log in logs).splitlines() == [*lines, "x" * 300]

    def test_a_size_below_sparks_least_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"maxFileSize = '1m': expected a size .* 10m or more"):
            SparkContext(conf=conf_for(tmp_path).set("spark.eventLog.rolling.maxFileSize", "1m"))


class TestLz4:
    @pytest.mark.parametrize(
        "data, seed, expected",
        [(b"", 0, 0x02CC5D05), (b"a", 0, 0x550D7456), (b"abc", 0, 0x32D153FF), (b"", 1, 0x0B2CB792)]
        + [(b"Nobody inspects the spammish repetition", 0, 0xE2293B2F)],
    )
    def test_xxh32(self, data: bytes, seed: int, expected: int) -> None:
        assert xxh32(data, seed) == expected

    def test_what_does_not_shrink_is_stored(self) -> None:
        lz4_block = pytest.importorskip("lz4.block")
        blocks = Lz4Blocks(lz4_block.compress)
        data = os.urandom(BLOCK) + b"a" * BLOCK + b"rest"
        out = blocks.compress(data) + blocks.finish()
        assert unlz4(out) == data
        assert out[8] >> 4 == 1 and BLOCK < len(out) < BLOCK + 1000


class TestConfiguration:
    @pytest.mark.parametrize(
        "directory, problem",
        [
            ("{}/absent", "does not exist: make it"),
            ("file:{}/absent", "does not exist: make it"),
            ("{}/file", "is no directory"),
            ("hdfs://host/logs", "is written to a local directory"),
            ("file:relative", "needs an absolute path"),
        ],
    )
    def test_a_directory_that_is_none_fails_at_once(self, tmp_path: Path, directory: str, problem: str) -> None:
        (tmp_path / "file").touch()
        conf = conf_for(directory.format(tmp_path))
        with pytest.raises(ConfigurationError, match=rf"spark.eventLog.dir = .*{problem}"):
            SparkContext(conf=conf)

    def test_the_directory_is_sparks_by_default(self) -> None:
        from asparkle.core.conf import EVENT_LOG_DIR

        assert EVENT_LOG_DIR.read(SparkConf()) == "file:/tmp/spark-events"

    @pytest.mark.parametrize("codec", ["lzf", "snappy"])
    def test_unknown_codecs(self, tmp_path: Path, codec: str) -> None:
        with pytest.raises(ConfigurationError, match=rf"compression.codec = '{codec}': expected zstd or lz4"):
            SparkContext(conf=conf_for(tmp_path, compression_codec=codec))

    @pytest.mark.parametrize("codec, module", [("zstd", "zstandard"), ("lz4", "lz4.block")])
    def test_a_codec_that_is_not_installed(self, tmp_path: Path, monkeypatch, codec: str, module: str) -> None:
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingDependency, match=rf"{codec} needs .*asparkle\[compression\]"):
            log_files(conf_for(tmp_path, compress="true", compression_codec=codec))

    def test_it_is_a_plugin_that_can_be_activated_by_its_name(self, tmp_path: Path) -> None:
        conf = conf_for(tmp_path, enabled="false").set("asparkle.plugins", "eventlog")
        ran(conf)
        assert len(list(tmp_path.iterdir())) == 1


class TestFaults:
    @pytest.mark.parametrize("rolling", [None, 1000])
    def test_a_log_of_the_same_name_is_replaced_only_if_asked_for(self, tmp_path: Path, rolling, caplog) -> None:
        def write(overwrite: bool) -> None:
            listener = EventLogListener(LogFiles(str(tmp_path), roll_at=rolling, overwrite=overwrite))
            listener.on_event(START)
            listener.close()

        write(False)
        (log,) = tmp_path.iterdir()
        before = log.stat().st_ino
        write(False)
        assert "spark.eventLog.overwrite = true would replace it" in caplog.text
        assert [path.stat().st_ino for path in tmp_path.iterdir()] == [before]
        write(True)
        assert [path.name for path in tmp_path.iterdir()] == [log.name]

    def test_a_directory_that_vanishes_fails_no_job(self, tmp_path: Path, caplog) -> None:
        directory = tmp_path / "logs"
        directory.mkdir()
        with SparkContext(conf=conf_for(directory)) as sc:
            sc.parallelize(range(3)).count()
            subprocess.run(["rm", "-r", str(directory)], check=True)
            assert sc.parallelize(range(5), 2).count() == 5
        assert caplog.text.count("the event log can't be written") == 1

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, as needs /proc: a Linux")
    def test_a_full_disk_fails_no_job_and_is_told_once(self, tmp_path: Path, caplog) -> None:
        class Full(LogFiles):
            def _opened(self, path):
                file = super()._opened(path)
                full = os.open("/dev/full", os.O_WRONLY)
                os.dup2(full, file._file.fileno())
                os.close(full)
                return file

        with SparkContext("threads[2]", "full", plugins=[EventLogListener(Full(str(tmp_path)))]) as sc:
            assert sc.parallelize(range(5), 2).count() == 5
            assert sc.parallelize(range(5), 2).count() == 5
        assert caplog.text.count("the event log can't be written") == 1 and "No space left on device" in caplog.text

    def test_a_disk_that_fills_up_leaves_whole_lines(self, tmp_path: Path) -> None:
        files = LogFiles(str(tmp_path))
        files.open("app-1")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the kernel writes what still fits
        try:
            with pytest.raises(OSError, match="File too large"):
                for number in range(100):
                    files.write(f"line {number:020}")
                    files.flush()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        files.abandon()
        lines = (tmp_path / "app-1.inprogress").read_text().splitlines(keepends=True)
        assert lines == [f"line {number:020}\n" for number in range(1000 // 26)]

    @pytest.mark.parametrize("codec, read", [("", bytes), ("zstd", unzstd), ("lz4", unlz4)])
    def test_a_driver_that_is_killed_leaves_what_happened_until_then(self, tmp_path: Path, codec: str, read) -> None:
        program = "\n".join(
            [
                "import os, signal",
                "from asparkle import SparkContext",
                "sc = SparkContext('threads[2]', 'killed')",
                "sc.parallelize(range(4), 4).count()",
                "print('ready', flush=True)",
                "input()",
            ]
        )
        options = {"enabled": "true", "dir": str(tmp_path), "rolling.enabled": "false"}
        options |= {"compress": "true", "compression.codec": codec} if codec else {}
        conf = "".join(f"SparkContext.setSystemProperty('spark.eventLog.{k}', {v!r})\n" for k, v in options.items())
        program = program.replace("sc = ", conf + "sc = ", 1)
        with subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout.readline() == b"ready\n"
            (log,) = tmp_path.iterdir()
            assert log.name.endswith(".inprogress")
            deadline = time.monotonic() + 10
            while b"JobEnd" not in (text := read(log.read_bytes())) and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert text.endswith(b"\n")
        assert kinds(text.decode())[-1] == "SparkListenerJobEnd"
        assert kinds(text.decode()).count("SparkListenerTaskEnd") == 4
