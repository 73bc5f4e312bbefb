"""Samples become Parquet files that training may read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from models.sample import (
    AnswerSample,
    ForgetSample,
    HistoryItem,
    NextItemSample,
    ReversalSample,
    ReviewSample,
    Sample,
    SearchSample,
)
from worker.topics.sample_export import SCHEMAS, NotExported, sample_stats, write_samples
from worker.topics.sample_set import SampleSet

_ADAPTER: TypeAdapter[Sample] = TypeAdapter(Sample)
MORNING = "2025-03-01T08:00:00+00:00"
EVENING = "2025-03-01T20:00:00.500000+00:00"
NEXT_DAY = "2025-03-02T08:00:00+00:00"


def search(sample_id: str = "s1", label: str = "l1", **fields: Any) -> SearchSample:
    return SearchSample(
        **{
            "sample_id": sample_id,
            "occurred_at": MORNING,
            "user": "anna",
            "query": "耳机",
            "positive": "p1",
            "negatives": ["p2"],
            "shown": ["p2", "p1"],
            "search_event_id": "e1",
            "label_key": label,
            **fields,
        }
    )


def next_item(**fields: Any) -> NextItemSample:
    return NextItemSample(
        **{
            "sample_id": "n1",
            "occurred_at": MORNING,
            "user": "anna",
            "history": [HistoryItem(kind="search", occurred_at_ms=1, query="耳机")],
            "next_products": ["p1", "p2"],
            "label_keys": ["l1", "l2"],
            **fields,
        }
    )


def review(**fields: Any) -> ReviewSample:
    return ReviewSample(
        **{
            "sample_id": "r1",
            "occurred_at": MORNING,
            "user": "anna",
            "product_id": "p1",
            "text": "fine",
            "stars": 4.0,
            **fields,
        }
    )


def reversal(*labels: str) -> ReversalSample:
    return ReversalSample(sample_id="x", occurred_at=EVENING, user="anna", label_keys=list(labels))


def export(out: Path, *samples: Any) -> dict[str, int]:
    found = SampleSet()
    for sample in samples:
        found.add(_ADAPTER.dump_json(sample))
    assert found.unreadable == 0
    return write_samples(found, out)


def rows(out: Path, kind: str, day: str = "2025-03-01") -> list[dict[str, Any]]:
    path = out / kind / f"date={day}" / "samples.parquet"
    return pq.read_table(path, partitioning=None).to_pylist() if path.exists() else []


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("search", SearchSample),
        ("next-item", NextItemSample),
        ("review", ReviewSample),
        ("answer", AnswerSample),
    ],
)
def test_every_field_of_a_sample_has_a_column(kind: str, model: type[Any]) -> None:
    """The Parquet columns of a kind are the fields of its sample model."""
    assert set(SCHEMAS[kind].names) == model.model_fields.keys() - {"kind"}


def test_samples_stand_by_kind_and_day(tmp_path: Path) -> None:
    """Each sample stands once, whole, in the file of its kind and its day in UTC."""
    late = review(sample_id="r2", occurred_at="2025-03-02T00:30:00+02:00")
    counts = export(tmp_path, search(), search(), next_item(), review(), late)
    assert counts == {"search": 1, "next-item": 1, "review": 2, "answer": 0}
    assert rows(tmp_path, "search") == [search().model_dump(exclude={"kind"})]
    assert rows(tmp_path, "next-item") == [next_item().model_dump(exclude={"kind"})]
    assert [row["sample_id"] for row in rows(tmp_path, "review")] == ["r1", "r2"]


def test_the_newest_of_an_id_counts(tmp_path: Path) -> None:
    """Of two samples with one id the later one stands, in whatever order they came."""
    corrected = review(text="bad", stars=1.0, occurred_at=EVENING)
    export(tmp_path / "a", review(), corrected)
    export(tmp_path / "b", corrected, review())
    assert rows(tmp_path / "a", "review") == rows(tmp_path / "b", "review")
    assert rows(tmp_path / "a", "review")[0]["text"] == "bad"


def test_a_return_takes_its_labels_back(tmp_path: Path) -> None:
    """A returned product is no positive: its search goes, its place in a next basket goes."""
    counts = export(tmp_path, search(), next_item(), review(), reversal("l1"))
    assert counts == {"search": 0, "next-item": 1, "review": 1, "answer": 0}
    assert rows(tmp_path, "next-item")[0]["next_products"] == ["p2"]
    assert export(tmp_path, next_item(), reversal("l1", "l2"))["next-item"] == 0


def test_a_forgotten_shopper_leaves_no_sample(tmp_path: Path) -> None:
    """What a shopper did until the forget request is left out; later samples and others stay."""
    forget = ForgetSample(sample_id="f", occurred_at=EVENING, user="anna")
    later = review(sample_id="r2", occurred_at=NEXT_DAY)
    other = review(sample_id="r3", user="bert")
    export(tmp_path, review(), search(), later, other, forget)
    assert rows(tmp_path, "search") == []
    assert [row["sample_id"] for row in rows(tmp_path, "review")] == ["r3"]
    assert [row["sample_id"] for row in rows(tmp_path, "review", "2025-03-02")] == ["r2"]


def test_an_export_goes_on_with_the_one_before(tmp_path: Path) -> None:
    """Samples that the topic has dropped since stay in their files; new ones join them."""
    export(tmp_path, review(), search())
    counts = export(tmp_path, review(sample_id="r2", occurred_at=EVENING))
    assert counts == {"search": 1, "next-item": 0, "review": 2, "answer": 0}
    assert [row["sample_id"] for row in rows(tmp_path, "review")] == ["r1", "r2"]


def test_returns_and_forget_requests_reach_older_files(tmp_path: Path) -> None:
    """A later return or forget request also cleans what an earlier export wrote."""
    export(tmp_path, search(), review(), next_item(user="bert"))
    forget = ForgetSample(sample_id="f", occurred_at=NEXT_DAY, user="anna")
    counts = export(tmp_path, forget, reversal("l2"))
    assert counts == {"search": 0, "next-item": 1, "review": 0, "answer": 0}
    assert rows(tmp_path, "next-item")[0]["next_products"] == ["p1"]
    assert not list(tmp_path.glob("review/*/*"))


def test_a_corrected_review_leaves_its_old_day(tmp_path: Path) -> None:
    """A newer version of a sample on another day replaces the one in the older file."""
    export(tmp_path, review())
    export(tmp_path, review(text="bad", occurred_at=NEXT_DAY))
    assert rows(tmp_path, "review") == []
    assert rows(tmp_path, "review", "2025-03-02")[0]["text"] == "bad"
    export(tmp_path, review())
    assert rows(tmp_path, "review") == []


def test_the_same_samples_leave_a_file_untouched(tmp_path: Path) -> None:
    """An export that brings nothing new rewrites no file and leaves nothing beside it."""
    export(tmp_path, next_item(), next_item(sample_id="n2"))
    (path,) = tmp_path.glob("next-item/*/*")
    before = path.stat().st_mtime_ns
    export(tmp_path, next_item(sample_id="n2"), next_item())
    assert path.stat().st_mtime_ns == before
    assert [found.name for found in path.parent.iterdir()] == ["samples.parquet"]


def test_stats_count_samples_and_shoppers(tmp_path: Path) -> None:
    """The stats of a folder count its samples and shoppers and tell its days; none is an error."""
    with pytest.raises(NotExported, match="holds no samples"):
        sample_stats(tmp_path)
    export(tmp_path, review(), review(sample_id="r2", occurred_at=NEXT_DAY))
    assert sample_stats(tmp_path)["review"] == {
        "samples": 2,
        "shoppers": 1,
        "first_day": "2025-03-01",
        "last_day": "2025-03-02",
    }
    assert sample_stats(tmp_path)["search"]["samples"] == 0


@pytest.mark.parametrize(
    "value",
    [b"", b"{}", b"\xff", b'{"kind":"forget","sample_id":"f","occurred_at":"x","user":"u"}'],
)
def test_a_record_that_is_no_sample_is_counted(value: bytes) -> None:
    """A record of the samples topic that cannot be read is counted and stops nothing."""
    found = SampleSet()
    found.add(value)
    assert (found.unreadable, list(found.kept())) == (1, [])


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """An export below a file instead of a folder fails with a sentence that names it."""
    (tmp_path / "out").write_text("a file")
    with pytest.raises(NotExported, match="out"):
        export(tmp_path / "out", review())
