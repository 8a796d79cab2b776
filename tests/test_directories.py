"""Applications that share a local directory come and go at once."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

from asparkle.core.directories import remove_abandoned
from asparkle.plugins import write_file


def test_a_directory_that_its_owner_removes_meanwhile_is_no_error(tmp_path):
    names = [tmp_path / f"asparkle-{i}" for i in range(50)]
    (tmp_path / "asparkle-stays").mkdir()
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            for path in names:
                path.mkdir()
            for path in names:
                path.rmdir()

    others = threading.Thread(target=come_and_go)
    others.start()
    try:
        for _ in range(100):
            remove_abandoned(str(tmp_path))
    finally:
        stop.set()
        others.join()
    assert Path(tmp_path / "asparkle-stays").exists()  # it has no lock yet: somebody is making it


def test_a_file_that_is_written_is_its_owners_alone(tmp_path):
    before = os.umask(0)
    try:
        ref = write_file([b"pickles, or a key"], str(tmp_path / "file"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(ref.path).st_mode) == 0o600
