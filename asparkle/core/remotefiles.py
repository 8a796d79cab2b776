"""Files on every URL that fsspec or a plugin knows, by the names and settings that Hadoop has for them.

Hadoop's settings become fsspec's options here, in one function for each family; what is not set is left to
the family's own defaults (environment variables, credential files, instance metadata).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, Final, cast
from urllib.parse import urlsplit

from asparkle.core.contracts import FILE_SYSTEM
from asparkle.core.errors import ArgumentError, AsparkleError, MissingDependency, RemoteFileError
from asparkle.core.filesystems import OF_PLUGINS, FileSystem, Status

READ_AHEAD: Final = 1 << 20
"""Bytes asked for at a time where a file is read from front to back."""

_TRIES: Final = 10
"""How often a directory is removed that somebody still writes in."""

_PATTERN: Final = re.compile(r"[*?\[]")
"""What fsspec takes for patterns, in names as well."""


def remote_file_system(url: str, options: Mapping[str, str]) -> tuple[FileSystem, str]:
    """As `filesystems.file_system`, for what is not local."""
    try:
        import fsspec
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise MissingDependency(f"{url!r} is not a local path: reading it takes fsspec", "asparkle[fs]") from error
    scheme = url.partition("://")[0].lower()
    plugin = options.get(OF_PLUGINS + scheme)
    if "::" in url:
        _check_chain(url, options)
    if plugin is None:
        known, arguments = fsspec_url(url, options)
        scheme = known.partition("://")[0]
        if scheme not in fsspec.available_protocols():
            raise ArgumentError(
                f"no file system is known for {scheme}:// in {url!r}; that of a plugin takes the plugin's name in "
                "asparkle.plugins"
            )
    try:
        fs, path = url_to_fs(known, **arguments) if plugin is None else _of_plugin(plugin, scheme, url, options)
    except AsparkleError:
        raise
    except ImportError as error:
        raise MissingDependency(f"{url!r}: {error}", _PACKAGES.get(scheme, "what fsspec asks for")) from error
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{url!r}: {error}") from error
    except Exception as error:  # some connect at once
        raise RemoteFileError(url, error) from error
    served = plugin is None and scheme in ("http", "https")
    return (HttpFileSystem if served else RemoteFileSystem)(fs, url), path


def _of_plugin(where: str, scheme: str, url: str, options: Mapping[str, str]) -> tuple[Any, str]:
    """The file system of a plugin's class, and the path there, as fsspec makes them of its own classes."""
    from asparkle.core.loading import load_class

    cls = load_class(where, FILE_SYSTEM)
    begin = f"fs.{scheme}."
    settings = {name[len(begin) :]: value for name, value in options.items() if name.startswith(begin)}
    arguments = {name.replace(".", "_"): value for name, value in settings.items() if name != "impl"}
    url = scheme + url[len(scheme) :]
    return cls(**arguments, **cls._get_kwargs_from_urls(url)), cls._strip_protocol(url)


def _check_chain(url: str, options: Mapping[str, str]) -> None:
    """Raises ArgumentError for a file system of a plugin in a chain, in which fsspec knows only its own."""
    for link in url.split("::"):
        scheme = link.partition("://")[0].lower()
        if OF_PLUGINS + scheme in options:
            raise ArgumentError(f"{url!r}: {scheme}:// is a plugin's, and can't be part of a chain of file systems")


_PACKAGES: Final = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "hdfs": "pyarrow"} | dict.fromkeys(
    ("http", "https"), "aiohttp"
)


