"""A trained recommender serves: next items, new products, cold starts, reasons."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from models.learnt.event_attribution import encode_with_parts
from models.learnt.files import LoadedRecommender, ModelUnavailable, require_trunk
from models.learnt.item_vectors import ItemVectors
from models.learnt.learnt_recommender import LearntRecommender, LearntWeights
from models.learnt.score_gains import GainReader
from models.learnt.shopper_histories import read_histories
from models.product_index import ProductIndex, RemovedProduct
from models.recommendation.rules import RecommendationRules, recommend_within
from models.recommendation.shopper import Demand, Recommendation, Shopper
from models.text.null_encoder import NullEncoder
from tests.support.planted import bought, reviewed, searched, sent_back, shopper
from tests.support.planted_recommender import (
    TEXT_WIDTH,
    planted_recommender,
    shelf_index,
    shelf_product,
    text_vector,
)

RULES = RecommendationRules(diversity=0.0)


def recommender(weights: LearntWeights | None = None) -> LearntRecommender:
    return LearntRecommender(planted_recommender(), weights)


def listed(
    who: Shopper,
    index: ProductIndex,
    served: LearntRecommender | None = None,
    *,
    demand: Demand | None = None,
    k: int = 5,
    rules: RecommendationRules = RULES,
) -> list[Recommendation]:
    lists = recommend_within(rules, served or recommender(), [who], demand or Demand(), index, k)
    return lists[0]


def ids(items: Sequence[Recommendation]) -> list[str]:
    return [item.product_id for item in items]


def walker(*numbers: int, shelf: str = "tea", user_id: str = "ann") -> Shopper:
    """Return a shopper who bought these items of a shelf, the last one an hour ago."""
    last = len(numbers) - 1
    return shopper(
        *(bought(f"{shelf}-{n}", days_ago=1 / 24 + last - at) for at, n in enumerate(numbers)),
        user_id=user_id,
    )


def asking(word: str, hours_ago: float = 0.1, **fields: object) -> Shopper:
    """Return a shopper whose only event is a search."""
    return shopper(
        searched(word, hours_ago / 24), query_vectors={word: text_vector(word, 7)}, **fields
    )


def test_what_follows_was_learnt() -> None:
    """Who bought items 1, 2 and 3 of a shelf is recommended item 4 first, with the reason."""
    for shelf in ("tea", "tool"):
        items = listed(walker(1, 2, 3, shelf=shelf), shelf_index())
        assert items[0].product_id == f"{shelf}-4"
        assert items[0].reason.kind == "bought"
        assert items[0].reason.because[0].startswith(f"{shelf}-")
        assert (
            items[0].reason.text == f"because you bought {shelf} {items[0].reason.because[0][-1]}"
        )
        assert not {f"{shelf}-1", f"{shelf}-2", f"{shelf}-3"} & {*ids(items)}


def test_a_counted_successor_enters_the_list_with_the_last_purchase_as_its_reason() -> None:
    """What often followed the last purchase is listed first, though the network alone would not."""
    loaded = copy.deepcopy(planted_recommender())
    served, index = LearntRecommender(loaded), shelf_index()
    before = listed(walker(1, 2, 3), index, served, k=10)
    assert ids(before)[0] == "tea-4"
    successors = loaded.network.successors
    rows = {item_id: row for row, item_id in enumerate(loaded.item_ids)}
    successors.items[rows["tea-3"], 0] = rows["tool-6"]
    successors.counts[rows["tea-3"], 0] = 1_000
    successors.trust.bias.fill_(20.0)
    after = listed(walker(1, 2, 3), index, served, k=10)
    assert ids(after)[0] == "tool-6"
    assert after[0].reason.because == ("tea-3",)
    assert ids(listed(walker(2, 3, 1), index, served, k=10))[0] != "tool-6"


def test_a_neighbour_of_an_old_purchase_enters_the_list_with_it_as_its_reason() -> None:
    """What goes with anything bought is listed, though the network alone would not, and the
    purchase it goes with is named, however old; what was sent back brings nothing."""
    loaded = copy.deepcopy(planted_recommender())
    rows = {item_id: row for row, item_id in enumerate(loaded.item_ids)}
    weights = np.zeros((len(rows), len(rows)))
    weights[rows["tea-1"], rows["tool-6"]] = 1.0
    weights[rows["tea-1"], rows["tea-3"]] = 2.0  # bought, so barred
    loaded.network.neighbours.remember(np.arange(len(rows)), weights)
    served, index = LearntRecommender(loaded), shelf_index()
    assert ids(listed(walker(1, 2, 3), index, served))[0] == "tea-4"
    loaded.network.neighbours.trust.fill_(200.0)
    after = listed(walker(1, 2, 3), index, served)
    assert ids(after)[0] == "tool-6"
    assert after[0].reason.because == ("tea-1",)
    assert after[0].reason.text == "because you bought tea 1"
    who = walker(1, 2, 3)
    back = shopper(*who.events, sent_back("tea-1", days_ago=0.01), user_id="ann")
    assert "tool-6" not in ids(listed(back, index, served))


def test_gains_are_the_sum_of_what_the_events_add() -> None:
    """What a product gains is what the events of the history add to it, nothing left over."""
    loaded = copy.deepcopy(planted_recommender())
    count = len(loaded.item_ids)
    loaded.network.neighbours.remember(
        np.arange(count), np.random.default_rng(0).normal(size=(count, count))
    )
    loaded.network.neighbours.trust.fill_(2.0)
    loaded.network.successors.trust.bias.fill_(2.0)
    rows = {item_id: row for row, item_id in enumerate(loaded.item_ids)}
    crowd = [walker(1, 2, 3, 1), asking("tea"), walker(5, 6, shelf="tool"), shopper()]
    read = read_histories(crowd, shelf_index(), rows, TEXT_WIDTH, 32)
    vectors = loaded.network.encode_histories(read.batch)
    products = [*loaded.item_ids, "never met"]
    gains = GainReader(loaded.network, loaded.item_ids, rows).read(
        read.batch, vectors, [one.barred for one in crowd]
    )
    dense = torch.zeros(len(crowd), count)
    for bonus in loaded.network.bonuses(read.batch, vectors):
        bonus.add_to(dense)
    for events, gain, expected in zip(read.events, gains, dense.numpy(), strict=True):
        of_all = gain.of(products)
        assert of_all[:-1] == pytest.approx(expected, abs=1e-4)
        assert of_all[-1] == 0
        assert gain.by_event(products, len(events)).sum(1) == pytest.approx(of_all, abs=1e-4)
    assert (gains[0].of(products) != 0).any()
    assert (gains[1].of(products) == 0).all()


def test_one_search_is_answered_from_its_shelf() -> None:
    """A single search, the coldest start that says anything, gets its shelf, reason included."""
    for shelf in ("tea", "tool"):
        items = listed(asking(shelf), shelf_index())
        assert all(item.product_id.startswith(f"{shelf}-") for item in items)
        assert items[0].reason.text == f"matches your search '{shelf}'"


def test_no_history_gets_what_is_popular() -> None:
    """Without a history the popular products come first, and others fill the list."""
    demand = Demand(popular=[("tool-5", 3.0), ("gone", 2.0), ("tea-2", 1.0)])
    items = listed(shopper(), shelf_index(), demand=demand)
    assert ids(items)[:2] == ["tool-5", "tea-2"]
    assert len(items) == 5
    assert {item.reason.text for item in items} == {"popular now"}


def test_a_new_product_is_recommended_from_its_text_at_once() -> None:
    """A product that training never met comes as soon as the index has it, and goes with it."""
    index, served = shelf_index(3), recommender()
    who = asking("tea")
    assert "tea-99" not in ids(listed(who, index, served))
    index.apply([shelf_product("tea", 99)])
    assert "tea-99" in ids(listed(who, index, served, k=4))
    index.apply([shelf_product("tea", 99, available=False)])
    assert "tea-99" not in ids(listed(who, index, served, k=10))
    index.apply([shelf_product("tea", 99)])
    assert "tea-99" in ids(listed(who, index, served, k=4))
    index.apply([RemovedProduct("tea-99")])
    assert "tea-99" not in ids(listed(who, index, served, k=10))


def test_a_changed_text_changes_the_rank_at_once() -> None:
    """A new product whose text moves to the other shelf moves in the lists too."""
    index, served = shelf_index(3), recommender()
    index.apply([shelf_product("tea", 99)])
    before = ids(listed(asking("tool"), index, served, k=10)).index("tea-99")
    index.apply([shelf_product("tea", 99, vector=text_vector("tool", 3))])
    after = ids(listed(asking("tool"), index, served, k=10)).index("tea-99")
    assert after < before


def test_lists_do_not_depend_on_the_batch() -> None:
    """A shopper's list, scores and reasons are the same alone and among many others."""
    index, served = shelf_index(), recommender()
    crowd = [
        walker(*range(length), shelf=shelf, user_id=f"{shelf}{length}")
        for shelf in ("tea", "tool")
        for length in range(8)
    ] + [asking("tea", user_id="q")]
    demand = Demand(popular=[("tea-1", 1.0)])
    together = recommend_within(RULES, served, crowd, demand, index, 5)
    for who, expected in zip(crowd, together, strict=True):
        assert recommend_within(RULES, recommender(), [who], demand, index, 5)[0] == expected


