"""A shop's rules for recommendations, applied to whichever recommender serves.

Two kinds: what one shopper must not be shown (bought just now, sent back, disliked), which the
recommender is told beforehand, and what a list must look like (price band, category cap, variety),
for which it is asked for more than the list holds. What falls out is filled again from below.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

import numpy as np

from models.product_index import IndexedProduct, ProductIndex
from models.recommendation.shopper import Demand, Recommendation, Recommender, Shopper
from models.recommendation.shopper_profile import BoughtProduct, profile_of

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_POOL_LISTS = 3  # lists' worth of candidates that a rule of lists chooses from
_POOL_GROWTH = 4  # more of them where the rules left a list short
_PRICED_PURCHASES = 3  # so many products with a price tell what a shopper usually pays
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class RecommendationRules:
    """The rules; the settings `recommend_…` of the same names document them.

    Defaults measured on 265 next baskets of Complete Journey (docs/recommender.md).
    """

    bought_rest_days: float = 365.0
    repeat_min_orders: int = 2
    repeat_window_days: float = 365.0
    repeat_min_gap_hours: float = 12.0
    repeat_due_share: float = 0.1
    category_max_items: int = 0
    price_min: float | None = None
    price_max: float | None = None
    price_band_ratio: float = 0.0
    diversity: float = 0.1

    def apply_to(self, shopper: Shopper) -> Shopper:
        """Return the shopper with `barred` and `repeated` as the rules have them.

        What was sent back, or got a low review, is barred for as long as the history holds it.
        """
        profile = profile_of(shopper)
        read_ms = self._next_visit_ms(shopper)
        repeated = frozenset(
            i for i, b in profile.bought.items() if self._repeats(b, shopper.now_ms, read_ms)
        )
        resting = {i for i, b in profile.bought.items() if self._rests(b, shopper)} - repeated
        away = profile.disliked | profile.returned
        return replace(shopper, barred=away | resting, repeated=repeated - away)

    def _rests(self, bought: BoughtProduct, shopper: Shopper) -> bool:
        return shopper.now_ms - bought.last_ms < self.bought_rest_days * _DAY_MS

    def _next_visit_ms(self, shopper: Shopper) -> int:
        """Return when the shopper is likely to buy again: the usual time after the last purchase.

        A list is made right after a purchase and read at the next visit: what is due by then must
        stand in it.
        """
        times_ms = sorted(e.occurred_at_ms for e in shopper.events if e.kind == "purchase")
        occasions = self._occasions(times_ms, shopper.now_ms)
        if len(occasions) < 2:
            return shopper.now_ms
        return max(shopper.now_ms, round(times_ms[-1] + _usual_gap_ms(occasions)))

    def _repeats(self, bought: BoughtProduct, now_ms: int, read_ms: int) -> bool:
        """Say whether it is bought again and again, and due when the list is read."""
        occasions = self._occasions(bought.times_ms, now_ms)
        if len(occasions) < self.repeat_min_orders:
            return False
        if len(occasions) < 2:  # so asks the setting: everything bought may come again
            return True
        return read_ms - bought.last_ms >= self.repeat_due_share * _usual_gap_ms(occasions)

    def _occasions(self, times_ms: Sequence[int], now_ms: int) -> list[int]:
        """Return the purchases within the window that lie far enough apart to be occasions.

        Two orders of one evening are one occasion: an afterthought, not a habit.
        """
        since_ms = now_ms - self.repeat_window_days * _DAY_MS
        min_gap_ms = self.repeat_min_gap_hours * _HOUR_MS
        occasions: list[int] = []
        for time_ms in times_ms:
            if time_ms >= since_ms and (not occasions or time_ms - occasions[-1] >= min_gap_ms):
                occasions.append(time_ms)
        return occasions

    @property
    def shape_lists(self) -> bool:
        """Whether a list needs more candidates than it holds."""
        return bool(
            self.category_max_items
            or self.price_band_ratio
            or self.diversity
            or self.price_min is not None
            or self.price_max is not None
        )

    def price_band(self, shopper: Shopper, index: ProductIndex) -> tuple[float, float]:
        """Return the least and the highest price a shopper's list may hold."""
        least, most = self.price_min or 0.0, self.price_max or float("inf")
        if self.price_band_ratio:
            bought = {i for e in shopper.events if e.kind == "purchase" for i in e.product_ids}
            products = [index.get(product_id) for product_id in bought]
            prices = [p.price for p in products if p is not None and p.price is not None]
            if len(prices) >= _PRICED_PURCHASES:
                usual = median(prices)
                least = max(least, usual / self.price_band_ratio)
                most = min(most, usual * self.price_band_ratio)
        return least, most


