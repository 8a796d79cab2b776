"""Rows as a table of text, as Spark's ``show`` prints them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from math import inf, isnan
from typing import Any

from asparkle.sql.types import Row

_LEAST_WIDTH = 3
_ESCAPES = str.maketrans({"\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "\b": "\\b", "\v": "\\v", "\a": "\\a"})


def table(columns: Sequence[str], rows: Sequence[Row], width: int) -> str:
    """``width``: of what a cell shows at most, and then cells are right-aligned; 0: no limit."""
    lines = [[_escaped(name) for name in columns], *([_cut(_escaped(cell(x)), width) for x in row] for row in rows)]
    widths = [max(_LEAST_WIDTH, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = f"+{'+'.join('-' * w for w in widths)}+"
    align = str.rjust if width else str.ljust
    texts = [f"|{'|'.join(map(align, line, widths))}|" for line in lines]
    return "\n".join([rule, texts[0], rule, *texts[1:], rule] if rows else [rule, texts[0], rule, rule])


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)


def _cut(text: str, width: int) -> str:
    if not width or len(text) <= width:
        return text
    return text[:width] if width < 4 else f"{text[: width - 3]}..."


def cell(value: Any) -> str:
    """One value, as Spark writes it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return _double(float(value))
    if isinstance(value, bytes | bytearray):
        return f"[{' '.join(f'{byte:02X}' for byte in value)}]"
    if isinstance(value, list):
        return f"[{', '.join(map(cell, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{cell(key)} -> {cell(item)}' for key, item in value.items())}}}"
    if isinstance(value, tuple):
        return f"{{{', '.join(map(cell, value))}}}"
    if isinstance(value, datetime) and value.microsecond:
        return str(value).rstrip("0")
    return str(value)


def _double(value: float) -> str:
    """As Java's Double.toString has it."""
    if isnan(value):
        return "NaN"
    if value in (inf, -inf):
        return "Infinity" if value > 0 else "-Infinity"
    number = Decimal(repr(value)).normalize()
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return f"{value:.1f}" if value == int(value) else f"{number:f}"
    first, *rest = map(str, number.as_tuple().digits)
    return f"{'-' * (value < 0)}{first}.{''.join(rest) or '0'}E{number.adjusted()}"
