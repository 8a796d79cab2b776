"""What `tests/conftest.py` does with tests that are skipped on CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SKIPPED = {
    "in a test": "import pytest\ndef test(): pytest.skip({reason!r})",
    "in a fixture": "import pytest\n@pytest.fixture\ndef f(): pytest.skip({reason!r})\ndef test(f): pass",
    "by a mark": "import pytest\n@pytest.mark.skipif(True, reason={reason!r})\ndef test(): pass",
    "as a module": "import pytest\npytest.importorskip('no_such_module', reason={reason!r})\ndef test(): pass",
}


def status(directory: Path, text: str, ci: str = "true", allowed: str = "") -> int:
    """The exit status of pytest over one file."""
    (directory / "test_it.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "conftest", str(directory)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "CI": ci, "CI_ALLOWED_SKIPS": allowed},
        capture_output=True,
    ).returncode


@pytest.mark.parametrize("text", SKIPPED.values(), ids=SKIPPED)
def test_a_skip_fails_on_ci_unless_its_reason_is_listed(tmp_path, text):
    assert status(tmp_path, text.format(reason="moto can't be installed")) in (1, 2)
    assert status(tmp_path, text.format(reason="root may write anywhere")) in (0, 5)
    assert status(tmp_path, text.format(reason="moto can't be installed"), ci="") in (0, 5)


@pytest.mark.parametrize("allowed", ["moto", "needs the program,moto"])
def test_a_skip_that_was_allowed_passes(tmp_path, allowed):
    assert status(tmp_path, SKIPPED["in a test"].format(reason="moto can't be installed"), allowed=allowed) == 0
    assert status(tmp_path, SKIPPED["in a test"].format(reason="s3 can't be installed"), allowed=allowed) == 1


def test_what_is_expected_to_fail_is_no_skip(tmp_path):
    assert status(tmp_path, "import pytest\n@pytest.mark.xfail\ndef test(): assert False") == 0
