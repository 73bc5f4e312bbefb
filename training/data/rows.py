"""Rows of JSONL, CSV, TSV and Parquet files, plain or gzipped, a few at a time.

What cannot be read is counted in a `ReadReport` with the place and the reason of the first few, so
that nothing is skipped in silence.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]
_PARQUET_ROWS = 4_096
_SHOWN_PLACES = 3
# csv's default of 128 KiB is less than a long description; beyond this a quote was left open.
_MAX_FIELD_CHARS = 10_000_000
_JSON_ENDINGS = (".jsonl", ".json", ".ndjson")


class UnreadableData(ValueError):
    """A file or a whole data set cannot be used; the message says what was expected."""


@dataclass(slots=True)
class ReadReport:
    """How many rows were read, and what was skipped for which reason."""

    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, reason: str, place: str = "", count: int = 1) -> None:
        """Count something that was left out, and keep the first places of its kind."""
        self.skipped[reason] += count
        shown = self.places.setdefault(reason, [])
        if place and len(shown) < _SHOWN_PLACES:
            shown.append(place)

    def sentences(self) -> list[str]:
        """Return a line for each reason: "3 skipped: not JSON (shop.jsonl:7, …)"."""
        lines = []
        for reason, count in self.skipped.most_common():
            places = self.places[reason]
            more = ", …" if count > len(places) else ""
            where = f" ({', '.join(places)}{more})" if places else ""
            lines.append(f"{count:,} skipped: {reason}{where}")
        return lines


def read_rows(path: Path, report: ReadReport) -> Iterator[tuple[str, Row]]:
    """Yield (place, row); the format is told by the name, `.gz` allowed but for Parquet.

    Raises UnreadableData: the file cannot be opened, or breaks off so that nothing after can be
    trusted.
    """
    name = _plain_name(path)
    try:
        if name.endswith(".parquet"):
            yield from _parquet_rows(path, report)
        elif name.endswith(_JSON_ENDINGS):
            yield from _json_rows(path, report)
        elif name.endswith((".csv", ".tsv")):
            yield from _delimited_rows(path, report, tabs=name.endswith(".tsv"))
        else:
            raise UnreadableData(
                f"{path}: only .jsonl, .csv, .tsv (plain or .gz) and .parquet files can be read"
            )
    except (OSError, EOFError, zlib.error, pa.ArrowException, csv.Error) as error:
        raise UnreadableData(f"{path} cannot be read: {error}") from error


def read_lines(path: Path, report: ReadReport) -> Iterator[tuple[str, str]]:
    """Yield (place, line without its end) of a text file in UTF-8; raises UnreadableData."""
    try:
        with _open_bytes(path) as lines:
            for number, line in enumerate(lines, 1):
                place = f"{path.name}:{number}"
                report.rows += 1
                try:
                    yield place, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError:
                    report.skip("not UTF-8", place)
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableData(f"{path} cannot be read: {error}") from error


def is_table(path: Path) -> bool:
    """Say whether a file's name promises rows with named columns."""
    return _plain_name(path).endswith((*_JSON_ENDINGS, ".csv", ".tsv", ".parquet"))


def _plain_name(path: Path) -> str:
    return path.name.lower().removesuffix(".gz")


def _open_bytes(path: Path) -> IO[bytes]:
    if path.name.lower().endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def _json_rows(path: Path, report: ReadReport) -> Iterator[tuple[str, Row]]:
    for place, line in read_lines(path, report):
        if not line.strip():
            report.rows -= 1
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            report.skip("not JSON", place)
            continue
        if isinstance(row, dict):
            yield place, row
        else:
            report.skip("not a JSON object", place)


def _delimited_rows(path: Path, report: ReadReport, *, tabs: bool) -> Iterator[tuple[str, Row]]:
    csv.field_size_limit(_MAX_FIELD_CHARS)
    with _open_text(path) as lines:
        first = lines.readline()
        tabs = tabs or ("\t" in first and "," not in first)
        lines.seek(0)
        # Tab-separated files are rarely quoted: a quote in them is a quote.
        reader = (
            csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines)
        )
        header = next(reader, [])
        for cells in reader:
            if not cells:
                continue
            place = f"{path.name}:{reader.line_num}"
            report.rows += 1
            if len(cells) != len(header):
                report.skip(f"another number of columns than the header's {len(header)}", place)
            elif any("\udc80" <= char <= "\udcff" for cell in cells for char in cell):
                report.skip("not UTF-8", place)
            else:
                yield place, dict(zip(header, cells, strict=True))


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


def _parquet_rows(path: Path, report: ReadReport) -> Iterator[tuple[str, Row]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
            for row in batch.to_pylist():
                report.rows += 1
                yield f"{path.name}:{report.rows}", row
