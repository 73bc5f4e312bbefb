"""What a shopper's history says about taste: what was bought and kept, disliked, looked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from models.recommendation.shopper import Shopper, ShopperEvent

LOW_STARS = 2.0  # at most this many stars: the shopper did not like it
VISIT_MS = 30 * 60_000  # a search older than this is no longer what the shopper is after
_DAY_MS = 86_400_000


@dataclass(slots=True)
class BoughtProduct:
    """A product the shopper bought and kept."""

    weight: float  # recency: 1 for a purchase now, halved every half-life, summed over orders
    times_ms: list[int]  # when it was bought, oldest first, each moment once

    @property
    def last_ms(self) -> int:
        """When it was bought last."""
        return self.times_ms[-1]


@dataclass(frozen=True, slots=True)
class ShopperProfile:
    """A history as recommenders read it; weights fall with age."""

    bought: dict[str, BoughtProduct] = field(default_factory=dict)
    disliked: frozenset[str] = frozenset()
    returned: frozenset[str] = frozenset()
    searched: dict[str, float] = field(default_factory=dict)  # query -> weight, newest last
    need: str | None = None  # the newest search, if of this visit and nothing was bought since


def profile_of(
    shopper: Shopper, purchase_half_life_days: float = 60.0, search_half_life_days: float = 2.0
) -> ShopperProfile:
    """Read a shopper's history, oldest event first; a return takes its purchase back."""
    events = sorted(shopper.events, key=lambda event: event.order)
    kept = _kept_purchases(events)
    bought: dict[str, BoughtProduct] = {}
    for occurred_at_ms, product_id in kept:
        weight = _decay(shopper.now_ms - occurred_at_ms, purchase_half_life_days)
        if product_id in bought:
            before = bought[product_id]
            before.weight += weight
            if before.last_ms != occurred_at_ms:
                before.times_ms.append(occurred_at_ms)
        else:
            bought[product_id] = BoughtProduct(weight, [occurred_at_ms])
    searched: dict[str, float] = {}
    for event in events:
        if event.kind == "search" and event.query:
            searched.pop(event.query, None)
            searched[event.query] = _decay(
                shopper.now_ms - event.occurred_at_ms, search_half_life_days
            )
    returned, need = _returned(events, bought), _need(events, shopper.now_ms)
    return ShopperProfile(bought, _disliked(events), returned, searched, need)


def _kept_purchases(events: Sequence[ShopperEvent]) -> list[tuple[int, str]]:
    """Return (time, product) of what was bought and not sent back, oldest first."""
    kept: list[tuple[int, str, str | None]] = []
    for event in events:
        if event.kind == "purchase":
            kept.extend(
                (event.occurred_at_ms, product_id, event.order_id)
                for product_id in dict.fromkeys(event.product_ids)
            )
        elif event.kind == "return":
            for product_id in event.product_ids:
                _take_back(kept, product_id, event.order_id)
    return [(occurred_at_ms, product_id) for occurred_at_ms, product_id, _ in kept]


def _need(events: Sequence[ShopperEvent], now_ms: int) -> str | None:
    """Return what the shopper looks for now; a purchase after the search has met the need."""
    for event in reversed(events):
        if event.kind == "purchase" or now_ms - event.occurred_at_ms > VISIT_MS:
            return None
        if event.kind == "search" and event.query:
            return event.query
    return None


def _take_back(
    kept: list[tuple[int, str, str | None]], product_id: str, order_id: str | None
) -> None:
    """Remove the newest purchase of a product, of the same order where the order is known."""
    for place in range(len(kept) - 1, -1, -1):
        _, bought, order = kept[place]
        if bought == product_id and (order_id is None or order is None or order == order_id):
            del kept[place]
            return


def _returned(events: Sequence[ShopperEvent], bought: dict[str, BoughtProduct]) -> frozenset[str]:
    sent_back = {i for event in events if event.kind == "return" for i in event.product_ids}
    return frozenset(sent_back - bought.keys())


def _disliked(events: Sequence[ShopperEvent]) -> frozenset[str]:
    """Return the products whose newest starred review is a low one."""
    stars: dict[str, float] = {}
    for event in events:
        if event.kind == "review" and event.stars is not None:
            stars.update(dict.fromkeys(event.product_ids, event.stars))
    return frozenset(product_id for product_id, given in stars.items() if given <= LOW_STARS)


def _decay(age_ms: int, half_life_days: float) -> float:
    return float(0.5 ** (max(0, age_ms) / (half_life_days * _DAY_MS)))
