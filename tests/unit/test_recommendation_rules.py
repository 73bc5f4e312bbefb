"""The shop's rules: what is barred, what comes again, and how a list is filled."""

from __future__ import annotations

import pytest

from models.product_index import IndexedProduct, ProductIndex
from models.recommendation.rules import RecommendationRules, recommend_within
from models.recommendation.shopper import Demand, Shopper, ShopperEvent
from models.recommendation.similarity_recommender import SimilarityRecommender
from tests.support.planted import (
    FixedOrder,
    bought,
    index_of,
    product,
    reviewed,
    searched,
    sent_back,
    shopper,
    unit,
)

WEEKLY = [bought("milk", days_ago=days) for days in (22.0, 15.0, 8.0, 1.0)]


def served(
    rules: RecommendationRules,
    recommender: FixedOrder,
    index: ProductIndex,
    who: Shopper | None = None,
    k: int = 3,
) -> list[str]:
    lists = recommend_within(rules, recommender, [who or shopper()], Demand(), index, k)
    return [item.product_id for item in lists[0]]


def shelf(*names: str, **fields: object) -> ProductIndex:
    return index_of(*(product(name, **fields) for name in names))


# --- what was bought ------------------------------------------------------------------------------


def test_bought_once_is_barred_and_bought_weekly_is_not() -> None:
    """What was bought once stays away; groceries bought every week come again."""
    ruled = RecommendationRules().apply_to(shopper(*WEEKLY, bought("lamp", days_ago=2.0)))
    assert ruled.barred == {"lamp"}
    assert ruled.repeated == {"milk"}


def test_two_orders_of_one_evening_are_no_habit() -> None:
    """An afterthought an hour later does not make a product one that is bought again and again."""
    events = [bought("lamp", days_ago=2.0), bought("lamp", days_ago=2.0 - 1 / 24)]
    assert RecommendationRules().apply_to(shopper(*events)).barred == {"lamp"}
    loose = RecommendationRules(repeat_min_gap_hours=0.5)
    assert loose.apply_to(shopper(*events)).repeated == {"lamp"}


def test_habits_are_looked_for_within_the_window() -> None:
    """Purchases older than the window make no habit, and the setting says how many do."""
    events = [bought("tent", days_ago=300.0), bought("tent", days_ago=100.0)]
    assert RecommendationRules().apply_to(shopper(*events)).repeated == {"tent"}
    assert RecommendationRules(repeat_window_days=180).apply_to(shopper(*events)).barred == {"tent"}
    assert RecommendationRules(repeat_min_orders=5).apply_to(shopper(*WEEKLY)).barred == {"milk"}
    assert RecommendationRules(repeat_min_orders=1).apply_to(shopper(*events)).repeated == {"tent"}


def test_a_repeated_product_waits_until_it_is_due() -> None:
    """With a due share, what is bought monthly rests after a weekly visit, weekly milk does not."""
    rules = RecommendationRules(repeat_due_share=0.5)
    soap = [bought("soap", days_ago=days) for days in (61.0, 31.0, 1.0)]
    ruled = rules.apply_to(shopper(*WEEKLY, *soap))
    assert (ruled.barred, ruled.repeated) == ({"soap"}, {"milk"})
    later = shopper(*WEEKLY, *(bought("soap", days_ago=days) for days in (70.0, 40.0, 10.0)))
    assert rules.apply_to(later).repeated == {"milk", "soap"}


def test_a_late_shopper_is_asked_about_now() -> None:
    """Who has stayed away longer than usual is due for what is due now."""
    rules = RecommendationRules(repeat_due_share=0.5)
    soap = [bought("soap", days_ago=days) for days in (140.0, 80.0, 20.0)]
    weekly = [bought("milk", days_ago=days) for days in (34.0, 27.0, 20.0)]
    assert rules.apply_to(shopper(*weekly, *soap)).barred == {"soap"}
    late = [bought("soap", days_ago=days) for days in (150.0, 90.0, 30.0)]
    assert rules.apply_to(shopper(*weekly, *late)).repeated == {"milk", "soap"}


