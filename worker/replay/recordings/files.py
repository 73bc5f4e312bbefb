"""One partition of a recording on disk: files of records in offset order, read a chunk at a time.

`<topic>/<partition>/<first offset, 20 digits>.parquet`, or `.jsonl`, or `.jsonl.gz`. A record is
`offset`, `timestamp_ms`, `key`, `value`; in JSONL key and value are text, or `key_base64` and
`value_base64` where they are no UTF-8.
"""

from __future__ import annotations

import base64
import bisect
import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from worker.replay.recordings.faults import Faults

FileFormat = Literal["parquet", "jsonl", "jsonl.gz"]
FILE_RECORDS = 20_000
FILE_BYTES = 8_000_000  # as much waits in memory for each partition
GROUP_RECORDS = 1_000  # of what is in memory at a time
_KEPT_CHUNKS = 3
_SCHEMA = pa.schema(
    [
        ("offset", pa.int64()),
        ("timestamp_ms", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
    ]
)
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error, pa.ArrowException)


class StoredRecord(NamedTuple):
    """One record as Kafka had it."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class _Chunk:
    first: int  # no record of it lies before this offset
    path: Path
    group: int  # row group in Parquet, 0 in JSONL


class PartitionWriter:
    """Appends records to a partition's folder; a file appears when it is whole."""

    def __init__(self, folder: Path, file_format: FileFormat) -> None:
        self._folder = folder
        self._format = file_format
        self._records: list[StoredRecord] = []
        self._bytes = 0

    def add(self, record: StoredRecord) -> bool:
        """Take the next record (offsets rise); return whether all that was taken is on disk."""
        self._records.append(record)
        self._bytes += len(record.value or b"") + len(record.key or b"")
        if len(self._records) < FILE_RECORDS and self._bytes < FILE_BYTES:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Write what was taken as one file."""
        if not self._records:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._records[0].offset:020d}.{self._format}"
        part = path.with_name(f".{path.name}.part")
        if self._format == "parquet":
            columns = list(zip(*self._records, strict=True))
            table = pa.Table.from_arrays(
                [
                    pa.array(values, type=field.type)
                    for values, field in zip(columns, _SCHEMA, strict=True)
                ],
                schema=_SCHEMA,
            )
            pq.write_table(table, part, compression="zstd", row_group_size=GROUP_RECORDS)
        else:
            content = b"".join(_json_line(record) for record in self._records)
            part.write_bytes(gzip.compress(content) if self._format == "jsonl.gz" else content)
        os.replace(part, path)
        self._records, self._bytes = [], 0


class PartitionLog:
    """Reads a partition's records by offset, forwards cheaply and backwards too."""

    def __init__(self, folder: Path, faults: Faults) -> None:
        self._faults = faults
        self._chunks: list[_Chunk] = []
        self._kept: dict[int, Sequence[StoredRecord]] = {}
        self._last: Path | None = None
        for path in sorted(path for path in folder.glob("[0-9]*") if not path.is_dir()):
            self._chunks.extend(self._chunks_of(path))
            self._last = path

    def __len__(self) -> int:
        """Return the number of chunks."""
        return len(self._chunks)

    def next_offset(self) -> int:
        """Return the offset after the last record; 0 where there is none."""
        for number in range(len(self._chunks) - 1, -1, -1):
            records = self._load(number)
            if records:
                return records[-1].offset + 1
        return 0

    def read(self, first: int, last: int | None = None) -> Iterator[StoredRecord]:
        """Yield the records from offset `first` to `last` (to the end where it is None)."""
        number = max(0, bisect.bisect_right(self._chunks, first, key=lambda c: c.first) - 1)
        while number < len(self._chunks) and (last is None or self._chunks[number].first <= last):
            records = self._load(number)
            start = bisect.bisect_left(records, first, key=lambda record: record.offset)
            for record in records[start:]:
                if last is not None and record.offset > last:
                    return
                yield record
            number += 1

    def _chunks_of(self, path: Path) -> list[_Chunk]:
        first = int(path.name.partition(".")[0])
        if not path.name.endswith(".parquet"):
            return [_Chunk(first, path, 0)]
        try:
            metadata = pq.read_metadata(path)
            return [
                _Chunk(
                    metadata.row_group(group).column(0).statistics.min if group else first,
                    path,
                    group,
                )
                for group in range(metadata.num_row_groups)
            ]
        except (*_UNREADABLE, AttributeError) as error:
            self._faults.add("corrupt-file", f"{path} ({error})")
            return []

    def _load(self, number: int) -> Sequence[StoredRecord]:
        kept = self._kept.get(number)
        if kept is None:
            chunk = self._chunks[number]
            try:
                kept = _read_chunk(chunk, self._faults)
            except _UNREADABLE as error:
                self._faults.add("corrupt-file", f"{chunk.path} ({error})")
                kept = []
            self._kept[number] = kept
            while len(self._kept) > _KEPT_CHUNKS:
                del self._kept[next(iter(self._kept))]
        return kept


def _read_chunk(chunk: _Chunk, faults: Faults) -> list[StoredRecord]:
    if chunk.path.name.endswith(".parquet"):
        with pq.ParquetFile(chunk.path) as file:
            columns = file.read_row_group(chunk.group).to_pydict()
        return [
            StoredRecord(*row)
            for row in zip(
                columns["offset"],
                columns["timestamp_ms"],
                columns["key"],
                columns["value"],
                strict=True,
            )
        ]
    content = chunk.path.read_bytes()
    if chunk.path.name.endswith(".gz"):
        content = gzip.decompress(content)
    records: list[StoredRecord] = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            row = orjson.loads(line)
            records.append(
                StoredRecord(
                    int(row["offset"]), int(row["timestamp_ms"]), _bytes(row, "key"),
                    _bytes(row, "value"),
                )
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            faults.add("corrupt-file", f"{chunk.path}:{number} ({error})")
    return records


def _json_line(record: StoredRecord) -> bytes:
    row: dict[str, Any] = {"offset": record.offset, "timestamp_ms": record.timestamp_ms}
    for name, content in (("key", record.key), ("value", record.value)):
        if content is None:
            row[name] = None
            continue
        try:
            row[name] = content.decode()
        except UnicodeDecodeError:
            row[f"{name}_base64"] = base64.b64encode(content).decode()
    return orjson.dumps(row) + b"\n"


def _bytes(row: dict[str, Any], name: str) -> bytes | None:
    if f"{name}_base64" in row:
        return base64.b64decode(row[f"{name}_base64"])
    content = row[name]
    if content is None:
        return None
    if not isinstance(content, str):
        raise TypeError(f"{name} is no text")
    return content.encode()