class RemoteFileSystem(FileSystem):
    """A file system of fsspec's, as the URL ``given`` leads to it."""

    at_once = 8

    def __init__(self, fs: Any, given: str) -> None:
        self.fs = fs
        self.given = given
        fs.invalidate_cache()  # what another process has written since is there

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """What packages raise in all their ways is one error here; what isn't there, or is, stays what it is."""
        try:
            yield
        except (AsparkleError, FileNotFoundError, FileExistsError, NotADirectoryError):
            raise
        except Exception as error:
            raise RemoteFileError(self.given, error) from error

    def status(self, path: str) -> Status:
        with self._reached():
            return self._status(path, self.fs.info(path))

    def _status(self, path: str, info: Mapping[str, Any]) -> Status:
        size = info.get("size")
        return Status(path, -1 if size is None else size, info["type"] == "directory")

    def children(self, path: str) -> list[Status]:
        found = []
        with self._reached():
            infos = self.fs.ls(path, detail=True)
        for info in infos:
            name = info["name"].rstrip("/")
            if name.strip("/") != path.strip("/"):  # an object that stands for the directory, or a file's own entry
                found.append(self._status(f"/{name}" if path.startswith("/") and name[0] != "/" else name, info))
        if not found and not self.fs.isdir(path):
            raise NotADirectoryError(path)
        return found

    def open(self, path: str, seekable: bool = False) -> IO[bytes]:
        with self._reached():
            return cast("IO[bytes]", self.fs.open(path, "rb", block_size=READ_AHEAD, cache_type="readahead"))

    def url(self, path: str) -> str:
        if "://" in path:
            return path
        first, chained, rest = self.given.partition("::")
        scheme, host = first.partition("://")[0], urlsplit(first).netloc
        path = path.lstrip("/")
        container = host.partition("@")[0]
        if "@" in host and (path == container or path.startswith(f"{container}/")):
            path = host + path[len(container) :]
        elif host and not chained and path != host and not path.startswith(f"{host}/"):
            path = f"{host}/{path}"
        return f"{scheme}://{path}{chained}{rest}"

    def begin_staging(self, directory: str) -> None:
        super().begin_staging(directory)
        probe = f"{directory}/probe"
        try:
            self.create(probe).close()
        except RemoteFileError as error:
            cause = error.__cause__
            if not (isinstance(cause, (NotImplementedError, ValueError)) or type(cause) is OSError):
                raise
            problem = str(cause) or "fsspec can only read there"
            raise ArgumentError(f"{self.given!r}: nothing can be written there: {problem}") from error
        self.fs.rm_file(probe)
        self.fs.makedirs(directory, exist_ok=True)  # some think that a directory without files is none

    def make_directory(self, path: str) -> None:
        if self.exists(path):
            raise FileExistsError(path)
        with self._reached():
            self.fs.makedirs(path, exist_ok=True)

    def create(self, path: str) -> IO[bytes]:
        with self._reached():
            return cast("IO[bytes]", self.fs.open(path, "wb"))

    def rename(self, source: str, target: str) -> None:
        from fsspec import AbstractFileSystem

        with self._reached():
            if type(self.fs).mv is AbstractFileSystem.mv:  # which takes * ? [ in names for patterns
                self.fs.cp_file(source, target)
                self.fs.rm_file(source)
            else:
                self.fs.mv(source, target)

    def remove(self, path: str) -> None:
        with self._reached():
            for left in reversed(range(_TRIES)):
                self.fs.invalidate_cache()
                if not self.fs.exists(path):
                    return
                try:
                    self._remove(path)
                except OSError:  # an attempt that goes on has taken its file back, or put one there
                    if not left:
                        raise

    def _remove(self, path: str) -> None:
        if not _PATTERN.search(path):
            self.fs.rm(path, recursive=True)
            return
        found = self.fs.find(path, withdirs=True, detail=True)  # `rm` would remove what the pattern matches
        for name in sorted(found, reverse=True):
            if found[name].get("type") != "directory":
                self.fs.rm_file(name)
            else:
                self.remove_empty(name)

    def remove_empty(self, path: str) -> None:
        self.fs.invalidate_cache()
        with suppress(OSError, NotImplementedError):  # it never was more than a part of its files' names
            if not self.fs.ls(path, detail=False):
                self.fs.rmdir(path)


class HttpFileSystem(RemoteFileSystem):
    """Files of web servers, some of which send parts of them on request and some do not."""

    has_patterns = False

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """fsspec takes every failure for a missing file; its cause tells what it was."""
        with super()._reached():
            try:
                yield
            except FileNotFoundError as error:
                cause = error.__cause__
                if cause is None or isinstance(cause, FileNotFoundError) or getattr(cause, "status", 0) in (404, 410):
                    raise
                raise RemoteFileError(self.given, cause) from cause

    def status(self, path: str) -> Status:
        status = super().status(path)
        if status.size > 0 and not self._sends_parts(path):
            return status._replace(size=-1)
        return status

    def _sends_parts(self, url: str) -> bool:
        from fsspec.asyn import sync

        async def ask() -> bool:
            session = await self.fs.set_session()
            async with session.get(url, headers={"Range": "bytes=0-0"}) as answer:
                return bool(answer.status == 206)

        return bool(sync(self.fs.loop, ask))

    def open(self, path: str, seekable: bool = False) -> IO[bytes]:
        if seekable:
            return super().open(path)
        with self._reached():
            return cast("IO[bytes]", self.fs.open(path, "rb", block_size=0))


