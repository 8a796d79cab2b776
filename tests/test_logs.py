"""asparkle's own log goes where the host's logging sends it, and nowhere else."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from asparkle.core.errors import ArgumentError
from asparkle.core.logs import log, set_level


@pytest.fixture(autouse=True)
def level():
    logger = logging.getLogger("asparkle")
    before = logger.level
    yield
    logger.setLevel(before)


def test_a_record_is_one_line_with_its_fields_and_the_traceback_behind(caplog):
    log().warning("listener is too slow", listener="x", events_dropped=3)
    log().error("listener failed", exc_info=KeyError("k"))
    assert caplog.messages[0] == "listener is too slow: listener='x' events_dropped=3"
    assert caplog.messages[1].splitlines()[0] == "listener failed"
    assert caplog.messages[1].splitlines()[-1] == "KeyError: 'k'"


def test_the_level_is_the_hosts_or_what_was_asked_for(caplog):
    log().info("unseen")
    set_level("info")
    log().info("seen")
    set_level("OFF")
    log().error("unseen")
    assert caplog.messages == ["seen"]


def test_an_unknown_level_names_the_known_ones():
    with pytest.raises(ArgumentError, match="log level 'LOUD': expected one of ALL, TRACE, DEBUG"):
        set_level("LOUD")


def test_unless_the_host_configures_it_warnings_go_to_stderr_and_nothing_to_stdout():
    script = "from asparkle.core.logs import log; log().info('quiet'); log().warning('loud', x=1)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "loud: x=1\n")
