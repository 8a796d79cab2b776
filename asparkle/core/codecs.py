"""Which codec a compressed file takes, by its extension or by the name that it is asked for.

A codec is a class, `contracts.Codec`, known by its path until a file is read or written.  `CODECS` are those that come
with asparkle; those of a context's plugins are in its `Options`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Final

from asparkle.core.errors import ArgumentError, CorruptInput

if TYPE_CHECKING:
    from asparkle.core.contracts import Codec
    from asparkle.core.filesystems import Options

PACKAGE: Final = "org.apache.hadoop.io.compress."
_GZIP, _BZIP2, _XZ = "asparkle.core.compression:Gzip", "asparkle.core.compression:Bzip2", "asparkle.core.compression:Xz"
_DEFLATE, _ZSTD = "asparkle.core.compression:Deflate", "asparkle.core.compression:Zstd"
_LZ4 = "asparkle.core.compression:Lz4"
CODECS: Final[dict[str, str]] = {
    ".gz": _GZIP,
    ".bz2": _BZIP2,
    ".deflate": _DEFLATE,
    ".xz": _XZ,
    ".zst": _ZSTD,
    ".lz4": _LZ4,
    f"{PACKAGE}GzipCodec": _GZIP,
    f"{PACKAGE}BZip2Codec": _BZIP2,
    f"{PACKAGE}DefaultCodec": _DEFLATE,
    f"{PACKAGE}DeflateCodec": _DEFLATE,
    f"{PACKAGE}ZStandardCodec": _ZSTD,
    f"{PACKAGE}Lz4Codec": _LZ4,
    "gzip": _GZIP,
    "bzip2": _BZIP2,
    "deflate": _DEFLATE,
    "xz": _XZ,
    "zstd": _ZSTD,
    "lz4": _LZ4,
}
"""Paths of classes by extension, by Hadoop's name, and by a short one; of several names, the first is written."""

OF_PLUGINS: Final = "asparkle.codec:"
"""What the options for plugins' codecs begin with, before the extension or name."""

_UNKNOWN: Final = {".snappy": "Snappy", ".lzo": "LZO", ".lzo_deflate": "LZO"}


def _table(options: Options) -> dict[str, str]:
    begin = len(OF_PLUGINS)
    return CODECS | {name[begin:]: path for name, path in options if name.startswith(OF_PLUGINS)}


def codec_named(name: str, options: Options = ()) -> str:
    """The path of the codec ``name``: that of a class of Hadoop's, in full or without its package, or a short one.

    Raises ArgumentError for an unknown one, MissingDependency where its package is not installed.

    >>> codec_named("org.apache.hadoop.io.compress.GzipCodec")
    'asparkle.core.compression:Gzip'
    """
    table = _table(options)
    path = table.get(name) or table.get(PACKAGE + name)
    if path is None or name.startswith("."):
        full = [known for known in table if "." in known and not known.startswith(".")]
        short = [known for known in table if "." not in known and not _class_name(table, table[known])]
        raise ArgumentError(f"compressionCodecClass = {name!r}: known are {', '.join([*full, *short])}")
    load_codec(path)
    return path


def codec_of(path: str, options: Options = ()) -> str | None:
    """The path of the codec that a file's name says it is compressed with; None for no such name.

    Raises ArgumentError where it is one of Hadoop's that nobody provides."""
    extension = os.path.splitext(path)[1].lower()
    found = CODECS.get(extension) or dict(options).get(OF_PLUGINS + extension)
    if found is None and extension in _UNKNOWN:
        raise ArgumentError(f"{path!r}: {_UNKNOWN[extension]} files can't be read; compress it anew, with zstd, say")
    return found


def extension_of(codec: str | None, options: Options = ()) -> str:
    """What file names end with; nothing without a codec, or for one that has no extension."""
    return next((name for name, path in _table(options).items() if path == codec and name.startswith(".")), "")


def class_name(name: str, options: Options = ()) -> str:
    """The whole name of a codec's class, which goes into files.  Raises ArgumentError for a codec that has none."""
    table = _table(options)
    codec = codec_named(name, options)
    for whole in (name, PACKAGE + name):
        if "." in whole and whole in table:
            return whole
    if found := _class_name(table, codec):
        return found
    raise ArgumentError(f"compressionCodecClass = {name!r}: no codec class of Hadoop's stands for it")


def _class_name(table: dict[str, str], codec: str) -> str:
    return next((n for n, path in table.items() if path == codec and "." in n and not n.startswith(".")), "")


def load_codec(path: str) -> Codec:
    """The codec.  Raises ConfigurationError for a path of none, MissingDependency where its package is not there."""
    from asparkle.core.contracts import Codec
    from asparkle.core.loading import load_class

    codec: Codec = load_class(path, Codec)()
    return codec


def decompressed(file: IO[bytes], codec: Codec, path: str) -> Iterator[bytes]:
    """The content of a compressed file, of all its members one after the other; ``path`` is for errors.

    Raises CorruptInput if the file ends too early or is not what its name says.
    """
    try:
        yield from codec.read(file)
    except EOFError:
        raise CorruptInput(f"the {_name(codec)} file is truncated", path) from None
    except ValueError as error:
        raise CorruptInput(f"the {_name(codec)} file is damaged: {error}", path) from error


def _name(codec: Codec) -> str:
    return codec.name or type(codec).__name__
