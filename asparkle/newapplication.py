"""Making an application from what a user gives a context: the one place where core and plugins meet."""

from __future__ import annotations

from collections.abc import Iterable

from asparkle.core import arguments
from asparkle.core.application import Application
from asparkle.core.conf import SparkConf
from asparkle.core.errors import ArgumentTypeError
from asparkle.core.shown import shown


def new_application(
    master: str | None, name: str | None, conf: SparkConf | None, plugins: Iterable[object] = ()
) -> Application:
    """An application with this configuration; ``master`` and ``name`` go before what it says.

    Raises ArgumentTypeError for what is no SparkConf or no list of plugins, and
    ConfigurationError, PluginError or StorageError; then nothing was started.
    """
    from asparkle.plugins.manager import PluginRegistry

    if conf is not None and not isinstance(conf, SparkConf):
        raise ArgumentTypeError(
            f"SparkContext: conf = {shown(conf)} of type {type(conf).__name__}: expected a SparkConf"
        )
    plugins = arguments.elements(plugins, "SparkContext", "plugins", "a list of plugins")
    conf = SparkConf() if conf is None else conf.clone()
    if master is not None:
        conf.setMaster(master)
    if name is not None:
        conf.setAppName(name)
    return Application(conf, PluginRegistry(conf, plugins))
