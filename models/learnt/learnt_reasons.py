"""Which event of a shopper's history a learnt recommendation rests on, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.learnt.shopper_histories import ReadEvent
from models.product_index import ProductIndex
from models.recommendation.reasons import SignalKind, reason_of
from models.recommendation.shopper import Reason, Shopper
from models.recommendation.shopper_profile import ShopperProfile


def reasons_of_events(
    product_ids: Sequence[str],
    events: Sequence[ReadEvent],
    weights: NDArray[np.float32],
    shopper: Shopper,
    profile: ShopperProfile,
    index: ProductIndex,
) -> list[Reason]:
    """Return for each product the search or purchase that weighed most.

    Purchases that were sent back or disliked are no reason; where there is no other event the
    product is what shoppers in general take: popular.

    Args:
        product_ids: k products.
        events: the history as the network read it, n events.
        weights: what each event added to each product's score, (k, n).
        shopper: whose history it is.
        profile: what was kept of it.
        index: for the products' titles.
    """
    usable = [row for row, one in enumerate(events) if _is_cause(one, profile)]
    reasons = []
    for product_id, weight in zip(product_ids, weights, strict=True):
        if not usable:
            reasons.append(reason_of("popular", None, shopper.locale, index))
            continue
        strongest = events[max(usable, key=lambda row: float(weight[row]))]
        kind: SignalKind = "searched" if strongest.query is not None else "bought"
        if kind == "bought" and strongest.product_id == product_id in shopper.repeated:
            kind = "habit"
        cause = strongest.query if strongest.query is not None else strongest.product_id
        reasons.append(reason_of(kind, cause, shopper.locale, index))
    return reasons


def _is_cause(one: ReadEvent, profile: ShopperProfile) -> bool:
    if one.event.kind == "search":
        return True
    kept = one.product_id in profile.bought and one.product_id not in profile.disliked
    return one.event.kind == "purchase" and kept
