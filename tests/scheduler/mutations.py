"""Breaks the scheduler's rules one by one, and makes sure that a test notices.

    python tests/scheduler/mutations.py [NAME ...]

Each mutation is one replacement of text in a temporary copy.  The script fails if a test suite survives a
mutation, if the text to be replaced is no longer there exactly once, or if the unbroken copy fails.  Not
collected by pytest: it runs the suite some sixty times.

    success-not-fenced         a report is believed from any executor
    epoch-ignored              ... and of any epoch
    zombie-generation          a late success counts though its stage was rolled back
    accept-twice               accumulators count a partition each time it is computed
    penalise-queued            the loss of an executor blames what was queued on it
    never-penalise-loss        ... or nobody
    penalise-all               unpenalised failures count
    one-more-try               a task is tried once more than maxFailures
    retry-last                 a retry goes to the end of the queue
    stale-fetch                a fetch failure about a rewritten output loses the new one
    fetch-counts-each          each reader's fetch failure counts, not each attempt of the stage
    fetch-never-forgiven       a success does not end a series of fetch failures
    fetch-forgiven-unsafely    ... and does where it may be rolled back
    readers-go-on              readers are launched while an input is missing
    outputs-outlive            map outputs survive the loss of their files
    dead-writers-outputs       a dead writer's other outputs stay registered
    no-rollback                an indeterminate stage computes only what was lost
    rollback-unread            ... or everything though nobody read it
    rollback-shallow           only direct readers are rolled back
    redo-anyway                results that can't be taken back are taken again
    commit-no-taken            a granted commit is not taken for a result
    fail-all-sharers           a failing stage fails jobs that merely know it
    abandon-shared             a job that ends takes shared stages with it
    cancel-keeps-running       a cancelled job's attempts are not killed
    kill-frees-slot            a killed attempt's slot is given away at once
    commit-everybody           every attempt may commit
    commit-killed              a killed attempt may commit
    commit-sticks              a failed attempt keeps the commit
    speculate-same-executor    a copy may run beside the original
    copies-live-on             the slower copy is not killed
    no-quantile                speculation begins at once
    barrier-piecemeal          a barrier stage is launched with too few slots
    barrier-no-reserve         free slots are not kept for a barrier stage
    barrier-keeps-success      what succeeded in a failed barrier attempt is kept
    fair-ignores-weight        pools share alike
    fair-ignores-min-share     a minimum share is none
    ranks-are-never-asked-for-again     a set's rank stays what it was when its stage began
    fifo-by-stage              FIFO goes by stage ids
    no-delay                   held partitions go anywhere at once
    absent-hosts-hold          hints of hosts without executors hold partitions up
    endless-window             work is sent ahead though tasks are long
    recall-fresh               work is recalled before it is overdue
    thaw                       an executor that gave back is sent ahead at once
    exclusion-by-task          a task is tried again where it failed
    exclusion-for-ever         an excluded executor is never readmitted
    stuck-waits                a task that may run nowhere waits
    graves                     a lost executor is revived by a late report
    version-stays              a lost output does not change the version
    slow-ahead                 work is queued behind barrier tasks
    leak-attempts              settled attempts are remembered
    alarm-missed               an alarm that is set does not ring before those set earlier
    one-ahead                  of what there is room for, one attempt is sent ahead
    grow-linearly              executors are asked for one by one
    grow-on                    ... or a second backlog goes on where the first one ended
    grow-beyond-need           executors are asked for that tasks can't use
    grow-for-running-only      tasks that are queued at busy executors are no backlog
    grow-once                  tasks that come back are no backlog
    first-waits                the first executor is waited for
    no-other                   a task that may run nowhere gets no other executor
    others-without-end         ... or all that there may be
    never-lower                what has not come is asked for, whoever needs it
    uninvited                  what comes all the same is not counted
    release-needed             executors are released that tasks could use
    release-busy               ... or that have some
    idle-for-ever              an executor's idle time begins when it comes
    lose-cached                cached partitions buy no time
    lose-outputs               nor do map outputs
    lose-active                nor those that a job needs
    sink-twice                 the target that is told does not sink with a release
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCHEDULER = Path("asparkle/core/scheduler")

MUTATIONS: dict[str, tuple[str, str, str]] = {
    "success-not-fenced": (
        "fleet.py",
        "return attempt if executor.epoch == epoch and executor.name == name else None",
        "return attempt if executor.epoch == epoch else None",
    ),
    "epoch-ignored": (
        "fleet.py",
        "return attempt if executor.epoch == epoch and executor.name == name else None",
        "return attempt if executor.name == name else None",
    ),
    "zombie-generation": (
        "lineage.py",
        "if tasks is None or attempt.generation != stage.generation or tasks.gathering is not None:",
        "if tasks is None or tasks.gathering is not None:",
    ),
    "accept-twice": ("lineage.py", "            stage.accepted[partition] = 1\n", ""),
    "penalise-queued": ("machine.py", "event.blame and attempt.tid in started", "event.blame"),
    "never-penalise-loss": ("machine.py", "event.blame and attempt.tid in started", "False"),
    "penalise-all": (
        "machine.py",
        "penalised = (event.penalised and not event.killed) or event.fatal",
        "penalised = True",
    ),
    "one-more-try": (
        "machine.py",
        "count >= self._turn.conf.max_failures",
        "count > self._turn.conf.max_failures",
    ),
    "retry-last": ("dispatch.py", "tasks.put(partition)", "tasks.put(partition, False)"),
    "stale-fetch": (
        "records.py",
        "self.writers[partition] is not None and self.tids[partition] == tid",
        "self.writers[partition] is not None",
    ),
    "fetch-counts-each": (
        "machine.py",
        "stage.fetch_failed.add(attempt.stage_attempt)",
        "stage.fetch_failed.add(attempt.tid)",
    ),
    "fetch-never-forgiven": ("lineage.py", "            self._read_well(stage)\n", "            pass\n"),
    "fetch-forgiven-unsafely": (
        "lineage.py",
        "if all(parent.spec.determinism != Determinism.INDETERMINATE for parent in stage.parents):",
        "if True:",
    ),
    "readers-go-on": ("lineage.py", "                self._dispatch.pause(child.tasks)\n", ""),
    "outputs-outlive": ("machine.py", "        if not survive:\n", "        if False:\n"),
    "dead-writers-outputs": ("machine.py", "        if writer.alive:\n", "        if True:\n"),
    "no-rollback": (
        "lineage.py",
        "if stage.spec.determinism == Determinism.INDETERMINATE and stage.readers:",
        "if False:",
    ),
    "rollback-unread": (
        "lineage.py",
        "if stage.spec.determinism == Determinism.INDETERMINATE and stage.readers:",
        "if stage.spec.determinism == Determinism.INDETERMINATE:",
    ),
    "rollback-shallow": ("lineage.py", "                    work.append(reader)\n", ""),
    "redo-anyway": (
        "lineage.py",
        "if (taken or stage.commits) and not job.spec.can_redo_results:",
        "if False:",
    ),
    "commit-no-taken": ("lineage.py", "if (taken or stage.commits) and not", "if taken and not"),
    "fail-all-sharers": (
        "lineage.py",
        "for job in [job for job in stage.jobs.values() if stage in self._needed(job, {})]:",
        "for job in list(stage.jobs.values()):",
    ),
    "abandon-shared": ("lineage.py", "            if heir is None:\n", "            if True:\n"),
    "cancel-keeps-running": (
        "lineage.py",
        "            self.kill_all(tasks, reason)\n"
        "            self._dispatch.drop(tasks)\n            self.ended(tasks, not",
        "            self._dispatch.drop(tasks)\n            self.ended(tasks, not",
    ),
    "kill-frees-slot": (
        "lineage.py",
        "        self._turn.kill(attempt, reason)\n",
        "        self._turn.kill(attempt, reason)\n"
        "        self._dispatch.fleet.settle(attempt, self._turn.now)\n"
        "        attempt.state = 1\n",
    ),
    "commit-everybody": ("machine.py", "granted = holder == attempt.tid", "granted = True"),
    "commit-killed": (
        "machine.py",
        "        if attempt is not None and attempt.wanted:\n            holder",
        "        if attempt is not None:\n            holder",
    ),
    "commit-sticks": (
        "machine.py",
        "        if commits.get(attempt.partition) == attempt.tid:\n            del",
        "        if False:\n            del",
    ),
    "speculate-same-executor": (
        "speculation.py",
        "        if executor is attempt.executor:\n",
        "        if False:\n",
    ),
    "copies-live-on": (
        "lineage.py",
        '                self.kill(copy, "another attempt was quicker")\n',
        "                pass\n",
    ),
    "no-quantile": (
        "speculation.py",
        "if len(watch.median) < max(1, conf.speculation_quantile * tasks.total):",
        "if False:",
    ),
    "barrier-piecemeal": (
        "dispatch.py",
        "            if tasks.gathering is not None:\n                return",
        "            if False:\n                return",
    ),
    "barrier-no-reserve": (
        "dispatch.py",
        "        self._reserved = tasks\n        return None\n",
        "        return None\n",
    ),
    "barrier-keeps-success": ("barriers.py", "        self.succeeded.clear()\n", ""),
    "fair-ignores-weight": (
        "../../plugins/schedulingpolicies.py",
        "return (1, pool.running / pool.weight)",
        "return (1, pool.running)",
    ),
    "fair-ignores-min-share": ("../../plugins/schedulingpolicies.py", "if pool.running < pool.min_share:", "if False:"),
    "fifo-by-stage": ("pools.py", "return (rank, tasks.seq, stage.stage)", "return (rank, stage.stage, tasks.seq)"),
    "ranks-are-never-asked-for-again": (
        "pools.py",
        "            self._changed_sets[tasks] = None\n",
        "            pass\n",
    ),
    "no-delay": (
        "tasksets.py",
        "if self.n_held and self.open and not ahead:",
        "if self.n_held and not ahead:",
    ),
    "absent-hosts-hold": (
        "tasksets.py",
        "elif executors or any(host.executors for host in hosts):",
        "elif executors or hosts:",
    ),
    "endless-window": ("tasksets.py", "else self.mean > LONG * horizon", "else False"),
    "recall-fresh": ("recalls.py", "and attempt.sent <= long_ago", "and attempt.sent <= self._turn.now"),
    "thaw": ("machine.py", "            attempt.executor.frozen = True\n", ""),
    "exclusion-by-task": (
        "exclusion.py",
        "counts.get(incarnation(executor), 0) < self._conf.exclude_task_executor",
        "True",
    ),
    "exclusion-for-ever": (
        "exclusion.py",
        "            self._fleet.readmit(executor)\n",
        "            pass\n",
    ),
    "stuck-waits": ("machine.py", "            if partition >= 0:\n", "            if False:\n"),
    "graves": ("fleet.py", " or self._graves.get(name, -1) >= epoch", ""),
    "version-stays": (
        "lineage.py",
        "            stage.missing += 1\n            stage.version += 1\n",
        "            stage.missing += 1\n",
    ),
    "slow-ahead": (
        "tasksets.py",
        "        lanes = executor.slots - executor.slow\n",
        "        lanes = executor.slots\n",
    ),
    "alarm-missed": ("timers.py", "        self.earliest = self._heap[0][0]\n\n", "\n"),
    "one-ahead": ("dispatch.py", "full = room <= 0", "full = True"),
    "grow-linearly": ("allocation.py", "2 * self._step if asked == self._step else 1", "1"),
    "grow-on": ("allocation.py", "self._step, self._floor = 1, 0", "self._floor = 0"),
    "grow-beyond-need": (
        "allocation.py",
        "min(self._need(), self.target + self._step)",
        "min(self._conf.most, self.target + self._step)",
    ),
    "grow-for-running-only": ("allocation.py", "if self._fleet.ahead:", "if False:"),
    "grow-once": (
        "allocation.py",
        '        """It has something for everybody again."""\n        self._waiting[tasks] = None\n',
        '        """It has something for everybody again."""\n',
    ),
    "first-waits": ("allocation.py", "self.target = max(self.target, 1)", "self.target = max(self.target, 0)"),
    "no-other": ("allocation.py", "if there >= self._conf.most or", "if True or there >= self._conf.most or"),
    "others-without-end": ("allocation.py", "asked >= self._turn.conf.max_failures", "asked < 0"),
    "never-lower": ("allocation.py", "min(self.target, max(there, self._need()))", "self.target"),
    "uninvited": ("allocation.py", "max(self.target, len(self._fleet.executors))", "self.target"),
    "release-needed": (
        "allocation.py",
        "len(self._fleet.executors) <= self._need()",
        "len(self._fleet.executors) <= self._conf.least",
    ),
    "release-busy": ("allocation.py", "if executor.running or left > 0 or", "if left > 0 or"),
    "idle-for-ever": ("fleet.py", "            executor.idle_since = now\n", "            pass\n"),
    "lose-cached": ("allocation.py", "            if blocks:\n", "            if False:\n"),
    "lose-outputs": ("allocation.py", "if outputs and conf.shuffle_tracking:", "if False:"),
    "lose-active": (
        "allocation.py",
        "math.inf if any(stage.jobs for stage in executor.wrote) else conf.shuffle_timeout",
        "conf.shuffle_timeout",
    ),
    "sink-twice": ("allocation.py", "self._told -= len(self._released)", "self._told -= 0"),
    "leak-attempts": (
        "fleet.py",
        "        del self.attempts[attempt.tid]\n        if attempt.state == QUEUED:\n",
        "        if attempt.state == QUEUED:\n",
    ),
}


def suite_passes(directory: Path) -> bool:
    environment = {**os.environ, "PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "tests/scheduler"]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, timeout=240, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout.decode() + done.stderr.decode())
    return done.returncode == 0


def copy(directory: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", ".hypothesis")
    shutil.copytree(ROOT / "asparkle", directory / "asparkle", ignore=ignore)
    shutil.copytree(ROOT / "tests/scheduler", directory / "tests/scheduler", ignore=ignore)


def survives(name: str) -> str:
    """Empty if the mutation is noticed; otherwise what is wrong."""
    file, old, new = MUTATIONS[name]
    text = (ROOT / SCHEDULER / file).read_text()
    if text.count(old) != 1:
        return f"{file} has the text to be replaced {text.count(old)} times: {old!r}"
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        copy(directory)
        (directory / SCHEDULER / file).write_text(text.replace(old, new))
        try:
            return "no test fails" if suite_passes(directory) else ""
        except subprocess.TimeoutExpired:
            return ""  # it goes on for ever: noticed


def main() -> int:
    names = sys.argv[1:] or list(MUTATIONS)
    missing = [name for name in MUTATIONS if name not in (__doc__ or "")]
    assert not missing, f"not in the docstring: {missing}"
    with tempfile.TemporaryDirectory() as temporary:
        copy(Path(temporary))
        if not suite_passes(Path(temporary)):
            print("the suite fails without any mutation")
            return 1
    failures = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, problem in zip(names, pool.map(survives, names), strict=True):
            print(f"{name:26} {problem or 'noticed'}", flush=True)
            failures += bool(problem)
    print(f"{len(names)} mutations, {failures} not noticed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
