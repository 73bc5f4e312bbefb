"""Recommendations without training: text similarity, co-purchase, habit and popularity.

Serves from the first event on; a learnt recommender takes its place behind the same interface
(`models.recommendation.shopper.Recommender`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.product_index import ProductIndex
from models.recommendation.reasons import SignalKind, reason_of
from models.recommendation.shopper import Demand, Reason, Recommendation, Shopper
from models.recommendation.shopper_profile import ShopperProfile, profile_of
from models.recommendation.signals import (
    SCORE_DIGITS,
    Scores,
    Signal,
    Vector,
    best_rows,
    cosines_to,
    nearest_signal,
    own_signal,
    popular_products,
    scaled,
    together_signal,
)

_NEIGHBOURS = 100  # nearest products that each taste vector brings
_POPULAR = 100  # popular products that are always candidates
_TASTES = 8  # newest purchases, and newest queries, whose similarity counts


@dataclass(frozen=True, slots=True)
class RecommenderWeights:
    """How the signals add up; within one list each signal lies between 0 and 1."""

    habit: float = 2.0
    together: float = 0.5
    bought: float = 0.3
    searched: float = 1.0
    needed: float = 2.0  # in place of `searched` while a search is open (ShopperProfile.need)
    earlier: float = 0.25  # what an open search leaves of the earlier ones
    popular: float = 0.2
    disliked: float = 0.5
    purchase_half_life_days: float = 60.0
    search_half_life_days: float = 2.0


@dataclass(frozen=True, slots=True)
class _Case:
    """One shopper's work: the profile and the vectors that similarity reads, newest first."""

    shopper: Shopper
    profile: ShopperProfile
    bought: Sequence[str]
    bought_vectors: Vector  # (b, D)
    queries: Sequence[str]
    query_vectors: Vector  # (q, D)
    disliked_vectors: Vector  # (d, D)


class SimilarityRecommender:
    """Ranks by a weighted sum of signals; the one that adds most is the reason."""

    def __init__(self, weights: RecommenderWeights | None = None) -> None:
        """Rank with these weights, by default the shipped ones."""
        self._weights = weights or RecommenderWeights()

    def recommend(
        self, shoppers: Sequence[Shopper], demand: Demand, index: ProductIndex, k: int
    ) -> list[list[Recommendation]]:
        """Return at most `k` available products for each shopper, best first, ties by id.

        What the shopper buys again and again (`Shopper.repeated`) stands high, what is like a
        product with a low review lower.
        """
        if k <= 0:
            return [[] for _ in shoppers]
        cases = [self._case(shopper, index) for shopper in shoppers]
        neighbours = _neighbours(cases, index, max(k, _NEIGHBOURS))
        popular = popular_products(demand, index, k + _POPULAR)
        return [
            self._rank(case, near, demand, popular, index, k)
            for case, near in zip(cases, neighbours, strict=True)
        ]

    def _case(self, shopper: Shopper, index: ProductIndex) -> _Case:
        weights = self._weights
        profile = profile_of(
            shopper, weights.purchase_half_life_days, weights.search_half_life_days
        )
        newest = sorted(profile.bought, key=lambda i: (-profile.bought[i].last_ms, i))[:_TASTES]
        vectors, found = index.vectors_of(newest)
        disliked, known = index.vectors_of(sorted(profile.disliked))
        queries = [q for q in reversed(profile.searched) if q in shopper.query_vectors][:_TASTES]
        query_vectors = np.zeros((len(queries), vectors.shape[1]), dtype=np.float32)
        for row, query in enumerate(queries):
            query_vectors[row] = shopper.query_vectors[query]
        return _Case(
            shopper=shopper,
            profile=profile,
            bought=[i for i, has in zip(newest, found.tolist(), strict=True) if has],
            bought_vectors=vectors[found],
            queries=queries,
            query_vectors=query_vectors,
            disliked_vectors=disliked[known],
        )

    def _rank(
        self,
        case: _Case,
        near: Sequence[str],
        demand: Demand,
        popular: Mapping[str, float],
        index: ProductIndex,
        k: int,
    ) -> list[Recommendation]:
        habit = {i: b.weight for i, b in case.profile.bought.items() if i in case.shopper.repeated}
        rows = {i: demand.together.get(i, ()) for i in case.profile.bought}
        known = {*near, *popular}  # what is near or popular is sold
        others = {j for row in rows.values() for j, _ in row} | habit.keys()
        ids = sorted((known | {i for i in others - known if index.sells(i)}) - case.shopper.barred)
        if not ids:
            return []
        signals, scores = self._signals(case, ids, habit, rows, popular, index)
        ranked = []
        said: dict[tuple[SignalKind, str | None], Reason] = {}  # many rest on the same
        highest = np.stack([signal.shares for signal in signals]).argmax(axis=0)  # (n,)
        for row in best_rows(scores, k):
            reason = signals[highest[row]]
            if reason.shares[row] <= 0:  # nothing speaks for it but that the shop sells it
                reason = signals[-1]
            kind, cause = reason.kind, reason.cause(row)
            if (kind, cause) not in said:
                said[kind, cause] = reason_of(kind, cause, case.shopper.locale, index)
            ranked.append(Recommendation(ids[row], float(scores[row]), said[kind, cause]))
        return ranked

    def _signals(
        self,
        case: _Case,
        ids: Sequence[str],
        habit: Mapping[str, float],
        rows: Mapping[str, Sequence[tuple[str, float]]],
        popular: Mapping[str, float],
        index: ProductIndex,
    ) -> tuple[list[Signal], Scores]:
        """Return the signals over the candidates, and the candidates' rounded scores (n,)."""
        w, profile = self._weights, case.profile
        vectors = index.vectors_of(ids)[0].astype(np.float64)  # (n, D)
        bought = cosines_to(vectors, case.bought_vectors)
        searched = cosines_to(vectors, case.query_vectors)
        signals = [
            own_signal("habit", w.habit, habit, ids),
            together_signal(w.together, rows, profile, ids),
            nearest_signal(
                "bought",
                w.bought,
                bought,
                case.bought,
                [profile.bought[i].weight for i in case.bought],
            ),
            nearest_signal(
                "searched",
                w.searched if profile.need is None else w.needed,
                searched,
                case.queries,
                [
                    profile.searched[q] * (1.0 if profile.need in (None, q) else w.earlier)
                    for q in case.queries
                ],
            ),
            own_signal("popular", w.popular, popular, ids),
        ]
        scores: Scores = np.sum([signal.shares for signal in signals], axis=0)
        if len(case.disliked_vectors):
            scores -= w.disliked * scaled(cosines_to(vectors, case.disliked_vectors).max(axis=1))
        return signals, scores.round(SCORE_DIGITS) + 0.0


def _neighbours(cases: Sequence[_Case], index: ProductIndex, count: int) -> list[list[str]]:
    """Return for each shopper the products near what was bought and searched; one search in all."""
    tastes: list[Vector] = []
    owners: list[int] = []
    for number, case in enumerate(cases):
        for vectors in (case.bought_vectors, case.query_vectors):
            if len(vectors):
                tastes.extend([vectors[0], vectors.mean(axis=0)])  # the newest, and all together
                owners.extend([number, number])
    found: list[list[str]] = [[] for _ in cases]
    if not tastes:
        return found
    exclude = [cases[number].shopper.barred for number in owners]
    nearest = index.nearest_ids(np.stack(tastes), count, exclude)
    for number, product_ids in zip(owners, nearest, strict=True):
        found[number].extend(product_ids)
    return found
