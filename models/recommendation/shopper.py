"""What a recommender is given and what it gives: the one interface of every recommender.

The worker fills a `Shopper` from its state store and calls `Recommender.recommend` once a batch;
how a recommender ranks (text similarity, a learnt transformer) stays behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.product_index import ProductIndex

Vector = NDArray[np.float32]
ShopperEventKind = Literal["search", "purchase", "return", "review", "question"]


@dataclass(frozen=True, slots=True)
class ShopperEvent:
    """One event of a shopper's history, as small as what recommenders and samples need."""

    occurred_at_ms: int
    event_id: str
    kind: ShopperEventKind
    query: str | None = None
    product_ids: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    stars: float | None = None
    order_id: str | None = None
    session_id: str | None = None

    @property
    def order(self) -> tuple[int, str]:
        """The total order of events: by time, then by id."""
        return (self.occurred_at_ms, self.event_id)


@dataclass(frozen=True, slots=True)
class Shopper:
    """A shopper at one moment: the history, oldest first, and a unit vector a recent query."""

    user_id: str
    now_ms: int
    events: Sequence[ShopperEvent]
    query_vectors: Mapping[str, Vector] = field(default_factory=dict)  # query text -> (D,)
    locale: str | None = None
    # What the shop's rules say (models/recommendation/rules.py), as product ids:
    barred: frozenset[str] = frozenset()  # must not be recommended
    repeated: frozenset[str] = frozenset()  # bought again and again, and due


@dataclass(frozen=True, slots=True)
class Demand:
    """What the whole shop buys: the head of the popularity list and the rows of co-purchase."""

    popular: Sequence[tuple[str, float]] = ()  # (product id, decayed purchases), highest first
    together: Mapping[str, Sequence[tuple[str, float]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an item stands where it stands, for people and for machines."""

    kind: Literal["bought", "searched", "together", "popular"]
    text: str
    because: tuple[str, ...] = ()  # product ids or queries it rests on


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One recommended product; scores compare only inside one list."""

    product_id: str
    score: float
    reason: Reason


class Recommender(Protocol):
    """Ranks products for the shoppers of one batch."""

    def recommend(
        self, shoppers: Sequence[Shopper], demand: Demand, index: ProductIndex, k: int
    ) -> list[list[Recommendation]]:
        """Return at most `k` available products for each shopper, best first, ids unique.

        None of a shopper's `barred` ones; fewer than `k` only where there are no more to be had.
        """
        ...
