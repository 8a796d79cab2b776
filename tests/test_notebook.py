"""The blocking face in a Jupyter kernel: its cells run on a thread whose event loop is running already."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

jupyter_client = pytest.importorskip("jupyter_client", reason="needs jupyter_client and ipykernel")
pytest.importorskip("ipykernel", reason="needs ipykernel")

SECONDS = 60


class Kernel:
    """A real kernel, in a process of its own."""

    def __init__(self, manager: Any, client: Any) -> None:
        self.manager = manager
        self.client = client

    def start_cell(self, code: str) -> str:
        return self.client.execute(code)

    def outputs(self, cell: str, until_printed: str | None = None) -> str:
        """What a cell prints, its error included, until it ends, or until it has printed that."""
        text = ""
        while True:
            message = self.client.get_iopub_msg(timeout=SECONDS)
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                text += content["text"]
            elif kind == "error":
                text += f"{content['ename']}: {content['evalue']}"
            elif kind == "execute_result":
                text += content["data"]["text/plain"]
            elif kind == "status" and content["execution_state"] == "idle":
                return text
            if until_printed is not None and until_printed in text:
                return text

    def run(self, code: str) -> str:
        return self.outputs(self.start_cell(code))


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "IPYTHONDIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path)}
    manager = jupyter_client.KernelManager()
    manager.kernel_cmd = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager.start_kernel(env=environment, cwd=str(tmp_path))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=SECONDS)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_cells_run_jobs_with_functions_and_classes_of_other_cells(kernel: Kernel) -> None:
    assert kernel.run("from asparkle import SparkContext\nsc = SparkContext('processes[2]', 'notebook')") == ""
    kernel.run("class Point:\n    def __init__(self, x): self.x = x\ndef double(p): return Point(2 * p.x)")
    assert kernel.run("sc.parallelize(map(Point, range(5))).map(double).map(lambda p: p.x).collect()") == (
        "[0, 2, 4, 6, 8]"
    )
    assert "ZeroDivisionError" in kernel.run("sc.parallelize([0]).map(lambda x: 1 / x).collect()")
    assert kernel.run("sc.parallelize(range(10)).sum()") == "45"
    assert kernel.run("sc.stop()") == ""


def test_interrupting_a_cell_cancels_its_job_only(kernel: Kernel, tmp_path: Path) -> None:
    marker = tmp_path / "running"
    kernel.run("import pathlib, time\nfrom asparkle import SparkContext\nsc = SparkContext('processes[2]')")
    cell = kernel.start_cell(
        f"def nap(x):\n    pathlib.Path({str(marker)!r}).touch()\n    time.sleep(60)\n"
        "sc.parallelize(range(4), 4).map(nap).count()"
    )
    wait_until(marker.exists)
    kernel.manager.interrupt_kernel()
    assert "KeyboardInterrupt" in kernel.outputs(cell)
    assert kernel.run("sc.parallelize(range(4)).sum()") == "6"


def test_the_asynchronous_face_runs_in_the_notebooks_own_loop(kernel: Kernel) -> None:
    kernel.run("from asparkle.aio import SparkContext")
    code = "async with SparkContext('processes[2]') as sc:\n    print(await sc.parallelize(range(4)).sum())"
    assert kernel.run(code) == "6\n"
