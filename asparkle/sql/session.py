"""The session: PySpark's way to a context, and to rows."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from asparkle.context import SparkContext
from asparkle.core import arguments
from asparkle.core.conf import SparkConf
from asparkle.core.errors import ArgumentError, ArgumentTypeError, ContextStopped, NotSupported
from asparkle.core.shown import shown
from asparkle.jvm import no_jvm
from asparkle.rdd import RDD
from asparkle.sql.dataframe import DataFrame
from asparkle.sql.types import ToRow, _create_row, names_of

if TYPE_CHECKING:
    import os
    from typing import Self

__all__ = ["SparkSession"]


class Builder:
    """What a session is made of; its methods return it, `getOrCreate` the session."""

    def __init__(self) -> None:
        self._settings: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotSupported(f"SparkSession.builder.{name}: asparkle has no SQL catalog and no Spark Connect")

    def appName(self, name: str) -> Builder:
        """Set the application's name."""
        return self.config("spark.app.name", name)

    def master(self, master: str) -> Builder:
        """Set where tasks run: a master URL."""
        return self.config("spark.master", master)

    def config(
        self,
        key: str | None = None,
        value: object = None,
        conf: SparkConf | None = None,
        *,
        map: Mapping[str, object] | None = None,
    ) -> Builder:
        """Set a configuration key, or all of ``conf`` or ``map``.

        Raises ArgumentTypeError for a None or a key that is no string, ArgumentError for nothing at all.
        """
        settings = SparkConf(loadDefaults=False)
        if conf is not None:
            settings.setAll(conf.getAll())
        if map is not None:
            settings.setAll(map.items())
        if key is not None:
            settings.set(key, str(value).lower() if isinstance(value, bool) else value)
        elif conf is None and map is None:
            raise ArgumentError("config: expected key and value, conf or map")
        self._settings.update(settings.getAll())
        return self

    def getOrCreate(self) -> SparkSession:
        """The active session with these settings added to its conf, or a new one.

        Where a context is active already, the session is of that context, whose own conf stays as it is.
        """
        with SparkSession._lock:
            session = SparkSession.getActiveSession()
            if session is None:
                conf = SparkConf().setAll(self._settings.items())
                session = SparkSession(SparkContext.getOrCreate(conf))
                SparkSession._active = session
            session.conf._settings.update(self._settings)
            return session

    create = getOrCreate


# A new builder at each access, so that one program's settings don't slip into the next session.
class _BuilderProperty:
    def __get__(self, instance: object, owner: type | None = None) -> Builder:
        return Builder()


class RuntimeConfig:
    """The settings of a session.  What executors are made of was read when the context started."""

    def __init__(self, context: SparkContext) -> None:
        self._settings = {
            "spark.app.id": context.applicationId,
            "spark.app.name": context.appName,
            "spark.app.startTime": str(context.startTime),
            "spark.master": context.master,
            **dict(context.getConf().getAll()),
        }

    def get(self, key: str, default: str | None = None) -> str | None:
        """The value of ``key``, else ``default``."""
        return self._settings.get(key, default)

    def set(self, key: str, value: object) -> None:
        """Set ``key``, for who reads it here."""
        text = str(value).lower() if isinstance(value, bool) else value
        self._settings.update(SparkConf(loadDefaults=False).set(key, text).getAll())

    def unset(self, key: str) -> None:
        """Forget ``key``."""
        self._settings.pop(key, None)

    @property
    def getAll(self) -> dict[str, str]:
        """All settings."""
        return dict(self._settings)


