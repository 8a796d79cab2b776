"""What plugins name by path, imported and checked where it is used: in workers, and in the driver."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from asparkle.core.contracts import AppSpec
from asparkle.core.errors import AsparkleError, ConfigurationError
from asparkle.core.unmet import unmet


def load_class(where: str, contract: type | str) -> Any:
    """The class ``"module:Class"``, named by a plugin.  Raises ConfigurationError if it does not meet ``contract``,
    which is given by its path where another package defines it."""
    found = imported(where)
    if problem := unmet(found, contract_of(contract)):
        raise ConfigurationError(f"{where!r}: {problem}")
    return found


def made(where: str, contract: type, app: AppSpec) -> Any:
    """A new object of such a class, for the application.  Raises ConfigurationError if it can't be made."""
    kind = load_class(where, contract)
    try:
        return kind(app)
    except AsparkleError:
        raise  # says what is to be done
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{where!r} could not be made: {type(error).__name__}: {error}") from error


def load_function(where: str) -> Callable[..., Any]:
    """The function ``"module:function"``, named by a plugin or backend.  Raises ConfigurationError if it is none."""
    found = imported(where)
    if not callable(found):
        raise ConfigurationError(f"{where!r} is {found!r}: expected a function")
    return found  # type: ignore[no-any-return]


def contract_of(contract: type | str) -> type:
    """A contract, imported if it is given by its path."""
    return contract if isinstance(contract, type) else imported(contract)


def imported(where: str) -> Any:
    """What ``"module:name"`` stands for.  Raises ConfigurationError, whatever importing it raises."""
    module, _, name = where.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{where!r} can't be imported here: {type(error).__name__}: {error}") from error
