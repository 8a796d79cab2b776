"""What is broken fails the kit, with a message that names the promise; and keeps the promises that it does not break.

Each file of `broken` is run once, by a pytest of its own.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATH = os.pathsep.join((str(ROOT), str(ROOT / "contrib/examples/asparkle-nice/src")))
ENVIRONMENT = {**{key: value for key, value in os.environ.items() if key != "CI"}, "PYTHONPATH": PATH}

pytestmark = pytest.mark.slow

STORES = {
    "ForgetsTheFirstChunk": [
        "BlockStore.get: The bytes that were put",
        "BlockStore",
        "BlockStore.get",
        "BlockStore.put",
    ],
    "CountsElements": ["BlockStore.put: returns how many"],
    "WritesInPlace": [
        "BlockStore.put: A block is seen as a whole or not at all",
        "BlockStore.put: having kept nothing",
        "BlockStore.put: Raises `errors.StoreFull` or `errors.StorageError`",
        "BlockStore: Thread-safe",
    ],
    "ReusesItsBuffer": ["BlockStore.get: stays as it is when the block is removed or put again", "BlockStore"],
    "KeepsToItself": [
        "BlockStore: every worker of the host finds it",
        "BlockStore: A block outlives the worker that put it",
        "BlockStore.put: A block is seen as a whole",
    ],
    "RaisesKeyError": [
        "BlockStore.get: or None where there is no such block",
        "BlockStore",
        "BlockStore.get",
        "BlockStore.put",
    ],
    "RemoveLies": ["BlockStore.remove: says whether it was there"],
    "RemovesNothing": ["BlockStore.remove: Forget ``block``", "BlockStore: every worker of the host finds it"],
    "OneTemporaryName": ["BlockStore: Thread-safe", "BlockStore.put", "BlockStore: Keeps serialized"],
    "KeepsFilesOpen": ["BlockStore: Uses no more descriptors"],
    "RaisesOSError": ["BlockStore.put: Raises `errors.StoreFull` or `errors.StorageError`"],
    "LivesInTheHeap": ["BlockStore: A block outlives the worker that put it"],
    "WritesElsewhere": ["BlockStore: what a store keeps elsewhere is its own to delete"],
}

POLICIES = {
    "NeverForgets": [
        "CachePolicy.victims: each once, and no others",
        "CachePolicy.forget",
        "CachePolicy: Which blocks leave",
    ],
    "NamesTwice": ["CachePolicy.victims: each once, and no others", "CachePolicy: must be quick"],
    "NamesOthers": ["CachePolicy.victims: each once, and no others", "CachePolicy: Which blocks leave"],
    "KeepsTheFirst": ["CachePolicy.victims: each once, and no others"],
    "KnowsNoStrangers": ["CachePolicy.forget: or was never there", "CachePolicy: Which blocks leave"],
    "Remembers": ["CachePolicy.forget: The policy keeps nothing of it"],
    "Searches": ["CachePolicy: must be quick", "CachePolicy.forget: The policy keeps nothing"],
    "ForgetsWhatItNames": ["CachePolicy.victims: Asking changes nothing", "CachePolicy.victims"],
    "Shared": ["CachePolicy: once in each worker", "CachePolicy.victims", "CachePolicy: Which blocks leave"],
    "WantsToKnow": [
        "CachePolicy.stored: ``block`` was stored, and this is known of it",
        "CachePolicy.forget",
        "CachePolicy",
    ],
    "OnlyNotes": [
        "CachePolicy.victims: each once, and no others",
        "CachePolicy.victims",
        "CachePolicy",
        "CachePolicy.forget",
    ],
    "WantsALimit": [
        "CachePolicy: The class is called with the application's `AppSpec`",
        "CachePolicy: Which blocks leave",
    ],
}

LISTENERS = {
    "KnowsAllTypes": ["Listener.on_event: passes over what it does not know"],
    "WasThereFromTheBeginning": ["Listener.on_event: passes over what it does not know"],
    "BlocksAtOnce": ["Listener.at_once: take next to no time", "Listener: must not block it"],
    "BlocksTheLoop": ["Listener: must not block it"],
    "IsTooSlow": ["Listener: keeps up with the events"],
    "ClosesOtherwise": [
        "Listener.close: A coroutine if, and only if, ``on_event`` is one",
        "Listener.on_event",
        "Listener: keeps up",
        "Listener: Receives",
    ],
    "NamesItsEvents": ["Listener.events: The event types that it wants", "Listener: keeps up", "Listener: Receives"],
    "LeavesAThread": ["Listener.close: Gives back what the listener has taken"],
    "LeavesAFileOpen": ["Listener.close: Gives back what the listener has taken"],
}

SINKS = {
    "Good": [],
    "WaitsForEver": ["MetricSink: Each returns or raises in time, whether or not anybody answers"],
    "LeavesAThread": ["MetricSink.close: give back what `open` and `report` have taken"],
    "LeavesAPort": ["MetricSink.close: give back what `open` and `report` have taken"],
    "OpensAtOnce": ["MetricSink: it starts and opens nothing then", "MetricSink.close"],
    "RaisesValueError": ["MetricSink: `errors.ConfigurationError` for settings that it can't use"],
    "AcceptsAnything": ["MetricSink: `errors.ConfigurationError` for settings that it can't use"],
    "OnePort": ["MetricSink: A sink serves one context"],
    "PlainNames": ["MetricSink.report: Every ``asparkle.metrics.interval``"],
}

CODECS = {
    "ReadsOneMember": ["Codec: also where several such files are joined to one"],
    "ReadsAtOnce": ["Codec: they hold a bounded part of a file in memory"],
    "GivesAllAtOnce": [
        "Codec.read: in chunks of some megabytes at most",
        "Codec: they hold a bounded part of a file in memory",
    ],
    "WritesAtTheEnd": [
        "Codec: they hold a bounded part of a file in memory",
    ],
    "ClosesTheFile": ["Codec.read: leaves it open"],
    "EndsEarly": ["Codec.read: Raises EOFError if the file ends too early"],
    "RaisesItsOwn": ["Codec.read: ValueError if it is damaged"],
    "BlamesTheFile": ["Codec.read: what ``file`` raises passes"],
    "HasState": ["Codec: An object has no state", "Codec: any number of files, also at once and in several threads"],
    "Seeks": ["Codec.read: The content of a compressed ``file``", "Codec.read", "Codec"],
    "LosesErrors": ["Codec.write: What ``file`` raises passes"],
}

SERIALIZERS = {
    "Json": ["Serializer.loads: tuples and lists told apart", "Serializer"],
    "NeedsBytes": ["Serializer.loads: ``chunks``: views", "Serializer.loads", "Serializer", "Serializer.dumps"],
    "ReusesItsBuffer": [
        "Serializer.dumps: stay what they are, whatever is serialized meanwhile",
        "Serializer: also at once in several threads",
        "Serializer",
    ],
    "RemembersWhatItSaw": [
        "Serializer.loads: `dumps` may have been another object's, in another process",
        "Serializer",
        "Serializer.loads",
        "Serializer.dumps",
    ],
    "GivesTheSameAgain": ["Serializer.loads: new each time"],
    "LeavesOut": ["Serializer.dumps: Raises anything for a value that can't be serialized"],
    "SaysPickle": ["Serializer.is_pickle: Whether one chunk alone is a pickle", "Serializer"],
    "Empties": [
        "Serializer.dumps: It is not to be changed",
        "Serializer.dumps",
        "Serializer.loads",
        "Serializer",
        "Serializer.is_pickle",
    ],
    "OneBytes": ["Serializer.dumps: one chunk at least", "Serializer", "Serializer.loads", "Serializer.dumps"],
    "NotInThreads": ["Serializer: also at once in several threads", "Serializer"],
}

SCHEDULING = {
    "ReturnsANumber": ["SchedulingPolicy.rank: a tuple of numbers", "SchedulingPolicy"],
    "RanksByName": ["SchedulingPolicy.rank: a tuple of numbers", "SchedulingPolicy"],
    "DividesByWhatRuns": ["SchedulingPolicy.rank: a tuple of numbers", "SchedulingPolicy"],
    "NotANumber": ["SchedulingPolicy.rank: a tuple of numbers", "SchedulingPolicy"],
    "SaysFixed": ["SchedulingPolicy.fixed: Whether ranks depend on nothing that changes while tasks run"],
    "NeedsAShare": ["SchedulingPolicy.rank_pool: The same, of a pool", "SchedulingPolicy"],
    "WantsAProperty": ["SchedulingPolicy.rank: a tuple of numbers", "SchedulingPolicy", "SchedulingPolicy.fixed"],
    "TakesNotes": ["SchedulingPolicy: What it is told is not its to change", "SchedulingPolicy"],
    "AsksSomebody": ["SchedulingPolicy: must be quick"],
    "KeepsAll": ["SchedulingPolicy: must be quick"],
    "WantsALimit": ["SchedulingPolicy: The class is called with the context's `SparkConf`", "SchedulingPolicy"],
}

SHUFFLES = {
    "LeavesItsFile": ["MapOutputWriter.abort: leave nothing", "ShuffleStore"],
    "OneRound": [
        "MapOutputReader: One partition of one map output",
        "ShuffleStore",
        "MapOutputReader.read",
        "ShuffleStore.open_all",
        "ShuffleStore.remove",
    ],
    "WritesLater": ["MapOutputWriter.write: write or copy them before returning", "ShuffleStore"],
    "SaysNothing": [
        "MapOutputWriter.commit: plain data that msgpack carries, not None",
        "MapOutputWriter.write",
        "ShuffleStore",
        "ShuffleStore.scope",
        "ShuffleStore.begin",
        "ShuffleStore.remove",
    ],
    "RaisesOSError": ["MapOutputWriter.write: Raises `errors.StorageError` where there is no room"],
    "ReadOnly": ["MapOutputReader.read: The memory is the caller's: writable"],
    "ReadsInPages": [
        "MapOutputReader.read: The ``count`` bytes from ``offset``",
        "ShuffleStore",
        "MapOutputReader.read",
    ],
    "LivesInTheHeap": ["ShuffleStore.scope: What an output outlives", "ShuffleStore: what map tasks write"],
    "StaysOpen": ["ShuffleStore: Uses no more descriptors and threads", "ShuffleStore.open_all"],
    "RemovesAll": [
        "ShuffleStore.remove: whose attempts have smaller numbers than ``before``",
        "ShuffleStore.remove: later ones may be written meanwhile",
        "ShuffleStore",
        "ShuffleStore.open",
    ],
    "RemovesNothing": [
        "ShuffleStore.remove: Forget the shuffle's outputs",
        "ShuffleStore.open",
        "ShuffleStore.open_all",
    ],
    "OneForEach": [
        "ShuffleStore.begin: Several attempts at one partition may write at once",
        "ShuffleStore.remove",
        "ShuffleStore",
    ],
    "KeepsElsewhere": ["ShuffleStore.close: forget all its outputs", "ShuffleStore.open"],
    "RaisesKeyError": [
        "ShuffleStore.open: Raises OSError where the output is not there",
        "ShuffleStore.open_all: Raises as `open` does",
    ],
    "OpensAllAtOnce": [
        "ShuffleStore.open_all: may be the last that is: then the iterator is closed",
        "ShuffleStore.open_all: Raises as `open` does",
    ],
    "LargestFirst": ["ShuffleStore.open_all: Readers of several outputs", "ShuffleStore"],
    "WantsAnAddress": ["ShuffleStore.use: Called once, before anything else"],
    "KnowsItsOwn": ["ShuffleStore.has: Whether the output may be there"],
}

IN_ORDER = "test_messages_arrive_once_and_in_order[asyncio]"
LEAVING = "test_leaving_leaves_nothing[idle-normally]"
DIES = "test_a_worker_that_dies[SIGKILL]"
KILLED = "test_a_worker_that_is_killed[asyncio]"
COME = "test_executors_come[asyncio]"
AS_SAID = "test_workers_are_what_the_application_says"
LOST, RELEASED = (f"test_what_a_worker_has_written_outlives_it[{how}]" for how in ("lost", "released"))

BACKENDS: dict[str, tuple[dict[str, str], Sequence[str]]] = {  # the tests that fail and how, and some that do not
    "LosesMessages": ({IN_ORDER: "Executor: None is left out while the executor lives"}, [COME]),
    "Reorders": ({IN_ORDER: "Executor: Messages arrive in the order in which they were sent"}, [COME]),
    "Duplicates": ({IN_ORDER: "Executor: each at most once"}, [COME]),
    "ForgetsWhenCancelled": (
        {"test_a_cancelled_wait_loses_nothing": "Executor.receive: Cancelled, it loses nothing"},
        [IN_ORDER],
    ),
    "NeverReportsLoss": ({DIES: "Executor.receive: once and last, that the executor is lost"}, [IN_ORDER, LEAVING]),
    "GoesOnAfterItsLoss": ({DIES: "Executor.receive: once and last, that the executor is lost"}, [IN_ORDER]),
    "BlocksInSend": ({"test_sending_never_blocks[asyncio]": "Executor.send: Never blocks and never fails"}, [COME]),
    "RaisesInSend": ({DIES: "Executor.send: Never blocks and never fails"}, [IN_ORDER]),
    "KillsNobody": ({KILLED: "Executor.receive: once and last, that the executor is lost"}, [DIES]),
    "ReturnsNothing": ({COME: "Executor.receive: The next reports, at least one"}, ["test_the_master_url"]),
    "ForgetsWhatRan": ({DIES: "Lost.running: the attempts that ran, where that is known"}, [COME]),
    "GivesNoReason": ({DIES: "Lost.reason: in words, for messages"}, [COME]),
    "StaysWhereItIs": ({AS_SAID: "AppSpec.directory: and its working directory, likewise"}, [COME]),
    "HashesAtRandom": ({AS_SAID: "AppSpec.hash_seed: What all workers have for PYTHONHASHSEED"}, [COME]),
    "KeepsItsPath": ({AS_SAID: "AppSpec.path: the driver's sys.path"}, [COME]),
    "KeepsItsEnvironment": ({AS_SAID: "AppSpec.environment: spark.executorEnv.*: all workers have it"}, [COME]),
    "IsMoreGenerous": ({AS_SAID: "AppSpec: plain data, the same for every executor"}, [COME]),
    "CountsBackwards": ({DIES: "ExecutorInfo.epoch: a later one of that id has a greater one"}, [COME]),
    "LabelsWithNumbers": ({COME: "ExecutorInfo.labels: texts by text"}, [DIES]),
    "HasMoreSlots": ({COME: "AppSpec.slots_per_executor: all that the master URL asks for"}, [DIES]),
    "DeletesWhatTheLostWrote": (
        {
            LOST: "Lost.blocks_survive: what it wrote to disk can still be read by others",
            RELEASED: "Cluster.blocks_survive: can still be read once it is released",
        },
        [COME],
    ),
    "DeletesWhatTheReleasedWrote": (
        {RELEASED: "Cluster.blocks_survive: can still be read once it is released"},
        [LOST],
    ),
    "BlamesNobody": ({DIES: "Lost.blame: ``blame``: whether what ran there may have brought it about"}, [KILLED]),
    "ReleasesNobody": ({"test_released_executors_end": "Cluster.release: Each is to end in a moment"}, [KILLED]),
    "ReplacesTheReleased": ({"test_released_executors_end": "Cluster.release: The target sinks by as many"}, [KILLED]),
    "ReplacesNobody": ({DIES: "Cluster.lost: bring another, if the target asks for it"}, [LEAVING]),
    "ReturnsOneTwice": ({COME: "Cluster.added: Each is returned once"}, ["test_the_master_url"]),
    "BringsOneMore": ({COME: "Cluster.set_target: How many executors"}, [LEAVING.replace("idle", "starting")]),
    "ShrinksByForce": (
        {"test_the_target_changes": "Cluster.set_target: A smaller number ends none of those there are"},
        [DIES],
    ),
    "WaitsForItsTarget": (
        {"test_opening_does_not_wait_for_executors": "Cluster.set_target: Does not wait for them"},
        [COME],
    ),
    "NeverGivesUp": (
        {"test_workers_that_cant_start": "Cluster.added: Raises `errors.NoExecutors` when executors can't be started"},
        [COME],
    ),
    "LeavesAProcess": ({LEAVING: "ClusterManager.open: ends all of them, waits until they are gone"}, [COME]),
    "LeavesDescriptors": ({LEAVING: "ClusterManager.open: ends all of them, waits until they are gone"}, [COME]),
    "LeavesFiles": ({LEAVING: "ClusterManager.open: ends all of them, waits until they are gone"}, [COME]),
    "WaitsInOpen": (
        {"test_opening_does_not_wait_for_executors": "ClusterManager.open: Entering it does not wait for executors"},
        [KILLED],
    ),
    "RaisesValueError": (
        {"test_bad_master_urls": "ClusterManager.executors: Raises `errors.ConfigurationError` for a URL"},
        ["test_the_master_url"],
    ),
    "NamesNothing": (
        {"test_bad_master_urls": "ClusterManager.executors: Raises `errors.ConfigurationError` for a URL"},
        ["test_the_master_url"],
    ),
    "DialsNobody": (
        {"test_the_files_of_its_hosts": "Cluster.dial: A connection to the file server of a host"},
        [COME],
    ),
    "CantAbandon": (
        {"test_what_was_begun_is_abandoned": "ClusterManager.abandon: Undo `prestart` when `open` will not follow"},
        ["test_making_one_starts_nothing"],
    ),
}

TABLES: dict[str, dict[str, list[str]]] = {
    "stores": STORES,
    "policies": POLICIES,
    "listeners": LISTENERS,
    "sinks": SINKS,
    "codecs": CODECS,
    "serializers": SERIALIZERS,
    "scheduling": SCHEDULING,
    "shuffles": SHUFFLES,
}

OBSERVED = {
    (
        "stores",
        "RaisesKeyError",
    ): 'BlockStore.get: "or None where there is no such block": RaisesKeyError raised KeyError',
    ("stores", "RemoveLies"): "RemoveLies returned True for a block that was never put",
    ("policies", "NeverForgets"): "NeverForgets named (1, 1), which is not in the store",
    ("listeners", "KnowsAllTypes"): "KnowsAllTypes raised KeyError",
    ("sinks", "WaitsForEver"): "WaitsForEver had not returned after 5 seconds",
    ("codecs", "ReadsOneMember"): "ReadsOneMember read ",
    ("serializers", "Json"): "Json made [1, 2], a list, of (1, 2), a tuple",
    ("scheduling", "RanksByName"): "returned ('map at job.py:0',), whose parts are not all numbers",
    ("shuffles", "RaisesKeyError"): "RaisesKeyError raised KeyError",
    ("backends", "LosesMessages"): "messages, first number",
    ("backends", "BlocksInSend"): "BlocksInSend held up everything for 2 seconds, and had not returned",
    ("backends", "LeavesAProcess"): "sleep 20",
    ("backends", "LeavesFiles"): "worker-0.pid",
}


Failures = Callable[[str], dict[str, dict[str, str]]]


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Failures:
    """``failures(kind)``: by implementation, the tests that it fails, and what they say; none for one that passes."""
    return functools.cache(lambda kind: run(kind, tmp_path_factory.mktemp("reports") / "report.xml"))


def run(kind: str, report: Path) -> dict[str, dict[str, str]]:
    file = HERE / "broken" / f"{kind}.py"
    chosen = [str(file)]
    if kind == "backends":  # all of them would take minutes
        chosen = [f"{file}::Test{name}::{test}" for name, (fail, keep) in BACKENDS.items() for test in (*fail, *keep)]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *chosen]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, dict[str, str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.attrib["classname"].rpartition(".Test")[2]
        of_class = found.setdefault(name, {})
        for failure in (*case.iter("failure"), *case.iter("error")):
            of_class[case.attrib["name"]] = failure.attrib["message"]
    return found


def names(message: str, promise: str) -> bool:
    """Whether the message says that this promise is broken: 'BlockStore.get: a part of it'."""
    contract, _, text = promise.partition(": ")
    before, _, rest = message.partition(': "')
    said, _, _ = rest.partition('": ')
    return before.split()[-1] == contract and text in said


@pytest.mark.parametrize(
    ("kind", "name", "promises"),
    [(kind, name, promises) for kind, table in TABLES.items() for name, promises in table.items()],
)
def test_it_fails_for_the_promise_that_it_breaks(
    failures: Failures, kind: str, name: str, promises: Sequence[str]
) -> None:
    """The first is what it breaks; the others are consequences."""
    failed = failures(kind)[name]
    assert bool(failed) == bool(promises)
    assert all("PromiseBroken" in message for message in failed.values()), failed
    assert not promises or any(names(message, promises[0]) for message in failed.values()), failed
    others = {t: m for t, m in failed.items() if not any(names(m, promise) for promise in promises)}
    assert not others, others


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_fails_for_the_promise_that_it_breaks(failures: Failures, name: str) -> None:
    expected, _ = BACKENDS[name]
    failed = failures("backends")[name]
    assert failed.keys() == expected.keys(), failed
    for test, promise in expected.items():
        assert "PromiseBroken" in failed[test]
        assert names(failed[test], promise), failed[test]


@pytest.mark.parametrize(("kind", "name"), OBSERVED)
def test_the_message_says_what_was_observed(failures: Failures, kind: str, name: str) -> None:
    assert any(OBSERVED[kind, name] in message for message in failures(kind)[name].values()), failures(kind)[name]


@pytest.mark.parametrize("kind", [*TABLES, "backends"])
def test_all_that_is_broken_is_looked_at(failures: Failures, kind: str) -> None:
    assert failures(kind).keys() == {**TABLES, "backends": BACKENDS}[kind].keys()