def test_a_purchase_rests_for_so_long() -> None:
    """After the resting time a product bought once may come again, without being a habit."""
    ruled = RecommendationRules(bought_rest_days=30).apply_to(shopper(bought("oil", days_ago=31)))
    assert not ruled.barred
    assert not ruled.repeated


@pytest.mark.parametrize("away", [sent_back("milk", days_ago=0.5), reviewed("milk", 1.0, 0.5)])
def test_sent_back_or_disliked_stays_away(away: ShopperEvent) -> None:
    """A low review bars even a habit; a return takes one purchase back, and the last bars."""
    ruled = RecommendationRules().apply_to(shopper(bought("milk", days_ago=1.0), away))
    assert ruled.barred == {"milk"}
    low = RecommendationRules().apply_to(shopper(*WEEKLY, reviewed("milk", 2.0, 0.5)))
    assert low.barred == {"milk"}
    assert not low.repeated


# --- lists ----------------------------------------------------------------------------------------


def test_lists_are_filled_again_under_a_category_cap() -> None:
    """At most so many of a category, the rest from below, products without a category uncapped."""
    tea = [product(f"tea{n}", category="Tea" if n % 2 else " tea ") for n in range(6)]
    plain = [product("bare1"), product("bare2"), product("cup", category="cups")]
    order = FixedOrder(*(p.product_id for p in (*tea, *plain)))
    found = served(RecommendationRules(category_max_items=2), order, index_of(*tea, *plain), k=5)
    assert found == ["tea0", "tea1", "bare1", "bare2", "cup"]


def test_the_pool_grows_until_the_list_is_full() -> None:
    """However many a rule leaves out, the list is filled while there is something to be had."""
    dear = [product(f"dear{n:03}", price=99.0) for n in range(200)]
    cheap = [product(f"cheap{n}", price=1.0) for n in range(3)]
    order = FixedOrder(*(p.product_id for p in (*dear, *cheap)))
    index = index_of(*dear, *cheap)
    who = [shopper(user_id="ann"), shopper(user_id="bob")]
    lists = recommend_within(RecommendationRules(price_max=10), order, who, Demand(), index, 3)
    assert [[i.product_id for i in one] for one in lists] == [["cheap0", "cheap1", "cheap2"]] * 2
    assert served(RecommendationRules(price_max=0.5), order, index) == []


def test_only_short_lists_are_asked_for_again() -> None:
    """A second call is made only for the shoppers whose lists the rules left short."""
    index = index_of(*(product(f"p{n:02}", price=float(n + 1)) for n in range(30)))
    order = FixedOrder(*(f"p{n:02}" for n in range(30)))
    rich = shopper(*(bought(f"p{n}", days_ago=1) for n in (27, 28, 29)), user_id="rich")
    new = shopper(user_id="new")
    rules = RecommendationRules(price_band_ratio=1.5)
    lists = recommend_within(rules, order, [rich, new], Demand(), index, 3)
    assert [i.product_id for i in lists[0]] == ["p19", "p20", "p21"]  # 29 / 1.5 = 19.3 and more
    assert [i.product_id for i in lists[1]] == ["p00", "p01", "p02"]
    assert order.calls == [(["rich", "new"], 9), (["rich"], 36)]
    alone = recommend_within(rules, order, [rich], Demand(), index, 3)
    assert alone[0] == lists[0]


def test_price_band_follows_what_the_shopper_pays() -> None:
    """The band needs three priced products and leaves products without a price alone."""
    index = index_of(
        *(product(f"b{n}", price=10.0) for n in range(3)),
        product("low", price=2.0),
        product("near", price=19.0),
        product("high", price=21.0),
        product("unpriced"),
    )
    order = FixedOrder("low", "high", "near", "unpriced")
    rules = RecommendationRules(price_band_ratio=2.0)
    usual = shopper(bought("b0", "b1", "b2", days_ago=3.0))
    assert served(rules, order, index, usual) == ["near", "unpriced"]
    newcomer = shopper(bought("b0", "b1", days_ago=3.0))
    assert served(rules, order, index, newcomer) == ["low", "high", "near"]
    assert served(RecommendationRules(price_min=3, price_max=20), order, index) == [
        "near",
        "unpriced",
    ]


