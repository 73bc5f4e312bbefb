"""A shop's own columns become events."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.events.column_map import BadColumnMap, ColumnMap
from worker.events.files import BadRow, read_rows

DOCS = Path(__file__).resolve().parents[2] / "docs" / "maps"


def test_rows_of_a_basket_become_one_order(tmp_path: Path) -> None:
    """Neighbouring rows of one basket become one purchase with all its items."""
    file = tmp_path / "lines.csv"
    file.write_text(
        "household_id,basket_id,product_id,quantity,sales_value,transaction_timestamp\n"
        "7,100,a,1,0.5,2017-01-01 11:53:26\n7,100,b,2,1.5,2017-01-01 11:53:26\n"
        "8,101,a,1,0.5,2017-01-02 09:00:00\n",
        "utf-8",
    )
    column_map = ColumnMap.load(DOCS / "complete_journey_purchases.toml")
    events = [row for _, row in column_map.apply(read_rows(file))]
    assert all(not isinstance(event, BadRow) for event in events)
    assert [[item["product_id"] for item in event["items"]] for event in events] == [
        ["a", "b"],
        ["a"],
    ]
    assert events[0]["occurred_at"] == "2017-01-01T16:53:26+00:00"


def test_rows_that_miss_a_column_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    """A row without a needed column or with a wrong time is bad, with its line; others are good."""
    file = tmp_path / "reviews.jsonl"
    good = (
        '{"reviewerID":"u","asin":"p","summary":"s","reviewText":"t","overall":5,'
        '"unixReviewTime":1}'
    )
    file.write_text(
        f"{good}\nnot json\n{good.replace('1}', '{}}')}\n{good}\n".replace("{}}", '"x"}')
    )
    column_map = ColumnMap.load(DOCS / "amazon_reviews.toml")
    rows = list(column_map.apply(read_rows(file)))
    assert [isinstance(row, BadRow) for _, row in rows] == [False, True, True, False]
    assert [line for line, _ in rows] == [1, 2, 3, 4]


def test_wrong_maps_are_refused(tmp_path: Path) -> None:
    """A map with an unknown section is refused with its name."""
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[fieldz]\na = 'b'\n", "utf-8")
    with pytest.raises(BadColumnMap, match="fieldz"):
        ColumnMap.load(wrong)


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.toml")), ids=lambda path: path.stem)
def test_documented_maps_can_be_read(path: Path) -> None:
    """Every map of the documentation can be read."""
    assert ColumnMap.load(path)
