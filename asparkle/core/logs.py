"""asparkle's own log: structured, through the host's logging, which it never configures.

A host that has configured structlog gets the records there.  Otherwise they go to the standard library's
logger ``asparkle`` as one line of text, and Python's own default decides what is seen (warnings, on
stderr).  Both are imported with the first record, not before.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from asparkle.core.errors import ArgumentError

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger
    from structlog.typing import Processor


def log(name: str = "asparkle") -> BoundLogger:
    """A structlog logger: ``log().warning("what happened", key=value, ...)``.  ``name``: 'asparkle...'.

    Ask for it where something is logged, not at import."""
    import structlog

    if structlog.is_configured():
        logger: BoundLogger = structlog.get_logger(name)
        return logger
    import logging

    processors: list[Processor] = [
        structlog.stdlib.filter_by_level,
        structlog.processors.format_exc_info,
        _as_text,
    ]
    logger = structlog.wrap_logger(
        logging.getLogger(name), processors=processors, wrapper_class=structlog.stdlib.BoundLogger
    )
    return logger


_LEVELS = {"ALL": 1, "TRACE": 5, "DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40, "FATAL": 50, "OFF": 100}


def set_level(level: str) -> None:
    """Sets the level of the standard library's logger ``asparkle``: one of Spark's names, in any case.

    Raises ArgumentError for another one."""
    import logging

    if str(level).upper() not in _LEVELS:
        raise ArgumentError(f"log level {level!r}: expected one of {', '.join(_LEVELS)}")
    logging.getLogger("asparkle").setLevel(_LEVELS[level.upper()])


def _as_text(_logger: object, _method: str, record: MutableMapping[str, Any]) -> str:
    """``what happened: key=value key=value``, then the traceback if there is one."""
    event, traceback = record.pop("event"), record.pop("exception", None)
    fields = " ".join(f"{key}={value!r}" for key, value in record.items())
    line = f"{event}: {fields}" if fields else str(event)
    return f"{line}\n{traceback}" if traceback else line
