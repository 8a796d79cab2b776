"""What driver and executors say to each other: named tuples, and their form on a byte stream.

A message travels as a msgpack array, ``[code, field, ...]``; messages travel in batches, each batch with its
length in front (see `bytestream`).  Fields are plain data; what users wrote (functions, elements, errors) is
already pickled bytes, or a `FileRef` to them when it is large.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from asparkle.core.bytestream import Unpacker, pack
from asparkle.core.namedtuple import NamedTuple

if TYPE_CHECKING:
    from asparkle.core.platforms import Platform


class FileRef(NamedTuple):
    """A file of frames (see `serializer`), ``length`` bytes long, of ``host``: the driver's, or an `AppSpec.host`."""

    path: str
    length: int
    host: str = ""


Payload: TypeAlias = "bytes | FileRef | Live"


class Live(NamedTuple):
    """An object that is handed over as it is, between threads of one process."""

    value: Any

    def __repr__(self) -> str:
        return f"Live({type(self.value).__name__})"  # the value's own repr is a user's code


class RunTask(NamedTuple):
    """One attempt.

    ``data``: (step, partition, payload) for each piece of outside data that it needs.
    ``elsewhere``: the cached partitions it could use that another executor has, in its heap or on its host.
    """

    tid: int
    stage_attempt: int
    partition: int
    attempt: int
    data: Sequence[tuple[int, int, Payload]] = ()
    elsewhere: Sequence[tuple[int, int]] = ()


# ---------------------------------------------------------------------------------- driver -> executor


class Install(NamedTuple):
    """A stage's binary; ``reusable``: its functions hold nothing that an attempt could change."""

    stage: int
    binary: Payload
    reusable: bool


class Forget(NamedTuple):
    stage: int


class MapTable(NamedTuple):
    """Where the map outputs of ``shuffle`` lie: ``(tid, location)`` by map partition."""

    shuffle: int
    version: int
    outputs: Sequence[tuple[int, Any]]


class Run(NamedTuple):
    stage: int
    tasks: Sequence[RunTask]
    properties: dict[str, str]
    hosts: Sequence[str] | None = None  # of a barrier stage's tasks
    metered: bool = False  # whether somebody wants to know what the tasks took


class Recall(NamedTuple):
    tids: Sequence[int]


class Kill(NamedTuple):
    tids: Sequence[int]
    reason: str


class DropRdd(NamedTuple):
    rdd: int


class DropBroadcast(NamedTuple):
    broadcast: int


class DropShuffle(NamedTuple):
    """``before``: the attempts whose outputs are to be removed have smaller numbers, where a worker has to do that."""

    shuffle: int
    before: int = 0


class AnswerCommit(NamedTuple):
    tid: int
    granted: bool


class ReleaseBarrier(NamedTuple):
    tid: int
    round: int
    messages: Sequence[str]


class Export(NamedTuple):
    """Write the block as a file for a reader elsewhere, or for a replica."""

    rdd: int
    partition: int
    request: int


class TakeBlock(NamedTuple):
    """The answer to `WantBlock` (``request``), or, with request -1, a replica to keep; None: not to be had."""

    rdd: int
    partition: int
    request: int
    ref: FileRef | None
    level: Sequence[Any] = ()


class AddedFile(NamedTuple):
    """What was added under ``name``: a file with these permissions, or, without any, a directory, packed."""

    name: str
    ref: FileRef
    mode: int | None


class Surroundings(NamedTuple):
    """The driver's ``sys.path`` and working directory, when they changed; ``modules``: how often any were added.

    For workers that do not share the driver's files: ``added``, and those names of it that are to be imported from, ""
    for the directory that has all."""

    path: Sequence[str]
    directory: str
    modules: int
    added: Sequence[AddedFile] = ()
    imports: Sequence[str] = ()


class TakeModule(NamedTuple):
    """The answer to `WantModule`.

    ``ref``: the module, packed, which has its ``place`` below a directory of ``sys.path``.  If there are compiled files
    in it, ``compiled`` is one of them, and ``platform`` what they are for.  None: the driver has no module of its own
    by this name, or, ``refused``, one that can't be sent; ``reason`` says why.
    """

    request: int
    ref: FileRef | None = None
    place: str = ""
    compiled: str = ""
    platform: Platform | None = None
    reason: str = ""
    refused: bool = False


class Turns(NamedTuple):
    """The answer to `WantTurns`: how many seconds to wait for the first."""

    rate: int
    interval: float
    wait: float


class Shutdown(NamedTuple):
    pass


class Hello(NamedTuple):
    """The first message to a worker that was started without knowing what it is a worker of."""

    version: str  # of asparkle
    python: str
    app: dict[str, Any]  # an `AppSpec`
    executor: str


ToExecutor: TypeAlias = (
    Install
    | Forget
    | MapTable
    | Run
    | Recall
    | Kill
    | DropRdd
    | DropBroadcast
    | DropShuffle
    | AnswerCommit
    | ReleaseBarrier
    | Export
    | TakeBlock
    | Surroundings
    | TakeModule
    | Turns
    | Shutdown
    | Hello
)

