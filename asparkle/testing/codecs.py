"""What every codec is tested for."""

from __future__ import annotations

import errno
import random
import threading
import tracemalloc
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import IO, ClassVar, Final, cast

import pytest

from asparkle.core.contracts import Buffer, Codec
from asparkle.core.shown import shown
from asparkle.testing.promises import Conformance, expect
from asparkle.testing.providing import providing

AGAIN: Final = "What is written can be read again"
LARGEST_CHUNK: Final = 20 << 20
LINES: Final = b"".join(b"line %d of many\n" % i for i in range(3000))


class CodecConformance(Conformance):
    """Tests a `Codec`: derive from it, name the class ``Test...``, and say how a codec is made.

        class TestMyCodec(CodecConformance):
            def make(self):
                return MyCodec()

    That files are in some format, and so can be read by others, is the codec's own business, and tested by its author.
    """

    large: ClassVar[int] = 4 << 20
    """Bytes of the largest content that is compressed, of those that can't be made much smaller."""

    @abstractmethod
    def make(self) -> Codec:
        """A new codec, as asparkle makes it: without arguments."""

    # ------------------------------------------------------------------------------------ what there is

    @pytest.fixture(autouse=True)
    def _with_a_codec(self) -> None:
        self.codec = self.make()

    def subject(self) -> str:
        return type(self.codec).__name__

    def written(self, pieces: Sequence[Buffer]) -> bytes:
        """The compressed file that holds the pieces."""
        sink = Sink()
        with self.promised("Codec.write", "whose content goes to ``file`` compressed", within=30.0):
            file = self.codec.write(sink.file)
            for piece in pieces:
                file.write(piece)
            file.close()
        return bytes(sink.data)

    def chunks(self, data: bytes, most: int = 1 << 16) -> list[bytes]:
        with self.promised("Codec.read", "The content of a compressed ``file``", within=30.0):
            return list(self.codec.read(Source(data, most).file))

    def gives(self, data: bytes, content: bytes) -> None:
        """That ``content`` is what is read of the file ``data``."""
        found = b"".join(self.chunks(data))
        with self.promised("Codec", AGAIN):
            expect(found == content, f"read {_bytes(found)}, of a file of {_bytes(content)}")

    def random(self, size: int) -> bytes:
        return random.Random(size).randbytes(size)

    # -------------------------------------------------------------------------------------- the promises

    def test_the_class_is_called_without_arguments(self) -> None:
        with self.promised("Codec", "The class is called without arguments"):
            kind: Callable[[], Codec] = type(self.codec)
            expect(isinstance(kind(), Codec), "is not a class derived from Codec")

    def test_errors_can_name_it(self) -> None:
        with self.promised("Codec.name", "What errors call it"):
            expect(isinstance(self.codec.name, str), f"has the name {self.codec.name!r}")

    @pytest.mark.parametrize("content", ["nothing", "a byte", "lines", "zeros", "random", "in small pieces", "views"])
    def test_what_is_written_can_be_read(self, content: str) -> None:
        pieces = self._pieces(content)
        self.gives(self.written(pieces), b"".join(map(bytes, pieces)))

    def _pieces(self, content: str) -> Sequence[Buffer]:
        if content == "views":
            return [memoryview(self.random(800)).cast("q"), bytearray(b"and changeable")]
        if content == "in small pieces":
            return [b"%d\n" % i for i in range(20_000)]
        whole = {
            "nothing": b"",
            "a byte": b"x",
            "lines": LINES,
            "zeros": bytes(1 << 20),
            "random": self.random(1 << 20),
        }
        return [whole[content]]

    def test_what_write_returns(self) -> None:
        """As any file's."""
        with self.promised("Codec.write", "A file to write to"):
            file = self.codec.write(Sink().file)
            returned = file.write(b"some bytes")
            expect(returned == 10, f"gave a file whose write returned {returned!r} for 10 bytes")
            file.close()
            expect(file.closed, "gave a file that is not closed when it was")
            file.close()  # which is no error

    @pytest.mark.parametrize("count", [2, 5])
    def test_joined_files_are_read_as_one(self, count: int) -> None:
        contents = [self.random(1000 * i) + LINES for i in range(count)]
        data = b"".join(self.written([content]) for content in contents)
        found = b"".join(self.chunks(data))
        with self.promised("Codec", "also where several such files are joined to one"):
            expect(found == b"".join(contents), f"read {_bytes(found)}, of {count} files, {_bytes(b''.join(contents))}")

    @pytest.mark.parametrize("most", [1, 7, 4096])
    def test_a_file_may_give_less_than_was_asked_for(self, most: int) -> None:
        content = LINES + self.random(3000)
        data = self.written([content])
        with self.promised("Codec.read", "which may give less than ``count`` before the end", within=30.0):
            found = b"".join(self.codec.read(Source(data, most).file))
            expect(found == content, f"read {_bytes(found)}, of a file of {_bytes(content)}, {most} bytes at a time")

    def test_chunks_are_not_empty_and_not_large(self) -> None:
        runs = [bytes([byte]) * (1 << 15) for byte in self.random(LARGEST_CHUNK >> 14)]  # quick to compress
        chunks = self.chunks(self.written(runs))
        with self.promised("Codec.read", "in chunks of some megabytes at most; none is empty"):
            expect(all(isinstance(c, bytes) for c in chunks), "gave something else than bytes")
            expect(all(chunks), "gave an empty chunk")
            largest = max(map(len, chunks))
            expect(largest <= LARGEST_CHUNK, f"gave a chunk of {largest} bytes")

    def test_the_file_is_read_as_the_content_is_asked_for(self) -> None:
        data = self.written([self.random(self.large)])
        source = Source(data)
        with self.promised("Codec", "they hold a bounded part of a file in memory"):
            next(iter(self.codec.read(source.file)))
            expect(source.position < len(data) - 1000, f"had read all {len(data)} bytes for the first chunk")

    @pytest.mark.parametrize("method", ["read", "write"])
    def test_memory_does_not_grow_with_the_file(self, method: str) -> None:
        content = self.random(self.large)
        sizes = (self.large // 4, self.large)
        files = [self.written([content[:size]]) for size in sizes] if method == "read" else []

        def read(i: int) -> None:
            for _ in self.codec.read(Source(files[i]).file):
                pass

        def write(i: int) -> None:
            with self.codec.write(Sink(keep=False).file) as file:
                for at in range(0, sizes[i], 1 << 16):
                    file.write(content[at : min(at + (1 << 16), sizes[i])])

        with self.promised("Codec", "they hold a bounded part of a file in memory", within=60.0):
            small, whole = (_peak(read if method == "read" else write, i) for i in range(2))
            more, grown = whole - small, sizes[1] - sizes[0]
            expect(more < grown // 2, f"held {more} bytes more in memory for a file that is {grown} bytes longer")

    @pytest.mark.parametrize("ending", ["all is read", "the first chunk is read", "nothing is read"])
    def test_reading_leaves_the_file_open(self, ending: str) -> None:
        source = Source(self.written([LINES, self.random(self.large // 2)]))
        with self.promised("Codec.read", "leaves it open"):
            chunks = self.codec.read(source.file)
            for _ in chunks if ending == "all is read" else range(ending == "the first chunk is read"):
                if ending == "the first chunk is read":
                    next(chunks)
            del chunks
            expect(not source.closed, f"closed the file when {ending}")

    @pytest.mark.parametrize("by", ["close", "leaving the context", "an exception"])
    def test_writing_leaves_the_file_open(self, by: str) -> None:
        sink = Sink()
        with self.promised("Codec.write", "writes what is left and leaves ``file`` open"):
            file = self.codec.write(sink.file)
            if by == "close":
                file.write(LINES)
                file.close()
            else:
                try:
                    with file:
                        file.write(LINES)
                        if by == "an exception":
                            raise _Interrupted
                except _Interrupted:
                    pass
            expect(not sink.closed, f"closed the file, by {by}")
        self.gives(bytes(sink.data), LINES)

    @pytest.mark.parametrize("left", ["half", "all but the last byte", "all but the last three bytes"])
    def test_a_file_that_ends_too_early(self, left: str) -> None:
        data = self.written([LINES[:20_000] + self.random(20_000)])
        end = {"half": len(data) // 2, "all but the last byte": -1, "all but the last three bytes": -3}[left]
        with self.promised("Codec.read", "Raises EOFError if the file ends too early", within=30.0):
            try:
                found = sum(map(len, self.codec.read(Source(data[:end]).file)))
                expect(False, f"read {found} bytes of 40000, and raised nothing, where {left} of the file is there")
            except EOFError:
                pass

    def test_what_is_no_such_file(self) -> None:
        text = b"\x00\x00\x01\x00plain text, and not compressed at all\n" * 50
        with self.promised("Codec.read", "ValueError if it is damaged", within=30.0):
            try:
                found = b"".join(self.codec.read(Source(text).file))
                expect(False, f"read {shown(found)} of a file that is none of its own")
            except (EOFError, ValueError):
                pass

    @pytest.mark.parametrize("seed", range(4))
    def test_a_damaged_file(self, seed: int) -> None:
        """Not every codec notices; one that does says so in one of two ways."""
        rng = random.Random(seed)
        data = self.written([LINES[:20_000] + self.random(20_000)])
        with self.promised("Codec.read", "ValueError if it is damaged", within=60.0):
            for _ in range(15):
                at, length = rng.randrange(len(data)), rng.choice([1, 4, 100])
                damaged = data[:at] + rng.randbytes(length) + data[at + length :]
                try:
                    for _ in self.codec.read(Source(damaged).file):
                        pass
                except (EOFError, ValueError):
                    pass

    @pytest.mark.parametrize("error", [OSError(errno.EIO, "it broke"), TimeoutError("no answer"), RuntimeError("no")])
    def test_what_the_file_raises_passes(self, error: Exception) -> None:
        """A connection that is lost is not a file that is damaged: the one may be tried again."""
        data = self.written([self.random(100_000)])
        source = Source(data, 4096, error=error, after=50_000)
        with self.promised("Codec.read", "what ``file`` raises passes"):
            try:
                for _ in self.codec.read(source.file):
                    pass
                expect(False, f"raised nothing, when the file had raised {error!r}")
            except Exception as raised:
                if raised is not error and isinstance(raised, (EOFError, ValueError, OSError, RuntimeError)):
                    expect(False, f"raised {raised!r}, when the file had raised {error!r}")
                if raised is not error:
                    raise

    def test_a_file_that_cant_be_written_to(self) -> None:
        error = OSError(errno.ENOSPC, "no space left")
        with self.promised("Codec.write", "What ``file`` raises passes, while it is written to or when it is closed"):
            try:
                with self.codec.write(Sink(error=error, after=10_000).file) as file:
                    for _ in range(50):
                        file.write(self.random(10_000))
                expect(False, "raised nothing, when the file had no space left")
            except OSError as raised:
                expect(raised is error, f"raised {raised!r}, when the file had no space left")

    def test_several_files_at_once(self) -> None:
        contents = [bytes([i]) * 1000 + self.random(200_000 + i) for i in range(3)]
        sinks = [Sink() for _ in contents]
        with self.promised("Codec", "An object has no state", within=30.0):
            files = [self.codec.write(sink.file) for sink in sinks]
            for at in range(0, 300_000, 50_000):
                for file, content in zip(files, contents, strict=True):
                    file.write(content[at : at + 50_000])
            for file in files:
                file.close()
            readers = [self.codec.read(Source(bytes(sink.data), 10_000).file) for sink in sinks]
            found: list[list[bytes]] = [[] for _ in readers]
            waiting = list(range(len(readers)))
            while waiting:
                for i in [*waiting]:
                    chunk = next(readers[i], None)
                    waiting.remove(i) if chunk is None else found[i].append(chunk)
            for i, content in enumerate(contents):
                expect(b"".join(found[i]) == content, "mixed up files that were read and written in turns")

    def test_several_threads_at_once(self) -> None:
        problems: list[str] = []

        def work(number: int) -> None:
            content = self.random(50_000 + number) + LINES
            try:
                for _ in range(5):
                    sink = Sink()
                    with self.codec.write(sink.file) as file:
                        file.write(content)
                    if b"".join(self.codec.read(Source(bytes(sink.data), 5000).file)) != content:
                        problems.append("read something else than it had written, in one of several threads")
            except Exception as error:
                problems.append(f"raised {type(error).__name__}: {error}, in one of several threads")

        with self.promised("Codec", "any number of files, also at once and in several threads", within=30.0):
            threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(self.patience / 2)
            expect(not any(thread.is_alive() for thread in threads), "did not return to one of several threads")
            expect(not problems, problems[0] if problems else "")

    def test_a_job_uses_it(self) -> None:
        """Files that a real job writes are named for the codec, and read again."""
        from asparkle import SparkConf, SparkContext

        by_extension, _ = providing(Codec, type(self.codec), ".under-test")
        by_name, name = providing(Codec, type(self.codec))
        conf = SparkConf().set("spark.local.dir", str(self.directory / "local"))
        path = self.directory / "output"
        with (
            self.promised("Codec", AGAIN, within=30.0),
            SparkContext("threads[2]", conf=conf, plugins=[*by_extension, *by_name]) as sc,
        ):
            sc.parallelize(range(20_000), 3).saveAsTextFile(str(path), compressionCodecClass=name)
            total = sc.textFile(str(path)).map(int).sum()
            expect(total == 199_990_000, f"made a job read lines whose sum is {total}, not 199990000")


def _bytes(data: bytes) -> str:
    return f"{len(data)} bytes, {shown(data)}"


def _peak(function: Callable[[int], None], argument: int) -> int:
    """The most bytes that are held while the function runs."""
    tracemalloc.start()
    try:
        function(argument)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class _Interrupted(Exception):
    """What goes wrong while a file is written: its content is computed by users' functions."""


class Source:
    """A file that can be read, and nothing else: at most ``most`` bytes at a time, in the end perhaps with an error."""

    def __init__(self, data: bytes, most: int = 1 << 16, *, error: Exception | None = None, after: int = 0) -> None:
        self._data = data
        self._most = most
        self._error = error
        self._after = after
        self.position = 0
        self.closed = False

    @property
    def file(self) -> IO[bytes]:
        return cast("IO[bytes]", self)

    def read(self, count: int) -> bytes:
        if self._error is not None and self.position >= self._after:
            raise self._error
        if count < 0:
            raise TypeError("file.read was called with a negative count: what it gives would not be bounded")
        start, self.position = self.position, min(len(self._data), self.position + min(count, self._most))
        return self._data[start : self.position]

    def close(self) -> None:
        self.closed = True

    def __iter__(self) -> Iterator[bytes]:
        raise TypeError("the file was iterated over, not read by file.read(count)")


class Sink:
    """A file that can be written to, and nothing else; perhaps it has no space left ``after`` so many bytes."""

    def __init__(self, *, keep: bool = True, error: Exception | None = None, after: int = 0) -> None:
        self._keep = keep
        self._error = error
        self._left = after
        self.data = bytearray()
        self.closed = False

    @property
    def file(self) -> IO[bytes]:
        return cast("IO[bytes]", self)

    def write(self, data: Buffer) -> int:
        size = memoryview(data).nbytes
        self._left -= size
        if self._error is not None and self._left < 0:
            raise self._error
        if self._keep:
            self.data += data
        return size

    def close(self) -> None:
        self.closed = True