def test_diversity_moves_near_copies_down() -> None:
    """With diversity a copy of the first product gives way to another one; without it stays."""
    index = index_of(product("red", 1.0), product("red-xl", 1.0, 0.05), product("hat", 0.0, 1.0))
    order = FixedOrder("red", "red-xl", "hat")
    assert served(RecommendationRules(), order, index, k=2) == ["red", "red-xl"]
    assert served(RecommendationRules(diversity=0.5), order, index, k=2) == ["red", "hat"]
    capped = RecommendationRules(diversity=0.5, category_max_items=1)
    assert served(capped, order, index, k=3) == ["red", "hat", "red-xl"]


def test_rules_bind_a_recommender_that_ignores_them() -> None:
    """Sold out, removed or barred products never appear, whatever the recommender says."""

    class Stubborn(FixedOrder):
        def recommend(self, shoppers, demand, index, k):  # type: ignore[no-untyped-def]
            free = [Shopper(one.user_id, one.now_ms, ()) for one in shoppers]
            return FixedOrder.recommend(self, free, demand, _Everything(index), k)  # type: ignore[arg-type]

    class _Everything:
        def __init__(self, index: ProductIndex) -> None:
            self.get = index.get

        def sells(self, product_id: str) -> bool:
            return True

    index = index_of(product("lamp"), product("gone", available=False), product("cup"))
    order = Stubborn("lamp", "gone", "unknown", "cup")
    who = shopper(bought("lamp", days_ago=1.0))
    assert served(RecommendationRules(diversity=0.1), order, index, who) == ["cup"]


def test_nothing_asked_nothing_given() -> None:
    """No items asked for, or no shoppers: no recommender is called."""
    order = FixedOrder("cup")
    assert recommend_within(RecommendationRules(), order, [], Demand(), shelf("cup"), 3) == []
    assert served(RecommendationRules(), order, shelf("cup"), k=0) == []
    assert order.calls == []


# --- the similarity recommender under the rules ---------------------------------------------------


def test_similarity_serves_habits_and_neighbours() -> None:
    """Weekly milk comes with its reason; a lamp bought once brings its neighbour, not itself."""
    index = index_of(
        product("milk", 0.0, 1.0), product("lamp", 1.0), product("bulb", 1.0, 0.2), _soldout()
    )
    who = shopper(*WEEKLY, bought("lamp", days_ago=2.0))
    items = recommend_within(
        RecommendationRules(), SimilarityRecommender(), [who], Demand(), index, 3
    )[0]
    assert [item.product_id for item in items] == ["milk", "bulb"]
    assert items[0].reason.text == "because you buy milk again and again"
    assert items[1].reason.text == "because you bought lamp"


def test_similarity_gives_a_list_to_one_search_and_to_none() -> None:
    """One search is answered by likeness; without a history the popular products stand."""
    index = index_of(product("milk", 0.0, 1.0), product("lamp", 1.0), _soldout())
    demand = Demand(popular=[("milk", 2.0), ("gone", 1.0)])
    one = shopper(searched("light", 0.1), query_vectors={"light": unit(1.0, 0.1)})
    lists = recommend_within(
        RecommendationRules(), SimilarityRecommender(), [one, shopper()], demand, index, 2
    )
    assert [item.product_id for item in lists[0]] == ["lamp", "milk"]
    assert lists[0][0].reason.text == "matches your search 'light'"
    assert [item.product_id for item in lists[1]] == ["milk"]


def _soldout() -> IndexedProduct:
    return product("gone", 1.0, available=False)
