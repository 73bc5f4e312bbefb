"""Recommendations of a trained transformer, blended with what a shopper does right now.

One pass of the network reads the histories of all shoppers of a batch; the products whose item
vectors fit best come from the index, beside those a shopper buys again and again and those that
match the latest search in meaning. A shopper without a history gets what is popular.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.learnt.event_attribution import encode_with_parts
from models.learnt.files import LoadedRecommender
from models.learnt.item_vectors import ItemVectors
from models.learnt.learnt_reasons import reasons_of_events
from models.learnt.score_gains import GainReader, ScoreGains
from models.learnt.shopper_histories import ReadEvent, read_histories
from models.product_index import ProductIndex
from models.recommendation.reasons import reason_of
from models.recommendation.shopper import Demand, Reason, Recommendation, Shopper
from models.recommendation.shopper_profile import ShopperProfile, profile_of
from models.recommendation.signals import (
    SCORE_DIGITS,
    Scores,
    Signal,
    best_rows,
    cosines_to,
    nearest_signal,
    own_signal,
    popular_products,
    scaled,
)
from models.search.vector_index import EXACT_MAX_VECTORS

Vector = NDArray[np.float32]

_POOL = 50  # products that the network brings at least
_NEIGHBOURS = 50  # products that the latest search brings
_LEAST_FRESH = 0.1  # a latest search of less weight than this brings none


@dataclass(frozen=True, slots=True)
class LearntWeights:
    """How the signals add up; within one list each lies between 0 and 1."""

    learnt: float = 1.0
    habit: float = 2.0
    searched: float = 1.0
    popular: float = 0.2
    purchase_half_life_days: float = 60.0
    search_half_life_days: float = 0.25  # what is looked for now


@dataclass(frozen=True, slots=True)
class _Case:
    """One shopper's work."""

    shopper: Shopper
    profile: ShopperProfile
    query: str | None  # the latest search, if it is fresh and its vector is at hand
    events: Sequence[ReadEvent]  # as the network read them
    vector: Vector  # (D,) what the network made of them
    near: Sequence[str]  # products whose item vectors fit best
    gains: ScoreGains  # what counted weights of what was bought add
    matching: Sequence[str]  # products near the latest search


@dataclass(frozen=True, slots=True)
class _Place:
    """One place of a list; without a reason it is the network's."""

    product_id: str
    score: float
    reason: Reason | None


