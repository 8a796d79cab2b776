"""What ``spark.dynamicAllocation.*`` says: how many executors there are at first, at least and at most."""

from __future__ import annotations

from math import inf

from asparkle.core import conf as keys
from asparkle.core.conf import SparkConf
from asparkle.core.errors import ConfigurationError
from asparkle.core.scheduler.messages import AllocationConf


def allocation_conf(conf: SparkConf, executors: int, each: int = 1) -> AllocationConf:
    """The settings in ``conf``, for a master that asks for so many ``executors``.

    ``each``: how many executors, of one slot each, take the place of one that is counted in ``conf``.  Raises
    ConfigurationError where the least is more than the most, or the first are not between them.
    """
    least, most = keys.ALLOCATION_MIN.read(conf), keys.ALLOCATION_MAX.read(conf)
    first = keys.ALLOCATION_INITIAL.read(conf)
    if most is not None and least > most:
        raise ConfigurationError(
            f"{keys.ALLOCATION_MIN.name} = {least} is more than {keys.ALLOCATION_MAX.name} = {most}: lower the one, or "
            "raise the other"
        )
    if first is not None and not least <= first <= (inf if most is None else most):
        raise ConfigurationError(
            f"{keys.ALLOCATION_INITIAL.name} = {first}: expected from {keys.ALLOCATION_MIN.name} = {least} to "
            f"{keys.ALLOCATION_MAX.name}{'' if most is None else f' = {most}'}; leave it out to begin with the least"
        )
    first = max(least, first or 0, keys.EXECUTOR_INSTANCES.read(conf) or 0)
    most = max(executors, first * each) if most is None else most * each
    backlog, cached = keys.ALLOCATION_BACKLOG.read(conf), keys.ALLOCATION_CACHED_IDLE.read(conf)
    shuffle = keys.ALLOCATION_SHUFFLE_IDLE.read(conf)
    return AllocationConf(
        initial=min(first * each, most),
        least=least * each,
        most=most,
        backlog_timeout=backlog,
        sustained_timeout=keys.ALLOCATION_SUSTAINED.read(conf) or backlog,
        idle_timeout=keys.ALLOCATION_IDLE.read(conf),
        cached_timeout=inf if cached is None else cached,
        ratio=keys.ALLOCATION_RATIO.read(conf),
        shuffle_tracking=keys.ALLOCATION_SHUFFLE_TRACKING.read(conf),
        shuffle_timeout=inf if shuffle is None else shuffle,
    )
