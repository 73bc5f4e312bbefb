"""Rows of JSONL, CSV, TSV and Parquet files, plain or gzipped, a few at a time."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn, cast

import pyarrow as pa
import pyarrow.parquet as pq

from worker.errors import ShopstreamError

Row = dict[str, Any]
_PARQUET_ROWS = 4_096
# A review is longer than csv's 128 KiB default only when a quote was left open: let that be seen.
_MAX_FIELD_CHARS = 10_000_000


class UnreadableFile(ShopstreamError):
    """A file cannot be read at all; the message says why."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read or made into an event."""

    reason: str


def read_rows(path: Path) -> Iterator[tuple[int, Row | BadRow]]:
    """Yield (line, row); lines count from 1, in CSV the header is line 1, in Parquet rows count.

    The format is told by the name: .jsonl .json .ndjson, .csv, .tsv, .parquet, each but the last
    also with .gz. A .csv whose header has tabs and no comma is read as one with tabs. Raises
    UnreadableFile.
    """
    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            yield from _parquet_rows(path)
        elif name.endswith((".jsonl", ".json", ".ndjson")):
            yield from _json_rows(path)
        elif name.endswith((".csv", ".tsv")):
            yield from _delimited_rows(path, tabs=name.endswith(".tsv"))
        else:
            raise UnreadableFile(
                f"{path}: only .jsonl, .csv, .tsv (plain or .gz) and .parquet files can be read"
            )
    except (OSError, EOFError, zlib.error, pa.ArrowException, csv.Error) as error:
        raise UnreadableFile(f"{path} cannot be read: {error}") from error


def _open_bytes(path: Path) -> IO[bytes]:
    if path.name.lower().endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def _open_text(path: Path) -> IO[str]:
    # Bytes that are no UTF-8 become surrogates: so their row can be named, and the rest goes on.
    options: dict[str, Any] = {
        "encoding": "utf-8-sig",
        "errors": "surrogateescape",
        "newline": "",
    }
    if path.name.lower().endswith(".gz"):
        return cast(IO[str], gzip.open(path, "rt", **options))
    return cast(IO[str], path.open(**options))


def _json_rows(path: Path) -> Iterator[tuple[int, Row | BadRow]]:
    with _open_bytes(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
            except UnicodeDecodeError as error:
                yield number, BadRow(f"not UTF-8 (byte {error.start} of the line)")
            except (ValueError, RecursionError) as error:
                yield number, BadRow(f"not JSON: {error}")
            else:
                yield number, row if isinstance(row, dict) else BadRow("not a JSON object")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _delimited_rows(path: Path, *, tabs: bool) -> Iterator[tuple[int, Row | BadRow]]:
    csv.field_size_limit(_MAX_FIELD_CHARS)
    with _open_text(path) as lines:
        first = lines.readline()
        tabs = tabs or ("\t" in first and "," not in first)
        lines.seek(0)
        # Tab-separated files are rarely quoted: a quote in them is a quote.
        reader = (
            csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines)
        )
        header = next(reader, None)
        if header is None:
            return
        doubled = sorted({column for column in header if header.count(column) > 1})
        if doubled:
            raise UnreadableFile(f"{path} cannot be read: its header names {doubled[0]!r} twice")
        end_of_last = reader.line_num
        for cells in reader:
            line, end_of_last = end_of_last + 1, reader.line_num
            if cells:
                yield line, _delimited_row(header, cells)


def _delimited_row(header: list[str], cells: list[str]) -> Row | BadRow:
    if len(cells) != len(header):
        return BadRow(f"{len(cells)} columns, the header has {len(header)}")
    for column, cell in zip(header, cells, strict=True):
        try:
            cell.encode()
        except UnicodeEncodeError:
            return BadRow(f"column {column!r} is not UTF-8")
    return dict(zip(header, cells, strict=True))


def _microseconds(batch: Any) -> Any:
    # Python's times hold no nanoseconds, and Arrow refuses to drop them unasked.
    schema = pa.schema(
        pa.field(field.name, pa.timestamp("us", field.type.tz))
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns"
        else field
        for field in batch.schema
    )
    return pa.Table.from_batches([batch]).cast(schema, safe=False)


def _parquet_rows(path: Path) -> Iterator[tuple[int, Row | BadRow]]:
    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
            for row in _microseconds(batch).to_pylist():
                number += 1
                yield number, row