def test_item_vectors_do_not_depend_on_what_is_encoded_with_them() -> None:
    """A product's item vector has the same bits whether it came alone or with others."""
    loaded = planted_recommender()
    rows = {item: row for row, item in enumerate(loaded.item_ids)}
    whole, grown = shelf_index(), ProductIndex(TEXT_WIDTH)
    together = ItemVectors(loaded.network, rows, whole, 1_000)
    apart = ItemVectors(loaded.network, rows, grown, 1_000)
    together.refresh(whole)
    for number in range(8):
        grown.apply([shelf_product("tool", number), shelf_product("tea", number)])
        apart.refresh(grown)
    assert len(apart) == len(together) == 16
    np.testing.assert_array_equal(
        apart.vectors_of(loaded.item_ids), together.vectors_of(loaded.item_ids)
    )


def test_habits_are_blended_in() -> None:
    """What is bought again and again comes with that reason, and first with a high weight."""
    weekly = [bought("tool-6", days_ago=days) for days in (21.0, 14.0, 7.0)]
    who = shopper(*weekly, bought("tea-1", days_ago=0.2), bought("tea-2", days_ago=0.1))
    items = listed(who, shelf_index(), recommender(LearntWeights(habit=2.0)), k=3)
    assert items[0].product_id == "tool-6"
    assert items[0].reason.text == "because you buy tool 6 again and again"
    without = listed(who, shelf_index(), recommender(LearntWeights(habit=0.0)), k=3)
    assert without[0].product_id.startswith("tea-")


