"""Popularity and co-purchase in memory: the same doubles in the same order as `apply.lua`."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence

from worker.store.decay import Decay, Popular, between_spans
from worker.store.limits import (
    EARLIER_PRODUCTS,
    PAIRED_PRODUCTS,
    PURCHASED_PRODUCTS,
    TOGETHER_READ,
    StoreLimits,
)

_Ranking = dict[str, float]
_SORTED_SHARE = 20


def _highest(ranking: Mapping[str, float], count: int) -> list[tuple[str, float]]:
    pairs = [(score, member) for member, score in ranking.items()]
    if len(pairs) <= _SORTED_SHARE * count:
        best = sorted(pairs, reverse=True)[:count]  # the same, and quicker where most are wanted
    else:
        best = heapq.nlargest(count, pairs)
    return [(member, score) for score, member in best]


def _keep_highest(ranking: _Ranking, count: int) -> None:
    lowest = heapq.nsmallest(
        len(ranking) - count, ((score, member) for member, score in ranking.items())
    )
    for _, member in lowest:
        del ranking[member]


class Demand:
    """What the whole shop buys, and what each shopper bought last."""

    def __init__(self, limits: StoreLimits) -> None:
        self._limits = limits
        self._decay = Decay(limits.popularity_half_life_s * 1000.0)
        self._popular: _Ranking = {}
        self._span: int | None = None
        self._newest_ms = 0
        self._moved = False
        self._read: dict[int, list[tuple[str, float]]] = {}  # what `popular` gave since it moved
        self._together: dict[str, _Ranking] = {}
        self._purchased: dict[str, dict[str, int]] = {}

    def count_purchase(self, user_id: str, time_ms: int, quantities: Mapping[str, int]) -> None:
        """Raise popularity and co-purchase."""
        span = self._decay.span_of(time_ms)
        standing_span = self._move_clock(span, time_ms)
        weight = self._decay.weight(time_ms, span)
        carry = between_spans(span, standing_span)
        for product, quantity in quantities.items():
            self._popular[product] = self._popular.get(product, 0.0) + quantity * weight * carry
        self._join_order(user_id, time_ms, list(quantities)[:PAIRED_PRODUCTS])

    def count_return(self, user_id: str, time_ms: int, quantities: Mapping[str, int]) -> None:
        """Take popularity back, at the weight of the purchase where it is known."""
        if self._span is None:
            return
        self._moved = True
        purchased = self._purchased.get(user_id, {})
        for product, quantity in quantities.items():
            if product not in self._popular:
                continue
            bought_ms = min(purchased.get(product, time_ms), time_ms)
            rest = self._popular[product] - quantity * self._decay.weight(bought_ms, self._span)
            if rest > 0:
                self._popular[product] = rest
            else:
                del self._popular[product]

    def settle_popular(self) -> None:
        """Cut the list to its cap; once a step, as the script does."""
        if not self._moved:
            return
        self._moved = False
        self._read.clear()
        for product in [product for product, score in self._popular.items() if score <= 0]:
            del self._popular[product]
        if len(self._popular) > self._limits.popular_max_products:
            _keep_highest(self._popular, self._limits.popular_max_products)

    def popular(self, count: int) -> Sequence[tuple[str, float]]:
        """Return the most popular products, decayed to the newest purchase, highest first."""
        if count <= 0 or self._span is None:
            return []
        if count not in self._read:
            clock = Popular(self._decay, self._span, self._newest_ms)
            self._read[count] = clock.decayed(_highest(self._popular, count))
        return self._read[count]

    def latest_purchases(self, user_id: str, count: int) -> list[str]:
        """Return the products a shopper bought last, latest first."""
        return [product for product, _ in self._latest(user_id)[:count]]

    def together(self, products: Iterable[str]) -> dict[str, Sequence[tuple[str, float]]]:
        """Return the co-purchase rows of these products, where there are any."""
        return {
            product: _highest(self._together[product], TOGETHER_READ)
            for product in products
            if self._together.get(product)
        }

    def forget(self, user_id: str, time_ms: int) -> None:
        """Drop what the shopper bought until then; counts stay, without a name."""
        purchased = self._purchased.get(user_id, {})
        for product in [product for product, bought in purchased.items() if bought <= time_ms]:
            del purchased[product]

    def _latest(self, user_id: str) -> list[tuple[str, int]]:
        purchased = self._purchased.get(user_id, {})
        return sorted(purchased.items(), key=lambda item: (item[1], item[0]), reverse=True)

    def _move_clock(self, span: int, time_ms: int) -> int:
        if self._span is None:
            self._span, self._newest_ms = span, time_ms
        elif span > self._span:
            factor = between_spans(self._span, span)
            self._popular = {
                product: score * factor for product, score in self._popular.items() if factor
            }
            self._span = span
        self._newest_ms = max(self._newest_ms, time_ms)
        self._moved = True
        return self._span

    def _join_order(self, user_id: str, time_ms: int, ordered: Sequence[str]) -> None:
        before = [item for item in self._latest(user_id) if item[1] < time_ms]
        earlier = [product for product, _ in before[:EARLIER_PRODUCTS] if product not in ordered]
        for product in ordered:
            for other in ordered:
                if product != other:
                    self._join(product, other, 1.0)
            for before_it in earlier:
                self._join(before_it, product, 0.5)
        for product in (*ordered, *earlier):
            row = self._together.get(product, {})
            if len(row) > 2 * self._limits.together_max_products:
                _keep_highest(row, self._limits.together_max_products)
        purchased = self._purchased.setdefault(user_id, {})
        for product in ordered:
            purchased[product] = max(purchased.get(product, time_ms), time_ms)
        for product, _ in self._latest(user_id)[PURCHASED_PRODUCTS:]:
            del purchased[product]

    def _join(self, product: str, other: str, weight: float) -> None:
        row = self._together.setdefault(product, {})
        row[other] = row.get(other, 0.0) + weight
