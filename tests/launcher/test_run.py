"""``asparkle run``: a program runs as Python would run it, with the settings that it was given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import asparkle

ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("SPARK_", "PYSPARK_", "ASPARKLE_", "MASTER"))
}
SETTINGS = """
import json
from asparkle import SparkConf, SparkContext
with SparkContext(conf=SparkConf()) as sc:
    print(json.dumps({"parallelism": sc.defaultParallelism, **dict(sc.getConf().getAll())}))
"""


def run(directory: Path, *words: str, command: str = "run", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "asparkle", command, *words],
        cwd=directory,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def script(directory: Path, source: str, name: str = "script.py") -> str:
    (directory / name).write_text(source)
    return name


def settings(directory: Path, *words: str, **environment: str) -> dict[str, str]:
    done = run(directory, *words, script(directory, SETTINGS), **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ---------------------------------------------------------------------------------------- the program


def test_a_program_is_main_and_has_its_arguments_and_its_directory(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/helper.py").write_text("answer = 42")
    source = "import sys, helper\nprint(__name__, sys.argv, helper.answer, __file__)"
    name = script(tmp_path / "sub", source)
    done = run(tmp_path, f"sub/{name}", "1", "--master", "x", "-h")
    assert done.stdout == "__main__ ['sub/script.py', '1', '--master', 'x', '-h'] 42 sub/script.py\n"


def test_functions_and_classes_of_the_program_go_to_workers(tmp_path):
    source = """
from asparkle import SparkContext
class Point:
    def __init__(self, x): self.x = x
def double(x): return Point(scale * x)
scale = 2
with SparkContext("processes[2]") as sc:
    print([p.x for p in sc.parallelize(range(3)).map(double).collect()])
"""
    assert run(tmp_path, script(tmp_path, source)).stdout == "[0, 2, 4]\n"


@pytest.fixture(params=["directory", "zip file"])
def application(request, tmp_path):
    """A program of several files, where its caller wants it."""

    def make(**modules):
        home = tmp_path / "app"
        home.mkdir()
        for name, source in modules.items():
            (home / f"{name}.py").write_text(source)
        if request.param == "directory":
            return "app/"
        with zipfile.ZipFile(tmp_path / "app.zip", "w") as file:
            for name in modules:
                file.write(home / f"{name}.py", f"{name}.py")
        return "app.zip"

    return make


def test_a_directory_or_zip_file_runs_as_python_runs_it(tmp_path, application):
    source = """
import os, sys, helper
print(__name__, __file__, __package__, __spec__.name, sys.argv, sys.path[0].rstrip("/"), helper.answer)
"""
    path = application(__main__=source, helper="answer = 42")
    plain = subprocess.run([sys.executable, path, "1", "-h"], cwd=tmp_path, capture_output=True, text=True)
    assert "42" in plain.stdout
    assert run(tmp_path, path, "1", "-h").stdout.replace("//", "/") == plain.stdout.replace("//", "/")


def test_functions_of_a_directory_or_zip_file_go_to_workers(tmp_path, application):
    source = """
from asparkle import SparkContext
import helper
class Point:
    def __init__(self, x): self.x = x
def double(x): return Point(helper.scale * x)
with SparkContext("processes[2]") as sc:
    print(sc.appName, [p.x for p in sc.parallelize(range(3)).map(double).collect()])
    print(sc.parallelize([1]).map(helper.triple).collect())
