"""The file of the FAIR scheduler's pools: Spark's ``fairscheduler.xml`` in TOML.

    [pool.production]
    schedulingMode = "FAIR"    # between the pool's own jobs; FIFO unless said, or a plugin's scheduling policy
    weight = 2                 # its share of the slots, relative to the other pools; 1 unless said
    minShare = 3               # slots that it gets before shares are weighed; 0 unless said

A pool that a job names and the file does not has the defaults.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from asparkle.core.errors import AsparkleError, ConfigurationError

if TYPE_CHECKING:
    from asparkle.core.contracts import SchedulingPolicy

    Pool: TypeAlias = tuple[SchedulingPolicy, int, int]
_FIELDS = {"schedulingMode": "FIFO", "weight": 1, "minShare": 0}


def read_pools(path: str, policy: Callable[[str], SchedulingPolicy]) -> dict[str, Pool]:
    """Pools by name, each (policy of its mode, weight, min share).  ``policy``: what a mode's name stands for.

    Raises ConfigurationError naming file and pool."""
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except (OSError, ValueError) as error:  # a TOMLDecodeError is a ValueError
        raise _error(path, str(error)) from None
    tables = document.pop("pool", {})
    if document or not isinstance(tables, dict):
        raise _error(path, "expected tables [pool.<name>] and nothing else")
    return {name: _pool(path, name, table, policy) for name, table in tables.items()}


def _pool(path: str, name: str, table: object, policy: Callable[[str], SchedulingPolicy]) -> Pool:
    if not isinstance(table, dict):
        raise _error(path, f"pool {name!r} is not a table [pool.{name}]")
    if unknown := sorted(table.keys() - _FIELDS.keys()):
        raise _error(path, f"pool {name!r} has {unknown[0]!r}; known are {', '.join(_FIELDS)}")
    values = _FIELDS | table
    mode, weight, share = values["schedulingMode"], values["weight"], values["minShare"]
    if not isinstance(mode, str):
        raise _error(path, f"pool {name!r}: schedulingMode = {mode!r}: expected FIFO, FAIR or a policy's name")
    if type(weight) is not int or weight < 1:
        raise _error(path, f"pool {name!r}: weight = {weight!r}: expected a whole number, 1 or more")
    if type(share) is not int or share < 0:
        raise _error(path, f"pool {name!r}: minShare = {share!r}: expected a whole number, 0 or more")
    try:
        return policy(mode), weight, share
    except AsparkleError as error:
        raise _error(path, f"pool {name!r}: schedulingMode = {mode!r}: {error}") from error


def _error(path: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"spark.scheduler.allocation.file = {path!r}: {problem}")
