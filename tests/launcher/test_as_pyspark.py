"""Programs written for PySpark find asparkle under its name, in the driver and in workers."""

from __future__ import annotations

from importlib import import_module

import pytest

from asparkle.core.errors import ModuleNotSupported
from asparkle.pyspark import target

from .test_run import run, script


def test_the_paths_that_programs_import_from_lead_to_asparkle(tmp_path):
    source = """
import pyspark, pyspark.rdd, pyspark.core.rdd, pyspark.core.context, pyspark.sql.session
from pyspark import SparkConf, SparkContext, StorageLevel, storagelevel, sql
from pyspark.accumulators import AccumulatorParam
from pyspark.broadcast import Broadcast
from pyspark.core.broadcast import Broadcast as SameBroadcast
from pyspark.conf import SparkConf as SameConf
from pyspark.resultiterable import ResultIterable
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.types import Row as SameRow
from pyspark.statcounter import StatCounter
from pyspark.taskcontext import TaskContext
import asparkle, asparkle.rdd, asparkle.context
assert pyspark.rdd is pyspark.core.rdd is asparkle.rdd and pyspark.core.context is asparkle.context
assert (Broadcast, SparkConf, Row) == (SameBroadcast, SameConf, SameRow)
assert storagelevel.StorageLevel is StorageLevel is asparkle.StorageLevel
assert (asparkle.__name__, asparkle.__spec__.name, asparkle.rdd.__name__) == ("asparkle", "asparkle", "asparkle.rdd")
print(pyspark.__version__, SparkContext.__module__)
"""
    done = run(tmp_path, "--pyspark", script(tmp_path, source))
    assert done.stdout == "4.3.0 asparkle.context\n", done.stderr


def test_a_star_gives_what_is_public(tmp_path):
    source = "from pyspark import *\nprint(SparkContext.__module__, SparkConf.__name__, 'install' in globals())"
    done = run(tmp_path, "--pyspark", script(tmp_path, source))
    assert done.stdout == "asparkle.context SparkConf False\n", done.stderr


@pytest.mark.parametrize(
    "module", ["accumulators", "broadcast", "conf", "resultiterable", "statcounter", "storagelevel", "taskcontext"]
)
def test_the_same_paths_exist_under_asparkle(module):
    assert target(f"pyspark.{module}") == f"asparkle.{module}"
    public = import_module(f"asparkle.{module}")
    assert public.__all__ and all(hasattr(public, name) for name in public.__all__)


@pytest.mark.parametrize(
    "module", ["pyspark.ml", "pyspark.sql.functions", "pyspark.backends", "pyspark.launcher", "pyspark.x.y"]
)
def test_other_modules_are_an_import_error_that_says_so(module):
    with pytest.raises(ModuleNotSupported, match=f"asparkle has no {module}: it has RDDs"):
        target(module)


@pytest.mark.parametrize(
    "statement",
    [
        "import pyspark.ml",
        "from pyspark import ml",
        "from pyspark.sql import functions as F",
        "from pyspark.sql.functions import col",
        "from pyspark.sql import Window",
        "from pyspark.sql.types import StructType",
    ],
)
def test_programs_meet_it_as_an_import_error(tmp_path, statement):
    source = f"try:\n    {statement}\nexcept ImportError as error:\n    print(error)"
    done = run(tmp_path, "--pyspark", script(tmp_path, source))
    assert done.stdout.startswith("asparkle has no pyspark."), done.stderr


def test_without_the_option_pyspark_is_what_is_installed(tmp_path):
    (tmp_path / "pyspark.py").write_text("name = 'somebody else'")
    name = script(tmp_path, "import asparkle, pyspark\nprint(pyspark.name)")
    assert run(tmp_path, name).stdout == "somebody else\n"


def test_spark_on_the_path_and_pyspark_beside_the_program_change_nothing(tmp_path):
    """As the tutorial's first cell, and as findspark, which puts itself in front."""
    spark = tmp_path / "spark/python/pyspark"
    spark.mkdir(parents=True)
    (spark / "__init__.py").write_text("raise AssertionError('the real one was imported')")
    (tmp_path / "pyspark.py").write_text("raise AssertionError('the real one was imported')")
    source = """
import os, sys
os.environ["SPARK_HOME"] = os.path.join(os.getcwd(), "spark")
sys.path.append(os.path.join(os.environ["SPARK_HOME"], "python"))
sys.path.insert(0, os.path.join(os.environ["SPARK_HOME"], "python"))
from pyspark import SparkContext, SparkConf
def where(x):
    import pyspark.rdd
    return pyspark.rdd.__name__
sc = SparkContext(conf=SparkConf().setMaster("processes[1]"))
print(sc.parallelize([1]).map(where).collect(), sc.parallelize([2]).map(lambda x: SparkConf.__module__).collect())
"""
    done = run(tmp_path, "--pyspark", script(tmp_path, source))
    assert done.stdout == "['asparkle.rdd'] ['asparkle.core.conf']\n", done.stderr


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_objects_with_pysparks_class_names_unpickle_in_workers(tmp_path, start):
    source = r"""
import pickle
from pyspark import SparkContext
row = b"cpyspark.sql.types\n_create_row\n((S'name'\nS'age'\nl(S'Ann'\nI11\nttR."
level = b"cpyspark.storagelevel\nStorageLevel\n(I01\nI00\nI00\nI00\nI1\ntR."
with SparkContext("processes[1]") as sc:
    print(sc.parallelize([row, level], 1).map(pickle.loads).collect())
"""
    source = source.replace(r"((S'name'\nS'age'\nl(", r"((S'name'\nS'age'\nt(")
    done = run(tmp_path, "--pyspark", script(tmp_path, source), ASPARKLE_START_METHOD=start)
    assert done.stdout == "[Row(name='Ann', age=11), StorageLevel(True, False, False, False, 1)]\n", done.stderr


