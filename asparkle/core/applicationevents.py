"""What listeners are told of the application as a whole.  Imported only where there are any."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from asparkle.core.events import ApplicationEnded, ApplicationStarted
from asparkle.core.version import VERSION

if TYPE_CHECKING:
    from asparkle.core.application import Application


def application_started(application: Application, user: str) -> ApplicationStarted:
    conf = application.redacted(dict(application.conf.getAll()))
    environment = {
        "host.name": os.uname().nodename,
        "os.name": sys.platform,
        "process.directory": application.spec.directory,
        "process.id": str(os.getpid()),
        "python.executable": sys.executable,
        "python.implementation": sys.implementation.name,
        "python.version": sys.version.split()[0],
    }
    facts = (application.spec.app_id, application.spec.name, application.master_url, user)
    executors = (application.spec.storage_memory, application.spec.task_cpus)
    return ApplicationStarted(time.monotonic(), *facts, time.time(), VERSION, conf, environment, *executors)


def application_ended() -> ApplicationEnded:
    return ApplicationEnded(time.monotonic())