class SparkSession:
    """PySpark's entry point, as far as programs with RDDs use it: a context, and DataFrames of rows.

    ``SparkSession.builder.appName("words").getOrCreate()``; `stop` it, or use it with ``with``.

    >>> sc.stop()
    >>> with SparkSession.builder.master("threads[2]").appName("words").getOrCreate() as spark:
    ...     spark.sparkContext.parallelize(range(4)).map(lambda x: (x, x * x)).toDF(["x", "square"]).first()
    Row(x=0, square=0)
    """

    Builder = Builder
    builder: ClassVar[_BuilderProperty] = _BuilderProperty()
    _active: ClassVar[SparkSession | None] = None
    _lock: ClassVar[threading.RLock] = threading.RLock()

    @property
    def _sc(self) -> SparkContext:
        return self._context

    def __init__(self, sparkContext: SparkContext) -> None:
        if not isinstance(sparkContext, SparkContext):
            raise ArgumentTypeError(f"SparkSession: sparkContext = {shown(sparkContext)}: expected a SparkContext")
        self._context = sparkContext
        self.conf = RuntimeConfig(sparkContext)

    def __getattr__(self, name: str) -> Any:
        if name in ("_jvm", "_jsc", "_jsparkSession"):
            raise no_jvm(f"SparkSession.{name}")
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotSupported(f"SparkSession.{name}: asparkle has no SQL; work on RDDs, from .sparkContext")

    def __repr__(self) -> str:
        return f"<SparkSession of {self._context!r}>"

    @classmethod
    def getActiveSession(cls) -> SparkSession | None:
        """The session that `builder` made and nobody has stopped; None if there is none."""
        session = SparkSession._active
        return session if session is not None and session._context._is_alive else None

    @classmethod
    def active(cls) -> SparkSession:
        """The active session.  Raises ContextStopped if there is none."""
        session = cls.getActiveSession()
        if session is None:
            raise ContextStopped("there is no active SparkSession; make one: SparkSession.builder.getOrCreate()")
        return session

    @property
    def sparkContext(self) -> SparkContext:
        """The context, for RDDs."""
        return self._context

    @property
    def version(self) -> str:
        """asparkle's version."""
        return self._context.version

    @property
    def read(self) -> DataFrameReader:
        """A reader of text files."""
        return DataFrameReader(self)

    def newSession(self) -> SparkSession:
        """A session of the same context, with settings of its own."""
        return SparkSession(self._context)

    def stop(self) -> None:
        """Stop the context."""
        self._context.stop()
        if SparkSession._active is self:
            SparkSession._active = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def range(self, start: int, end: int | None = None, step: int = 1, numPartitions: int | None = None) -> DataFrame:
        """The ints from ``start`` to ``end`` (excluded) by ``step`` as a column ``id``."""
        return DataFrame(self._context.range(start, end, step, numPartitions).map(_id_row), ["id"], self)

    def createDataFrame(
        self,
        data: Any,
        schema: Sequence[str] | None = None,
        samplingRatio: float | None = None,
        verifySchema: bool = True,
    ) -> DataFrame:
        """A DataFrame of an RDD or a list of rows, tuples, lists or dicts, or of a pandas DataFrame.

        ``schema``: a list of names for the columns; where it names too few, or is left out, they are called as
        in the first element of an RDD, which a job takes here, or as in all elements of a list.  Values keep
        their types, and ``samplingRatio`` and ``verifySchema``, about types, are ignored.

        Raises NotSupported for a schema with types, ArgumentError if neither data nor schema gives a name,
        UserFunctionError, here or in a task, for elements that are no rows.
        """
        names = _names(schema)
        if isinstance(data, RDD):
            rdd, sample = data, data.take(1)
        else:
            if hasattr(data, "to_dict") and hasattr(data, "columns"):  # of pandas
                names = names or list(map(str, data.columns))
                data = list(data.itertuples(index=False, name=None))
            data = sample = arguments.elements(data, "createDataFrame", "data", "an RDD, or a list of rows")
            rdd = self._context.parallelize(data)
        keys = list(dict.fromkeys(name for element in sample for name in names_of(element)))
        if not sample and names is None:
            raise ArgumentError("createDataFrame: no rows and no schema: give a list of names for the columns")
        columns = [*(names or ()), *keys[len(names or ()) :]]
        if sample and len(columns) > len(keys):
            raise ArgumentError(f"createDataFrame: schema = {names!r}: the rows have only {len(keys)} columns")
        return DataFrame(rdd.map(ToRow(columns, keys if sample else columns)), columns, self)


def _names(schema: Any) -> list[str] | None:
    if schema is None:
        return None
    if isinstance(schema, list | tuple) and all(isinstance(name, str) for name in schema):
        return list(schema)
    raise NotSupported(
        f"schema = {shown(schema)}: asparkle's columns have names and no types; give a list of names, such as "
        "['name', 'age']"
    )


def _id_row(number: int) -> Any:
    return _create_row(("id",), (number,))


def _text_row(line: str) -> Any:
    return _create_row(("value",), (line,))


class DataFrameReader:
    """Reads text files; ``spark.read``."""

    def __init__(self, session: SparkSession) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotSupported(f"spark.read.{name}: asparkle reads text files only: read.text, or sc.textFile")

    def text(
        self,
        paths: str | os.PathLike[str] | Iterable[str],
        wholetext: bool = False,
        lineSep: str | None = None,
    ) -> DataFrame:
        """The lines of text files, in a column ``value``; a file of up to 32 MiB is one partition.

        ``paths``: as in `SparkContext.textFile`, or a list of such.  Raises InputNotFound for one that is not there,
        and NotSupported for ``wholetext`` and ``lineSep``.
        """
        if wholetext or lineSep is not None:
            raise NotSupported("read.text: wholetext and lineSep: asparkle reads lines; see sc.wholeTextFiles")
        if not isinstance(paths, str) and isinstance(paths, Iterable):
            paths = ",".join(arguments.path(path, "read.text", "paths") for path in paths)
        lines = self._session.sparkContext.textFile(paths, 1)
        lines.getNumPartitions()  # looks for the files
        return DataFrame(lines.map(_text_row), ["value"], self._session)


def _to_df(self: RDD[Any], schema: Sequence[str] | None = None, sampleRatio: float | None = None) -> DataFrame:
    """A DataFrame of this RDD's rows, tuples, lists or dicts; see `SparkSession.createDataFrame`."""
    session = SparkSession.getActiveSession() or SparkSession(self.context)
    return session.createDataFrame(self, schema, sampleRatio)


RDD.toDF = _to_df  # type: ignore[attr-defined]  # as in PySpark, an RDD has it where there is SQL