# ---------------------------------------------------------------------------------- executor -> driver


class Ready(NamedTuple):
    pid: int


class Refused(NamedTuple):
    """Instead of `Ready`: why this can't be a worker of the application; it ends."""

    reason: str


class Started(NamedTuple):
    tid: int


class Succeeded(NamedTuple):
    tid: int
    seconds: float
    result: Any  # of a result task a Payload, of a map task the location of its output
    updates: Any = None  # accumulators: a Payload
    sizes: Sequence[int] | None = None
    metrics: Sequence[float] | None = None


class Failed(NamedTuple):
    """``error``: a pickled `TaskError`."""

    tid: int
    error: Payload
    penalised: bool = True
    killed: bool = False
    fatal: bool = False
    metrics: Sequence[float] | None = None


class FetchFailed(NamedTuple):
    tid: int
    shuffle: int
    map_partition: int
    map_tid: int
    error: Payload
    others: Sequence[Sequence[int]] = ()  # (partition, attempt) of more outputs that are gone


class Returned(NamedTuple):
    tids: Sequence[int]


class BlocksChanged(NamedTuple):
    """``added`` and ``removed``: (rdd, partition); ``replicas``: copies that are still to be made elsewhere; ``size``:
    bytes of each of the ``added``."""

    added: Sequence[Sequence[int]]
    removed: Sequence[Sequence[int]]
    scope: str
    replicas: int = 0
    level: Sequence[Any] = ()
    size: int = 0


class RequestCommit(NamedTuple):
    tid: int


class BarrierReached(NamedTuple):
    tid: int
    round: int
    message: str


class WantBlock(NamedTuple):
    rdd: int
    partition: int
    request: int


class WantModule(NamedTuple):
    """A module is imported: perhaps it is the driver's own.  ``missing``: it is not installed on the worker's host."""

    name: str
    request: int
    missing: bool


class Exported(NamedTuple):
    rdd: int
    partition: int
    request: int
    ref: FileRef | None


class ReplicaTaken(NamedTuple):
    """The answer to `TakeBlock` with request -1: it is kept, or can't be."""

    rdd: int
    partition: int


class WantTurns(NamedTuple):
    """``turns`` calls are to be made at a rate that all workers share."""

    rate: int
    interval: float
    turns: int


class HasLoop(NamedTuple):
    """The worker has an event loop (or, not ``running``, has none any more), which is to be closed before its end."""

    running: bool


ToDriver: TypeAlias = (
    Ready
    | Refused
    | Started
    | Succeeded
    | Failed
    | FetchFailed
    | Returned
    | BlocksChanged
    | RequestCommit
    | BarrierReached
    | WantBlock
    | WantModule
    | Exported
    | ReplicaTaken
    | WantTurns
    | HasLoop
)

# ------------------------------------------------------------------------------------------ byte stream

_TYPES: list[Any] = [
    Hello,  # these two have the same place, and the same fields, in every version: they are what versions differ over
    Refused,
    Install,
    Forget,
    MapTable,
    Run,
    Recall,
    Kill,
    DropRdd,
    DropBroadcast,
    DropShuffle,
    AnswerCommit,
    ReleaseBarrier,
    Export,
    TakeBlock,
    Surroundings,
    Shutdown,
    Ready,
    Started,
    Succeeded,
    Failed,
    FetchFailed,
    Returned,
    BlocksChanged,
    RequestCommit,
    BarrierReached,
    WantBlock,
    Exported,
    Turns,
    WantTurns,
    HasLoop,
    TakeModule,
    WantModule,
    ReplicaTaken,
]
_CODES: dict[type, int] = {t: i for i, t in enumerate(_TYPES)}


def _default(value: Any) -> Any:
    raise TypeError(f"{value!r} of type {type(value).__name__} is not plain data")


def encode(messages: Iterable[ToExecutor | ToDriver]) -> bytes:
    """A batch as bytes."""
    return pack([(_CODES[type(m)], *m) for m in messages], _default)


class MessageReader:
    """Cuts a byte stream into messages: `feed` what was received, and take what is whole."""

    def __init__(self) -> None:
        self._unpacker = Unpacker()

    def limit(self, most: int | None) -> None:
        """Bytes that may come at once from now on; None: any number."""
        self._unpacker.most = most

    def feed(self, data: bytes) -> list[Any]:
        """Raises ValueError for what is no message."""
        try:
            return [_TYPES[fields[0]](*fields[1:]) for batch in self._unpacker.feed(data) for fields in batch]
        except (TypeError, LookupError) as error:
            raise ValueError(f"{data[:40]!r}: {error}") from None


def payload(value: Any) -> Payload:
    """A payload field as it came off the wire."""
    return FileRef(*value) if type(value) is list else value
