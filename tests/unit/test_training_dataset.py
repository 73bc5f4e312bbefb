"""Samples as training reads them: once each, without leakage, with what was left out counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.data.position_bias import looked_at_first, position_weight
from training.data.reviews import sampled_reviews
from training.data.rows import UnreadableData
from training.dataset import SampleFolder
from worker.topics.sample_export import SCHEMAS

NOW = datetime(2025, 6, 1, tzinfo=UTC)


def moment(day: int, hour: int = 8) -> str:
    return (datetime(2025, 3, 1, tzinfo=UTC) + timedelta(days=day, hours=hour)).isoformat()


def search(number: int, day: int, **fields: Any) -> dict[str, Any]:
    row = dict.fromkeys(SCHEMAS["search"].names)
    return {
        **row,
        "sample_id": f"s{number}",
        "occurred_at": moment(day),
        "user": f"u{number % 3}",
        "query": f"query {number}",
        "positive": "p1",
        "negatives": ["p2"],
        "shown": ["p2", "p1"],
        "search_event_id": f"e{number}",
        "label_key": f"l{number}",
        **fields,
    }


def review(number: int, day: int, **fields: Any) -> dict[str, Any]:
    return {
        "sample_id": f"r{number}",
        "occurred_at": moment(day),
        "user": "u",
        "locale": None,
        "product_id": "p1",
        "text": f"text {number}",
        "stars": 4.0,
        **fields,
    }


def write(folder: Path, kind: str, day: str, rows: list[dict[str, Any]], name: str = "a") -> Path:
    path = folder / kind / f"date={day}" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMAS.get(kind)), path)
    return path


def ids(rows: Any) -> list[str]:
    return [row["sample_id"] for row in rows]


def test_the_newest_of_an_id_counts_across_files(tmp_path: Path) -> None:
    """A sample that stands in several files is read once, in its newest version."""
    write(tmp_path, "review", "2025-03-01", [review(1, 0, text="old"), review(2, 0)])
    write(tmp_path, "review", "2025-03-02", [review(1, 1, text="new"), review(3, 1)])
    samples = SampleFolder(tmp_path, "review", NOW)
    assert [(row["sample_id"], row["text"]) for row in samples.rows()] == [
        ("r2", "text 2"),
        ("r1", "new"),
        ("r3", "text 3"),
    ]
    assert samples.report.skipped == {"an older version of another sample": 1}
    assert (samples.report.rows, samples.report.kept) == (4, 3)


def test_returns_and_forget_requests_are_respected(tmp_path: Path) -> None:
    """Labels taken back and what a forgotten shopper did until then are left out and counted."""
    rows = [search(1, 0), search(2, 0), search(3, 0), search(6, 3)]
    write(tmp_path, "search", "2025-03-01", rows)
    write(tmp_path, "reversal", "2025-03-02", [{"label_keys": ["l1"]}])
    write(tmp_path, "forget", "2025-03-02", [{"user": "u0", "occurred_at": moment(1)}])
    samples = SampleFolder(tmp_path, "search", NOW)
    assert ids(samples.rows()) == ["s2", "s6"]
    assert samples.report.skipped == {
        "a label that a return took back": 1,
        "of a forgotten shopper": 1,
    }


def test_a_half_written_file_is_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    """A Parquet file that breaks off is named and counted; the other days are used."""
    write(tmp_path, "review", "2025-03-01", [review(1, 0)])
    broken = write(tmp_path, "review", "2025-03-02", [review(2, 1)])
    broken.write_bytes(broken.read_bytes()[:-10])
    samples = SampleFolder(tmp_path, "review", NOW)
    assert ids(samples.rows()) == ["r1"]
    assert samples.report.unreadable_files == ["date=2025-03-02/a.parquet"]
    assert any("cannot be read" in line for line in samples.report.sentences())


def test_a_broken_forget_file_stops_training(tmp_path: Path) -> None:
    """Whom to forget must be known: a damaged file of requests is an error."""
    write(tmp_path, "review", "2025-03-01", [review(1, 0)])
    broken = write(tmp_path, "forget", "2025-03-02", [{"user": "u", "occurred_at": moment(1)}])
    broken.write_bytes(broken.read_bytes()[:-10])
    with pytest.raises(UnreadableData, match="forget"):
        SampleFolder(tmp_path, "review", NOW)


def test_a_clock_that_jumped_moves_no_split(tmp_path: Path) -> None:
    """Rows from the future, without a zone or without a time are counted and change nothing."""
    rows = [review(number, number) for number in range(10)]
    write(tmp_path, "review", "2025-03-01", rows)
    cut = SampleFolder(tmp_path, "review", NOW).split_time_us(0.2)
    jumped = [
        review(90, 9_000),
        review(91, 0, occurred_at="2025-03-01T08:00:00"),
        review(92, 0, occurred_at=None),
    ]
    write(tmp_path, "review", "2025-03-02", jumped)
    samples = SampleFolder(tmp_path, "review", NOW)
    assert samples.split_time_us(0.2) == cut
    assert samples.report.skipped == {
        "from the future (a clock that jumped)": 1,
        "no id or no time": 2,
    }


def test_split_by_time_leaks_nothing(tmp_path: Path) -> None:
    """Training rows are all older than the test, and share no text with it."""
    rows = [review(number, number) for number in range(20)]
    rows[3]["text"] = rows[19]["text"]
    write(tmp_path, "review", "2025-03-01", rows)
    split = SampleFolder(tmp_path, "review", NOW).time_split(0.25)
    train, test = list(split.train()), list(split.test())
    assert len(test) == 5
    assert max(row["occurred_at"] for row in train) < min(row["occurred_at"] for row in test)
    assert not {row["text"] for row in train} & {row["text"] for row in test}
    assert "r3" not in ids(train)
    assert len(train) == 14


def test_purchases_of_one_search_stay_on_one_side(tmp_path: Path) -> None:
    """A search whose purchases fall on both sides of the cut teaches nothing."""
    rows = [search(number, number) for number in range(10)]
    rows[2]["search_event_id"] = rows[9]["search_event_id"]
    write(tmp_path, "search", "2025-03-01", rows)
    split = SampleFolder(tmp_path, "search", NOW).time_split(0.2)
    assert "s2" not in ids(split.train())
    assert ids(split.test()) == ["s8", "s9"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no sample of the kind 'review'"),
        ([review(1, 0), review(2, 0)], "cannot be split by time"),
    ],
)
def test_empty_and_tiny_sets_are_told(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    """No samples, none of a kind, or all of one moment: one sentence says so."""
    with pytest.raises(UnreadableData, match="samples export"):
        SampleFolder(tmp_path, "review", NOW)
    write(tmp_path, "review", "2025-03-01", rows)
    with pytest.raises(UnreadableData, match=message):
        SampleFolder(tmp_path, "review", NOW).time_split(0.2)


def test_many_rows_are_streamed(tmp_path: Path) -> None:
    """Rows come out a few at a time and all of them once, across files and row groups."""
    for day in range(3):
        rows = [review(5_000 * day + number, day) for number in range(5_000)]
        write(tmp_path, "review", f"2025-03-0{day + 1}", rows)
    samples = SampleFolder(tmp_path, "review", NOW)
    stream = samples.rows()
    assert next(stream)["sample_id"] == "r0"
    assert len(set(ids(stream))) == 14_999


def test_reviews_of_samples_become_labels(tmp_path: Path) -> None:
    """Stars become negative, neutral and positive."""
    stars = [1.0, 3.0, 5.0]
    write(
        tmp_path, "review", "2025-03-01", [review(n, 0, stars=star) for n, star in enumerate(stars)]
    )
    assert [row.label for row in sampled_reviews(tmp_path)] == [0, 1, 2]


def test_position_weights_are_inverse_propensities() -> None:
    """A purchase at place k counts k^η, capped; what was not shown counts once."""
    shown = ["a", "b", "c", "d"]
    assert position_weight(shown, "a", eta=1.0) == 1.0
    assert position_weight(shown, "d", eta=1.0) == 4.0
    assert position_weight(shown, "d", eta=0.5) == 2.0
    assert position_weight(shown, "d", eta=0.0) == 1.0
    assert position_weight(shown, "d", eta=2.0, most=10.0) == 10.0
    assert position_weight(shown, "z", eta=1.0) == 1.0


def test_what_stood_above_the_purchase_was_surely_looked_at() -> None:
    """Negatives above the bought product come first, in the order they were shown."""
    shown = ["a", "b", "c", "d", "e"]
    assert looked_at_first(shown, "c", ["e", "d", "b", "a"]) == ["b", "a", "e", "d"]