# ------------------------------------------------------------------------- Hadoop's names and settings


def fsspec_url(url: str, options: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """``url`` by fsspec's name, and the options that Hadoop's settings amount to.

    >>> fsspec_url("s3a://bucket/key", {"fs.s3a.access.key": "me", "fs.s3a.secret.key": "42"})
    ('s3://bucket/key', {'key': 'me', 'secret': '42'})
    """
    first, chained, rest = url.partition("::")
    scheme, _, path = first.partition("://")
    scheme = scheme.lower()
    host = urlsplit(first).netloc
    if chained:
        inner, arguments = fsspec_url(rest, options) if "://" in rest else (rest, {})
        protocol = inner.partition("://")[0] if "://" in inner else "file"
        return f"{scheme}://{path}::{inner}", {protocol: arguments} if arguments else {}
    if scheme in ("s3", "s3a", "s3n"):
        return f"s3://{path}", _s3(host, options)
    if scheme in ("abfs", "abfss", "wasb", "wasbs"):
        container, _, account = host.rpartition("@")
        if container:
            path = container + path[len(host) :]
        return f"abfs://{path}", _azure(container, account, options) if container else {}
    if scheme in ("gs", "gcs"):
        return f"gs://{path}", _google(options)
    return f"{scheme}://{path}", {}


def _first(options: Mapping[str, str], *names: str) -> str | None:
    return next((options[name] for name in names if name in options), None)


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value}


def _s3(bucket: str, options: Mapping[str, str]) -> dict[str, Any]:
    def setting(name: str, *older: str) -> str | None:
        return _first(options, f"fs.s3a.bucket.{bucket}.{name}", f"fs.s3a.{name}", *older)

    endpoint = setting("endpoint")
    if endpoint and "://" not in endpoint:
        plain = (setting("connection.ssl.enabled") or "true").lower() == "false"
        endpoint = f"http{'' if plain else 's'}://{endpoint}"
    region = setting("endpoint.region")
    by_path = (setting("path.style.access") or "false").lower() == "true"
    return _given(
        key=setting("access.key", "fs.s3n.awsAccessKeyId", "fs.s3.awsAccessKeyId"),
        secret=setting("secret.key", "fs.s3n.awsSecretAccessKey", "fs.s3.awsSecretAccessKey"),
        token=setting("session.token"),
        anon="Anonymous" in (setting("aws.credentials.provider") or ""),
        endpoint_url=endpoint,
        client_kwargs=_given(region_name=region),
        config_kwargs={"s3": {"addressing_style": "path"}} if by_path else None,
    )


def _azure(container: str, host: str, options: Mapping[str, str]) -> dict[str, Any]:
    account = host.partition(".")[0]

    def setting(name: str) -> str | None:
        return _first(options, f"fs.azure.{name}.{host}", f"fs.azure.{name}")

    tenant = re.search(r"microsoftonline\.com/([^/]+)/", setting("account.oauth2.client.endpoint") or "")
    return _given(
        account_name=account,
        account_key=setting("account.key"),
        sas_token=_first(options, f"fs.azure.sas.{container}.{host}", f"fs.azure.sas.fixed.token.{host}"),
        client_id=setting("account.oauth2.client.id"),
        client_secret=setting("account.oauth2.client.secret"),
        tenant_id=tenant[1] if tenant else None,
    )


def _google(options: Mapping[str, str]) -> dict[str, Any]:
    return _given(
        project=options.get("fs.gs.project.id"),
        token=_first(
            options,
            "fs.gs.auth.service.account.json.keyfile",
            "google.cloud.auth.service.account.json.keyfile",
        ),
    )
