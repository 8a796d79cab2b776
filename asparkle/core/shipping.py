"""What executors are sent: stages' binaries and partitions of the driver's collections.

Each is pickled once.  What is surely small is pickled on the event loop, the rest in a thread; what is
large goes into a file of the application, which executors on this host map.
"""

from __future__ import annotations

import itertools
import os
import sys
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Final

from asparkle.core import closures, protocol
from asparkle.core.cleaner import when_gone
from asparkle.core.contracts import AppSpec
from asparkle.core.directories import added_files
from asparkle.core.elements import is_immutable
from asparkle.core.errors import PicklingFailed
from asparkle.core.loop import in_thread
from asparkle.core.payloads import pack, remove_file
from asparkle.core.plan import StagePlan
from asparkle.core.protocol import FileRef, Live, Payload
from asparkle.core.serializer import dumps
from asparkle.core.sources import Collection

_FEW_STEPS: Final = 64  # whose binary is quick to pickle if what they hold is small
_INLINE: Final = 1 << 15  # bytes of a payload that travels in the message


class ShippedStage:
    """A stage on its way to executors; held by its job, and by its shuffle if it writes one."""

    __slots__ = ("__weakref__", "_binary", "_owner", "_reach", "_shipping", "persists", "plan", "properties")

    def __init__(self, plan: StagePlan, properties: Mapping[str, str], shipping: Shipping) -> None:
        self.plan = plan
        self.properties = dict(properties)
        self.persists = bool(plan.builder.persisted)
        self._shipping = shipping
        self._reach: closures.Reach | None = None
        self._binary: protocol.Install | None = None
        self._owner: ShippedStage | None = None  # who deletes the binary's file at its end, if another does

    def again(self, properties: Mapping[str, str]) -> ShippedStage:
        """The same for another job: what it is told to compute, with what binary, does not change."""
        stage = ShippedStage(self.plan, properties, self._shipping)
        stage._reach, stage._binary, stage._owner = self._reach, self._binary, self._owner or self
        return stage

    @property
    def reach(self) -> closures.Reach:
        """What its functions reach; looks at all its steps."""
        if self._reach is None:
            self._reach = closures.reach(self.plan.program, self.plan.sink)
        return self._reach

    @property
    def is_light(self) -> bool:
        """Whether its binary is made in no time."""
        return len(self.plan.builder.steps) <= _FEW_STEPS and self.reach.reusable

    def install(self) -> protocol.Install:
        """The message that brings the binary to an executor; made once."""
        if self._binary is None:
            plan = self.plan
            reach = self.reach
            chunks = closures.dumps((plan.program, plan.sink), "a function of the job", by_name=reach.by_name)
            payload = self._shipping.pack(chunks)
            if type(payload) is FileRef:
                when_gone(self, remove_file, payload.path)
            self._binary = protocol.Install(plan.stage, payload, reach.reusable)
        return self._binary

    def data(self, partition: int) -> list[tuple[int, int, Payload]]:
        """The outside data that a task needs."""
        if not self.plan.sources:
            return []
        pieces = []
        for step, source, p in self.plan.leaves(partition):
            payload = self._shipping.payload(source, p)
            if payload is not None:
                pieces.append((step, p, payload))
        return pieces


class Shipping:
    """One per driver."""

    def __init__(self, app: AppSpec) -> None:
        self.app = app
        self.stages: weakref.WeakValueDictionary[int, ShippedStage] = weakref.WeakValueDictionary()
        self.surroundings = protocol.Surroundings(app.path, app.directory, modules=0)
        self._files = itertools.count()

    def pack(self, chunks: Sequence[Any]) -> Payload:
        path = os.path.join(self.app.directories[0], "data", str(next(self._files)))
        return pack(chunks, _INLINE, path)

    def look_around(self) -> None:
        """Note the driver's ``sys.path`` and working directory, if they have changed."""
        self._note(path=tuple(self.path()), directory=_working_directory(self.app.directory))

    def files_added(self, modules: int, added: Sequence[protocol.AddedFile], imports: Sequence[str]) -> None:
        """Tell executors, too: see `protocol.Surroundings`."""
        self.look_around()
        self._note(modules=modules, added=tuple(added), imports=tuple(imports))

    def _note(self, **changes: Any) -> None:
        now = self.surroundings._replace(**changes)
        if now != self.surroundings:
            self.surroundings = now

    def path(self) -> list[str]:
        """``sys.path`` without what other contexts of this process have added to it."""
        others = self._others()
        return [entry for entry in sys.path if not others or not os.path.join(entry, "").startswith(others)]

    def is_others(self, path: str) -> bool:
        """Whether it is what another context of this process has added, or in it."""
        return path.startswith(self._others())

    def _others(self) -> tuple[str, ...]:
        return tuple(os.path.join(root, "") for app, root in added_files.items() if app != self.app.app_id)

    async def ship(
        self, plans: Sequence[StagePlan], complete: set[int], properties: Mapping[str, str]
    ) -> list[ShippedStage]:
        """Make ready what executors will be sent for these stages; for those in ``complete``, if outputs get lost, what
        they have been sent before."""
        self.look_around()
        stages = []
        heavy: list[Any] = []
        for plan in plans:
            before = plan.shuffle.shipped if plan.shuffle is not None and plan.stage in complete else None
            if before is not None:
                stages.append(before.again(properties))
                continue
            stage = ShippedStage(plan, properties, self)
            stages.append(stage)
            if stage.is_light:
                stage.install()
            else:
                heavy.append(stage.install)
            for source in plan.sources.values():
                if isinstance(source, Collection) and len(source.payloads) < source.num_partitions:
                    if source.is_light() or (self.app.in_process and source.immutable):
                        self._pack_collection(source)
                    else:
                        heavy.append(lambda source=source: self._pack_collection(source))
        if heavy:
            await in_thread(lambda: [make() for make in heavy])
        for plan, stage in zip(plans, stages, strict=True):
            self.stages[plan.stage] = stage
            if plan.shuffle is not None:
                plan.shuffle.shipped = stage
        return stages

    def payload(self, source: Any, partition: int) -> Payload | None:
        if isinstance(source, Collection):
            found = source.payloads.get(partition)
            if found is None:
                self._pack_collection(source)
                found = source.payloads[partition]
            return found
        value = source.payload(partition)
        if value is None or self.app.in_process:
            return value  # type: ignore[no-any-return]
        return self.pack(dumps(value.value if type(value) is Live else value))

    def _pack_collection(self, source: Collection) -> None:
        with source.lock:
            if self.app.in_process and source.immutable is None:
                source.immutable = is_immutable(source.data)
            for partition in range(source.num_partitions):
                if partition not in source.payloads:
                    source.payloads[partition] = self._pack_slice(source, partition)

    def _pack_slice(self, source: Collection, partition: int) -> Payload:
        elements = source.slice(partition)
        if source.immutable:
            return Live(elements)
        try:
            chunks = dumps(elements)
        except PicklingFailed:
            raise
        except Exception as error:  # pickling runs users' code
            raise closures.diagnose(elements, "an element given to parallelize", error) from error
        packed = self.pack(chunks)
        if type(packed) is FileRef:
            when_gone(source, remove_file, packed.path)
        return packed


def _working_directory(known: str) -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # somebody removed it
        return known
