"""A job as its caller waits for it: results as they arrive, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import anyio

from asparkle.core.errors import JobCancelled, JobFailed
from asparkle.core.failure import job_failed, load_failure
from asparkle.core.namedtuple import NamedTuple
from asparkle.core.payloads import remove_file
from asparkle.core.protocol import FileRef
from asparkle.core.scheduler.messages import FailureKind, JobFailure

if TYPE_CHECKING:
    from asparkle.core.jobrecords import JobRecord

# Where the jobs that are submitted here are noted: those of the action that a handle is for.
submission: ContextVar[list[JobRecord] | None] = ContextVar("asparkle_submission", default=None)


class JobOptions(NamedTuple):
    """What a job takes from where it was submitted: the caller's context variables."""

    pool: str = "default"
    group: str | None = None
    tags: frozenset[str] = frozenset()
    description: str = ""
    properties: Mapping[str, str] = MappingProxyType({})
    deadline: float | None = None  # seconds from its submission
    submission: list[JobRecord] | None = None  # where to note the job, for a handle
    submitted: Callable[[], object] | None = None  # called when the scheduler knows the job


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
        self.size += payload_size(result)

    def discard(self, partitions: Sequence[int] | None = None) -> None:
        """Forget results that were taken; all of them unless told which."""
        for partition in list(self.results) if partitions is None else partitions:
            payload = self.results.pop(partition, None)
            self.size -= payload_size(payload)
            drop_payload(payload)

    def finish(self, error: BaseException | None) -> None:
        self.error = error
        if error is not None:
            self.discard()
        self.done.set()

    @property
    def is_large(self) -> bool:
        """Whether its results are too much to unpickle on the event loop."""
        return self.size > 1 << 16 or any(type(r) is FileRef for r in self.results.values())


def payload_size(payload: Any) -> int:
    """Bytes that a result takes; those of live objects are not known."""
    if type(payload) is FileRef:
        return payload.length
    return len(payload) if type(payload) is bytes else 0


def drop_payload(payload: Any) -> None:
    """Nobody wants this payload: if it is a file, delete that."""
    if type(payload) is FileRef:
        remove_file(payload.path)


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
    return job_failed(load_failure(failure.error), kind=failure.kind.value, **place)
