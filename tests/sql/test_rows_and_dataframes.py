"""As much of pyspark.sql as programs with RDDs use."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import pickle
from collections import namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle import SparkContext, StorageLevel
from asparkle.core.errors import (
    ArgumentError,
    ArgumentTypeError,
    AsparkleError,
    JobFailed,
    NotSupported,
    UserFunctionError,
)
from asparkle.sql import DataFrame, Row, SparkSession


@pytest.fixture
def spark():
    with SparkSession.builder.master("threads[2]").appName("rows").getOrCreate() as session:
        yield session


@pytest.mark.parametrize("module", ["types", "dataframe", "session"])
def test_the_examples_in_docstrings_are_right(module, spark):
    module = importlib.import_module(f"asparkle.sql.{module}")
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(module, extraglobs={"spark": spark, "sc": spark.sparkContext}):
        if test.examples and "toPandas" not in test.name:
            runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


# ------------------------------------------------------------------------------------------------ rows

names = st.lists(st.from_regex(r"[a-z]\w{0,5}", fullmatch=True), min_size=1, unique=True)


@given(names, st.data())
def test_a_row_is_the_tuple_of_its_values_and_the_dict_of_its_fields(names, data):
    values = [data.draw(st.integers() | st.text() | st.none()) for _ in names]
    row = Row(*names)(*values)
    assert row == tuple(values) and hash(row) == hash(tuple(values)) and list(row) == values
    assert row.asDict() == dict(zip(names, values, strict=True)) == {name: row[name] for name in names}
    assert pickle.loads(pickle.dumps(row)) == row and pickle.loads(pickle.dumps(row)).__fields__ == names
    if set(names).isdisjoint(dir(tuple) + ["asDict"]):
        assert [getattr(row, name) for name in names] == values


def test_what_rows_refuse():
    row = Row(name="Ann")
    with pytest.raises(ArgumentError, match="give one or the other"):
        Row(1, a=2)
    with pytest.raises(ArgumentError, match="no field 'age': it has name"):
        row["age"]
    with pytest.raises(AttributeError, match="no field 'age': it has name"):
        row.age  # noqa: B018
    with pytest.raises(AttributeError, match="can't be changed"):
        row.name = "Bob"
    with pytest.raises(ArgumentError, match="2 values were given"):
        Row("name")(1, 2)
    with pytest.raises(ArgumentTypeError, match="has no names"):
        Row(1, 2).asDict()


def test_rows_are_keys(spark):
    rdd = spark.sparkContext.parallelize([(Row(a=1), 1), (Row(a=1), 2)], 2)
    assert rdd.reduceByKey(lambda x, y: x + y).collect() == [(Row(a=1), 3)]


# ------------------------------------------------------------------------------------------ dataframes

Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("data", "schema", "rows"),
    [
        ([(1, "a")], None, [Row(_1=1, _2="a")]),
        ([[1, "a"]], ["n"], [Row(n=1, _2="a")]),
        ([Row(b=1, a=2)], None, [Row(b=1, a=2)]),
        ([Point(1, 2)], None, [Row(x=1, y=2)]),
        ([Point(1, 2)], ("p", "q"), [Row(p=1, q=2)]),
        ([{"b": 1, "a": 2}, {"a": 3, "c": 4}], None, [Row(a=2, b=1, c=None), Row(a=3, b=None, c=4)]),
    ],
)
@pytest.mark.parametrize("as_rdd", [False, True])
def test_rows_come_from_lists_and_rdds(spark, data, schema, rows, as_rdd):
    if as_rdd and isinstance(data[0], dict):
        rows = [Row(a=2, b=1), Row(a=3, b=None)]  # the first element has the names
    frame = spark.createDataFrame(spark.sparkContext.parallelize(data, 2) if as_rdd else data, schema)
    assert frame.collect() == rows
    assert [row.__fields__ for row in frame.rdd.collect()] == [row.__fields__ for row in rows]
    assert frame.columns == rows[0].__fields__


def test_an_rdd_becomes_a_dataframe_and_one_an_rdd(spark):
    frame = spark.sparkContext.parallelize([("Ann", 11), ("Bob", 5)]).toDF(["name", "age"])
    assert isinstance(frame, DataFrame)
    assert frame.rdd.filter(lambda row: row.age > 5).map(lambda row: row["name"]).collect() == ["Ann"]
    assert frame.persist(StorageLevel.DISK_ONLY).rdd.getStorageLevel() == StorageLevel.DISK_ONLY


def test_no_rows_need_names(spark):
    assert spark.createDataFrame([], ["a"]).collect() == []
    assert spark.createDataFrame(spark.sparkContext.emptyRDD(), ["a"]).columns == ["a"]
    with pytest.raises(ArgumentError, match="no rows and no schema"):
        spark.createDataFrame([])


def test_what_is_no_row_is_refused(spark):
    with pytest.raises(UserFunctionError, match=r"not 1 of type int.*\(x,\)"):
        spark.createDataFrame([1])
    with pytest.raises(ArgumentError, match="only 1 columns"):
        spark.createDataFrame([(1,)], ["a", "b"])
    with pytest.raises(JobFailed, match="a row of 1 values"):
        spark.createDataFrame([(1, 2), (1,)], ["a", "b"]).collect()
    with pytest.raises(NotSupported, match="names and no types"):
        spark.createDataFrame([(1, 2)], "a int, b int")
    with pytest.raises(ArgumentTypeError, match="createDataFrame: data = 5"):
        spark.createDataFrame(5)


def test_what_sql_would_do_is_refused_with_what_to_do(spark):
    with pytest.raises(NotSupported, match=r"SparkSession\.sql: asparkle has no SQL"):
        spark.sql("select 1")
    with pytest.raises(NotSupported, match=r"DataFrame\.select: asparkle has no SQL; work on \.rdd"):
        spark.createDataFrame([(1,)]).select("_1")
    with pytest.raises(NotSupported, match=r"DataFrame\['k'\]: asparkle has no SQL; work on \.rdd"):
        spark.createDataFrame([(1,)])["k"]
    with pytest.raises(NotSupported, match=r"spark\.read\.csv"):
        spark.read.csv("file")
    with pytest.raises(NotSupported, match=r"builder\.remote"):
        SparkSession.builder.remote("sc://host")
    assert not hasattr(spark, "udf")


def test_text_files_are_rows_of_lines(spark, tmp_path):
    for name in ("1.txt", "2.txt"):
        (tmp_path / name).write_text(f"{name}\nend\n")
    paths = [str(tmp_path / "2.txt"), str(tmp_path / "1.txt")]
    assert spark.read.text(paths).rdd.map(lambda row: row.value).collect() == ["2.txt", "end", "1.txt", "end"]
    frame = spark.read.text(str(tmp_path / "1.txt"))
    assert frame.first() == Row(value="1.txt") and frame.rdd.getNumPartitions() == 1


def test_pandas(spark):
    pandas = pytest.importorskip("pandas")
    frame = spark.createDataFrame([("Ann", 11), ("Bob", 5)], ["name", "age"])
    there = frame.toPandas()
    assert there.to_dict("list") == {"name": ["Ann", "Bob"], "age": [11, 5]}
    assert spark.createDataFrame(there).collect() == frame.collect()
    assert spark.createDataFrame(pandas.DataFrame({"a": [1]}), ["b"]).columns == ["b"]


def test_without_pandas_the_error_names_the_extra(spark, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(AsparkleError, match=r"pip install 'asparkle\[pandas\]'"):
        spark.createDataFrame([(1,)]).toPandas()


def shown(frame: DataFrame, *arguments: object) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        frame.show(*arguments)
    return output.getvalue()


def test_a_table_is_what_spark_prints(spark):
    """As recorded from PySpark 4.3."""
    row = ("a\nb", 1.5, 1e10, [1, 2], {"a": 1.0}, Row(p=1, q=None), True, b"AB", 1e-4, 123456789.25, -0.0, "x" * 30)
    assert shown(spark.createDataFrame([row])) == (
        "+----+---+------+------+----------+---------+----+-------+------+--------------+----+--------------------+\n"
        "|  _1| _2|    _3|    _4|        _5|       _6|  _7|     _8|    _9|           _10| _11|                 _12|\n"
        "+----+---+------+------+----------+---------+----+-------+------+--------------+----+--------------------+\n"
        "|a\\nb|1.5|1.0E10|[1, 2]|{a -> 1.0}|{1, NULL}|true|[41 42]|1.0E-4|1.2345678925E8|-0.0|xxxxxxxxxxxxxxxxx...|\n"
        "+----+---+------+------+----------+---------+----+-------+------+--------------+----+--------------------+\n"
        "\n"
    )
    frame = spark.createDataFrame([("Ann", 11), ("Bobby", None)], ["name", "age"])
    assert shown(frame, 1) == "+----+---+\n|name|age|\n+----+---+\n| Ann| 11|\n+----+---+\nonly showing top 1 row\n"
    rule = "+-----+----+\n"
    assert shown(frame, 20, False) == f"{rule}|name |age |\n{rule}|Ann  |11  |\n|Bobby|NULL|\n{rule}\n"
    assert shown(spark.createDataFrame([], ["a"])) == "+---+\n|  a|\n+---+\n+---+\n\n"


# -------------------------------------------------------------------------------------------- sessions


def test_a_session_is_made_once_and_again_after_it_was_stopped():
    first = SparkSession.builder.master("threads[2]").config("a.b", True).getOrCreate()
    assert SparkSession.builder.config("c", 1).getOrCreate() is first is SparkSession.active()
    assert (first.conf.get("a.b"), first.conf.get("c"), first.sparkContext.getConf().get("c")) == ("true", "1", None)
    first.stop()
    assert SparkSession.getActiveSession() is None
    with SparkSession.builder.master("threads[3]").getOrCreate() as second:
        assert second is not first and second.sparkContext.defaultParallelism == 3
        assert second.conf.get("a.b") is None


def test_a_session_takes_the_context_that_there_is():
    with SparkContext("threads[2]") as sc:
        assert SparkSession.builder.appName("other").getOrCreate().sparkContext is sc
        assert SparkSession(sc).newSession().sparkContext is sc


def test_a_context_that_stopped_takes_its_session_along():
    with SparkContext("threads[2]"):
        session = SparkSession.builder.getOrCreate()
    with SparkContext("threads[2]") as sc:
        assert SparkSession.builder.getOrCreate() is not session
        assert SparkSession.active().sparkContext is sc
