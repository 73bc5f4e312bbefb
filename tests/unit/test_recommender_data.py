"""What recommender training reads: targets, windows, splits, samples and texts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.learnt.history_batch import EVENT_KINDS, UNKNOWN_ITEM
from models.sample import NextItemSample
from models.text_encoder import TextEncoder
from tests.support.tiny_trunk import write_tiny_trunk
from training.data.rows import ReadReport, UnreadableData
from training.recommender.job import SplitOptions, newest_share_s, split
from training.recommender.sequences.batches import (
    Windows,
    draw_windows,
    fill,
    padding_share,
    plan_batches,
)
from training.recommender.sequences.event_sequences import (
    EventSequences,
    UnfitTrainingData,
    from_purchases,
    ranges,
)
from training.recommender.sequences.held_out import hold_out_after, hold_out_last, repeats_purchases
from training.recommender.sequences.item_texts import read_product_texts, with_texts
from training.recommender.sequences.sample_events import read_sample_events, to_sequences

DRAW = np.random.default_rng(0)


def purchases(times: bool = True) -> EventSequences:
    """Anna buys 0 1 2 at times 1 1 2, Ben 3 4 at 1 5, Cleo 5 at 9; the file mixes them."""
    users = np.array([0, 1, 0, 2, 0, 1])
    items = np.array([0, 3, 1, 5, 2, 4])
    moments = np.array([1.0, 1.0, 1.0, 9.0, 2.0, 5.0]) if times else None
    return from_purchases(users, items, [f"p{row}" for row in range(6)], moments)


def test_purchases_are_grouped_in_order() -> None:
    """Each shopper's purchases stand together in their order, with gaps that begin anew."""
    sequences = purchases()
    assert sequences.inputs.tolist() == [0, 1, 2, 3, 4, 5]
    assert sequences.offsets.tolist() == [0, 3, 5, 6]
    assert sequences.gaps_s.tolist() == [0, 0, 1, 0, 4, 0]


def test_targets_are_the_next_purchase_of_the_same_shopper() -> None:
    """Every state is trained on what its shopper buys next, the last one on nothing."""
    targets = purchases(times=False).targets(False, DRAW)
    assert targets.after.tolist() == [1, 2, UNKNOWN_ITEM, 4, UNKNOWN_ITEM, UNKNOWN_ITEM]
    assert targets.first.tolist() == [0, 3, 5]


def test_targets_of_visits_never_lie_in_the_same_basket() -> None:
    """With visits a basket's states tell the next moment; of a basket each item is told."""
    sequences = purchases()
    found = [sequences.targets(True, DRAW) for _ in range(50)]
    assert {tuple(targets.after.tolist()) for targets in found} == {(2, 2, -1, 4, -1, -1)}
    assert {targets.first.tolist()[0] for targets in found} == {0, 1}
    assert {tuple(targets.first.tolist()[1:]) for targets in found} == {(3, 5)}


def test_batches_show_events_and_targets_where_they_belong() -> None:
    """A window in the middle of a history has no start token to train and keeps its targets."""
    users, items = np.zeros(6, np.int64), np.arange(6)
    sequences = from_purchases(users, items, [str(row) for row in range(6)])
    windows = Windows(np.array([0, 2]), np.array([4, 3]))
    batch = fill(sequences, sequences.targets(False, DRAW), windows, np.array([0, 1]), 0)
    assert batch.events.event_rows.tolist() == [[-1, 0, 1, 2, 3], [-1, 2, 3, 4, -1]]
    assert batch.targets.tolist() == [[0, 1, 2, 3, 4], [-1, 3, 4, 5, -1]]
    assert batch.events.kinds.tolist() == [[0, 1, 1, 1, 1], [0, 1, 1, 1, 0]]


def test_every_window_is_in_one_batch_within_the_budget() -> None:
    """A plan holds each window once, no batch exceeds its tokens, and little is padding."""
    lengths = np.random.default_rng(1).integers(1, 200, size=3_000)
    batches = plan_batches(lengths, 2_000, np.random.default_rng(2))
    assert sorted(np.concatenate(batches).tolist()) == list(range(3_000))
    assert max((int(lengths[rows].max()) + 1) * len(rows) for rows in batches) <= 2_000
    assert padding_share(lengths, batches) < 0.03


