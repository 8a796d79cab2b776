"""asparkle's own log: structured, through the host's logging, which it never configures.

A host that has configured structlog gets the records there.  Otherwise they go to the standard library's
logger ``asparkle`` as one line of text, and Python's own default decides what is seen (warnings, on
stderr).  Both are imported with the first record, not before.

Whoever wants the records as events `hear`s them: those that the host's own level and processors let through.  A record
belongs to the application in whose tasks, or in threads begun by these, it was logged; one that was logged elsewhere
(in a task of the user's, in a worker that lives in the driver's process), to all.  What a listener or a metric
sink logs is no event: a listener would hear itself for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from asparkle.core.errors import ArgumentError

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger
    from structlog.typing import Processor

Hearer: TypeAlias = Callable[[str, str, Mapping[str, Any]], None]
"""Takes a record: its level ('warning'), what happened, and its fields."""

_hearers: dict[object, tuple[int, Hearer]] = {}  # by application; with the process that it is in
_application: ContextVar[object] = ContextVar("asparkle_log_application", default=None)
_NOBODYS: Final = object()


def hear(application: object, hearer: Hearer | None) -> None:
    """Give ``hearer`` the application's records from now on, in whichever thread they are logged; None: no more."""
    if hearer is None:
        _hearers.pop(application, None)
    else:
        _hearers[application] = os.getpid(), hearer


def logging_for(application: object) -> None:
    """What this task, and what it begins from now on, logs is that application's."""
    _application.set(application)


def logging_for_nobody() -> Token[object]:
    """What this task or thread logs is no event: from now on, or until it is `logging_again`."""
    return _application.set(_NOBODYS)


def logging_again(token: Token[object]) -> None:
    _application.reset(token)


def log(name: str = "asparkle") -> BoundLogger:
    """A structlog logger: ``log().warning("what happened", key=value, ...)``.  ``name``: 'asparkle...'.

    Ask for it where something is logged, not at import."""
    import structlog

    hearers = _who_hears() if _hearers else []
    if structlog.is_configured():
        logger: BoundLogger = structlog.get_logger(name)
        if hearers:
            heard = _Heard(hearers).among(structlog.get_config()["processors"])
            logger = structlog.wrap_logger(None, heard, logger_factory_args=(name,))
        return logger
    import logging

    processors: list[Processor] = [
        structlog.stdlib.filter_by_level,
        structlog.processors.format_exc_info,
        _as_text,
    ]
    if hearers:
        processors = _Heard(hearers).among(processors)
    logger = structlog.wrap_logger(
        logging.getLogger(name), processors=processors, wrapper_class=structlog.stdlib.BoundLogger
    )
    return logger


def _who_hears() -> list[Hearer]:
    application, process = _application.get(), os.getpid()
    return [
        hearer
        for owner, (pid, hearer) in list(_hearers.items())
        if pid == process and (application is None or application is owner)
    ]


class _Heard:
    """A record on its way through the host's processors: told before the last, if none of them drops it."""

    def __init__(self, hearers: list[Hearer]) -> None:
        self._hearers = hearers
        self._fields: dict[str, Any] = {}

    def among(self, processors: list[Processor]) -> list[Processor]:
        return [self._note, *processors[:-1], self._tell, *processors[-1:]]

    def _note(self, _logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        self._fields = dict(record)  # before others change or render it
        return record

    def _tell(self, _logger: object, method: str, record: Any) -> Any:
        import structlog

        fields = structlog.processors.format_exc_info(_logger, method, self._fields)
        message = str(fields.pop("event", ""))
        for hearer in self._hearers:
            hearer(method, message, fields)
        return record


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
