"""Interactions from every format, with each bad row counted and named."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.data.interaction_columns import InteractionsError
from training.data.interactions import Interactions, read_interactions


def written(path: Path, text: str | bytes) -> Path:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def pairs(read: Interactions) -> list[tuple[str, str]]:
    return [
        (read.user_ids[user], read.item_ids[item])
        for user, item in zip(read.users, read.items, strict=True)
    ]


def times_ms(read: Interactions) -> list[int]:
    assert read.timestamps_ms is not None
    return [int(ms) for ms in read.timestamps_ms]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a"])
@pytest.mark.parametrize("between", [" ", "\t", "  \t ", ",", ", ", "::"])
def test_lines_of_user_and_item_are_read_in_their_order(
    tmp_path: Path, name: str, between: str
) -> None:
    """Whitespace, tabs, commas and `::` part the cells, plain or gzipped; blank lines are none."""
    lines = [("u2", "b"), ("u1", "甲"), ("u2", "a")]
    text = "\n".join(between.join(line) for line in lines) + "\n\n"
    read = read_interactions(written(tmp_path / name, text))
    assert pairs(read) == lines
    assert read.timestamps_ms is None
    assert read.report.bad_rows == 0


def test_three_columns_end_with_the_time_and_four_hold_a_rating(tmp_path: Path) -> None:
    """Without a header the last of three or four columns is the time."""
    three = read_interactions(written(tmp_path / "3.txt", "1 7 20\n1 8 30\n"))
    four = read_interactions(written(tmp_path / "ratings.dat", "1::7::5::20\n1::8::4::30\n"))
    assert times_ms(three) == times_ms(four) == [20_000, 30_000]


@pytest.mark.parametrize(
    "header",
    ["user_id,item_id,timestamp", "timestamp,userId,movieId", "rating,household_id,product_id,Time",
     "user_id:token,item_id:token,timestamp:float", "reviewerID,asin,unixReviewTime"],
)  # fmt: skip
def test_columns_are_found_by_their_usual_names(tmp_path: Path, header: str) -> None:
    """User, item and time are told by the header, wherever they stand."""
    cells = {"time": "1500000000", "user": "u1", "item": "p1", "rating": "4"}
    roles = ["user" if "user" in n or "house" in n or "reviewer" in n else
             "rating" if "rating" in n else "time" if "time" in n else "item"
             for n in header.lower().split(",")]  # fmt: skip
    row = ",".join(cells[role] for role in roles)
    read = read_interactions(written(tmp_path / "a.csv", f"{header}\n{row}\n"))
    assert pairs(read) == [("u1", "p1")]
    assert times_ms(read) == [1_500_000_000_000]


def test_columns_can_be_named(tmp_path: Path) -> None:
    """Names that are given win over those that would be guessed."""
    path = written(tmp_path / "a.tsv", "user_id\twho\twhat\twhen\nx\tu1\tp1\t2020-01-01\n")
    read = read_interactions(path, user_column="who", item_column="what", timestamp_column="when")
    assert pairs(read) == [("u1", "p1")]
    assert times_ms(read) == [1_577_836_800_000]


@pytest.mark.parametrize(
    ("text", "named", "said"),
    [
        ("a,b,c\nx,y,z\n", {}, "looks like the user; its columns: a, b, c"),
        ("user_id,b\nx,y\n", {}, "looks like the item; its columns: user_id, b"),
        ("user_id,item_id\nx,y\n", {"user_column": "who"},
         "no column 'who' for the user; its columns: user_id, item_id"),
        ("user_id,item_id\nx,y\n", {"timestamp_column": "when"},
         "no column 'when' for the timestamp"),
        ("1,2\n", {"user_column": "who"}, "no column 'who': its first line is '1,2'"),
        ("1,2,3,4,5\n", {}, "must be `user item`"),
        ("", {}, "is empty"),
        ("user_id,item_id\n", {}, "holds no interactions"),
        ("user_id,item_id\nx\n", {}, "line 2: 1 columns instead of 2"),
    ],
)  # fmt: skip
def test_a_file_without_interactions_says_why(
    tmp_path: Path, text: str, named: dict[str, str], said: str
) -> None:
    """Missing columns are told with those found; an empty file and one of bad rows too."""
    with pytest.raises(InteractionsError) as caught:
        read_interactions(written(tmp_path / "a.csv", text), **named)
    assert said in str(caught.value)


def test_bad_rows_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    """A row that is no interaction has its line and reason in the report; the rest is read."""
    rows = [b"u1 a 10", b"u1", b"u1 b soon", b"u1 b nan", b"u1 c 1 2", b"u\xff d 4", b"u1 z x",
            b"u1 e 50"]  # fmt: skip
    read = read_interactions(written(tmp_path / "a.txt", b"\n".join(rows)))
    assert pairs(read) == [("u1", "a"), ("u1", "e")]
    assert read.report.bad_rows == 6
    assert [row.line for row in read.report.first_bad] == [2, 3, 4, 5, 6]
    said = "\n".join(read.report.sentences())
    assert "skipped 6 rows" in said
    assert "line 3: 'soon' is no time" in said
    assert "line 6: an id is not UTF-8" in said


def test_empty_cells_are_bad_rows(tmp_path: Path) -> None:
    """A row without a user, an item or a time is named, in CSV as in Parquet."""
    text = 'user,item,time\n,"a",1\n"u",,1\nu,a,\n"u","a, b",1\n'
    read = read_interactions(written(tmp_path / "a.csv", text))
    table = pa.table({"user": [None, "u", "u", "u"], "item": ["a", None, "a", "a"],
                      "time": [1, 1, None, 1]})  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    typed = read_interactions(tmp_path / "a.parquet")
    assert pairs(read) == [("u", "a, b")]
    assert [row.line for row in read.report.first_bad] == [2, 3, 4]
    assert [row.line for row in typed.report.first_bad] == [1, 2, 3]
    assert len(typed) == 1


def test_rows_out_of_order_are_sorted_stably_and_counted(tmp_path: Path) -> None:
    """Ties keep the file's order; what was unsorted, tied or repeated is counted."""
    text = "u1 c 30\nu2 x 5\nu1 b 20\nu1 a 20\nu1 b 20\nu2 y 6\n"
    read = read_interactions(written(tmp_path / "a.txt", text))
    assert pairs(read) == [("u2", "x"), ("u2", "y"), ("u1", "b"), ("u1", "a"), ("u1", "b"),
                           ("u1", "c")]  # fmt: skip
    assert (read.report.out_of_order, read.report.tied, read.report.repeated) == (1, 2, 1)
    said = " ".join(read.report.sentences())
    assert "1 rows were out of time order" in said
    assert "1 rows repeat an earlier user, item and time" in said


