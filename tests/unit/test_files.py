"""Rows of files of every format, with the line of each bad one."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from worker.events.files import BadRow, UnreadableFile, read_rows


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def bad_lines(path: Path) -> dict[int, str]:
    return {line: row.reason for line, row in read_rows(path) if isinstance(row, BadRow)}


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson", "A.JSONL.GZ", "a.jsonl.gz"])
def test_json_lines_are_read_with_their_numbers(tmp_path: Path, name: str) -> None:
    """JSON lines, plain or gzipped, come with their line; empty lines count and give no row."""
    path = tmp_path / name
    data = '\ufeff{"a": "蓝"}\n\n{"a": 2}'.encode()
    path.write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
    assert list(read_rows(path)) == [(1, {"a": "蓝"}), (3, {"a": 2})]


def test_bad_json_lines_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Every kind of line that holds no JSON object is a bad row with its line."""
    lines = [b"{", b"[1]", b'{"a": "\xff"}', b'{"a": NaN}', b"[" * 100_000, b'{"a": 1}']
    path = write(tmp_path / "a.jsonl", b"\n".join(lines))
    bad = bad_lines(path)
    assert list(bad) == [1, 2, 3, 4, 5]
    assert "not JSON" in bad[1]
    assert bad[2] == "not a JSON object"
    assert "not UTF-8" in bad[3]
    assert "NaN" in bad[4]
    assert list(read_rows(path))[-1] == (6, {"a": 1})


def test_csv_rows_count_the_lines_of_quoted_cells(tmp_path: Path) -> None:
    """In CSV the header is line 1, and a row's line is where it begins."""
    path = write(tmp_path / "a.csv", '\ufeffa,b\r\n1,"two\nlines"\r\n\r\n3,四\r\n'.encode())
    assert list(read_rows(path)) == [(2, {"a": "1", "b": "two\nlines"}), (5, {"a": "3", "b": "四"})]


def test_bad_csv_rows_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    """A row of another width or another encoding is bad; the rows after it are read."""
    path = write(tmp_path / "a.csv.gz", b"a,b\n1\n1,2,3\n\xff,2\n1,2\n")
    assert bad_lines(path) == {
        2: "1 columns, the header has 2",
        3: "3 columns, the header has 2",
        4: "column 'a' is not UTF-8",
    }
    assert list(read_rows(path))[-1] == (5, {"a": "1", "b": "2"})


@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
def test_tabs_separate_and_quotes_are_quotes(tmp_path: Path, name: str) -> None:
    """A file of tabs, told by its name or its header, keeps its quotes and commas."""
    path = write(tmp_path / name, b'a\tb\n"x\ty, z\n')
    assert list(read_rows(path)) == [(2, {"a": '"x', "b": "y, z"})]


def test_parquet_rows_are_counted(tmp_path: Path) -> None:
    """Parquet rows count from 1; nested values, nulls and times in nanoseconds are read."""
    table = pa.table(
        {
            "items": pa.array([[{"id": 1}], None]),
            "at": pa.array([1_500_000_000_123_456_789, None], pa.timestamp("ns")),
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    at = datetime(2017, 7, 14, 2, 40, 0, 123456)
    assert list(read_rows(path)) == [
        (1, {"items": [{"id": 1}], "at": at}),
        (2, {"items": None, "at": None}),
    ]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.txt", b"x", "only .jsonl"),
        ("a.parquet", b"PAR?", "cannot be read"),
        ("a.csv", b"a,a\n1,2\n", "names 'a' twice"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    """A format nobody knows, broken Parquet and a doubled column fail with the file's name."""
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UnreadableFile, match=words) as caught:
        list(read_rows(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_broken_gzip_gives_the_rows_before_it_and_an_error(tmp_path: Path, damage: str) -> None:
    """A gzip file that is cut or damaged gives the rows before the damage, then fails clearly."""
    rows = [json.dumps({"n": number, "text": str(hash(number * 7919))}) for number in range(50_000)]
    data = bytearray(gzip.compress("\n".join(rows).encode()))
    half = len(data) // 2
    if damage == "cut":
        del data[half:]
    else:
        data[half : half + 50] = bytes(50)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(data)
    read: list[Any] = []
    with pytest.raises(UnreadableFile, match="cannot be read"):
        read.extend(row for _, row in read_rows(path))
    assert len(read) > 1_000
    assert read[0]["n"] == 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there fails with its name."""
    with pytest.raises(UnreadableFile, match=r"gone\.csv"):
        list(read_rows(tmp_path / "gone.csv"))


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    """Empty files of every text format have no rows and are no error."""
    for name in ("a.jsonl", "a.csv", "a.tsv.gz"):
        assert list(read_rows(write(tmp_path / name, b""))) == []
