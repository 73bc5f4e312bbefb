"""Recommendations without training: what comes first, why, and what never comes."""

from __future__ import annotations

import numpy as np
import pytest

from models.product_index import IndexedProduct, ProductIndex
from models.recommendation.rules import RecommendationRules, recommend_within
from models.recommendation.shopper import Demand, Shopper, ShopperEvent
from models.recommendation.shopper_profile import profile_of
from models.recommendation.similarity_recommender import SimilarityRecommender

DAY_MS = 86_400_000
NOW_MS = 100 * DAY_MS


@pytest.fixture
def index() -> ProductIndex:
    """Six products: p0 to p2 alike, p3 to p5 alike; p2 is sold out."""
    index = ProductIndex(4)
    index.apply(
        [
            IndexedProduct(
                f"p{n}",
                f"Product {n}",
                available=n != 2,
                vector=np.array([n < 3, n >= 3, 0.1 * n, 0], dtype=np.float32),
            )
            for n in range(6)
        ]
    )
    return index


def bought(product_id: str, days_ago: int = 1, kind: str = "purchase") -> ShopperEvent:
    at = NOW_MS - days_ago * DAY_MS
    return ShopperEvent(at, f"{kind}-{product_id}-{days_ago}", kind, product_ids=(product_id,))  # type: ignore[arg-type]


def lists(index: ProductIndex, demand: Demand, *events: ShopperEvent) -> list[tuple[str, str]]:
    shopper = Shopper("ann", NOW_MS, sorted(events, key=lambda event: event.order))
    recommender = SimilarityRecommender()
    found = recommend_within(RecommendationRules(), recommender, [shopper], demand, index, 10)[0]
    return [(item.product_id, item.reason.kind) for item in found]


def test_like_what_was_bought_comes_first_with_its_reason(index: ProductIndex) -> None:
    """What is most like the purchase leads, because of it; sold-out and bought ones are absent."""
    found = lists(index, Demand(), bought("p0"))
    assert found[0] == ("p1", "bought")
    assert {"p0", "p2"}.isdisjoint(product for product, _ in found)


def test_newcomers_get_what_is_popular(index: ProductIndex) -> None:
    """Without a history the popular products come in their order, sold-out ones left out."""
    demand = Demand(popular=[("p4", 3.0), ("p2", 2.0), ("p1", 1.0)])
    assert lists(index, demand) == [("p4", "popular"), ("p1", "popular")]


def test_bought_together_is_a_reason(index: ProductIndex) -> None:
    """What others bought with the shopper's purchase comes before what is only like it."""
    demand = Demand(together={"p0": [("p5", 9.0)]})
    assert lists(index, demand, bought("p0"))[0] == ("p5", "together")


def test_a_habit_comes_again(index: ProductIndex) -> None:
    """What is bought again and again is recommended again; what was sent back is not."""
    again = lists(index, Demand(), bought("p0", 20), bought("p0", 10))
    assert again[0] == ("p0", "bought")
    returned = lists(index, Demand(), bought("p0", 20), bought("p0", 10, "return"))
    assert "p0" not in [product for product, _ in returned]


def test_an_item_without_any_signal_claims_none(index: ProductIndex) -> None:
    """A product that only fills the list up says that it is sold, not that it was bought."""
    found = dict(lists(index, Demand(), bought("p0")))
    assert found["p5"] in {"bought", "popular"}
    last = SimilarityRecommender().recommend(
        [Shopper("ann", NOW_MS, [bought("p0")])], Demand(), index, 10
    )[0][-1]
    assert last.reason.kind == "popular"
    assert last.reason.because == ()


def _searched(query: str, minutes_ago: int) -> ShopperEvent:
    at = NOW_MS - minutes_ago * 60_000
    return ShopperEvent(at, f"search-{query}", "search", query=query)


@pytest.mark.parametrize(
    ("events", "first"),
    [
        pytest.param([_searched("low", 20), _searched("high", 1)], "high", id="the newest leads"),
        pytest.param([_searched("high", 20), _searched("low", 1)], "low", id="whichever it is"),
    ],
)
def test_an_open_search_leads_over_earlier_ones(
    index: ProductIndex, events: list[ShopperEvent], first: str
) -> None:
    """What the shopper looks for now comes before what they looked for in the same visit."""
    vectors = {
        "low": np.array([1, 0, 0, 0], dtype=np.float32),
        "high": np.array([0, 1, 0, 0], dtype=np.float32),
    }
    shopper = Shopper("ann", NOW_MS, events, vectors)
    found = recommend_within(
        RecommendationRules(), SimilarityRecommender(), [shopper], Demand(), index, 2
    )[0]
    shelf = {"low": {"p0", "p1"}, "high": {"p3", "p4"}}[first]
    assert {item.product_id for item in found} == shelf
    assert all(first in item.reason.text for item in found)


def test_a_search_is_open_until_a_purchase_or_the_end_of_the_visit() -> None:
    """The need is the newest search of half an hour, and a purchase after it meets it."""
    assert profile_of(Shopper("ann", NOW_MS, [_searched("tea", 5)])).need == "tea"
    assert profile_of(Shopper("ann", NOW_MS, [_searched("tea", 31)])).need is None
    met = [_searched("tea", 5), ShopperEvent(NOW_MS, "order", "purchase", product_ids=("p0",))]
    assert profile_of(Shopper("ann", NOW_MS, met)).need is None
