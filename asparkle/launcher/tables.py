"""Text for terminals of any width, and for pipes."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

LEAST = 40
"""Columns that the last column of a table needs."""


def width() -> int | None:
    """Columns of the terminal; None where there is none: then lines are as long as they are."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return shutil.get_terminal_size().columns
    return None


def table(head: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None) -> str | None:
    """Columns side by side, as wide as they must be, and the last one's text wrapped; None if they do not fit."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)][:-1]
    room = None if columns is None else columns - sum(widths) - 2 * len(widths)
    if room is not None and room < LEAST:
        return None
    lines: list[str] = []
    for row in [head, *rows]:
        start = "".join(f"{cell:{width}}  " for cell, width in zip(row, widths, strict=False))
        first, *more = wrapped(row[-1], room)
        lines += [f"{start}{first}".rstrip(), *(" " * len(start) + line for line in more)]
    return "\n".join(lines)


def indented(text: str, columns: int | None) -> list[str]:
    return [f"    {line}" for line in wrapped(text, None if columns is None else max(columns - 4, LEAST // 2))]


def wrapped(text: str, room: int | None) -> list[str]:
    if room is None:
        return [text]
    return textwrap.wrap(text, room, break_on_hyphens=False) or [""]