def test_disliked_and_returned_products_are_neither_items_nor_reasons() -> None:
    """What was sent back or got a low review does not come, and no reason names it."""
    who = shopper(
        bought("tea-1", days_ago=5.0),
        bought("tea-2", days_ago=4.0),
        sent_back("tea-2", days_ago=3.0),
        bought("tea-3", days_ago=2.0),
        reviewed("tea-3", 1.0, days_ago=1.0),
    )
    items = listed(who, shelf_index(), k=16)
    assert not {"tea-1", "tea-2", "tea-3"} & {*ids(items)}
    assert {cause for item in items for cause in item.reason.because} <= {"tea-1"}


@pytest.mark.parametrize("k", [0, 1, 50])
def test_odd_counts_and_strange_histories(k: int) -> None:
    """Unknown products, a search without a vector, times out of order: finite scores, no fault."""
    who = shopper(
        bought("unknown-1", "tea-1", days_ago=3.0),
        searched("no vector", 2.0),
        reviewed("tea-1", 4.5, days_ago=1.0),
        sent_back("unknown-1", days_ago=2.0),
    )
    items = listed(who, shelf_index(), k=k)
    assert len(items) == min(k, 15)  # all but tea-1
    assert np.isfinite([item.score for item in items]).all()
    assert listed(who, ProductIndex(TEXT_WIDTH), k=k) == []


def test_histories_are_read_as_in_training() -> None:
    """Products of one purchase are one event each; gaps, stars and kinds as training has them."""
    who = shopper(
        searched("tea", 3.0),
        bought("tea-1", "stranger", "tea-2", days_ago=2.0),
        reviewed("tea-1", 4.0, days_ago=1.0),
        query_vectors={"tea": text_vector("tea", 7)},
    )
    rows = {"tea-1": 1, "tea-2": 2}
    read = read_histories([shopper(), who], shelf_index(), rows, TEXT_WIDTH, 32)
    assert read.batch.lengths.tolist() == [0, 4]
    assert read.batch.item_rows.tolist() == [-1, 1, 2, 1]
    assert read.batch.kinds.tolist() == [2, 1, 1, 4]
    assert read.batch.gaps_s.tolist() == [0.0, 86_400.0, 0.0, 86_400.0]
    assert read.batch.stars.tolist() == [0.0, 0.0, 0.0, 4.0]
    assert torch.equal(read.batch.vectors[0], torch.from_numpy(text_vector("tea", 7)))
    assert [one.product_id or one.query for one in read.events[1]] == [
        "tea", "tea-1", "tea-2", "tea-1",
    ]  # fmt: skip
    newest = read_histories([who], shelf_index(), rows, TEXT_WIDTH, 2)
    assert [one.product_id for one in newest.events[0]] == ["tea-2", "tea-1"]


def test_another_trunk_is_refused(tmp_path: Path) -> None:
    """A recommender of another text width or another trunk is refused with what to do."""
    loaded = planted_recommender()
    require_trunk(loaded, NullEncoder(TEXT_WIDTH), tmp_path)
    with pytest.raises(ModelUnavailable, match=r"8 numbers.*gives 32"):
        require_trunk(loaded, NullEncoder(32), tmp_path)
    other = LoadedRecommender(loaded.network, loaded.item_ids, {"trunk": "minilm@1"})
    with pytest.raises(ModelUnavailable, match=r"trained with the trunk minilm@1"):
        require_trunk(other, NullEncoder(TEXT_WIDTH), tmp_path)


def test_the_pass_with_parts_gives_the_states_of_the_plain_pass() -> None:
    """Vectors that come with their parts are those that training and evaluation see."""
    network = planted_recommender().network
    who = [shopper(), walker(1, 2, 3), asking("tool")]
    rows = {item: row for row, item in enumerate(planted_recommender().item_ids)}
    batch = read_histories(who, shelf_index(), rows, TEXT_WIDTH, 32).batch
    vectors, parts = encode_with_parts(network, batch)
    torch.testing.assert_close(vectors, network.encode_histories(batch), rtol=1e-5, atol=1e-5)
    assert [len(part) for part in parts] == [0, 3, 1]