@pytest.mark.parametrize(
    "time",
    ["1500000000", "1500000000000", "1500000000000000", "1500000000000000000",
     "2017-07-14T02:40:00Z", "2017-07-14T04:40:00+02:00", "2017-07-14 02:40:00"],
)  # fmt: skip
def test_times_are_read_in_every_usual_unit(tmp_path: Path, time: str) -> None:
    """Seconds, milli-, micro- and nanoseconds are told by size; ISO 8601 without a zone is UTC."""
    read = read_interactions(written(tmp_path / "a.csv", f"user,item,time\nu,a,{time}\n"))
    assert times_ms(read) == [1_500_000_000_000]


@pytest.mark.parametrize(
    ("users", "items", "times"),
    [
        ([7, 8], [70, 71], pa.array([1_500_000_000_000_000_000] * 2, pa.timestamp("ns"))),
        ([7.0, 8.0], ["70", "71"], pa.array([1_500_000_000_000] * 2, pa.timestamp("ms", "UTC"))),
        (pa.array(["7", "8"]).dictionary_encode(), [70, 71], [1_500_000_000] * 2),
    ],
)
def test_parquet_is_read_in_its_types(tmp_path: Path, users: Any, items: Any, times: Any) -> None:
    """Ids of any type become text, whole floats as integers; times keep their moment."""
    table = pa.table({"household_id": users, "product_id": items, "transaction_timestamp": times})
    pq.write_table(table, tmp_path / "a.parquet")
    read = read_interactions(tmp_path / "a.parquet")
    assert pairs(read) == [("7", "70"), ("8", "71")]
    assert times_ms(read) == [1_500_000_000_000] * 2


def test_json_lines_are_read(tmp_path: Path) -> None:
    """Reviews as JSON lines are interactions; lines that are none are named."""
    at = datetime(2017, 7, 14, 2, 40, tzinfo=UTC).timestamp()
    rows = [{"reviewerID": "u", "asin": "p", "unixReviewTime": int(at)}, {"reviewerID": "u"}]
    text = "\n".join([*map(json.dumps, rows), "{"])
    read = read_interactions(written(tmp_path / "a.jsonl.gz", text))
    assert pairs(read) == [("u", "p")]
    assert [row.line for row in read.report.first_bad] == [2, 3]


@pytest.mark.parametrize("name", ["a.txt.gz", "a.parquet"])
def test_a_broken_file_says_so(tmp_path: Path, name: str) -> None:
    """A truncated archive and a file of another format end with one sentence."""
    whole = gzip.compress("".join(f"u{n} i{n * 7}\n" for n in range(5_000)).encode())
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InteractionsError, match="cannot be read"):
        read_interactions(tmp_path / name)


def test_sequences_are_each_users_items_in_time_order(tmp_path: Path) -> None:
    """Every user of the id table has a sequence, in the table's order."""
    read = read_interactions(written(tmp_path / "a.txt", "u2 a 9\nu1 b 1\nu2 c 2\n"))
    named = [[read.item_ids[item] for item in rows] for rows in read.sequences()]
    assert dict(zip(read.user_ids, named, strict=True)) == {"u2": ["c", "a"], "u1": ["b"]}
