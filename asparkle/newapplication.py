"""Making an application from what a user gives a context: the one place where core and plugins meet."""

from __future__ import annotations

import os
from collections.abc import Iterable

from asparkle.core import arguments
from asparkle.core.application import Application
from asparkle.core.conf import SparkConf


def own_conf(conf: SparkConf | None) -> SparkConf:
    """A copy of what a context is given, or a new one.  Raises ArgumentTypeError for what is no SparkConf."""
    if conf is not None and not isinstance(conf, SparkConf):
        raise arguments.wrong_type(conf, "SparkContext", "conf", "a SparkConf, such as SparkConf().setAll(pairs)")
    return SparkConf() if conf is None else conf.clone()


def new_application(
    master: str | None, name: str | None, conf: SparkConf | None, plugins: Iterable[object] = ()
) -> Application:
    """An application with this configuration; ``master`` and ``name`` go before what it says.

    Raises ArgumentTypeError for what is no SparkConf or no list of plugins, and
    ConfigurationError, PluginError or StorageError; then nothing was started.
    """
    from asparkle.plugins.registry import PluginRegistry

    plugins = arguments.elements(plugins, "SparkContext", "plugins", "a list of plugins")
    conf = own_conf(conf)
    if "PYSPARK_SUBMIT_ARGS" in os.environ or "ASPARKLE_AS_PYSPARK" in os.environ:
        from asparkle.launcher.settings import heed_environment

        heed_environment(conf)
    if master is not None:
        conf.setMaster(master)
    if name is not None:
        conf.setAppName(name)
    return Application(conf, PluginRegistry(conf, plugins))
