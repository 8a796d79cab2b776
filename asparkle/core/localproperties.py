"""Local properties: what the jobs that a task submits take from it, their group, tags and deadline included.

They are context variables: they belong to the task that sets them and to the tasks that it starts afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

from asparkle.core.conf import JOB_DEADLINE
from asparkle.core.jobs import JobOptions, submission

GROUP, DESCRIPTION, TAGS, POOL = (
    "spark.jobGroup.id",
    "spark.job.description",
    "spark.job.tags",
    "spark.scheduler.pool",
)
INTERRUPT = "spark.job.interruptOnCancel"
DEADLINE = JOB_DEADLINE.name

# By application, so that contexts don't see each other's.
_properties: ContextVar[Mapping[str, Mapping[str, str]]] = ContextVar(
    "asparkle_properties", default=MappingProxyType({})
)
_NO_OPTIONS = JobOptions()


class LocalProperties:
    """One context's, as the running task sees them.

    ``added``: functions that each submitted job's properties are given to, and that return some to add.
    """

    def __init__(self, app_id: str, added: Sequence[Callable[[Mapping[str, str]], Mapping[str, str]]] = ()) -> None:
        self._app_id = app_id
        self._added = added

    def _mine(self) -> Mapping[str, str]:
        return _properties.get().get(self._app_id, {})

    def get(self, key: str) -> str | None:
        return self._mine().get(key)

    def put(self, key: str, value: str | None) -> None:
        """Set a property for this task and those that it starts from now on; None removes it."""
        mine = dict(self._mine())
        if value is None:
            mine.pop(key, None)
        else:
            mine[key] = str(value)
        _properties.set({**_properties.get(), self._app_id: mine})

    @property
    def tags(self) -> set[str]:
        return _tags(self._mine())

    @tags.setter
    def tags(self, tags: Collection[str]) -> None:
        self.put(TAGS, ",".join(sorted(tags)) or None)

    @contextmanager
    def kept(self, key: str) -> Iterator[None]:
        """What is set for ``key`` inside is no longer so afterwards."""
        before = self.get(key)
        try:
            yield
        finally:
            self.put(key, before)

    def options(self) -> JobOptions:
        """Those of a job that is submitted now."""
        mine = self._mine()
        for function in self._added:
            mine = {**mine, **function(mine)}
        handle = submission.get()
        if not mine and handle is None:
            return _NO_OPTIONS
        deadline = mine.get(DEADLINE)
        return JobOptions(
            pool=mine.get(POOL, "default"),
            group=mine.get(GROUP),
            tags=frozenset(_tags(mine)),
            description=mine.get(DESCRIPTION, ""),
            properties=dict(mine),
            deadline=None if deadline is None else JOB_DEADLINE.parsed(deadline),
            submission=handle,
        )


def _tags(properties: Mapping[str, str]) -> set[str]:
    return set(filter(None, properties.get(TAGS, "").split(",")))