class LearntRecommender:
    """Serves a trained recommender; lists do not depend on who else is in the batch."""

    def __init__(
        self,
        loaded: LoadedRecommender,
        weights: LearntWeights | None = None,
        *,
        exact_max_products: int = EXACT_MAX_VECTORS,
    ) -> None:
        """Serve a loaded network on its device."""
        self._network = loaded.network
        self._item_rows = {item_id: row for row, item_id in enumerate(loaded.item_ids)}
        self._gains = GainReader(loaded.network, loaded.item_ids, self._item_rows)
        self._weights = weights or LearntWeights()
        self._exact_max_products = exact_max_products
        self._items: WeakKeyDictionary[ProductIndex, ItemVectors] = WeakKeyDictionary()

    def follow(self, index: ProductIndex) -> ItemVectors:
        """Return the item vectors of an index's products as they are now.

        `recommend` does this itself; the first time costs seconds with many products.
        """
        items = self._items_of(index)
        items.refresh(index)
        return items

    def catch_up(self, index: ProductIndex, most: int) -> int:
        """Take in at most so many changed products of an index; return how many are left."""
        items = self._items_of(index)
        items.refresh(index, most)
        return items.behind

    def _items_of(self, index: ProductIndex) -> ItemVectors:
        items = self._items.get(index)
        if items is None:
            items = ItemVectors(self._network, self._item_rows, index, self._exact_max_products)
            self._items[index] = items
        return items

    def recommend(
        self, shoppers: Sequence[Shopper], demand: Demand, index: ProductIndex, k: int
    ) -> list[list[Recommendation]]:
        """Return at most `k` available products for each shopper, best first, ties by id."""
        if k <= 0 or not shoppers:
            return [[] for _ in shoppers]
        items = self.follow(index)
        config = self._network.config
        read = read_histories(
            shoppers, index, self._item_rows, config.text_width, config.max_events
        )
        batch = read.batch.to(self._network.device)
        vectors, parts = encode_with_parts(self._network, batch)
        gains = self._gains.read(batch, vectors, [one.barred for one in shoppers])
        cases = self._cases(shoppers, read.events, vectors.cpu().numpy(), gains, items, index, k)
        popular = popular_products(demand, index, len(demand.popular))
        lists = [
            self._rank(case, popular, items, index, k)
            if case.events
            else _popular(case, popular, index, k)
            for case in cases
        ]
        reasons = self._network_reasons(cases, lists, parts, items, index)
        return [
            [
                Recommendation(place.product_id, place.score, place.reason or reason)
                for place, reason in zip(places, said, strict=True)
            ]
            for places, said in zip(lists, reasons, strict=True)
        ]

    def _cases(
        self,
        shoppers: Sequence[Shopper],
        events: Sequence[Sequence[ReadEvent]],
        vectors: Vector,
        gains: Sequence[ScoreGains],
        items: ItemVectors,
        index: ProductIndex,
        k: int,
    ) -> list[_Case]:
        """Search once by the network's vectors (B, D) and once by text, for all shoppers."""
        weights = self._weights
        near = items.nearest(vectors, max(k, _POOL), [one.barred for one in shoppers])
        profiles = [
            profile_of(one, weights.purchase_half_life_days, weights.search_half_life_days)
            for one in shoppers
        ]
        queries = [_fresh(one, who) for one, who in zip(profiles, shoppers, strict=True)]
        matching = _matching(shoppers, queries, index) if weights.searched else [[]] * len(near)
        return [
            _Case(*parts)
            for parts in zip(
                shoppers,
                profiles,
                queries,
                events,
                vectors,
                ([product_id for product_id, _ in hits] for hits in near),
                gains,
                matching,
                strict=True,
            )
        ]

    def _rank(
        self,
        case: _Case,
        popular: Mapping[str, float],
        items: ItemVectors,
        index: ProductIndex,
        k: int,
    ) -> list[_Place]:
        shopper = case.shopper
        wanted = {*case.near, *case.gains.candidates, *case.matching, *shopper.repeated, *popular}
        wanted -= shopper.barred
        ids = sorted(i for i in wanted if index.sells(i))
        if not ids:
            return []
        signals = self._signals(case, ids, popular, items, index)
        scores: Scores = np.sum([signal.shares for signal in signals], axis=0)
        scores = scores.round(SCORE_DIGITS) + 0.0
        places = []
        for row in best_rows(scores, k):
            signal = max(signals, key=lambda signal: float(signal.shares[row]))
            reason = None
            if signal is not signals[0]:
                reason = reason_of(signal.kind, signal.cause(row), shopper.locale, index)
            places.append(_Place(ids[row], float(scores[row]), reason))
        return places

    def _signals(
        self,
        case: _Case,
        ids: Sequence[str],
        popular: Mapping[str, float],
        items: ItemVectors,
        index: ProductIndex,
    ) -> list[Signal]:
        """Return the signals over the candidates, the network's first."""
        weights, profile = self._weights, case.profile
        scores, has_vector = items.scores(case.vector, ids)
        scores = scores + case.gains.of(ids)
        learnt = np.zeros(len(ids))
        learnt[has_vector] = weights.learnt * scaled(scores[has_vector])
        habit = {i: profile.bought[i].weight for i in case.shopper.repeated if i in profile.bought}
        signals = [
            Signal("bought", learnt),
            own_signal("habit", weights.habit, habit, ids),
            own_signal("popular", weights.popular, popular, ids),
        ]
        if case.query is not None:
            vectors = index.vectors_of(ids)[0].astype(np.float64)  # (n, W)
            asked = np.asarray(case.shopper.query_vectors[case.query])[None]  # (1, W)
            weight = weights.searched * profile.searched[case.query]
            likeness = cosines_to(vectors, asked)
            signals.append(nearest_signal("searched", weight, likeness, [case.query], [1.0]))
        return signals

    def _network_reasons(
        self,
        cases: Sequence[_Case],
        lists: Sequence[Sequence[_Place]],
        parts: Sequence[Tensor],
        items: ItemVectors,
        index: ProductIndex,
    ) -> list[list[Reason]]:
        """Return for each place the event that weighed most, in words."""
        found = []
        for case, places, part in zip(cases, lists, parts, strict=True):
            ids = [place.product_id for place in places]
            weights = items.vectors_of(ids) @ part.float().cpu().numpy().T  # (k, events)
            weights = weights + case.gains.by_event(ids, len(case.events))
            found.append(
                reasons_of_events(ids, case.events, weights, case.shopper, case.profile, index)
            )
        return found


def _fresh(profile: ShopperProfile, shopper: Shopper) -> str | None:
    """Return the latest search if it counts for now and its vector is at hand."""
    latest = next(reversed(profile.searched), None)
    if latest is None or profile.searched[latest] < _LEAST_FRESH:
        return None
    return latest if latest in shopper.query_vectors else None


def _matching(
    shoppers: Sequence[Shopper], queries: Sequence[str | None], index: ProductIndex
) -> list[list[str]]:
    """Return for each shopper the products near the latest search; one search in all."""
    found: list[list[str]] = [[] for _ in shoppers]
    asking = [(row, query) for row, query in enumerate(queries) if query is not None]
    if not asking:
        return found
    vectors = np.stack([shoppers[row].query_vectors[query] for row, query in asking])
    barred = [shoppers[row].barred for row, _ in asking]
    nearest = index.nearest_ids(vectors, _NEIGHBOURS, barred)
    for (row, _), product_ids in zip(asking, nearest, strict=True):
        found[row] = product_ids
    return found


def _popular(
    case: _Case, popular: Mapping[str, float], index: ProductIndex, k: int
) -> list[_Place]:
    """Return what is popular, and after it what the network gives to who has no history."""
    scores = {i: score for i, score in popular.items() if i not in case.shopper.barred}
    scores.update((i, 0.0) for i in case.near if i not in scores)
    reason = reason_of("popular", None, case.shopper.locale, index)
    return [_Place(i, score, reason) for i, score in list(scores.items())[:k]]
