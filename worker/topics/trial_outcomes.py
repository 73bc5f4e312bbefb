"""What the shoppers of an A/B trial did, arm by arm: from the shop's own events, with intervals.

Every shopper who did anything since the trial began counts in the arm that the hash draws, whatever
was shown to them: so the arms differ by their release alone. The case is the shopper, because the
shopper was drawn; a difference is the candidate's mean less the current's, with the percentile
bootstrap over shoppers of both arms at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.metrics import Estimate, mean_estimate, statistic_estimate
from worker.events.event import Event, Purchase, Return, Search
from worker.pipeline.privacy import pseudonym
from worker.pipeline.serving import arm_of
from worker.pipeline.stages import Arm

METRICS = {
    "buyers": "share of the shoppers who bought anything",
    "orders": "orders of a shopper",
    "revenue": "what a shopper paid less what went back, where the events tell prices",
    "search_conversion": "share of a shopper's searches that sold something they showed",
    "search_mrr": "mean of 1 / place, among those shown, of the first one bought; 0: none was",
}
# Arms of sizes that this rarely come of the share by chance are a fault of the set-up.
_MISMATCH_P = 0.001


@dataclass(slots=True)
class _Shopper:
    arm: Arm
    searches: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    bought: list[tuple[int, frozenset[str]]] = field(default_factory=list)
    orders: set[str] = field(default_factory=set)
    revenue: float = 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of both arms."""

    metric: str
    meaning: str
    current: Estimate
    candidate: Estimate
    difference: Estimate  # candidate - current

    @property
    def verdict(self) -> str:
        """What the interval of the difference says: better, worse, or undecided."""
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "undecided"


class TrialOutcomes:
    """Takes the events of a trial in any order, each once or more often, and compares its arms."""

    def __init__(
        self, candidate: str, share: float, *, key: bytes, since_ms: int, window_s: float
    ) -> None:
        """Draw arms as the workers did: by the pseudonyms of `key` and the candidate's id."""
        self._candidate, self._share, self._key = candidate, share, key
        self._since_ms, self._window_ms = since_ms, round(window_s * 1000)
        self._shoppers: dict[str, _Shopper] = {}
        self._seen: set[str] = set()

    def add(self, event: Event) -> None:
        """Take one event; those before the trial, of products and repeated ones change nothing."""
        user_id = getattr(event, "user_id", None)
        if user_id is None or event.occurred_at_ms < self._since_ms:
            return
        if event.event_id in self._seen:
            return
        self._seen.add(event.event_id)
        shopper = self._shopper(str(user_id))
        if isinstance(event, Search):
            shopper.searches.append((event.occurred_at_ms, tuple(event.shown)))
        elif isinstance(event, Purchase):
            shopper.orders.add(event.order_id)
            shopper.revenue += _value(event)
            bought = frozenset(item.product_id for item in event.items)
            shopper.bought.append((event.occurred_at_ms, bought))
        elif isinstance(event, Return):
            shopper.revenue -= _value(event)

    def shoppers(self, arm: Arm) -> int:
        """Return how many shoppers of an arm did anything."""
        return sum(shopper.arm == arm for shopper in self._shoppers.values())

    @property
    def sizes_are_odd(self) -> bool:
        """Whether the arms' sizes fit the share so badly that something drew them otherwise."""
        total, drawn = len(self._shoppers), self.shoppers("candidate")
        deviation = math.sqrt(total * self._share * (1 - self._share))
        if deviation == 0:
            return False
        score = abs(drawn - total * self._share) / deviation
        return math.erfc(score / math.sqrt(2)) < _MISMATCH_P

    def compare(self) -> list[Comparison]:
        """Return every metric of which both arms have a case."""
        found: list[Comparison] = []
        for metric, meaning in METRICS.items():
            rows = [
                (shopper.arm == "candidate", value)
                for shopper in self._shoppers.values()
                if (value := self._value_of(metric, shopper)) is not None
            ]
            drawn = np.array([row[0] for row in rows], dtype=np.bool_)
            values = np.array([row[1] for row in rows], dtype=np.float64)
            if drawn.any() and not drawn.all():
                found.append(
                    Comparison(
                        metric,
                        meaning,
                        mean_estimate(values[~drawn]),
                        mean_estimate(values[drawn]),
                        _difference(values, drawn),
                    )
                )
        return found

    def _shopper(self, user_id: str) -> _Shopper:
        known = self._shoppers.get(user_id)
        if known is None:
            arm = arm_of(pseudonym(user_id, self._key), self._candidate, self._share)
            known = self._shoppers[user_id] = _Shopper(arm)
        return known

    def _value_of(self, metric: str, shopper: _Shopper) -> float | None:
        if metric == "buyers":
            return float(bool(shopper.orders))
        if metric == "orders":
            return float(len(shopper.orders))
        if metric == "revenue":
            return shopper.revenue
        places = [self._place(at_ms, shown, shopper) for at_ms, shown in shopper.searches if shown]
        if not places:
            return None
        if metric == "search_conversion":
            return float(np.mean([place > 0 for place in places]))
        return float(np.mean([1 / place if place else 0.0 for place in places]))

    def _place(self, at_ms: int, shown: Sequence[str], shopper: _Shopper) -> int:
        """Return the place, from 1, of the first shown product bought in time; 0: none."""
        bought = {
            product
            for bought_ms, products in shopper.bought
            if 0 <= bought_ms - at_ms <= self._window_ms
            for product in products
        }
        return next((place for place, one in enumerate(shown, 1) if one in bought), 0)


def _difference(values: NDArray[np.float64], drawn: NDArray[np.bool_]) -> Estimate:
    def difference(rows: NDArray[np.int64]) -> float:
        mine = drawn[rows]
        if not mine.any() or mine.all():  # a resample without one of the arms says nothing
            return 0.0
        return float(values[rows][mine].mean() - values[rows][~mine].mean())

    return statistic_estimate(difference, len(values))


def _value(event: Purchase | Return) -> float:
    return sum(item.quantity * item.price for item in event.items if item.price is not None)
