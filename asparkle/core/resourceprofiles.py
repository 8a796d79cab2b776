"""Resource profiles: what the tasks of an RDD ask for, and the executors that would run them.

PySpark's interface (`pyspark.resource`, Spark's stage-level scheduling).  Executors here are started once, with
the same slots and memory for all, so `RDD.withResources` takes no profile that asks for others, as in Spark
without a cluster that could start them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from asparkle.core import arguments
from asparkle.core.conf import TASK_CPUS, SparkConf, parse_bytes
from asparkle.core.errors import ArgumentError
from asparkle.core.shown import shown

CPUS = "cpus"

_numbers = itertools.count(1)  # 0 is the profile of those RDDs that have none of their own


class ResourceInformation(NamedTuple):
    """Addresses of a resource, of GPUs say, that a task or the driver may use."""

    name: str
    addresses: list[str]


class ExecutorResourceRequest(NamedTuple):
    """What an executor should have of one resource: ``amount`` in MiB for memory, else a count."""

    resourceName: str
    amount: int
    discoveryScript: str = ""
    vendor: str = ""


class TaskResourceRequest(NamedTuple):
    """What one task takes of a resource of its executor; less than 1 if tasks share it."""

    resourceName: str
    amount: float


class ExecutorResourceRequests:
    """What an executor should have.  Each method adds a request, or replaces it, and returns the object itself.

    >>> from asparkle.resource import ExecutorResourceRequests
    >>> requests = ExecutorResourceRequests().cores(4).memory("2g")
    >>> requests.requests["memory"].amount
    2048
    """

    def __init__(self) -> None:
        self._requests: dict[str, ExecutorResourceRequest] = {}

    def cores(self, amount: int) -> ExecutorResourceRequests:
        """Slots."""
        return self._add("cores", arguments.whole_number(amount, "cores", "amount", 1))

    def memory(self, amount: str) -> ExecutorResourceRequests:
        """Memory as a text, ``"512m"`` or ``"2g"``; a bare number counts MiB."""
        return self._memory("memory", amount)

    def memoryOverhead(self, amount: str) -> ExecutorResourceRequests:
        """Memory that the JVM would take beside its heap."""
        return self._memory("memoryOverhead", amount)

    def pysparkMemory(self, amount: str) -> ExecutorResourceRequests:
        """Memory that Python would take beside the JVM."""
        return self._memory("pyspark.memory", amount)

    def offheapMemory(self, amount: str) -> ExecutorResourceRequests:
        """Memory that the JVM would take outside its heap."""
        return self._memory("offHeap", amount)

    def resource(
        self, resourceName: str, amount: int, discoveryScript: str = "", vendor: str = ""
    ) -> ExecutorResourceRequests:
        """Any other resource, ``"gpu"`` say."""
        name = arguments.text(resourceName, "resource", "resourceName")
        return self._add(name, arguments.whole_number(amount, "resource", "amount", 1), discoveryScript, vendor)

    @property
    def requests(self) -> dict[str, ExecutorResourceRequest]:
        """The requests, by the names of the resources."""
        return dict(self._requests)

    def _memory(self, name: str, amount: str) -> ExecutorResourceRequests:
        text = arguments.text(amount, name, "amount")
        try:
            return self._add(name, parse_bytes(text, "m") // 2**20)
        except ValueError:
            raise ArgumentError(f"{name}: amount = {shown(amount)}: expected a size such as '512m' or '2g'") from None

    def _add(self, name: str, *values: Any) -> ExecutorResourceRequests:
        self._requests[name] = ExecutorResourceRequest(name, *values)
        return self


class TaskResourceRequests:
    """What each task takes.  Each method adds a request, or replaces it, and returns the object itself.

    >>> from asparkle.resource import TaskResourceRequests
    >>> TaskResourceRequests().cpus(1).requests
    {'cpus': TaskResourceRequest(resourceName='cpus', amount=1.0)}
    """

    def __init__(self) -> None:
        self._requests: dict[str, TaskResourceRequest] = {}

    def cpus(self, amount: float) -> TaskResourceRequests:
        """Slots."""
        return self.resource(CPUS, amount)

    def resource(self, resourceName: str, amount: float) -> TaskResourceRequests:
        """Any other resource.  Raises ArgumentError for an ``amount`` over 1 that is not whole."""
        name = arguments.text(resourceName, "resource", "resourceName")
        number = arguments.not_negative(amount, "resource", "amount")
        if number > 1 and not number.is_integer():
            raise ArgumentError(f"resource: amount = {shown(amount)}: expected a whole number, or at most 1")
        self._requests[name] = TaskResourceRequest(name, number)
        return self

    @property
    def requests(self) -> dict[str, TaskResourceRequest]:
        """The requests, by the names of the resources."""
        return dict(self._requests)


class ResourceProfile:
    """What the tasks of an RDD and their executors are to have; made by a `ResourceProfileBuilder`."""

    def __init__(
        self, executors: Mapping[str, ExecutorResourceRequest], tasks: Mapping[str, TaskResourceRequest]
    ) -> None:
        self._id = next(_numbers)
        self._executors = dict(executors)
        self._tasks = dict(tasks)

    def __repr__(self) -> str:
        return f"ResourceProfile(id={self._id}, executors={self._executors}, tasks={self._tasks})"

    @property
    def id(self) -> int:
        """The number of the profile, another for each."""
        return self._id

    @property
    def executorResources(self) -> dict[str, ExecutorResourceRequest]:
        """What executors should have, by the names of the resources."""
        return dict(self._executors)

    @property
    def taskResources(self) -> dict[str, TaskResourceRequest]:
        """What a task takes, by the names of the resources."""
        return dict(self._tasks)


class ResourceProfileBuilder:
    """Collects requests for a `ResourceProfile`.

    >>> from asparkle.resource import ResourceProfileBuilder, TaskResourceRequests
    >>> profile = ResourceProfileBuilder().require(TaskResourceRequests().cpus(1)).build
    >>> profile.taskResources["cpus"].amount
    1.0
    """

    def __init__(self) -> None:
        self._executors: dict[str, ExecutorResourceRequest] = {}
        self._tasks: dict[str, TaskResourceRequest] = {}

    def require(self, resourceRequest: ExecutorResourceRequests | TaskResourceRequests) -> ResourceProfileBuilder:
        """Add requests; those for the same resource are replaced.  Returns the object itself."""
        requests: Any = resourceRequest
        if isinstance(requests, TaskResourceRequests):
            self._tasks |= requests.requests
        elif isinstance(requests, ExecutorResourceRequests):
            self._executors |= requests.requests
        else:
            expected = "ExecutorResourceRequests or TaskResourceRequests"
            raise arguments.wrong_type(requests, "require", "resourceRequest", expected)
        return self

    def clearExecutorResourceRequests(self) -> None:
        """Forget what was asked for executors."""
        self._executors.clear()

    def clearTaskResourceRequests(self) -> None:
        """Forget what was asked for tasks."""
        self._tasks.clear()

    @property
    def executorResources(self) -> dict[str, ExecutorResourceRequest]:
        """What is asked for executors so far."""
        return dict(self._executors)

    @property
    def taskResources(self) -> dict[str, TaskResourceRequest]:
        """What is asked for tasks so far."""
        return dict(self._tasks)

    @property
    def build(self) -> ResourceProfile:
        """A profile of what is asked for so far."""
        return ResourceProfile(self._executors, self._tasks)


def surely_granted(profile: Any, conf: SparkConf) -> ResourceProfile:
    """``profile``.  Raises ArgumentError if it asks for anything but what executors have, and tasks take, as it is."""
    if not isinstance(profile, ResourceProfile):
        raise arguments.wrong_type(profile, "withResources", "profile", "a ResourceProfile")
    cpus = TASK_CPUS.read(conf)
    others = [request for request in profile.taskResources.values() if request != (CPUS, cpus)]
    asked = [
        f"{name} = {amount} for {who}"
        for who, requests in (("executors", profile.executorResources.values()), ("a task", others))
        for name, amount, *_ in requests
    ]
    if asked:
        raise ArgumentError(
            f"withResources: {', '.join(asked)}: expected no more than cpus = {cpus} for a task: executors are started "
            "once and the same for all RDDs; spark.task.cpus and spark.executor.memory say what they have"
        )
    return profile
