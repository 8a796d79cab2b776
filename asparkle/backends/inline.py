"""One task at a time in the driver's process: for debugging, breakpoints included."""

from __future__ import annotations

from asparkle.backends.threads import ThreadsManager


class InlineManager(ThreadsManager):
    """Master URL ``inline``: a single thread, so tasks never overlap and a debugger finds one stack."""