def test_windows_lie_inside_histories() -> None:
    """Short histories are taken whole; long ones by their end or, so often, anywhere."""
    offsets = np.array([0, 5, 305, 305])
    newest = draw_windows(offsets, 100, 0.0, np.random.default_rng(0))
    assert newest.starts.tolist() == [0, 205]
    assert newest.lengths.tolist() == [5, 100]
    starts = {
        int(draw_windows(offsets, 100, 1.0, np.random.default_rng(seed)).starts[1])
        for seed in range(300)
    }
    assert min(starts) < 20
    assert 190 < max(starts) <= 205
    assert min(starts) >= 5


def test_leave_one_out_keeps_single_purchases_in_training() -> None:
    """The last purchase is held out where there are two; a history ends before it."""
    train, held = hold_out_last(purchases(), remove_seen=True)
    assert held.targets.tolist() == [2, 4]
    assert [
        held.sequences.inputs[start:end].tolist()
        for start, end in zip(held.starts, held.ends, strict=True)
    ] == [[0, 1], [3]]
    assert train.inputs.tolist() == [0, 1, 3, 5]
    assert train.offsets.tolist() == [0, 2, 3, 4]


def test_split_by_time_leaks_nothing() -> None:
    """Nothing from the moment on is trained; each shopper's first purchase after it is asked."""
    train, held = hold_out_after(purchases(), 2.0, remove_seen=False)
    assert train.inputs.tolist() == [0, 1, 3]
    assert held.targets.tolist() == [2, 4, 5]
    assert (held.ends - held.starts).tolist() == [2, 1, 0]


def test_splits_that_cannot_be_are_refused() -> None:
    """No times, no second purchase, no events: each is told with what to do."""
    with pytest.raises(UnfitTrainingData, match="timestamp"):
        hold_out_after(purchases(times=False), 2.0, remove_seen=False)
    with pytest.raises(UnfitTrainingData, match="timestamp"):
        split(purchases(times=False), SplitOptions("time-split"))
    single = from_purchases(np.arange(3), np.arange(3), ["a", "b", "c"])
    with pytest.raises(UnfitTrainingData, match="more history"):
        hold_out_last(single, remove_seen=False)
    with pytest.raises(UnfitTrainingData, match="no interactions"):
        from_purchases(np.zeros(0, np.int64), np.zeros(0, np.int64), [])
    with pytest.raises(UnfitTrainingData, match="no event is left"):
        hold_out_after(purchases(), 0.0, remove_seen=False)


def test_protocols_hold_test_and_validation_apart() -> None:
    """Leave-one-out tests the last and validates on the second last; production tests nothing."""
    users = np.repeat(np.arange(4), 5)
    items = np.tile(np.arange(5), 4)
    sequences = from_purchases(users, items, [str(row) for row in range(5)], np.arange(20.0))
    parts = split(sequences, SplitOptions("leave-one-out"))
    assert parts.test is not None
    assert parts.validation is not None
    assert set(parts.test.targets.tolist()) == {4}
    assert set(parts.validation.targets.tolist()) == {3}
    assert set(parts.train.inputs.tolist()) == {0, 1, 2}
    assert parts.validation.remove_seen
    whole = split(sequences, SplitOptions("leave-one-out", validate=False))
    assert whole.validation is None
    assert whole.remove_seen
    assert set(whole.train.inputs.tolist()) == {0, 1, 2, 3}
    assert split(sequences, SplitOptions()).test is None
    assert newest_share_s(sequences, 0.2) == 16.0


def test_shops_where_things_are_bought_again_are_told_apart() -> None:
    """Seen items stay candidates where shoppers buy things again."""
    assert not repeats_purchases(purchases())
    again = from_purchases(np.zeros(4, np.int64), np.array([0, 1, 0, 0]), ["a", "b"])
    assert repeats_purchases(again)
    assert not split(again, SplitOptions()).remove_seen


