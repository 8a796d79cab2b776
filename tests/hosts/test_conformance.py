"""A backend whose hosts share no files keeps all promises."""

from __future__ import annotations

import pytest
from apart import ApartManager

from asparkle.testing import ExecutorBackendConformance

pytestmark = pytest.mark.slow


class TestApart(ExecutorBackendConformance):
    master = "apart://1x2"
    bad_masters = ["apart://", "apart://2", "apart://0x"]

    def make(self):
        return ApartManager()