"""
    path = application(__main__=source, helper="scale = 2\ndef triple(x): return 3 * x")
    done = run(tmp_path, path)
    assert done.stdout == f"{path.rstrip('/')} [0, 2, 4]\n[3]\n", done.stderr


def test_what_a_directory_or_zip_file_raises_is_its_own(tmp_path, application):
    path = application(__main__="import helper\nhelper.f()", helper="def f():\n    raise ValueError('no')")
    done = run(tmp_path, path)
    plain = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True)
    head, frames = done.stderr.split("\n", 1)
    assert (done.returncode, head) == (1, "Traceback (most recent call last):")
    assert "helper.py" in frames and plain.stderr.replace("//", "/").endswith(frames)


def test_a_directory_or_zip_file_without_a_main_is_refused(tmp_path, application):
    path = application(other="print('no')")
    done = run(tmp_path, path)
    expected = f"asparkle run: script {path!r}: it has no __main__.py; add one, or name the Python file to run\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_standard_input_is_read_by_its_name_only(tmp_path):
    done = run(tmp_path, "-")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "name a file, or /dev/stdin" in done.stderr
    words = [sys.executable, "-m", "asparkle", "run", "/dev/stdin", "1"]
    source = "import sys; print(__name__, sys.argv)"
    done = subprocess.run(words, input=source, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "__main__ ['/dev/stdin', '1']\n"


def test_what_a_program_raises_is_shown_as_python_shows_it(tmp_path):
    name = script(tmp_path, "def f():\n    raise ValueError('boom')\nf()\n")
    done = run(tmp_path, name)
    plain = subprocess.run([sys.executable, name], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.replace('File "script.py"', f'File "{tmp_path / name}"') == plain.stderr.replace(
        'File "script.py"', f'File "{tmp_path / name}"'
    )


def test_a_program_may_exit(tmp_path):
    assert run(tmp_path, script(tmp_path, "import sys; sys.exit(7)")).returncode == 7


def test_a_program_that_is_no_python_is_a_syntax_error_of_its_own(tmp_path):
    done = run(tmp_path, script(tmp_path, "print(\n"))
    assert done.returncode == 1
    assert "SyntaxError" in done.stderr and "asparkle/launcher" not in done.stderr


def test_ctrl_c_ends_a_program_and_its_job(tmp_path):
    source = """
import pathlib, time
from asparkle import SparkContext
def work(x):
    pathlib.Path("started").touch()
    time.sleep(600)
with SparkContext("processes[1]") as sc:
    sc.parallelize([1]).foreach(work)
"""
    process = subprocess.Popen(
        [sys.executable, "-m", "asparkle", "run", script(tmp_path, source)],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not (tmp_path / "started").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "KeyboardInterrupt" in errors and "asparkle/launcher" not in errors


# ---------------------------------------------------------------------------------------- settings


def test_options_are_settings_of_new_confs(tmp_path):
    options = ["--master", "threads[3]", "--name", "mine", "--executor-memory", "1g", "--conf", "spark.b=c=d"]
    found = settings(tmp_path, *options, "-c", "spark.task.maxFailures=2")
    assert found == {
        "parallelism": 3,
        "spark.master": "threads[3]",
        "spark.app.name": "mine",
        "spark.executor.memory": "1g",
        "spark.b": "c=d",
        "spark.task.maxFailures": "2",
    }


def test_a_program_has_the_last_word(tmp_path):
    source = """
from asparkle import SparkConf, SparkContext
with SparkContext("inline", conf=SparkConf().setAppName("own")) as sc:
    print(sc.master, sc.appName, SparkConf(loadDefaults=False).getAll())
"""
    done = run(tmp_path, "--master", "threads[3]", "--name", "given", script(tmp_path, source))
    assert done.stdout == "inline own []\n"


def test_the_application_is_called_after_the_program(tmp_path):
    assert settings(tmp_path, "--master", "inline")["spark.app.name"] == "script.py"


def test_both_faces_have_the_settings(tmp_path):
    source = """
import asyncio
from asparkle.aio import SparkContext
async def main():
    async with SparkContext() as sc:
        print(sc.master, await sc.parallelize(range(4)).sum())
