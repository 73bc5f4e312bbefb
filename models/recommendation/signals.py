"""What speaks for a product in a list: signals over the candidates, and the words that say why.

A recommender adds its signals up; the one that adds most to a product is its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat

import numpy as np
from numpy.typing import NDArray

from models.product_index import ProductIndex
from models.recommendation.reasons import SignalKind
from models.recommendation.shopper import Demand
from models.recommendation.shopper_profile import ShopperProfile

Vector = NDArray[np.float32]
Scores = NDArray[np.float64]


SCORE_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal over a list of candidates: its share of the score, and what it rests on."""

    kind: SignalKind
    shares: Scores  # (n,)
    causes: Sequence[str] = ()
    cause_rows: NDArray[np.int64] | None = None  # (n,) into causes

    def cause(self, row: int) -> str | None:
        """Return the product or query that the share of a candidate rests on."""
        return None if self.cause_rows is None else self.causes[int(self.cause_rows[row])]


def popular_products(demand: Demand, index: ProductIndex, count: int) -> dict[str, float]:
    """Return the most popular products that are sold, with their scores, best first."""
    sold = ((i, score) for i, score in demand.popular if score > 0 and index.sells(i))
    return dict(islice(sold, count))


def cosines_to(candidates: Scores, tastes: Vector) -> Scores:
    """Return (n, m) cosines of the candidates (n, D) to the tastes (m, D)."""
    return candidates @ tastes.astype(np.float64).T


def own_signal(
    kind: SignalKind, weight: float, scores: Mapping[str, float], ids: Sequence[str]
) -> Signal:
    """Make a signal of scores that candidates have by themselves; the highest counts 1."""
    if not scores:
        return Signal(kind, np.zeros(len(ids)))
    values = np.array([*map(scores.get, ids, repeat(0.0))])
    top = values.max(initial=0.0)
    shares = weight * values / top if top > 0 else np.zeros(len(ids))
    if kind == "popular":
        return Signal(kind, shares)
    return Signal(kind, shares, ids, np.arange(len(ids)))


def together_signal(
    weight: float,
    rows: Mapping[str, Sequence[tuple[str, float]]],
    profile: ShopperProfile,
    ids: Sequence[str],
) -> Signal:
    """Make the signal of co-purchase: shares of each row, weighted by how fresh its product is."""
    places = {product_id: place for place, product_id in enumerate(ids)}
    causes = sorted(product_id for product_id, row in rows.items() if row)
    if not causes:
        return Signal("together", np.zeros(len(ids)))
    shares = np.zeros((len(ids), len(causes)))
    for column, product_id in enumerate(causes):
        row = rows[product_id]
        whole = sum(count for _, count in row) or 1.0
        for other, count in row:
            if other in places:
                shares[places[other], column] = profile.bought[product_id].weight * count / whole
    total = shares.sum(axis=1)
    top = total.max(initial=0.0)
    total = weight * total / top if top > 0 else total
    return Signal("together", total, causes, shares.argmax(axis=1))


def nearest_signal(
    kind: SignalKind,
    weight: float,
    cosines: Scores,
    causes: Sequence[str],
    cause_weights: Sequence[float],
) -> Signal:
    """Make the signal of likeness to the nearest taste, an older one counting less."""
    count = len(cosines)
    if not causes:
        return Signal(kind, np.zeros(count))
    fresh = np.array(cause_weights)
    fresh = fresh / fresh.max() if fresh.max() > 0 else np.ones(len(causes))
    likeness = scaled(cosines) * fresh
    return Signal(kind, weight * likeness.max(axis=1), causes, likeness.argmax(axis=1))


def scaled(values: Scores) -> Scores:
    """Bring values to the line from 0 (the least) to 1 (the greatest)."""
    least, most = values.min(initial=np.inf), values.max(initial=-np.inf)
    return (values - least) / (most - least) if most > least else np.ones_like(values)


def best_rows(scores: Scores, k: int) -> list[int]:
    """Return the rows of the `k` best scores (n,), best first, ties by place."""
    rows: list[int] = np.argsort(-scores, kind="stable")[:k].tolist()
    return rows