def test_ranges_are_every_place_of_each_pair() -> None:
    """Ranges of any lengths, empty ones too, come one after the other."""
    found = ranges(np.array([3, 9, 0]), np.array([2, 0, 3]))
    assert found.tolist() == [3, 4, 0, 1, 2]
    assert ranges(np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []


# --- samples and texts ----------------------------------------------------------------------------


def sample(
    number: int, day: int, history: list[dict[str, Any]], bought: list[str]
) -> NextItemSample:
    return NextItemSample(
        sample_id=f"s{number}",
        occurred_at=f"2025-03-{day:02}T12:00:00+00:00",
        user="anna",
        history=history,  # type: ignore[arg-type]
        next_products=bought,
        label_keys=[f"l{number}-{product}" for product in bought],
    )


def noon_ms(day: int) -> int:
    return 1_740_830_400_000 + (day - 1) * 86_400_000


def write_samples(folder: Path, samples: list[NextItemSample]) -> None:
    for each in samples:
        place = folder / "next-item" / f"date={each.occurred_at[:10]}"
        place.mkdir(parents=True)
        row = each.model_dump(exclude={"kind"})
        pq.write_table(pa.Table.from_pylist([row]), place / "samples.parquet")


def shop_samples(folder: Path) -> EventSequences:
    """Anna searched, bought a and b, sent b back, bought c: two samples that overlap."""
    search = {"kind": "search", "occurred_at_ms": noon_ms(1), "query": "红色 鞋", "product_ids": []}
    bought = {"kind": "purchase", "occurred_at_ms": noon_ms(2), "product_ids": ["a", "b"]}
    back = {"kind": "return", "occurred_at_ms": noon_ms(3), "product_ids": ["b"]}
    review = {
        "kind": "review", "occurred_at_ms": noon_ms(4), "product_ids": ["a"], "stars": 5.0
    }  # fmt: skip
    write_samples(
        folder,
        # the export took b's label away; the later history still knows the purchase
        [sample(1, 2, [search], ["a"]), sample(2, 5, [search, bought, back, review], ["c"])],
    )
    return to_sequences(read_sample_events(folder))[0]


def test_samples_of_a_shopper_become_one_history(tmp_path: Path) -> None:
    """Overlapping samples give each event once, in time order, a purchase's products apart."""
    sequences = shop_samples(tmp_path)
    assert [EVENT_KINDS[kind] for kind in sequences.kinds] == [
        "search", "purchase", "purchase", "return", "review", "purchase",
    ]  # fmt: skip
    items = sequences.item_ids
    assert sequences.inputs[0] == len(items)  # the first query
    assert [items[row] for row in sequences.inputs[1:]] == ["a", "b", "b", "a", "c"]
    assert sequences.stars.tolist() == [0, 0, 0, 0, 5, 0]
    assert sequences.gaps_s.tolist() == [0, 86_400, 0, 86_400, 86_400, 86_400]


def test_what_was_sent_back_is_read_but_not_learnt(tmp_path: Path) -> None:
    """A returned product is no target; the search before is trained on what was kept."""
    sequences = shop_samples(tmp_path)
    assert sequences.is_label.tolist() == [False, True, False, False, False, True]
    told = sequences.targets(True, DRAW)
    names = [sequences.item_ids[row] if row >= 0 else "" for row in told.after]
    assert names == ["a", "c", "c", "c", "c", ""]
    assert sequences.item_ids[told.first[0]] == "a"


def test_folder_without_samples_is_told(tmp_path: Path) -> None:
    """A folder that no export wrote is named, with the command that writes one."""
    with pytest.raises(UnreadableData, match="samples export"):
        read_sample_events(tmp_path)


def test_items_and_queries_get_the_trunks_vectors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Vectors are the trunk's own; an item without a text has none, which is told."""
    trunk = TextEncoder.load(write_tiny_trunk(tmp_path / "trunk"), threads=1)
    products = tmp_path / "products.jsonl"
    products.write_text(
        '{"product_id": "a", "title": "red shoe"}\n{"product_id": "c", "title": "blue shoe"}\n'
        '{"product_id": "", "title": "no id"}\n',
        "utf-8",
    )
    report = ReadReport()
    texts = read_product_texts(products, report)
    assert sum(report.skipped.values()) == 1
    sequences = shop_samples(tmp_path / "samples")
    caplog.set_level(logging.WARNING)
    found = with_texts(sequences, texts, ["红色 鞋"], trunk)
    assert "1 of 3 items have no text" in caplog.text
    tokens = trunk.tokenize([texts["a"]], "passage")
    row = sequences.item_ids.index("a")
    assert found.text_vectors is not None
    assert np.array_equal(found.text_vectors[row], trunk.encode(tokens).vectors[0])
    assert not found.text_vectors[sequences.item_ids.index("b")].any()
    batch = found.history_batch(np.array([0]), np.array([6]))
    query = trunk.encode(trunk.tokenize(["红色 鞋"], "query")).vectors[0]
    assert np.array_equal(batch.vectors[0].numpy(), query)
    assert batch.item_rows.tolist()[0] == UNKNOWN_ITEM