asyncio.run(main())
"""
    assert run(tmp_path, "--master", "threads[3]", script(tmp_path, source)).stdout == "threads[3] 6\n"


def test_which_setting_goes_first(tmp_path):
    """The command line, then PYSPARK_SUBMIT_ARGS, then the properties file, then MASTER."""
    (tmp_path / "spark-defaults.conf").write_text("spark.master threads[3]\nspark.app.name  file\nspark.a file\n")
    home = {"SPARK_CONF_DIR": str(tmp_path), "MASTER": "threads[2]"}
    assert settings(tmp_path, MASTER="threads[2]")["parallelism"] == 2
    assert settings(tmp_path, **home)["parallelism"] == 3
    submit = "--master threads[4] --conf spark.app.name='a b' pyspark-shell"
    found = settings(tmp_path, **home, PYSPARK_SUBMIT_ARGS=submit)
    assert (found["spark.master"], found["spark.app.name"], found["spark.a"]) == ("threads[4]", "a b", "file")
    assert settings(tmp_path, "--master", "inline", **home, PYSPARK_SUBMIT_ARGS=submit)["spark.master"] == "inline"


def test_spark_home_has_defaults_which_a_properties_file_replaces(tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/spark-defaults.conf").write_text("spark.master=threads[2]\nspark.a=home\n")
    (tmp_path / "mine.conf").write_text("spark.master=threads[3]\n")
    found = settings(tmp_path, "--properties-file", "mine.conf", SPARK_HOME=str(tmp_path))
    assert found["parallelism"] == 3 and "spark.a" not in found
    found = settings(tmp_path, "--properties-file", "mine.conf", "--load-spark-defaults", SPARK_HOME=str(tmp_path))
    assert found["parallelism"] == 3 and found["spark.a"] == "home"


def test_a_program_may_set_the_submit_arguments_itself(tmp_path):
    source = "import os\nos.environ['PYSPARK_SUBMIT_ARGS'] = '--master threads[3] pyspark-shell'\n" + SETTINGS
    done = run(tmp_path, script(tmp_path, source))
    assert json.loads(done.stdout)["parallelism"] == 3


@pytest.mark.parametrize(
    ("options", "master"),
    [
        ("--num-executors 2", "local[2]"),
        ("--num-executors 2 --executor-cores 2", "local[4]"),
        ("--num-executors 2 --executor-cores 2 --total-executor-cores 3", "local[3]"),
        ("--total-executor-cores 3", "local[3]"),
        ("--num-executors 2 --master threads[1]", "threads[1]"),
        ("--deploy-mode client --driver-memory 1g --driver-cores 1 --master inline", "inline"),
    ],
)
def test_executors_and_cores_make_a_master_where_none_is_named(tmp_path, options, master):
    assert settings(tmp_path, *options.split())["spark.master"] == master


def test_under_dynamic_allocation_they_are_the_first_ones_and_make_no_master(tmp_path):
    found = settings(tmp_path, "--num-executors", "2", "--conf", "spark.dynamicAllocation.enabled=true")
    assert (found.get("spark.master"), found["spark.executor.instances"]) == (None, "2")


def test_modules_and_zip_files_are_found_by_driver_and_workers(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/single.py").write_text("def one(x): return x + 1\n")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("zipped/__init__.py", "def two(x): return x + 2\n")
    source = """
import single, zipped
from asparkle import SparkContext
with SparkContext("processes[1]") as sc:
    print(sc.parallelize([1]).map(single.one).map(lambda x: zipped.two(x)).collect())
