"""Making an application from what a user gives a context: the one place where core and plugins meet."""

from __future__ import annotations

from collections.abc import Iterable

from asparkle.core.application import Application
from asparkle.core.conf import SparkConf


def new_application(
    master: str | None, name: str | None, conf: SparkConf | None, plugins: Iterable[object] = ()
) -> Application:
    """An application with this configuration; ``master`` and ``name`` go before what it says.

    Raises ConfigurationError, PluginError or StorageError; then nothing was started.
    """
    from asparkle.plugins.manager import PluginRegistry

    conf = SparkConf() if conf is None else conf.clone()
    if master is not None:
        conf.setMaster(master)
    if name is not None:
        conf.setAppName(name)
    return Application(conf, PluginRegistry(conf, plugins))
