"""What programs for PySpark reach the JVM by: names that say what to use instead."""

from __future__ import annotations

from typing import NoReturn

from asparkle.core.errors import NotSupported


def no_jvm(name: str) -> NotSupported:
    return NotSupported(
        f"{name}: there is no JVM here.  Hadoop's settings, of hadoopConfiguration(), are "
        'SparkConf().set("spark.hadoop.<name>", value), and the log level is sc.setLogLevel(level)'
    )


class JVM:
    """An attribute that PySpark has and asparkle does not.  To look at it raises NotSupported."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise no_jvm(f"{owner.__name__}.{self._name}")
