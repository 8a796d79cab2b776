"""What plugins name by path, imported and checked where it is used: in workers, and in the driver."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from asparkle.core.errors import ConfigurationError
from asparkle.core.unmet import unmet


def load_class(where: str, contract: type | str) -> Any:
    """The class ``"module:Class"``, named by a plugin.  Raises ConfigurationError if it does not meet ``contract``,
    which is given by its path where another package defines it."""
    found = _load(where, contract.rpartition(":")[2] if isinstance(contract, str) else contract.__name__)
    if problem := unmet(found, contract_of(contract)):
        raise ConfigurationError(f"{where!r}: {problem}")
    return found


def load_function(where: str, what: str = "a task's scope") -> Callable[..., Any]:
    """The function ``"module:function"``, named by a plugin as ``what``.  Raises ConfigurationError if it is none."""
    found = _load(where, what)
    if not callable(found):
        raise ConfigurationError(f"{where!r} is not a function")
    return found  # type: ignore[no-any-return]


def contract_of(contract: type | str) -> type:
    """A contract, imported if it is given by its path."""
    if isinstance(contract, type):
        return contract
    found: type = _load(contract, "a contract")
    return found


def _load(where: str, what: str) -> Any:
    module, _, name = where.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        problem = f"can't be imported here: {type(error).__name__}: {error}"
        raise ConfigurationError(f"{where!r}, named as {what}, {problem}") from error
