"""Recommenders as the worker serves them: with habits, popularity and the shop's rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from models.product_index import IndexedProduct, ProductIndex
from models.recommendation.rules import RecommendationRules, recommend_within
from models.recommendation.shopper import Demand, Recommender, Shopper, ShopperEvent
from training.data.interactions import Interactions, Rows
from training.evaluation.full_ranking import Scores

HALF_LIFE_MS = 7 * 86_400_000  # of popularity, as in the worker
POPULAR = 1_000
LIST = 300  # long enough to hold ten items that a household of habits has not had
_WIDTH = 8  # of what stands for texts


class ServedScorer:
    """Scores by the place in the list that a recommender gives; items not in it get -inf."""

    def __init__(
        self,
        name: str,
        recommender: Recommender,
        train: Interactions,
        now_ms: int,
        *,
        compares_texts: bool,
    ) -> None:
        """Serve the shoppers of `train`, which ends at `now_ms`; products have no texts.

        A recommender that compares texts gets none; another one follows products by a vector.
        """
        self.name, self._recommender = name, recommender
        self._rules = replace(RecommendationRules(), diversity=0.0)  # it compares texts
        self._ids = [str(item) for item in train.item_ids]
        self._rows = {item: row for row, item in enumerate(self._ids)}
        self._index = ProductIndex(_WIDTH)
        vector = None if compares_texts else np.zeros(_WIDTH, np.float32)
        self._index.apply([IndexedProduct(one, title=one, vector=vector) for one in self._ids])
        assert train.timestamps_ms is not None
        ages_ms = now_ms - train.timestamps_ms.astype(np.float64)
        popular = np.bincount(train.items, 0.5 ** (ages_ms / HALF_LIFE_MS), train.item_count)
        best = np.argsort(-popular, kind="stable")[:POPULAR]
        self._demand = Demand([(self._ids[row], float(popular[row])) for row in best])

    def score(self, histories: Sequence[Rows], times_ms: Sequence[Rows] | None) -> Scores:
        """Return the places counted from below, (n, V); a list is made at the last purchase."""
        assert times_ms is not None
        pairs = zip(histories, times_ms, strict=True)
        shoppers = [self._shopper(number, *pair) for number, pair in enumerate(pairs)]
        lists = recommend_within(
            self._rules, self._recommender, shoppers, self._demand, self._index, LIST
        )
        scores = np.full((len(histories), len(self._ids)), -np.inf, np.float32)
        for row, items in enumerate(lists):
            places = [self._rows[item.product_id] for item in items]
            scores[row, places] = -np.arange(len(places), dtype=np.float32)
        return scores

    def _shopper(self, number: int, history: Rows, times_ms: Rows) -> Shopper:
        bought = zip(times_ms.tolist(), history.tolist(), strict=True)
        events = [
            ShopperEvent(
                occurred_at_ms=moment,
                event_id=f"{place:06}",
                kind="purchase",
                product_ids=tuple(self._ids[item] for _, item in basket),
            )
            for place, (moment, basket) in enumerate(groupby(bought, key=lambda pair: pair[0]))
        ]
        return Shopper(str(number), events[-1].occurred_at_ms, events)
