"""Cells of a row as texts and numbers."""

from __future__ import annotations

import math
from functools import lru_cache
from string import Formatter
from typing import Any

from worker.events.files import Row


class RowFault(Exception):
    """A row does not have what a map asks for; the message says what."""


def cell(row: Row, column: str) -> Any:
    """Return a column's value, None where it is empty (NaN and blanks too); raises RowFault."""
    if column not in row:
        raise RowFault(f"there is no column {column!r}")
    value = row[column]
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, list):
        return value or None
    return None if isinstance(value, float) and math.isnan(value) else value


def text(source: str, row: Row) -> str | bool | None:
    """Return a column's value as text, or a template of columns filled in; None where all is empty.

    Booleans stay what they are; the parts of a list are joined by blanks. Raises RowFault.
    """
    if "{" not in source:
        value = cell(row, source)
        if value is None or isinstance(value, str | bool):
            return value
        return " ".join(str(part) for part in value) if isinstance(value, list) else str(value)
    parts: list[str] = []
    empty = True
    for literal, column in _template(source):
        parts.append(literal)
        if column is not None:
            value = text(column, row)
            parts.append("" if value is None else str(value))
            empty = empty and value is None
    return None if empty else "".join(parts).strip()


@lru_cache(maxsize=256)
def _template(source: str) -> tuple[tuple[str, str | None], ...]:
    return tuple((literal, column) for literal, column, _, _ in Formatter().parse(source))


def number(value: Any, column: str) -> float:
    """Return a cell's value as a number; raises RowFault."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise RowFault(f"column {column!r} holds {value!r}, not a number") from None


def whole_quantity(quantity: float, column: str) -> int:
    """Return a quantity above 0 as a whole number of at least 1; raises RowFault."""
    if not 0 < quantity < math.inf:
        raise RowFault(
            f"column {column!r} holds {quantity:g}, no quantity; what came back goes in events "
            "of the kind return"
        )
    return max(1, round(quantity))
