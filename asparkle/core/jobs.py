"""A job as its caller waits for it: results as they arrive, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from asparkle.core.errors import JobCancelled, JobFailed
from asparkle.core.protocol import FileRef
from asparkle.core.scheduler.messages import FailureKind, JobFailure
from asparkle.core.worker.failure import TaskError, load_failure

__all__ = ["Job", "JobOptions", "failure_of"]


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What a job takes from where it was submitted: the caller's context variables."""

    pool: str = "default"
    group: str | None = None
    tags: frozenset[str] = frozenset()
    description: str = ""
    properties: dict[str, str] = field(default_factory=dict)


class Job:
    """Touched on the event loop only."""

    def __init__(self, identity: int, partitions: Sequence[int], stages: Sequence[object]) -> None:
        self.id = identity
        self.partitions = partitions
        self.stages = stages  # keeps what the scheduler may launch alive
        self.results: dict[int, Any] = {}
        self.size = 0
        self.error: BaseException | None = None
        self.done = anyio.Event()

    def take(self, partition: int, result: Any) -> None:
        self.results[partition] = result

    def finish(self, error: BaseException | None) -> None:
        self.error = error
        self.done.set()

    @property
    def is_large(self) -> bool:
        """Whether its results are too much to unpickle on the event loop."""
        return self.size > 1 << 16 or any(type(r) is FileRef for r in self.results.values())


def failure_of(failure: JobFailure, job: int) -> JobFailed:
    """The error that the job's caller gets: the user's exception is its cause."""
    place = {
        "job": job,
        "stage": failure.stage,
        "stage_name": failure.stage_name,
        "partition": failure.partition,
        "attempt": failure.attempt,
        "host": failure.host,
        "executor": failure.executor,
    }
    if failure.kind is FailureKind.CANCELLED:
        return JobCancelled(failure.reason or "the job was cancelled", job=job)
    if failure.error is None or isinstance(failure.error, str):
        return JobFailed(failure.reason, kind=failure.kind.value, **place)  # type: ignore[arg-type]
    cause: TaskError = load_failure(failure.error)
    reason = f"{cause.kind}: {cause.message}" if cause.message else cause.kind
    error = JobFailed(reason, frames=cause.frames, kind=failure.kind.value, **place)  # type: ignore[arg-type]
    error.__cause__ = cause.exception
    return error
