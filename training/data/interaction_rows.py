"""Rows of interaction files, whatever their format: who, what, when, or why a row is bad."""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from training.data.interaction_columns import (
    Columns,
    InteractionsError,
    is_header,
    numbered_columns,
    resolve_columns,
)

_PARQUET_ROWS = 65_536
_WHITESPACE_OR_COMMA = re.compile(r"[\s,]+")


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """The columns a caller named; None: guessed from the usual names."""

    user: str | None = None
    item: str | None = None
    timestamp: str | None = None

    def given(self) -> tuple[str, ...]:
        """Return the names that were given."""
        return tuple(name for name in (self.user, self.item, self.timestamp) if name is not None)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is no interaction: its line (in Parquet its row, from 1) and the reason."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """One interaction as the file has it; `time` is text, a number, or None without a column."""

    line: int
    user: str
    item: str
    time: str | float | None


def interaction_rows(path: Path, names: ColumnNames) -> tuple[Columns, Iterator[Row | BadRow]]:
    """Return which columns are read, and the rows one by one.

    The format is told by the name: .parquet, .jsonl (or .json, .ndjson), and text otherwise: .csv,
    .tsv or lines of cells between whitespace, commas or `::`; text and JSON also with .gz.

    Raises:
        InteractionsError: the file cannot be read, is empty, or lacks a column.
    """
    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            columns, rows = _parquet(path, names)
        elif name.endswith((".jsonl", ".json", ".ndjson")):
            columns, rows = _json_lines(path, names)
        else:
            columns, rows = _text(path, names, name.endswith((".csv", ".tsv")))
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise InteractionsError(f"{path} cannot be read: {error}") from error
    return columns, _guarded(path, rows)


def _guarded(path: Path, rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
    try:
        yield from rows
    except (OSError, EOFError, zlib.error, pa.ArrowException, csv.Error) as error:
        raise InteractionsError(f"{path} cannot be read to its end: {error}") from error


def _open(path: Path) -> TextIO:
    # Bytes that are no UTF-8 become surrogates, so that their row can be named.
    if path.name.lower().endswith(".gz"):
        binary = cast(BinaryIO, gzip.GzipFile(path))
    else:
        binary = path.open("rb")
    return TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")


# --- text -----------------------------------------------------------------------------------------


def _text(path: Path, names: ColumnNames, table: bool) -> tuple[Columns, Iterator[Row | BadRow]]:
    with _open(path) as file:
        first = file.readline()
        while first and not first.strip():
            first = file.readline()
    if not first:
        raise InteractionsError(f"{path} is empty: it holds no interactions")
    delimiter = _delimiter(first, path, table)
    cells = _split(first, delimiter)
    if is_header(cells, names.given(), table):
        columns = resolve_columns(path, cells, names.user, names.item, names.timestamp)
        return columns, _text_rows(path, columns, delimiter, header=True)
    if names.given():
        raise InteractionsError(
            f"{path} has no column {names.given()[0]!r}: its first line is {first.strip()!r}"
        )
    return numbered_columns(path, cells), _text_rows(
        path, numbered_columns(path, cells), delimiter, header=False
    )


def _delimiter(first: str, path: Path, table: bool) -> str | None:
    """Return `,`, a tab, `::`, or None for lines of any whitespace or commas."""
    if "\t" in first and (table or "," not in first):
        return "\t"
    if "::" in first:
        return "::"
    return "," if table or "," in first else None


def _split(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return _WHITESPACE_OR_COMMA.split(line.strip())
    if delimiter == ",":
        return next(csv.reader([line]))
    return line.rstrip("\r\n").split(delimiter)


def _text_cells(file: TextIO, delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """Yield (line where it begins, cells) of each line that is not empty."""
    if delimiter == ",":
        reader = csv.reader(file)
        end_of_last = 0
        for cells in reader:
            line, end_of_last = end_of_last + 1, reader.line_num
            if cells:
                yield line, cells
        return
    for line, text in enumerate(file, 1):
        if text.strip():
            # str.split() is several times quicker than a pattern, and fits nearly every line
            cells = (
                text.split() if delimiter is None and "," not in text else _split(text, delimiter)
            )
            yield line, cells


def _text_rows(
    path: Path, columns: Columns, delimiter: str | None, *, header: bool
) -> Iterator[Row | BadRow]:
    user, item, time = columns.user_place, columns.item_place, columns.time_place
    with _open(path) as file:
        lines = _text_cells(file, delimiter)
        if header:
            next(lines)
        for line, cells in lines:
            if len(cells) != columns.width:
                yield BadRow(line, f"{len(cells)} columns instead of {columns.width}")
                continue
            yield _row(line, cells[user], cells[item], None if time is None else cells[time])


def _row(line: int, user: str, item: str, time: str | None) -> Row | BadRow:
    user, item = user.strip(), item.strip()
    if not user or not item:
        return BadRow(line, f"the {'item' if user else 'user'} is empty")
    if not (user.isascii() and item.isascii()):
        try:
            (user + item).encode()
        except UnicodeEncodeError:
            return BadRow(line, "an id is not UTF-8")
    return Row(line, user, item, time if time is None else time.strip())


# --- tables of values -----------------------------------------------------------------------------


def _json_lines(path: Path, names: ColumnNames) -> tuple[Columns, Iterator[Row | BadRow]]:
    with _open(path) as file:
        first = next((line for line in file if line.strip()), "")
    if not first:
        raise InteractionsError(f"{path} is empty: it holds no interactions")
    try:
        found = json.loads(first)
    except ValueError as error:
        raise InteractionsError(f"{path}: its first line is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InteractionsError(f"{path}: its first line is no JSON object")
    columns = resolve_columns(path, list(found), names.user, names.item, names.timestamp)
    return columns, _json_rows(path, columns)


def _json_rows(path: Path, columns: Columns) -> Iterator[Row | BadRow]:
    with _open(path) as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                found = json.loads(text)
            except (ValueError, RecursionError) as error:
                yield BadRow(line, f"not JSON: {error}")
                continue
            if not isinstance(found, dict):
                yield BadRow(line, "no JSON object")
                continue
            yield _value_row(line, [found.get(name) for name in columns.names()])


def _parquet(path: Path, names: ColumnNames) -> tuple[Columns, Iterator[Row | BadRow]]:
    with pq.ParquetFile(path) as file:
        found = list(file.schema_arrow.names)
        rows = file.metadata.num_rows
    if not rows:
        raise InteractionsError(f"{path} is empty: it holds no interactions")
    columns = resolve_columns(path, found, names.user, names.item, names.timestamp)
    return columns, _parquet_rows(path, columns)


def _parquet_rows(path: Path, columns: Columns) -> Iterator[Row | BadRow]:
    line = 0
    wanted = columns.names()
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(
            batch_size=_PARQUET_ROWS, columns=list(dict.fromkeys(wanted))
        ):
            values = [_python_values(batch.column(name)) for name in wanted]
            for cells in zip(*values, strict=True):
                line += 1
                yield _value_row(line, cells)


def _python_values(column: Any) -> list[Any]:
    """Return a column's values; times become milliseconds since 1970 (a zoneless one is UTC)."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        zone = getattr(column.type, "tz", None)
        milliseconds = column.cast(pa.timestamp("ms", tz=zone), safe=False).cast(pa.int64())
        return [None if ms is None else ms / 1000 for ms in milliseconds.to_pylist()]
    return cast("list[Any]", column.to_pylist())


def _value_row(line: int, cells: Sequence[Any]) -> Row | BadRow:
    user, item = _identifier(cells[0]), _identifier(cells[1])
    if user is None or item is None:
        return BadRow(line, f"the {'item' if user else 'user'} is empty or no id")
    time = cells[2] if len(cells) > 2 else None
    if len(cells) > 2 and (isinstance(time, bool) or not isinstance(time, str | int | float)):
        return BadRow(line, "the time is empty or of no known type")
    row = _row(line, user, item, time if isinstance(time, str) else None)
    if isinstance(row, BadRow) or isinstance(time, str) or time is None:
        return row
    return Row(line, row.user, row.item, float(time))


def _identifier(value: Any) -> str | None:
    """Return an id as text: whole floats (a column that held nulls) as the integers they were."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return str(value)