def test_a_program_of_pysparks_runs_unchanged(tmp_path):
    (tmp_path / "words.txt").write_text("a b a\nc a\n")
    source = """
import sys
from operator import add
from pyspark.sql import SparkSession

spark = SparkSession.builder.appName("words").config("spark.ui.enabled", False).getOrCreate()
lines = spark.read.text(sys.argv[1]).rdd.map(lambda r: r[0])
counts = lines.flatMap(lambda x: x.split(" ")).map(lambda x: (x, 1)).reduceByKey(add)
print(sorted(counts.collect()), spark.sparkContext.appName)
counts.toDF(["word", "count"]).show()
spark.stop()
"""
    done = run(tmp_path, "--pyspark", "--master", "processes[2]", script(tmp_path, source), "words.txt")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[('a', 3), ('b', 1), ('c', 1)] words\n+----+-----+\n|word|count|\n+----+-----+\n")


def test_what_is_not_public_and_widely_used(tmp_path):
    source = """
from pyspark import SparkContext, SparkExecutorInfo, SparkJobInfo, SparkStageInfo, StatusTracker, TaskContext
from pyspark.sql import SparkSession
assert SparkContext._active_spark_context is None
sc = SparkContext("threads[2]", "facts", environment={"A": "b"})
assert SparkContext._active_spark_context is sc and isinstance(sc.statusTracker(), StatusTracker)
assert dict(sc._conf.getAll())["spark.app.name"] == "facts" and sc._conf.get("spark.master") == "threads[2]"
assert sc.environment == {"PYTHONHASHSEED": "0", "A": "b"}
print(sc.range(3, numSlices=3).map(lambda x: (TaskContext().partitionId(), x)).collect())
spark = SparkSession.builder.getOrCreate()
assert spark._sc is sc and spark.conf.get("spark.app.name") == "facts"
assert spark.conf.get("spark.app.id") == sc.applicationId
for reach in (lambda: sc._jsc, lambda: sc._jvm, lambda: SparkContext._gateway, lambda: sc.range(1)._jrdd,
        lambda: spark._jvm):
    try:
        reach()
    except AttributeError as error:
        assert "there is no JVM" in str(error) and "spark.hadoop." in str(error)
    else:
        assert False
try:
    TaskContext()
except RuntimeError as error:
    print(error)
"""
    done = run(tmp_path, "--pyspark", script(tmp_path, source))
    facts = "[(0, 0), (1, 1), (2, 2)]\nTaskContext(): no task runs here; make it in a function that tasks call\n"
    assert done.stdout == facts, done.stderr


def test_pysparks_names_of_errors_catch_what_they_should(tmp_path):
    source = """
import pyspark.cloudpickle, pyspark.version
from pyspark import SparkContext, StorageLevel
from pyspark.errors import *
from pyspark.errors import IllegalArgumentException, ParseException, PySparkIndexError
from pyspark.errors.exceptions.base import PySparkException as SameException
from pyspark.errors.exceptions.captured import AnalysisException as SameAnalysisException
from pyspark.sql import SparkSession
assert SameException is PySparkException and SameAnalysisException is AnalysisException
assert pyspark.version.__version__ == pyspark.__version__ and pyspark.cloudpickle.dumps
sc = SparkContext("threads[1]")
spark = SparkSession.builder.getOrCreate()
lock = __import__("threading").Lock()
for act, kind, builtin in [
    (lambda: SparkContext("local"), PySparkValueError, ValueError),
    (lambda: SparkContext("local"), PySparkRuntimeError, RuntimeError),
    (lambda: sc.parallelize([]).first(), PySparkValueError, ValueError),
    (lambda: sc.parallelize([1]).map(3), PySparkTypeError, TypeError),
    (lambda: spark.sql("select 1"), PySparkAttributeError, AttributeError),
    (lambda: spark.read.text("nowhere"), AnalysisException, FileNotFoundError),
    (lambda: sc.hadoopFile("x", "y", "z", "k"), PySparkNotImplementedError, NotImplementedError),
    (lambda: sc.broadcast(lock), PySparkPicklingError, __import__("pickle").PicklingError),
    (lambda: __import__("pyspark.ml"), PySparkImportError, ImportError),
]:
    for expected in (kind, builtin, PySparkException):
        try:
            act()
        except expected:
            pass
print("all")
"""
    done = run(tmp_path, "--pyspark", script(tmp_path, source))
    assert done.stdout == "all\n", done.stderr