def recommend_within(
    rules: RecommendationRules,
    recommender: Recommender,
    shoppers: Sequence[Shopper],
    demand: Demand,
    index: ProductIndex,
    k: int,
) -> list[list[Recommendation]]:
    """Return at most `k` recommendations for each shopper that keep to the rules.

    A list is shorter only where the recommender has nothing more that the rules allow. What a
    shopper gets does not depend on the others of the call if the recommender keeps to that.
    """
    ruled = [rules.apply_to(shopper) for shopper in shoppers]
    found: list[list[Recommendation]] = [[] for _ in ruled]
    open_rows = list(range(len(ruled))) if k > 0 else []
    pool = k * _POOL_LISTS if rules.shape_lists else k
    while open_rows:
        asked = [ruled[row] for row in open_rows]
        ranked = recommender.recommend(asked, demand, index, pool)
        short: list[int] = []
        for row, candidates in zip(open_rows, ranked, strict=True):
            found[row] = _choose(rules, ruled[row], candidates, index, k)
            if len(found[row]) < k and len(candidates) >= pool:
                short.append(row)
        open_rows, pool = short, pool * _POOL_GROWTH
    return found


def _choose(
    rules: RecommendationRules,
    shopper: Shopper,
    candidates: Sequence[Recommendation],
    index: ProductIndex,
    k: int,
) -> list[Recommendation]:
    """Return the list of one shopper from candidates in order."""
    least, most = rules.price_band(shopper, index)
    allowed: list[Recommendation] = []
    products: list[IndexedProduct] = []
    for candidate in candidates:
        product = index.get(candidate.product_id)
        if product is None or not product.available or candidate.product_id in shopper.barred:
            continue
        if product.price is not None and not least <= product.price <= most:
            continue
        allowed.append(candidate)
        products.append(product)
    room = _CategoryRoom(rules.category_max_items, products)
    if rules.diversity and len(allowed) > 1:
        rows = _varied(allowed, index, rules.diversity, room, k)
    else:
        rows = room.first(k)
    return [allowed[row] for row in rows]


class _CategoryRoom:
    """How many more of each category a list may take; no category, no limit."""

    def __init__(self, max_items: int, products: Sequence[IndexedProduct]) -> None:
        self._max_items = max_items
        self._names = [
            product.category.strip().casefold() if max_items else "" for product in products
        ]
        self._taken: Counter[str] = Counter()

    def has(self, row: int) -> bool:
        """Say whether the list may take the candidate in this row."""
        name = self._names[row]
        return not (self._max_items and name) or self._taken[name] < self._max_items

    def take(self, row: int) -> list[int]:
        """Count the candidate in this row as taken; return the rows there is no room for now."""
        name = self._names[row]
        self._taken[name] += 1
        if self.has(row):
            return []
        return [other for other, its in enumerate(self._names) if its == name]

    def first(self, k: int) -> list[int]:
        """Take the first `k` rows there is room for."""
        rows: list[int] = []
        for row in range(len(self._names)):
            if len(rows) == k:
                break
            if self.has(row):
                self.take(row)
                rows.append(row)
        return rows


def _varied(
    candidates: Sequence[Recommendation],
    index: ProductIndex,
    diversity: float,
    room: _CategoryRoom,
    k: int,
) -> list[int]:
    """Choose by maximal marginal relevance: a candidate's score less its likeness to the chosen.

    Scores are brought to 0 … 1 within the candidates; likeness is the cosine of the product texts.
    Source: Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking (SIGIR 1998).
    """
    scores = np.array([candidate.score for candidate in candidates])
    least, most = scores.min(), scores.max()
    relevance = (scores - least) / (most - least) if most > least else np.ones(len(scores))
    relevance *= 1 - diversity
    vectors = index.vectors_of([c.product_id for c in candidates])[0].astype(np.float64)  # (n, D)
    cosines = diversity * (vectors @ vectors.T)  # (n, n)
    likeness = np.zeros(len(scores))  # (n,) to the nearest chosen one
    relevance[[row for row in range(len(scores)) if not room.has(row)]] = -np.inf
    rows: list[int] = []
    for _ in range(k):
        value = (relevance - likeness).round(_DIGITS)
        best = int(value.argmax())  # of equals the first: the better
        if relevance[best] == -np.inf:  # no row is left
            break
        rows.append(best)
        relevance[[best, *room.take(best)]] = -np.inf  # taken, or no room is left
        np.maximum(likeness, cosines[best], out=likeness)
    return rows


def _usual_gap_ms(occasions: Sequence[int]) -> float:
    """Return the median time between two occasions or more."""
    return median(after - before for before, after in pairwise(occasions))
