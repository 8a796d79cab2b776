"""DataFrames, as far as they are a way to and from RDDs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from asparkle.core import arguments
from asparkle.core.errors import ArgumentError, MissingDependency, NotSupported
from asparkle.core.shown import shown
from asparkle.core.storagelevel import StorageLevel
from asparkle.sql.types import Row, ToRow

if TYPE_CHECKING:
    from asparkle.rdd import RDD
    from asparkle.sql.session import SparkSession

__all__ = ["DataFrame"]


class DataFrame:
    """An RDD of rows, with names for their columns.  Operations other than these: on its `rdd`."""

    def __init__(self, rdd: RDD[Row], columns: Sequence[str], session: SparkSession) -> None:
        self._rdd = rdd
        self._columns = list(columns)
        self._session = session

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise self._no_sql(f".{name}")

    def __getitem__(self, item: Any) -> Any:
        raise self._no_sql(f"[{shown(item)}]")

    def _no_sql(self, what: str) -> NotSupported:
        return NotSupported(
            f"DataFrame{what}: asparkle has no SQL; work on .rdd, an RDD of rows ({', '.join(self._columns)}), "
            "and come back with toDF()"
        )

    def __repr__(self) -> str:
        return f"DataFrame[{', '.join(self._columns)}]"

    @property
    def rdd(self) -> RDD[Row]:
        """The rows, as an RDD.

        >>> spark.createDataFrame([("Ann", 11)], ["name", "age"]).rdd.map(lambda row: row.age + 1).collect()
        [12]
        """
        return self._rdd

    @property
    def columns(self) -> list[str]:
        """The names of the columns.

        >>> spark.createDataFrame([("Ann", 11)], ["name", "age"]).columns
        ['name', 'age']
        """
        return list(self._columns)

    @property
    def sparkSession(self) -> SparkSession:
        """The session that made this.

        >>> spark.createDataFrame([(1,)]).sparkSession is spark
        True
        """
        return self._session

    def collect(self) -> list[Row]:
        """All rows, in order.

        >>> spark.createDataFrame([("Ann", 11)], ["name", "age"]).collect()
        [Row(name='Ann', age=11)]
        """
        return self._rdd.collect()

    def count(self) -> int:
        """The number of rows.

        >>> spark.createDataFrame([("Ann", 11)]).count()
        1
        """
        return self._rdd.count()

    def take(self, num: int) -> list[Row]:
        """The first ``num`` rows.

        >>> spark.createDataFrame([("Ann", 11), ("Bob", 5)]).take(1)
        [Row(_1='Ann', _2=11)]
        """
        return self._rdd.take(num)

    def head(self, n: int | None = None) -> Row | list[Row] | None:
        """The first ``n`` rows in a list; without ``n`` the first row alone, None if there is none.

        >>> spark.createDataFrame([("Ann", 11)]).head()
        Row(_1='Ann', _2=11)
        """
        return self.first() if n is None else self.take(n)

    def first(self) -> Row | None:
        """The first row; None if there is none.

        >>> spark.createDataFrame([("Ann", 11)]).first()
        Row(_1='Ann', _2=11)
        """
        return next(iter(self._rdd.take(1)), None)

    def isEmpty(self) -> bool:
        """Whether there is no row.

        >>> spark.createDataFrame([("Ann", 11)]).isEmpty()
        False
        """
        return self._rdd.isEmpty()

    def toLocalIterator(self, prefetchPartitions: bool = False) -> Iterator[Row]:
        """The rows, one partition at a time.

        >>> [row[0] for row in spark.createDataFrame([("Ann", 11), ("Bob", 5)]).toLocalIterator()]
        ['Ann', 'Bob']
        """
        return self._rdd.toLocalIterator(prefetchPartitions)

    def foreach(self, f: Callable[[Row], None]) -> None:
        """Call ``f`` with each row, in tasks.

        >>> ages = spark.sparkContext.accumulator(0)
        >>> spark.createDataFrame([("Ann", 11), ("Bob", 5)]).foreach(lambda row: ages.add(row[1]))
        >>> ages.value
        16
        """
        self._rdd.foreach(f)

    def foreachPartition(self, f: Callable[[Iterator[Row]], None]) -> None:
        """Call ``f`` with an iterator of each partition's rows, in tasks.

        >>> ages = spark.sparkContext.accumulator(0)
        >>> spark.createDataFrame([("Ann", 11)]).foreachPartition(lambda rows: ages.add(sum(row[1] for row in rows)))
        >>> ages.value
        11
        """
        self._rdd.foreachPartition(f)

    def toDF(self, *cols: str) -> DataFrame:
        """The same rows with other names.  Raises ArgumentError unless there is one for each column.

        >>> spark.createDataFrame([("Ann", 11)]).toDF("name", "age").collect()
        [Row(name='Ann', age=11)]
        """
        if len(cols) != len(self._columns):
            raise ArgumentError(f"toDF: cols = {cols!r}: expected {len(self._columns)} names, for {self._columns}")
        names = [arguments.text(name, "toDF", "cols") for name in cols]
        return DataFrame(self._rdd.map(ToRow(names, names)), names, self._session)

    def cache(self) -> DataFrame:
        """Keep the rows once they have been computed.

        >>> spark.createDataFrame([("Ann", 11)]).cache().rdd.is_cached
        True
        """
        return self.persist()

    def persist(self, storageLevel: StorageLevel = StorageLevel.MEMORY_AND_DISK_DESER) -> DataFrame:
        """Keep the rows at a storage level once they have been computed.

        >>> spark.createDataFrame([("Ann", 11)]).persist().rdd.is_cached
        True
        """
        self._rdd.persist(storageLevel)
        return self

    def unpersist(self, blocking: bool = False) -> DataFrame:
        """Keep the rows no longer.

        >>> spark.createDataFrame([("Ann", 11)]).cache().unpersist().rdd.is_cached
        False
        """
        self._rdd.unpersist(blocking)
        return self

    def show(self, n: int = 20, truncate: bool | int = True, vertical: bool = False) -> None:
        """Print the first ``n`` rows as a table.

        ``truncate``: cut what is longer than 20 characters, or than this number; False: nothing is cut.
        Raises NotSupported for ``vertical``.

        >>> spark.createDataFrame([("Ann", 11)], ["name", "age"]).show()
        +----+---+
        |name|age|
        +----+---+
        | Ann| 11|
        +----+---+
        <BLANKLINE>
        """
        from asparkle.sql.table import table

        n = arguments.whole_number(n, "show", "n")
        if vertical:
            raise NotSupported("show: vertical = True: asparkle prints tables only; print the rows of take()")
        width = 20 if truncate is True else arguments.whole_number(int(truncate), "show", "truncate", 0)
        rows = self._rdd.take(n + 1)
        print(table(self._columns, rows[:n], width))
        print(f"only showing top {n} {'row' if n == 1 else 'rows'}" if len(rows) > n else "")

    def toPandas(self) -> Any:
        """All rows as a pandas DataFrame.  Raises MissingDependency where pandas is not installed.

        >>> spark.createDataFrame([("Ann", 11)], ["name", "age"]).toPandas().to_dict("list")
        {'name': ['Ann'], 'age': [11]}
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingDependency("toPandas needs pandas", "asparkle[pandas]") from error
        return pandas.DataFrame.from_records([tuple(row) for row in self.collect()], columns=self._columns)