"""
    done = run(tmp_path, "--py-files", "lib/single.py,packed.zip", script(tmp_path, source))
    assert done.stdout == "[4]\n", done.stderr


def test_files_and_archives_are_found_by_tasks(tmp_path):
    (tmp_path / "words.txt").write_text("tiger")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("more.txt", "burning")
    source = (
        "from asparkle import SparkContext, SparkFiles\n"
        "with SparkContext() as sc:\n"
        "    names = sc.parallelize(['words.txt', 'more.zip/more.txt'])\n"
        "    print(names.map(lambda name: open(SparkFiles.get(name)).read()).collect())\n"
    )
    name = script(tmp_path, source)
    done = run(tmp_path, "--master", "local[2]", "--files", "wor*.[t]xt", "--archives", "more.zip#more.zip", name)
    assert done.stdout == "['tiger', 'burning']\n"


# ---------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("missing.py", "asparkle run: script 'missing.py': No such file or directory"),
        ("--packages a:b:1 script.py", "asparkle: --packages is not supported: there is no JVM to load Maven packages"),
        ("--class Main script.py", "asparkle: --class is not supported: there is no JVM to run a class"),
        ("--deploy-mode cluster script.py", "asparkle: --deploy-mode cluster is not supported"),
        ("--bogus script.py", "--bogus"),
        ("--conf spark.a script.py", "asparkle run: --conf spark.a: expected KEY=VALUE"),
        ("--master yarn script.py", "asparkle run: master 'yarn': asparkle does not run on a Spark or Hadoop cluster"),
        ("--master local[0] script.py", "asparkle run: master 'local[0]'"),
        ("--executor-memory 2x script.py", "asparkle run: spark.executor.memory = '2x': expected a size"),
        ("--num-executors two script.py", "asparkle run: spark.executor.instances = 'two': expected a whole number"),
        ("--files script.py#alias script.py", "asparkle run: spark.files: 'script.py#alias': only archives get a name"),
        ("--py-files no*.py script.py", "asparkle run: spark.submit.pyFiles: 'no*.py': no such file"),
        ("--files missing.txt script.py", "asparkle run: spark.files: 'missing.txt': no such file"),
        ("--py-files s3://b/x.py script.py", "asparkle run: spark.submit.pyFiles: 's3://b/x.py': only local files"),
        ("--properties-file missing.conf script.py", "asparkle run: properties file 'missing.conf'"),
        ("", "asparkle: the following arguments are required: script;"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_before_anything_starts(tmp_path, words, problem):
    script(tmp_path, "print('ran')")
    done = run(tmp_path, *words.split())
    assert done.returncode == 2
    assert problem in done.stderr and done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_another_python_is_refused(tmp_path):
    name = script(tmp_path, "print('ran')")
    assert "PYSPARK_PYTHON = 'python2'" in run(tmp_path, name, PYSPARK_PYTHON="python2").stderr
    assert run(tmp_path, name, PYSPARK_PYTHON=sys.executable).stdout == "ran\n"
    other = tmp_path / "other/bin/python"
    other.parent.mkdir(parents=True)
    other.symlink_to(os.path.realpath(sys.executable))
    (tmp_path / "other/pyvenv.cfg").touch()  # the same interpreter, in another virtual environment
    assert f"PYSPARK_PYTHON = '{other}'" in run(tmp_path, name, PYSPARK_PYTHON=str(other)).stderr


def test_what_is_no_setting_is_left_out_and_said(tmp_path):
    done = run(tmp_path, "--conf", "a.b=c", "-v", script(tmp_path, "1"))
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        0,
        "asparkle: --conf: 'a.b' is left out: a setting begins with spark. or asparkle.",
    )


INSTALLED = """
import os, sys
from asparkle.pyspark import install
install()
os.environ["PYSPARK_SUBMIT_ARGS"] = "--master threads[3] --py-files more.zip pyspark-shell"
from pyspark import SparkConf, SparkContext
with SparkContext(conf=SparkConf().set("spark.b", "mine")) as sc:
    import inside
    conf = sc.getConf()
    print(sc.master, conf.get("spark.a"), conf.get("spark.b"), sc.parallelize([1]).map(lambda x: inside.name).collect())
"""


def test_without_the_launcher_pyspark_heeds_the_environment(tmp_path):
    (tmp_path / "spark-defaults.conf").write_text("spark.a file\nspark.b file\nspark.master inline\n")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("inside.py", "name = 'zipped'")
    environment = ENVIRONMENT | {"SPARK_CONF_DIR": str(tmp_path), "MASTER": "threads[1]"}
    name = script(tmp_path, INSTALLED)
    done = subprocess.run([sys.executable, name], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "threads[3] file mine ['zipped']\n", done.stderr


def test_bad_submit_arguments_of_the_environment_are_named(tmp_path):
    done = run(tmp_path, script(tmp_path, "1"), PYSPARK_SUBMIT_ARGS="--mister local pyspark-shell")
    assert done.returncode == 2 and "--mister" in done.stderr and "PYSPARK_SUBMIT_ARGS" in done.stderr


def test_the_command_says_its_version_and_its_settings(tmp_path):
    assert run(tmp_path, command="--version").stdout == f"asparkle {asparkle.__version__}\n"
    done = run(tmp_path, "-v", "--master", "inline", script(tmp_path, "1"))
    assert done.stderr == "spark.app.name=script.py\nspark.master=inline\n"


def test_the_command_is_installed(tmp_path):
    command = Path(sys.executable).with_name("asparkle")
    if not command.exists():
        pytest.skip("asparkle is not installed in this environment")
    done = subprocess.run([command, "run", script(tmp_path, "print(1)")], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "1\n"
