"""Codecs that are broken on purpose, each in one way.  Run by `test_broken`."""

from __future__ import annotations

import gzip
import io
import zlib

from asparkle.core.compression import Deflate, Gzip
from asparkle.testing import CodecConformance


class ReadsOneMember(Gzip):
    """What follows the first of several files is left out."""

    def read(self, file):
        decompressor = zlib.decompressobj(31)
        while data := file.read(1 << 14):
            try:
                content = decompressor.decompress(data)
            except zlib.error as error:
                raise ValueError(str(error)) from error
            if content:
                yield content
        if not decompressor.eof:
            raise EOFError


class TestReadsOneMember(CodecConformance):
    def make(self):
        return ReadsOneMember()


class ReadsAtOnce(Gzip):
    """The whole file, into memory."""

    def read(self, file):
        data = b""
        while more := file.read(1 << 20):
            data += more
        yield from super().read(io.BytesIO(data))


class TestReadsAtOnce(CodecConformance):
    def make(self):
        return ReadsAtOnce()


class GivesAllAtOnce(Gzip):
    """The whole content, as one chunk."""

    def read(self, file):
        if content := b"".join(super().read(file)):
            yield content


class TestGivesAllAtOnce(CodecConformance):
    def make(self):
        return GivesAllAtOnce()


class WritesAtTheEnd(Gzip):
    """Keeps everything until the file is closed."""

    def write(self, file):
        class Waiting(io.BytesIO):
            def close(self):
                if not self.closed:
                    file.write(gzip.compress(self.getvalue()))
                super().close()

        return Waiting()


class TestWritesAtTheEnd(CodecConformance):
    def make(self):
        return WritesAtTheEnd()


class ClosesTheFile(Gzip):
    def read(self, file):
        yield from super().read(file)
        file.close()


class TestClosesTheFile(CodecConformance):
    def make(self):
        return ClosesTheFile()


class EndsEarly(Deflate):
    """Takes the end of the file for the end of what it holds."""

    def read(self, file):
        try:
            yield from super().read(file)
        except EOFError:
            return


class TestEndsEarly(CodecConformance):
    def make(self):
        return EndsEarly()


class RaisesItsOwn(Deflate):
    """What the package raises for damaged data is not what the contract says."""

    def read(self, file):
        decompressor = zlib.decompressobj()
        while data := file.read(1 << 14):
            while data:
                if content := decompressor.decompress(data):
                    yield content
                data = decompressor.unused_data
                if decompressor.eof:
                    decompressor = zlib.decompressobj()
                    started = bool(data)
                else:
                    started = True
        if started:
            raise EOFError


class TestRaisesItsOwn(CodecConformance):
    def make(self):
        return RaisesItsOwn()


class BlamesTheFile(Gzip):
    """Whatever goes wrong, it is the data."""

    def read(self, file):
        try:
            yield from super().read(file)
        except OSError as error:
            raise ValueError("it is damaged") from error


class TestBlamesTheFile(CodecConformance):
    def make(self):
        return BlamesTheFile()


class HasState(Deflate):
    """One compressor for all files."""

    def write(self, file):
        self.file = super().write(file)
        codec = self

        class Latest(io.RawIOBase):
            def write(self, data):
                return codec.file.write(data)

            def close(self):
                codec.file.close()
                super().close()

        return Latest()


class TestHasState(CodecConformance):
    def make(self):
        return HasState()


class Seeks(Gzip):
    """Looks at the end first."""

    def read(self, file):
        file.seek(-4, io.SEEK_END)
        file.seek(0)
        yield from super().read(file)


class TestSeeks(CodecConformance):
    def make(self):
        return Seeks()


class LosesErrors(Gzip):
    """A disk that is full is nobody's business."""

    def write(self, file):
        class Quiet:
            def write(self, data):
                try:
                    return file.write(data)
                except OSError:
                    return len(data)

        return super().write(Quiet())


class TestLosesErrors(CodecConformance):
    def make(self):
        return LosesErrors()
