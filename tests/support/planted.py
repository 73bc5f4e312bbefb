"""Planted catalogues, histories and a recommender with a fixed order, for tests of serving."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.product_index import IndexedProduct, ProductIndex
from models.recommendation.shopper import Demand, Reason, Recommendation, Shopper, ShopperEvent

DAY_MS = 86_400_000
NOW_MS = 1_000 * DAY_MS
WIDTH = 8


def unit(*places: float) -> np.ndarray:
    """Return a unit vector of `WIDTH` that begins with these numbers."""
    vector = np.zeros(WIDTH, dtype=np.float32)
    vector[: len(places)] = places
    return vector / np.linalg.norm(vector)


def product(product_id: str, *places: float, **fields: object) -> IndexedProduct:
    """Return an available product whose vector points to `places`."""
    known = {"title": product_id, "vector": unit(*(places or (1.0,))), **fields}
    return IndexedProduct(product_id, **known)  # type: ignore[arg-type]


def index_of(*products: IndexedProduct) -> ProductIndex:
    """Return an index of these products."""
    index = ProductIndex(WIDTH)
    index.apply(products)
    return index


def bought(*product_ids: str, days_ago: float, order: str = "") -> ShopperEvent:
    """Return a purchase of products so many days before now."""
    at_ms = int(NOW_MS - days_ago * DAY_MS)
    name = f"buy-{'-'.join(product_ids)}-{days_ago}"
    return ShopperEvent(at_ms, name, "purchase", product_ids=product_ids, order_id=order or name)


def sent_back(*product_ids: str, days_ago: float) -> ShopperEvent:
    """Return a return of products so many days before now."""
    at_ms = int(NOW_MS - days_ago * DAY_MS)
    return ShopperEvent(at_ms, f"back-{days_ago}", "return", product_ids=product_ids)


def reviewed(product_id: str, stars: float, days_ago: float) -> ShopperEvent:
    """Return a review with stars so many days before now."""
    at_ms = int(NOW_MS - days_ago * DAY_MS)
    return ShopperEvent(at_ms, f"review-{days_ago}", "review", None, (product_id,), stars=stars)


def searched(query: str, days_ago: float) -> ShopperEvent:
    """Return a search so many days before now."""
    return ShopperEvent(int(NOW_MS - days_ago * DAY_MS), f"find-{query}", "search", query=query)


def shopper(*events: ShopperEvent, user_id: str = "ann", **fields: object) -> Shopper:
    """Return a shopper with these events, oldest first whatever the order given."""
    history = sorted(events, key=lambda event: event.order)
    return Shopper(user_id, NOW_MS, history, **fields)  # type: ignore[arg-type]


class FixedOrder:
    """Recommends one order of products to everybody, barred and sold-out ones left out."""

    def __init__(self, *product_ids: str) -> None:
        self.product_ids = product_ids
        self.calls: list[tuple[list[str], int]] = []  # (user ids, k)

    def recommend(
        self, shoppers: Sequence[Shopper], demand: Demand, index: ProductIndex, k: int
    ) -> list[list[Recommendation]]:
        """Return the fixed order, scores falling by one."""
        self.calls.append(([one.user_id for one in shoppers], k))
        reason = Reason("popular", "popular now")
        lists = []
        for one in shoppers:
            ids = [i for i in self.product_ids if i not in one.barred and index.sells(i)]
            lists.append([Recommendation(i, -float(n), reason) for n, i in enumerate(ids[:k])])
        return lists
