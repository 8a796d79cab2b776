"""What holds for all tests: on CI, nothing is left out unnoticed.

A skipped test is green, so one that skips because an installation failed would never be missed. Where ``CI`` is set,
as `.ci/run` does, a skip fails unless its reason is one of `EXPECTED`, or of those that whoever runs it has listed in
``CI_ALLOWED_SKIPS``, with commas between them. The packages in contrib are tested with this file, too: ``-p conftest``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest_plugins = ["asparkle.testing.pytest_plugin"]  # once, whether or not it is installed, too

EXPECTED = (
    "IPython is installed",  # the other half of a pair
    "needs the programs of an installed PySpark",  # `.ci/run` runs these, and the checkers, in a step of their own
    "needs the History Server of an installed PySpark, and Java",  # likewise
    "is not installed: pip install 'asparkle[dev]'",
    "root may write anywhere",
    "its ranks are not fixed",  # FAIR's, in the kit
    "its workers run on other machines",  # what the kit can only see of workers on this one
    "each of its executors is on a host of its own",  # likewise
    "no hosts here: ",  # network namespaces and an sshd need root, and Linux
    "nothing can be mounted here: ",  # likewise
    "there is no shell ",  # of the more seldom kinds
    "there is no other Python here",
    "ELF is Linux's",
    "needs fork",  # the platform's
    "in /proc",
    "needs /proc",
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    return _judged((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    return _judged((yield))


def _judged(report):
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        _, _, reason = report.longrepr
        allowed = [text for text in os.environ.get("CI_ALLOWED_SKIPS", "").split(",") if text]
        if not any(expected in reason for expected in (*EXPECTED, *allowed)):
            report.outcome = "failed"
            report.longrepr = f"skipped: {reason}\nOn CI only what tests/conftest.py lists is a reason to skip a test."
    return report
